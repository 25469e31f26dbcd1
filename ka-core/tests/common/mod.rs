//! A session in one process for tests: sources in memory, sinks that remember.
#![allow(dead_code, reason = "each file of tests takes what it needs")]

pub(crate) mod fake;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ka_core::crypto::session_key::Key;
use ka_core::net::{
    ClientConfig, ClientEvent, Control, JoinError, NodeEnd, Ports, ServeError, ServerConfig, ServerEvent,
    ServerKey, Stream, join, serve,
};
use ka_core::proto::{Event, Report};
use ka_core::stream::{ReadAt, Sink, Source, Spool, Stop};
use ka_core::types::{NodeId, Offset, SessionId, SessionName};
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than any step of a test takes on a slow machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Bytes that do not repeat, the same every time.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend(x.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// What a session of a test is.
pub(crate) struct Lab {
    pub(crate) name: SessionName,
    pub(crate) key: ServerKey,
    pub(crate) port: u16,
    pub(crate) fan_out: u32,
    pub(crate) window: Option<u64>,
    pub(crate) source_fails: bool,
    /// Stop the session once some node has received so much.
    pub(crate) stop_after: Option<u64>,
    /// Each source waits there, half way.
    pub(crate) gate: Option<Gate>,
    /// What the sources give when they are read again.
    pub(crate) again: Again,
    /// Nodes reach the server by this port of this host, and do not ask for it.
    pub(crate) control: Option<u16>,
}

/// What came of it.
pub(crate) struct Outcomes {
    pub(crate) server: Report,
    pub(crate) nodes: Vec<NodeOutcome>,
}

/// What came of one node: how it ended, and what its sinks got (name, bytes, finished).
pub(crate) struct NodeOutcome {
    pub(crate) end: NodeEnd,
    pub(crate) streams: Vec<Got>,
    /// How many of its sinks were told that their stream will not be completed.
    pub(crate) aborted: usize,
}

/// What a sink got: the stream's name, its bytes, whether it was told that they are complete.
pub(crate) type Got = (String, Vec<u8>, bool);

/// What a node's sinks got by now.
#[derive(Default)]
struct Kept {
    streams: Vec<Got>,
    aborted: usize,
}

/// How a node's sink behaves.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum NodeSink {
    Good,
    FailsAfter(usize),
    Slow(Duration),
}

impl Lab {
    /// A lab of its own: other tests run at the same time.
    pub(crate) fn new(name: &str) -> Self {
        let port = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        Self {
            name: SessionName::new(format!("{name}-{}", std::process::id())).unwrap(),
            key: ServerKey::generate().unwrap(),
            port,
            fan_out: 1,
            window: None,
            source_fails: false,
            stop_after: None,
            gate: None,
            again: Again::Nothing,
            control: None,
        }
    }

    fn ports(&self) -> Ports {
        Ports { discovery: self.port, interfaces: vec!["lo".into()], ..Ports::default() }
    }

    /// Starts a server for `n` nodes.
    pub(crate) fn serve(&self, n: u32, streams: Vec<(&str, Vec<u8>)>) -> Serving {
        let (control, inbox) = Control::new();
        let source = |bytes: Vec<u8>| Memory {
            half: if self.gate.is_some() { bytes.len() / 2 } else { 0 },
            gate: self.gate.clone(),
            again: match self.again {
                Again::TheSame => Some(Some(bytes.clone().into())),
                Again::Another => Some(Some(bytes.iter().rev().copied().collect())),
                Again::Nonsense => Some(None),
                Again::Nothing | Again::Spooled => None,
            },
            bytes: bytes.into(),
            fails: self.source_fails,
        };
        let spool = || Spool::open(&std::env::temp_dir()).unwrap();
        let streams = streams
            .into_iter()
            .map(|(name, bytes)| Stream {
                name: name.into(),
                metadata: Vec::new(),
                source: Box::new(source(bytes)),
            })
            .collect();
        let config = ServerConfig {
            session: Some(self.name.clone()),
            key: Some(self.key.clone()),
            nodes: n,
            fan_out: self.fan_out,
            window_bytes: self.window,
            spool: matches!(self.again, Again::Spooled).then(spool),
            ports: self.ports(),
            ..ServerConfig::default()
        };
        let (tx, events) = mpsc::unbounded_channel();
        let (stop_after, stopper) = (self.stop_after, control.clone());
        let task = tokio::spawn(async move {
            serve(config, streams, inbox, move |event| {
                if let ServerEvent::Session(Event::Progress { node, progress }) = &event
                    && node.0 > 0
                    && stop_after.is_some_and(|s| progress.received.0 >= s)
                {
                    stopper.stop("the test");
                }
                let _ = tx.send(event);
            })
            .await
        });
        Serving { task, control, events }
    }

    /// How its nodes join.
    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig {
            session: Some(self.name.clone()),
            key: Some(self.key.key().clone()),
            window_bytes: self.window,
            discover_timeout: Some(Duration::from_secs(20)),
            server: self.control.map(|_| Ipv4Addr::LOCALHOST.into()),
            ports: Ports { control: self.control, ..self.ports() },
            ..ClientConfig::default()
        }
    }

    /// Starts a node, with sinks made by `sink`, given the stream's name.
    pub(crate) fn join(&self, sink: impl Fn(&str) -> NodeSink + Send + 'static) -> Joining {
        let config = self.client();
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let (control, inbox) = Control::new();
        let keeping = kept.clone();
        let open = move |info: &ka_core::tape::chain::StreamInfo| {
            let kind = sink(&info.name);
            keeping.lock().unwrap().streams.push((info.name.clone(), Vec::new(), false));
            Ok(Box::new(Memo { kept: keeping.clone(), kind }) as Box<dyn Sink>)
        };
        let is_in = Arc::new(Notify::new());
        let inside = is_in.clone();
        let events = move |event| {
            if let ClientEvent::Joined { .. } = event {
                inside.notify_one();
            }
        };
        let task = tokio::spawn(async move { join(config, open, inbox, events).await });
        Joining { task, control, kept, is_in }
    }

    /// Runs a session of `n` nodes with sinks made by `sink`, given the node's rank of joining and the stream.
    pub(crate) async fn run(
        &self,
        n: u32,
        streams: Vec<(&str, Vec<u8>)>,
        sink: impl Fn(usize, &str) -> NodeSink + Copy + Send + 'static,
    ) -> Outcomes {
        let mut server = self.serve(n, streams);
        server.open().await;
        let mut joining = Vec::new();
        for rank in 0..n as usize {
            // One after the other, so that rank and number agree.
            joining.push(self.join(move |name| sink(rank, name)));
            server.joined().await;
        }
        let server = server.report().await;
        let mut nodes = Vec::new();
        for node in joining {
            nodes.push(node.outcome().await);
        }
        Outcomes { server, nodes }
    }
}

/// A server that runs.
pub(crate) struct Serving {
    task: JoinHandle<Result<Report, ServeError>>,
    pub(crate) control: Control,
    events: mpsc::UnboundedReceiver<ServerEvent>,
}

/// Where a server listens, and for what.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) key: Key,
    pub(crate) session: SessionId,
    pub(crate) control: SocketAddr,
    pub(crate) data: SocketAddr,
}

impl Serving {
    /// Waits for the event of which `wanted` makes something.
    pub(crate) async fn until<T>(&mut self, what: &str, wanted: impl Fn(ServerEvent) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = timeout(LONG, async {
            while let Some(event) = self.events.recv().await {
                seen.push(format!("{event:?}"));
                if let Some(found) = wanted(event) {
                    return Some(found);
                }
            }
            None
        });
        match found.await {
            Ok(Some(found)) => found,
            end => panic!("{what}: {}; events: {seen:#?}", if end.is_ok() { "never" } else { "not in time" }),
        }
    }

    /// Waits until it listens.
    pub(crate) async fn open(&mut self) -> Place {
        self.until("the server listens", |e| match e {
            ServerEvent::Open { session, key, control_port, data_port, .. } => Some(Place {
                key,
                session,
                control: (Ipv4Addr::LOCALHOST, control_port).into(),
                data: (Ipv4Addr::LOCALHOST, data_port).into(),
            }),
            _ => None,
        })
        .await
    }

    /// Waits until the next node is in: which, and where its data listener is.
    pub(crate) async fn joined(&mut self) -> (NodeId, SocketAddr) {
        self.until("a node joins", |e| match e {
            ServerEvent::Session(Event::Joined { node, addr, .. }) => Some((node, addr)),
            _ => None,
        })
        .await
    }

    /// Waits until some child has a link to its parent.
    pub(crate) async fn linked(&mut self) {
        let is_linked = |e| matches!(e, ServerEvent::Session(Event::Linked { .. })).then_some(());
        self.until("a link comes up", is_linked).await;
    }

    /// Waits until some bytes are at a node.
    pub(crate) async fn receives(&mut self, node: NodeId) {
        let some = |e| match e {
            ServerEvent::Session(Event::Progress { node: n, progress }) if n == node => {
                (progress.received > Offset::ZERO).then_some(())
            }
            _ => None,
        };
        self.until("the first bytes arrive", some).await;
    }

    /// Waits for its end.
    pub(crate) async fn report(self) -> Report {
        self.report_and_events().await.0
    }

    /// Waits for its end; also what happened that nobody waited for.
    pub(crate) async fn report_and_events(mut self) -> (Report, Vec<ServerEvent>) {
        let report = timeout(LONG, self.task).await.expect("the server ends in time").unwrap().unwrap();
        let mut events = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            events.push(event);
        }
        (report, events)
    }
}

/// A node that runs.
pub(crate) struct Joining {
    task: JoinHandle<Result<NodeEnd, JoinError>>,
    pub(crate) control: Control,
    kept: Arc<Mutex<Kept>>,
    is_in: Arc<Notify>,
}

impl Joining {
    /// Waits until it knows itself that it is in: the server knows it earlier.
    pub(crate) async fn is_in(&self) {
        timeout(LONG, self.is_in.notified()).await.expect("it gets in in time");
    }

    /// Waits for its end.
    pub(crate) async fn outcome(self) -> NodeOutcome {
        let end = timeout(LONG, self.task).await.expect("every node ends in time").unwrap().unwrap();
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        NodeOutcome { end, streams: kept.streams, aborted: kept.aborted }
    }
}

/// Shut until it is opened. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self, longest: Duration) -> bool {
        let (open, changed) = &*self.0;
        *changed.wait_timeout_while(open.lock().unwrap(), longest, |open| !*open).unwrap().0
    }
}

/// What a source gives when it is read again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Again {
    Nothing,
    TheSame,
    Another,
    /// It panics.
    Nonsense,
    Spooled,
}

struct Memory {
    again: Option<Option<Bytes>>,
    bytes: Bytes,
    fails: bool,
    /// So many bytes are behind the gate.
    half: usize,
    gate: Option<Gate>,
}

impl Source for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let before = self.bytes.len().saturating_sub(self.half);
        let there = if before > 0 { before } else { self.bytes.len() };
        let n = buf.len().min(there);
        buf[..n].copy_from_slice(&self.bytes.split_to(n));
        Ok(n)
    }

    fn ready(&mut self, longest: Duration) -> io::Result<bool> {
        let held = self.gate.as_ref().filter(|_| self.bytes.len() <= self.half);
        Ok(held.is_none_or(|gate| gate.wait(longest)))
    }

    fn again(&self) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(OnceMore(self.again.clone()?)))
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        if self.fails { Err(io::Error::other("exit status 1")) } else { Ok(()) }
    }
}

struct OnceMore(Option<Bytes>);

impl ReadAt for OnceMore {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest =
            self.0.as_ref().expect("an application has bugs").get(offset as usize..).unwrap_or_default();
        let n = buf.len().min(rest.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

struct Memo {
    kept: Arc<Mutex<Kept>>,
    kind: NodeSink,
}

impl Sink for Memo {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        if let NodeSink::Slow(pause) = self.kind {
            // A disk that takes this long: nothing waits for it to be over.
            let (_tx, rx) = std::sync::mpsc::channel::<()>();
            let _ = rx.recv_timeout(pause);
        }
        if stop.is_set() {
            return Err(io::Error::other("stopped"));
        }
        let mut kept = self.kept.lock().unwrap();
        let (_, bytes, _) = kept.streams.last_mut().unwrap();
        for b in blocks {
            bytes.extend_from_slice(b);
        }
        match self.kind {
            NodeSink::FailsAfter(n) if bytes.len() > n => Err(io::Error::other("disk full")),
            _ => Ok(()),
        }
    }

    fn finish(self: Box<Self>, _: &Stop) -> io::Result<()> {
        self.kept.lock().unwrap().streams.last_mut().unwrap().2 = true;
        Ok(())
    }

    fn abort(self: Box<Self>) {
        self.kept.lock().unwrap().aborted += 1;
    }
}
