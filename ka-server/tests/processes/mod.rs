//! The programs as processes, each test's in a world of its own: directory, session name, discovery port.
#![allow(dead_code, reason = "each file of tests takes what it needs")]

pub(crate) mod clones;
pub(crate) mod hosts;
pub(crate) mod lab;

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use ka_core::crypto::session_key::Key;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than any step of a test takes on a slow machine: after a build, a sync of all disks alone may take a minute.
const LONG: Duration = Duration::from_secs(180);

const SERVER: &str = env!("CARGO_BIN_EXE_ka-d-server");

/// The client, which cargo builds only for the tests of its own package.
fn client() -> &'static Path {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let server = Path::new(SERVER);
        let client = server.with_file_name("ka-d-client");
        let made = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        // The server is made of the client's library, too: whenever that changes, the server is newer.
        if made(&client) < made(server) {
            build(server);
        }
        client
    })
}

fn build(server: &Path) {
    let dir = server.parent().expect("a program is in a directory");
    let profile = dir.file_name().and_then(|name| name.to_str()).filter(|name| *name != "debug");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "ka-client", "--profile", profile.unwrap_or("dev")])
        .arg("--target-dir")
        .arg(dir.parent().expect("a profile's directory is in the target directory"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.unwrap().success(), "ka-d-client cannot be built");
}

/// Bytes that no compression and no repetition could bring about, and that end within a block.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(next).collect()
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Waits for all, and says how they ended.
pub(crate) fn codes(all: Vec<Running>) -> Vec<i32> {
    all.into_iter().map(|r| r.end().code).collect()
}

/// The server with these arguments and nothing else.
pub(crate) fn bare_server(args: &[&str]) -> Command {
    bare(Path::new(SERVER), args)
}

/// The client with these arguments and nothing else.
pub(crate) fn bare_client(args: &[&str]) -> Command {
    bare(client(), args)
}

fn bare(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    Keys::Given.tell(&mut command);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Keys {
    fn tell(self, command: &mut Command) {
        command
            .env_remove("KA_KEY")
            .env_remove("KA_KEY_FILE")
            .env_remove("KA_IDENTITY")
            .env_remove("KA_INSECURE");
        match self {
            Self::Given => {
                let (identity, key) = secrets();
                command.env("KA_IDENTITY", identity).env("KA_KEY_FILE", key);
            }
            Self::Insecure => drop(command.env("KA_INSECURE", "1")),
            Self::None => {}
        }
    }
}

/// The identity and the key that all servers and nodes of a test's process have.
fn secrets() -> (&'static Path, &'static Path) {
    static SECRETS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (identity, key) = SECRETS.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("keys-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let (identity, key) = (dir.join("identity"), dir.join("key"));
        let made = Command::new(SERVER).arg("--identity").arg(&identity).arg("--make-key").arg(&key).output();
        assert!(made.unwrap().status.success());
        (identity, key)
    });
    (identity, key)
}

/// The key that all have.
pub(crate) fn key() -> Key {
    Key::parse(fs::read_to_string(secrets().1).unwrap().trim()).unwrap()
}

/// One test's world.
pub(crate) struct Lan {
    dir: TempDir,
    session: String,
    pub(crate) discovery_port: String,
    keys: Keys,
}

/// What the programs of a test's world know.
#[derive(Clone, Copy)]
enum Keys {
    /// All have the same key, from a file.
    Given,
    /// They do without, as in 2001.
    Insecure,
    /// Nothing but what is on their command lines.
    None,
}

impl Lan {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// A world whose files are in memory, if so many bytes find room there: a disk would only slow a test down.
    pub(crate) fn in_memory(bytes: u64) -> Self {
        let memory = Path::new("/dev/shm");
        let room = rustix::fs::statvfs(memory).map_or(0, |s| s.f_bavail * s.f_frsize);
        let dir = if room < bytes { Err(()) } else { tempfile::tempdir_in(memory).map_err(drop) };
        Self::within(dir.unwrap_or_else(|()| tempfile::tempdir().unwrap()))
    }

    fn within(dir: TempDir) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let port = UdpSocket::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
        let (session, discovery_port) = (format!("e2e-{}-{count}", std::process::id()), port.to_string());
        Self { dir, session, discovery_port, keys: Keys::Given }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// What is in the directory.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn server_command(&self, args: &[&str]) -> Command {
        self.command(Path::new(SERVER), args)
    }

    pub(crate) fn client_command(&self, args: &[&str]) -> Command {
        self.command(client(), args)
    }

    /// `ka-d clone`.
    pub(crate) fn clone_command(&self, args: &[&str]) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_ka-d")), &[&["clone"], args].concat())
    }

    pub(crate) fn install_command(&self, args: &[&str]) -> Command {
        self.command(&client().with_file_name("ka-d-install"), args)
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let world = ["-s", &self.session, "--discovery-port", &self.discovery_port];
        // Of a program with subcommands, the options are those of one.
        let (subcommand, args) = args.split_at(usize::from(args.first() == Some(&"clone")));
        let mut command = bare(program, &[subcommand, &world, args].concat());
        self.keys.tell(&mut command);
        command
    }

    /// The same world, in which nobody has a key and KA_INSECURE is set.
    pub(crate) fn insecure(self) -> Self {
        Self { keys: Keys::Insecure, ..self }
    }

    /// The same world, in which nobody has a key.
    pub(crate) fn without_keys(self) -> Self {
        Self { keys: Keys::None, ..self }
    }

    /// The same world, but for the session's name and the directory.
    pub(crate) fn beside(&self) -> Self {
        Self { discovery_port: self.discovery_port.clone(), keys: self.keys, ..Self::new() }
    }

    pub(crate) fn server(&self, args: &[&str]) -> Running {
        self.start(&mut self.server_command(args))
    }

    pub(crate) fn client(&self, args: &[&str]) -> Running {
        self.start(&mut self.client_command(args))
    }

    pub(crate) fn start(&self, command: &mut Command) -> Running {
        let mut child = command.spawn().unwrap();
        // Nobody waits for the child yet, so the number is still its own.
        let number = child.id();
        let pid = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let (stdout, stderr) = (child.stdout.take().map(Lines::of), child.stderr.take().map(Lines::of));
        let (tx, exited) = mpsc::channel();
        thread::spawn(move || tx.send(child.wait().unwrap()));
        Running { process: Process(Arc::new(pid), number), stdout, stderr, exited, over: false }
    }
}

/// A process, and nobody else who got its number when it had ended.
#[derive(Clone)]
pub(crate) struct Process(Arc<OwnedFd>, u32);

impl Process {
    /// Its number, as long as it runs.
    pub(crate) fn number(&self) -> u32 {
        self.1
    }

    /// False if it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        pidfd_send_signal(&self.0, signal).is_ok()
    }
}

/// A program that runs. Dropped before its end, it is killed.
pub(crate) struct Running {
    process: Process,
    stdout: Option<Lines>,
    stderr: Option<Lines>,
    exited: Receiver<ExitStatus>,
    over: bool,
}

/// What is left of a program that ran.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The events of `--json` of this kind.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        let all = self.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|value| value["event"] == event).collect()
    }
}

impl Running {
    /// Waits for an event of `--json`.
    pub(crate) fn until(&mut self, event: &str) -> Value {
        self.until_that(event, |_| true)
    }

    /// Waits for an event of `--json` that is as wanted.
    pub(crate) fn until_that(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let value = self.event(event);
            if value["event"] == event && wanted(&value) {
                return value;
            }
        }
    }

    /// Waits for an event of `--json` for each of these, in any order.
    pub(crate) fn until_each(&mut self, mut wanted: Vec<&dyn Fn(&Value) -> bool>) {
        while !wanted.is_empty() {
            let value = self.event("event that is waited for");
            wanted.retain(|wanted| !wanted(&value));
        }
    }

    /// The next event of `--json`.
    fn event(&mut self, awaited: &str) -> Value {
        match self.stdout.as_mut().unwrap().next() {
            Some(line) => serde_json::from_str(&line).unwrap(),
            None => panic!("no {awaited}: {}", self.stderr.as_mut().unwrap().all()),
        }
    }

    /// Waits so long, in which nothing happens.
    pub(crate) fn is_quiet_for(&mut self, time: Duration) {
        let lines = self.stdout.as_mut().unwrap();
        assert_eq!(lines.incoming.recv_timeout(time), Err(RecvTimeoutError::Timeout));
    }

    /// Waits for a line on standard error.
    pub(crate) fn until_says(&mut self, text: &str) -> String {
        let lines = self.stderr.as_mut().unwrap();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("it never said {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.process.signal(signal), "it has ended already");
    }

    pub(crate) fn process(&self) -> Process {
        self.process.clone()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        self.end_within(LONG).expect("it ends in time")
    }

    /// Waits so long for its end, once.
    pub(crate) fn end_within(&mut self, time: Duration) -> Option<Ended> {
        let status = self.exited.recv_timeout(time).ok()?;
        self.over = true;
        let text = |lines: &mut Option<Lines>| lines.as_mut().map_or_else(String::new, Lines::all);
        let (stdout, stderr) = (text(&mut self.stdout), text(&mut self.stderr));
        Some(Ended { code: status.code().unwrap_or(-1), stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.process.signal(Signal::KILL);
        }
    }
}

/// The lines of a pipe, read as they come so that nobody has to wait.
struct Lines {
    incoming: Receiver<String>,
    seen: VecDeque<String>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (tx, incoming) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                if tx.send(line).is_err() {
                    return;
                }
            }
        });
        Self { incoming, seen: VecDeque::new() }
    }

    fn next(&mut self) -> Option<String> {
        let line = self.incoming.recv_timeout(LONG).ok()?;
        self.seen.push_back(line.clone());
        Some(line)
    }

    /// All that was said from the beginning.
    fn all(&mut self) -> String {
        while self.next().is_some() {}
        self.seen.iter().map(|line| format!("{line}\n")).collect()
    }
}
