//! The end of a node.

use crate::time::Instant;
use crate::wire::control::Outcome;

/// The end of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    pub(super) outcome: Option<Outcome>,
    released: bool,
    pub(super) ended: Option<Instant>,
}

impl Ending {
    /// Whether the node has ended.
    pub(crate) fn is_settled(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether the node has ended well.
    pub(crate) fn is_ok(&self) -> bool {
        self.outcome.as_ref().is_some_and(Outcome::is_ok)
    }

    /// Notes how the node ended.
    pub(crate) fn settle(&mut self, now: Instant, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.ended = Some(now);
    }

    /// Lets the node go.
    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    /// Whether the node was let go.
    pub(crate) fn is_released(&self) -> bool {
        self.released
    }
}
