//! The admin's own commands that put the golden node's services to rest, and wake them whatever happens.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use ka_desc::error::Error;

const SHELL: &str = "/bin/sh";

/// Runs one command and says how it went; waits for the end of its input, which is also when we are killed; runs the
/// other. So these are never at work together.
const ONE_AND_THE_OTHER: &str =
    "/bin/sh -c \"$1\" </dev/null >&2; echo $?; cat >/dev/null; exec /bin/sh -c \"$2\" </dev/null >&2";

/// The command that does nothing, and succeeds.
const NOTHING: &str = ":";

/// The longest that is waited for services to wake.
const PATIENCE: Duration = Duration::from_secs(60);

/// Services that rest until this is dropped, or this process is gone, however that is.
#[derive(Debug)]
pub struct Quiesced {
    keeper: Option<Child>,
}

impl Quiesced {
    /// Runs `quiesce`, as it was typed; `resume` is run once at the end, and also if `quiesce` fails. What they print goes to
    /// standard error.
    ///
    /// # Errors
    /// A sentence: a command cannot be started, or `quiesce` did not end well.
    pub fn run(quiesce: Option<&str>, resume: Option<&str>) -> Result<Self, Error> {
        if quiesce.or(resume).is_none() {
            return Ok(Self { keeper: None });
        }
        let (quiesce, resume) = (quiesce.unwrap_or(NOTHING), resume.unwrap_or(NOTHING));
        // A Ctrl-C is meant for us; and without a terminal nothing that asks for a password waits for ever.
        let keeper = Command::new("setsid")
            .args([SHELL, "-c", ONE_AND_THE_OTHER, "ka-d", quiesce, resume])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut keeper =
            keeper.map_err(|e| format!("--quiesce and --resume: setsid (Debian's util-linux): {e}"))?;
        let said = keeper.stdout.take();
        let quiesced = Self { keeper: Some(keeper) };
        let mut status = String::new();
        if let Some(said) = said {
            BufReader::new(said).read_line(&mut status).map_err(|e| format!("--quiesce: {e}"))?;
        }
        match status.trim() {
            "0" => Ok(quiesced),
            status => Err(format!("--quiesce: `{quiesce}`: exit status {status}").into()),
        }
    }

    /// Wakes them. It is the same as dropping this, but says how it went.
    ///
    /// # Errors
    /// A sentence: the command did not end well, or not within a minute.
    pub fn resume(mut self) -> Result<(), Error> {
        self.wake()
    }

    fn wake(&mut self) -> Result<(), Error> {
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        drop(keeper.stdin.take());
        let cannot = |e: io::Error| format!("--resume: {e}");
        if !ends_within(&keeper, PATIENCE).map_err(cannot)? {
            return Err(format!(
                "--resume is still at work after {} s, and is not waited for",
                PATIENCE.as_secs()
            )
            .into());
        }
        let status = keeper.wait().map_err(cannot)?;
        if status.success() { Ok(()) } else { Err(format!("--resume: {status}").into()) }
    }
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        // What it printed is on standard error.
        let _ = self.wake();
    }
}

fn ends_within(child: &Child, time: Duration) -> io::Result<bool> {
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { return Ok(true) };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&time)) {
            Ok(ended) => return Ok(ended > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn services_are_woken_once_whatever_happens() {
        let dir = TempDir::new().unwrap();
        let log = dir.path().join("it's a log");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let say = |word: &str| format!("echo {word} >> \"{}\"", log.display());
        let quiesced = Quiesced::run(Some(&say("rest")), Some(&say("wake"))).unwrap();
        assert_eq!(said(), "rest\n");
        quiesced.resume().unwrap();
        assert_eq!(said(), "rest\nwake\n");
        let failed = Quiesced::run(Some("exit 3"), Some(&say("again"))).unwrap_err().to_string();
        assert!(failed.contains("--quiesce: `exit 3`: exit status 3"), "{failed}");
        assert_eq!(said(), "rest\nwake\nagain\n");
        let panicked = std::panic::catch_unwind(|| {
            let _quiesced = Quiesced::run(None, Some(&say("last")));
            panic!("as it may");
        });
        assert!(panicked.is_err());
        assert_eq!(said(), "rest\nwake\nagain\nlast\n");
        assert!(
            Quiesced::run(None, Some("exit 1"))
                .unwrap()
                .resume()
                .unwrap_err()
                .to_string()
                .contains("status: 1")
        );
        Quiesced::run(None, None).unwrap().resume().unwrap();
    }
}
