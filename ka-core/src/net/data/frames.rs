//! The frames of a data link, cut from what a socket brings, in whatever pieces that comes. Pure.
//!
//! No more is kept than is needed for one frame, and what the next buffer has room for.

use bytes::{Buf, Bytes, BytesMut};

use super::pool::{BUFFER_BYTES, ReadPool};
use crate::limits;
use crate::tape::chain::Checker;
use crate::wire::data::{HEADER_BYTES, Header, Kind};
use crate::wire::{Malformed, TAG_BYTES};

/// Bytes that hold the announcement of a full segment, and little more.
const ANNOUNCEMENT_BYTES: usize = 4 << 10;

/// Bytes of grants that are read at once.
const GRANTS_BYTES: usize = 4096;

/// The bytes from a parent that are not taken yet.
pub(crate) struct FromParent {
    bytes: BytesMut,
    /// The length of what is around a block: the header, and the tag if there is one.
    around: usize,
}

impl FromParent {
    /// Nothing so far; `tags` says whether there is a tag behind each item.
    pub(crate) fn new(tags: bool) -> Self {
        let around = if tags { HEADER_BYTES + TAG_BYTES } else { HEADER_BYTES };
        Self { bytes: BytesMut::with_capacity(BUFFER_BYTES), around }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The buffer to read into, and the most bytes to read now. `checker` knows what was announced.
    pub(crate) fn room(&mut self, checker: &Checker, pool: &mut ReadPool) -> (&mut BytesMut, usize) {
        // Every frame fits a fresh buffer.
        const { assert!(HEADER_BYTES + limits::SEALED_STATEMENT_BYTES + TAG_BYTES <= BUFFER_BYTES) };
        let rest = self.rest(checker);
        if self.bytes.capacity() - self.bytes.len() < rest {
            pool.renew(&mut self.bytes);
        }
        // No further than to the end of a frame: what began another would have to be copied to the next buffer.
        let room = self.bytes.capacity() - self.bytes.len();
        let blocks = checker.announced().map(|block| self.around + block).skip(1);
        let ends = blocks.scan(rest, |end, frame| {
            *end += frame;
            Some(*end)
        });
        let most = match checker.announced().next() {
            Some(_) => ends.take_while(|end| *end <= room).last().unwrap_or(rest),
            None => rest.max(ANNOUNCEMENT_BYTES).min(room),
        };
        (&mut self.bytes, most)
    }

    /// The number of bytes that are missing of the next frame, as far as that is known.
    pub(crate) fn rest(&self, checker: &Checker) -> usize {
        let frame = match self.bytes.first_chunk::<HEADER_BYTES>().map(|h| Header::decode(*h)) {
            Some(Ok(header)) => HEADER_BYTES + header.len,
            _ => checker.announced().next().map_or(HEADER_BYTES, |block| self.around + block),
        };
        frame.saturating_sub(self.bytes.len()).max(1)
    }

    /// Takes the next frame, if it is whole.
    ///
    /// # Errors
    /// What comes is no frame.
    pub(crate) fn next(&mut self) -> Result<Option<(Kind, Bytes)>, Malformed> {
        let Some(header) = self.bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(*header)?;
        if self.bytes.len() < HEADER_BYTES + header.len {
            return Ok(None);
        }
        self.bytes.advance(HEADER_BYTES);
        Ok(Some((header.kind, self.bytes.split_to(header.len).freeze())))
    }
}

/// The bytes from a child that are not taken yet.
pub(crate) struct FromChild(BytesMut);

impl FromChild {
    pub(crate) fn new() -> Self {
        Self(BytesMut::with_capacity(GRANTS_BYTES))
    }

    /// The buffer to read into, as far as it has room.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        self.0.reserve(GRANTS_BYTES);
        &mut self.0
    }

    /// Takes the body of the next grant, which has so many bytes, if the frame is whole.
    ///
    /// # Errors
    /// What comes is no such frame.
    pub(crate) fn next(&mut self, body_bytes: usize) -> Result<Option<BytesMut>, Malformed> {
        let Some(header) = self.0.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(*header)?;
        if (header.kind, header.len) != (Kind::Grant, body_bytes) {
            return Err(Malformed::Content);
        }
        if self.0.len() < HEADER_BYTES + body_bytes {
            return Ok(None);
        }
        self.0.advance(HEADER_BYTES);
        Ok(Some(self.0.split_to(body_bytes)))
    }
}
