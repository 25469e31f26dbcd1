//! The notes that the nodes send: their stages, what they changed on purpose, and their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ka_core::console::units;
use ka_core::proto::Event;
use ka_core::types::NodeId;
use ka_desc::manifest::{About, NodeState, Stage, topic};

use super::claims::Claims;
use super::logs::{Fits, Logs, Room};

/// Intended differences, and warnings, of one node that are kept.
const REMARKS_PER_NODE: usize = 100;

/// Different texts of intended differences that are kept.
const CHANGES: usize = 1000;

/// Nodes that are kept for all of these texts together.
const CHANGED_NODES: usize = 1 << 20;

/// Bytes of all nodes' warnings that are kept.
const WARNINGS_BYTES: usize = 16 << 20;

/// Nodes that left before the start and are listed.
const LEFT: usize = 100;

/// All nodes of a session.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// The writer of logs, and its folder.
    logs: Option<(Logs, PathBuf)>,
    room: Room,
    nodes: BTreeMap<NodeId, Node>,
    claims: Claims,
    changes: Changes,
    warnings_bytes: usize,
    /// Remarks of nodes that were not kept.
    left_out: usize,
    /// The remarks on the golden node's files: how still they were.
    files: Vec<String>,
}

#[derive(Debug, Default)]
struct Node {
    label: String,
    stage: Option<Stage>,
    /// Intended differences that were kept.
    changed: usize,
    warnings: Vec<String>,
    /// The file systems whose used blocks it can write.
    partclone: Vec<String>,
    logged: bool,
    ok: Option<bool>,
    /// The node left before the session started.
    left: bool,
}

impl Nodes {
    /// From now on each node's log is kept in this directory.
    pub(super) fn keep_logs(&mut self, logs: Logs, folder: PathBuf) {
        self.logs = Some((logs, folder));
    }

    /// Something to know of the golden node's files, such as how still they are while they are read.
    pub(super) fn remark(&mut self, text: String) {
        self.files.push(text);
    }

    /// Takes in what happened, and returns what people should know of it. A log that cannot be written stops nothing.
    pub(super) fn hear(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Joined { node, label, about, .. } => {
                let known = self.nodes.entry(*node).or_default();
                known.label.clone_from(label);
                known.left = false;
                return self.claims.joined(*node, About::from_bytes(about).macs);
            }
            Event::Left { node, .. } => {
                self.claims.left(*node);
                self.log(*node, "== it left before the session started");
                self.nodes.entry(*node).or_default().left = true;
            }
            Event::Ended { node, outcome } => {
                self.log(*node, &format!("== {outcome}"));
                self.nodes.entry(*node).or_default().ok = Some(outcome.is_ok());
            }
            Event::State { node, state } => {
                let state = NodeState::from_bytes(state)?;
                let known = self.nodes.entry(*node).or_default();
                known.partclone = state.partclone.unwrap_or_default();
                if known.stage.replace(state.stage) != Some(state.stage) {
                    self.log(*node, &format!("-- {}", state.stage));
                }
            }
            Event::Noted { node, note } => {
                let known = self.nodes.entry(*node).or_default();
                match note.topic.as_str() {
                    topic::CHANGED => {
                        if known.changed < REMARKS_PER_NODE && self.changes.add(*node, &note.text) {
                            known.changed += 1;
                        } else {
                            self.left_out += 1;
                        }
                        self.log(*node, &note.text);
                    }
                    topic::WARNING => {
                        let warning = format!("warning: {}", note.text);
                        let bytes = self.warnings_bytes + warning.len();
                        if known.warnings.len() < REMARKS_PER_NODE && bytes <= WARNINGS_BYTES {
                            known.warnings.push(warning.clone());
                            self.warnings_bytes = bytes;
                        } else {
                            self.left_out += 1;
                        }
                        self.log(*node, &warning);
                    }
                    topic::LOG => self.log(*node, &note.text),
                    _ => {}
                }
            }
            _ => {}
        }
        None
    }

    fn log(&mut self, node: NodeId, line: &str) {
        let Some((logs, folder)) = &self.logs else { return };
        if let Some(known) = self.nodes.get_mut(&node).filter(|_| node != NodeId::ROOT) {
            let line = match self.room.take(node, line) {
                Fits::Yes => line,
                Fits::NoMore => {
                    "== further lines are left out: there is no room for more in the logs of the session"
                }
                Fits::No => return,
            };
            known.logged = true;
            let plain = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
            let label: String = known.label.chars().filter(plain).collect();
            logs.line(folder.join(format!("node-{}-{label}.log", node.0)), line.to_owned());
        }
    }

    /// Which of those that are left cannot write the used blocks of this file system.
    pub(super) fn lack(&self, fs: &str) -> Vec<String> {
        let lacks =
            |known: &Node| known.ok.is_none() && !known.left && !known.partclone.iter().any(|can| can == fs);
        let lacking = self.nodes.iter().filter(|(node, known)| **node != NodeId::ROOT && lacks(known));
        lacking.map(|(node, known)| format!("{node} {}", known.label)).collect()
    }

    /// Returns the remarks on a node for the end of the session.
    pub(super) fn remarks(&self, node: NodeId) -> Vec<String> {
        let Some(known) = self.nodes.get(&node) else { return Vec::new() };
        let mut remarks = match (known.ok, known.stage) {
            (Some(true), _) => known.warnings.clone(),
            (_, Some(stage)) => vec![format!("it was {stage} when it stopped")],
            (_, None) => vec!["it had not begun".into()],
        };
        remarks.extend(self.claims.conflict(node).map(|text| format!("warning: {text}")));
        remarks
    }

    /// Returns why the number of nodes may not be that of machines.
    pub(super) fn doubt(&self) -> Option<String> {
        self.claims.doubt()
    }

    /// Returns the remarks on all nodes for the end of the session.
    pub(super) fn epilogue(&self) -> Vec<String> {
        let left = || self.nodes.iter().filter(|(_, known)| known.left);
        let mut lines: Vec<String> = left()
            .take(LEFT)
            .map(|(node, known)| {
                let stage = known.stage.unwrap_or(Stage::Gathering);
                format!("{node} {}: it left before the session started ({stage})", known.label)
            })
            .collect();
        if let Some(more @ 1..) = left().count().checked_sub(LEFT) {
            lines.push(format!("{more} more left before the session started"));
        }
        if !self.files.is_empty() {
            lines.push("what clones are copies of:".into());
            lines.extend(self.files.iter().map(|text| format!("  {text}")));
        }
        let changes = self.changes.all();
        if !changes.is_empty() {
            lines.push("what clones have otherwise than the golden node, on purpose:".into());
            lines.extend(
                changes.iter().map(|(text, nodes)| format!("  {text} ({})", units::nodes(*nodes as u32))),
            );
        }
        if let Some((logs, folder)) =
            self.logs.as_ref().filter(|_| self.nodes.values().any(|node| node.logged))
        {
            logs.finish();
            lines.push(format!("the nodes' logs are in {}", folder.display()));
        }
        if self.room.left_out() > 0 {
            lines.push(format!(
                "{} lines of logs are left out: nodes said more than there is room for",
                self.room.left_out()
            ));
        }
        if self.left_out > 0 {
            lines.push(format!(
                "{} remarks of nodes are left out: they are more than are kept",
                self.left_out
            ));
        }
        lines
    }
}

/// The intended differences, each with the nodes that have it.
#[derive(Debug, Default)]
struct Changes {
    /// By their texts; each has its place among them.
    texts: BTreeMap<String, (usize, BTreeSet<NodeId>)>,
    /// The nodes of all texts together.
    nodes: usize,
}

impl Changes {
    /// Keeps that this node has it, and says whether there was room for that.
    fn add(&mut self, node: NodeId, text: &str) -> bool {
        if self.nodes == CHANGED_NODES {
            return false;
        }
        if !self.texts.contains_key(text) {
            if self.texts.len() == CHANGES {
                return false;
            }
            self.texts.insert(text.to_owned(), (self.texts.len(), BTreeSet::new()));
        }
        if let Some((_, nodes)) = self.texts.get_mut(text) {
            self.nodes += usize::from(nodes.insert(node));
        }
        true
    }

    /// All of them, in the order in which they were first heard, and by how many nodes.
    fn all(&self) -> Vec<(&str, usize)> {
        let mut all: Vec<_> = self.texts.iter().collect();
        all.sort_unstable_by_key(|(_, (place, _))| *place);
        all.into_iter().map(|(text, (_, nodes))| (text.as_str(), nodes.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use ka_core::types::Offset;
    use ka_core::wire::control::{Note, Outcome, Reason};

    use std::fs;

    use super::*;

    fn note(topic: &str, text: &str) -> Event {
        Event::Noted { node: NodeId(1), note: Note { topic: topic.into(), text: text.into() } }
    }

    fn state(stage: Stage, partclone: Option<&[&str]>) -> Event {
        let partclone = partclone.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        Event::State { node: NodeId(1), state: NodeState { stage, partclone }.to_bytes() }
    }

    fn joined(node: u32, label: &str) -> Event {
        let (addr, label) = (([10, 0, 0, 1], 1).into(), label.into());
        Event::Joined { node: NodeId(node), addr, label, about: Vec::new(), ready: 1, expected: 1 }
    }

    #[test]
    fn a_node_that_failed_is_told_with_its_stage_and_its_log_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut nodes = Nodes::default();
        let logs = Logs::start().unwrap();
        nodes.keep_logs(logs.clone(), folder.path().join("logs"));
        nodes.hear(&joined(1, "pc/../05"));
        let formatting = state(Stage::Formatting, None);
        let nonsense = Event::State { node: NodeId(1), state: b"nonsense".to_vec() };
        for event in [formatting.clone(), formatting, nonsense, note("log", "mkfs"), note("x", "y")] {
            nodes.hear(&event);
        }
        let outcome = Outcome::Failed(Reason::Sink("full".into()), Offset(7));
        nodes.hear(&Event::Ended { node: NodeId(1), outcome });
        assert_eq!(nodes.remarks(NodeId(1)), ["it was formatting when it stopped"]);
        logs.finish();
        let log = fs::read_to_string(folder.path().join("logs/node-1-pc05.log")).unwrap();
        let lines: Vec<_> = log.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
        assert_eq!(lines, ["-- formatting", "mkfs", "== FAILED at byte 7: the sink failed: full"]);
    }

    #[test]
    fn used_blocks_are_for_those_who_all_have_partclone() {
        let mut nodes = Nodes::default();
        for node in 1..=3 {
            nodes.hear(&joined(node, &format!("pc{node}")));
        }
        nodes.hear(&state(Stage::Gathering, Some(&["ntfs", "vfat"])));
        let outcome = Outcome::Failed(Reason::Sink("full".into()), Offset(7));
        nodes.hear(&Event::Ended { node: NodeId(2), outcome });
        assert_eq!(nodes.lack("ntfs"), ["node 3 pc3"]);
        assert_eq!(nodes.lack("xfs"), ["node 1 pc1", "node 3 pc3"]);
    }

    #[test]
    fn what_nodes_changed_is_told_once() {
        let mut nodes = Nodes::default();
        let said = |node, text: &str| match note("changed", text) {
            Event::Noted { note, .. } => Event::Noted { node: NodeId(node), note },
            event => event,
        };
        for (node, text) in
            [(1, "no swap"), (1, "a new machine-id"), (2, "a new machine-id"), (2, "a new machine-id")]
        {
            nodes.hear(&said(node, text));
        }
        assert_eq!(nodes.changes.all(), [("no swap", 1), ("a new machine-id", 2)]);
    }

    #[test]
    fn what_liars_remark_is_bounded_and_what_is_left_out_is_told() {
        let mut nodes = Nodes::default();
        let noted = |node, topic: &str, text: String| Event::Noted {
            node: NodeId(node),
            note: Note { topic: topic.into(), text },
        };
        for node in 1..=500 {
            nodes.hear(&joined(node, "liar"));
            nodes.hear(&Event::Left { node: NodeId(node), ready: 0, expected: 1 });
            for n in 0..150 {
                nodes.hear(&noted(node, "changed", format!("{node} {n}")));
                nodes.hear(&noted(node, "warning", format!("{n} {}", "x".repeat(1000))));
            }
        }
        assert_eq!(nodes.changes.all().len(), CHANGES);
        let kept: usize = nodes.nodes.values().flat_map(|node| &node.warnings).map(String::len).sum();
        assert!(kept <= WARNINGS_BYTES, "{kept} bytes");
        let said = nodes.epilogue();
        assert!(said.contains(&"400 more left before the session started".to_owned()), "{said:?}");
        let left_out =
            500 * 150 * 2 - CHANGES - nodes.nodes.values().map(|node| node.warnings.len()).sum::<usize>();
        assert!(said.last().unwrap().starts_with(&format!("{left_out} remarks of nodes are left out")));
        // What an honest node says in common with others finds its place all the same.
        nodes.hear(&noted(1000, "changed", "1 0".into()));
        assert_eq!(nodes.changes.all()[0], ("1 0", 2));
    }
}
