//! The throughput of a node, and what limits it: measured from what it reports of itself.

use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::Offset;
use crate::wire::control::{Blocked, Progress};

/// The time over which the rate at which a node is fed is measured: a burst that fills a small window must not be lost
/// in the time after it.
const BURST: Duration = Duration::from_millis(500);

/// A node's throughput.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// The start of the present measurement; `None` until the node has reported its position.
    from: Option<(Instant, Offset, Offset)>,
    /// Bytes per second that arrived, and that its sink took, in the last full measurement.
    received: Option<u64>,
    sunk: Option<u64>,
    /// The best of all.
    best: Best,
    /// Bytes per second that its sink can take: what it took last while it had more than it took, or more, if it has taken
    /// more since; `None` while it has always taken all that there was.
    sink_limit: Option<u64>,
    /// Whether there was more than the sink took at the start of the present measurement.
    had_more: bool,
    /// The start of the present measurement of its feeding rate, and the last full one. What keeps it from getting more
    /// changes in the middle of a burst that fills a small window, and such bursts tell how fast it could be.
    fed_from: Option<(Instant, Offset)>,
    fed: Option<u64>,
    /// When its sink last took something, or had taken everything.
    moved: Instant,
    /// Since when its window is full because of its own sink, because of a child, or not at all.
    blocked: (Blocked, Instant),
    /// The limit that keeps it from more, the number of sharers of its parent's link, and since when both are so.
    limited: Option<(Option<Limit>, u64, Instant)>,
}

/// Bytes per second that arrived, in the best half of a second, and that a sink took, in the best second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Best {
    /// Arrived.
    pub fed: u64,
    /// Taken.
    pub sunk: u64,
}

/// The limit that keeps a node from getting more than it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Its own sink, which has filled its window.
    Sink,
    /// The link to its parent, which has far more.
    Link,
    /// The same, but it shares the link for lack of a better place: little may come through no fault of its own.
    Crowd,
}

impl Throughput {
    /// A node of which nothing is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            from: None,
            received: None,
            sunk: None,
            best: Best::default(),
            sink_limit: None,
            had_more: false,
            fed_from: None,
            fed: None,
            moved: now,
            blocked: (Blocked::No, now),
            limited: None,
        }
    }

    /// A node that has nothing yet has a link now: what fills the windows tells how fast it could be.
    #[must_use]
    pub fn from_the_start(now: Instant) -> Self {
        let nothing = Offset::ZERO;
        Self { from: Some((now, nothing, nothing)), fed_from: Some((now, nothing)), ..Self::new(now) }
    }

    /// A node told how far it is; `before` is what it told before. A sink that has taken everything so far waits for more,
    /// but at the end of the tape (`complete`) nothing follows: there its time counts.
    pub fn see(&mut self, now: Instant, before: &Progress, progress: &Progress, complete: bool) {
        if progress.sunk > before.sunk || (progress.sunk >= progress.received && !complete) {
            self.moved = now;
        }
        if progress.blocked != self.blocked.0 {
            self.blocked = (progress.blocked, now);
        }
        let (since, received, sunk) = *self.from.get_or_insert((now, progress.received, progress.sunk));
        let time = now.since(since);
        if time >= limits::RATE_INTERVAL {
            self.received = Some(rate(progress.received - received, time));
            self.sunk = Some(rate(progress.sunk - sunk, time));
            let taken = rate(progress.sunk - sunk, time);
            self.best.sunk = self.best.sunk.max(taken);
            let has_more = progress.received - progress.sunk >= limits::BACKLOG_BYTES;
            if (self.had_more && has_more) || self.sink_limit.is_some_and(|limit| limit < taken) {
                self.sink_limit = Some(taken);
            }
            self.had_more = has_more;
            self.from = Some((now, progress.received, progress.sunk));
        }
        let (since, received) = *self.fed_from.get_or_insert((now, progress.received));
        let time = now.since(since);
        if time >= BURST {
            self.fed = Some(rate(progress.received - received, time));
            self.best.fed = self.best.fed.max(rate(progress.received - received, time));
            self.fed_from = Some((now, progress.received));
        }
    }

    /// Bytes per second that arrive, over about half a second, whatever keeps it from getting more.
    #[must_use]
    pub fn fed(&self) -> Option<u64> {
        self.fed
    }

    /// The best it ever had.
    #[must_use]
    pub fn best(&self) -> Best {
        self.best
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

    /// Bytes per second that its sink can take, as far as that is known: `None` while it has taken all that there was.
    #[must_use]
    pub fn sink_limit(&self) -> Option<u64> {
        self.sink_limit
    }

    /// For how long its sink has taken nothing of what is there.
    #[must_use]
    pub fn stuck(&self, now: Instant) -> Duration {
        now.since(self.moved)
    }

    /// The cause that keeps its window full, and for how long.
    #[must_use]
    pub fn blocked(&self, now: Instant) -> (Blocked, Duration) {
        (self.blocked.0, now.since(self.blocked.1))
    }

    /// Notes what keeps it from getting more, and how many share its parent's link, and says for how long both have been
    /// so. Its rates count from then on.
    pub fn limited_for(&mut self, now: Instant, limit: Option<Limit>, sharers: u64) -> Duration {
        let (before, shared, since) = self.limited.get_or_insert((limit, sharers, now));
        if (*before, *shared) != (limit, sharers) {
            (*before, *shared, *since) = (limit, sharers, now);
            (self.from, self.received, self.sunk) = (None, None, None);
            self.had_more = false;
        }
        now.since(*since)
    }
}

fn rate(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_measured_though_what_it_ends_with_limits_the_node() {
        let at = |bytes| Progress { received: Offset(bytes), ..Progress::default() };
        let when = |millis| Instant::ZERO + Duration::from_millis(millis);
        let mut throughput = Throughput::from_the_start(Instant::ZERO);
        let mut before = at(0);
        for (millis, bytes, limit) in [
            (500, 8_000_000, None),
            (600, 8_000_000, Some(Limit::Link)),
            (700, 8_000_000, None),
            (1000, 9_000_000, None),
        ] {
            throughput.limited_for(when(millis), limit, 1);
            throughput.see(when(millis), &before, &at(bytes), false);
            before = at(bytes);
        }
        assert_eq!(
            (throughput.fed(), throughput.best().fed, throughput.received()),
            (Some(2_000_000), 16_000_000, None)
        );
    }

    #[test]
    fn a_measurement_begins_where_the_node_is() {
        let at = |bytes| Progress { received: Offset(bytes), sunk: Offset(bytes), ..Progress::default() };
        let mut throughput = Throughput::new(Instant::ZERO);
        let mut before = at(0);
        for (second, bytes) in [(5, 5_000_000), (6, 6_000_000), (7, 8_000_000)] {
            throughput.see(Instant::ZERO + Duration::from_secs(second), &before, &at(bytes), false);
            before = at(bytes);
            let rate = [None, Some(1_000_000), Some(2_000_000)][second as usize - 5];
            assert_eq!((throughput.received(), throughput.sunk()), (rate, rate));
        }
    }

    #[test]
    fn a_sink_shows_what_it_can_take_while_it_has_more() {
        let mut throughput = Throughput::new(Instant::ZERO);
        let mut before = Progress::default();
        let mut limit = |second: u64, received: u64, sunk: u64| {
            let now = Progress {
                received: Offset(received << 20),
                sunk: Offset(sunk << 20),
                ..Progress::default()
            };
            throughput.see(Instant::ZERO + Duration::from_secs(second), &before, &now, false);
            before = now;
            throughput.sink_limit().map(|limit| limit >> 20)
        };
        assert_eq!(limit(1, 0, 0), None);
        assert_eq!(limit(2, 100, 100), None, "it took all there was");
        assert_eq!(limit(3, 200, 120), None, "it had not more at the start");
        assert_eq!(limit(4, 200, 140), Some(20));
        assert_eq!(limit(5, 200, 155), Some(15));
        assert_eq!(limit(6, 200, 200), Some(45), "it can take at least this");
        assert_eq!(limit(7, 210, 210), Some(45));
    }

    #[test]
    fn a_sink_that_waits_for_bytes_is_not_stuck_and_one_that_has_them_all_is() {
        let progress = Progress { received: Offset(7), sunk: Offset(7), ..Progress::default() };
        let seconds = |n| Instant::ZERO + Duration::from_secs(n);
        let mut throughput = Throughput::new(Instant::ZERO);
        throughput.see(seconds(8), &progress, &progress, false);
        assert_eq!(throughput.stuck(seconds(9)), Duration::from_secs(1));
        throughput.see(seconds(20), &progress, &progress, true);
        assert_eq!(throughput.stuck(seconds(20)), Duration::from_secs(12));
    }
}
