//! The run loop: what is due becomes an input, and what a machine wants becomes something due.
//!
//! The contract is that of [`proto`](crate::proto): after each `handle`, `poll` until `Wait`.

use alloc::borrow::ToOwned;
use alloc::format;
use core::net::SocketAddr;

use super::clock::Due;
use super::host::{self, Down, NEVER, State, Up};
use super::{Fault, World};
use crate::proto::coordinator::{Input as ServerInput, Output as ServerOutput};
use crate::proto::node::{Input, Node, Output};
use crate::proto::roster::Conn;
use crate::proto::{Coordinator, Event};
use crate::time::Instant;
use crate::types::LinkId;
use crate::wire::control::{Outcome, ToCoordinator, ToNode, View};

/// Adds a line to the trace; formats nothing unless somebody wants it.
macro_rules! note {
    ($world:expr, $who:expr, $($what:tt)*) => {
        if $world.trace.on() {
            $world.trace.note($world.clock.now, $who, format_args!($($what)*));
        }
    };
}
pub(super) use note;

impl World {
    /// Lets the next thing happen. False when nothing happens until `limit`, or a rule is broken.
    pub(super) fn step(&mut self, limit: Instant) -> bool {
        let Some(due) = self.clock.next(limit) else { return false };
        match due {
            Due::Sent(link) => self.sent(link),
            Due::Arrived(link) => self.arrived(link),
            Due::Granted(link) => self.granted(link),
            Due::Offered(link) => self.offered(link),
            Due::Linked(link) => self.linked(link),
            Due::Refused(link) => self.refused(link),
            Due::LostToParent(link) => self.lost_to_parent(link),
            Due::LostToChild(link) => self.lost_to_child(link),
            Due::SinkTook(h) => self.sink_took(h),
            Due::SinkEnded(h) => self.sink_ended(h),
            Due::SourceRead => self.source_read(),
            Due::Join(h) => self.join(h),
            Due::ToServer(h) => self.at_server(h),
            Due::ToNode(h) => self.at_node(h),
            Due::Wake(h) => self.wake(h),
            Due::WakeServer => self.wake_server(),
            Due::Fault(i) => self.fault(self.setup.faults[i as usize]),
            Due::Go => self.drive_server(ServerInput::Go),
        }
        !self.checker.broken()
    }

    // ---- a node ----

    /// Gives a node an input and does what it wants.
    pub(super) fn drive(&mut self, h: u32, input: Input) {
        let host = &mut self.hosts[h as usize];
        let (State::In, Some(node)) = (host.state, &mut host.node) else { return };
        let low = node.window().low();
        node.handle(self.clock.now, input);
        self.poll(h);
        let low_now = self.node(h).window().low();
        if low_now != low {
            self.check_forgotten(h);
        }
    }

    /// The node of a host that is in.
    pub(super) fn node(&self, h: u32) -> &Node {
        self.hosts[h as usize].node.as_ref().expect("a host that is in has a node")
    }

    pub(super) fn is_in(&self, h: u32) -> bool {
        self.hosts[h as usize].state == State::In
    }

    fn poll(&mut self, h: u32) {
        while let Some(node) = &mut self.hosts[h as usize].node {
            match node.poll() {
                Output::Wait(when) => return self.arm(h, when),
                Output::Finished(outcome) => return self.finished(h, outcome),
                output => self.obey(h, output),
            }
        }
    }

    fn obey(&mut self, h: u32, output: Output) {
        match output {
            Output::Tell(message) => {
                note!(self, h, "says {message:?}");
                self.send_up(h, Up::Say(message));
            }
            Output::Dial(peer, attach) => self.dial(h, peer, attach),
            Output::Accept(LinkId(link), child, at) => self.accept(h, link, child, at),
            Output::Drop(LinkId(link), words) => self.drop_link(h, link, words),
            Output::Grant(grant) => self.grant(h, grant),
            Output::AbortSink => {
                note!(self, h, "aborts its sink");
                self.hosts[h as usize].sink.state = host::SinkState::Gone;
            }
            // The two that end polling, and are seen before.
            Output::Wait(_) | Output::Finished(_) => {}
        }
    }

    /// Whatever a host's node allows by now: read on, write on, send on.
    pub(super) fn pump(&mut self, h: u32) {
        if h == 0 {
            self.read_source();
        } else {
            self.feed_sink(h);
        }
        for i in 0..self.hosts[h as usize].down.len() {
            self.start_sending(self.hosts[h as usize].down[i]);
        }
    }

    fn check_forgotten(&mut self, h: u32) {
        let node = self.node(h);
        let low = node.window().low();
        let id = self.hosts[h as usize].id;
        let member = id.and_then(|id| self.coordinator.as_ref()?.roster().get(id));
        for child in member.map(|m| m.children.as_slice()).unwrap_or_default() {
            self.checker.forgot(h, low, self.by_id[child]);
        }
    }

    fn arm(&mut self, h: u32, when: Instant) {
        let host = &mut self.hosts[h as usize];
        host.wait = when;
        if when == NEVER {
            self.checker.breach("no wait without a deadline", format!("host {h} waits for ever"));
        } else if when < host.wake {
            host.wake = when;
            self.clock.at(when, Due::Wake(h));
        }
    }

    fn wake(&mut self, h: u32) {
        let host = &mut self.hosts[h as usize];
        if host.wake != self.clock.now {
            return;
        }
        host.wake = NEVER;
        if host.wait > self.clock.now {
            let when = host.wait;
            self.arm(h, when);
        } else if self.is_in(h) {
            self.drive(h, Input::Timeout);
            if self.is_in(h) && self.hosts[h as usize].wait <= self.clock.now {
                self.checker.breach("no wait without a deadline", format!("host {h} wakes without an end"));
            }
            self.pump(h);
        }
    }

    fn finished(&mut self, h: u32, outcome: Outcome) {
        note!(self, h, "ends: {outcome}");
        self.hosts[h as usize].ended = Some((outcome, self.clock.now));
        self.leave(h);
    }

    /// The process is gone: its links and its control connection break.
    fn leave(&mut self, h: u32) {
        if self.hosts[h as usize].alive() && h != 0 {
            self.alive -= 1;
        }
        self.close_all(h);
        let was_there = self.hosts[h as usize].state != State::Away;
        self.hosts[h as usize].state = State::Gone;
        if was_there && h != 0 {
            self.send_up(h, Up::Gone);
        }
    }

    fn fault(&mut self, fault: Fault) {
        note!(self, "!", "{fault:?}");
        match fault {
            Fault::Kill { node, .. } => {
                if self.hosts[node].state != State::Gone {
                    self.hosts[node].disturbed = true;
                    self.leave(node as u32);
                }
            }
            Fault::Freeze { node, .. } => {
                if self.hosts[node].alive() {
                    self.hosts[node].disturbed = true;
                    self.hosts[node].state = State::Frozen;
                    self.alive -= 1;
                }
            }
            Fault::Stop { node, .. } => {
                self.hosts[node].disturbed |= self.hosts[node].alive();
                if self.is_in(node as u32) {
                    self.drive(node as u32, Input::Stop("Ctrl-C".to_owned()));
                } else if self.hosts[node].alive() {
                    self.leave(node as u32);
                }
            }
            Fault::SinkStalls { node, lasts, .. } => {
                let until = &mut self.hosts[node].sink.stalled_until;
                *until = (*until).max(self.clock.now + lasts);
            }
            Fault::StopAll { .. } => self.drive_server(ServerInput::Stop("the admin".to_owned())),
            // These wait for an offset, not for a time.
            Fault::Taint { .. } | Fault::SinkFails { .. } | Fault::SourceFails { .. } => {}
        }
    }

    // ---- control connections ----

    fn join(&mut self, h: u32) {
        if self.hosts[h as usize].state == State::Away {
            self.hosts[h as usize].state = State::Joining;
            self.send_up(h, Up::Hello);
        }
    }

    fn send_up(&mut self, h: u32, message: Up) {
        let when = self.arrival(h).max(self.hosts[h as usize].to_server_last);
        let host = &mut self.hosts[h as usize];
        host.to_server_last = when;
        host.to_server.push_back(message);
        self.clock.at(when, Due::ToServer(h));
    }

    fn send_down(&mut self, h: u32, message: Down) {
        let host = &self.hosts[h as usize];
        // The server may still speak to somebody it has hung up on; nothing of that is sent.
        if host.hung_up || !host.alive() {
            return;
        }
        let when = self.arrival(h).max(self.hosts[h as usize].to_node_last);
        let host = &mut self.hosts[h as usize];
        host.hung_up = matches!(message, Down::HangUp);
        host.to_node_last = when;
        host.to_node.push_back(message);
        self.clock.at(when, Due::ToNode(h));
    }

    /// When a control message of now arrives. The root's needs no network.
    fn arrival(&mut self, h: u32) -> Instant {
        if h == 0 {
            return self.clock.now;
        }
        let jitter = self.rng.below(self.setup.jitter.as_nanos() as u64);
        self.clock.now + self.setup.latency + core::time::Duration::from_nanos(jitter)
    }

    fn at_server(&mut self, h: u32) {
        let conn = Conn(h);
        match self.hosts[h as usize].to_server.pop_front() {
            Some(Up::Hello) => {
                let hello = self.hosts[h as usize].hello.clone();
                let addr = SocketAddr::new(host::addr(h), 40_000);
                let server_ip = host::addr(0);
                self.drive_server(ServerInput::Joined { conn, addr, server_ip, hello });
            }
            Some(Up::Say(message)) => {
                if let ToCoordinator::Receipt(receipt) = &message
                    && receipt.outcome.is_ok()
                    && let Some(c) = &self.coordinator
                    && c.roster()
                        .by_conn(conn)
                        .and_then(|n| c.roster().get(n))
                        .is_some_and(|m| m.outcome.is_none())
                {
                    self.checker.believed(h);
                }
                self.drive_server(ServerInput::Said(conn, message));
            }
            Some(Up::Gone) => self.drive_server(ServerInput::Gone(conn, "connection reset".to_owned())),
            None => {}
        }
    }

    fn at_node(&mut self, h: u32) {
        let Some(message) = self.hosts[h as usize].to_node.pop_front() else { return };
        let host = &mut self.hosts[h as usize];
        match (host.state, message) {
            (State::Joining, Down::Say(ToNode::Welcome(welcome))) => {
                note!(self, h, "is in as {}", welcome.node);
                host.state = State::In;
                host.id = Some(welcome.node);
                host.node = Some(Node::new(self.clock.now, &welcome, self.setup.window));
                self.poll(h);
            }
            (State::Joining, Down::Say(ToNode::Refused(refusal))) => {
                note!(self, h, "is refused: {refusal}");
                host.refused = Some(format!("{refusal}"));
                self.leave(h);
            }
            (State::Joining, Down::HangUp) => {
                host.refused = Some("the server has closed the connection".to_owned());
                self.leave(h);
            }
            (State::In, Down::Say(message)) => {
                note!(self, h, "hears {message:?}");
                let epoch = if let ToNode::View(view) = &message { Some(view.epoch) } else { None };
                self.drive(h, Input::Control(message));
                if let Some(epoch) = epoch {
                    self.check_stale(h, View { epoch, parent: None, children: [].into() });
                }
                self.pump(h);
            }
            (State::In, Down::HangUp) => {
                self.drive(h, Input::ControlLost("the server has closed the connection".to_owned()));
            }
            _ => {}
        }
    }

    /// A view whose number is not new must change nothing, whatever it says.
    fn check_stale(&mut self, h: u32, stale: View) {
        if !self.is_in(h) {
            return;
        }
        let now = self.clock.now;
        let Some(node) = &mut self.hosts[h as usize].node else { return };
        node.handle(now, Input::Control(ToNode::View(stale)));
        let output = node.poll();
        if !matches!(output, Output::Wait(_)) {
            self.checker.breach("a stale view is inert", format!("it made host {h} want {output:?}"));
        }
    }

    // ---- the server ----

    fn drive_server(&mut self, input: ServerInput) {
        let now = self.clock.now;
        self.server().handle(now, input);
        self.poll_server();
    }

    fn server(&mut self) -> &mut Coordinator {
        self.coordinator.as_mut().expect("the run has begun")
    }

    pub(super) fn poll_server(&mut self) {
        loop {
            match self.server().poll() {
                ServerOutput::Tell(Conn(h), message) => {
                    if let ToNode::Welcome(welcome) = &message {
                        self.by_id.insert(welcome.node, h);
                    }
                    self.send_down(h, Down::Say(message));
                }
                ServerOutput::HangUp(Conn(h)) => self.send_down(h, Down::HangUp),
                ServerOutput::Event(Event::Progress { .. }) => {}
                ServerOutput::Event(event) => {
                    note!(self, "ka", "{event:?}");
                    self.started |= matches!(event, Event::Started { .. });
                    self.events.push((self.clock.now, event));
                }
                ServerOutput::Wait(when) => return self.arm_server(when),
                ServerOutput::Done(report) => {
                    note!(self, "ka", "is done");
                    self.report = Some(report);
                    // The server's process ends, and with it every connection that is left.
                    for h in 1..self.hosts.len() {
                        if self.hosts[h].state != State::Away {
                            self.send_down(h as u32, Down::HangUp);
                        }
                    }
                }
            }
        }
    }

    fn arm_server(&mut self, when: Instant) {
        self.server_wait = when;
        if when == NEVER && self.report.is_none() {
            self.checker.breach("no wait without a deadline", "the coordinator waits for ever".to_owned());
        } else if when < self.server_wake {
            self.server_wake = when;
            self.clock.at(when, Due::WakeServer);
        }
    }

    fn wake_server(&mut self) {
        if self.server_wake != self.clock.now {
            return;
        }
        self.server_wake = NEVER;
        if self.server_wait > self.clock.now {
            self.arm_server(self.server_wait);
        } else {
            self.drive_server(ServerInput::Timeout);
        }
    }

    /// The root exists from the start: it sets its rate limit and begins to read.
    pub(super) fn open_root(&mut self) {
        self.poll(0);
        if self.setup.pace.is_some() {
            self.drive(0, Input::SetRate(self.setup.pace));
        }
        self.pump(0);
    }
}
