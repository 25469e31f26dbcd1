//! The command lines of 2001, letter by letter, and the streams that are easily got wrong.

mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use processes::{Ended, Lan, Running, bare_client, bare_server, codes, json, noise};

/// The session's name of the old manual, but this process's own.
fn session(test: &str) -> String {
    format!("kainstall1-{}-{test}", std::process::id())
}

/// A TCP port nobody has, below those that the system and sessions take by themselves.
fn free_port() -> String {
    let shift = (std::process::id() % 5000) as u16;
    let ports = (0..5000).map(|i| 10_000 + (i + shift) % 5000);
    let free =
        |port: &u16| TcpListener::bind(("::", *port)).or_else(|_| TcpListener::bind(("0.0.0.0", *port)));
    ports.into_iter().find(|port| free(port).is_ok()).expect("a free port").to_string()
}

fn fine(end: Ended) -> Ended {
    assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
    end
}

#[test]
fn a_tree_is_cloned_by_the_lines_of_the_manual() {
    let lan = Lan::new().insecure();
    let name = session("tar");
    let dir = lan.path("golden");
    fs::create_dir_all(dir.join("etc/a dir")).unwrap();
    fs::write(dir.join("etc/a dir/file"), noise(2_000_000)).unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    let command = format!("(cd {} && tar c *)", dir.display());
    let server = lan.start(&mut bare_server(&["-s", &name, "-n", "2", "-e", &command]));
    let clients = ["x1", "x2"].map(|to| {
        fs::create_dir(lan.path(to)).unwrap();
        let command = format!("(cd {} && tar xf -)", lan.arg(to));
        lan.start(&mut bare_client(&["-w", "-s", &name, "-e", &command]))
    });
    for client in clients {
        fine(client.end());
    }
    fine(server.end());
    for to in ["x1", "x2"] {
        let same = Command::new("diff").args(["-r", &lan.arg("golden"), &lan.arg(to)]).status().unwrap();
        assert!(same.success(), "{to}");
    }
}

#[test]
fn an_arity_of_two_makes_a_tree() {
    let lan = Lan::new().insecure();
    fs::write(lan.path("in"), noise(3_000_001)).unwrap();
    let server = lan.server(&["-a", "2", "-n", "5", "--source", &lan.arg("in"), "--json"]);
    let clients: Vec<_> = (1..=5).map(|n| lan.client(&["--output", &lan.arg(&format!("out{n}"))])).collect();
    assert_eq!(codes(clients), [0; 5]);
    let end = fine(server.end());
    let mut children = BTreeMap::new();
    for linked in end.events("linked") {
        *children.entry(linked["parent"].as_u64().unwrap()).or_insert(0) += 1;
    }
    let mut sizes: Vec<i32> = children.values().copied().collect();
    sizes.sort_unstable();
    assert_eq!((children[&0], sizes), (2, vec![1, 2, 2]), "{children:?}");
    for n in 1..=5 {
        assert!(fs::read(lan.path(&format!("out{n}"))).unwrap() == noise(3_000_001), "node {n}");
    }
}

#[test]
fn a_delay_lets_those_that_wait_go_one_by_one() {
    let lan = Lan::new().insecure();
    let server = lan.server(&["-d", "10", "-n", "4", "-e", "echo", "--json"]);
    let waiting: Vec<_> = (1..=3).map(|_| lan.client(&["-w", "-e", "cat >/dev/null"])).collect();
    let hasty = lan.client(&["-e", "cat >/dev/null", "--json"]);
    let hasty = fine(hasty.end()).events("joined")[0]["node"].clone();
    assert_eq!(codes(waiting), [0; 3]);
    let released = fine(server.end()).events("released");
    assert_eq!(released.len(), 4, "{released:?}");
    let of_waiting = released.iter().filter(|e| e["node"] != hasty);
    let times: Vec<_> = of_waiting.map(|e| e["t"].as_f64().unwrap()).collect();
    // A second, or ten tenths, and never less.
    assert!(times.is_sorted_by(|a, b| b - a > 0.9), "{released:?}");
}

#[test]
fn go_starts_with_fewer() {
    let lan = Lan::new().insecure();
    let name = session("go");
    let source = ["-s", &name, "-n", "5", "-e", "echo hello", "--report", &lan.arg("report.json")];
    let server = lan.start(&mut bare_server(&source));
    let mut clients: Vec<_> = (1..=2)
        .map(|n| {
            let command = format!("cat >{}", lan.arg(&format!("out{n}")));
            lan.start(&mut bare_client(&["-w", "-s", &name, "-e", &command, "--json"]))
        })
        .collect();
    clients.iter_mut().for_each(|c| drop(c.until("joined")));
    fine(lan.start(&mut bare_client(&["-g", "-s", &name])).end());
    assert_eq!(codes(clients), [0, 0]);
    fine(server.end());
    assert_eq!(json(&lan.path("report.json"))["nodes"].as_array().unwrap().len(), 2);
    for n in 1..=2 {
        assert_eq!(fs::read(lan.path(&format!("out{n}"))).unwrap(), b"hello\n");
    }
}

#[test]
fn a_host_and_a_port_need_no_name() {
    let lan = Lan::new().insecure();
    let port = free_port();
    let server = lan.start(&mut bare_server(&["-p", &port, "-e", "echo hello"]));
    let to = format!("cat >{}", lan.arg("out"));
    fine(lan.start(&mut bare_client(&["-h", "127.0.0.1", "-p", &port, "-e", &to])).end());
    fine(server.end());
    assert_eq!(fs::read(lan.path("out")).unwrap(), b"hello\n");
}

#[test]
fn a_data_port_is_taken_and_the_server_stays_anyway() {
    let lan = Lan::new().insecure();
    let port = free_port();
    let mut server = lan.server(&["-l", "-P", &port, "-n", "1", "-e", "echo hello", "--json"]);
    assert_eq!(server.until("open")["data_port"].to_string(), port);
    // Taken: no other is used instead.
    let end = lan.client(&["-P", &port, "-e", "cat >/dev/null"]).end();
    assert_eq!(end.code, 1, "{}", end.stderr);
    assert!(end.stderr.contains(&port), "{}", end.stderr);
    fine(lan.client(&["-e", "cat >/dev/null"]).end());
    fine(server.end());
}

#[test]
fn both_say_their_version() {
    let lan = Lan::new().insecure();
    for command in [&mut bare_server(&["-v"]), &mut bare_client(&["-v"])] {
        let end = fine(lan.start(command).end());
        assert!(end.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", end.stdout);
    }
}

#[test]
fn streams_of_no_byte_and_of_one() {
    for (source, bytes) in [("true", ""), ("printf x", "x")] {
        let lan = Lan::new().insecure();
        let server = lan.server(&["-n", "3", "-e", source, "--report", &lan.arg("report.json")]);
        let by_command = format!("cat >{}", lan.arg("out1"));
        let clients = vec![
            lan.client(&["-e", &by_command]),
            lan.client(&["--output", &lan.arg("out2")]),
            lan.client(&["--output", "-"]),
        ];
        let said: Vec<_> = clients.into_iter().map(|c| fine(c.end()).stdout).collect();
        fine(server.end());
        assert_eq!(said[2].trim_end_matches('\n'), bytes);
        assert_eq!(fs::read_to_string(lan.path("out1")).unwrap(), bytes);
        assert_eq!(fs::read_to_string(lan.path("out2")).unwrap(), bytes);
        let report = json(&lan.path("report.json"));
        assert_eq!((&report["ok"], &report["bytes"]), (&true.into(), &bytes.len().into()));
    }
}

#[test]
fn a_slow_sink_fills_the_window_and_holds_it_up() {
    const WINDOW: u64 = 1 << 20;
    const BLOCK: u64 = ka_core::limits::BLOCK_BYTES as u64;
    // What the server reads from a file at a time: all of it is taken once there is room for some.
    const READ: u64 = 1 << 20;
    let lan = Lan::new().insecure();
    let bytes = noise(16 * WINDOW as usize + 1);
    fs::write(lan.path("in"), &bytes).unwrap();
    let fifo = lan.arg("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Held open at both ends, so that nobody waits for it longer than this test lasts.
    let mut word = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let report = lan.arg("report.json");
    let (input, window) = (lan.arg("in"), ["--window", "1M"]);
    let server = ["-n", "3", "--source", &input, "--report", &report, "--json"];
    let mut server: Running = lan.server(&[&server[..], &window].concat());
    // It takes nothing until it is told to.
    let slow = format!("read word <{fifo}; cat >{}", lan.arg("out0"));
    let slow = lan.client(&[&["-e", &slow, "--json"][..], &window].concat());
    let others: Vec<_> = (1..=2)
        .map(|n| lan.client(&[&["--output", &lan.arg(&format!("out{n}"))][..], &window].concat()))
        .collect();
    // Wherever it is in the chain, in the end all wait for it.
    server.until_that("progress", |e| e["node"] == 0 && e["received"].as_u64() >= Some(WINDOW - BLOCK));
    let full = |e: &serde_json::Value| e["node"] != 0 && e["received"].as_u64() >= Some(WINDOW - BLOCK);
    server.until_that("progress", full);
    word.write_all(b"go\n").unwrap();

    fine(slow.end());
    assert_eq!(codes(others), [0, 0]);
    fine(server.end());
    for n in 0..=2 {
        assert!(fs::read(lan.path(&format!("out{n}"))).unwrap() == bytes, "node {n}");
    }
    let report = json(&lan.path("report.json"));
    let nodes = report["nodes"].as_array().unwrap();
    for (who, most) in nodes.iter().map(|n| (n, WINDOW + BLOCK)).chain([(&report["source"], WINDOW + READ)]) {
        let counter = |name: &str| who["counters"][name].as_u64().unwrap();
        assert!(counter("evicted") >= 14 * WINDOW, "{who}");
        assert!(counter("held_max") <= most, "{who}");
    }
    assert!(nodes.iter().any(|n| n["counters"]["full"].as_u64() > Some(0)), "{report:#}");
}
