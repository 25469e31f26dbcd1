//! The nodes' logs as files. What hears the nodes may open no file, so a thread of its own writes them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use ka_core::console::clock::Time;

/// One node's log is at most this long, in bytes.
const LOG_BYTES: usize = 4 << 20;

/// The end of the logs is waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The channel to the thread that writes the lines.
#[derive(Clone, Debug)]
pub(super) struct Logs(Sender<Job>);

enum Job {
    Line(PathBuf, String),
    Done(Sender<()>),
}

impl Logs {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (tx, rx) = channel();
        thread::Builder::new().name("ka-logs".into()).spawn(move || write(&rx))?;
        Ok(Self(tx))
    }

    /// A line at the end of this file, which is made if it is not there, as is its folder.
    pub(super) fn line(&self, file: PathBuf, line: String) {
        let _ = self.0.send(Job::Line(file, line));
    }

    /// Waits a while until all of them are written.
    pub(super) fn finish(&self) {
        let (done, written) = channel();
        if self.0.send(Job::Done(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// A log that cannot be written stops nothing.
fn write(jobs: &Receiver<Job>) {
    // Opened for each line: there may be more nodes than a program may have open files.
    let mut files: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for job in jobs {
        match job {
            Job::Line(path, line) => {
                // Nodes' own clocks may be anything.
                let line = format!("{} {line}", Time::now().stamp());
                let bytes = files.entry(path.clone()).or_default();
                *bytes += line.len() + 1;
                if *bytes <= LOG_BYTES {
                    let _ = open(&path).and_then(|mut file| writeln!(file, "{line}"));
                }
            }
            Job::Done(done) => drop(done.send(())),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    OpenOptions::new().append(true).create(true).open(path)
}
