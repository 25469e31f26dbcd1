//! Where a server is, and by which address it is reached: real programs on hosts that are network namespaces.
//!
//! An address is a hint. Whatever is said of one here changes, is one of several, means something on one link only, or is
//! not the server's own. Only root can have namespaces: where there are none, a test says so and ends.

mod processes;

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use processes::hosts::Hosts;
use processes::{Lan, Running, bare_client, json, noise};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Sends these bytes to so many nodes, with these arguments more.
fn serve(hosts: &Hosts, lan: &Lan, n: usize, bytes: &[u8], more: &[&str]) -> Running {
    fs::write(lan.path("in"), bytes).unwrap();
    let (n, input, report) = (n.to_string(), lan.arg("in"), lan.arg("report.json"));
    let args = ["-n", &n, "--json", "--source", &input, "--report", &report];
    let mut server = hosts.server(0, lan, &[&args[..], more].concat());
    server.until("open");
    server
}

/// A node on host `i`, whose output is `out`*i*.
fn node(hosts: &Hosts, lan: &Lan, i: usize, more: &[&str]) -> Running {
    hosts.start(i, lan, &node_command(lan, i, more))
}

fn node_command(lan: &Lan, i: usize, more: &[&str]) -> Command {
    let output = lan.arg(&format!("out{i}"));
    lan.client_command(&[&["--json", "--output", &output], more].concat())
}

/// The same program, after `sh` has done something.
fn after(script: &str, program: &Command) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{script} && exec \"$0\" \"$@\"")).arg(program.get_program());
    command.args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Everybody is well, and each node's output is the very bytes.
fn all_is_well(lan: &Lan, server: Running, nodes: Vec<(usize, Running)>, bytes: &[u8]) {
    for (i, node) in nodes {
        let end = node.end();
        assert_eq!(end.code, 0, "node on host {i}: {}{}", end.stdout, end.stderr);
        assert!(fs::read(lan.path(&format!("out{i}"))).unwrap() == bytes, "out{i} differs");
    }
    let end = server.end();
    assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
}

/// Where the nodes were, as the server's report says.
fn addrs(lan: &Lan) -> Vec<String> {
    let report = json(&lan.path("report.json"));
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["addr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_server_s_address_changes_in_mid_session() {
    let Some(hosts) = Hosts::new("moves", "10.80.1", 4) else { return };
    let lan = Lan::new();
    let bytes = noise(16 << 20);
    let names = lan.path("names");
    fs::write(&names, format!("{} golden\n", hosts.addr(0))).unwrap();
    let server = serve(&hosts, &lan, 3, &bytes, &["--rate", "4M", "-p", "30765"]);
    let out = ["--json", "--output"];
    // One that looks for the session by its name; one that was told the address, and whose session has no name for it; one
    // that was told a host's name, and whom no answer over UDP reaches.
    let nameless = bare_client(
        &[&out[..], &[&lan.arg("out2"), "-h", &hosts.addr(0), "--discovery-port", &lan.discovery_port]]
            .concat(),
    );
    let deaf = bare_client(&[&out[..], &[&lan.arg("out3"), "-h", "golden", "-p", "30765"]].concat());
    let script = format!("mount --bind '{}' /etc/hosts", names.display());
    let mut nodes = vec![
        (1, node(&hosts, &lan, 1, &[])),
        (2, hosts.start(2, &lan, &nameless)),
        (3, hosts.start(3, &lan, &after(&script, &deaf))),
    ];
    for (_, node) in &mut nodes {
        node.until_that("progress", |p| p["received"].as_u64().unwrap() >= 2 << 20);
    }
    hosts.on(0, &format!("addr del {}/24 dev eth0", hosts.addr(0)));
    hosts.on(0, "addr add 10.80.1.99/24 dev eth0");
    fs::write(&names, "10.80.1.99 golden\n").unwrap();
    for (_, node) in &mut nodes {
        let found = node.until("found")["addr"].as_str().unwrap().to_owned();
        assert!(found.starts_with("10.80.1.99:"), "{found}");
        node.until("back");
    }
    all_is_well(&lan, server, nodes, &bytes);
}

#[test]
fn addresses_change_while_nodes_gather() {
    let Some(hosts) = Hosts::new("early", "10.80.8", 4) else { return };
    let lan = Lan::new();
    let bytes = noise(1 << 20);
    let server = serve(&hosts, &lan, 3, &bytes, &[]);
    let mut nodes = vec![(1, node(&hosts, &lan, 1, &[])), (2, node(&hosts, &lan, 2, &[]))];
    nodes.iter_mut().for_each(|(_, node)| drop(node.until("joined")));
    for (i, addr) in [(0, "10.80.8.99"), (2, "10.80.8.98")] {
        hosts.on(i, &format!("addr del {}/24 dev eth0", hosts.addr(i)));
        hosts.on(i, &format!("addr add {addr}/24 dev eth0"));
    }
    for (_, node) in &mut nodes {
        node.until("back");
    }
    nodes.push((3, node(&hosts, &lan, 3, &[])));
    for (i, node) in nodes {
        let end = node.end();
        assert_eq!(end.code, 0, "node on host {i}: {}{}", end.stdout, end.stderr);
        assert!(fs::read(lan.path(&format!("out{i}"))).unwrap() == bytes, "out{i} differs");
        assert!(!end.stderr.contains("the rest comes once"), "nobody is before it: {}", end.stderr);
    }
    assert_eq!(server.end().code, 0);
}

#[test]
fn a_server_whose_ports_are_forwarded_is_reached_where_it_was_reached_before() {
    let Some(hosts) = Hosts::new("ports", "10.80.2", 4) else { return };
    let (lan, bytes) = (Lan::new(), noise(3_000_001));
    // The server is behind host 1, as a container is behind its host.
    hosts.on(0, "link set eth0 down");
    hosts.on(0, &format!("link add inner type veth peer name inner netns {}", hosts.name(1)));
    for (host, addr) in [(0, "172.30.2.2/24"), (1, "172.30.2.1/24")] {
        hosts.on(host, &format!("addr add {addr} dev inner"));
        hosts.on(host, "link set inner up");
    }
    let server = serve(&hosts, &lan, 2, &bytes, &["-p", "30765", "-P", "30764"]);
    publish(&hosts, 1, "172.30.2.2", &[30765, 30764]);
    let told = ["-h", &hosts.addr(1), "-p", "30765"];
    let nodes = [2, 3].map(|i| (i, node(&hosts, &lan, i, &told))).into();
    all_is_well(&lan, server, nodes, &bytes);
}

/// Forwards connections to these ports of a host to the same ports elsewhere.
fn publish(hosts: &Hosts, i: usize, to: &'static str, ports: &[u16]) {
    let serve = |port: u16| {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        thread::spawn(move || {
            for node in listener.incoming() {
                let pair = node.and_then(|node| Ok((node, TcpStream::connect((to, port))?)));
                let Ok((node, server)) = pair else { continue };
                for (mut from, mut to) in
                    [(node.try_clone().unwrap(), server.try_clone().unwrap()), (server, node)]
                {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
    };
    hosts.inside(i, || ports.iter().for_each(|port| serve(*port)));
}

#[test]
fn a_name_is_resolved_until_it_resolves_and_each_of_its_addresses_is_tried() {
    let Some(hosts) = Hosts::new("names", "10.80.3", 3) else { return };
    let (lan, bytes) = (Lan::new(), noise(1_000_001));
    let names = lan.path("names");
    fs::write(&names, "127.0.0.1 localhost\n").unwrap();
    let server = serve(&hosts, &lan, 2, &bytes, &["-p", "30765"]);
    let script = format!("mount --bind '{}' /etc/hosts", names.display());
    // Where discovery answers, and where only TCP does.
    let nodes = [(1, &["-h", "golden"][..]), (2, &["-h", "golden", "-p", "30765"])];
    let nodes = nodes.map(|(i, told)| {
        let mut node = hosts.start(i, &lan, &after(&script, &node_command(&lan, i, told)));
        let words = node.until("trying")["text"].as_str().unwrap().to_owned();
        assert!(words.contains("golden"), "{words}");
        (i, node)
    });
    // Nobody is at the first of them.
    fs::write(&names, format!("10.80.3.77 golden\n{} golden\n", hosts.addr(0))).unwrap();
    all_is_well(&lan, server, nodes.into(), &bytes);
}

#[test]
fn a_lan_without_ipv4_is_a_lan() {
    let Some(hosts) = Hosts::new("six", "10.80.4", 5) else { return };
    let (lan, bytes) = (Lan::new(), noise(3_000_001));
    for i in 0..5 {
        hosts.on(i, &format!("addr del {}/24 dev eth0", hosts.addr(i)));
    }
    hosts.on(0, "addr add fe80::4711/64 dev eth0 nodad");
    let server = serve(&hosts, &lan, 4, &bytes, &[]);
    let told: [&[&str]; 4] =
        [&[], &["-h", "fe80::4711%eth0"], &["-h", "fe80::4711"], &["--interface", "eth0"]];
    let nodes = (1..=4).map(|i| (i, node(&hosts, &lan, i, told[i - 1]))).collect();
    all_is_well(&lan, server, nodes, &bytes);
    assert!(addrs(&lan).iter().all(|addr| addr.starts_with("[fe80::")), "{:?}", addrs(&lan));
}

#[test]
fn a_node_with_an_address_of_its_own_making_is_found_over_ipv6_or_told_why_not() {
    let Some(hosts) = Hosts::new("own", "10.80.5", 4) else { return };
    let (lan, bytes) = (Lan::new(), noise(1_000_001));
    for i in [2, 3] {
        hosts.on(i, &format!("addr del {}/24 dev eth0", hosts.addr(i)));
        hosts.on(i, &format!("addr add 169.254.7.{i}/16 dev eth0"));
    }
    hosts.inside(3, || fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap());
    let mut server = serve(&hosts, &lan, 2, &bytes, &[]);
    let lost = node(&hosts, &lan, 3, &["--discover-timeout", "3s"]);
    let warning = server.until("warning")["text"].as_str().unwrap().to_owned();
    assert!(warning.contains("169.254.7.3") && warning.contains("DHCP"), "{warning}");
    let nodes = [1, 2].map(|i| (i, node(&hosts, &lan, i, &[])));
    let end = lost.end();
    assert_eq!(end.code, 3, "{}", end.stderr);
    assert!(end.stderr.contains("eth0 with 169.254.7.3") && end.stderr.contains("DHCP"), "{}", end.stderr);
    all_is_well(&lan, server, nodes.into(), &bytes);
}

#[test]
fn an_interface_has_all_its_addresses_also_later_ones_and_no_other_one_is_listened_to() {
    let Some(hosts) = Hosts::new("iface", "10.80.6", 4) else { return };
    let (lan, bytes) = (Lan::new(), noise(3_000_001));
    // The first address of the server's interface is one that nobody uses.
    hosts.on(0, &format!("addr del {}/24 dev eth0", hosts.addr(0)));
    hosts.on(0, "addr add 169.254.6.6/16 dev eth0");
    hosts.on(0, &format!("addr add {}/24 dev eth0", hosts.addr(0)));
    // Another interface leads to host 3 alone.
    hosts.on(3, "link set eth0 down");
    hosts.on(0, &format!("link add eth1 type veth peer name eth0b netns {}", hosts.name(3)));
    for (host, link, addr) in [(0, "eth1", "10.81.6.1/24"), (3, "eth0b", "10.81.6.3/24")] {
        hosts.on(host, &format!("addr add {addr} dev {link}"));
        hosts.on(host, &format!("link set {link} up"));
    }
    let mut server = serve(&hosts, &lan, 3, &bytes, &["--interface", "eth0", "-p", "30765"]);
    // By name there is nobody there, and by address it is hung up on.
    for told in
        [&["--discover-timeout", "2s"][..], &["--discover-timeout", "2s", "-h", "10.81.6.1", "-p", "30765"]]
    {
        let end = node(&hosts, &lan, 3, told).end();
        assert_eq!(end.code, 3, "{told:?}: {}", end.stderr);
    }
    let mut nodes = vec![(0, node(&hosts, &lan, 0, &[])), (1, node(&hosts, &lan, 1, &[]))];
    server.until_that("joined", |joined| joined["ready"] == 2);
    hosts.on(0, "addr add 10.82.6.1/24 dev eth0");
    hosts.on(2, "addr add 10.82.6.2/24 dev eth0");
    nodes.push((2, node(&hosts, &lan, 2, &["-h", "10.82.6.1"])));
    all_is_well(&lan, server, nodes, &bytes);
    assert!(addrs(&lan).iter().any(|addr| addr.starts_with("127.0.0.1:")), "{:?}", addrs(&lan));
}

#[test]
fn a_node_that_has_run_out_of_files_fails_for_that_and_holds_up_nobody() {
    let Some(hosts) = Hosts::new("files", "10.80.7", 4) else { return };
    let (lan, bytes) = (Lan::new(), noise(3_000_001));
    let server = serve(&hosts, &lan, 3, &bytes, &[]);
    let mut starved = node(&hosts, &lan, 3, &[]);
    starved.until("joined");
    // From now on it opens nothing more.
    let pid = Pid::from_raw(starved.process().number() as i32);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), maximum: Some(3) }).unwrap();
    let well = [1, 2].map(|i| (i, node(&hosts, &lan, i, &[])));
    let end = starved.end();
    assert_eq!(end.code, 7, "{}", end.stderr);
    assert!(end.stderr.contains("Too many open files") && end.stderr.contains("ulimit -n"), "{}", end.stderr);
    for (i, node) in well {
        assert_eq!(node.end().code, 0);
        assert!(fs::read(lan.path(&format!("out{i}"))).unwrap() == bytes, "out{i} differs");
    }
    let end = server.end();
    assert_eq!(end.code, 7, "{}", end.stderr);
    assert!(end.events("slow").is_empty(), "{}", end.stdout);
    let report = json(&lan.path("report.json"));
    let failed: Vec<_> =
        report["nodes"].as_array().unwrap().iter().filter(|node| node["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{report}");
    assert!(failed[0]["reason"]["text"].as_str().unwrap().contains("Too many open files"), "{report}");
}
