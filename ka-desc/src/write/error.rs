//! Why a disk was not written, or not to its end.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::format::Tool;
use crate::error;
use crate::layout::Misfit;
use crate::machine::Refusal;
use crate::run::Failure;

/// Why a disk was not written, or not to its end.
#[derive(Debug)]
pub enum Error {
    /// The disk might be the wrong one. Nothing was written.
    Refused(Vec<Refusal>),
    /// Desc and disk do not fit together. Nothing was written.
    Misfit(PathBuf, Vec<Misfit>),
    /// Programs are missing. Nothing was written.
    Missing(Vec<Tool>),
    /// The desc and what was named for it do not go together. Nothing was written.
    Names(String),
    /// A device or a directory cannot be used.
    Io(PathBuf, io::Error),
    /// A command failed before anything was written.
    Early(Failure),
    /// A command failed on the way.
    Failed(Failure),
    /// The disk has not become what was planned.
    Wrong(PathBuf, Vec<String>),
}

impl Error {
    /// The same, if nothing was written yet.
    pub(super) fn early(self) -> Self {
        match self {
            Self::Failed(failure) => Self::Early(failure),
            other => other,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn lines(list: impl IntoIterator<Item = impl fmt::Display>) -> String {
            list.into_iter().map(|line| line.to_string()).collect::<Vec<_>>().join("\n")
        }
        match self {
            Self::Refused(list) => f.write_str(&lines(list)),
            Self::Misfit(path, list) => {
                f.write_str(&lines(list.iter().map(|m| format!("{}: {m}", path.display()))))
            }
            Self::Missing(list) => {
                let tool = |t: &Tool| {
                    format!("there is no {}: install it (Debian's package {})", t.program, t.package)
                };
                f.write_str(&lines(list.iter().map(tool)))
            }
            Self::Names(what) => f.write_str(what),
            Self::Io(path, e) if e.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{}: {e}; run it as root, or as somebody who may", path.display())
            }
            Self::Io(path, e) => write!(f, "{}: {e}", path.display()),
            Self::Early(failure) | Self::Failed(failure) => failure.fmt(f),
            Self::Wrong(path, list) => {
                write!(f, "{} has not become what was planned: {}", path.display(), list.join("; "))
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for error::Error {
    fn from(cause: Error) -> Self {
        Self::from_cause(cause)
    }
}
