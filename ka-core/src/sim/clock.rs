//! The world's time: a heap of what is due, ordered by time and then by the order of asking.

use alloc::collections::BinaryHeap;
use core::cmp::Ordering;

use crate::time::{Duration, Instant};

/// An event that is due. The number is a host's, a link's or a control connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A host connects to the server.
    Join(u32),
    /// The next message of a control connection reaches the server.
    ToServer(u32),
    /// The next message of a control connection reaches the host.
    ToNode(u32),
    /// The server notices that a control connection was given up.
    ConnGone(u32),
    /// A host has waited long enough for its new control connection.
    RejoinFailed(u32),
    /// There is no server any more to which a host could connect.
    RejoinRefused(u32),
    /// A host's node has a timer.
    Wake(u32),
    /// The coordinator has a timer.
    WakeServer,
    /// A dialled link reaches the parent.
    Offered(u32),
    /// The parent's yes reaches the child.
    Linked(u32),
    /// The parent's no reaches the child.
    Refused(u32),
    /// The child has waited long enough for an answer to its dial.
    DialFailed(u32),
    /// A sign of life of the parent reaches the child.
    Heard(u32),
    /// The link's sender has handed over an item.
    Sent(u32),
    /// The item is with the child, whole.
    Arrived(u32),
    /// The link's next grant reaches the parent.
    Granted(u32),
    /// The child's end is gone, and the parent notices.
    LostToParent(u32),
    /// The parent's end is gone, and the child notices.
    LostToChild(u32),
    /// A host's sink has taken an item.
    SinkTook(u32),
    /// A host's sink has ended well.
    SinkEnded(u32),
    /// The source has read a block.
    SourceRead,
    /// A fault of the plan happens.
    Fault(u32),
    /// The admin says go.
    Go,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: Instant,
    number: u64,
    due: Due,
}

impl Ord for Entry {
    /// The earliest is the greatest, because a `BinaryHeap` gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The clock: it stands still while something is handled, then jumps to what is due next.
#[derive(Debug, Default)]
pub(super) struct Clock {
    pub(super) now: Instant,
    heap: BinaryHeap<Entry>,
    asked: u64,
}

impl Clock {
    /// Asks for `due` at `at` (now, if that is past).
    pub(super) fn at(&mut self, at: Instant, due: Due) {
        self.asked += 1;
        self.heap.push(Entry { at: at.max(self.now), number: self.asked, due });
    }

    /// Asks for `due` after `delay`.
    pub(super) fn after(&mut self, delay: Duration, due: Due) {
        self.at(self.now + delay, due);
    }

    /// Jumps to what is due next, unless that is later than `limit`.
    pub(super) fn next(&mut self, limit: Instant) -> Option<Due> {
        if self.heap.peek()?.at > limit {
            return None;
        }
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.due)
    }

    /// The number of events that have happened or are still to come.
    pub(super) fn events(&self) -> u64 {
        self.asked
    }
}
