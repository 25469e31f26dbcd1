//! While it is cloned, the golden node does not sleep, and its package managers wait.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ka_desc::error::Error;
use ka_desc::run::{Call, Runner};
use rustix::fs::{FlockOperation, flock};

/// The timers that start package managers automatically.
const TIMERS: [&str; 8] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dnf-makecache.timer",
    "dnf-automatic.timer",
    "dnf-automatic-install.timer",
    "dnf5-automatic.timer",
    "transactional-update.timer",
    "snapd.snap-repair.timer",
];

/// The golden node stays awake for as long as this lives, and no longer than this process.
#[derive(Debug)]
pub struct Awake(Child);

impl Awake {
    /// Asks systemd to let the machine neither sleep nor be sent to sleep.
    ///
    /// # Errors
    /// A sentence: nobody promises that, such as where there is no systemd.
    pub fn hold() -> Result<Self, Error> {
        let cannot = |why: &dyn std::fmt::Display| format!("nothing keeps this machine from sleeping: {why}");
        // It ends with its input, which is also when we are killed. What we say comes back when the promise is given.
        let mut child = Command::new("systemd-inhibit")
            .args(["--what=sleep:idle:handle-lid-switch", "--who=ka-d", "--why=this machine is being cloned"])
            .args(["--mode=block", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| cannot(&format_args!("systemd-inhibit: {e}")))?;
        let mut heard = [0];
        let said = child.stdin.as_mut().map(|input| input.write_all(b"\n"));
        let echo = child.stdout.as_mut().map(|output| output.read_exact(&mut heard));
        match (said, echo) {
            (Some(Ok(())), Some(Ok(()))) => Ok(Self(child)),
            _ => {
                drop(child.stdin.take());
                let said =
                    child.wait_with_output().map(|out| String::from_utf8_lossy(&out.stderr).into_owned());
                Err(cannot(&said.unwrap_or_default().trim()).into())
            }
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Package managers' timers that are stopped until this is dropped.
///
/// Which ones stands in a file: the next run starts what a killed one has stopped.
pub struct Timers {
    runner: Box<dyn Runner>,
    record: PathBuf,
    /// The record, locked: who can lock it finds what a killed run has left.
    lock: File,
    stopped: Vec<&'static str>,
}

impl Timers {
    /// Starts what a killed run has stopped. `folder` is [`RUN`](crate::golden::private::RUN).
    ///
    /// # Errors
    /// A sentence: the record cannot be read.
    pub fn restore(runner: Box<dyn Runner>, folder: &Path) -> Result<(), Error> {
        Self::open(runner, folder).map(drop)
    }

    /// Stops the timers that run. `None`: another run of `ka-d` has stopped them.
    ///
    /// # Errors
    /// A sentence: they cannot be stopped, and package managers may start in the midst of the cloning.
    pub fn stop(runner: Box<dyn Runner>, folder: &Path) -> Result<Option<Self>, Error> {
        let Some(mut timers) = Self::open(runner, folder)? else { return Ok(None) };
        let cannot = |e: String| format!("package managers' timers cannot be stopped: {e}");
        let mut query = Call::new("systemctl", ["is-active"]);
        query.args.extend(TIMERS.map(str::to_owned));
        // Its status says whether all of them are active; what it prints says which.
        let text = match timers.runner.read(&query) {
            Ok(text) => text,
            Err(failure) if failure.said.lines().any(|line| TIMERS.contains(&line) || is_state(line)) => {
                failure.said
            }
            Err(failure) => return Err(cannot(failure.to_string()).into()),
        };
        let active = TIMERS.into_iter().zip(text.lines()).filter(|(_, state)| *state == "active");
        let active: Vec<&str> = active.map(|(timer, _)| timer).collect();
        if active.is_empty() {
            return Ok(Some(timers));
        }
        // First it is written down, then it is done.
        timers.write(&active).map_err(|e| cannot(format!("{}: {e}", timers.record.display())))?;
        timers.stopped.extend(
            active.iter().filter(|timer| !timers.stopped.contains(timer)).copied().collect::<Vec<_>>(),
        );
        timers.runner.write(&call("stop", &active)).map_err(|e| cannot(e.to_string()))?;
        Ok(Some(timers))
    }

    /// The timers that are stopped.
    #[must_use]
    pub fn stopped(&self) -> &[&'static str] {
        &self.stopped
    }

    /// Takes the record, if nobody else has it; whatever stands in it is to be started at the end.
    fn open(runner: Box<dyn Runner>, folder: &Path) -> Result<Option<Self>, Error> {
        let record = folder.join("timers");
        let cannot = |e: io::Error| format!("{}: {e}", record.display());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
        let mut options = OpenOptions::new();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&record)
            .map_err(cannot)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let mut text = String::new();
        lock.read_to_string(&mut text).map_err(cannot)?;
        let stopped = TIMERS.into_iter().filter(|timer| text.lines().any(|line| line == *timer)).collect();
        Ok(Some(Self { runner, record, lock, stopped }))
    }

    fn write(&mut self, active: &[&str]) -> io::Result<()> {
        let all = active.iter().chain(&self.stopped).map(|timer| format!("{timer}\n"));
        let text: String = all.collect();
        self.lock.rewind()?;
        self.lock.set_len(0)?;
        self.lock.write_all(text.as_bytes())
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        if !self.stopped.is_empty() && self.runner.write(&call("start", &self.stopped)).is_err() {
            // The record stays for the next run.
            return;
        }
        let _ = fs::remove_file(&self.record);
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

fn call(verb: &str, timers: &[&str]) -> Call {
    Call::new("systemctl", [verb].iter().chain(timers).copied())
}

fn is_state(line: &str) -> bool {
    ["active", "inactive", "failed", "unknown"].contains(&line)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use ka_desc::run::Failure;
    use tempfile::TempDir;

    use super::*;

    /// A systemd with these states, which notes what it is told.
    #[derive(Clone)]
    struct Systemd {
        states: &'static str,
        told: Rc<RefCell<Vec<String>>>,
    }

    impl Runner for Systemd {
        fn read(&mut self, call: &Call) -> Result<String, Failure> {
            let failure = |said: &str| Failure {
                call: call.to_string(),
                code: Some(3),
                status: "exit status: 3".into(),
                said: said.into(),
            };
            Err(failure(self.states))
        }

        fn write(&mut self, call: &Call) -> Result<String, Failure> {
            self.told.borrow_mut().push(call.to_string());
            Ok(String::new())
        }

        fn has(&self, _program: &str) -> bool {
            true
        }
    }

    fn systemd(states: &'static str) -> Systemd {
        Systemd { states, told: Rc::default() }
    }

    const STATES: &str = "active\ninactive\nactive\ninactive\ninactive\ninactive\ninactive\ninactive\n";

    #[test]
    fn timers_that_run_are_stopped_and_started_again() {
        let dir = TempDir::new().unwrap();
        let systemd = systemd(STATES);
        let folder = dir.path().join("ka");
        let timers = Timers::stop(Box::new(systemd.clone()), &folder).unwrap().unwrap();
        assert_eq!(timers.stopped(), ["apt-daily.timer", "dnf-makecache.timer"]);
        let second = Timers::stop(Box::new(systemd.clone()), &folder).unwrap();
        assert!(second.is_none(), "another run has them");
        drop(timers);
        let names = "apt-daily.timer dnf-makecache.timer";
        assert_eq!(
            *systemd.told.borrow(),
            [format!("systemctl stop {names}"), format!("systemctl start {names}")]
        );
        assert!(!folder.join("timers").exists());
    }

    #[test]
    fn what_a_killed_run_has_stopped_is_started_by_the_next() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("timers"), "apt-daily-upgrade.timer\nsshd.service\n").unwrap();
        let systemd = systemd(STATES);
        Timers::restore(Box::new(systemd.clone()), dir.path()).unwrap();
        assert_eq!(*systemd.told.borrow(), ["systemctl start apt-daily-upgrade.timer"]);
        fs::write(dir.path().join("timers"), "apt-daily-upgrade.timer\n").unwrap();
        let timers = Timers::stop(Box::new(systemd.clone()), dir.path()).unwrap().unwrap();
        assert_eq!(timers.stopped().len(), 3);
        // As if it was killed: the record says all three.
        let record = fs::read_to_string(dir.path().join("timers")).unwrap();
        assert_eq!(record.lines().count(), 3, "{record}");
    }

    #[test]
    fn without_systemd_it_is_said() {
        let dir = TempDir::new().unwrap();
        let systemd =
            systemd("System has not been booted with systemd as init system (PID 1). Can't operate.\n");
        let said = Timers::stop(Box::new(systemd.clone()), dir.path()).unwrap_err().to_string();
        assert!(said.contains("cannot be stopped") && said.contains("not been booted"), "{said}");
        assert!(systemd.told.borrow().is_empty() && !dir.path().join("timers").exists());
    }

    #[test]
    fn a_machine_is_kept_awake_or_it_is_said_that_it_is_not() {
        match Awake::hold() {
            Ok(awake) => drop(awake),
            Err(why) => {
                let said = why.to_string();
                assert!(said.starts_with("nothing keeps this machine from sleeping: "), "{said}");
            }
        }
    }
}
