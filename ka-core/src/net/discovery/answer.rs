//! The answering side of discovery: a server's socket on the port of discovery.
//!
//! Absent: the asking side, and what an asker makes of an answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until};

use super::fair::{Budget, Fair};
use super::socket::{Buffer, EMPTY, GROUP, GROUP_V6, THIS_HOST, send, shared_socket};
use crate::limits;
use crate::net::host::interfaces;
use crate::net::noise::identity::ServerKey;
use crate::types::{SessionId, SessionName};
use crate::wire::Malformed;
use crate::wire::discovery::{self as wire, Answer, Question, Secret, Stranger};

/// The interval at which the group is joined on interfaces that came up since.
const REJOIN: Duration = Duration::from_secs(5);

/// The pause after an error on receiving, lest one that stays makes the loop spin.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Of how many askers that cannot be answered the caller is told. Their addresses may be forged.
const UNANSWERED_MAX: usize = 16;

/// For how long somebody must have gone without an answer before the caller is told: until then one may have come by another
/// way, such as IPv6.
const UNANSWERED: Duration = Duration::from_secs(1);

/// Somebody who knows the key asks for the session again and again, and no answer gets there.
#[derive(Debug)]
pub struct Unanswered {
    /// The address that the question came from.
    pub asker: IpAddr,
    /// The system's word; `None` if it goes to a router, which has no use for it.
    pub why: Option<io::Error>,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asker, why } = self;
        write!(f, "a node at {asker} asks for this session, and no answer reaches it")?;
        why.iter().try_for_each(|why| write!(f, ": {why}"))?;
        match own_making(*asker) {
            true => f.write_str(
                "; that address is of the node's own making, because no DHCP server gave it one: see to that, or let \
                 both have IPv6",
            ),
            false => f.write_str("; does this host have an address in its network, or a route there?"),
        }
    }
}

/// The server's side: answers those who ask for its session. Several may share a host and a port.
#[derive(Debug)]
pub struct Responder {
    v4: UdpSocket,
    /// `None` on a host without IPv6.
    v6: Option<UdpSocket>,
    port: u16,
    only: Vec<String>,
}

impl Responder {
    /// Listens on `port`, and in [`GROUP`] and [`GROUP_V6`] on the interfaces in `only` or, if that is empty, on all usable
    /// ones. Broadcasts are heard on every interface; with `only`, who would not be taken by these interfaces (or on this
    /// host) is not answered. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The port belongs to a program that does not share it, or an interface in `only` does not exist.
    pub fn bind(port: u16, only: &[String]) -> io::Result<Self> {
        let v4 = shared_socket((Ipv4Addr::UNSPECIFIED, port).into())?;
        let port = v4.local_addr()?.port();
        let v6 = shared_socket((Ipv6Addr::UNSPECIFIED, port).into()).ok();
        let responder = Self { v4, v6, port, only: only.to_vec() };
        responder.join()?;
        Ok(responder)
    }

    /// Answers until dropped those who have the `key`. While `probing` is set the answers say so.
    ///
    /// Without a `session` only nameless questions, asked of this host, are answered. `unanswered` is called, once for each
    /// address, for those who have the key and to whom no answer gets.
    #[allow(clippy::too_many_arguments)]
    pub async fn run(
        self,
        session: Option<SessionName>,
        id: SessionId,
        control_port: u16,
        probing: Arc<AtomicBool>,
        key: ServerKey,
        mut unanswered: impl FnMut(Unanswered) + Send,
    ) -> Infallible {
        let mut lost = Lost::default();
        let mut server = Server::new(session.as_ref(), id, control_port, probing, key);
        let (mut buf4, mut buf6) = (EMPTY, EMPTY);
        let mut rejoin = Instant::now() + REJOIN;
        loop {
            let (socket, datagram, from) = tokio::select! {
                got = self.v4.recv_from(&mut buf4) => match got {
                    Ok((len, from)) => (&self.v4, &buf4[..len], from),
                    Err(_) => { sleep(AFTER_ERROR).await; continue }
                },
                (v6, got) = receive(self.v6.as_ref(), &mut buf6) => match got {
                    Ok((len, from)) => (v6, &buf6[..len], from),
                    Err(_) => { sleep(AFTER_ERROR).await; continue }
                },
                () = sleep_until(rejoin) => {
                    // An interface that has vanished is no reason to stop answering on the others.
                    let _ = self.join();
                    rejoin = Instant::now() + REJOIN;
                    continue;
                }
            };
            let reaction = server.react(datagram, from);
            if let Some((words, to)) = reaction.answer {
                let result = self.answer(socket, &words, to);
                if let (Err(why), true) = (result, reaction.knows_the_key)
                    && lost.is_news(to.ip(), Instant::now())
                {
                    unanswered(Unanswered { asker: to.ip(), why });
                }
            }
            if let Some(question) = reaction.pass_on {
                let _ = send(&self.v4, &question, (THIS_HOST, self.port).into());
            }
        }
    }

    /// Sends an answer, if the connection that it leads to would be taken.
    ///
    /// # Errors
    /// It does not get there: the system's word; none if it goes to a router that has no use for it.
    fn answer(&self, socket: &UdpSocket, words: &[u8], to: SocketAddr) -> Result<(), Option<io::Error>> {
        if !self.only.is_empty() && !interfaces::takes(&self.only, leaves_by(to).map_err(Some)?) {
            return Ok(());
        }
        match send(socket, words, to) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(Some(e)),
            Ok(()) if own_making(to.ip()) && !own_making(leaves_by(to).map_err(Some)?.ip()) => Err(None),
            Ok(()) => Ok(()),
        }
    }

    /// An interface that cannot do multicast, or is joined already, is left as it is: broadcasts come anyway.
    fn join(&self) -> io::Result<()> {
        for interface in interfaces::usable(&self.only)?.iter().filter(|i| !i.loopback) {
            let _ = match (interface.addr, &self.v6) {
                (IpAddr::V4(v4), _) => self.v4.join_multicast_v4(GROUP, v4),
                (IpAddr::V6(_), Some(v6)) => v6.join_multicast_v6(&GROUP_V6, interface.index),
                (IpAddr::V6(_), None) => Ok(()),
            };
        }
        Ok(())
    }
}

/// Whether a host gave itself this address, because nobody else did.
fn own_making(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_link_local())
}

/// Those to whom no answer gets: since when, and whether the caller was told.
#[derive(Default)]
struct Lost(BTreeMap<IpAddr, (Instant, bool)>);

impl Lost {
    /// An answer to this address is lost once more; whether it is time to tell of it, which is once.
    fn is_news(&mut self, asker: IpAddr, now: Instant) -> bool {
        if self.0.len() == UNANSWERED_MAX && !self.0.contains_key(&asker) {
            return false;
        }
        let (since, told) = self.0.entry(asker).or_insert((now, false));
        now >= *since + UNANSWERED && !std::mem::replace(told, true)
    }
}

/// Our address on the way to another one, as a control connection from there would reach it.
fn leaves_by(to: SocketAddr) -> io::Result<SocketAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = StdUdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.local_addr()
}

/// The data with which a server answers.
struct Server {
    /// The secret of questions that name its session; `None` if it has no name.
    named: Option<Secret>,
    /// The secret of questions that name none.
    nameless: Secret,
    id: SessionId,
    control_port: u16,
    probing: Arc<AtomicBool>,
    key: ServerKey,
    answers: Fair,
    /// Apart, so that a host without the key uses up nothing that others need.
    to_strangers: Budget,
    passed: Budget,
}

/// The messages that a server sends because of a datagram.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reaction {
    answer: Option<(Vec<u8>, SocketAddr)>,
    /// Whether that is for somebody who has the session's key.
    knows_the_key: bool,
    /// A question for the other servers on this host.
    pass_on: Option<Vec<u8>>,
}

impl Server {
    fn new(
        session: Option<&SessionName>,
        id: SessionId,
        control_port: u16,
        probing: Arc<AtomicBool>,
        key: ServerKey,
    ) -> Self {
        let now = Instant::now();
        Self {
            named: session.map(|name| Secret::new(key.key(), Some(name))),
            nameless: Secret::new(key.key(), None),
            id,
            control_port,
            probing,
            key,
            answers: Fair::new(now),
            to_strangers: Budget::new(now),
            passed: Budget::new(now),
        }
    }

    fn react(&mut self, datagram: &[u8], from: SocketAddr) -> Reaction {
        match wire::decode_question(datagram) {
            Ok(question) => self.react_to(&question, from),
            // Not to a short one: an answer larger than its question would lend strength to a forger.
            Err(Malformed::Version(_)) if datagram.len() >= limits::DISCOVERY_BYTES => Reaction {
                answer: self
                    .to_strangers
                    .take(Instant::now())
                    .then(|| (wire::encode_version_answer(datagram), from)),
                ..Reaction::default()
            },
            Err(_) => Reaction::default(),
        }
    }

    fn react_to(&mut self, question: &Question, from: SocketAddr) -> Reaction {
        let to = match question.asker {
            None => from,
            // The kernel lets nobody else send from there, so this is one of this host's servers.
            Some(asker) if is_this_host(from) => asker.into(),
            Some(_) => return Reaction::default(),
        };
        let named = self.named.as_ref().filter(|secret| question.is_of(secret));
        let secret = named.or_else(|| Some(&self.nameless).filter(|secret| question.is_of(secret)));
        // A nameless question is everybody's, and has come to one only.
        let others_too = named.is_none();
        let answer = match secret {
            Some(secret) => {
                self.answers.take(Instant::now(), &question.public).then(|| self.answer(secret, question))
            }
            // Who has passed it on has told the asker.
            None if question.asker.is_some() => None,
            None => self.to_strangers.take(Instant::now()).then(|| self.unknown(question)),
        };
        let passed = if others_too { pass_on(question, from) } else { None };
        Reaction {
            answer: answer.map(|bytes| (bytes, to)),
            knows_the_key: secret.is_some(),
            pass_on: passed.filter(|_| self.passed.take(Instant::now())),
        }
    }

    fn answer(&self, secret: &Secret, question: &Question) -> Vec<u8> {
        let answer = Answer {
            public: question.public,
            server: *self.key.identity().public(),
            session: self.id,
            control_port: self.control_port,
            probing: self.probing.load(Ordering::Relaxed),
            tag: [0; 32],
        };
        wire::encode_answer(&answer.tagged(secret, &self.key.agree(&question.public)))
    }

    fn unknown(&self, question: &Question) -> Vec<u8> {
        let secure = self.key.key().is_secure();
        wire::encode_stranger(&Stranger { public: question.public, secure })
    }
}

fn is_this_host(from: SocketAddr) -> bool {
    matches!(from, SocketAddr::V4(v4) if v4.ip().is_loopback())
}

/// Once only: a question that says who asked first has been passed on already.
///
/// Whether a question came by broadcast, and so to all servers here at once, is not known; then they hear it
/// again, and the asker hears an answer twice.
fn pass_on(question: &Question, from: SocketAddr) -> Option<Vec<u8>> {
    match (question.asker, from) {
        (None, SocketAddr::V4(asker)) => {
            Some(wire::encode_question(&Question { asker: Some(asker), ..question.clone() }))
        }
        _ => None,
    }
}

async fn receive<'s>(
    socket: Option<&'s UdpSocket>,
    buf: &mut Buffer,
) -> (&'s UdpSocket, io::Result<(usize, SocketAddr)>) {
    match socket {
        Some(socket) => (socket, socket.recv_from(buf).await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::session_key::Key;
    use crate::net::discovery::fair::ANSWERS_PER_SECOND;
    use crate::net::noise::identity::Identity;
    use std::net::SocketAddrV4;
    use x25519_dalek::{PublicKey, StaticSecret};

    fn name(s: &str) -> SessionName {
        SessionName::new(s).unwrap()
    }

    fn key() -> ServerKey {
        let identity = Identity::generate().unwrap();
        let key = Key::new([7; 12], identity.public());
        ServerKey::with(identity, key).unwrap()
    }

    fn server(session: Option<&str>) -> Server {
        let session = session.map(name);
        Server::new(session.as_ref(), SessionId([1; 16]), 7, Arc::new(AtomicBool::new(true)), key())
    }

    fn v4(ip: [u8; 4], port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(ip.into(), port)
    }

    /// A question of somebody who has the key.
    fn question(s: &Server, session: Option<&str>, asker: Option<SocketAddrV4>) -> Question {
        let secret = Secret::new(s.key.key(), session.map(name).as_ref());
        Question { asker, ..Question::new(&secret, [5; 32]) }
    }

    /// The answer of a server and its receiver, and the asker that a question passed on names.
    fn reaction(s: &mut Server, q: &Question, from: SocketAddr) -> Outcome {
        let r = s.react(&wire::encode_question(q), from);
        let said = r.answer.map(|(bytes, to)| {
            let stranger = wire::decode_stranger(&bytes);
            match &stranger {
                Ok(stranger) => assert_eq!((stranger.public, stranger.secure), (q.public, true)),
                Err(_) => assert_eq!(wire::decode_answer(&bytes).unwrap().public, q.public),
            }
            (if stranger.is_ok() { "unknown" } else { "answer" }, to)
        });
        let passed = r.pass_on.map(|bytes| wire::decode_question(&bytes).unwrap());
        if let Some(p) = &passed {
            assert_eq!((p.public, p.tag), (q.public, q.tag));
        }
        (said, passed.map(|p| p.asker.unwrap()))
    }
    type Outcome = (Option<(&'static str, SocketAddr)>, Option<SocketAddrV4>);

    #[test]
    fn a_server_answers_for_its_own_and_passes_on_once_what_is_for_others() {
        let (far, near) = (v4([10, 0, 0, 9], 99), v4([127, 0, 0, 1], 4957));
        let mut servers = [server(Some("a")), server(None)];
        const A: usize = 0;
        const UNNAMED: usize = 1;
        let answer = Some(("answer", far.into()));
        let unknown = Some(("unknown", far.into()));
        for (which, asked, expected) in [
            (A, Some("a"), (answer, None)),
            (A, Some("b"), (unknown, Some(far))),
            (A, None, (answer, Some(far))),
            (UNNAMED, Some("a"), (unknown, Some(far))),
            (UNNAMED, None, (answer, Some(far))),
        ] {
            let q = question(&servers[which], asked, None);
            assert_eq!(reaction(&mut servers[which], &q, far.into()), expected, "{which} {asked:?}");
        }
        for (asked, expected) in [(Some("a"), answer), (Some("b"), None), (None, answer)] {
            let q = question(&servers[A], asked, Some(far));
            assert_eq!(reaction(&mut servers[A], &q, near.into()), (expected, None), "passed on: {asked:?}");
        }
    }

    #[test]
    fn who_has_another_key_is_told_only_that_it_is_unknown() {
        let far = v4([10, 0, 0, 9], 99);
        for session in [Some("a"), None] {
            let mut ours = server(session);
            let other = ServerKey::generate().unwrap();
            let others = Server::new(None, SessionId([2; 16]), 8, Arc::default(), other);
            let unknown = Some(("unknown", far.into()));
            assert_eq!(
                reaction(&mut ours, &question(&others, session, None), far.into()),
                (unknown, Some(far))
            );
            let passed_on = question(&others, session, Some(far));
            let near = v4([127, 0, 0, 1], 4957);
            assert_eq!(reaction(&mut ours, &passed_on, near.into()), (None, None));
        }
    }

    #[test]
    fn an_answer_has_the_tag_that_the_asker_expects() {
        let mut ours = server(Some("a"));
        let own = StaticSecret::from([3; 32]);
        for session in [Some("a"), None] {
            let secret = Secret::new(ours.key.key(), session.map(name).as_ref());
            let q = Question::new(&secret, PublicKey::from(&own).to_bytes());
            let from = v4([10, 0, 0, 9], 99).into();
            let (bytes, _) = ours.react(&wire::encode_question(&q), from).answer.unwrap();
            let answer = wire::decode_answer(&bytes).unwrap();
            let agreed = own.diffie_hellman(&PublicKey::from(answer.server)).to_bytes();
            assert!(answer.is_true(&secret, &agreed) && ours.key.key().pins(&answer.server));
        }
    }

    #[test]
    fn only_this_host_is_believed_about_who_asked() {
        let victim = v4([10, 0, 0, 1], 53);
        for from in ["10.0.0.9:4957", "[::1]:4957", "[fd00::1]:4957"] {
            let mut ours = server(Some("a"));
            let q = question(&ours, Some("a"), Some(victim));
            assert_eq!(reaction(&mut ours, &q, from.parse().unwrap()), (None, None), "{from}");
        }
    }

    #[test]
    fn an_asker_over_ipv6_is_answered_but_not_passed_on() {
        let from: SocketAddr = "[fd00::1]:99".parse().unwrap();
        let mut ours = server(Some("a"));
        for (session, said) in [("a", "answer"), ("b", "unknown")] {
            let q = question(&ours, Some(session), None);
            assert_eq!(reaction(&mut ours, &q, from), (Some((said, from)), None));
        }
    }

    #[test]
    fn another_version_is_told_ours_unless_that_would_amplify() {
        let from: SocketAddr = v4([10, 0, 0, 9], 99).into();
        let mut ours = server(None);
        let mut newer = wire::encode_question(&question(&ours, None, None));
        newer[4] = 9;
        let told = Some((wire::encode_version_answer(&newer), from));
        assert_eq!(ours.react(&newer, from).answer, told);
        newer.push(0);
        assert_eq!(ours.react(&newer, from).answer, told);
        newer.truncate(limits::DISCOVERY_BYTES - 1);
        assert_eq!(ours.react(&newer, from), Reaction::default());
        // Or two servers of different versions would answer each other for ever.
        assert_eq!(ours.react(&wire::encode_version_answer(&newer), from), Reaction::default());
    }

    #[test]
    fn nothing_that_a_server_says_makes_another_one_say_something() {
        let from: SocketAddr = v4([10, 0, 0, 9], 4957).into();
        let mut ours = server(Some("a"));
        for session in ["a", "b"] {
            let q = wire::encode_question(&question(&ours, Some(session), None));
            let (said, _) = ours.react(&q, from).answer.unwrap();
            assert_eq!(ours.react(&said, from), Reaction::default());
        }
    }

    #[test]
    fn strangers_use_up_no_answers_and_are_told_so_many_times_a_second() {
        let from: SocketAddr = v4([10, 0, 0, 9], 99).into();
        let mut ours = server(Some("a"));
        // However long this takes, it is all within a second.
        for budget in [&mut ours.answers.budget, &mut ours.to_strangers, &mut ours.passed] {
            budget.renewed += Duration::from_secs(1000);
        }
        let unknown = wire::encode_question(&question(&ours, Some("b"), None));
        let all: Vec<_> = (0..3 * ANSWERS_PER_SECOND).map(|_| ours.react(&unknown, from)).collect();
        assert_eq!(all.iter().filter(|r| r.answer.is_some()).count(), ANSWERS_PER_SECOND as usize);
        assert_eq!(all.iter().filter(|r| r.pass_on.is_some()).count(), ANSWERS_PER_SECOND as usize);
        // Nor does a question that is overheard and said again.
        let asked = |n: u8| {
            let secret = Secret::new(key().key(), Some(&name("a")));
            wire::encode_question(&Question::new(&secret, [n; 32]))
        };
        let mut answers =
            |q: &[u8], n: u32| (0..n).filter(|_| ours.react(q, from).answer.is_some()).count() as u32;
        assert_eq!(answers(&asked(5), 2 * ANSWERS_PER_SECOND), ANSWERS_PER_SECOND / 2);
        assert_eq!((10..=255).map(|n| answers(&asked(n), 2)).sum::<u32>(), 246 + ANSWERS_PER_SECOND / 8);
    }

    #[test]
    fn of_who_cannot_be_answered_is_told_once_if_it_goes_on_asking() {
        let (mut lost, now) = (Lost::default(), Instant::now());
        let addr = |n: u8| IpAddr::from([169, 254, 0, n]);
        assert!(!lost.is_news(addr(1), now), "another way may do");
        assert!(!lost.is_news(addr(1), now + UNANSWERED / 2));
        assert!(lost.is_news(addr(1), now + UNANSWERED));
        assert!(!lost.is_news(addr(1), now + 2 * UNANSWERED));
        for n in 2..=255 {
            lost.is_news(addr(n), now);
        }
        assert_eq!(
            (2..=255).filter(|n| lost.is_news(addr(*n), now + UNANSWERED)).count(),
            UNANSWERED_MAX - 1
        );
        let said = |asker, why| Unanswered { asker, why }.to_string();
        assert!(said(addr(7), None).contains("169.254.0.7") && said(addr(7), None).contains("DHCP"));
        let e = io::Error::from_raw_os_error(libc::ENETUNREACH);
        assert!(!said([10, 0, 0, 1].into(), Some(e)).contains("DHCP"));
    }
}
