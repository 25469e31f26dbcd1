//! New connections to our listeners. Their first messages are read here, those of a limited number at a time.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::control::connection::{self, Connection, Outbox};
use super::host::interfaces;
use super::host::refused::{exhausted, refused};
use super::incoming::Incoming;
use super::link::dial::Link;
use super::link::frames::Words;
use super::noise::identity::ServerKey;
use super::noise::link;
use super::noise::transport::CHANGED;
use crate::crypto::link_keys::LinkKey;
use crate::limits;
use crate::proto::coordinator::Conn;
use crate::types::SessionId;
use crate::wire;
use crate::wire::Malformed;
use crate::wire::PREFACE_BYTES;
use crate::wire::Plane;
use crate::wire::control::Hello;
use crate::wire::control::ToCoordinator;
use crate::wire::data::ATTACH_BYTES;
use crate::wire::data::Attach;
use crate::wire::data::HEADER_BYTES;
use crate::wire::data::Header;
use crate::wire::data::Kind;

/// A listener, and whom it takes.
pub(super) struct Door {
    listener: TcpListener,
    /// The interfaces that it is for; empty: all.
    only: Vec<String>,
    /// Given up for a moment when there is no descriptor left, so that who comes is sent away at once.
    spare: Option<OwnedFd>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, only: Vec<String>) -> Self {
        let mut door = Self { listener, only, spare: None };
        door.refill();
        door
    }

    fn refill(&mut self) {
        self.spare = self.listener.as_fd().try_clone_to_owned().ok();
    }

    /// Hangs up on whoever comes next.
    async fn send_away(&mut self) {
        if self.spare.take().is_some() {
            let _ = timeout(limits::NEXT_ADDRESS_DELAY, self.listener.accept()).await;
        }
        sleep(AFTER_ERROR).await;
        self.refill();
    }
}

/// The pause after an error, lest one that stays makes the loop spin.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Accepts connections for ever, and hears each out in a task of its own; at most [`limits::HALF_OPEN`] at a time,
/// each for at most [`limits::PREFACE_TIMEOUT`]. Further ones wait in the kernel; those of a host that has its share are closed,
/// and those to an address that is not one of the door's interfaces'. If the system gives no more descriptors, those who
/// come are closed, too, and `sender` is told once.
pub(super) async fn accept<F, Fut>(mut door: Door, sender: mpsc::Sender<Incoming>, hear: F)
where
    F: Fn(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let half_open = Arc::new(Semaphore::new(limits::HALF_OPEN));
    let shares = Shares::default();
    let mut told = false;
    loop {
        let Ok(permit) = half_open.clone().acquire_owned().await else { return };
        match door.listener.accept().await {
            Ok((stream, addr)) => {
                let Some(local) = stream.local_addr().ok().filter(|a| interfaces::takes(&door.only, *a))
                else {
                    continue;
                };
                let own = local.ip() == addr.ip();
                let Some(share) = shares.take(addr.ip().to_canonical(), own) else { continue };
                let _ = stream.set_nodelay(true);
                let heard = hear(stream, addr);
                tokio::spawn(async move {
                    let _held = (permit, share);
                    let _ = timeout(limits::PREFACE_TIMEOUT, heard).await;
                });
            }
            Err(e) if exhausted(&e) => {
                if !std::mem::replace(&mut told, true) {
                    let words = refused("connections are refused", &e);
                    let _ = sender.send(Incoming::Warning(words)).await;
                }
                door.send_away().await;
            }
            // A connection that was gone before it was taken.
            Err(_) => sleep(AFTER_ERROR).await,
        }
    }
}

/// The number of connections of each host that are being heard out. One host must not take the places of all others.
#[derive(Clone, Debug, Default)]
struct Shares(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Shares {
    /// A place for one more of this host's, until it is dropped. This very host (`own`) may have many nodes.
    fn take(&self, addr: IpAddr, own: bool) -> Option<Share> {
        let counted = counted(addr);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |(who, most): &(IpAddr, usize)| held.get(who).is_some_and(|count| count >= most);
        if !own && counted.iter().any(full) {
            return None;
        }
        let who: Vec<_> = counted.into_iter().map(|(who, _)| who).collect();
        who.iter().for_each(|who| *held.entry(*who).or_default() += 1);
        Some(Share(self.clone(), who))
    }
}

/// The hosts or networks that a connection from this address counts for, and the limit of each.
fn counted(addr: IpAddr) -> Vec<(IpAddr, usize)> {
    let network = |v6: Ipv6Addr| IpAddr::from(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64));
    match addr {
        // A host has as many addresses of its network as it likes. Those of a link are many hosts', so each counts by
        // itself, and all of them leave room for others.
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            vec![(addr, limits::HALF_OPEN_PER_HOST), (network(v6), limits::HALF_OPEN / 2)]
        }
        IpAddr::V6(v6) => vec![(network(v6), limits::HALF_OPEN_PER_HOST)],
        addr => vec![(addr, limits::HALF_OPEN_PER_HOST)],
    }
}

struct Share(Shares, Vec<IpAddr>);

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        for who in &self.1 {
            if let Some(count) = held.get_mut(who) {
                *count -= 1;
                if *count == 0 {
                    held.remove(who);
                }
            }
        }
    }
}

/// Hears out whoever dials a node's data listener, and offers it to the driver.
pub(super) async fn accept_children(door: Door, own: Own, sender: mpsc::Sender<Incoming>) {
    accept(door, sender.clone(), move |mut stream, _| {
        let (own, sender) = (own.clone(), sender.clone());
        async move {
            if let Ok((words, attach)) = hear_child(&mut stream, &own).await {
                let _ = sender.send(Incoming::Offer(Link { stream, words }, attach)).await;
            }
        }
    })
    .await;
}

pub(super) async fn accept_control(
    door: Door,
    key: ServerKey,
    sender: mpsc::Sender<Incoming>,
    writing: mpsc::Sender<()>,
) {
    let next = Arc::new(AtomicU32::new(Conn::ROOT.0));
    accept(door, sender.clone(), move |stream, addr| {
        let conn = Conn(next.fetch_add(1, Ordering::Relaxed) + 1);
        let (key, sender, writing) = (key.clone(), sender.clone(), writing.clone());
        async move {
            let _ = hear_node(conn, stream, &key, connection::canonical(addr), sender, writing).await;
        }
    })
    .await;
}

/// Hears a node's hello, then leaves a task to read what else it says.
pub(super) async fn hear_node(
    conn: Conn,
    stream: TcpStream,
    key: &ServerKey,
    addr: SocketAddr,
    sender: mpsc::Sender<Incoming>,
    writing: mpsc::Sender<()>,
) -> Result<(), String> {
    let server_ip = connection::local_ip(&stream).map_err(|e| e.to_string())?;
    let mut connection = Connection::answer(stream, addr, key).await?;
    let Some(ToCoordinator::Hello(hello)) = connection.receive().await? else {
        return Err("no hello".into());
    };
    let (mouth, mut ear) = connection.split();
    let outbox = Outbox::start(mouth, writing);
    let (hello, watch) = (bounded(hello), outbox.watch());
    if sender.send(Incoming::Hello { conn, addr, server_ip, hello, outbox }).await.is_err() {
        return Ok(());
    }
    tokio::spawn(async move {
        let why = loop {
            // About silence the coordinator decides. Whoever was hung up on is heard until it closes, but not for ever.
            match timeout(limits::PARTITION_TIMEOUT, ear.receive()).await {
                Ok(Ok(Some(message))) => {
                    if watch.hung_up() || sender.send(Incoming::Said(conn, message)).await.is_err() {
                        return;
                    }
                }
                Ok(Ok(None)) => break "it closed the connection".to_string(),
                Ok(Err(why)) => break why,
                Err(_) => break format!("it has said nothing for {} s", limits::PARTITION_TIMEOUT.as_secs()),
            }
        };
        let _ = sender.send(Incoming::Gone(conn, why)).await;
    });
    Ok(())
}

/// A hello in which nothing is longer than it may be.
pub(super) fn bounded(mut hello: Hello) -> Hello {
    hello.label = crate::types::printable(&hello.label, limits::SESSION_NAME_BYTES);
    if hello.about.len() > limits::ABOUT_BYTES {
        hello.about.clear();
    }
    hello
}

/// The node that is dialled: its own key for the links to its children, and its session.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) session: SessionId,
    pub(super) key: Option<LinkKey>,
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
            let (child, cipher) = link::answer(stream, key, own.session).await?;
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

pub(super) async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), String> {
    stream.read_exact(buffer).await.map(|_| ()).map_err(|e| e.to_string())
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
        let linked = |n: usize| shares.take(addr(&format!("fe80::{n:x}")), false);
        let held: Vec<_> = (0..limits::HALF_OPEN).filter_map(|n| linked(1 + n % 5)).collect();
        assert_eq!(held.len(), limits::HALF_OPEN / 2, "five hosts of a link, or one that has five addresses");
        assert!(linked(9).is_none() && shares.take(other, false).is_some());
        drop(held);
        assert_eq!(take(far, 1).len(), 1);
        assert!(shares.0.lock().unwrap().is_empty());
    }
}
