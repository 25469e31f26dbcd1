//! Trust: which nodes others object to, and whose objections count. Pure.
//!
//! An objection is a claim that nobody can check: the parent sent false bytes, or nothing comes from it. So it decides
//! where others are placed by choice, and nothing else: a node that somebody objects to feeds those whom nobody else can
//! feed. And one node's word counts against one other: a node that objects to a second parent is likelier to be at fault
//! itself. Then its objections do not count any more, and it is not trusted.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::types::NodeId;

/// The objections of nodes to their parents.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// The parent that a node objects to; `None` once it has objected to two.
    objects: BTreeMap<NodeId, Option<NodeId>>,
    /// The same by the parent: it, and who objects to it.
    against: BTreeSet<(NodeId, NodeId)>,
}

impl Trust {
    /// Notes that `node` objects to `parent`.
    pub(super) fn object(&mut self, node: NodeId, parent: NodeId) {
        let known = self.objects.get(&node).copied();
        match known {
            None if parent != NodeId::ROOT => {
                self.objects.insert(node, Some(parent));
                self.against.insert((parent, node));
            }
            Some(Some(other)) if other == parent => {}
            // The root, whose word needs none, is never to blame.
            None | Some(_) => {
                self.objects.insert(node, None);
                self.against.retain(|(_, by)| *by != node);
            }
        }
    }

    /// Takes back what `node` objects to; whether that was something.
    pub(super) fn take_back(&mut self, node: NodeId) -> bool {
        let Some(Some(parent)) = self.objects.get(&node).copied() else { return false };
        self.objects.remove(&node);
        self.against.remove(&(parent, node))
    }

    /// Whether a node may be chosen to feed others.
    pub(super) fn is_sound(&self, node: NodeId) -> bool {
        let accused = self.against.range((node, NodeId::ROOT)..=(node, NodeId(u32::MAX))).next().is_some();
        !accused && self.objects.get(&node) != Some(&None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    #[test]
    fn a_node_s_word_counts_against_one_other() {
        let mut trust = Trust::default();
        trust.object(A, B);
        trust.object(A, B);
        assert!(trust.is_sound(A) && !trust.is_sound(B) && trust.is_sound(C));
        trust.object(A, C);
        assert!(!trust.is_sound(A) && trust.is_sound(B) && trust.is_sound(C));
        trust.object(A, B);
        assert!(trust.is_sound(B) && !trust.take_back(A) && !trust.is_sound(A));
    }

    #[test]
    fn two_object_and_one_takes_it_back() {
        let mut trust = Trust::default();
        trust.object(A, C);
        trust.object(B, C);
        assert!(trust.take_back(A) && !trust.take_back(A));
        assert!(!trust.is_sound(C));
        assert!(trust.take_back(B) && trust.is_sound(C));
    }

    #[test]
    fn who_objects_to_the_root_is_not_trusted() {
        let mut trust = Trust::default();
        trust.object(A, NodeId::ROOT);
        assert!(!trust.is_sound(A) && trust.is_sound(NodeId::ROOT));
    }
}
