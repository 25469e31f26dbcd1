//! The tape as numbers: how many items, where each begins, and how long bytes take.

use crate::time::Duration;
use crate::types::Position;

/// The whole tape, known beforehand: items of `block` bytes, a shorter last one, and the close, which has none.
#[derive(Clone, Copy, Debug)]
pub struct Tape {
    /// Bytes of a block.
    pub block: u64,
    /// Bytes that the source gives, to its end or to its failure.
    pub length: u64,
}

impl Tape {
    /// Items, the close included.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.length.div_ceil(self.block) + 1
    }

    /// The place behind the item that begins at `at`.
    #[must_use]
    pub fn behind(&self, at: Position) -> Position {
        at.after(self.block.min(self.length - at.offset.0))
    }

    /// Whether the item that begins at `at` is the close.
    #[must_use]
    pub fn is_close(&self, at: Position) -> bool {
        at.offset.0 == self.length
    }
}

/// The time that so many bytes take at this rate.
#[must_use]
pub fn transfer(bytes: u64, bytes_per_s: u64) -> Duration {
    let nanos = match bytes.checked_mul(1_000_000_000) {
        Some(n) => n / bytes_per_s.max(1),
        None => u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_s.max(1)))
            .unwrap_or(u64::MAX),
    };
    Duration::from_nanos(nanos)
}
