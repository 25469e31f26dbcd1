//! A story's words: how a world is set up, and what can be asked of it after its run.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::checker::{Checker, Violation};
use super::clock::{Clock, Due};
use super::fault::Fault;
use super::host::{HOST_BITS, Host, NEVER, State, addr};
use super::link::Link;
use super::marks::Marks;
use super::path::Paths;
use super::rng::Rng;
use super::tape::{Tape, transfer};
use super::trace::Trace;
use crate::crypto::payload::PayloadKey;
use crate::limits;
use crate::proto::coordinator::{Config, Coordinator, Slow};
use crate::proto::{Event, Node, Report};
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Offset, SessionId, SessionName};
use crate::wire::control::{Counters, Outcome, Role};

const SESSION: SessionId = SessionId([0x5a; 16]);

/// A server (host 0), its nodes (hosts 1 and up), and the network between them.
///
/// Hosts that join at the same time and in order have the same number in the session ([`NodeId`]).
#[derive(Debug)]
pub struct World {
    pub(super) setup: Setup,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    /// From the start of the run on.
    pub(super) coordinator: Option<Coordinator>,
    pub(super) server_wait: Instant,
    pub(super) server_wake: Instant,
    pub(super) hosts: Vec<Host>,
    /// Which host the coordinator let in under which number.
    pub(super) by_id: BTreeMap<NodeId, u32>,
    pub(super) links: Vec<Link>,
    pub(super) tape: Tape,
    pub(super) source: Source,
    pub(super) checker: Checker,
    pub(super) trace: Trace,
    pub(super) events: Vec<(Instant, Event)>,
    pub(super) started: bool,
    pub(super) report: Option<Report>,
    pub(super) first_sent: Option<Instant>,
    pub(super) paths: Paths,
    /// The number of pauses, under way or to come.
    pub(super) pauses: usize,
    /// When the tree was looked at last.
    pub(super) tree_checked: Instant,
    pub(super) marks: Marks,
    /// The admin has stopped the session.
    pub(super) stopped: bool,
    /// Hosts whose end is still to come.
    pub(super) alive: usize,
}

/// The setup of a world.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) window: u64,
    pub(super) rate: u64,
    pub(super) card: Option<u64>,
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) pace: Option<u64>,
    pub(super) faults: Vec<Fault>,
    pub(super) go_at: Option<Duration>,
    pub(super) repeat: String,
}

/// The source of the root's bytes.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Bytes per second; without a number a whole window comes at once.
    pub(super) rate: Option<u64>,
    pub(super) fails: bool,
    /// The offset up to which the root lets it read.
    pub(super) upto: Offset,
    pub(super) reading: bool,
    /// The source cannot be read again any more.
    pub(super) unreadable: bool,
}

impl World {
    /// A chain: the server and `nodes` nodes one behind another, all of which join at once.
    ///
    /// Links of 1 Gbit/s and 50 µs, blocks of [`limits::BLOCK_BYTES`], windows of 8 MiB, an empty stream.
    #[must_use]
    pub fn chain(nodes: usize) -> Self {
        Self::tree(nodes, 1)
    }

    /// The same with up to `fan_out` children per node.
    #[must_use]
    pub fn tree(nodes: usize, fan_out: u32) -> Self {
        let rate = 125_000_000;
        let config = Config {
            session: SESSION,
            name: SessionName::new("sim").ok(),
            key: [0; 32],
            payload: PayloadKey::Plain,
            links: None,
            nodes: nodes as u32,
            fan_out,
            start_after: None,
            min_nodes: 1,
            slow: Slow::default(),
            min_rate: None,
            finish: None,
            carries: None,
            rate: None,
            bytes: None,
            reread: false,
            release_delay: Duration::ZERO,
            data_port: limits::DATA_PORT,
        };
        Self {
            setup: Setup {
                config,
                window: 8 << 20,
                rate,
                card: None,
                latency: Duration::from_micros(50),
                jitter: Duration::ZERO,
                pace: None,
                faults: Vec::new(),
                go_at: None,
                repeat: "the same test again: nothing in it is left to chance".to_owned(),
            },
            clock: Clock::default(),
            rng: Rng::new(0),
            coordinator: None,
            server_wait: NEVER,
            server_wake: NEVER,
            hosts: (0..=nodes as u32).map(|n| Host::new(n, rate)).collect(),
            by_id: BTreeMap::new(),
            links: Vec::new(),
            tape: Tape { block: limits::BLOCK_BYTES as u64, length: 0 },
            source: Source::default(),
            checker: Checker::new(nodes + 1),
            trace: Trace::default(),
            events: Vec::new(),
            started: false,
            report: None,
            first_sent: None,
            paths: Paths::default(),
            pauses: 0,
            tree_checked: Instant::ZERO,
            marks: Marks::default(),
            stopped: false,
            alive: nodes,
        }
    }

    // ---- the stream and the network ----

    /// The stream's length in bytes.
    #[must_use]
    pub fn stream(mut self, bytes: u64) -> Self {
        self.tape.length = bytes;
        self
    }

    /// The source's bytes per second.
    #[must_use]
    pub fn source_rate(mut self, bytes_per_s: u64) -> Self {
        self.source.rate = Some(bytes_per_s);
        self
    }

    /// Bytes per second that the server's own link carries, as its system says.
    #[must_use]
    pub fn server_carries(mut self, bytes_per_s: u64) -> Self {
        self.setup.config.carries = Some(bytes_per_s);
        self
    }

    /// The source can be read again.
    #[must_use]
    pub fn rereadable(mut self) -> Self {
        self.setup.config.reread = true;
        self
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block(mut self, bytes: u64) -> Self {
        self.tape.block = bytes;
        self
    }

    /// Bytes of every window.
    #[must_use]
    pub fn window(mut self, bytes: u64) -> Self {
        self.setup.window = bytes;
        self
    }

    /// Bytes of `node`'s window.
    #[must_use]
    pub fn window_of(mut self, node: usize, bytes: u64) -> Self {
        self.hosts[node].window = Some(bytes);
        self
    }

    /// Bytes per second of every data link.
    #[must_use]
    pub fn rate(mut self, bytes_per_s: u64) -> Self {
        self.setup.rate = bytes_per_s;
        self.hosts.iter_mut().for_each(|h| h.rate = bytes_per_s);
        self
    }

    /// Bytes per second that a host sends to all its children together.
    #[must_use]
    pub fn card(mut self, bytes_per_s: u64) -> Self {
        self.setup.card = Some(bytes_per_s);
        self
    }

    /// Bytes per second of the link from `node`'s parent to it.
    #[must_use]
    pub fn link_rate(mut self, node: usize, bytes_per_s: u64) -> Self {
        self.hosts[node].rate = bytes_per_s;
        self
    }

    /// The time that a message takes from one host to another.
    #[must_use]
    pub fn latency(mut self, one_way: Duration) -> Self {
        self.setup.latency = one_way;
        self
    }

    /// Control messages take up to this much longer, by chance; they stay in order.
    #[must_use]
    pub fn jitter(mut self, at_most: Duration) -> Self {
        self.setup.jitter = at_most;
        self
    }

    /// The seed of whatever is left to chance.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.rng = Rng::new(seed);
        self
    }

    // ---- the session ----

    /// The gate opens when so many nodes are in.
    #[must_use]
    pub fn gate(mut self, nodes: u32) -> Self {
        self.setup.config.nodes = nodes;
        self
    }

    /// The gate also opens after `delay` if at least `min` nodes are in, or as soon as they are.
    #[must_use]
    pub fn start_after(mut self, delay: Duration, min: u32) -> Self {
        self.setup.config.start_after = Some(delay);
        self.setup.config.min_nodes = min;
        self
    }

    /// The admin opens the gate.
    #[must_use]
    pub fn go_at(mut self, at: Duration) -> Self {
        self.setup.go_at = Some(at);
        self
    }

    /// The pause between two nodes that are let go after having waited.
    #[must_use]
    pub fn release_delay(mut self, delay: Duration) -> Self {
        self.setup.config.release_delay = delay;
        self
    }

    /// The policy for a node that holds up all others.
    #[must_use]
    pub fn slow(mut self, policy: Slow) -> Self {
        self.setup.config.slow = policy;
        self
    }

    /// The time for which the sink of a node that has everything may be at work on it.
    #[must_use]
    pub fn finish(mut self, patience: Duration) -> Self {
        self.setup.config.finish = Some(patience);
        self
    }

    /// Bytes per second that are never too slow.
    #[must_use]
    pub fn min_rate(mut self, bytes_per_s: u64) -> Self {
        self.setup.config.min_rate = Some(bytes_per_s);
        self
    }

    /// The root's rate limit.
    #[must_use]
    pub fn paced(mut self, bytes_per_s: u64) -> Self {
        self.setup.pace = Some(bytes_per_s);
        self.setup.config.rate = Some(bytes_per_s);
        self
    }

    // ---- the nodes ----

    /// `node` joins later than the others.
    #[must_use]
    pub fn joins_at(mut self, node: usize, at: Duration) -> Self {
        self.hosts[node].joins_at = at;
        self
    }

    /// `node` asks for a session of another name.
    #[must_use]
    pub fn asks_for(mut self, node: usize, session: &str) -> Self {
        self.hosts[node].hello.session = SessionName::new(session).ok();
        self
    }

    /// `node` waits until it is let go.
    #[must_use]
    pub fn waits(mut self, node: usize) -> Self {
        self.hosts[node].hello.role = Role::Node { data_port: limits::DATA_PORT, wait: true, back: None };
        self
    }

    /// `node`'s sink takes so many bytes per second.
    #[must_use]
    pub fn sink_rate(mut self, node: usize, bytes_per_s: u64) -> Self {
        self.hosts[node].sink.rate = Some(bytes_per_s);
        self
    }

    /// `node`'s sink ends this long after it has taken everything.
    #[must_use]
    pub fn sink_ends_after(mut self, node: usize, delay: Duration) -> Self {
        self.hosts[node].sink.ends_after = delay;
        self
    }

    // ---- the run ----

    /// Something goes wrong.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        if let Fault::Restart { at, after, .. } = fault {
            let host = Host::new(self.hosts.len() as u32, self.setup.rate);
            self.hosts.push(Host { joins_at: at + after, ..host });
            self.checker.add_host();
            self.alive += 1;
        }
        self.setup.faults.push(fault);
        self
    }

    /// Records a [`Trace`].
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.trace = Trace::recording();
        self
    }

    /// The command that repeats this run, for a [`Violation`] to tell.
    #[must_use]
    pub fn repeated_by(mut self, command: String) -> Self {
        self.setup.repeat = command;
        self
    }

    /// Runs the world to its end.
    ///
    /// # Panics
    /// With the [`Violation`], if a checker sees one.
    #[must_use]
    pub fn run(self) -> Self {
        match self.try_run() {
            Ok(world) => world,
            Err(violation) => panic!("{violation}"),
        }
    }

    /// Runs the world to its end.
    ///
    /// # Errors
    /// What a checker saw.
    pub fn try_run(mut self) -> Result<Self, Violation> {
        self.begin();
        let deadline = Instant::ZERO + self.deadline();
        while !self.over() && self.step(deadline) {}
        match self.verdict() {
            Some(violation) => Err(violation),
            None => Ok(self),
        }
    }

    pub(super) fn window_bytes(&self, h: u32) -> u64 {
        self.hosts[h as usize].window.unwrap_or(self.setup.window)
    }

    fn over(&self) -> bool {
        self.alive == 0 && (self.report.is_some() || !self.started)
    }

    /// When even a world in which everything goes wrong one after another should be at its end.
    fn deadline(&self) -> Duration {
        let s = &self.setup;
        let nodes = self.hosts.len() as u32;
        let sinks = self.hosts.iter().filter_map(|h| h.sink.rate);
        let shared = s.card.map(|rate| rate / u64::from(nodes));
        let links = self.hosts.iter().map(|h| h.rate).chain(shared);
        let slowest = sinks.chain(links).chain(self.source.rate).chain(s.pace).min().unwrap_or(1);
        let faults: Duration = s.faults.iter().map(Fault::over).sum();
        let sinks_end = self.hosts.iter().map(|h| h.sink.ends_after).max().unwrap_or_default();
        let joins = self.hosts.iter().map(|h| h.joins_at).max().unwrap_or_default();
        let hop = 10 * s.latency + s.jitter + 2 * transfer(self.tape.block, slowest);
        faults
            + joins
            + sinks_end
            + s.go_at.unwrap_or_default()
            + s.config.start_after.unwrap_or_default()
            // Whoever is served later gets everything again, and so may whoever is put off then.
            + (2 + 2 * u32::from(s.config.reread)) * transfer(self.tape.length, slowest)
            + nodes * (hop + s.config.release_delay)
            // What a fault may cost: silence that is noticed, links and connections that are dialled again.
            + (1 + s.faults.len() as u32)
                * (limits::SUSPECT_AFTER
                    + limits::CONTROL_TIMEOUT
                    + limits::OFFER_TIMEOUT
                    + limits::PREFACE_TIMEOUT
                    + 4 * (limits::REDIAL_DELAY + limits::CONNECT_TIMEOUT))
            // Everybody may be gone at once, and somebody may come and go again and again.
            + limits::PARTITION_TIMEOUT
            + limits::RETURN_DELAY_MAX
    }

    // ---- what became of it ----

    /// The session's report.
    ///
    /// # Panics
    /// If the session has not ended.
    #[must_use]
    pub fn report(&self) -> &Report {
        self.report.as_ref().expect("the session has ended")
    }

    /// The outcome of `node`, as the server reports it.
    ///
    /// # Panics
    /// If it was never in, or left before the start.
    #[must_use]
    pub fn outcome(&self, node: usize) -> &Outcome {
        let id = self.hosts[node].id.expect("the node was in");
        &self.report().nodes.iter().find(|n| n.node == id).expect("it took part").outcome
    }

    /// The outcome of `node`, as the node itself reports it, and when; `None` if it did not end by itself.
    #[must_use]
    pub fn ended(&self, node: usize) -> Option<&(Outcome, Instant)> {
        self.hosts[node].ended.as_ref()
    }

    /// Why the server refused `node`, if it did.
    #[must_use]
    pub fn refusal(&self, node: usize) -> Option<&str> {
        self.hosts[node].refused.as_deref()
    }

    /// The counters of `node`'s window (0: the root's).
    ///
    /// # Panics
    /// If it was never in.
    #[must_use]
    pub fn counters(&self, node: usize) -> Counters {
        self.hosts[node].node.as_ref().expect("the node was in").window().counters()
    }

    /// Whether `node` really has the whole stream and its sink took it and ended well.
    #[must_use]
    pub fn truly_ok(&self, node: usize) -> bool {
        !self.source.fails && self.checker.has_everything(node, self.tape.items())
    }

    /// From the first byte's departure at the server to the last byte's arrival at the last node.
    #[must_use]
    pub fn stream_time(&self) -> Duration {
        let last = self.hosts.iter().map(|h| h.last_byte).max().unwrap_or_default();
        last - self.first_sent.unwrap_or_default()
    }

    /// The events that the coordinator sent to its application, except for progress.
    #[must_use]
    pub fn events(&self) -> &[(Instant, Event)] {
        &self.events
    }

    /// When the world stood still.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now
    }

    /// The number of events that the run took.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.clock.events()
    }

    /// The record of what happened, if the world was [`traced`](Self::traced).
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    // ---- the start ----

    fn begin(&mut self) {
        self.equip_restarted();
        for fault in &self.setup.faults {
            match *fault {
                Fault::Taint { node, offset } => {
                    let from = &mut self.hosts[node].taints_from;
                    *from = Some(from.map_or(offset, |o| o.min(offset)));
                }
                Fault::Withhold { node, offset } => {
                    let from = &mut self.hosts[node].withholds_from;
                    *from = Some(from.map_or(offset, |o| o.min(offset)));
                }
                Fault::SinkFails { node, offset } => {
                    let at = &mut self.hosts[node].sink.fails_at;
                    *at = Some(at.map_or(offset, |o| o.min(offset)));
                }
                Fault::SourceFails { offset } => {
                    self.source.fails = true;
                    self.tape.length = self.tape.length.min(offset);
                }
                Fault::Isolate => self.paths.isolated = true,
                Fault::Hole { node, at, lasts } => {
                    let from = Instant::ZERO + at;
                    self.paths.holes.push((node as u32, from, from + lasts));
                }
                Fault::LateLink { node, lasts } => self.hosts[node].first_link = lasts,
                Fault::Shared { node } => {
                    (self.hosts[node].shared, self.hosts[node].addr) = (true, addr(1 << HOST_BITS));
                }
                Fault::Pause { .. } => self.pauses += 1,
                _ => {}
            }
            self.paths.cuts.extend(fault.cut());
        }
        assert!(4 * self.tape.block <= self.setup.window, "a window has room for a few blocks");
        for (i, at) in self.setup.faults.iter().enumerate().filter_map(|(i, f)| Some((i, f.at()?))) {
            self.clock.after(at, Due::Fault(i as u32));
        }
        if let Some(at) = self.setup.go_at {
            self.clock.after(at, Due::Go);
        }
        for (i, host) in self.hosts.iter().enumerate().skip(1) {
            self.clock.after(host.joins_at, Due::Join(i as u32));
        }
        self.setup.config.bytes = self.setup.config.reread.then_some(self.tape.length);
        self.coordinator = Some(Coordinator::new(Instant::ZERO, self.setup.config.clone()));
        self.hosts[0].state = State::In;
        self.hosts[0].id = Some(NodeId::ROOT);
        self.hosts[0].node = Some(Node::root(SESSION, self.setup.window, self.setup.config.reread));
        self.by_id.insert(NodeId::ROOT, 0);
        self.poll_server();
        self.open_root();
    }
}
