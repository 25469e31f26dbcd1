//! The file of `--report`: there when it is whole, or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A report that is yet to be written. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
}

impl ReportFile {
    /// Opens `path` with `.part` behind it, so that it is known at the start whether there can be a report.
    ///
    /// # Errors
    /// Names the file and says what is wrong.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // Made anew, never opened: what lies there may be somebody's link to something precious.
        let file = match fs::remove_file(&part) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => File::create_new(&part),
        };
        let file = file.map_err(|e| cannot(&part, &e))?;
        Ok(Self { path: path.into(), part, file })
    }

    /// Writes the report and gives it its name.
    ///
    /// # Errors
    /// Names the file and says what is wrong.
    pub fn write(mut self, report: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(report)?;
        text.push(b'\n');
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_all());
        written.map_err(|e| cannot(&self.part, &e))?;
        fs::rename(&self.part, &self.path).map_err(|e| cannot(&self.path, &e))
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.part);
    }
}

fn cannot(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write the report {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_appears_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        let report = ReportFile::open(&path).unwrap();
        assert!(!path.exists());
        report.write(&[1, 2]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n  1,\n  2\n]\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        drop(ReportFile::open(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("r.json"), dir.path().join("precious"));
        fs::write(&precious, "old").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("r.json.part")).unwrap();
        ReportFile::open(&path).unwrap().write(&0).unwrap();
        assert_eq!(fs::read_to_string(precious).unwrap(), "old");
    }

    #[test]
    fn a_place_that_does_not_exist_is_named() {
        let error = ReportFile::open(Path::new("/nonexistent/r.json")).unwrap_err().to_string();
        assert!(error.starts_with("cannot write the report /nonexistent/r.json.part: No such"), "{error}");
    }
}
