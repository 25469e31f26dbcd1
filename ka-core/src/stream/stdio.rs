//! Standard input and output as the ends of a stream: [`StdinSource`] and [`StdoutSink`].
//!
//! Absent: buffers, those of the standard library included, and any way to take back what was written: who
//! reads our output learns only from our exit status whether it was all. For that reader, too, the stream ends
//! when the process does, not earlier.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Seek};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{OFlags, fcntl_getfl, makedev};
use rustix::io::Errno;

use super::again::FileAgain;
use super::fd::{cannot, read_some, readable_within, sync};
use super::kind::Kind;
use super::lock::{For, busy, lock};
use super::pipe::{Pipe, nobody_else};
use super::traits::{ReadAt, Sink, Source, Stop};

/// The use of a standard descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Input,
    Output,
}

/// Standard input, up to its end.
#[derive(Debug)]
pub struct StdinSource(File);

impl StdinSource {
    /// Takes a duplicate of descriptor 0.
    ///
    /// # Errors
    /// It carries no stream: it was closed when this program was started, is not open for reading, or is a terminal or a
    /// directory.
    pub fn open() -> io::Result<Self> {
        Self::from(rustix::stdio::stdin())
    }

    fn from(fd: BorrowedFd<'_>) -> io::Result<Self> {
        take(fd, Use::Input).map(Self).map_err(|e| cannot_read(&e))
    }
}

impl Source for StdinSource {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_some(&mut self.0, buf).map_err(|e| cannot_read(&e))
    }

    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        readable_within(&self.0, timeout).map_err(|e| cannot_read(&e))
    }

    fn again(&self) -> Option<Box<dyn ReadAt>> {
        let Kind::Regular(_) = Kind::of(&self.0).ok()? else { return None };
        let base = (&self.0).stream_position().ok()?;
        Some(Box::new(FileAgain { file: Arc::new(self.0.try_clone().ok()?), base }))
    }
}

/// Standard output. Nobody else who asks may write it meanwhile, where it is a file or a disk.
///
/// It blocks where its reader does, as its flags are not ours alone to change: a set [`Stop`] is seen between
/// two writes.
#[derive(Debug)]
pub struct StdoutSink {
    out: Pipe,
    /// The handle that makes a disk ours alone.
    _claim: Option<File>,
}

impl StdoutSink {
    /// Takes a duplicate of descriptor 1.
    ///
    /// # Errors
    /// It carries no stream: it was closed when this program was started, is not open for writing, or is a terminal; or it
    /// is a file or a disk that is in use.
    pub fn open() -> io::Result<Self> {
        let sink = Self::from(rustix::stdio::stdout())?;
        if is_same(sink.out.file(), rustix::stdio::stderr()).unwrap_or(false) {
            let why = "standard error goes there, too, and messages are no part of the stream; redirect one of them";
            return Err(cannot_write(&io::Error::other(why)));
        }
        Ok(sink)
    }

    /// Whether `path` is a name of standard output, such as `/dev/stdout`.
    #[must_use]
    pub fn is_named(path: &Path) -> bool {
        number(path).as_deref() == Some("1")
    }

    fn from(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let file = take(fd, Use::Output).map_err(|e| cannot_write(&e))?;
        let claim = claim(&file).map_err(|e| cannot_write(&e))?;
        Ok(Self { out: Pipe::new(file).map_err(|e| cannot_write(&e))?, _claim: claim })
    }
}

impl Sink for StdoutSink {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        self.out.write(blocks, stop).map_err(|e| cannot_write(&e))
    }

    /// Waits until the bytes are read from a pipe, and makes them last in a file or on a disk.
    fn finish(mut self: Box<Self>, stop: &Stop) -> io::Result<()> {
        let taken = self.out.drain(stop, nobody_else).and_then(|()| sync(self.out.file()));
        taken.map_err(|e| cannot_write(&e))
    }

    /// Does nothing: what was written is out.
    fn abort(self: Box<Self>) {}
}

/// The standard descriptor of which `path` is a name, such as `/dev/stdout`, as a file of its own.
///
/// # Errors
/// It cannot be used so.
pub(super) fn standard(path: &Path, wanted: Use) -> io::Result<Option<File>> {
    let fd = match number(path).as_deref() {
        Some("0") => rustix::stdio::stdin(),
        Some("1") => rustix::stdio::stdout(),
        Some("2") if wanted == Use::Output => {
            let why = "messages go there, which are no part of a stream; name a file";
            return Err(cannot(format_args!("write {}", path.display()), &io::Error::other(why)));
        }
        Some("2") => rustix::stdio::stderr(),
        _ => return Ok(None),
    };
    let verb = if wanted == Use::Input { "read" } else { "write" };
    take(fd, wanted).map(Some).map_err(|e| cannot(format_args!("{verb} {}", path.display()), &e))
}

/// The number of the descriptor of this process of which `path` is a name.
fn number(path: &Path) -> Option<String> {
    let own = fs::canonicalize("/proc/self/fd").ok()?;
    let mut path = path.to_owned();
    // A link that leads to itself leads nowhere else.
    for _ in 0..8 {
        let parent = fs::canonicalize(path.parent()?).ok()?;
        if parent == own {
            return Some(path.file_name()?.to_str()?.to_owned());
        }
        path = parent.join(fs::read_link(&path).ok()?);
    }
    None
}

/// A duplicate of a standard descriptor that can carry a stream.
fn take(fd: BorrowedFd<'_>, wanted: Use) -> io::Result<File> {
    let file = File::from(fd.try_clone_to_owned()?);
    let metadata = file.metadata()?;
    let null = metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3);
    let why = match (fcntl_getfl(&file)? & OFlags::RWMODE, wanted) {
        // A program that is started with one of its first three descriptors closed opens this in its place, before its
        // first line (the standard library does), or the next file to be opened would have its number. A shell's
        // `</dev/null` only reads, and its `>/dev/null` only writes.
        (OFlags::RDWR, _) if null => "it is closed (or /dev/null is in its place)",
        (OFlags::RDONLY, Use::Output) => "it is open for reading only",
        (OFlags::WRONLY, Use::Input) => "it is open for writing only",
        _ if file.is_terminal() => "it is a terminal, which does not pass on bytes as they are",
        _ if metadata.is_dir() => "it is a directory",
        _ => return Ok(file),
    };
    Err(io::Error::other(format!("{why}; redirect it, or name a file")))
}

/// Whether both write to the same file or pipe.
fn is_same(file: &File, fd: BorrowedFd<'_>) -> io::Result<bool> {
    let [ours, other] = [file.metadata()?, File::from(fd.try_clone_to_owned()?).metadata()?];
    let same = (ours.dev(), ours.ino()) == (other.dev(), other.ino());
    Ok(same && !ours.file_type().is_char_device())
}

/// Makes standard output ours alone. A disk must also be in nobody's use, which the kernel says to those who open it.
fn claim(file: &File) -> io::Result<Option<File>> {
    lock(file, For::Writing)?;
    if !file.metadata()?.file_type().is_block_device() {
        return Ok(None);
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match File::options().write(true).custom_flags(OFlags::EXCL.bits().cast_signed()).open(path) {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::BUSY) => Err(busy()),
        claim => Ok(claim.ok()),
    }
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
    fn what_carries_no_stream_is_refused() {
        let open = |path: &str, read, write| File::options().read(read).write(write).open(path).unwrap();
        let said = |file: &File, wanted| take(file.as_fd(), wanted).map(drop).map_err(|e| e.to_string());
        let refused = |why: &str| Err(format!("{why}; redirect it, or name a file"));
        // As the standard library leaves a descriptor that was closed.
        let closed = open("/dev/null", true, true);
        for wanted in [Use::Input, Use::Output] {
            assert_eq!(said(&closed, wanted), refused("it is closed (or /dev/null is in its place)"));
        }
        // As a shell opens it.
        assert_eq!(said(&open("/dev/null", true, false), Use::Input), Ok(()));
        assert_eq!(said(&open("/dev/null", false, true), Use::Output), Ok(()));
        assert_eq!(said(&open("/dev/full", true, true), Use::Output), Ok(()));

        let only = [open("/dev/zero", true, false), open("/dev/zero", false, true)];
        assert_eq!(said(&only[0], Use::Output), refused("it is open for reading only"));
        assert_eq!(said(&only[1], Use::Input), refused("it is open for writing only"));
        let why = "it is a terminal, which does not pass on bytes as they are";
        let terminal = open("/dev/ptmx", true, true);
        assert_eq!(said(&terminal, Use::Input), refused(why));
        assert_eq!(said(&terminal, Use::Output), refused(why));
        assert_eq!(said(&open("/", true, false), Use::Input), refused("it is a directory"));
    }

    #[test]
    fn a_descriptor_s_names_are_known() {
        let own = std::process::id();
        for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", &format!("/proc/{own}/fd/1")] {
            assert_eq!(number(Path::new(name)).as_deref(), Some("1"), "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/stdin", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert_eq!(number(&dir.path().join("link")).as_deref(), Some("0"));
        for name in ["/dev/null", "/dev/tty", "1", "/"] {
            assert_eq!(number(Path::new(name)), None, "{name}");
        }
        assert_eq!(number(&dir.path().join("loop")), None);
    }

    #[test]
    fn output_to_a_file_is_ours_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let again = file.reopen().unwrap();
        let _sink = StdoutSink::from(file.as_file().as_fd()).unwrap();
        let error = StdoutSink::from(again.as_fd()).unwrap_err().to_string();
        assert!(error.starts_with("cannot write to standard output: this program itself uses"), "{error}");
    }

    #[test]
    fn output_is_taken_when_it_is_read() {
        for (left, ok) in [(&b"\0\0"[..], true), (b"\0x", false)] {
            let (mut reader, writer) = io::pipe().unwrap();
            let mut sink = StdoutSink::from(writer.as_fd()).unwrap();
            sink.write(&[Bytes::from_static(b"x")], &Stop::new()).unwrap();
            reader.read_exact(&mut [0]).unwrap();
            sink.write(&[Bytes::from_static(left)], &Stop::new()).unwrap();
            drop(reader);
            assert_eq!(Box::new(sink).finish(&Stop::new()).is_ok(), ok);
        }
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
        assert_eq!(fs::read(file.path()).unwrap(), b"x");
    }

    #[test]
    fn output_that_nobody_reads_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sink = StdoutSink::from(writer.as_fd()).unwrap();
        let error = sink.write(&[Bytes::from_static(b"x")], &Stop::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write to standard output: its reader ended before the stream did"
        );
    }
}
