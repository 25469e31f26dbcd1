//! Time as an argument: an [`Instant`] the caller makes, so that a simulated hour costs nothing.
//!
//! Nothing here reads a clock. `net` turns the machine's monotonic clock into these; `sim` invents them.

use core::fmt;
use core::ops::{Add, Sub};
pub use core::time::Duration;

/// Nanoseconds since the start of the process (or of the simulated world).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The start.
    pub const ZERO: Self = Self(0);

    /// Returns the time from `earlier` to this instant; zero if this is before it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Seconds since the start, for people and traces.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}s", self.as_secs_f64())
    }
}
