//! Data links: a child dials its parent, says where it wants to resume, and the tape flows.
//!
//! Both sides begin with a [preface](super::preface::preface), and with a handshake unless the session is insecure.
//! Every frame then has a fixed header of eight bytes: its kind, three zeros, and the length of its body
//! (u32, little-endian). After a handshake all bodies but those of statements and blocks are sealed. Nothing
//! here goes through bincode: a block's body is raw payload, and the few fixed messages are written by hand.

use alloc::string::String;
use alloc::vec::Vec;

use super::malformed::Malformed;
use super::preface::TAG_BYTES;
use crate::limits;
use crate::types::{Epoch, NodeId, Offset, Position, SessionId, Watermarks, printable};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Child to parent, first: an [`Attach`].
    Attach = 1,
    /// Parent to child: a signed statement, see [`tape::chain`](crate::tape::chain).
    Statement = 2,
    /// Parent to child: the next block's payload, raw.
    Block = 3,
    /// Child to parent: a [`Grant`].
    Grant = 4,
    /// Parent to child: no, and the link ends; the body is a [`Refuse`].
    Refuse = 5,
    /// Parent to child: nothing to send, but alive. Its body says nothing. After a handshake the first
    /// accepts.
    Beat = 6,
}

/// A frame's header: its kind and the length of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of the frame.
    pub kind: Kind,
    /// The length of its body, in bytes.
    pub len: usize,
}

impl Header {
    /// The eight bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let l = (self.len as u32).to_le_bytes();
        [self.kind as u8, 0, 0, 0, l[0], l[1], l[2], l[3]]
    }

    /// Reads a header and holds the length against the limit of its kind, for such a body as sealing or a
    /// tag makes it.
    ///
    /// # Errors
    /// [`Malformed`] when there is no such kind, or its body would be too long.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let (kind, max) = match bytes[0] {
            1 => (Kind::Attach, ATTACH_BYTES + TAG_BYTES),
            2 => (Kind::Statement, limits::SEALED_STATEMENT_BYTES + TAG_BYTES),
            3 => (Kind::Block, limits::BLOCK_BYTES + TAG_BYTES),
            4 => (Kind::Grant, GRANT_BYTES + TAG_BYTES),
            5 => (Kind::Refuse, REFUSE_BYTES_MIN + limits::TEXT_BYTES + TAG_BYTES),
            6 => (Kind::Beat, TAG_BYTES),
            _ => return Err(Malformed::Magic),
        };
        if bytes[1..4] != [0; 3] {
            return Err(Malformed::Magic);
        }
        let len = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        if len > max { Err(Malformed::TooLong) } else { Ok(Self { kind, len }) }
    }
}

/// The message with which a child attaches to a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The session both are in.
    pub session: SessionId,
    /// The node that attaches.
    pub child: NodeId,
    /// By which view.
    pub epoch: Epoch,
    /// The positions up to which it and those below it hold the tape, and the offset up to which the parent may send.
    /// The parent sends what follows [`Watermarks::held`].
    pub grant: Grant,
}

/// Bytes of an [`Attach`].
pub const ATTACH_BYTES: usize = 16 + 4 + 4 + GRANT_BYTES;

impl Attach {
    /// The frame's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(ATTACH_BYTES);
        b.extend(self.session.0);
        b.extend(self.child.0.to_le_bytes());
        b.extend(self.epoch.0.to_le_bytes());
        b.extend(self.grant.encode());
        b
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// [`Malformed::Content`] unless it has exactly [`ATTACH_BYTES`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let b: &[u8; ATTACH_BYTES] = body.try_into().map_err(|_| Malformed::Content)?;
        Ok(Self {
            session: SessionId(part(b, 0)),
            child: NodeId(u32::from_le_bytes(part(b, 16))),
            epoch: Epoch(u32::from_le_bytes(part(b, 20))),
            grant: Grant::decode(&b[24..])?,
        })
    }
}

/// The message by which a child reports to its parent as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The verified positions of the child and those below it: the parent need not keep for them what is before.
    pub watermarks: Watermarks,
    /// The offset up to which the parent may send. Absolute, so a grant read twice does no harm; it never goes down.
    pub upto: Offset,
}

/// Bytes of a [`Grant`].
pub const GRANT_BYTES: usize = 16 * (limits::LOSSES + 1) + 8;

impl Grant {
    /// The frame's body.
    #[must_use]
    pub fn encode(&self) -> [u8; GRANT_BYTES] {
        let mut b = [0; GRANT_BYTES];
        for (at, bytes) in self.watermarks.0.iter().zip(b.chunks_exact_mut(16)) {
            bytes[..8].copy_from_slice(&at.item.to_le_bytes());
            bytes[8..].copy_from_slice(&at.offset.0.to_le_bytes());
        }
        b[GRANT_BYTES - 8..].copy_from_slice(&self.upto.0.to_le_bytes());
        b
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// [`Malformed::Content`] unless it has exactly [`GRANT_BYTES`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let b: &[u8; GRANT_BYTES] = body.try_into().map_err(|_| Malformed::Content)?;
        let number = |at| u64::from_le_bytes(part(b, at));
        let floor = |level| Position { item: number(16 * level), offset: Offset(number(16 * level + 8)) };
        Ok(Self {
            watermarks: Watermarks(core::array::from_fn(floor)),
            upto: Offset(number(GRANT_BYTES - 8)),
        })
    }
}

/// Why a parent does not take a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// The parent holds the tape from here on only, and the child lacks what was before.
    pub kept: Option<Offset>,
    /// In words.
    pub why: String,
}

/// Bytes of a [`Refuse`] without its words.
const REFUSE_BYTES_MIN: usize = 8;

impl Refuse {
    /// The frame's body; no more words than fit.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = Vec::from(self.kept.map_or(u64::MAX, |o| o.0).to_le_bytes());
        b.extend(printable(&self.why, limits::TEXT_BYTES).as_bytes());
        b
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// [`Malformed::Content`] when it is shorter than it must be.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let (kept, why) = body.split_first_chunk().ok_or(Malformed::Content)?;
        let kept = u64::from_le_bytes(*kept);
        let why = printable(&String::from_utf8_lossy(why), limits::TEXT_BYTES);
        Ok(Self { kept: (kept != u64::MAX).then_some(Offset(kept)), why })
    }
}

/// `N` bytes of `bytes` from `at`; both are constants of the formats above.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a constant range of a fixed array")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_holds_the_limit_of_its_kind() {
        let block = Header { kind: Kind::Block, len: limits::BLOCK_BYTES + TAG_BYTES };
        assert_eq!(Header::decode(block.encode()), Ok(block));
        assert_eq!(Header::decode(Header { len: block.len + 1, ..block }.encode()), Err(Malformed::TooLong));
        let beat = Header { kind: Kind::Beat, len: TAG_BYTES };
        assert_eq!(Header::decode(beat.encode()), Ok(beat));
        assert_eq!(Header::decode(Header { len: beat.len + 1, ..beat }.encode()), Err(Malformed::TooLong));
        assert_eq!(Header::decode([9, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed::Magic));
        assert_eq!(Header::decode([3, 1, 0, 0, 0, 0, 0, 0]), Err(Malformed::Magic));
    }
}
