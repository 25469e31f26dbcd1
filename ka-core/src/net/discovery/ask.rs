//! Who asks: one search for a session's server, on every link or at one host.
//!
//! Absent: who answers, and which of several servers a node may take.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::{AskError, Buffer, EMPTY, Found, GROUP, THIS_HOST, Target, host_socket, interface_socket, send};
use crate::limits;
use crate::net::interfaces::{self, Interface};
use crate::types::{SessionId, SessionName};
use crate::wire::Malformed;
use crate::wire::discovery::{self as wire, Question};

/// How long an asker listens for a second server of the same name. It delays every start.
const SETTLE: Duration = Duration::from_millis(5);

/// The pause after the first question; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long to go on asking a host where a server of another version has answered: it may have one of ours, too.
const OTHER_VERSION_GRACE: Duration = Duration::from_secs(1);

/// Sockets on which late answers from one host are awaited.
const HOST_SOCKETS: usize = 4;

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
/// with the smaller session id. The caller's own [`Responder`](super::Responder) should be running: it is how two that start at
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_rarer_up_to_one_a_second() {
        let ms = |round, noise| pause(round, noise).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 5, 40].map(|r| ms(r, 0)), [40, 80, 160, 320, 640, 800, 800]);
        assert_eq!([0, 1, 2, 3, 4, 5, 40].map(|r| ms(r, u32::MAX)), [60, 120, 240, 480, 960, 1200, 1200]);
    }

    #[test]
    fn of_two_servers_the_settled_one_goes_first_or_the_smaller_one() {
        let control = ([10, 0, 0, 1], 1).into();
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
