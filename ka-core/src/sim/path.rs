//! The paths between hosts, and when they are open: cuts of the network, and what TCP makes of them.
//!
//! What is sent across a cut is not lost but late: it arrives, in order, up to a second after the cut (that is when the
//! sender's kernel tries again). Nobody is told of a cut.

use alloc::vec::Vec;

use super::host::NEVER;
use crate::time::Instant;

/// The hosts from `first` to `last` are cut off from all the others for a while; those among them reach each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// Only what comes in is cut.
    pub(super) deaf: bool,
}

impl Cut {
    fn covers(&self, sender: u32, receiver: u32, at: Instant) -> bool {
        let within = |h| (self.first..=self.last).contains(&h);
        let between =
            within(receiver) && !within(sender) || !self.deaf && within(sender) && !within(receiver);
        between && (self.from..self.to).contains(&at)
    }
}

/// Every cut of a run, known beforehand.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub(super) cuts: Vec<Cut>,
    /// Nodes reach the server only.
    pub(super) isolated: bool,
    /// Hosts that large packets do not reach: which, from when on, and until when.
    pub(super) holes: Vec<(u32, Instant, Instant)>,
}

impl Paths {
    /// Until when nothing gets from `sender` to `receiver`, if that is so at `at`.
    pub(super) fn blocked(&self, sender: u32, receiver: u32, at: Instant) -> Option<Instant> {
        if self.isolated && sender != 0 && receiver != 0 {
            return Some(NEVER);
        }
        self.cuts.iter().find(|c| c.covers(sender, receiver, at)).map(|c| c.to)
    }

    /// Until when no large packet gets to `receiver`, if that is so at `at`.
    pub(super) fn hole(&self, receiver: u32, at: Instant) -> Option<Instant> {
        self.holes
            .iter()
            .find(|(h, from, to)| *h == receiver && (*from..*to).contains(&at))
            .map(|(.., to)| *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_cuts_its_hosts_off_and_a_deaf_host_is_still_heard() {
        let (from, to) = (Instant(10), Instant(20));
        let switch = Cut { first: 3, last: 5, from, to, deaf: false };
        assert!(switch.covers(3, 2, from) && switch.covers(0, 5, from));
        assert!(!switch.covers(3, 5, from) && !switch.covers(1, 2, from) && !switch.covers(3, 2, to));
        let deaf = Cut { first: 3, last: 3, deaf: true, ..switch };
        assert!(deaf.covers(2, 3, from) && !deaf.covers(3, 2, from));
    }
}
