//! The progress of a session: a line for a log, and for a terminal a table with its summary below.

use std::time::Duration;

use ka_core::console::meter::Total;
use ka_core::console::printer::{Size, Styled, fitted, width};
use ka_core::console::units;
use ka_core::types::NodeId;
use ka_desc::manifest::Stage;

use super::board::Board;
use super::row::{Row, Urgency};

/// Nodes that one line names at most.
const NAMES: usize = 6;

/// Lines of a terminal that are left to what is said, if it has [`ROWS`].
const SAID: usize = 3;

/// A terminal with fewer rows has none to spare.
const ROWS: usize = 12;

/// A terminal with fewer columns has no place for sizes and bars.
const COLUMNS: usize = 60;

impl Board {
    /// Returns the progress of the session, for a log.
    pub(crate) fn line(&self, now: Duration) -> String {
        if !self.started {
            let here = names(self.nodes.values().map(|row| row.who.clone()));
            let here = if here.is_empty() { here } else { format!(" ({here})") };
            let (now, all) = (self.nodes.len(), self.expected);
            return format!("{}: waiting for nodes: {now} of {all}{here}", self.title);
        }
        match self.waits_for() {
            Some(what) => what,
            None => {
                let slowest = self.slowest().map_or_else(String::new, |(node, _)| self.name(*node));
                format!("{}  slowest: {slowest}", self.progress(now))
            }
        }
    }

    /// The same for a terminal of this size, with the nodes that matter most. `hint`: what can be done while it waits for
    /// nodes.
    pub(crate) fn frame(&self, now: Duration, size: Size, hint: &str) -> Vec<Styled> {
        let summary = match self.waits_for() {
            // What counts first: a terminal may be narrow.
            _ if !self.started => {
                format!("{} of {} nodes are in{hint} ({})", self.nodes.len(), self.expected, self.title)
            }
            Some(what) => what,
            None => {
                let slowest = self.slowest().filter(|_| size.columns >= COLUMNS);
                let bar = slowest.and_then(|(_, row)| self.total().bar(row.sunk));
                bar.map_or_else(String::new, |bar| bar + " ") + &self.progress(now)
            }
        };
        let spared = if size.rows >= ROWS { SAID } else { 0 };
        let mut lines = self.rows(size, size.lines().saturating_sub(1 + spared));
        lines.push(summary.into());
        lines
    }

    /// The nodes as a table of so many lines, trouble first. Those that are shown keep their places.
    fn rows(&self, size: Size, lines: usize) -> Vec<Styled> {
        let mut all: Vec<_> = self.nodes.iter().collect();
        all.sort_by_key(|(_, row)| row.urgency());
        let fit = if all.len() > lines { lines.saturating_sub(1) } else { all.len() };
        let (shown, more) = all.split_at_mut(fit);
        shown.sort_by_key(|(node, row)| (row.urgency().0, **node));
        // The longest name decides, up to a third of the terminal.
        let columns = shown.iter().map(|(_, row)| width(&row.who)).max().unwrap_or(0).min(size.columns / 3);
        let line = |(node, row): &(&NodeId, &Row)| row.tone().of(self.row(**node, row, columns, size));
        let mut table: Vec<Styled> = shown.iter().map(line).collect();
        if !more.is_empty() && lines > 0 {
            let failed = more.iter().filter(|(_, row)| row.urgency().0 == Urgency::Failed).count();
            let failed = if failed > 0 { format!(", {failed} of them FAILED") } else { String::new() };
            table.push(format!("  and {} more{failed}", more.len()).into());
        }
        table
    }

    fn row(&self, node: NodeId, row: &Row, columns: usize, size: Size) -> String {
        let who = fitted(&row.who, columns);
        let pad = " ".repeat(columns - width(&who));
        let total = self.total();
        let share = match row.urgency().0 {
            // Its last word of how far it is may be older than its end.
            Urgency::Ok => Some("100 %".into()),
            _ => total.share(row.sunk),
        };
        let share = match share {
            Some(share) if self.started => format!("{share:>7}"),
            _ => String::new(),
        };
        let sunk = match (self.started && size.columns >= COLUMNS, row.urgency().0) {
            (true, Urgency::Ok) => format!("{:>10}", ""),
            (true, _) => format!("{:>10}", units::size(row.sunk)),
            (false, _) => String::new(),
        };
        format!("  {:<3} {who}{pad}{sunk}{share}  {}", node.0, row.state(node, self.started))
    }

    /// Returns the size of all streams, as far as it is known.
    fn total(&self) -> Total {
        self.totals.iter().fold(Total::Known(0), |all, total| all.and(*total))
    }

    fn progress(&self, now: Duration) -> String {
        let sunk = self.slowest().map_or(0, |(_, row)| row.sunk);
        self.total().progress(sunk, self.meter.pace(now))
    }

    /// The node that the others will have to wait for. Who is served after the others counts once these are done.
    pub(crate) fn slowest(&self) -> Option<(&NodeId, &Row)> {
        let least = |which: fn(&Row) -> bool| {
            self.nodes.iter().filter(move |(_, row)| which(row)).min_by_key(|(_, row)| row.sunk)
        };
        least(Row::counts).or_else(|| least(Row::comes_later))
    }

    /// Whether the files are read: then nobody waits any more for those that still format.
    fn files_flow(&self) -> bool {
        let before = self.totals.iter().map_while(|total| match total {
            Total::Known(bytes) => Some(*bytes),
            _ => None,
        });
        self.read > before.sum()
    }

    /// Returns what is waited for, if it is not that nodes get their bytes.
    fn waits_for(&self) -> Option<String> {
        let named = |which: fn(&Row) -> bool| {
            let some = self.nodes.iter().filter(|(_, row)| which(row));
            Some(names(some.map(|(node, _)| self.name(*node)))).filter(|names| !names.is_empty())
        };
        if self.nodes.values().any(|row| row.counts() && row.is_under_way() || row.comes_later()) {
            let formats = named(|row| row.counts() && row.stage() == Some(Stage::Formatting))?;
            return (!self.files_flow()).then(|| format!("the files wait for who still formats: {formats}"));
        }
        if let Some(away) = named(Row::is_under_way) {
            return Some(format!("waiting for who is not heard: {away}"));
        }
        if let Some(open) = named(|row| !row.has_ended()) {
            return Some(format!("everything is sent; waiting for the sink of {open}"));
        }
        let gone = self.nodes.values().filter(|row| row.released).count();
        Some(format!("every node has ended; {gone} of {} are let go", self.nodes.len()))
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
