//! The node's state, and what all of its parts do with it.

use crate::limits;
use crate::proto::rate_limit::RateLimit;
use crate::proto::timer::{Timer, Timers};
use crate::proto::window::Window;
use crate::tape::chain::Hash;
use crate::time::{Duration, Instant};
use crate::types::{Epoch, LinkId, NodeId, Offset, Position, SessionId, Watermarks, printable};
use crate::wire::control::{
    LinkFault, Outcome, Peer, Progress, Reason, Receipt, ToCoordinator, ToNode, Welcome,
};
use crate::wire::data::{Attach, Grant, Refuse};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

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
    /// The new connection could not be made, for this reason; the flag tells whether there is sense in trying again.
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
    pub(super) id: NodeId,
    pub(super) session: SessionId,
    pub(super) window: Window,
    pub(super) epoch: Epoch,
    pub(super) control: Control,
    pub(super) parent: Parent,
    /// When the parent was last heard.
    pub(super) heard: Instant,
    /// The links of the children that have attached.
    pub(super) children: Vec<(NodeId, LinkId)>,
    /// Children the view names, attached or not.
    pub(super) expected: Vec<NodeId>,
    pub(super) offers: Vec<(LinkId, Attach, Instant)>,
    pub(super) chain: Hash,
    /// The receipt, the node's last message to the coordinator; what its sink and the tape report is final.
    pub(super) receipt: Option<Receipt>,
    pub(super) finished: bool,
    /// The rate limit of the root, if there is one.
    pub(super) pace: Option<RateLimit>,
    /// Up to where it told the coordinator that it holds the tape, for how many nodes there are to tell, how often it
    /// may, and when it may again.
    pub(super) acknowledged: Position,
    pub(super) nodes: u32,
    pub(super) ack_interval: Duration,
    pub(super) ack_at: Instant,
    /// When the tape last came further, and how long that usually takes.
    pub(super) came: Instant,
    pub(super) gap: Duration,
    pub(super) timers: Timers,
    pub(super) outputs: VecDeque<Output>,
}

/// The state of the connection to the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// There is none, and none is needed: this is the root.
    Local,
    /// Up, and last heard then.
    Up(Instant),
    /// Gone.
    Lost,
}

/// The origin of the tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// None yet.
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

    pub(super) fn with(id: NodeId, session: SessionId, window: Window) -> Self {
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

    /// The part of the tape that may be handed to a child's connection now: from this item on, as far as this offset.
    #[must_use]
    pub fn sendable(&self, link: LinkId) -> Option<(Position, Offset)> {
        self.window.sendable(self.child(link)?)
    }

    /// Returns the next output: what to do, or until when to wait.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if let (true, Some(receipt)) = (self.finished, &self.receipt) {
            return Output::Finished(receipt.outcome.clone());
        }
        Output::Wait(self.timers.next().unwrap_or(Instant(u64::MAX)))
    }

    // ---- the end ----
    /// Fails for `reason`, where it stands.
    pub(super) fn fail(&mut self, now: Instant, reason: Reason) {
        self.end(now, Outcome::Failed(reason, self.window.received().offset));
    }

    /// Settles how the node ended; the first word counts. A node whose sink or source failed stays a relay.
    pub(super) fn end(&mut self, now: Instant, outcome: Outcome) {
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

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Tells the parent of new room if it is worth it, and sees to it that the rest is told in time.
    pub(super) fn grant(&mut self, now: Instant) {
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

    pub(super) fn has_parent(&self) -> bool {
        matches!(self.parent, Parent::Source | Parent::Linked(..))
    }

    /// Sends a message to the coordinator. What cannot be sent now is sent again once the coordinator is back.
    pub(super) fn tell(&mut self, message: ToCoordinator) {
        if self.control != Control::Lost {
            self.outputs.push_back(Output::Tell(message));
        }
    }

    pub(super) fn child(&self, link: LinkId) -> Option<NodeId> {
        self.children.iter().find(|(_, l)| *l == link).map(|(n, _)| *n)
    }

    /// How far the node is. The root, which has no sink, tells how far it has sent instead.
    pub(super) fn progress(&self) -> Progress {
        let sunk = match self.parent {
            Parent::Source => self.window.sent_furthest(),
            _ => self.window.sunk().unwrap_or_default().offset,
        };
        Progress {
            received: self.window.received().offset,
            sunk,
            kept: self.window.from(),
            blocked: self.window.blocked(),
            counters: self.window.counters(),
        }
    }
}

/// Words that go into a message: no more of them than it may have.
pub(super) fn bounded(words: &str) -> String {
    printable(words, limits::TEXT_BYTES)
}
