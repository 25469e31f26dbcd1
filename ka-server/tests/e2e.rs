//! Whole sessions over loopback, with the real programs.

mod processes;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;

use ka_core::limits::PROBE_TIMEOUT;
use processes::{Lan, Running, bare_server, codes, json, noise};
use rustix::process::Signal;

#[test]
fn three_nodes_get_a_file_bit_for_bit() {
    let lan = Lan::new();
    let bytes = noise(20_000_001);
    fs::write(lan.path("in"), &bytes).unwrap();
    let server = lan.server(&["-n", "3", "--source", &lan.arg("in"), "--report", &lan.arg("server.json")]);
    let clients = (1..=3).map(|n| {
        let (out, report) = (lan.arg(&format!("out{n}")), lan.arg(&format!("{n}.json")));
        lan.client(&["-w", "--output", &out, "--report", &report])
    });
    assert_eq!(codes(clients.collect()), [0, 0, 0]);
    let end = server.end();
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(end.stderr.contains("3 of 3 nodes"), "{}", end.stderr);
    assert!(end.stdout.is_empty());

    let report = json(&lan.path("server.json"));
    assert_eq!(report["ok"], true);
    assert_eq!(report["bytes"], bytes.len());
    assert_eq!(report["source"]["kind"], "file");
    assert_eq!(report["nodes"].as_array().unwrap().len(), 3);
    for n in 1..=3 {
        assert!(fs::read(lan.path(&format!("out{n}"))).unwrap() == bytes, "node {n}");
        assert_eq!(report["nodes"][n - 1]["outcome"], "ok");
        assert_eq!(report["nodes"][n - 1]["bytes"], bytes.len());
        let own = json(&lan.path(&format!("{n}.json")));
        assert_eq!((&own["ok"], &own["received"]), (&true.into(), &bytes.len().into()));
        assert_eq!(own["session"], report["session"]);
    }
}

#[test]
fn a_tree_of_files_keeps_its_names() {
    let lan = Lan::new();
    let (from, to) = (lan.path("from"), lan.path("to"));
    fs::create_dir_all(from.join("a dir/empty")).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("a dir/größe"), noise(100_000)).unwrap();
    fs::write(from.join("new\nline"), "").unwrap();
    symlink("a dir/größe", from.join("link")).unwrap();

    let server = lan.server(&["-e", &format!("(cd {} && tar c *)", from.display())]);
    let client = lan.client(&["-e", &format!("(cd {} && tar xf -)", to.display())]);
    assert_eq!(codes(vec![client, server]), [0, 0]);
    assert_eq!(fs::read(to.join("a dir/größe")).unwrap(), noise(100_000));
    assert!(to.join("a dir/empty").is_dir() && to.join("new\nline").is_file());
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a dir/größe"));
}

#[test]
fn standard_input_comes_out_of_standard_output() {
    let lan = Lan::new();
    let bytes = noise(3_000_000);
    fs::write(lan.path("in"), &bytes).unwrap();
    let (input, output) = (File::open(lan.path("in")).unwrap(), File::create(lan.path("out")).unwrap());
    let server = lan.start(lan.server_command(&["--source", "-"]).stdin(input));
    let client = lan.start(lan.client_command(&["--output", "-"]).stdout(output));
    assert_eq!(codes(vec![client, server]), [0, 0]);
    assert!(fs::read(lan.path("out")).unwrap() == bytes);
}

#[test]
fn a_source_that_fails_fails_everywhere() {
    let lan = Lan::new();
    let report = lan.arg("server.json");
    // More than is read ahead, so that it fails under way.
    let source = ["-e", "head -c 60000000 /dev/zero; exit 1", "--spool", &lan.arg("spool")];
    let server = lan.server(&[&["-n", "2", "--report", &report], &source[..]].concat());
    let clients = (1..=2).map(|n| lan.client(&["--output", &lan.arg(&format!("out{n}"))]));
    assert_eq!(codes(clients.collect()), [5, 5]);
    let end = server.end();
    assert_eq!(end.code, 5);
    assert!(end.stderr.contains("exit status 1"), "{}", end.stderr);
    assert_eq!(lan.names(), ["server.json"], "neither a file nor a spool nor a part of one");
    let report = json(&lan.path("server.json"));
    assert_eq!((&report["exit"], &report["source"]["reason"]["kind"]), (&5.into(), &"source".into()));
}

#[test]
fn a_sink_that_fails_is_one_node_s_matter() {
    let lan = Lan::new();
    fs::write(lan.path("in"), noise(5_000_000)).unwrap();
    let report = lan.arg("server.json");
    let server = lan.server(&["-n", "3", "--source", &lan.arg("in"), "--report", &report]);
    let bad = lan.client(&["-e", "head -c 1000 >/dev/null; exit 1"]);
    let good = (1..=2).map(|n| lan.client(&["--output", &lan.arg(&format!("out{n}"))]));
    assert_eq!(codes(good.collect()), [0, 0]);
    let bad = bad.end();
    assert_eq!(bad.code, 6);
    assert!(bad.stderr.contains("exit status 1"), "{}", bad.stderr);
    let end = server.end();
    assert_eq!(end.code, 6);
    assert!(end.stderr.lines().last().unwrap().contains("   ka-d-server -n 1 --source"), "{}", end.stderr);
    assert!(fs::read(lan.path("out1")).unwrap() == noise(5_000_000));
    let nodes = json(&lan.path("server.json"))["nodes"].clone();
    let failed: Vec<_> = nodes.as_array().unwrap().iter().filter(|n| n["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["reason"]["kind"], "sink");
}

#[test]
fn a_spool_finishes_the_job() {
    let lan = Lan::new();
    let bytes = noise(5_000_000);
    fs::write(lan.path("in"), &bytes).unwrap();
    let source = format!("cat {}; rm {0}", lan.arg("in"));
    let server = lan.server(&["-n", "2", "-e", &source, "--spool", &lan.arg("spool")]);
    let bad = lan.client(&["-e", "exit 1"]);
    let good = lan.client(&["--output", &lan.arg("out1")]);
    assert_eq!(codes(vec![good, bad]), [0, 6]);
    let end = server.end();
    assert_eq!(end.code, 6);
    assert_eq!(lan.names(), ["out1", "spool"]);
    assert!(fs::read(lan.path("spool")).unwrap() == bytes);

    let again = end.stderr.lines().find_map(|line| line.split_once("   ka-d-server ")).unwrap().1;
    assert!(again.starts_with(&format!("-n 1 --source {} -s", lan.arg("spool"))), "{again}");
    let server = lan.start(&mut bare_server(&again.split(' ').collect::<Vec<_>>()));
    let client = lan.client(&["--output", &lan.arg("out2")]);
    assert_eq!(codes(vec![client, server]), [0, 0]);
    assert_eq!(lan.names(), ["out1", "out2", "spool"]);
    assert!(fs::read(lan.path("out2")).unwrap() == bytes);
}

/// Who else may write where the spool is to be could have his own file served.
#[test]
fn only_a_spool_of_one_s_own_is_served_again() {
    let lan = Lan::new();
    let mut server = lan.server(&["-e", "sleep 1000", "--spool", &lan.arg("spool"), "--json"]);
    let node = lan.client(&["-e", "cat"]);
    server.until("started");
    fs::write(lan.path("theirs"), "x").unwrap();
    symlink("theirs", lan.path("spool")).unwrap();
    server.signal(Signal::TERM);
    let again = server.until("report")["again"].as_str().unwrap().to_owned();
    assert!(codes(vec![node, server]).iter().all(|code| *code != 0));
    assert!(again.contains("sleep 1000") && !again.contains("--source"), "{again}");
}

#[test]
fn a_full_disk_is_a_failed_sink() {
    let lan = Lan::new();
    let server = lan.server(&["-e", "head -c 3000000 /dev/zero"]);
    let end = lan.client(&["--output", "/dev/full"]).end();
    assert_eq!(end.code, 6);
    assert!(end.stderr.contains("/dev/full: No space left on device"), "{}", end.stderr);
    assert_eq!(server.end().code, 6);
}

#[test]
fn a_session_that_nobody_serves_is_not_found() {
    let lan = Lan::new();
    let report = lan.arg("r.json");
    let end = lan.client(&["-e", "cat", "--discover-timeout", "1", "--report", &report]).end();
    assert_eq!(end.code, 3, "{}", end.stderr);
    assert_eq!(json(&lan.path("r.json"))["exit"], 3);
    let end = lan.client(&["-g", "--discover-timeout", "1"]).end();
    assert_eq!(end.code, 3, "{}", end.stderr);
}

#[test]
fn two_servers_of_one_name_are_one_too_many() {
    let lan = Lan::new();
    let mut first = lan.server(&["-e", "echo", "--json"]);
    // The end of the short source.
    first.until("ended");
    // While both are still asking, the smaller id wins.
    while first.until("progress")["t"].as_f64().unwrap() < 2.0 * PROBE_TIMEOUT.as_secs_f64() {}
    let second = lan.server(&["-e", "echo"]).end();
    assert_eq!(second.code, 4);
    assert!(second.stderr.contains("already serves a session named"), "{}", second.stderr);
    first.signal(Signal::TERM);
    assert_eq!(first.end().code, 8);
}

#[test]
fn go_starts_with_whoever_is_there() {
    let lan = Lan::new();
    let mut server = lan.server(&["-n", "2", "-e", "echo hello", "--json"]);
    server.until("open");
    let end = lan.client(&["-g"]).end();
    assert_eq!(end.code, 4, "nobody is there: {}", end.stderr);

    let mut client = lan.client(&["-e", "cat", "--json"]);
    client.until("joined");
    let end = lan.client(&["-g"]).end();
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(end.stderr.contains("starts with 1 node"), "{}", end.stderr);
    let end = client.end();
    assert_eq!(end.code, 0);
    assert!(end.stderr.contains("hello\n"), "standard output is JSON's: {}", end.stderr);
    assert_eq!(server.end().code, 0);
}

/// A session that goes on until somebody stops it.
fn endless(lan: &Lan, more: &[&str]) -> (Running, Vec<Running>) {
    let args = ["-n", "2", "-e", "cat /dev/zero", "--rate", "20M", "--json"];
    let mut server = lan.server(&[&args, more].concat());
    let mut clients: Vec<_> =
        (1..=2).map(|n| lan.client(&["--output", &lan.arg(&format!("out{n}")), "--json"])).collect();
    server.until("linked");
    clients.iter_mut().for_each(|c| drop(c.until("stream")));
    (server, clients)
}

#[test]
fn an_interrupted_session_leaves_nothing() {
    let lan = Lan::new();
    let (server, clients) =
        endless(&lan, &["--report", &lan.arg("server.json"), "--spool", &lan.arg("spool")]);
    server.signal(Signal::INT);
    assert_eq!(codes(clients), [8, 8]);
    let end = server.end();
    assert_eq!(end.code, 8);
    assert!(end.stderr.contains("interrupted: Ctrl-C on the server"), "{}", end.stderr);
    assert_eq!(lan.names(), ["server.json"]);
    let report = json(&lan.path("server.json"));
    assert_eq!((&report["ok"], &report["exit"]), (&false.into(), &8.into()));
    assert_eq!(report["nodes"][0]["reason"]["kind"], "interrupted");
    assert_eq!(report["nodes"][1]["reason"]["text"], "Ctrl-C on the server");
}

#[test]
fn a_killed_node_is_lost() {
    let lan = Lan::new();
    let report = lan.arg("server.json");
    let server = lan.server(&["-e", "cat /dev/zero", "--rate", "20M", "--report", &report]);
    let mut client = lan.client(&["--output", "/dev/null", "--json"]);
    client.until("stream");
    client.signal(Signal::KILL);
    let end = server.end();
    assert_eq!(end.code, 7, "{}", end.stderr);
    assert!(end.stderr.contains("lost on the way"), "{}", end.stderr);
    assert_eq!(json(&lan.path("server.json"))["nodes"][0]["reason"]["node"], 1);
}

#[test]
fn a_running_session_hears_its_socket() {
    let lan = Lan::new();
    let path = lan.path("socket");
    let mut server =
        lan.server(&["-n", "9", "-e", "cat /dev/zero", "--json", "--control-socket", &lan.arg("socket")]);
    server.until("open");
    let ask = |line: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        writeln!(stream, "{line}").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(ask("go"), "error: no node is waiting\n");
    let mut client = lan.client(&["--output", "/dev/null", "--json"]);
    client.until("joined");
    assert!(ask("status").contains("1 of 9"));
    assert_eq!(ask("rate 20M"), "ok\n");
    assert_eq!(ask("go"), "ok 1 node\n");
    client.until("stream");
    assert_eq!(ask("go"), "error: the session has already started\n");
    assert_eq!(ask("rate off"), "ok\n");
    assert_eq!(ask("stop"), "ok\n");
    assert_eq!(codes(vec![client, server]), [8, 8]);
    assert!(!path.exists());
}

#[test]
fn nobody_has_to_listen() {
    let lan = Lan::new();
    let deaf = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let server = lan.start(lan.server_command(&["-e", "echo", "--json"]).stdout(deaf()).stderr(deaf()));
    let client =
        lan.start(lan.client_command(&["-e", "cat >/dev/null", "--json"]).stdout(deaf()).stderr(deaf()));
    assert_eq!(codes(vec![client, server]), [0, 0]);
}
