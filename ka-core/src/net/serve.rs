//! A server's session from its opening to its report.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accept::{self, Door, Own, accept_control};
use super::clock::Clock;
use super::data::ends::Feed;
use super::data::relay::Relay;
use super::discovery::{self, Responder, Unanswered};
use super::driver::{Brain, Driver, End, Host};
use super::error::ServeError;
use super::host::interfaces::{self, Interface};
use super::host::memory::default_window_bytes;
use super::host::ports::{self, PortError, Service};
use super::incoming::Incoming;
use super::noise::identity::ServerKey;
use super::session::{Command, Control, Inbox, ServerConfig, ServerEvent, Stream};
use crate::crypto::link_keys::LinkKey;
use crate::crypto::payload::PayloadKey;
use crate::crypto::session_key::Key;
use crate::limits;
use crate::proto::node::Input as NodeInput;
use crate::proto::{Coordinator, Node, Report, coordinator};
use crate::tape::chain::Sealer;
use crate::types::{NodeId, SessionId, SessionName};

/// Serves one session: gathers nodes, sends them the streams, and reports what became of each.
///
/// It runs on the caller's runtime, in the caller's task, for as long as the session takes; `events` is called
/// from there and must not block. Dropping the future ends the session less politely than [`Control::stop`].
///
/// # Errors
/// [`ServeError`] when the session cannot be opened. Once it is, whatever happens is in the report.
pub async fn serve(
    mut config: ServerConfig,
    streams: Vec<Stream>,
    mut inbox: Inbox,
    mut events: impl FnMut(ServerEvent) + Send,
) -> Result<Report, ServeError> {
    check(&config, &streams)?;
    let clock = Clock::start();
    let session = SessionId(random()?);
    let generated = || ServerKey::generate().map_err(|e| ServeError::Io("no random numbers".into(), e));
    let server_key = config.key.clone().map_or_else(generated, Ok)?;
    let payload = payload_key(config.encrypt && server_key.key().is_secure())?;
    let links = server_key.key().is_secure().then(random).transpose()?.map(LinkKey::new);
    let sealer = Sealer::new(session, random()?, payload.clone());
    let key = sealer.public_key();
    let window_bytes = config.window_bytes.unwrap_or_else(default_window_bytes);

    let asked_at = config.ports.discovery;
    let here = interfaces::usable(&config.ports.interfaces).map_err(ServeError::Interface)?;
    let listen = |service, wanted, usual| {
        ports::listen(service, wanted, usual, &config.ports).map_err(ServeError::Port)
    };
    let (control, control_port) = listen(Service::Control, config.ports.control, limits::CONTROL_PORT)?;
    let (data, data_port) = listen(Service::Data, config.ports.data, limits::DATA_PORT)?;
    let responder = Responder::bind(asked_at, &config.ports.interfaces).map_err(|error| {
        ServeError::Port(PortError { service: Service::Discovery, ports: asked_at..=asked_at, error })
    })?;

    let door = |listener| Door::new(listener, config.ports.interfaces.clone());
    let (control, data) = (door(control), door(data));
    let mut tasks = JoinSet::new();
    let probing = Arc::new(AtomicBool::new(config.session.is_some()));
    let flag = probing.clone();
    let (name, known_by) = (config.session.clone(), server_key.clone());
    let (sender, incoming) = mpsc::channel(1024);
    let warner = sender.clone();
    let unanswered = move |who: Unanswered| drop(warner.try_send(Incoming::Warning(who.to_string())));
    tasks.spawn(async move {
        match responder.run(name, session, control_port, flag, known_by, unanswered).await {}
    });
    let nodes_key = server_key.key().clone();
    events(ServerEvent::Open { session, key: nodes_key, control_port, data_port, window_bytes });
    if config.session.is_none() {
        events(ServerEvent::Nameless(reached_by(&here)));
    }

    // Each writer keeps a clone until everything is sent.
    let (writing, mut written) = mpsc::channel::<()>(1);
    tasks.spawn(accept_control(control, server_key.clone(), sender.clone(), writing));
    let own = Own { session, key: links.as_ref().map(|secret| secret.of_node(NodeId::ROOT)) };
    tasks.spawn(accept::accept_children(data, own, sender.clone()));

    let thread = |e| ServeError::Io("cannot start a thread".into(), e);
    let bytes = streams.iter().map(|s| s.source.size()).sum();
    let feed = Feed::start(streams, config.spool.take(), payload.clone(), &config.threads).map_err(thread)?;
    let reread = feed.reread();
    let relay = Relay::root(sealer, feed, &config.threads).map_err(thread)?;
    let mut node = Node::root(session, window_bytes, reread);
    node.handle(clock.now(), NodeInput::SetRate(config.rate));
    let sealed = Sealed { session, key, payload, links };
    let machine = machine_config(&config, sealed, bytes, reread, data_port);
    let coordinator = Coordinator::new(clock.now(), machine);
    let host = Host { coordinator, outboxes: BTreeMap::new(), admit: config.admit, events: &mut events };
    let brain = Brain::Here(Box::new(host));
    let driver = Driver::new(clock, node, relay, brain, (sender, incoming));

    let rival = probe(config.session, session, &config.ports, probing, server_key.key());
    let (end, rival) = run_and_probe(driver, &mut inbox, rival).await;
    tasks.abort_all();
    // The last words to each node.
    let _ = timeout(limits::CONNECT_TIMEOUT, written.recv()).await;
    match (end, rival) {
        (_, Some((name, addr))) => Err(ServeError::Rival(name, addr)),
        (End::Session(report), None) => Ok(report),
        (End::Node(..), None) => unreachable!("the server's brain is here"),
    }
}

/// The identity of a session, and what it is signed and encrypted with.
struct Sealed {
    session: SessionId,
    key: [u8; 32],
    payload: PayloadKey,
    links: Option<LinkKey>,
}

/// The configuration of the session's coordinator.
fn machine_config(
    config: &ServerConfig,
    sealed: Sealed,
    bytes: Option<u64>,
    reread: bool,
    data_port: u16,
) -> coordinator::Config {
    let Sealed { session, key, payload, links } = sealed;
    coordinator::Config {
        session,
        name: config.session.clone(),
        key,
        payload,
        links,
        nodes: config.nodes,
        fan_out: config.fan_out,
        start_after: config.start_after,
        min_nodes: config.min_nodes,
        slow: config.slow,
        min_rate: config.min_rate,
        finish: config.finish,
        carries: interfaces::carries(&config.ports.interfaces),
        rate: config.rate,
        bytes,
        reread,
        release_delay: config.release_delay,
        data_port,
    }
}

/// The addresses to give people, of those that we have: link-local ones only if there are no others.
fn reached_by(here: &[Interface]) -> Vec<IpAddr> {
    let (near, far): (Vec<IpAddr>, Vec<IpAddr>) =
        here.iter().filter(|i| !i.loopback).map(|i| i.addr).partition(|ip| interfaces::needs_scope(*ip));
    if far.is_empty() { near } else { far }
}

/// Holds the numbers against their limits.
fn check(config: &ServerConfig, streams: &[Stream]) -> Result<(), ServeError> {
    let wrong = |what: &str| Err(ServeError::Config(what.into()));
    if config.nodes == 0 || config.nodes > limits::NODES {
        return wrong("a session has 1 to 65536 nodes");
    }
    if config.min_nodes == 0 || config.min_nodes > config.nodes {
        return wrong(
            "the least number of nodes is at least 1, and at most the number the session waits for",
        );
    }
    if config.fan_out == 0 || config.fan_out > limits::FAN_OUT {
        return wrong("a node has 1 to 64 children");
    }
    if config.window_bytes.is_some_and(|w| w < limits::WINDOW_BYTES_MIN) {
        return wrong("a window has at least 1 MiB");
    }
    if config.rate == Some(0) {
        return wrong("a rate limit is at least one byte per second");
    }
    if streams.is_empty() || streams.len() > limits::STREAMS as usize {
        return wrong("a session has 1 to 4096 streams");
    }
    let long = |s: &Stream| {
        s.name.len() > limits::STREAM_NAME_BYTES || s.metadata.len() > limits::STREAM_METADATA_BYTES
    };
    if streams.iter().any(long) {
        return wrong("a stream's name has at most 255 bytes, its metadata at most 64 KiB");
    }
    Ok(())
}

/// A new key for what this processor encrypts fastest.
fn payload_key(encrypt: bool) -> Result<PayloadKey, ServeError> {
    #[cfg(target_arch = "x86_64")]
    let aes = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let aes = false;
    Ok(match (encrypt, aes) {
        (false, _) => PayloadKey::Plain,
        (true, true) => PayloadKey::Aes256(random()?),
        (true, false) => PayloadKey::ChaCha20(random()?),
    })
}

fn random<const N: usize>() -> Result<[u8; N], ServeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| ServeError::Io("no random numbers".into(), e.into()))?;
    Ok(bytes)
}

/// Asks whether another server has the session's name. It goes on beside the gathering, so that it delays nobody.
async fn probe(
    name: Option<SessionName>,
    session: SessionId,
    ports: &ports::Ports,
    probing: Arc<AtomicBool>,
    key: &Key,
) -> Option<(SessionName, SocketAddr)> {
    let name = name?;
    let rival = discovery::rival(&name, session, &ports.interfaces, ports.discovery, key).await;
    probing.store(false, Ordering::Release);
    rival.map(|r| (name, r.control))
}

/// Runs the session and the probe side by side; a rival ends the session.
async fn run_and_probe(
    driver: Driver<'_>,
    inbox: &mut Inbox,
    rival: impl Future<Output = Option<(SessionName, SocketAddr)>>,
) -> (End, Option<(SessionName, SocketAddr)>) {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    // The session hears of a rival as it hears of everything else that stops it.
    let (control, mut merged) = Control::new();
    let mut session = pin!(driver.run(&mut merged));
    let mut rival = pin!(rival);
    let mut asking = true;
    let mut found = None;
    poll_fn(move |cx| {
        while let Poll::Ready(Some(command)) = inbox.0.poll_recv(cx) {
            match command {
                Command::Go => control.go(),
                Command::Stop(who) => control.stop(who),
                Command::Rate(rate) => control.set_rate(rate),
                Command::Note(_) | Command::State(_) => {}
            }
        }
        if asking && let Poll::Ready(answer) = rival.as_mut().poll(cx) {
            asking = false;
            if let Some((_, addr)) = &answer {
                control.stop(format!("another server at {addr} serves a session of the same name"));
            }
            found = answer;
        }
        session.as_mut().poll(cx).map(|end| (end, found.take()))
    })
    .await
}
