//! How much of what happens is printed: a node that does something again and again fills no log. Pure.
//!
//! Only lines are left out. The board, the barrier and the report hear everything.

use std::collections::BTreeMap;
use std::time::Duration;

use ka_core::net::ServerEvent;
use ka_core::proto::Event;
use ka_core::types::NodeId;

use super::status::node_of;

/// The interval between two lines that say how much was left out.
const LEFT_OUT: Duration = Duration::from_secs(10);

/// Reports of what happens to nodes.
const REPORTS: Lane = Lane::new((200, Duration::from_secs(1)), (100_000, Duration::from_millis(5)));

/// What nodes say of themselves, which programs are told: the log of an installation has some hundred lines.
const NOTES: Lane = Lane::new((2000, Duration::from_millis(100)), (200_000, Duration::from_millis(2)));

/// Decides which events are printed, and counts the others.
#[derive(Debug)]
pub(super) struct Limit {
    reports: Lane,
    notes: Lane,
    left_out: BTreeMap<Option<NodeId>, u64>,
    told: Duration,
}

/// Events of one kind: so many of one node at once, then one in so long; the same of all nodes together.
#[derive(Debug)]
struct Lane {
    of_one: (u32, Duration),
    of_all: (u32, Duration),
    /// When what was let pass would have passed at the pace: of each node, and of all.
    nodes: BTreeMap<Option<NodeId>, Duration>,
    all: Duration,
}

impl Default for Limit {
    fn default() -> Self {
        Self { reports: REPORTS, notes: NOTES, left_out: BTreeMap::new(), told: Duration::ZERO }
    }
}

impl Limit {
    /// Whether this event is printed.
    pub(super) fn passes(&mut self, now: Duration, event: &ServerEvent) -> bool {
        let ServerEvent::Session(event) = event else { return true };
        let lane = match event {
            // Each comes once, or the next one of its kind makes it old.
            Event::Started { .. }
            | Event::Ended { .. }
            | Event::Complete { .. }
            | Event::Released { .. }
            | Event::RereadFailed { .. }
            | Event::Progress { .. } => return true,
            Event::Noted { .. } => &mut self.notes,
            _ => &mut self.reports,
        };
        let who = node_of(event);
        let passes = lane.passes(now, who);
        if !passes {
            *self.left_out.entry(who).or_default() += 1;
        }
        passes
    }

    /// Returns a line on what was left out, if it is time for one; at the end it is.
    pub(super) fn left_out(&mut self, now: Duration, end: bool) -> Option<String> {
        if self.left_out.is_empty() || (now < self.told + LEFT_OUT && !end) {
            return None;
        }
        self.told = now;
        let left_out = std::mem::take(&mut self.left_out);
        let all: u64 = left_out.values().sum();
        let (who, most) = left_out.iter().max_by_key(|(_, count)| **count)?;
        let who = who.map_or_else(|| "machines that are not let in".to_owned(), |node| node.to_string());
        Some(format!("{all} reports are left out, because there are too many of them: {most} of {who}"))
    }
}

impl Lane {
    const fn new(of_one: (u32, Duration), of_all: (u32, Duration)) -> Self {
        Self { of_one, of_all, nodes: BTreeMap::new(), all: Duration::ZERO }
    }

    fn passes(&mut self, now: Duration, who: Option<NodeId>) -> bool {
        let node = self.nodes.entry(who).or_default();
        let early = |due: Duration, (burst, pace): (u32, Duration)| due.max(now) + pace > now + pace * burst;
        if early(*node, self.of_one) || early(self.all, self.of_all) {
            return false;
        }
        *node = now.max(*node) + self.of_one.1;
        self.all = now.max(self.all) + self.of_all.1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka_core::wire::control::{Note, Outcome};

    fn linked(node: u32) -> ServerEvent {
        ServerEvent::Session(Event::Linked { node: NodeId(node), parent: NodeId::ROOT })
    }

    #[test]
    fn a_node_whose_link_comes_and_goes_fills_no_log_and_takes_no_other_ones_lines() {
        let mut limit = Limit::default();
        let mut passed = |from: u64, s: u64, node| {
            let times = (from * 1000..(from + s) * 1000).map(Duration::from_millis);
            times.filter(|now| limit.passes(*now, &linked(node))).count()
        };
        assert_eq!(passed(0, 100, 5), 200 + 99, "of a thousand in a second");
        assert_eq!(passed(100, 1, 6), 200);
        let said = limit.left_out(Duration::from_secs(101), false).unwrap();
        assert!(
            said.starts_with("100501 reports are left out") && said.ends_with("99701 of node 5"),
            "{said}"
        );
        assert_eq!(limit.left_out(Duration::from_secs(200), false), None);
        let once_more = [(); 2].map(|()| limit.passes(Duration::from_secs(101), &linked(6)));
        assert_eq!(once_more, [true, false]);
        assert_eq!(limit.left_out(Duration::from_secs(102), false), None, "not so soon");
        assert!(limit.left_out(Duration::from_secs(102), true).is_some());
    }

    #[test]
    fn many_nodes_together_are_bounded_and_how_a_node_ends_is_always_told() {
        let (mut limit, now) = (Limit::default(), Duration::from_secs(7));
        let passed = (0..5000).flat_map(|node| [node; 100]).filter(|node| limit.passes(now, &linked(*node)));
        assert_eq!(passed.count(), 100_000);
        assert!(!limit.passes(now, &linked(9999)));
        let ended = Event::Ended { node: NodeId(1), outcome: Outcome::Ok };
        assert!(limit.passes(now, &ServerEvent::Session(ended)));
        let note = Note { topic: "log".into(), text: "mkfs".into() };
        let noted = ServerEvent::Session(Event::Noted { node: NodeId(1), note });
        assert_eq!((0..10_000).filter(|_| limit.passes(now, &noted)).count(), 2000);
    }
}
