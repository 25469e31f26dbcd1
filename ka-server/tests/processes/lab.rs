//! One session between hosts, to which something happens on the way.
//!
//! Host 0 is the server's. Host `i` is that of node `i`, which is the `i`th of the chain. Whatever happens, each
//! output is a beginning of what the source gave, and all of it where the node says so.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::hosts::{Hosts, cannot_run};
use super::{Ended, Lan, Process, Running, json, noise};

/// After so long a run is taken for one that never ends, however slow the machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// Exit statuses: refused, a sink failed, something was lost on the way.
const REFUSED: i32 = 4;
const SINK: i32 = 6;
const LOST: i32 = 7;

/// Never reads what it is given, and outlives nobody who starts it.
const NEVER_READS: &str = "exec tail --pid=$PPID -f /dev/null";

/// The longest stream, in MiB.
const LONGEST_MIB: usize = 128;
/// Streams end within a block.
const BIT: usize = 12_345;

/// How a scenario is played.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// The name by which to ask for it again.
    pub(crate) test: &'static str,
    /// The window of everyone, or the one taken by default.
    pub(crate) window: Option<&'static str>,
    /// How much is sent.
    pub(crate) mib: usize,
    /// How fast each link is.
    pub(crate) mbit: u32,
    /// Where it comes from.
    pub(crate) source: Source,
}

/// Where a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A command, which gives it once.
    Command,
    /// A command, and the server keeps what it gives.
    Spooled,
    /// A file.
    File,
}

impl Run {
    /// All that is sent finds room in the window.
    pub(crate) fn with_the_default_window(test: &'static str) -> Self {
        Self { test, window: None, mib: 48, mbit: 200, source: Source::Command }
    }

    /// Sixteen windows are sent.
    pub(crate) fn with_a_small_window(test: &'static str) -> Self {
        Self { window: Some("8M"), mib: LONGEST_MIB, ..Self::with_the_default_window(test) }
    }
}

/// What may become of a node to which something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is lost, and the report says why.
    Lost,
    /// It comes back and has everything in the end; or, if the source cannot be read again, the report says what nobody
    /// could give it any more.
    Back,
    /// The others went on without it, because its sink takes nothing.
    Stuck,
}

/// A session in a world of its own. Dropped, it takes everything with it.
pub(crate) struct Lab {
    run: Run,
    nodes: usize,
    bytes: &'static [u8],
    /// The server and the nodes, each at its host's number.
    programs: Vec<Program>,
    doors: Vec<SocketAddr>,
    watch: Watch,
    /// When something happened first.
    fault: Option<Instant>,
    /// The nodes whose sinks take nothing.
    stuck: Vec<usize>,
    hosts: Hosts,
    lan: Lan,
}

enum Program {
    Running(Running),
    Ended(Ended),
}

impl Program {
    /// False if it has ended.
    fn signal(&self, signal: Signal) -> bool {
        matches!(self, Self::Running(running) if running.process().signal(signal))
    }
}

impl Lab {
    /// Hosts for a server, so many nodes, and a stranger or somebody late. `None`, having said why, where there are none
    /// to be had.
    pub(crate) fn new(run: Run, nodes: usize) -> Option<Self> {
        let hosts = Hosts::new(&run.test.replace("::", "-"), "10.79.0", nodes + 2)?;
        if let Some(why) = (0..nodes + 2).find_map(|i| hosts.limit(i, run.mbit).err()) {
            cannot_run(run.test, &why);
            return None;
        }
        let bytes = stream(run.mib);
        // Every node keeps what it gets, and other tests run at the same time.
        let lan = Lan::in_memory(4 * (nodes as u64 + 1) * bytes.len() as u64);
        fs::write(lan.path("in"), bytes).unwrap();
        let (programs, doors, watch) = (Vec::new(), Vec::new(), Watch::new());
        Some(Self { run, nodes, bytes, programs, doors, watch, fault: None, stuck: Vec::new(), hosts, lan })
    }

    /// Limits a host's link below the others'.
    pub(crate) fn limit(&mut self, i: usize, mbit: u32) {
        self.it_happens();
        self.hosts.limit(i, mbit).unwrap();
    }

    /// Gives a node a sink that takes nothing.
    pub(crate) fn is_stuck(&mut self, i: usize) {
        self.it_happens();
        self.stuck.push(i);
    }

    /// Starts the server, and each node when the one before it is in, so that it gets the number of its host.
    pub(crate) fn start(&mut self, more: &[&str]) {
        let (n, input) = (self.nodes.to_string(), self.lan.arg("in"));
        let (command, spool) = (format!("cat {input}"), self.lan.arg(""));
        let source = match self.run.source {
            Source::Command => vec!["-e", &command],
            Source::Spooled => vec!["-e", &command, "--spool", &spool],
            Source::File => vec!["--source", &input],
        };
        let args = ["-n", &n, "--json", "--report", &self.lan.arg("report.json")];
        let server = [&args, &source[..], &self.window(), more].concat();
        let server = self.hosts.server(0, &self.lan, &server);
        let open = self.begin(server).until("open");
        self.has_doors(0, &open, &["control_port", "data_port"]);
        (1..=self.nodes).for_each(|i| self.join(i));
    }

    fn join(&mut self, i: usize) {
        let client = self.client(i);
        let joined = self.begin(client).until("joined");
        assert_eq!(joined["node"], i);
        self.has_doors(i, &joined, &["data_port"]);
    }

    fn client(&self, i: usize) -> Running {
        let (output, command) = (self.out(i), format!("cat > {}", self.out(i)));
        let sink = match i {
            _ if self.stuck.contains(&i) => ["-e", NEVER_READS],
            _ if i.is_multiple_of(2) => ["--output", &output],
            _ => ["-e", &command],
        };
        self.hosts.client(i, &self.lan, &[&["--json"], &sink[..], &self.window()].concat())
    }

    fn window(&self) -> Vec<&'static str> {
        self.run.window.map_or(Vec::new(), |size| vec!["--window", size])
    }

    fn begin(&mut self, program: Running) -> &mut Running {
        self.watch.over(program.process());
        self.programs.push(Program::Running(program));
        self.running(self.programs.len() - 1)
    }

    fn running(&mut self, i: usize) -> &mut Running {
        match &mut self.programs[i] {
            Program::Running(running) => running,
            Program::Ended(_) => panic!("{} has ended", name(i)),
        }
    }

    fn has_doors(&mut self, i: usize, event: &Value, ports: &[&str]) {
        for port in ports {
            self.doors.push(format!("{}:{}", self.hosts.addr(i), event[port]).parse().unwrap());
        }
    }

    fn out(&self, i: usize) -> String {
        self.lan.arg(&format!("out{i}"))
    }

    // ---- what happens ----

    /// Waits until a node has got so much of the stream.
    pub(crate) fn when(&mut self, i: usize, percent: usize) {
        let wanted = (self.bytes.len() * percent / 100) as u64;
        self.running(i).until_that("progress", |p| p["received"].as_u64().unwrap() >= wanted);
    }

    /// It stays like this for so long, which is what is tested.
    pub(crate) fn for_so_long(&self, time: Duration) {
        let (_nobody, never) = mpsc::channel::<()>();
        let _ = never.recv_timeout(time);
    }

    /// Kills a node: there is nobody any more to say anything.
    pub(crate) fn kill(&mut self, i: usize) {
        self.signal(i, Signal::KILL);
    }

    /// Stops a node: its connections stay, and nobody answers.
    pub(crate) fn stop(&mut self, i: usize) {
        self.signal(i, Signal::STOP);
    }

    pub(crate) fn go_on(&mut self, i: usize) {
        self.signal(i, Signal::CONT);
    }

    fn signal(&mut self, i: usize, signal: Signal) {
        self.it_happens();
        assert!(self.programs[i].signal(signal), "{} ended before the test came to it", name(i));
    }

    /// Pulls a host's cable.
    pub(crate) fn pull(&mut self, i: usize) {
        self.it_happens();
        self.hosts.plug(i, false);
    }

    /// Puts it back.
    pub(crate) fn plug(&mut self, i: usize) {
        self.hosts.plug(i, true);
    }

    /// Has the switch drop all that comes from a host or goes to it.
    pub(crate) fn swallow(&mut self, i: usize) {
        self.it_happens();
        self.hosts.swallow(i);
    }

    /// Has the switch let the nodes reach the server, and not each other.
    pub(crate) fn isolate_nodes(&mut self) {
        self.it_happens();
        (1..=self.nodes).for_each(|i| self.hosts.isolate(i));
    }

    /// One more node comes, on the stranger's host.
    pub(crate) fn joins_late(&mut self) {
        self.it_happens();
        self.nodes += 1;
        self.join(self.nodes);
    }

    /// One more node comes, and is sent away.
    pub(crate) fn is_refused_late(&mut self) {
        self.it_happens();
        let late = self.nodes + 1;
        let end = self.client(late).end();
        assert_eq!(end.code, REFUSED, "{}", end.stderr);
        assert_eq!(self.has_got(late), Ok(0), "{}", end.stderr);
    }

    /// Does something on the stranger's host with all the ports that are open.
    pub(crate) fn stranger<T: Send>(&mut self, f: impl FnOnce(&[SocketAddr]) -> T + Send) -> T {
        self.it_happens();
        self.hosts.inside(self.nodes + 1, || f(&self.doors))
    }

    fn it_happens(&mut self) {
        self.fault.get_or_insert_with(now);
    }

    // ---- what becomes of it ----

    /// Waits for all, and holds that everybody is well but for those named.
    pub(crate) fn ends(&mut self, victims: &[(usize, Fate)]) {
        let fate = |i: usize| victims.iter().find(|(node, _)| *node == i).map(|(_, fate)| *fate);
        let nodes = 1..=self.nodes;
        for i in nodes.clone().filter(|i| fate(*i).is_none()) {
            self.end(i);
        }
        let survivors = self.since_the_fault();
        let server = self.end(0);
        println!(
            "{}: since the fault {survivors} for the survivors, {} for all",
            self.run.test,
            self.since_the_fault()
        );
        for (i, fate) in victims {
            if *fate == Fate::Lost {
                // Cut off, it hopes for longer than a test should take.
                self.programs[*i].signal(Signal::KILL);
            }
            self.end(*i);
        }
        assert!(!self.watch.is_late(), "some had to be killed");
        let report = json(&self.lan.path("report.json"));
        let verdicts: Vec<_> = nodes.map(|i| self.judge(i, &report, fate(i))).collect();
        let wrong: Vec<_> = verdicts.iter().filter_map(|v| v.as_ref().err()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let well = verdicts.into_iter().all(|v| v == Ok(true));
        let status = match victims.iter().all(|(_, fate)| *fate == Fate::Stuck) {
            _ if well => 0,
            true => SINK,
            false => LOST,
        };
        assert_eq!((server, &report["ok"]), (status, &well.into()), "the server's word");
    }

    /// How many bytes the server sent again.
    pub(crate) fn reread(&self) -> u64 {
        json(&self.lan.path("report.json"))["source"]["counters"]["reread"].as_u64().unwrap()
    }

    /// When the server said something of a node first: at which of its lines, and at which second.
    pub(crate) fn said(&self, event: &str, i: usize) -> (usize, f64) {
        let Program::Ended(server) = &self.programs[0] else { panic!("the server has not ended") };
        let lines = server.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let first = lines.enumerate().find(|(_, e)| e["event"] == event && e["node"] == i);
        let (line, event) = first.unwrap_or_else(|| panic!("no {event} of {}", name(i)));
        (line, event["t"].as_f64().unwrap())
    }

    /// Waits for the end of a program, and says with what status.
    fn end(&mut self, i: usize) -> i32 {
        if let Program::Running(running) = &mut self.programs[i] {
            // The watch kills what takes too long.
            self.programs[i] = Program::Ended(running.end_within(2 * DEADLINE).expect("what is killed ends"));
        }
        match &self.programs[i] {
            Program::Ended(ended) => ended.code,
            Program::Running(_) => unreachable!("it was waited for"),
        }
    }

    /// Whether a node is well. An error if that is not what was to become of it, or if it is not true.
    fn judge(&mut self, i: usize, report: &Value, fate: Option<Fate>) -> Result<bool, String> {
        let well = self.end(i) == 0;
        let here = format!("{}:", self.hosts.addr(i));
        let nodes = report["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|n| n["addr"].as_str().unwrap().starts_with(&here)).unwrap();
        let as_said = node["outcome"] == if well { "ok" } else { "failed" };
        let as_it_should = match fate {
            None => well,
            Some(Fate::Lost) => !well && node["reason"]["text"].as_str().is_some_and(|why| !why.is_empty()),
            Some(Fate::Back) if self.run.source != Source::Command => well,
            Some(Fate::Back) => well || names_what_is_missing(node, self.bytes.len()),
            Some(Fate::Stuck) => self.end(i) == SINK && node["reason"]["kind"] == "sink",
        };
        let got = self.has_got(i)?;
        if !as_said || !as_it_should || (well && got != self.bytes.len()) {
            let status = self.end(i);
            return Err(format!("{}: status {status}, {got} bytes, and the report says {node}", name(i)));
        }
        Ok(well)
    }

    /// How much a node has got. An error if these are not the first bytes of the stream.
    fn has_got(&self, i: usize) -> Result<usize, String> {
        let out = self.out(i);
        let part = format!("{out}.part");
        let path = if Path::new(&out).exists() { out } else { part };
        match beginning(Path::new(&path), self.bytes) {
            Ok(Ok(len)) => Ok(len),
            Ok(Err(at)) => Err(format!("{}: a wrong byte within 64 KiB from {at}", name(i))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(format!("{path}: {e}")),
        }
    }

    fn since_the_fault(&self) -> String {
        self.fault
            .map_or("(there was none)".into(), |fault| format!("{:.1} s", (now() - fault).as_secs_f64()))
    }
}

impl Drop for Lab {
    /// A test that failed tells all there is to know.
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        if self.watch.is_late() {
            eprintln!("after {} s everything was killed", DEADLINE.as_secs());
        }
        let running: Vec<_> = self.programs.iter().map(|program| program.signal(Signal::KILL)).collect();
        for (i, was_running) in running.into_iter().enumerate() {
            let last = match &mut self.programs[i] {
                Program::Running(running) => running.end_within(DEADLINE),
                Program::Ended(ended) => Some(std::mem::take(ended)),
            };
            let Some(Ended { code, stdout, stderr }) = last else { continue };
            let how = if was_running { "killed now".into() } else { format!("exit status {code}") };
            eprintln!("==== {}: {how}\n{stderr}{}", name(i), without_beats(&stdout));
        }
        let tests = env!("CARGO_CRATE_NAME");
        eprintln!("==== again: cargo test -p ka-server --test {tests} -- --exact {}", self.run.test);
    }
}

/// Ends what takes longer than the deadline.
struct Watch {
    over: Arc<Mutex<Vec<Process>>>,
    late: Arc<AtomicBool>,
    _until: Sender<()>,
}

impl Watch {
    fn new() -> Self {
        let (over, late) = (Arc::new(Mutex::new(Vec::<Process>::new())), Arc::new(AtomicBool::new(false)));
        let (until, ended) = mpsc::channel::<()>();
        let watch = Self { over: over.clone(), late: late.clone(), _until: until };
        thread::spawn(move || {
            if ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
                late.store(true, Ordering::Relaxed);
                for process in over.lock().unwrap().iter() {
                    process.signal(Signal::KILL);
                }
            }
        });
        watch
    }

    fn over(&self, process: Process) {
        self.over.lock().unwrap().push(process);
    }

    fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }
}

fn name(i: usize) -> String {
    if i == 0 { "the server".into() } else { format!("node {i}") }
}

#[expect(clippy::disallowed_methods, reason = "how long something really took")]
fn now() -> Instant {
    Instant::now()
}

/// What is sent, made once for all tests.
fn stream(mib: usize) -> &'static [u8] {
    static LONGEST: OnceLock<Vec<u8>> = OnceLock::new();
    &LONGEST.get_or_init(|| noise((LONGEST_MIB << 20) + BIT))[..(mib << 20) + BIT]
}

/// How long a file is, if it is a beginning of these bytes; else where the piece is in which it is not.
fn beginning(path: &Path, bytes: &[u8]) -> io::Result<Result<usize, usize>> {
    let (mut file, mut piece, mut at) = (File::open(path)?, vec![0; 64 << 10], 0);
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            return Ok(Ok(at));
        }
        if bytes.get(at..at + len) != Some(&piece[..len]) {
            return Ok(Err(at));
        }
        at += len;
    }
}

/// Whether a node failed with a reason that says "from byte to byte".
fn names_what_is_missing(node: &Value, len: usize) -> bool {
    let text = node["reason"]["text"].as_str().unwrap_or_default();
    let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let number = |word: &str| word.parse::<usize>().ok().filter(|at| *at <= len);
    words
        .windows(3)
        .any(|w| w[1] == "to" && number(w[0]).zip(number(w[2])).is_some_and(|(from, to)| from < to))
}

/// The events without those that are soon outdated by the next of their kind.
fn without_beats(events: &str) -> String {
    let beat = |line: &str| line.starts_with(r#"{"event":"progress""#);
    let next = events.lines().skip(1).map(Some).chain([None]);
    let kept = events.lines().zip(next).filter(|(line, next)| !beat(line) || !next.is_some_and(beat));
    kept.map(|(line, _)| format!("{line}\n")).collect()
}
