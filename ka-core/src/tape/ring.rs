//! The bytes in flight: the items of the tape that a node still holds, found by their number.
//!
//! ```text
//!      forgotten │            held              │ to come
//!     ───────────┼──────────────────────────────┼─────────▶ items
//!              first                           end
//! ```
//!
//! The ring hands out cheap clones ([`Bytes`]) and never copies. How much it may hold, and what may be
//! forgotten, [`Window`](crate::proto::Window) decides.

use alloc::collections::VecDeque;

use bytes::Bytes;

use super::chain::{self, Hash};
use crate::types::Position;

/// One item of the tape, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A sealed statement, as it is sent on.
    Statement(Bytes),
    /// A block of payload, and its hash.
    Block(Bytes, Hash),
}

impl Item {
    /// The body of the item's frame.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        match self {
            Self::Statement(b) | Self::Block(b, _) => b,
        }
    }

    /// The room that it takes on the tape, in bytes: a block its length, a statement none.
    #[must_use]
    pub fn payload(&self) -> u64 {
        match self {
            Self::Statement(_) => 0,
            Self::Block(b, _) => b.len() as u64,
        }
    }

    /// The hash of its body.
    #[must_use]
    pub fn hash(&self) -> Hash {
        match self {
            Self::Statement(b) => chain::hash(b),
            Self::Block(_, hash) => *hash,
        }
    }
}

/// The held part of the tape.
#[derive(Debug, Default)]
pub struct Ring {
    items: VecDeque<Item>,
    first: Position,
    end: Position,
}

impl Ring {
    /// An empty ring at the start of the tape.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty ring whose first item will begin at `place`.
    #[must_use]
    pub fn from_place(place: Position) -> Self {
        Self { items: VecDeque::new(), first: place, end: place }
    }

    /// The place where the oldest held item begins.
    #[must_use]
    pub fn first(&self) -> Position {
        self.first
    }

    /// The place where the next item will begin.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// Appends the next item of the tape.
    pub fn push(&mut self, item: Item) {
        self.end = self.end.after(item.payload());
        self.items.push_back(item);
    }

    /// Drops every item before `upto`; what is not there yet cannot be dropped.
    pub fn forget(&mut self, upto: Position) {
        while self.first.item < upto.item {
            let Some(item) = self.items.pop_front() else { break };
            self.first = self.first.after(item.payload());
        }
    }

    /// Walks from `from`, a place of this tape, to item number `item`: that place, if it is held or the end.
    #[must_use]
    pub fn walk(&self, from: Position, item: u64) -> Option<Position> {
        if from.item < self.first.item || item < from.item || item > self.end.item {
            return None;
        }
        let steps = usize::try_from(item - from.item).ok()?;
        Some(self.from(from.item).take(steps).fold(from, |at, item| at.after(item.payload())))
    }

    /// The items from number `item` on, oldest first; empty if they are forgotten or still to come.
    pub fn from(&self, item: u64) -> impl Iterator<Item = &Item> {
        let skip = match item.checked_sub(self.first.item) {
            Some(n) => usize::try_from(n).unwrap_or(usize::MAX).min(self.items.len()),
            None => self.items.len(),
        };
        self.items.range(skip..)
    }
}
