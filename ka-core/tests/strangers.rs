//! Strangers, and members who pose as others: they disturb every port, and change nothing.
#![cfg(feature = "io")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use common::fake::{
    DataLink, Fake, all, all_said, attaching, dial_open, encoded, frame, hello, member, read_frame, sealed,
};
use common::{Gate, Joining, LONG, Lab, NodeOutcome, NodeSink, Place, noise};
use ka_core::crypto::link_keys::LinkKey;
use ka_core::crypto::session_key::Key;
use ka_core::limits;
use ka_core::net::{ClientConfig, Control, JoinError, Ports, ServerKey, join};
use ka_core::types::{Epoch, NodeId, Position, SessionId};
use ka_core::wire::control::ToCoordinator;
use ka_core::wire::data::{Attach, GRANT_BYTES, Kind, Refuse};
use ka_core::wire::discovery::{Question, encode_question};
use ka_core::wire::{self, Malformed, PREFACE_BYTES, Plane};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Ends in the middle of a block and of a segment.
const BYTES: usize = (9 << 20) + 4321;

fn good(_: &str) -> NodeSink {
    NodeSink::Good
}

// ---- at every port ----

/// What does not belong on a port of this plane, and what the answer is.
fn garbage(plane: Plane) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let ours = |more: &[u8]| [&wire::preface(plane)[..], more].concat();
    let (other, unfit) = match plane {
        Plane::Control => (Plane::Data, sealed_by_nobody()),
        Plane::Data => (Plane::Control, frame(Kind::Grant, &[0; GRANT_BYTES])),
    };
    let mut newer = ours(&attaching(nobody(SessionId([0; 16]))));
    newer[4] = 9;
    let refusal = wire::refusing_preface(plane).to_vec();
    vec![
        ("nothing", Vec::new(), Vec::new()),
        ("a preface that is cut", ours(&[])[..5].to_vec(), Vec::new()),
        ("noise", noise(1000), Vec::new()),
        ("a lot of noise", noise(1 << 20), Vec::new()),
        ("a browser", b"GET / HTTP/1.1\r\nHost: ka\r\n\r\n".to_vec(), Vec::new()),
        ("the other plane's preface", wire::preface(other).to_vec(), Vec::new()),
        ("another version", newer, wire::preface(plane).to_vec()),
        ("a length of 4 GiB", ours(&[0xff; 4]), Vec::new()),
        ("a block of 4 GiB", ours(&[3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Vec::new()),
        ("a message that is cut", ours(&[1, 0]), Vec::new()),
        ("another message first", ours(&unfit), refusal.clone()),
        ("a message of noise", ours(&[&200_u32.to_le_bytes()[..], &noise(200)].concat()), refusal),
    ]
}

/// As long as the first message of a handshake.
fn sealed_by_nobody() -> Vec<u8> {
    vec![7; 48]
}

/// Says every kind of garbage, and looks through the port as a scanner does, until it has been hung up on.
async fn pester(port: SocketAddr, plane: Plane) {
    for _ in 0..20 {
        drop(TcpStream::connect(port).await.unwrap());
    }
    let mut all = JoinSet::new();
    for (what, bytes, answer) in garbage(plane) {
        all.spawn(async move {
            let mut stream = TcpStream::connect(port).await.unwrap();
            // It may hang up before it has heard everything.
            let _ = stream.write_all(&bytes).await;
            let said = all_said(stream).await;
            // A close that finds something unread takes back what was said.
            assert!(said == answer || said.is_empty(), "{plane:?}: {what}: {said:?}");
        });
    }
    while let Some(end) = all.join_next().await {
        end.unwrap();
    }
}

/// Knows the key, and says what no node says.
async fn misbehave(server: &Place) {
    let fine = encoded(&hello(1));
    let body = encoded(&ToCoordinator::Complete);
    for what in ["another message first", "an open one", "one that was changed", "the second first", "noise"]
    {
        let (mut stream, keys) = member(server).await;
        let said = match what {
            "another message first" => sealed(&keys, 0, &body),
            "an open one" => [&(fine.len() as u32).to_le_bytes()[..], &fine].concat(),
            "one that was changed" => {
                let mut said = sealed(&keys, 0, &fine);
                said[20] ^= 1;
                said
            }
            "the second first" => sealed(&keys, 1, &fine),
            _ => sealed(&keys, 0, &noise(200)),
        };
        stream.write_all(&said).await.unwrap();
        assert!(all_said(stream).await.is_empty(), "{what}");
    }
}

/// So many connections that say nothing.
async fn silent(port: SocketAddr, n: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(timeout(LONG, TcpStream::connect(port)).await.expect("it listens").unwrap());
    }
    all
}

/// Datagrams of noise, of every size up to a packet's, and questions of those who have another key.
async fn spray(discovery: u16) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for size in (0..1400).step_by(7) {
        let _ = socket.send_to(&noise(size), (Ipv4Addr::LOCALHOST, discovery)).await;
        let question = Question { public: [size as u8; 32], tag: [1; 32], asker: None };
        let _ = socket.send_to(&encode_question(&question), (Ipv4Addr::LOCALHOST, discovery)).await;
    }
}

/// Both ends of some hundred connections are ours.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_before_the_start_and_during_a_transfer_change_nothing() {
    // More than may be half open at a time.
    const SILENT: usize = 300;
    allow_many_files();
    let gate = Gate::default();
    let lab = Lab { gate: Some(gate.clone()), ..Lab::new("strangers") };
    let bytes = noise(BYTES);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;

    tokio::join!(
        pester(place.control, Plane::Control),
        pester(place.data, Plane::Data),
        spray(lab.port),
        misbehave(&place)
    );
    let _on_control = silent(place.control, SILENT).await;
    let a = lab.join(good);
    let (node_a, port_a) = server.joined().await;
    pester(port_a, Plane::Data).await;
    let _on_data = [silent(place.data, SILENT).await, silent(port_a, SILENT).await];
    let b = lab.join(good);
    let (node_b, port_b) = server.joined().await;
    server.linked().await;
    server.linked().await;
    server.receives(node_a.max(node_b)).await;

    tokio::join!(
        pester(place.control, Plane::Control),
        pester(place.data, Plane::Data),
        pester(port_a, Plane::Data),
        pester(port_b, Plane::Data),
        spray(lab.port),
        misbehave(&place)
    );
    let _on_everything = tokio::join!(
        silent(place.control, SILENT),
        silent(place.data, SILENT),
        silent(port_a, SILENT),
        silent(port_b, SILENT)
    );
    gate.open();
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.nodes.len(), 2);
    for node in [a.outcome().await, b.outcome().await] {
        assert!(node.streams == [("data".into(), bytes.clone(), true)], "the bytes differ: {:?}", node.end);
    }
}

/// So many connections from this address, which say nothing.
async fn silent_from(from: [u8; 4], port: SocketAddr, n: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..n {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        all.push(timeout(LONG, socket.connect(port)).await.expect("it listens").unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_sixteen_addresses_holds_no_door() {
    allow_many_files();
    let lab = Lab::new("sixteen");
    let bytes = noise(100_000);
    let mut server = lab.serve(1, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let mut held = Vec::new();
    for n in 2..18 {
        for port in [place.control, place.data] {
            held.push(silent_from([127, 0, 0, n], port, limits::HALF_OPEN_PER_HOST).await);
        }
    }
    // A node waits so long for an answer; the silent ones keep their places as long.
    timeout(limits::PREFACE_TIMEOUT, member(&place)).await.expect("whoever comes is heard");
    let node = lab.join(good);
    assert!(server.report().await.is_ok());
    all_is_well([node], &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_version_is_named() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut newer = wire::preface(Plane::Control);
        newer[4] = 9;
        stream.write_all(&newer).await.unwrap();
    });
    let ports = Ports { control: Some(port), interfaces: vec!["lo".into()], ..Ports::default() };
    let config = ClientConfig {
        server: Some(Ipv4Addr::LOCALHOST.into()),
        key: Some(Key::insecure()),
        ports,
        ..ClientConfig::default()
    };
    let (_control, inbox) = Control::new();
    let joined = join(config, |_| Err(std::io::Error::other("no sink")), inbox, |_| ());
    let end = timeout(LONG, joined).await.expect("it gives up in time");
    assert!(matches!(end, Err(JoinError::Protocol(_, Malformed::Version(9)))), "{end:?}");
    server.await.unwrap();
}

// ---- what was overheard ----

/// Passes on what a node and its server say to each other, and writes down the node's half.
async fn pass_on(node: TcpStream, server: TcpStream, said: Arc<Mutex<Vec<u8>>>) {
    let ((mut from_node, mut to_node), (mut from_server, mut to_server)) =
        (node.into_split(), server.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_node).await });
    let mut part = [0; 4096];
    while let Ok(n @ 1..) = from_node.read(&mut part).await {
        said.lock().unwrap().extend(&part[..n]);
        to_server.write_all(&part[..n]).await.unwrap();
    }
    drop(to_server);
    let _ = back.await;
}

/// What a node said is said once more. The server answers its first message, and then hangs up.
async fn say_again(server: &Place, said: &[u8]) {
    const ANSWER: usize = PREFACE_BYTES + 96;
    let mut stream = TcpStream::connect(server.control).await.unwrap();
    // It may hang up before it has heard everything.
    let _ = stream.write_all(said).await;
    assert!(all_said(stream).await.len() <= ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_recorded_is_good_for_nothing() {
    let mut lab = Lab::new("recorded");
    let bytes = noise(100_000);
    let said = Arc::new(Mutex::new(Vec::new()));
    // The server's next session has the same identity and the same key.
    for _ in 0..2 {
        let mut serving = lab.serve(2, vec![("data", bytes.clone())]);
        let place = serving.open().await;
        let before = std::mem::take(&mut *said.lock().unwrap());
        say_again(&place, &before).await;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        lab.control = Some(listener.local_addr().unwrap().port());
        let first = lab.join(good);
        lab.control = None;
        let (node, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(place.control).await.unwrap();
        let passing = tokio::spawn(pass_on(node, server, Arc::clone(&said)));
        first.is_in().await;
        let overheard = said.lock().unwrap().clone();
        assert!(overheard.len() > PREFACE_BYTES + 48);
        say_again(&place, &overheard).await;

        all_is_well([first, lab.join(good)], &bytes).await;
        assert_eq!(serving.report().await.nodes.len(), 2);
        passing.await.unwrap();
    }
}

// ---- strangers as children ----

/// A child that is somebody else, and holds nothing yet.
fn as_child(number: u32, session: SessionId) -> Attach {
    Attach { child: NodeId(number), ..nobody(session) }
}

/// All that these nodes got, and that none of their links was ever disturbed.
async fn all_is_well(nodes: impl IntoIterator<Item = Joining>, bytes: &[u8]) {
    for node in nodes {
        let NodeOutcome { end, streams, .. } = node.outcome().await;
        assert!(end.outcome.is_ok() && end.counters.attaches == 1, "{end:?}");
        assert!(streams == [("data".into(), bytes.to_vec(), true)], "the bytes differ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_takes_no_childs_place() {
    let gate = Gate::default();
    let lab = Lab { gate: Some(gate.clone()), ..Lab::new("unkeyed") };
    let bytes = noise(BYTES);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let nodes = [lab.join(good), lab.join(good)];
    let (node_a, port_a) = server.joined().await;
    let (node_b, port_b) = server.joined().await;
    server.linked().await;
    server.linked().await;
    server.receives(node_a.max(node_b)).await;

    for parent in [place.data, port_a, port_b] {
        for child in [node_a.0, node_b.0, 0, 99] {
            let attach = as_child(child, place.session);
            for key in [LinkKey::new([0; 32]), LinkKey::new(noise(32).try_into().unwrap())] {
                for key in [key.of_child(attach.child), key] {
                    assert!(DataLink::dial(parent, &key, place.session, attach).await.is_none(), "{parent}");
                }
            }
            // A close that finds something unread takes back what was said.
            let said = all_said(dial_open(parent, attach).await).await;
            assert!(said == wire::refusing_preface(Plane::Data) || said.is_empty(), "{said:?}");
        }
    }
    gate.open();
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    all_is_well(nodes, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_takes_no_other_members_place() {
    let gate = Gate::default();
    let lab = Lab { gate: Some(gate.clone()), ..Lab::new("member") };
    let bytes = noise(BYTES);
    let mut server = lab.serve(3, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let nodes = [lab.join(good), lab.join(good)];
    let (node_a, port_a) = server.joined().await;
    let (node_b, port_b) = server.joined().await;
    let mut fake = Fake::last(&place).await;
    let (epoch, parent) = fake.view().await;
    let mut link = fake.attached(&parent, fake.attach(epoch)).await;

    // With everything that it knows, under every number, wherever it is not the child.
    let (own, its) = (fake.welcome.link.clone().unwrap(), parent.key.clone().unwrap());
    for addr in [place.data, port_a, port_b] {
        for child in [node_a.0, node_b.0, fake.id().0, 0] {
            let attach = Attach { epoch, ..as_child(child, place.session) };
            let keys = [own.of_child(attach.child), its.of_child(attach.child), own.clone(), its.clone()];
            for (i, key) in keys.iter().enumerate() {
                if (addr, child, i) == (parent.addr, fake.id().0, 3) {
                    continue;
                }
                let what = format!("{addr} as {child}, key {i}");
                assert!(DataLink::dial(addr, key, place.session, attach).await.is_none(), "{what}");
            }
        }
    }
    // Under its own number, but for another: the parent hangs up.
    let other = Attach { epoch, ..as_child(node_a.0, place.session) };
    let (its_number, hello) = (fake.id(), other.encode());
    let lie = DataLink::dial_as(parent.addr, &its, place.session, its_number, &hello).await.unwrap();
    assert!(lie.all_said().await.is_empty());

    gate.open();
    fake.takes_the_rest(&mut link, &bytes).await;
    fake.ends_well().await;
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    all_is_well(nodes, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_is_said_again_displaces_nobody() {
    let gate = Gate::default();
    let lab = Lab { gate: Some(gate.clone()), ..Lab::new("replay") };
    let bytes = noise(BYTES);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let node = lab.join(good);
    let (_, port) = server.joined().await;
    let mut fake = Fake::last(&place).await;
    let (epoch, parent) = fake.view().await;
    assert_eq!(parent.addr, port);
    let mut link = fake.attached(&parent, fake.attach(epoch)).await;
    let heard = link.mouth.sent.clone();
    link.mouth.say(Kind::Grant, &fake.attach(epoch).grant.encode()).await;

    // To its parent and to others, whole, and with more behind it.
    let more = [&heard[..], &link.mouth.sent[heard.len()..]].concat();
    for (to, said) in [(port, &heard), (port, &more), (place.data, &heard), (port, &heard)] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(said).await.unwrap();
        let answer = all_said(stream).await;
        let answers =
            if to == port { wire::preface(Plane::Data) } else { wire::refusing_preface(Plane::Data) };
        // A close that finds something unread takes back what was said.
        assert!(answer.starts_with(&answers) || answer.is_empty(), "{answer:?}");
        assert!(answer.len() <= PREFACE_BYTES + 48, "nothing behind the handshake: {answer:?}");
    }
    gate.open();
    // It is still the same link.
    fake.takes_the_rest(&mut link, &bytes).await;
    fake.ends_well().await;
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    all_is_well([node], &bytes).await;
}

/// A child that no view names.
fn nobody(session: SessionId) -> Attach {
    Attach { session, child: NodeId(99), epoch: Epoch(1), grant: all(Position::START) }
}

/// Attaches to a parent that refuses, in an insecure session: its words.
async fn refused(parent: SocketAddr, attach: Attach) -> String {
    let said = all_said(dial_open(parent, attach).await).await;
    let (preface, mut rest) = said.split_at_checked(PREFACE_BYTES).expect("a preface");
    assert_eq!(preface, wire::refusing_preface(Plane::Data));
    let (kind, body) = read_frame(&mut rest).await.expect("a refusal");
    assert_eq!(kind, Kind::Refuse);
    assert!(rest.is_empty());
    Refuse::decode(&body).unwrap().why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_another_session_or_of_nobody_is_refused_even_where_everybody_is_let_in() {
    let gate = Gate::default();
    let key = ServerKey::insecure().unwrap();
    let lab = Lab { gate: Some(gate.clone()), key, ..Lab::new("insecure") };
    let bytes = noise(BYTES);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let nodes = [lab.join(good), lab.join(good)];
    let (_, port_a) = server.joined().await;
    let (_, port_b) = server.joined().await;
    server.receives(NodeId(1)).await;

    let mut all = JoinSet::new();
    for parent in [place.data, port_a, port_b] {
        let session = place.session;
        // Last week's attach, word for word; a child of nobody; one whose view is newer, which may wait a
        // while.
        let replay = Attach { child: NodeId(1), ..nobody(SessionId([7; 16])) };
        let newer = Attach { epoch: Epoch(1000), ..nobody(session) };
        for (attach, words) in [
            (replay, "another session"),
            (nobody(session), "is not its parent"),
            (newer, "is not its parent"),
        ] {
            all.spawn(async move {
                let why = refused(parent, attach).await;
                // Who has forgotten the tape's start need not look any further.
                assert!(why.contains(words) || why.contains("holds bytes"), "{parent} {attach:?}: {why}");
            });
        }
    }
    while let Some(end) = all.join_next().await {
        end.unwrap();
    }
    gate.open();
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    for node in nodes {
        assert!(node.outcome().await.streams == [("data".into(), bytes.clone(), true)]);
    }
}
