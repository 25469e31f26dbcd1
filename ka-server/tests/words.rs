//! What the programs say, where people read it: in a log, and on a terminal.

mod processes;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use processes::{Lan, codes, json, noise};
use rustix::process::{Pid, Signal, kill_process};

/// A time of day, as logs and programs have it.
fn is_time(text: &str) -> bool {
    let form = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let form: String = text.chars().map(form).collect();
    form == "0000-00-00T00:00:00Z" || form == "0000-00-00T00:00:00.000Z"
}

#[test]
fn a_log_says_when_and_each_failure_once() {
    let lan = Lan::new();
    fs::write(lan.path("in"), noise(30_000_000)).unwrap();
    let server =
        lan.server(&["-n", "2", "--source", &lan.arg("in"), "--json", "--report", &lan.arg("report")]);
    let bad = lan.client(&["-e", "head -c 1000 >/dev/null; exit 3", "--json", "--report", &lan.arg("bad")]);
    let good = lan.client(&["--output", &lan.arg("out")]);
    let (server, bad, good) = (server.end(), bad.end(), good.end());
    assert_eq!((server.code, bad.code, good.code), (6, 6, 0), "{}", server.stderr);
    for log in [&server.stderr, &bad.stderr, &good.stderr] {
        let stamped = |line: &str| line.split_once(' ').is_some_and(|(time, _)| is_time(time));
        assert!(log.lines().all(stamped), "{log}");
    }
    for log in [&server.stderr, &bad.stderr] {
        assert_eq!(log.matches("exit status 3").count(), 1, "{log}");
    }
    assert!(
        server.stderr.contains("at byte") && server.stderr.contains(": its sink failed"),
        "{}",
        server.stderr
    );
    let (_, after) = bad.stderr.split_once("FAILED").unwrap();
    assert!(!after.contains("everything is here") && !after.contains("linked"), "{}", bad.stderr);

    for line in server.stdout.lines().chain(bad.stdout.lines()) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["t"].is_number() && event["time"].as_str().is_some_and(is_time), "{line}");
    }
    let (server, bad) = (json(&lan.path("report")), json(&lan.path("bad")));
    let times =
        [["opened", "started", "ended"].map(|f| &server[f]), ["joined", "started", "ended"].map(|f| &bad[f])];
    for times in times {
        let times = times.map(|time| time.as_str().unwrap());
        assert!(times.iter().all(|time| is_time(time)) && times.is_sorted(), "{times:?}");
    }
}

#[test]
fn a_session_starts_from_its_own_host_without_its_key() {
    let lan = Lan::new().without_keys();
    // Root's sockets are where they always are.
    let run = lan.path("run");
    fs::create_dir(&run).unwrap();
    let go = |lan: &Lan| {
        let mut command = lan.client_command(&["-g", "--json", "--discover-timeout", "1s"]);
        lan.start(command.env("XDG_RUNTIME_DIR", &run)).end()
    };
    let end = go(&lan);
    assert_eq!(end.code, 2, "{}", end.stderr);
    assert!(
        end.stderr.contains("this user serves no session `") && end.stderr.contains("--key"),
        "{}",
        end.stderr
    );

    let mut command = lan.server_command(&["-n", "5", "-e", "echo hello"]);
    let mut server = lan.start(command.env("XDG_RUNTIME_DIR", &run));
    let key = server.until_says("the nodes' key is ");
    let key = key.split("ka.key=").nth(1).unwrap().to_owned();
    let on_each = server.until_says("on each node: ka-d-client -s ");
    assert!(on_each.ends_with(&format!(" --key {key} -e COMMAND")), "{on_each}");
    assert!(server.until_says("to start with fewer: run `ka-d-client -g -s ").ends_with("` on this host"));
    let end = go(&lan);
    assert_eq!(end.code, 4, "{}", end.stderr);
    assert!(end.stderr.contains("refused: no node is waiting"), "{}", end.stderr);

    let node = lan.client(&["--key", &key, "--output", &lan.arg("out")]);
    server.until_says("joined");
    let end = go(&lan);
    assert_eq!((end.code, &end.events("going")[0]["nodes"]), (0, &1.into()), "{}", end.stderr);
    let server = server.end();
    assert_eq!((node.end().code, server.code), (0, 0));
    assert!(server.stderr.contains("started with 1 of 5 nodes"), "{}", server.stderr);
    assert_eq!(fs::read(lan.path("out")).unwrap(), b"hello\n");
    assert_eq!(go(&lan).code, 2, "it is gone");
}

#[test]
fn who_looks_for_a_session_is_told_since_when_and_until_when() {
    let lan = Lan::new();
    let end = lan.client(&["--output", &lan.arg("out"), "--discover-timeout", "11s"]).end();
    let says: Vec<_> = end.stderr.lines().filter(|line| line.contains("looking for session")).collect();
    let [line] = says[..] else { panic!("{}", end.stderr) };
    let mut times = line.split([' ', ';']).filter(|word| is_time(word));
    // When it was said, since when, and until when.
    assert!(times.by_ref().take(3).count() == 3 && line.contains("gives up at"), "{line}");
}

/// A terminal of 40 columns and 8 rows, and a shell in it.
struct Terminal {
    script: Child,
    said: Vec<u8>,
    more: Receiver<Vec<u8>>,
}

const COLUMNS: usize = 40;
const ROWS: usize = 8;

impl Terminal {
    /// Runs a server in it, between two looks at the terminal's modes.
    fn start(lan: &Lan, args: &[&str]) -> Self {
        // It may have to be built, which takes its time.
        lan.client_command(&[]);
        let server = lan.server_command(args);
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap());
        let words: Vec<String> =
            [server.get_program()].into_iter().chain(server.get_args()).map(quoted).collect();
        let [before, pid, after] = ["before", "pid", "after"].map(|name| lan.arg(name));
        let run = format!("echo $$ >{pid}; exec \"$@\"");
        let line = format!(
            "stty cols {COLUMNS} rows {ROWS}; stty -a >{before}; sh -c '{run}' sh {}; code=$?; stty -a >{after}; exit $code",
            words.join(" ")
        );
        let mut script = Command::new("timeout");
        script.args(["60", "script", "-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        script.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::of(script)
    }

    /// What it shows is read as it comes: it never has to wait for us.
    fn of(mut script: Command) -> Self {
        let mut script =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script is there");
        let mut shown = script.stdout.take().unwrap();
        let (tx, more) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = shown.read(&mut bytes) {
                let _ = tx.send(bytes[..n].to_vec());
            }
        });
        Self { script, said: Vec::new(), more }
    }

    /// Waits until this is on it.
    fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.said).contains(text) {
            let more = self.read();
            assert!(more, "it never said {text}: {:?}", drawn(&String::from_utf8_lossy(&self.said)));
        }
    }

    fn read(&mut self) -> bool {
        let more = self.more.recv();
        self.said.extend(more.iter().flatten());
        more.is_ok()
    }

    fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Its exit status, and all that stands on it and above its top.
    fn end(mut self) -> (i32, Vec<String>) {
        while self.read() {}
        let code = self.script.wait().unwrap().code().unwrap();
        (code, drawn(&String::from_utf8(self.said).unwrap()))
    }
}

/// What a terminal shows that got this, with what it has pushed out beyond its top.
fn drawn(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut at = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\r' => {}
            '\n' => at += 1,
            '\x1b' => {
                let (command, after) =
                    rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic()).unwrap() + 1);
                rest = after;
                let number = command[1..command.len() - 1].parse().unwrap_or(0);
                match command.chars().last() {
                    Some('A') => at = at.saturating_sub(number).max(lines.len().saturating_sub(ROWS)),
                    Some('K') => lines[at].clear(),
                    Some('m') => {}
                    other => panic!("{other:?} is for the whole terminal"),
                }
            }
            c => {
                if lines[at].chars().count() == COLUMNS {
                    at += 1;
                }
                lines.resize(lines.len().max(at + 1), String::new());
                lines[at].push(c);
            }
        }
        lines.resize(lines.len().max(at + 1), String::new());
    }
    lines
}

fn modes_are_restored(lan: &Lan) {
    let modes = |name: &str| fs::read_to_string(lan.path(name)).unwrap();
    assert_eq!(modes("before"), modes("after"));
    assert!(modes("after").contains(" echo ") && modes("after").contains(" icanon "), "{}", modes("after"));
}

#[test]
fn a_key_starts_the_session_and_no_frame_stays_on_a_small_terminal() {
    let lan = Lan::new().insecure();
    fs::write(lan.path("in"), noise(3_000_000)).unwrap();
    let mut terminal = Terminal::start(&lan, &["-n", "20", "--rate", "1M", "--source", &lan.arg("in")]);
    terminal.until("press g, or run");
    let nodes: Vec<_> = (0..9).map(|_| lan.client(&["-e", "cat >/dev/null"])).collect();
    let bad = lan.client(&["-e", "exit 7"]);
    terminal.until("10 of 20 nodes are in; g starts");
    // Keys are not shown, and no other key starts it.
    terminal.press("x\r\n");
    terminal.press("g");
    terminal.until("g: starting with 10 nodes");
    let ended = (codes(nodes), bad.end().code);
    let (code, lines) = terminal.end();
    assert_eq!((ended, code), ((vec![0; 9], 6), 6), "{lines:?}");
    let text = lines.concat();
    assert!(text.contains("9 of 10 nodes OK"), "{lines:?}");
    for gone in ["nodes are in", "is in", "receiving", "MiB of", "and 5 more", "finishing"] {
        assert!(!text.contains(gone), "{gone} is still there: {lines:?}");
    }
    // What stays is there once, and in order.
    for (stays, times) in [
        ("is open on port", 1),
        ("g: starting with 10 nodes", 1),
        ("started with 10 of 20", 1),
        ("exit status 7", 1),
    ] {
        assert_eq!(text.matches(stays).count(), times, "{stays}: {lines:?}");
    }
    modes_are_restored(&lan);
}

#[test]
fn however_it_is_stopped_the_terminal_is_as_it_was() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let lan = Lan::new().insecure();
        let mut terminal = Terminal::start(&lan, &["-n", "20", "-e", "echo"]);
        terminal.until("0 of 20 nodes are in");
        let pid = fs::read_to_string(lan.path("pid")).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        let (code, lines) = terminal.end();
        assert_eq!(code, 8, "{signal:?}: {lines:?}");
        modes_are_restored(&lan);
    }
}

#[test]
fn in_the_background_it_leaves_the_terminal_alone() {
    let lan = Lan::new().insecure();
    let server = lan.server_command(&["-n", "20", "-e", "echo"]);
    let args: Vec<_> = server.get_args().map(|arg| arg.to_str().unwrap()).collect();
    let pid = lan.arg("pid");
    let line = format!(
        "set -m; {} {} & echo $! >{pid}; wait $!; echo \"ended with $?\"",
        server.get_program().to_str().unwrap(),
        args.join(" ")
    );
    let mut script = Command::new("timeout");
    script.args(["60", "script", "-qec", &line, "/dev/null"]).env("TERM", "xterm").env("KA_INSECURE", "1");
    let mut terminal = Terminal::of(script);
    terminal.until("0 of 20 nodes are in");
    terminal.press("g\n");
    let pid = fs::read_to_string(Path::new(&pid)).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    terminal.until("ended with 8");
    terminal.end();
}

#[test]
fn a_key_without_its_identity_is_refused_before_anything_is_looked_at() {
    let lan = Lan::new().without_keys();
    for (args, says) in [
        (["--key-file", "nodes key"], "--identity ID --key-file 'nodes key'"),
        (["--make-key", "key"], "--identity ID --make-key KEY"),
    ] {
        let here = lan.path("nothing");
        let mut clone = lan.clone_command(&["--root", here.to_str().unwrap()]);
        for command in [clone.args(args), lan.server_command(&["--source", "/nonexistent"]).args(args)] {
            let end = lan.start(command).end();
            assert_eq!(end.code, 2, "{}", end.stderr);
            assert!(end.stderr.contains(says) && !end.stderr.contains("exist"), "{}", end.stderr);
        }
    }
}
