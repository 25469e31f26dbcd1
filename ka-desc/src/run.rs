//! Commands: what is run, always as a list of arguments and never through a shell, and by whom.
//!
//! Programs that want to run commands in their own way (elsewhere, with a log, not at all) supply a [`Runner`].

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::Error;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The program, without a path.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<String>,
    /// The text that the program reads on standard input.
    pub input: String,
}

impl Call {
    /// A program with arguments, and nothing on standard input.
    #[must_use]
    pub fn new<S: Into<String>>(program: &'static str, args: impl IntoIterator<Item = S>) -> Self {
        Self { program, args: args.into_iter().map(Into::into).collect(), input: String::new() }
    }
}

impl fmt::Display for Call {
    /// As one would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program)?;
        for arg in &self.args {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
            match !arg.is_empty() && arg.chars().all(plain) {
                true => write!(f, " {arg}")?,
                false => write!(f, " '{}'", arg.replace('\'', r"'\''"))?,
            }
        }
        if self.input.is_empty() { Ok(()) } else { write!(f, " <<'END'\n{}\nEND", self.input.trim_end()) }
    }
}

/// A way to run commands.
pub trait Runner {
    /// Runs a command that changes nothing, and gives its standard output.
    ///
    /// # Errors
    /// It could not be started, or did not end well.
    fn read(&mut self, call: &Call) -> Result<String, Failure>;

    /// Runs a command that changes something, and gives its standard output.
    ///
    /// # Errors
    /// It could not be started, or did not end well.
    fn write(&mut self, call: &Call) -> Result<String, Failure>;

    /// Whether there is such a program.
    fn has(&self, program: &str) -> bool;

    /// Whether `write` only says what it would do. Then nothing waits for what it does.
    fn is_dry(&self) -> bool {
        false
    }
}

/// A command that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The command, as one would type it.
    pub call: String,
    /// The exit status, if it ended by itself.
    pub code: Option<i32>,
    /// The exit status, or another reason for the failure, in words.
    pub status: String,
    /// All that it said.
    pub said: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.call, self.status)?;
        self.said.trim_end().lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::from_cause(failure)
    }
}

/// Runs commands here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here;

impl Runner for Here {
    fn read(&mut self, call: &Call) -> Result<String, Failure> {
        run(call)
    }

    fn write(&mut self, call: &Call) -> Result<String, Failure> {
        run(call)
    }

    fn has(&self, program: &str) -> bool {
        find(program).is_some()
    }
}

/// Runs what changes nothing here, and only says what would change something.
#[derive(Debug)]
pub struct DryRun<W> {
    to: W,
    loops: u32,
}

impl<W: Write> DryRun<W> {
    /// Says it to `to`, a command a line.
    pub fn new(to: W) -> Self {
        Self { to, loops: 0 }
    }
}

impl<W: Write> Runner for DryRun<W> {
    fn read(&mut self, call: &Call) -> Result<String, Failure> {
        run(call)
    }

    fn write(&mut self, call: &Call) -> Result<String, Failure> {
        let failure = |e: io::Error| Failure {
            call: call.to_string(),
            code: None,
            status: e.to_string(),
            said: String::new(),
        };
        writeln!(self.to, "{call}").map_err(failure)?;
        // What it attaches has no name yet.
        if call.program == "losetup" && call.args.iter().any(|a| a == "--find") {
            self.loops += 1;
            return Ok(format!("LOOP{}", self.loops));
        }
        Ok(String::new())
    }

    fn has(&self, program: &str) -> bool {
        find(program).is_some()
    }

    fn is_dry(&self) -> bool {
        true
    }
}

/// The path of a program. Rescue systems and plain users often lack the sbin directories in their PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn run(call: &Call) -> Result<String, Failure> {
    let failure = |code: Option<i32>, status: String, said: String| Failure {
        call: call.to_string(),
        code,
        status,
        said,
    };
    let no_start = |e: io::Error| failure(None, format!("it could not be started: {e}"), String::new());
    let program = find(call.program).ok_or_else(|| no_start(io::ErrorKind::NotFound.into()))?;
    let mut child = Command::new(program)
        .args(&call.args)
        // Messages are compared (there is no table here), and names are UTF-8.
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no_start)?;
    // The longest input, a script of 128 lines, fits into a pipe's 64 KiB, so this does not wait for the reader.
    // A program that ends without reading says why by its status.
    let _ = child.stdin.take().map(|mut input| input.write_all(call.input.as_bytes()));
    let output = child.wait_with_output().map_err(no_start)?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let said = out + &String::from_utf8_lossy(&output.stderr);
    Err(failure(output.status.code(), output.status.to_string(), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_as_one_would_type_it() {
        let mut call = Call::new("mkfs.ext4", ["-L", "it's mine", ""]);
        assert_eq!(call.to_string(), r"mkfs.ext4 -L 'it'\''s mine' ''");
        call.input = "label: gpt\n".into();
        assert!(call.to_string().ends_with(" <<'END'\nlabel: gpt\nEND"));
    }

    #[test]
    fn what_fails_is_told_with_what_it_said() {
        let failure = Here.read(&Call::new("ls", ["/nonexistent"])).unwrap_err();
        assert!(failure.to_string().starts_with("`ls /nonexistent`: exit status: 2\n    /"), "{failure}");
        assert_eq!(failure.code, Some(2));
        let failure = Here.read(&Call::new("no-such-program", [""; 0])).unwrap_err();
        assert!(failure.to_string().contains("could not be started"));
        assert!(Here.has("sh") && !Here.has("no-such-program"));
    }

    #[test]
    fn a_dry_run_changes_nothing_and_says_all() {
        let mut said = Vec::new();
        let mut dry = DryRun::new(&mut said);
        assert_eq!(dry.write(&Call::new("losetup", ["--find", "x"])).unwrap(), "LOOP1");
        assert_eq!(dry.write(&Call::new("rm", ["/nonexistent"])), Ok(String::new()));
        assert_eq!(String::from_utf8(said).unwrap(), "losetup --find x\nrm /nonexistent\n");
    }
}
