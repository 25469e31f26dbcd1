//! The file of `--report`: there when it is whole, or not there.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::stream::{FileSink, Sink, Stop};

/// Room that a report needs at least: a node's, or a server's of some hundred nodes.
const ROOM: u64 = 64 << 10;

/// A report that is yet to be written. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct ReportFile(FileSink);

impl ReportFile {
    /// Opens `path` as any output is opened, so that it is known at the start whether there can be a report.
    ///
    /// # Errors
    /// Names the file and says what is wrong.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = FileSink::open(path).and_then(|file| file.reserve(ROOM).map(|()| file));
        file.map(Self).map_err(|e| io::Error::new(e.kind(), format!("--report: {e}")))
    }

    /// Writes the report and gives it its name.
    ///
    /// # Errors
    /// Names the file and says what is wrong.
    pub fn write(self, report: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(report)?;
        text.push(b'\n');
        let (mut file, stop) = (Box::new(self.0), Stop::new());
        let written = file.write(&[text.into()], &stop).and_then(|()| file.finish(&stop));
        written.map_err(|e| io::Error::new(e.kind(), format!("--report: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        assert!(ReportFile::open(&path).is_err());
        assert_eq!(fs::read_to_string(precious).unwrap(), "old");
    }

    #[test]
    fn a_place_that_does_not_exist_is_named() {
        let error = ReportFile::open(Path::new("/nonexistent/r.json")).unwrap_err().to_string();
        assert_eq!(error, "--report: cannot write /nonexistent/r.json.part: No such file or directory");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        ReportFile::open(Path::new("/dev/null")).unwrap().write(&0).unwrap();
        let error = ReportFile::open(Path::new("/dev/full")).unwrap().write(&0).unwrap_err().to_string();
        assert_eq!(error, "--report: cannot write /dev/full: No space left on device");
    }
}
