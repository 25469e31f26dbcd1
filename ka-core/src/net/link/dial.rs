//! Data links before the tape flows: dialling a parent, hearing a child out.
//!
//! Each attempt is a small task with a deadline, whose result goes to the driver. What flows afterwards is
//! `relay`'s.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frames::Words;
use crate::crypto::link_keys::LinkKey;
use crate::limits;
use crate::net::host::connect::{connect, first};
use crate::net::host::refused::{exhausted, no_way};
use crate::net::noise::link;
use crate::net::noise::transport::CHANGED;
use crate::wire::control::LinkFault;
use crate::wire::data::{Attach, HEADER_BYTES, Header, Kind, Refuse};
use crate::wire::{self, Malformed, PREFACE_BYTES, Plane};

/// A data link, and what its two ends say to each other on it.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) words: Words,
}

impl Link {
    /// Tells a child why it may not attach, as far as its socket takes that without waiting.
    pub(crate) fn refuse(mut self, why: &Refuse) {
        let _ = self.stream.try_write(&self.words.refuse(why));
    }
}

/// Why there is no link to a parent.
#[derive(Debug)]
pub(crate) enum NoLink {
    /// For this reason, which the coordinator should know.
    Fault(LinkFault),
    /// This host has run out of what a connection takes. No other parent would help.
    Exhausted(io::Error),
}

/// The way to a parent: where it listens, and the key by which it is known.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// The addresses at which it may be reached, the likeliest first.
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) key: Option<LinkKey>,
    /// The ports that nodes listen on, for people.
    pub(crate) ports: RangeInclusive<u16>,
}

/// Dials a parent, attaches, and waits for its word that it accepts.
///
/// # Errors
/// [`LinkFault::Gone`] if it does not hold what the child lacks, [`LinkFault::Unreachable`] for any other reason that is
/// not this host's own.
pub(crate) async fn dial(way: Way, attach: Attach) -> Result<Link, NoLink> {
    let mut stream = match first(&way.addrs, connect).await {
        Ok(stream) => stream,
        Err(why) => return Err(not_connected(why, &way.ports)),
    };
    let attempt = async {
        match &way.key {
            Some(key) => attach_sealed(&mut stream, key, attach).await,
            None => attach_open(&mut stream, attach).await,
        }
    };
    match timeout(limits::OFFER_TIMEOUT + limits::CONNECT_TIMEOUT, attempt).await {
        Ok(Ok(words)) => Ok(Link { stream, words }),
        Ok(Err(fault)) => Err(NoLink::Fault(fault)),
        Err(_) => Err(NoLink::Fault(unreachable("it accepts the connection but does not answer"))),
    }
}

/// The reason for no link, if none of these addresses could be connected to.
fn not_connected(why: Vec<(SocketAddr, io::Error)>, ports: &RangeInclusive<u16>) -> NoLink {
    let mut first = None;
    for (addr, e) in why {
        if exhausted(&e) {
            return NoLink::Exhausted(e);
        }
        first.get_or_insert((addr, e));
    }
    NoLink::Fault(match first {
        Some((addr, e)) => unreachable(no_way(addr, &e, ports)),
        None => unreachable("no interface leads to its address"),
    })
}

fn unreachable(why: impl ToString) -> LinkFault {
    LinkFault::Unreachable(why.to_string())
}

/// Attaches to a parent that proves itself. Its first word is a sign of life, or a refusal.
async fn attach_sealed(stream: &mut TcpStream, key: &LinkKey, attach: Attach) -> Result<Words, LinkFault> {
    let Attach { session, child, .. } = attach;
    let keys = link::ask(stream, key, session, child).await.map_err(unreachable)?;
    let mut words = Words::sealed(keys);
    let hello = words.say(Kind::Attach, &attach.encode());
    stream.write_all(&hello).await.map_err(unreachable)?;
    match hear(stream, &mut words).await? {
        (Kind::Beat, said) if said.is_empty() => Ok(words),
        (Kind::Refuse, said) => Err(refusal(&said)),
        _ => Err(unreachable(Malformed::Content)),
    }
}

/// Attaches in an insecure session. A parent's preface says whether it accepts.
async fn attach_open(stream: &mut TcpStream, attach: Attach) -> Result<Words, LinkFault> {
    let mut words = Words::open();
    let hello = [&wire::preface(Plane::Data)[..], &words.say(Kind::Attach, &attach.encode())].concat();
    stream.write_all(&hello).await.map_err(unreachable)?;
    let mut preface = [0; PREFACE_BYTES];
    stream.read_exact(&mut preface).await.map_err(unreachable)?;
    wire::check_preface(Plane::Data, &preface).map_err(unreachable)?;
    if !wire::refuses(&preface) {
        return Ok(words);
    }
    match hear(stream, &mut words).await? {
        (Kind::Refuse, said) => Err(refusal(&said)),
        _ => Err(unreachable(Malformed::Content)),
    }
}

/// The next that a parent says.
async fn hear(stream: &mut TcpStream, words: &mut Words) -> Result<(Kind, Vec<u8>), LinkFault> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(unreachable)?;
    let Header { kind, len } = Header::decode(header).map_err(unreachable)?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.map_err(unreachable)?;
    let said = words.hear(&body).ok_or_else(|| unreachable(CHANGED))?;
    Ok((kind, said.into_owned()))
}

/// The fault that a refusal means to the child.
fn refusal(said: &[u8]) -> LinkFault {
    match Refuse::decode(said) {
        Ok(Refuse { kept: Some(kept), .. }) => LinkFault::Gone(kept),
        Ok(Refuse { kept: None, why }) => unreachable(format!("it refuses: {why}")),
        Err(why) => unreachable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::accept::{Own, hear_child};
    use crate::types::SessionId;
    use crate::types::{Epoch, NodeId, Offset, Position, Watermarks};
    use crate::wire::TAG_BYTES;
    use crate::wire::data::ATTACH_BYTES;
    use crate::wire::data::Grant;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    const SESSION: SessionId = SessionId([7; 16]);
    const CHILD: NodeId = NodeId(3);

    /// A parent, in a secure session and in an insecure one.
    fn parents() -> [Own; 2] {
        let key = LinkKey::new([1; 32]).of_node(NodeId(2));
        [Some(key), None].map(|key| Own { session: SESSION, key })
    }

    fn attach() -> Attach {
        let grant = Grant { watermarks: Watermarks::all(Position::START), upto: Offset(1 << 20) };
        Attach { session: SESSION, child: CHILD, epoch: Epoch(1), grant }
    }

    /// A child's end and its parent's, which answers with what `answer` makes of its words.
    async fn meet(
        own: &Own,
        attach: Attach,
        answer: impl FnOnce(&mut Words) -> Vec<u8>,
    ) -> (Result<Link, NoLink>, Result<Link, String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = own.key.as_ref().map(|key| key.of_child(CHILD));
        let way = Way { addrs: vec![listener.local_addr().unwrap()], key, ports: 1..=2 };
        let child = tokio::spawn(dial(way, attach));
        let (mut stream, _) = listener.accept().await.unwrap();
        let heard = match hear_child(&mut stream, own).await {
            Ok((mut words, heard)) => {
                assert_eq!(heard, attach);
                stream.write_all(&answer(&mut words)).await.unwrap();
                Ok(Link { stream, words })
            }
            Err(why) => {
                drop(stream);
                Err(why)
            }
        };
        (child.await.unwrap(), heard)
    }

    #[tokio::test]
    async fn of_several_addresses_the_first_that_answers_counts_and_no_dead_one_takes_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let addr = |n| SocketAddr::from(([127, 0, 0, n], live.port()));
        let begun = Instant::now();
        // One is silent for ever, one refuses.
        let attempt = |addr: SocketAddr| async move {
            if addr.ip().to_string() == "127.0.0.9" {
                std::future::pending().await
            } else {
                connect(addr).await
            }
        };
        let stream = first(&[addr(9), addr(8), live], attempt).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live);
        assert!(begun.elapsed() < limits::CONNECT_TIMEOUT);
        let failed = first(&[addr(8), addr(7)], connect).await.unwrap_err();
        assert_eq!(failed.iter().map(|(addr, _)| *addr).collect::<Vec<_>>(), [addr(8), addr(7)]);
    }

    #[test]
    fn what_this_host_lacks_is_not_held_against_the_parent() {
        let addr = |n| SocketAddr::from(([10, 0, 0, n], 30764));
        let refused = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let own = not_connected(
            vec![(addr(1), refused()), (addr(2), io::Error::from_raw_os_error(libc::EMFILE))],
            &(1..=9),
        );
        assert!(matches!(own, NoLink::Exhausted(_)), "{own:?}");
        let theirs = not_connected(vec![(addr(1), refused())], &(1..=9));
        let NoLink::Fault(LinkFault::Unreachable(words)) = theirs else { panic!("{theirs:?}") };
        for word in ["10.0.0.1", "30764", "1-9"] {
            assert!(words.contains(word), "{words}");
        }
    }

    #[tokio::test]
    async fn a_child_attaches_and_its_words_are_heard_in_their_order() {
        for own in parents() {
            let (child, parent) = meet(&own, attach(), Words::accept).await;
            let (mut child, mut parent) = (child.ok().unwrap().words, parent.unwrap().words);
            for said in [&b"one"[..], b"two"] {
                let frame = child.say(Kind::Grant, said);
                assert_eq!(frame.len(), HEADER_BYTES + child.body_bytes(said.len()));
                assert_eq!(parent.hear(&frame[HEADER_BYTES..]).unwrap(), said);
            }
            let beat = parent.say(Kind::Beat, &[]);
            assert!(child.hear(&beat[HEADER_BYTES..]).unwrap().is_empty());
            assert_eq!(child.hear(&beat[HEADER_BYTES..]).is_none(), own.key.is_some());
        }
    }

    #[tokio::test]
    async fn a_refusal_says_what_is_gone_or_why() {
        for own in parents() {
            let why = Refuse { kept: Some(Offset(9)), why: "x".repeat(2000) };
            let (child, _) = meet(&own, attach(), |words| words.refuse(&why)).await;
            assert!(matches!(child, Err(NoLink::Fault(LinkFault::Gone(Offset(9))))));
            let why = Refuse { kept: None, why: "full".into() };
            let (child, _) = meet(&own, attach(), |words| words.refuse(&why)).await;
            let refused = LinkFault::Unreachable("it refuses: full".into());
            assert!(matches!(child, Err(NoLink::Fault(fault)) if fault == refused));
            let (child, _) = meet(&own, attach(), |words| words.say(Kind::Grant, &[0; 72])).await;
            assert!(matches!(child, Err(NoLink::Fault(LinkFault::Unreachable(_)))));
        }
    }

    #[tokio::test]
    async fn whoever_attaches_for_another_is_hung_up_on() {
        let [own, _] = parents();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let key = own.key.clone().unwrap().of_child(CHILD);
        let child = tokio::spawn(async move {
            let mut words = Words::sealed(link::ask(&mut stream, &key, SESSION, CHILD).await.unwrap());
            let attach = Attach { child: NodeId(4), ..attach() };
            stream.write_all(&words.say(Kind::Attach, &attach.encode())).await.unwrap();
            hear(&mut stream, &mut words).await
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let why = hear_child(&mut stream, &own).await.err().unwrap();
        assert!(why.contains("the key of another"), "{why}");
        drop(stream);
        assert!(child.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn an_attach_that_is_cut_anywhere_is_none() {
        let [own, _] = parents();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        for n in 0..HEADER_BYTES + ATTACH_BYTES + TAG_BYTES {
            let key = own.key.clone().unwrap().of_child(CHILD);
            let child = tokio::spawn(async move {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                let mut words = Words::sealed(link::ask(&mut stream, &key, SESSION, CHILD).await.unwrap());
                let frame = words.say(Kind::Attach, &attach().encode());
                stream.write_all(&frame[..n]).await.unwrap();
            });
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(hear_child(&mut stream, &own).await.is_err(), "cut at {n}");
            child.await.unwrap();
        }
    }
}
