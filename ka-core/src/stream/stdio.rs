//! Standard input and output as the ends of a stream: [`StdinSource`] and [`StdoutSink`].
//!
//! Absent: buffers, those of the standard library included, and any way to take back what was written: who
//! reads our output learns only from our exit status whether it was all. For that reader, too, the stream ends
//! when the process does, not earlier.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::again::FileAgain;
use super::fd::{cannot, read_some, readable_within, sync, write_all_vectored};
use super::file::Kind;
use super::{Reread, Sink, Source, Stop};

/// Standard input, up to its end.
#[derive(Debug)]
pub struct StdinSource(File);

impl StdinSource {
    /// Takes a duplicate of descriptor 0.
    ///
    /// # Errors
    /// Descriptor 0 is not open, or no other is to be had.
    pub fn open() -> io::Result<Self> {
        Self::from(rustix::stdio::stdin())
    }

    fn from(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fd.try_clone_to_owned().map_err(|e| cannot_read(&e))?.into()))
    }
}

impl Source for StdinSource {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_some(&mut self.0, buf).map_err(|e| cannot_read(&e))
    }

    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        readable_within(&self.0, timeout).map_err(|e| cannot_read(&e))
    }

    fn again(&self) -> Option<Box<dyn Reread>> {
        let Kind::Regular(_) = Kind::of(&self.0).ok()? else { return None };
        let base = (&self.0).stream_position().ok()?;
        Some(Box::new(FileAgain { file: Arc::new(self.0.try_clone().ok()?), base }))
    }
}

/// Standard output.
///
/// It blocks where its reader does, as its flags are not ours alone to change: a set [`Stop`] is seen between
/// two writes.
#[derive(Debug)]
pub struct StdoutSink(File);

impl StdoutSink {
    /// Takes a duplicate of descriptor 1.
    ///
    /// # Errors
    /// Descriptor 1 is not open, or no other is to be had.
    pub fn open() -> io::Result<Self> {
        Self::from(rustix::stdio::stdout())
    }

    fn from(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fd.try_clone_to_owned().map_err(|e| cannot_write(&e))?.into()))
    }
}

impl Sink for StdoutSink {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        write_all_vectored(&mut self.0, blocks, stop).map_err(|e| cannot_write(&e))
    }

    /// Makes the bytes last where standard output is a file or a disk.
    fn finish(self: Box<Self>, _stop: &Stop) -> Result<(), String> {
        sync(&self.0).map_err(|e| cannot_write(&e).to_string())
    }

    /// Does nothing: what was written is out.
    fn abort(self: Box<Self>) {}
}

fn cannot_read(error: &io::Error) -> io::Error {
    cannot("read standard input", error)
}

fn cannot_write(error: &io::Error) -> io::Error {
    cannot("write to standard output", error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn input_is_ready_when_something_came() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut source = StdinSource::from(reader.as_fd()).unwrap();
        assert!(!source.ready(Duration::ZERO).unwrap());
        writer.write_all(b"xyz").unwrap();
        assert!(source.ready(Duration::ZERO).unwrap());
        assert_eq!(source.read(&mut [0; 9]).unwrap(), 3);
        drop(writer);
        assert!(source.ready(Duration::ZERO).unwrap());
        assert_eq!(source.read(&mut [0; 9]).unwrap(), 0);
        Box::new(source).finish().unwrap();
    }

    #[test]
    fn output_goes_out_at_once() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut sink = StdoutSink::from(writer.as_fd()).unwrap();
        let blocks = [Bytes::from_static(b"hello, "), Bytes::new(), Bytes::from_static(b"world")];
        sink.write(&blocks, &Stop::new()).unwrap();
        let mut buf = [0; 12];
        reader.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello, world");
        Box::new(sink).finish(&Stop::new()).unwrap();
    }

    #[test]
    fn output_to_a_file_is_synced() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut sink = StdoutSink::from(file.as_file().as_fd()).unwrap();
        sink.write(&[Bytes::from_static(b"x")], &Stop::new()).unwrap();
        Box::new(sink).finish(&Stop::new()).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"x");
    }

    #[test]
    fn output_that_nobody_reads_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sink = StdoutSink::from(writer.as_fd()).unwrap();
        let error = sink.write(&[Bytes::from_static(b"x")], &Stop::new()).unwrap_err();
        assert_eq!(error.to_string(), "cannot write to standard output: Broken pipe");
    }
}
