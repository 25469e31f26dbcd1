//! The admin's own commands that put the golden node's services to rest, and wake them whatever happens.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

const SHELL: &str = "/bin/sh";

/// Waits for the end of its input, which is also when we are killed, and then runs what was typed.
const WHEN_WE_ARE_GONE: &str = "cat >/dev/null; exec /bin/sh -c \"$1\"";

/// Services that rest until this is dropped, or this process is gone, however that is.
#[derive(Debug)]
pub struct Quiesced {
    resume: Option<Child>,
}

impl Quiesced {
    /// Runs `quiesce`, as it was typed; `resume` is run once at the end, and also if `quiesce` fails.
    ///
    /// # Errors
    /// A sentence: a command cannot be started, or `quiesce` did not end well.
    pub fn run(quiesce: Option<&str>, resume: Option<&str>) -> Result<Self, String> {
        // Who wakes them is there before they are put to rest.
        let resume = resume.map(waiting).transpose().map_err(|e| format!("--resume: {SHELL}: {e}"))?;
        let quiesced = Self { resume };
        if let Some(command) = quiesce {
            let status = Command::new(SHELL)
                .args(["-c", command])
                .stdin(Stdio::null())
                .status()
                .map_err(|e| format!("--quiesce: {SHELL}: {e}"))?;
            if !status.success() {
                return Err(format!("--quiesce: `{command}`: {status}"));
            }
        }
        Ok(quiesced)
    }

    /// Wakes them. It is the same as dropping this, but says how it went.
    ///
    /// # Errors
    /// A sentence: the command did not end well.
    pub fn resume(mut self) -> Result<(), String> {
        match self.wake() {
            Some(Ok(status)) if !status.success() => Err(format!("--resume: {status}")),
            Some(Err(e)) => Err(format!("--resume: {e}")),
            _ => Ok(()),
        }
    }

    fn wake(&mut self) -> Option<io::Result<ExitStatus>> {
        let mut child = self.resume.take()?;
        drop(child.stdin.take());
        Some(child.wait())
    }
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        // How it went is on standard error already.
        let _ = self.wake();
    }
}

/// A shell that waits with this command. A Ctrl-C is meant for us, so it has a process group of its own.
fn waiting(command: &str) -> io::Result<Child> {
    Command::new(SHELL)
        .args(["-c", WHEN_WE_ARE_GONE, "ka-d", command])
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
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
        assert_eq!(quiesced.resume(), Ok(()));
        assert_eq!(said(), "rest\nwake\n");
        let failed = Quiesced::run(Some("exit 3"), Some(&say("again"))).unwrap_err();
        assert!(failed.contains("--quiesce: `exit 3`: exit status: 3"), "{failed}");
        assert_eq!(said(), "rest\nwake\nagain\n");
        let panicked = std::panic::catch_unwind(|| {
            let _quiesced = Quiesced::run(None, Some(&say("last")));
            panic!("as it may");
        });
        assert!(panicked.is_err());
        assert_eq!(said(), "rest\nwake\nagain\nlast\n");
        assert!(Quiesced::run(None, Some("exit 1")).unwrap().resume().unwrap_err().contains("status: 1"));
        assert_eq!(Quiesced::run(None, None).unwrap().resume(), Ok(()));
    }
}
