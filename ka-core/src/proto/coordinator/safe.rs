//! What may be forgotten, by the word of those who may lack it.
//!
//! ```text
//!   A ◀─watermarks─ B ◀─watermarks─ C ◀─watermarks─ D …      what B says of C and D may be a lie
//!   A ◀─Stable─ coordinator ◀Stored─ C, D …      what C and D say themselves
//! ```
//!
//! A node forgets what its children's watermarks allow, and nothing beyond what is safe: what everybody within the levels who
//! is further below than its children has said itself to hold. Its children speak for themselves.
//!
//! Whoever is on his way from one parent to another counts below both, as in views. Who lacks nothing does not count.

use super::*;

/// How many items somebody holds, and who.
type Least = (u64, NodeId);

const NOBODY: Least = (u64::MAX, NodeId::ROOT);

impl Coordinator {
    /// A node says what it holds.
    pub(super) fn holds(&mut self, node: NodeId, items: u64) {
        if let Some(m) = self.roster.get_mut(node).filter(|m| m.holds < items) {
            m.holds = items;
            self.unsure = true;
        }
    }

    /// Tells whomever it concerns what is safe by now: not too often; but if the tree is another one, at once where less is
    /// safe than before. Where more is, the views come first: who is no longer far below may be a child there.
    pub(super) fn tell_safe(&mut self, now: Instant) {
        let moved = !self.changed.is_empty();
        if self.phase != Phase::Streaming || !(moved || self.unsure) {
            return;
        }
        if !moved && now < self.safe_at {
            self.timers.start(Timer::Ack, self.safe_at);
            return;
        }
        self.unsure = moved;
        let pace = (self.roster.len() * limits::ACK_INTERVAL_PER_NODE).min(limits::ACK_INTERVAL_MAX);
        match moved {
            true => self.timers.start(Timer::Ack, self.safe_at.max(now + limits::ACK_INTERVAL_PER_NODE)),
            false => {
                self.timers.stop(Timer::Ack);
                self.safe_at = now + pace;
            }
        }
        let safe = self.safe();
        let news = |m: &&Member| {
            let least = safe[m.node.index()];
            if moved { least < m.safe } else { least != m.safe }
        };
        let news: Vec<_> = self.roster.iter().filter(news).map(|m| m.node).collect();
        for node in news {
            let Some(m) = self.roster.get_mut(node) else { continue };
            let before = core::mem::replace(&mut m.safe, safe[node.index()]);
            if before.0 != m.safe.0 && !m.released {
                let items = m.safe.0;
                self.tell_node(node, ToNode::Stable(items));
            }
        }
    }

    /// For each node by its number: the least that is held further below than its children.
    fn safe(&self) -> Vec<Least> {
        let nodes = self.roster.iter().last().map_or(0, |m| m.node.index() + 1);
        let mut level = alloc::vec![NOBODY; nodes];
        for m in self.roster.nodes().filter(|m| m.lacks()) {
            level[m.node.index()] = (m.holds, m.node);
        }
        let mut safe = alloc::vec![NOBODY; nodes];
        for depth in 1..=limits::LOSSES + 1 {
            let mut above = alloc::vec![NOBODY; nodes];
            for m in self.roster.iter() {
                let below = m.children.iter().chain(&m.holds_for).map(|c| level[c.index()]);
                above[m.node.index()] = below.fold(NOBODY, Least::min);
            }
            level = above;
            if depth > 1 {
                safe.iter_mut().zip(&level).for_each(|(least, here)| *least = (*least).min(*here));
            }
        }
        safe
    }

    /// Who it is for whom a node must keep more than its children say: on the way down to whoever holds the least, the
    /// one that lacks most of what its own parent holds.
    pub(super) fn held_up_by(&self, node: NodeId) -> Option<NodeId> {
        let mut at = self.roster.get(self.roster.get(node)?.safe.1)?;
        let mut most = (0, None);
        for _ in 0..=limits::LOSSES {
            let parent = self.roster.get(at.parent?)?;
            if parent.node == node {
                break;
            }
            let lacks = parent.holds.saturating_sub(at.holds);
            if lacks > most.0 {
                most = (lacks, Some(at.node));
            }
            at = parent;
        }
        most.1
    }

    /// For how long somebody above has kept its window full for `node` against the word of its own children, if
    /// anybody does.
    pub(super) fn kept_full_above(&self, now: Instant, node: NodeId) -> Option<Duration> {
        let mut at = self.roster.get(self.roster.get(node)?.parent?)?;
        let mut longest = None;
        for _ in 0..limits::LOSSES {
            at = match at.parent.and_then(|a| self.roster.get(a)) {
                Some(above) => above,
                None => break,
            };
            if at.progress.blocked == Blocked::Below && self.held_up_by(at.node) == Some(node) {
                longest = longest.max(Some(at.throughput.blocked(now).1));
            }
        }
        longest
    }
}
