//! A file that keeps what a source gives, so that it can be read again.

use super::again::FileAgain;
use super::fd::cannot;
use super::output::FileSink;
use super::traits::{ReadAt, Sink, Stop};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A file on the server that takes what a source gives that cannot be read again, as much room as that may need.
#[derive(Debug)]
pub struct Spool {
    /// The file that is written, with its path; `None` for a file without a name.
    kept: Option<Box<FileSink>>,
    file: Arc<File>,
    written: u64,
}

impl Spool {
    /// A spool in the directory `path`, gone when the session is; or in the new file `path`, which stays if everything
    /// was read well.
    ///
    /// # Errors
    /// Names the path: it exists and is no directory, or nothing can be written there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let failed = |e| cannot(format_args!("spool to {}", path.display()), &e);
        if fs::metadata(path).is_ok_and(|m| m.is_dir()) {
            let file = tempfile::tempfile_in(path).map_err(failed)?;
            return Ok(Self { kept: None, file: Arc::new(file), written: 0 });
        }
        if path.symlink_metadata().is_ok() {
            return Err(failed(io::Error::other("it exists already; name a directory, or a new file")));
        }
        // A golden image is full of secrets.
        let sink = FileSink::private(path)?;
        let file = Arc::new(sink.duplicate().map_err(failed)?);
        Ok(Self { kept: Some(Box::new(sink)), file, written: 0 })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// The system's, such as that the disk is full. What it took before can still be read.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.written).map_err(|e| cannot("write to the spool", &e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// The bytes that are written from now on, as a stream that can be read again.
    #[must_use]
    pub fn again(&self) -> Box<dyn ReadAt> {
        Box::new(FileAgain { file: Arc::clone(&self.file), base: self.written })
    }

    /// Everything was read well: a spool with a name gets it now.
    ///
    /// # Errors
    /// Names the file.
    pub fn finish(self, stop: &Stop) -> io::Result<()> {
        self.kept.map_or(Ok(()), |sink| sink.finish(stop))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_spooled_is_read_again_stream_by_stream() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        let first = spool.again();
        spool.write(b"hello, ").unwrap();
        let second = spool.again();
        spool.write(b"world").unwrap();
        let mut buf = [0; 5];
        assert_eq!(first.read_at(&mut buf, 2).unwrap(), 5);
        assert_eq!(&buf, b"llo, ");
        assert_eq!(second.read_at(&mut buf, 0).unwrap(), 5);
        assert_eq!(&buf, b"world");
        assert_eq!(second.read_at(&mut buf, 5).unwrap(), 0);
        spool.finish(&Stop::new()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_spool_with_a_name_stays_only_if_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path).unwrap();
        spool.write(b"half").unwrap();
        drop(spool);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut spool = Spool::open(&path).unwrap();
        spool.write(b"whole").unwrap();
        assert!(!path.exists());
        spool.finish(&Stop::new()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let error = Spool::open(&path).unwrap_err().to_string();
        assert!(error.ends_with("it exists already; name a directory, or a new file"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(Spool::open(Path::new("/dev/null")).is_err());
    }
}
