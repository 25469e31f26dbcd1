//! A file or a device as the end of a stream: [`FileSource`] and [`FileSink`].
//!
//! Absent: holes (they are read and written as zeros), owners, extended attributes, and a check that a device
//! is in nobody's use.

use std::fs::{self, File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{Advice, Mode, OFlags, fadvise, fchmod, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::again::FileAgain;
use super::fd::{INTERRUPTED, STEP, cannot, read_some, readable_within, sync, write_all_vectored};
use super::{Reread, Sink, Source, Stop};

/// A regular file, a device or a fifo, from its start to its end.
///
/// The stream is what was read: a regular file that grows meanwhile is read up to the end that it has by then.
/// One that becomes shorter fails.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    path: PathBuf,
    kind: Kind,
    count: u64,
}

/// What a source's path is, as far as it matters for reading, and its size when it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Regular(u64),
    Block(u64),
    Fifo,
    Other,
}

impl FileSource {
    /// Opens `path`. A fifo is opened at once, its writer is waited for when it is read.
    ///
    /// # Errors
    /// Names the path: it is a directory, is missing, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let failed = |e| cannot(format_args!("read {}", path.display()), &e);
        let metadata = fs::metadata(path).map_err(failed)?;
        refuse_directory(path, &metadata)?;
        let file = open_for_reading(path, metadata.file_type().is_fifo()).map_err(failed)?;
        let kind = Kind::of(&file).map_err(failed)?;
        // Advice, no more: pipes and many devices have no use for it.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        Ok(Self { file, path: path.into(), kind, count: 0 })
    }

    fn cannot_read(&self, error: &io::Error) -> io::Error {
        cannot(format_args!("read {}", self.path.display()), error)
    }
}

impl Source for FileSource {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // A fifo without a writer yet reads as one that has ended; only poll knows them apart.
        while matches!(self.kind, Kind::Fifo) && !self.ready(STEP)? {}
        let n = read_some(&mut self.file, buf).map_err(|e| self.cannot_read(&e))?;
        self.count += n as u64;
        Ok(n)
    }

    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        readable_within(&self.file, timeout).map_err(|e| self.cannot_read(&e))
    }

    fn size(&self) -> Option<u64> {
        match self.kind {
            Kind::Regular(size) | Kind::Block(size) => Some(size),
            Kind::Fifo | Kind::Other => None,
        }
    }

    fn again(&self) -> Option<Box<dyn Reread>> {
        let can = matches!(self.kind, Kind::Regular(_) | Kind::Block(_));
        let file = can.then(|| self.file.try_clone().ok()).flatten()?;
        Some(Box::new(FileAgain { file: Arc::new(file), base: 0 }))
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        match self.kind {
            Kind::Regular(size) if self.count < size => Err(format!(
                "{} became shorter while it was read: {} of {size} bytes",
                self.path.display(),
                self.count
            )),
            _ => Ok(()),
        }
    }
}

impl Kind {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        Ok(if kind.is_file() {
            Self::Regular(metadata.len())
        } else if kind.is_block_device() {
            Self::Block(device_size(file)?)
        } else if kind.is_fifo() {
            Self::Fifo
        } else {
            Self::Other
        })
    }
}

/// A block device's metadata does not know its size, but its end can be found.
fn device_size(mut device: &File) -> io::Result<u64> {
    let size = device.seek(SeekFrom::End(0))?;
    device.rewind()?;
    Ok(size)
}

fn open_for_reading(path: &Path, fifo: bool) -> io::Result<File> {
    if !fifo {
        return File::open(path);
    }
    // Opening must not wait for a writer that may never come: here nobody could call it off.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    set_nonblocking(&file, false)?;
    Ok(file)
}

/// A file that appears all at once, or a device that is written in place.
///
/// A regular `FILE`, or one that is not there yet, is written as `FILE.part` beside it.
/// [`finish`](Sink::finish) makes the bytes last and then puts the new file in the old one's place, with the
/// old one's permissions; until then the old one is untouched. In every other case, dropping included,
/// `FILE.part` is removed. Where `FILE` is a symbolic link to a regular file, all this happens to that file.
///
/// A device or a fifo is written in place, and there nothing can be undone.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    /// What is written: `FILE.part`, or the device.
    path: PathBuf,
    /// What `path` is still to become; `None` when it is written in place, or has become it.
    target: Option<PathBuf>,
}

impl FileSink {
    /// Opens `path` for writing, by the rules above. A fifo is waited for until somebody reads it.
    ///
    /// # Errors
    /// Names the path: it is a directory or a link to nothing, it or its `.part` may not be written, or its
    /// `.part` is something other than a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(old) if old.is_file() => Self::beside(real(path)?, Some(&old)),
            Ok(other) => refuse_directory(path, &other).and_then(|()| Self::in_place(path)),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot_write(path, &e)),
            Err(_) if path.is_symlink() => {
                Err(cannot_write(path, &io::Error::other("it is a symbolic link to nothing")))
            }
            Err(_) => Self::beside(path.into(), None),
        }
    }

    fn beside(target: PathBuf, old: Option<&Metadata>) -> io::Result<Self> {
        let mut path = target.clone().into_os_string();
        path.push(".part");
        let path = PathBuf::from(path);
        let file = open_part(&path).map_err(|e| cannot_write(&path, &e))?;
        let sink = Self { file, path, target: Some(target) };
        if let Some(old) = old {
            // Not the set-id bits: the new file's owner may be another.
            let mode = Mode::from_bits_truncate(old.permissions().mode() & 0o777);
            fchmod(&sink.file, mode).map_err(|e| cannot_write(&sink.path, &e.into()))?;
        }
        Ok(sink)
    }

    fn in_place(path: &Path) -> io::Result<Self> {
        let failed = |e| cannot_write(path, &e);
        let file = File::options().write(true).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.file_type().is_fifo() {
            // Its reader may be stuck, and we must not be with it.
            set_nonblocking(&file, true).map_err(failed)?;
        }
        Ok(Self { file, path: path.into(), target: None })
    }

    /// Another handle of what is written, to read it.
    pub(super) fn duplicate(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn make_last(&mut self, stop: &Stop) -> io::Result<()> {
        sync(&self.file).map_err(|e| cannot_write(&self.path, &e))?;
        let Some(target) = &self.target else { return Ok(()) };
        if stop.is_set() {
            return Err(io::Error::other(INTERRUPTED));
        }
        fs::rename(&self.path, target).map_err(|e| cannot_write(target, &e))?;
        let directory = directory_of(target).to_owned();
        self.target = None;
        File::open(&directory).and_then(|d| sync(&d)).map_err(|e| cannot_write(&directory, &e))
    }
}

impl Sink for FileSink {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        write_all_vectored(&mut self.file, blocks, stop).map_err(|e| cannot_write(&self.path, &e))
    }

    fn finish(mut self: Box<Self>, stop: &Stop) -> Result<(), String> {
        self.make_last(stop).map_err(|e| e.to_string())
    }

    fn abort(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if self.target.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The file itself where `path` is a link to it; otherwise `path` as it was given, for messages.
fn real(path: &Path) -> io::Result<PathBuf> {
    if path.is_symlink() {
        return fs::canonicalize(path).map_err(|e| cannot_write(path, &e));
    }
    Ok(path.into())
}

/// Opens and empties a `.part`, which may remain from a machine that went down, but not point elsewhere.
fn open_part(path: &Path) -> io::Result<File> {
    let odd = || io::Error::other("it is not a regular file");
    // Non-blocking for the case of a fifo, which would wait; a regular file does not care.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|e| match Errno::from_io_error(&e) {
            Some(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => odd(),
            _ => e,
        })?;
    if !file.metadata()?.is_file() {
        return Err(odd());
    }
    file.set_len(0)?;
    Ok(file)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn set_nonblocking(file: &File, on: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::NONBLOCK, on);
    Ok(fcntl_setfl(file, flags)?)
}

fn refuse_directory(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        let text = format!("{} is a directory", path.display());
        return Err(io::Error::new(io::ErrorKind::IsADirectory, text));
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &io::Error) -> io::Error {
    cannot(format_args!("write {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;
    use std::thread;

    use super::super::fd::tests::fifo;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn sink(path: &Path) -> Box<FileSink> {
        Box::new(FileSink::open(path).unwrap())
    }

    fn source(path: &Path) -> Box<FileSource> {
        Box::new(FileSource::open(path).unwrap())
    }

    fn write(sink: &mut FileSink, bytes: &'static str) {
        sink.write(&[Bytes::from_static(bytes.as_bytes())], &Stop::new()).unwrap();
    }

    fn read_all(source: &mut FileSource) -> Vec<u8> {
        let (mut all, mut buf) = (Vec::new(), [0; 5]);
        loop {
            match source.read(&mut buf).unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buf[..n]),
            }
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_read_to_its_end() {
        let dir = dir();
        let path = dir.path().join("f");
        fs::write(&path, "hello, world").unwrap();
        let mut source = source(&path);
        assert_eq!(source.size(), Some(12));
        assert!(source.ready(Duration::ZERO).unwrap());
        assert_eq!(read_all(&mut source), b"hello, world");
        source.finish().unwrap();
    }

    #[test]
    fn a_file_may_grow_but_not_shrink() {
        let dir = dir();
        let path = dir.path().join("f");
        fs::write(&path, "hello").unwrap();
        let mut longer = source(&path);
        let mut shorter = source(&path);

        fs::write(&path, "hello, world").unwrap();
        assert_eq!(read_all(&mut longer), b"hello, world");
        longer.finish().unwrap();

        fs::write(&path, "hel").unwrap();
        assert_eq!(read_all(&mut shorter), b"hel");
        let text = format!("{} became shorter while it was read: 3 of 5 bytes", path.display());
        assert_eq!(shorter.finish().unwrap_err(), text);
    }

    #[test]
    fn a_source_that_cannot_be_opened_is_named() {
        let dir = dir();
        let error = FileSource::open(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is a directory", dir.path().display()));
        let missing = dir.path().join("missing");
        let error = FileSource::open(&missing).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot read {}: No such file or directory", missing.display())
        );
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_device_has_no_size() {
        let mut source = source(Path::new("/dev/zero"));
        assert_eq!(source.size(), None);
        assert_eq!(source.read(&mut [1; 3]).unwrap(), 3);
    }

    #[test]
    fn a_fifo_is_ready_when_something_came() {
        let dir = dir();
        let path = dir.path().join("fifo");
        fifo(&path);
        let mut source = source(&path);
        assert!(!source.ready(Duration::ZERO).unwrap(), "no writer yet");
        let mut writer = File::options().write(true).open(&path).unwrap();
        assert!(!source.ready(Duration::ZERO).unwrap(), "nothing written yet");
        io::Write::write_all(&mut writer, b"x").unwrap();
        assert!(source.ready(LONG).unwrap());
        assert_eq!(source.read(&mut [0; 9]).unwrap(), 1);
        assert!(!source.ready(Duration::ZERO).unwrap(), "all read");
        drop(writer);
        assert!(source.ready(LONG).unwrap());
        assert_eq!(source.read(&mut [0; 9]).unwrap(), 0);
        source.finish().unwrap();
    }

    #[test]
    fn a_fifo_is_waited_for_and_crossed() {
        let dir = dir();
        let path = dir.path().join("fifo");
        fifo(&path);
        let (started, starts) = mpsc::channel();
        let reading = thread::spawn({
            let mut source = source(&path);
            move || {
                started.send(()).unwrap();
                read_all(&mut source)
            }
        });
        starts.recv().unwrap();
        let mut sink = sink(&path);
        write(&mut sink, "hello, ");
        write(&mut sink, "world");
        sink.finish(&Stop::new()).unwrap();
        assert_eq!(reading.join().unwrap(), b"hello, world");
        assert_eq!(names(dir.path()), ["fifo"]);
    }

    #[test]
    fn a_stuck_fifo_lets_go_once_stopped() {
        let dir = dir();
        let path = dir.path().join("fifo");
        fifo(&path);
        let mut reader = source(&path);
        let mut sink = sink(&path);
        let stop = Stop::new();
        let writing = thread::spawn({
            let stop = stop.clone();
            move || sink.write(&[vec![0; 4 << 20].into()], &stop)
        });
        // One byte out: the write has begun, and cannot end.
        assert_eq!(reader.read(&mut [0]).unwrap(), 1);
        stop.set();
        let error = writing.join().unwrap().unwrap_err().to_string();
        assert_eq!(error, format!("cannot write {}: interrupted", path.display()));
    }

    #[test]
    fn a_new_file_appears_when_it_is_whole() {
        let dir = dir();
        let path = dir.path().join("f");
        let mut sink = sink(&path);
        write(&mut sink, "new");
        assert_eq!(names(dir.path()), ["f.part"]);
        sink.finish(&Stop::new()).unwrap();
        assert_eq!(names(dir.path()), ["f"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn an_old_file_stays_until_the_new_one_is_whole() {
        let dir = dir();
        let path = dir.path().join("f");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
        let mut sink = sink(&path);
        write(&mut sink, "new");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        sink.finish(&Stop::new()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o751);
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn an_unfinished_file_leaves_the_old_one_and_nothing_else() {
        let dir = dir();
        let path = dir.path().join("f");
        fs::write(&path, "old").unwrap();
        let stopped = Stop::new();
        stopped.set();

        let ends: [fn(Box<FileSink>, &Stop); 3] = [
            |sink, _| sink.abort(),
            |sink, _| drop(sink),
            |sink, stop| assert_eq!(sink.finish(stop).unwrap_err(), "interrupted"),
        ];
        for end in ends {
            let mut sink = sink(&path);
            write(&mut sink, "new");
            end(sink, &stopped);
            assert_eq!(names(dir.path()), ["f"]);
            assert_eq!(fs::read(&path).unwrap(), b"old");
        }
    }

    #[test]
    fn an_old_part_is_written_over() {
        let dir = dir();
        let path = dir.path().join("f");
        fs::write(dir.path().join("f.part"), "of a longer one").unwrap();
        let mut sink = sink(&path);
        write(&mut sink, "new");
        sink.finish(&Stop::new()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn an_odd_part_is_refused_and_left() {
        let dir = dir();
        let (path, part) = (dir.path().join("f"), dir.path().join("f.part"));
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();

        let oddities: [&dyn Fn(); 3] =
            [&|| symlink(&victim, &part).unwrap(), &|| fifo(&part), &|| fs::create_dir(&part).unwrap()];
        for make in oddities {
            make();
            let error = FileSink::open(&path).unwrap_err().to_string();
            assert_eq!(error, format!("cannot write {}: it is not a regular file", part.display()));
            assert_eq!(names(dir.path()), ["f.part", "victim"]);
            fs::remove_file(&part).or_else(|_| fs::remove_dir(&part)).unwrap();
        }
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_link_stays_and_the_file_behind_it_is_replaced() {
        let dir = dir();
        let (link, target) = (dir.path().join("link"), dir.path().join("there").join("f"));
        fs::create_dir(dir.path().join("there")).unwrap();
        fs::write(&target, "old").unwrap();
        symlink("there/f", &link).unwrap();
        let mut sink = sink(&link);
        write(&mut sink, "new");
        assert_eq!(names(&dir.path().join("there")), ["f", "f.part"]);
        sink.finish(&Stop::new()).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn a_target_that_cannot_be_written_is_named() {
        let dir = dir();
        let error = FileSink::open(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is a directory", dir.path().display()));

        let nowhere = dir.path().join("no").join("f");
        let error = FileSink::open(&nowhere).unwrap_err().to_string();
        assert_eq!(error, format!("cannot write {}.part: No such file or directory", nowhere.display()));

        let link = dir.path().join("link");
        symlink("nothing", &link).unwrap();
        let error = FileSink::open(&link).unwrap_err().to_string();
        assert_eq!(error, format!("cannot write {}: it is a symbolic link to nothing", link.display()));
    }

    #[test]
    fn a_full_device_is_named() {
        let mut sink = sink(Path::new("/dev/full"));
        let error = sink.write(&[Bytes::from_static(b"x")], &Stop::new()).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full: No space left on device");
        sink.abort();
        assert!(Path::new("/dev/full").exists());
    }

    #[test]
    fn a_device_is_written_in_place() {
        let mut sink = sink(Path::new("/dev/null"));
        write(&mut sink, "new");
        sink.finish(&Stop::new()).unwrap();
    }
}
