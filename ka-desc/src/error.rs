//! The error of this crate, and of those that work on machines with it.

use std::{error, fmt, io};

/// Something could not be done. Its text is a sentence that says what, to what and why, with the way out where there is
/// one.
#[derive(Debug)]
pub struct Error(Why);

#[derive(Debug)]
enum Why {
    Text(String),
    Cause(Box<dyn error::Error + Send + Sync>),
}

impl Error {
    /// An error that passes on another one, with its text.
    #[must_use]
    pub fn from_cause(cause: impl error::Error + Send + Sync + 'static) -> Self {
        Self(Why::Cause(Box::new(cause)))
    }

    /// The error of another type that this one passes on, if it is a `T`: such as a
    /// [`FileError`](crate::system::tree::FileError), a [`Failure`](crate::run::Failure) of a command, or an [`io::Error`].
    #[must_use]
    pub fn cause<T: error::Error + 'static>(&self) -> Option<&T> {
        match &self.0 {
            Why::Text(_) => None,
            Why::Cause(cause) => cause.downcast_ref(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Text(text) => f.write_str(text),
            Why::Cause(cause) => cause.fmt(f),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.0 {
            Why::Text(_) => None,
            Why::Cause(cause) => cause.source(),
        }
    }
}

impl From<String> for Error {
    fn from(sentence: String) -> Self {
        Self(Why::Text(sentence))
    }
}

impl From<&str> for Error {
    fn from(sentence: &str) -> Self {
        Self(Why::Text(sentence.into()))
    }
}

impl From<io::Error> for Error {
    fn from(cause: io::Error) -> Self {
        Self::from_cause(cause)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_that_is_passed_on_keeps_its_text_its_type_and_its_source() {
        let error = Error::from(io::Error::other(fmt::Error));
        assert_eq!(error.to_string(), fmt::Error.to_string());
        assert!(error.cause::<io::Error>().is_some() && error.cause::<fmt::Error>().is_none());
        let sentence = Error::from("there is no disk");
        assert!(sentence.to_string() == "there is no disk" && sentence.source().is_none());
    }
}
