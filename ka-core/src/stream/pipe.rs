//! The writing end of a pipe, whose reader may end before the stream does.
//!
//! A program that reads an archive finds the end in it, and may leave the zeros that fill its last record. So what
//! nobody has read must be zeros, whether it is still to be written or lies in the pipe; anything else is lost. Absent:
//! what a reader does with what it has read.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::io::ioctl_fionread;

use super::fd::{INTERRUPTED, poll_for, write_all_vectored};
use super::running::LOOK;
use super::traits::Stop;

/// Bytes that are looked at in one go.
const PIECE: usize = 4096;

/// A file that is written, and that may be a pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    out: Counted,
    is_pipe: bool,
    /// Bytes that were to be written.
    wanted: u64,
    /// The number of them up to the last one that is not zero.
    solid: u64,
    /// Nobody reads any more, and nobody needs to.
    closed: bool,
}

impl Pipe {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let is_pipe = file.metadata()?.file_type().is_fifo();
        Ok(Self { out: Counted { file, bytes: 0 }, is_pipe, wanted: 0, solid: 0, closed: false })
    }

    pub(super) fn file(&self) -> &File {
        &self.out.file
    }

    /// Whether nobody reads any more, and nobody has had to.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes all of `blocks`, unless `stop` is set first; or what its reader wants of them.
    ///
    /// # Errors
    /// Of kind [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the reader has left something.
    pub(super) fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        let bytes: u64 = blocks.iter().map(|block| block.len() as u64).sum();
        self.wanted += bytes;
        let zeros = zeros_behind(blocks);
        if zeros < bytes {
            self.solid = self.wanted - zeros;
        }
        if !self.closed {
            match write_all_vectored(&mut self.out, blocks, stop) {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe && self.is_pipe => {}
                done => return done,
            }
        }
        self.close()
    }

    /// Waits until all that was written has been read. `is_over` waits up to so long for the reader's end.
    ///
    /// What is left in a pipe when its last reader goes is lost without an error, so it must be seen before this end is
    /// closed.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub(super) fn drain(&mut self, stop: &Stop, is_over: impl Fn(Duration) -> bool) -> io::Result<()> {
        // Soon at first: most readers have little left to read, and a whole chain may wait for this one.
        let mut pause = Duration::from_millis(1);
        while !self.closed && self.unread()? > 0 {
            if stop.is_set() {
                return Err(io::Error::other(INTERRUPTED));
            }
            if (self.has_no_reader()? || is_over(pause)) && self.unread()? > 0 {
                return self.close();
            }
            pause = (2 * pause).min(LOOK);
        }
        Ok(())
    }

    /// Nobody reads any more.
    fn close(&mut self) -> io::Result<()> {
        self.closed = true;
        let read = self.out.bytes - self.unread()?;
        if self.solid > read {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "its reader ended before the stream did"));
        }
        Ok(())
    }

    fn unread(&self) -> io::Result<u64> {
        Ok(if self.is_pipe { ioctl_fionread(self.file())? } else { 0 })
    }

    fn has_no_reader(&self) -> io::Result<bool> {
        Ok(poll_for(self.file(), PollFlags::empty(), Duration::ZERO)?.contains(PollFlags::ERR))
    }
}

/// For [`drain`](Pipe::drain), where nothing but the pipe tells of its reader.
pub(super) fn nobody_else(pause: Duration) -> bool {
    super::fd::pause(pause);
    false
}

/// A file, and how many bytes it took.
#[derive(Debug)]
struct Counted {
    file: File,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let n = self.file.write_vectored(bufs)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Counted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The number of zeros behind the last other byte. Of most blocks only the end is looked at.
fn zeros_behind(blocks: &[Bytes]) -> u64 {
    let mut zeros = 0;
    for piece in blocks.iter().rev().flat_map(|block| block.rchunks(PIECE)) {
        if piece.iter().fold(0, |any, byte| any | byte) != 0 {
            let last = piece.iter().rev().take_while(|byte| **byte == 0).count();
            return zeros + last as u64;
        }
        zeros += piece.len() as u64;
    }
    zeros
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn pipe() -> (io::PipeReader, Pipe) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, Pipe::new(File::from(std::os::fd::OwnedFd::from(writer))).unwrap())
    }

    proptest! {
        #[test]
        fn zeros_at_the_end_are_counted(
            blocks in prop::collection::vec(prop::collection::vec(prop_oneof![9 => Just(0), 1 => any::<u8>()], 0..9000), 0..4),
        ) {
            let all = blocks.concat();
            let expected = all.iter().rev().take_while(|byte| **byte == 0).count() as u64;
            let blocks: Vec<Bytes> = blocks.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(zeros_behind(&blocks), expected);
        }

        /// Some bytes of a stream are read, then the reader goes: well if and only if all others are zeros.
        #[test]
        fn what_nobody_reads_must_be_zeros(
            stream in prop::collection::vec(prop_oneof![6 => Just(0), 1 => Just(7)], 1..60),
            cuts in prop::collection::vec(0..60_usize, 0..4),
            read in 0..60_usize,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let read = read.min(stream.len());
            let (reader, mut pipe) = pipe();
            let mut reader = Some(reader);
            let mut result = Ok(());
            let mut taken = 0;
            for cut in cuts.windows(2) {
                let block = Bytes::copy_from_slice(&stream[cut[0]..cut[1]]);
                result = result.and_then(|()| pipe.write(&[block], &Stop::new()));
                let mut buf = vec![0; read.min(cut[1]).saturating_sub(taken)];
                if let Some(reader) = &mut reader {
                    reader.read_exact(&mut buf).unwrap();
                    taken += buf.len();
                }
                if taken == read {
                    reader = None;
                }
            }
            drop(reader);
            let result = result.and_then(|()| pipe.drain(&Stop::new(), |_| false));
            prop_assert_eq!(result.is_ok(), stream[read..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_reader_that_lives_is_waited_for() {
        let (mut reader, mut pipe) = pipe();
        pipe.write(&[Bytes::from_static(b"x")], &Stop::new()).unwrap();
        let stop = Stop::new();
        let looked = std::cell::Cell::new(0);
        let read = |_: Duration| {
            looked.set(looked.get() + 1);
            if looked.get() == 2 {
                assert_eq!((&reader).read(&mut [0; 9]).unwrap(), 1);
            }
            false
        };
        pipe.drain(&stop, read).unwrap();
        assert_eq!(looked.get(), 2);

        pipe.write(&[Bytes::from_static(b"y")], &stop).unwrap();
        stop.set();
        assert_eq!(pipe.drain(&stop, |_| false).unwrap_err().to_string(), INTERRUPTED);
        assert_eq!(reader.read(&mut [0; 9]).unwrap(), 1);
    }

    #[test]
    fn a_file_that_is_no_pipe_has_taken_what_it_took() {
        let mut file = Pipe::new(tempfile::tempfile().unwrap()).unwrap();
        file.write(&[Bytes::from_static(b"x")], &Stop::new()).unwrap();
        file.drain(&Stop::new(), |_| unreachable!("nobody reads it")).unwrap();
    }
}
