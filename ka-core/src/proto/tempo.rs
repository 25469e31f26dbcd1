//! How fast a node is, and what holds it: measured from what it says of itself.

use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::Offset;
use crate::wire::control::{Blocked, Progress};

/// A node's tempo.
#[derive(Clone, Copy, Debug)]
pub struct Tempo {
    /// Where the present measurement began; `None` until the node has said where it is.
    from: Option<(Instant, Offset, Offset)>,
    /// Bytes per second that arrived, and that its sink took, in the last full measurement.
    received: Option<u64>,
    sunk: Option<u64>,
    /// When something last arrived, or there was nothing to come.
    arrived: Instant,
    /// When its sink last took something, or had taken everything.
    moved: Instant,
    /// Since when its window is full because of its own sink, because of a child, or not at all.
    blocked: (Blocked, Instant),
    /// Since when it is slower than it should be.
    slow: Option<Instant>,
}

impl Tempo {
    /// A node of which nothing is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            from: None,
            received: None,
            sunk: None,
            arrived: now,
            moved: now,
            blocked: (Blocked::No, now),
            slow: None,
        }
    }

    /// A node told how far it is; `before` is what it told before.
    pub fn see(&mut self, now: Instant, before: &Progress, progress: &Progress) {
        if progress.received > before.received {
            self.arrived = now;
        }
        if progress.sunk > before.sunk || progress.sunk >= progress.received {
            self.moved = now;
        }
        if progress.blocked != self.blocked.0 {
            self.blocked = (progress.blocked, now);
        }
        let (since, received, sunk) = *self.from.get_or_insert((now, progress.received, progress.sunk));
        let time = now.since(since);
        if time >= limits::TEMPO {
            let rate = |bytes: u64| (bytes as f64 / time.as_secs_f64()) as u64;
            self.received = Some(rate(progress.received - received));
            self.sunk = Some(rate(progress.sunk - sunk));
            self.from = Some((now, progress.received, progress.sunk));
        }
    }

    /// Bytes per second that arrive, over about a second.
    #[must_use]
    pub fn received(&self) -> Option<u64> {
        self.received
    }

    /// Bytes per second that its sink takes, over about a second.
    #[must_use]
    pub fn sunk(&self) -> Option<u64> {
        self.sunk
    }

    /// For how long its sink has taken nothing of what is there.
    #[must_use]
    pub fn stuck(&self, now: Instant) -> Duration {
        now.since(self.moved)
    }

    /// There was nothing that could have arrived.
    pub fn up_to_date(&mut self, now: Instant) {
        self.arrived = now;
    }

    /// For how long nothing has arrived, though there was something.
    #[must_use]
    pub fn idle(&self, now: Instant) -> Duration {
        now.since(self.arrived)
    }

    /// What keeps its window full, and for how long.
    #[must_use]
    pub fn blocked(&self, now: Instant) -> (Blocked, Duration) {
        (self.blocked.0, now.since(self.blocked.1))
    }

    /// Notes whether it is slower than it should be; says for how long it has been.
    pub fn slow_for(&mut self, now: Instant, slow: bool) -> Duration {
        if !slow {
            self.slow = None;
            return Duration::ZERO;
        }
        now.since(*self.slow.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_begins_where_the_node_is() {
        let at = |bytes| Progress { received: Offset(bytes), sunk: Offset(bytes), ..Progress::default() };
        let mut tempo = Tempo::new(Instant::ZERO);
        let mut before = at(0);
        for (second, bytes) in [(5, 5_000_000), (6, 6_000_000), (7, 8_000_000)] {
            tempo.see(Instant::ZERO + Duration::from_secs(second), &before, &at(bytes));
            before = at(bytes);
            let rate = [None, Some(1_000_000), Some(2_000_000)][second as usize - 5];
            assert_eq!((tempo.received(), tempo.sunk()), (rate, rate));
        }
    }
}
