//! The inputs of a session, and the parts that take care of them.

use alloc::vec::Vec;

use crate::limits;
use crate::proto::coordinator::act::gate::Arrived;
use crate::proto::coordinator::member::Member;
use crate::proto::coordinator::state::{Coordinator, Input, Output, Phase};
use crate::proto::event::Event;
use crate::proto::throughput::Throughput;
use crate::proto::timer::Timer;
use crate::time::Instant;
use crate::types::{Epoch, NodeId, Offset, printable};
use crate::wire::control::{Note, ToCoordinator, ToNode};

impl Coordinator {
    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Joined { conn, addr, server_ip, hello } => {
                self.joined(now, Arrived { conn, addr, server_ip, hello });
            }
            Input::Said(conn, message) => {
                if let Some(node) = self.nodes.roster.by_conn(conn) {
                    self.said(now, node, message);
                }
            }
            Input::Gone(conn, why) => {
                if let Some(node) = self.nodes.roster.hang_up(conn) {
                    self.gone(now, node, &why);
                }
            }
            Input::Go => {
                if self.phase == Phase::Gathering && !self.nodes.roster.is_empty() {
                    self.start(now);
                }
            }
            Input::Stop(who) => self.stop(now, &who),
            Input::RereadFailed(why) => self.reread_failed(now, &why),
            Input::SetRate(rate) => self.config.rate = rate,
            Input::Timeout => self.timeout(now),
        }
        self.advance(now);
        // Before the view that brings somebody new.
        self.tell_stable(now);
        self.send_views();
    }

    /// Returns the next output: what to do, or until when to wait.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        Output::Wait(self.timers.next().unwrap_or(Instant(u64::MAX)))
    }

    fn said(&mut self, now: Instant, node: NodeId, message: ToCoordinator) {
        // How often a node says what it has stored depends on the tape; whether it lives, its progress tells.
        if let ToCoordinator::Stored(items) = message {
            if self.nodes.get_mut(node).is_some_and(|m| m.delivery.store(items)) {
                self.stability.stale();
            }
            return;
        }
        self.heard(now, node);
        // The root's own word needs no bound.
        let has = if node == NodeId::ROOT { Offset(u64::MAX) } else { self.nodes.sent_at_most() };
        let Some(m) = self.nodes.get_mut(node) else { return };
        match message {
            ToCoordinator::Hello(_) | ToCoordinator::Stored(_) => {}
            ToCoordinator::Linked(epoch) => self.linked(now, node, epoch),
            ToCoordinator::Progress(progress) => {
                let progress = m.progressed(now, progress.within(has));
                // Without a link nobody but they retains for it.
                let fed = self.nodes.tree.linked_to(node).is_some();
                self.event(Event::Progress { node, progress });
                if fed && self.nodes.behind(node).is_some_and(|bytes| bytes <= limits::HISTORY_BYTES) {
                    self.nodes.tree.end_retention(node);
                }
                for keeper in self.nodes.end_keeping(node) {
                    self.stability.stale();
                    self.try_let_go(keeper);
                }
                self.try_return(now, node);
            }
            ToCoordinator::Complete => self.completed(now, node),
            ToCoordinator::LinkLost(epoch, at, fault) => {
                // A fault of the link to an earlier parent is no news, and nobody knows a view that it was not sent.
                if self.nodes.tree.is_present(node, epoch) {
                    self.link_lost(now, node, at.min(has), fault);
                }
            }
            ToCoordinator::Receipt(_) if self.phase == Phase::Gathering && node != NodeId::ROOT => {
                // It was stopped where it runs.
                self.leave(node);
            }
            ToCoordinator::Receipt(receipt) => self.receipt(now, node, receipt),
            ToCoordinator::State(state) if state.len() > limits::STATE_BYTES => {}
            ToCoordinator::State(state) => {
                m.presence.set_state(state);
                if let Some(state) = m.presence.take_state(now) {
                    self.event(Event::State { node, state });
                }
            }
            ToCoordinator::Note(note) => {
                if m.presence.may_note(now) {
                    let topic = printable(&note.topic, limits::TEXT_BYTES);
                    let text = printable(&note.text, limits::NOTE_BYTES);
                    self.event(Event::Noted { node, note: Note { topic, text } });
                }
            }
        }
    }

    /// A node's link to its parent is up.
    fn linked(&mut self, now: Instant, node: NodeId, epoch: Epoch) {
        let Some(m) = self.nodes.roster.get_mut(node) else { return };
        m.delivery.link_up();
        let tree = &mut self.nodes.tree;
        let Some(parent) = tree.parent(node).filter(|_| tree.is_present(node, epoch)) else { return };
        let up = tree.link_up(node);
        if up {
            m.delivery.arrival.linked();
        }
        let news = up && m.delivery.is_fed_by(parent);
        if news {
            // How fast it was says nothing of how fast it is from here.
            let nothing = m.delivery.received() == Offset::ZERO;
            m.pace.throughput = if nothing { Throughput::from_the_start(now) } else { Throughput::new(now) };
        }
        self.nodes.end_handover(node);
        if news {
            self.event(Event::Linked { node, parent });
        }
    }

    /// A node says that it has everything.
    fn completed(&mut self, now: Instant, node: NodeId) {
        // Nobody can have what the root has not sealed yet.
        let sealed = self.nodes.get(NodeId::ROOT).is_some_and(|root| root.is_complete());
        if node != NodeId::ROOT && !sealed {
            return;
        }
        if self.nodes.get_mut(node).is_some_and(|m| m.delivery.complete(now)) {
            self.stability.stale();
            self.event(Event::Complete { node });
            self.let_go(node);
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.timers.due(Timer::Beat, now) {
            self.timers.set(Timer::Beat, now + limits::HEARTBEAT_INTERVAL);
            let conns = self.nodes.roster.nodes().filter_map(|m| m.identity.conn());
            for conn in conns.collect::<Vec<_>>() {
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
            let late = |m: &mut Member| m.presence.take_state(now).map(|state| (m.node(), state));
            let states: Vec<_> = self.nodes.roster.nodes_mut().filter_map(late).collect();
            states.into_iter().for_each(|(node, state)| self.event(Event::State { node, state }));
            if self.phase == Phase::Streaming {
                self.look_for_slow(now);
                self.serve_later(now);
            }
        }
        if self.timers.due(Timer::StartAfter, now)
            && self.phase == Phase::Gathering
            && self.nodes.roster.len() >= self.config.min_nodes.max(1)
        {
            self.start(now);
        }
        self.timers.stop(Timer::Release);
        self.timers.stop(Timer::Ack);
    }
}
