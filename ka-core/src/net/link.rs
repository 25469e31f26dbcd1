//! Data links before the tape flows: dialling a parent, hearing a child out.
//!
//! Each attempt is a small task with a deadline, whose result goes to the driver. What flows afterwards is
//! `relay`'s.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::driver::Incoming;
use crate::limits;
use crate::wire::control::LinkFault;
use crate::wire::data::{ATTACH_BYTES, Attach, HEADER_BYTES, Header, Kind, Refuse};
use crate::wire::{self, Malformed, PREFACE_BYTES, Plane};

/// Dials a parent, attaches, and waits for its preface: the sign that it accepts.
///
/// # Errors
/// [`LinkFault::Gone`] if it does not hold what the child lacks, [`LinkFault::Unreachable`] for any other reason.
pub(super) async fn dial(addr: SocketAddr, attach: Attach) -> Result<TcpStream, LinkFault> {
    let mut stream = connect(addr).await.map_err(unreachable)?;
    let attempt = async {
        let mut hello = Vec::from(wire::preface(Plane::Data));
        hello.extend(Header { kind: Kind::Attach, len: ATTACH_BYTES }.encode());
        hello.extend(attach.encode());
        stream.write_all(&hello).await.map_err(unreachable)?;
        hear_parent(&mut stream).await
    };
    match timeout(limits::OFFER + limits::CONNECT, attempt).await {
        Ok(result) => result.map(|()| stream),
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

/// Reads whether a parent accepts.
async fn hear_parent(stream: &mut TcpStream) -> Result<(), LinkFault> {
    let mut preface = [0; PREFACE_BYTES];
    stream.read_exact(&mut preface).await.map_err(unreachable)?;
    wire::check_preface(Plane::Data, &preface).map_err(unreachable)?;
    if !wire::refuses(&preface) {
        return Ok(());
    }
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(unreachable)?;
    let Ok(Header { kind: Kind::Refuse, len }) = Header::decode(header) else {
        return Err(unreachable(Malformed::Content));
    };
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.map_err(unreachable)?;
    match Refuse::decode(&body).map_err(unreachable)? {
        Refuse { kept: Some(kept), .. } => Err(LinkFault::Gone(kept)),
        Refuse { kept: None, why } => Err(unreachable(format!("it refuses: {why}"))),
    }
}

/// Tells a child why it may not attach, as far as its socket takes that without waiting.
pub(super) fn refuse(stream: &TcpStream, refuse: &Refuse) {
    let body = refuse.encode();
    let mut bytes = Vec::from(wire::refusing_preface(Plane::Data));
    bytes.extend(Header { kind: Kind::Refuse, len: body.len() }.encode());
    bytes.extend(body);
    let _ = stream.try_write(&bytes);
}

/// Accepts connections for ever, and hears each out in a task of its own; at most [`limits::HALF_OPEN`] at a time,
/// each for at most [`limits::PREFACE`]. Further ones wait in the kernel.
pub(super) async fn accept<F, Fut>(listener: TcpListener, hear: F)
where
    F: Fn(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let half_open = Arc::new(Semaphore::new(limits::HALF_OPEN));
    loop {
        let Ok(permit) = half_open.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, addr)) => {
                let _ = stream.set_nodelay(true);
                let heard = hear(stream, addr);
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = timeout(limits::PREFACE, heard).await;
                });
            }
            // Out of descriptors, or a connection gone before it was taken: neither is for ever.
            Err(_) => tokio::time::sleep(limits::REDIAL).await,
        }
    }
}

/// Hears out whoever dials a node's data listener, and offers it to the driver.
pub(super) async fn accept_children(listener: TcpListener, sender: mpsc::Sender<Incoming>) {
    accept(listener, move |mut stream, _| {
        let sender = sender.clone();
        async move {
            if let Ok(attach) = hear_child(&mut stream).await {
                let _ = sender.send(Incoming::Offer(stream, attach)).await;
            }
        }
    })
    .await;
}

/// Reads who wants to attach.
///
/// # Errors
/// [`Malformed`] if that is not what comes. A child of another version is told this one's.
async fn hear_child(stream: &mut TcpStream) -> Result<Attach, Malformed> {
    let mut head = [0; PREFACE_BYTES];
    read(stream, &mut head).await?;
    if let Err(why) = wire::check_preface(Plane::Data, &head) {
        if matches!(why, Malformed::Version(_)) {
            let _ = stream.write_all(&wire::preface(Plane::Data)).await;
        }
        return Err(why);
    }
    let mut frame = [0; HEADER_BYTES + ATTACH_BYTES];
    read(stream, &mut frame).await?;
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Content)?;
    match Header::decode(*header)? {
        Header { kind: Kind::Attach, len: ATTACH_BYTES } => Attach::decode(body),
        _ => Err(Malformed::Content),
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), Malformed> {
    stream.read_exact(buffer).await.map(|_| ()).map_err(|_| Malformed::Content)
}
