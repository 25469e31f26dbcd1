//! The exit statuses, the same for both programs.

use std::process::ExitCode;

use crate::wire::control::{Outcome, Reason};

/// The outcome of a program. The number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// The program could not start.
    NoStart = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No server was found.
    NoServer = 3,
    /// The session is not for us.
    Refused = 4,
    /// The source did not end well.
    Source = 5,
    /// A sink did not end well.
    Sink = 6,
    /// The bytes stopped on the way.
    Lost = 7,
    /// Somebody stopped it.
    Interrupted = 8,
}

impl Exit {
    /// Every status, and what it says to people.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Fine, "all is well: every byte arrived, was checked, and was taken"),
        (Self::NoStart, "it could not start: a port, a file, or anything not named below"),
        (Self::Usage, "the command line is wrong"),
        (Self::NoServer, "no server was found, or it cannot be reached"),
        (Self::Refused, "refused: another key, already started, another version, name taken or not unique"),
        (Self::Source, "the source failed"),
        (Self::Sink, "the sink failed (server: the sink of a node)"),
        (Self::Lost, "lost on the way: a node or a link failed (server: or somebody stopped a node)"),
        (Self::Interrupted, "interrupted: somebody stopped it"),
    ];

    /// The exit status.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The table for help and manual pages.
    #[must_use]
    pub fn rows() -> Vec<(u8, &'static str)> {
        Self::ALL.iter().map(|(exit, says)| (exit.code(), *says)).collect()
    }

    /// The status of a node that ended like this.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Fine,
            Outcome::Failed(reason, _) => Self::of_reason(reason),
            _ => Self::Lost,
        }
    }

    fn of_reason(reason: &Reason) -> Self {
        match reason {
            Reason::Source(_) => Self::Source,
            Reason::Sink(_) => Self::Sink,
            Reason::Interrupted(_) => Self::Interrupted,
            _ => Self::Lost,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, Offset};

    #[test]
    fn the_table_has_every_status_once_and_in_order() {
        assert!(Exit::ALL.iter().enumerate().all(|(n, (exit, _))| usize::from(exit.code()) == n));
    }

    #[test]
    fn a_node_s_outcome_has_a_status() {
        let failed = |reason| Exit::of(&Outcome::Failed(reason, Offset(7)));
        assert_eq!(Exit::of(&Outcome::Ok), Exit::Fine);
        assert_eq!(failed(Reason::Source(String::new())), Exit::Source);
        assert_eq!(failed(Reason::Sink(String::new())), Exit::Sink);
        assert_eq!(failed(Reason::Lost(NodeId(3), String::new())), Exit::Lost);
        assert_eq!(failed(Reason::Tainted(NodeId(3), String::new())), Exit::Lost);
        assert_eq!(failed(Reason::Interrupted(String::new())), Exit::Interrupted);
        assert_eq!(Exit::of(&Outcome::Unknown), Exit::Lost);
    }
}
