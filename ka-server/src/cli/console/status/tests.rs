//! Tests of what a board prints, and of what it shows.

use ka_core::console::printer::{Size, Styled, Tone, width};
use ka_core::tape::chain::StreamInfo;
use ka_core::types::Offset;
use ka_core::wire::control::Progress;
use proptest::prelude::*;

use super::*;
use ka_core::console::meter::Total;
use ka_core::console::reporter::Line;
use ka_core::net::ServerEvent;
use ka_core::proto::Event;
use ka_core::types::NodeId;
use ka_core::wire::control::Outcome;
use ka_core::wire::control::Reason;
use ka_desc::manifest::{NodeState, Stage};
use std::time::Duration;

const USUAL: Size = Size { columns: 80, rows: 24 };

fn joined(node: u32) -> Event {
    Event::Joined {
        node: NodeId(node),
        addr: ([10, 0, 0, node as u8], 30764).into(),
        label: format!("pc{node:02}"),
        about: Vec::new(),
        ready: node,
        expected: 20,
    }
}

fn progress(node: u32, sunk: u64) -> Event {
    let (received, sunk) = (Offset(sunk), Offset(sunk));
    Event::Progress { node: NodeId(node), progress: Progress { received, sunk, ..Progress::default() } }
}

fn stage(node: u32, stage: Stage) -> Event {
    Event::State { node: NodeId(node), state: NodeState { stage, partclone: None }.to_bytes() }
}

fn ended(node: u32, outcome: Outcome) -> Event {
    Event::Ended { node: NodeId(node), outcome }
}

fn failed(node: u32, reason: Reason) -> Event {
    ended(node, Outcome::Failed(reason, Offset(7)))
}

fn suspected(node: u32, why: &str) -> Event {
    Event::Suspected { node: NodeId(node), why: why.into() }
}

fn tell(board: &mut Board, event: Event) -> Option<Line> {
    board.take(&ServerEvent::Session(event))
}

fn says(text: &str) -> Option<Line> {
    Some(Line::Say(text.into()))
}

fn started(nodes: u32) -> Board {
    let mut board = Board::new("session `x`".into(), 20);
    for node in 1..=nodes {
        tell(&mut board, joined(node));
    }
    tell(&mut board, Event::Started { nodes });
    board.expect(vec![Total::Unknown]);
    let info = StreamInfo { number: 0, name: "f".into(), metadata: Vec::new(), size: Some(40 << 20) };
    board.take(&ServerEvent::Stream(info));
    for node in 1..=nodes {
        tell(&mut board, Event::Linked { node: NodeId(node), parent: NodeId(node - 1) });
    }
    board
}

/// Node 2 takes a mebibyte per second, node 1 all at once, for ten seconds.
fn runs(board: &mut Board) -> Duration {
    tell(board, progress(1, 40 << 20));
    for tick in 0..=50 {
        tell(board, progress(2, (tick << 20) / 5));
        board.tick(Duration::from_millis(200 * tick));
    }
    Duration::from_secs(10)
}

fn frame(board: &Board, now: Duration, size: Size) -> Vec<String> {
    board.frame(now, size, "; press g").into_iter().map(|line| line.text).collect()
}

#[test]
fn who_is_here_while_it_waits() {
    let mut board = Board::new("session `x`".into(), 20);
    assert_eq!(board.line(Duration::ZERO), "session `x`: waiting for nodes: 0 of 20");
    let said = tell(&mut board, joined(1));
    assert_eq!(said, Some(Line::Note("node 1 joined: 10.0.0.1 pc01 (1 of 20)".into())));
    tell(&mut board, joined(2));
    let line = "session `x`: waiting for nodes: 2 of 20 (10.0.0.1 pc01, 10.0.0.2 pc02)";
    assert_eq!(board.line(Duration::ZERO), line);
    let here = ["  1   10.0.0.1 pc01  is in", "  2   10.0.0.2 pc02  is in"];
    let summary = "2 of 20 nodes are in; press g (session `x`)";
    assert_eq!(frame(&board, Duration::ZERO, USUAL), [here[0], here[1], summary]);
    (3..=9).for_each(|n| drop(tell(&mut board, joined(n))));
    assert!(board.line(Duration::ZERO).ends_with("10.0.0.6 pc06 and 3 more)"));
    let left = tell(&mut board, Event::Left { node: NodeId(1), ready: 8, expected: 20 });
    assert_eq!(left, says("node 1 left: 10.0.0.1 pc01 (8 of 20)"));
    assert_eq!(tell(&mut board, Event::Started { nodes: 8 }), says("started with 8 of 20 nodes"));
    let late = tell(&mut board, joined(10));
    assert_eq!(late, Some(Line::Note("node 10 joined late: 10.0.0.10 pc10".into())));
}

#[test]
fn the_slowest_counts_trouble_comes_first_and_the_summary_last() {
    let mut board = started(3);
    let text = "node 3 10.0.0.3 pc03: FAILED at byte 7: the sink failed: full";
    assert_eq!(tell(&mut board, failed(3, Reason::Sink("full".into()))), says(text));
    let now = runs(&mut board);
    let progress = "25 %  10 MiB of 40 MiB  1 MiB/s  30 s left";
    assert_eq!(board.line(now), format!("{progress}  slowest: node 2 10.0.0.2 pc02"));
    let rows = [
        "  3   10.0.0.3 pc03       0 B    0 %  FAILED: its sink failed",
        "  1   10.0.0.1 pc01    40 MiB  100 %  receiving",
        "  2   10.0.0.2 pc02    10 MiB   25 %  receiving",
    ];
    let table = board.frame(now, USUAL, "");
    let text: Vec<&str> = table.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(text, [rows[0], rows[1], rows[2], &format!("[#####---------------] {progress}")]);
    assert_eq!((table[0].tone, table[1].tone), (Tone::Bad, Tone::Plain));
}

#[test]
fn when_it_is_another_one_that_counts_it_is_measured_anew() {
    let mut board = started(3);
    tell(&mut board, progress(3, 0));
    let now = runs(&mut board);
    assert!(!board.line(now).contains("/s"), "node 3 has not moved: {}", board.line(now));
    tell(&mut board, suspected(3, "it is silent"));
    board.tick(now);
    let line = board.line(now);
    assert!(line.starts_with("25 %  10 MiB of 40 MiB  slowest: node 2"), "a jump is no rate: {line}");
}

#[test]
fn before_anything_moves_no_rate_and_no_time() {
    let mut board = started(2);
    for second in 0..600 {
        let now = Duration::from_secs(second);
        board.tick(now);
        let line = board.line(now);
        assert!(line.starts_with("0 %  0 B of 40 MiB  slowest") && !line.contains("left"), "{line}");
    }
}

#[test]
fn what_a_node_does_is_told_once_and_shown_until_its_end() {
    let mut board = started(2);
    let said = tell(&mut board, stage(1, Stage::Formatting));
    assert_eq!(said, Some(Line::Note("node 1 10.0.0.1 pc01: formatting".into())));
    assert_eq!(tell(&mut board, stage(1, Stage::Formatting)), None);
    let slow = Event::Slow { node: NodeId(1), why: "its sink has taken nothing for 5 s".into() };
    assert_eq!(tell(&mut board, slow), None, "it formats");
    let waits = "the files wait for who still formats: node 1 10.0.0.1 pc01";
    assert_eq!(board.line(Duration::ZERO), waits);
    let shown = frame(&board, Duration::ZERO, USUAL);
    assert!(shown[0].ends_with("0 B    0 %  formatting") && shown[2] == waits, "{shown:?}");
    // Its time was over; the others get the files, which come behind the plan.
    board.expect(vec![Total::Known(2000), Total::About(40 << 20)]);
    tell(&mut board, stage(2, Stage::Streaming));
    tell(&mut board, progress(0, 2000));
    assert_eq!(board.line(Duration::ZERO), waits, "the sink is open, and nothing comes");
    tell(&mut board, progress(0, 2001));
    assert!(!board.line(Duration::ZERO).contains("wait"), "{}", board.line(Duration::ZERO));
    tell(&mut board, failed(1, Reason::Sink("mkfs".into())));
    for event in [stage(1, Stage::Formatting), Event::Complete { node: NodeId(1) }, suspected(1, "gone")] {
        assert_eq!(tell(&mut board, event), None);
    }
    let shown = frame(&board, Duration::ZERO, USUAL);
    assert!(shown[0].ends_with("FAILED: its sink failed"), "{shown:?}");
}

#[test]
fn a_failure_is_told_once_wherever_its_reason_was_told() {
    let mut board = started(5);
    let name = |node: u32| format!("node {node} 10.0.0.{node} pc0{node}");
    let away = format!("{}: it is silent; the others go on without it", name(1));
    assert_eq!(tell(&mut board, suspected(1, "it is silent")), says(&away));
    let lost = failed(1, Reason::Lost(NodeId(1), "it is silent".into()));
    assert_eq!(tell(&mut board, lost), says(&format!("{} did not come back: FAILED at byte 7", name(1))));
    // What became of the source is told of the source.
    let source = Reason::Source("`tar` ended with exit status 2".into());
    let text = "the source: FAILED at byte 7: the source failed: `tar` ended with exit status 2";
    assert_eq!(tell(&mut board, failed(0, source.clone())), says(text));
    assert_eq!(tell(&mut board, Event::Complete { node: NodeId::ROOT }), None, "it has not read everything");
    assert_eq!(tell(&mut board, failed(2, source)), None);
    let mut other = started(1);
    let idle = tell(&mut other, failed(0, Reason::Interrupted("no node is left".into())));
    assert_eq!(idle, says("the source is read no further: no node is left"), "it did not fail");
    // That it was stopped here was said when it was; of another node it is news.
    let interrupted = |who: &str| Reason::Interrupted(who.into());
    let text = format!("{}: FAILED at byte 7: interrupted: Ctrl-C on pc03", name(3));
    assert_eq!(tell(&mut board, failed(3, interrupted("Ctrl-C on pc03"))), says(&text));
    board.stop();
    assert_eq!(tell(&mut board, failed(4, interrupted("Ctrl-C on the server"))), None);
    assert!((1..=4).all(|node| board.has_told(NodeId(node))) && !board.has_told(NodeId(5)));
    assert_eq!(tell(&mut board, ended(5, Outcome::Unknown)), says(&format!("{}: UNKNOWN", name(5))));
}

#[test]
fn files_are_an_estimate() {
    let mut board = started(1);
    board.expect(vec![Total::Known(2000), Total::About(4 << 20), Total::Known(100)]);
    tell(&mut board, progress(1, 5 << 20));
    let line = board.line(Duration::ZERO);
    assert!(line.starts_with("~99 %  5 MiB, more than the 4.0 MiB expected"), "{line}");
    assert!(frame(&board, Duration::ZERO, USUAL)[0].contains(" ~99 %  receiving"));
    tell(&mut board, ended(1, Outcome::Ok));
    assert!(frame(&board, Duration::ZERO, USUAL)[0].contains(" 100 %  OK"));
}

#[test]
fn at_the_end_it_says_who_is_waited_for() {
    let mut board = started(3);
    tell(&mut board, suspected(3, "it is silent"));
    for node in [1, 2] {
        tell(&mut board, Event::Complete { node: NodeId(node) });
    }
    assert_eq!(board.line(Duration::ZERO), "waiting for who is not heard: node 3 10.0.0.3 pc03");
    tell(&mut board, failed(3, Reason::Lost(NodeId(3), "it is silent".into())));
    tell(&mut board, ended(1, Outcome::Ok));
    let line = "everything is sent; waiting for the sink of node 2 10.0.0.2 pc02";
    assert_eq!(board.line(Duration::ZERO), line);
    tell(&mut board, ended(2, Outcome::Ok));
    tell(&mut board, Event::Released { node: NodeId(1) });
    assert_eq!(board.line(Duration::ZERO), "every node has ended; 1 of 3 are let go");
}

#[test]
fn a_hundred_nodes_fit_on_any_terminal() {
    let mut board = started(100);
    (1..=30).for_each(|node| drop(tell(&mut board, failed(node, Reason::Sink("full".into())))));
    let shown = frame(&board, Duration::ZERO, USUAL);
    assert_eq!((shown.len(), shown[18].as_str()), (20, "  and 82 more, 12 of them FAILED"));
    let shown = frame(&board, Duration::ZERO, Size { columns: 200, rows: 60 });
    assert_eq!((shown.len(), shown[54].as_str()), (56, "  and 46 more"));
    assert_eq!(frame(&board, Duration::ZERO, Size { columns: 200, rows: 200 }).len(), 101, "all of them");
    let shown = frame(&board, Duration::ZERO, Size { columns: 40, rows: 8 });
    assert_eq!((shown.len(), shown[0].as_str()), (7, "  1   10.0.0.1 pc01    0 %  FAILED: its sink failed"));
}

proptest! {
    #[test]
    fn no_frame_is_higher_than_the_terminal_and_columns_stand_below_each_other(
        nodes in 0_u32..40,
        columns in 1_usize..120,
        rows in 1_usize..60,
        label in "[a-z山é\u{301}🖥]{0,60}",
    ) {
        let mut board = Board::new("session `x`".into(), 20);
        for node in 1..=nodes {
            let Event::Joined { node, addr, ready, expected, .. } = joined(node) else { unreachable!() };
            let label = if node.0 % 2 == 0 { label.clone() } else { "pc".into() };
            tell(&mut board, Event::Joined { node, addr, label, about: Vec::new(), ready, expected });
        }
        let lines = board.frame(Duration::ZERO, Size { columns, rows }, "");
        prop_assert!(lines.len() < rows.max(2));
        prop_assert!(lines.last().is_some_and(|line: &Styled| line.text.ends_with("nodes are in (session `x`)")));
        let at: Vec<_> = lines.iter().filter_map(|line| line.text.rfind("  is in").map(|at| width(&line.text[..at]))).collect();
        prop_assert!(at.windows(2).all(|pair| pair[0] == pair[1]), "{at:?}");
    }
}
