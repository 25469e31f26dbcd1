//! Servers found by name and key: on this host without privileges, and between network namespaces as root.
//!
//! Absent: real switches, and what a firewall does.
#![cfg(feature = "io")]
// A link that is dead for two seconds takes two seconds, and a helper process ends itself.
#![allow(clippy::disallowed_methods)]

mod lan;
mod strangers;

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

use lan::cannot_run;
use strangers::Voice;

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
    // Nobody passes a question on over IPv6: the kernel chooses by the asker's port which server gets it.
    let servers = Servers::with(&[("a", 1), ("b", 2)]);
    for (session, n) in [("a", 1), ("b", 2)].repeat(16) {
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
