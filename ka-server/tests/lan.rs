//! Sessions between hosts, with the real programs: each host is a network namespace, all hang on one switch.
//!
//! There is no default route and nobody who resolves names. Only root can have namespaces: where there are none,
//! a test says so and ends. Absent: real switches, and what a firewall does.

mod processes;

use std::fs;
use std::time::Duration;

use processes::hosts::Hosts;
use processes::{Lan, Running, json, noise};

/// A world with a file to send, and the server's words for it.
fn with_file(lan: &Lan, bytes: &[u8]) -> [String; 4] {
    fs::write(lan.path("in"), bytes).unwrap();
    ["--source".into(), lan.arg("in"), "--report".into(), lan.arg("report.json")]
}

fn words<'a>(all: &[&'a [&'a str]], more: &'a [String]) -> Vec<&'a str> {
    all.concat().into_iter().chain(more.iter().map(String::as_str)).collect()
}

/// Everybody is well, and so many outputs are the very bytes.
fn all_is_well(lan: &Lan, server: Running, clients: Vec<Running>, bytes: &[u8]) {
    let n = clients.len();
    for client in clients {
        let end = client.end();
        assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
    }
    let end = server.end();
    assert_eq!(end.code, 0, "{}", end.stderr);
    for i in 1..=n {
        assert!(fs::read(lan.path(&format!("out{i}"))).unwrap() == bytes, "out{i} differs");
    }
    let report = json(&lan.path("report.json"));
    assert_eq!((&report["ok"], report["nodes"].as_array().unwrap().len()), (&true.into(), n));
}

/// Where the nodes were, in the order of joining.
fn addrs(lan: &Lan) -> Vec<String> {
    let report = json(&lan.path("report.json"));
    let addr =
        |node: &serde_json::Value| node["addr"].as_str().unwrap().rsplit_once(':').unwrap().0.to_owned();
    report["nodes"].as_array().unwrap().iter().map(addr).collect()
}

#[test]
fn four_hosts_without_routes_and_names() {
    let Some(hosts) = Hosts::new("four", "10.78.1", 4) else { return };
    let lan = Lan::new();
    let bytes = noise(8_000_001);
    let file = with_file(&lan, &bytes);
    let server = hosts.server(0, &lan, &words(&[&["-n", "3"]], &file));
    let clients =
        (1..=3).map(|i| hosts.client(i, &lan, &["-w", "--output", &lan.arg(&format!("out{i}"))])).collect();
    all_is_well(&lan, server, clients, &bytes);
    let mut seen = addrs(&lan);
    seen.sort();
    assert_eq!(seen, [hosts.addr(1), hosts.addr(2), hosts.addr(3)]);
}

#[test]
fn two_sessions_on_one_lan_do_not_mix() {
    let Some(hosts) = Hosts::new("two", "10.78.2", 4) else { return };
    let one = Lan::new();
    let two = one.beside();
    let bytes = [noise(6_000_000), noise(7_000_001).into_iter().rev().collect()];
    let sessions = [(&one, &bytes[0]), (&two, &bytes[1])];
    // Each has a server of its own, and both have a client on each of the same two hosts.
    let servers: Vec<_> = sessions
        .iter()
        .enumerate()
        .map(|(i, (lan, bytes))| hosts.server(i, lan, &words(&[&["-n", "2"]], &with_file(lan, bytes))))
        .collect();
    let mut clients = [Vec::new(), Vec::new()];
    for host in [2, 3] {
        for ((lan, _), clients) in sessions.iter().zip(&mut clients) {
            let output = lan.arg(&format!("out{}", host - 1));
            clients.push(hosts.client(host, lan, &["--output", &output]));
        }
    }
    for ((lan, bytes), (server, clients)) in sessions.into_iter().zip(servers.into_iter().zip(clients)) {
        all_is_well(lan, server, clients, bytes);
    }
}

#[test]
fn a_link_that_comes_up_late_is_not_too_late() {
    let Some(hosts) = Hosts::new("late", "10.78.3", 3) else { return };
    hosts.on(2, "link set eth0 down");
    let lan = Lan::new();
    let bytes = noise(3_000_001);
    let file = with_file(&lan, &bytes);
    let server = hosts.server(0, &lan, &words(&[&["-n", "2"]], &file));
    let mut early = hosts.client(1, &lan, &["--output", &lan.arg("out1"), "--json"]);
    early.until("joined");
    let mut late = hosts.client(2, &lan, &["--output", &lan.arg("out2"), "--json"]);
    // What is tested: the link is dead for as long as several questions take.
    late.is_quiet_for(Duration::from_secs(3));
    hosts.on(2, "link set eth0 up");
    late.until("joined");
    all_is_well(&lan, server, vec![early, late], &bytes);
    assert_eq!(addrs(&lan), [hosts.addr(1), hosts.addr(2)]);
}

#[test]
fn dead_links_and_bridges_of_containers_do_not_lead_astray() {
    let Some(hosts) = Hosts::new("clutter", "10.78.4", 3) else { return };
    (0..3).for_each(|i| hosts.clutter(i));
    let lan = Lan::new();
    let bytes = noise(3_000_001);
    let file = with_file(&lan, &bytes);
    let server = hosts.server(0, &lan, &words(&[&["-n", "2"]], &file));
    let clients =
        (1..=2).map(|i| hosts.client(i, &lan, &["--output", &lan.arg(&format!("out{i}"))])).collect();
    all_is_well(&lan, server, clients, &bytes);
    let mut seen = addrs(&lan);
    seen.sort();
    assert_eq!(seen, [hosts.addr(1), hosts.addr(2)]);
}

#[test]
fn the_server_s_host_may_be_a_node_too() {
    // It is 127.0.0.1 to the server, which comes behind the one network and before the other; where it is busy, the answer
    // from there may be too late, and it comes by its network.
    for (test, net) in [("archlast", "10.78.5"), ("archfirst", "192.168.78")] {
        let Some(hosts) = Hosts::new(test, net, 3) else { return };
        let lan = Lan::new();
        let bytes = noise(5_000_001);
        let file = with_file(&lan, &bytes);
        let server = hosts.server(0, &lan, &words(&[&["-n", "3", "--json"]], &file));
        let clients = vec![
            hosts.client(0, &lan, &["--output", &lan.arg("out1")]),
            hosts.client(1, &lan, &["--output", &lan.arg("out2")]),
            hosts.client(2, &lan, &["--output", &lan.arg("out3")]),
        ];
        all_is_well(&lan, server, clients, &bytes);
        let here = |addr: String| if addr == "127.0.0.1" { hosts.addr(0) } else { addr };
        let mut seen: Vec<_> = addrs(&lan).into_iter().map(here).collect();
        seen.sort();
        assert_eq!(seen, [0, 1, 2].map(|i| hosts.addr(i)), "{test}");
    }
}
