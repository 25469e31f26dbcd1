//! What people read at the end: what became of each node, and what to do about those that failed.

use ka_client::console::exit::Exit;
use ka_client::console::units;
use ka_core::proto::{NodeReport, Report};
use ka_core::wire::control::{Outcome, Reason};

use crate::session::Serving;

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

/// The table of nodes.
pub(crate) fn summary(report: &Report, serving: &dyn Serving) -> Vec<String> {
    let ok = report.nodes.iter().filter(|n| n.outcome.is_ok()).count();
    let mut lines = vec![headline(report, serving, ok)];
    if !report.root.outcome.is_ok() {
        lines.push(format!("  source: {}", report.root.outcome));
    } else if report.bytes == 0 {
        lines.push("  warning: the source gave nothing".into());
    }
    for node in &report.nodes {
        lines.push(line(node, report));
        lines.extend(serving.remarks(node.node).into_iter().map(|remark| format!("            {remark}")));
    }
    lines.extend(serving.epilogue());
    if let Some(again) = again(report, serving) {
        lines.push(format!("to try again with {}:", failed_nodes(failed(report))));
        lines.push(format!("  {again}"));
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

fn headline(report: &Report, serving: &dyn Serving, ok: usize) -> String {
    let name = serving.session().title();
    let Some(started) = report.started else {
        return format!(
            "{name} never started: {} of {} nodes came",
            report.nodes.len(),
            serving.session().nodes
        );
    };
    let time = report.ended.since(started);
    let rate = (report.bytes as f64 / time.as_secs_f64().max(0.001)) as u64;
    format!(
        "{name}: {ok} of {} OK, {} in {} ({})",
        units::nodes(report.nodes.len() as u32),
        units::size(report.bytes),
        units::duration(time),
        units::rate(rate)
    )
}

fn line(node: &NodeReport, report: &Report) -> String {
    let NodeReport { node: id, addr, label, outcome, bytes, ended, .. } = node;
    let who = format!("  node {:<4} {:<24}", id.0, format!("{addr} {label}"));
    match outcome {
        Outcome::Ok => {
            let time = ended.since(report.started.unwrap_or(*ended));
            format!("{who} OK      {} in {}", units::size(*bytes), units::duration(time))
        }
        Outcome::Failed(why, at) => format!("{who} FAILED  at byte {at}: {why}"),
        _ => format!(
            "{who} UNKNOWN it was cut off when it may already have been done; look at the node itself"
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ffi::OsString;

    use ka_core::time::{Duration, Instant};
    use ka_core::types::{NodeId, Offset, SessionId};
    use ka_core::wire::control::Counters;

    use super::*;
    use crate::cli::Options;

    pub(crate) fn options(args: &[&str]) -> Options {
        let all = [&["ka-d-server", "-e", "tar c .", "-n", "2"], args].concat();
        Options::parse(all.into_iter().map(OsString::from)).unwrap()
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

    #[test]
    fn the_table_says_what_became_of_each_and_how_to_retry() {
        assert_eq!(
            summary(&report(), &options(&["-s", "x", "-a", "2", "-l", "--interface", "eth0"])),
            [
                "session `x`: 1 of 2 nodes OK, 4 MiB in 2 s (2 MiB/s)",
                "  node 1    10.0.0.5:30764 pc05      OK      4 MiB in 2 s",
                "  node 2    10.0.0.6:30764           FAILED  at byte 7: the sink failed: full",
                "to try again with the one that failed:",
                "  ka-d-server -n 1 -e 'tar c .' -s x -a 2 --interface eth0 -l",
            ]
        );
    }

    #[test]
    fn a_source_that_gave_nothing_is_a_warning() {
        let mut report = report();
        report.bytes = 0;
        assert_eq!(summary(&report, &options(&[]))[1], "  warning: the source gave nothing");
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
        report.nodes.clear();
        report.root.outcome = Outcome::Failed(Reason::Interrupted("Ctrl-C on the server".into()), Offset(0));
        assert_eq!(
            summary(&report, &options(&[])),
            [
                "the session never started: 0 of 2 nodes came",
                "  source: FAILED at byte 0: interrupted: Ctrl-C on the server",
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
