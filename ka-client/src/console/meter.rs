//! How fast it goes, and how long it will take.

use std::collections::VecDeque;
use std::time::Duration;

use super::units;

/// The rate shown is that of so long a time: short enough to see a stall, long enough to be read.
const SPAN: Duration = Duration::from_secs(10);

/// Characters of a full bar.
const BAR: u64 = 20;

/// The rate of a number that grows. Its times are since the program's start.
#[derive(Clone, Debug, Default)]
pub struct Meter(VecDeque<(Duration, u64)>);

impl Meter {
    /// It is so many bytes by now.
    pub fn see(&mut self, now: Duration, bytes: u64) {
        self.0.push_back((now, bytes));
        // One that is older than the span stays, as the span's beginning.
        while self.0.get(1).is_some_and(|(then, _)| *then + SPAN <= now) {
            self.0.pop_front();
        }
    }

    /// Bytes per second, lately.
    #[must_use]
    pub fn rate(&self, now: Duration) -> u64 {
        let (Some((then, first)), Some((_, last))) = (self.0.front(), self.0.back()) else { return 0 };
        let seconds = now.saturating_sub(*then).as_secs_f64();
        if seconds > 0.0 { (last.saturating_sub(*first) as f64 / seconds) as u64 } else { 0 }
    }
}

/// `37 %  1.2 GiB of 3.4 GiB  112 MiB/s  21 s left`, or what of it is known.
#[must_use]
pub fn progress(done: u64, total: Option<u64>, rate: u64) -> String {
    let Some(total) = total else {
        return format!("{}  {}", units::size(done), units::rate(rate));
    };
    let left = match total.saturating_sub(done) {
        left if left > 0 && rate == 0 => "stalled".into(),
        left => format!("{} left", units::duration(Duration::from_secs(left.div_ceil(rate.max(1))))),
    };
    let (percent, so_far, all) = (percent(done, total), units::size(done), units::size(total));
    format!("{percent} %  {so_far} of {all}  {}  {left}", units::rate(rate))
}

/// `[#######-------------]`
#[must_use]
pub fn bar(done: u64, total: u64) -> String {
    let full = (percent(done, total) * BAR / 100) as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR as usize - full))
}

/// Rounded down, so that 100 % means all of it.
#[must_use]
pub fn percent(done: u64, total: u64) -> u64 {
    if total == 0 { 100 } else { (u128::from(done) * 100 / u128::from(total)).min(100) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (mut meter, mut now) = (Meter::default(), Duration::ZERO);
        assert_eq!(meter.rate(now), 0);
        for second in 0..100 {
            now = Duration::from_secs(second);
            meter.see(now, if second < 50 { second * 1000 } else { 50_000 + (second - 50) * 10 });
        }
        assert_eq!(meter.rate(now), 10);
        assert_eq!(meter.rate(now + Duration::from_secs(90)), 1, "a stall shows");
    }

    #[test]
    fn progress_says_what_is_known() {
        assert_eq!(progress(1 << 20, None, 1 << 10), "1 MiB  1 KiB/s");
        assert_eq!(progress(1 << 20, Some(4 << 20), 1 << 20), "25 %  1 MiB of 4 MiB  1 MiB/s  3 s left");
        assert_eq!(progress(0, Some(4 << 20), 0), "0 %  0 B of 4 MiB  0 B/s  stalled");
        assert_eq!(bar(1, 2), "[##########----------]");
        assert_eq!(bar(9, 0), format!("[{}]", "#".repeat(20)));
    }
}
