//! One relay: who feeds it, whom it feeds, how far it is, and how it ends.
//!
//! ```text
//!   Welcome ─▶ View ─▶ Dial parent ─▶ linked ─▶ tape … Close ─▶ Complete ─▶ Receipt ─▶ Release ─▶ Finished
//!                        ▲     ▲│ lost: dial again, and say so
//!              next view ┘     └┘
//! ```
//!
//! The node reports, the coordinator decides: a node whose parent is gone says so, and dials it again until it is
//! told of another one. While the coordinator is gone it goes on with the parent and the children it has, and dials the
//! coordinator again. The one thing it decides alone is that a coordinator which is away for too long is lost.
//!
//! It sees positions, not bytes. Whoever drives it checks every block first (see [`tape::chain`](crate::tape::chain)) and tells
//! it only of blocks that are true; one that is not is a [`LinkFault::Tainted`].

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::rate_limit::{PACE_STEP, RateLimit};
use super::timer::{Timer, Timers};
use super::window::Window;
use crate::limits;
use crate::tape::chain::Hash;
use crate::time::{Duration, Instant};
use crate::types::{Epoch, LinkId, NodeId, Offset, Position, SessionId, Watermarks, printable};
use crate::wire::control::{
    LinkFault, Outcome, Peer, Progress, Reason, Receipt, ToCoordinator, ToNode, View, Welcome,
};
use crate::wire::data::{Attach, Grant, Refuse};

/// Everything that can happen to a node. The run loop and the simulator are the only callers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// The coordinator said something.
    Control(ToNode),
    /// The connection to the coordinator is gone, in words.
    ControlLost(String),
    /// A new one, asked for by [`Output::Rejoin`], is up: the coordinator knows this node again.
    Rejoined,
    /// It is not; the flag tells whether there is any sense in trying again.
    RejoinFailed(String, bool),
    /// The link to the parent, asked for by [`Output::Dial`], is up: the parent has accepted.
    Linked(LinkId),
    /// The link to the parent could not be opened.
    DialFailed(LinkFault),
    /// The parent has sent something, whatever it was.
    Heard(LinkId),
    /// Somebody dialled and wants the tape.
    Offered(LinkId, Attach),
    /// A link that was up or offered is gone.
    LinkLost(LinkId, LinkFault),
    /// The ring now holds the tape up to here, checked.
    Received(Position),
    /// The tape's last item is in the ring, too; the chain ends with this value.
    Closed(Hash),
    /// The tape says that its source failed, in the source's words.
    SourceFailed(String),
    /// A child tells how far it is.
    Granted(LinkId, Grant),
    /// Everything up to here was handed to a child's connection.
    Sent(LinkId, Position),
    /// The node's own sink has taken everything up to here.
    SinkTook(Position),
    /// The node's own sinks have all ended well (after the tape's close), or one has not (at any time).
    SinkEnded(Result<(), String>),
    /// Somebody on this host stops the node: who, in words.
    Stop(String),
    /// Root only: send at most so many bytes per second from now on.
    SetRate(Option<u64>),
    /// Root only: the source cannot be read again after all, for this reason.
    RereadFailed(String),
    /// The instant of the last [`Output::Wait`] has come.
    Timeout,
}

/// Everything a node wants done. Take them until [`Output::Wait`] or [`Output::Finished`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Say this to the coordinator.
    Tell(ToCoordinator),
    /// Open a data link to this parent and say this.
    Dial(Peer, Attach),
    /// Open a new connection to the coordinator.
    Rejoin,
    /// Accept an offered link: the tape behind what the child holds goes to it.
    Accept(LinkId, NodeId, Watermarks),
    /// Refuse an offered link.
    Refuse(LinkId, Refuse),
    /// Close a link.
    Drop(LinkId),
    /// Let idle children know that this node lives, and hear whether the parent has sent part of something.
    Live,
    /// Tell the parent (the root: the source) how far it may send.
    Grant(Grant),
    /// Tell the sink that its stream will not be completed.
    AbortSink,
    /// Nothing to do before this instant.
    Wait(Instant),
    /// The node is done, like this. Nothing comes after.
    Finished(Outcome),
}

/// One relay of a session.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    session: SessionId,
    window: Window,
    epoch: Epoch,
    control: Control,
    parent: Parent,
    /// When the parent was last heard.
    heard: Instant,
    /// The links of the children that have attached.
    children: Vec<(NodeId, LinkId)>,
    /// Children the view names, attached or not.
    expected: Vec<NodeId>,
    offers: Vec<(LinkId, Attach, Instant)>,
    chain: Hash,
    /// How it ended, in its last words to the coordinator; what its sink and the tape say is final.
    receipt: Option<Receipt>,
    finished: bool,
    /// What limits the root, if anything does.
    pace: Option<RateLimit>,
    /// Up to where it told the coordinator that it holds the tape, for how many nodes there are to tell, how often it
    /// may, and when it may again.
    acknowledged: Position,
    nodes: u32,
    ack_interval: Duration,
    ack_at: Instant,
    /// When the tape last came further, and how long that usually takes.
    came: Instant,
    gap: Duration,
    timers: Timers,
    outputs: VecDeque<Output>,
}

/// How the connection to the coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    /// There is none, and none is needed: this is the root.
    Local,
    /// Up, and last heard then.
    Up(Instant),
    /// Gone.
    Lost,
}

/// Where the tape comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parent {
    /// Nowhere yet.
    None,
    /// The local source: this is the root.
    Source,
    /// This peer, not reached yet.
    Dialling(Peer),
    /// This peer, by this link.
    Linked(Peer, LinkId),
    /// This peer, lost; the coordinator was told.
    Lost(Peer),
}

impl Node {
    /// The node a welcome makes, with a window of so many bytes and a sink of its own.
    #[must_use]
    pub fn new(now: Instant, welcome: &Welcome, window_bytes: u64) -> Self {
        let mut node = Self::with(welcome.node, welcome.session, Window::new(window_bytes, true));
        node.control = Control::Up(now);
        node.nodes = welcome.expected.min(limits::NODES);
        node.ack_interval = (node.nodes * limits::ACK_INTERVAL_PER_NODE).min(limits::ACK_INTERVAL_MAX);
        node.timers.set(Timer::Beat, now + limits::PROGRESS_INTERVAL);
        node.timers.set(Timer::Silence, now + limits::CONTROL_TIMEOUT);
        node
    }

    /// The server's own node. Its parent is the source, and it has no sink. `reread`: whatever its window has forgotten
    /// can be had from the source again.
    #[must_use]
    pub fn root(session: SessionId, window_bytes: u64, reread: bool) -> Self {
        let mut node = Self::with(NodeId::ROOT, session, Window::new(window_bytes, false));
        node.parent = Parent::Source;
        if reread {
            node.window.reread();
        }
        // It tells how far the source is read, like any node how far it is; the first time at once.
        node.timers.set(Timer::Beat, Instant::ZERO);
        node.grant(Instant::ZERO);
        node
    }

    fn with(id: NodeId, session: SessionId, window: Window) -> Self {
        Self {
            id,
            session,
            window,
            epoch: Epoch::default(),
            control: Control::Local,
            parent: Parent::None,
            heard: Instant::ZERO,
            children: Vec::new(),
            expected: Vec::new(),
            offers: Vec::new(),
            chain: Hash::default(),
            receipt: None,
            finished: false,
            pace: None,
            acknowledged: Position::START,
            nodes: 0,
            ack_interval: limits::ACK_INTERVAL_PER_NODE,
            ack_at: Instant::ZERO,
            came: Instant::ZERO,
            gap: limits::ACK_DELAY,
            timers: Timers::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The node's window: what may be forgotten ([`Window::low`]), what its children hold.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// What may be handed to a child's connection now: from this item on, as far as this offset.
    #[must_use]
    pub fn sendable(&self, link: LinkId) -> Option<(Position, Offset)> {
        self.window.sendable(self.child(link)?)
    }

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

    /// What to do next.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if let (true, Some(receipt)) = (self.finished, &self.receipt) {
            return Output::Finished(receipt.outcome.clone());
        }
        Output::Wait(self.timers.next().unwrap_or(Instant(u64::MAX)))
    }

    // ---- the coordinator ----

    fn control(&mut self, now: Instant, message: ToNode) {
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

    fn control_lost(&mut self, now: Instant) {
        if matches!(self.control, Control::Up(_)) {
            self.control = Control::Lost;
            self.timers.stop(Timer::Silence);
            self.timers.set(Timer::CutOff, now + limits::PARTITION_TIMEOUT);
            self.outputs.push_back(Output::Rejoin);
        }
    }

    /// The coordinator may have missed whatever was said last.
    fn rejoined(&mut self, now: Instant) {
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

    fn rejoin_failed(&mut self, now: Instant, why: &str, again: bool) {
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

    fn view(&mut self, now: Instant, view: View) {
        if view.epoch <= self.epoch {
            return;
        }
        self.epoch = view.epoch;
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

    // ---- the parent ----

    /// Makes `peer` the parent, unless it is that already and all is well.
    fn follow(&mut self, peer: Peer) {
        match &mut self.parent {
            // A parent that is reached elsewhere now is dialled there when this link is lost.
            Parent::Linked(p, _) if p.node == peer.node => {
                *p = peer;
                self.tell(ToCoordinator::Linked(self.epoch));
            }
            // Two dials at once would each close the other's link.
            Parent::Dialling(p) if *p == peer => {}
            _ => {
                self.unfollow();
                self.dial(peer);
            }
        }
    }

    /// Has no parent any more, for now or for good. The root keeps its own.
    fn unfollow(&mut self) {
        if let Parent::Linked(_, link) = self.parent {
            self.outputs.push_back(Output::Drop(link));
        }
        if self.parent != Parent::Source {
            self.parent = Parent::None;
            self.timers.stop(Timer::Redial);
            self.timers.stop(Timer::ParentSilence);
        }
    }

    fn dial(&mut self, peer: Peer) {
        if self.parent == Parent::Source {
            return;
        }
        self.parent = Parent::Dialling(peer.clone());
        self.timers.stop(Timer::Redial);
        self.timers.stop(Timer::ParentSilence);
        let grant = self.window.attach_grant();
        let attach = Attach { session: self.session, child: self.id, epoch: self.epoch, grant };
        self.outputs.push_back(Output::Dial(peer, attach));
    }

    fn linked(&mut self, now: Instant, link: LinkId) {
        let Parent::Dialling(peer) = &self.parent else {
            self.outputs.push_back(Output::Drop(link));
            return;
        };
        self.parent = Parent::Linked(peer.clone(), link);
        self.heard = now;
        self.timers.set(Timer::ParentSilence, now + limits::LINK_TIMEOUT);
        self.window.attached();
        self.tell(ToCoordinator::Linked(self.epoch));
    }

    fn dial_failed(&mut self, now: Instant, fault: LinkFault) {
        let Parent::Dialling(peer) = &self.parent else { return };
        self.parent = Parent::Lost(peer.clone());
        self.timers.set(Timer::Redial, now + limits::REDIAL_DELAY);
        self.report(fault);
    }

    /// The link to the parent is gone. It may come up again at once; the coordinator may know of a better parent.
    fn parent_lost(&mut self, now: Instant, peer: Peer, fault: LinkFault) {
        self.parent = Parent::Lost(peer.clone());
        self.timers.stop(Timer::ParentSilence);
        if self.window.all_done() {
            return;
        }
        let tainted = matches!(fault, LinkFault::Tainted(_));
        self.report(fault);
        if tainted {
            self.timers.set(Timer::Redial, now + limits::REDIAL_DELAY);
        } else {
            self.dial(peer);
        }
    }

    fn report(&mut self, fault: LinkFault) {
        let fault = match fault {
            LinkFault::Broken(why) => LinkFault::Broken(bounded(&why)),
            LinkFault::Tainted(why) => LinkFault::Tainted(bounded(&why)),
            LinkFault::Unreachable(why) => LinkFault::Unreachable(bounded(&why)),
            LinkFault::Gone(kept) => LinkFault::Gone(kept),
        };
        self.tell(ToCoordinator::LinkLost(self.epoch, self.window.received().offset, fault));
    }

    // ---- the children ----

    fn offered(&mut self, now: Instant, link: LinkId, attach: Attach) {
        if attach.session != self.session {
            self.refuse(link, None, "another session".to_string());
        } else if self.expected.contains(&attach.child) {
            self.accept(now, link, attach);
        } else if attach.epoch > self.epoch && self.offers.len() < limits::FAN_OUT as usize {
            // Its view was faster than ours.
            self.offers.push((link, attach, now));
            self.timers.start(Timer::Offer, now + limits::OFFER_TIMEOUT);
        } else {
            self.refuse(link, None, format!("{} is not its parent", self.id));
        }
    }

    fn accept(&mut self, now: Instant, link: LinkId, attach: Attach) {
        let Attach { child, grant, .. } = attach;
        if !self.window.covers(grant.watermarks.held()) {
            let (kept, end) = (self.window.from(), self.window.received().offset);
            self.refuse(link, Some(kept), format!("{} holds bytes {kept} to {end} only", self.id));
            return;
        }
        if let Some(i) = self.children.iter().position(|(n, _)| *n == child) {
            let (_, old) = self.children.swap_remove(i);
            self.outputs.push_back(Output::Drop(old));
        }
        self.children.push((child, link));
        self.window.attach(now, child, grant);
        self.outputs.push_back(Output::Accept(link, child, grant.watermarks));
    }

    fn refuse(&mut self, link: LinkId, kept: Option<Offset>, why: String) {
        self.outputs.push_back(Output::Refuse(link, Refuse { kept, why }));
    }

    fn link_lost(&mut self, now: Instant, link: LinkId, fault: LinkFault) {
        self.offers.retain(|(l, ..)| *l != link);
        // The cursor of a lost child stays until a view says what becomes of it.
        if let Some(child) = self.child(link) {
            self.children.retain(|(_, l)| *l != link);
            self.window.child_lost(child);
        }
        if let Parent::Linked(peer, l) = &self.parent
            && *l == link
        {
            self.parent_lost(now, peer.clone(), fault);
        }
    }

    fn granted(&mut self, now: Instant, link: LinkId, grant: Grant) {
        let Some(child) = self.child(link) else { return };
        if !self.window.child_granted(now, child, grant) {
            self.hang_up(child);
        }
    }

    /// Closes the link of a child. Who is well dials again.
    fn hang_up(&mut self, child: NodeId) {
        if let Some(i) = self.children.iter().position(|(n, _)| *n == child) {
            let (_, link) = self.children.swap_remove(i);
            self.window.child_lost(child);
            self.outputs.push_back(Output::Drop(link));
        }
    }

    // ---- time ----

    fn set_rate(&mut self, now: Instant, rate: Option<u64>) {
        self.pace = rate.map(|r| RateLimit::new(r, now, self.window.sent_furthest()));
        if self.pace.is_some() {
            self.timers.set(Timer::RateLimit, now);
        } else {
            self.timers.stop(Timer::RateLimit);
            self.window.set_ceiling(None);
        }
    }

    fn timeout(&mut self, now: Instant) {
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
    fn look_for_silence(&mut self, now: Instant) {
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
    fn acknowledge(&mut self, now: Instant) {
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
    fn tell_holds(&mut self, now: Instant) {
        let received = self.window.received();
        self.timers.stop(Timer::Ack);
        if core::mem::replace(&mut self.acknowledged, received) != received {
            self.ack_at = now + self.ack_interval;
            self.tell(ToCoordinator::Stored(received.item));
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            received: self.window.received().offset,
            sunk: self.window.sunk().unwrap_or_default().offset,
            kept: self.window.from(),
            blocked: self.window.blocked(),
            counters: self.window.counters(),
        }
    }

    // ---- the end ----

    /// Fails for `reason`, where it stands.
    fn fail(&mut self, now: Instant, reason: Reason) {
        self.end(now, Outcome::Failed(reason, self.window.received().offset));
    }

    /// Settles how the node ended; the first word counts. A node whose sink or source failed stays a relay.
    fn end(&mut self, now: Instant, outcome: Outcome) {
        if self.receipt.is_some() {
            return;
        }
        let took = self.window.sunk().unwrap_or(self.window.received());
        if !outcome.is_ok() {
            self.outputs.push_back(Output::AbortSink);
            self.window.sink_gone(now);
        }
        let counters = self.window.counters();
        let receipt = Receipt { outcome, bytes: took.offset.0, chain: self.chain, counters };
        self.receipt = Some(receipt.clone());
        self.tell(ToCoordinator::Receipt(receipt));
    }

    fn finish(&mut self) {
        self.finished = true;
    }

    /// Tells the parent of new room if it is worth it, and sees to it that the rest is told in time.
    fn grant(&mut self, now: Instant) {
        match self.window.opens() {
            Some(when) => self.timers.set(Timer::Room, when),
            None => self.timers.stop(Timer::Room),
        }
        if !self.has_parent() {
            return;
        }
        if let Some(grant) = self.window.grant(false) {
            self.outputs.push_back(Output::Grant(grant));
            self.timers.stop(Timer::Tell);
        } else if self.window.untold() {
            self.timers.start(Timer::Tell, now + limits::GRANT_DELAY);
        }
    }

    fn has_parent(&self) -> bool {
        matches!(self.parent, Parent::Source | Parent::Linked(..))
    }

    /// What the coordinator does not hear now is said again once it is back.
    fn tell(&mut self, message: ToCoordinator) {
        if self.control != Control::Lost {
            self.outputs.push_back(Output::Tell(message));
        }
    }

    fn child(&self, link: LinkId) -> Option<NodeId> {
        self.children.iter().find(|(_, l)| *l == link).map(|(n, _)| *n)
    }
}

/// Words that go into a message: no more of them than it may have.
fn bounded(words: &str) -> String {
    printable(words, limits::TEXT_BYTES)
}
