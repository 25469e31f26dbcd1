//! The order in which nodes may leave, and when: the original's `-w` and `-d`.
//!
//! A node leaves when it has ended and nobody below may still need its bytes. One that waits (`-w`) leaves when the
//! whole session has ended, each a delay after the one before, so that a hundred machines do not ask the
//! same boot server at the same instant.

use alloc::collections::VecDeque;

use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// The nodes that wait to be let go, and when the next one is.
#[derive(Clone, Debug, Default)]
pub struct Release {
    delay: Duration,
    waiting: VecDeque<NodeId>,
    next: Option<Instant>,
}

impl Release {
    /// A release with `delay` between two nodes.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Appends a node that waits.
    pub fn queue(&mut self, node: NodeId) {
        self.waiting.push_back(node);
    }

    /// The next node to let go, if its time has come. The first goes at once.
    pub fn pop(&mut self, now: Instant) -> Option<NodeId> {
        if self.next.is_some_and(|t| now < t) {
            return None;
        }
        let node = self.waiting.pop_front()?;
        self.next = Some(now + self.delay);
        Some(node)
    }

    /// When [`pop`](Self::pop) is worth asking again; `None` when nobody waits.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.waiting.front().and(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_the_others_a_delay_apart() {
        let mut r = Release::new(Duration::from_secs(1));
        (1..=3).for_each(|n| r.queue(NodeId(n)));
        assert_eq!(r.pop(Instant::ZERO), Some(NodeId(1)));
        assert_eq!(r.pop(Instant(999_999_999)), None);
        assert_eq!(r.due(), Some(Instant(1_000_000_000)));
        assert_eq!(r.pop(Instant(1_000_000_000)), Some(NodeId(2)));
        assert_eq!(r.pop(Instant(3_000_000_000)), Some(NodeId(3)));
        assert_eq!(r.due(), None);
    }
}
