//! The places of everything on a tape that was sealed, so that any part of it can be sealed once more.
//!
//! ```text
//!   Begin ▶ Segment ▶ block … block ▶ Segment ▶ block … ▶ End ▶ Close
//!   │       │                         │                   │     │
//!   mark    mark (place, chain)       mark                mark  mark
//! ```
//!
//! The bytes are not here: a caller that seals a [`Part`] again reads them from the source again, and the chain tells
//! it whether they are still the same. 48 bytes for a segment: 25 MB for a terabyte.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use super::chain::{Hash, Statement};
use crate::limits::BLOCK_BYTES;
use crate::types::Position;

/// The record of what was sealed, in order.
#[derive(Debug, Default)]
pub struct Index {
    marks: Vec<Mark>,
    /// The statements that announce no blocks, sealed, by their item.
    told: BTreeMap<u64, Bytes>,
    /// The place where each stream begins; its offset is that of the stream's first byte.
    streams: Vec<Position>,
    end: Position,
    chain: Hash,
}

/// A statement's place, and the chain's value before it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Position,
    chain: Hash,
}

/// A part of the tape, from one statement to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A statement alone, as it was sealed.
    Statement(Position, Bytes),
    /// A segment and its blocks.
    Blocks(Blocks),
}

/// The data needed to seal a segment again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The place where the segment begins.
    pub at: Position,
    /// The stream's number.
    pub stream: u32,
    /// The offset of its first byte in the stream.
    pub offset: u64,
    /// The number of its bytes.
    pub bytes: u64,
    /// The chain's value before it, and after it.
    pub chain: (Hash, Hash),
}

impl Index {
    /// Notes what was sealed next: the statement, its sealed form, and the chain's value before and after it.
    pub fn note(&mut self, statement: &Statement, sealed: &Bytes, (before, after): (Hash, Hash)) {
        let at = self.end;
        self.marks.push(Mark { at, chain: before });
        self.chain = after;
        self.end = at.after(0);
        if let Statement::Segment(s) = statement {
            let full = s.hashes.len().saturating_sub(1) * BLOCK_BYTES;
            self.end.item += s.hashes.len() as u64;
            self.end.offset += full as u64 + u64::from(s.last_bytes);
            return;
        }
        self.told.insert(at.item, sealed.clone());
        if let Statement::Begin(_) = statement {
            self.streams.push(at);
        }
    }

    /// The place of item number `item`, or the end; `None` beyond it.
    #[must_use]
    pub fn place(&self, item: u64) -> Option<Position> {
        if item == self.end.item {
            return Some(self.end);
        }
        let (i, mark) = self.mark(item)?;
        // The first block comes behind the segment's statement.
        let blocks = (item - mark.at.item).saturating_sub(1);
        let offset = mark.at.offset + blocks * BLOCK_BYTES as u64;
        Some(Position { item, offset: offset.min(self.behind(i).offset) })
    }

    /// The part that item number `item` is in; `None` if it is not sealed yet.
    #[must_use]
    pub fn part(&self, item: u64) -> Option<Part> {
        let (i, mark) = self.mark(item)?;
        if let Some(sealed) = self.told.get(&mark.at.item) {
            return Some(Part::Statement(mark.at, sealed.clone()));
        }
        let stream = self.streams.partition_point(|s| s.item < mark.at.item).checked_sub(1)?;
        let after = self.marks.get(i + 1).map_or(self.chain, |next| next.chain);
        Some(Part::Blocks(Blocks {
            at: mark.at,
            stream: u32::try_from(stream).ok()?,
            offset: mark.at.offset - self.streams[stream].offset,
            bytes: self.behind(i).offset - mark.at.offset,
            chain: (mark.chain, after),
        }))
    }

    fn mark(&self, item: u64) -> Option<(usize, Mark)> {
        let i = self.marks.partition_point(|m| m.at.item <= item).checked_sub(1)?;
        (item < self.end.item).then(|| (i, self.marks[i]))
    }

    /// The place where the part of a mark ends.
    fn behind(&self, mark: usize) -> Position {
        self.marks.get(mark + 1).map_or(self.end, |next| next.at)
    }
}
