//! Finding a session's server by name, over UDP: who asks, and who answers.
//!
//! ```text
//!  ask ── limited and directed broadcast, multicast, from every wired interface ──▶ Responder
//!      ◀── unicast: session id, control port ───────────────────────────────────────┘
//!  ask ── unicast to a host ──▶ one Responder of several ── 127.255.255.255 ──▶ all others there
//!      ◀── unicast ──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Absent: authentication (who can answer on the LAN can claim a name; the session's key is the control
//! connection's matter), names of hosts, and broadcast over IPv6. A question to an IPv6 host reaches one of the
//! servers there, another one at the next attempt; it is not passed on, because a question has room for an IPv4
//! asker only.
//!
//! ## What Linux does
//! Found by experiment on 6.18, in network namespaces with and without routes:
//! - Of several sockets bound to `0.0.0.0:port` with SO_REUSEPORT a unicast reaches one, chosen by a hash of
//!   both ends; broadcasts of every kind and multicast reach all. Hence the passing on.
//! - What is sent to 127.255.255.255 from the wildcard socket comes from 127.0.0.1, and reaches the sender, too.
//!   While `lo` is down it reaches nobody.
//! - Without a default route, 255.255.255.255 and multicast are unreachable from an unbound socket, and
//!   IP_MULTICAST_IF helps the latter only. From a socket bound to an interface's address all leave by that
//!   interface.
//! - A broadcast is heard by the host that sends it as well, so that a server on the asker's own host is found
//!   from any interface. Its answer needs `lo` to be up, whatever address it goes to.
//! - An answer from the wildcard socket takes the route to the asker, and the address of the interface it leaves
//!   by. No default route is needed: whoever is heard on a link is on that link. A server with two links into
//!   the same subnet answers by the first of them, and so would its TCP.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::interfaces::{self, Interface};
use crate::limits;
use crate::types::{SessionId, SessionName};
use crate::wire::Malformed;
use crate::wire::discovery::{self as wire, Answer, Question};

/// The multicast group in which servers hear questions, for switches and hosts that do not pass broadcasts.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 75, 65);

/// Every server of this host hears what is sent here.
const THIS_HOST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// How long an asker listens for a second server of the same name. It delays every start.
const SETTLE: Duration = Duration::from_millis(5);

/// The pause after the first question; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long to go on asking a host where a server of another version has answered: it may have one of ours, too.
const OTHER_VERSION_GRACE: Duration = Duration::from_secs(1);

/// Sockets on which late answers from one host are awaited.
const HOST_SOCKETS: usize = 4;

/// Answers, and questions passed on, at most per second: three hundred nodes that start at once ask three times
/// each, and a flood costs no more than this.
const ANSWERS_PER_SECOND: u32 = 1000;

/// How often the group is joined on interfaces that came up since.
const REJOIN: Duration = Duration::from_secs(5);

/// The pause after an error on receiving, lest one that stays makes the loop spin.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// One byte more than a datagram has, so that one too long is seen to be.
type Buffer = [u8; limits::DISCOVERY_BYTES + 1];
const EMPTY: Buffer = [0; limits::DISCOVERY_BYTES + 1];

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
    /// Listens on `port`, and in [`GROUP`] on the interfaces in `only` or, if that is empty, on all usable ones.
    /// Broadcasts are heard on every interface. Call it within a tokio runtime.
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

    /// Answers until dropped. While `probing` is set the answers say so.
    ///
    /// Without a `session` only nameless questions, asked of this host, are answered.
    pub async fn run(
        self,
        session: Option<SessionName>,
        id: SessionId,
        control_port: u16,
        probing: Arc<AtomicBool>,
    ) -> Infallible {
        let server = Server { session, id, control_port, probing };
        let (mut answers, mut passed) = (Budget::new(), Budget::new());
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
            if let Some((answer, to)) = reaction.answer
                && answers.take()
            {
                send(socket, &answer, to);
            }
            if let Some(question) = reaction.pass_on
                && passed.take()
            {
                send(&self.v4, &question, (THIS_HOST, self.port).into());
            }
        }
    }

    /// An interface that cannot do multicast, or is joined already, is left as it is: broadcasts come anyway.
    fn join(&self) -> io::Result<()> {
        for interface in interfaces::usable(&self.only)?.iter().filter(|i| !i.loopback) {
            let _ = self.v4.join_multicast_v4(GROUP, interface.addr);
        }
        Ok(())
    }
}

/// Where [`ask`] asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every neighbour on every usable interface, and this host.
    Anyone,
    /// One host.
    Host(IpAddr),
}

/// A server that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its control connection is.
    pub control: SocketAddr,
    /// Which session it serves.
    pub session: SessionId,
    /// Whether it is itself still asking if another server was there first.
    pub probing: bool,
}

/// Why no server was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum AskError {
    /// None has answered.
    NotFound {
        /// For how long it was asked for.
        waited: Duration,
        /// The names of the interfaces asked from. None if one host was asked.
        interfaces: Vec<String>,
    },
    /// None has answered but those of another version of the protocol, this one.
    OtherVersion(u16),
    /// All the time there was no interface to ask from.
    NoInterface,
    /// The system's error, or an interface to ask from that does not exist.
    Io(io::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { waited, interfaces } => {
                write!(f, "no server has answered in {:.1} s", waited.as_secs_f64())?;
                if interfaces.is_empty() {
                    return Ok(());
                }
                write!(f, " (asked from {})", interfaces.join(", "))
            }
            Self::OtherVersion(v) => Malformed::Version(*v).fmt(f),
            Self::NoInterface => f.write_str(
                "there is no wired network interface that is up, has a carrier and an IPv4 address",
            ),
            Self::Io(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for AskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(e),
            _ => None,
        }
    }
}

impl From<io::Error> for AskError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Asks who serves `session`, again and again until somebody answers or `give_up` is over. Returns all sessions
/// that were heard of: two of them are two servers of one name.
///
/// `only` names the interfaces to ask [`Target::Anyone`] from; none means all usable ones. They are listed anew
/// for each question, because a link may come up late. Only a [`Target::Host`] can be asked without a name, for
/// whatever it serves. A server heard at several addresses is listed by the first, or by loopback's.
///
/// # Errors
/// [`AskError`]. A server of another version ends the wait early only when it is the host that was asked: among
/// all neighbours it may serve something else.
pub async fn ask(
    session: Option<&SessionName>,
    target: Target,
    only: &[String],
    port: u16,
    give_up: Duration,
) -> Result<Vec<Found>, AskError> {
    let begun = Instant::now();
    let mut search = Search::begin(session, target, only, port)?;
    let Some(first) = search.next(after(begun, give_up)).await else {
        return Err(search.nothing(begun.elapsed()));
    };
    let mut all = vec![first];
    search.next_round = None;
    let settled = after(Instant::now(), SETTLE);
    while let Some(found) = search.next(settled).await {
        merge(&mut all, found);
    }
    Ok(all)
}

/// The probe of a server that starts: is there another one of this name before which it has to yield?
///
/// Takes [`limits::PROBE`] unless there is. One that is no longer probing goes first; of two that are, the one
/// with the smaller session id. The caller's own [`Responder`] should be running: it is how two that start at
/// once hear of each other.
pub async fn rival(session: &SessionName, own: SessionId, only: &[String], port: u16) -> Option<Found> {
    let mut search = Search::begin(Some(session), Target::Anyone, only, port).ok()?;
    let until = after(Instant::now(), limits::PROBE);
    while let Some(found) = search.next(until).await {
        if goes_first(&found, own) {
            return Some(found);
        }
    }
    None
}

fn goes_first(rival: &Found, own: SessionId) -> bool {
    rival.session != own && (!rival.probing || rival.session < own)
}

/// Whoever is on this very host is best reached without leaving it.
fn merge(all: &mut Vec<Found>, found: Found) {
    match all.iter_mut().find(|f| f.session == found.session) {
        Some(known) if found.control.ip().is_loopback() => known.control = found.control,
        Some(_) => {}
        None => all.push(found),
    }
}

/// What a server answers with.
struct Server {
    session: Option<SessionName>,
    id: SessionId,
    control_port: u16,
    probing: Arc<AtomicBool>,
}

/// What a datagram makes a server send.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reaction {
    answer: Option<(Vec<u8>, SocketAddr)>,
    /// A question for the other servers on this host.
    pass_on: Option<Vec<u8>>,
}

impl Server {
    fn react(&self, datagram: &[u8], from: SocketAddr) -> Reaction {
        match wire::decode_question(datagram) {
            Ok(question) => self.react_to(question, from),
            // Not to a short one: an answer larger than its question would lend strength to a forger.
            Err(Malformed::Version(_)) if datagram.len() >= limits::DISCOVERY_BYTES => {
                Reaction { answer: Some((wire::encode_version_answer(), from)), pass_on: None }
            }
            Err(_) => Reaction::default(),
        }
    }

    fn react_to(&self, question: Question, from: SocketAddr) -> Reaction {
        let to = match question.asker {
            None => from,
            // The kernel lets nobody else send from there, so this is one of this host's servers.
            Some(asker) if is_this_host(from) => asker.into(),
            Some(_) => return Reaction::default(),
        };
        let ours = question.session.is_none() || question.session == self.session;
        // A nameless question is everybody's, and has come to one only.
        let others_too = question.session.is_none() || !ours;
        Reaction {
            answer: ours.then(|| (wire::encode_answer(&self.answer(question.nonce)), to)),
            pass_on: if others_too { pass_on(question, from) } else { None },
        }
    }

    fn answer(&self, nonce: u64) -> Answer {
        Answer {
            nonce,
            session: self.id,
            control_port: self.control_port,
            probing: self.probing.load(Ordering::Relaxed),
        }
    }
}

fn is_this_host(from: SocketAddr) -> bool {
    matches!(from, SocketAddr::V4(v4) if v4.ip().is_loopback())
}

/// Once only: a question that says who asked first has been passed on already.
///
/// Whether a question came by broadcast, and so to all servers here at once, is not known; then they hear it
/// again, and the asker hears an answer twice.
fn pass_on(question: Question, from: SocketAddr) -> Option<Vec<u8>> {
    match (question.asker, from) {
        (None, SocketAddr::V4(asker)) => {
            Some(wire::encode_question(&Question { asker: Some(asker), ..question }))
        }
        _ => None,
    }
}

/// So many a second, and the rest are dropped: an asker asks again.
struct Budget {
    left: u32,
    renewed: Instant,
}

impl Budget {
    fn new() -> Self {
        Self { left: ANSWERS_PER_SECOND, renewed: Instant::now() }
    }

    fn take(&mut self) -> bool {
        if self.renewed.elapsed() >= Duration::from_secs(1) {
            *self = Self::new();
        }
        let some_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some_left
    }
}

/// One asker's questions and where it listens for answers.
struct Search<'a> {
    target: Target,
    only: &'a [String],
    port: u16,
    nonce: u64,
    question: Vec<u8>,
    ears: Vec<Ear>,
    round: u32,
    /// `None` once nothing more is to be asked.
    next_round: Option<Instant>,
    asked_from: BTreeSet<String>,
    other_version: Option<(u16, Instant)>,
}

struct Ear {
    /// The one whose address the socket is bound to, if it is.
    interface: Option<Interface>,
    socket: UdpSocket,
}

impl<'a> Search<'a> {
    /// Asks for the first time.
    fn begin(
        session: Option<&SessionName>,
        target: Target,
        only: &'a [String],
        port: u16,
    ) -> Result<Self, AskError> {
        if session.is_none() && target == Target::Anyone {
            let words = "a session without a name is found at a given host only";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words).into());
        }
        let nonce = getrandom::u64().map_err(|e| io::Error::other(e.to_string()))?;
        let question = wire::encode_question(&Question { nonce, session: session.cloned(), asker: None });
        let mut search = Self {
            target,
            only,
            port,
            nonce,
            question,
            ears: Vec::new(),
            round: 0,
            next_round: None,
            asked_from: BTreeSet::new(),
            other_version: None,
        };
        search.ask_again()?;
        Ok(search)
    }

    /// The next answer that comes before `until`, asking again when it is time to.
    async fn next(&mut self, until: Instant) -> Option<Found> {
        loop {
            let end = self.end(until);
            let pause = self.next_round.map_or(end, |next| next.min(end));
            match timeout_at(pause, self.hear()).await {
                Ok(found) => return Some(found),
                // An answer of another version may just have moved the end.
                Err(_) if Instant::now() >= self.end(until) => return None,
                // The interfaces that are there already can still be heard.
                Err(_) => drop(self.ask_again()),
            }
        }
    }

    fn end(&self, until: Instant) -> Instant {
        match (self.target, self.other_version) {
            (Target::Host(_), Some((_, heard))) => until.min(heard + OTHER_VERSION_GRACE),
            _ => until,
        }
    }

    fn ask_again(&mut self) -> io::Result<()> {
        let noise = getrandom::u32().unwrap_or(u32::MAX / 2);
        self.next_round = Some(Instant::now() + pause(self.round, noise));
        self.round = self.round.saturating_add(1);
        match self.target {
            Target::Anyone => self.ask_anyone(),
            Target::Host(host) => self.ask_host(host),
        }
    }

    fn ask_anyone(&mut self) -> io::Result<()> {
        let usable = interfaces::usable(self.only)?;
        self.ears.retain(|ear| ear.interface.as_ref().is_some_and(|i| usable.contains(i)));
        for interface in usable {
            if self.ears.iter().any(|ear| ear.interface.as_ref() == Some(&interface)) {
                continue;
            }
            // The address may be gone since it was listed, or not be ready yet: next time, then.
            if let Ok(socket) = interface_socket(interface.addr) {
                self.ears.push(Ear { interface: Some(interface), socket });
            }
        }
        for ear in &self.ears {
            let Some(interface) = &ear.interface else { continue };
            for to in all_neighbours(interface) {
                if send(&ear.socket, &self.question, (to, self.port).into()) {
                    self.asked_from.insert(interface.name.clone());
                }
            }
        }
        Ok(())
    }

    /// Each time from another socket: of several servers on the host, another one may get the question.
    fn ask_host(&mut self, host: IpAddr) -> io::Result<()> {
        let socket = host_socket(host)?;
        send(&socket, &self.question, (host, self.port).into());
        if self.ears.len() == HOST_SOCKETS {
            self.ears.remove(0);
        }
        self.ears.push(Ear { interface: None, socket });
        Ok(())
    }

    async fn hear(&mut self) -> Found {
        let mut buf = EMPTY;
        loop {
            let (ear, got) = poll_fn(|cx| poll_ears(&self.ears, &mut buf, cx)).await;
            match got {
                Ok((len, from)) => {
                    if let Some(found) = self.understand(&buf[..len], from) {
                        return found;
                    }
                }
                // The next question is asked from a new one.
                Err(_) => drop(self.ears.remove(ear)),
            }
        }
    }

    fn understand(&mut self, datagram: &[u8], from: SocketAddr) -> Option<Found> {
        if datagram.len() != limits::DISCOVERY_BYTES {
            return None;
        }
        match wire::decode_answer(datagram) {
            Ok(answer) if answer.nonce == self.nonce => {
                let mut control = from;
                control.set_port(answer.control_port);
                Some(Found { control, session: answer.session, probing: answer.probing })
            }
            Err(Malformed::Version(v)) => {
                self.other_version.get_or_insert((v, Instant::now()));
                None
            }
            _ => None,
        }
    }

    fn nothing(self, waited: Duration) -> AskError {
        match (self.other_version, self.target) {
            (Some((v, _)), _) => AskError::OtherVersion(v),
            (None, Target::Anyone) if self.asked_from.is_empty() => AskError::NoInterface,
            _ => AskError::NotFound { waited, interfaces: self.asked_from.into_iter().collect() },
        }
    }
}

/// The pause after the question number `round`, a fifth longer or shorter by `noise`, so that a hundred nodes
/// switched on together do not stay together.
fn pause(round: u32, noise: u32) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1u32.checked_shl(round).unwrap_or(u32::MAX));
    doubled.min(PAUSE_MAX).mul_f64(0.8 + 0.4 * f64::from(noise) / f64::from(u32::MAX))
}

/// A day is forever, and forever would overflow.
fn after(begun: Instant, wait: Duration) -> Instant {
    begun.checked_add(wait).unwrap_or_else(|| begun + Duration::from_secs(86_400))
}

/// All ways to every neighbour: where one is filtered or has no route, another may do.
fn all_neighbours(interface: &Interface) -> Vec<Ipv4Addr> {
    if interface.loopback {
        return vec![THIS_HOST];
    }
    let directed = interface.broadcast.filter(|b| *b != Ipv4Addr::BROADCAST);
    [Some(Ipv4Addr::BROADCAST), directed, Some(GROUP)].into_iter().flatten().collect()
}

fn poll_ears(
    ears: &[Ear],
    buf: &mut Buffer,
    cx: &mut Context<'_>,
) -> Poll<(usize, io::Result<(usize, SocketAddr)>)> {
    for (i, ear) in ears.iter().enumerate() {
        let mut read = ReadBuf::new(buf);
        if let Poll::Ready(got) = ear.socket.poll_recv_from(cx, &mut read) {
            return Poll::Ready((i, got.map(|from| (read.filled().len(), from))));
        }
    }
    Poll::Pending
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

/// Sends now or not at all, and says which: waiting for room would hold up everybody else, and whoever misses a
/// datagram asks again.
fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> bool {
    // Tokio's own `try_send_to` fails on a new socket until the reactor has seen it.
    SockRef::from(socket).send_to(datagram, &to.into()).is_ok()
}

fn shared_socket(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(at.ip())?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    bound(socket, at)
}

fn interface_socket(addr: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = udp(addr.into())?;
    socket.set_multicast_if_v4(&addr)?;
    bound(socket, (addr, 0).into())
}

fn host_socket(host: IpAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if host.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    bound(udp(host)?, (any, 0).into())
}

fn udp(family: IpAddr) -> io::Result<Socket> {
    let domain = if family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if family.is_ipv4() {
        socket.set_broadcast(true)?;
    }
    Ok(socket)
}

fn bound(socket: Socket, at: SocketAddr) -> io::Result<UdpSocket> {
    socket.bind(&at.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV4;

    fn name(s: &str) -> SessionName {
        SessionName::new(s).unwrap()
    }

    fn server(session: Option<&str>) -> Server {
        Server {
            session: session.map(name),
            id: SessionId([1; 16]),
            control_port: 7,
            probing: Arc::new(AtomicBool::new(true)),
        }
    }

    fn v4(ip: [u8; 4], port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(ip.into(), port)
    }

    /// Whom the answer goes to, and whom a question passed on says it is from.
    fn reaction(s: &Server, session: Option<&str>, asker: Option<SocketAddrV4>, from: SocketAddr) -> Outcome {
        let q = Question { nonce: 5, session: session.map(name), asker };
        let r = s.react(&wire::encode_question(&q), from);
        let passed = r.pass_on.map(|bytes| wire::decode_question(&bytes).unwrap());
        if let Some(p) = &passed {
            assert_eq!((p.nonce, &p.session), (q.nonce, &q.session));
        }
        (r.answer.map(|(_, to)| to), passed.map(|p| p.asker.unwrap()))
    }
    type Outcome = (Option<SocketAddr>, Option<SocketAddrV4>);

    #[test]
    fn a_server_answers_for_its_own_and_passes_on_once_what_is_for_others() {
        let (far, near) = (v4([10, 0, 0, 9], 99), v4([127, 0, 0, 1], 4957));
        let (ours, unnamed) = (server(Some("a")), server(None));
        let to_far = (Some(far.into()), None);

        assert_eq!(reaction(&ours, Some("a"), None, far.into()), to_far);
        assert_eq!(reaction(&ours, Some("b"), None, far.into()), (None, Some(far)));
        assert_eq!(reaction(&ours, None, None, far.into()), (Some(far.into()), Some(far)));
        assert_eq!(reaction(&unnamed, Some("a"), None, far.into()), (None, Some(far)));
        assert_eq!(reaction(&unnamed, None, None, far.into()), (Some(far.into()), Some(far)));

        assert_eq!(reaction(&ours, Some("a"), Some(far), near.into()), to_far);
        assert_eq!(reaction(&ours, Some("b"), Some(far), near.into()), (None, None));
        assert_eq!(reaction(&ours, None, Some(far), near.into()), to_far);
    }

    #[test]
    fn only_this_host_is_believed_about_who_asked() {
        let victim = v4([10, 0, 0, 1], 53);
        for from in ["10.0.0.9:4957", "[::1]:4957", "[fd00::1]:4957"] {
            let out = reaction(&server(Some("a")), Some("a"), Some(victim), from.parse().unwrap());
            assert_eq!(out, (None, None), "{from}");
        }
    }

    #[test]
    fn an_asker_over_ipv6_is_answered_but_not_passed_on() {
        let from: SocketAddr = "[fd00::1]:99".parse().unwrap();
        assert_eq!(reaction(&server(Some("a")), Some("a"), None, from), (Some(from), None));
        assert_eq!(reaction(&server(Some("a")), Some("b"), None, from), (None, None));
    }

    #[test]
    fn another_version_is_told_ours_unless_that_would_amplify() {
        let from: SocketAddr = v4([10, 0, 0, 9], 99).into();
        let mut newer = wire::encode_question(&Question { nonce: 1, session: None, asker: None });
        newer[4] = 9;
        let told = Some((wire::encode_version_answer(), from));
        assert_eq!(server(None).react(&newer, from).answer, told);
        newer.push(0);
        assert_eq!(server(None).react(&newer, from).answer, told);
        newer.truncate(limits::DISCOVERY_BYTES - 1);
        assert_eq!(server(None).react(&newer, from), Reaction::default());
        // Or two servers of different versions would answer each other for ever.
        assert_eq!(server(None).react(&wire::encode_version_answer(), from), Reaction::default());
    }

    #[tokio::test]
    async fn a_second_has_so_many_answers() {
        let mut budget = Budget::new();
        let given = (0..3 * ANSWERS_PER_SECOND).filter(|_| budget.take()).count();
        assert_eq!(given, ANSWERS_PER_SECOND as usize);
        budget.renewed -= Duration::from_secs(1);
        assert!(budget.take());
    }

    #[test]
    fn questions_become_rarer_up_to_one_a_second() {
        let ms = |round, noise| pause(round, noise).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 5, 40].map(|r| ms(r, 0)), [40, 80, 160, 320, 640, 800, 800]);
        assert_eq!([0, 1, 2, 3, 4, 5, 40].map(|r| ms(r, u32::MAX)), [60, 120, 240, 480, 960, 1200, 1200]);
    }

    #[test]
    fn of_two_servers_the_settled_one_goes_first_or_the_smaller_one() {
        let control = v4([10, 0, 0, 1], 1).into();
        let own = SessionId([5; 16]);
        let first = |n, probing| goes_first(&Found { control, session: SessionId([n; 16]), probing }, own);
        assert!(first(9, false));
        assert!(first(1, false));
        assert!(first(1, true));
        assert!(!first(9, true));
        assert!(!first(5, false));
        assert!(!first(5, true));
    }

    #[test]
    fn a_server_heard_twice_is_listed_once_and_by_loopback_if_it_is_here() {
        let at = |control: &str, n| Found {
            control: control.parse().unwrap(),
            session: SessionId([n; 16]),
            probing: false,
        };
        let mut all = vec![at("10.0.0.1:7", 1)];
        merge(&mut all, at("10.0.1.1:7", 1));
        assert_eq!(all, [at("10.0.0.1:7", 1)]);
        merge(&mut all, at("127.0.0.1:7", 1));
        merge(&mut all, at("10.0.2.1:7", 1));
        merge(&mut all, at("10.0.3.1:7", 2));
        assert_eq!(all, [at("127.0.0.1:7", 1), at("10.0.3.1:7", 2)]);
    }

    #[test]
    fn waiting_for_ever_is_no_overflow() {
        assert!(after(Instant::now(), Duration::MAX) > Instant::now());
    }
}
