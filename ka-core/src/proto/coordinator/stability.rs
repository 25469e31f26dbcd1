//! Stability: what may be evicted, by the word of those who may lack it. Pure.
//!
//! ```text
//!   A ◀─watermarks─ B ◀─watermarks─ C …           what B says of C may be a lie
//!   A ◀──Stable── coordinator ◀──Stored── C, D …  what C and D say themselves
//! ```
//!
//! A node evicts what its children's watermarks allow, and nothing beyond what is stable: what everybody within the levels
//! who is further below than its children has stored by its own word. Its children speak for themselves.
//!
//! A node that is handed over counts below both parents, as in views. One that lacks nothing does not count. Who was taken
//! from those above it counts below its keepers, too, until it has what only they may hold.

use alloc::vec::Vec;

use super::placement::Nodes;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::control::Blocked;

/// The number of items that a node has stored, and that node.
pub(super) type Least = (u64, NodeId);

const NOBODY: Least = (u64::MAX, NodeId::ROOT);

/// The schedule by which nodes are told what is stable.
#[derive(Debug)]
pub(super) struct Stability {
    /// Whether more may be stable by now.
    stale: bool,
    /// When it is looked at again at the earliest.
    next: Instant,
}

/// Whether nodes are told what is stable now.
pub(super) enum Turn {
    /// Not now; at that instant, if there is one.
    Later(Option<Instant>),
    /// Those for which it is less, because the tree is another one; the others at that instant at the earliest.
    Less(Instant),
    /// All for which it is another number.
    All,
}

impl Stability {
    pub(super) fn new(now: Instant) -> Self {
        Self { stale: false, next: now }
    }

    /// Notes that what is stable may be more by now.
    pub(super) fn stale(&mut self) {
        self.stale = true;
    }

    /// Whose turn it is, in a session of so many nodes: not too often; but if the tree has changed (`moved`), at once where
    /// less is stable than before. Where more is, the views come first: who is no longer far below may be a child there.
    pub(super) fn turn(&mut self, now: Instant, nodes: u32, moved: bool) -> Turn {
        if !(moved || self.stale) {
            return Turn::Later(None);
        }
        if !moved && now < self.next {
            return Turn::Later(Some(self.next));
        }
        self.stale = moved;
        if moved {
            return Turn::Less(self.next.max(now + limits::ACK_INTERVAL_PER_NODE));
        }
        self.next = now + (nodes * limits::ACK_INTERVAL_PER_NODE).min(limits::ACK_INTERVAL_MAX);
        Turn::All
    }
}

/// For each node by its number: the least that is stored further below than its children.
pub(super) fn stable(nodes: &Nodes) -> Vec<Least> {
    let count = nodes.roster.iter().last().map_or(0, |m| m.node().index() + 1);
    let mut level = alloc::vec![NOBODY; count];
    for m in nodes.roster.nodes().filter(|m| m.lacks()) {
        level[m.node().index()] = (m.delivery.stored(), m.node());
    }
    let mut stable = alloc::vec![NOBODY; count];
    for depth in 1..=limits::LOSSES + 1 {
        let mut above = alloc::vec![NOBODY; count];
        for m in nodes.roster.iter() {
            let below = nodes.tree.listed(m.node()).map(|child| level[child.index()]);
            above[m.node().index()] = below.fold(NOBODY, Least::min);
        }
        level = above;
        if depth > 1 {
            stable.iter_mut().zip(&level).for_each(|(least, here)| *least = (*least).min(*here));
        }
    }
    for m in nodes.roster.nodes().filter(|m| m.lacks()) {
        let least = (m.delivery.stored(), m.node());
        for keeper in nodes.tree.keepers(m.node()) {
            let known = &mut stable[keeper.index()];
            *known = (*known).min(least);
        }
    }
    stable
}

/// Returns the node for which a node must retain more than its children report: on the way down to the one that has
/// stored the least, the one that lacks most of what its own parent has stored.
pub(super) fn held_up_by(nodes: &Nodes, node: NodeId) -> Option<NodeId> {
    let holder = nodes.get(node)?;
    let mut at = nodes.get(holder.delivery.stable().1)?;
    // Who it only keeps for is not below it.
    let kept =
        nodes.tree.keepers(at.node()).contains(&node) && at.delivery.stored() < holder.delivery.stored();
    let mut most = (0, kept.then_some(at.node()));
    for _ in 0..=limits::LOSSES {
        let Some(parent) = nodes.parent(at.node()).filter(|parent| parent.node() != node) else { break };
        let lacks = parent.delivery.stored().saturating_sub(at.delivery.stored());
        if lacks > most.0 {
            most = (lacks, Some(at.node()));
        }
        at = parent;
    }
    most.1
}

/// For how long somebody above has kept its window full for `node` against the word of its own children, if anybody does.
pub(super) fn kept_full_above(nodes: &Nodes, now: Instant, node: NodeId) -> Option<Duration> {
    let above = nodes.tree.above(node).skip(1).take(limits::LOSSES);
    let keepers = nodes.tree.keepers(node).iter().copied();
    let full = above.chain(keepers).filter_map(|above| nodes.get(above)).filter(|m| {
        m.delivery.progress().blocked == Blocked::Below && held_up_by(nodes, m.node()) == Some(node)
    });
    full.map(|m| m.pace.throughput.blocked(now).1).max()
}
