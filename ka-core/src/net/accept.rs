//! New connections to our listeners. Their first messages are read here, those of a limited number at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
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
/// each for at most [`limits::PREFACE_TIMEOUT`]. If there is no place, the one that [`Places::crowding`] names goes; no more than
/// one in [`limits::EVICT_INTERVAL`]. Those of a host that has its share are closed, and those to an address that is not one
/// of the door's interfaces'. If the system gives no more descriptors, those who come are closed, too, and `sender` is told
/// once. `hear` says whether the peer has proved that it belongs to the session.
pub(super) async fn accept<F, Fut>(mut door: Door, sender: mpsc::Sender<Incoming>, hear: F)
where
    F: Fn(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = bool> + Send + 'static,
{
    let half_open = HalfOpen::default();
    let mut told = false;
    loop {
        match door.listener.accept().await {
            Ok((stream, addr)) => {
                let Some(local) = stream.local_addr().ok().filter(|a| interfaces::takes(&door.only, *a))
                else {
                    continue;
                };
                let host = counted(addr.ip().to_canonical());
                let _ = stream.set_nodelay(true);
                if half_open.hear(host, local.ip() == addr.ip(), hear(stream, addr)) {
                    // Whoever is heard has so many times this to say who it is, however many come.
                    sleep(limits::EVICT_INTERVAL).await;
                }
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

/// The connections that are being heard out, each with its task.
#[derive(Clone, Default)]
struct HalfOpen(Arc<Mutex<Places<AbortHandle>>>);

impl HalfOpen {
    /// Hears out a connection of this host, unless that has its share; says whether another one had to go for it.
    fn hear(&self, host: IpAddr, own: bool, heard: impl Future<Output = bool> + Send + 'static) -> bool {
        let Some(number) = self.lock().take(host, own) else { return false };
        let held = Held(self.clone(), number);
        let task = tokio::spawn(async move {
            let held = held;
            if timeout(limits::PREFACE_TIMEOUT, heard).await == Ok(true) {
                held.0.lock().belongs(host);
            }
        });
        let gone = self.lock().hold(number, task.abort_handle());
        if let Some(task) = &gone {
            task.abort();
        }
        gone.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Places<AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped.
struct Held(HalfOpen, u64);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().free(self.1);
    }
}

/// The places of a listener. Pure.
struct Places<T> {
    /// By their numbers: the oldest first.
    taken: BTreeMap<u64, (IpAddr, Option<T>)>,
    next: u64,
    of_host: BTreeMap<IpAddr, usize>,
    /// Hosts of which one has proved that it belongs to the session.
    known: BTreeSet<IpAddr>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { taken: BTreeMap::new(), next: 0, of_host: BTreeMap::new(), known: BTreeSet::new() }
    }
}

impl<T> Places<T> {
    /// A place for one more of this host's. This very host (`own`) may have many nodes.
    fn take(&mut self, host: IpAddr, own: bool) -> Option<u64> {
        let count = self.of_host.entry(host).or_default();
        if !own && *count >= limits::HALF_OPEN_PER_HOST {
            return None;
        }
        *count += 1;
        self.taken.insert(self.next, (host, None));
        self.next += 1;
        Some(self.next - 1)
    }

    /// Who is heard at a place, unless that has ended already. If that makes too many, the one that has to go is returned.
    fn hold(&mut self, number: u64, task: T) -> Option<T> {
        if let Some((_, held)) = self.taken.get_mut(&number) {
            *held = Some(task);
        }
        if self.taken.len() <= limits::HALF_OPEN {
            return None;
        }
        let gone = self.crowding()?;
        self.free(gone)
    }

    /// The oldest of the host that has the most: first of those of which nobody has ever belonged to the session. So who
    /// has many addresses drives out its own connections, and a member that comes back none but a stranger's.
    fn crowding(&self) -> Option<u64> {
        let rank = |number: &u64, host: &IpAddr| {
            let count = self.of_host.get(host).copied().unwrap_or_default();
            (self.known.contains(host), Reverse(count), *number)
        };
        self.taken.iter().map(|(number, (host, _))| rank(number, host)).min().map(|(.., number)| number)
    }

    fn free(&mut self, number: u64) -> Option<T> {
        let (host, task) = self.taken.remove(&number)?;
        if let Some(count) = self.of_host.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.of_host.remove(&host);
            }
        }
        task
    }

    /// One of this host's has proved that it belongs to the session.
    fn belongs(&mut self, host: IpAddr) {
        if self.known.len() < limits::NODES as usize {
            self.known.insert(host);
        }
    }
}

/// The host that a connection from this address counts for: a host has as many addresses of its IPv6 network as it likes.
/// Those of a link are many hosts', so each counts by itself.
fn counted(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(v6) if !v6.is_unicast_link_local() => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        addr => addr,
    }
}

/// Hears out whoever dials a node's data listener, and offers it to the driver.
pub(super) async fn accept_children(door: Door, own: Own, sender: mpsc::Sender<Incoming>) {
    accept(door, sender.clone(), move |mut stream, _| {
        let (own, sender) = (own.clone(), sender.clone());
        async move {
            let Ok((words, attach)) = hear_child(&mut stream, &own).await else { return false };
            let _ = sender.send(Incoming::Offer(Link { stream, words }, attach)).await;
            own.key.is_some()
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
            let heard = hear_node(conn, stream, &key, connection::canonical(addr), sender, writing).await;
            heard.is_ok() && key.key().is_secure()
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
            let (child, keys) = link::answer(stream, key, own.session).await?;
            (Some(child), Words::sealed(keys))
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

    fn addr(ip: &str) -> IpAddr {
        counted(ip.parse().unwrap())
    }

    /// Connections of this host, as far as it gets places, and those that had to go for them.
    fn come(places: &mut Places<IpAddr>, host: IpAddr, n: usize) -> (usize, Vec<IpAddr>) {
        let own = host == addr("127.0.0.1");
        let taken: Vec<_> =
            (0..n).filter_map(|_| places.take(host, own).map(|at| places.hold(at, host))).collect();
        (taken.len(), taken.into_iter().flatten().collect())
    }

    #[test]
    fn a_host_has_its_share_and_this_one_has_more() {
        let mut places = Places::default();
        let [far, other, here] = ["10.0.0.9", "10.0.0.8", "127.0.0.1"].map(addr);
        assert_eq!(come(&mut places, far, 100), (limits::HALF_OPEN_PER_HOST, vec![]));
        assert_eq!((come(&mut places, other, 1).0, come(&mut places, here, 100).0), (1, 100));
        let mut many = (0..100).map(|i| come(&mut places, addr(&format!("fd00::{i:x}")), 1).0);
        assert_eq!(many.by_ref().sum::<usize>(), limits::HALF_OPEN_PER_HOST);
        for number in 0..places.next {
            places.free(number);
        }
        assert!(places.taken.is_empty() && places.of_host.is_empty());
        assert_eq!(come(&mut places, far, 1).0, 1);
    }

    #[test]
    fn who_has_sixteen_addresses_drives_out_its_own_and_who_comes_is_heard() {
        for net in ["10.0.0.", "fe80::"] {
            let mut places = Places::default();
            let hosts: Vec<_> = (1..=16).map(|n| addr(&format!("{net}{n}"))).collect();
            let all: usize = hosts.iter().map(|host| come(&mut places, *host, 100).0).sum();
            assert!(all >= limits::HALF_OPEN && places.taken.len() == limits::HALF_OPEN, "{all}");
            // Two that come, whatever the others do meanwhile.
            for honest in ["10.0.1.1", "fe80::99"].map(addr) {
                let (heard, gone) = come(&mut places, honest, 1);
                assert!(heard == 1 && gone.iter().all(|gone| hosts.contains(gone)) && gone.len() == 1);
            }
            for round in 0..1000 {
                let (_, gone) = come(&mut places, hosts[round % 16], 1);
                assert!(gone.iter().all(|gone| hosts.contains(gone)), "{gone:?}");
            }
        }
    }

    #[test]
    fn whoever_has_an_address_for_each_connection_drives_out_no_member_that_comes_back() {
        let mut places = Places::default();
        let member = addr("10.0.1.1");
        places.belongs(member);
        assert_eq!(come(&mut places, member, 1).0, 1);
        let mut gone = Vec::new();
        for n in 0..2000 {
            gone.extend(come(&mut places, addr(&format!("fe80::1:{n:x}")), 1).1);
        }
        assert!(gone.len() == 2001 - limits::HALF_OPEN && !gone.contains(&member));
        // Of those that nobody knows the oldest goes: each has been heard while so many others came.
        assert_eq!(gone[..2], [addr("fe80::1:0"), addr("fe80::1:1")]);
        let known = places.known.len();
        (0..70_000_u32).for_each(|n| places.belongs(IpAddr::from(n.to_be_bytes())));
        assert!(known == 1 && places.known.len() == limits::NODES as usize);
    }
}
