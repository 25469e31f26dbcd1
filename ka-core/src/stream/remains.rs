//! Things that must not outlive this process: commands that run, and files that are not whole.
//!
//! The code that starts one of them ends it. This module lists those that are open at any moment, for a program that
//! ends without waiting.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::fd::INTERRUPTED;
use super::part::Part;

/// A disk that hangs does not hold up the end for longer.
const PATIENCE: Duration = Duration::from_secs(1);

static OPEN: Mutex<Open> = Mutex::new(Open { abandoned: false, next: 0, all: BTreeMap::new() });

struct Open {
    abandoned: bool,
    next: u64,
    all: BTreeMap<u64, Remains>,
}

enum Remains {
    /// A command that is not reaped yet, so that its number is nobody else's.
    Group(Pid),
    Part(Arc<Part>),
}

/// Kills all commands that still run, with their groups, and removes all files that are not whole. Nothing that a session
/// of this process has begun looks complete afterwards, and nothing more is begun.
///
/// For a program that ends now and waits for no session: sources and sinks that are finished, aborted or dropped leave
/// nothing anyway.
pub fn abandon() {
    let (done, all_done) = mpsc::channel::<()>();
    let work = move || {
        let all = {
            let mut open = open();
            open.abandoned = true;
            open.all.values().for_each(Remains::kill);
            std::mem::take(&mut open.all)
        };
        all.values().for_each(Remains::remove);
        drop(done);
    };
    if thread::Builder::new().name("ka-abandon".into()).spawn(work).is_ok() {
        let _ = all_done.recv_timeout(PATIENCE);
    }
}

/// Something that is open, until it is [`settled`](Self::settle).
#[derive(Debug)]
pub(super) struct Entry(u64);

impl Entry {
    /// A file that is not whole yet.
    ///
    /// # Errors
    /// This process is about to end.
    pub(super) fn part(part: &Arc<Part>) -> io::Result<Self> {
        open().add(|| Ok((Remains::Part(Arc::clone(part)), ()))).map(|(entry, ())| entry)
    }

    /// Starts a command in this process group, or in a new one, which is returned.
    ///
    /// # Errors
    /// It cannot be started, or this process is about to end.
    pub(super) fn command(program: &mut Command, group: Option<Pid>) -> io::Result<(Self, Child, Pid)> {
        program.process_group(group.map_or(0, |group| group.as_raw_nonzero().get()));
        let begin = || {
            let child = program.spawn()?;
            let group = group.unwrap_or_else(|| Pid::from_child(&child));
            Ok((Remains::Group(group), (child, group)))
        };
        open().add(begin).map(|(entry, (child, group))| (entry, child, group))
    }

    /// Nothing of it is left, or it is about to be reaped.
    pub(super) fn settle(&self) {
        open().all.remove(&self.0);
    }
}

fn open() -> MutexGuard<'static, Open> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open {
    fn add<T>(&mut self, begin: impl FnOnce() -> io::Result<(Remains, T)>) -> io::Result<(Entry, T)> {
        if self.abandoned {
            return Err(io::Error::other(INTERRUPTED));
        }
        let (remains, begun) = begin()?;
        self.next += 1;
        self.all.insert(self.next, remains);
        Ok((Entry(self.next), begun))
    }
}

impl Remains {
    fn kill(&self) {
        if let Self::Group(group) = self {
            // It fails only if nobody is left to hear it.
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }

    fn remove(&self) {
        if let Self::Part(part) = self {
            part.remove();
        }
    }
}
