//! The time of day, as logs, reports and events have it: UTC, as RFC 3339 writes it.
//!
//! UTC, because a static program in a rescue system knows no time zone. The clock is read anew for each stamp, so that
//! it follows a clock that is set meanwhile; it may be wrong, and nothing is decided by it. What is absent is a crate:
//! one that knows calendars and time zones is thousands of lines, and this is one conversion.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Days from the 1st of March of the year 0 to the 1st of January 1970.
const EPOCH_DAYS: u64 = 719_468;

/// Days of 400 years, after which the calendar begins anew.
const ERA_DAYS: u64 = 146_097;

/// A time of day. There is no telling which of two is earlier: a clock may have been set between them.
#[derive(Clone, Copy, Debug)]
pub struct Time(SystemTime);

impl Time {
    /// By now.
    #[must_use]
    pub fn now() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "people want to know when something was said; nothing else does"
        )]
        Self(SystemTime::now())
    }

    /// So long after 1970 began.
    #[must_use]
    pub fn since_1970(time: Duration) -> Self {
        Self(UNIX_EPOCH + time)
    }

    /// So long before this one.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.checked_sub(time).unwrap_or(UNIX_EPOCH))
    }

    /// So long after this one.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.checked_add(time).unwrap_or(self.0))
    }

    /// For people: `2026-07-01T14:05:10Z`.
    #[must_use]
    pub fn stamp(self) -> String {
        format!("{}Z", to_the_second(self.since_epoch()))
    }

    /// For programs: `2026-07-01T14:05:10.123Z`.
    #[must_use]
    pub fn stamp_ms(self) -> String {
        let time = self.since_epoch();
        format!("{}.{:03}Z", to_the_second(time), time.subsec_millis())
    }

    /// A clock that is before 1970 was never set.
    fn since_epoch(self) -> Duration {
        self.0.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

fn to_the_second(time: Duration) -> String {
    let seconds = time.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The date, so many days after 1970-01-01. Years are taken to begin in March: so the day that some have more is the
/// last one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months of 31, 30, 31, 30, 31 days, over and over.
    let month = (5 * day + 2) / 153;
    let (before, of_year) = ((153 * month + 2) / 5, (month + 2) % 12 + 1);
    (era * 400 + year + u64::from(of_year <= 2), of_year, day - before + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> String {
        Time::since_1970(Duration::from_secs(seconds)).stamp()
    }

    #[test]
    fn times_that_date_says_too() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_782_914_710, "2026-07-01T14:05:10Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(at(seconds), text);
        }
        let time = Time::since_1970(Duration::from_micros(1_782_914_710_123_999));
        assert_eq!(time.stamp_ms(), "2026-07-01T14:05:10.123Z");
        assert_eq!(time.after(Duration::from_secs(3600)).stamp(), "2026-07-01T15:05:10Z");
        assert_eq!(time.before(Duration::MAX).stamp(), at(0));
        let never_set = Time::since_1970(Duration::ZERO).before(Duration::from_secs(9));
        assert_eq!(never_set.stamp(), at(0));
    }

    #[test]
    fn each_day_is_the_one_after_the_last() {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut expected = (1970, 1, 1);
        for day in 0..=2 * ERA_DAYS {
            assert_eq!(date(day), expected, "day {day}");
            let (year, month, last) = expected;
            let length = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, last == length) {
                (_, false) => (year, month, last + 1),
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
            };
        }
    }
}
