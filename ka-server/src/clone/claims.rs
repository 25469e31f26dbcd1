//! Network cards that nodes claim to have: two nodes that claim one card are a conflict, which people are told. Pure.
//!
//! A claim is a node's own word, which nobody can check. So no node is refused, counted or left out for one, whosesoever it
//! is; whether a machine is a clone already is what its own disk says.

use std::collections::{BTreeMap, BTreeSet};

use ka_core::types::NodeId;

/// Conflicts that are told as they arise; the report has those of every node.
const TOLD: usize = 16;

/// Other nodes that are named in one line.
const NAMED: usize = 4;

/// The cards that each node claims, and the nodes that claim each card.
#[derive(Debug, Default)]
pub(super) struct Claims {
    of: BTreeMap<NodeId, Vec<String>>,
    cards: BTreeMap<String, BTreeSet<NodeId>>,
    told: usize,
}

impl Claims {
    /// A node is in, and claims these cards. Returns a line if another node claims one of them, too.
    pub(super) fn joined(&mut self, node: NodeId, cards: Vec<String>) -> Option<String> {
        self.left(node);
        let cards: Vec<String> = cards.into_iter().filter(|card| is_card(card)).collect();
        for card in &cards {
            self.cards.entry(card.clone()).or_default().insert(node);
        }
        self.of.insert(node, cards);
        let text = self.conflict(node).filter(|_| self.told < TOLD)?;
        self.told += 1;
        Some(format!("{node}: {text}"))
    }

    /// A node was taken out before the start.
    pub(super) fn left(&mut self, node: NodeId) {
        for card in self.of.remove(&node).unwrap_or_default() {
            if let Some(nodes) = self.cards.get_mut(&card) {
                nodes.remove(&node);
                if nodes.is_empty() {
                    self.cards.remove(&card);
                }
            }
        }
    }

    /// What this node's claims are in conflict with, as a sentence.
    pub(super) fn conflict(&self, node: NodeId) -> Option<String> {
        let claimed = self.of.get(&node)?.iter().filter_map(|card| Some((card, self.cards.get(card)?)));
        let (card, nodes) = claimed.into_iter().find(|(_, nodes)| nodes.len() > 1)?;
        let others = nodes.iter().filter(|other| **other != node).take(NAMED);
        let mut names: Vec<String> = others.map(ToString::to_string).collect();
        if nodes.len() - 1 > NAMED {
            names.push(format!("{} more", nodes.len() - 1 - NAMED));
        }
        Some(format!(
            "{} claims the network card {card}, too: they may be one machine, or one poses as the other",
            names.join(", ")
        ))
    }

    /// A sentence for the outcome of all, if nodes are in conflict.
    pub(super) fn doubt(&self) -> Option<String> {
        let shared = self.cards.values().filter(|nodes| nodes.len() > 1);
        let count = shared.flatten().collect::<BTreeSet<_>>().len();
        (count > 0)
            .then(|| format!("{count} nodes claim each other's network cards, and may be fewer machines"))
    }
}

/// Whether this is the address of a card, as [`About`](ka_desc::manifest::About) has it.
fn is_card(text: &str) -> bool {
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.len() == 17 && text.split(':').all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VICTIM: &str = "52:54:00:00:00:01";

    fn cards(cards: &[&str]) -> Vec<String> {
        cards.iter().map(|card| (*card).to_owned()).collect()
    }

    #[test]
    fn two_that_claim_one_card_are_both_told_of_and_neither_is_believed() {
        let mut claims = Claims::default();
        assert_eq!(claims.joined(NodeId(1), cards(&["02:00:00:00:00:09", VICTIM])), None);
        assert_eq!(claims.doubt(), None);
        let said = claims.joined(NodeId(2), cards(&[VICTIM])).unwrap();
        let words = "claims the network card 52:54:00:00:00:01, too: they may be one machine, or one poses as the other";
        assert_eq!(said, format!("node 2: node 1 {words}"));
        assert_eq!(claims.conflict(NodeId(1)).unwrap(), format!("node 2 {words}"));
        assert!(claims.doubt().unwrap().starts_with("2 nodes"));
        claims.left(NodeId(1));
        assert_eq!((claims.conflict(NodeId(2)), claims.doubt()), (None, None));
    }

    #[test]
    fn what_is_no_address_is_no_claim_and_many_liars_are_a_bounded_text() {
        let mut claims = Claims::default();
        for words in ["", "52:54:00:00:00:0g", "525400000001", "52:54:00:00:00:001"] {
            assert_eq!(claims.joined(NodeId(1), cards(&[words])), None);
            assert_eq!(claims.joined(NodeId(2), cards(&[words])), None);
        }
        let said = (0..1000).filter_map(|node| claims.joined(NodeId(node), cards(&[VICTIM])));
        assert_eq!(said.count(), TOLD);
        let said = claims.conflict(NodeId(0)).unwrap();
        assert!(said.starts_with("node 1, node 2, node 3, node 4, 995 more claims"), "{said}");
    }
}
