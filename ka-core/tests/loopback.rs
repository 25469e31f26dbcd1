//! Real sockets, real bytes: sessions over loopback, in one process.
#![cfg(feature = "io")]

mod common;

use std::time::Duration;

use std::net::{Ipv4Addr, SocketAddr};

use common::{Gate, Lab, NodeSink, noise};
use ka_core::limits::BLOCK_BYTES;
use ka_core::net::{ClientConfig, Control, JoinError, ServerEvent, join};
use ka_core::proto::Event;
use ka_core::wire::control::{Outcome, Reason};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

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
    // More than is read ahead, so that it fails under way.
    let report = lab.run(2, vec![("data", noise(40 << 20))], |_, _| NodeSink::Good).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_been_through_the_session_is_not_part_of_it_again() {
    let mut lab = Lab::new("done");
    let mut server = lab.serve(2, vec![("data", noise(1 << 20))]);
    let place = server.open().await;
    let join =
        |config| join(config, |_| Err(std::io::Error::other("nothing is to come")), Control::new().1, |_| ());
    let done = |lab: &Lab| ClientConfig { done: vec![place.session], ..lab.client() };
    let end = join(done(&lab)).await;
    assert!(matches!(end, Err(JoinError::Done(session)) if session == place.session), "{end:?}");
    // A server that is not looked for first hears of it, and counts it no more.
    lab.control = Some(place.control.port());
    let end = join(done(&lab)).await;
    assert!(matches!(end, Err(JoinError::Done(_))), "{end:?}");
    let left = |event| matches!(event, ServerEvent::Session(Event::Left { ready: 0, .. })).then_some(());
    server.until("it leaves", left).await;

    let nodes = [lab.join(|_| NodeSink::Good), lab.join(|_| NodeSink::Good)];
    assert_eq!(server.report().await.nodes.len(), nodes.len());
    for node in nodes {
        assert_eq!(node.outcome().await.end.outcome, Outcome::Ok);
    }
    // Other sessions are none of it.
    lab.control = None;
    let other = lab.serve(1, vec![("data", noise(9))]);
    let end = join(done(&lab)).await;
    assert!(matches!(&end, Ok(end) if !end.outcome.is_ok()), "{end:?}");
    assert!(!other.report().await.is_ok());
}

/// Passes connections on to `to` until it is told to cut those that are there; hears new ones all the time.
async fn pass_on(listener: TcpListener, to: SocketAddr, mut cut: mpsc::UnboundedReceiver<()>) {
    let mut passing = JoinSet::new();
    loop {
        tokio::select! {
            Ok((mut near, _)) = listener.accept() => {
                passing.spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
            Some(()) = cut.recv() => passing.abort_all(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_control_connection_is_cut_comes_back_and_nothing_is_lost() {
    let gate = Gate::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let control = Some(listener.local_addr().unwrap().port());
    let lab = Lab { gate: Some(gate.clone()), control, ..Lab::new("cut") };
    let bytes = noise(9 << 20);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let (cut, cuts) = mpsc::unbounded_channel();
    let _passing = AbortOnDrop(tokio::spawn(pass_on(listener, place.control, cuts)));
    let nodes = [lab.join(|_| NodeSink::Good), lab.join(|_| NodeSink::Good)];
    for _ in &nodes {
        server
            .until("a link comes up", |e| {
                matches!(e, ServerEvent::Session(Event::Linked { .. })).then_some(())
            })
            .await;
    }
    for _ in 0..3 {
        cut.send(()).unwrap();
        for _ in &nodes {
            server
                .until("it is back", |e| {
                    matches!(e, ServerEvent::Session(Event::Returned { .. })).then_some(())
                })
                .await;
        }
    }
    gate.open();
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    for node in nodes {
        assert!(node.outcome().await.streams == [("data".into(), bytes.clone(), true)]);
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
