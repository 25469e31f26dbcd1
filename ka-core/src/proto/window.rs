//! Positions of one node on the tape, and what follows from them.
//!
//! A node owns a window of the tape: the items it still holds in its ring.
//!
//! ```text
//!      forgotten │        held, may be asked for again        │ granted, not here yet │
//!     ───────────┼─────────┬──────────────┬───────────────────┼───────────────────────┼──▶ offset
//!               low      slowest        fastest            received               low + size
//!                        cursor         cursor
//! ```
//!
//! The window answers three questions: how far may the parent send (a [`Grant`]), how far may each child be
//! sent to, and what may be forgotten (everything below `low`)? It never touches a byte; [`ring`](crate::ring) does.
//!
//! A cursor stands at what its consumer *holds*, not at what was sent to it: what a child has not confirmed may
//! have to be sent again. (Repair will lower `low` further, by what the child's own children hold.)

use alloc::vec::Vec;

use crate::limits;
use crate::types::{NodeId, Offset, Position};
use crate::wire::control::Counters;
use crate::wire::data::Grant;

/// What one node holds, has granted and may send.
#[derive(Clone, Debug)]
pub struct Window {
    size: u64,
    received: Position,
    closed: bool,
    low: Position,
    /// Nothing is forgotten while it is not known who the children are.
    hold: bool,
    /// The node's own sink stands here; `None` for a node without one (the root, or after its sink failed).
    sink: Option<Position>,
    children: Vec<Child>,
    /// No child is sent further than this, whatever it granted: the rate limit.
    ceiling: Option<Offset>,
    told: Grant,
    counters: Counters,
}

/// A child's cursor. It exists from the view that names the child to the view that no longer does: a child whose
/// link broke in between keeps its place.
#[derive(Clone, Copy, Debug)]
struct Child {
    node: NodeId,
    sent: Position,
    held: Position,
    upto: Offset,
}

impl Window {
    /// A window of `size` bytes at the start of the tape, with or without a sink of its own.
    ///
    /// It holds everything until [`set_children`](Self::set_children) says who needs it.
    #[must_use]
    pub fn new(size: u64, sink: bool) -> Self {
        Self {
            size: size.max(limits::WINDOW_BYTES_MIN),
            received: Position::START,
            closed: false,
            low: Position::START,
            hold: true,
            sink: sink.then_some(Position::START),
            children: Vec::new(),
            ceiling: None,
            told: Grant { held: Position::START, upto: Offset::ZERO },
            counters: Counters::default(),
        }
    }

    /// How far the tape is here.
    #[must_use]
    pub fn received(&self) -> Position {
        self.received
    }

    /// Whether the whole tape is here.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// How far the node's own sink is, if it has one.
    #[must_use]
    pub fn sunk(&self) -> Option<Position> {
        self.sink
    }

    /// What the mechanisms have done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How far the parent was told it may send.
    #[must_use]
    pub fn granted(&self) -> Offset {
        self.told.upto
    }

    /// Everything before this is held by all who need it: the ring may forget it.
    #[must_use]
    pub fn low(&self) -> Position {
        self.low
    }

    /// The tape is here, checked, up to `upto`; `closed` when nothing follows.
    pub fn receive(&mut self, upto: Position, closed: bool) {
        self.received = self.received.max(upto);
        self.closed |= closed;
        self.counters.held_max = self.counters.held_max.max(self.received.offset - self.low.offset);
        self.sweep();
        // Full: not even one more block may come, and there is no room yet that is worth a grant.
        let (now, block) = (self.grant_now(), limits::BLOCK_BYTES as u64);
        let left = self.told.upto - self.received.offset;
        if !self.closed && left < block && now.upto - self.told.upto < self.step() {
            self.counters.full += 1;
        }
    }

    /// The node's own sink has taken everything before `upto`.
    pub fn sink_took(&mut self, upto: Position) {
        if let Some(sink) = &mut self.sink {
            *sink = (*sink).max(upto).min(self.received);
            self.sweep();
        }
    }

    /// The node's own sink is gone; it holds nothing up any more.
    pub fn sink_gone(&mut self) {
        self.sink = None;
        self.sweep();
    }

    /// These are the children from now on: a new one needs everything that is still held, one that is no
    /// longer named needs nothing.
    pub fn set_children(&mut self, nodes: &[NodeId]) {
        self.hold = false;
        self.children.retain(|c| nodes.contains(&c.node));
        for node in nodes {
            if !self.children.iter().any(|c| c.node == *node) {
                self.children.push(Child { node: *node, sent: self.low, held: self.low, upto: Offset::ZERO });
            }
        }
        self.sweep();
    }

    /// Whether a child may resume at `at`: nothing it lacks is forgotten, and it is not ahead of this node.
    #[must_use]
    pub fn covers(&self, at: Position) -> bool {
        self.low.item <= at.item && at.item <= self.received.item
    }

    /// A child that [`set_children`](Self::set_children) named has attached, and resumes at `at`, which
    /// [`covers`](Self::covers) allows.
    pub fn attach(&mut self, node: NodeId, at: Position, upto: Offset) {
        debug_assert!(self.covers(at), "the caller asked first");
        if let Some(child) = self.child(node) {
            *child = Child { node, sent: at, held: at, upto };
            self.sweep();
        }
    }

    /// What a child says of itself. False if it cannot be true: it holds what it was never sent.
    #[must_use]
    pub fn child_granted(&mut self, node: NodeId, grant: Grant) -> bool {
        let Some(child) = self.child(node) else { return true };
        if grant.held.item > child.sent.item || grant.held.offset > child.sent.offset {
            return false;
        }
        child.held = child.held.max(grant.held);
        child.upto = child.upto.max(grant.upto);
        self.sweep();
        true
    }

    /// Everything before `upto` was handed to the child's connection.
    pub fn sent(&mut self, node: NodeId, upto: Position) {
        if let Some(child) = self.child(node) {
            debug_assert!(upto.offset <= child.upto, "credit kept");
            child.sent = child.sent.max(upto);
        }
    }

    /// Where the child's next item begins, and up to which offset it may be sent now.
    #[must_use]
    pub fn sendable(&self, node: NodeId) -> Option<(Position, Offset)> {
        let child = self.children.iter().find(|c| c.node == node)?;
        Some((child.sent, child.upto.min(self.ceiling.unwrap_or(child.upto))))
    }

    /// Limits how far any child is sent to; `None` lifts it.
    pub fn set_ceiling(&mut self, ceiling: Option<Offset>) {
        self.ceiling = ceiling;
    }

    /// How far the fastest child was sent to.
    #[must_use]
    pub fn sent_furthest(&self) -> Offset {
        self.children.iter().map(|c| c.sent.offset).max().unwrap_or(Offset::ZERO)
    }

    /// What to tell the parent now, if it is worth a message: the room grew by a step, a step more is held,
    /// or the tape is complete.
    pub fn grant(&mut self) -> Option<Grant> {
        let now = self.grant_now();
        let step = self.step();
        let worth = now.upto - self.told.upto >= step
            || now.held.offset - self.told.held.offset >= step
            || (self.closed && now.held > self.told.held);
        worth.then(|| {
            self.counters.grants += 1;
            self.told = now;
            now
        })
    }

    /// How much more is worth a message.
    fn step(&self) -> u64 {
        (self.size / 4).min(limits::GRANT_STEP_BYTES)
    }

    /// What to tell a parent to which this node attaches.
    pub fn attach_grant(&mut self) -> Grant {
        self.told = self.grant_now();
        self.told
    }

    /// A grant never goes down, so a window that gets a slower cursor keeps its word.
    fn grant_now(&self) -> Grant {
        Grant { held: self.received, upto: (self.low.offset + self.size).max(self.told.upto) }
    }

    /// Moves `low` up to the slowest consumer.
    fn sweep(&mut self) {
        if self.hold {
            return;
        }
        let low = self.children.iter().map(|c| c.held).chain(self.sink).fold(self.received, Position::min);
        if low > self.low {
            self.counters.evicted += low.offset - self.low.offset;
            self.low = low;
        }
    }

    fn child(&mut self, node: NodeId) -> Option<&mut Child> {
        self.children.iter_mut().find(|c| c.node == node)
    }
}
