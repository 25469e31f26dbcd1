//! UDP: who serves this session? Questions, answers, and what strangers are told, all of the same size.
//!
//! A datagram is the magic `KAq`, `KAa` or `KAn`, a zero, the version, two zeros, then the encoded value, then zeros up
//! to [`limits::DISCOVERY_BYTES`]. Magic, version and a question's public key keep their places in every version.
//!
//! Questions and answers have tags. Only who has the session's key, and knows its name, can make or check the tag of a
//! question; the tag of an answer shows besides that the server made it, and for this question. What strangers are told
//! has no tag: they have nothing in common with the server.
//!
//! Absent: names of sessions, which no datagram has, and key pairs: what the asker's and the server's agree upon
//! (X25519) is an argument here.

use alloc::vec::Vec;
use core::net::SocketAddrV4;

use blake3::Hash;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::codec;
use super::malformed::{Malformed, VERSION};
use crate::crypto::session_key::Key;
use crate::limits;
use crate::types::{SessionId, SessionName};

/// Bytes of a tag.
const TAG_BYTES: usize = 32;

/// The secret shared by all parties that may ask for a session and answer for it.
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Of questions for the session of this name; `None`: of those for whichever session the host serves.
    #[must_use]
    pub fn new(key: &Key, session: Option<&SessionName>) -> Self {
        Self(key.derive("ka 1 discovery", session.map_or("", SessionName::as_str).as_bytes()))
    }
}

/// The question "Which server serves this session?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The asker's X25519 public key, made for this search. It comes back in the answer, so that a late answer to an
    /// older question is known.
    pub public: [u8; 32],
    /// Says which session is asked for, to those who have its key.
    pub tag: [u8; TAG_BYTES],
    /// The first asker, when one server on a host passes the question on to the others there. The tag is not about it.
    pub asker: Option<SocketAddrV4>,
}

impl Question {
    /// A question that its asker sends.
    #[must_use]
    pub fn new(secret: &Secret, public: [u8; 32]) -> Self {
        Self { public, tag: *question_tag(secret, &public).as_bytes(), asker: None }
    }

    /// Whether it was made with this secret.
    #[must_use]
    pub fn is_of(&self, secret: &Secret) -> bool {
        question_tag(secret, &self.public) == Hash::from_bytes(self.tag)
    }
}

/// "I do."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's.
    pub public: [u8; 32],
    /// The server's public key, the one that keys pin.
    pub server: [u8; 32],
    /// Which session this is: two servers of one name have two of these.
    pub session: SessionId,
    /// The port of the control connection, at the address this answer came from.
    pub control_port: u16,
    /// Whether the server is itself still asking if another one was there first.
    pub probing: bool,
    /// Shows that this server has said all of this, in answer to this question.
    pub tag: [u8; TAG_BYTES],
}

impl Answer {
    /// The same with its tag. `agreed` is what the asker's key pair and the server's agree upon.
    #[must_use]
    pub fn tagged(self, secret: &Secret, agreed: &[u8; 32]) -> Self {
        Self { tag: *answer_tag(&self, secret, agreed).as_bytes(), ..self }
    }

    /// Whether it has the tag that it must have. Whose [`server`](Self::server) is, the asker's key tells.
    #[must_use]
    pub fn is_true(&self, secret: &Secret, agreed: &[u8; 32]) -> bool {
        answer_tag(self, secret, agreed) == Hash::from_bytes(self.tag)
    }
}

/// "There is a server here, and it does not know this key."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    /// The question's.
    pub public: [u8; 32],
    /// Whether it wants a key at all.
    pub secure: bool,
}

fn question_tag(secret: &Secret, public: &[u8; 32]) -> Hash {
    tag(&secret.0, b"question", public)
}

fn answer_tag(answer: &Answer, secret: &Secret, agreed: &[u8; 32]) -> Hash {
    let key = Zeroizing::new(*blake3::keyed_hash(&secret.0, agreed).as_bytes());
    let bytes = encoded(answer);
    tag(&key, b"answer", &bytes[..bytes.len() - TAG_BYTES])
}

fn tag(key: &[u8; 32], title: &[u8], about: &[u8]) -> Hash {
    blake3::Hasher::new_keyed(key).update(title).update(about).finalize()
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

/// The bytes of what a stranger is told.
#[must_use]
pub fn encode_stranger(s: &Stranger) -> Vec<u8> {
    datagram(b'n', s)
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

/// Reads what a stranger is told.
///
/// # Errors
/// [`Malformed`] if it is none; [`Malformed::Version`] if it is one of another version.
pub fn decode_stranger(bytes: &[u8]) -> Result<Stranger, Malformed> {
    open(b'n', bytes)
}

/// Encodes a server's answer to a question of another version, of which these are the bytes: it states only the version of
/// the server, and repeats the question's public key.
#[must_use]
pub fn encode_version_answer(question: &[u8]) -> Vec<u8> {
    let mut bytes = head(b'a');
    bytes.resize(limits::DISCOVERY_BYTES, 0);
    if let Some(public) = question.get(PUBLIC) {
        bytes[HEAD..HEAD + 2].copy_from_slice(&(public.len() as u16).to_le_bytes());
        bytes[PUBLIC].copy_from_slice(public);
    }
    bytes
}

/// Whether an answer of another version is to the question with this public key. Who has not seen the question cannot
/// know that.
#[must_use]
pub fn is_version_answer_to(bytes: &[u8], public: &[u8; 32]) -> bool {
    bytes.get(PUBLIC).is_some_and(|echoed| echoed == public)
}

const HEAD: usize = 8;

/// The place of the public key in a question, and in the answer to one of another version. Every version keeps it.
const PUBLIC: core::ops::Range<usize> = HEAD + 2..HEAD + 2 + 32;

fn head(letter: u8) -> Vec<u8> {
    let v = VERSION.to_le_bytes();
    Vec::from([b'K', b'A', letter, 0, v[0], v[1], 0, 0])
}

fn datagram<T: Serialize>(letter: u8, value: &T) -> Vec<u8> {
    let body = encoded(value);
    let mut bytes = head(letter);
    bytes.extend((body.len() as u16).to_le_bytes());
    bytes.extend(body);
    debug_assert!(bytes.len() <= limits::DISCOVERY_BYTES);
    bytes.resize(limits::DISCOVERY_BYTES, 0);
    bytes
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode_discovery(value).expect("each value has a fixed size, and a datagram has room for it")
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

    fn secret(token: u8, session: &str) -> Secret {
        Secret::new(&Key::new([token; 12], &[9; 32]), Some(&SessionName::new(session).unwrap()))
    }

    #[test]
    fn the_longest_question_fits_and_comes_back() {
        let asker = Some(SocketAddrV4::new(Ipv4Addr::BROADCAST, 65535));
        let q = Question { asker, ..Question::new(&secret(1, "a"), [255; 32]) };
        let bytes = encode_question(&q);
        assert_eq!(bytes.len(), limits::DISCOVERY_BYTES);
        assert_eq!(decode_question(&bytes), Ok(q));
        assert_eq!(decode_answer(&bytes), Err(Malformed::Magic));
        assert_eq!(decode_stranger(&bytes), Err(Malformed::Magic));
        assert_eq!(decode_question(&bytes[..200]), Err(Malformed::Content));
    }

    #[test]
    fn a_question_is_known_by_key_and_name_and_whoever_asked_first() {
        let mut q = Question::new(&secret(1, "a"), [5; 32]);
        q.asker = Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
        assert!(q.is_of(&secret(1, "a")));
        for other in [secret(2, "a"), secret(1, "b"), Secret::new(&Key::new([1; 12], &[9; 32]), None)] {
            assert!(!q.is_of(&other));
        }
        q.public[0] ^= 1;
        assert!(!q.is_of(&secret(1, "a")));
    }

    #[test]
    fn an_answer_is_true_with_everything_that_it_was_made_of() {
        let answer = Answer {
            public: [5; 32],
            server: [6; 32],
            session: SessionId([7; 16]),
            control_port: 8,
            probing: false,
            tag: [0; TAG_BYTES],
        };
        let answer = answer.tagged(&secret(1, "a"), &[3; 32]);
        assert!(answer.is_true(&secret(1, "a"), &[3; 32]));
        assert!(!answer.is_true(&secret(1, "b"), &[3; 32]));
        assert!(!answer.is_true(&secret(1, "a"), &[4; 32]));
        let again = answer.clone().tagged(&secret(1, "a"), &[3; 32]);
        assert_eq!(again, answer, "the tag is not about itself");
    }

    #[test]
    fn an_answer_of_another_version_says_which() {
        let question = encode_question(&Question::new(&secret(1, "a"), [5; 32]));
        let mut bytes = encode_version_answer(&question);
        bytes[4] = 7;
        assert_eq!(decode_answer(&bytes), Err(Malformed::Version(7)));
        assert!(is_version_answer_to(&bytes, &[5; 32]) && !is_version_answer_to(&bytes, &[6; 32]));
        assert!(!is_version_answer_to(&encode_version_answer(&[]), &[5; 32]));
        assert!(!is_version_answer_to(&bytes[..20], &[5; 32]));
    }
}
