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
    /// Its link to a parent was up once.
    linked: bool,
    /// Since when its links have failed, one after another.
    linkless: Option<Instant>,
    /// Parents that it could not get its bytes from.
    avoid: Vec<NodeId>,
    /// Somebody got false bytes from it: it feeds nobody any more.
    barred: bool,
    /// The child that nothing reached from it: it feeds nobody new, unless the fault turns out to be the child's.
    doubted_by: Option<NodeId>,
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
            linked: false,
            linkless: None,
            avoid: Vec::new(),
            barred: false,
            doubted_by: None,
            arrival: Arrival::new(now),
        }
    }

    /// The last that the node said of itself.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The end of what has arrived.
    pub(crate) fn received(&self) -> Offset {
        self.progress.received
    }

    /// The begin of what the node still has.
    pub(crate) fn kept(&self) -> Offset {
        self.progress.kept
    }

    /// Notes that so much has arrived, and that what is before an offset is not there any more.
    pub(crate) fn received_at_least(&mut self, at: Offset) {
        self.progress.received = self.progress.received.max(at);
    }

    pub(crate) fn kept_from_at_least(&mut self, at: Offset) {
        self.progress.kept = self.progress.kept.max(at);
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
        self.linked = true;
        self.linkless = None;
    }

    /// Whether a link of the node was ever up.
    pub(crate) fn was_linked(&self) -> bool {
        self.linked
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
        self.avoid.push(parent);
    }

    /// Forgets which parents the node was to avoid, and its failed links.
    pub(crate) fn forgive(&mut self) {
        self.avoid.clear();
        self.linkless = None;
    }

    /// Has the node feed nobody any more: somebody got false bytes from it.
    pub(crate) fn bar(&mut self) {
        self.barred = true;
    }

    /// Whether the node feeds nobody any more.
    pub(crate) fn is_barred(&self) -> bool {
        self.barred
    }

    /// Has the node feed nobody new, because nothing reached this child from it.
    pub(crate) fn doubt(&mut self, by: NodeId) {
        self.doubted_by = Some(by);
    }

    /// Clears the node of what `by` held against it; whether that was something.
    pub(crate) fn clear(&mut self, by: NodeId) -> bool {
        self.doubted_by.take_if(|who| *who == by).is_some()
    }

    /// Whether the node may feed others, as far as its bytes tell.
    pub(crate) fn is_sound(&self) -> bool {
        !self.barred && self.doubted_by.is_none()
    }
}
