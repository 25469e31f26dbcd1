//! Why a wrong byte goes nowhere: signed statements that announce every block before it comes.
//!
//! ```text
//!   Begin ▶ Segment ▶ block block … block ▶ Segment ▶ block … ▶ End ▶ Begin ▶ … ▶ End ▶ Close
//!   └──┬──┘ └───────┬─────────────────────┘
//!   signed    hashes of the blocks that follow, signed
//! ```
//!
//! The tape of a session is a sequence of items: statements, and blocks of payload. Each statement extends a
//! chain of BLAKE3 values and carries the server's Ed25519 signature of the chain so far. Who has followed
//! the chain from the session's identity on therefore knows that nothing was left out, added, changed or
//! taken from another session; and a block counts only if the last segment announced its hash for this very
//! place. A relay that lies, an old parent, a new one: whoever feeds a node, it gets the true bytes or nothing.
//!
//! What is said of a stream (its name, what went wrong) is encrypted with the session's
//! [`PayloadKey`] before it is signed, as its bytes are.
//!
//! The [`Sealer`] is the root's half, the [`Checker`] everybody's. Neither does any IO or keeps a block.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::crypto::payload::{Keystream, Part, PayloadKey};
use crate::limits::{self, BLOCK_BYTES, SEGMENT_BLOCKS};
use crate::types::{Position, SessionId};
use crate::wire::{Malformed, codec};

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// The hash of a block, as a segment announces it.
#[must_use]
pub fn hash(block: &[u8]) -> Hash {
    *blake3::hash(block).as_bytes()
}

/// A statement of the server about its tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// A stream begins.
    Begin(StreamInfo),
    /// These blocks come next.
    Segment(Segment),
    /// The stream has ended.
    End(StreamEnd),
    /// No further stream comes.
    Close,
}

/// The facts about a stream that are known before its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// 0 for the session's first stream, then counting up.
    pub number: u32,
    /// Its name, for people and for the application.
    pub name: String,
    /// Whatever the application wants the nodes to know.
    pub metadata: Vec<u8>,
    /// Its length in bytes where the source knows it beforehand. For progress only: [`StreamEnd`] decides.
    pub size: Option<u64>,
}

/// The next blocks of a stream: all full but the last, which has `last_bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Bytes of the last block, 1 to [`BLOCK_BYTES`].
    pub last_bytes: u32,
    /// The hash of each block, 1 to [`SEGMENT_BLOCKS`] of them.
    pub hashes: Vec<Hash>,
}

/// The end of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// Its length in bytes.
    pub length: u64,
    /// The failure of the source, if there was one. Then no node may take the stream for complete.
    pub failure: Option<String>,
}

/// A [`Statement`] as it is signed and sent: what is said of a stream is encrypted.
#[derive(Serialize, Deserialize)]
enum Sealed {
    Begin {
        number: u32,
        /// An [`About`].
        about: Vec<u8>,
    },
    Segment(Segment),
    End {
        length: u64,
        /// The failure of the source.
        failure: Option<Vec<u8>>,
    },
    Close,
}

/// A [`StreamInfo`] but for the number.
#[derive(Serialize, Deserialize)]
struct About {
    name: String,
    metadata: Vec<u8>,
    size: Option<u64>,
}

impl Statement {
    /// Encodes the statement for its signature. `open` is its stream's number, if the statement does not contain it.
    ///
    /// # Errors
    /// [`Malformed::TooLong`] beyond [`limits::STATEMENT_BYTES`].
    pub fn encode(&self, payload: &PayloadKey, open: u32) -> Result<Vec<u8>, Malformed> {
        codec::encode_statement(&match self {
            Self::Begin(StreamInfo { number, name, metadata, size }) => {
                let about = About { name: name.clone(), metadata: metadata.clone(), size: *size };
                let about = payload.words(*number, Part::Begin, codec::encode_statement(&about)?);
                Sealed::Begin { number: *number, about }
            }
            Self::Segment(segment) => Sealed::Segment(segment.clone()),
            Self::End(StreamEnd { length, failure }) => {
                let words = |why: &String| payload.words(open, Part::End, why.clone().into());
                Sealed::End { length: *length, failure: failure.as_ref().map(words) }
            }
            Self::Close => Sealed::Close,
        })
    }

    /// Reads what [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// [`Malformed`] unless it is exactly one statement; with another key one that says words is none.
    pub fn decode(content: &[u8], payload: &PayloadKey, open: u32) -> Result<Self, Malformed> {
        Ok(match codec::decode_statement(content)? {
            Sealed::Begin { number, about } => {
                let about = payload.words(number, Part::Begin, about);
                let About { name, metadata, size } = codec::decode_statement(&about)?;
                Self::Begin(StreamInfo { number, name, metadata, size })
            }
            Sealed::Segment(segment) => Self::Segment(segment),
            Sealed::End { length, failure } => {
                let words = |why| String::from_utf8(payload.words(open, Part::End, why));
                let failure = failure.map(words).transpose().map_err(|_| Malformed::Content)?;
                Self::End(StreamEnd { length, failure })
            }
            Sealed::Close => Self::Close,
        })
    }
}

/// Why an item is not what the server would have sent: the sentence says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tainted {
    /// A statement whose signature does not fit the chain.
    Signature,
    /// A statement that does not decode or breaks its limits.
    Statement,
    /// A statement or block where none of its kind may stand.
    Order,
    /// A block whose hash is not the announced one.
    Block,
}

impl fmt::Display for Tainted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "an announcement whose signature is not the server's",
            Self::Statement => "an announcement that makes no sense",
            Self::Order => "something that does not belong at this place of the stream",
            Self::Block => "a block that is not the announced one",
        })
    }
}

/// The chain of statements: what both halves compute alike.
#[derive(Clone)]
struct Chain {
    session: SessionId,
    value: Hash,
}

impl Chain {
    fn new(session: SessionId) -> Self {
        Self { session, value: blake3::derive_key("ka tape v1", &session.0) }
    }

    /// The chain's value with `content` added.
    fn with(&self, content: &[u8]) -> Hash {
        *blake3::Hasher::new().update(&self.value).update(content).finalize().as_bytes()
    }

    /// The message that is signed: the purpose, the session and the chain's value.
    fn message(&self, value: &Hash) -> [u8; 48 + 16] {
        let mut m = [0; 64];
        m[..16].copy_from_slice(b"ka statement v1\0");
        m[16..32].copy_from_slice(&self.session.0);
        m[32..].copy_from_slice(value);
        m
    }
}

/// The root's half: states and signs.
pub struct Sealer {
    key: SigningKey,
    payload: PayloadKey,
    chain: Chain,
    /// The number of the stream that is open, or was last.
    stream: u32,
}

impl Sealer {
    /// A sealer for a session, with the 32 random bytes of its secret key.
    #[must_use]
    pub fn new(session: SessionId, secret: [u8; 32], payload: PayloadKey) -> Self {
        Self { key: SigningKey::from_bytes(&secret), payload, chain: Chain::new(session), stream: 0 }
    }

    /// A sealer with the same keys that goes on from another value of the chain.
    #[must_use]
    pub fn from(&self, chain: Hash) -> Self {
        let chain = Chain { session: self.chain.session, value: chain };
        Self { key: self.key.clone(), payload: self.payload.clone(), chain, stream: self.stream }
    }

    /// The keystream for the bytes of this stream: whoever seals blocks encrypts them first.
    #[must_use]
    pub fn keystream(&self, stream: u32) -> Option<Keystream> {
        self.payload.keystream(stream, Part::Bytes)
    }

    /// The key with which every node checks: it goes into each welcome.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The chain's value: what every node's [`Checker`] must come to, too.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.chain.value
    }

    /// Signs the next statement and gives the body of its frame.
    pub fn seal(&mut self, statement: &Statement) -> Bytes {
        if let Statement::Begin(info) = statement {
            self.stream = info.number;
        }
        let content = statement
            .encode(&self.payload, self.stream)
            .expect("the caller keeps the limits of a statement's parts");
        self.chain.value = self.chain.with(&content);
        let signature = self.key.sign(&self.chain.message(&self.chain.value));
        let mut body = Vec::with_capacity(limits::SIGNATURE_BYTES + content.len());
        body.extend(signature.to_bytes());
        body.extend(content);
        body.into()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("session", &self.chain.session).finish_non_exhaustive()
    }
}

/// Everybody's half: follows the chain, and knows which block may come next.
pub struct Checker {
    key: VerifyingKey,
    payload: PayloadKey,
    chain: Chain,
    position: Position,
    /// The announced blocks that have not come yet, with their lengths.
    announced: VecDeque<(usize, Hash)>,
    stream: StreamState,
    streams: u32,
}

/// The checker's place on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamState {
    /// Before a stream's beginning.
    Between,
    /// Inside one, so many bytes announced.
    Open { announced: u64 },
    /// Behind the last.
    Closed,
}

impl Checker {
    /// A checker at the start of a session's tape. `None` if `key` is no Ed25519 public key.
    #[must_use]
    pub fn new(session: SessionId, key: &[u8; 32], payload: PayloadKey) -> Option<Self> {
        Some(Self {
            key: VerifyingKey::from_bytes(key).ok()?,
            payload,
            chain: Chain::new(session),
            position: Position::START,
            announced: VecDeque::new(),
            stream: StreamState::Between,
            streams: 0,
        })
    }

    /// Checks the next item, a sealed statement, and reads it.
    ///
    /// # Errors
    /// [`Tainted`], and the checker stays where it was.
    pub fn statement(&mut self, body: &[u8]) -> Result<Statement, Tainted> {
        let (signature, content) =
            body.split_at_checked(limits::SIGNATURE_BYTES).ok_or(Tainted::Statement)?;
        let signature = Signature::from_slice(signature).map_err(|_| Tainted::Signature)?;
        let value = self.chain.with(content);
        self.key.verify_strict(&self.chain.message(&value), &signature).map_err(|_| Tainted::Signature)?;
        let open = self.streams.saturating_sub(1);
        let statement = Statement::decode(content, &self.payload, open).map_err(|_| Tainted::Statement)?;
        self.accept(&statement)?;
        self.chain.value = value;
        self.position = self.position.after(0);
        Ok(statement)
    }

    /// Checks the next item, a block.
    ///
    /// # Errors
    /// [`Tainted`], and the checker stays where it was.
    pub fn block(&mut self, body: &[u8]) -> Result<(), Tainted> {
        self.hashed(body.len(), &hash(body))
    }

    /// Checks the next item, a block of so many bytes with this hash.
    ///
    /// # Errors
    /// [`Tainted`], and the checker stays where it was.
    pub fn hashed(&mut self, len: usize, hash: &Hash) -> Result<(), Tainted> {
        let announced = self.announced.front().ok_or(Tainted::Order)?;
        if (len, *hash) != *announced {
            return Err(Tainted::Block);
        }
        self.announced.pop_front();
        self.position = self.position.after(len as u64);
        Ok(())
    }

    /// The lengths of the blocks that are announced and have not come yet, in their order.
    pub fn announced(&self) -> impl Iterator<Item = usize> {
        self.announced.iter().map(|(len, _)| *len)
    }

    /// The end of what was checked so far.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The chain's value: after [`Statement::Close`], the proof that a node saw the whole tape.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.chain.value
    }

    /// Whether the tape is complete.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.stream == StreamState::Closed
    }

    /// The grammar of the tape. The signature is the server's by now, so a breach is a bug of the server.
    fn accept(&mut self, statement: &Statement) -> Result<(), Tainted> {
        if !self.announced.is_empty() {
            return Err(Tainted::Order);
        }
        match (statement, self.stream) {
            (Statement::Begin(info), StreamState::Between) => {
                if info.number != self.streams
                    || info.number >= limits::STREAMS
                    || info.name.len() > limits::STREAM_NAME_BYTES
                    || info.metadata.len() > limits::STREAM_METADATA_BYTES
                {
                    return Err(Tainted::Statement);
                }
                self.streams += 1;
                self.stream = StreamState::Open { announced: 0 };
            }
            (Statement::Segment(s), StreamState::Open { announced }) => {
                let last = s.last_bytes as usize;
                if s.hashes.is_empty() || s.hashes.len() > SEGMENT_BLOCKS || last == 0 || last > BLOCK_BYTES {
                    return Err(Tainted::Statement);
                }
                let full = s.hashes.len() - 1;
                self.announced.extend(s.hashes[..full].iter().map(|h| (BLOCK_BYTES, *h)));
                self.announced.push_back((last, s.hashes[full]));
                self.stream = StreamState::Open { announced: announced + (full * BLOCK_BYTES + last) as u64 };
            }
            (Statement::End(end), StreamState::Open { announced }) => {
                if end.length != announced {
                    return Err(Tainted::Statement);
                }
                self.stream = StreamState::Between;
            }
            (Statement::Close, StreamState::Between) => self.stream = StreamState::Closed,
            _ => return Err(Tainted::Order),
        }
        Ok(())
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker")
            .field("position", &self.position)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId([7; 16]);
    const KEY: PayloadKey = PayloadKey::Aes256([3; 32]);

    fn pair() -> (Sealer, Checker) {
        let sealer = Sealer::new(SESSION, [1; 32], KEY);
        let checker = Checker::new(SESSION, &sealer.public_key(), KEY).unwrap();
        (sealer, checker)
    }

    fn begin(number: u32) -> Statement {
        Statement::Begin(StreamInfo { number, name: "s".into(), metadata: Vec::new(), size: None })
    }

    fn segment(blocks: &[&[u8]]) -> Statement {
        Statement::Segment(Segment {
            last_bytes: blocks.last().unwrap().len() as u32,
            hashes: blocks.iter().map(|b| hash(b)).collect(),
        })
    }

    fn end(length: u64) -> Statement {
        Statement::End(StreamEnd { length, failure: None })
    }

    #[test]
    fn a_tape_is_followed_to_its_close() {
        let (mut s, mut c) = pair();
        let full = [5; BLOCK_BYTES];
        for st in [begin(0), segment(&[&full, b"tail"])] {
            assert_eq!(c.statement(&s.seal(&st)).as_ref(), Ok(&st));
        }
        c.block(&full).unwrap();
        c.block(b"tail").unwrap();
        for st in [end(BLOCK_BYTES as u64 + 4), begin(1), end(0), Statement::Close] {
            c.statement(&s.seal(&st)).unwrap();
        }
        assert!(c.closed());
        assert_eq!(c.position().item, 8);
        assert_eq!(c.position().offset.0, BLOCK_BYTES as u64 + 4);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_tainted_and_leaves_the_checker_where_it_was() {
        let (mut s, mut c) = pair();
        let good = s.seal(&begin(0));
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(c.statement(&bad).is_err(), "bit {bit}");
        }
        c.statement(&good).unwrap();
        c.statement(&s.seal(&segment(&[b"data"]))).unwrap();
        assert_eq!(c.block(b"dat4"), Err(Tainted::Block));
        assert_eq!(c.block(b"dat"), Err(Tainted::Block));
        assert_eq!(c.block(b"data"), Ok(()));
        assert_eq!(c.block(b"data"), Err(Tainted::Order));
    }

    #[test]
    fn nothing_can_be_left_out_repeated_or_taken_from_another_session() {
        let (mut s, mut c) = pair();
        let (first, second) = (s.seal(&begin(0)), s.seal(&end(0)));
        assert_eq!(c.statement(&second), Err(Tainted::Signature));
        c.statement(&first).unwrap();
        assert_eq!(c.statement(&first), Err(Tainted::Signature));

        let mut other = Sealer::new(SessionId([8; 16]), [1; 32], KEY);
        let (_, mut fresh) = pair();
        assert_eq!(fresh.statement(&other.seal(&begin(0))), Err(Tainted::Signature));
    }

    #[test]
    fn a_signed_breach_of_the_grammar_is_refused() {
        for breach in [begin(1), end(0), segment(&[b"x"])] {
            let (mut s, mut c) = pair();
            assert!(c.statement(&s.seal(&breach)).is_err(), "{breach:?}");
        }
        let (mut s, mut c) = pair();
        c.statement(&s.seal(&begin(0))).unwrap();
        assert_eq!(c.statement(&s.seal(&end(1))), Err(Tainted::Statement));
    }

    #[test]
    fn what_is_said_of_a_stream_is_for_members_only() {
        let (mut s, mut c) = pair();
        let (name, metadata) = (String::from("golden.img"), b"/dev/disk/golden".to_vec());
        let begin = Statement::Begin(StreamInfo { number: 0, name, metadata, size: Some(5) });
        let end = Statement::End(StreamEnd { length: 0, failure: Some("golden.img is gone".into()) });
        for statement in [begin, end] {
            let sealed = s.seal(&statement);
            assert!(!sealed.windows(6).any(|w| w == b"golden"));
            assert_eq!(c.statement(&sealed), Ok(statement));
        }
    }
}
