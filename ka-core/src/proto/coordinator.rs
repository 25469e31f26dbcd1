//! The session's brain: who is in, when it starts, who feeds whom, who is lost, who may go, how it ended.
//!
//! ```text
//!   Gathering ──gate──▶ Streaming ──all ended──▶ Draining ──all gone──▶ Done
//!       │ stopped            │ stopped                ▲
//!       └────────────────────┴──────────────────────-─┘
//! ```
//!
//! Peers report, the coordinator decides. What it shows of a node at the end comes from that node's own receipt,
//! or says why there is none: nobody is OK by assumption.
//!
//! What it does not do yet: find another parent for a node whose parent is lost. Everything below a lost node
//! fails, and is told whom to thank.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::event::{Event, Report};
use super::release::Release;
use super::roster::{Conn, Member, Roster};
use super::timer::{Timer, Timers};
use super::topology;
use crate::limits;
use crate::seal::Hash;
use crate::time::{Duration, Instant};
use crate::types::{Epoch, NodeId, Offset, SessionId, SessionName, printable};
use crate::wire::control::{
    Hello, LinkFault, Outcome, Peer, Progress, Reason, Receipt, Refusal, Role, ToCoordinator, ToNode, View,
    Welcome,
};

/// What a session is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its identity.
    pub session: SessionId,
    /// Its name; without one it is found by the server's address only.
    pub name: Option<SessionName>,
    /// The public key its tape is signed with.
    pub key: [u8; 32],
    /// The gate: it starts when so many nodes are in.
    pub nodes: u32,
    /// Children per node: 1 makes a chain.
    pub fan_out: u32,
    /// It also starts this long after it was opened …
    pub start_after: Option<Duration>,
    /// … if at least so many nodes are in, or as soon as they are.
    pub min_nodes: u32,
    /// The pause between two nodes that are let go after having waited.
    pub release_delay: Duration,
    /// Where the server's own data listener is.
    pub data_port: u16,
}

/// Everything that can happen to a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// Somebody connected and said hello. `addr` is its end of the connection, `server_ip` ours.
    Joined {
        /// The new connection.
        conn: Conn,
        /// The other end.
        addr: SocketAddr,
        /// This end.
        server_ip: IpAddr,
        /// What it said.
        hello: Hello,
    },
    /// A node said something.
    Said(Conn, ToCoordinator),
    /// A connection is gone, in words.
    Gone(Conn, String),
    /// The admin says: start with whoever is there.
    Go,
    /// Somebody stops the session: who, in words.
    Stop(String),
    /// The instant of the last [`Output::Wait`] has come.
    Timeout,
}

/// Everything a coordinator wants done. Take them until [`Output::Wait`] or [`Output::Done`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Output {
    /// Say this to a node.
    Tell(Conn, ToNode),
    /// Say nothing more to it: close the connection once everything said is sent.
    HangUp(Conn),
    /// The application may want to know.
    Event(Event),
    /// Nothing to do before this instant.
    Wait(Instant),
    /// The session is over. Nothing comes after.
    Done(Report),
}

/// The brain of one session.
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    phase: Phase,
    roster: Roster,
    epoch: Epoch,
    release: Release,
    opened: Instant,
    started: Option<Instant>,
    /// The whole tape as the root's own receipt tells it: its length, and the last value of its chain.
    tape: Option<(u64, Hash)>,
    /// Nodes without an outcome, so that the end costs no search.
    unsettled: u32,
    timers: Timers,
    outputs: VecDeque<Output>,
}

/// What the session is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The gate is closed; nodes come and go.
    Gathering,
    /// The tape is under way.
    Streaming,
    /// Every outcome is known; the last nodes are let go.
    Draining,
    /// Over.
    Done,
}

impl Coordinator {
    /// Opens a session. The root is in it from the start, as [`Conn::ROOT`].
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let mut roster = Roster::default();
        let unspecified = IpAddr::from([0, 0, 0, 0]);
        let addr = SocketAddr::new(unspecified, config.data_port);
        roster.add(|node| Member::new(now, node, Conn::ROOT, addr, unspecified));
        let mut timers = Timers::default();
        timers.set(Timer::Beat, now + limits::BEAT);
        if let Some(after) = config.start_after {
            timers.set(Timer::StartAfter, now + after);
        }
        Self {
            release: Release::new(config.release_delay),
            config,
            phase: Phase::Gathering,
            roster,
            epoch: Epoch::default(),
            opened: now,
            started: None,
            tape: None,
            unsettled: 0,
            timers,
            outputs: VecDeque::new(),
        }
    }

    /// Who is in.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Joined { conn, addr, server_ip, hello } => self.joined(now, conn, addr, server_ip, hello),
            Input::Said(conn, message) => {
                if let Some(node) = self.roster.by_conn(conn) {
                    self.said(now, node, message);
                }
            }
            Input::Gone(conn, why) => {
                if let Some(node) = self.roster.hang_up(conn) {
                    self.gone(now, node, &why);
                }
            }
            Input::Go => {
                if self.phase == Phase::Gathering && !self.roster.is_empty() {
                    self.start(now);
                }
            }
            Input::Stop(who) => self.stop(now, &who),
            Input::Timeout => self.timeout(now),
        }
        self.advance(now);
    }

    /// What to do next.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        Output::Wait(self.timers.next().unwrap_or(Instant(u64::MAX)))
    }

    // ---- the gate ----

    fn joined(&mut self, now: Instant, conn: Conn, addr: SocketAddr, server_ip: IpAddr, hello: Hello) {
        let wrong_name = hello.session.is_some() && hello.session != self.config.name;
        let refusal = match (&hello.role, &self.phase) {
            _ if wrong_name => Refusal::OtherSession,
            (Role::Node { data_port: 0, .. }, _) => {
                Refusal::Rule("a node listens on a port of its own".into())
            }
            (_, Phase::Streaming) => Refusal::Started(self.roster.len()),
            (_, Phase::Draining | Phase::Done) => Refusal::Ending("every node has ended".into()),
            (Role::Go, Phase::Gathering) if self.roster.is_empty() => Refusal::NobodyReady,
            (Role::Go, Phase::Gathering) => {
                self.tell(conn, ToNode::Going(self.roster.len()));
                self.outputs.push_back(Output::HangUp(conn));
                self.start(now);
                return;
            }
            (Role::Node { .. }, Phase::Gathering) if self.roster.len() >= limits::NODES => Refusal::Full,
            (Role::Node { data_port, wait, .. }, Phase::Gathering) => {
                let (port, waits) = (*data_port, *wait);
                self.welcome(now, conn, SocketAddr::new(addr.ip(), port), server_ip, waits, hello);
                return;
            }
        };
        self.refuse(conn, addr, refusal);
    }

    fn refuse(&mut self, conn: Conn, addr: SocketAddr, refusal: Refusal) {
        self.event(Event::Refused { addr, why: format!("{refusal}") });
        self.tell(conn, ToNode::Refused(refusal));
        self.outputs.push_back(Output::HangUp(conn));
    }

    fn welcome(
        &mut self,
        now: Instant,
        conn: Conn,
        addr: SocketAddr,
        server_ip: IpAddr,
        waits: bool,
        hello: Hello,
    ) {
        let label = printable(&hello.label, limits::SESSION_NAME_BYTES);
        let node = self.roster.add(|node| Member {
            label: label.clone(),
            incarnation: hello.incarnation,
            waits,
            ..Member::new(now, node, conn, addr, server_ip)
        });
        self.timers.start(Timer::Silence, now + limits::CUT_OFF);
        let expected = self.config.nodes;
        self.tell(
            conn,
            ToNode::Welcome(Welcome { node, session: self.config.session, key: self.config.key, expected }),
        );
        self.event(Event::Joined { node, addr, label, ready: self.roster.len(), expected });
        if self.roster.len() >= expected || (self.late(now) && self.roster.len() >= self.config.min_nodes) {
            self.start(now);
        }
    }

    /// Whether the time to start with fewer nodes has come.
    fn late(&self, now: Instant) -> bool {
        self.config.start_after.is_some_and(|d| self.opened + d <= now)
    }

    /// A node goes before the start, and is not counted any more.
    fn leave(&mut self, node: NodeId) {
        self.roster.remove(node);
        self.event(Event::Left { node, ready: self.roster.len(), expected: self.config.nodes });
    }

    /// Opens the gate: everyone learns who is whose parent.
    fn start(&mut self, now: Instant) {
        self.phase = Phase::Streaming;
        self.started = Some(now);
        self.unsettled = self.roster.len();
        self.timers.stop(Timer::StartAfter);
        self.event(Event::Started { nodes: self.roster.len() });

        let mut order: Vec<_> = self.roster.nodes().map(|m| (m.addr, m.node)).collect();
        order.sort_unstable();
        let ranks: Vec<_> = core::iter::once(NodeId::ROOT).chain(order.into_iter().map(|(_, n)| n)).collect();
        self.epoch = Epoch(self.epoch.0 + 1);
        let fan_out = self.config.fan_out as usize;
        for (rank, node) in ranks.iter().enumerate() {
            let Some(m) = self.roster.get_mut(*node) else { continue };
            m.parent = topology::parent(rank, fan_out).map(|r| ranks[r]);
            m.parent_since = self.epoch;
            m.children = topology::children(rank, fan_out, ranks.len()).map(|r| ranks[r]).collect();
        }
        for node in ranks {
            self.send_view(node);
        }
    }

    /// Tells a node who its parent and children are.
    fn send_view(&mut self, node: NodeId) {
        let Some(m) = self.roster.get(node) else { return };
        let parent =
            m.parent.and_then(|p| self.roster.get(p)).map(|p| Peer { node: p.node, addr: seen(p, m) });
        let view = View { epoch: self.epoch, parent, children: m.children.clone(), keep: false };
        self.tell_node(node, ToNode::View(view));
    }

    // ---- the tape is under way ----

    fn said(&mut self, now: Instant, node: NodeId, message: ToCoordinator) {
        let Some(m) = self.roster.get_mut(node) else { return };
        m.heard = now;
        match message {
            ToCoordinator::Hello(_) => {}
            ToCoordinator::Linked(_) => {
                if let Some(parent) = m.parent {
                    self.event(Event::Linked { node, parent });
                }
            }
            ToCoordinator::Progress(progress) => {
                // A node whose sink failed relays on and has none to tell of; what the sink took stays.
                m.progress = Progress { sunk: m.progress.sunk.max(progress.sunk), ..progress };
                self.event(Event::Progress { node, progress });
            }
            ToCoordinator::Complete => {
                // Nobody can hold what the root has not sealed yet.
                if node != NodeId::ROOT && !self.roster.get(NodeId::ROOT).is_some_and(|r| r.complete) {
                    return;
                }
                if let Some(m) = self.roster.get_mut(node) {
                    m.complete = true;
                }
                self.event(Event::Complete { node });
                self.let_go(node);
            }
            ToCoordinator::LinkLost(epoch, at, fault) => {
                // A fault of the link to an earlier parent is no news.
                if epoch >= m.parent_since {
                    self.link_lost(now, node, at, fault);
                }
            }
            ToCoordinator::Receipt(receipt) => self.receipt(now, node, receipt),
        }
    }

    fn receipt(&mut self, now: Instant, node: NodeId, receipt: Receipt) {
        if self.phase == Phase::Gathering && node != NodeId::ROOT {
            // It was stopped where it runs.
            self.leave(node);
            return;
        }
        let Some(m) = self.roster.get_mut(node).filter(|m| m.outcome.is_none()) else { return };
        m.progress.counters = receipt.counters;
        if node == NodeId::ROOT {
            m.progress.received = Offset(receipt.bytes);
            self.tape = receipt.outcome.is_ok().then_some((receipt.bytes, receipt.chain));
        } else {
            m.progress.sunk = Offset(receipt.bytes);
        }
        let outcome = match receipt.outcome {
            // A node that is done followed the chain to where the root ended it. One that says so otherwise is wrong.
            Outcome::Ok if self.tape != Some((receipt.bytes, receipt.chain)) => {
                let why = format!("it says it is done after {} bytes, which the tape is not", receipt.bytes);
                Outcome::Failed(Reason::Tainted(node, why), Offset(receipt.bytes))
            }
            Outcome::Failed(reason, at) => Outcome::Failed(printable_reason(reason), at),
            other => other,
        };
        self.settle(now, node, outcome);
    }

    /// A node cannot go on: its link to its parent is gone.
    fn link_lost(&mut self, now: Instant, node: NodeId, at: Offset, fault: LinkFault) {
        let Some(parent) = self.roster.get(node).and_then(|m| m.parent) else { return };
        let text = |t: &str| printable(t, limits::TEXT_BYTES);
        let reason = match fault {
            LinkFault::Broken(why) | LinkFault::Unreachable(why) => Reason::Lost(parent, text(&why)),
            LinkFault::Gone(kept) => Reason::Missing(at, kept),
            LinkFault::Tainted(why) => Reason::Tainted(parent, text(&why)),
        };
        self.fail(now, node, &reason, Some(at));
    }

    /// A node's control connection is gone.
    fn gone(&mut self, now: Instant, node: NodeId, why: &str) {
        let Some(m) = self.roster.get(node) else { return };
        if m.released {
            return;
        }
        if self.phase == Phase::Gathering {
            self.leave(node);
        } else {
            self.fail(now, node, &Reason::Lost(node, printable(why, limits::TEXT_BYTES)), None);
        }
    }

    /// A node and everything it feeds fails for `reason`. A node that holds the whole tape already feeds its
    /// own subtree, and is spared.
    fn fail(&mut self, now: Instant, node: NodeId, reason: &Reason, at: Option<Offset>) {
        if let Some(parent) = self.roster.get(node).and_then(|m| m.parent) {
            self.drop_child(parent, node);
        }
        let mut todo = Vec::from([node]);
        while let Some(n) = todo.pop() {
            let Some(m) = self.roster.get_mut(n) else { continue };
            if m.complete && n != node {
                continue;
            }
            // It feeds nobody any more.
            todo.append(&mut m.children);
            let at = at.filter(|_| n == node).unwrap_or(m.progress.received);
            if m.outcome.is_none() {
                self.tell_node(n, ToNode::Abort(reason.clone()));
                self.settle(now, n, Outcome::Failed(reason.clone(), at));
            } else {
                // Only a relay by now (its own end was known), and nothing to relay any more.
                self.let_go(n);
            }
        }
    }

    /// The parent need not wait for a child that is lost.
    fn drop_child(&mut self, parent: NodeId, child: NodeId) {
        let Some(m) = self.roster.get_mut(parent) else { return };
        let Some(i) = m.children.iter().position(|c| *c == child) else { return };
        m.children.remove(i);
        self.epoch = Epoch(self.epoch.0 + 1);
        self.send_view(parent);
    }

    fn settle(&mut self, now: Instant, node: NodeId, outcome: Outcome) {
        let Some(m) = self.roster.get_mut(node) else { return };
        if m.outcome.is_some() {
            return;
        }
        m.outcome = Some(outcome.clone());
        m.ended = Some(now);
        if node != NodeId::ROOT {
            self.unsettled = self.unsettled.saturating_sub(1);
        }
        self.event(Event::Ended { node, outcome });
        self.let_go(node);
    }

    // ---- the end ----

    /// Lets a node go if it has ended and nobody below needs it; then looks at its parent, for which this may
    /// have been the last.
    fn let_go(&mut self, node: NodeId) {
        // Who has everything needs its parent no more, whether or not it may go itself.
        let complete = self.roster.get(node).is_some_and(|m| m.complete);
        let mut next = self.try_let_go(node);
        if complete {
            next = self.roster.get(node).and_then(|m| m.parent);
        }
        while let Some(node) = next {
            next = self.try_let_go(node);
        }
    }

    /// Lets this one node go if it may; then its parent is next.
    fn try_let_go(&mut self, node: NodeId) -> Option<NodeId> {
        let m = self.roster.get(node)?;
        if node == NodeId::ROOT || m.released || m.outcome.is_none() || self.needed(node) {
            return None;
        }
        let (parent, complete) = (m.parent, m.complete);
        let waits = m.waits && m.outcome.as_ref().is_some_and(Outcome::is_ok) && m.conn.is_some();
        if let (Some(parent), false) = (parent, complete) {
            // It goes without having everything; the parent must not keep the rest for it.
            self.drop_child(parent, node);
        }
        if waits {
            self.release.queue(node);
            self.roster.get_mut(node)?.released = true;
        } else {
            self.send_off(node);
        }
        parent
    }

    /// Whether some child still lacks bytes, or feeds one that does.
    fn needed(&self, node: NodeId) -> bool {
        let mut todo: Vec<NodeId> = self.roster.get(node).map(|m| m.children.clone()).unwrap_or_default();
        while let Some(m) = todo.pop().and_then(|n| self.roster.get(n)) {
            if m.complete {
                continue;
            }
            if m.outcome.is_none() {
                return true;
            }
            todo.extend(&m.children);
        }
        false
    }

    fn send_off(&mut self, node: NodeId) {
        let Some(m) = self.roster.get_mut(node) else { return };
        m.released = true;
        if let Some(conn) = m.conn {
            self.tell(conn, ToNode::Release);
            self.outputs.push_back(Output::HangUp(conn));
            self.event(Event::Released { node });
        }
    }

    /// Somebody stops the session: everyone is told, and no sink believes it is complete.
    fn stop(&mut self, now: Instant, who: &str) {
        if matches!(self.phase, Phase::Draining | Phase::Done) {
            return;
        }
        if self.phase == Phase::Gathering {
            self.unsettled = self.roster.len();
            self.phase = Phase::Streaming;
        }
        let reason = Reason::Interrupted(printable(who, limits::TEXT_BYTES));
        let open: Vec<_> = self.roster.iter().filter(|m| m.outcome.is_none()).map(|m| m.node).collect();
        for node in open {
            let at = self.roster.get(node).map_or(Offset::ZERO, |m| m.progress.received);
            self.tell_node(node, ToNode::Abort(reason.clone()));
            self.settle(now, node, Outcome::Failed(reason.clone(), at));
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.timers.due(Timer::Beat, now) {
            self.timers.set(Timer::Beat, now + limits::BEAT);
            let conns: Vec<_> = self.roster.nodes().filter_map(|m| m.conn).collect();
            for conn in conns {
                self.tell(conn, ToNode::Beat);
            }
        }
        if self.timers.due(Timer::Silence, now) {
            self.timers.set(Timer::Silence, now + limits::BEAT);
            let silent: Vec<_> = self
                .roster
                .nodes()
                .filter(|m| m.conn.is_some() && m.heard + limits::CUT_OFF <= now)
                .map(|m| m.node)
                .collect();
            for node in silent {
                self.silent(now, node);
            }
        }
        if self.timers.due(Timer::StartAfter, now)
            && self.phase == Phase::Gathering
            && self.roster.len() >= self.config.min_nodes.max(1)
        {
            self.start(now);
        }
        self.timers.stop(Timer::Release);
    }

    /// A node that says nothing is taken for lost.
    fn silent(&mut self, now: Instant, node: NodeId) {
        let Some(conn) = self.roster.get(node).and_then(|m| m.conn) else { return };
        self.roster.hang_up(conn);
        self.outputs.push_back(Output::HangUp(conn));
        self.gone(now, node, &format!("it has said nothing for {} s", limits::CUT_OFF.as_secs()));
    }

    /// From phase to phase, once what a phase waits for has happened.
    fn advance(&mut self, now: Instant) {
        let root_ended = self.roster.get(NodeId::ROOT).is_some_and(|r| r.outcome.is_some());
        if self.phase == Phase::Streaming && self.unsettled == 0 {
            if !root_ended {
                // Nobody is left to send to: there is no point in reading the source to its end.
                let why = if self.roster.is_empty() { "no node ever joined" } else { "no node is left" };
                let reason = Reason::Interrupted(why.into());
                self.tell_node(NodeId::ROOT, ToNode::Abort(reason.clone()));
                let at = self.roster.get(NodeId::ROOT).map_or(Offset::ZERO, |m| m.progress.received);
                self.settle(now, NodeId::ROOT, Outcome::Failed(reason, at));
            }
            self.phase = Phase::Draining;
        }
        if self.phase != Phase::Draining {
            return;
        }
        while let Some(node) = self.release.pop(now) {
            self.send_off(node);
        }
        match self.release.due() {
            Some(when) => self.timers.set(Timer::Release, when),
            None => self.done(now),
        }
    }

    fn done(&mut self, now: Instant) {
        self.phase = Phase::Done;
        self.timers = Timers::default();
        self.tell(Conn::ROOT, ToNode::Release);
        let report = self.report(now);
        self.outputs.push_back(Output::Done(report));
    }

    /// What is known of the session by now.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let root = self.roster.get(NodeId::ROOT).expect("the root is always in").report(now);
        let nodes: Vec<_> = self.roster.nodes().map(|m| m.report(now)).collect();
        Report {
            session: self.config.session,
            bytes: root.bytes,
            started: self.started,
            ended: nodes.iter().map(|n| n.ended).max().unwrap_or(now),
            root,
            nodes,
        }
    }

    fn tell_node(&mut self, node: NodeId, message: ToNode) {
        if let Some(conn) = self.roster.get(node).and_then(|m| m.conn) {
            self.tell(conn, message);
        }
    }

    fn tell(&mut self, conn: Conn, message: ToNode) {
        self.outputs.push_back(Output::Tell(conn, message));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// A node's words about its end, fit to be shown.
fn printable_reason(reason: Reason) -> Reason {
    let text = |words: String| printable(&words, limits::TEXT_BYTES);
    match reason {
        Reason::Source(why) => Reason::Source(text(why)),
        Reason::Sink(why) => Reason::Sink(text(why)),
        Reason::Lost(who, why) => Reason::Lost(who, text(why)),
        Reason::Tainted(who, why) => Reason::Tainted(who, text(why)),
        Reason::Interrupted(who) => Reason::Interrupted(text(who)),
        missing @ Reason::Missing(..) => missing,
    }
}

/// Where `child` reaches `parent`.
///
/// The root listens wherever the child reached the server. A node that joined over loopback shares the
/// server's host: others reach it where they reach the server.
fn seen(parent: &Member, child: &Member) -> SocketAddr {
    let ip = parent.addr.ip();
    let same_host = parent.node == NodeId::ROOT || (ip.is_loopback() && !child.addr.ip().is_loopback());
    SocketAddr::new(if same_host { child.server_ip } else { ip }, parent.addr.port())
}
