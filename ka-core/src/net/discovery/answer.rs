//! Who answers: a server's ear on the port of discovery.
//!
//! Absent: who asks.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Buffer, EMPTY, GROUP, THIS_HOST, send, shared_socket};
use crate::limits;
use crate::net::interfaces;
use crate::types::{SessionId, SessionName};
use crate::wire::Malformed;
use crate::wire::discovery::{self as wire, Answer, Question};

/// Answers, and questions passed on, at most per second: three hundred nodes that start at once ask three times
/// each, and a flood costs no more than this.
const ANSWERS_PER_SECOND: u32 = 1000;

/// How often the group is joined on interfaces that came up since.
const REJOIN: Duration = Duration::from_secs(5);

/// The pause after an error on receiving, lest one that stays makes the loop spin.
const AFTER_ERROR: Duration = Duration::from_millis(10);

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
}
