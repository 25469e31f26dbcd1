//! Servers found by name and key: on this host without privileges, and between network namespaces as root.
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

use ka_core::crypto::session_key::Key;
use ka_core::limits;
use ka_core::net::discovery::{AskError, Found, Other, Responder, Target, UnknownKey, ask, rival};
use ka_core::net::{Identity, ServerKey};
use ka_core::types::{SessionId, SessionName};
use ka_core::wire::discovery::{
    Answer, Question, Secret, Stranger, decode_answer, decode_question, decode_stranger, encode_answer,
    encode_question, encode_stranger, encode_version_answer,
};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;
use x25519_dalek::{PublicKey, StaticSecret};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);
const CONTROL: u16 = 7777;

/// This host, asked at this port; or everybody.
fn here(port: u16) -> Target {
    Target::Host(vec![(Ipv4Addr::LOCALHOST, port).into()])
}

fn name(s: &str) -> SessionName {
    SessionName::new(s).unwrap()
}

fn id(n: u8) -> SessionId {
    SessionId([n; 16])
}

/// A server's key with this token, and an identity of its own.
fn server_key(token: u8) -> ServerKey {
    let identity = Identity::generate().unwrap();
    let key = Key::new([token; 12], identity.public());
    ServerKey::with(identity, key).unwrap()
}

fn lo() -> Vec<String> {
    vec!["lo".into()]
}

/// A port nobody has. It may be taken again before it is used, by one of these tests' own sockets at worst.
fn free_port() -> u16 {
    StdUdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn ways(port: u16) -> [Target; 2] {
    [Target::Anyone(port), here(port)]
}

/// Servers that run until dropped.
struct Servers {
    port: u16,
    /// The first one's, from the beginning, so that nobody else takes the port.
    first: Option<Responder>,
    /// Theirs, unless they are added with another one, and the askers'.
    key: ServerKey,
    running: JoinSet<()>,
}

impl Servers {
    fn new() -> Self {
        let bound = || {
            let port = free_port();
            // Another test may have taken it by now.
            Responder::bind(port, &lo()).map(|first| (port, first))
        };
        let (port, first) = bound().or_else(|_| bound()).unwrap();
        Self { port, first: Some(first), key: server_key(7), running: JoinSet::new() }
    }

    fn add(&mut self, session: Option<&str>, n: u8, probing: bool) {
        self.add_with(self.key.clone(), session, n, probing);
    }

    fn add_with(&mut self, key: ServerKey, session: Option<&str>, n: u8, probing: bool) {
        let responder = self.first.take().unwrap_or_else(|| Responder::bind(self.port, &lo()).unwrap());
        let session = session.map(name);
        let probing = Arc::new(AtomicBool::new(probing));
        let running = responder.run(session, id(n), CONTROL, probing, key, |who| panic!("{who}"));
        self.running.spawn(async move { match running.await {} });
    }

    fn with(sessions: &[(&str, u8)]) -> Self {
        Self::with_key(server_key(7), sessions)
    }

    fn with_key(key: ServerKey, sessions: &[(&str, u8)]) -> Self {
        let mut servers = Self { key, ..Self::new() };
        sessions.iter().for_each(|(s, n)| servers.add(Some(s), *n, false));
        servers
    }

    async fn ask(&self, session: &str, target: Target, give_up: Duration) -> Result<Vec<Found>, AskError> {
        ask(Some(&name(session)), target, &lo(), give_up, self.key.key(), &mut |_| ()).await
    }

    /// Both ways to ask.
    fn ways(&self) -> [Target; 2] {
        ways(self.port)
    }

    fn secret(&self, session: &str) -> Secret {
        Secret::new(self.key.key(), Some(&name(session)))
    }

    async fn rival(&self, session: &str, own: u8) -> Option<Found> {
        rival(&name(session), id(own), &lo(), self.port, self.key.key()).await
    }
}

fn ids(found: &[Found]) -> BTreeSet<SessionId> {
    found.iter().map(|f| f.session).collect()
}

#[tokio::test]
async fn a_server_is_found_by_name() {
    let servers = Servers::with(&[("lab", 1)]);
    for target in servers.ways() {
        let found = servers.ask("lab", target, LONG).await.unwrap();
        let control = (Ipv4Addr::LOCALHOST, CONTROL).into();
        assert_eq!(found, [Found { control, session: id(1), probing: false }]);
    }
}

#[tokio::test]
async fn a_server_on_this_host_is_found_from_every_usable_interface_and_listed_by_loopback() {
    let servers = Servers::with(&[("lab", 1)]);
    let (session, key) = (name("lab"), servers.key.key());
    let found = ask(Some(&session), Target::Anyone(servers.port), &[], LONG, key, &mut |_| ()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].control.ip().is_loopback(), "{found:?}");
}

#[tokio::test]
async fn a_name_that_nobody_serves_is_not_found() {
    let servers = Servers::with(&[("lab", 1)]);
    match servers.ask("lap", Target::Anyone(servers.port), SHORT).await {
        Err(AskError::NotFound { waited, from, .. }) => {
            assert!(waited >= SHORT);
            assert!(from.iter().all(|i| i.name == "lo") && !from.is_empty(), "{from:?}");
        }
        other => panic!("{other:?}"),
    }
    let asked = servers.ask("lap", here(servers.port), SHORT).await;
    let other = Other::Name(Ipv4Addr::LOCALHOST.into());
    assert!(matches!(asked, Err(AskError::Other(who)) if who == other), "it is the name: {asked:?}");
    let open = Servers::with_key(ServerKey::insecure().unwrap(), &[("lab", 1)]);
    let asked = open.ask("lap", here(open.port), SHORT).await;
    assert!(matches!(asked, Err(AskError::NotFound { .. })), "{asked:?}");
}

#[tokio::test]
async fn two_servers_share_a_host_and_each_is_found_by_either_way() {
    let servers = Servers::with(&[("a", 1), ("b", 2)]);
    for i in 0..20 {
        for (session, n) in [("a", 1), ("b", 2)] {
            for target in servers.ways() {
                let found = servers.ask(session, target, LONG).await.unwrap();
                assert_eq!(ids(&found), [id(n)].into());
            }
            // One question, to whichever of the two, is enough: it does not take the luck of the next attempt.
            Voice::facing(servers.port).await.asks_and_is_answered(&servers.secret(session), i).await;
        }
    }
}

#[tokio::test]
async fn a_nameless_question_hears_of_every_session_on_the_host() {
    let mut servers = Servers::with(&[("a", 1), ("b", 2)]);
    servers.add(None, 3, false);
    servers.add_with(server_key(8), Some("c"), 4, false);
    let key = servers.key.key();
    let found = ask(None, here(servers.port), &[], LONG, key, &mut |_| ()).await.unwrap();
    assert_eq!(ids(&found), [id(1), id(2), id(3)].into(), "but not of those with another key");
    let all = ask(None, Target::Anyone(servers.port), &[], SHORT, key, &mut |_| ()).await;
    assert!(matches!(all, Err(AskError::Io(_))), "{all:?}");
}

#[tokio::test]
async fn two_servers_of_one_name_are_both_listed() {
    let servers = Servers::with(&[("lab", 1), ("lab", 2)]);
    let found = servers.ask("lab", Target::Anyone(servers.port), LONG).await.unwrap();
    assert_eq!(ids(&found), [id(1), id(2)].into());
}

#[tokio::test]
async fn servers_are_found_over_ipv6_when_the_host_is_given() {
    if let Err(e) = StdUdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        return cannot_run("servers_are_found_over_ipv6", &format!("no IPv6: {e}"));
    }
    let servers = Servers::with(&[("a", 1), ("b", 2)]);
    for (session, n) in [("a", 1), ("b", 2)] {
        let host = Target::Host(vec![(Ipv6Addr::LOCALHOST, servers.port).into()]);
        let found = servers.ask(session, host, LONG).await.unwrap();
        let control = (Ipv6Addr::LOCALHOST, CONTROL).into();
        assert_eq!(found, [Found { control, session: id(n), probing: false }]);
    }
}

#[tokio::test]
async fn an_interface_that_does_not_exist_is_said_at_once() {
    let only = ["no_such_if0".to_owned()];
    assert!(Responder::bind(free_port(), &only).is_err());
    let (session, key) = (name("a"), Key::insecure());
    let asked = ask(Some(&session), Target::Anyone(free_port()), &only, LONG, &key, &mut |_| ()).await;
    assert!(matches!(asked, Err(AskError::Io(_))), "{asked:?}");
}

/// A socket that says whatever a test wants it to.
struct Voice {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Voice {
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
    async fn asks_and_is_answered(&self, secret: &Secret, n: u64) {
        let question = question(secret, n);
        self.say(&question).await;
        loop {
            let heard = self.hear().await;
            assert!(heard.len() <= question.len());
            // Of several servers, one that does not serve this session may have got it first.
            if let Ok(stranger) = decode_stranger(&heard) {
                assert_eq!(stranger.public, public(n));
                continue;
            }
            return assert_eq!(decode_answer(&heard).unwrap().public, public(n));
        }
    }
}

/// No key pair's public half: who uses it checks no answer.
fn public(n: u64) -> [u8; 32] {
    std::array::from_fn(|i| n.to_le_bytes()[i % 8] ^ i as u8)
}

fn question(secret: &Secret, n: u64) -> Vec<u8> {
    encode_question(&Question::new(secret, public(n)))
}

#[tokio::test]
async fn garbage_of_every_size_is_ignored_and_a_question_after_it_answered() {
    let servers = Servers::with(&[("lab", 1)]);
    let voice = Voice::facing(servers.port).await;
    let secret = servers.secret("lab");
    let real = question(&secret, 0);
    for size in 0..=2 * limits::DISCOVERY_BYTES {
        let mut cut = real.clone();
        cut.resize(size, 0xff);
        if size == real.len() {
            cut[8..].fill(0xff);
        }
        let noise: Vec<u8> = (0..size).map(|i| (i * 31 + size) as u8).collect();
        for garbage in [cut, noise, vec![0; size]] {
            voice.say(&garbage).await;
        }
        if size % 16 == 0 {
            voice.asks_and_is_answered(&secret, size as u64).await;
        }
    }
    voice.asks_and_is_answered(&secret, u64::MAX).await;
}

#[tokio::test]
async fn an_answer_is_never_larger_than_its_question() {
    let servers = Servers::with(&[("lab", 1)]);
    let voice = Voice::facing(servers.port).await;
    let secret = servers.secret("lab");
    voice.asks_and_is_answered(&secret, 1).await;
    let mut newer = question(&secret, 2);
    newer[4] = 9;
    for size in [8, 100, limits::DISCOVERY_BYTES - 1] {
        voice.say(&newer[..size]).await;
    }
    voice.asks_and_is_answered(&secret, 3).await;
    for size in [limits::DISCOVERY_BYTES, 1000] {
        newer.resize(size, 0);
        voice.say(&newer).await;
        let answer = voice.hear().await;
        assert_eq!(answer, encode_version_answer());
        assert!(answer.len() <= size);
    }
}

/// A server's keys, to answer whatever a test wants to.
#[derive(Clone)]
struct Fake {
    own: StaticSecret,
    key: Key,
}

impl Fake {
    fn new(token: u8, n: u8) -> Self {
        let own = StaticSecret::from([n; 32]);
        let key = Key::new([token; 12], PublicKey::from(&own).as_bytes());
        Self { own, key }
    }

    fn answer(&self, public: [u8; 32], n: u8) -> Vec<u8> {
        let server = PublicKey::from(&self.own).to_bytes();
        let answer =
            Answer { public, server, session: id(n), control_port: CONTROL, probing: false, tag: [0; 32] };
        let agreed = self.own.diffie_hellman(&PublicKey::from(public)).to_bytes();
        encode_answer(&answer.tagged(&Secret::new(&self.key, Some(&name("lab"))), &agreed))
    }
}

/// Says `words` to each question, one after the other.
async fn serve_words(words: impl Fn(&Question) -> Vec<Vec<u8>> + Send + 'static) -> (u16, JoinSet<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut buf = vec![0; 4096];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            for bytes in words(&decode_question(&buf[..len]).unwrap()) {
                socket.send_to(&bytes, from).await.unwrap();
            }
        }
    });
    (port, running)
}

/// Looks for the session `lab`, whoever is called for strangers.
async fn ask_lab(target: Target, give_up: Duration, key: &Key) -> Result<Vec<Found>, AskError> {
    ask(Some(&name("lab")), target, &lo(), give_up, key, &mut |_| ()).await
}

fn version_answer(version: u8) -> Vec<u8> {
    let mut bytes = encode_version_answer();
    bytes[4] = version;
    bytes
}

#[tokio::test]
async fn a_server_of_another_version_is_named_if_no_other_is_there() {
    let key = Fake::new(7, 1).key;
    let (port, _running) = serve_words(|_| vec![version_answer(9)]).await;
    for (target, give_up) in [(Target::Anyone(port), SHORT), (here(port), LONG)] {
        let begun = Instant::now();
        let asked = ask_lab(target, give_up, &key).await;
        assert!(matches!(asked, Err(AskError::OtherVersion(9))), "{asked:?}");
        assert!(begun.elapsed() < LONG);
    }
    let right = Fake::new(7, 1);
    let (port, _running) = serve_words(move |q| vec![version_answer(9), right.answer(q.public, 1)]).await;
    let found = ask_lab(here(port), LONG, &key).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
}

#[tokio::test]
async fn an_answer_to_another_question_or_of_another_size_is_no_answer() {
    let (right, key) = (Fake::new(7, 1), Fake::new(7, 1).key);
    let mut odd_version = version_answer(9);
    odd_version.push(0);
    let wrong = move |q: &Question| {
        let long = [&Fake::new(7, 1).answer(q.public, 2)[..], &[0]].concat();
        vec![right.answer([5; 32], 3), long, vec![], vec![1; 3000], odd_version.clone()]
    };
    let (port, _running) = serve_words(wrong.clone()).await;
    let asked = ask_lab(here(port), SHORT, &key).await;
    assert!(matches!(asked, Err(AskError::NotFound { .. })), "{asked:?}");

    let also_right = move |q: &Question| [wrong(q), vec![Fake::new(7, 1).answer(q.public, 1)]].concat();
    let (port, _running) = serve_words(also_right).await;
    let found = ask_lab(here(port), LONG, &key).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
}

#[tokio::test]
async fn who_has_only_the_token_is_ignored_and_the_true_server_found_though_it_answers_later() {
    let (true_one, thief) = (Fake::new(7, 1), Fake::new(7, 2));
    let key = true_one.key.clone();
    let words = move |q: &Question| vec![thief.answer(q.public, 2), true_one.answer(q.public, 1)];
    let (port, _running) = serve_words(words).await;
    for target in ways(port) {
        let found = ask_lab(target, LONG, &key).await.unwrap();
        assert_eq!(ids(&found), [id(1)].into());
    }
}

#[tokio::test]
async fn an_answer_that_was_recorded_is_none() {
    let server = Fake::new(7, 1);
    let key = server.key.clone();
    let first = std::sync::OnceLock::new();
    let words = move |q: &Question| vec![first.get_or_init(|| server.answer(q.public, 1)).clone()];
    let (port, _running) = serve_words(words).await;
    let found = ask_lab(here(port), LONG, &key).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
    let asked = ask_lab(here(port), SHORT, &key).await;
    assert!(matches!(asked, Err(AskError::NotFound { .. })), "{asked:?}");
}

// ---- those who do not know each other ----

#[tokio::test]
async fn a_question_with_another_key_gets_nothing_but_that_it_is_unknown() {
    let recorded = question(&Secret::new(server_key(7).key(), Some(&name("lab"))), 5);
    for (key, secure) in [(server_key(8), true), (ServerKey::insecure().unwrap(), false)] {
        let servers = Servers::with_key(key, &[("lab", 1)]);
        let voice = Voice::facing(servers.port).await;
        voice.say(&recorded).await;
        let heard = voice.hear().await;
        assert_eq!(heard, encode_stranger(&Stranger { public: public(5), secure }));
        // And of what it passed on, which it hears itself, it tells nobody again.
        voice.asks_and_is_answered(&servers.secret("lab"), 6).await;
        let asked = ask_lab(Target::Anyone(servers.port), SHORT, server_key(7).key()).await;
        assert!(matches!(asked, Err(AskError::NotFound { .. })), "{asked:?}");
    }
}

/// Asks everybody for `lab`, and says of whom the asker was told, and when.
async fn told(servers: &Servers, give_up: Duration, key: &Key) -> (bool, Vec<(Other, Duration)>) {
    let (begun, mut told) = (Instant::now(), Vec::new());
    let mut others = |who| told.push((who, begun.elapsed()));
    let everybody = Target::Anyone(servers.port);
    let asked = ask(Some(&name("lab")), everybody, &lo(), give_up, key, &mut others).await;
    (asked.is_ok(), told)
}

#[tokio::test]
async fn of_servers_that_do_not_know_the_key_an_asker_is_told_once_and_after_a_second() {
    const SECOND: Duration = Duration::from_secs(1);
    let mut servers = Servers::with(&[("other", 1)]);
    let asker = server_key(9);
    let (found, all) = told(&servers, SECOND * 7 / 2, asker.key()).await;
    let here = Other::UnknownKey(UnknownKey { addr: Ipv4Addr::LOCALHOST.into(), secure: true, given: true });
    assert!(!found);
    assert_eq!(all.iter().map(|(who, _)| *who).collect::<Vec<_>>(), [here]);
    assert!(all[0].1 >= SECOND);

    let (_, all) = told(&servers, SECOND / 2, asker.key()).await;
    assert!(all.is_empty(), "not before: {all:?}");
    servers.add_with(asker.clone(), Some("lab"), 2, false);
    let (found, all) = told(&servers, LONG, asker.key()).await;
    assert_eq!((found, all), (true, vec![]), "nor when the right one answers");
}

#[tokio::test]
async fn where_nobody_has_a_key_a_session_of_another_name_is_no_matter() {
    let open = ServerKey::insecure().unwrap();
    let servers = Servers::with_key(open.clone(), &[("other", 1)]);
    let (found, all) = told(&servers, Duration::from_millis(1500), open.key()).await;
    assert_eq!((found, all), (false, vec![]));
}

#[tokio::test]
async fn a_host_that_does_not_know_the_key_ends_the_search() {
    let (own, open) = (server_key(7), ServerKey::insecure().unwrap());
    for (server, asker) in [(server_key(8), &own), (open.clone(), &own), (server_key(8), &open)] {
        let (secure, given) = (server.key().is_secure(), asker.key().is_secure());
        let servers = Servers::with_key(server, &[("lab", 1)]);
        let begun = Instant::now();
        match ask_lab(here(servers.port), LONG, asker.key()).await {
            Err(AskError::Other(who)) => {
                let here = UnknownKey { addr: Ipv4Addr::LOCALHOST.into(), secure, given };
                assert_eq!(who, Other::UnknownKey(here));
            }
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() >= Duration::from_secs(1), "it may have another server that does");
        assert!(begun.elapsed() < LONG);
    }
}

#[tokio::test]
async fn two_servers_of_one_name_with_different_keys_do_not_meet() {
    let mut servers = Servers::with(&[("lab", 1)]);
    let other = server_key(8);
    servers.add_with(other.clone(), Some("lab"), 2, false);
    assert_eq!(rival(&name("lab"), id(1), &lo(), servers.port, servers.key.key()).await, None);
    for (key, n) in [(servers.key.key(), 1), (other.key(), 2)] {
        for target in servers.ways() {
            let found = ask_lab(target, LONG, key).await.unwrap();
            assert_eq!(ids(&found), [id(n)].into());
        }
    }
}

#[tokio::test]
async fn two_servers_of_one_name_without_a_key_are_both_listed_and_one_yields() {
    let servers = Servers::with_key(ServerKey::insecure().unwrap(), &[("lab", 1), ("lab", 2)]);
    let found = servers.ask("lab", Target::Anyone(servers.port), LONG).await.unwrap();
    assert_eq!(ids(&found), [id(1), id(2)].into());
    assert_eq!(servers.rival("lab", 3).await.map(|r| r.session.0[0] < 3), Some(true));
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
fn a_server_is_found_over_ipv6_alone() {
    let Some(lan) = Lan::new("six", 2) else { return };
    lan.link(0, "eth0", 1, "eth0");
    for (host, addr) in [(0, "fe80::1"), (1, "fe80::2")] {
        lan.ip(host, "link set lo up");
        lan.ip(host, "link set eth0 addrgenmode none");
        lan.ip(host, "link set eth0 up");
        lan.ip(host, &format!("addr add {addr}/64 dev eth0 nodad"));
    }
    let index = lan.index(1, "eth0");
    let found = |n| format!("found [fe80::1%{index}]:{CONTROL} {}", id(n));
    // The group reaches all of a host's servers, so that nothing need be passed on.
    let mut servers = vec![lan.serve(0, "a", 1), lan.serve(0, "b", 2)];
    for (session, n) in [("a", 1), ("b", 2)] {
        for _ in 0..5 {
            assert_eq!(lan.ask(1, session, "", LONG).outcome(), found(n));
        }
        assert_eq!(lan.ask(0, session, "", LONG).outcome(), found_at("127.0.0.1", n), "from the host itself");
    }
    assert_eq!(lan.ask(1, "c", "", SHORT).outcome(), "NotFound from eth0 lo");
    // Two of one name are two.
    servers.push(lan.serve(1, "a", 3));
    let both = |heard: &str| [1, 3].iter().all(|n| heard.contains(&id(*n).to_string()));
    // On a busy machine the second answer may come later than an asker listens.
    let heard: Vec<_> = (0..10).map(|_| lan.ask(1, "a", "", LONG).outcome()).collect();
    assert!(heard.iter().any(|heard| both(heard)), "{heard:?}");
}

#[test]
fn a_server_of_both_families_is_one_and_listed_by_ipv4() {
    let Some(lan) = Lan::new("both", 2) else { return };
    lan.link(0, "eth0", 1, "eth0");
    for (host, v4, v6) in [(0, "10.77.1.1", "fe80::1"), (1, "10.77.1.2", "fe80::2")] {
        lan.up(host, "eth0", &format!("{v4}/24"));
        lan.ip(host, &format!("addr add {v6}/64 dev eth0 nodad"));
    }
    let _server = lan.serve(0, "a", 1);
    for _ in 0..5 {
        assert_eq!(lan.ask(1, "a", "", LONG).outcome(), found_at("10.77.1.1", 1));
    }
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

    /// The kernel's number for an interface.
    fn index(&self, host: usize, interface: &str) -> String {
        let out =
            Command::new("ip").args(["-n", &self.hosts[host], "-o", "link", "show", interface]).output();
        let words = String::from_utf8(out.unwrap().stdout).unwrap();
        words.split_once(':').unwrap().0.to_owned()
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
        let key = ServerKey::insecure().unwrap();
        match responder.run(Some(name(&task[0])), id(n), CONTROL, Arc::default(), key, |_| ()).await {}
    });
}

#[test]
fn helper_asks() {
    let Some(task) = task() else { return };
    let give_up = Duration::from_millis(task[1].parse().unwrap());
    let port = limits::DISCOVERY_PORT;
    let host = task[2].parse::<IpAddr>().ok().map(|ip| Target::Host(vec![(ip, port).into()]));
    let target = host.unwrap_or(Target::Anyone(port));
    say("asking");
    let (session, key) = (name(&task[0]), Key::insecure());
    let asked = runtime().block_on(ask(Some(&session), target, &[], give_up, &key, &mut |_| ()));
    say(&match asked {
        Ok(all) => {
            let all: Vec<String> = all.iter().map(|f| format!("{} {}", f.control, f.session)).collect();
            format!("found {}", all.join(", "))
        }
        Err(AskError::NotFound { from, .. }) => {
            let names: BTreeSet<_> = from.into_iter().map(|i| i.name).collect();
            format!("NotFound from {}", Vec::from_iter(names).join(" "))
        }
        Err(AskError::NoInterface) => "NoInterface".into(),
        Err(e) => format!("error: {e}"),
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
