//! Who asks: one search for a session's server, on every link or at one host.
//!
//! An answer counts only if a server made it that the asker's key lets it believe. Everything else is ignored as if it
//! had not come, but for two things that people are told: that a server is of another version, and that it does not
//! know the key. Whoever is on the LAN can say those.
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
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{
    AskError, Buffer, EMPTY, Found, GROUP, THIS_HOST, Target, UnknownKey, host_socket, interface_socket, send,
};
use crate::key::Key;
use crate::limits;
use crate::net::interfaces::{self, Interface};
use crate::types::{SessionId, SessionName};
use crate::wire::Malformed;
use crate::wire::discovery::{self as wire, Answer, Question, Secret};

/// How long an asker listens for a second server of the same name. It delays every start.
const SETTLE: Duration = Duration::from_millis(5);

/// The pause after the first question; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long to go on asking a host where a server has answered that is of another version, or does not know the key: it
/// may have ours, too.
const OTHER_GRACE: Duration = Duration::from_secs(1);

/// How often the caller is told of servers that do not know the key, and when first: not while the right one may only
/// be slower than they.
const STRANGERS: Duration = Duration::from_secs(1);

/// Of how many such servers the caller is told. Their addresses may be forged.
const STRANGERS_MAX: usize = 16;

/// Sockets on which late answers from one host are awaited.
const HOST_SOCKETS: usize = 4;

/// Asks who serves `session`, again and again until somebody answers or `give_up` is over. Returns all sessions
/// that were heard of: two of them are two servers of one name.
///
/// `only` names the interfaces to ask [`Target::Anyone`] from; none means all usable ones. They are listed anew
/// for each question, because a link may come up late. Only a [`Target::Host`] can be asked without a name, for
/// whatever it serves. A server heard at several addresses is listed by the first, or by loopback's.
///
/// `strangers` is called, once for each address, for servers that do not know the `key`: after a second in which nobody
/// else has answered, when [`Target::Anyone`] is asked. A host's are an error.
///
/// # Errors
/// [`AskError`]. A server of another version, or one that does not know the key, ends the wait early only when it is
/// the host that was asked: among all neighbours it may serve something else.
pub async fn ask(
    session: Option<&SessionName>,
    target: Target,
    only: &[String],
    port: u16,
    give_up: Duration,
    key: &Key,
    strangers: &mut (dyn FnMut(UnknownKey) + Send),
) -> Result<Vec<Found>, AskError> {
    let begun = Instant::now();
    let until = after(begun, give_up);
    let mut search = Search::begin(session, target, only, port, key)?;
    let (mut told, mut look_at_strangers) = (0, begun);
    let first = loop {
        look_at_strangers += STRANGERS;
        if let Some(found) = search.next(until.min(look_at_strangers)).await {
            break found;
        }
        if target == Target::Anyone && Instant::now() >= look_at_strangers {
            search.strangers.iter().skip(told).for_each(|who| strangers(*who));
            told = search.strangers.len();
        }
        if Instant::now() >= search.end(until) {
            return Err(search.nothing(begun.elapsed()));
        }
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
/// with the smaller session id. The caller's own [`Responder`](super::Responder) should be running: it is how two that
/// start at once hear of each other. A server with another key is none: nobody who looks for one finds the other.
pub async fn rival(
    session: &SessionName,
    own: SessionId,
    only: &[String],
    port: u16,
    key: &Key,
) -> Option<Found> {
    let mut search = Search::begin(Some(session), Target::Anyone, only, port, key).ok()?;
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
    key: &'a Key,
    secret: Secret,
    own: StaticSecret,
    public: [u8; 32],
    question: Vec<u8>,
    ears: Vec<Ear>,
    round: u32,
    /// `None` once nothing more is to be asked.
    next_round: Option<Instant>,
    asked_from: BTreeSet<String>,
    other_version: Option<u16>,
    strangers: Vec<UnknownKey>,
    /// When a server was first heard of either kind.
    other_since: Option<Instant>,
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
        key: &'a Key,
    ) -> Result<Self, AskError> {
        if session.is_none() && target == Target::Anyone {
            let words = "a session without a name is found at a given host only";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words).into());
        }
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(random.as_mut_slice()).map_err(io::Error::from)?;
        let own = StaticSecret::from(*random);
        let public = PublicKey::from(&own).to_bytes();
        let secret = Secret::new(key, session);
        let question = wire::encode_question(&Question::new(&secret, public));
        let mut search = Self {
            target,
            only,
            port,
            key,
            secret,
            own,
            public,
            question,
            ears: Vec::new(),
            round: 0,
            next_round: None,
            asked_from: BTreeSet::new(),
            other_version: None,
            strangers: Vec::new(),
            other_since: None,
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
                // Another server's words may just have moved the end.
                Err(_) if Instant::now() >= self.end(until) => return None,
                // The interfaces that are there already can still be heard.
                Err(_) => drop(self.ask_again()),
            }
        }
    }

    fn end(&self, until: Instant) -> Instant {
        match (self.target, self.other_since) {
            (Target::Host(_), Some(heard)) => until.min(heard + OTHER_GRACE),
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
            Ok(answer) if self.believes(&answer) => {
                let mut control = from;
                control.set_port(answer.control_port);
                return Some(Found { control, session: answer.session, probing: answer.probing });
            }
            Err(Malformed::Version(v)) => {
                self.other_version.get_or_insert(v);
                self.other_since.get_or_insert_with(Instant::now);
            }
            Err(Malformed::Magic) => self.hear_stranger(datagram, from.ip()),
            _ => {}
        }
        None
    }

    /// Whether it is to this search's question, and from a server that the key speaks for.
    fn believes(&self, answer: &Answer) -> bool {
        if answer.public != self.public || !self.key.pins(&answer.server) {
            return false;
        }
        let agreed = self.own.diffie_hellman(&PublicKey::from(answer.server));
        agreed.was_contributory() && answer.is_true(&self.secret, agreed.as_bytes())
    }

    fn hear_stranger(&mut self, datagram: &[u8], addr: IpAddr) {
        let Ok(stranger) = wire::decode_stranger(datagram) else { return };
        let who = UnknownKey { addr, secure: stranger.secure, given: self.key.is_secure() };
        // Where nobody has a key, it is a session of another name.
        if stranger.public != self.public || !(who.secure || who.given) {
            return;
        }
        self.other_since.get_or_insert_with(Instant::now);
        if self.strangers.len() < STRANGERS_MAX && self.strangers.iter().all(|s| s.addr != addr) {
            self.strangers.push(who);
        }
    }

    fn nothing(self, waited: Duration) -> AskError {
        match (self.strangers.first(), self.other_version, self.target) {
            (Some(who), _, Target::Host(_)) => AskError::UnknownKey(*who),
            (_, Some(v), _) => AskError::OtherVersion(v),
            (_, None, Target::Anyone) if self.asked_from.is_empty() => AskError::NoInterface,
            (who, None, _) => AskError::NotFound {
                waited,
                interfaces: self.asked_from.into_iter().collect(),
                stranger: who.copied(),
            },
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
    use std::net::UdpSocket as StdUdpSocket;

    use crate::net::identity::{Identity, ServerKey};
    use crate::wire::discovery::Stranger;

    const FROM: &str = "10.0.0.1:4957";

    fn name() -> SessionName {
        SessionName::new("lab").unwrap()
    }

    /// A search that nobody hears.
    fn search(key: &Key) -> Search<'_> {
        let silent = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (host, port) = (Ipv4Addr::LOCALHOST.into(), silent.local_addr().unwrap().port());
        Search::begin(Some(&name()), Target::Host(host), &[], port, key).unwrap()
    }

    /// What this server says to whoever asked with `public`.
    fn answer(server: &ServerKey, session: &SessionName, public: [u8; 32]) -> Answer {
        let answer = Answer {
            public,
            server: *server.identity().public(),
            session: SessionId([1; 16]),
            control_port: 7,
            probing: false,
            tag: [0; 32],
        };
        answer.tagged(&Secret::new(server.key(), Some(session)), &server.agree(&public))
    }

    fn hears(search: &mut Search<'_>, answer: &Answer) -> bool {
        search.understand(&wire::encode_answer(answer), FROM.parse().unwrap()).is_some()
    }

    #[tokio::test]
    async fn every_byte_of_an_answer_that_is_changed_makes_it_none() {
        let server = ServerKey::generate().unwrap();
        let mut search = search(server.key());
        let bytes = wire::encode_answer(&answer(&server, &name(), search.public));
        let from = FROM.parse().unwrap();
        let found = search.understand(&bytes, from);
        assert_eq!(found.as_ref().map(|f| f.control), Some("10.0.0.1:7".parse().unwrap()));
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                // The padding says nothing, nor do the two bytes behind the version.
                let says_nothing = at == 6 || at == 7 || at >= 10 + 115;
                let expected = found.clone().filter(|_| says_nothing);
                assert_eq!(search.understand(&changed, from), expected, "byte {at} ^ {flip:#x}");
            }
        }
        assert_eq!(search.understand(&bytes[..255], from), None);
        assert_eq!(search.understand(&[&bytes[..], &[0]].concat(), from), None);
    }

    #[tokio::test]
    async fn an_answer_to_another_question_about_another_session_or_from_another_server_is_none() {
        let server = ServerKey::generate().unwrap();
        let mut older = search(server.key());
        let recorded = answer(&server, &name(), older.public);
        assert!(hears(&mut older, &recorded));

        let mut now = search(server.key());
        let public = now.public;
        assert!(!hears(&mut now, &recorded));
        assert!(!hears(&mut now, &Answer { public, ..recorded }));
        assert!(!hears(&mut now, &answer(&server, &SessionName::new("lap").unwrap(), public)));
        assert!(!hears(&mut now, &answer(&ServerKey::generate().unwrap(), &name(), public)));
        let right = answer(&server, &name(), public);
        assert!(hears(&mut now, &right));
    }

    #[tokio::test]
    async fn who_has_the_token_and_not_the_identity_cannot_pose_as_the_server() {
        let token = [7; 12];
        let [server, other] = [(); 2].map(|()| {
            let identity = Identity::generate().unwrap();
            let key = Key::new(token, identity.public());
            ServerKey::with(identity, key).unwrap()
        });
        let mut search = search(server.key());
        let own_name = answer(&other, &name(), search.public);
        assert!(!hears(&mut search, &own_name), "the key does not pin it");
        let secret = Secret::new(server.key(), Some(&name()));
        let stolen_name = Answer { server: *server.identity().public(), ..own_name };
        for agreed in [*other.agree(&search.public), [0; 32]] {
            assert!(!hears(&mut search, &stolen_name.clone().tagged(&secret, &agreed)));
        }
    }

    #[tokio::test]
    async fn without_a_key_everybody_is_believed_but_a_public_key_that_agrees_with_nobody() {
        let open = Key::insecure();
        let mut search = search(&open);
        let server = ServerKey::insecure().unwrap();
        let right = answer(&server, &name(), search.public);
        assert!(hears(&mut search, &right));
        let null = Answer { server: [0; 32], ..right };
        assert!(!hears(&mut search, &null.tagged(&Secret::new(&open, Some(&name())), &[0; 32])));
    }

    #[tokio::test]
    async fn a_stranger_counts_if_it_was_asked_and_if_somebody_has_a_key() {
        let key = ServerKey::generate().unwrap().key().clone();
        for (key, secure, counts) in [
            (key.clone(), true, true),
            (key, false, true),
            (Key::insecure(), true, true),
            (Key::insecure(), false, false),
        ] {
            let mut search = search(&key);
            let own = search.public;
            let mut hear = |public, from: &str| {
                let bytes = wire::encode_stranger(&Stranger { public, secure });
                assert_eq!(search.understand(&bytes, from.parse().unwrap()), None);
                search.strangers.len()
            };
            assert_eq!(hear([5; 32], FROM), 0);
            let addr = "10.0.0.1".parse().unwrap();
            assert_eq!(hear(own, FROM), usize::from(counts));
            assert_eq!(hear(own, "10.0.0.1:9"), usize::from(counts), "once for each address");
            for n in 0..=255 {
                hear(own, &format!("10.0.1.{n}:1"));
            }
            assert!(search.strangers.len() <= STRANGERS_MAX);
            let expected = UnknownKey { addr, secure, given: key.is_secure() };
            assert_eq!(search.strangers.first(), Some(&expected).filter(|_| counts));
        }
    }

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
