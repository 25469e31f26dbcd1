//! A session in one process for tests: sources in memory, sinks that remember.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ka_core::net::{ClientConfig, Control, NodeEnd, Ports, ServerConfig, ServerEvent, Stream, join, serve};
use ka_core::proto::{Event, Report};
use ka_core::stream::{Sink, Source, Stop};
use ka_core::types::SessionName;

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
    pub(crate) port: u16,
    pub(crate) fan_out: u32,
    pub(crate) window: Option<u64>,
    pub(crate) source_fails: bool,
    /// Stop the session once some node has received so much.
    pub(crate) stop_after: Option<u64>,
}

/// What came of it.
pub(crate) struct Outcomes {
    pub(crate) server: Report,
    pub(crate) nodes: Vec<NodeOutcome>,
}

/// What came of one node: how it ended, and what its sinks got (name, bytes, finished).
pub(crate) struct NodeOutcome {
    pub(crate) end: NodeEnd,
    pub(crate) streams: Vec<(String, Vec<u8>, bool)>,
}

/// What a node's sinks got: name, bytes, finished.
type Kept = Arc<Mutex<Vec<(String, Vec<u8>, bool)>>>;

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
            port,
            fan_out: 1,
            window: None,
            source_fails: false,
            stop_after: None,
        }
    }

    fn ports(&self) -> Ports {
        Ports { discovery: self.port, interfaces: vec!["lo".into()], ..Ports::default() }
    }

    /// Runs a session of `n` nodes with sinks made by `sink`, given the node's rank of joining and the stream.
    pub(crate) async fn run(
        &self,
        n: u32,
        streams: Vec<(&str, Vec<u8>)>,
        sink: impl Fn(usize, &str) -> NodeSink + Copy + Send + 'static,
    ) -> Outcomes {
        let (control, inbox) = Control::new();
        let fails = self.source_fails;
        let streams = streams
            .into_iter()
            .map(|(name, bytes)| Stream {
                name: name.into(),
                metadata: Vec::new(),
                source: Box::new(Memory { bytes: bytes.into(), fails }),
            })
            .collect();
        let config = ServerConfig {
            session: Some(self.name.clone()),
            nodes: n,
            fan_out: self.fan_out,
            window_bytes: self.window,
            ports: self.ports(),
            ..ServerConfig::default()
        };
        let (joined, mut next) = tokio::sync::mpsc::unbounded_channel();
        let stop_after = self.stop_after;
        let server = tokio::spawn(async move {
            serve(config, streams, inbox, move |event| match event {
                ServerEvent::Open { .. } | ServerEvent::Session(Event::Joined { .. }) => {
                    let _ = joined.send(());
                }
                ServerEvent::Session(Event::Progress { node, progress })
                    if node.0 > 0 && stop_after.is_some_and(|s| progress.received.0 >= s) =>
                {
                    control.stop("the test");
                }
                _ => {}
            })
            .await
        });
        let mut nodes = Vec::new();
        for rank in 0..n as usize {
            // One after the other, so that rank and number agree.
            next.recv().await;
            let config = ClientConfig {
                session: Some(self.name.clone()),
                window_bytes: self.window,
                discover_timeout: Some(Duration::from_secs(20)),
                ports: self.ports(),
                ..ClientConfig::default()
            };
            let got: Kept = Arc::default();
            let kept = got.clone();
            let (_control, inbox) = Control::new();
            let node = tokio::spawn(async move {
                let _control = _control;
                join(
                    config,
                    move |info| {
                        let kind = sink(rank, &info.name);
                        kept.lock().unwrap().push((info.name.clone(), Vec::new(), false));
                        Ok(Box::new(Memo { kept: kept.clone(), kind }) as Box<dyn Sink>)
                    },
                    inbox,
                    |_| (),
                )
                .await
            });
            nodes.push((node, got));
        }
        let deadline = Duration::from_secs(60);
        let server = tokio::time::timeout(deadline, server).await.expect("the server ends").unwrap().unwrap();
        let mut outcomes = Vec::new();
        for (node, got) in nodes {
            let end = tokio::time::timeout(deadline, node).await.expect("every node ends").unwrap().unwrap();
            let streams = std::mem::take(&mut *got.lock().unwrap());
            outcomes.push(NodeOutcome { end, streams });
        }
        Outcomes { server, nodes: outcomes }
    }
}

struct Memory {
    bytes: Bytes,
    fails: bool,
}

impl Source for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.bytes.len());
        buf[..n].copy_from_slice(&self.bytes.split_to(n));
        Ok(n)
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        if self.fails { Err("exit status 1".into()) } else { Ok(()) }
    }
}

struct Memo {
    kept: Kept,
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
        let (_, bytes, _) = kept.last_mut().unwrap();
        for b in blocks {
            bytes.extend_from_slice(b);
        }
        match self.kind {
            NodeSink::FailsAfter(n) if bytes.len() > n => Err(io::Error::other("disk full")),
            _ => Ok(()),
        }
    }

    fn finish(self: Box<Self>, _: &Stop) -> Result<(), String> {
        self.kept.lock().unwrap().last_mut().unwrap().2 = true;
        Ok(())
    }

    fn abort(self: Box<Self>) {}
}
