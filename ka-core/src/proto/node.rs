//! One relay: who feeds it, whom it feeds, how far it is, and how it ends.
//!
//! ```text
//!   Welcome ─▶ View ─▶ Dial parent ─▶ linked ─▶ tape … Close ─▶ Complete ─▶ Receipt ─▶ Release ─▶ Finished
//!                          ▲    │ lost
//!                          └────┘ the coordinator decides what then
//! ```
//!
//! The node reports, the coordinator decides: a node whose parent is gone says so and waits to be told. The one
//! thing it decides alone is that a coordinator which says nothing for too long is lost.
//!
//! It sees positions, not bytes. Whoever drives it checks every block first (see [`seal`](crate::seal)) and tells
//! it only of blocks that are true; one that is not is a [`LinkFault::Tainted`].

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Window;
use super::pace::{PACE_STEP, Pace};
use super::timer::{Timer, Timers};
use crate::limits;
use crate::seal::Hash;
use crate::time::Instant;
use crate::types::{Epoch, LinkId, NodeId, Offset, Position, SessionId, printable};
use crate::wire::control::{
    LinkFault, Outcome, Peer, Progress, Reason, Receipt, ToCoordinator, ToNode, View, Welcome,
};
use crate::wire::data::{Attach, Grant};

/// Everything that can happen to a node. The run loop and the simulator are the only callers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// The coordinator said something.
    Control(ToNode),
    /// The connection to the coordinator is gone, in words.
    ControlLost(String),
    /// The link to the parent, asked for by [`Output::Dial`], is up: the parent has accepted.
    Linked(LinkId),
    /// The link to the parent could not be opened, in words.
    DialFailed(String),
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
    /// Accept an offered link: the tape from here on goes to it.
    Accept(LinkId, NodeId, Position),
    /// Close a link; an offered one is refused with these words.
    Drop(LinkId, Option<String>),
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
    parent: Parent,
    /// The links of the children that have attached.
    children: Vec<(NodeId, LinkId)>,
    /// Children the view names, attached or not.
    expected: Vec<NodeId>,
    offers: Vec<(LinkId, Attach, Instant)>,
    chain: Hash,
    /// How it ended; what its sink and the tape say is final.
    outcome: Option<Outcome>,
    finished: bool,
    /// What limits the root, if anything does.
    pace: Option<Pace>,
    timers: Timers,
    outputs: VecDeque<Output>,
}

/// Where the tape comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        node.timers.set(Timer::Beat, now + limits::BEAT);
        node.timers.set(Timer::Silence, now + limits::SILENCE);
        node
    }

    /// The server's own node. Its parent is the source, and it has no sink.
    #[must_use]
    pub fn root(session: SessionId, window_bytes: u64) -> Self {
        let mut node = Self::with(NodeId::ROOT, session, Window::new(window_bytes, false));
        node.parent = Parent::Source;
        // It tells how far the source is read, like any node how far it is; the first time at once.
        node.timers.set(Timer::Beat, Instant::ZERO);
        node.grant();
        node
    }

    fn with(id: NodeId, session: SessionId, window: Window) -> Self {
        Self {
            id,
            session,
            window,
            epoch: Epoch::default(),
            parent: Parent::None,
            children: Vec::new(),
            expected: Vec::new(),
            offers: Vec::new(),
            chain: Hash::default(),
            outcome: None,
            finished: false,
            pace: None,
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
            Input::ControlLost(why) => {
                let reason = Reason::Lost(NodeId::ROOT, bounded(&why));
                self.end(Outcome::Failed(reason, self.window.received().offset));
                self.finish();
            }
            Input::Linked(link) => self.linked(link),
            Input::DialFailed(why) => self.dial_failed(now, why),
            Input::Offered(link, attach) => self.offered(now, link, attach),
            Input::LinkLost(link, fault) => self.link_lost(link, fault),
            Input::Received(upto) => {
                self.window.receive(upto, false);
                self.grant();
            }
            Input::Closed(chain) => {
                self.chain = chain;
                self.window.receive(self.window.received(), true);
                self.grant();
                self.tell(ToCoordinator::Complete);
                if self.window.sunk().is_none() {
                    self.end(Outcome::Ok);
                }
            }
            Input::SourceFailed(why) => {
                let reason = Reason::Source(bounded(&why));
                self.end(Outcome::Failed(reason, self.window.received().offset));
            }
            Input::Granted(link, grant) => self.granted(link, grant),
            Input::Sent(link, upto) => {
                if let Some(child) = self.child(link) {
                    self.window.sent(child, upto);
                }
            }
            Input::SinkTook(upto) => {
                self.window.sink_took(upto);
                self.grant();
            }
            Input::SinkEnded(Ok(())) => {
                self.window.sink_took(self.window.received());
                self.end(Outcome::Ok);
            }
            Input::SinkEnded(Err(why)) => {
                let at = self.window.sunk().unwrap_or_default().offset;
                self.end(Outcome::Failed(Reason::Sink(bounded(&why)), at));
            }
            Input::Stop(who) => {
                let reason = Reason::Interrupted(bounded(&who));
                self.end(Outcome::Failed(reason, self.window.received().offset));
                self.finish();
            }
            Input::SetRate(rate) => self.set_rate(now, rate),
            Input::Timeout => self.timeout(now),
        }
    }

    /// What to do next.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if let (true, Some(outcome)) = (self.finished, &self.outcome) {
            return Output::Finished(outcome.clone());
        }
        Output::Wait(self.timers.next().unwrap_or(Instant(u64::MAX)))
    }

    fn control(&mut self, now: Instant, message: ToNode) {
        // The root is in the coordinator's own process: nothing lies between them that could fall silent.
        if self.parent != Parent::Source {
            self.timers.set(Timer::Silence, now + limits::SILENCE);
        }
        match message {
            ToNode::View(view) => self.view(now, view),
            ToNode::Abort(reason) => {
                self.end(Outcome::Failed(reason, self.window.received().offset));
                self.finish();
            }
            ToNode::Release => {
                self.end(Outcome::Unknown);
                self.finish();
            }
            // Before a node exists, or only a sign of life.
            ToNode::Welcome(_) | ToNode::Refused(_) | ToNode::Going(_) | ToNode::Beat => {}
        }
    }

    fn view(&mut self, now: Instant, view: View) {
        if view.epoch <= self.epoch {
            return;
        }
        self.epoch = view.epoch;
        self.window.set_children(&view.children);
        let gone: Vec<_> = self.children.extract_if(.., |(n, _)| !view.children.contains(n)).collect();
        self.outputs.extend(gone.into_iter().map(|(_, link)| Output::Drop(link, None)));
        self.expected = view.children;
        if let Some(peer) = view.parent {
            self.follow(now, peer);
        }
        if let Some(pace) = &mut self.pace {
            *pace = pace.restarted(now, self.window.sent_furthest());
            self.timers.set(Timer::Pace, now);
        }
        for (link, attach, _) in core::mem::take(&mut self.offers) {
            self.offered(now, link, attach);
        }
        self.grant();
    }

    /// Makes `peer` the parent, unless it is that already and all is well.
    fn follow(&mut self, now: Instant, peer: Peer) {
        match self.parent {
            Parent::Source => return,
            // Two dials at once would each close the other's link.
            Parent::Linked(p, _) | Parent::Dialling(p) if p == peer => return,
            Parent::Linked(_, link) => self.outputs.push_back(Output::Drop(link, None)),
            Parent::None | Parent::Dialling(_) | Parent::Lost(_) => {}
        }
        self.timers.set(Timer::LinkUp, now + limits::LINK_UP);
        self.dial(peer);
    }

    fn dial(&mut self, peer: Peer) {
        self.parent = Parent::Dialling(peer);
        self.timers.stop(Timer::Redial);
        let grant = self.window.attach_grant();
        self.outputs.push_back(Output::Dial(
            peer,
            Attach {
                session: self.session,
                child: self.id,
                epoch: self.epoch,
                resume: grant.held,
                upto: grant.upto,
            },
        ));
    }

    fn linked(&mut self, link: LinkId) {
        let Parent::Dialling(peer) = self.parent else {
            self.outputs.push_back(Output::Drop(link, None));
            return;
        };
        self.parent = Parent::Linked(peer, link);
        self.timers.stop(Timer::LinkUp);
        self.tell(ToCoordinator::Linked(self.epoch));
        self.grant();
    }

    fn dial_failed(&mut self, now: Instant, why: String) {
        let Parent::Dialling(peer) = self.parent else { return };
        if self.timers.due(Timer::LinkUp, now) {
            self.parent_lost(peer, LinkFault::Broken(why));
        } else {
            self.timers.set(Timer::Redial, now + limits::REDIAL);
        }
    }

    fn parent_lost(&mut self, peer: Peer, fault: LinkFault) {
        self.parent = Parent::Lost(peer);
        self.timers.stop(Timer::LinkUp);
        self.timers.stop(Timer::Redial);
        let fault = match fault {
            LinkFault::Broken(why) => LinkFault::Broken(bounded(&why)),
            LinkFault::Tainted(why) => LinkFault::Tainted(bounded(&why)),
        };
        if !self.window.closed() {
            self.tell(ToCoordinator::LinkLost(self.epoch, self.window.received().offset, fault));
        }
    }

    fn offered(&mut self, now: Instant, link: LinkId, attach: Attach) {
        if attach.session != self.session {
            self.refuse(link, "another session".to_string());
        } else if self.expected.contains(&attach.child) {
            self.accept(link, attach);
        } else if attach.epoch > self.epoch && self.offers.len() < limits::FAN_OUT as usize {
            // Its view was faster than ours.
            self.offers.push((link, attach, now));
            self.timers.start(Timer::Offer, now + limits::OFFER);
        } else {
            self.refuse(link, format!("{} is not its parent", self.id));
        }
    }

    fn accept(&mut self, link: LinkId, attach: Attach) {
        if !self.window.covers(attach.resume) {
            let (low, end) = (self.window.low().offset, self.window.received().offset);
            self.refuse(link, format!("{} holds bytes {low} to {end} only", self.id));
            return;
        }
        if let Some(i) = self.children.iter().position(|(n, _)| *n == attach.child) {
            let (_, old) = self.children.swap_remove(i);
            self.outputs.push_back(Output::Drop(old, None));
        }
        self.children.push((attach.child, link));
        self.window.attach(attach.child, attach.resume, attach.upto);
        self.outputs.push_back(Output::Accept(link, attach.child, attach.resume));
        self.grant();
    }

    fn refuse(&mut self, link: LinkId, why: String) {
        self.outputs.push_back(Output::Drop(link, Some(why)));
    }

    fn link_lost(&mut self, link: LinkId, fault: LinkFault) {
        self.offers.retain(|(l, ..)| *l != link);
        // The cursor of a lost child stays until a view says what becomes of it.
        self.children.retain(|(_, l)| *l != link);
        if let Parent::Linked(peer, l) = self.parent
            && l == link
        {
            self.parent_lost(peer, fault);
        }
    }

    fn granted(&mut self, link: LinkId, grant: Grant) {
        let Some(child) = self.child(link) else { return };
        if self.window.child_granted(child, grant) {
            self.grant();
        } else {
            self.children.retain(|(_, l)| *l != link);
            self.outputs.push_back(Output::Drop(link, None));
        }
    }

    fn set_rate(&mut self, now: Instant, rate: Option<u64>) {
        self.pace = rate.map(|r| Pace::new(r, now, self.window.sent_furthest()));
        if self.pace.is_some() {
            self.timers.set(Timer::Pace, now);
        } else {
            self.timers.stop(Timer::Pace);
            self.window.set_ceiling(None);
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.timers.due(Timer::Beat, now) {
            self.timers.set(Timer::Beat, now + limits::BEAT);
            let received = self.window.received().offset;
            let sunk = self.window.sunk().unwrap_or_default().offset;
            self.tell(ToCoordinator::Progress(Progress { received, sunk, counters: self.window.counters() }));
        }
        if self.timers.due(Timer::Silence, now) {
            let why = format!("it has said nothing for {} s", limits::SILENCE.as_secs());
            self.handle(now, Input::ControlLost(why));
            return;
        }
        if self.timers.due(Timer::Redial, now)
            && let Parent::Dialling(peer) = self.parent
        {
            self.dial(peer);
        }
        if self.timers.due(Timer::LinkUp, now)
            && let Parent::Dialling(peer) = self.parent
        {
            let why = format!("no link within {} s", limits::LINK_UP.as_secs());
            self.parent_lost(peer, LinkFault::Broken(why));
        }
        if self.timers.due(Timer::Offer, now) {
            let late: Vec<_> = self.offers.extract_if(.., |(_, _, at)| *at + limits::OFFER <= now).collect();
            for (link, ..) in late {
                self.refuse(link, format!("{} is not its parent", self.id));
            }
            if let Some((_, _, at)) = self.offers.first() {
                self.timers.set(Timer::Offer, *at + limits::OFFER);
            }
        }
        if self.timers.due(Timer::Pace, now)
            && let Some(pace) = &mut self.pace
        {
            self.window.set_ceiling(Some(pace.ceiling(now, self.window.sent_furthest())));
            self.timers.set(Timer::Pace, now + PACE_STEP);
        }
    }

    /// Settles how the node ended; the first word counts. A node whose sink or source failed stays a relay.
    fn end(&mut self, outcome: Outcome) {
        if self.outcome.is_some() {
            return;
        }
        let took = self.window.sunk().unwrap_or(self.window.received());
        if !outcome.is_ok() {
            self.outputs.push_back(Output::AbortSink);
            self.window.sink_gone();
            self.grant();
        }
        self.outcome = Some(outcome.clone());
        let counters = self.window.counters();
        self.tell(ToCoordinator::Receipt(Receipt {
            outcome,
            bytes: took.offset.0,
            chain: self.chain,
            counters,
        }));
    }

    fn finish(&mut self) {
        self.finished = true;
    }

    /// Tells the parent of new room if it is worth it.
    fn grant(&mut self) {
        if matches!(self.parent, Parent::Source | Parent::Linked(..))
            && let Some(grant) = self.window.grant()
        {
            self.outputs.push_back(Output::Grant(grant));
        }
    }

    fn tell(&mut self, message: ToCoordinator) {
        self.outputs.push_back(Output::Tell(message));
    }

    fn child(&self, link: LinkId) -> Option<NodeId> {
        self.children.iter().find(|(_, l)| *l == link).map(|(n, _)| *n)
    }
}

/// Words that go into a message: no more of them than it may have.
fn bounded(words: &str) -> String {
    printable(words, limits::TEXT_BYTES)
}
