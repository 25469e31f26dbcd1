//! A command that runs, and its process group: how it is started, waited for and stopped.
//!
//! Absent: what it reads and writes, which is [`command`](super::command)'s.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open, waitid,
};

use super::fd::{INTERRUPTED, STEP, cannot, pause, poll_for};
use super::remains::Entry;
use super::traits::Stop;
use crate::limits::STOP_GRACE;

pub(super) const SHELL: &str = "/bin/sh";

/// The interval between two looks, where the system has no event to wait for.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// A command that was started and has not been reaped: dropping it stops its whole group.
///
/// It is reaped last of all. Until then its process id, and with it its group's, cannot become somebody else's.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    group: Pid,
    command: String,
    /// The command is one that somebody has typed.
    shell: bool,
    /// `None` on a kernel without.
    pub(super) pidfd: Option<OwnedFd>,
    /// The exit status beside 0 that means that all is well.
    pub(super) well: i32,
    entry: Entry,
    guard: Option<Guard>,
    reaped: bool,
}

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Status(i32),
    Signal(i32),
    /// The kernel reaped it, because this process was started with SIGCHLD ignored.
    Untold,
}

impl Running {
    /// Starts a command in a process group of its own, or in that of its guard.
    pub(super) fn start(
        mut program: Command,
        name: &str,
        stdin: Stdio,
        stdout: Stdio,
        guard: Option<Guard>,
    ) -> io::Result<Self> {
        program.stdin(stdin).stdout(stdout);
        let group = guard.as_ref().map(Guard::group);
        let (entry, child, group) =
            Entry::command(&mut program, group).map_err(|e| cannot(format_args!("start `{name}`"), &e))?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        let shell = program.get_program() == SHELL;
        Ok(Self { child, group, command: name.into(), shell, pidfd, well: 0, entry, guard, reaped: false })
    }

    /// The command may see the end of its input.
    pub(super) fn unguard(&mut self) {
        self.guard = None;
    }

    /// Waits for the exit with a status that means well. Any other end takes what remains of the group with it.
    pub(super) fn wait(mut self, stop: &Stop) -> io::Result<()> {
        loop {
            match self.ending_within(STEP) {
                Some(ending) if self.is_well(ending) => {
                    self.reap();
                    return Ok(());
                }
                Some(ending) => return Err(io::Error::other(self.ended(ending))),
                None if stop.is_set() => return Err(io::Error::other(INTERRUPTED)),
                None => {}
            }
        }
    }

    /// Waits up to `timeout` for the end of a command that reads no more.
    ///
    /// # Errors
    /// It has not ended well.
    pub(super) fn may_end_well(&self, timeout: Duration) -> io::Result<()> {
        match self.ending_within(timeout) {
            Some(ending) if !self.is_well(ending) => Err(io::Error::other(self.early())),
            _ => Ok(()),
        }
    }

    fn is_well(&self, ending: Ending) -> bool {
        matches!(ending, Ending::Status(status) if status == 0 || status == self.well)
    }

    /// Waits up to `timeout` for the command's end, and leaves it to be reaped.
    pub(super) fn ending_within(&self, timeout: Duration) -> Option<Ending> {
        if let Some(pidfd) = &self.pidfd {
            // An error only makes the wait shorter.
            let _ = poll_for(pidfd, PollFlags::IN, timeout);
            return self.ending();
        }
        let mut left = timeout;
        while self.ending().is_none() && !left.is_zero() {
            pause(left.min(LOOK));
            left = left.saturating_sub(LOOK);
        }
        self.ending()
    }

    fn ending(&self) -> Option<Ending> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid()), look) {
            Ok(status) => status.as_ref().map(Ending::of),
            Err(_) => Some(Ending::Untold),
        }
    }

    fn stop(&mut self) {
        self.signal(Signal::TERM);
        let mut left = STOP_GRACE;
        while self.ending_within(STEP).is_none() && !left.is_zero() {
            left = left.saturating_sub(STEP);
        }
        // Also when the shell has gone: others of its group may not have heard.
        self.signal(Signal::KILL);
        self.reap();
    }

    fn signal(&self, signal: Signal) {
        // It fails only if nobody is left to hear it.
        let _ = kill_process_group(self.group, signal);
    }

    fn reap(&mut self) {
        self.unguard();
        self.entry.settle();
        let _ = self.child.wait();
        self.reaped = true;
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(super) fn cannot(&self, verb: &str, error: &io::Error) -> io::Error {
        cannot(format_args!("{verb} `{}`", self.command), error)
    }

    fn ended(&self, ending: Ending) -> String {
        let command = &self.command;
        match ending {
            Ending::Status(status) => format!("`{command}` ended with exit status {status}"),
            Ending::Signal(signal) => format!("`{command}` was killed by signal {signal}"),
            Ending::Untold => format!("`{command}` ended, but not even the kernel can say how"),
        }
    }

    /// The message about a command that reads no more. It is most likely about to exit, so that is waited for.
    pub(super) fn early(&self) -> String {
        let command = &self.command;
        match self.ending_within(STOP_GRACE) {
            Some(Ending::Status(0)) if self.shell => {
                let hint = "if it needs no more, let it read the rest: `… && cat >/dev/null`";
                format!("`{command}` ended before the stream did, with exit status 0; {hint}")
            }
            Some(Ending::Status(status)) => {
                format!("`{command}` ended before the stream did, with exit status {status}")
            }
            Some(Ending::Signal(signal)) => {
                format!("`{command}` was killed by signal {signal} before the stream ended")
            }
            Some(Ending::Untold) => format!("`{command}` ended before the stream did"),
            None => format!("`{command}` closed its input before the stream ended"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.stop();
        }
    }
}

/// The first process of a command's group. When this process is gone, it kills the group and itself with it; until then,
/// it holds the command's input open. So a command cannot take a stream for complete because we were killed.
///
/// A child could be killed with its parent, but not whom it has started, and asking the kernel for that needs code
/// between fork and exec.
#[derive(Debug)]
pub(super) struct Guard(Child);

/// Waits for the end of a pipe that is never written to.
const GUARD: &str = "trap '' HUP INT TERM; read -r _; kill -KILL 0";

impl Guard {
    /// Starts the guard of the command that will read from `input`.
    pub(super) fn start(input: &File) -> io::Result<Self> {
        let mut shell = Command::new(SHELL);
        shell.args(["-c", GUARD, "ka-guard"]);
        shell.stdin(Stdio::piped()).stdout(input.try_clone()?).stderr(Stdio::null());
        shell.env_clear().current_dir("/").process_group(0).spawn().map(Self)
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It hears nothing else, and lets go of the input when it is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ending {
    fn of(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => Self::Status(status),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Untold,
        }
    }
}
