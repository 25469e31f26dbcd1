//! One search for a session's server: questions, on every link or at one host, and what is heard.
//!
//! An answer counts only if a server made it that the asker's key lets it believe. Everything else is ignored as if it
//! had not come, but for two things that people are told: that a server is of another version, and that it is not the
//! one asked for. Whoever is on the LAN can say those. Only a host that was asked, and that repeats the question's public
//! key, ends the search by them: nobody else has seen the question.
//!
//! Of a server that does not know a question's key, or its name, the asker finds out which: it asks that one whether it
//! knows the key without the name.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::found::{AskError, Found, Other, Target, UnknownKey};
use super::socket::{Buffer, EMPTY, GROUP, GROUP_V6, THIS_HOST, host_socket, interface_socket, send};
use crate::crypto::session_key::Key;
use crate::limits;
use crate::net::host::interfaces::{self, Interface};
use crate::net::host::refused::exhausted;
use crate::types::SessionName;
use crate::wire::Malformed;
use crate::wire::discovery::{self as wire, Answer, Question, Secret};

/// The pause after the first question; each further one is twice as long, up to the longest, which is usually
/// [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The time for which a host is asked on after a server there has answered that is of another version, or not the one
/// asked for: the host may have ours, too.
const OTHER_GRACE: Duration = Duration::from_secs(1);

/// Of how many other servers the caller is told. Their addresses may be forged.
const OTHERS_MAX: usize = 16;

/// Times that each address of a host is asked before the first of the sockets used for it is given up.
const HOST_SOCKETS: usize = 8;

/// One asker's questions and where it listens for answers.
pub(super) struct Search<'a> {
    target: Target,
    only: &'a [String],
    key: &'a Key,
    secret: Secret,
    /// Of whichever session a server has; `None` if that is what is asked for.
    nameless: Option<Secret>,
    own: StaticSecret,
    public: [u8; 32],
    question: Vec<u8>,
    ears: Vec<Ear>,
    round: u32,
    longest_pause: Duration,
    /// `None` once nothing more is to be asked.
    next_round: Option<Instant>,
    asked_from: Vec<Interface>,
    other_version: Option<u16>,
    /// Servers that are not the one asked for, and the round in which each was asked whether it knows the key.
    others: Vec<(Other, u32)>,
    /// When a host that is asked, or anybody if all are, was first heard to be of either kind.
    other_since: Option<Instant>,
}

struct Ear {
    /// The one whose address the socket is bound to, if it is.
    interface: Option<Interface>,
    socket: UdpSocket,
}

impl<'a> Search<'a> {
    /// Asks for the first time.
    pub(super) fn begin(
        session: Option<&SessionName>,
        target: Target,
        only: &'a [String],
        key: &'a Key,
        longest_pause: Duration,
    ) -> Result<Self, AskError> {
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).map_err(io::Error::from)?;
        let own = StaticSecret::from(*random);
        let public = PublicKey::from(&own).to_bytes();
        let secret = Secret::new(key, session);
        let question = wire::encode_question(&Question::new(&secret, public));
        let mut search = Self {
            target,
            only,
            key,
            secret,
            nameless: session.map(|_| Secret::new(key, None)),
            own,
            public,
            question,
            ears: Vec::new(),
            round: 0,
            longest_pause,
            next_round: None,
            asked_from: Vec::new(),
            other_version: None,
            others: Vec::new(),
            other_since: None,
        };
        search.ask_again()?;
        Ok(search)
    }

    /// Asks no more; what is still to come can be heard.
    pub(super) fn stop(&mut self) {
        self.next_round = None;
    }

    /// Servers that were heard of, and are not the one asked for. One that was heard over both families is two, and nothing
    /// shows that; so those of IPv6 are left out if there are any of IPv4.
    pub(super) fn others(&self) -> impl Iterator<Item = Other> {
        let v4 = self.others.iter().any(|(who, _)| who.addr().is_ipv4());
        self.others.iter().map(|(who, _)| *who).filter(move |who| who.addr().is_ipv4() == v4)
    }

    /// The next answer that comes before `until`, asking again when it is time to.
    pub(super) async fn next(&mut self, until: Instant) -> Option<Found> {
        loop {
            let end = self.end(until);
            let pause = self.next_round.map_or(end, |next| next.min(end));
            match timeout_at(pause, self.hear()).await {
                Ok(found) => return Some(found),
                // Another server's words may just have moved the end.
                Err(_) if Instant::now() >= self.end(until) => return None,
                // The interfaces that are there already can still be heard.
                Err(_) => drop(self.ask_again()),
            }
        }
    }

    pub(super) fn end(&self, until: Instant) -> Instant {
        match (&self.target, self.other_since) {
            (Target::Host(_), Some(heard)) => until.min(heard + OTHER_GRACE),
            _ => until,
        }
    }

    fn asks_a_host(&self) -> bool {
        matches!(self.target, Target::Host(_))
    }

    /// Whether words from there may be of somebody who was asked.
    fn was_asked(&self, from: SocketAddr) -> bool {
        let same = |addr: &SocketAddr| addr.ip().to_canonical() == from.ip().to_canonical();
        match &self.target {
            Target::Anyone(_) => true,
            Target::Host(addrs) => addrs.iter().any(same),
        }
    }

    /// Whether another server of the host has answered. Each question goes to one of the host's servers by chance, and
    /// little time is left, so many are asked.
    fn hurries(&self) -> bool {
        self.asks_a_host() && self.other_since.is_some()
    }

    /// A server has answered that is not the one asked for.
    fn heard_another(&mut self) {
        let now = Instant::now();
        self.other_since.get_or_insert(now);
        if self.hurries() {
            self.next_round = self.next_round.map(|next| next.min(now + PAUSE_MIN));
        }
    }

    fn ask_again(&mut self) -> io::Result<()> {
        let noise = getrandom::u32().unwrap_or(u32::MAX / 2);
        let longest = if self.hurries() { PAUSE_MIN } else { self.longest_pause };
        self.next_round = Some(Instant::now() + pause(self.round, noise, longest));
        self.round = self.round.saturating_add(1);
        match &self.target {
            Target::Anyone(port) => self.ask_anyone(*port),
            Target::Host(addrs) => self.ask_host(addrs.clone()),
        }
    }

    fn ask_anyone(&mut self, port: u16) -> io::Result<()> {
        let asking = asking(interfaces::usable(self.only)?);
        self.ears.retain(|ear| ear.interface.as_ref().is_some_and(|i| asking.contains(i)));
        for interface in asking {
            if self.ears.iter().any(|ear| ear.interface.as_ref() == Some(&interface)) {
                continue;
            }
            match interface_socket(interface.at(0)) {
                Ok(socket) => self.ears.push(Ear { interface: Some(interface), socket }),
                Err(e) if exhausted(&e) => return Err(e),
                // The address may be gone since it was listed, or not be ready yet: next time, then.
                Err(_) => {}
            }
        }
        for ear in &self.ears {
            let Some(interface) = &ear.interface else { continue };
            for to in all_neighbours(interface, port) {
                let sent = send(&ear.socket, &self.question, to).is_ok();
                if sent && !self.asked_from.contains(interface) {
                    self.asked_from.push(interface.clone());
                }
            }
        }
        Ok(())
    }

    /// Each time from other sockets: of several servers on the host, another one may get the question.
    fn ask_host(&mut self, addrs: Vec<SocketAddr>) -> io::Result<()> {
        for addr in &addrs {
            match host_socket(addr.ip()) {
                Ok(socket) => {
                    let _ = send(&socket, &self.question, *addr);
                    self.ears.push(Ear { interface: None, socket });
                }
                Err(e) if exhausted(&e) => return Err(e),
                // A kernel without IPv6.
                Err(_) => {}
            }
        }
        let surplus = self.ears.len().saturating_sub(HOST_SOCKETS * addrs.len());
        self.ears.drain(..surplus);
        Ok(())
    }

    async fn hear(&mut self) -> Found {
        let mut buf = EMPTY;
        loop {
            let (ear, got) = poll_fn(|cx| poll_ears(&self.ears, &mut buf, cx)).await;
            match got {
                Ok((len, from)) => {
                    if let Some(found) = self.understand(ear, &buf[..len], from) {
                        return found;
                    }
                }
                // The next question is asked from a new one.
                Err(_) => drop(self.ears.remove(ear)),
            }
        }
    }

    fn understand(&mut self, ear: usize, datagram: &[u8], from: SocketAddr) -> Option<Found> {
        if datagram.len() != limits::DISCOVERY_BYTES {
            return None;
        }
        match wire::decode_answer(datagram) {
            Ok(answer) => {
                let agreed = self.agreed(&answer)?;
                if answer.is_true(&self.secret, &agreed) {
                    let control = interfaces::with_port(from, answer.control_port);
                    return Some(Found { control, session: answer.session, probing: answer.probing });
                }
                if self.nameless.as_ref().is_some_and(|secret| answer.is_true(secret, &agreed)) {
                    let heard = self.others.iter_mut().find(|(who, _)| who.addr() == from.ip());
                    heard.into_iter().for_each(|(who, _)| *who = Other::Name(from.ip()));
                }
            }
            Err(Malformed::Version(v))
                if self.was_asked(from)
                    && (!self.asks_a_host() || wire::is_version_answer_to(datagram, &self.public)) =>
            {
                self.other_version.get_or_insert(v);
                self.heard_another();
            }
            Err(Malformed::Magic) => self.hear_stranger(ear, datagram, from),
            _ => {}
        }
        None
    }

    /// The secret that this search and a server that the key speaks for agree upon, if that one has answered.
    fn agreed(&self, answer: &Answer) -> Option<[u8; 32]> {
        if answer.public != self.public || !self.key.pins(&answer.server) {
            return None;
        }
        let agreed = self.own.diffie_hellman(&PublicKey::from(answer.server));
        agreed.was_contributory().then(|| agreed.to_bytes())
    }

    fn hear_stranger(&mut self, ear: usize, datagram: &[u8], from: SocketAddr) {
        let Ok(stranger) = wire::decode_stranger(datagram) else { return };
        let who = UnknownKey { addr: from.ip(), secure: stranger.secure, given: self.key.is_secure() };
        // Where nobody has a key, it is a session of another name.
        if stranger.public != self.public || !(who.secure || who.given) || !self.was_asked(from) {
            return;
        }
        self.heard_another();
        let known = self.others.iter().position(|(other, _)| other.addr() == who.addr);
        if known.is_none() && self.others.len() == OTHERS_MAX {
            return;
        }
        let at = known.unwrap_or_else(|| {
            self.others.push((Other::UnknownKey(who), 0));
            self.others.len() - 1
        });
        let (other, asked) = &mut self.others[at];
        if matches!(other, Other::UnknownKey(_)) && std::mem::replace(asked, self.round) != self.round {
            self.ask_without_a_name(ear, from);
        }
    }

    /// Asks a server that does not know this question whether it is only the name that it does not know.
    fn ask_without_a_name(&self, ear: usize, server: SocketAddr) {
        let port = match &self.target {
            Target::Anyone(port) => Some(*port),
            Target::Host(addrs) => addrs.first().map(SocketAddr::port),
        };
        if let (Some(secret), Some(ear), Some(port)) = (&self.nameless, self.ears.get(ear), port) {
            let question = wire::encode_question(&Question::new(secret, self.public));
            let _ = send(&ear.socket, &question, interfaces::with_port(server, port));
        }
    }

    pub(super) fn nothing(self, waited: Duration) -> AskError {
        let other = self.others().next();
        match (other, self.other_version, self.target) {
            (Some(who), _, Target::Host(_)) => AskError::Other(who),
            (_, Some(v), _) => AskError::OtherVersion(v),
            (_, None, Target::Anyone(_)) if self.asked_from.is_empty() => AskError::NoInterface,
            (other, None, _) => AskError::NotFound { waited, from: self.asked_from, other },
        }
    }
}

/// The pause after the question number `round`, a fifth longer or shorter by `noise`, so that a hundred nodes
/// switched on together do not stay together.
fn pause(round: u32, noise: u32, longest: Duration) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1u32.checked_shl(round).unwrap_or(u32::MAX));
    doubled.min(longest).mul_f64(0.8 + 0.4 * f64::from(noise) / f64::from(u32::MAX))
}

/// A day is forever, and forever would overflow.
pub(super) fn after(begun: Instant, wait: Duration) -> Instant {
    begun.checked_add(wait).unwrap_or_else(|| begun + Duration::from_secs(86_400))
}

/// The addresses to ask from: each of IPv4, and of each link but loopback one of IPv6, a link-local one if it has any.
fn asking(usable: Vec<Interface>) -> Vec<Interface> {
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = usable.into_iter().partition(|i| i.addr.is_ipv4());
    v6.retain(|i| !i.loopback && i.index != 0);
    v6.sort_by_key(|i| (i.index, !interfaces::needs_scope(i.addr)));
    v6.dedup_by_key(|i| i.index);
    v4.append(&mut v6);
    v4
}

/// All ways to every neighbour: where one is filtered or has no route, another may do.
fn all_neighbours(interface: &Interface, port: u16) -> Vec<SocketAddr> {
    let all: Vec<IpAddr> = match interface.addr {
        IpAddr::V6(_) => return vec![SocketAddrV6::new(GROUP_V6, port, 0, interface.index).into()],
        IpAddr::V4(_) if interface.loopback => vec![THIS_HOST.into()],
        IpAddr::V4(_) => {
            let directed = interface.broadcast.filter(|b| *b != Ipv4Addr::BROADCAST);
            [Some(Ipv4Addr::BROADCAST), directed, Some(GROUP)].into_iter().flatten().map(IpAddr::V4).collect()
        }
    };
    all.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
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
mod tests;
