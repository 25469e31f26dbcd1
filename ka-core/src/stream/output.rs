//! A file or a device as the end of a stream: [`FileSink`].
//!
//! Absent: holes (zeros are written as such), owners, extended attributes.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::fd::{INTERRUPTED, cannot, pause, sync, write_all_vectored};
use super::kind::{Kind, refuse_directory};
use super::lock::{For, busy, lock, unlock};
use super::part::Part;
use super::pipe::{Pipe, nobody_else};
use super::remains::Entry;
use super::running::LOOK;
use super::stdio::{Use, standard};
use super::traits::{Sink, Stop};

/// The longest time that a reader may take to open a fifo.
const READER: Duration = Duration::from_secs(5);

/// A file that appears all at once, or a device that is written in place. Nobody else who asks may write it meanwhile.
///
/// A regular `FILE`, or one that is not there yet, is written as `FILE.part` beside it, a new file that is locked.
/// [`finish`](Sink::finish) makes the bytes last and then puts the new file in the old one's place, with the
/// old one's permissions; until then the old one is untouched. In every other case, dropping included,
/// `FILE.part` is removed; one that a killed process has left is removed before. A symbolic link to a file is refused: who
/// may make links here would choose which file is replaced. Another user's file is refused, too.
///
/// A device or a fifo is written in place, also behind a link, and there nothing can be undone. It is locked, and a disk
/// must be in nobody's use: not mounted, for example. `/dev/null` and its kin are everybody's. A name of a standard
/// descriptor of this process, such as `/dev/stdout`, stands for that.
#[derive(Debug)]
pub struct FileSink {
    out: Out,
    /// As it was given, for messages.
    path: PathBuf,
}

#[derive(Debug)]
enum Out {
    Beside(Arc<Part>, Entry),
    InPlace(Pipe),
}

impl FileSink {
    /// Opens `path` for writing, by the rules above. A fifo is waited for up to five seconds until somebody reads it.
    ///
    /// # Errors
    /// Names the path: it is a directory or a link to a file or to nothing, it or its `.part` may not be written, is another
    /// user's or is in use (by whom, if that is known), its `.part` is something other than a regular file, everybody may
    /// replace files in its directory, or nobody reads the fifo.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_within(path, READER)
    }

    /// A new file that only its owner may read.
    pub(super) fn private(path: &Path) -> io::Result<Self> {
        Ok(Self { out: beside(path.into(), None, true)?, path: path.into() })
    }

    fn open_within(path: &Path, reader: Duration) -> io::Result<Self> {
        let out = match standard(path, Use::Output)? {
            Some(file) => Out::InPlace(Pipe::new(file).map_err(|e| cannot_write(path, &e))?),
            None => match fs::metadata(path) {
                Ok(old) if old.is_file() && path.is_symlink() => return Err(cannot_write(path, &link(path))),
                Ok(old) if old.is_file() => beside(path.into(), Some(&old), false)?,
                Ok(other) => refuse_directory(path, &other).and_then(|()| in_place(path, &other, reader))?,
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot_write(path, &e)),
                Err(_) if path.is_symlink() => return Err(cannot_write(path, &link(path))),
                Err(_) => beside(path.into(), None, false)?,
            },
        };
        Ok(Self { out, path: path.into() })
    }

    /// Makes sure that there is room for so many bytes, where the file system can tell.
    ///
    /// # Errors
    /// Names the path: there is none.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        let Out::Beside(part, _) = &self.out else { return Ok(()) };
        match fallocate(part.file(), FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(part.cannot_write(&e.into())),
            // What was taken is given back, or a small file would have it for ever.
            _ => part.file().set_len(0).map_err(|e| part.cannot_write(&e)),
        }
    }

    /// Holds a stream's size against that of a disk. A file may grow.
    ///
    /// # Errors
    /// Names the disk: it is too small.
    pub fn check_size(&self, bytes: u64) -> io::Result<()> {
        match Kind::of(self.file()) {
            Ok(Kind::Block(size)) if size < bytes => {
                let why = format!("it has {size} bytes, and the stream {bytes}");
                Err(self.cannot_write(&io::Error::new(io::ErrorKind::StorageFull, why)))
            }
            _ => Ok(()),
        }
    }

    /// Another handle of what is written, to read it.
    pub(super) fn duplicate(&self) -> io::Result<File> {
        self.file().try_clone()
    }

    fn file(&self) -> &File {
        match &self.out {
            Out::Beside(part, _) => part.file(),
            Out::InPlace(pipe) => pipe.file(),
        }
    }

    fn cannot_write(&self, error: &io::Error) -> io::Error {
        match &self.out {
            Out::Beside(part, _) => part.cannot_write(error),
            Out::InPlace(_) => cannot_write(&self.path, error),
        }
    }

    fn make_last(&mut self, stop: &Stop) -> io::Result<()> {
        if let Out::InPlace(pipe) = &mut self.out {
            pipe.drain(stop, nobody_else).map_err(|e| cannot_write(&self.path, &e))?;
        }
        sync(self.file()).map_err(|e| self.cannot_write(&e))?;
        match &self.out {
            Out::Beside(..) if stop.is_set() => Err(io::Error::other(INTERRUPTED)),
            Out::Beside(part, _) => part.keep(),
            Out::InPlace(_) => Ok(()),
        }
    }
}

impl Sink for FileSink {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        let written = match &mut self.out {
            Out::Beside(part, _) => write_all_vectored(&mut part.file(), blocks, stop),
            Out::InPlace(pipe) => pipe.write(blocks, stop),
        };
        written.map_err(|e| self.cannot_write(&e))
    }

    fn finish(mut self: Box<Self>, stop: &Stop) -> io::Result<()> {
        self.make_last(stop)
    }

    fn abort(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        match &self.out {
            Out::Beside(part, entry) if part.remove() => entry.settle(),
            // Somebody with more rights may yet remove it.
            Out::Beside(..) => {}
            Out::InPlace(pipe) => unlock(pipe.file()),
        }
    }
}

fn beside(target: PathBuf, old: Option<&Metadata>, private: bool) -> io::Result<Out> {
    let part = Arc::new(Part::create(target, old, private)?);
    match Entry::part(&part) {
        Ok(entry) => Ok(Out::Beside(part, entry)),
        Err(e) => {
            part.remove();
            Err(part.cannot_write(&e))
        }
    }
}

fn in_place(path: &Path, metadata: &Metadata, mut reader: Duration) -> io::Result<Out> {
    let failed = |e| cannot_write(path, &e);
    let fifo = metadata.file_type().is_fifo();
    // A fifo's reader may be missing or stuck, and we must not be with it. A disk is claimed by opening it so.
    let flags = if fifo { OFlags::NONBLOCK } else { OFlags::EXCL };
    let file = loop {
        match File::options().write(true).custom_flags(flags.bits().cast_signed()).open(path) {
            Ok(file) => break file,
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::NXIO) if fifo && !reader.is_zero() => {
                    pause(LOOK);
                    reader = reader.saturating_sub(LOOK);
                }
                Some(Errno::NXIO) if fifo => {
                    return Err(failed(io::Error::other("nobody reads it: start its reader first")));
                }
                Some(Errno::BUSY) => return Err(failed(busy())),
                _ => return Err(failed(e)),
            },
        }
    };
    if file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it has just become another file")));
    }
    lock(&file, For::Writing).map_err(failed)?;
    Ok(Out::InPlace(Pipe::new(file).map_err(failed)?))
}

fn link(path: &Path) -> io::Error {
    io::Error::other(match fs::canonicalize(path) {
        Ok(file) => format!("it is a symbolic link: name the file itself, {}", file.display()),
        Err(_) => "it is a symbolic link to nothing".into(),
    })
}

fn cannot_write(path: &Path, error: &io::Error) -> io::Error {
    cannot(format_args!("write {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::super::fd::tests::{fifo, read_all};
    use super::*;
    use crate::stream::file::FileSource;
    use crate::stream::traits::Source;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::mpsc;
    use std::thread;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn sink(path: &Path) -> Box<FileSink> {
        Box::new(FileSink::open(path).unwrap())
    }

    fn write(sink: &mut FileSink, bytes: &'static str) {
        sink.write(&[Bytes::from_static(bytes.as_bytes())], &Stop::new()).unwrap();
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
    fn a_fifo_is_waited_for_and_crossed() {
        let dir = dir();
        let path = dir.path().join("fifo");
        fifo(&path);
        let (started, starts) = mpsc::channel();
        let reading = thread::spawn({
            let mut source = FileSource::open(&path).unwrap();
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
        let mut reader = FileSource::open(&path).unwrap();
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
            |sink, stop| assert_eq!(sink.finish(stop).unwrap_err().to_string(), "interrupted"),
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
            assert_eq!(
                error,
                format!("cannot write {}: it is not a regular file: remove it", part.display())
            );
            assert_eq!(names(dir.path()), ["f.part", "victim"]);
            fs::remove_file(&part).or_else(|_| fs::remove_dir(&part)).unwrap();
        }
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_link_to_a_file_is_not_followed() {
        let dir = dir();
        let (link, target) = (dir.path().join("link"), dir.path().join("there").join("f"));
        fs::create_dir(dir.path().join("there")).unwrap();
        fs::write(&target, "old").unwrap();
        symlink("there/f", &link).unwrap();
        let said = FileSink::open(&link).unwrap_err().to_string();
        let file = fs::canonicalize(&target).unwrap();
        assert!(
            said.ends_with(&format!("it is a symbolic link: name the file itself, {}", file.display())),
            "{said}"
        );
        assert_eq!(names(&dir.path().join("there")), ["f"]);
        // A file in a directory behind a link is that file; a link that comes meanwhile is replaced.
        symlink("there", dir.path().join("here")).unwrap();
        let path = dir.path().join("here").join("new");
        let mut sink = sink(&path);
        write(&mut sink, "new");
        symlink("f", &path).unwrap();
        sink.finish(&Stop::new()).unwrap();
        assert!(!path.is_symlink());
        assert_eq!((fs::read(&target).unwrap(), fs::read(&path).unwrap()), (b"old".into(), b"new".into()));
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

    #[test]
    fn a_file_has_one_writer_whatever_it_is_called() {
        let dir = dir();
        let path = dir.path().join("f");
        fs::write(&path, "old").unwrap();
        symlink(".", dir.path().join("here")).unwrap();
        let mut first = sink(&path);
        write(&mut first, "new");
        for name in ["f", "./f", "here/f"] {
            let error = FileSink::open(&dir.path().join(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{name}");
            let said = error.to_string();
            assert!(said.contains("f.part: this program itself uses it already"), "{said}");
        }
        first.finish(&Stop::new()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        for _ in 0..2 {
            sink(&path).abort();
        }
        assert_eq!(names(dir.path()), ["f", "here"]);
    }

    #[test]
    fn of_many_at_once_one_has_it() {
        let dir = dir();
        let path = dir.path().join("f");
        for round in 0..50 {
            // A dead one's part may be in the way, too.
            if round % 2 == 0 {
                fs::write(dir.path().join("f.part"), "of a dead one").unwrap();
            }
            let (tx, rx) = mpsc::channel();
            thread::scope(|scope| {
                for _ in 0..4 {
                    let (path, tx) = (&path, tx.clone());
                    scope.spawn(move || tx.send(FileSink::open(path)).unwrap());
                }
            });
            let mut open: Vec<_> = rx.try_iter().filter_map(Result::ok).collect();
            assert!(open.len() <= 1, "{round}: {}", open.len());
            if let Some(mut sink) = open.pop() {
                write(&mut sink, "new");
                Box::new(sink).finish(&Stop::new()).unwrap();
                assert_eq!(fs::read(&path).unwrap(), b"new");
            }
        }
        // Each may have stood in another's way, but not for ever.
        sink(&path).abort();
        assert!(!dir.path().join("f.part").exists());
    }

    #[test]
    fn what_else_a_dead_one_s_part_is_called_is_not_written_over() {
        let dir = dir();
        let (path, victim) = (dir.path().join("f"), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        fs::hard_link(&victim, dir.path().join("f.part")).unwrap();
        let mut sink = sink(&path);
        write(&mut sink, "new");
        sink.finish(&Stop::new()).unwrap();
        assert_eq!(
            (fs::read(&victim).unwrap(), fs::read(&path).unwrap()),
            (b"precious".into(), b"new".into())
        );
    }

    #[test]
    fn a_part_that_was_replaced_becomes_nothing() {
        let dir = dir();
        let (path, part) = (dir.path().join("f"), dir.path().join("f.part"));
        let replaced = |make: &dyn Fn()| {
            let mut sink = sink(&path);
            write(&mut sink, "new");
            fs::remove_file(&part).unwrap();
            make();
            let error = sink.finish(&Stop::new()).unwrap_err().to_string();
            assert!(error.ends_with("f.part: somebody removed or replaced it meanwhile"), "{error}");
            assert!(!path.exists());
        };
        replaced(&|| ());
        replaced(&|| fs::write(&part, "somebody else's").unwrap());
        assert_eq!(fs::read(&part).unwrap(), b"somebody else's");
    }

    #[test]
    fn a_directory_that_is_swapped_leads_nowhere_else() {
        let dir = dir();
        let [here, moved, elsewhere] = ["here", "moved", "elsewhere"].map(|name| dir.path().join(name));
        fs::create_dir(&here).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("f"), "precious").unwrap();
        let mut sink = sink(&here.join("f"));
        write(&mut sink, "new");
        fs::rename(&here, &moved).unwrap();
        symlink(&elsewhere, &here).unwrap();
        sink.finish(&Stop::new()).unwrap();
        assert_eq!(fs::read(elsewhere.join("f")).unwrap(), b"precious");
        assert_eq!(fs::read(moved.join("f")).unwrap(), b"new");
    }

    #[test]
    fn a_fifo_has_one_writer_and_a_reader() {
        let dir = dir();
        let path = dir.path().join("fifo");
        fifo(&path);
        let error = FileSink::open_within(&path, LOOK).unwrap_err().to_string();
        let text = format!("cannot write {}: nobody reads it: start its reader first", path.display());
        assert_eq!(error, text);
        let mut reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut first = sink(&path);
        assert_eq!(FileSink::open(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        write(&mut first, "x");
        assert_eq!(reader.read(&mut [0; 9]).unwrap(), 1);
        first.finish(&Stop::new()).unwrap();
        sink(&path).abort();
    }

    #[test]
    fn what_a_fifo_s_reader_leaves_must_be_zeros() {
        let dir = dir();
        let path = dir.path().join("fifo");
        fifo(&path);
        for (left, ok) in [("\0\0", true), ("\0x", false)] {
            let mut reader = FileSource::open(&path).unwrap();
            let mut sink = sink(&path);
            write(&mut sink, "x");
            assert_eq!(reader.read(&mut [0]).unwrap(), 1);
            write(&mut sink, left);
            drop(reader);
            assert_eq!(sink.finish(&Stop::new()).is_ok(), ok, "{left:?}");
        }
    }

    #[test]
    fn a_name_with_a_slash_behind_it_is_no_file_s() {
        let dir = dir();
        let error = FileSink::open(&dir.path().join("new/")).unwrap_err().to_string();
        assert!(error.ends_with("that is no file's name"), "{error}");
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn room_is_looked_for_and_given_back() {
        let dir = dir();
        let path = dir.path().join("f");
        let mut sink = sink(&path);
        sink.reserve(1 << 20).unwrap();
        let error = sink.reserve(1 << 62).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write {}.part: ", path.display())), "{error}");
        write(&mut sink, "x");
        sink.finish(&Stop::new()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }
}
