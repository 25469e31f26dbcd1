//! A data link and what is under way on it.

use alloc::collections::VecDeque;

use crate::time::Instant;
use crate::types::Position;
use crate::wire::control::LinkFault;
use crate::wire::data::{Attach, Grant};

/// A data link, from the dial on.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) parent: u32,
    pub(super) child: u32,
    /// Whether the parent's end is open: from its accept to its close.
    pub(super) parent_open: bool,
    /// The link loses what is under way on it, and nobody is told.
    pub(super) lost: bool,
    /// Whether the child's end is open: from the parent's yes to its close.
    pub(super) child_open: bool,
    /// When the child's end opened.
    pub(super) since: Instant,
    /// The end of what is being sent, and when that is handed over.
    pub(super) sending: Option<Position>,
    pub(super) sent_at: Instant,
    /// Whether anything was sent since the last sign of life.
    pub(super) busy: bool,
    /// When the last of what was sent arrives, to the child and to the parent: one behind another.
    pub(super) to_child_last: Instant,
    pub(super) to_parent_last: Instant,
    /// The item that arrives next begins here.
    pub(super) arriving: Position,
    /// Grants on their way to the parent.
    pub(super) grants: VecDeque<Grant>,
    /// The message with which the child dialled.
    pub(super) attach: Attach,
    /// Why the parent said no.
    pub(super) refusal: Option<LinkFault>,
}

impl Link {
    pub(super) fn dialled(child: u32, parent: u32, attach: Attach) -> Self {
        Self {
            parent,
            child,
            parent_open: false,
            lost: false,
            child_open: false,
            since: Instant::ZERO,
            sending: None,
            sent_at: Instant::ZERO,
            busy: false,
            to_child_last: Instant::ZERO,
            to_parent_last: Instant::ZERO,
            arriving: Position::START,
            grants: VecDeque::new(),
            attach,
            refusal: None,
        }
    }
}
