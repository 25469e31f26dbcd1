//! The tape that a node has, and the faults of its links.

use alloc::vec::Vec;

use crate::proto::arrival::Arrival;
use crate::time::Instant;
use crate::types::{NodeId, Offset};
use crate::wire::control::{Progress, Receipt};

/// The tape that a node has, and the faults of its links.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(super) progress: Progress,
    stored: u64,
    /// The last that it was told: so many items are stored further below than its children, the least by this node.
    stable: (u64, NodeId),
    pub(super) complete: bool,
    /// The parent that its link was up to last.
    linked: Option<NodeId>,
    /// Since when its links have failed, one after another.
    linkless: Option<Instant>,
    /// Parents that it could not get its bytes from.
    avoid: Vec<NodeId>,
    /// Parents that hold the tape from an offset on only, by the word of this node, which counts for itself.
    gone: Vec<(NodeId, Offset)>,
    /// The end of what is kept for it, because a node above it may lie.
    needs: Offset,
    /// Whether anything reaches it.
    pub(crate) arrival: Arrival,
}

impl Delivery {
    /// A node that has just come.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            progress: Progress::default(),
            stored: 0,
            stable: (u64::MAX, NodeId::ROOT),
            complete: false,
            linked: None,
            linkless: None,
            avoid: Vec::new(),
            gone: Vec::new(),
            needs: Offset::ZERO,
            arrival: Arrival::new(now),
        }
    }

    /// The last that the node said of itself.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Bytes that have arrived, and that the sink has taken, together.
    pub(crate) fn done(&self) -> u64 {
        self.progress.received.0.saturating_add(self.progress.sunk.0)
    }

    /// The end of what has arrived.
    pub(crate) fn received(&self) -> Offset {
        self.progress.received
    }

    /// The begin of what the node still has.
    pub(crate) fn kept(&self) -> Offset {
        self.progress.kept
    }

    /// Notes that so much has arrived.
    pub(crate) fn received_at_least(&mut self, at: Offset) {
        self.progress.received = self.progress.received.max(at);
    }

    /// Notes what a receipt tells: of the root what it has read, of a node what its sink has taken.
    pub(crate) fn receipt(&mut self, root: bool, receipt: &Receipt) {
        self.progress.counters = receipt.counters;
        match root {
            true => self.progress.received = Offset(receipt.bytes),
            false => self.progress.sunk = Offset(receipt.bytes),
        }
    }

    /// Items of the tape that the node has stored, by its own word.
    pub(crate) fn stored(&self) -> u64 {
        self.stored
    }

    /// Notes what the node has stored; whether that is more than before.
    pub(crate) fn store(&mut self, items: u64) -> bool {
        let more = self.stored < items;
        self.stored = self.stored.max(items);
        more
    }

    /// The number of stable items that the node was last told of, and the node that has stored the least.
    pub(crate) fn stable(&self) -> (u64, NodeId) {
        self.stable
    }

    /// Notes what the node is told of what is stable; whether the number is another one.
    pub(crate) fn set_stable(&mut self, stable: (u64, NodeId)) -> bool {
        core::mem::replace(&mut self.stable, stable).0 != stable.0
    }

    /// Notes that the node has everything; whether that is news.
    pub(crate) fn complete(&mut self, now: Instant) -> bool {
        let news = !core::mem::replace(&mut self.complete, true);
        if news {
            self.arrival.reset(now);
        }
        news
    }

    /// Notes that the node's link is up.
    pub(crate) fn link_up(&mut self) {
        self.linkless = None;
    }

    /// Notes the parent that the node's link is up to; whether that is another one than last time. A link that comes and
    /// goes is the same one.
    pub(crate) fn is_fed_by(&mut self, parent: NodeId) -> bool {
        self.linked.replace(parent) != Some(parent)
    }

    /// Whether a link of the node was ever up.
    pub(crate) fn was_linked(&self) -> bool {
        self.linked.is_some()
    }

    /// Notes that the node's link is down; since when it has had none.
    pub(crate) fn link_down(&mut self, now: Instant) -> Instant {
        *self.linkless.get_or_insert(now)
    }

    /// Since when the node's links have failed.
    pub(crate) fn linkless(&self) -> Option<Instant> {
        self.linkless
    }

    /// Forgets for how long the node has had no link.
    pub(crate) fn forget_links(&mut self) {
        self.linkless = None;
    }

    /// The parents that the node could not get its bytes from.
    pub(crate) fn avoids(&self) -> &[NodeId] {
        &self.avoid
    }

    /// Has the node avoid a parent.
    pub(crate) fn avoid(&mut self, parent: NodeId) {
        if !self.avoid.contains(&parent) {
            self.avoid.push(parent);
        }
    }

    /// Notes that a parent does not have any more what the node lacks.
    pub(crate) fn is_gone(&mut self, parent: NodeId, kept: Offset) {
        self.gone.retain(|(other, _)| *other != parent);
        self.gone.push((parent, kept));
    }

    /// Whether the node could get the tape from `at` on from a parent, as far as it has tried.
    pub(crate) fn may_get(&self, parent: NodeId, at: Offset) -> bool {
        !self.avoid.contains(&parent) && !self.gone.iter().any(|(who, kept)| *who == parent && *kept > at)
    }

    /// Notes that the tape is kept for the node until it has what is before `end`.
    pub(crate) fn need_until(&mut self, end: Offset) {
        self.needs = self.needs.max(end);
    }

    /// Whether the node lacks what is kept for it.
    pub(crate) fn needs_more(&self) -> bool {
        !self.complete && self.progress.received < self.needs
    }

    /// Forgets which parents the node could not get its bytes from, and its failed links.
    pub(crate) fn forgive(&mut self) {
        self.avoid.clear();
        self.gone.clear();
        self.linkless = None;
    }
}
