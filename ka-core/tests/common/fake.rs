//! A node written by hand: it joins as any node does, and then says what a test has it say.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ka_core::crypto::link_keys::LinkKey;
use ka_core::crypto::payload::Part;
use ka_core::limits::PROGRESS_INTERVAL;
use ka_core::tape::chain::{Checker, hash};
use ka_core::types::{Epoch, NodeId, Offset, Position, SessionId, Watermarks};
use ka_core::wire::control::{
    Counters, Hello, Outcome, Peer, Progress, Receipt, Role, ToCoordinator, ToNode, View, Welcome,
};
use ka_core::wire::data::{ATTACH_BYTES, Attach, Grant, HEADER_BYTES, Header, Kind};
use ka_core::wire::{self, PREFACE_BYTES, Plane, TAG_BYTES, codec};
use snow::{HandshakeState, StatelessTransportState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{LONG, Place};

pub(crate) struct Fake {
    control: OwnedReadHalf,
    keys: Arc<StatelessTransportState>,
    /// How many messages it has heard.
    heard: u64,
    /// What it says to the server; in between it says that it lives.
    pub(crate) says: mpsc::UnboundedSender<Vec<u8>>,
    pub(crate) welcome: Welcome,
    /// What it knows of the true tape.
    checker: Checker,
    listener: Arc<TcpListener>,
    /// Its links, open until it goes: what a child still has to read must not be cut off.
    pub(crate) links: Option<(Ear, Mouth, JoinHandle<Mouth>)>,
}

impl Fake {
    /// Joins as the node that comes first: its port is below every port that nodes take by themselves.
    pub(crate) async fn first(server: &Place) -> Self {
        let shift = (std::process::id() % 10_000) as u16;
        for port in (0..10_000).map(|i| 20_000 + (i + shift) % 10_000) {
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                return Self::join(server, listener, port).await;
            }
        }
        panic!("no port below 30000 is free");
    }

    /// Joins as the node that comes last, which nobody will dial.
    pub(crate) async fn last(server: &Place) -> Self {
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
                Self {
                    control,
                    keys,
                    heard: 1,
                    says,
                    welcome,
                    checker,
                    listener: Arc::new(listener),
                    links: None,
                }
            }
            other => panic!("no welcome but {other:?}"),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.welcome.node
    }

    pub(crate) fn say(&self, message: &ToCoordinator) {
        self.says.send(encoded(message)).unwrap();
    }

    /// The next that the server says.
    async fn hear(&mut self) -> Option<ToNode> {
        self.heard += 1;
        hear(&mut self.control, &self.keys, self.heard - 1).await
    }

    /// Waits for the first view: who is the parent.
    pub(crate) async fn view(&mut self) -> (Epoch, Peer) {
        loop {
            if let ToNode::View(View { epoch, parent, .. }) = self.hear().await.expect("a view") {
                return (epoch, parent.expect("a node has a parent"));
            }
        }
    }

    pub(crate) fn attach(&self, epoch: Epoch) -> Attach {
        let (session, child) = (self.welcome.session, self.id());
        Attach { session, child, epoch, grant: all(Position::START) }
    }

    /// Dials its parent with an attach; `None` if the parent does not know the key.
    pub(crate) async fn dial(&self, parent: &Peer, attach: Attach) -> Option<DataLink> {
        let key = parent.key.as_ref().expect("the session has keys");
        DataLink::dial(parent.addr, key, self.welcome.session, attach).await
    }

    /// Dials its parent, and is accepted.
    pub(crate) async fn attached(&self, parent: &Peer, attach: Attach) -> DataLink {
        let mut link = self.dial(parent, attach).await.expect("the parent knows the key");
        assert_eq!(link.ear.hear().await, Some((Kind::Beat, Vec::new())), "it is accepted");
        link
    }

    /// Hears the child out that dials.
    async fn child(&self) -> (DataLink, Attach) {
        let (stream, _) = timeout(LONG, self.listener.accept()).await.expect("a child dials").unwrap();
        let own = self.welcome.link.as_ref().expect("the session has keys");
        DataLink::answer(stream, own, self.welcome.session).await
    }

    /// Relays from its parent to the child that dials, byte for byte except for what `lie` does to the
    /// frames. If all came, the links stay.
    pub(crate) async fn relay(&mut self, mut lie: impl FnMut(Kind, &mut Vec<u8>) -> Act) {
        let (_, parent) = self.view().await;
        let (child, attach) = self.child().await;
        let up = self.attached(&parent, Attach { child: self.id(), ..attach }).await;
        let (DataLink { ear: mut up, mouth: to_parent }, DataLink { ear: grants, mouth: mut child }) =
            (up, child);
        child.say(Kind::Beat, &[]).await;
        let mut grants = pass_on(grants, to_parent);
        let mut items = attach.grant.watermarks.held().item;
        while let Some((kind, mut body)) = up.item().await {
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
                Act::OnTheWire(change) => {
                    let item = child.item(kind, &body);
                    let changed = change(child.last(), item);
                    child.write(&changed).await;
                    let mut to_parent = grants.await.unwrap();
                    let (again, attach) = self.child().await;
                    to_parent.say(Kind::Grant, &attach.grant.encode()).await;
                    child = again.mouth;
                    child.say(Kind::Beat, &[]).await;
                    grants = pass_on(again.ear, to_parent);
                    // What it took before the change it does not get again.
                    match attach.grant.watermarks.held().item.checked_sub(items) {
                        Some(0) => 1,
                        Some(1) => 0,
                        other => panic!("it goes on where it was, and not {other:?} items further"),
                    }
                }
            };
            items += 1;
            for _ in 0..times {
                let item = child.item(kind, &body);
                child.write(&item).await;
            }
            if last {
                break;
            }
        }
        self.links = Some((up, child, grants));
    }

    /// Accepts every child that dials, over a wire that changes whatever is sent to it then.
    pub(crate) fn is_behind_a_wire_that_changes_everything(&self) -> JoinHandle<()> {
        let (listener, welcome) = (Arc::clone(&self.listener), self.welcome.clone());
        tokio::spawn(async move {
            let own = welcome.link.as_ref().expect("the session has keys");
            while let Ok((stream, _)) = listener.accept().await {
                let (DataLink { ear, mut mouth }, _) = DataLink::answer(stream, own, welcome.session).await;
                mouth.say(Kind::Beat, &[]).await;
                let mut item = mouth.item(Kind::Statement, &[7; 200]);
                item[HEADER_BYTES] ^= 1;
                mouth.write(&item).await;
                all_said(ear.half).await;
            }
        })
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
    pub(crate) async fn takes_the_rest(&mut self, link: &mut DataLink, bytes: &[u8]) {
        let mut got = Vec::new();
        while !self.checker.closed() {
            let (kind, body) = link.ear.item().await.expect("the rest of the tape");
            self.check(kind, &body);
            if kind == Kind::Block {
                got.extend(body);
            }
        }
        self.welcome.payload.keystream(0, Part::Bytes).expect("a secure session").apply(&mut got);
        assert!(got == bytes, "the bytes differ");
    }

    /// Says it is well, and waits to be let go.
    pub(crate) async fn ends_well(mut self) {
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

/// What becomes of a frame that passes a false relay.
pub(crate) enum Act {
    Pass,
    Skip,
    Twice,
    Cut,
    /// The wire makes these bytes of the item, as sent, and the one before it. The child hangs up, and dials
    /// again.
    OnTheWire(fn(&[u8], Vec<u8>) -> Vec<u8>),
}

/// Passes a child's grants on until it hangs up. Who waits for the end holds the way to the parent open.
fn pass_on(mut grants: Ear, mut to_parent: Mouth) -> JoinHandle<Mouth> {
    tokio::spawn(async move {
        while let Some((kind, said)) = grants.hear().await {
            to_parent.say(kind, &said).await;
        }
        to_parent
    })
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
            let bytes = match timeout(PROGRESS_INTERVAL, rx.recv()).await {
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

// ---- its control connection ----

pub(crate) fn encoded(message: &ToCoordinator) -> Vec<u8> {
    codec::encode_control(message).unwrap()
}

/// A frame of the control connection.
pub(crate) fn sealed(keys: &StatelessTransportState, number: u64, body: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; body.len() + 16];
    keys.write_message(number, body, &mut sealed).unwrap();
    [&(sealed.len() as u32).to_le_bytes()[..], &sealed].concat()
}

/// Comes to the server as one who knows its key.
pub(crate) async fn member(server: &Place) -> (TcpStream, Arc<StatelessTransportState>) {
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
pub(crate) fn hello(data_port: u16) -> ToCoordinator {
    ToCoordinator::Hello(Hello {
        session: None,
        incarnation: 1,
        role: Role::Node { data_port, wait: false, back: None },
        label: "fake".into(),
        about: Vec::new(),
    })
}

/// The next control message; `None` when the connection has ended.
pub(crate) async fn hear(
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

// ---- a data link written by hand ----

/// One end of a sealed data link.
pub(crate) struct DataLink {
    pub(crate) ear: Ear,
    pub(crate) mouth: Mouth,
}

/// What comes.
pub(crate) struct Ear {
    half: OwnedReadHalf,
    keys: Arc<StatelessTransportState>,
    heard: u64,
    tags: Tags,
}

/// What goes.
pub(crate) struct Mouth {
    half: OwnedWriteHalf,
    keys: Arc<StatelessTransportState>,
    said: u64,
    tags: Tags,
    /// All of it, for who overhears it.
    pub(crate) sent: Vec<u8>,
    /// The offset at which the last of it begins.
    last: usize,
}

/// The tags of one direction, as `PROTOCOL.md` describes them.
#[derive(Clone)]
struct Tags {
    key: [u8; 32],
    items: u64,
}

impl Tags {
    fn next(&mut self, header: [u8; HEADER_BYTES], body: &[u8]) -> [u8; TAG_BYTES] {
        let said = [&self.items.to_le_bytes()[..], &header, &hash(body)].concat();
        self.items += 1;
        *blake3::keyed_hash(&self.key, &said).as_bytes().first_chunk().unwrap()
    }
}

impl DataLink {
    /// A child's, which has said its attach; `None` if the parent does not know the key, and says nothing
    /// else.
    pub(crate) async fn dial(
        parent: SocketAddr,
        key: &LinkKey,
        session: SessionId,
        attach: Attach,
    ) -> Option<Self> {
        Self::dial_as(parent, key, session, attach.child, &attach.encode()).await
    }

    /// The same of one that may attach for another than it says it is.
    pub(crate) async fn dial_as(
        parent: SocketAddr,
        key: &LinkKey,
        session: SessionId,
        child: NodeId,
        attach: &[u8],
    ) -> Option<Self> {
        let mut state = handshake(key, session, child, true);
        let mut message = [0; MESSAGE_BYTES];
        state.write_message(&[], &mut message).unwrap();
        let hello = [&wire::preface(Plane::Data)[..], &child.0.to_le_bytes(), &message].concat();
        let mut stream = TcpStream::connect(parent).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let preface = read_preface(&mut stream).await;
        if preface == wire::refusing_preface(Plane::Data) {
            assert!(all_said(stream).await.is_empty(), "it says nothing more");
            return None;
        }
        assert_eq!(preface, wire::preface(Plane::Data));
        stream.read_exact(&mut message).await.unwrap();
        state.read_message(&message, &mut []).unwrap();
        let mut link = Self::new(stream, key, state);
        link.mouth.sent = hello;
        link.mouth.say(Kind::Attach, attach).await;
        Some(link)
    }

    /// A parent's, and what the child says first. It has not been answered.
    pub(crate) async fn answer(mut stream: TcpStream, own: &LinkKey, session: SessionId) -> (Self, Attach) {
        assert_eq!(read_preface(&mut stream).await, wire::preface(Plane::Data));
        let child = NodeId(stream.read_u32_le().await.unwrap());
        let mut message = [0; MESSAGE_BYTES];
        stream.read_exact(&mut message).await.unwrap();
        let key = own.of_child(child);
        let mut state = handshake(&key, session, child, false);
        state.read_message(&message, &mut []).unwrap();
        state.write_message(&[], &mut message).unwrap();
        let mut link = Self::new(stream, &key, state);
        link.mouth.write(&[&wire::preface(Plane::Data)[..], &message].concat()).await;
        let (kind, said) = link.ear.hear().await.expect("an attach");
        assert_eq!(kind, Kind::Attach);
        (link, Attach::decode(&said).unwrap())
    }

    fn new(stream: TcpStream, key: &LinkKey, state: HandshakeState) -> Self {
        let material = [&key.bytes()[..], state.get_handshake_hash()].concat();
        let tags = Tags { key: blake3::derive_key("ka 1 tape on a data link", &material), items: 0 };
        let keys = Arc::new(state.into_stateless_transport_mode().unwrap());
        let (reads, writes) = stream.into_split();
        let ear = Ear { half: reads, keys: Arc::clone(&keys), heard: 0, tags: tags.clone() };
        Self { ear, mouth: Mouth { half: writes, keys, said: 0, tags, sent: Vec::new(), last: 0 } }
    }

    /// Everything that is said until the connection ends.
    pub(crate) async fn all_said(self) -> Vec<u8> {
        all_said(self.ear.half).await
    }
}

/// Bytes of either message of the handshake.
const MESSAGE_BYTES: usize = 32 + TAG_BYTES;

fn handshake(key: &LinkKey, session: SessionId, child: NodeId, initiator: bool) -> HandshakeState {
    let prologue = [&wire::preface(Plane::Data)[..], &child.0.to_le_bytes(), &session.0].concat();
    let pattern = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
    let side = snow::Builder::new(pattern).psk(0, key.bytes()).unwrap().prologue(&prologue).unwrap();
    if initiator { side.build_initiator().unwrap() } else { side.build_responder().unwrap() }
}

impl Ear {
    /// The next frame, opened unless it is the tape's; `None` when the connection has ended.
    pub(crate) async fn hear(&mut self) -> Option<(Kind, Vec<u8>)> {
        let (kind, mut body) = read_frame(&mut self.half).await?;
        if matches!(kind, Kind::Statement | Kind::Block) {
            let header = Header { kind, len: body.len() }.encode();
            let tag = body.split_off(body.len() - TAG_BYTES);
            assert_eq!(tag, self.tags.next(header, &body), "the tag of an item");
            return Some((kind, body));
        }
        let mut said = vec![0; body.len() - TAG_BYTES];
        self.keys.read_message(self.heard, &body, &mut said).unwrap();
        self.heard += 1;
        Some((kind, said))
    }

    /// The next frame that is more than a sign of life.
    pub(crate) async fn item(&mut self) -> Option<(Kind, Vec<u8>)> {
        loop {
            let frame = self.hear().await;
            if !matches!(frame, Some((Kind::Beat, _))) {
                return frame;
            }
        }
    }
}

impl Mouth {
    /// A sealed frame.
    pub(crate) fn seal(&mut self, kind: Kind, said: &[u8]) -> Vec<u8> {
        let mut body = vec![0; said.len() + TAG_BYTES];
        self.keys.write_message(self.said, said, &mut body).unwrap();
        self.said += 1;
        frame(kind, &body)
    }

    /// The frame of the next item.
    pub(crate) fn item(&mut self, kind: Kind, body: &[u8]) -> Vec<u8> {
        let header = Header { kind, len: body.len() + TAG_BYTES }.encode();
        [&header[..], body, &self.tags.next(header, body)].concat()
    }

    /// What was written last.
    fn last(&self) -> &[u8] {
        &self.sent[self.last..]
    }

    pub(crate) async fn say(&mut self, kind: Kind, said: &[u8]) {
        let frame = self.seal(kind, said);
        self.write(&frame).await;
    }

    /// Writes these bytes. Who has seen through a lie is gone.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.half.write_all(bytes).await;
        self.last = self.sent.len();
        self.sent.extend(bytes);
    }
}

// ---- frames ----

pub(crate) fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    [&Header { kind, len: body.len() }.encode()[..], body].concat()
}

pub(crate) async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(Kind, Vec<u8>)> {
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

pub(crate) async fn read_preface(stream: &mut TcpStream) -> [u8; PREFACE_BYTES] {
    let mut preface = [0; PREFACE_BYTES];
    let read = timeout(LONG, stream.read_exact(&mut preface)).await.expect("a preface in time");
    read.unwrap_or_else(|e| panic!("no preface: {e}"));
    preface
}

/// The first bytes of a child in an insecure session.
pub(crate) fn attaching(attach: Attach) -> Vec<u8> {
    assert_eq!(attach.encode().len(), ATTACH_BYTES);
    [&wire::preface(Plane::Data)[..], &frame(Kind::Attach, &attach.encode())].concat()
}

pub(crate) async fn dial_open(parent: SocketAddr, attach: Attach) -> TcpStream {
    let mut stream = TcpStream::connect(parent).await.unwrap();
    stream.write_all(&attaching(attach)).await.unwrap();
    stream
}

/// Everything that is said until the connection ends.
pub(crate) async fn all_said(mut stream: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = timeout(LONG, stream.read_to_end(&mut said)).await.expect("it hangs up in time");
    said
}

/// It and everybody below it holds the tape to `at`, and takes all that comes.
pub(crate) fn all(at: Position) -> Grant {
    Grant { watermarks: Watermarks::all(at), upto: Offset(u64::MAX) }
}
