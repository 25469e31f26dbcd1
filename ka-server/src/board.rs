//! What people see of a session: who is there, who is how far, who is waited for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ka_client::console::tell::Line;
use ka_client::console::{meter, units};
use ka_client::plan::{self, topic};
use ka_core::net::ServerEvent;
use ka_core::proto::Event;
use ka_core::types::NodeId;
use ka_core::wire::control::Outcome;

/// Nodes that the live view shows at most: those in trouble and those farthest behind.
const ROWS: usize = 12;

/// Nodes that one line names at most.
const NAMES: usize = 6;

/// What is known of the session.
#[derive(Debug)]
pub(crate) struct Board {
    /// The session, in words.
    title: String,
    expected: u32,
    started: bool,
    /// All streams' that are known so far, if all of those say.
    size: Option<u64>,
    nodes: BTreeMap<NodeId, Row>,
    meter: meter::Meter,
}

#[derive(Debug)]
struct Row {
    /// Address and label.
    who: String,
    stage: Stage,
    /// How far its application is, in its own word.
    doing: Option<String>,
    sunk: u64,
    released: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    In,
    Linked,
    Away(String),
    Complete,
    Ok,
    Failed(String),
}

impl Row {
    fn new(addr: SocketAddr, label: &str) -> Self {
        let who = format!("{} {label}", addr.ip()).trim_end().to_owned();
        Self { who, stage: Stage::In, doing: None, sunk: 0, released: false }
    }

    fn failed(&self) -> bool {
        matches!(self.stage, Stage::Failed(_))
    }

    /// Whether the others need not wait for it.
    fn out(&self) -> bool {
        self.failed() || matches!(self.stage, Stage::Away(_))
    }

    fn has_ended(&self) -> bool {
        self.failed() || self.stage == Stage::Ok
    }

    /// Trouble first, then those that are farthest behind; those that are done last.
    fn urgency(&self) -> (bool, bool, u64) {
        (!self.out(), self.stage == Stage::Ok, self.sunk)
    }
}

impl Board {
    pub(crate) fn new(title: String, expected: u32) -> Self {
        let (nodes, meter) = Default::default();
        Self { title, expected, started: false, size: Some(0), nodes, meter }
    }

    /// Whether nodes can still be waited for.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// Whether no node is in.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Takes in what happened, and says what is to be said about it.
    pub(crate) fn take(&mut self, event: &ServerEvent) -> Option<Line> {
        match event {
            ServerEvent::Open { control_port, data_port, window_bytes, .. } => Some(Line::Say(format!(
                "{} is open on port {control_port} (data {data_port}, window {}); it waits for {}",
                self.title,
                units::size(*window_bytes),
                units::nodes(self.expected)
            ))),
            ServerEvent::Session(event) => self.take_session(event),
            ServerEvent::Stream(info) => {
                self.size = self.size.zip(info.size).map(|(all, size)| all + size);
                let size = info.size.map_or("of unknown size".into(), units::size);
                Some(Line::Note(format!("stream `{}`, {size}", info.name)))
            }
            ServerEvent::Nameless(addrs) => {
                let addrs: Vec<_> = addrs.iter().map(|addr| format!("--host {addr}")).collect();
                let way = if addrs.is_empty() { "this host's address".into() } else { addrs.join(" or ") };
                Some(Line::Say(format!("it has no name to be found by (--session): nodes need {way}")))
            }
            ServerEvent::Warning(text) => Some(Line::Say(format!("warning: {text}"))),
            _ => None,
        }
    }

    fn take_session(&mut self, event: &Event) -> Option<Line> {
        match event {
            Event::Joined { node, addr, label, ready, expected } => {
                let row = Row::new(*addr, label);
                let text = format!("{node} joined: {} ({ready} of {expected})", row.who);
                self.nodes.insert(*node, row);
                Some(Line::Note(text))
            }
            Event::Left { node, ready, expected } => {
                let who = self.nodes.remove(node).map_or_else(String::new, |row| row.who);
                Some(Line::Say(format!("{node} left: {who} ({ready} of {expected})")))
            }
            Event::Refused { addr, why } => Some(Line::Say(format!("refused {addr}: {why}"))),
            Event::Started { nodes } => {
                self.started = true;
                Some(Line::Say(format!("started with {}", units::nodes(*nodes))))
            }
            Event::Linked { node, parent } => {
                self.row(*node, |row| row.stage = Stage::Linked);
                Some(Line::Note(format!("{node} is linked to {parent}")))
            }
            Event::Suspected { node, why } => {
                self.row(*node, |row| row.stage = Stage::Away(format!("not heard: {why}")));
                Some(Line::Say(format!("{}: {why}; the others go on without it", self.name(*node))))
            }
            Event::Returned { node, at } => {
                self.row(*node, |row| row.stage = Stage::In);
                Some(Line::Say(format!("{} is back, and goes on at byte {at}", self.name(*node))))
            }
            Event::Rerouted { node, from, to, why } => {
                let (node, from, to) = (self.name(*node), self.name(*from), self.name(*to));
                Some(Line::Say(format!("{node} gets no bytes from {from} ({why}), and gets them from {to}")))
            }
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
            Event::Progress { node, progress } => {
                self.row(*node, |row| row.sunk = progress.sunk.0);
                None
            }
            Event::Noted { node, note } if note.topic == topic::STAGE => {
                let doing = Some(note.text.clone());
                let row = self.nodes.get_mut(node).filter(|row| row.doing != doing)?;
                row.doing = doing;
                Some(Line::Note(format!("{}: {}", self.name(*node), note.text)))
            }
            Event::Complete { node } => {
                self.row(*node, |row| row.stage = Stage::Complete);
                let what = if *node == NodeId::ROOT { "has read everything" } else { "has everything" };
                Some(Line::Note(format!("{node} {what}")))
            }
            Event::Ended { node, outcome } => self.ended(*node, outcome),
            Event::Released { node } => {
                self.row(*node, |row| row.released = true);
                Some(Line::Note(format!("{node} was let go")))
            }
            _ => None,
        }
    }

    fn ended(&mut self, node: NodeId, outcome: &Outcome) -> Option<Line> {
        let ok = outcome.is_ok();
        self.row(node, |row| row.stage = if ok { Stage::Ok } else { Stage::Failed(outcome.to_string()) });
        let line = if ok { Line::Note } else { Line::Say };
        let who = if node == NodeId::ROOT { "the source".into() } else { self.name(node) };
        Some(line(format!("{who}: {outcome}")))
    }

    /// What is known of the server's own node is no row.
    fn row(&mut self, node: NodeId, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.nodes.get_mut(&node) {
            change(row);
        }
    }

    fn name(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(|| node.to_string(), |row| format!("{node} {}", row.who))
    }

    /// Time passes: how fast is it by now?
    pub(crate) fn tick(&mut self, now: Duration) {
        if let Some((_, row)) = self.slowest() {
            let sunk = row.sunk;
            self.meter.see(now, sunk);
        }
    }

    /// The node that the others will have to wait for.
    fn slowest(&self) -> Option<(&NodeId, &Row)> {
        self.nodes.iter().filter(|(_, row)| !row.out()).min_by_key(|(_, row)| row.sunk)
    }

    /// How far it is, for a log.
    pub(crate) fn line(&self, now: Duration) -> String {
        if !self.started {
            return self.waiting_for_nodes();
        }
        if !self.is_under_way() {
            return self.waiting_for_ends();
        }
        let formatting = self.formatting();
        match self.slowest() {
            _ if !formatting.is_empty() => format!("the files wait for who still formats: {formatting}"),
            Some((node, row)) => format!("{}  slowest: {}", self.progress(now, row), self.name(*node)),
            None => "no node is left".into(),
        }
    }

    /// The nodes that all others wait for because they still format.
    fn formatting(&self) -> String {
        let word = Some(plan::Stage::Formatting.word());
        let busy = self.nodes.iter().filter(|(_, row)| !row.out() && row.doing.as_deref() == word);
        names(busy.map(|(node, _)| self.name(*node)))
    }

    fn progress(&self, now: Duration, slowest: &Row) -> String {
        meter::progress(slowest.sunk, self.size, self.meter.rate(now))
    }

    /// Whether some node still lacks bytes.
    fn is_under_way(&self) -> bool {
        self.nodes.values().any(|row| !row.has_ended() && row.stage != Stage::Complete)
    }

    fn waiting_for_ends(&self) -> String {
        let open = self.nodes.iter().filter(|(_, row)| !row.has_ended());
        let open = names(open.map(|(node, _)| self.name(*node)));
        if open.is_empty() {
            let gone = self.nodes.values().filter(|row| row.released).count();
            return format!("every node has ended; {gone} of {} are let go", self.nodes.len());
        }
        format!("everything is sent; waiting for the sink of {open}")
    }

    fn waiting_for_nodes(&self) -> String {
        let here = names(self.nodes.values().map(|row| row.who.clone()));
        let here = if here.is_empty() { here } else { format!(" ({here})") };
        format!("{}: waiting for nodes: {} of {}{here}", self.title, self.nodes.len(), self.expected)
    }

    /// The same for a terminal, with the nodes that matter most.
    pub(crate) fn frame(&self, now: Duration) -> Vec<String> {
        if !self.started {
            return vec![self.line(now)];
        }
        let mut lines = vec![match (self.is_under_way(), self.size, self.slowest()) {
            (true, Some(size), Some((_, row))) if self.formatting().is_empty() => {
                format!("{} {}", meter::bar(row.sunk, size), self.progress(now, row))
            }
            _ => self.line(now),
        }];
        let mut rows: Vec<_> = self.nodes.iter().collect();
        rows.sort_by_key(|(_, row)| row.urgency());
        lines.extend(rows.iter().take(ROWS).map(|(node, row)| self.row_line(**node, row)));
        if rows.len() > ROWS {
            lines.push(format!("  and {} more, farther on", rows.len() - ROWS));
        }
        lines
    }

    fn row_line(&self, node: NodeId, row: &Row) -> String {
        let stage = match &row.stage {
            Stage::In => "no link yet",
            Stage::Linked => row.doing.as_deref().unwrap_or("receiving"),
            Stage::Away(why) => why,
            Stage::Complete => row.doing.as_deref().unwrap_or("finishing"),
            Stage::Ok => "OK",
            Stage::Failed(why) => why,
        };
        let percent =
            self.size.map_or_else(String::new, |size| format!("{:>4} %", meter::percent(row.sunk, size)));
        format!("  {:<4} {:<24} {:>10}{percent}  {stage}", node.0, row.who, units::size(row.sunk))
    }
}

/// `a, b and 3 more`
fn names(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<_> = all.collect();
    let more = all.len().saturating_sub(NAMES);
    all.truncate(NAMES);
    let some = all.join(", ");
    if more > 0 { format!("{some} and {more} more") } else { some }
}

#[cfg(test)]
mod tests {
    use ka_core::seal::StreamInfo;
    use ka_core::types::Offset;
    use ka_core::wire::control::{Note, Progress, Reason};

    use super::*;

    fn joined(node: u32) -> Event {
        Event::Joined {
            node: NodeId(node),
            addr: ([10, 0, 0, node as u8], 30764).into(),
            label: format!("pc{node:02}"),
            ready: node,
            expected: 20,
        }
    }

    fn progress(node: u32, sunk: u64) -> Event {
        let (received, sunk) = (Offset(sunk), Offset(sunk));
        Event::Progress { node: NodeId(node), progress: Progress { received, sunk, ..Progress::default() } }
    }

    fn tell(board: &mut Board, event: Event) -> Option<Line> {
        board.take(&ServerEvent::Session(event))
    }

    fn started(nodes: u32) -> Board {
        let mut board = Board::new("session `x`".into(), 20);
        for node in 1..=nodes {
            tell(&mut board, joined(node));
        }
        tell(&mut board, Event::Started { nodes });
        let info = StreamInfo { number: 0, name: "f".into(), metadata: Vec::new(), size: Some(4 << 20) };
        board.take(&ServerEvent::Stream(info));
        for node in 1..=nodes {
            tell(&mut board, Event::Linked { node: NodeId(node), parent: NodeId(node - 1) });
        }
        board
    }

    #[test]
    fn who_is_here_while_it_waits() {
        let mut board = Board::new("session `x`".into(), 20);
        assert_eq!(board.line(Duration::ZERO), "session `x`: waiting for nodes: 0 of 20");
        let said = tell(&mut board, joined(1));
        assert_eq!(said, Some(Line::Note("node 1 joined: 10.0.0.1 pc01 (1 of 20)".into())));
        tell(&mut board, joined(2));
        let line = "session `x`: waiting for nodes: 2 of 20 (10.0.0.1 pc01, 10.0.0.2 pc02)";
        assert_eq!(board.frame(Duration::ZERO), [line]);
        (3..=9).for_each(|n| drop(tell(&mut board, joined(n))));
        assert!(board.line(Duration::ZERO).ends_with("10.0.0.6 pc06 and 3 more)"));
        let left = tell(&mut board, Event::Left { node: NodeId(1), ready: 8, expected: 20 });
        assert_eq!(left, Some(Line::Say("node 1 left: 10.0.0.1 pc01 (8 of 20)".into())));
    }

    #[test]
    fn a_session_without_a_name_says_how_it_is_reached() {
        let mut board = Board::new("the session".into(), 1);
        let said = board.take(&ServerEvent::Nameless(vec![[10, 0, 0, 1].into()]));
        let text = "it has no name to be found by (--session): nodes need --host 10.0.0.1";
        assert_eq!(said, Some(Line::Say(text.into())));
    }

    #[test]
    fn the_slowest_counts_and_trouble_comes_first() {
        let mut board = started(3);
        board.tick(Duration::ZERO);
        tell(&mut board, progress(1, 4 << 20));
        tell(&mut board, progress(2, 1 << 20));
        let outcome = Outcome::Failed(Reason::Sink("full".into()), Offset(7));
        let said = tell(&mut board, Event::Ended { node: NodeId(3), outcome });
        let text = "node 3 10.0.0.3 pc03: FAILED at byte 7: the sink failed: full";
        assert_eq!(said, Some(Line::Say(text.into())));

        let now = Duration::from_secs(1);
        board.tick(now);
        let progress = "25 %  1 MiB of 4 MiB  1 MiB/s  3 s left";
        assert_eq!(board.line(now), format!("{progress}  slowest: node 2 10.0.0.2 pc02"));
        assert_eq!(
            board.frame(now),
            [
                format!("[#####---------------] {progress}"),
                "  3    10.0.0.3 pc03                   0 B   0 %  FAILED at byte 7: the sink failed: full"
                    .into(),
                "  2    10.0.0.2 pc02                 1 MiB  25 %  receiving".into(),
                "  1    10.0.0.1 pc01                 4 MiB 100 %  receiving".into(),
            ]
        );
    }

    #[test]
    fn what_a_node_does_is_told_once_and_shown() {
        let mut board = started(1);
        let note = |text: &str| Note { topic: topic::STAGE.into(), text: text.into() };
        let noted = |text: &str| Event::Noted { node: NodeId(1), note: note(text) };
        let said = tell(&mut board, noted("formatting"));
        assert_eq!(said, Some(Line::Note("node 1 10.0.0.1 pc01: formatting".into())));
        assert_eq!(tell(&mut board, noted("formatting")), None);
        let frame = board.frame(Duration::ZERO);
        assert_eq!(frame[0], "the files wait for who still formats: node 1 10.0.0.1 pc01");
        assert!(frame[1].ends_with("0 B   0 %  formatting"), "{frame:?}");
    }

    #[test]
    fn a_hundred_nodes_fit_on_a_terminal() {
        let board = started(100);
        let frame = board.frame(Duration::ZERO);
        assert_eq!(frame.len(), 14);
        assert_eq!(frame[13], "  and 88 more, farther on");
    }

    #[test]
    fn at_the_end_it_says_who_is_waited_for() {
        let mut board = started(2);
        for node in [1, 2] {
            tell(&mut board, Event::Complete { node: NodeId(node) });
        }
        tell(&mut board, Event::Ended { node: NodeId(1), outcome: Outcome::Ok });
        let line = "everything is sent; waiting for the sink of node 2 10.0.0.2 pc02";
        assert_eq!(board.line(Duration::ZERO), line);
        tell(&mut board, Event::Ended { node: NodeId(2), outcome: Outcome::Ok });
        tell(&mut board, Event::Released { node: NodeId(1) });
        assert_eq!(board.line(Duration::ZERO), "every node has ended; 1 of 2 are let go");
    }
}
