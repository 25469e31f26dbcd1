//! Positions of one node on the tape, and what follows from them.
//!
//! A node owns a window of the tape: the items it still holds in its ring.
//!
//! ```text
//!      forgotten │ not needed, still held │  needed: held by nobody below yet │ granted, not here yet │
//!     ───────────┼────────────────────────┼───────────────────────────────────┼───────────────────────┼──▶ offset
//!               kept                     low                               received             low + credit
//! ```
//!
//! The window answers three questions: how far may the parent send (a [`Grant`]), how far may each child be
//! sent to, and what may be forgotten (everything below `kept`)? It never touches a byte; [`ring`](crate::tape::ring) does.
//!
//! **What is needed.** A consumer is the node's own sink, or a child with everybody below it as far as its
//! [`Watermarks`] reach. A cursor stands at what its consumer *holds*, not at what was sent to it. A child's
//! cursor lives from the view that names the child to the view that no longer does: a child whose link broke
//! in between keeps its place, and one that has not attached yet may need everything that is held.
//!
//! **Whose word counts.** A child speaks for itself: by what it says of itself it can harm itself only. What it says of
//! those below it is not enough to forget anything, for they might lose it; nor to keep anything, for they may have it.
//! What they say of themselves comes by the coordinator ([`set_stable`](Window::set_stable)), later than watermarks do. So
//! watermarks beyond that say how much room there is, and those before it count for nothing; what is forgotten is stable,
//! and `upto` stays within a window's size of that.
//!
//! **Room.** A window as large as memory allows would touch all of it for nothing when a sink is slower than the
//! network anyway. So a node gives [`limits::CREDIT_BYTES`] at first, and opens up to the window's size when a consumer
//! stalls or stays behind.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::limits;
use crate::time::Instant;
use crate::types::{NodeId, Offset, Position, Watermarks};
use crate::wire::control::{Blocked, Counters};
use crate::wire::data::Grant;

/// The part of the tape that one node holds, has granted and may send.
#[derive(Clone, Debug)]
pub struct Window {
    /// The most that is held or granted, in bytes.
    size: u64,
    /// Whether the tape comes from a source, not from a parent.
    root: bool,
    /// Whether what is forgotten can be had from the source again.
    reread: bool,
    /// The credit beyond `low` while nobody stalls, and now.
    credit_min: u64,
    credit: u64,
    /// Since when more than half of the credit is full, and when `low` last moved.
    behind: Instant,
    moved: Instant,
    received: Position,
    closed: bool,
    low: Position,
    kept: Position,
    /// So many items are held by everybody within the levels that is further below than the children, as they say
    /// themselves; `u64::MAX` where nobody is.
    stable: u64,
    /// The position before which items may be evicted: `low`, but no further than is `stable`.
    evictable: Position,
    /// Places between `kept` and `received` up to which can be forgotten.
    marks: VecDeque<Position>,
    /// Forget nothing for which there is room.
    retain: bool,
    /// Nothing is forgotten while it is not known who the children are.
    waiting: bool,
    /// The node's own sink stands here; `None` for a node without one (the root, or after its sink failed).
    sink: Option<Position>,
    children: Vec<Child>,
    /// No child is sent further than this, whatever it granted: the rate limit.
    ceiling: Option<Offset>,
    last_grant: Grant,
    counters: Counters,
}

#[derive(Clone, Copy, Debug)]
struct Child {
    node: NodeId,
    linked: bool,
    sent: Position,
    watermarks: Watermarks,
    upto: Offset,
}

impl Child {
    /// What the child holds, and those below it as far as is known: what is `stable` they hold by their own word.
    fn lowest(&self, stable: Position) -> Position {
        let [held, below @ ..] = self.watermarks.0;
        held.min(below.into_iter().fold(Position::END, Position::min).max(stable))
    }

    /// Whether what is `stable` says more of those below the child than the child does: so it is not the child that they wait
    /// for.
    fn is_bound_by(&self, stable: Position) -> bool {
        let [held, below @ ..] = self.watermarks.0;
        stable < held && below.into_iter().any(|below| below < stable)
    }
}

impl Window {
    /// A window of `size` bytes at the start of the tape, with or without a sink of its own.
    ///
    /// It holds everything until [`set_children`](Self::set_children) says who needs it.
    #[must_use]
    pub fn new(size: u64, sink: bool) -> Self {
        let size = size.max(limits::WINDOW_BYTES_MIN);
        let credit = limits::CREDIT_BYTES.min(size / 2);
        Self {
            size,
            root: !sink,
            reread: false,
            credit_min: credit,
            credit,
            behind: Instant::ZERO,
            moved: Instant::ZERO,
            received: Position::START,
            closed: false,
            low: Position::START,
            kept: Position::START,
            stable: u64::MAX,
            evictable: Position::START,
            marks: VecDeque::new(),
            retain: false,
            waiting: true,
            sink: sink.then_some(Position::START),
            children: Vec::new(),
            ceiling: None,
            last_grant: Grant { watermarks: Watermarks::leaf(Position::START), upto: Offset::ZERO },
            counters: Counters::default(),
        }
    }

    /// From now on whatever is forgotten can be had from the source again.
    pub(super) fn reread(&mut self) {
        self.reread = true;
    }

    /// The source cannot be read again after all: says whose next item is forgotten.
    pub(super) fn reread_failed(&mut self) -> Vec<NodeId> {
        self.reread = false;
        let kept = self.kept;
        self.children.iter().filter(|c| c.linked && c.sent < kept).map(|c| c.node).collect()
    }

    /// The end of the tape that is here.
    #[must_use]
    pub fn received(&self) -> Position {
        self.received
    }

    /// Whether the whole tape is here.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// The position of the node's own sink, if it has one.
    #[must_use]
    pub fn sunk(&self) -> Option<Position> {
        self.sink
    }

    /// The counters of the mechanisms so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The offset up to which the parent was told it may send.
    #[must_use]
    pub fn granted(&self) -> Offset {
        self.last_grant.upto
    }

    /// Everything before this is held by all who are known to need it.
    #[must_use]
    pub fn low(&self) -> Position {
        self.low
    }

    /// Everything before this is to be forgotten.
    #[must_use]
    pub fn kept(&self) -> Position {
        self.kept
    }

    /// The tape is here, checked, up to `upto`; `closed` when nothing follows.
    pub fn receive(&mut self, now: Instant, upto: Position, closed: bool) {
        let was_behind = self.is_behind();
        self.received = self.received.max(upto);
        self.closed |= closed;
        if self.marks.back().is_none_or(|last| *last < self.received) && self.received > self.kept {
            self.marks.push_back(self.received);
        }
        if !was_behind {
            self.behind = now;
        }
        self.sweep(now);
        self.counters.held_max = self.counters.held_max.max(self.received.offset - self.kept.offset);
        // Full: not even one more block may come, and there is no credit yet that is worth a grant.
        let (upto, block) = (self.upto(), limits::BLOCK_BYTES as u64);
        let left = self.last_grant.upto - self.received.offset;
        if !self.closed
            && self.credit == self.size
            && left < block
            && upto - self.last_grant.upto < self.step()
        {
            self.counters.full += 1;
        }
    }

    /// The node's own sink has taken everything before `upto`.
    pub fn sink_took(&mut self, now: Instant, upto: Position) {
        if let Some(sink) = &mut self.sink {
            *sink = (*sink).max(upto).min(self.received);
            self.sweep(now);
        }
    }

    /// The node's own sink is gone; it holds nothing up any more.
    pub fn sink_gone(&mut self, now: Instant) {
        self.sink = None;
        self.sweep(now);
    }

    /// These are the children from now on: a new one may need everything that is still held, one that is no
    /// longer named needs nothing. `retain`: somebody may come back who lacks more than they do.
    pub fn set_children(&mut self, now: Instant, nodes: &[NodeId], retain: bool) {
        self.waiting = false;
        self.retain = retain;
        self.children.retain(|c| nodes.contains(&c.node));
        for node in nodes {
            if !self.children.iter().any(|c| c.node == *node) {
                // Who was further below until now may lack what only its own word has kept.
                let (sent, watermarks) = (self.evictable, Watermarks::all(self.evictable));
                self.children.push(Child {
                    node: *node,
                    linked: false,
                    sent,
                    watermarks,
                    upto: Offset::ZERO,
                });
            }
        }
        self.sweep(now);
    }

    /// The coordinator's word: everybody within the levels that is further below than the children holds the first
    /// `items` items; `u64::MAX`: nobody is there.
    pub fn set_stable(&mut self, now: Instant, items: u64) {
        self.stable = items;
        self.sweep(now);
    }

    /// Whether a child may resume at `at`: nothing it lacks is forgotten, or the source is read again. It may be ahead
    /// of this node; then it waits.
    #[must_use]
    pub fn covers(&self, at: Position) -> bool {
        self.reread || (self.kept.item <= at.item && self.from() <= at.offset)
    }

    /// A child that lacks more than what is behind this cannot be served from here: either it is forgotten, or holding it would
    /// take more room than the window has once everything granted is here.
    #[must_use]
    pub fn from(&self) -> Offset {
        // The root's source can be told to wait, so it has promised nothing.
        let promised = if self.root { 0 } else { self.last_grant.upto.0 };
        self.kept.offset.max(Offset(promised.saturating_sub(self.size)))
    }

    /// A child that [`set_children`](Self::set_children) named has attached, and resumes at what it holds, which
    /// [`covers`](Self::covers) allows.
    pub fn attach(&mut self, now: Instant, node: NodeId, grant: Grant) {
        debug_assert!(self.covers(grant.watermarks.held()), "the caller asked first");
        if let Some(child) = self.child(node) {
            let Grant { watermarks, upto } = grant;
            *child = Child { node, linked: true, sent: watermarks.held(), watermarks, upto };
            self.sweep(now);
            // One that comes back far behind must not keep this node from going on.
            let behind = self.received.offset - self.low.offset;
            self.credit = self.credit.max(behind + self.credit_min).min(self.size);
        }
    }

    /// This node has attached to a parent.
    pub fn attached(&mut self) {
        self.counters.attaches += 1;
    }

    /// Whether the whole tape is here, and with everybody below as far as is known.
    #[must_use]
    pub fn all_done(&self) -> bool {
        self.closed && self.children.iter().all(|c| c.lowest(self.stable_before()) >= self.received)
    }

    /// The link to a child is gone: its cursor stays until a view says what becomes of it.
    pub fn child_lost(&mut self, node: NodeId) {
        let all = if self.closed { self.received } else { Position::END };
        let stable = self.stable_before();
        if let Some(child) = self.child(node).filter(|c| c.linked) {
            child.linked = false;
            let lacks = child.lowest(stable) < all;
            self.counters.holds += u64::from(lacks);
        }
    }

    /// Takes in what a child reports of itself. False if it cannot be true: the child holds what it was never sent.
    #[must_use]
    pub fn child_granted(&mut self, now: Instant, node: NodeId, grant: Grant) -> bool {
        let Some(child) = self.child(node) else { return true };
        let held = grant.watermarks.held();
        if held.item > child.sent.item || held.offset > child.sent.offset {
            return false;
        }
        let before = child.watermarks.held();
        child.watermarks = grant.watermarks;
        child.watermarks.0[0] = held.max(before);
        child.upto = child.upto.max(grant.upto);
        self.sweep(now);
        true
    }

    /// Everything before `upto` was handed to the child's connection.
    pub fn sent(&mut self, node: NodeId, upto: Position) {
        let kept = self.kept.offset;
        if let Some(child) = self.child(node) {
            debug_assert!(upto.offset <= child.upto, "credit kept");
            let again = kept.min(upto.offset) - child.sent.offset;
            child.sent = child.sent.max(upto);
            self.counters.reread += again;
        }
    }

    /// The position where the child's next item begins, and the offset up to which it may be sent now.
    #[must_use]
    pub fn sendable(&self, node: NodeId) -> Option<(Position, Offset)> {
        let child = self.children.iter().find(|c| c.node == node)?;
        Some((child.sent, child.upto.min(self.ceiling.unwrap_or(child.upto))))
    }

    /// Limits how far any child is sent to; `None` lifts it.
    pub fn set_ceiling(&mut self, ceiling: Option<Offset>) {
        self.ceiling = ceiling;
    }

    /// The offset up to which the fastest child was sent the tape.
    #[must_use]
    pub fn sent_furthest(&self) -> Offset {
        self.children.iter().map(|c| c.sent.offset).max().unwrap_or(Offset::ZERO)
    }

    /// Returns a grant for the parent, if it is worth a message now: the credit or what is held grew by a step, the
    /// tape is complete somewhere, or a node came that lacks more. `all`: whatever there is to report.
    pub fn grant(&mut self, all: bool) -> Option<Grant> {
        let now = Grant { watermarks: self.watermarks(), upto: self.upto() };
        let step = if all { 1 } else { self.step() };
        let pairs = || now.watermarks.0.iter().zip(&self.last_grant.watermarks.0);
        let worth = now.upto - self.last_grant.upto >= step
            || now.upto < self.last_grant.upto
            || pairs().any(|(now, last)| now.offset - last.offset >= step)
            || ((self.closed || all) && pairs().any(|(now, last)| now > last))
            || pairs().any(|(now, last)| now < last);
        worth.then(|| self.tell(now))
    }

    /// Returns the grant for a parent to which this node attaches.
    pub fn attach_grant(&mut self) -> Grant {
        self.tell(Grant { watermarks: self.watermarks(), upto: self.upto() })
    }

    /// Whether there is something to tell that was not worth a message yet.
    #[must_use]
    pub fn untold(&self) -> bool {
        self.watermarks() != self.last_grant.watermarks || self.upto() != self.last_grant.upto
    }

    /// The cause that keeps the window full, however far it opens.
    #[must_use]
    pub fn blocked(&self) -> Blocked {
        // A consumer that moves makes room for a grant now and then, which is used up at once. The root reads whole
        // segments before it seals them, so it is full much earlier.
        let full = match self.root {
            true => self.received.offset - self.low.offset >= self.size / 4,
            false => self.last_grant.upto - self.received.offset < self.size / 4,
        };
        if self.closed {
            return Blocked::No;
        }
        // The children say that there is room, and somebody further below says that there is not.
        if self.received.offset - self.evictable.offset >= self.size / 2
            && self.low.offset - self.evictable.offset >= self.size / 4
        {
            return Blocked::Below;
        }
        if self.credit < self.size || !full {
            return Blocked::No;
        }
        let stable = self.stable_before();
        let child = self.children.iter().min_by_key(|c| c.lowest(stable));
        match (self.sink, child) {
            (sink, Some(c)) if sink.is_none_or(|sink| c.lowest(stable) < sink) => match c.is_bound_by(stable)
            {
                true => Blocked::Below,
                false => Blocked::Child(c.node),
            },
            (Some(_), _) => Blocked::Sink,
            (None, _) => Blocked::No,
        }
    }

    /// Gives more credit if a consumer has stalled or stayed behind for too long.
    pub fn open(&mut self, now: Instant) {
        if self.opens().is_some_and(|when| when <= now) {
            self.credit = (2 * self.credit).min(self.size);
            self.behind = now;
        }
    }

    /// When to call [`open`](Self::open), if it will be worth it.
    #[must_use]
    pub fn opens(&self) -> Option<Instant> {
        let stalled = self.behind.max(self.moved) + limits::STALL_AFTER;
        (self.is_behind() && self.credit < self.size)
            .then(|| stalled.min(self.behind + limits::CREDIT_INTERVAL))
    }

    /// Whether more than half of the credit is taken.
    fn is_behind(&self) -> bool {
        2 * (self.received.offset - self.low.offset) > self.credit
    }

    /// The growth that is worth a message: so little that all levels of the watermarks together do not fill the window.
    fn step(&self) -> u64 {
        (self.size / (4 * (limits::LOSSES as u64 + 1))).min(limits::GRANT_STEP_BYTES)
    }

    /// After how many bytes more the coordinator of so many nodes should know what is held here: so few that those above
    /// are never full for want of news.
    #[must_use]
    pub fn ack_bytes(&self, nodes: u32) -> u64 {
        (self.size / 8).min(limits::ACK_BYTES.max(u64::from(nodes) * limits::ACK_BYTES_PER_NODE))
    }

    fn tell(&mut self, grant: Grant) -> Grant {
        self.counters.grants += 1;
        self.last_grant = grant;
        grant
    }

    /// A grant to a parent never goes down, so a window that gets a slower cursor keeps its word. The root's own source
    /// can be told to wait.
    fn upto(&self) -> Offset {
        let given = if self.root { self.received.offset } else { self.last_grant.upto };
        (self.low.offset + self.credit).min(self.evictable.offset + self.size).max(given)
    }

    /// The positions up to which the tape is held here and at each level below.
    fn watermarks(&self) -> Watermarks {
        let mut watermarks = Watermarks::leaf(self.received);
        for level in 1..watermarks.0.len() {
            let below = self.children.iter().map(|c| c.watermarks.0[level - 1]);
            watermarks.0[level] = below.fold(Position::END, Position::min);
        }
        watermarks
    }

    /// Moves `low` to the slowest consumer. It goes back when one attaches that lacks what was still held.
    fn sweep(&mut self, now: Instant) {
        if self.waiting {
            return;
        }
        // For whom the source is read again nothing is held.
        let held = |at: &Position| !self.reread || *at >= self.kept;
        let stable = self.stable_before();
        let children = self.children.iter().map(|c| c.lowest(stable)).filter(held);
        let consumers = children.chain(self.sink);
        let mut low = consumers.fold(self.received, Position::min).max(self.kept);
        let from = self.from();
        if low.offset < from {
            // Somebody far below lacks more than can be held for him.
            let place = self.marks.partition_point(|mark| mark.offset < from);
            low = self.marks.get(place).copied().unwrap_or(self.received);
        }
        if low > self.low {
            self.moved = now;
        }
        // It may have gone back, and places further on are marked already.
        let place = self.marks.partition_point(|mark| *mark < low);
        if low > self.kept && self.marks.get(place) != Some(&low) {
            self.marks.insert(place, low);
        }
        self.low = low;
        self.evictable = self.evictable_before(from);
        if 4 * (self.received.offset - low.offset) < self.credit_min {
            self.credit = self.credit_min;
        }
        self.forget();
    }

    /// The place up to which all who are further below than the children hold the tape by their own word.
    fn stable_before(&self) -> Position {
        if self.stable == u64::MAX {
            return Position::END;
        }
        let stable = self.marks.partition_point(|mark| mark.item <= self.stable);
        stable.checked_sub(1).and_then(|place| self.marks.get(place).copied()).unwrap_or(self.kept)
    }

    /// The place up to which all who say so themselves hold the tape, and nobody is known to need it.
    fn evictable_before(&self, from: Offset) -> Position {
        let at = |place: usize| self.marks.get(place).copied();
        let mut evictable = self.stable_before().min(self.received);
        if self.reread && self.stable < self.kept.item {
            return self.low;
        }
        if evictable.offset < from {
            evictable = at(self.marks.partition_point(|mark| mark.offset < from)).unwrap_or(self.received);
        }
        evictable.min(self.low)
    }

    /// Forgets what is not needed, but for a little; or only what there is no room for.
    fn forget(&mut self) {
        let history = if self.retain { self.size } else { limits::HISTORY_BYTES };
        while let Some(mark) = self.marks.front().copied().filter(|m| *m <= self.evictable) {
            let (spare, held) =
                (self.evictable.offset - self.kept.offset, self.received.offset - self.kept.offset);
            if spare <= history && held <= self.size {
                break;
            }
            self.marks.pop_front();
            if mark > self.kept {
                self.counters.evicted += mark.offset - self.kept.offset;
                self.kept = mark;
            }
        }
    }

    fn child(&mut self, node: NodeId) -> Option<&mut Child> {
        self.children.iter_mut().find(|c| c.node == node)
    }
}
