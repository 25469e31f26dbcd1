//! Outcomes: how nodes have ended, who is still needed, and for whom the session waits. Pure.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::member::Member;
use super::placement::Nodes;
use crate::limits;
use crate::proto::release::Release;
use crate::tape::chain::Hash;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Offset, printable};
use crate::wire::control::{Outcome, Reason, Receipt};

/// The counts of the nodes' ends, so that the session's costs no search.
#[derive(Debug)]
pub(super) struct Outcomes {
    /// Nodes without an outcome, and how many of them are suspected.
    unsettled: u32,
    suspects: u32,
    /// The whole tape as the root's own receipt tells it: its length, and the last value of its chain.
    tape: Option<(u64, Hash)>,
    /// The nodes that have waited, and are let go one by one.
    pub(super) release: Release,
}

impl Outcomes {
    pub(super) fn new(release_delay: Duration) -> Self {
        Self { unsettled: 0, suspects: 0, tape: None, release: Release::new(release_delay) }
    }

    /// Whether every node has an outcome.
    pub(super) fn all_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// Notes the root's own receipt.
    pub(super) fn root_ended(&mut self, receipt: &Receipt) {
        self.tape = receipt.outcome.is_ok().then_some((receipt.bytes, receipt.chain));
    }

    /// Waits for so many nodes.
    pub(super) fn expect(&mut self, nodes: u32) {
        self.unsettled = nodes;
    }

    /// Waits for one more node.
    pub(super) fn expect_one_more(&mut self) {
        self.unsettled += 1;
    }

    /// Notes that a node without an outcome is suspected, or is not any more.
    pub(super) fn suspected(&mut self, is: bool) {
        self.suspects = if is { self.suspects + 1 } else { self.suspects.saturating_sub(1) };
    }

    /// Notes that a node has an outcome.
    pub(super) fn settled(&mut self, suspected: bool) {
        self.unsettled = self.unsettled.saturating_sub(1);
        if suspected {
            self.suspected(false);
        }
    }

    /// Whether nobody is left but nodes that are not heard.
    pub(super) fn only_suspects(&self) -> bool {
        self.suspects > 0 && self.suspects == self.unsettled
    }

    /// Judges how a node ended, by its receipt. A node that is done followed the chain to where the root ended it. One
    /// that claims to be done otherwise is wrong.
    pub(super) fn judged(&self, node: NodeId, receipt: Receipt) -> Outcome {
        match receipt.outcome {
            Outcome::Ok if self.tape != Some((receipt.bytes, receipt.chain)) => {
                let why = format!("it says it is done after {} bytes, which the tape is not", receipt.bytes);
                Outcome::Failed(Reason::Tainted(node, why), Offset(receipt.bytes))
            }
            Outcome::Failed(reason, at) => Outcome::Failed(printable_reason(reason), at),
            other => other,
        }
    }
}

/// Whether somebody below lacks bytes, so near that this node may have to feed it when others are lost; or one that is
/// handed over, or for which this node keeps them.
pub(super) fn is_needed(nodes: &Nodes, node: NodeId) -> bool {
    let mut level: Vec<_> =
        nodes.tree.listed(node).chain(nodes.tree.keeps_for(node).iter().copied()).collect();
    for _ in 0..=limits::LOSSES {
        let waits =
            |n: &NodeId| nodes.get(*n).is_some_and(Member::lacks) || !nodes.tree.keeps_for(*n).is_empty();
        if level.iter().any(waits) {
            return true;
        }
        level = level.iter().flat_map(|n| nodes.tree.children(*n)).copied().collect();
    }
    false
}

/// Whether a node has a parent without need: no link to it, and nothing that it or anybody below it lacks. The parent would
/// keep everything for it.
pub(super) fn is_idle_child(nodes: &Nodes, node: NodeId) -> bool {
    let parent = nodes.tree.parent(node);
    let linkless = parent.is_some() && nodes.tree.linked_to(node) != parent;
    linkless && nodes.get(node).is_some_and(Member::is_complete) && !nodes.is_in_use(node)
}

/// A suspected node without an outcome.
pub(super) struct Suspect {
    pub(super) node: NodeId,
    pub(super) may_come_back: bool,
    pub(super) complete: bool,
    pub(super) at: Offset,
    pub(super) why: String,
}

/// The suspected nodes without an outcome, and whether each may still come back.
pub(super) fn suspects(nodes: &Nodes, now: Instant) -> Vec<Suspect> {
    let open = nodes.roster.nodes().filter(|m| !m.ending.is_settled());
    let suspect = |m: &Member| {
        let (since, why) = (m.presence.suspected_since()?, m.presence.suspected_of(now)?);
        // A connection that a node gave up while it was cut off closes here only once it is back.
        let until = match m.presence.gone() {
            None => m.presence.last_heard() + limits::SILENCE_GRACE,
            Some(gone) => gone.max(since) + limits::RECONNECT_GRACE,
        };
        // Who only comes and goes is not waited for any longer than who is cut off.
        let comes = m.presence.back().is_some() && now < since + limits::PARTITION_TIMEOUT;
        Some(Suspect {
            node: m.node(),
            may_come_back: comes || now < until,
            complete: m.is_complete(),
            at: m.delivery.received(),
            why,
        })
    };
    open.filter_map(suspect).collect()
}

/// A node's words about its end, fit to be shown.
fn printable_reason(reason: Reason) -> Reason {
    let text = |words: String| printable(&words, limits::TEXT_BYTES);
    match reason {
        Reason::Source(why) => Reason::Source(text(why)),
        Reason::Sink(why) => Reason::Sink(text(why)),
        Reason::Lost(who, why) => Reason::Lost(who, text(why)),
        Reason::Tainted(who, why) => Reason::Tainted(who, text(why)),
        Reason::Interrupted(who) => Reason::Interrupted(text(who)),
        Reason::Slow(why) => Reason::Slow(text(why)),
        missing @ Reason::Missing(..) => missing,
    }
}
