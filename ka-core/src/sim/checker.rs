//! What must hold in every run, whatever goes wrong; each rule has a name.
//!
//! During the run: *no gap, no duplicate* (each node gets the items of the tape one by one, each once; each sink
//! likewise), *credit kept* (nothing arrives that was not granted), *bounded memory* (a node holds no more than its window),
//! *nothing forgotten too early* (not before every child has it), *one parent*, *no cycle*, *a stale view is inert*,
//! *no wait without a deadline*. At its end: *OK is true*, *every failure has a reason*, *the blame is right* (who is
//! said to have lost or spoilt the bytes did), *everyone alive ends*.
//!
//! It keeps its own count of everything, and believes no state machine about itself.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::World;
use super::network::Tape;
use crate::proto::Window;
use crate::types::{NodeId, Position};
use crate::wire::control::{Outcome, Reason};

/// A rule was broken: which, how, and what repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule's name.
    pub rule: &'static str,
    /// What broke it, and when.
    pub what: String,
    /// The command that repeats the run.
    pub repeat: String,
    /// What had happened until then, if the world was [`traced`](World::traced).
    pub trace: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}\n  repeat: {}", self.rule, self.what, self.repeat)
    }
}

impl core::error::Error for Violation {}

/// What the checker knows of one host, by its own count.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    received: Position,
    sunk: Position,
    sink_ended: bool,
    /// The coordinator got its word that all is well, and had no other word on it before.
    believed: bool,
}

/// The checker of one run. It remembers the first breach.
#[derive(Debug, Default)]
pub(super) struct Checker {
    hosts: Vec<Seen>,
    breach: Option<(&'static str, String)>,
}

impl Checker {
    pub(super) fn new(hosts: usize) -> Self {
        Self { hosts: alloc::vec![Seen::default(); hosts], breach: None }
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
        if behind.offset > window.granted() {
            let granted = window.granted();
            self.breach("credit kept", format!("host {host} granted {granted} and got bytes to {behind:?}"));
        }
        if behind.offset - window.low().offset > size {
            let low = window.low();
            self.breach("bounded memory", format!("host {host} holds {low:?} to {behind:?} in {size} bytes"));
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

    /// What a node has forgotten, held against what a child that needs it has got.
    pub(super) fn forgot(&mut self, host: u32, low: Position, child: u32) {
        let has = self.hosts[child as usize].received;
        if low > has {
            self.breach(
                "nothing forgotten too early",
                format!("host {host} forgot what is before {low:?}, its child {child} has {has:?}"),
            );
        }
    }

    pub(super) fn has_everything(&self, host: usize, items: u64) -> bool {
        let seen = &self.hosts[host];
        seen.received.item == items && seen.sunk.item == items && seen.sink_ended
    }
}

impl World {
    /// The run has stopped: was anything wrong?
    pub(super) fn verdict(&mut self) -> Option<Violation> {
        if !self.checker.broken() {
            self.check_end();
        }
        let (rule, what) = self.checker.breach.clone()?;
        let what = format!("at {}: {what}", self.now());
        let trace = self.trace.text().into();
        Some(Violation { rule, what, repeat: self.setup.repeat.clone(), trace })
    }

    fn check_end(&mut self) {
        if let Some(h) = self.hosts.iter().skip(1).position(|h| h.alive()) {
            let (number, state) = (h + 1, self.hosts[h + 1].state);
            self.checker.breach("everyone alive ends", format!("host {number} is still {state:?}"));
            return;
        }
        let Some(report) = self.report.clone() else {
            if self.started {
                self.checker.breach("everyone alive ends", "the session is not over".into());
            }
            return;
        };
        for node in &report.nodes {
            let host = self.by_id[&node.node] as usize;
            let who = format!("{} (host {host})", node.node);
            self.check_outcome(host, &format!("the server of {who}"), &node.outcome);
            if self.checker.hosts[host].believed && !node.outcome.is_ok() {
                let outcome = &node.outcome;
                self.checker.breach("OK is true", format!("{who} said OK first and is shown as {outcome}"));
            }
        }
        if report.root.outcome.is_ok() && self.source.fails {
            self.checker.breach("OK is true", "the source failed and is shown as OK".into());
        }
        for host in 1..self.hosts.len() {
            if let Some((outcome, _)) = self.hosts[host].ended.clone() {
                self.check_outcome(host, &format!("host {host} of itself"), &outcome);
            }
        }
    }

    /// An outcome that somebody tells of `host`.
    fn check_outcome(&mut self, host: usize, who: &str, outcome: &Outcome) {
        let (rule, right) = match outcome {
            Outcome::Ok => ("OK is true", self.truly_ok(host)),
            Outcome::Unknown => ("every failure has a reason", false),
            Outcome::Failed(reason, at) => match reason {
                _ if at.0 > self.tape.length => ("every failure has a reason", false),
                Reason::Source(why) => ("the blame is right", self.source.fails && !why.is_empty()),
                Reason::Sink(why) => {
                    ("the blame is right", self.hosts[host].sink.fails_at.is_some() && !why.is_empty())
                }
                Reason::Lost(node, why) => (
                    "the blame is right",
                    self.host_of(*node).is_some_and(|h| h.disturbed) && !why.is_empty(),
                ),
                Reason::Tainted(node, why) => (
                    "the blame is right",
                    self.host_of(*node).is_some_and(|h| h.taints_from.is_some()) && !why.is_empty(),
                ),
                Reason::Interrupted(why) => ("every failure has a reason", !why.is_empty()),
            },
        };
        if !right {
            self.checker.breach(rule, format!("{who}: {outcome}"));
        }
    }

    fn host_of(&self, node: NodeId) -> Option<&super::host::Host> {
        self.hosts.get(*self.by_id.get(&node)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAPE: Tape = Tape { block: 10, length: 25 };
    const SIZE: u64 = crate::limits::WINDOW_BYTES_MIN;

    fn rule(checker: &Checker) -> Option<&'static str> {
        checker.breach.as_ref().map(|b| b.0)
    }

    /// A checker, and a window that has granted everything and received the first block.
    fn after_one_block() -> (Checker, Window, Position) {
        let (mut checker, mut window) = (Checker::new(2), Window::new(SIZE, true));
        window.set_children(&[]);
        window.grant().unwrap();
        let one = TAPE.behind(Position::START);
        window.receive(one, false);
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
        window.receive(TAPE.behind(two), false);
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
        window.receive(TAPE.behind(Position::START), false);
        checker.received(1, Position::START, TAPE, &window, SIZE);
        assert_eq!(rule(&checker), Some("credit kept"));

        let mut checker = Checker::new(2);
        window.grant().unwrap();
        checker.received(1, Position::START, TAPE, &window, 9);
        assert_eq!(rule(&checker), Some("bounded memory"));
    }

    #[test]
    fn forgetting_what_a_child_lacks_is_seen() {
        let (mut checker, _, one) = after_one_block();
        checker.forgot(0, one, 1);
        assert_eq!(rule(&checker), None);
        checker.forgot(0, TAPE.behind(one), 1);
        assert_eq!(rule(&checker), Some("nothing forgotten too early"));
    }
}
