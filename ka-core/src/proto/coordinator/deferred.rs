//! Deferral: who is served after the others, from a source that can be read again. Pure.
//!
//! ```text
//!   nobody holds what it lacks, or it holds up the others
//!        └─▶ deferred: no place in the tree ─▶ all others have everything ─▶ in line again, who lacks most first
//! ```
//!
//! Serving it at once would cost the others, who share the server's link and the source with it. Afterwards it costs
//! nobody anything. A deferred node then gets a place as if it had come back: one behind another, so that many cost no
//! more than one; but nobody is put behind a node that is known to be slow.

use alloc::vec::Vec;

use super::member::Member;
use super::placement::Nodes;
use crate::limits;
use crate::types::{NodeId, Offset};

/// Whether a node is to be served before those that are deferred.
fn is_in_line(m: &Member) -> bool {
    m.lacks() && !m.pace.is_deferred() && !m.pace.is_named() && !m.presence.is_suspected()
}

/// Whether anybody else is to be served before those that are deferred.
pub(super) fn others_are_in_line(nodes: &Nodes, node: NodeId) -> bool {
    nodes.roster.nodes().any(|m| m.node() != node && is_in_line(m))
}

/// The deferred nodes whose turn it is, and what each has: a parent must not lack more than its child.
pub(super) fn turn(nodes: &Nodes) -> Vec<(Offset, NodeId)> {
    let waits = |m: &&Member| m.pace.is_deferred() && m.lacks() && !m.presence.is_suspected();
    let mut waiting: Vec<_> =
        nodes.roster.nodes().filter(waits).map(|m| (m.delivery.received(), m.node())).collect();
    if waiting.is_empty() || nodes.roster.nodes().any(is_in_line) {
        return Vec::new();
    }
    waiting.sort_unstable();
    waiting
}

/// The parent of a deferred node whose turn it is.
pub(super) fn parent(nodes: &Nodes, node: NodeId, at: Offset) -> NodeId {
    let quick = |n: &NodeId| nodes.get(*n).is_some_and(|m| !m.pace.is_named());
    nodes.holder(node, at, None).filter(quick).unwrap_or(NodeId::ROOT)
}

/// The nodes that are far behind while everybody above them has ended and stays only for them; each with its parent.
pub(super) fn stayed_for(nodes: &Nodes) -> Vec<(NodeId, NodeId)> {
    let Some(root) = nodes.get(NodeId::ROOT).filter(|root| root.is_complete()) else { return Vec::new() };
    let end = root.delivery.received();
    let far = |m: &&Member| m.lacks() && end - m.delivery.received() >= limits::BEHIND_BYTES;
    let all_ended = |node| {
        let line = core::iter::once(node).chain(nodes.tree.above(node)).take_while(|n| *n != NodeId::ROOT);
        line.map_while(|n| nodes.get(n)).all(|m| m.ending.is_settled())
    };
    let below =
        nodes.roster.nodes().filter(far).filter_map(|m| Some((m.node(), nodes.tree.parent(m.node())?)));
    below.filter(|(_, parent)| *parent != NodeId::ROOT && all_ended(*parent)).collect()
}
