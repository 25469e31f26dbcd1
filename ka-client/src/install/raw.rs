//! A raw partition as a sink: every byte of it, in order.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use ka_core::stream::{Sink, Stop};
use ka_desc::write::Node;
use rustix::fs::{FallocateFlags, fallocate};

/// Runs of zeros are looked for in pieces of so many bytes.
const RUN_BYTES: usize = 64 << 10;

/// Writes a partition of this size.
pub(super) struct RawSink {
    node: Node,
    file: File,
    at: u64,
    bytes: u64,
}

impl RawSink {
    pub(super) fn open(node: Node, bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(node.path())?;
        Ok(Self { node, file, at: 0, bytes })
    }

    fn named(&self, e: io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{} at byte {}: {e}", self.node.path().display(), self.at))
    }

    fn put(&mut self, piece: &[u8]) -> io::Result<()> {
        let (at, len) = (self.at, piece.len() as u64);
        if at + len > self.bytes {
            let why = format!("more than the {} bytes that were announced come", self.bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        // Zeros take the place of what was there; where the disk can do that by itself, nothing is written.
        let zeros = piece.iter().all(|byte| *byte == 0);
        if !zeros
            || fallocate(&self.file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, at, len).is_err()
        {
            self.file.write_all_at(piece, at)?;
        }
        self.at += len;
        Ok(())
    }
}

impl Sink for RawSink {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        for piece in blocks.iter().flat_map(|block| block.chunks(RUN_BYTES)) {
            if stop.is_set() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
            }
            self.put(piece).map_err(|e| self.named(e))?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Stop) -> Result<(), String> {
        if self.at != self.bytes {
            let node = self.node.path().display();
            return Err(format!("{node} got {} bytes of the {} that were announced", self.at, self.bytes));
        }
        self.file.sync_all().map_err(|e| self.named(e).to_string())
    }

    /// What was written stays: a partition that is not named as complete is none.
    fn abort(self: Box<Self>) {}
}
