//! The lies that a host with the key may tell.

use alloc::borrow::ToOwned;

use crate::types::Offset;
use crate::wire::control::LinkFault;

/// A lie that a host tells from some time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// To its parent: no node below it lacks anything.
    Inflate,
    /// To its parent: those below it have nothing.
    Deflate,
    /// To the server: nothing more reaches it.
    Understate,
    /// To the server: a byte reaches it every few seconds.
    Trickle,
    /// To the server: 10 GiB more have reached it, each time.
    Boast,
    /// To the server: nothing of its end.
    Conceal,
    /// To the server: its parent sent false bytes; at once and whenever it has a new parent.
    Accuse,
    /// To the server: its parent holds nothing of the tape, likewise.
    Poison,
    /// To the server: its parent cannot be reached, likewise.
    Complain,
    /// To the server: its window is full because of a child.
    Blame,
    /// To the server: its link is lost and up again, each time.
    Flap,
    /// To the server: any message but a receipt, of any numbers, with each true one.
    Babble,
}

/// All lies.
pub const LIES: [Lie; 12] = [
    Lie::Inflate,
    Lie::Deflate,
    Lie::Understate,
    Lie::Trickle,
    Lie::Boast,
    Lie::Conceal,
    Lie::Accuse,
    Lie::Poison,
    Lie::Complain,
    Lie::Blame,
    Lie::Flap,
    Lie::Babble,
];

impl Lie {
    /// The fault of the link that the lie tells of.
    pub(super) fn fault(self) -> Option<LinkFault> {
        match self {
            Self::Accuse => Some(LinkFault::Tainted("a lie".to_owned())),
            Self::Poison => Some(LinkFault::Gone(Offset(u64::MAX))),
            Self::Complain => Some(LinkFault::Unreachable("a lie".to_owned())),
            _ => None,
        }
    }
}
