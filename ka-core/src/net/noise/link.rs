//! The handshake of a data link of a secure session: its ends prove to each other that they have its key.
//!
//! ```text
//!   child ── preface ‖ number ‖ psk, e ──▶ parent   it makes the key of this number's link by itself
//!   child ◀── preface ‖ e, ee ──────────── parent   or a refusing preface, if that is not the key
//! ```
//!
//! It is Noise (`NNpsk0`), by the crate `snow`. A stranger costs the parent a few hashes: without the key its
//! message is not opened, and nothing on the curve is computed.
//!
//! The first message proves that its maker had the key, not that it was made now: a host that overheard it can send it
//! again. But it can neither read the answer, nor seal anything after it. So a child is there once its first sealed
//! message was opened: that is its Attach (`link`), and nothing is told of the child before.

use std::fmt;

use snow::{Builder, HandshakeState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tags::Tags;
use super::transport::Cipher;
use crate::crypto::link_keys::LinkKey;
use crate::types::{NodeId, SessionId};
use crate::wire::{self, PREFACE_BYTES, Plane, TAG_BYTES};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// A node's number.
const NUMBER_BYTES: usize = 4;

/// Either message: a public key, and the tag of an empty message.
const MESSAGE_BYTES: usize = 32 + TAG_BYTES;

/// The keys of a link whose ends have proved themselves: of what they say, and of the tags of the tape.
pub(crate) struct Keys {
    pub(crate) cipher: Cipher,
    pub(crate) tags: Tags,
}

impl Keys {
    /// Takes them from a handshake that came to its end.
    fn new(key: &LinkKey, state: HandshakeState) -> Result<Self, snow::Error> {
        let tags = Tags::new(key, state.get_handshake_hash());
        Ok(Self { cipher: Cipher::new(state)?, tags })
    }
}

/// The child's side. Why there is no link is in words.
pub(crate) async fn ask(
    stream: &mut TcpStream,
    key: &LinkKey,
    session: SessionId,
    child: NodeId,
) -> Result<Keys, String> {
    let mut state = state(key, session, child, true).map_err(words)?;
    let mut message = [0; MESSAGE_BYTES];
    state.write_message(&[], &mut message).map_err(words)?;
    let hello = [&wire::preface(Plane::Data)[..], &child.0.to_le_bytes(), &message].concat();
    stream.write_all(&hello).await.map_err(words)?;

    let mut preface = [0; PREFACE_BYTES];
    stream.read_exact(&mut preface).await.map_err(words)?;
    wire::check_preface(Plane::Data, &preface).map_err(words)?;
    if wire::refuses(&preface) {
        return Err("it does not know the key of this link: somebody else may have its address".into());
    }
    stream.read_exact(&mut message).await.map_err(words)?;
    // Nobody can make it without the key.
    state.read_message(&message, &mut []).map_err(|_| "what it answers was not said by the parent")?;
    Keys::new(key, state).map_err(words)
}

/// The parent's side, behind the child's preface: which child it is, if it is there. Why not is in words.
pub(crate) async fn answer(
    stream: &mut TcpStream,
    own: &LinkKey,
    session: SessionId,
) -> Result<(NodeId, Keys), String> {
    let (mut number, mut message) = ([0; NUMBER_BYTES], [0; MESSAGE_BYTES]);
    stream.read_exact(&mut number).await.map_err(words)?;
    stream.read_exact(&mut message).await.map_err(words)?;
    let child = NodeId(u32::from_le_bytes(number));
    let key = own.of_child(child);
    let mut state = state(&key, session, child, false).map_err(words)?;
    if let Err(why) = state.read_message(&message, &mut []) {
        let _ = stream.write_all(&wire::refusing_preface(Plane::Data)).await;
        return Err(words(why));
    }
    state.write_message(&[], &mut message).map_err(words)?;
    stream.write_all(&[&wire::preface(Plane::Data)[..], &message].concat()).await.map_err(words)?;
    Ok((child, Keys::new(&key, state).map_err(words)?))
}

/// The handshake's first state. The public facts of the link are hashed into it: the child's preface and number, and
/// the session.
fn state(
    key: &LinkKey,
    session: SessionId,
    child: NodeId,
    initiator: bool,
) -> Result<HandshakeState, snow::Error> {
    let prologue = [&wire::preface(Plane::Data)[..], &child.0.to_le_bytes(), &session.0].concat();
    let builder = Builder::new(PATTERN.parse()?).psk(0, key.bytes())?.prologue(&prologue)?;
    if initiator { builder.build_initiator() } else { builder.build_responder() }
}

fn words(e: impl fmt::Display) -> String {
    e.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    const SESSION: SessionId = SessionId([7; 16]);
    const CHILD: NodeId = NodeId(3);

    /// The parent's own key.
    fn own() -> LinkKey {
        LinkKey::new([1; 32]).of_node(NodeId(2))
    }

    /// The bytes that a child sends behind its preface, and the state of its handshake by then.
    fn hello(key: &LinkKey, session: SessionId, child: NodeId) -> (Vec<u8>, HandshakeState) {
        let mut state = state(key, session, child, true).unwrap();
        let mut message = [0; MESSAGE_BYTES];
        state.write_message(&[], &mut message).unwrap();
        ([&child.0.to_le_bytes()[..], &message].concat(), state)
    }

    /// The result of a parent that gets these bytes, and the bytes that it sends.
    async fn heard(said: &[u8]) -> (Result<(NodeId, Keys), String>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut child = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        child.write_all(said).await.unwrap();
        child.shutdown().await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let result = answer(&mut stream, &own(), SESSION).await;
        drop(stream);
        let mut answered = Vec::new();
        child.read_to_end(&mut answered).await.unwrap();
        (result, answered)
    }

    /// The result of a child whose parent answers like this.
    async fn asked(answer: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> Result<Keys, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let parent: JoinHandle<()> = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = [0; PREFACE_BYTES + NUMBER_BYTES + MESSAGE_BYTES];
            stream.read_exact(&mut said).await.unwrap();
            stream.write_all(&answer(&said)).await.unwrap();
        });
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let result = ask(&mut stream, &own().of_child(CHILD), SESSION, CHILD).await;
        parent.await.unwrap();
        result
    }

    /// A true parent's answer to a child's first words.
    fn answer_to(said: &[u8]) -> Vec<u8> {
        let mut state = state(&own().of_child(CHILD), SESSION, CHILD, false).unwrap();
        state.read_message(&said[PREFACE_BYTES + NUMBER_BYTES..], &mut []).unwrap();
        let mut message = [0; MESSAGE_BYTES];
        state.write_message(&[], &mut message).unwrap();
        [&wire::preface(Plane::Data)[..], &message].concat()
    }

    #[tokio::test]
    async fn two_who_have_the_key_understand_each_other() {
        let (said, mut child) = hello(&own().of_child(CHILD), SESSION, CHILD);
        let (parent, answered) = heard(&said).await;
        let (number, mut parent) = parent.unwrap();
        assert_eq!((number, &answered[..PREFACE_BYTES]), (CHILD, &wire::preface(Plane::Data)[..]));
        child.read_message(&answered[PREFACE_BYTES..], &mut []).unwrap();
        let mut child = Keys::new(&own().of_child(CHILD), child).unwrap();
        for words in [&b"attach"[..], b"", b"grant"] {
            let up = child.cipher.sealing().seal(words).unwrap();
            assert_eq!(parent.cipher.opening().open(&up).unwrap(), words);
            let down = parent.cipher.sealing().seal(words).unwrap();
            assert_eq!(child.cipher.opening().open(&down).unwrap(), words);
        }
        assert_eq!(child.tags.next([3; 8], &[7; 32]), parent.tags.next([3; 8], &[7; 32]));
        assert!(asked(answer_to).await.is_ok());
    }

    #[tokio::test]
    async fn who_has_another_key_number_or_session_is_told_and_gets_no_further() {
        let other = LinkKey::new([1; 32]).of_node(NodeId(9));
        for (what, (said, _)) in [
            ("another parent's", hello(&other.of_child(CHILD), SESSION, CHILD)),
            ("another child's", hello(&own().of_child(NodeId(4)), SESSION, CHILD)),
            ("another number", hello(&own().of_child(CHILD), SESSION, NodeId(4))),
            ("the parent's own", hello(&own(), SESSION, CHILD)),
            ("another session", hello(&own().of_child(CHILD), SessionId([8; 16]), CHILD)),
        ] {
            let (parent, answered) = heard(&said).await;
            assert!(parent.is_err(), "{what}");
            assert_eq!(answered, wire::refusing_preface(Plane::Data), "{what}");
        }
    }

    #[tokio::test]
    async fn first_words_that_are_cut_or_changed_anywhere_lead_nowhere() {
        let (said, _) = hello(&own().of_child(CHILD), SESSION, CHILD);
        for n in 0..said.len() {
            let (parent, answered) = heard(&said[..n]).await;
            assert!(parent.is_err() && answered.is_empty(), "cut at {n}");
            let mut changed = said.clone();
            changed[n] ^= 1;
            let (parent, answered) = heard(&changed).await;
            assert!(parent.is_err() && answered == wire::refusing_preface(Plane::Data), "changed at {n}");
        }
    }

    #[tokio::test]
    async fn first_words_that_are_said_again_are_answered_and_lead_no_further() {
        let (said, mut child) = hello(&own().of_child(CHILD), SESSION, CHILD);
        let (_, answered) = heard(&said).await;
        child.read_message(&answered[PREFACE_BYTES..], &mut []).unwrap();
        let attach = Cipher::new(child).unwrap().sealing().seal(b"attach").unwrap();
        let (again, other_answer) = heard(&said).await;
        assert_ne!(answered, other_answer);
        assert!(again.unwrap().1.cipher.opening().open(&attach).is_none());
    }

    #[tokio::test]
    async fn a_child_believes_no_other_answer() {
        let (earlier, _) = hello(&own().of_child(CHILD), SESSION, CHILD);
        let earlier = answer_to(&[&[0; PREFACE_BYTES], &earlier[..]].concat());
        let why = |result: Result<Keys, String>| result.err().expect("no answer");
        let refused = why(asked(|_| wire::refusing_preface(Plane::Data).into()).await);
        assert!(refused.contains("does not know the key"), "{refused}");
        let mut newer = wire::preface(Plane::Data);
        newer[4] = 9;
        let other = why(asked(move |_| newer.into()).await);
        assert!(other.contains("version 9"), "{other}");
        let replayed = why(asked(move |_| earlier).await);
        assert!(replayed.contains("not said by the parent"), "{replayed}");
        for n in 0..PREFACE_BYTES + MESSAGE_BYTES {
            assert!(asked(move |said| answer_to(said)[..n].into()).await.is_err(), "cut at {n}");
        }
        for n in PREFACE_BYTES..PREFACE_BYTES + MESSAGE_BYTES {
            let changed = move |said: &[u8]| {
                let mut answer = answer_to(said);
                answer[n] ^= 1;
                answer
            };
            assert!(asked(changed).await.is_err(), "changed at {n}");
        }
    }
}
