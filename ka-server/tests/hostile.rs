//! Hosts on the LAN that mean harm, with the real programs: what they get to know, and what they bring about.
//!
//! Each host is a network namespace, all hang on one switch. Only root can have namespaces: where there are none, a test
//! says so and ends. Absent: nodes that hold the key and lie, which is `hostile.rs` in ka-core.

mod processes;

use std::fs;

use processes::Lan;
use processes::hosts::Hosts;

const NAME: &str = "golden-shadow.img";
const SECRET: &str = "root:$6$pepperandsalt$";

/// A file of secrets goes to two nodes; every packet that passed the switch.
fn overheard(test: &str, net: &'static str, more: &[&str]) -> Option<Vec<Vec<u8>>> {
    let hosts = Hosts::new(test, net, 3)?;
    let lan = Lan::new();
    let secrets: Vec<_> = (0..100_000).map(|i| format!("{SECRET}{i:06}:20000:0:99999:7:::\n")).collect();
    let golden = secrets.concat();
    fs::write(lan.path(NAME), &golden).unwrap();
    let sniffer = hosts.sniff();
    let source = lan.arg(NAME);
    let server = hosts.server(0, &lan, &[&["-n", "2", "--source", &source], more].concat());
    let clients = [1, 2].map(|i| hosts.client(i, &lan, &["--output", &lan.arg(&format!("out{i}"))]));
    for program in clients.into_iter().chain([server]) {
        let end = program.end();
        assert_eq!(end.code, 0, "{}", end.stderr);
    }
    for i in 1..=2 {
        assert!(fs::read(lan.path(&format!("out{i}"))).unwrap() == golden.as_bytes());
    }
    let packets = sniffer.packets();
    let heard: usize = packets.iter().map(Vec::len).sum();
    assert!(heard > 2 * golden.len(), "{heard} bytes were overheard");
    Some(packets)
}

/// How many packets have this in them.
fn with(packets: &[Vec<u8>], text: &str) -> usize {
    packets.iter().filter(|p| p.windows(text.len()).any(|w| w == text.as_bytes())).count()
}

#[test]
fn who_listens_at_the_switch_learns_neither_bytes_nor_names() {
    if let Some(packets) = overheard("sniffed", "10.78.41", &[]) {
        assert_eq!((with(&packets, SECRET), with(&packets, NAME)), (0, 0));
    }
    // The same search finds what is not encrypted.
    if let Some(packets) = overheard("sniffed-plain", "10.78.42", &["--no-encrypt"]) {
        assert!(with(&packets, SECRET) > 10 && with(&packets, NAME) > 0);
    }
}

#[test]
fn what_talks_to_the_network_has_no_other_program_s_rights() {
    let Some(hosts) = Hosts::new("rights", "10.78.43", 1) else { return };
    let lan = Lan::new();
    let mut server = hosts.server(0, &lan, &["-e", "echo", "--json"]);
    server.until("open");
    let tasks = fs::read_dir(format!("/proc/{}/task", server.process().number())).unwrap();
    let own = 0x7000_0000 + server.process().number();
    let mut rights = tasks.map(|task| {
        let task = task.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap();
        (name.trim().to_owned(), fs::read_to_string(task.join("status")).unwrap())
    });
    let (_, rights) = rights.find(|(name, _)| name == "ka-session").unwrap();
    for line in [&format!("Uid:\t{own}\t{own}\t{own}\t{own}"), "NoNewPrivs:\t1", "CapEff:\t0000000000000400"]
    {
        assert!(rights.lines().any(|l| l == line), "{rights}");
    }
}
