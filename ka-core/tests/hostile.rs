//! Nodes that lie, strangers that disturb: real sockets over loopback, every hostile one written by hand.
//!
//! A node lies best when it is what it says it is: a [`Fake`] joins as any node does, and is placed by its port.
#![cfg(feature = "io")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use common::{Gate, LONG, Lab, NodeOutcome, NodeSink, Place, Serving, noise};
use ka_core::cipher::Part;
use ka_core::key::Key;
use ka_core::limits::{BEAT, BLOCK_BYTES, SEGMENT_BLOCKS};
use ka_core::net::{ClientConfig, Control, JoinError, Ports, ServerEvent, join};
use ka_core::proto::{Event, Report};
use ka_core::seal::Checker;
use ka_core::types::{Epoch, Floors, NodeId, Offset, Position, SessionId};
use ka_core::wire::control::{
    Counters, Hello, Outcome, Peer, Progress, Reason, Receipt, Role, ToCoordinator, ToNode, View, Welcome,
};
use ka_core::wire::data::{ATTACH_BYTES, Attach, GRANT_BYTES, Grant, HEADER_BYTES, Header, Kind, Refuse};
use ka_core::wire::discovery::{Question, encode_question};
use ka_core::wire::{self, Malformed, PREFACE_BYTES, Plane, codec};
use snow::StatelessTransportState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

// ---- a node written by hand ----

struct Fake {
    control: OwnedReadHalf,
    keys: Arc<StatelessTransportState>,
    /// How many messages it has heard.
    heard: u64,
    /// What it says to the server; in between it says that it lives.
    says: mpsc::UnboundedSender<Vec<u8>>,
    welcome: Welcome,
    /// What it knows of the true tape.
    checker: Checker,
    listener: TcpListener,
    /// Its links, open until it goes: what a child still has to read must not be cut off.
    links: Option<(OwnedReadHalf, OwnedWriteHalf, JoinHandle<()>)>,
}

impl Fake {
    /// Joins as the node that comes first: its port is below every port that nodes take by themselves.
    async fn first(server: &Place) -> Self {
        let shift = (std::process::id() % 10_000) as u16;
        for port in (0..10_000).map(|i| 20_000 + (i + shift) % 10_000) {
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                return Self::join(server, listener, port).await;
            }
        }
        panic!("no port below 30000 is free");
    }

    /// Joins as the node that comes last, which nobody will dial.
    async fn last(server: &Place) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::join(server, listener, u16::MAX).await
    }

    async fn join(server: &Place, listener: TcpListener, data_port: u16) -> Self {
        let (mut control, keys) = member(server).await;
        control.write_all(&sealed(&keys, 0, &encoded(&hello(data_port)))).await.unwrap();
        match hear(&mut control, &keys, 0).await {
            Some(ToNode::Welcome(welcome)) => {
                let checker =
                    Checker::new(welcome.session, &welcome.key, welcome.payload.clone()).expect("a key");
                let (control, writer) = control.into_split();
                let says = say_and_beat(writer, Arc::clone(&keys));
                Self { control, keys, heard: 1, says, welcome, checker, listener, links: None }
            }
            other => panic!("no welcome but {other:?}"),
        }
    }

    fn id(&self) -> NodeId {
        self.welcome.node
    }

    fn say(&self, message: &ToCoordinator) {
        self.says.send(encoded(message)).unwrap();
    }

    /// The next that the server says.
    async fn hear(&mut self) -> Option<ToNode> {
        self.heard += 1;
        hear(&mut self.control, &self.keys, self.heard - 1).await
    }

    /// Waits for the first view: who is the parent.
    async fn view(&mut self) -> (Epoch, Peer) {
        loop {
            if let ToNode::View(View { epoch, parent, .. }) = self.hear().await.expect("a view") {
                return (epoch, parent.expect("a node has a parent"));
            }
        }
    }

    fn attach(&self, epoch: Epoch) -> Attach {
        let (session, child) = (self.welcome.session, self.id());
        Attach { session, child, epoch, grant: all(Position::START) }
    }

    /// Relays from its parent to the child that dials, byte for byte except for what `lie` does to the frames.
    /// If all came, the links stay.
    async fn relay(&mut self, mut lie: impl FnMut(Kind, &mut Vec<u8>) -> Act) {
        let (_, parent) = self.view().await;
        let (mut child, _) = timeout(LONG, self.listener.accept()).await.expect("a child dials").unwrap();
        assert_eq!(read_preface(&mut child).await, wire::preface(Plane::Data));
        let (kind, body) = read_frame(&mut child).await.expect("an attach");
        assert_eq!(kind, Kind::Attach);
        let own = Attach { child: self.id(), ..Attach::decode(&body).unwrap() };
        let mut up = dial(parent.addr, own).await;
        assert_eq!(read_preface(&mut up).await, wire::preface(Plane::Data));
        child.write_all(&wire::preface(Plane::Data)).await.unwrap();

        let (mut up, mut up_writes) = up.into_split();
        let (mut child_reads, mut child) = child.into_split();
        // It holds on to the writing half, or the parent would take the link for closed.
        let grants = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut child_reads, &mut up_writes).await;
            std::future::pending::<()>().await;
            drop(up_writes);
        });
        while let Some((kind, mut body)) = read_item(&mut up).await {
            self.check(kind, &body);
            let last = self.checker.closed();
            let times = match lie(kind, &mut body) {
                Act::Pass => 1,
                Act::Skip => 0,
                Act::Twice => 2,
                Act::Cut => {
                    grants.abort();
                    return;
                }
            };
            for _ in 0..times {
                // A child that has seen through the lie is gone.
                let _ = child.write_all(&frame(kind, &body)).await;
            }
            if last {
                break;
            }
        }
        self.links = Some((up, child, grants));
    }

    /// What comes from its parent is true.
    fn check(&mut self, kind: Kind, body: &[u8]) {
        let checked = match kind {
            Kind::Block => self.checker.block(body),
            Kind::Statement => self.checker.statement(body).map(drop),
            kind => panic!("a parent does not send {kind:?}"),
        };
        checked.unwrap_or_else(|why| panic!("the true tape: {why}"));
    }

    /// Takes what its parent sends to the end: these bytes.
    async fn takes_the_rest(&mut self, stream: &mut TcpStream, bytes: &[u8]) {
        let mut got = Vec::new();
        while !self.checker.closed() {
            let (kind, body) = read_item(stream).await.expect("the rest of the tape");
            self.check(kind, &body);
            if kind == Kind::Block {
                got.extend(body);
            }
        }
        self.welcome.payload.keystream(0, Part::Bytes).expect("a secure session").apply(&mut got);
        assert!(got == bytes, "the bytes differ");
    }

    /// Says it is well, and waits to be let go.
    async fn ends_well(mut self) {
        let (outcome, counters) = (Outcome::Ok, Counters::default());
        let (bytes, chain) = (self.checker.position().offset.0, self.checker.chain());
        self.say(&ToCoordinator::Complete);
        self.say(&ToCoordinator::Receipt(Receipt { outcome, bytes, chain, counters }));
        while self.hear().await.is_some_and(|m| m != ToNode::Release) {}
        if let Some((_, _, grants)) = self.links {
            grants.abort();
        }
    }
}

/// Says what is to be said, and that it lives when there is nothing, until nobody can say anything any more.
fn say_and_beat(
    mut writer: OwnedWriteHalf,
    keys: Arc<StatelessTransportState>,
) -> mpsc::UnboundedSender<Vec<u8>> {
    let (tx, mut rx) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        // The hello was the first.
        for number in 1.. {
            let bytes = match timeout(BEAT, rx.recv()).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return,
                Err(_) => encoded(&ToCoordinator::Progress(Progress::default())),
            };
            if writer.write_all(&sealed(&keys, number, &bytes)).await.is_err() {
                return;
            }
        }
    });
    tx
}

/// What becomes of a frame that passes a false relay.
enum Act {
    Pass,
    Skip,
    Twice,
    Cut,
}

/// The number that a statement begins with, behind its signature.
const END: u8 = 2;
const CLOSE: u8 = 3;

fn is_statement(kind: Kind, body: &[u8], wanted: u8) -> bool {
    const SIGNATURE_BYTES: usize = 64;
    kind == Kind::Statement && body[SIGNATURE_BYTES] == wanted
}

fn encoded(message: &ToCoordinator) -> Vec<u8> {
    codec::encode_control(message).unwrap()
}

/// A frame of the control connection.
fn sealed(keys: &StatelessTransportState, number: u64, body: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; body.len() + 16];
    keys.write_message(number, body, &mut sealed).unwrap();
    [&(sealed.len() as u32).to_le_bytes()[..], &sealed].concat()
}

/// Comes to the server as one who knows its key.
async fn member(server: &Place) -> (TcpStream, Arc<StatelessTransportState>) {
    let psk = server.key.derive("ka 1 control connection", b"");
    let prologue = wire::preface(Plane::Control);
    let pattern = "Noise_NXpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
    let node = snow::Builder::new(pattern).psk(0, &psk).unwrap().prologue(&prologue).unwrap();
    let mut node = node.build_initiator().unwrap();
    let mut stream = TcpStream::connect(server.control).await.unwrap();
    let mut message = [0; 48];
    node.write_message(&[], &mut message).unwrap();
    stream.write_all(&[&prologue[..], &message].concat()).await.unwrap();
    assert_eq!(read_preface(&mut stream).await, prologue);
    let mut message = [0; 96];
    stream.read_exact(&mut message).await.unwrap();
    node.read_message(&message, &mut []).unwrap();
    assert!(server.key.pins(node.get_remote_static().unwrap().try_into().unwrap()));
    (stream, Arc::new(node.into_stateless_transport_mode().unwrap()))
}

/// A node's first message.
fn hello(data_port: u16) -> ToCoordinator {
    ToCoordinator::Hello(Hello {
        session: None,
        incarnation: 1,
        role: Role::Node { data_port, wait: false, back: None },
        label: "fake".into(),
    })
}

/// The next control message; `None` when the connection has ended.
async fn hear(
    control: &mut (impl AsyncReadExt + Unpin),
    keys: &StatelessTransportState,
    number: u64,
) -> Option<ToNode> {
    let reads = async {
        let len = control.read_u32_le().await.ok()?;
        let mut body = vec![0; len as usize];
        control.read_exact(&mut body).await.ok()?;
        let mut message = vec![0; body.len() - 16];
        keys.read_message(number, &body, &mut message).unwrap();
        Some(codec::decode_control(&message).unwrap())
    };
    timeout(LONG, reads).await.expect("the server says something in time")
}

fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    [&Header { kind, len: body.len() }.encode()[..], body].concat()
}

async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(Kind, Vec<u8>)> {
    let reads = async {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).await.ok()?;
        let Header { kind, len } = Header::decode(header).unwrap();
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    };
    timeout(LONG, reads).await.expect("a frame, or the end, in time")
}

/// The next frame that is more than a sign of life.
async fn read_item(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(Kind, Vec<u8>)> {
    loop {
        let frame = read_frame(stream).await;
        if !matches!(frame, Some((Kind::Beat, _))) {
            return frame;
        }
    }
}

async fn read_preface(stream: &mut TcpStream) -> [u8; PREFACE_BYTES] {
    let mut preface = [0; PREFACE_BYTES];
    let read = timeout(LONG, stream.read_exact(&mut preface)).await.expect("a preface in time");
    read.unwrap_or_else(|e| panic!("no preface: {e}"));
    preface
}

/// The first bytes of a child.
fn attaching(attach: Attach) -> Vec<u8> {
    assert_eq!(attach.encode().len(), ATTACH_BYTES);
    [&wire::preface(Plane::Data)[..], &frame(Kind::Attach, &attach.encode())].concat()
}

async fn dial(parent: SocketAddr, attach: Attach) -> TcpStream {
    let mut stream = TcpStream::connect(parent).await.unwrap();
    stream.write_all(&attaching(attach)).await.unwrap();
    stream
}

/// Everything that is said until the connection ends.
async fn all_said(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = timeout(LONG, stream.read_to_end(&mut said)).await.expect("it hangs up in time");
    said
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_tape_without_its_close_is_not_complete() {
    let end = fooled(|kind, body| if is_statement(kind, body, CLOSE) { Act::Cut } else { Act::Pass });
    end.await.others_are_whole("cut before the close");
}

// ---- strangers ----

/// What does not belong on a port of this plane, and what the answer is.
fn garbage(plane: Plane) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let ours = |more: &[u8]| [&wire::preface(plane)[..], more].concat();
    let (other, unfit) = match plane {
        Plane::Control => (Plane::Data, sealed_by_nobody()),
        Plane::Data => (Plane::Control, frame(Kind::Grant, &all(Position::START).encode())),
    };
    let mut newer = ours(&attaching(nobody(SessionId([0; 16]))));
    newer[4] = 9;
    let refusal = match plane {
        Plane::Control => wire::refusing_preface(plane).to_vec(),
        Plane::Data => Vec::new(),
    };
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

async fn linked(server: &mut Serving) {
    let is_linked = |e| matches!(e, ServerEvent::Session(Event::Linked { .. })).then_some(());
    server.until("a link comes up", is_linked).await;
}

/// Waits until some bytes are there.
async fn receives(server: &mut Serving, node: NodeId) {
    let some = |e| match e {
        ServerEvent::Session(Event::Progress { node: n, progress }) if n == node => {
            (progress.received > Offset::ZERO).then_some(())
        }
        _ => None,
    };
    server.until("the first bytes arrive", some).await;
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
    linked(&mut server).await;
    linked(&mut server).await;
    receives(&mut server, node_a.max(node_b)).await;

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
    let joined = join(config, |_| Err("no sink".into()), inbox, |_| ());
    let end = timeout(LONG, joined).await.expect("it gives up in time");
    assert!(matches!(end, Err(JoinError::Protocol(_, Malformed::Version(9)))), "{end:?}");
    server.await.unwrap();
}

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

// ---- children that are none ----

/// A child that no view names.
fn nobody(session: SessionId) -> Attach {
    Attach { session, child: NodeId(99), epoch: Epoch(1), grant: all(Position::START) }
}

/// It and everybody below it holds the tape to `at`, and takes all that comes.
fn all(at: Position) -> Grant {
    Grant { floors: Floors::all(at), upto: Offset(u64::MAX) }
}

/// Attaches to a parent that refuses: its words.
async fn refused(parent: SocketAddr, attach: Attach) -> String {
    let said = all_said(dial(parent, attach).await).await;
    let (preface, mut rest) = said.split_at_checked(PREFACE_BYTES).expect("a preface");
    assert_eq!(preface, wire::refusing_preface(Plane::Data));
    let (kind, body) = read_frame(&mut rest).await.expect("a refusal");
    assert_eq!(kind, Kind::Refuse);
    assert!(rest.is_empty());
    Refuse::decode(&body).unwrap().why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_another_session_or_of_nobody_is_refused() {
    let gate = Gate::default();
    let lab = Lab { gate: Some(gate.clone()), ..Lab::new("replay") };
    let bytes = noise(BYTES);
    let mut server = lab.serve(2, vec![("data", bytes.clone())]);
    let place = server.open().await;
    let nodes = [lab.join(good), lab.join(good)];
    let (_, port_a) = server.joined().await;
    let (_, port_b) = server.joined().await;
    receives(&mut server, NodeId(1)).await;

    let mut all = JoinSet::new();
    for parent in [place.data, port_a, port_b] {
        let session = place.session;
        // Last week's attach, word for word; a child of nobody; one whose view is newer, which may wait a while.
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
    assert_eq!(peer, Peer { node: parent, addr: port });
    let honest = fake.attach(epoch);

    // Half of the tape is here. By its bytes it cannot be further than by its items, nor the other way round, nor may
    // those below it; and it takes no less than it holds.
    receives(&mut server, parent).await;
    let far = u64::MAX / 2;
    let place = |item, offset| Position { item, offset: Offset(offset) };
    let below = |level: usize, at| {
        let mut grant = all(Position::START);
        grant.floors.0[level] = at;
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
        let why = refused(port, Attach { grant, ..honest }).await;
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
    .map(|grant| frame(Kind::Grant, &grant.encode()));
    let nonsense =
        [frame(Kind::Block, b"to its parent"), vec![0xff; GRANT_BYTES], frame(Kind::Grant, b"short")];
    for said in lies.into_iter().chain(nonsense) {
        let mut stream = dial(port, honest).await;
        assert_eq!(read_preface(&mut stream).await, wire::preface(Plane::Data));
        stream.write_all(&said).await.unwrap();
        all_said(stream).await;
    }

    // And then it takes the tape like any other. What those below it hold may be behind the tape or ahead of it.
    let far = Floors([Position::START, place(far, far), Position::END, Position::START]);
    let grant = Grant { floors: far, ..honest.grant };
    let mut stream = dial(port, Attach { grant, ..honest }).await;
    assert_eq!(read_preface(&mut stream).await, wire::preface(Plane::Data));
    gate.open();
    fake.takes_the_rest(&mut stream, &bytes).await;
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
    assert_eq!(peer, Peer { node: parent, addr: port });
    let honest = fake.attach(epoch);

    // The tape will come to so many items, but not to so many bytes. Until then the child is told that its parent
    // lives, and nothing else.
    let ahead = all(Position { item: 26, offset: Offset(400 << 20) });
    let mut liar = dial(port, Attach { grant: ahead, ..honest }).await;
    assert_eq!(read_preface(&mut liar).await, wire::preface(Plane::Data));
    assert_eq!(read_frame(&mut liar).await, Some((Kind::Beat, Vec::new())));
    gate.open();
    while let Some(said) = read_frame(&mut liar).await {
        assert_eq!(said, (Kind::Beat, Vec::new()), "to a child that is nowhere");
    }

    let mut stream = dial(port, honest).await;
    assert_eq!(read_preface(&mut stream).await, wire::preface(Plane::Data));
    fake.takes_the_rest(&mut stream, &bytes).await;
    fake.ends_well().await;
    let report = server.report().await;
    assert!(report.is_ok(), "{report:?}");
    assert!(node.outcome().await.streams == [("data".into(), bytes, true)]);
}
