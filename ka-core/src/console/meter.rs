//! The progress of a stream, its rate, and the time it will take; and none of these before it is known.

use std::collections::VecDeque;
use std::time::Duration;

use super::units;

/// The rate shown is that of so long a time: short enough to see a stall, long enough to be read.
const SPAN: Duration = Duration::from_secs(10);

/// A rate is known once bytes have come for so long, without a pause.
const KNOWN: Duration = Duration::from_secs(2);

/// Before a rate is known, a pause this long was none of the stream's, but a wait for something else.
const PAUSE: Duration = Duration::from_secs(2);

/// Characters of a full bar.
const BAR: u64 = 20;

/// The rate at which a number grows. Its times are since the program's start.
///
/// What is measured begins with the first byte that moves, not with the wait for it; and anew after a wait in which
/// nothing moved at all.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The times and numbers that were seen; the measurement begins with the first.
    seen: VecDeque<(Duration, u64)>,
    /// When it was last seen to grow.
    grew: Option<Duration>,
    known: bool,
    /// The beginning of the first measurement that gave a rate.
    begun: Option<Duration>,
    /// The rate was known before a pause.
    stood_still: bool,
}

/// A rate, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nothing: too little has moved yet.
    Unknown,
    /// Bytes per second, lately.
    Rate(u64),
    /// The number grew, and has not moved for a while.
    Still,
}

impl Meter {
    /// Takes the number of bytes by now.
    pub fn see(&mut self, now: Duration, bytes: u64) {
        let last = self.seen.back().map_or(bytes, |(_, last)| *last);
        if bytes < last {
            // It is another one's.
            *self = Self::default();
        }
        if bytes > last {
            self.grew = Some(now);
        }
        self.seen.push_back((now, bytes));
        if self.rests(now, if self.known { SPAN } else { PAUSE }) {
            self.stood_still |= self.known;
            self.known = false;
            self.seen.drain(..self.seen.len() - 1);
        }
        // One that is older than the span stays, as the span's beginning.
        while self.seen.get(1).is_some_and(|(then, _)| *then + SPAN <= now) {
            self.seen.pop_front();
        }
        let first = self.seen.front().map(|(then, _)| *then);
        if self.grew == Some(now) && first.is_some_and(|then| then + KNOWN <= now) {
            self.known = true;
            self.begun = self.begun.or(first);
        }
    }

    /// When it began to move for good: what was before was waiting. `None` if that was not seen.
    #[must_use]
    pub fn begun(&self) -> Option<Duration> {
        self.begun
    }

    /// The rate, as far as it is known.
    #[must_use]
    pub fn pace(&self, now: Duration) -> Pace {
        let (Some((then, first)), Some((_, last))) = (self.seen.front(), self.seen.back()) else {
            return Pace::Unknown;
        };
        let still = self.rests(now, SPAN);
        match (self.known, still) {
            (true, false) => {
                let seconds = now.saturating_sub(*then).as_secs_f64();
                Pace::Rate((last.saturating_sub(*first) as f64 / seconds).round() as u64)
            }
            (known, true) if known || self.stood_still => Pace::Still,
            _ => Pace::Unknown,
        }
    }

    /// Whether nothing has moved for so long, or ever.
    fn rests(&self, now: Duration, pause: Duration) -> bool {
        self.grew.is_none_or(|then| then + pause <= now)
    }
}

/// `4 MiB in 2 s (2 MiB/s)`, of what began and ended then. What was waited for before the first byte is no part of the
/// rate. `begun`: when it began to move.
#[must_use]
pub fn average(bytes: u64, started: Duration, ended: Duration, begun: Option<Duration>) -> String {
    let time = ended.saturating_sub(started);
    let wait = begun.map(|begun| begun.saturating_sub(started)).filter(|wait| (PAUSE..time).contains(wait));
    let moving = time - wait.unwrap_or_default();
    let rate = (bytes as f64 / moving.as_secs_f64().max(0.001)) as u64;
    let wait = wait.map_or_else(String::new, |wait| format!(" after {} of waiting", units::duration(wait)));
    format!("{} in {} ({}{wait})", units::size(bytes), units::duration(time), units::rate(rate))
}

/// The number of bytes that will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// So many.
    Known(u64),
    /// About so many: what the files of a running system become is known at their end.
    About(u64),
    /// Nobody knows.
    Unknown,
}

impl Total {
    /// The total of a stream of this size, which may be an estimate.
    #[must_use]
    pub fn new(size: Option<u64>, estimate: bool) -> Self {
        match size {
            Some(size) if estimate => Self::About(size),
            Some(size) => Self::Known(size),
            None => Self::Unknown,
        }
    }

    /// Of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(a.saturating_add(b)),
            (Self::Known(a) | Self::About(a), Self::Known(b) | Self::About(b)) => {
                Self::About(a.saturating_add(b))
            }
            _ => Self::Unknown,
        }
    }

    /// The share of the total that `done` is, in percent; rounded down, and 100 only if that is surely all of it.
    #[must_use]
    pub fn percent(self, done: u64) -> Option<u64> {
        let (total, most) = match self {
            Self::Known(total) => (total, if done == total { 100 } else { 99 }),
            Self::About(total) => (total, 99),
            Self::Unknown => return None,
        };
        let percent = (u128::from(done) * 100).checked_div(total.into()).unwrap_or(100);
        Some(u64::try_from(percent).unwrap_or(most).min(most))
    }

    /// `[#######-------------]`, if there is anything to show.
    #[must_use]
    pub fn bar(self, done: u64) -> Option<String> {
        let full = (self.percent(done)? * BAR / 100) as usize;
        Some(format!("[{}{}]", "#".repeat(full), "-".repeat(BAR as usize - full)))
    }

    /// `37 %`, or `~37 %` of an estimate.
    #[must_use]
    pub fn share(self, done: u64) -> Option<String> {
        let about = if self.is_exact(done) { "" } else { "~" };
        self.percent(done).map(|percent| format!("{about}{percent} %"))
    }

    /// `37 %  1.2 GiB of 3.4 GiB  112 MiB/s  21 s left`, or what of it is known.
    #[must_use]
    pub fn progress(self, done: u64, pace: Pace) -> String {
        let about = if self.is_exact(done) { "" } else { "about " };
        let so_far = units::size(done);
        let mut parts = match self {
            Self::Known(total) | Self::About(total) if done <= total => {
                Vec::from([format!("{so_far} of {about}{}", units::size(total))])
            }
            Self::Known(total) | Self::About(total) => {
                Vec::from([format!("{so_far}, more than the {} expected", units::size(total))])
            }
            Self::Unknown => Vec::from([so_far]),
        };
        parts.splice(0..0, self.share(done));
        match pace {
            Pace::Unknown => {}
            Pace::Still => parts.push("nothing moves".into()),
            Pace::Rate(rate) => {
                parts.push(units::rate(rate));
                let left = match self {
                    Self::Known(total) | Self::About(total) => total.saturating_sub(done),
                    Self::Unknown => 0,
                };
                if left > 0 {
                    let time = Duration::from_secs(left.div_ceil(rate.max(1)));
                    parts.push(format!("{about}{} left", units::duration(time)));
                }
            }
        }
        parts.join("  ")
    }

    /// A source that gives more than it said was wrong.
    fn is_exact(self, done: u64) -> bool {
        matches!(self, Self::Known(total) if done <= total)
    }
}

/// Its size, in words.
impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(size) => f.write_str(&units::size(*size)),
            Self::About(size) => write!(f, "about {}", units::size(*size)),
            Self::Unknown => f.write_str("of unknown size"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Sees a number every 200 ms, from one time to another.
    fn watch(meter: &mut Meter, from: u64, to: u64, bytes: impl Fn(u64) -> u64) {
        (from..=to).step_by(200).for_each(|at| meter.see(ms(at), bytes(at)));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut meter = Meter::default();
        assert_eq!(meter.pace(Duration::ZERO), Pace::Unknown);
        watch(&mut meter, 0, 50_000, |at| at);
        assert_eq!(meter.pace(ms(50_000)), Pace::Rate(1000));
        watch(&mut meter, 50_200, 99_000, |at| 50_000 + (at - 50_000) / 10);
        assert_eq!(meter.pace(ms(99_000)), Pace::Rate(100));
        assert!(matches!(meter.pace(ms(105_000)), Pace::Rate(rate) if rate < 100), "a stall shows at once");
        assert_eq!(meter.pace(ms(109_000)), Pace::Still);
    }

    #[test]
    fn a_wait_is_none_of_the_rate() {
        // Nothing at all, then a plan that comes at once, then nodes that format; then the files.
        let mut meter = Meter::default();
        let bytes = |at: u64| match at {
            ..30_000 => 0,
            30_000..90_000 => 2000,
            _ => 2000 + (at - 90_000) * 1000,
        };
        for at in (0..=90_000).step_by(200) {
            meter.see(ms(at), bytes(at));
            assert_eq!(meter.pace(ms(at)), Pace::Unknown, "{at}");
        }
        for at in (90_200..=120_000).step_by(200) {
            meter.see(ms(at), bytes(at));
            match meter.pace(ms(at)) {
                Pace::Unknown => assert!(at < 92_200, "{at}"),
                pace => assert_eq!(pace, Pace::Rate(1_000_000), "{at}"),
            }
        }
        assert_eq!(meter.begun(), Some(ms(90_000)));
    }

    #[test]
    fn after_a_stall_it_is_measured_anew() {
        let mut meter = Meter::default();
        watch(&mut meter, 0, 20_000, |at| at);
        watch(&mut meter, 20_200, 80_000, |_| 20_000);
        assert_eq!(meter.pace(ms(80_000)), Pace::Still);
        watch(&mut meter, 80_200, 83_000, |at| 20_000 + (at - 80_000) * 5);
        assert_eq!(meter.pace(ms(83_000)), Pace::Rate(5000));
        // Short pauses belong to the rate.
        watch(&mut meter, 83_200, 86_000, |_| 35_000);
        assert_eq!(meter.pace(ms(86_000)), Pace::Rate(2500));
    }

    #[test]
    fn progress_says_what_is_known() {
        let (known, about) = (Total::Known(4 * MIB), Total::About(4 * MIB));
        let rate = Pace::Rate(MIB);
        for (total, done, pace, says) in [
            (Total::Unknown, MIB, Pace::Rate(1 << 10), "1 MiB  1 KiB/s"),
            (known, MIB, rate, "25 %  1 MiB of 4 MiB  1 MiB/s  3 s left"),
            (known, 0, Pace::Unknown, "0 %  0 B of 4 MiB"),
            (known, MIB, Pace::Still, "25 %  1 MiB of 4 MiB  nothing moves"),
            (known, 4 * MIB, rate, "100 %  4 MiB of 4 MiB  1 MiB/s"),
            (known, 5 * MIB, rate, "~99 %  5 MiB, more than the 4 MiB expected  1 MiB/s"),
            (about, MIB, rate, "~25 %  1 MiB of about 4 MiB  1 MiB/s  about 3 s left"),
            (about, 4 * MIB, rate, "~99 %  4 MiB of about 4 MiB  1 MiB/s"),
            (about, 6 * MIB, Pace::Unknown, "~99 %  6 MiB, more than the 4 MiB expected"),
        ] {
            assert_eq!(total.progress(done, pace), says);
        }
        assert_eq!(Total::Known(2).bar(1).unwrap(), "[##########----------]");
        assert_eq!(Total::Known(0).bar(0).unwrap(), format!("[{}]", "#".repeat(20)));
        assert_eq!(Total::Unknown.bar(7), None);
    }

    #[test]
    fn the_rate_of_it_all_is_without_a_wait_before_it() {
        let second = Duration::from_secs;
        let said = |begun: Option<u64>| average(100 * MIB, second(20), second(100), begun.map(second));
        assert_eq!(said(None), "100 MiB in 1 min 20 s (1.2 MiB/s)");
        assert_eq!(said(Some(21)), "100 MiB in 1 min 20 s (1.2 MiB/s)", "no wait to speak of");
        assert_eq!(said(Some(50)), "100 MiB in 1 min 20 s (2 MiB/s after 30 s of waiting)");
        assert_eq!(said(Some(100)), "100 MiB in 1 min 20 s (1.2 MiB/s)", "nonsense is none");
    }

    #[test]
    fn files_are_an_estimate_and_so_is_what_contains_them() {
        let (exact, estimate) = (Total::new(Some(5), false), Total::new(Some(5), true));
        assert_eq!((estimate, exact), (Total::About(5), Total::Known(5)));
        assert_eq!(exact.and(estimate).and(exact), Total::About(15));
        assert_eq!(exact.and(exact), Total::Known(10));
        assert_eq!(estimate.and(Total::new(None, true)), Total::Unknown);
    }

    proptest! {
        #[test]
        fn all_of_it_is_said_only_when_it_is_all(done: u64, total: u64, about: bool) {
            let total = if about { Total::About(total) } else { Total::Known(total) };
            let percent = total.percent(done).unwrap();
            prop_assert!(percent <= 100);
            prop_assert_eq!(percent == 100, total == Total::Known(done));
        }
    }
}
