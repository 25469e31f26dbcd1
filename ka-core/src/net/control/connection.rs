//! Control connections: frames of sealed control messages, both ways. A clean end and a cut one are told apart.

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::frames;
use crate::crypto::session_key::Key;
use crate::limits;
use crate::net::noise::control::{self, Fault};
use crate::net::noise::identity::ServerKey;
use crate::net::noise::transport::{CHANGED, Cipher, Opening, Sealing};
use crate::wire::{TAG_BYTES, codec};

/// A connection whose other side has proved itself.
pub(crate) struct Connection {
    stream: TcpStream,
    cipher: Cipher,
    /// The other end: an IPv4 address as such, a link-local one with its scope.
    peer: SocketAddr,
}

impl Connection {
    /// A node's, to a server at this address.
    pub(crate) async fn ask(mut stream: TcpStream, server: SocketAddr, key: &Key) -> Result<Self, Fault> {
        let cipher = control::ask(&mut stream, key).await?;
        Ok(Self { stream, cipher, peer: server })
    }

    /// A server's, to somebody who knows its key, at this address.
    pub(crate) async fn answer(
        mut stream: TcpStream,
        node: SocketAddr,
        key: &ServerKey,
    ) -> Result<Self, String> {
        let cipher = control::answer(&mut stream, key).await?;
        Ok(Self { stream, cipher, peer: node })
    }

    /// The address of its server.
    pub(crate) fn server(&self) -> SocketAddr {
        self.peer
    }

    /// Our own end.
    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Says something before it is split.
    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let body = codec::encode_control(message).map_err(io::Error::other)?;
        self.stream.write_all(&frame(self.cipher.sealing(), &body)).await
    }

    /// Hears something before it is split.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        receive(&mut self.stream, self.cipher.opening()).await
    }

    /// Both ways, for two tasks.
    pub(crate) fn split(self) -> (Mouth, Ear) {
        let (reader, writer) = self.stream.into_split();
        let (sealing, opening) = self.cipher.split();
        (Mouth(writer, sealing), Ear(reader, opening))
    }
}

/// The way out.
pub(crate) struct Mouth(OwnedWriteHalf, Sealing);

/// The way in.
pub(crate) struct Ear(OwnedReadHalf, Opening);

impl Ear {
    /// Reads one message. `Ok(None)`: the other side closed the connection between two messages.
    ///
    /// # Errors
    /// In words: cut within a message, or not a message.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        receive(&mut self.0, &mut self.1).await
    }
}

/// The sending end of a control connection: what is put in is sent in order, by a task of its own.
///
/// Dropping the last clone closes the connection once everything is sent.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(mpsc::UnboundedSender<Vec<u8>>, AbortHandle);

impl Outbox {
    /// Takes over the way out of a connection. `open` is dropped when everything is sent, or cannot be: a peer
    /// that is gone takes nothing and says nothing, so it gets no longer for it than it may be silent.
    pub(crate) fn start<T: Send + 'static>(mouth: Mouth, open: T) -> Self {
        let Mouth(mut half, mut sealing) = mouth;
        let (tx, mut rx) = mpsc::unbounded_channel::<Vec<u8>>();
        let writer = tokio::spawn(async move {
            while let Some(body) = rx.recv().await {
                let frame = frame(&mut sealing, &body);
                let longest =
                    if rx.is_closed() { limits::CONNECT_TIMEOUT } else { limits::PARTITION_TIMEOUT };
                if !matches!(timeout(longest, half.write_all(&frame)).await, Ok(Ok(()))) {
                    break;
                }
            }
            let _ = timeout(limits::CONNECT_TIMEOUT, half.shutdown()).await;
            drop(open);
        });
        Self(tx, writer.abort_handle())
    }

    /// Gives up what is not sent yet.
    pub(crate) fn abort(&self) {
        self.1.abort();
    }

    /// Whether somebody can still send on it: a handle for whoever reads the same connection.
    pub(crate) fn watch(&self) -> OutboxWatch {
        OutboxWatch(self.0.downgrade())
    }

    /// Sends a message. What cannot be sent any more is noticed by whoever reads the connection.
    pub(crate) fn send<T: Serialize>(&self, message: &T) {
        if let Ok(body) = codec::encode_control(message) {
            let _ = self.0.send(body);
        }
    }
}

/// Tells whether an [`Outbox`] is still held by somebody.
#[derive(Debug)]
pub(crate) struct OutboxWatch(mpsc::WeakUnboundedSender<Vec<u8>>);

impl OutboxWatch {
    pub(crate) fn hung_up(&self) -> bool {
        self.0.upgrade().is_none()
    }
}

/// An encoded message as a frame.
fn frame(sealing: &mut Sealing, body: &[u8]) -> Vec<u8> {
    // It is no longer than a control message may be, and then sealing does not fail.
    const { assert!(limits::CONTROL_BYTES + TAG_BYTES <= u16::MAX as usize) };
    let sealed = sealing.seal(body).unwrap_or_default();
    let mut frame = Vec::with_capacity(4 + sealed.len());
    frame.extend((sealed.len() as u32).to_le_bytes());
    frame.extend(sealed);
    frame
}

async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    opening: &mut Opening,
) -> Result<Option<T>, String> {
    let Some(sealed) = frames::read(stream).await? else { return Ok(None) };
    let body = opening.open(&sealed).ok_or(CHANGED)?;
    codec::decode_control(&body).map(Some).map_err(|e| e.to_string())
}

/// The other end of a connection, with an IPv4 address as such.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Our own address on a connection.
pub(crate) fn local_ip(stream: &TcpStream) -> io::Result<IpAddr> {
    Ok(stream.local_addr()?.ip().to_canonical())
}
