//! The handshake of a control connection: both sides prove which keys they have, and agree on keys for the rest.
//!
//! ```text
//!   node ── preface ‖ e ─────────────▶ server   made with the token: the server answers nobody who has another
//!   node ◀── preface ‖ e, ee, s, es ── server   s is the public key that the node's key pins
//! ```
//!
//! It is Noise (`NXpsk0`), by the crate `snow`: the token is its pre-shared key, the server's identity its static key.
//! A stranger costs the server one multiplication on the curve (when `snow` builds the state), and learns that a server
//! is there. A node that has the token but not the server's secret cannot be the server.
//!
//! It is not TLS, because a rescue system has no clock and no name: certificates prove nothing there.
//!
//! Absent: who the node is. Its first message says so, under the keys that were agreed on.

use std::fmt;
use std::io;

use snow::{Builder, HandshakeState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::identity::ServerKey;
use super::transport::Cipher;
use crate::crypto::session_key::Key;
use crate::limits;
use crate::wire::{self, Malformed, PREFACE_BYTES, Plane, TAG_BYTES};

const PATTERN: &str = "Noise_NXpsk0_25519_ChaChaPoly_BLAKE2s";

/// A public key, and the tag of an empty message.
const FIRST_BYTES: usize = 32 + TAG_BYTES;

/// A public key, an encrypted one, and the tag of an empty message.
const SECOND_BYTES: usize = 32 + (32 + TAG_BYTES) + TAG_BYTES;

/// The most bytes that are read from a host that is turned away.
const REST_BYTES: u64 = 4096;

/// Why a node's side did not come to an end.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    /// The other end is no server of ours, or of another version.
    Malformed(Malformed),
    /// The server does not know the key.
    UnknownKey,
    /// The other end is not the server that the key is for.
    Impostor,
}

impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// The node's side.
pub(crate) async fn ask(stream: &mut TcpStream, key: &Key) -> Result<Cipher, Fault> {
    let mut state = state(key, None).map_err(|_| Fault::Impostor)?;
    let mut first = [0; PREFACE_BYTES + FIRST_BYTES];
    let (head, body) = first.split_at_mut(PREFACE_BYTES);
    head.copy_from_slice(&wire::preface(Plane::Control));
    state.write_message(&[], body).map_err(|_| Fault::Impostor)?;
    stream.write_all(&first).await?;

    let mut head = [0; PREFACE_BYTES];
    stream.read_exact(&mut head).await?;
    wire::check_preface(Plane::Control, &head).map_err(Fault::Malformed)?;
    if wire::refuses(&head) {
        return Err(Fault::UnknownKey);
    }
    let mut second = [0; SECOND_BYTES];
    stream.read_exact(&mut second).await?;
    // Nobody can make it without the token, either.
    state.read_message(&second, &mut []).map_err(|_| Fault::UnknownKey)?;
    let server = state.get_remote_static().and_then(|s| s.try_into().ok()).ok_or(Fault::Impostor)?;
    if !key.pins(server) {
        return Err(Fault::Impostor);
    }
    Cipher::new(state).map_err(|_| Fault::Impostor)
}

/// The server's side. Why somebody is not let in is in words.
pub(crate) async fn answer(stream: &mut TcpStream, key: &ServerKey) -> Result<Cipher, String> {
    let mut head = [0; PREFACE_BYTES];
    stream.read_exact(&mut head).await.map_err(words)?;
    match wire::check_preface(Plane::Control, &head) {
        Ok(()) => {}
        // A node of another version learns this one's, and nothing else.
        Err(why @ Malformed::Version(_)) => {
            last_word(stream, wire::preface(Plane::Control)).await;
            return Err(why.to_string());
        }
        Err(_) => return Err("not a node".into()),
    }
    let mut first = [0; FIRST_BYTES];
    stream.read_exact(&mut first).await.map_err(words)?;
    let mut state = state(key.key(), Some(key)).map_err(words)?;
    if let Err(why) = state.read_message(&first, &mut []) {
        last_word(stream, wire::refusing_preface(Plane::Control)).await;
        return Err(words(why));
    }
    let mut second = [0; PREFACE_BYTES + SECOND_BYTES];
    let (head, body) = second.split_at_mut(PREFACE_BYTES);
    head.copy_from_slice(&wire::preface(Plane::Control));
    state.write_message(&[], body).map_err(words)?;
    stream.write_all(&second).await.map_err(words)?;
    Cipher::new(state).map_err(words)
}

/// Says this, and waits until the other side hangs up: a close with something unread would take it back.
async fn last_word(stream: &mut TcpStream, preface: [u8; PREFACE_BYTES]) {
    if stream.write_all(&preface).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut rest = stream.take(REST_BYTES);
        let _ = timeout(limits::CONNECT_TIMEOUT, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

fn state(key: &Key, server: Option<&ServerKey>) -> Result<HandshakeState, snow::Error> {
    let psk = key.derive("ka 1 control connection", b"");
    let prologue = wire::preface(Plane::Control);
    let builder = Builder::new(PATTERN.parse()?).psk(0, &psk)?.prologue(&prologue)?;
    match server {
        Some(server) => builder.local_private_key(server.secret())?.build_responder(),
        None => builder.build_initiator(),
    }
}

fn words(e: impl fmt::Display) -> String {
    e.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::noise::identity::Identity;
    use tokio::net::TcpListener;

    /// Both sides' ends, over loopback.
    async fn meet(node: Key, server: ServerKey) -> (Result<Cipher, Fault>, Result<Cipher, String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let node =
            tokio::spawn(async move { ask(&mut TcpStream::connect(addr).await.unwrap(), &node).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        let answered = answer(&mut stream, &server).await;
        (node.await.unwrap(), answered)
    }

    #[tokio::test]
    async fn what_is_sealed_is_opened_once_and_in_its_order() {
        let server = ServerKey::generate().unwrap();
        let (node, server) = meet(server.key().clone(), server).await;
        let ((mut says, _), (_, mut hears)) = (node.ok().unwrap().split(), server.unwrap().split());
        let [first, second, third] = [b"a", b"b", b"c"].map(|m| says.seal(m).unwrap());
        assert_eq!(hears.open(&first).unwrap(), b"a");
        assert!(
            hears.open(&first).is_none() && hears.open(&third).is_none() && hears.open(&[0; 3]).is_none()
        );
        assert_eq!(hears.open(&second).unwrap(), b"b");
        assert!((0..third.len()).all(|i| {
            let mut changed = third.clone();
            changed[i] ^= 1;
            hears.open(&changed).is_none()
        }));
    }

    #[tokio::test]
    async fn who_has_another_token_is_told_and_gets_no_further() {
        let server = ServerKey::generate().unwrap();
        let expired = ServerKey::of(server.identity().clone()).unwrap().key().clone();
        for key in [expired, Key::insecure()] {
            let (node, server) = meet(key, server.clone()).await;
            assert!(matches!(node, Err(Fault::UnknownKey)) && server.is_err());
        }
    }

    #[tokio::test]
    async fn a_server_with_another_identity_is_not_believed() {
        let server = ServerKey::generate().unwrap();
        let token = [5; 12];
        let node = Key::new(token, server.identity().public());
        // It is a node of the session: it has the token.
        let other = Identity::generate().unwrap();
        let liar = ServerKey::with(other.clone(), Key::new(token, other.public())).unwrap();
        let (node, _) = meet(node, liar).await;
        assert!(matches!(node, Err(Fault::Impostor)));
    }
}
