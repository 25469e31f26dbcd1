//! Bytes that can be read again: a file or a device itself, or the [`Spool`] of what cannot.
//!
//! Absent: any trust in them. Whoever reads again checks what he gets, for a file may have changed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::traits::ReadAt;

/// A file or a device, from one of its bytes on.
#[derive(Debug)]
pub(super) struct FileAgain {
    pub(super) file: Arc<File>,
    /// The offset of the stream's beginning in it.
    pub(super) base: u64,
}

impl ReadAt for FileAgain {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, self.base + offset)
    }
}
