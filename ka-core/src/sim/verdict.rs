//! The rules that must hold at the end of a run; each has a name.
//!
//! *OK is true*, *every failure has a reason*, *the blame is right* (who is said to have lost or spoilt the bytes was
//! disturbed, or did), *everyone alive ends*, *who can finish finishes* (a node to which nothing was done is OK, whatever
//! became of others), *nobody healthy is given up* (a node that was away for a while only is OK, or nobody held any
//! more what it lacked).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;

use super::checker::Violation;
use super::host::Host;
use super::marks::Marks;
use super::tape::transfer;
use super::world::World;
use crate::limits;
use crate::proto::Event;
use crate::proto::Report;
use crate::proto::coordinator::Member;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::control::{Outcome, Reason};

/// The longest absence of a host for which it is not given up.
const AWAY: Duration = Duration::from_secs(10);

/// The time in which a node that is back is known again: what was sent arrives, what is silent is dialled again.
const KNOWN_AGAIN: Duration = Duration::from_secs(5);

/// Big trees are looked at this often.
const TREE_LOOK: Duration = Duration::from_millis(10);

impl World {
    /// The counts of rare things in this run.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let mut marks = self.marks;
        for (_, event) in self.events() {
            match event {
                Event::Suspected { .. } => marks.suspected += 1,
                Event::Returned { .. } => marks.returned += 1,
                Event::Rerouted { from, .. } => {
                    let liar =
                        self.by_id.get(from).is_some_and(|h| self.hosts[*h as usize].taints_from.is_some());
                    marks.rerouted += 1;
                    marks.tainted += u64::from(liar);
                }
                Event::Slow { .. } => marks.slow += 1,
                Event::Idle { .. } => marks.idle += 1,
                Event::Resumed { .. } => marks.later += 1,
                _ => {}
            }
        }
        marks.readdressed += self.hosts.iter().map(|h| u64::from(h.moves)).sum::<u64>();
        for counters in self.hosts.iter().filter_map(|h| Some(h.node.as_ref()?.window().counters())) {
            marks.held += counters.holds;
            marks.replaced_twice += u64::from(counters.attaches > 2);
        }
        let (mut ok, mut lost) = (0, 0);
        for node in self.report.iter().flat_map(|r| &r.nodes) {
            match &node.outcome {
                Outcome::Ok => ok += 1,
                Outcome::Unknown => marks.unknown += 1,
                Outcome::Failed(Reason::Missing(..), _) => marks.missing += 1,
                Outcome::Failed(Reason::Lost(..), _) => lost += 1,
                Outcome::Failed(..) => {}
            }
        }
        marks.survived += if lost > 0 { ok } else { 0 };
        marks
    }

    /// The coordinator has changed its tree: is it one?
    pub(super) fn check_tree(&mut self) {
        let Some((roster, tree)) = self.coordinator.as_ref().map(|c| (c.roster(), c.tree())) else { return };
        if roster.len() > 256 && self.clock.now < self.tree_checked + TREE_LOOK {
            return;
        }
        self.tree_checked = self.clock.now;
        let mut wrong = tree.check().err().map(|what| ("one parent", what.to_string()));
        let placed =
            |m: &&Member| tree.parent(m.node()).is_some() && m.outcome().is_none() && !m.is_complete();
        let below: BTreeSet<_> = tree.subtree(NodeId::ROOT).take(roster.len() as usize + 2).collect();
        for m in roster.nodes().filter(placed) {
            if !below.contains(&m.node()) {
                wrong = wrong.or_else(|| Some(("no cycle", format!("{} is not below the root", m.node()))));
            }
        }
        if let Some((rule, what)) = wrong {
            self.checker.breach(rule, what);
        }
    }

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
        if let Some(h) = self.hosts.iter().skip(1).position(Host::alive) {
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
            if report.started.is_some() {
                self.check_finished(host, &who, &node.outcome);
            }
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
        let it = &self.hosts[host];
        if it.lies() && !outcome.is_ok() {
            return;
        }
        let (rule, right) = match outcome {
            Outcome::Ok => ("OK is true", self.truly_ok(host)),
            Outcome::Unknown => (
                "every failure has a reason",
                it.harm.any() && self.checker.has_received(host, self.tape.items()) || self.server_is_lost(),
            ),
            Outcome::Failed(reason, at) => match reason {
                _ if at.0 > self.tape.length => ("every failure has a reason", false),
                Reason::Source(why) => ("the blame is right", self.source.fails && !why.is_empty()),
                Reason::Sink(why) => {
                    let stalled =
                        it.sink.stalled_until > Instant::ZERO || it.sink.ends_after >= limits::FINISH_TIMEOUT;
                    ("the blame is right", (it.sink.fails_at.is_some() || stalled) && !why.is_empty())
                }
                Reason::Slow(why) => {
                    let slow = it.sink.rate.is_some() || it.rate < self.setup.rate;
                    ("the blame is right", slow && !why.is_empty())
                }
                // Who was away himself may find the server gone on without him.
                Reason::Lost(NodeId::ROOT, why) => {
                    // A node that is not heard before the start is not counted, and may find the session started.
                    let uncounted = self.hosts[0].harm.away >= limits::GATHERING_TIMEOUT;
                    let gone = self.server_is_lost() || self.stopped || self.source.fails || uncounted;
                    ("the blame is right", (it.harm.any() || gone) && !why.is_empty())
                }
                Reason::Lost(node, why) => (
                    "the blame is right",
                    (self.server_is_lost()
                        || self.found_nobody(it)
                        || self.host_of(*node).is_some_and(|h| h.harm.any() || h.lies()))
                        && !why.is_empty(),
                ),
                Reason::Tainted(node, why) => (
                    "the blame is right",
                    self.host_of(*node).is_some_and(|h| h.taints_from.is_some()) && !why.is_empty(),
                ),
                Reason::Interrupted(why) => {
                    ("the blame is right", (it.harm.stopped || self.stopped) && !why.is_empty())
                }
                Reason::Missing(from, to) => {
                    ("the blame is right", self.may_miss(it, self.is_late(it)) && from < to)
                }
            },
        };
        if !right {
            self.checker.breach(rule, format!("{who}: {outcome}"));
        }
    }

    /// Whether `host` should have come further.
    fn check_finished(&mut self, host: usize, who: &str, outcome: &Outcome) {
        let it = &self.hosts[host];
        let harmed = it.harm.ended || it.sink.fails_at.is_some() || it.lies();
        if self.source.fails || self.stopped || self.server_is_lost() || harmed || outcome.is_ok() {
            return;
        }
        // Whether it was slow or stuck, the blame tells.
        if matches!(outcome, Outcome::Failed(Reason::Sink(_) | Reason::Slow(_), _)) {
            return;
        }
        let missing = matches!(outcome, Outcome::Failed(Reason::Missing(..), _));
        if self.may_miss(it, self.is_late(it)) && missing || self.found_nobody(it) {
            return;
        }
        if it.harm.times == 0 {
            self.checker.breach("who can finish finishes", format!("{who}: {outcome}"));
        } else if it.harm.away <= AWAY && !matches!(outcome, Outcome::Failed(Reason::Missing(..), _)) {
            // Who comes and goes again and again must be steady for a while.
            let steady = if it.harm.times > 1 { limits::RETURN_DELAY_MAX } else { Duration::ZERO };
            let known = it.harm.back + KNOWN_AGAIN + self.hosts[0].harm.away + steady;
            if self.report().ended > known {
                let back = it.harm.back;
                let what = format!("{who}, back at {back}: {outcome}");
                self.checker.breach("nobody healthy is given up", what);
            }
        }
    }

    /// Whether `host` came after the start.
    fn is_late(&self, host: &Host) -> bool {
        self.report.as_ref().and_then(|r| r.started).is_some_and(|at| Instant::ZERO + host.joins_at > at)
    }

    /// Whether `host` came after the start, or more were lost than anybody keeps the tape for, and only those who lie may have
    /// had what it lacks.
    fn found_nobody(&self, host: &Host) -> bool {
        let read = self.setup.config.reread && !self.source.unreadable;
        !read && (self.is_late(host) || self.many_lost()) && self.hosts.iter().any(Host::lies)
    }

    /// Whether `host` may come back, or come, too late for every window.
    fn may_miss(&self, host: &Host, late: bool) -> bool {
        if self.setup.config.reread {
            // Whoever was put off may have been so for being slow.
            return self.source.unreadable;
        }
        late || host.harm.any() || self.many_lost() || self.windows_too_short()
    }

    /// Whether the server was away, so that everybody was away for it, and windows are shorter than that.
    fn windows_too_short(&self) -> bool {
        let lacked = transfer(self.setup.window, self.setup.rate);
        self.hosts[0].harm.any() && lacked < self.hosts[0].harm.away + KNOWN_AGAIN
    }

    /// Whether more were lost than the watermarks cover if they were neighbours and lost at once.
    fn many_lost(&self) -> bool {
        self.hosts.iter().skip(1).filter(|h| h.harm.any() || h.lies()).count() > limits::LOSSES
    }

    /// Whether the server was away for so long that nobody need have waited for it.
    fn server_is_lost(&self) -> bool {
        let lost = |o: &Outcome| matches!(o, Outcome::Unknown | Outcome::Failed(Reason::Lost(..), _));
        let unharmed = |n: &NodeId| self.host_of(*n).is_some_and(|h| !h.harm.any());
        let failed = |r: &Report| r.nodes.iter().filter(|n| lost(&n.outcome) && unharmed(&n.node)).count();
        let alone = self.report.as_ref().is_some_and(|r| failed(r) == 1 && r.nodes.len() > 1);
        let patience = if alone { limits::GATHERING_TIMEOUT } else { limits::PARTITION_TIMEOUT };
        self.hosts[0].harm.away + 2 * AWAY > patience.max(3 * AWAY)
    }

    fn host_of(&self, node: NodeId) -> Option<&Host> {
        self.hosts.get(*self.by_id.get(&node)? as usize)
    }
}
