//! The parent of each node at the start: a chain by default, a tree of a given fan-out if asked for.
//!
//! Members are numbered by rank, 0 the root. On a switch a chain uses every link once in each direction, which
//! no tree does; a tree is shorter. This is how a session starts; what becomes of a tree that lost members, the
//! [`coordinator`](super::coordinator) decides.

/// The rank of the parent of `rank` in a full tree of `fan_out`; `None` for the root.
///
/// A fan-out of 1 is a chain. Ranks are filled level by level, so the tree is as flat as it can be.
#[must_use]
pub fn parent(rank: usize, fan_out: usize) -> Option<usize> {
    rank.checked_sub(1).map(|r| r / fan_out.max(1))
}

/// The ranks of the children of `rank` among `members` ranks.
pub fn children(rank: usize, fan_out: usize, members: usize) -> impl Iterator<Item = usize> {
    let k = fan_out.max(1);
    let first = rank.saturating_mul(k).saturating_add(1);
    first.min(members)..first.saturating_add(k).min(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_fan_out_of_one_is_a_chain() {
        for rank in 1..10 {
            assert_eq!(parent(rank, 1), Some(rank - 1));
            assert_eq!(children(rank - 1, 1, 10).collect::<Vec<_>>(), [rank]);
        }
        assert_eq!(children(9, 1, 10).count(), 0);
    }

    #[test]
    fn a_fan_out_of_two_is_a_binary_tree() {
        assert_eq!(children(0, 2, 6).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(children(1, 2, 6).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(children(2, 2, 6).collect::<Vec<_>>(), [5]);
    }
}
