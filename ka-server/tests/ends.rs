//! Where streams begin and end: what cannot carry one, what is in use, what is left behind, and what is said of it.

mod processes;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use processes::{Ended, Lan, Running, codes, json, noise};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

/// The same, but run as `"$@"` by this script of a shell.
fn in_shell(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// The same with these redirections.
fn redirected(how: &str, command: &Command) -> Command {
    in_shell(&format!("exec \"$@\" {how}"), command)
}

/// A fifo that ends when the last of a command's processes does: a command opens it for writing first of all.
fn fifo(lan: &Lan) -> String {
    mknodat(CWD, lan.path("up"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    lan.arg("up")
}

/// Waits until a command has opened the fifo.
fn up(lan: &Lan) -> File {
    File::open(lan.path("up")).unwrap()
}

/// Waits until nothing of the command is left.
fn is_gone(mut up: File) {
    assert_eq!(up.read(&mut [0]).unwrap(), 0);
}

/// Presses Ctrl-C until it has ended.
fn stopped(mut running: Running) -> Ended {
    for _ in 0..300 {
        if let Some(ended) = running.end_within(Duration::from_millis(200)) {
            return ended;
        }
        running.process().signal(Signal::INT);
    }
    panic!("it does not stop");
}

#[test]
fn what_carries_no_stream_is_known_before_the_session_is_looked_for() {
    let lan = Lan::new();
    for (args, how, why) in [
        (["--output", "-"], ">&-", "cannot write to standard output: it is closed"),
        (["--output", "/dev/stdout"], ">&-", "cannot write to standard output: it is closed"),
        (["--output", "-"], ">&2", "cannot write to standard output: standard error goes there, too"),
        (["--output", "/dev/stderr"], "", "cannot write /dev/stderr: messages go there"),
        (["--output", "-"], "1</dev/zero", "cannot write to standard output: it is open for reading only"),
        (["--output", "-"], ">/dev/ptmx", "cannot write to standard output: it is a terminal"),
    ] {
        let end = lan.start(&mut redirected(how, &lan.client_command(&args))).end();
        assert!(end.code == 1 && end.stderr.contains(why), "{how}: {} {}", end.code, end.stderr);
    }
    for (args, how, why) in [
        (["--source", "-"], "<&-", "cannot read standard input: it is closed"),
        (["--source", "/dev/stdin"], "<&-", "cannot read /dev/stdin: it is closed"),
        (["--source", "-"], "0>/dev/null", "cannot read standard input: it is open for writing only"),
        (["--source", "-"], "</", "cannot read standard input: it is a directory"),
        (["--source", "-"], "</dev/ptmx", "cannot read standard input: it is a terminal"),
    ] {
        let end = lan.start(&mut redirected(how, &lan.server_command(&args))).end();
        assert!(end.code == 1 && end.stderr.contains(why), "{how}: {} {}", end.code, end.stderr);
    }
}

#[test]
fn whoever_needs_no_descriptor_does_without() {
    let lan = Lan::new();
    let bytes = noise(1_000_001);
    fs::write(lan.path("in"), &bytes).unwrap();
    let closed = "<&- >&- 2>&-";
    for (source, sink) in [
        (["--source".into(), lan.arg("in")], ["--output".into(), lan.arg("out")]),
        (["-e".into(), format!("cat {}", lan.arg("in"))], ["-e".into(), format!("cat > {}", lan.arg("out"))]),
    ] {
        let server = lan.server_command(&source.each_ref().map(String::as_str));
        let server = lan.start(&mut redirected(closed, &server));
        let client = lan.client_command(&sink.each_ref().map(String::as_str));
        let client = lan.start(&mut redirected(closed, &client));
        assert_eq!(codes(vec![client, server]), [0, 0]);
        assert!(fs::read(lan.path("out")).unwrap() == bytes);
        fs::remove_file(lan.path("out")).unwrap();
    }
}

#[test]
fn an_output_in_use_is_refused_by_name_and_the_first_has_its_bytes() {
    let lan = Lan::new();
    let beside = lan.beside();
    let bytes = noise(1_000_001);
    fs::write(lan.path("in"), &bytes).unwrap();
    let output = lan.arg("out");
    // It waits, and has not begun to write.
    let mut first = lan.client(&["--output", &output, "--json"]);
    let mut server = lan.server(&["-n", "2", "--source", &lan.arg("in"), "--json"]);
    first.until("joined");
    let who = format!("process {} (ka-d-client) uses it", first.process().number());
    for world in [&lan, &beside] {
        let end = world.client(&["--output", &output]).end();
        assert!(end.code == 1 && end.stderr.contains(&who), "{} {}", end.code, end.stderr);
    }
    // What is an output is no report, and no spool.
    let end = lan.client(&["-ecat", "--report", &output]).end();
    assert!(end.code == 1 && end.stderr.contains(&who), "{} {}", end.code, end.stderr);
    let end = beside.server(&["-e", "echo", "--spool", &output]).end();
    assert!(end.code == 1 && end.stderr.contains(&who), "{} {}", end.code, end.stderr);
    let end = beside.client(&["--output", &beside.arg("x"), "--report", &beside.arg("x")]).end();
    assert!(end.code == 1 && end.stderr.contains("this program itself uses it"), "{}", end.stderr);

    let second = lan.client(&["--output", "/dev/null"]);
    assert_eq!(codes(vec![first, second]), [0, 0]);
    server.until("report");
    assert_eq!(server.end().code, 0);
    assert!(fs::read(lan.path("out")).unwrap() == bytes);
    assert_eq!((lan.names(), beside.names()), (vec!["in".into(), "out".into()], Vec::<String>::new()));
}

#[test]
fn whoever_never_got_in_leaves_nothing() {
    let lan = Lan::new();
    let args = ["--output", &lan.arg("out"), "--report", &lan.arg("report")];
    let end = lan.client(&[&args[..], &["--discover-timeout", "1"]].concat()).end();
    assert_eq!((end.code, lan.names()), (3, vec!["report".into()]));
    fs::remove_file(lan.path("report")).unwrap();

    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut looking = lan.client(&args[..2]);
        while lan.names() != ["out.part"] {
            assert!(looking.end_within(Duration::from_millis(10)).is_none());
        }
        looking.signal(signal);
        assert_eq!((looking.end().code, lan.names()), (8, vec![]), "{signal:?}");
    }

    let server = lan.server(&["-n", "2", "-e", "echo"]);
    let mut waiting = lan.client(&[&args[..2], &["--json"]].concat());
    waiting.until("joined");
    waiting.signal(Signal::HUP);
    assert_eq!((waiting.end().code, lan.names()), (8, vec![]));
    stopped(server);

    // A server whose port is somebody else's has a spool by then.
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let end = lan.server(&["-e", "echo", "--spool", &lan.arg("spool"), "-p", &port]).end();
    assert_eq!((end.code, lan.names()), (1, vec![]), "{}", end.stderr);
}

#[test]
fn what_a_killed_node_has_left_is_in_nobody_s_way() {
    let lan = Lan::new();
    let mut server = lan.server(&["-e", "cat /dev/zero", "--rate", "20M", "--json"]);
    let mut client = lan.client(&["--output", &lan.arg("out"), "--json"]);
    client.until("stream");
    client.signal(Signal::KILL);
    client.end();
    server.until("report");
    server.end();
    assert_eq!(lan.names(), ["out.part"]);

    let server = lan.server(&["-e", "echo hello"]);
    let client = lan.client(&["--output", &lan.arg("out")]);
    assert_eq!(codes(vec![client, server]), [0, 0]);
    assert_eq!((lan.names(), fs::read(lan.path("out")).unwrap()), (vec!["out".into()], b"hello\n".into()));
}

/// A session that never ends by itself, and what its one node does with the bytes.
fn endless(lan: &Lan, sink: &str) -> (Running, Running) {
    let server = lan.server(&["-e", "cat /dev/zero", "--rate", "20M"]);
    (server, lan.client(&["-e", sink]))
}

#[test]
fn a_sink_that_is_not_waited_for_never_sees_an_end() {
    let lan = Lan::new();
    let sink = format!("trap '' TERM; exec 3>{}; cat >/dev/null; touch {}", fifo(&lan), lan.arg("done"));
    let (server, client) = endless(&lan, &sink);
    let up = up(&lan);
    let end = stopped(client);
    assert_eq!(end.code, 8);
    assert!(end.stderr.contains("interrupted twice"), "{}", end.stderr);
    is_gone(up);
    // To the server it is one that was taken away.
    assert_eq!(server.end().code, 7);
    assert_eq!(lan.names(), ["up"]);
}

#[test]
fn a_sink_of_a_node_that_is_killed_never_sees_an_end() {
    let lan = Lan::new();
    let sink = format!("exec 3>{}; cat >/dev/null; touch {}", fifo(&lan), lan.arg("done"));
    let (_server, client) = endless(&lan, &sink);
    let up = up(&lan);
    client.signal(Signal::KILL);
    is_gone(up);
    assert_eq!(lan.names(), ["up"]);
}

#[test]
fn a_source_that_is_not_waited_for_is_gone() {
    let lan = Lan::new();
    let server = lan.server(&["-e", &format!("trap '' TERM; exec 3>{}; sleep 1000", fifo(&lan))]);
    let up = up(&lan);
    let end = stopped(server);
    assert!(end.code == 8 && end.stderr.contains("interrupted twice"), "{} {}", end.code, end.stderr);
    is_gone(up);
}

#[test]
fn signals_that_come_together_are_one() {
    let lan = Lan::new();
    let (server, client) = endless(&lan, &format!("exec 3>{}; cat >/dev/null", fifo(&lan)));
    drop(up(&lan));
    for signal in [Signal::TERM, Signal::TERM, Signal::HUP, Signal::INT] {
        client.process().signal(signal);
    }
    let end = client.end();
    assert_eq!(end.code, 8);
    assert!(end.stderr.contains("FAILED") && !end.stderr.contains("interrupted twice"), "{}", end.stderr);
    let end = server.end();
    assert_eq!(end.code, 7, "somebody has taken a node away: {}", end.stderr);
    assert!(
        end.stderr.contains("interrupted: ") && !end.stderr.contains("lost on the way"),
        "{}",
        end.stderr
    );
}

#[test]
fn how_a_node_has_ended_is_not_changed_by_stopping_it() {
    let lan = Lan::new();
    let mut ports = [0, 1].map(|_| TcpListener::bind("0.0.0.0:0").unwrap());
    ports.sort_by_key(|port| port.local_addr().unwrap().port());
    let [first, second] = ports.each_ref().map(|port| port.local_addr().unwrap().port().to_string());
    drop(ports);
    let server = lan.server(&["-n", "2", "-e", "cat /dev/zero", "--rate", "20M"]);
    // The one below needs it for as long as the session lasts.
    let mut failed = lan.client(&["-P", &first, "-e", "exit 3", "--json", "--report", &lan.arg("report")]);
    let below = lan.client(&["-P", &second, "--output", "/dev/null"]);
    failed.until("ended");
    let end = stopped(failed);
    assert_eq!(end.code, 6, "{}", end.stderr);
    let report = json(&lan.path("report"));
    assert_eq!((&report["exit"], &report["reason"]["kind"]), (&6.into(), &"sink".into()));
    stopped(server);
    below.end();
}

#[test]
fn a_tar_that_leaves_the_rest_of_a_record_is_a_sink_that_ended_well() {
    let lan = Lan::new();
    let bytes = noise(3_000_001);
    fs::write(lan.path("f"), &bytes).unwrap();
    for name in ["to1", "to2"] {
        fs::create_dir(lan.path(name)).unwrap();
    }
    let packed = format!("cd {}; tar -b 16384 -c f", lan.arg("."));
    let server = lan.server(&["-n", "3", "-e", &packed]);
    let unpacks = lan.client(&["-e", &format!("tar -C {} -x", lan.arg("to1"))]);
    let (status, to) = (lan.arg("status"), lan.arg("to2"));
    let pipe = format!("{{ \"$@\"; echo $? > {status}; }} | tar -C {to} -x");
    let piped = lan.start(&mut in_shell(&pipe, &lan.client_command(&["--output", "-"])));
    let leaves = lan.client(&["-e", "head -c 100000 >/dev/null"]);
    assert_eq!(codes(vec![unpacks, piped]), [0, 0]);
    assert_eq!(fs::read_to_string(lan.path("status")).unwrap(), "0\n");
    assert!(fs::read(lan.path("to1/f")).unwrap() == bytes && fs::read(lan.path("to2/f")).unwrap() == bytes);
    let end = leaves.end();
    assert_eq!(end.code, 6);
    assert!(end.stderr.contains("with exit status 0; if it needs no more"), "{}", end.stderr);
    assert_eq!(server.end().code, 6);
}

#[test]
fn a_source_that_gives_nothing_is_said() {
    let lan = Lan::new();
    for source in [["-e", "true"], ["--source", "-"]] {
        let server = lan.server(&[&source[..], &["--json"]].concat());
        let client = lan.client(&["--output", &lan.arg("out")]).end();
        assert_eq!(client.code, 0);
        assert!(client.stderr.contains("OK: 0 B; but the source gave nothing"), "{}", client.stderr);
        let server = server.end();
        assert_eq!((server.code, server.events("warning").len()), (0, 1));
        assert!(server.stderr.contains("  warning: the source gave nothing\n"), "{}", server.stderr);
    }
}

/// Runs it where a script has mounted something, which goes with it; `None` where nothing may be mounted, which is said.
fn where_mounted(mount: &str, command: &Command) -> Option<Ended> {
    // Whoever may mount, may also make the namespace for it.
    if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        let _ = writeln!(
            std::io::stderr(),
            "a test of {} cannot run here: nothing can be mounted",
            module_path!()
        );
        return None;
    }
    let script = format!("exec unshare --mount sh -c '{mount} && exec \"$@\"' sh \"$@\"");
    let mut child = in_shell(&script, command);
    let output = child.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Some(Ended { code: output.status.code().unwrap_or(-1), stdout, stderr })
}

#[test]
fn a_report_that_finds_no_room_is_known_at_the_start() {
    let lan = Lan::new();
    fs::create_dir(lan.path("full")).unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=1M none {0} && (head -c 2M /dev/zero > {0}/x || true)",
        lan.arg("full")
    );
    let command = lan.client_command(&["-ecat", "--report", &lan.arg("full/report")]);
    let Some(end) = where_mounted(&mount, &command) else { return };
    let why = "full/report.part: No space left on device";
    assert!(end.code == 1 && end.stderr.contains(why), "{} {}", end.code, end.stderr);
}

#[test]
fn a_file_that_cannot_be_replaced_is_known_at_the_start() {
    let lan = Lan::new();
    for name in ["from", "to"] {
        fs::write(lan.path(name), "old").unwrap();
    }
    let mount = format!("mount --bind {} {}", lan.arg("from"), lan.arg("to"));
    let command = lan.client_command(&["--output", &lan.arg("to")]);
    let Some(end) = where_mounted(&mount, &command) else { return };
    assert!(end.code == 1 && end.stderr.contains("to: it is mounted there"), "{} {}", end.code, end.stderr);
    assert_eq!(lan.names(), ["from", "to"]);
}
