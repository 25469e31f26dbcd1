//! The pace of a node, and what was done about it.

use crate::limits;
use crate::proto::throughput::Throughput;
use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// The number of parents that a node may get because too little comes over its link: as many as may all keep it back, and
/// one that does not.
const PARENTS: usize = limits::LOSSES + 1;

/// The pace of a node, and what was done about it.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) throughput: Throughput,
    /// When the node was last slow, if it was said that it is.
    named: Option<Instant>,
    /// The number of parents that the node may still get for its pace: if none is better, the fault is its own.
    parents_left: usize,
    /// Since when it is measured whether the node crawls, and what it had done then.
    crawls: (Instant, u64),
    /// The child with whose word the node's own does not agree, and since when.
    disputed: (Option<NodeId>, Instant),
    /// The node is on its way to the end of the line, once those it fed are fed by others.
    leaves: bool,
    /// The node is served once the others have everything, or was once.
    deferred: bool,
    resumed: bool,
}

impl Pace {
    /// A node that has just come.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            throughput: Throughput::new(now),
            named: None,
            parents_left: PARENTS,
            crawls: (now, 0),
            disputed: (None, now),
            leaves: false,
            deferred: false,
            resumed: false,
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
        if self.named.take_if(|last| shows && *last + limits::RETURN_DELAY_MAX <= now).is_some() {
            self.parents_left = PARENTS;
        }
    }

    /// Whether the node has got another parent because too little came over its link.
    pub(crate) fn was_fed_anew(&self) -> bool {
        self.parents_left < PARENTS
    }

    /// Gives the node another parent; whether it may have one.
    pub(crate) fn feed_anew(&mut self, now: Instant) -> bool {
        let may = self.parents_left > 0;
        if may {
            self.parents_left -= 1;
            self.throughput = Throughput::new(now);
            self.crawls.0 = now;
        }
        may
    }

    /// Starts to measure whether the node crawls, which has done so much by now.
    pub(crate) fn walk(&mut self, now: Instant, done: u64) {
        self.crawls = (now, done);
    }

    /// Does not count so much of the time until now.
    pub(crate) fn pause(&mut self, time: Duration) {
        self.crawls.0 = self.crawls.0 + time;
    }

    /// Bytes per second of a node that has done so much by now, once that has been measured for `patience`.
    pub(crate) fn walked(&self, now: Instant, done: u64, patience: Duration) -> Option<u64> {
        let (since, before) = self.crawls;
        let time = now.since(since);
        (time >= patience).then(|| (done.saturating_sub(before) as f64 / time.as_secs_f64()) as u64)
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

    /// Notes the child with whose word the node's own does not agree, and says for how long that has been so.
    pub(crate) fn disputes(&mut self, now: Instant, child: Option<NodeId>) -> Duration {
        if self.disputed.0 != child {
            self.disputed = (child, now);
        }
        now.since(self.disputed.1)
    }

    /// Has the node served after the others, or in line again.
    pub(crate) fn defer(&mut self, deferred: bool) {
        self.resumed |= self.deferred && !deferred;
        self.deferred = deferred;
    }

    /// Whether the node was served after the others before.
    pub(crate) fn was_resumed(&self) -> bool {
        self.resumed
    }

    /// Whether the node is served after the others.
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred
    }
}
