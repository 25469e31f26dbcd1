//! Hosts that are network namespaces, on one switch.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use super::{Lan, Running};

/// Hosts on a switch, removed at the end.
pub(crate) struct Hosts {
    prefix: String,
    /// The network's first three numbers.
    net: &'static str,
    made: Vec<String>,
}

impl Hosts {
    /// So many hosts, each with an `eth0` that is up. `None`, having said why, where there are none to be had.
    pub(crate) fn new(test: &str, net: &'static str, n: usize) -> Option<Self> {
        if fs::metadata("/proc/self").map_or(true, |m| m.uid() != 0) {
            cannot_run(test, "not root");
            return None;
        }
        let mut hosts = Self { prefix: format!("ka-l{}-{test}", std::process::id()), net, made: Vec::new() };
        for name in std::iter::once("sw".to_owned()).chain((0..n).map(|i| i.to_string())) {
            let name = format!("{}{name}", hosts.prefix);
            if let Err(why) = ip(&format!("netns add {name}")) {
                cannot_run(test, &why);
                return None;
            }
            hosts.made.push(name);
        }
        let switch = format!("{}sw", hosts.prefix);
        let at_switch = |words: &str| ip(&format!("-n {switch} {words}")).unwrap();
        at_switch("link add sw0 type bridge");
        at_switch("link set sw0 up");
        for i in 0..n {
            at_switch(&format!("link add port{i} type veth peer name eth0 netns {}", hosts.name(i)));
            at_switch(&format!("link set port{i} master sw0 up"));
            hosts.on(i, "link set lo up");
            hosts.on(i, &format!("addr add {}/24 dev eth0", hosts.addr(i)));
            hosts.on(i, "link set eth0 up");
        }
        Some(hosts)
    }

    pub(crate) fn name(&self, i: usize) -> String {
        format!("{}{i}", self.prefix)
    }

    pub(crate) fn addr(&self, i: usize) -> String {
        format!("{}.{}", self.net, i + 1)
    }

    /// What `ip` does on a host.
    pub(crate) fn on(&self, i: usize, words: &str) {
        ip(&format!("-n {} {words}", self.name(i))).unwrap();
    }

    /// A second link, dead at its other end, and a bridge as containers have it, with one of them.
    pub(crate) fn clutter(&self, i: usize) {
        self.on(i, "link add eth1 type veth peer name unplugged");
        self.on(i, "addr add 10.99.1.1/24 dev eth1");
        self.on(i, "link set eth1 up");
        self.on(i, "link add docker0 type bridge");
        self.on(i, "addr add 172.17.0.1/16 dev docker0");
        self.on(i, "link add veth12ab34c type veth peer name inside");
        self.on(i, "link set veth12ab34c master docker0 up");
        self.on(i, "link set inside up");
        self.on(i, "link set docker0 up");
    }

    /// Starts a program on a host. It is this very process that becomes it, so it ends by its number.
    pub(crate) fn start(&self, i: usize, lan: &Lan, program: &Command) -> Running {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(i)]).arg(program.get_program()).args(program.get_args());
        lan.start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    pub(crate) fn server(&self, i: usize, lan: &Lan, args: &[&str]) -> Running {
        self.start(i, lan, &lan.server_command(args))
    }

    pub(crate) fn client(&self, i: usize, lan: &Lan, args: &[&str]) -> Running {
        self.start(i, lan, &lan.client_command(args))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.made {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

/// Says so even though a passing test's output is hidden.
fn cannot_run(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "test {test} cannot run here: {why}");
}

fn ip(words: &str) -> Result<(), String> {
    let out = Command::new("ip").args(words.split(' ')).output().map_err(|e| format!("`ip`: {e}"))?;
    let says = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("`ip {words}`: {}", says.trim())) }
}
