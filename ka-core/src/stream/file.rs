//! A file or a device as the beginning of a stream: [`FileSource`].
//!
//! Absent: holes (they are read as zeros).

use std::fs::{self, File};
use std::io::{self};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};

use super::again::FileAgain;
use super::fd::{STEP, cannot, read_some, readable_within};
use super::kind::{Kind, refuse_directory};
use super::lock::{For, lock};
use super::stdio::{Use, standard};
use super::traits::{ReadAt, Source};

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

impl FileSource {
    /// Opens `path`. A fifo is opened at once, its writer is waited for when it is read.
    ///
    /// # Errors
    /// Names the path: it is a directory, is missing, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let failed = |e| cannot(format_args!("read {}", path.display()), &e);
        // Where a standard descriptor has a name, that is what is read; but it must be one.
        standard(path, Use::Input)?;
        let metadata = fs::metadata(path).map_err(failed)?;
        refuse_directory(path, &metadata)?;
        let file = open_for_reading(path, metadata.file_type().is_fifo()).map_err(failed)?;
        let kind = Kind::of(&file).map_err(failed)?;
        if let Kind::Block(_) = kind {
            // Not while somebody writes it, such as a node of this very session.
            lock(&file, For::Reading).map_err(failed)?;
        }
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

    fn again(&self) -> Option<Box<dyn ReadAt>> {
        let can = matches!(self.kind, Kind::Regular(_) | Kind::Block(_));
        let file = can.then(|| self.file.try_clone().ok()).flatten()?;
        Some(Box::new(FileAgain { file: Arc::new(file), base: 0 }))
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        match self.kind {
            Kind::Regular(size) if self.count < size => Err(io::Error::other(format!(
                "{} became shorter while it was read: {} of {size} bytes",
                self.path.display(),
                self.count
            ))),
            _ => Ok(()),
        }
    }
}

fn open_for_reading(path: &Path, fifo: bool) -> io::Result<File> {
    if !fifo {
        return File::open(path);
    }
    // Opening must not wait for a writer that may never come: here nobody could call it off.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::fd::tests::{fifo, read_all};
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn source(path: &Path) -> Box<FileSource> {
        Box::new(FileSource::open(path).unwrap())
    }

    #[test]
    fn a_file_is_read_to_its_end() {
        let dir = dir();
        let path = dir.path().join("f");
        fs::write(&path, "hello, world").unwrap();
        let mut source = source(&path);
        assert_eq!(source.size(), Some(12));
        assert!(source.ready(Duration::ZERO).unwrap());
        assert_eq!(read_all(source.as_mut()), b"hello, world");
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
        assert_eq!(read_all(longer.as_mut()), b"hello, world");
        longer.finish().unwrap();

        fs::write(&path, "hel").unwrap();
        assert_eq!(read_all(shorter.as_mut()), b"hel");
        let text = format!("{} became shorter while it was read: 3 of 5 bytes", path.display());
        assert_eq!(shorter.finish().unwrap_err().to_string(), text);
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
}
