//! Waiting, reading and writing on one descriptor, in the one way that all ends share.
//!
//! Absent: buffers, clocks and threads. Nothing here changes a descriptor's flags or a signal's disposition.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::traits::Stop;

/// The longest time of one wait before a [`Stop`] is looked at again.
pub(super) const STEP: Duration = Duration::from_millis(100);

/// The error of an end that gave up because it was asked to.
pub(super) const INTERRUPTED: &str = "interrupted";

/// Slices of one `writev` at most: 2 MiB of full blocks, more than any pipe takes at once.
const SLICES: usize = 64;

/// Waits up to `timeout` for `events`, and says which came. Errors and hang-ups count, too; a signal ends the
/// wait early.
pub(super) fn poll_for(fd: impl AsFd, events: PollFlags, timeout: Duration) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(&fd, events)];
    match wait(&mut fds, timeout) {
        Ok(()) => Ok(fds[0].revents()),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(e) => Err(e.into()),
    }
}

/// Whether a read from `fd` would not block, now or within `timeout`.
pub(super) fn readable_within(fd: impl AsFd, timeout: Duration) -> io::Result<bool> {
    Ok(!poll_for(fd, PollFlags::IN, timeout)?.is_empty())
}

/// Lets `timeout` pass, or less if a signal comes.
pub(super) fn pause(timeout: Duration) {
    let _ = wait(&mut [], timeout);
}

/// One read that gives bytes or the end, also where the descriptor came to us non-blocking.
pub(super) fn read_some(input: &mut (impl Read + AsFd), buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buf) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                poll_for(&*input, PollFlags::IN, STEP)?;
            }
            done => return done,
        }
    }
}

/// Writes all of `blocks`, in order, unless `stop` is set first.
///
/// On a blocking descriptor `stop` is seen between writes only.
pub(super) fn write_all_vectored(
    out: &mut (impl Write + AsFd),
    blocks: &[Bytes],
    stop: &Stop,
) -> io::Result<()> {
    for blocks in blocks.chunks(SLICES) {
        let mut slices: Vec<_> = blocks.iter().map(|block| IoSlice::new(block)).collect();
        write_slices(out, &mut slices, stop)?;
    }
    Ok(())
}

fn write_slices(
    out: &mut (impl Write + AsFd),
    mut slices: &mut [IoSlice<'_>],
    stop: &Stop,
) -> io::Result<()> {
    // Empty slices in front are dropped, or a write of nothing would look like a device that takes nothing.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        if stop.is_set() {
            return Err(io::Error::other(INTERRUPTED));
        }
        match out.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut slices, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                poll_for(&*out, PollFlags::OUT, STEP)?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// `fsync`, where there is something to sync: pipes, terminals and the like answer that they cannot.
pub(super) fn sync(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => Ok(()),
        done => done,
    }
}

/// The error as a sentence that names what failed: "cannot write /x/y.part: No space left on device".
pub(super) fn cannot(what: impl fmt::Display, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let reason = text.split(" (os error ").next().unwrap_or_default();
    io::Error::new(error.kind(), format!("cannot {what}: {reason}"))
}

fn wait(fds: &mut [PollFd<'_>], timeout: Duration) -> Result<(), Errno> {
    // A timeout beyond what the system can count is no timeout.
    let timeout = Timespec::try_from(timeout).ok();
    poll(fds, timeout.as_ref()).map(drop)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stream::traits::Source;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::path::Path;
    use std::thread;

    /// Makes a fifo, for the tests of the ends.
    pub(in crate::stream) fn fifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    /// All that a source gives.
    pub(in crate::stream) fn read_all(source: &mut dyn Source) -> Vec<u8> {
        let (mut all, mut buf) = (Vec::new(), vec![0; 32 << 10]);
        loop {
            match source.read(&mut buf).unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buf[..n]),
            }
        }
    }

    fn nonblocking_pipe() -> (File, File) {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        (reader.into(), writer.into())
    }

    #[test]
    fn many_blocks_cross_a_small_nonblocking_pipe() {
        let (mut reader, mut writer) = nonblocking_pipe();
        let blocks: Vec<Bytes> = (0..200u32)
            .map(|i| vec![i as u8; if i % 3 == 0 { 0 } else { 1000 * (i as usize % 7) }].into())
            .collect();
        let writing = thread::spawn({
            let blocks = blocks.clone();
            move || write_all_vectored(&mut writer, &blocks, &Stop::new())
        });

        let (mut came, mut buf) = (Vec::new(), [0; 777]);
        loop {
            match read_some(&mut reader, &mut buf).unwrap() {
                0 => break,
                n => came.extend_from_slice(&buf[..n]),
            }
        }

        writing.join().unwrap().unwrap();
        assert!(came == blocks.concat());
    }

    #[test]
    fn a_full_pipe_lets_go_once_stopped() {
        let (mut reader, mut writer) = nonblocking_pipe();
        let stop = Stop::new();
        let writing = thread::spawn({
            let stop = stop.clone();
            move || write_all_vectored(&mut writer, &[vec![0; 4 << 20].into()], &stop)
        });
        // One byte out: the write has begun, and cannot end.
        assert_eq!(read_some(&mut reader, &mut [0]).unwrap(), 1);
        stop.set();
        assert_eq!(writing.join().unwrap().unwrap_err().to_string(), INTERRUPTED);
    }

    #[test]
    fn an_error_is_a_sentence_without_numbers() {
        let error = cannot("write /x/y.part", &Errno::NOSPC.into());
        assert_eq!(error.to_string(), "cannot write /x/y.part: No space left on device");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
