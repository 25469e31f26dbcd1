//! Data links before the tape flows: dialling a parent, hearing a child out.
//!
//! Each attempt is a small task with a deadline, whose result goes to the driver. What flows afterwards is
//! `relay`'s.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pairing;
use super::transport::CHANGED;
use super::words::Words;
use crate::limits;
use crate::links::LinkKey;
use crate::types::SessionId;
use crate::wire::control::{LinkFault, Peer};
use crate::wire::data::{ATTACH_BYTES, Attach, HEADER_BYTES, Header, Kind, Refuse};
use crate::wire::{self, Malformed, PREFACE_BYTES, Plane};

/// A data link, and what its two ends say to each other on it.
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) words: Words,
}

impl Link {
    /// Tells a child why it may not attach, as far as its socket takes that without waiting.
    pub(super) fn refuse(mut self, why: &Refuse) {
        let _ = self.stream.try_write(&self.words.refuse(why));
    }
}

/// Who is dialled: a node's own key for the links to its children, and its session.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) session: SessionId,
    pub(super) key: Option<LinkKey>,
}

/// Dials a parent, attaches, and waits for its word that it accepts.
///
/// # Errors
/// [`LinkFault::Gone`] if it does not hold what the child lacks, [`LinkFault::Unreachable`] for any other reason.
pub(super) async fn dial(parent: Peer, attach: Attach) -> Result<Link, LinkFault> {
    let mut stream = connect(parent.addr).await.map_err(unreachable)?;
    let attempt = async {
        match &parent.key {
            Some(key) => attach_sealed(&mut stream, key, attach).await,
            None => attach_open(&mut stream, attach).await,
        }
    };
    match timeout(limits::OFFER + limits::CONNECT, attempt).await {
        Ok(result) => result.map(|words| Link { stream, words }),
        Err(_) => Err(unreachable("it accepts the connection but does not answer")),
    }
}

fn unreachable(why: impl ToString) -> LinkFault {
    LinkFault::Unreachable(why.to_string())
}

/// Connects within [`limits::CONNECT`], without delay for small messages.
pub(super) async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(limits::CONNECT, TcpStream::connect(addr))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within a second"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Attaches to a parent that proves itself. Its first word is a sign of life, or a refusal.
async fn attach_sealed(stream: &mut TcpStream, key: &LinkKey, attach: Attach) -> Result<Words, LinkFault> {
    let Attach { session, child, .. } = attach;
    let cipher = pairing::ask(stream, key, session, child).await.map_err(unreachable)?;
    let mut words = Words::sealed(cipher);
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

/// What a refusal means to the child.
fn refusal(said: &[u8]) -> LinkFault {
    match Refuse::decode(said) {
        Ok(Refuse { kept: Some(kept), .. }) => LinkFault::Gone(kept),
        Ok(Refuse { kept: None, why }) => unreachable(format!("it refuses: {why}")),
        Err(why) => unreachable(why),
    }
}

/// Reads who wants to attach. In a secure session it is that child, and it is there now.
///
/// # Errors
/// In words. A child of another version is told this one's; one without the link's key, that it is not known.
pub(super) async fn hear_child(stream: &mut TcpStream, own: &Own) -> Result<(Words, Attach), String> {
    let mut head = [0; PREFACE_BYTES];
    read(stream, &mut head).await?;
    if let Err(why) = wire::check_preface(Plane::Data, &head) {
        if matches!(why, Malformed::Version(_)) {
            let _ = stream.write_all(&wire::preface(Plane::Data)).await;
        }
        return Err(why.to_string());
    }
    let (number, mut words) = match &own.key {
        Some(key) => {
            let (child, cipher) = pairing::answer(stream, key, own.session).await?;
            (Some(child), Words::sealed(cipher))
        }
        None => (None, Words::open()),
    };
    let mut header = [0; HEADER_BYTES];
    read(stream, &mut header).await?;
    let wanted = Header { kind: Kind::Attach, len: words.body_bytes(ATTACH_BYTES) };
    if Header::decode(header) != Ok(wanted) {
        return Err("it does not attach".into());
    }
    let mut body = vec![0; wanted.len];
    read(stream, &mut body).await?;
    let said = words.hear(&body).ok_or(CHANGED)?;
    let attach = Attach::decode(&said).map_err(|e| e.to_string())?;
    if number.is_some_and(|number| number != attach.child) {
        return Err(format!("it attaches as {}, and has the key of another", attach.child));
    }
    Ok((words, attach))
}

async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), String> {
    stream.read_exact(buffer).await.map(|_| ()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    use crate::types::{Epoch, Floors, NodeId, Offset, Position};
    use crate::wire::TAG_BYTES;
    use crate::wire::data::Grant;

    const SESSION: SessionId = SessionId([7; 16]);
    const CHILD: NodeId = NodeId(3);

    /// A parent, in a secure session and in an insecure one.
    fn parents() -> [Own; 2] {
        let key = LinkKey::new([1; 32]).of_node(NodeId(2));
        [Some(key), None].map(|key| Own { session: SESSION, key })
    }

    fn attach() -> Attach {
        let grant = Grant { floors: Floors::all(Position::START), upto: Offset(1 << 20) };
        Attach { session: SESSION, child: CHILD, epoch: Epoch(1), grant }
    }

    /// A child's end and its parent's, which answers with what `answer` makes of its words.
    async fn meet(
        own: &Own,
        attach: Attach,
        answer: impl FnOnce(&mut Words) -> Vec<u8>,
    ) -> (Result<Link, LinkFault>, Result<Link, String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = own.key.as_ref().map(|key| key.of_child(CHILD));
        let parent = Peer { node: NodeId(2), addr: listener.local_addr().unwrap(), key };
        let child = tokio::spawn(dial(parent, attach));
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
            assert_eq!(child.err(), Some(LinkFault::Gone(Offset(9))));
            let why = Refuse { kept: None, why: "full".into() };
            let (child, _) = meet(&own, attach(), |words| words.refuse(&why)).await;
            assert_eq!(child.err(), Some(LinkFault::Unreachable("it refuses: full".into())));
            let (child, _) = meet(&own, attach(), |words| words.say(Kind::Grant, &[0; 72])).await;
            assert!(matches!(child.err(), Some(LinkFault::Unreachable(_))));
        }
    }

    #[tokio::test]
    async fn whoever_attaches_for_another_is_hung_up_on() {
        let [own, _] = parents();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let key = own.key.clone().unwrap().of_child(CHILD);
        let child = tokio::spawn(async move {
            let mut words = Words::sealed(pairing::ask(&mut stream, &key, SESSION, CHILD).await.unwrap());
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
                let mut words = Words::sealed(pairing::ask(&mut stream, &key, SESSION, CHILD).await.unwrap());
                let frame = words.say(Kind::Attach, &attach().encode());
                stream.write_all(&frame[..n]).await.unwrap();
            });
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(hear_child(&mut stream, &own).await.is_err(), "cut at {n}");
            child.await.unwrap();
        }
    }
}
