//! Everything that can happen to a node, and who takes care of it.

use super::state::Parent;
use super::state::bounded;
use super::state::{Control, Input, Node, Output};
use crate::limits;
use crate::proto::rate_limit::{PACE_STEP, RateLimit};
use crate::proto::timer::Timer;
use crate::time::Instant;
use crate::types::{Epoch, NodeId, Position};
use crate::wire::control::{LinkFault, Outcome, Reason, ToCoordinator, ToNode, View};
use alloc::format;
use alloc::vec::Vec;

impl Node {
    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.finished {
            return;
        }
        match input {
            Input::Control(message) => self.control(now, message),
            Input::ControlLost(_) => self.control_lost(now),
            Input::Rejoined => self.rejoined(now),
            Input::RejoinFailed(why, again) => self.rejoin_failed(now, &why, again),
            Input::Linked(link) => self.linked(now, link),
            Input::DialFailed(fault) => self.dial_failed(now, fault),
            Input::Heard(_) => self.heard = now,
            Input::Offered(link, attach) => self.offered(now, link, attach),
            Input::LinkLost(link, fault) => self.link_lost(now, link, fault),
            Input::Received(upto) => {
                self.heard = now;
                self.window.receive(now, upto, false);
                self.acknowledge(now);
            }
            Input::Closed(chain) => {
                self.chain = chain;
                self.window.receive(now, self.window.received(), true);
                self.tell_holds(now);
                self.tell(ToCoordinator::Complete);
                if self.window.sunk().is_none() {
                    self.end(now, Outcome::Ok);
                }
            }
            Input::SourceFailed(why) => self.fail(now, Reason::Source(bounded(&why))),
            Input::Granted(link, grant) => self.granted(now, link, grant),
            Input::Sent(link, upto) => {
                if let Some(child) = self.child(link) {
                    self.window.sent(child, upto);
                }
            }
            Input::SinkTook(upto) => self.window.sink_took(now, upto),
            Input::SinkEnded(Ok(())) => {
                self.window.sink_took(now, self.window.received());
                self.end(now, Outcome::Ok);
            }
            Input::SinkEnded(Err(why)) => {
                let at = self.window.sunk().unwrap_or_default().offset;
                self.end(now, Outcome::Failed(Reason::Sink(bounded(&why)), at));
            }
            Input::Stop(who) => {
                self.fail(now, Reason::Interrupted(bounded(&who)));
                self.finish();
            }
            Input::SetRate(rate) => self.set_rate(now, rate),
            Input::RereadFailed(_) => {
                for child in self.window.reread_failed() {
                    self.hang_up(child);
                }
            }
            Input::Timeout => self.timeout(now),
        }
        self.grant(now);
    }

    // ---- the coordinator ----
    pub(super) fn control(&mut self, now: Instant, message: ToNode) {
        // Whoever is cut off together hears the last beat together, and so is back together: what is said to some of them
        // only is no sign of life.
        if let (Control::Up(heard), false) = (&mut self.control, matches!(message, ToNode::Stable(_))) {
            *heard = now;
        }
        match message {
            ToNode::View(view) => self.view(now, view),
            ToNode::Abort(reason) => {
                self.fail(now, reason);
                self.finish();
            }
            ToNode::Release => {
                self.end(now, Outcome::Unknown);
                self.finish();
            }
            ToNode::Stable(items) => self.window.set_stable(now, items),
            // Before a node exists, or only a sign of life.
            ToNode::Welcome(_) | ToNode::Refused(_) | ToNode::Going(_) | ToNode::Beat => {}
        }
    }

    pub(super) fn control_lost(&mut self, now: Instant) {
        if matches!(self.control, Control::Up(_)) {
            self.control = Control::Lost;
            self.timers.stop(Timer::Silence);
            self.timers.set(Timer::CutOff, now + limits::PARTITION_TIMEOUT);
            self.outputs.push_back(Output::Rejoin);
        }
    }

    /// The coordinator may have missed whatever was said last.
    pub(super) fn rejoined(&mut self, now: Instant) {
        self.control = Control::Up(now);
        self.timers.stop(Timer::CutOff);
        self.timers.stop(Timer::Rejoin);
        self.timers.set(Timer::Silence, now + limits::CONTROL_TIMEOUT);
        self.timers.set(Timer::Beat, now + limits::PROGRESS_INTERVAL);
        self.acknowledged = Position::START;
        self.tell_holds(now);
        self.tell(ToCoordinator::Progress(self.progress()));
        if self.window.closed() {
            self.tell(ToCoordinator::Complete);
        }
        if let Some(receipt) = self.receipt.clone() {
            self.tell(ToCoordinator::Receipt(receipt));
        }
    }

    pub(super) fn rejoin_failed(&mut self, now: Instant, why: &str, again: bool) {
        if self.control != Control::Lost {
            return;
        }
        if again {
            self.timers.set(Timer::Rejoin, now + limits::REDIAL_DELAY);
        } else {
            self.fail(now, Reason::Lost(NodeId::ROOT, bounded(why)));
            self.finish();
        }
    }

    pub(super) fn view(&mut self, now: Instant, view: View) {
        if view.epoch <= self.epoch {
            return;
        }
        if core::mem::replace(&mut self.epoch, view.epoch) == Epoch::default()
            && self.parent == Parent::Source
        {
            // How fast it sends is measured from here.
            self.tell(ToCoordinator::Progress(self.progress()));
        }
        self.window.set_children(now, &view.children, view.retain);
        let gone: Vec<_> = self.children.extract_if(.., |(n, _)| !view.children.contains(n)).collect();
        self.outputs.extend(gone.into_iter().map(|(_, link)| Output::Drop(link)));
        self.expected = view.children;
        self.timers.start(Timer::Live, now + limits::HEARTBEAT_INTERVAL);
        match view.parent {
            Some(peer) => self.follow(peer),
            None => self.unfollow(),
        }
        if let Some(pace) = &mut self.pace {
            *pace = pace.restarted(now, self.window.sent_furthest());
            self.timers.set(Timer::RateLimit, now);
        }
        for (link, attach, _) in core::mem::take(&mut self.offers) {
            self.offered(now, link, attach);
        }
    }

    // ---- time ----
    pub(super) fn set_rate(&mut self, now: Instant, rate: Option<u64>) {
        self.pace = rate.map(|r| RateLimit::new(r, now, self.window.sent_furthest()));
        if self.pace.is_some() {
            self.timers.set(Timer::RateLimit, now);
        } else {
            self.timers.stop(Timer::RateLimit);
            self.window.set_ceiling(None);
        }
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        if self.timers.due(Timer::Beat, now) {
            self.timers.set(Timer::Beat, now + limits::PROGRESS_INTERVAL);
            self.tell_holds(now);
            self.tell(ToCoordinator::Progress(self.progress()));
        }
        if self.timers.due(Timer::Ack, now) {
            self.tell_holds(now);
        }
        if self.timers.due(Timer::Live, now) {
            self.timers.set(Timer::Live, now + limits::HEARTBEAT_INTERVAL);
            self.outputs.push_back(Output::Live);
        }
        self.look_for_silence(now);
        if self.timers.due(Timer::Redial, now)
            && let Parent::Lost(peer) = &self.parent
        {
            self.dial(peer.clone());
        }
        if self.timers.due(Timer::Rejoin, now) {
            self.outputs.push_back(Output::Rejoin);
        }
        if self.timers.due(Timer::CutOff, now) {
            let why = format!("it could not be reached for {} s", limits::PARTITION_TIMEOUT.as_secs());
            self.fail(now, Reason::Lost(NodeId::ROOT, why));
            self.finish();
        }
        if self.timers.due(Timer::Room, now) {
            self.window.open(now);
        }
        if self.timers.due(Timer::Tell, now) && self.has_parent() {
            let grant = self.window.grant(true);
            self.outputs.extend(grant.map(Output::Grant));
        }
        if self.timers.due(Timer::Offer, now) {
            let late: Vec<_> =
                self.offers.extract_if(.., |(_, _, at)| *at + limits::OFFER_TIMEOUT <= now).collect();
            for (link, ..) in late {
                self.refuse(link, None, format!("{} is not its parent", self.id));
            }
            if let Some((_, _, at)) = self.offers.first() {
                self.timers.set(Timer::Offer, *at + limits::OFFER_TIMEOUT);
            }
        }
        if self.timers.due(Timer::RateLimit, now)
            && let Some(pace) = &mut self.pace
        {
            self.window.set_ceiling(Some(pace.ceiling(now, self.window.sent_furthest())));
            self.timers.set(Timer::RateLimit, now + PACE_STEP);
        }
    }

    /// Takes a connection that has been silent for too long for lost. If this machine stood still, what was sent
    /// meanwhile is not read yet, and the silence was its own.
    pub(super) fn look_for_silence(&mut self, now: Instant) {
        let late = |when: Option<Instant>| when.is_some_and(|when| now.since(when) > limits::OWN_STALL_AFTER);
        if late(self.timers.when(Timer::Silence))
            && let Control::Up(heard) = &mut self.control
        {
            *heard = now;
        }
        if self.timers.due(Timer::Silence, now)
            && let Control::Up(heard) = self.control
        {
            if heard + limits::CONTROL_TIMEOUT <= now {
                self.control_lost(now);
            } else {
                self.timers.set(Timer::Silence, heard + limits::CONTROL_TIMEOUT);
            }
        }
        if late(self.timers.when(Timer::ParentSilence)) {
            self.heard = now;
        }
        if self.timers.due(Timer::ParentSilence, now)
            && let Parent::Linked(peer, link) = &self.parent
        {
            let (peer, link) = (peer.clone(), *link);
            if self.heard + limits::LINK_TIMEOUT <= now {
                self.outputs.push_back(Output::Drop(link));
                let why = format!("it has been silent for {} ms", limits::LINK_TIMEOUT.as_millis());
                self.parent_lost(now, peer, LinkFault::Broken(why));
            } else {
                self.timers.set(Timer::ParentSilence, self.heard + limits::LINK_TIMEOUT);
            }
        }
    }

    /// The tape has come further: tells the coordinator soon, at the latest when nothing more comes.
    pub(super) fn acknowledge(&mut self, now: Instant) {
        let gap = now.since(core::mem::replace(&mut self.came, now)).min(2 * self.gap);
        self.gap = ((7 * self.gap + gap) / 8).clamp(limits::ACK_INTERVAL_PER_NODE, limits::ACK_DELAY);
        let grown =
            self.window.received().offset - self.acknowledged.offset >= self.window.ack_bytes(self.nodes);
        match grown {
            true if self.ack_at <= now => self.tell_holds(now),
            true => self.timers.set(Timer::Ack, self.ack_at),
            false => {
                self.timers.set(Timer::Ack, self.ack_at.max(now + (4 * self.gap).min(limits::ACK_DELAY)))
            }
        }
    }

    /// Tells the coordinator what is held, if that is news.
    pub(super) fn tell_holds(&mut self, now: Instant) {
        let received = self.window.received();
        self.timers.stop(Timer::Ack);
        if core::mem::replace(&mut self.acknowledged, received) != received {
            self.ack_at = now + self.ack_interval;
            self.tell(ToCoordinator::Stored(received.item));
        }
    }
}
