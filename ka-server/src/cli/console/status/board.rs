//! The state of each node, as people see it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::row::Row;
use ka_core::console::meter::{Meter, Total};
use ka_core::console::reporter::Line;
use ka_core::console::units;
use ka_core::net::ServerEvent;
use ka_core::proto::Event;
use ka_core::types::NodeId;
use ka_core::wire::control::{Outcome, Reason};
use ka_desc::manifest::{Stage, StreamKind};

/// The state of the session, as far as it is known.
#[derive(Debug)]
pub(crate) struct Board {
    /// The session, in words.
    pub(super) title: String,
    pub(super) expected: u32,
    pub(super) started: bool,
    /// The size of each stream.
    pub(super) totals: Vec<Total>,
    pub(super) nodes: BTreeMap<NodeId, Row>,
    /// The speed of the nodes that the others wait for. The meter begins anew when these are others.
    pub(super) meter: Meter,
    /// When bytes began to move.
    pub(super) begun: Option<Duration>,
    /// The bytes of the source that are read.
    pub(super) read: u64,
    /// The source gives nothing more, and the reason was printed.
    pub(super) source_ended: bool,
    /// The session was stopped here, and that was printed.
    pub(super) stopped: bool,
}

impl Board {
    pub(crate) fn new(title: String, expected: u32) -> Self {
        Self {
            title,
            expected,
            started: false,
            totals: Vec::new(),
            nodes: BTreeMap::new(),
            meter: Meter::default(),
            begun: None,
            read: 0,
            source_ended: false,
            stopped: false,
        }
    }

    /// These streams come.
    pub(crate) fn expect(&mut self, totals: Vec<Total>) {
        self.totals = totals;
    }

    /// Somebody stops it here.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether nodes can still be waited for.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// Returns the number of nodes that are in.
    pub(crate) fn nodes(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// Whether it was told as it happened why this node failed.
    pub(crate) fn has_told(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|row| row.told)
    }

    /// Takes in what happened, and says what is to be said about it.
    pub(crate) fn take(&mut self, event: &ServerEvent) -> Option<Line> {
        match event {
            ServerEvent::Session(event) => self.take_session(event),
            ServerEvent::Stream(info) => {
                let total = Total::new(info.size, StreamKind::is_estimate(&info.metadata));
                if let Some(expected) = self.totals.get_mut(info.number as usize) {
                    *expected = total;
                }
                Some(Line::Note(format!("stream `{}`, {total}", info.name)))
            }
            ServerEvent::Nameless(addrs) if addrs.is_empty() => None,
            ServerEvent::Nameless(addrs) => {
                let addrs: Vec<_> = addrs.iter().map(ToString::to_string).collect();
                Some(Line::Say(format!("the session has no name; this host is {}", addrs.join(" or "))))
            }
            ServerEvent::Warning(text) => Some(Line::Say(format!("warning: {text}"))),
            _ => None,
        }
    }

    fn take_session(&mut self, event: &Event) -> Option<Line> {
        let away = node_of(event).and_then(|node| self.nodes.get(&node)?.away().map(str::to_owned));
        if !self.note(event) {
            return None;
        }
        match event {
            Event::Joined { node, addr, label, ready, expected, .. } => {
                let row = Row::new(*addr, label);
                let text = match self.started {
                    false => format!("{node} joined: {} ({ready} of {expected})", row.who),
                    true => format!("{node} joined late: {}", row.who),
                };
                self.nodes.insert(*node, row);
                self.meter = Meter::default();
                Some(Line::Note(text))
            }
            Event::Left { node, ready, expected } => {
                let who = self.nodes.remove(node).map_or_else(String::new, |row| row.who);
                Some(Line::Say(format!("{node} left: {who} ({ready} of {expected})")))
            }
            Event::Refused { addr, why, .. } => Some(Line::Say(format!("refused {addr}: {why}"))),
            Event::Started { nodes } => {
                self.started = true;
                let nodes = match *nodes < self.expected {
                    true => format!("{nodes} of {} nodes", self.expected),
                    false => units::nodes(*nodes),
                };
                Some(Line::Say(format!("started with {nodes}")))
            }
            Event::Linked { node, parent } => Some(Line::Note(format!("{node} is linked to {parent}"))),
            Event::Suspected { node, why } => {
                Some(Line::Say(format!("{}: {why}; the others go on without it", self.name(*node))))
            }
            Event::Returned { node, at } => {
                Some(Line::Say(format!("{} is back, and goes on at byte {at}", self.name(*node))))
            }
            Event::Rerouted { node, from, to, why } => {
                let (node, from, to) = (self.name(*node), self.name(*from), self.name(*to));
                Some(Line::Say(format!("{node} gets no bytes from {from} ({why}), and gets them from {to}")))
            }
            Event::Idle { node, why } => Some(Line::Say(format!("{}: {why}", self.name(*node)))),
            Event::Slow { node, why } => Some(Line::Say(format!("{} is slow: {why}", self.name(*node)))),
            Event::Later { node, at } => {
                let node = self.name(*node);
                Some(Line::Say(format!("{node} gets what is behind byte {at} after the others")))
            }
            Event::Resumed { node, at } => {
                Some(Line::Say(format!("{} gets what is behind byte {at} now", self.name(*node))))
            }
            Event::RereadFailed { why } => {
                let loses = "whoever is slow, late or away for long may miss something";
                Some(Line::Say(format!("the source cannot be read again: {why}; {loses}")))
            }
            Event::State { node, .. } => {
                let stage = self.nodes.get(node)?.stage()?;
                Some(Line::Note(format!("{}: {stage}", self.name(*node))))
            }
            Event::Complete { node } => {
                let what = if *node == NodeId::ROOT { "has read everything" } else { "has everything" };
                Some(Line::Note(format!("{node} {what}")))
            }
            Event::Ended { node: NodeId::ROOT, outcome } => self.source_ended(outcome),
            Event::Ended { node, outcome } => self.ended(*node, outcome, away),
            Event::Released { node } => Some(Line::Note(format!("{node} was let go"))),
            _ => None,
        }
    }

    /// Takes in what happened to a node, and says whether it is worth telling.
    fn note(&mut self, event: &Event) -> bool {
        let Some(node) = node_of(event) else { return true };
        if node == NodeId::ROOT {
            if let Event::Progress { progress, .. } = event {
                self.read = progress.received.0;
            }
            return !self.source_ended;
        }
        let Some(row) = self.nodes.get_mut(&node) else {
            // What is known of the nodes begins when they join.
            return matches!(event, Event::Joined { .. } | Event::Left { .. });
        };
        // What it is at is known, and takes its time.
        if matches!(event, Event::Slow { .. }) && row.stage() == Some(Stage::Formatting) {
            return false;
        }
        let before = (row.counts(), row.comes_later());
        let news = row.take(event);
        // Who ends well has gone as far as any other.
        let ok = matches!(event, Event::Ended { outcome: Outcome::Ok, .. });
        if before != (row.counts(), row.comes_later()) && !ok {
            self.meter = Meter::default();
        }
        news
    }

    fn source_ended(&mut self, outcome: &Outcome) -> Option<Line> {
        match outcome {
            Outcome::Ok => Some(Line::Note("the source: OK".into())),
            Outcome::Failed(Reason::Interrupted(why), _) => {
                self.source_ended = true;
                // It did not fail; and that it was stopped here was told.
                (!self.stopped).then(|| Line::Say(format!("the source is read no further: {why}")))
            }
            outcome => {
                self.source_ended = true;
                Some(Line::Say(format!("the source: {outcome}")))
            }
        }
    }

    /// Says of a node how it ended, unless that was said already. `away`: why it was not heard then.
    fn ended(&mut self, node: NodeId, outcome: &Outcome, away: Option<String>) -> Option<Line> {
        let name = self.name(node);
        let Outcome::Failed(reason, at) = outcome else {
            return Some(match outcome {
                Outcome::Ok => Line::Note(format!("{name}: OK")),
                _ => Line::Say(format!("{name}: {outcome}")),
            });
        };
        if let Some(row) = self.nodes.get_mut(&node) {
            row.told = true;
        }
        match reason {
            Reason::Interrupted(_) if self.stopped => None,
            Reason::Source(_) if self.source_ended => None,
            Reason::Lost(who, why) if *who == node && away.as_deref() == Some(why) => {
                Some(Line::Say(format!("{name} did not come back: FAILED at byte {at}")))
            }
            _ => Some(Line::Say(format!("{name}: {outcome}"))),
        }
    }

    pub(super) fn name(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(|| node.to_string(), |row| format!("{node} {}", row.who))
    }

    /// Time passes: how fast is it by now?
    pub(crate) fn tick(&mut self, now: Duration) {
        if let Some((_, row)) = self.slowest() {
            let sunk = row.sunk;
            self.meter.see(now, sunk);
            self.begun = self.begun.or(self.meter.begun());
        }
    }

    /// When bytes began to move, since the program's start.
    pub(crate) fn begun(&self) -> Option<Duration> {
        self.begun
    }
}

/// Whom an event is about.
pub(crate) fn node_of(event: &Event) -> Option<NodeId> {
    match event {
        Event::Joined { node, .. }
        | Event::Left { node, .. }
        | Event::Linked { node, .. }
        | Event::Suspected { node, .. }
        | Event::Returned { node, .. }
        | Event::Rerouted { node, .. }
        | Event::Idle { node, .. }
        | Event::Slow { node, .. }
        | Event::Later { node, .. }
        | Event::Resumed { node, .. }
        | Event::Progress { node, .. }
        | Event::Noted { node, .. }
        | Event::State { node, .. }
        | Event::Complete { node }
        | Event::Ended { node, .. }
        | Event::Released { node } => Some(*node),
        _ => None,
    }
}
