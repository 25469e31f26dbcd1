//! One stretch of a disk, and how partitions share it.
//!
//! ```text
//! │ MiB │lead│ fixed, exact to the sector ░│ fill ████████│ fill ████████│lead│ fixed │
//! start                                   └ the next begins on a mebibyte             end
//! ```
//!
//! Starts are whole mebibytes. What `fill`s share is whole mebibytes too; the last partition of a room may end on any
//! sector.

use std::ops::Range;

use crate::limits::{DISK_BYTES_MAX, MIB_BYTES};

/// The space that one partition wants of a room, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    /// Its size; a share of what is left if there is none.
    pub(super) bytes: Option<u64>,
    /// The least such share that will do.
    pub(super) min_bytes: u64,
    /// The space that must be free before it: a logical's own link of the chain.
    pub(super) lead_bytes: u64,
}

/// The room is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSmall {
    pub(super) needed_bytes: u64,
    pub(super) has_bytes: u64,
}

/// The bytes that these wants need at least, from a mebibyte's start; if no disk has as many, those of the largest one,
/// which no room has either.
pub(super) fn needed_bytes(wants: &[Want]) -> u64 {
    let last = wants.len().saturating_sub(1);
    let slot = |(at, want): (usize, &Want)| {
        let bytes = match want.bytes {
            Some(bytes) if at == last => bytes,
            Some(bytes) => bytes.next_multiple_of(MIB_BYTES),
            None => want.min_bytes.next_multiple_of(MIB_BYTES),
        };
        u128::from(bytes) + u128::from(want.lead_bytes)
    };
    let all = wants.iter().enumerate().map(slot).sum::<u128>();
    u64::try_from(all).map_or(DISK_BYTES_MAX, |bytes| bytes.min(DISK_BYTES_MAX))
}

/// The place of each of the wants in the room, in bytes; all sizes are whole sectors already.
pub(super) fn share(wants: &[Want], room: Range<u64>) -> Result<Vec<Range<u64>>, TooSmall> {
    let start = room.start.next_multiple_of(MIB_BYTES);
    let has_bytes = room.end.saturating_sub(start);
    let needed_bytes = needed_bytes(wants);
    if needed_bytes > has_bytes {
        return Err(TooSmall { needed_bytes, has_bytes });
    }
    let mins: Vec<u64> =
        wants.iter().filter(|w| w.bytes.is_none()).map(|w| w.min_bytes.div_ceil(MIB_BYTES)).collect();
    let left_mib = (has_bytes - needed_bytes) / MIB_BYTES + mins.iter().sum::<u64>();
    let mut shares = shares(&mins, left_mib).into_iter();
    let mut at = start;
    let place = |want: &Want| {
        let from = (at + want.lead_bytes).next_multiple_of(MIB_BYTES);
        let bytes = want.bytes.unwrap_or_else(|| shares.next().expect("a share each") * MIB_BYTES);
        at = from + bytes;
        from..at
    };
    Ok(wants.iter().map(place).collect())
}

/// Equal shares of `total`, none below its minimum; the minima are no more than the total.
/// What does not divide goes to the first ones.
fn shares(mins: &[u64], total: u64) -> Vec<u64> {
    let mut shares: Vec<Option<u64>> = vec![None; mins.len()];
    loop {
        let open = shares.iter().filter(|s| s.is_none()).count() as u64;
        let left = total - shares.iter().flatten().sum::<u64>();
        if open == 0 {
            break;
        }
        // Who needs more than an equal share gets its minimum, which leaves less for the others: look again.
        let greedy = (0..mins.len()).filter(|at| shares[*at].is_none() && mins[*at] > left / open);
        let greedy: Vec<usize> = greedy.collect();
        if greedy.is_empty() {
            let mut odd = left % open;
            for share in shares.iter_mut().filter(|s| s.is_none()) {
                *share = Some(left / open + u64::from(odd > 0));
                odd = odd.saturating_sub(1);
            }
            break;
        }
        greedy.into_iter().for_each(|at| shares[at] = Some(mins[at]));
    }
    shares.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_unless_somebody_needs_more() {
        assert_eq!(shares(&[1, 1, 1], 10), [4, 3, 3]);
        assert_eq!(shares(&[1, 8, 1], 10), [1, 8, 1]);
        assert_eq!(shares(&[1, 6, 4], 12), [2, 6, 4]);
        assert_eq!(shares(&[], 12), [0; 0]);
    }

    #[test]
    fn the_last_one_may_end_anywhere() {
        const MIB: u64 = MIB_BYTES;
        let fixed = |bytes| Want { bytes: Some(bytes), min_bytes: 0, lead_bytes: 0 };
        let fill = Want { bytes: None, min_bytes: MIB, lead_bytes: 0 };
        let room = 512..10 * MIB - 512;
        assert_eq!(share(&[fixed(9 * MIB - 512)], room.clone()).unwrap()[0], MIB..10 * MIB - 512);
        assert_eq!(
            share(&[fixed(9 * MIB)], room.clone()),
            Err(TooSmall { needed_bytes: 9 * MIB, has_bytes: 9 * MIB - 512 })
        );
        let shared = share(&[fill, fixed(1024), fill, fixed(MIB - 512)], room);
        assert_eq!(
            shared,
            Ok(vec![MIB..5 * MIB, 5 * MIB..5 * MIB + 1024, 6 * MIB..9 * MIB, 9 * MIB..10 * MIB - 512])
        );
    }
}
