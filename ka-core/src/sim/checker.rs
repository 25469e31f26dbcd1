//! The rules that must hold during a run, whatever goes wrong; each has a name.
//!
//! *No gap, no duplicate* (each node gets the items of the tape one by one, each once; each sink likewise), *credit
//! kept* (nothing arrives that was not granted), *bounded memory* (a node holds no more than its window), *nothing
//! forgotten too early* (a node keeps what those up to [`limits::LOSSES`](crate::limits::LOSSES) levels below its
//! children lack), *one parent*, *no cycle* (in the coordinator's tree everyone has one parent, whose child it is, and
//! everyone with a place is below the root), *a stale view is inert*, *a welcome comes first*, *no wait without a
//! deadline*. What must hold at its end: `verdict`.
//!
//! It keeps its own count of everything, and believes no state machine about itself.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::tape::Tape;
use crate::proto::Window;
use crate::types::Position;

/// A rule was broken: which, how, and what repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule's name.
    pub rule: &'static str,
    /// The breach, and its time.
    pub what: String,
    /// The command that repeats the run.
    pub repeat: String,
    /// The record of the run until then, if the world was [`traced`](super::World::traced).
    pub trace: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}\n  repeat: {}", self.rule, self.what, self.repeat)
    }
}

impl core::error::Error for Violation {}

/// The checker's knowledge of one host, by its own count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    received: Position,
    sunk: Position,
    sink_ended: bool,
    /// The coordinator got its word that all is well, and had no other word on it before.
    pub(super) believed: bool,
}

/// The checker of one run. It remembers the first breach.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) hosts: Vec<Seen>,
    pub(super) breach: Option<(&'static str, String)>,
}

impl Checker {
    pub(super) fn new(hosts: usize) -> Self {
        Self { hosts: alloc::vec![Seen::default(); hosts], breach: None }
    }

    /// One host more.
    pub(super) fn add_host(&mut self) {
        self.hosts.push(Seen::default());
    }

    pub(super) fn broken(&self) -> bool {
        self.breach.is_some()
    }

    /// A rule is broken; the first breach counts.
    pub(super) fn breach(&mut self, rule: &'static str, what: String) {
        self.breach.get_or_insert((rule, what));
    }

    /// A node was told that it has one item more, from `at` on; `window` is what it made of that.
    pub(super) fn received(&mut self, host: u32, at: Position, tape: Tape, window: &Window, size: u64) {
        let seen = &mut self.hosts[host as usize];
        let behind = tape.behind(at);
        if at != seen.received || window.received() != behind {
            let (had, says) = (seen.received, window.received());
            self.breach(
                "no gap, no duplicate",
                format!("host {host} had {had:?}, got the item at {at:?} and now says {says:?}"),
            );
            return;
        }
        seen.received = behind;
        // The root's source may be told to wait while it reads.
        if host != 0 && behind.offset > window.granted() {
            let granted = window.granted();
            self.breach("credit kept", format!("host {host} granted {granted} and got bytes to {behind:?}"));
        }
        let spare = if host == 0 { tape.block } else { 0 };
        if behind.offset - window.kept().offset > size + spare {
            let kept = window.kept();
            self.breach(
                "bounded memory",
                format!("host {host} holds {kept:?} to {behind:?} in {size} bytes"),
            );
        }
    }

    /// A sink has taken one item more, up to `upto`.
    pub(super) fn sank(&mut self, host: u32, upto: Position) {
        let seen = &mut self.hosts[host as usize];
        if upto.item != seen.sunk.item + 1 || upto.item > seen.received.item {
            let seen = *seen;
            self.breach("no gap, no duplicate", format!("host {host}'s sink took {upto:?} with {seen:?}"));
        } else {
            seen.sunk = upto;
        }
    }

    pub(super) fn sink_ended(&mut self, host: u32) {
        self.hosts[host as usize].sink_ended = true;
    }

    pub(super) fn believed(&mut self, host: u32) {
        self.hosts[host as usize].believed = true;
    }

    /// A node has forgotten what is from `before` to `kept`; `below` is attached somewhere below it, and what it had
    /// not got before may still have been held by somebody between.
    pub(super) fn forgot(&mut self, host: u32, before: Position, kept: Position, below: u32) {
        let has = self.hosts[below as usize].received;
        if before <= has && has < kept {
            self.breach(
                "nothing forgotten too early",
                format!("host {host} forgot what is before {kept:?}, {below} below it has {has:?}"),
            );
        }
    }

    pub(super) fn has_received(&self, host: usize, items: u64) -> bool {
        self.hosts[host].received.item == items
    }

    pub(super) fn has_everything(&self, host: usize, items: u64) -> bool {
        let seen = &self.hosts[host];
        seen.received.item == items && seen.sunk.item == items && seen.sink_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    const NOW: Instant = Instant::ZERO;
    const TAPE: Tape = Tape { block: 10, length: 25 };
    const SIZE: u64 = crate::limits::WINDOW_BYTES_MIN;

    fn rule(checker: &Checker) -> Option<&'static str> {
        checker.breach.as_ref().map(|b| b.0)
    }

    /// A checker, and a window that has granted everything and received the first block.
    fn after_one_block() -> (Checker, Window, Position) {
        let (mut checker, mut window) = (Checker::new(2), Window::new(SIZE, true));
        window.set_children(NOW, &[], false);
        window.grant(false).unwrap();
        let one = TAPE.behind(Position::START);
        window.receive(NOW, one, false);
        checker.received(1, Position::START, TAPE, &window, SIZE);
        assert_eq!(rule(&checker), None);
        (checker, window, one)
    }

    #[test]
    fn a_repeated_item_and_a_gap_are_seen() {
        let (mut repeated, window, one) = after_one_block();
        repeated.received(1, Position::START, TAPE, &window, SIZE);
        assert_eq!(rule(&repeated), Some("no gap, no duplicate"));

        let (mut gap, mut window, _) = after_one_block();
        let two = TAPE.behind(one);
        window.receive(NOW, TAPE.behind(two), false);
        gap.received(1, two, TAPE, &window, SIZE);
        assert_eq!(rule(&gap), Some("no gap, no duplicate"));

        let (mut sink, ..) = after_one_block();
        sink.sank(1, two);
        assert_eq!(rule(&sink), Some("no gap, no duplicate"));
    }

    #[test]
    fn bytes_without_a_grant_and_beyond_the_window_are_seen() {
        let mut checker = Checker::new(2);
        let mut window = Window::new(SIZE, true);
        window.receive(NOW, TAPE.behind(Position::START), false);
        checker.received(1, Position::START, TAPE, &window, SIZE);
        assert_eq!(rule(&checker), Some("credit kept"));

        let mut checker = Checker::new(2);
        window.grant(false).unwrap();
        checker.received(1, Position::START, TAPE, &window, 9);
        assert_eq!(rule(&checker), Some("bounded memory"));
    }

    #[test]
    fn forgetting_what_somebody_below_lacks_is_seen() {
        let (mut checker, _, one) = after_one_block();
        checker.forgot(0, Position::START, one, 1);
        checker.forgot(0, TAPE.behind(one), TAPE.behind(TAPE.behind(one)), 1);
        assert_eq!(rule(&checker), None);
        checker.forgot(0, one, TAPE.behind(one), 1);
        assert_eq!(rule(&checker), Some("nothing forgotten too early"));
    }
}
