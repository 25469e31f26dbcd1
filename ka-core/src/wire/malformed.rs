//! Why bytes are no message, and the version that they would have to be of.

use core::fmt;

/// Why bytes from a peer are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes do not begin as a message of ka does.
    Magic,
    /// The bytes are of another version of the protocol, this one.
    Version(u16),
    /// The bytes state a length that is more than such a message may have.
    TooLong,
    /// The bytes end too early, go on too long, or do not decode.
    Content,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("not a message of ka"),
            Self::Version(v) => write!(
                f,
                "the other side speaks protocol version {v}, this one {}: use the same release on both",
                VERSION
            ),
            Self::TooLong => f.write_str("the message is longer than such a message may be"),
            Self::Content => f.write_str("the message does not decode"),
        }
    }
}

impl core::error::Error for Malformed {}

/// The version of the protocol. Two sides that differ refuse each other, with words.
pub const VERSION: u16 = 3;
