//! The report that people read at the end: the outcome of each node, and what to do about those that failed.

use ka_core::console::exit::Exit;
use ka_core::console::meter::average;
use ka_core::console::printer::{Styled, Tone};
use ka_core::console::units;
use ka_core::proto::{NodeReport, Report};
use ka_core::time::Instant;
use ka_core::types::NodeId;
use ka_core::wire::control::{Outcome, Reason};

use super::serving::Serving;

/// The exit status of a session that was opened. `stopped`: somebody stopped it here.
pub(crate) fn exit(report: &Report, stopped: bool) -> Exit {
    let all = || report.nodes.iter().chain([&report.root]).map(|n| &n.outcome);
    let interrupted = |o: &Outcome| matches!(o, Outcome::Failed(Reason::Interrupted(_), _));
    if report.is_ok() {
        Exit::Fine
    } else if stopped && (report.started.is_none() || all().any(interrupted)) {
        Exit::Interrupted
    } else if all().any(|o| Exit::of(o) == Exit::Source) {
        Exit::Source
    } else if failed(report) > 0
        && report.nodes.iter().all(|n| n.outcome.is_ok() || Exit::of(&n.outcome) == Exit::Sink)
    {
        Exit::Sink
    } else {
        // Somebody who stops a node takes it away, as a cable that is pulled out does.
        Exit::Lost
    }
}

/// The facts of a session that were printed as they happened, and need not be printed again in full.
pub(crate) struct Told<'a> {
    /// The origin of the stop, if the session was stopped here.
    pub(crate) stopped: Option<&'a str>,
    /// When bytes began to move, if that was seen.
    pub(crate) begun: Option<Instant>,
    /// Whether the reason why this node failed was printed.
    pub(crate) reason: &'a dyn Fn(NodeId) -> bool,
}

/// The table of nodes: those that failed are last, where people look first.
pub(crate) fn summary(report: &Report, serving: &dyn Serving, told: &Told<'_>) -> Vec<Styled> {
    let ok = report.nodes.iter().filter(|n| n.outcome.is_ok()).count();
    let mut lines = vec![headline(report, serving, told, ok).into()];
    match &report.root.outcome {
        Outcome::Ok => {}
        // It did not fail: it is not needed any more.
        Outcome::Failed(Reason::Interrupted(_), _) => {}
        Outcome::Failed(_, at) => lines.push(Tone::Bad.of(format!("  the source FAILED at byte {at}"))),
        outcome => lines.push(Tone::Bad.of(format!("  the source: {outcome}"))),
    }
    if report.root.outcome.is_ok() && report.bytes == 0 {
        lines.push("  warning: the source gave nothing".to_owned().into());
    }
    let (good, bad): (Vec<_>, Vec<_>) = report.nodes.iter().partition(|n| n.outcome.is_ok());
    for node in good.into_iter().chain(bad) {
        lines.push(line(node, report, told));
        lines.extend(
            serving.remarks(node.node).into_iter().map(|remark| format!("            {remark}").into()),
        );
    }
    lines.extend(serving.epilogue().into_iter().map(Styled::from));
    if let Some(again) = again(report, serving) {
        lines.push(format!("to try again with {}:", failed_nodes(failed(report))).into());
        lines.push(format!("  {again}").into());
    }
    lines
}

/// The command for the nodes that failed, if there are any.
pub(crate) fn again(report: &Report, serving: &dyn Serving) -> Option<String> {
    (report.started.is_some() && failed(report) > 0).then(|| serving.again(failed(report)))
}

fn failed(report: &Report) -> u32 {
    report.nodes.iter().filter(|n| !n.outcome.is_ok()).count() as u32
}

fn failed_nodes(n: u32) -> String {
    if n == 1 { "the one that failed".into() } else { format!("the {n} that failed") }
}

fn headline(report: &Report, serving: &dyn Serving, told: &Told<'_>, ok: usize) -> String {
    let name = serving.session().title();
    let (all, expected) = (report.nodes.len(), serving.session().nodes);
    let doubt = serving.doubt().map_or_else(String::new, |doubt| format!("; {doubt}"));
    let stopped = doubt + &told.stopped.map_or_else(String::new, |who| format!("; interrupted: {who}"));
    let Some(started) = report.started else {
        return format!("{name} never started: {all} of {expected} nodes came{stopped}");
    };
    let ends = report.nodes.iter().filter(|n| n.outcome.is_ok() || ok == 0).map(|n| n.ended);
    let ended = ends.max().unwrap_or(report.ended);
    let words = format!("{name}: {ok} of {} OK", units::nodes(all as u32));
    if ok == 0 {
        return format!("{words} after {}{stopped}", units::duration(ended.since(started)));
    }
    let at = |time: Instant| time.since(Instant::ZERO);
    let average = average(report.bytes, at(started), at(ended), told.begun.map(at));
    format!("{words}, {average}{stopped}")
}

fn line(node: &NodeReport, report: &Report, told: &Told<'_>) -> Styled {
    let NodeReport { node: id, addr, label, outcome, bytes, ended, .. } = node;
    let who = format!("  node {:<4} {:<24}", id.0, format!("{addr} {label}"));
    let Some(started) = report.started else { return format!("{who} waited for the others").into() };
    let time = units::duration(ended.since(started));
    match outcome {
        Outcome::Ok => Tone::Good.of(format!("{who} OK      {} in {time}", units::size(*bytes))),
        Outcome::Failed(why, at) => {
            let why = if (told.reason)(*id) { briefly(why, *id) } else { why.to_string() };
            Tone::Bad.of(format!("{who} FAILED  after {time} at byte {at}: {why}"))
        }
        _ => Tone::Doubtful.of(format!(
            "{who} UNKNOWN it was cut off when it may already have been done; look at the node itself"
        )),
    }
}

/// A reason without the words that have been said.
pub(crate) fn briefly(reason: &Reason, node: NodeId) -> String {
    match reason {
        Reason::Source(_) => "the source failed".into(),
        Reason::Sink(_) => "its sink failed".into(),
        Reason::Lost(who, _) if *who == node => "lost on the way".into(),
        Reason::Lost(who, _) => format!("lost on the way at {who}"),
        Reason::Tainted(who, _) => format!("{who} sent bytes that are not the true ones"),
        Reason::Interrupted(_) => "interrupted".into(),
        Reason::Slow(_) => "too slow".into(),
        Reason::Missing(..) => "it was away too long".into(),
        reason => reason.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli::server::{Options, Served};
    use ka_core::time::Duration;
    use ka_core::types::{Offset, SessionId};
    use ka_core::wire::control::Counters;
    use std::ffi::OsString;

    pub(crate) fn options(args: &[&str]) -> Served {
        let all = [&["ka-d-server", "-e", "tar c .", "-n", "2"], args].concat();
        Options::parse(all.into_iter().map(OsString::from)).unwrap().into()
    }

    fn node(id: u32, label: &str, outcome: Outcome, bytes: u64, ended_s: u64) -> NodeReport {
        NodeReport {
            node: NodeId(id),
            addr: ([10, 0, 0, 4 + id as u8], 30764).into(),
            label: label.into(),
            outcome,
            bytes,
            joined: Instant::ZERO + Duration::from_millis(500),
            ended: Instant::ZERO + Duration::from_secs(ended_s),
            counters: Counters::default(),
        }
    }

    /// Two nodes: the first is OK, the other's disk was full.
    pub(crate) fn report() -> Report {
        let full = Outcome::Failed(Reason::Sink("full".into()), Offset(7));
        Report {
            session: SessionId([7; 16]),
            bytes: 4 << 20,
            started: Some(Instant::ZERO + Duration::from_secs(1)),
            ended: Instant::ZERO + Duration::from_secs(3),
            root: node(0, "", Outcome::Ok, 4 << 20, 2),
            nodes: vec![node(1, "pc05", Outcome::Ok, 4 << 20, 3), node(2, "", full, 7, 2)],
        }
    }

    fn told(report: &Report, options: &Served, stopped: Option<&str>, told: bool) -> Vec<String> {
        let lines = summary(report, options, &Told { stopped, begun: None, reason: &|_| told });
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn the_table_says_what_became_of_each_and_how_to_retry() {
        let options = options(&["-s", "x", "-a", "2", "-l", "--interface", "eth0"]);
        assert_eq!(
            told(&report(), &options, None, true),
            [
                "session `x`: 1 of 2 nodes OK, 4 MiB in 2 s (2 MiB/s)",
                "  node 1    10.0.0.5:30764 pc05      OK      4 MiB in 2 s",
                "  node 2    10.0.0.6:30764           FAILED  after 1 s at byte 7: its sink failed",
                "to try again with the one that failed:",
                "  ka-d-server -n 1 -e 'tar c .' -s x -a 2 --interface eth0 -l",
            ]
        );
        let row = &told(&report(), &options, None, false)[2];
        assert!(
            row.ends_with("FAILED  after 1 s at byte 7: the sink failed: full"),
            "nobody said it yet: {row}"
        );
    }

    #[test]
    fn those_that_failed_are_last_and_are_not_in_the_rate() {
        let mut report = report();
        report.nodes.swap(0, 1);
        report.nodes[0].ended = Instant::ZERO + Duration::from_secs(60);
        report.ended = Instant::ZERO + Duration::from_secs(60);
        let lines = told(&report, &options(&["-s", "x"]), None, true);
        assert_eq!(lines[0], "session `x`: 1 of 2 nodes OK, 4 MiB in 2 s (2 MiB/s)");
        assert!(lines[1].contains("node 1") && lines[2].contains("node 2"), "{lines:?}");
    }

    #[test]
    fn a_session_that_was_stopped_says_so_once_and_who_failed_before_keeps_its_reason() {
        let mut report = report();
        let interrupted = Reason::Interrupted("Ctrl-C on the server".into());
        report.root.outcome = Outcome::Failed(interrupted.clone(), Offset(9));
        report.nodes[0].outcome = Outcome::Failed(interrupted, Offset(8));
        assert_eq!(
            told(&report, &options(&["-s", "x"]), Some("Ctrl-C on the server"), true)[..3],
            [
                "session `x`: 0 of 2 nodes OK after 2 s; interrupted: Ctrl-C on the server",
                "  node 1    10.0.0.5:30764 pc05      FAILED  after 2 s at byte 8: interrupted",
                "  node 2    10.0.0.6:30764           FAILED  after 1 s at byte 7: its sink failed",
            ]
        );
    }

    #[test]
    fn a_source_that_gave_nothing_is_a_warning() {
        let mut report = report();
        report.bytes = 0;
        let told = Told { stopped: None, begun: None, reason: &|_| false };
        assert_eq!(summary(&report, &options(&[]), &told)[1].text, "  warning: the source gave nothing");
    }

    #[test]
    fn a_retry_never_asks_for_more_than_there_are() {
        let given = options(&["--start-after", "5m", "--min-nodes", "2"]);
        assert_eq!(given.again(1), "ka-d-server -n 1 -e 'tar c .' --start-after 5m");
        assert_eq!(given.again(2), "ka-d-server -n 2 -e 'tar c .' --start-after 5m --min-nodes 2");
    }

    #[test]
    fn a_session_that_never_started() {
        let mut report = report();
        report.started = None;
        report.nodes.truncate(1);
        report.root.outcome = Outcome::Failed(Reason::Interrupted("Ctrl-C on the server".into()), Offset(0));
        assert_eq!(
            told(&report, &options(&[]), Some("Ctrl-C on the server"), true),
            [
                "the session never started: 1 of 2 nodes came; interrupted: Ctrl-C on the server",
                "  node 1    10.0.0.5:30764 pc05      waited for the others",
            ]
        );
        assert_eq!(exit(&report, true), Exit::Interrupted);
        report.root.outcome = Outcome::Ok;
        assert_eq!(exit(&report, true), Exit::Interrupted, "a short source had been read to its end");
    }

    #[test]
    fn the_exit_status_is_that_of_the_worst() {
        let mut report = report();
        assert_eq!(exit(&report, false), Exit::Sink);
        assert_eq!(exit(&report, true), Exit::Sink, "stopped when all had ended");

        // Somebody stopped that one where it runs.
        let stopped = Outcome::Failed(Reason::Interrupted("Ctrl-C on pc05".into()), Offset(7));
        report.nodes[0].outcome = stopped.clone();
        assert_eq!(exit(&report, false), Exit::Lost, "not a sink alone");
        report.nodes[1].outcome = stopped;
        // With its last node the session has nobody to read the source for.
        report.root.outcome = Outcome::Failed(Reason::Interrupted("no node is left".into()), Offset(7));
        assert_eq!(exit(&report, false), Exit::Lost, "no sink at all");
        report
            .nodes
            .iter_mut()
            .for_each(|n| n.outcome = Outcome::Failed(Reason::Sink("full".into()), Offset(7)));
        assert_eq!(exit(&report, false), Exit::Sink);
        report.root.outcome = Outcome::Ok;

        report.nodes[0].outcome = Outcome::Unknown;
        assert_eq!(exit(&report, false), Exit::Lost);
        report.root.outcome = Outcome::Failed(Reason::Source("x".into()), Offset(0));
        assert_eq!(exit(&report, false), Exit::Source);
        report.nodes[1].outcome = Outcome::Failed(Reason::Interrupted("x".into()), Offset(0));
        assert_eq!(exit(&report, true), Exit::Interrupted);
        assert_eq!(exit(&report, false), Exit::Source, "a node was stopped, not the session");

        report.root.outcome = Outcome::Ok;
        report.nodes.iter_mut().for_each(|n| n.outcome = Outcome::Ok);
        assert_eq!(exit(&report, true), Exit::Fine);
    }
}
