//! Liveness: who is silent, and whether it is rather this machine that is cut off. Pure.
//!
//! If nobody at all has been heard lately, it is this machine that is cut off, and nobody is suspected.

use alloc::vec::Vec;

use super::member::{HOLE, Member};
use super::placement::Nodes;
use crate::limits;
use crate::time::Instant;
use crate::types::NodeId;

/// When nodes were heard, all together.
#[derive(Debug)]
pub(super) struct Liveness {
    /// When anybody was last heard.
    heard: Instant,
    /// Since when nobody has been heard.
    cut_off: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, cut_off: None }
    }

    /// Notes that somebody was heard; whether nobody was for a while: then this machine was cut off, and the others may need
    /// a moment to come back, too.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        let hole = now.since(core::mem::replace(&mut self.heard, now));
        self.cut_off.take().is_some() || hole >= HOLE
    }

    /// The nodes to suspect now.
    pub(super) fn silent(&mut self, now: Instant, nodes: &Nodes) -> Vec<NodeId> {
        // Somebody was heard when it was not, so this machine is not cut off; or its connection was closed: that came
        // through, and whoever lives dials again, and again if the link comes and goes.
        let witnessed = |m: &&Member| {
            let closed = |gone: Instant| gone + limits::GATHERING_TIMEOUT <= now;
            self.heard.since(m.presence.last_heard()) >= HOLE || m.presence.gone().is_some_and(closed)
        };
        let active = |m: &&Member| !m.presence.is_suspected() && !m.ending.is_released();
        let quiet = nodes.roster.nodes().filter(active).filter(|m| m.presence.is_silent(now));
        let (mut silent, doubtful): (Vec<_>, Vec<_>) = quiet.partition(witnessed);
        let ending = nodes.roster.nodes().any(|m| m.ending.is_ok());
        let patience =
            if ending && doubtful.len() == 1 { limits::GATHERING_TIMEOUT } else { limits::PARTITION_TIMEOUT };
        self.cut_off = self.cut_off.or((!doubtful.is_empty()).then_some(now));
        if self.cut_off.is_some_and(|since| since + patience <= now) {
            silent.extend(doubtful);
        }
        silent.into_iter().map(Member::node).collect()
    }
}

/// The nodes that have been silent for so long while the session gathers that they are not counted any more.
pub(super) fn left(nodes: &Nodes, now: Instant) -> Vec<NodeId> {
    let silent = |m: &&Member| m.presence.last_heard() + limits::GATHERING_TIMEOUT <= now;
    nodes.roster.nodes().filter(silent).map(Member::node).collect()
}

/// A node that is silent at this address: most likely its machine was started anew. An address proves nothing, because
/// several machines may share one, so a node that is heard stays.
pub(super) fn replaced(nodes: &Nodes, now: Instant, addr: core::net::SocketAddr) -> Option<NodeId> {
    let silent = |m: &&Member| m.addr() == addr && !m.presence.is_fresh(now);
    nodes.roster.nodes().find(silent).map(Member::node)
}
