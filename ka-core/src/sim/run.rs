//! The run loop: what is due becomes an input, and what a machine wants becomes something due.
//!
//! The contract is that of [`proto`](crate::proto): after each `handle`, `poll` until `Wait`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec::Vec;

use super::clock::Due;
use super::fault::Fault;
use super::host::{self, Down, NEVER, SETTLE, State, Up};
use super::trace::note;
use super::world::World;
use crate::limits;
use crate::proto::coordinator::{Input as ServerInput, Output as ServerOutput, Tree};
use crate::proto::node::{Input, Node, Output};
use crate::proto::{Coordinator, Event};
use crate::time::Instant;
use crate::types::{LinkId, Position};
use crate::wire::control::{Outcome, ToNode};

impl World {
    /// Lets the next thing happen. False when nothing happens until `limit`, or a rule is broken.
    pub(super) fn step(&mut self, limit: Instant) -> bool {
        let Some(due) = self.clock.next(limit) else { return false };
        if self.waits_for_somebody(due) || self.is_lost(due) {
            return true;
        }
        match due {
            Due::Sent(link) => self.sent(link),
            Due::Arrived(link) => self.arrived(link),
            Due::Granted(link) => self.granted(link),
            Due::Offered(link) => self.offered(link),
            Due::Linked(link) => self.linked(link),
            Due::Refused(link) => self.refused(link),
            Due::DialFailed(link) => self.dial_failed(link),
            Due::Heard(link) => self.heard(link),
            Due::LostToParent(link) => self.lost_to_parent(link),
            Due::LostToChild(link) => self.lost_to_child(link),
            Due::SinkTook(h) => self.sink_took(h),
            Due::SinkEnded(h) => self.sink_ended(h),
            Due::SourceRead => self.source_read(),
            Due::Join(h) => self.join(h),
            Due::ToServer(conn) => self.at_server(conn),
            Due::ToNode(conn) => self.at_node(conn),
            Due::ConnGone(conn) => self.conn_gone(conn),
            Due::RejoinFailed(conn) => self.rejoin_failed(conn, "the server does not answer", true),
            Due::RejoinRefused(conn) => self.rejoin_failed(conn, "connection refused", false),
            Due::Wake(h) => self.wake(h),
            Due::WakeServer => self.wake_server(),
            Due::Fault(i) => self.fault(self.setup.faults[i as usize]),
            Due::Go => self.drive_server(ServerInput::Go),
        }
        !self.checker.broken()
    }

    /// Puts off an event while the host that would handle it stands still; whether that is so.
    fn waits_for_somebody(&mut self, due: Due) -> bool {
        if self.pauses == 0 {
            return false;
        }
        let link = |l: u32| &self.links[l as usize];
        let h = match due {
            Due::Sent(l) | Due::Offered(l) | Due::Granted(l) | Due::LostToParent(l) => link(l).parent,
            Due::Arrived(l) | Due::Linked(l) | Due::Refused(l) | Due::DialFailed(l) => link(l).child,
            Due::LostToChild(l) | Due::Heard(l) => link(l).child,
            Due::Join(h) | Due::Wake(h) | Due::SinkTook(h) | Due::SinkEnded(h) => h,
            Due::ToNode(c) | Due::RejoinFailed(c) | Due::RejoinRefused(c) => host::host_of(c),
            Due::ToServer(_) | Due::ConnGone(_) | Due::WakeServer | Due::SourceRead | Due::Go => 0,
            Due::Fault(i) => match self.setup.faults[i as usize] {
                Fault::Stop { node, .. } => node as u32,
                Fault::RereadFails { .. } | Fault::StopAll { .. } => 0,
                _ => return false,
            },
        };
        let until = self.hosts[h as usize].paused_until;
        if until <= self.clock.now {
            return false;
        }
        match due {
            Due::Wake(h) if self.hosts[h as usize].wake != self.clock.now => return true,
            Due::Wake(h) => self.hosts[h as usize].wake = until,
            Due::WakeServer if self.server_wake != self.clock.now => return true,
            Due::WakeServer => self.server_wake = until,
            _ => {}
        }
        self.clock.at(until, due);
        true
    }

    /// Whether this was under way on a link that lost it.
    fn is_lost(&self, due: Due) -> bool {
        match due {
            Due::Arrived(l) | Due::Granted(l) | Due::Offered(l) | Due::Linked(l) | Due::Refused(l) => {
                self.links[l as usize].lost
            }
            Due::Heard(l) | Due::LostToParent(l) | Due::LostToChild(l) => self.links[l as usize].lost,
            _ => false,
        }
    }

    // ---- a node ----

    /// Gives a node an input and does what it wants.
    pub(super) fn drive(&mut self, h: u32, input: Input) {
        let host = &mut self.hosts[h as usize];
        let (State::In, Some(node)) = (host.state, &mut host.node) else { return };
        let kept = node.window().kept();
        node.handle(self.clock.now, input);
        self.poll(h);
        if self.node(h).window().kept() != kept {
            self.check_forgotten(h, kept);
        }
    }

    /// The node of a host that is in.
    pub(super) fn node(&self, h: u32) -> &Node {
        self.hosts[h as usize].node.as_ref().expect("a host that is in has a node")
    }

    pub(super) fn is_in(&self, h: u32) -> bool {
        self.hosts[h as usize].state == State::In
    }

    pub(super) fn poll(&mut self, h: u32) {
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
            Output::Rejoin => self.rejoin(h),
            Output::Accept(LinkId(link), child, watermarks) => self.accept(h, link, child, watermarks.held()),
            Output::Refuse(LinkId(link), refuse) => self.decline(h, link, refuse),
            Output::Drop(LinkId(link)) => self.drop_link(h, link),
            Output::Live => self.live(h),
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

    /// A node has forgotten what is behind `before`: does anybody below it lack that?
    fn check_forgotten(&mut self, h: u32, before: Position) {
        if h == 0 && self.reread() {
            return;
        }
        let kept = self.node(h).window().kept();
        let mut level: Vec<u32> = [h].into();
        for _ in 0..=limits::LOSSES {
            let mut next = Vec::new();
            for link in level.iter().flat_map(|h| &self.hosts[*h as usize].down) {
                let l = &self.links[*link as usize];
                // Word of a child that has just come may still be under way.
                if l.child_open && self.settled(l.since) && self.is_placed(l.child, h) {
                    next.push(l.child);
                }
            }
            next.iter().for_each(|below| self.checker.forgot(h, before, kept, *below));
            level = next;
        }
    }

    /// Whether the coordinator has a host below another one: for whom it has not, others retain. A liar harms itself.
    fn is_placed(&self, below: u32, above: u32) -> bool {
        let [below_id, above_id] = [below, above].map(|h| self.hosts[h as usize].id);
        let tree = self.coordinator.as_ref().map(|c| c.tree());
        let placed = |((tree, below), above)| Tree::is_below(tree, below, above);
        !self.hosts[below as usize].lies() && tree.zip(below_id).zip(above_id).is_some_and(placed)
    }

    /// Whether word of a link that came up at `since` is with all ancestors that must know. Each silence since then may
    /// have held it up.
    fn settled(&self, since: Instant) -> bool {
        let now = self.clock.now;
        let holds_up = |fault: &Fault| {
            let ((.., lasts), at) = (fault.silence()?, Instant::ZERO + fault.at()?);
            (at <= now && since <= at + lasts + SETTLE).then_some(lasts + SETTLE)
        };
        since + SETTLE + self.setup.faults.iter().filter_map(holds_up).sum() < now
    }

    fn arm(&mut self, h: u32, when: Instant) {
        // After a pause a timer may be overdue.
        let when = when.max(self.clock.now);
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
    pub(super) fn leave(&mut self, h: u32) {
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

    // ---- the server ----

    pub(super) fn drive_server(&mut self, input: ServerInput) {
        let now = self.clock.now;
        self.server().handle(now, input);
        self.poll_server();
    }

    fn server(&mut self) -> &mut Coordinator {
        self.coordinator.as_mut().expect("the run has begun")
    }

    pub(super) fn poll_server(&mut self) {
        let mut views = false;
        loop {
            match self.server().poll() {
                ServerOutput::Tell(conn, message) => {
                    if let ToNode::Welcome(welcome) = &message {
                        self.by_id.insert(welcome.node, host::host_of(conn.0));
                    }
                    views |= matches!(message, ToNode::View(_));
                    self.send_down(conn, Down::Say(message));
                }
                ServerOutput::HangUp(conn) => self.send_down(conn, Down::HangUp),
                ServerOutput::Event(Event::Progress { .. }) => {}
                ServerOutput::Event(event) => {
                    note!(self, "ka", "{event:?}");
                    self.started |= matches!(event, Event::Started { .. });
                    self.events.push((self.clock.now, event));
                }
                ServerOutput::Wait(when) => {
                    if views {
                        self.check_tree();
                    }
                    return self.arm_server(when);
                }
                ServerOutput::Done(report) => {
                    note!(self, "ka", "is done");
                    self.report = Some(report);
                    self.hang_up_on_all();
                }
            }
        }
    }

    fn arm_server(&mut self, when: Instant) {
        let when = when.max(self.clock.now);
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
