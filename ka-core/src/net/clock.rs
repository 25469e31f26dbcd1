//! The one clock of a session.

use crate::time::Instant;

/// The process's monotonic clock, counted from the session's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(tokio::time::Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub(super) fn now(self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// When `at` is, for the runtime's timer; far away for "never".
    pub(super) fn when(self, at: Instant) -> tokio::time::Instant {
        const FAR: u64 = 3_600_000_000_000;
        let from_now = at.0.saturating_sub(self.now().0).min(FAR);
        tokio::time::Instant::now() + std::time::Duration::from_nanos(from_now)
    }
}
