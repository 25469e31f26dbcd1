//! The rate limit: how far the root may send by now. It can be changed while the session runs.

use crate::limits::BLOCK_BYTES;
use crate::time::{Duration, Instant};
use crate::types::Offset;

/// The interval at which the limit is raised. Short against what a switch buffers, long against a timer's cost.
pub const PACE_STEP: Duration = Duration::from_millis(5);

/// The time whose unused allowance is kept: a root that was idle does not make up for it in one burst.
const BURST: Duration = Duration::from_millis(20);

/// A limit in bytes per second, and what it has allowed so far.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    bytes_per_s: u64,
    allowed: Offset,
    last: Instant,
}

impl RateLimit {
    /// A limit that counts from `now`, when `sent` bytes are sent already.
    #[must_use]
    pub fn new(bytes_per_s: u64, now: Instant, sent: Offset) -> Self {
        Self { bytes_per_s, allowed: sent + BLOCK_BYTES as u64, last: now }
    }

    /// The same limit, counting anew from `now`.
    #[must_use]
    pub fn restarted(&self, now: Instant, sent: Offset) -> Self {
        Self::new(self.bytes_per_s, now, sent)
    }

    /// Returns the offset up to which the tape may be sent at `now`, when `sent` bytes are sent already.
    pub fn ceiling(&mut self, now: Instant, sent: Offset) -> Offset {
        let earned = bytes_in(self.bytes_per_s, now - self.last);
        // Time too short to earn a byte is not lost: `last` moves only with what it earned.
        if earned > 0 {
            self.last = now;
        }
        let burst = bytes_in(self.bytes_per_s, BURST).max(2 * BLOCK_BYTES as u64);
        self.allowed = (self.allowed + earned).min(sent + burst);
        self.allowed
    }
}

fn bytes_in(bytes_per_s: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(bytes_per_s) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_second_the_limit_is_the_rate() {
        let mut pace = RateLimit::new(10_000_000, Instant::ZERO, Offset::ZERO);
        let mut sent = Offset::ZERO;
        for ms in 1..=1000 {
            sent = pace.ceiling(Instant(ms * 1_000_000), sent);
        }
        assert!((10_000_000..10_100_000).contains(&sent.0), "{sent}");
    }

    #[test]
    fn an_idle_second_is_not_made_up_for() {
        let mut pace = RateLimit::new(10_000_000, Instant::ZERO, Offset::ZERO);
        let burst = pace.ceiling(Instant(1_000_000_000), Offset::ZERO);
        assert_eq!(burst.0, 200_000);
    }
}
