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
//! Here: what happens, the gate, and what nodes say. `repair`: who is suspected, moved, and back. `slow`: who holds
//! up the others. `later`: who is served after the others. `safe`: what may be forgotten. `ending`: how nodes end, who may go, how the session ends.

mod ending;
mod later;
mod repair;
mod safe;
mod slow;

pub use slow::Slow;

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::throughput::Throughput;
use crate::crypto::link_keys::LinkKey;
use crate::crypto::payload::PayloadKey;
use crate::limits;
use crate::proto::arrival::Arrival;
use crate::proto::event::{Event, Report};
use crate::proto::release::Release;
use crate::proto::roster::{Cause, Conn, Member, Roster};
use crate::proto::timer::{Timer, Timers};
use crate::proto::topology;
use crate::tape::chain::Hash;
use crate::time::{Duration, Instant};
use crate::types::{Epoch, NodeId, Offset, SessionId, SessionName, printable};
use crate::wire::control::{
    Blocked, Hello, LinkFault, Note, Outcome, Peer, Progress, Reason, Receipt, Refusal, Role, ToCoordinator,
    ToNode, View, Welcome,
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
    /// The key its payload is encrypted with.
    pub payload: PayloadKey,
    /// What the keys of its data links are derived from; `None`: the session is insecure, and they have none.
    pub links: Option<LinkKey>,
    /// The gate: it starts when so many nodes are in.
    pub nodes: u32,
    /// Children per node: 1 makes a chain.
    pub fan_out: u32,
    /// It also starts this long after it was opened …
    pub start_after: Option<Duration>,
    /// … if at least so many nodes are in, or as soon as they are.
    pub min_nodes: u32,
    /// What to do about a node that holds up all others.
    pub slow: Slow,
    /// Bytes per second that are never too slow; without it a quarter of the fastest node's rate, or of its share in that.
    pub min_rate: Option<u64>,
    /// How long the sink of a node that has everything may be at work on it; `None`: as long as any other.
    pub finish: Option<Duration>,
    /// Bytes per second that the server's own link carries, if that is known.
    pub carries: Option<u64>,
    /// Bytes per second that it may send at most, if that is limited.
    pub rate: Option<u64>,
    /// Bytes of all streams together, if that is known.
    pub bytes: Option<u64>,
    /// The root can read its source again: whoever lacks what windows have forgotten is served after the others.
    pub reread: bool,
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
    /// The source cannot be read again after all: why, in words.
    RereadFailed(String),
    /// The server may send so many bytes per second from now on.
    SetRate(Option<u64>),
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
    /// Nodes without an outcome, and how many of them are suspected, so that the end costs no search.
    unsettled: u32,
    suspects: u32,
    /// Bytes per second of the fastest node so far.
    fastest: u64,
    /// Somebody was sent to the end of the line to see whether the others are faster then, or there is no room for that.
    tried: bool,
    /// When slow nodes were last looked for.
    looked: Instant,
    /// When anybody was last heard.
    heard_any: Instant,
    /// Since when nobody has been heard.
    cut_off: Option<Instant>,
    /// Nodes that must hear of a new parent or new children, and those with a new parent.
    changed: BTreeSet<NodeId>,
    moved: BTreeSet<NodeId>,
    /// What is safe may be more by now, and when it is looked at again at the earliest.
    unsure: bool,
    safe_at: Instant,
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
        timers.set(Timer::Beat, now + limits::HEARTBEAT_INTERVAL);
        timers.set(Timer::Silence, now + limits::SILENCE_CHECK_INTERVAL);
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
            suspects: 0,
            fastest: 0,
            tried: false,
            looked: now,
            heard_any: now,
            cut_off: None,
            changed: BTreeSet::new(),
            moved: BTreeSet::new(),
            unsure: false,
            safe_at: now,
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
            Input::RereadFailed(why) => self.reread_failed(now, why),
            Input::SetRate(rate) => self.config.rate = rate,
            Input::Timeout => self.timeout(now),
        }
        self.advance(now);
        // Before the view that brings somebody new.
        self.tell_safe(now);
        self.send_views();
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
        self.in_touch(now);
        let wrong_name = hello.session.is_some() && hello.session != self.config.name;
        let claimed = match hello.role {
            // Without a number it may be one whose welcome was lost on the way.
            Role::Node { back, .. } => back.or_else(|| self.numbered(hello.incarnation)),
            Role::Go => None,
        };
        let refusal = match (&hello.role, &self.phase) {
            _ if wrong_name => Refusal::OtherSession,
            (Role::Node { data_port: 0, .. }, _) => {
                Refusal::Rule("a node listens on a port of its own".into())
            }
            (Role::Node { data_port, wait, .. }, _) if claimed.is_some() => {
                let addr = SocketAddr::new(addr.ip(), *data_port);
                let (node, waits) = (claimed.unwrap_or(NodeId::ROOT), *wait);
                if self.back(now, node, conn, addr, server_ip, waits, &hello) {
                    return;
                }
                Refusal::Unknown
            }
            (_, Phase::Draining | Phase::Done) => Refusal::Ending("every node has ended".into()),
            (Role::Node { .. }, _) if self.roster.len() >= limits::NODES => Refusal::Full,
            (Role::Node { .. }, Phase::Streaming) if !self.roster.nodes().any(in_time) => {
                Refusal::Ending("every node that was there at the start has ended".into())
            }
            (Role::Node { data_port, wait, .. }, phase) => {
                let addr = SocketAddr::new(addr.ip(), *data_port);
                let (waits, late) = (*wait, *phase == Phase::Streaming);
                self.replaced(now, addr);
                let holder = self.place(NodeId(u32::MAX), Offset::ZERO, None);
                if late && holder.is_none() && !self.config.reread {
                    Refusal::Started(self.roster.len())
                } else {
                    self.welcome(now, conn, addr, server_ip, waits, hello, holder);
                    return;
                }
            }
            (Role::Go, Phase::Streaming) => Refusal::Started(self.roster.len()),
            (Role::Go, Phase::Gathering) if self.roster.is_empty() => Refusal::NobodyReady,
            (Role::Go, Phase::Gathering) => {
                self.tell(conn, ToNode::Going(self.roster.len()));
                self.outputs.push_back(Output::HangUp(conn));
                self.start(now);
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

    #[allow(clippy::too_many_arguments)]
    fn welcome(
        &mut self,
        now: Instant,
        conn: Conn,
        addr: SocketAddr,
        server_ip: IpAddr,
        waits: bool,
        hello: Hello,
        holder: Option<NodeId>,
    ) {
        let label = printable(&hello.label, limits::SESSION_NAME_BYTES);
        let node = self.roster.add(|node| Member {
            label: label.clone(),
            incarnation: hello.incarnation,
            waits,
            late: self.phase != Phase::Gathering,
            ..Member::new(now, node, conn, addr, server_ip)
        });
        self.greet(conn, node);
        let expected = self.config.nodes;
        self.event(Event::Joined { node, addr, label, ready: self.roster.len(), expected });
        if self.phase == Phase::Gathering {
            self.start_if_ready(now);
            return;
        }
        self.unsettled += 1;
        match holder {
            Some(holder) => {
                self.move_to(node, holder);
                self.keep_for(node, holder);
            }
            None => self.put_off(node),
        }
    }

    fn greet(&mut self, conn: Conn, node: NodeId) {
        let Config { session, key, ref payload, nodes: expected, ref links, .. } = self.config;
        let (payload, link) = (payload.clone(), links.as_ref().map(|secret| secret.of_node(node)));
        self.tell(conn, ToNode::Welcome(Welcome { node, session, key, payload, expected, link }));
    }

    fn start_if_ready(&mut self, now: Instant) {
        let enough = if self.late(now) { self.config.min_nodes } else { self.config.nodes };
        if self.phase == Phase::Gathering && self.roster.len() >= enough {
            self.start(now);
        }
    }

    /// A node that is in already speaks on a new connection. False if it is not known.
    #[allow(clippy::too_many_arguments)]
    fn back(
        &mut self,
        now: Instant,
        node: NodeId,
        conn: Conn,
        addr: SocketAddr,
        server_ip: IpAddr,
        waits: bool,
        hello: &Hello,
    ) -> bool {
        match self.roster.get(node) {
            Some(m) if m.node == NodeId::ROOT || m.incarnation != hello.incarnation || m.released => {
                return false;
            }
            Some(_) => {
                let old = self.roster.reconnect(node, conn);
                self.outputs.extend(old.map(Output::HangUp));
                self.moves_to(node, addr, server_ip);
                self.greet(conn, node);
                self.heard(now, node);
                // What it was told last it may not have heard.
                if self.phase != Phase::Gathering {
                    let safe = self.roster.get(node).map_or(0, |m| m.safe.0);
                    self.tell(conn, ToNode::Stable(safe));
                    self.changed.insert(node);
                }
            }
            None if self.phase == Phase::Gathering => {
                let label = printable(&hello.label, limits::SESSION_NAME_BYTES);
                let incarnation = hello.incarnation;
                let member = Member::new(now, node, conn, addr, server_ip);
                if !self.roster.restore(Member { label: label.clone(), incarnation, waits, ..member }) {
                    return false;
                }
                self.greet(conn, node);
                let (ready, expected) = (self.roster.len(), self.config.nodes);
                self.event(Event::Joined { node, addr, label, ready, expected });
                self.start_if_ready(now);
            }
            None => return false,
        }
        true
    }

    /// The number of the node of this incarnation, if it is in.
    fn numbered(&self, incarnation: u64) -> Option<NodeId> {
        self.roster.nodes().find(|m| m.incarnation == incarnation).map(|m| m.node)
    }

    /// Takes a node at its new address, and tells those that dial it there.
    fn moves_to(&mut self, node: NodeId, addr: SocketAddr, server_ip: IpAddr) {
        let Some(m) = self.roster.get_mut(node) else { return };
        if core::mem::replace(&mut m.addr, addr) != addr {
            self.changed.extend(m.children.iter().chain(&m.holds_for));
        }
        if core::mem::replace(&mut m.server_ip, server_ip) != server_ip {
            self.changed.insert(node);
        }
    }

    /// Somebody joins from the address of a node that is silent: most likely its machine was started anew, and must not
    /// be counted twice. An address proves nothing (several machines may share one), so who is heard stays, and who is
    /// taken out is let in again when it is heard.
    fn replaced(&mut self, now: Instant, addr: SocketAddr) {
        let silent = |m: &&Member| m.addr == addr && m.heard + repair::HOLE < now;
        if self.phase != Phase::Gathering {
            return;
        }
        let Some((node, conn)) = self.roster.nodes().find(silent).map(|m| (m.node, m.conn)) else { return };
        self.hang_up(conn);
        self.leave(node);
    }

    /// Gives a connection up, and whoever is at its other end with it.
    fn hang_up(&mut self, conn: Option<Conn>) {
        if let Some(conn) = conn {
            self.roster.hang_up(conn);
            self.outputs.push_back(Output::HangUp(conn));
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
        let fan_out = self.config.fan_out as usize;
        for (rank, node) in ranks.iter().enumerate() {
            let Some(m) = self.roster.get_mut(*node) else { continue };
            // From here on there is something to measure.
            (m.throughput, m.arrival) = (Throughput::new(now), Arrival::new(now));
            m.parent = topology::parent(rank, fan_out).map(|r| ranks[r]);
            m.children = topology::children(rank, fan_out, ranks.len()).map(|r| ranks[r]).collect();
            self.changed.insert(*node);
            self.moved.insert(*node);
        }
    }

    // ---- the tape is under way ----

    fn said(&mut self, now: Instant, node: NodeId, message: ToCoordinator) {
        // How often a node says what it holds depends on the tape; whether it lives, its beats tell.
        if let ToCoordinator::Stored(items) = message {
            return self.holds(node, items);
        }
        self.heard(now, node);
        let Some(m) = self.roster.get_mut(node) else { return };
        match message {
            ToCoordinator::Hello(_) | ToCoordinator::Stored(_) => {}
            ToCoordinator::Linked(epoch) => {
                m.linked = true;
                m.linkless = None;
                if let Some(parent) = m.parent.filter(|_| epoch >= m.parent_since) {
                    let news = m.fed_by.replace(parent) != Some(parent);
                    if news {
                        m.arrival.linked();
                        // How fast it was says nothing of how fast it is from here.
                        let nothing = m.progress.received == Offset::ZERO;
                        m.throughput =
                            if nothing { Throughput::from_the_start(now) } else { Throughput::new(now) };
                    }
                    if let Some(old) = self.hold_no_more(node) {
                        self.leave_if_free(old);
                    }
                    if news {
                        self.event(Event::Linked { node, parent });
                    }
                }
            }
            ToCoordinator::Progress(progress) => {
                // A node whose sink failed relays on and has none to tell of; what the sink took stays.
                let progress = Progress { sunk: m.progress.sunk.max(progress.sunk), ..progress };
                m.throughput.see(now, &m.progress, &progress, m.complete);
                if progress.received > m.progress.received {
                    m.arrival.reset(now);
                }
                m.progress = progress;
                // Without a link nobody but they holds for it.
                let fed = m.fed_by.is_some();
                self.event(Event::Progress { node, progress });
                if fed && self.behind(node).is_some_and(|bytes| bytes <= limits::HISTORY_BYTES) {
                    self.keep_no_more(node);
                }
                self.try_return(now, node);
            }
            ToCoordinator::Complete => {
                // Nobody can hold what the root has not sealed yet.
                if node != NodeId::ROOT && !self.roster.get(NodeId::ROOT).is_some_and(|r| r.complete) {
                    return;
                }
                if let Some(m) = self.roster.get_mut(node).filter(|m| !m.complete) {
                    m.complete = true;
                    m.arrival.reset(now);
                    self.unsure = true;
                    self.event(Event::Complete { node });
                    self.let_go(node);
                }
            }
            ToCoordinator::LinkLost(epoch, at, fault) => {
                // A fault of the link to an earlier parent is no news.
                if epoch >= m.parent_since {
                    self.link_lost(now, node, at, fault);
                }
            }
            ToCoordinator::Receipt(receipt) => self.receipt(now, node, receipt),
            ToCoordinator::Note(note) => {
                if now.since(m.notes.1) >= Duration::from_secs(1) {
                    m.notes = (0, now);
                }
                if m.notes.0 < limits::NOTES_PER_SECOND {
                    m.notes.0 += 1;
                    let topic = printable(&note.topic, limits::TEXT_BYTES);
                    let text = printable(&note.text, limits::NOTE_BYTES);
                    self.event(Event::Noted { node, note: Note { topic, text } });
                }
            }
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
        self.settle(now, node, outcome.clone());
        if let (Phase::Gathering, Outcome::Failed(why, _)) = (&self.phase, outcome) {
            // There will be nothing to send, however many nodes come.
            self.end_all(now, &why);
        }
    }

    /// A node's control connection is gone.
    fn gone(&mut self, now: Instant, node: NodeId, why: &str) {
        let Some(m) = self.roster.get_mut(node).filter(|m| !m.released) else { return };
        m.gone = Some(now);
        if self.phase == Phase::Gathering {
            self.leave(node);
        } else if m.suspicion.is_none() && m.heard <= now && m.heard + repair::HOLE >= now {
            // One that was silent already may have lost its connection to that, and is on its way back.
            self.suspect(now, &[node], &Cause::Gone(printable(why, limits::TEXT_BYTES)));
        }
    }

    // ---- time ----

    fn timeout(&mut self, now: Instant) {
        if self.timers.due(Timer::Beat, now) {
            self.timers.set(Timer::Beat, now + limits::HEARTBEAT_INTERVAL);
            let conns: Vec<_> = self.roster.nodes().filter_map(|m| m.conn).collect();
            for conn in conns {
                self.tell(conn, ToNode::Beat);
            }
        }
        let late = self.timers.when(Timer::Silence).map(|when| now.since(when));
        if self.timers.due(Timer::Silence, now) {
            self.timers.set(Timer::Silence, now + limits::SILENCE_CHECK_INTERVAL);
            if let Some(late) = late.filter(|late| *late > limits::OWN_STALL_AFTER) {
                self.stood_still(now, late);
            }
            self.look(now);
            if self.phase == Phase::Streaming {
                self.look_for_slow(now);
                self.serve_later(now);
            }
        }
        if self.timers.due(Timer::StartAfter, now)
            && self.phase == Phase::Gathering
            && self.roster.len() >= self.config.min_nodes.max(1)
        {
            self.start(now);
        }
        self.timers.stop(Timer::Release);
        self.timers.stop(Timer::Ack);
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

/// Whether a node was there at the start, and is still at work.
fn in_time(m: &Member) -> bool {
    !m.late && m.outcome.is_none()
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
        Reason::Slow(why) => Reason::Slow(text(why)),
        missing @ Reason::Missing(..) => missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    fn open(links: Option<LinkKey>) -> Coordinator {
        let config = Config {
            session: SessionId([1; 16]),
            name: None,
            key: [0; 32],
            payload: PayloadKey::Plain,
            links,
            nodes: 3,
            fan_out: 2,
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
            data_port: 1,
        };
        Coordinator::new(Instant::ZERO, config)
    }

    fn join(c: &mut Coordinator, conn: u32, back: Option<NodeId>) {
        let role = Role::Node { data_port: 7, wait: false, back };
        let incarnation = u64::from(back.map_or(conn, |node| node.0));
        let hello = Hello { session: None, incarnation, role, label: String::new() };
        // A machine for each node.
        let addr = SocketAddr::from(([10, 0, 0, back.map_or(conn, |n| n.0) as u8], 1000));
        c.handle(Instant::ZERO, Input::Joined { conn: Conn(conn), addr, server_ip: addr.ip(), hello });
    }

    fn told(c: &mut Coordinator) -> Vec<(Conn, ToNode)> {
        let mut told = Vec::new();
        loop {
            match c.poll() {
                Output::Tell(conn, message) => told.push((conn, message)),
                Output::Wait(_) | Output::Done(_) => return told,
                _ => {}
            }
        }
    }

    fn safe(told: &[(Conn, ToNode)], conn: u32) -> Option<u64> {
        told.iter().rev().find_map(|(to, message)| match message {
            ToNode::Stable(items) if *to == Conn(conn) => Some(*items),
            _ => None,
        })
    }

    #[test]
    fn what_is_safe_is_the_least_that_those_below_the_children_hold() {
        // A tree: 1 and 2 below the root, 3 below 1.
        let mut c = open(None);
        (1..=3).for_each(|n| join(&mut c, n, None));
        let start = told(&mut c);
        assert_eq!((safe(&start, 0), safe(&start, 1)), (Some(0), None));
        let first =
            |told: &[(Conn, ToNode)], wanted: fn(&ToNode) -> bool| told.iter().position(|(_, m)| wanted(m));
        let (news, view) =
            (|m: &ToNode| matches!(m, ToNode::Stable(_)), |m: &ToNode| matches!(m, ToNode::View(_)));
        assert!(first(&start, news) < first(&start, view), "less comes before the view");

        // What a child holds is its own affair; and a number that goes back is none.
        let pause = 3 * limits::ACK_INTERVAL_PER_NODE;
        let say = |c: &mut Coordinator, at: u32, node: u32, items| {
            let now = Instant::ZERO + (at * pause);
            c.handle(now, Input::Said(Conn(node), ToCoordinator::Stored(items)));
            told(c)
        };
        assert_eq!(safe(&say(&mut c, 1, 1, 7), 0), None);
        assert_eq!(safe(&say(&mut c, 2, 3, 5), 0), Some(5));
        assert_eq!(safe(&say(&mut c, 3, 3, 4), 0), None);
        // Not more often than every so often, but then.
        assert_eq!(safe(&say(&mut c, 3, 3, 6), 0), Some(6));
        assert_eq!(safe(&say(&mut c, 3, 3, 8), 0), None);
        c.handle(Instant::ZERO + 4 * pause, Input::Timeout);
        assert_eq!(safe(&told(&mut c), 0), Some(8));

        // When 1 is lost, 3 is a child of the root: that comes behind the view that says so.
        c.handle(Instant::ZERO + 5 * pause, Input::Gone(Conn(1), "gone".into()));
        let lost = told(&mut c);
        assert!(safe(&lost, 0).is_none() && first(&lost, view).is_some());
        c.handle(Instant::ZERO + 6 * pause, Input::Timeout);
        assert_eq!(safe(&told(&mut c), 0), Some(u64::MAX));
    }

    #[test]
    fn a_parent_makes_the_key_that_its_child_is_told() {
        for secret in [Some(LinkKey::new([9; 32])), None] {
            let mut c = open(secret.clone());
            (1..=3).for_each(|n| join(&mut c, n, None));
            let root = secret.as_ref().map(|s| s.of_node(NodeId::ROOT));
            let mut own = BTreeMap::from([(NodeId::ROOT, root)]);
            let mut children = 0;
            for (conn, message) in told(&mut c) {
                match message {
                    ToNode::Welcome(welcome) => {
                        assert_eq!(welcome.link.is_some(), secret.is_some());
                        own.insert(welcome.node, welcome.link);
                    }
                    ToNode::View(View { parent: Some(parent), .. }) => {
                        let made = own[&parent.node].as_ref().map(|key| key.of_child(NodeId(conn.0)));
                        assert_eq!(parent.key, made);
                        children += 1;
                    }
                    _ => {}
                }
            }
            assert_eq!((own.len(), children), (4, 3));
            // Who comes back has the same key.
            c.handle(Instant::ZERO, Input::Gone(Conn(2), "gone".into()));
            join(&mut c, 8, Some(NodeId(2)));
            let welcome = told(&mut c).into_iter().find_map(|(_, message)| match message {
                ToNode::Welcome(welcome) => Some(welcome),
                _ => None,
            });
            assert_eq!(welcome.expect("it is welcome").link, own[&NodeId(2)]);
        }
    }
    fn joins(c: &mut Coordinator, at: Instant, conn: u32, incarnation: u64, addr: [u8; 4]) {
        let role = Role::Node { data_port: 7, wait: false, back: None };
        let hello = Hello { session: None, incarnation, role, label: String::new() };
        let addr = SocketAddr::from((addr, 1000));
        c.handle(at, Input::Joined { conn: Conn(conn), addr, server_ip: addr.ip(), hello });
    }

    fn welcomed(told: &[(Conn, ToNode)], conn: u32) -> Option<NodeId> {
        told.iter().find_map(|(to, message)| match message {
            ToNode::Welcome(welcome) if *to == Conn(conn) => Some(welcome.node),
            _ => None,
        })
    }

    #[test]
    fn a_node_is_its_incarnation_and_its_address_is_a_hint() {
        let mut c = Coordinator { config: Config { nodes: 9, ..open(None).config }, ..open(None) };
        let (one, other) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let later = Instant::ZERO + Duration::from_millis(100);
        joins(&mut c, Instant::ZERO, 1, 71, one);
        joins(&mut c, later, 2, 72, one);
        let first = told(&mut c);
        assert_eq!(
            (welcomed(&first, 1), welcomed(&first, 2)),
            (Some(NodeId(1)), Some(NodeId(2))),
            "one address"
        );
        // Its welcome was lost, and it asks again, from another address.
        joins(&mut c, later, 3, 72, other);
        assert_eq!(welcomed(&told(&mut c), 3), Some(NodeId(2)));
        assert_eq!(c.roster().get(NodeId(2)).map(|m| m.addr), Some(SocketAddr::from((other, 7))));
        assert_eq!(c.roster().len(), 2);
        // One that is silent is most likely the one that was started anew; one that is heard is not.
        let silent = Instant::ZERO + Duration::from_secs(2);
        for beat in 1..=20 {
            let alive = ToCoordinator::Progress(Progress::default());
            c.handle(Instant::ZERO + beat * Duration::from_millis(100), Input::Said(Conn(3), alive));
        }
        joins(&mut c, silent, 4, 73, one);
        joins(&mut c, silent, 5, 74, other);
        let there: Vec<_> = c.roster().nodes().map(|m| m.incarnation).collect();
        assert_eq!(there, [72, 73, 74]);
        // It was only silent: it is in again under its number.
        let role = Role::Node { data_port: 7, wait: false, back: Some(NodeId(1)) };
        let hello = Hello { session: None, incarnation: 71, role, label: String::new() };
        let addr = SocketAddr::from((one, 1000));
        c.handle(silent, Input::Joined { conn: Conn(6), addr, server_ip: addr.ip(), hello });
        assert_eq!(welcomed(&told(&mut c), 6), Some(NodeId(1)));
        assert_eq!(c.roster().len(), 4);
    }

    #[test]
    fn whoever_dials_a_node_is_told_where_it_is_now() {
        let mut c = open(None);
        (1..=3).for_each(|n| join(&mut c, n, None));
        let parent = |told: &[(Conn, ToNode)]| {
            told.iter().rev().find_map(|(to, message)| match message {
                ToNode::View(View { parent: Some(parent), .. }) if *to == Conn(3) => Some(parent.clone()),
                _ => None,
            })
        };
        let before = parent(&told(&mut c)).expect("the third is below the first");
        let role = Role::Node { data_port: 7, wait: false, back: Some(before.node) };
        let hello =
            Hello { session: None, incarnation: u64::from(before.node.0), role, label: String::new() };
        let addr = SocketAddr::from(([10, 0, 9, 9], 1000));
        c.handle(Instant::ZERO, Input::Joined { conn: Conn(7), addr, server_ip: addr.ip(), hello });
        let after = parent(&told(&mut c)).expect("it is told again");
        assert_eq!((after.node, after.addr), (before.node, SocketAddr::from(([10, 0, 9, 9], 7))));
    }
}
