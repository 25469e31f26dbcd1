//! Nodes that lie: real sockets over loopback, every hostile one written by hand.
//!
//! A node lies best when it is what it says it is: a [`Fake`] joins as any node does, and is placed by its port.
#![cfg(feature = "io")]

mod common;

use common::fake::{Act, Fake, all, frame};
use common::{Gate, LONG, Lab, NodeOutcome, NodeSink, noise};
use ka_core::limits::{BLOCK_BYTES, SEGMENT_BLOCKS};
use ka_core::net::ServerEvent;
use ka_core::proto::{Event, Report};
use ka_core::types::{NodeId, Offset, Position, Watermarks};
use ka_core::wire::TAG_BYTES;
use ka_core::wire::control::{Outcome, Peer, Reason, ToCoordinator};
use ka_core::wire::data::{Attach, Grant, HEADER_BYTES, Kind, Refuse};
use tokio::time::timeout;

fn good(_: &str) -> NodeSink {
    NodeSink::Good
}

// ---- a relay that lies ----

/// What came of a session with a false relay above two true nodes.
struct Fooled {
    liar: NodeId,
    report: Report,
    events: Vec<ServerEvent>,
    nodes: Vec<NodeOutcome>,
    bytes: Vec<u8>,
}

/// The server, a false relay, and two true nodes below it. A relay that cuts hangs up, another stays to the end.
async fn fooled(lie: impl FnMut(Kind, &mut Vec<u8>) -> Act + Send + 'static) -> Fooled {
    let lab = Lab::new("liar");
    let bytes = noise(BYTES);
    let mut server = lab.serve(3, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let mut fake = Fake::first(&place).await;
    let liar = fake.id();
    let lying = tokio::spawn(async move {
        fake.relay(lie).await;
        if fake.links.is_some() {
            fake.ends_well().await;
        }
    });
    let joining = [lab.join(good), lab.join(good)];
    let (report, events) = server.report_and_events().await;
    let mut nodes = Vec::new();
    for node in joining {
        nodes.push(node.outcome().await);
    }
    timeout(LONG, lying).await.expect("the liar ends in time").unwrap();
    Fooled { liar, report, events, nodes, bytes }
}

/// Ends in the middle of a block and of a segment.
const BYTES: usize = (9 << 20) + 4321;

impl Fooled {
    /// Both nodes got every byte and no wrong one, each once: from somebody else, when they had seen through the liar.
    fn others_are_whole(&self, what: &str) {
        for node in &self.nodes {
            assert!(node.end.outcome.is_ok(), "{what}: {:?}", node.end);
            assert!(node.streams == [("data".into(), self.bytes.clone(), true)], "{what}: the bytes differ");
            assert_eq!(node.aborted, 0, "{what}");
            let line = self.report.nodes.iter().find(|n| n.node == node.end.node).unwrap();
            assert!(line.outcome.is_ok(), "{what}: {line:?}");
        }
    }

    /// Somebody was taken away from the liar, for a reason that is said.
    fn names(&self, what: &str) {
        let named = |e: &ServerEvent| match e {
            ServerEvent::Session(Event::Rerouted { from, why, .. }) => *from == self.liar && !why.is_empty(),
            _ => false,
        };
        assert!(self.events.iter().any(named), "{what}: {:#?}", self.events);
        self.others_are_whole(what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_written_by_hand_is_as_good_as_any_while_it_is_honest() {
    let Fooled { report, nodes, bytes, .. } = fooled(|_, _| Act::Pass).await;
    assert!(report.is_ok(), "{report:?}");
    assert!(
        nodes.iter().all(|n| n.end.outcome.is_ok() && n.streams == [("data".into(), bytes.clone(), true)])
    );
}

/// At the `n`th frame of a kind does `act`, and lets all others pass.
fn at(kind: Kind, n: usize, act: impl Fn(&mut Vec<u8>) -> Act) -> impl FnMut(Kind, &mut Vec<u8>) -> Act {
    let mut seen = 0;
    move |k, body| {
        if k != kind {
            return Act::Pass;
        }
        seen += 1;
        if seen == n { act(body) } else { Act::Pass }
    }
}

/// Flips a bit of the byte so many thousandths into the frame.
fn flip(thousandth: usize) -> impl Fn(&mut Vec<u8>) -> Act {
    move |body| {
        let at = (body.len() - 1) * thousandth / 1000;
        body[at] ^= 0x10;
        Act::Pass
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_of_a_block_goes_no_further_and_the_liar_is_named() {
    for (n, thousandth) in [(1, 0), (1, 1000), (SEGMENT_BLOCKS + 2, 500), (BYTES.div_ceil(BLOCK_BYTES), 1000)]
    {
        let what = format!("block {n}, {thousandth} thousandths into it");
        fooled(at(Kind::Block, n, flip(thousandth))).await.names(&what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_of_an_announcement_goes_no_further_and_the_liar_is_named() {
    // The first says that the stream begins, the second which blocks come: signature, head and hashes.
    for (n, thousandth) in [(1, 0), (1, 1000), (2, 5), (2, 300), (2, 1000), (3, 700)] {
        let what = format!("statement {n}, {thousandth} thousandths into it");
        fooled(at(Kind::Statement, n, flip(thousandth))).await.names(&what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_left_out_repeated_or_shortened() {
    let shorten = |body: &mut Vec<u8>| {
        body.pop();
        Act::Pass
    };
    let (block, statement) = (Kind::Block, Kind::Statement);
    fooled(at(block, 5, |_| Act::Skip)).await.names("a block left out");
    fooled(at(block, 5, |_| Act::Twice)).await.names("a block twice");
    fooled(at(block, 5, shorten)).await.names("a block shortened");
    fooled(at(statement, 2, |_| Act::Skip)).await.names("an announcement left out");
    fooled(at(statement, 2, |_| Act::Twice)).await.names("an announcement twice");
    fooled(at(statement, 2, shorten)).await.names("an announcement shortened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_closes_is_never_the_end_of_the_tape() {
    fooled(at(Kind::Block, 100, |_| Act::Cut)).await.others_are_whole("cut in the middle");

    // Every byte has come by then, but not the word that these were all.
    let end = fooled(|kind, body| if is_statement(kind, body, END) { Act::Cut } else { Act::Pass });
    end.await.others_are_whole("cut before the end's announcement");
}

// ---- a wire that lies ----

/// What becomes of an item's bytes, after those that were sent before.
type Change = fn(&[u8], Vec<u8>) -> Vec<u8>;

/// What is wrong on the way between the two, and at which frame.
const ON_THE_WIRE: &[(&str, Kind, usize, Change)] = &[
    ("a beat that nobody has sealed", Kind::Block, 5, |_, item| {
        [frame(Kind::Beat, &[0; TAG_BYTES]), item].concat()
    }),
    ("a byte of a block", Kind::Block, 5, |_, item| flipped(item, HEADER_BYTES + 4321)),
    ("a block's tag", Kind::Block, 5, |_, item| flipped(item, HEADER_BYTES + BLOCK_BYTES)),
    ("a block's kind, to another one", Kind::Block, 5, |_, item| with_first(item, Kind::Statement as u8)),
    ("a block's kind, to one of a child", Kind::Block, 5, |_, item| with_first(item, Kind::Grant as u8)),
    ("a block's kind, to none", Kind::Block, 5, |_, item| with_first(item, 99)),
    ("a block's length", Kind::Block, 5, |_, item| flipped(item, 4)),
    ("a block's length, too long", Kind::Block, 5, |_, item| flipped(item, 7)),
    ("a block of before", Kind::Block, 5, |before, _| before.to_vec()),
    ("a block twice", Kind::Block, 5, |_, item| item.repeat(2)),
    ("a block left out", Kind::Block, 5, |_, _| frame(Kind::Block, &[7; BLOCK_BYTES + TAG_BYTES])),
    // What a link brings too little of is missed only when it is silent; here more follows.
    ("a block cut short", Kind::Block, 5, |_, item| [&item[..item.len() / 2], &item[..]].concat()),
    ("the last block", Kind::Block, BYTES.div_ceil(BLOCK_BYTES), |_, item| flipped(item, HEADER_BYTES)),
    ("the first announcement", Kind::Statement, 1, |_, item| flipped(item, HEADER_BYTES)),
    ("a hash in an announcement", Kind::Statement, 2, |_, item| flipped(item, HEADER_BYTES + 100)),
    ("an announcement of before", Kind::Statement, 3, |before, _| before.to_vec()),
    ("the close", Kind::Statement, 3 + BYTES.div_ceil(BLOCK_BYTES).div_ceil(SEGMENT_BLOCKS), |_, item| {
        flipped(item, HEADER_BYTES + 3)
    }),
];

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x10;
    bytes
}

fn with_first(mut bytes: Vec<u8>, first: u8) -> Vec<u8> {
    bytes[0] = first;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_changed_on_its_way_is_held_against_nobody() {
    for (what, kind, n, change) in ON_THE_WIRE {
        let fooled = fooled(at(*kind, *n, |_| Act::OnTheWire(*change))).await;
        fooled.others_are_whole(what);
        // The child has hung up and dialled again, and nobody was taken from anybody.
        let moved =
            |e: &ServerEvent| matches!(e, ServerEvent::Session(Event::Rerouted { .. } | Event::Slow { .. }));
        assert!(!fooled.events.iter().any(moved), "{what}: {:#?}", fooled.events);
        let attaches: u64 = fooled.nodes.iter().map(|n| n.end.counters.attaches).sum();
        assert_eq!(attaches, 3, "{what}");
        assert!(fooled.report.is_ok(), "{what}: {:?}", fooled.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_changes_everything_costs_a_node_its_parent_and_no_more() {
    let lab = Lab::new("wire");
    let bytes = noise(BYTES);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let mut fake = Fake::first(&place).await;
    let (parent, _) = server.joined().await;
    let node = lab.join(good);
    let (child, _) = server.joined().await;
    let (epoch, root) = fake.view().await;
    let wire = fake.is_behind_a_wire_that_changes_everything();
    let mut link = fake.attached(&root, fake.attach(epoch)).await;
    fake.takes_the_rest(&mut link, &bytes).await;
    fake.say(&ToCoordinator::Complete);
    let why = server.until("the node is told to be idle", |e| match e {
        ServerEvent::Session(Event::Idle { node, why }) if node == child => Some(why),
        _ => None,
    });
    let why = why.await;
    assert!(why.contains(&format!("{parent}")) && why.contains("changed"), "{why}");
    fake.ends_well().await;
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    let node = node.outcome().await;
    assert!(node.streams == [("data".into(), bytes, true)]);
    assert!(node.end.counters.attaches > 2, "{:?}", node.end);
    wire.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tape_without_its_close_is_not_complete() {
    let end = fooled(|kind, body| if is_statement(kind, body, CLOSE) { Act::Cut } else { Act::Pass });
    end.await.others_are_whole("cut before the close");
}

/// The number that a statement begins with, behind its signature.
const END: u8 = 2;
const CLOSE: u8 = 3;

fn is_statement(kind: Kind, body: &[u8], wanted: u8) -> bool {
    const SIGNATURE_BYTES: usize = 64;
    kind == Kind::Statement && body[SIGNATURE_BYTES] == wanted
}

// ---- a node that leaves ----

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_the_start_is_not_counted() {
    let lab = Lab::new("leaver");
    let bytes = noise(100_000);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let left = |node: NodeId| {
        move |e| match e {
            ServerEvent::Session(Event::Left { node: n, ready, .. }) if n == node => Some(ready),
            _ => None,
        }
    };

    // Gone without a word, gone for talking nonsense, and stopped where it runs.
    let fake = Fake::last(&place).await;
    let id = fake.id();
    server.joined().await;
    drop(fake);
    assert_eq!(server.until("it leaves", left(id)).await, 0);

    let fake = Fake::last(&place).await;
    let id = fake.id();
    server.joined().await;
    fake.says.send(vec![0xff; 64]).unwrap();
    assert_eq!(server.until("it is shown out", left(id)).await, 0);

    let stopped = lab.join(good);
    let (id, _) = server.joined().await;
    stopped.is_in().await;
    stopped.control.stop("the test");
    assert_eq!(server.until("it is stopped", left(id)).await, 0);
    let end = stopped.outcome().await.end.outcome;
    assert!(matches!(&end, Outcome::Failed(Reason::Interrupted(who), _) if who == "the test"), "{end:?}");

    let nodes = [lab.join(good), lab.join(good)];
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.nodes.len(), 2);
    for node in nodes {
        assert!(node.outcome().await.streams == [("data".into(), bytes.clone(), true)]);
    }
}

// ---- a child that lies ----

/// A child of a fake's that its parent refuses: the parent's words.
async fn refused(fake: &Fake, parent: &Peer, attach: Attach) -> String {
    let mut link = fake.dial(parent, attach).await.expect("the parent knows the key");
    let (kind, said) = link.ear.hear().await.expect("a refusal");
    assert_eq!(kind, Kind::Refuse);
    assert!(link.all_said().await.is_empty(), "and nothing more");
    Refuse::decode(&said).unwrap().why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_cannot_be_where_it_was_never_sent() {
    let gate = Gate::default();
    let lab = Lab { gate: Some(gate.clone()), ..Lab::new("ahead") };
    let bytes = noise(BYTES);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let node = lab.join(good);
    let (parent, port) = server.joined().await;
    let mut fake = Fake::last(&place).await;
    let (epoch, peer) = fake.view().await;
    assert_eq!((peer.node, peer.addr), (parent, port));
    let honest = fake.attach(epoch);

    // Half of the tape is here. By its bytes it cannot be further than by its items, nor the other way round, nor may
    // those below it; and it takes no less than it holds.
    server.receives(parent).await;
    let far = u64::MAX / 2;
    let place = |item, offset| Position { item, offset: Offset(offset) };
    let below = |level: usize, at| {
        let mut grant = all(Position::START);
        grant.watermarks.0[level] = at;
        grant
    };
    for grant in [
        all(place(far, 0)),
        all(place(0, far)),
        below(1, place(0, far)),
        below(2, place(1, 17)),
        below(3, place(3, 1)),
        Grant { upto: Offset(far - 1), ..all(place(far, far)) },
    ] {
        let why = refused(&fake, &peer, Attach { grant, ..honest }).await;
        assert!(why.contains("place"), "{grant:?}: {why}");
    }
    // It attaches in truth, then claims what it was not sent, or talks nonsense: hung up on each time.
    let lies = [
        all(place(far, 0)),
        all(place(0, far)),
        all(place(far, far)),
        below(1, place(0, far)),
        below(2, place(1, 17)),
        below(3, place(3, 1)),
    ]
    .map(|grant| (Kind::Grant, grant.encode().to_vec()));
    let nonsense = [(Kind::Block, b"to its parent".to_vec()), (Kind::Grant, b"short".to_vec())];
    for (kind, said) in lies.into_iter().chain(nonsense) {
        let mut link = fake.attached(&peer, honest).await;
        link.mouth.say(kind, &said).await;
        link.all_said().await;
    }
    // What nobody has sealed, what was changed on its way, left out or repeated is no grant of its.
    for what in ["open", "changed", "left out", "repeated", "noise"] {
        let mut link = fake.attached(&peer, honest).await;
        let said = honest.grant.encode();
        let sealed = link.mouth.seal(Kind::Grant, &said);
        let bytes = match what {
            "open" => frame(Kind::Grant, &said),
            "changed" => {
                sealed.iter().enumerate().map(|(i, b)| b ^ u8::from(i == sealed.len() - 1)).collect()
            }
            "left out" => link.mouth.seal(Kind::Grant, &said),
            "repeated" => [&sealed[..], &sealed].concat(),
            _ => vec![0xff; sealed.len()],
        };
        link.mouth.write(&bytes).await;
        link.all_said().await;
    }

    // And then it takes the tape like any other. What those below it hold may be behind the tape or ahead of it.
    let far = Watermarks([Position::START, place(far, far), Position::END, Position::START]);
    let grant = Grant { watermarks: far, ..honest.grant };
    let mut link = fake.attached(&peer, Attach { grant, ..honest }).await;
    gate.open();
    fake.takes_the_rest(&mut link, &bytes).await;
    fake.ends_well().await;
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    let node = node.outcome().await;
    assert!(node.streams == [("data".into(), bytes, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_ahead_of_its_parent_waits_and_is_found_out() {
    let gate = Gate::default();
    let lab = Lab { gate: Some(gate.clone()), ..Lab::new("early") };
    // So little that nobody forgets any of it: 24 blocks, and no more than as many announcements.
    let bytes = noise(24 * BLOCK_BYTES);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let node = lab.join(good);
    let (parent, port) = server.joined().await;
    let mut fake = Fake::last(&place).await;
    let (epoch, peer) = fake.view().await;
    assert_eq!((peer.node, peer.addr), (parent, port));
    let honest = fake.attach(epoch);

    // The tape will come to so many items, but not to so many bytes. Until then the child is told that its parent
    // lives, and nothing else.
    let ahead = all(Position { item: 26, offset: Offset(400 << 20) });
    let mut liar = fake.attached(&peer, Attach { grant: ahead, ..honest }).await;
    assert_eq!(liar.ear.hear().await, Some((Kind::Beat, Vec::new())));
    gate.open();
    while let Some(said) = liar.ear.hear().await {
        assert_eq!(said, (Kind::Beat, Vec::new()), "to a child that is nowhere");
    }

    let mut link = fake.attached(&peer, honest).await;
    fake.takes_the_rest(&mut link, &bytes).await;
    fake.ends_well().await;
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    assert!(node.outcome().await.streams == [("data".into(), bytes, true)]);
}
