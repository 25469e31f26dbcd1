//! Data links before the tape flows: dialling a parent, hearing a child out.
//!
//! Each attempt is a small task with a deadline, whose result goes to the driver. What flows afterwards is
//! `relay`'s.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

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
/// each for at most [`limits::PREFACE`]. Further ones wait in the kernel; those of a host that has its share are closed.
pub(super) async fn accept<F, Fut>(listener: TcpListener, hear: F)
where
    F: Fn(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let half_open = Arc::new(Semaphore::new(limits::HALF_OPEN));
    let shares = Shares::default();
    loop {
        let Ok(permit) = half_open.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, addr)) => {
                let own = stream.local_addr().is_ok_and(|own| own.ip() == addr.ip());
                let Some(share) = shares.take(addr.ip().to_canonical(), own) else { continue };
                let _ = stream.set_nodelay(true);
                let heard = hear(stream, addr);
                tokio::spawn(async move {
                    let _held = (permit, share);
                    let _ = timeout(limits::PREFACE, heard).await;
                });
            }
            // Out of descriptors, or a connection gone before it was taken: neither is for ever.
            Err(_) => tokio::time::sleep(limits::REDIAL).await,
        }
    }
}

/// How many connections of each host are being heard out. One host must not take the places of all others.
#[derive(Clone, Debug, Default)]
struct Shares(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Shares {
    /// A place for one more of this host's, until it is dropped. This very host (`own`) may have many nodes.
    fn take(&self, addr: IpAddr, own: bool) -> Option<Share> {
        let host = match addr {
            // A host has as many addresses of its network as it likes.
            IpAddr::V6(v6) if !v6.is_unicast_link_local() => {
                Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()
            }
            addr => addr,
        };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(host).or_default();
        if *count >= limits::HALF_OPEN_PER_HOST && !own {
            return None;
        }
        *count += 1;
        Some(Share(self.clone(), host))
    }
}

struct Share(Shares, IpAddr);

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.1);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_share_and_this_one_has_more() {
        let shares = Shares::default();
        let addr = |ip: &str| ip.parse::<IpAddr>().unwrap();
        let [far, other, here] = ["10.0.0.9", "10.0.0.8", "127.0.0.1"].map(addr);
        let take =
            |host, n: usize| (0..n).filter_map(|_| shares.take(host, host == here)).collect::<Vec<_>>();
        let held = take(far, 100);
        assert_eq!(held.len(), limits::HALF_OPEN_PER_HOST);
        assert_eq!((take(other, 1).len(), take(here, 100).len()), (1, 100));
        drop(held);
        let many = (0..100).filter_map(|i| shares.take(addr(&format!("fd00::{i:x}")), false));
        assert_eq!(many.collect::<Vec<_>>().len(), limits::HALF_OPEN_PER_HOST);
        assert_eq!(take(far, 1).len(), 1);
        assert!(shares.0.lock().unwrap().is_empty());
    }
}
