//! Data links: a child dials its parent, says where it wants to resume, and the tape flows.
//!
//! Both sides begin with a [preface](super::preface). Every frame then has a fixed header of eight bytes: its kind,
//! three zeros, and the length of its body (u32, little-endian). Nothing here goes through bincode: a block's
//! body is raw payload, and the few fixed messages are written by hand.

use alloc::vec::Vec;

use super::codec::Malformed;
use crate::limits;
use crate::types::{Epoch, NodeId, Offset, Position, SessionId};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Child to parent, first: an [`Attach`].
    Attach = 1,
    /// Parent to child: a signed statement, see [`seal`](crate::seal).
    Statement = 2,
    /// Parent to child: the next block's payload, raw.
    Block = 3,
    /// Child to parent: a [`Grant`].
    Grant = 4,
    /// Parent to child: no, and the link ends; the body is the reason as text.
    Refuse = 5,
}

/// A frame's header: its kind and the length of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// How many bytes of it.
    pub len: usize,
}

impl Header {
    /// The eight bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let l = (self.len as u32).to_le_bytes();
        [self.kind as u8, 0, 0, 0, l[0], l[1], l[2], l[3]]
    }

    /// Reads a header and holds the length against the limit of its kind.
    ///
    /// # Errors
    /// [`Malformed`] when there is no such kind, or its body would be too long.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let (kind, max) = match bytes[0] {
            1 => (Kind::Attach, ATTACH_BYTES),
            2 => (Kind::Statement, crate::seal::SEALED_BYTES_MAX),
            3 => (Kind::Block, limits::BLOCK_BYTES),
            4 => (Kind::Grant, GRANT_BYTES),
            5 => (Kind::Refuse, limits::TEXT_BYTES),
            _ => return Err(Malformed::Magic),
        };
        if bytes[1..4] != [0; 3] {
            return Err(Malformed::Magic);
        }
        let len = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        if len > max { Err(Malformed::TooLong) } else { Ok(Self { kind, len }) }
    }
}

/// What a child says when it attaches to a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The session both are in.
    pub session: SessionId,
    /// Who attaches.
    pub child: NodeId,
    /// By which view.
    pub epoch: Epoch,
    /// What it holds: the parent sends what follows.
    pub resume: Position,
    /// How far the parent may send.
    pub upto: Offset,
}

/// Bytes of an [`Attach`].
pub const ATTACH_BYTES: usize = 16 + 4 + 4 + 8 + 8 + 8;

impl Attach {
    /// The frame's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(ATTACH_BYTES);
        b.extend(self.session.0);
        b.extend(self.child.0.to_le_bytes());
        b.extend(self.epoch.0.to_le_bytes());
        b.extend(self.resume.item.to_le_bytes());
        b.extend(self.resume.offset.0.to_le_bytes());
        b.extend(self.upto.0.to_le_bytes());
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
            resume: Position {
                item: u64::from_le_bytes(part(b, 24)),
                offset: Offset(u64::from_le_bytes(part(b, 32))),
            },
            upto: Offset(u64::from_le_bytes(part(b, 40))),
        })
    }
}

/// What a child tells its parent as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the child holds, verified: the parent need not keep it for the child's sake.
    pub held: Position,
    /// How far the parent may send. Absolute, so that a grant read twice does no harm; it never goes down.
    pub upto: Offset,
}

/// Bytes of a [`Grant`].
pub const GRANT_BYTES: usize = 8 + 8 + 8;

impl Grant {
    /// The frame's body.
    #[must_use]
    pub fn encode(&self) -> [u8; GRANT_BYTES] {
        let mut b = [0; GRANT_BYTES];
        b[..8].copy_from_slice(&self.held.item.to_le_bytes());
        b[8..16].copy_from_slice(&self.held.offset.0.to_le_bytes());
        b[16..].copy_from_slice(&self.upto.0.to_le_bytes());
        b
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// [`Malformed::Content`] unless it has exactly [`GRANT_BYTES`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let b: &[u8; GRANT_BYTES] = body.try_into().map_err(|_| Malformed::Content)?;
        Ok(Self {
            held: Position {
                item: u64::from_le_bytes(part(b, 0)),
                offset: Offset(u64::from_le_bytes(part(b, 8))),
            },
            upto: Offset(u64::from_le_bytes(part(b, 16))),
        })
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
        let block = Header { kind: Kind::Block, len: limits::BLOCK_BYTES };
        assert_eq!(Header::decode(block.encode()), Ok(block));
        assert_eq!(Header::decode(Header { len: block.len + 1, ..block }.encode()), Err(Malformed::TooLong));
        assert_eq!(Header::decode([9, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed::Magic));
        assert_eq!(Header::decode([3, 1, 0, 0, 0, 0, 0, 0]), Err(Malformed::Magic));
    }
}
