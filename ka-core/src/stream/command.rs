//! A command as the end of a stream: [`CommandSource`] reads what it prints, [`CommandSink`] feeds it.
//!
//! The command is run by `/bin/sh -c`, or is a program with its arguments. It has a process group of its own, and it
//! is the group that is told to stop.
//!
//! Absent: a hold on processes that leave the group (`setsid`), on background processes of a command that ended
//! well, and on what a command does with the bytes. No signal disposition of this process is changed.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::fcntl_setpipe_size;

use super::fd::{poll_for, read_some};
use super::pipe::Pipe;
use super::running::{Guard, Running, SHELL};
use super::traits::{Sink, Source, Stop};
use crate::limits::STOP_GRACE;

/// The pipe's size asked for: the largest that Linux grants to everybody unless told otherwise.
const PIPE_BYTES: usize = 1 << 20;

/// The size that a pipe has anyway.
const PIPE_BYTES_DEFAULT: usize = 64 << 10;

/// The output of a command, up to its end.
///
/// Dropped without [`finish`](Source::finish), it stops the command as [`abort`](Source::abort) does.
#[derive(Debug)]
pub struct CommandSource {
    running: Running,
    stdout: PipeReader,
}

impl CommandSource {
    /// Starts `command` with an empty standard input; what it prints on standard error goes to ours.
    ///
    /// # Errors
    /// The shell cannot be started. A command that the shell cannot find is an exit status, 127.
    pub fn spawn(command: &str) -> io::Result<Self> {
        Self::start(shell(command), command)
    }

    /// As [`spawn`](Self::spawn), but starts a program with its arguments, without a shell. Its standard error goes
    /// where `program` says.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(program: Command) -> io::Result<Self> {
        let name = words(&program);
        Self::start(program, &name)
    }

    /// Another exit status than 0 that means that all is well, such as 1 of a tar whose files changed while it read.
    #[must_use]
    pub fn accepting(mut self, status: i32) -> Self {
        self.running.well = status;
        self
    }

    fn start(program: Command, name: &str) -> io::Result<Self> {
        let (stdout, theirs) = io::pipe()?;
        enlarge(&stdout);
        let running = Running::start(program, name, Stdio::null(), theirs.into(), None)?;
        Ok(Self { running, stdout })
    }
}

impl Source for CommandSource {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_some(&mut self.stdout, buf).map_err(|e| self.running.cannot("read from", &e))
    }

    /// The end of the output is ready only once the command has exited, so that
    /// [`finish`](Source::finish) does not block on one that closed its output and lives on.
    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        let came = poll_for(&self.stdout, PollFlags::IN, timeout)?;
        if came == PollFlags::HUP {
            return Ok(self.running.ending_within(timeout).is_some());
        }
        Ok(!came.is_empty())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.running.wait(&Stop::new())
    }

    fn abort(self: Box<Self>) {
        drop(self);
    }
}

/// The input of a command, which must read all of it, but for zeros at its end, and exit with status 0.
///
/// Dropped without [`finish`](Sink::finish), it stops the command as [`abort`](Sink::abort) does.
#[derive(Debug)]
pub struct CommandSink {
    // Dropped in this order: the command is gone before its input is closed, so that it cannot take a stream
    // that merely stopped for one that ended.
    running: Running,
    stdin: Pipe,
}

impl CommandSink {
    /// Starts `command`; what it prints goes to our standard output and error.
    ///
    /// # Errors
    /// The shell cannot be started. A command that the shell cannot find is an exit status, 127.
    pub fn spawn(command: &str) -> io::Result<Self> {
        Self::start(shell(command), command, Stdio::inherit())
    }

    /// As [`spawn`](Self::spawn), but starts a program with its arguments, without a shell. Its standard error goes
    /// where `program` says.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(program: Command) -> io::Result<Self> {
        let name = words(&program);
        Self::start(program, &name, Stdio::inherit())
    }

    /// As [`spawn`](Self::spawn), but all that the command prints goes to our standard error: for a caller
    /// whose own standard output means something.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn).
    pub fn spawn_printing_to_stderr(command: &str) -> io::Result<Self> {
        Self::start(shell(command), command, io::stderr().into())
    }

    fn start(program: Command, name: &str, stdout: Stdio) -> io::Result<Self> {
        let (theirs, stdin) = io::pipe()?;
        enlarge(&stdin);
        // Each end of a pipe has flags of its own: the command's stays blocking.
        fcntl_setfl(&stdin, fcntl_getfl(&stdin)? | OFlags::NONBLOCK)?;
        let stdin = File::from(OwnedFd::from(stdin));
        // Without a shell, only an orderly end is provided for.
        let guard = Guard::start(&stdin).ok();
        let running = Running::start(program, name, theirs.into(), stdout, guard)?;
        Ok(Self { running, stdin: Pipe::new(stdin)? })
    }

    fn cannot_write(running: &Running, error: &io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => io::Error::new(error.kind(), running.early()),
            _ => running.cannot("write to", error),
        }
    }
}

impl Sink for CommandSink {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        let was_closed = self.stdin.is_closed();
        self.stdin.write(blocks, stop).map_err(|e| Self::cannot_write(&self.running, &e))?;
        if self.stdin.is_closed() {
            // Nothing but zeros has come since. That does no harm if it ends well; if not, why wait for the end?
            let patience = if was_closed { Duration::ZERO } else { STOP_GRACE };
            self.running.may_end_well(patience)?;
        }
        Ok(())
    }

    /// Waits for the command's exit, then for everything on this machine to be on its disks: the command may
    /// have written anywhere.
    fn finish(mut self: Box<Self>, stop: &Stop) -> io::Result<()> {
        let drained = self.stdin.drain(stop, |pause| self.running.ending_within(pause).is_some());
        drained.map_err(|e| Self::cannot_write(&self.running, &e))?;
        let Self { mut running, stdin } = *self;
        running.unguard();
        drop(stdin);
        running.wait(stop)?;
        rustix::fs::sync();
        Ok(())
    }

    fn abort(self: Box<Self>) {
        drop(self);
    }
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new(SHELL);
    shell.args(["-c", command]);
    shell
}

/// A program and its arguments, for people.
fn words(program: &Command) -> String {
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Makes the pipe as large as we may; a small one works, too.
fn enlarge(pipe: impl AsFd) {
    let mut size = PIPE_BYTES;
    while size > PIPE_BYTES_DEFAULT && fcntl_setpipe_size(&pipe, size).is_err() {
        size /= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::path::Path;
    use std::thread;

    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    use super::super::fd::tests::{fifo, read_all};
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn source(command: &str) -> Box<CommandSource> {
        Box::new(CommandSource::spawn(command).unwrap())
    }

    fn sink(command: &str) -> Box<CommandSink> {
        Box::new(CommandSink::spawn(command).unwrap())
    }

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    fn in_dir(dir: &Path, command: &str) -> String {
        format!("cd '{}'; {command}", dir.display())
    }

    /// A directory with a fifo `up`: a command that opens it for writing says so, and while a process of it
    /// lives, the fifo does not end.
    fn dir_with_fifo() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fifo(&dir.path().join("up"));
        dir
    }

    fn is_gone(pid: Pid) -> bool {
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_err()
    }

    #[test]
    fn bytes_go_through_a_sink_and_come_back_from_a_source() {
        let dir = tempfile::tempdir().unwrap();
        let all = bytes(5_000_003);
        let blocks: Vec<Bytes> = (0..all.len())
            .step_by(32 << 10)
            .map(|at| all.slice(at..all.len().min(at + (32 << 10))))
            .collect();

        let mut sink = sink(&in_dir(dir.path(), "cat > copy"));
        for blocks in blocks.chunks(100) {
            sink.write(blocks, &Stop::new()).unwrap();
        }
        sink.finish(&Stop::new()).unwrap();

        let mut source = source(&in_dir(dir.path(), "cat copy"));
        assert!(read_all(source.as_mut()) == all);
        source.finish().unwrap();
    }

    #[test]
    fn a_program_gets_its_arguments_as_they_are() {
        let mut echo = Command::new("echo");
        echo.args(["$HOME; false", "|"]);
        let mut source = Box::new(CommandSource::run(echo).unwrap());
        assert_eq!(read_all(source.as_mut()), b"$HOME; false |\n");
        source.finish().unwrap();
        let mut test = Command::new("test");
        test.args(["a b", "=", "c"]);
        let said =
            CommandSink::run(test).map(Box::new).unwrap().finish(&Stop::new()).unwrap_err().to_string();
        assert_eq!(said, "`test a b = c` ended with exit status 1");
        assert!(CommandSource::run(Command::new("/nonexistent/x")).is_err());
        for (status, well) in [(1, true), (2, false)] {
            let mut sh = Command::new("sh");
            sh.args(["-c", &format!("exit {status}")]);
            let mut source = Box::new(CommandSource::run(sh).unwrap().accepting(1));
            assert_eq!((read_all(source.as_mut()).len(), source.finish().is_ok()), (0, well));
        }
    }

    #[test]
    fn an_empty_stream_is_a_stream() {
        sink("cat").finish(&Stop::new()).unwrap();
        let mut source = source(":");
        assert_eq!(read_all(source.as_mut()), b"");
        source.finish().unwrap();
    }

    #[test]
    fn a_source_that_fails_says_how() {
        for (command, text) in [
            ("echo x; exit 3", "`echo x; exit 3` ended with exit status 3"),
            ("kill -9 $$", "`kill -9 $$` was killed by signal 9"),
            ("/nowhere/to/be/found 2> /dev/null", "exit status 127"),
        ] {
            let mut source = source(command);
            read_all(source.as_mut());
            let error = source.finish().unwrap_err().to_string();
            assert!(error.ends_with(text), "{error}");
        }
    }

    #[test]
    fn a_source_reads_nothing_from_us() {
        let mut source = source("cat; echo end");
        assert_eq!(read_all(source.as_mut()), b"end\n");
        source.finish().unwrap();
    }

    #[test]
    fn a_source_is_ready_when_something_came() {
        let dir = dir_with_fifo();
        let mut source = source(&in_dir(dir.path(), "cat up"));
        assert!(!source.ready(Duration::ZERO).unwrap());
        fs::write(dir.path().join("up"), "x").unwrap();
        assert!(source.ready(LONG).unwrap());
        assert_eq!(source.read(&mut [0; 9]).unwrap(), 1);
        assert!(source.ready(LONG).unwrap());
        assert_eq!(source.read(&mut [0; 9]).unwrap(), 0);
        source.finish().unwrap();
    }

    #[test]
    fn a_source_that_closed_its_output_is_not_at_its_end_while_it_runs() {
        let dir = dir_with_fifo();
        let mut source = source(&in_dir(dir.path(), "exec > up; cat up; :"));
        // Opened by the redirection, so the output is closed from here on; the `cat` waits for us.
        let up = File::options().read(true).write(true).open(dir.path().join("up")).unwrap();
        assert!(!source.ready(Duration::from_millis(1)).unwrap());
        drop(up);
        source.abort();
    }

    #[test]
    fn an_aborted_source_ends_at_once_and_leaves_nothing() {
        let source = source("sleep 1000");
        let pid = source.running.pid();
        source.abort();
        assert!(is_gone(pid));
    }

    #[test]
    fn a_dropped_source_leaves_nothing() {
        let dir = dir_with_fifo();
        let source = source(&in_dir(dir.path(), "exec 3> up; sleep 1000 & wait"));
        let mut up = File::open(dir.path().join("up")).unwrap();
        let pid = source.running.pid();
        drop(source);
        assert!(is_gone(pid));
        assert_eq!(up.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn the_end_is_noticed_without_a_pidfd() {
        let mut source = source("exit 3");
        source.running.pidfd = None;
        assert!(source.finish().unwrap_err().to_string().ends_with("exit status 3"));

        let mut sink = sink("sleep 1000");
        sink.running.pidfd = None;
        let pid = sink.running.pid();
        sink.abort();
        assert!(is_gone(pid));
    }

    #[test]
    fn a_sink_that_fails_says_how() {
        let error = sink("false").finish(&Stop::new()).unwrap_err().to_string();
        assert_eq!(error, "`false` ended with exit status 1");
        let error = sink("cat > /dev/null; exit 3").finish(&Stop::new()).unwrap_err().to_string();
        assert_eq!(error, "`cat > /dev/null; exit 3` ended with exit status 3");
    }

    #[test]
    fn a_sink_that_takes_only_a_part_fails_whatever_its_status() {
        let hint = "; if it needs no more, let it read the rest: `… && cat >/dev/null`";
        for (command, status, hint) in [("head -c1 > /dev/null", 0, hint), ("exit 3", 3, "")] {
            let error = sink(command).write(&[bytes(4 << 20)], &Stop::new()).unwrap_err();
            let text = format!("`{command}` ended before the stream did, with exit status {status}{hint}");
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_sink_that_leaves_bytes_in_the_pipe_fails() {
        let command = "dd bs=1 count=1 > /dev/null 2>&1";
        let mut sink = sink(command);
        sink.write(&[bytes(2)], &Stop::new()).unwrap();
        let error = sink.finish(&Stop::new()).unwrap_err().to_string();
        let text = format!("`{command}` ended before the stream did, with exit status 0; if it needs");
        assert!(error.starts_with(&text), "{error}");
    }

    #[test]
    fn a_sink_may_leave_zeros() {
        // Of the bytes, one is read; the rest is left in the pipe, or does not fit into it any more.
        for (command, rest, result) in [
            ("dd bs=1 count=1 2>/dev/null >&2", Bytes::from_static(&[0; 9]), Ok(())),
            ("dd bs=1 count=1 2>/dev/null >&2", vec![0; 4 << 20].into(), Ok(())),
            (
                "dd bs=1 count=1 2>/dev/null >&2; exit 3",
                vec![0; 4 << 20].into(),
                Err("did, with exit status 3"),
            ),
            ("dd bs=1 count=1 2>/dev/null >&2", [vec![0; 4 << 20], vec![1]].concat().into(), Err("`… &&")),
        ] {
            let mut sink = sink(command);
            let mut written = sink.write(&[Bytes::from_static(b"x")], &Stop::new());
            for at in (0..rest.len()).step_by(100_000) {
                let block = rest.slice(at..rest.len().min(at + 100_000));
                written = written.and_then(|()| sink.write(&[block], &Stop::new()));
            }
            let ended = written.and_then(|()| sink.finish(&Stop::new())).map_err(|e| e.to_string());
            match result {
                Ok(()) => assert_eq!(ended, Ok(()), "{command}, {} bytes", rest.len()),
                Err(why) => assert!(ended.as_ref().is_err_and(|e| e.contains(why)), "{command}: {ended:?}"),
            }
        }
    }

    #[test]
    fn a_tar_may_leave_the_rest_of_its_last_record() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        fs::write(dir.path().join("f"), bytes(100_000)).unwrap();
        let mut source = source(&in_dir(dir.path(), "tar -b 16384 -c f"));
        let packed = Bytes::from(read_all(source.as_mut()));
        assert_eq!(packed.len(), 16384 * 512);
        let mut sink = sink(&in_dir(dir.path(), "tar -C to -x"));
        for at in (0..packed.len()).step_by(256 << 10) {
            sink.write(&[packed.slice(at..packed.len().min(at + (256 << 10)))], &Stop::new()).unwrap();
        }
        sink.finish(&Stop::new()).unwrap();
        assert!(fs::read(dir.path().join("to/f")).unwrap() == bytes(100_000));
    }

    #[test]
    fn a_sink_that_closes_its_input_and_lives_on_fails() {
        let mut sink = sink("exec < /dev/null; sleep 1000");
        let error = sink.write(&[bytes(4 << 20)], &Stop::new()).unwrap_err().to_string();
        assert_eq!(error, "`exec < /dev/null; sleep 1000` closed its input before the stream ended");
        sink.abort();
    }

    #[test]
    fn an_aborted_sink_never_sees_the_end() {
        let dir = dir_with_fifo();
        let mut sink = sink(&in_dir(dir.path(), "exec 3> up; cat > file; touch done"));
        let mut up = File::open(dir.path().join("up")).unwrap();
        sink.write(&[bytes(100_000)], &Stop::new()).unwrap();
        let pid = sink.running.pid();
        sink.abort();
        assert!(is_gone(pid));
        assert_eq!(up.read(&mut [0]).unwrap(), 0);
        assert!(!dir.path().join("done").exists());
    }

    #[test]
    fn a_sink_that_will_not_hear_is_killed_before_it_sees_the_end() {
        let dir = dir_with_fifo();
        let mut sink = sink(&in_dir(dir.path(), "trap '' TERM; exec 3> up; cat > file; touch done"));
        let mut up = File::open(dir.path().join("up")).unwrap();
        sink.write(&[bytes(100_000)], &Stop::new()).unwrap();
        drop(sink);
        assert_eq!(up.read(&mut [0]).unwrap(), 0);
        assert!(!dir.path().join("done").exists());
    }

    #[test]
    fn a_deaf_grandchild_dies_with_its_group() {
        let dir = dir_with_fifo();
        let sink = sink(&in_dir(dir.path(), "(trap '' TERM; exec 3> up; sleep 1000) & wait"));
        let mut up = File::open(dir.path().join("up")).unwrap();
        sink.abort();
        assert_eq!(up.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_stuck_sink_lets_go_once_stopped() {
        let dir = dir_with_fifo();
        let mut sink = sink(&in_dir(dir.path(), "dd bs=1 count=1 > up 2> /dev/null; sleep 1000"));
        let stop = Stop::new();
        let writing = thread::spawn({
            let stop = stop.clone();
            move || {
                let error = sink.write(&[bytes(4 << 20)], &stop).unwrap_err();
                sink.abort();
                error
            }
        });
        // One byte through: the write has begun, and cannot end.
        let mut up = File::open(dir.path().join("up")).unwrap();
        assert_eq!(up.read(&mut [0]).unwrap(), 1);
        stop.set();
        let error = writing.join().unwrap().to_string();
        assert!(error.starts_with("cannot write to `cd ") && error.ends_with("`: interrupted"), "{error}");
    }

    #[test]
    fn a_sink_that_does_not_end_is_killed_once_stopped() {
        let stop = Stop::new();
        stop.set();
        // Once with the stream read, once with a byte of it in the pipe.
        for len in [0, 1] {
            let mut sink = sink("sleep 1000");
            sink.write(&[bytes(len)], &Stop::new()).unwrap();
            let pid = sink.running.pid();
            let error = sink.finish(&stop).unwrap_err().to_string();
            assert!(error.ends_with("interrupted"), "{error}");
            assert!(is_gone(pid));
        }
    }

    #[test]
    fn a_sink_prints_where_it_is_told_to() {
        let ours = |fd: u32| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        let prints_to = |fd| format!("test \"$(readlink /proc/$$/fd/1)\" = '{}'", ours(fd).display());
        CommandSink::spawn(&prints_to(1)).map(Box::new).unwrap().finish(&Stop::new()).unwrap();
        let sink = CommandSink::spawn_printing_to_stderr(&prints_to(2)).unwrap();
        Box::new(sink).finish(&Stop::new()).unwrap();
    }

    #[test]
    fn a_command_that_cannot_start_is_named() {
        let error = CommandSource::spawn("a\0b").unwrap_err().to_string();
        assert!(error.starts_with("cannot start `a\0b`: "), "{error}");
    }
}
