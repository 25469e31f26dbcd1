//! Hosts that are network namespaces, on one switch, and what can happen to their links.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Lan, Running};

/// What a port of the switch keeps of what is faster than the link, in bytes.
const PORT_BYTES: u32 = 512 << 10;
/// The same for a host, in bytes: so much that nothing is dropped. A real host waits for its card, and drops nothing
/// of its own; one that did so would starve the small connections beside the large one.
const CARD_BYTES: u32 = 8 << 20;
/// What passes at once: two of the largest packets that a host hands to its card, or the link is slower than its rate.
const BURST_BYTES: u32 = 128 << 10;

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
        hosts.at_switch("link add sw0 type bridge stp_state 0 forward_delay 0");
        hosts.at_switch("link set sw0 up");
        for i in 0..n {
            hosts.at_switch(&format!("link add port{i} type veth peer name eth0 netns {}", hosts.name(i)));
            hosts.at_switch(&format!("link set port{i} master sw0 up"));
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

    /// What `ip` does on the switch.
    fn at_switch(&self, words: &str) {
        ip(&format!("-n {} {words}", self.switch())).unwrap();
    }

    fn switch(&self) -> String {
        format!("{}sw", self.prefix)
    }

    /// A link of this rate, both ways. An error where the system has no such thing.
    pub(crate) fn limit(&self, i: usize, mbit: u32) -> Result<(), String> {
        let links =
            [(self.name(i), "eth0".to_owned(), CARD_BYTES), (self.switch(), format!("port{i}"), PORT_BYTES)];
        for (host, link, queue) in links {
            let bucket = format!("rate {mbit}mbit burst {BURST_BYTES} limit {queue}");
            run("tc", &format!("-n {host} qdisc replace dev {link} root tbf {bucket}"))?;
        }
        Ok(())
    }

    /// Pulls a host's cable at the switch, or puts it back; the host sees it.
    pub(crate) fn plug(&self, i: usize, in_it: bool) {
        self.at_switch(&format!("link set port{i} {}", if in_it { "up" } else { "down" }));
    }

    /// The switch drops whatever comes from a host or goes to it; the host sees nothing.
    pub(crate) fn swallow(&self, i: usize) {
        run("bridge", &format!("-n {} link set dev port{i} state 0", self.switch())).unwrap();
    }

    /// Hosts that are isolated do not reach each other.
    pub(crate) fn isolate(&self, i: usize) {
        run("bridge", &format!("-n {} link set dev port{i} isolated on", self.switch())).unwrap();
    }

    /// Does something on a host, in this process.
    pub(crate) fn inside<T: Send>(&self, i: usize, f: impl FnOnce() -> T + Send) -> T {
        inside(&self.name(i), f)
    }

    /// Does something on a host, in this process, beside the rest of the test.
    pub(crate) fn beside<T: Send + 'static>(
        &self,
        i: usize,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let name = self.name(i);
        thread::spawn(move || inside(&name, f))
    }

    /// Hears every packet that passes the switch from now on.
    pub(crate) fn sniff(&self) -> Sniffer {
        let open = || Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PROTOCOLS))).unwrap();
        let socket = inside(&self.switch(), open);
        socket.set_recv_buffer_size(64 << 20).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let flag = over.clone();
        let heard = thread::spawn(move || {
            let (mut packets, mut packet) = (Vec::new(), vec![0; 1 << 17]);
            loop {
                match (&socket).read(&mut packet) {
                    Ok(len) => packets.push(packet[..len].to_vec()),
                    // What was sent before the end is there by now.
                    Err(_) if flag.load(Ordering::Acquire) => return packets,
                    Err(_) => {}
                }
            }
        });
        Sniffer { over, heard }
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
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        lan.start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    pub(crate) fn server(&self, i: usize, lan: &Lan, args: &[&str]) -> Running {
        self.start(i, lan, &lan.server_command(args))
    }

    pub(crate) fn client(&self, i: usize, lan: &Lan, args: &[&str]) -> Running {
        self.start(i, lan, &lan.client_command(args))
    }
}

/// Linux's `ETH_P_ALL`, as the network writes it.
const ALL_PROTOCOLS: i32 = 3_u16.to_be() as i32;

/// Whoever listens at the switch.
pub(crate) struct Sniffer {
    over: Arc<AtomicBool>,
    heard: JoinHandle<Vec<Vec<u8>>>,
}

impl Sniffer {
    /// Every packet there was.
    pub(crate) fn packets(self) -> Vec<Vec<u8>> {
        self.over.store(true, Ordering::Release);
        self.heard.join().unwrap()
    }
}

/// Does something in a network namespace, in this process.
fn inside<T: Send>(name: &str, f: impl FnOnce() -> T + Send) -> T {
    let place = File::open(format!("/run/netns/{name}")).unwrap();
    let there = || {
        // For this thread only, which ends with it.
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        f()
    };
    thread::scope(|s| s.spawn(there).join().unwrap())
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.made {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

/// Says so even though a passing test's output is hidden.
pub(crate) fn cannot_run(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "test {test} cannot run here: {why}");
}

fn ip(words: &str) -> Result<(), String> {
    run("ip", words)
}

fn run(program: &str, words: &str) -> Result<(), String> {
    let command = format!("`{program} {words}`");
    let out = Command::new(program).args(words.split(' ')).output().map_err(|e| format!("{command}: {e}"))?;
    let says = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("{command}: {}", says.trim())) }
}
