//! The pace of a node, and what was done about it.

use crate::limits;
use crate::proto::throughput::Throughput;
use crate::time::Instant;

/// The pace of a node, and what was done about it.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) throughput: Throughput,
    /// When the node was last slow, if it was said that it is.
    named: Option<Instant>,
    /// Too little came over the node's link, so it got another parent: if that is no better, the fault is its own.
    fed_anew: bool,
    /// The node is on its way to the end of the line, once those it fed are fed by others.
    leaves: bool,
    /// The node is served once the others have everything.
    deferred: bool,
}

impl Pace {
    /// A node that has just come.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            throughput: Throughput::new(now),
            named: None,
            fed_anew: false,
            leaves: false,
            deferred: false,
        }
    }

    /// Names the node as slow; whether it was named before.
    pub(crate) fn name(&mut self, now: Instant) -> bool {
        self.named.replace(now).is_some()
    }

    /// Whether the node is named as slow.
    pub(crate) fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// Takes the name away from a node that has not been slow for long. One that waits for its turn shows nothing.
    pub(crate) fn forget_name(&mut self, now: Instant) {
        let shows = !self.deferred;
        self.named.take_if(|last| shows && *last + limits::RETURN_DELAY_MAX <= now);
    }

    /// Gives the node another parent for once; whether it may have one.
    pub(crate) fn feed_anew(&mut self, now: Instant) -> bool {
        let may = !core::mem::replace(&mut self.fed_anew, true);
        if may {
            self.throughput = Throughput::new(now);
        }
        may
    }

    /// Sends the node to the end of the line.
    pub(crate) fn leave(&mut self) {
        self.leaves = true;
    }

    /// Whether the node is on its way to the end of the line.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaves
    }

    /// The node is at the end of the line, or need not go there.
    pub(crate) fn stay(&mut self) {
        self.leaves = false;
    }

    /// Has the node served after the others, or in line again.
    pub(crate) fn defer(&mut self, deferred: bool) {
        self.deferred = deferred;
    }

    /// Whether the node is served after the others.
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred
    }
}
