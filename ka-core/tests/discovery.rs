//! Servers found by name: on this host without privileges, and between network namespaces as root.
//!
//! Absent: real switches, and what a firewall does.
#![cfg(feature = "io")]
// A link that is dead for two seconds takes two seconds, and a helper process ends itself.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use ka_core::limits;
use ka_core::net::discovery::{AskError, Found, Responder, Target, ask, rival};
use ka_core::types::{SessionId, SessionName};
use ka_core::wire::discovery::{
    Answer, Question, decode_answer, decode_question, encode_answer, encode_question, encode_version_answer,
};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);
const CONTROL: u16 = 7777;
const HERE: Target = Target::Host(IpAddr::V4(Ipv4Addr::LOCALHOST));

fn name(s: &str) -> SessionName {
    SessionName::new(s).unwrap()
}

fn id(n: u8) -> SessionId {
    SessionId([n; 16])
}

fn lo() -> Vec<String> {
    vec!["lo".into()]
}

/// A port nobody has. It may be taken again before it is used, by one of these tests' own sockets at worst.
fn free_port() -> u16 {
    StdUdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// Servers that run until dropped.
struct Servers {
    port: u16,
    running: JoinSet<()>,
}

impl Servers {
    fn new() -> Self {
        Self { port: free_port(), running: JoinSet::new() }
    }

    fn add(&mut self, session: Option<&str>, n: u8, probing: bool) {
        let responder = Responder::bind(self.port, &lo()).unwrap();
        let session = session.map(name);
        let probing = Arc::new(AtomicBool::new(probing));
        self.running.spawn(async move { match responder.run(session, id(n), CONTROL, probing).await {} });
    }

    fn with(sessions: &[(&str, u8)]) -> Self {
        let mut servers = Self::new();
        sessions.iter().for_each(|(s, n)| servers.add(Some(s), *n, false));
        servers
    }

    async fn ask(&self, session: &str, target: Target, give_up: Duration) -> Result<Vec<Found>, AskError> {
        ask(Some(&name(session)), target, &lo(), self.port, give_up).await
    }

    async fn rival(&self, session: &str, own: u8) -> Option<Found> {
        rival(&name(session), id(own), &lo(), self.port).await
    }
}

fn ids(found: &[Found]) -> BTreeSet<SessionId> {
    found.iter().map(|f| f.session).collect()
}

#[tokio::test]
async fn a_server_is_found_by_name() {
    let servers = Servers::with(&[("lab", 1)]);
    for target in [Target::Anyone, HERE] {
        let found = servers.ask("lab", target, LONG).await.unwrap();
        let control = (Ipv4Addr::LOCALHOST, CONTROL).into();
        assert_eq!(found, [Found { control, session: id(1), probing: false }]);
    }
}

#[tokio::test]
async fn a_server_on_this_host_is_found_from_every_usable_interface_and_listed_by_loopback() {
    let servers = Servers::with(&[("lab", 1)]);
    let found = ask(Some(&name("lab")), Target::Anyone, &[], servers.port, LONG).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].control.ip().is_loopback(), "{found:?}");
}

#[tokio::test]
async fn a_name_that_nobody_serves_is_not_found() {
    let servers = Servers::with(&[("lab", 1)]);
    match servers.ask("lap", Target::Anyone, SHORT).await {
        Err(AskError::NotFound { waited, interfaces }) => {
            assert!(waited >= SHORT);
            assert_eq!(interfaces, lo());
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(servers.ask("lap", HERE, SHORT).await, Err(AskError::NotFound { .. })));
}

#[tokio::test]
async fn two_servers_share_a_host_and_each_is_found_by_either_way() {
    let servers = Servers::with(&[("a", 1), ("b", 2)]);
    for i in 0..20 {
        for (session, n) in [("a", 1), ("b", 2)] {
            for target in [Target::Anyone, HERE] {
                let found = servers.ask(session, target, LONG).await.unwrap();
                assert_eq!(ids(&found), [id(n)].into());
            }
            // One question, to whichever of the two, is enough: it does not take the luck of the next attempt.
            Stranger::facing(servers.port).await.asks_and_is_answered(session, i).await;
        }
    }
}

#[tokio::test]
async fn a_nameless_question_hears_of_every_session_on_the_host() {
    let mut servers = Servers::with(&[("a", 1), ("b", 2)]);
    servers.add(None, 3, false);
    let found = ask(None, HERE, &[], servers.port, LONG).await.unwrap();
    assert_eq!(ids(&found), [id(1), id(2), id(3)].into());
    let all = ask(None, Target::Anyone, &[], servers.port, SHORT).await;
    assert!(matches!(all, Err(AskError::Io(_))), "{all:?}");
}

#[tokio::test]
async fn two_servers_of_one_name_are_both_listed() {
    let servers = Servers::with(&[("lab", 1), ("lab", 2)]);
    let found = servers.ask("lab", Target::Anyone, LONG).await.unwrap();
    assert_eq!(ids(&found), [id(1), id(2)].into());
}

#[tokio::test]
async fn servers_are_found_over_ipv6_when_the_host_is_given() {
    if let Err(e) = StdUdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        return cannot_run("servers_are_found_over_ipv6", &format!("no IPv6: {e}"));
    }
    let servers = Servers::with(&[("a", 1), ("b", 2)]);
    for (session, n) in [("a", 1), ("b", 2)] {
        let found = servers.ask(session, Target::Host(Ipv6Addr::LOCALHOST.into()), LONG).await.unwrap();
        let control = (Ipv6Addr::LOCALHOST, CONTROL).into();
        assert_eq!(found, [Found { control, session: id(n), probing: false }]);
    }
}

#[tokio::test]
async fn an_interface_that_does_not_exist_is_said_at_once() {
    let only = ["no_such_if0".to_owned()];
    assert!(Responder::bind(free_port(), &only).is_err());
    let asked = ask(Some(&name("a")), Target::Anyone, &only, free_port(), LONG).await;
    assert!(matches!(asked, Err(AskError::Io(_))), "{asked:?}");
}

/// A socket that says whatever a test wants it to.
struct Stranger {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Stranger {
    async fn facing(server_port: u16) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { socket, server: (Ipv4Addr::LOCALHOST, server_port).into() }
    }

    async fn say(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.server).await.unwrap();
    }

    async fn hear(&self) -> Vec<u8> {
        let mut buf = vec![0; 4096];
        let (len, _) = timeout(LONG, self.socket.recv_from(&mut buf)).await.expect("an answer").unwrap();
        buf.truncate(len);
        buf
    }

    /// Asks, and holds the next thing heard against it. So nothing said before has been answered, because a
    /// single server takes a single sender's datagrams in order.
    async fn asks_and_is_answered(&self, session: &str, nonce: u64) {
        let question = question(session, nonce);
        self.say(&question).await;
        let answer = self.hear().await;
        assert!(answer.len() <= question.len());
        assert_eq!(decode_answer(&answer).unwrap().nonce, nonce);
    }
}

fn question(session: &str, nonce: u64) -> Vec<u8> {
    encode_question(&Question { nonce, session: Some(name(session)), asker: None })
}

#[tokio::test]
async fn garbage_of_every_size_is_ignored_and_a_question_after_it_answered() {
    let servers = Servers::with(&[("lab", 1)]);
    let stranger = Stranger::facing(servers.port).await;
    let real = question("lab", 0);
    for size in 0..=2 * limits::DISCOVERY_BYTES {
        let mut cut = real.clone();
        cut.resize(size, 0xff);
        if size == real.len() {
            cut[8..].fill(0xff);
        }
        let noise: Vec<u8> = (0..size).map(|i| (i * 31 + size) as u8).collect();
        for garbage in [cut, noise, vec![0; size]] {
            stranger.say(&garbage).await;
        }
        if size % 16 == 0 {
            stranger.asks_and_is_answered("lab", size as u64).await;
        }
    }
    stranger.asks_and_is_answered("lab", u64::MAX).await;
}

#[tokio::test]
async fn an_answer_is_never_larger_than_its_question() {
    let servers = Servers::with(&[("lab", 1)]);
    let stranger = Stranger::facing(servers.port).await;
    stranger.asks_and_is_answered("lab", 1).await;
    let mut newer = question("lab", 2);
    newer[4] = 9;
    for size in [8, 100, limits::DISCOVERY_BYTES - 1] {
        stranger.say(&newer[..size]).await;
    }
    stranger.asks_and_is_answered("lab", 3).await;
    for size in [limits::DISCOVERY_BYTES, 1000] {
        newer.resize(size, 0);
        stranger.say(&newer).await;
        let answer = stranger.hear().await;
        assert_eq!(answer, encode_version_answer());
        assert!(answer.len() <= size);
    }
}

/// A server that answers each question with these datagrams; `None` is a true answer.
async fn fake_server(datagrams: Vec<Option<Vec<u8>>>) -> (u16, JoinSet<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut buf = vec![0; 4096];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            let nonce = decode_question(&buf[..len]).unwrap().nonce;
            for datagram in &datagrams {
                let bytes = datagram.clone().unwrap_or_else(|| answer(nonce, 1));
                socket.send_to(&bytes, from).await.unwrap();
            }
        }
    });
    (port, running)
}

fn answer(nonce: u64, n: u8) -> Vec<u8> {
    encode_answer(&Answer { nonce, session: id(n), control_port: CONTROL, probing: false })
}

fn version_answer(version: u8) -> Vec<u8> {
    let mut bytes = encode_version_answer();
    bytes[4] = version;
    bytes
}

#[tokio::test]
async fn a_server_of_another_version_is_named_if_no_other_is_there() {
    let (port, _running) = fake_server(vec![Some(version_answer(9))]).await;
    for (target, give_up) in [(Target::Anyone, SHORT), (HERE, LONG)] {
        let begun = Instant::now();
        let asked = ask(Some(&name("lab")), target, &lo(), port, give_up).await;
        assert!(matches!(asked, Err(AskError::OtherVersion(9))), "{asked:?}");
        assert!(begun.elapsed() < LONG);
    }
    let (port, _running) = fake_server(vec![Some(version_answer(9)), None]).await;
    let found = ask(Some(&name("lab")), HERE, &lo(), port, LONG).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
}

#[tokio::test]
async fn an_answer_to_another_question_or_of_another_size_is_no_answer() {
    let mut long = answer(0, 2);
    long.push(0);
    let mut odd_version = version_answer(9);
    odd_version.push(0);
    let false_ones = [Some(answer(0, 3)), Some(long), Some(vec![]), Some(vec![1; 3000]), Some(odd_version)];

    let (port, _running) = fake_server(false_ones.to_vec()).await;
    let asked = ask(Some(&name("lab")), HERE, &[], port, SHORT).await;
    assert!(matches!(asked, Err(AskError::NotFound { .. })), "{asked:?}");

    let (port, _running) = fake_server(false_ones.into_iter().chain([None]).collect()).await;
    let found = ask(Some(&name("lab")), HERE, &[], port, LONG).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
}

#[tokio::test]
async fn a_starting_server_yields_to_a_settled_one_and_to_a_smaller_one_that_starts_too() {
    let mut servers = Servers::new();
    servers.add(Some("settled"), 9, false);
    servers.add(Some("smaller"), 1, true);
    servers.add(Some("greater"), 9, true);
    servers.add(Some("own"), 5, true);
    let (settled, smaller, greater, own, nobody) = tokio::join!(
        servers.rival("settled", 5),
        servers.rival("smaller", 5),
        servers.rival("greater", 5),
        servers.rival("own", 5),
        servers.rival("nobody", 5),
    );
    assert_eq!(settled.map(|f| f.session), Some(id(9)));
    assert_eq!(smaller.map(|f| f.session), Some(id(1)));
    assert_eq!((greater, own, nobody), (None, None, None));
}

#[tokio::test]
async fn of_two_servers_that_start_at_once_exactly_one_yields() {
    let mut servers = Servers::new();
    servers.add(Some("lab"), 1, true);
    servers.add(Some("lab"), 2, true);
    let (one, two) = tokio::join!(servers.rival("lab", 1), servers.rival("lab", 2));
    assert_eq!(one, None);
    assert_eq!(two.map(|f| f.session), Some(id(1)));
}

// ---- between network namespaces ----

#[test]
fn a_server_on_another_host_is_found_without_routes_and_names() {
    let Some(lan) = Lan::new("routes", 2) else { return };
    lan.link(0, "eth0", 1, "eth0");
    lan.up(0, "eth0", "10.77.1.1/24");
    lan.up(1, "eth0", "10.77.1.2/24");
    lan.ip(0, "link set lo up");
    let _servers = [lan.serve(0, "a", 1), lan.serve(0, "b", 2)];
    for (session, n) in [("a", 1), ("b", 2)] {
        for host in ["", "10.77.1.1"] {
            assert_eq!(lan.ask(1, session, host, LONG).outcome(), found_at("10.77.1.1", n));
        }
    }
    assert_eq!(lan.ask(1, "c", "", SHORT).outcome(), "NotFound from eth0");
}

#[test]
fn a_dead_link_and_a_bridge_of_containers_do_not_lead_astray() {
    let Some(lan) = Lan::new("bridge", 3) else { return };
    let (server, client, container) = (0, 1, 2);
    lan.link(server, "eth0", client, "eth0");
    lan.link(server, "eth1", container, "unplugged");
    lan.link(server, "veth12ab34c", container, "eth0");
    lan.link(server, "eth2", container, "eth2");
    lan.ip(server, "link set lo up");
    for bridge in ["docker0", "mybridge"] {
        lan.ip(server, &format!("link add {bridge} type bridge"));
    }
    lan.ip(server, "link set veth12ab34c master docker0 up");
    lan.ip(server, "link set eth2 master mybridge up");
    lan.up(server, "docker0", "172.17.0.1/16");
    lan.up(server, "mybridge", "172.18.0.1/16");
    // Up without a carrier: its peer is down.
    lan.up(server, "eth1", "10.77.2.1/24");
    lan.up(server, "eth0", "10.77.1.1/24");
    lan.up(container, "eth0", "172.17.0.2/16");
    lan.up(container, "eth2", "172.18.0.2/16");
    lan.up(client, "eth0", "10.77.1.2/24");
    let _server = lan.serve(server, "lab", 1);

    assert_eq!(lan.ask(client, "lab", "", LONG).outcome(), found_at("10.77.1.1", 1));
    // To itself the container's `eth0` is a wired interface like any other.
    assert_eq!(lan.ask(container, "lab", "", LONG).outcome(), found_at("172.17.0.1", 1));
    assert_eq!(lan.ask(server, "lab", "", LONG).outcome(), found_at("127.0.0.1", 1));
    assert_eq!(lan.ask(server, "lap", "", SHORT).outcome(), "NotFound from eth0 lo");
}

#[test]
fn a_server_is_found_by_a_link_that_comes_up_late() {
    let Some(lan) = Lan::new("late", 2) else { return };
    lan.link(0, "eth0", 1, "eth0");
    lan.up(0, "eth0", "10.77.1.1/24");
    lan.ip(1, "addr add 10.77.1.2/24 dev eth0");
    let _server = lan.serve(0, "lab", 1);
    assert_eq!(lan.ask(1, "lab", "", SHORT).outcome(), "NoInterface");

    let asking = lan.ask(1, "lab", "", LONG);
    // What is tested: the link is dead for as long as several questions take.
    thread::sleep(Duration::from_secs(2));
    lan.ip(1, "link set eth0 up");
    assert_eq!(asking.outcome(), found_at("10.77.1.1", 1));
}

fn found_at(ip: &str, n: u8) -> String {
    format!("found {ip}:{CONTROL} {}", id(n))
}

/// Says so even though a passing test's output is hidden.
fn cannot_run(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "test {test} cannot run here: {why}");
}

/// Hosts, each a network namespace that is removed at the end.
struct Lan {
    hosts: Vec<String>,
}

impl Lan {
    /// `None`, having said why, where there are no namespaces to be had.
    fn new(test: &str, hosts: usize) -> Option<Self> {
        if std::fs::metadata("/proc/self").map_or(true, |m| m.uid() != 0) {
            cannot_run(test, "not root");
            return None;
        }
        let mut lan = Self { hosts: Vec::new() };
        for i in 0..hosts {
            let host = format!("ka-t{}-{test}{i}", std::process::id());
            if let Err(why) = ip(&["netns", "add", &host]) {
                cannot_run(test, &why);
                return None;
            }
            lan.hosts.push(host);
        }
        Some(lan)
    }

    fn ip(&self, host: usize, words: &str) {
        let args: Vec<&str> = ["-n", &self.hosts[host]].into_iter().chain(words.split(' ')).collect();
        ip(&args).unwrap();
    }

    fn link(&self, a: usize, a_if: &str, b: usize, b_if: &str) {
        let b = &self.hosts[b];
        self.ip(a, &format!("link add {a_if} type veth peer name {b_if} netns {b}"));
    }

    fn up(&self, host: usize, interface: &str, addr: &str) {
        self.ip(host, &format!("addr add {addr} dev {interface}"));
        self.ip(host, &format!("link set {interface} up"));
    }

    /// A server that listens by the time this returns.
    fn serve(&self, host: usize, session: &str, n: u8) -> Helper {
        self.helper(host, "helper_serves", &format!("{session} {n}"), "ready")
    }

    /// An asker that has begun by the time this returns. `host` is whom it asks; anyone if empty.
    fn ask(&self, from: usize, session: &str, host: &str, give_up: Duration) -> Helper {
        self.helper(from, "helper_asks", &format!("{session} {} {host}", give_up.as_millis()), "asking")
    }

    fn helper(&self, host: usize, test: &str, task: &str, first_word: &str) -> Helper {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.hosts[host]])
            .arg(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(TASK, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut helper = Helper { child, lines };
        assert_eq!(helper.says(), first_word);
        helper
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&["netns", "del", host]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let out = Command::new("ip").args(args).output().map_err(|e| format!("`ip`: {e}"))?;
    let words = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("`ip {}`: {}", args.join(" "), words.trim())) }
}

/// This very program, as one test that acts on another host.
struct Helper {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Helper {
    fn says(&mut self) -> String {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if let Some((_, words)) = line.split_once(MARK) {
                return words.trim().to_owned();
            }
            line.clear();
        }
        panic!("the helper ended without a word");
    }

    fn outcome(mut self) -> String {
        self.says()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a helper is to do. Without it a helper does nothing: it is no test.
const TASK: &str = "KA_TEST_DISCOVERY_TASK";
/// Tells a helper's words from the test harness's.
const MARK: &str = "helper says: ";

fn task() -> Option<Vec<String>> {
    Some(env::var(TASK).ok()?.split(' ').map(str::to_owned).collect())
}

fn say(words: &str) {
    println!("{MARK}{words}");
}

#[test]
fn helper_serves() {
    let Some(task) = task() else { return };
    // Not to outlive a parent that was killed.
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    runtime().block_on(async {
        let responder = Responder::bind(limits::DISCOVERY_PORT, &[]).unwrap();
        say("ready");
        let n = task[1].parse().unwrap();
        match responder.run(Some(name(&task[0])), id(n), CONTROL, Arc::default()).await {}
    });
}

#[test]
fn helper_asks() {
    let Some(task) = task() else { return };
    let give_up = Duration::from_millis(task[1].parse().unwrap());
    let target = task[2].parse().map_or(Target::Anyone, Target::Host);
    say("asking");
    let session = name(&task[0]);
    let asked = runtime().block_on(ask(Some(&session), target, &[], limits::DISCOVERY_PORT, give_up));
    say(&match asked {
        Ok(all) => {
            let all: Vec<String> = all.iter().map(|f| format!("{} {}", f.control, f.session)).collect();
            format!("found {}", all.join(", "))
        }
        Err(AskError::NotFound { interfaces, .. }) => format!("NotFound from {}", interfaces.join(" ")),
        Err(AskError::NoInterface) => "NoInterface".into(),
        Err(e) => format!("error: {e}"),
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
