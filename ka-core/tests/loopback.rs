//! Real sockets, real bytes: sessions over loopback, in one process.
#![cfg(feature = "io")]

mod common;

use std::time::Duration;

use common::{Lab, NodeSink, noise};
use ka_core::limits::BLOCK_BYTES;
use ka_core::wire::control::{Outcome, Reason};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_get_the_bytes() {
    let lab = Lab::new("three");
    let bytes = noise(5 << 20);
    let report = lab.run(3, vec![("data", bytes.clone())], |_, _| NodeSink::Good).await;
    assert!(report.server.is_ok(), "{:?}", report.server);
    assert_eq!(report.server.bytes, bytes.len() as u64);
    for node in &report.nodes {
        assert_eq!(node.end.outcome, Outcome::Ok);
        assert!(node.streams == [("data".to_string(), bytes.clone(), true)], "the bytes differ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_several_streams_and_empty_ones() {
    let lab = Lab { fan_out: 2, window: Some(1 << 20), ..Lab::new("tree") };
    let streams =
        vec![("empty", vec![]), ("one", vec![7]), ("big", noise(17 << 20)), ("last", noise(100_000))];
    let report = lab.run(6, streams.clone(), |_, _| NodeSink::Good).await;
    assert!(report.server.is_ok(), "{:?}", report.server);
    for node in &report.nodes {
        let expected: Vec<_> = streams.iter().map(|(n, b)| (n.to_string(), b.clone(), true)).collect();
        assert!(node.streams == expected, "the streams differ");
        assert!(
            node.end.counters.evicted >= 16 << 20
                && node.end.counters.held_max <= (1 << 20) + BLOCK_BYTES as u64
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_goes_on_relaying() {
    let lab = Lab::new("sink");
    let report = lab
        .run(3, vec![("data", noise(9 << 20))], |rank, _| {
            if rank == 1 { NodeSink::FailsAfter(1 << 20) } else { NodeSink::Good }
        })
        .await;
    assert!(!report.server.is_ok());
    let ok: Vec<_> = report.nodes.iter().map(|n| n.end.outcome.is_ok()).collect();
    assert_eq!(ok, [true, false, true]);
    assert!(
        matches!(&report.nodes[1].end.outcome, Outcome::Failed(Reason::Sink(why), _) if why.contains("disk full"))
    );
    assert!(report.nodes[1].streams.iter().all(|s| !s.2), "aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_fails_everyone() {
    let lab = Lab { source_fails: true, ..Lab::new("source") };
    let report = lab.run(2, vec![("data", noise(1 << 20))], |_, _| NodeSink::Good).await;
    assert!(!report.server.is_ok());
    for node in &report.nodes {
        assert!(
            matches!(&node.end.outcome, Outcome::Failed(Reason::Source(why), _) if why == "exit status 1")
        );
        assert!(node.streams.iter().all(|s| !s.2), "no sink takes it for complete");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_everyone() {
    let lab = Lab { stop_after: Some(2 << 20), ..Lab::new("stop") };
    let report =
        lab.run(2, vec![("data", noise(256 << 20))], |_, _| NodeSink::Slow(Duration::from_millis(5))).await;
    assert!(!report.server.is_ok());
    for node in &report.nodes {
        assert!(
            matches!(&node.end.outcome, Outcome::Failed(Reason::Interrupted(who), _) if who == "the test")
        );
        assert!(node.streams.iter().all(|s| !s.2));
    }
}
