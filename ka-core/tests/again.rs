//! Sources that are read again, over real sockets: who comes late is served after the others, and gets the true bytes.
#![cfg(feature = "io")]

mod common;

use common::{Again, Gate, Lab, NodeSink, noise};
use ka_core::net::ServerEvent;
use ka_core::proto::Event;
use ka_core::wire::control::{Outcome, Reason};

/// A node of two comes when half of each stream is read, and the window has forgotten the beginning.
async fn late(again: Again) -> (common::NodeOutcome, common::NodeOutcome, Vec<ServerEvent>, u64) {
    let gate = Gate::default();
    let lab = Lab { window: Some(1 << 20), gate: Some(gate.clone()), again, ..Lab::new("late") };
    let mut server = lab.serve(1, streams().iter().map(|(n, b)| (*n, b.clone())).collect());
    server.open().await;
    let first = lab.join(|_| NodeSink::Good);
    server
        .until("the first has half", |e| match e {
            ServerEvent::Session(Event::Progress { progress, .. }) => (progress.kept.0 > 0).then_some(()),
            _ => None,
        })
        .await;
    let second = lab.join(|_| NodeSink::Good);
    server.joined().await;
    gate.open();
    let (first, second) = (first.outcome().await, second.outcome().await);
    let (report, events) = server.report_and_events().await;
    assert_eq!(report.is_ok(), second.end.outcome.is_ok());
    (first, second, events, report.root.counters.reread)
}

fn streams() -> [(&'static str, Vec<u8>); 3] {
    [("first", noise(9 << 20)), ("empty", Vec::new()), ("last", noise(100_000))]
}

fn all() -> Vec<common::Got> {
    streams().into_iter().map(|(n, b)| (n.to_string(), b, true)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_is_served_after_the_others() {
    for again in [Again::TheSame, Again::Spooled] {
        let (first, second, events, reread) = late(again).await;
        assert!(first.streams == all() && first.end.outcome == Outcome::Ok);
        assert!(second.streams == all(), "{again:?}: {:?}", second.end);
        assert_eq!(second.end.outcome, Outcome::Ok, "{again:?}");
        assert!(reread > 6 << 20, "{again:?}: {reread}");
        let later = |e: &&ServerEvent| matches!(e, ServerEvent::Session(Event::Resumed { .. }));
        assert_eq!(events.iter().filter(later).count(), 1, "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_again_after_all_is_not_sent() {
    for (again, says) in [
        (Again::Another, "are others than when they were read first"),
        (Again::Nonsense, "the thread that reads it has ended"),
    ] {
        let (first, second, events, _) = late(again).await;
        assert!(first.streams == all() && first.end.outcome == Outcome::Ok);
        assert!(matches!(second.end.outcome, Outcome::Failed(Reason::Missing(..), _)), "{:?}", second.end);
        assert!(second.streams.iter().all(|(_, _, finished)| !finished));
        let why = events.iter().find_map(|e| match e {
            ServerEvent::Session(Event::RereadFailed { why }) => Some(why.as_str()),
            _ => None,
        });
        assert!(why.is_some_and(|w| w.contains(says)), "{why:?}");
    }
}
