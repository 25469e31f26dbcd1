//! One session between hosts, some of whose members lie. Host 0 is the server's, host `i` that of a node or of a liar, which
//! is the `i`th of the chain: it is ordered by address.

use std::fs;
use std::thread::{self, JoinHandle};

use crate::member::{Door, Lies, Member, run};
use crate::processes::hosts::Hosts;
use crate::processes::lab::Source;
use crate::processes::{Ended, Lan, Running, json, key, noise};

/// Everybody's window: so small that nodes are at different places of the tape when the last one is the slowest.
const WINDOW: &str = "2M";

/// A session that runs. Dropped, it takes everything with it.
pub(crate) struct Session {
    again: Again,
    bytes: Vec<u8>,
    server: Option<Running>,
    pub(crate) door: Door,
    honest: Vec<(usize, Running)>,
    hosts: Hosts,
    lan: Lan,
}

impl Session {
    /// Serves so many mebibytes to so many nodes and liars; there is one more host. `None`, having said why, where there
    /// are no hosts to be had.
    pub(crate) fn new(
        test: &'static str,
        nodes: usize,
        mib: usize,
        source: Source,
        more: &[&str],
    ) -> Option<Self> {
        let hosts = Hosts::new(test, "10.80.0", nodes + 2)?;
        let bytes = noise((mib << 20) + 12_345);
        let lan = Lan::in_memory(2 * (nodes as u64 + 1) * bytes.len() as u64);
        fs::write(lan.path("in"), &bytes).unwrap();
        let (input, nodes, report) = (lan.arg("in"), nodes.to_string(), lan.arg("report.json"));
        let command = format!("cat {input}");
        let source = if source == Source::File { ["--source", &input] } else { ["-e", &command] };
        let args = ["-n", &nodes, "--json", "--report", &report, "--window", WINDOW];
        let mut server = hosts.server(0, &lan, &[&args, &source[..], more].concat());
        let door = door(&mut server, &hosts);
        Some(Self { again: Again(test), bytes, server: Some(server), door, honest: Vec::new(), hosts, lan })
    }

    /// Starts an honest node, which waits until it is let go. Its output goes by way of this command, if there is one.
    pub(crate) fn honest(&mut self, i: usize, by: Option<&str>) {
        let out = self.lan.arg(&format!("out{i}"));
        let command = by.map(|by| format!("{by} > {out}"));
        let sink = command.as_ref().map_or(["--output", &out], |command| ["-e", command]);
        let node = self.hosts.client(i, &self.lan, &[&["-w", "--window", WINDOW], &sink[..]].concat());
        self.has_joined(i);
        self.honest.push((i, node));
    }

    fn has_joined(&mut self, i: usize) {
        let here = format!("{}:", self.hosts.addr(i));
        let is_here =
            |event: &serde_json::Value| event["addr"].as_str().is_some_and(|addr| addr.starts_with(&here));
        self.server.as_mut().unwrap().until_that("joined", is_here);
    }

    /// Has a liar join on a host.
    pub(crate) fn liar(&mut self, i: usize, lies: Lies) -> JoinHandle<()> {
        let liar = liar(&self.hosts, i, &self.door, lies);
        self.has_joined(i);
        liar
    }

    /// Does something on a host, beside the rest of the test.
    pub(crate) fn beside<T: Send + 'static>(
        &self,
        i: usize,
        f: impl FnOnce(Door) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let door = self.door.clone();
        self.hosts.beside(i, move || f(door))
    }

    /// Waits for the end of all, and holds that every honest node is well and has every byte. Returns what the server said.
    pub(crate) fn ends(&mut self) -> Ended {
        let honest: Vec<_> = self.honest.drain(..).map(|(i, node)| (i, node.end())).collect();
        let server = self.server.take().unwrap().end();
        let report = json(&self.lan.path("report.json"));
        let nodes = report["nodes"].as_array().unwrap();
        let mut wrong = Vec::new();
        for (i, end) in &honest {
            let here = format!("{}:", self.hosts.addr(*i));
            let said = nodes.iter().find(|node| node["addr"].as_str().unwrap().starts_with(&here)).unwrap();
            let whole = fs::read(self.lan.path(&format!("out{i}"))).is_ok_and(|bytes| bytes == self.bytes);
            if end.code != 0 || said["outcome"] != "ok" || !whole {
                wrong.push(format!("node {i}: status {}, {said}\n{}", end.code, end.stderr));
            }
        }
        let well = honest.len() - wrong.len();
        println!("{}: {well} of {} honest nodes are OK", self.again.0, honest.len());
        assert!(wrong.is_empty(), "{}\nthe server: {}", wrong.join("\n"), server.stderr);
        server
    }
}

/// Waits until a server on the first host listens.
pub(crate) fn door(server: &mut Running, hosts: &Hosts) -> Door {
    let open = server.until("open");
    door_at(hosts, open["control_port"].as_u64().unwrap() as u16)
}

pub(crate) fn door_at(hosts: &Hosts, port: u16) -> Door {
    Door { control: format!("{}:{port}", hosts.addr(0)).parse().unwrap(), key: key() }
}

/// Has a liar join on a host, beside the rest of the test.
pub(crate) fn liar(hosts: &Hosts, i: usize, door: &Door, lies: Lies) -> JoinHandle<()> {
    let door = door.clone();
    hosts.beside(i, move || {
        run(async {
            let member = Member::join(&door, i as u64, lies.about.clone()).await;
            member.unwrap_or_else(|said| panic!("no welcome, but {said:?}")).lives(lies).await;
        });
    })
}

/// A test that fails tells how to repeat it.
pub(crate) struct Again(pub(crate) &'static str);

impl Drop for Again {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("==== again: cargo test -p ka-server --test liars -- --exact {}", self.0);
        }
    }
}
