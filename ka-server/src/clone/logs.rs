//! The nodes' logs as files. What hears the nodes may open no file, so a thread of its own writes them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use ka_core::console::clock::Time;
use ka_core::stream::ours;
use ka_core::types::NodeId;

/// Bytes of one node's log at most.
const LOG_BYTES: u64 = 4 << 20;

/// Bytes of a node's log that no other node can use up, as long as there are some of [`FIRST_TOTAL_BYTES`] left.
const FIRST_BYTES: u64 = 64 << 10;

/// Bytes that the beginnings of all logs of a session have at most: enough for a thousand nodes.
const FIRST_TOTAL_BYTES: u64 = 64 << 20;

/// Bytes that all logs of a session have beyond their beginnings, at most.
const REST_TOTAL_BYTES: u64 = 64 << 20;

/// Bytes of a line besides its text: the time, and the line's end.
const STAMP_BYTES: u64 = 22;

/// The end of the logs is waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The bytes that the logs of a session may have, and have. Pure.
#[derive(Debug)]
pub(super) struct Room {
    used: BTreeMap<NodeId, u64>,
    first: u64,
    rest: u64,
    left_out: u64,
}

/// Whether there is room for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fits {
    Yes,
    /// It is the first one of this log that does not.
    NoMore,
    No,
}

impl Default for Room {
    fn default() -> Self {
        Self { used: BTreeMap::new(), first: FIRST_TOTAL_BYTES, rest: REST_TOTAL_BYTES, left_out: 0 }
    }
}

impl Room {
    /// Takes the room for a line of this node's log, if there is some.
    pub(super) fn take(&mut self, node: NodeId, line: &str) -> Fits {
        let bytes = line.len() as u64 + STAMP_BYTES;
        let used = self.used.entry(node).or_default();
        let pool = if *used + bytes <= FIRST_BYTES { &mut self.first } else { &mut self.rest };
        if *used + bytes <= LOG_BYTES && bytes <= *pool {
            *pool -= bytes;
            *used += bytes;
            return Fits::Yes;
        }
        self.left_out += 1;
        // Nothing comes after that, however short it is.
        if std::mem::replace(used, LOG_BYTES) < LOG_BYTES { Fits::NoMore } else { Fits::No }
    }

    /// The number of lines for which there was no room.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

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
    for job in jobs {
        match job {
            Job::Line(path, line) => {
                // Nodes' own clocks may be anything. Opened for each line: there may be more nodes than a program may have
                // open files.
                let _ = open(&path).and_then(|mut file| writeln!(file, "{} {line}", Time::now().stamp()));
            }
            Job::Done(done) => drop(done.send(())),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    ours::append(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a node's log with lines of this length, and returns how many bytes it took.
    fn fill(room: &mut Room, node: u32, line: &str) -> u64 {
        let mut bytes = 0;
        while room.take(NodeId(node), line) == Fits::Yes {
            bytes += line.len() as u64 + STAMP_BYTES;
        }
        bytes
    }

    #[test]
    fn many_nodes_fill_no_disk_and_leave_the_others_a_beginning() {
        let (mut room, line) = (Room::default(), "x".repeat(1000));
        let all: u64 = (0..150).map(|node| fill(&mut room, node, &line)).sum();
        assert!(all <= REST_TOTAL_BYTES + 150 * FIRST_BYTES, "{all} bytes");
        assert!(fill(&mut room, 1000, &line) > FIRST_BYTES - 2000, "those who come later have a beginning");
        let all: u64 = (2000..10_000).map(|node| fill(&mut room, node, &line)).sum();
        assert!(all <= FIRST_TOTAL_BYTES, "{all} bytes");
        assert!(room.left_out() >= 8000);
    }

    #[test]
    fn a_log_ends_once_and_nothing_short_comes_after_it() {
        let mut room = Room::default();
        assert!(fill(&mut room, 1, &"x".repeat(1000)) <= LOG_BYTES);
        assert_eq!(room.take(NodeId(1), ""), Fits::No);
        let mut room = Room::default();
        assert_eq!(room.take(NodeId(1), &"x".repeat(5 << 20)), Fits::NoMore);
        assert_eq!((room.take(NodeId(1), ""), room.left_out()), (Fits::No, 2));
    }
}
