//! Nodes end, are let go, and with the last of them the session ends.

use alloc::vec::Vec;

use crate::limits;
use crate::proto::coordinator::member::Conn;
use crate::proto::coordinator::member::Member;
use crate::proto::coordinator::outcome::{Suspect, is_idle_child, is_needed, suspects};
use crate::proto::coordinator::state::{Coordinator, Output, Phase};
use crate::proto::event::{Event, Report};
use crate::proto::timer::{Timer, Timers};
use crate::time::Instant;
use crate::types::{NodeId, Offset, printable};
use crate::wire::control::{Outcome, Reason, Receipt, ToNode};

impl Coordinator {
    /// The coordinator gives a node up; it is told why, and those below it go on without it.
    pub(super) fn fail(&mut self, now: Instant, node: NodeId, reason: Reason, at: Offset) {
        self.tell_node(node, ToNode::Abort(reason.clone()));
        self.nodes.take_out(&[node]);
        self.settle(now, node, Outcome::Failed(reason, at));
    }

    fn settle(&mut self, now: Instant, node: NodeId, outcome: Outcome) {
        let Some(m) = self.nodes.get_mut(node).filter(|m| !m.ending.is_settled()) else { return };
        if node != NodeId::ROOT {
            self.outcomes.settled(m.presence.is_suspected());
        }
        m.ending.settle(now, outcome.clone());
        self.stability.stale();
        self.nodes.tree.end_handover(node);
        self.nodes.tree.end_keeping(node);
        self.nodes.tree.end_retention(node);
        self.event(Event::Ended { node, outcome });
        self.let_go(node);
    }

    /// A node says how it ended.
    pub(super) fn receipt(&mut self, now: Instant, node: NodeId, receipt: Receipt) {
        let Some(m) = self.nodes.get_mut(node).filter(|m| !m.ending.is_settled()) else { return };
        m.delivery.receipt(node == NodeId::ROOT, &receipt);
        if node == NodeId::ROOT {
            self.outcomes.root_ended(&receipt);
        }
        let outcome = self.outcomes.judged(node, receipt);
        self.settle(now, node, outcome.clone());
        if let (Phase::Gathering, Outcome::Failed(why, _)) = (self.phase, outcome) {
            // There will be nothing to send, however many nodes come.
            self.end_all(now, &why);
        }
    }

    /// Lets a node go if it has ended and nobody below needs it; then looks at those above, for which it may have
    /// been the last they waited for.
    pub(super) fn let_go(&mut self, node: NodeId) {
        let mut next = Some(node);
        for _ in 0..=limits::LOSSES + 1 {
            let Some(node) = next else { return };
            next = self.nodes.tree.parent(node);
            self.need_no_more(node);
            self.try_let_go(node);
        }
    }

    /// Takes a node from a parent that it has without need.
    pub(super) fn need_no_more(&mut self, node: NodeId) {
        if is_idle_child(&self.nodes, node) {
            self.nodes.take_out(&[node]);
        }
    }

    pub(super) fn try_let_go(&mut self, node: NodeId) {
        let Some(m) = self.nodes.get(node) else { return };
        let may = node != NodeId::ROOT && m.ending.is_settled() && !m.ending.is_released();
        if !may || is_needed(&self.nodes, node) {
            return;
        }
        let waits = m.identity.waits() && m.ending.is_ok() && !m.presence.is_suspected();
        if !m.is_complete() || self.nodes.is_unfinished(node) {
            // Its parent must not keep the rest for it, and whoever is further below gets another one.
            self.nodes.take_out(&[node]);
        }
        if waits {
            self.outcomes.release.queue(node);
            if let Some(m) = self.nodes.get_mut(node) {
                m.ending.release();
            }
        } else {
            self.send_off(node);
        }
    }

    fn send_off(&mut self, node: NodeId) {
        let Some(m) = self.nodes.get_mut(node) else { return };
        m.ending.release();
        if let Some(conn) = m.identity.conn() {
            self.tell(conn, ToNode::Release);
            self.outputs.push_back(Output::HangUp(conn));
            self.event(Event::Released { node });
        }
    }

    /// Somebody stops the session.
    pub(super) fn stop(&mut self, now: Instant, who: &str) {
        if !matches!(self.phase, Phase::Draining | Phase::Done) {
            self.end_all(now, &Reason::Interrupted(printable(who, limits::TEXT_BYTES)));
        }
    }

    /// Ends the session for one reason: everyone is told, and no sink believes it is complete. Who was lost before keeps
    /// a reason of its own.
    fn end_all(&mut self, now: Instant, reason: &Reason) {
        if self.phase == Phase::Gathering {
            self.outcomes.expect(self.nodes.roster.len());
            self.phase = Phase::Streaming;
        }
        let open = self.nodes.roster.iter().filter(|m| !m.ending.is_settled());
        let open: Vec<_> = open
            .map(|m| {
                let lost = m.presence.suspected_of(now).map(|why| Reason::Lost(m.node(), why));
                (m.node(), m.delivery.received(), lost.unwrap_or_else(|| reason.clone()))
            })
            .collect();
        for (node, at, reason) in open {
            self.tell_node(node, ToNode::Abort(reason.clone()));
            self.settle(now, node, Outcome::Failed(reason, at));
        }
    }

    /// Nobody is left but nodes that are not heard: they have had their time to come back.
    fn give_up_suspects(&mut self, now: Instant) {
        let open = suspects(&self.nodes, now);
        if open.iter().any(|suspect| suspect.may_come_back) {
            return;
        }
        for Suspect { node, complete, at, why, .. } in open {
            let reason = Reason::Lost(node, why);
            if complete {
                self.tell_node(node, ToNode::Abort(reason));
                self.settle(now, node, Outcome::Unknown);
            } else {
                self.fail(now, node, reason, at);
            }
        }
    }

    /// From phase to phase, once what a phase waits for has happened.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.phase == Phase::Streaming && self.outcomes.only_suspects() {
            self.give_up_suspects(now);
        }
        if self.phase == Phase::Streaming && self.outcomes.all_settled() {
            self.end_root(now);
            self.phase = Phase::Draining;
        }
        if self.phase != Phase::Draining {
            return;
        }
        while let Some(node) = self.outcomes.release.pop(now) {
            self.send_off(node);
        }
        match self.outcomes.release.due() {
            Some(when) => self.timers.set(Timer::Release, when),
            None => self.done(now),
        }
    }

    /// Nobody is left to send to: there is no point in reading the source to its end.
    fn end_root(&mut self, now: Instant) {
        let Some(root) = self.nodes.get(NodeId::ROOT).filter(|root| !root.ending.is_settled()) else {
            return;
        };
        let at = root.delivery.received();
        let why = if self.nodes.roster.is_empty() { "no node ever joined" } else { "no node is left" };
        let reason = Reason::Interrupted(why.into());
        self.tell_node(NodeId::ROOT, ToNode::Abort(reason.clone()));
        self.settle(now, NodeId::ROOT, Outcome::Failed(reason, at));
    }

    fn done(&mut self, now: Instant) {
        // Whoever stayed for somebody that has ended now.
        let left = self.nodes.roster.nodes().filter(|m| !m.ending.is_released()).map(Member::node);
        left.collect::<Vec<_>>().into_iter().for_each(|node| self.send_off(node));
        self.phase = Phase::Done;
        self.timers = Timers::default();
        self.tell(Conn::ROOT, ToNode::Release);
        let report = self.report(now);
        self.outputs.push_back(Output::Done(report));
    }

    /// The report on the session, as far as it is known by now.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let root = self.nodes.get(NodeId::ROOT).expect("the root is always in").report(now);
        let nodes: Vec<_> = self.nodes.roster.nodes().map(|m| m.report(now)).collect();
        Report {
            session: self.config.session,
            bytes: root.bytes,
            started: self.started,
            ended: nodes.iter().map(|n| n.ended).max().unwrap_or(now),
            root,
            nodes,
        }
    }
}
