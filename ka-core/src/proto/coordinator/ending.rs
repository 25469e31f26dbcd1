//! How nodes end, who may go, and how the session ends.

use super::*;

impl Coordinator {
    /// The coordinator gives a node up; it is told why, and those below it go on without it.
    pub(super) fn fail(&mut self, now: Instant, node: NodeId, reason: Reason, at: Offset) {
        self.tell_node(node, ToNode::Abort(reason.clone()));
        self.detach(&[node]);
        self.settle(now, node, Outcome::Failed(reason, at));
    }

    pub(super) fn settle(&mut self, now: Instant, node: NodeId, outcome: Outcome) {
        let Some(m) = self.roster.get_mut(node).filter(|m| m.outcome.is_none()) else { return };
        if node != NodeId::ROOT {
            self.unsettled = self.unsettled.saturating_sub(1);
            if m.suspicion.is_some() {
                self.suspects = self.suspects.saturating_sub(1);
            }
        }
        m.outcome = Some(outcome.clone());
        self.unsure = true;
        m.ended = Some(now);
        self.hold_no_more(node);
        self.keep_no_more(node);
        self.event(Event::Ended { node, outcome });
        self.let_go(node);
    }

    /// Lets a node go if it has ended and nobody below needs it; then looks at those above, for which it may have
    /// been the last they waited for.
    pub(super) fn let_go(&mut self, node: NodeId) {
        let mut next = Some(node);
        for _ in 0..=limits::LOSSES + 1 {
            let Some(node) = next else { return };
            next = self.roster.get(node).and_then(|m| m.parent);
            self.need_no_more(node);
            self.try_let_go(node);
        }
    }

    /// Takes a node from a parent to which it has no link, if neither it nor anybody below it lacks anything: the parent
    /// would keep everything for it.
    pub(super) fn need_no_more(&mut self, node: NodeId) {
        let linkless = |m: &&Member| m.complete && m.parent.is_some() && m.fed_by != m.parent;
        if self.roster.get(node).filter(linkless).is_some() && !self.unfinished(node) {
            self.detach(&[node]);
        }
    }

    fn try_let_go(&mut self, node: NodeId) {
        let Some(m) = self.roster.get(node) else { return };
        if node == NodeId::ROOT || m.released || m.outcome.is_none() || self.needed(node) {
            return;
        }
        let waits = m.waits && m.outcome.as_ref().is_some_and(Outcome::is_ok) && m.suspicion.is_none();
        if !m.complete || self.unfinished(node) {
            // Its parent must not keep the rest for it, and whoever is further below gets another one.
            self.detach(&[node]);
        }
        if waits {
            self.release.queue(node);
            if let Some(m) = self.roster.get_mut(node) {
                m.released = true;
            }
        } else {
            self.send_off(node);
        }
    }

    /// Whether somebody below lacks bytes, so near that this node may have to feed it when others are lost.
    fn needed(&self, node: NodeId) -> bool {
        let children = |n: &NodeId| self.roster.get(*n).map(|m| m.children.as_slice()).unwrap_or_default();
        let mut level: Vec<NodeId> = children(&node).into();
        for _ in 0..=limits::LOSSES {
            if level.iter().filter_map(|n| self.roster.get(*n)).any(Member::lacks) {
                return true;
            }
            level = level.iter().flat_map(children).copied().collect();
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

    /// Somebody stops the session.
    pub(super) fn stop(&mut self, now: Instant, who: &str) {
        if !matches!(self.phase, Phase::Draining | Phase::Done) {
            self.end_all(now, &Reason::Interrupted(printable(who, limits::TEXT_BYTES)));
        }
    }

    /// Ends the session for one reason: everyone is told, and no sink believes it is complete. Who was lost before keeps
    /// a reason of its own.
    pub(super) fn end_all(&mut self, now: Instant, reason: &Reason) {
        if self.phase == Phase::Gathering {
            self.unsettled = self.roster.len();
            self.phase = Phase::Streaming;
        }
        let open = self.roster.iter().filter(|m| m.outcome.is_none());
        let open: Vec<_> = open
            .map(|m| {
                let lost = m.suspicion.as_ref().map(|s| Reason::Lost(m.node, m.suspected_of(now, &s.why)));
                (m.node, m.progress.received, lost.unwrap_or_else(|| reason.clone()))
            })
            .collect();
        for (node, at, reason) in open {
            self.tell_node(node, ToNode::Abort(reason.clone()));
            self.settle(now, node, Outcome::Failed(reason, at));
        }
    }

    /// Nobody is left but nodes that are not heard: they have had their time to come back.
    fn give_up_suspects(&mut self, now: Instant) {
        let open: Vec<_> = self
            .roster
            .nodes()
            .filter(|m| m.outcome.is_none())
            .filter_map(|m| Some((m, m.suspicion.as_ref()?)))
            .map(|(m, s)| {
                // A connection that a node gave up while it was cut off closes here only once it is back.
                let until = match m.gone {
                    None => m.heard + limits::SILENCE_GRACE,
                    Some(gone) => gone.max(s.since) + limits::RECONNECT_GRACE,
                };
                // Who only comes and goes is not waited for any longer than who is cut off.
                let comes = s.back.is_some() && now < s.since + limits::PARTITION_TIMEOUT;
                let why = m.suspected_of(now, &s.why);
                (m.node, comes || now < until, m.complete, m.progress.received, why)
            })
            .collect();
        if open.iter().any(|(_, may_come_back, ..)| *may_come_back) {
            return;
        }
        for (node, _, complete, at, why) in open {
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
        if self.phase == Phase::Streaming && self.suspects > 0 && self.suspects == self.unsettled {
            self.give_up_suspects(now);
        }
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
        // Whoever stayed for somebody that has ended now.
        let left: Vec<_> = self.roster.nodes().filter(|m| !m.released).map(|m| m.node).collect();
        left.into_iter().for_each(|node| self.send_off(node));
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
}
