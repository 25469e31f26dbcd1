//! UDP: who serves this session? A question and an answer of the same size.
//!
//! A datagram is the magic `KAq` or `KAa`, a zero, the version, two zeros, then the encoded value, then zeros up
//! to [`limits::DISCOVERY_BYTES`]. Magic and version keep their places in every version.

use alloc::vec::Vec;
use core::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use super::VERSION;
use super::codec::{self, Malformed};
use crate::limits;
use crate::types::{SessionId, SessionName};

/// "Who serves this session?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Comes back in the answer, so that a late answer to an older question is known.
    pub nonce: u64,
    /// The session asked for. `None`, allowed only when the question goes to one host: whichever it serves.
    pub session: Option<SessionName>,
    /// Who asked first, when one server on a host passes the question on to the others there.
    pub asker: Option<SocketAddrV4>,
}

/// "I do."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's.
    pub nonce: u64,
    /// Which session this is: two servers of one name have two of these.
    pub session: SessionId,
    /// Where the control connection goes, at the address this answer came from.
    pub control_port: u16,
    /// Whether the server is itself still asking if another one was there first.
    pub probing: bool,
}

/// The bytes of a question.
#[must_use]
pub fn encode_question(q: &Question) -> Vec<u8> {
    datagram(b'q', q)
}

/// The bytes of an answer.
#[must_use]
pub fn encode_answer(a: &Answer) -> Vec<u8> {
    datagram(b'a', a)
}

/// Reads a question.
///
/// # Errors
/// [`Malformed`] if it is none; [`Malformed::Version`] if it is one of another version.
pub fn decode_question(bytes: &[u8]) -> Result<Question, Malformed> {
    open(b'q', bytes)
}

/// Reads an answer.
///
/// # Errors
/// [`Malformed`] if it is none; [`Malformed::Version`] if it is one of another version.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, Malformed> {
    open(b'a', bytes)
}

/// What a server sends back to a question of another version: an answer that says only which version it speaks.
#[must_use]
pub fn encode_version_answer() -> Vec<u8> {
    let mut bytes = head(b'a');
    bytes.resize(limits::DISCOVERY_BYTES, 0);
    bytes
}

const HEAD: usize = 8;

fn head(letter: u8) -> Vec<u8> {
    let v = VERSION.to_le_bytes();
    Vec::from([b'K', b'A', letter, 0, v[0], v[1], 0, 0])
}

fn datagram<T: Serialize>(letter: u8, value: &T) -> Vec<u8> {
    let body = codec::encode_discovery(value).expect("names are bounded, so a datagram has room");
    let mut bytes = head(letter);
    bytes.extend((body.len() as u16).to_le_bytes());
    bytes.extend(body);
    debug_assert!(bytes.len() <= limits::DISCOVERY_BYTES);
    bytes.resize(limits::DISCOVERY_BYTES, 0);
    bytes
}

fn open<T: serde::de::DeserializeOwned>(letter: u8, bytes: &[u8]) -> Result<T, Malformed> {
    if bytes.len() < HEAD || bytes[..4] != [b'K', b'A', letter, 0] {
        return Err(Malformed::Magic);
    }
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    // A datagram of another size is refused: a short question would let its answer amplify it.
    if bytes.len() != limits::DISCOVERY_BYTES {
        return Err(Malformed::Content);
    }
    let len = usize::from(u16::from_le_bytes([bytes[HEAD], bytes[HEAD + 1]]));
    let body = bytes[HEAD + 2..].get(..len).ok_or(Malformed::Content)?;
    codec::decode_discovery(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn the_longest_question_fits_and_comes_back() {
        let q = Question {
            nonce: u64::MAX,
            session: Some(SessionName::new("x".repeat(limits::SESSION_NAME_BYTES)).unwrap()),
            asker: Some(SocketAddrV4::new(Ipv4Addr::BROADCAST, 65535)),
        };
        let bytes = encode_question(&q);
        assert_eq!(bytes.len(), limits::DISCOVERY_BYTES);
        assert_eq!(decode_question(&bytes), Ok(q));
        assert_eq!(decode_answer(&bytes), Err(Malformed::Magic));
        assert_eq!(decode_question(&bytes[..200]), Err(Malformed::Content));
    }

    #[test]
    fn an_answer_of_another_version_says_which() {
        let mut bytes = encode_version_answer();
        bytes[4] = 7;
        assert_eq!(decode_answer(&bytes), Err(Malformed::Version(7)));
    }
}
