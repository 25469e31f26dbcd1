//! The exit statuses: those of ka's other programs, as far as a partitioner has them.

use std::process::ExitCode;

use crate::write::Error;

/// How the program ends. The number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// It could not start.
    NoStart = 1,
    /// The command line is wrong.
    Usage = 2,
    /// It might be the wrong disk.
    Refused = 4,
    /// The desc is no desc, or does not fit; or no desc says what is on a disk.
    Source = 5,
    /// A tool failed on the way.
    Sink = 6,
}

impl Exit {
    /// Every status, and what it says to people.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Fine, "all is well"),
        (Self::NoStart, "it could not start: a file or a disk cannot be read, a tool is missing"),
        (Self::Usage, "the command line is wrong"),
        (Self::Refused, "refused: it might be the wrong disk; nothing was written"),
        (Self::Source, "the desc is wrong, or does not fit the disk; nothing was written"),
        (
            Self::Sink,
            "a tool failed on the way: `apply` leaves the disk unfinished, `mount` leaves nothing mounted",
        ),
    ];

    /// The status for an error of the library.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Refused(_) => Self::Refused,
            Error::Misfit(..) => Self::Source,
            Error::Missing(_) | Error::Io(..) | Error::Early(_) => Self::NoStart,
            Error::Names(_) => Self::Usage,
            Error::Failed(_) | Error::Wrong(..) => Self::Sink,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}
