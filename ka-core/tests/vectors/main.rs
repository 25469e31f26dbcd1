//! The bytes themselves: the code writes and reads what `vectors.txt` lists, as `PROTOCOL.md` describes it, and nothing else.
//!
//! A change here is a change of the protocol: see the rules for its version in `PROTOCOL.md`.

#![cfg(feature = "io")]

mod independent;

use std::fmt::{Debug, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use ctr::cipher::{BlockCipherEncrypt, KeyInit};
use ka_core::crypto::link_keys::LinkKey;
use ka_core::crypto::payload::{Part, PayloadKey};
use ka_core::crypto::session_key::Key;
use ka_core::limits::{BLOCK_BYTES, DISCOVERY_BYTES};
use ka_core::net::Identity;
use ka_core::tape::chain::{Checker, Sealer, Segment, Statement, StreamEnd, StreamInfo, hash};
use ka_core::types::{Epoch, NodeId, Offset, Position, SessionId, SessionName, Watermarks};
use ka_core::wire::codec::{decode_control, encode_control};
use ka_core::wire::control::{
    Blocked, Counters, Hello, LinkFault, Note, Outcome, Peer, Progress, Reason, Receipt, Refusal,
    RefusalCode, Role, ToCoordinator, ToNode, View, Welcome,
};
use ka_core::wire::data::{Attach, Grant, Header, Kind, Refuse};
use ka_core::wire::discovery::{self, Answer, Question, Secret, Stranger};
use ka_core::wire::{Plane, check_preface, preface};
use x25519_dalek::{PublicKey, StaticSecret};

/// A name, and its bytes in the lines below it. `PROTOCOL.md` says what each is.
const VECTORS: &str = include_str!("vectors.txt");

// ---- the values ----

/// 00 01 02 … 0f.
const SESSION: SessionId = SessionId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

/// 80 81 82 … 9f.
fn secret() -> [u8; 32] {
    std::array::from_fn(|i| 0x80 + i as u8)
}

fn name() -> SessionName {
    SessionName::new("lab").unwrap()
}

fn counters() -> Counters {
    Counters { grants: 1, full: 2, evicted: 3, held_max: 4, holds: 5, attaches: 6, reread: 7 }
}

/// 70 71 72 … 7b.
fn token() -> [u8; 12] {
    std::array::from_fn(|i| 0x70 + i as u8)
}

/// The asker's: a0 a1 a2 … bf.
fn asker() -> StaticSecret {
    StaticSecret::from(std::array::from_fn(|i| 0xa0 + i as u8))
}

/// The server's: c0 c1 c2 … df.
fn server() -> StaticSecret {
    StaticSecret::from(std::array::from_fn(|i| 0xc0 + i as u8))
}

fn public(of: &StaticSecret) -> [u8; 32] {
    PublicKey::from(of).to_bytes()
}

fn agreed() -> [u8; 32] {
    asker().diffie_hellman(&PublicKey::from(&server())).to_bytes()
}

fn secret_of_discovery(session: Option<SessionName>) -> Secret {
    Secret::new(&Key::new(token(), &public(&server())), session.as_ref())
}

fn questions() -> [(&'static str, Question); 2] {
    let question = |session| Question::new(&secret_of_discovery(session), public(&asker()));
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 40000);
    [
        ("question", question(Some(name()))),
        ("question-passed-on", Question { asker: Some(from), ..question(None) }),
    ]
}

/// The question of an asker of a version to come.
fn newer_question() -> Vec<u8> {
    let [(_, question), _] = questions();
    let mut bytes = discovery::encode_question(&question);
    bytes[4] = 9;
    bytes
}

fn answer() -> Answer {
    let (public, server) = (public(&asker()), public(&server()));
    let answer =
        Answer { public, server, session: SESSION, control_port: 30765, probing: true, tag: [0; 32] };
    answer.tagged(&secret_of_discovery(Some(name())), &agreed())
}

fn stranger() -> Stranger {
    Stranger { public: public(&asker()), secure: true }
}

fn to_coordinator() -> Vec<(&'static str, ToCoordinator)> {
    use ToCoordinator as T;
    let receipt = |outcome, bytes, chain| T::Receipt(Receipt { outcome, bytes, chain, counters: counters() });
    let progress = |blocked| {
        let (received, sunk, kept) = (Offset(65536), Offset(32768), Offset(16384));
        T::Progress(Progress { received, sunk, kept, blocked, counters: counters() })
    };
    let lost = Reason::Lost(NodeId(2), "reset".into());
    let hello = |back| {
        T::Hello(Hello {
            session: Some(name()),
            incarnation: 0x1122_3344_5566_7788,
            role: Role::Node { data_port: 30764, wait: true, back },
            label: "pc05".into(),
            about: b"about".to_vec(),
        })
    };
    let link_lost = |fault| T::LinkLost(Epoch(1), Offset(32768), fault);
    vec![
        ("hello-node", hello(None)),
        ("hello-node-back", hello(Some(NodeId(3)))),
        (
            "hello-go",
            T::Hello(Hello {
                session: None,
                incarnation: 1,
                role: Role::Go,
                label: String::new(),
                about: Vec::new(),
            }),
        ),
        ("linked", T::Linked(Epoch(1))),
        ("progress", progress(Blocked::No)),
        ("progress-blocked-by-sink", progress(Blocked::Sink)),
        ("progress-blocked-by-child", progress(Blocked::Child(NodeId(4)))),
        ("progress-blocked-below", progress(Blocked::Below)),
        ("link-lost-broken", link_lost(LinkFault::Broken("reset".into()))),
        ("link-lost-tainted", link_lost(LinkFault::Tainted("hash".into()))),
        ("link-lost-unreachable", link_lost(LinkFault::Unreachable("refused".into()))),
        ("link-lost-gone", link_lost(LinkFault::Gone(Offset(65536)))),
        ("complete", T::Complete),
        ("receipt-ok", receipt(Outcome::Ok, 32770, [0xcc; 32])),
        ("receipt-failed", receipt(Outcome::Failed(lost, Offset(32768)), 0, [0; 32])),
        ("receipt-unknown", receipt(Outcome::Unknown, 0, [0; 32])),
        ("note", T::Note(Note { topic: "stage".into(), text: "ready".into() })),
        ("stored", T::Stored(20)),
        ("state", T::State(b"state".to_vec())),
    ]
}

fn to_node() -> Vec<(&'static str, ToNode)> {
    use ToNode as T;
    let v4 = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 5), 30764));
    let v6 = SocketAddr::from((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5), 30764));
    let view = |parent: Option<Peer>, children: &[u32], keep| {
        let children = children.iter().map(|c| NodeId(*c)).collect();
        T::View(View { epoch: Epoch(1), parent, children, retain: keep })
    };
    let peer = |addr, key| Some(Peer { node: PARENT, addr, key });
    let key = Sealer::new(SESSION, secret(), PayloadKey::Plain).public_key();
    let welcome = |payload, link| {
        T::Welcome(Welcome { node: CHILD, session: SESSION, key, payload, expected: 8, link })
    };
    let own = || Some(links().of_node(CHILD));
    let refused = |code| T::Refused(Refusal::new(code, "no"));
    vec![
        ("welcome-aes", welcome(PayloadKey::Aes256(SECRET), own())),
        ("welcome-chacha", welcome(PayloadKey::ChaCha20(SECRET), own())),
        ("welcome-plain", welcome(PayloadKey::Plain, own())),
        ("welcome-insecure", welcome(PayloadKey::Plain, None)),
        ("refused-other-session", T::Refused(Refusal::other_session())),
        ("refused-started", refused(RefusalCode::Started(8))),
        ("refused-unknown", refused(RefusalCode::Unknown)),
        ("refused-full", refused(RefusalCode::Full)),
        ("refused-nobody-ready", refused(RefusalCode::NobodyReady)),
        ("refused-ending", refused(RefusalCode::Ending)),
        ("refused-invalid", refused(RefusalCode::Invalid)),
        ("refused-rule", refused(RefusalCode::Rule(7))),
        ("going", T::Going(8)),
        ("view-of-the-root", view(None, &[1, 2], false)),
        ("view-ipv4", view(peer(v4, Some(links().of_node(PARENT).of_child(CHILD))), &[4], false)),
        ("view-ipv6-insecure", view(peer(v6, None), &[], true)),
        ("beat", T::Beat),
        ("abort-source", T::Abort(Reason::Source("exit 1".into()))),
        ("abort-sink", T::Abort(Reason::Sink("disk full".into()))),
        ("abort-lost", T::Abort(Reason::Lost(NodeId(2), "reset".into()))),
        ("abort-tainted", T::Abort(Reason::Tainted(NodeId(2), "hash".into()))),
        ("abort-interrupted", T::Abort(Reason::Interrupted("Ctrl-C".into()))),
        ("abort-slow", T::Abort(Reason::Slow("1 MB/s".into()))),
        ("abort-missing", T::Abort(Reason::Missing(Offset(32768), Offset(65536)))),
        ("release", T::Release),
        ("stable", T::Stable(19)),
        ("stable-nobody", T::Stable(u64::MAX)),
    ]
}

fn attach() -> Attach {
    Attach {
        session: SESSION,
        child: NodeId(3),
        epoch: Epoch(1),
        grant: Grant { watermarks: Watermarks::leaf(at(4, 65536)), upto: Offset(67_174_400) },
    }
}

fn grant() -> Grant {
    let watermarks = Watermarks([at(20, 589_824), at(19, 524_288), at(3, 65536), Position::END]);
    Grant { watermarks, upto: Offset(67_698_688) }
}

fn at(item: u64, offset: u64) -> Position {
    Position { item, offset: Offset(offset) }
}

fn refusals() -> [(&'static str, Refuse); 2] {
    [
        ("refuse-gone", Refuse { kept: Some(Offset(65536)), why: "gone".into() }),
        ("refuse-other", Refuse { kept: None, why: "another session".into() }),
    ]
}

fn headers() -> [(&'static str, Header); 6] {
    [
        ("header-attach", Header { kind: Kind::Attach, len: 96 }),
        ("header-statement", Header { kind: Kind::Statement, len: 68 }),
        ("header-block", Header { kind: Kind::Block, len: BLOCK_BYTES }),
        ("header-grant", Header { kind: Kind::Grant, len: 72 }),
        ("header-refuse", Header { kind: Kind::Refuse, len: 12 }),
        ("header-beat", Header { kind: Kind::Beat, len: 0 }),
    ]
}

/// Byte number i is i mod 251.
fn full_block() -> Vec<u8> {
    (0..BLOCK_BYTES).map(|i| (i % 251) as u8).collect()
}

const LAST_BLOCK: &[u8] = b"ka";

fn tape() -> [(&'static str, Statement); 4] {
    let info = StreamInfo {
        number: 0,
        name: "disk".into(),
        metadata: vec![1, 2, 3],
        size: Some(BLOCK_BYTES as u64 + 2),
    };
    let hashes = vec![hash(&full_block()), hash(LAST_BLOCK)];
    [
        ("tape-begin", Statement::Begin(info)),
        ("tape-segment", Statement::Segment(Segment { last_bytes: 2, hashes })),
        ("tape-end", Statement::End(StreamEnd { length: BLOCK_BYTES as u64 + 2, failure: None })),
        ("tape-close", Statement::Close),
    ]
}

// ---- their bytes ----

/// What is to be in [`VECTORS`].
fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("encoding-bool-true", encode_control(&true).unwrap()),
        ("encoding-u16-30764", encode_control(&30764_u16).unwrap()),
        ("encoding-u32-7", encode_control(&7_u32).unwrap()),
        ("encoding-u64-7", encode_control(&7_u64).unwrap()),
        ("encoding-string", encode_control(&"lab").unwrap()),
        ("encoding-option-none", encode_control(&None::<u64>).unwrap()),
        ("encoding-option-some-u64-7", encode_control(&Some(7_u64)).unwrap()),
        ("encoding-list-of-u32-1-2", encode_control(&vec![1_u32, 2]).unwrap()),
        ("encoding-list-of-bytes", encode_control(&vec![1_u8, 2]).unwrap()),
        ("encoding-16-bytes", encode_control(&SESSION).unwrap()),
        ("preface-control", preface(Plane::Control).to_vec()),
        ("preface-data", preface(Plane::Data).to_vec()),
    ];
    let key = Key::new(token(), &public(&server()));
    all.push(("discovery-asker", public(&asker()).to_vec()));
    all.push(("discovery-server", public(&server()).to_vec()));
    all.push(("discovery-agreed", agreed().to_vec()));
    all.push(("discovery-secret", key.derive("ka 1 discovery", b"lab").to_vec()));
    all.push(("discovery-secret-nameless", key.derive("ka 1 discovery", b"").to_vec()));
    for (name, question) in questions() {
        all.push((name, unpadded(&discovery::encode_question(&question))));
    }
    all.push(("answer", unpadded(&discovery::encode_answer(&answer()))));
    all.push(("stranger", unpadded(&discovery::encode_stranger(&stranger()))));
    all.push(("answer-version", unpadded(&discovery::encode_version_answer(&newer_question()))));
    all.extend(keys());
    all.extend(handshake());
    all.extend(to_coordinator().into_iter().map(|(name, said)| (name, encode_control(&said).unwrap())));
    all.extend(to_node().into_iter().map(|(name, said)| (name, encode_control(&said).unwrap())));
    all.extend(headers().into_iter().map(|(name, header)| (name, header.encode().to_vec())));
    all.push(("attach", attach().encode()));
    all.push(("grant", grant().encode().to_vec()));
    all.extend(refusals().into_iter().map(|(name, refuse)| (name, refuse.encode())));
    all.extend(link_keys());
    all.extend(link());
    all.extend(payload());
    let mut sealer = Sealer::new(SESSION, secret(), PayloadKey::Plain);
    all.push(("tape-key", sealer.public_key().to_vec()));
    all.push(("tape-chain-0", sealer.chain().to_vec()));
    for ((name, statement), chain) in
        tape().into_iter().zip(["tape-chain-1", "tape-chain-2", "tape-chain-3", "tape-chain-4"])
    {
        all.push((name, sealer.seal(&statement).to_vec()));
        all.push((chain, sealer.chain().to_vec()));
    }
    all
}

const SECRET: [u8; 32] = counting(0x80);

/// 32 zeros as each part of stream 1 encrypts them: the keystream itself.
fn payload() -> Vec<(&'static str, Vec<u8>)> {
    let at = |key: &PayloadKey, part, offset| {
        let (mut keystream, mut zeros) = (key.keystream(1, part).unwrap(), vec![0; 32]);
        keystream.seek(offset);
        keystream.apply(&mut zeros);
        zeros
    };
    let (aes, chacha) = (PayloadKey::Aes256(SECRET), PayloadKey::ChaCha20(SECRET));
    vec![
        ("payload-aes-bytes", at(&aes, Part::Bytes, 0)),
        ("payload-aes-bytes-at-65543", at(&aes, Part::Bytes, 65_543)),
        ("payload-aes-bytes-at-2-to-40", at(&aes, Part::Bytes, 1 << 40)),
        ("payload-aes-begin", at(&aes, Part::Begin, 0)),
        ("payload-aes-end", at(&aes, Part::End, 0)),
        ("payload-chacha-bytes", at(&chacha, Part::Bytes, 0)),
        ("payload-chacha-bytes-at-65543", at(&chacha, Part::Bytes, 65_543)),
        ("payload-chacha-bytes-at-2-to-40", at(&chacha, Part::Bytes, 1 << 40)),
    ]
}

const TOKEN: [u8; 12] = counting(0x10);

/// The numbers from `first` on.
const fn counting<const N: usize>(first: u8) -> [u8; N] {
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = first + i as u8;
        i += 1;
    }
    bytes
}

fn identity() -> Identity {
    let hex: String = counting::<32>(0xa0).iter().map(|b| format!("{b:02x}")).collect();
    Identity::parse(&format!("ka server identity 1: keep it secret\n{hex}\n")).unwrap()
}

fn key() -> Key {
    Key::new(TOKEN, identity().public())
}

fn keys() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("key-public", identity().public().to_vec()),
        ("key-text", key().text().unwrap().as_bytes().to_vec()),
        ("key-control-secret", key().derive("ka 1 control connection", b"").to_vec()),
        ("key-discovery-secret", key().derive("ka 1 discovery", b"lab").to_vec()),
    ]
}

/// Both messages, and a Beat as the server's first frame.
fn handshake() -> Vec<(&'static str, Vec<u8>)> {
    let (psk, prologue) = (key().derive("ka 1 control connection", b""), preface(Plane::Control));
    let (secret, e_node, e_server) = (counting::<32>(0xa0), counting::<32>(0xc0), counting::<32>(0xe0));
    let side = |e| {
        let pattern = "Noise_NXpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
        let builder = snow::Builder::new(pattern).psk(0, &psk).unwrap().prologue(&prologue).unwrap();
        builder.fixed_ephemeral_key_for_testing_only(e)
    };
    let mut node = side(&e_node).build_initiator().unwrap();
    let mut server = side(&e_server).local_private_key(&secret).unwrap().build_responder().unwrap();
    let (mut first, mut second) = ([0; 48], [0; 96]);
    node.write_message(&[], &mut first).unwrap();
    server.read_message(&first, &mut []).unwrap();
    server.write_message(&[], &mut second).unwrap();
    node.read_message(&second, &mut []).unwrap();
    assert_eq!(node.get_remote_static().unwrap(), identity().public());
    let beat = encode_control(&ToNode::Beat).unwrap();
    let mut frame = vec![0; 4 + beat.len() + 16];
    let sealed = server.into_stateless_transport_mode().unwrap().write_message(0, &beat, &mut frame[4..]);
    frame[..4].copy_from_slice(&(sealed.unwrap() as u32).to_le_bytes());
    vec![("handshake-1", first.to_vec()), ("handshake-2", second.to_vec()), ("frame-beat", frame)]
}

/// Whose link it is.
const PARENT: NodeId = NodeId(2);
const CHILD: NodeId = NodeId(3);

/// What a session's data links are sealed with: 40 41 42 … 5f.
fn links() -> LinkKey {
    LinkKey::new(counting(0x40))
}

fn link_keys() -> Vec<(&'static str, Vec<u8>)> {
    let own = links().of_node(PARENT);
    vec![("link-own", own.bytes().to_vec()), ("link-key", own.of_child(CHILD).bytes().to_vec())]
}

/// All that a child and its parent say to each other until the tape flows, and the child's first grant.
fn link() -> Vec<(&'static str, Vec<u8>)> {
    let key = links().of_node(PARENT).of_child(CHILD);
    let prologue = [&preface(Plane::Data)[..], &CHILD.0.to_le_bytes(), &SESSION.0].concat();
    let (e_child, e_parent) = (counting::<32>(0xc0), counting::<32>(0xe0));
    let side = |e| {
        let pattern = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
        let builder = snow::Builder::new(pattern).psk(0, key.bytes()).unwrap().prologue(&prologue).unwrap();
        builder.fixed_ephemeral_key_for_testing_only(e)
    };
    let mut child = side(&e_child).build_initiator().unwrap();
    let mut parent = side(&e_parent).build_responder().unwrap();
    let (mut first, mut second) = ([0; 48], [0; 48]);
    child.write_message(&[], &mut first).unwrap();
    parent.read_message(&first, &mut []).unwrap();
    parent.write_message(&[], &mut second).unwrap();
    child.read_message(&second, &mut []).unwrap();
    let tape_key = tape_key(key.bytes(), parent.get_handshake_hash());
    let child = child.into_stateless_transport_mode().unwrap();
    let parent = parent.into_stateless_transport_mode().unwrap();
    let sealed = |keys: &snow::StatelessTransportState, number, kind, said: &[u8]| {
        let mut body = vec![0; said.len() + 16];
        keys.write_message(number, said, &mut body).unwrap();
        [&Header { kind, len: body.len() }.encode()[..], &body].concat()
    };
    let refusal = refusals()[0].1.encode();
    let begin = Sealer::new(SESSION, secret(), PayloadKey::Plain).seal(&tape()[0].1);
    vec![
        ("link-child", [&preface(Plane::Data)[..], &CHILD.0.to_le_bytes(), &first].concat()),
        ("link-parent", [&preface(Plane::Data)[..], &second].concat()),
        ("link-attach", sealed(&child, 0, Kind::Attach, &attach().encode())),
        ("link-accepted", sealed(&parent, 0, Kind::Beat, &[])),
        ("link-refused", sealed(&parent, 0, Kind::Refuse, &refusal)),
        ("link-grant", sealed(&child, 1, Kind::Grant, &grant().encode())),
        ("link-beat", sealed(&parent, 1, Kind::Beat, &[])),
        ("link-tape-key", tape_key.to_vec()),
        ("link-item-0", item(&tape_key, 0, Kind::Statement, &begin)),
        ("link-item-3", item(&tape_key, 3, Kind::Block, LAST_BLOCK)),
    ]
}

/// The key of the tags on a connection whose handshake has this hash.
fn tape_key(link: &[u8], handshake: &[u8]) -> [u8; 32] {
    blake3::derive_key("ka 1 tape on a data link", &[link, handshake].concat())
}

/// The frame of an item, the so many-th on its connection.
fn item(key: &[u8; 32], number: u64, kind: Kind, body: &[u8]) -> Vec<u8> {
    let header = Header { kind, len: body.len() + 16 }.encode();
    let tag = blake3::keyed_hash(key, &[&number.to_le_bytes()[..], &header, &hash(body)].concat());
    [&header[..], body, &tag.as_bytes()[..16]].concat()
}

/// A datagram without its padding: head, length and value. A version answer has a head only.
fn unpadded(datagram: &[u8]) -> Vec<u8> {
    assert_eq!(datagram.len(), DISCOVERY_BYTES);
    let end = match u16::from_le_bytes([datagram[8], datagram[9]]) {
        0 => 8,
        len => 10 + usize::from(len),
    };
    assert!(datagram[end..].iter().all(|b| *b == 0));
    datagram[..end].to_vec()
}

fn paragraph(name: &str, bytes: &[u8]) -> String {
    let mut text = format!("{name}\n");
    for line in bytes.chunks(32) {
        text.push_str("  ");
        line.iter().for_each(|b| write!(text, "{b:02x}").unwrap());
        text.push('\n');
    }
    text
}

/// The bytes that [`VECTORS`] has under a name.
fn vector(name: &str) -> Vec<u8> {
    let mut lines = VECTORS.lines().skip_while(|line| *line != name).skip(1);
    let mut hex = String::new();
    while let Some(line) = lines.next().and_then(|line| line.strip_prefix("  ")) {
        hex.push_str(line);
    }
    assert!(!hex.is_empty(), "there is no vector {name}");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn datagram(name: &str) -> Vec<u8> {
    let mut bytes = vector(name);
    bytes.resize(DISCOVERY_BYTES, 0);
    bytes
}

// ---- the tests ----

#[test]
fn what_is_encoded_is_the_vector() {
    let all: String = encoded().iter().map(|(name, bytes)| paragraph(name, bytes)).collect();
    for (name, bytes) in encoded() {
        assert!(
            VECTORS.contains(&paragraph(name, &bytes)),
            "{name} is not the vector; all that is encoded:\n{all}"
        );
    }
    assert_eq!(VECTORS, all, "a vector that nothing is encoded to, or another order");
}

#[test]
fn the_vectors_of_the_control_plane_decode() {
    fn is<T: serde::de::DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
        assert_eq!(decode_control::<T>(&vector(name)).as_ref(), Ok(value), "{name}");
    }
    to_coordinator().iter().for_each(|(name, said)| is(name, said));
    to_node().iter().for_each(|(name, said)| is(name, said));
    is("encoding-bool-true", &true);
    is("encoding-u16-30764", &30764_u16);
    is("encoding-u32-7", &7_u32);
    is("encoding-u64-7", &7_u64);
    is("encoding-string", &"lab".to_string());
    is("encoding-option-none", &None::<u64>);
    is("encoding-option-some-u64-7", &Some(7_u64));
    is("encoding-list-of-u32-1-2", &vec![1_u32, 2]);
    is("encoding-list-of-bytes", &vec![1_u8, 2]);
    is("encoding-16-bytes", &SESSION);
}

#[test]
fn the_vectors_of_keys_are_read() {
    let text = String::from_utf8(vector("key-text")).unwrap();
    assert_eq!(Key::parse(&text), Ok(key()));
}

#[test]
fn the_vectors_of_discovery_decode() {
    for (name, question) in questions() {
        assert_eq!(discovery::decode_question(&datagram(name)), Ok(question));
    }
    assert_eq!(discovery::decode_answer(&datagram("answer")), Ok(answer()));
    assert_eq!(discovery::decode_stranger(&datagram("stranger")), Ok(stranger()));
    assert_eq!(datagram("answer-version"), discovery::encode_version_answer(&newer_question()));
    // Of this version it is no answer: it says nothing but the version.
    assert!(discovery::decode_answer(&datagram("answer-version")).is_err());
}

#[test]
fn the_vectors_of_the_data_plane_decode() {
    for (name, plane) in [("preface-control", Plane::Control), ("preface-data", Plane::Data)] {
        assert_eq!(check_preface(plane, &vector(name).try_into().unwrap()), Ok(()));
    }
    for (name, header) in headers() {
        assert_eq!(Header::decode(vector(name).try_into().unwrap()), Ok(header));
    }
    assert_eq!(Attach::decode(&vector("attach")), Ok(attach()));
    assert_eq!(Grant::decode(&vector("grant")), Ok(grant()));
    for (name, refuse) in refusals() {
        assert_eq!(Refuse::decode(&vector(name)), Ok(refuse));
    }
}

#[test]
fn the_vectors_of_the_tape_are_followed_to_the_close() {
    let key = vector("tape-key").try_into().unwrap();
    let mut checker = Checker::new(SESSION, &key, PayloadKey::Plain).unwrap();
    assert_eq!(checker.chain().to_vec(), vector("tape-chain-0"));
    for (n, (name, statement)) in tape().into_iter().enumerate() {
        assert_eq!(checker.statement(&vector(name)), Ok(statement));
        assert_eq!(checker.chain().to_vec(), vector(&format!("tape-chain-{}", n + 1)));
        if name == "tape-segment" {
            checker.block(&full_block()).unwrap();
            checker.block(LAST_BLOCK).unwrap();
        }
    }
    assert!(checker.closed());
    assert_eq!(checker.position(), Position { item: 6, offset: Offset(BLOCK_BYTES as u64 + 2) });
}

#[test]
fn the_protocols_description_explains_the_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../PROTOCOL.md");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("not compared: there is no {}", path.display());
        return;
    };
    let (_, appendix) = text.split_once("## Appendix: vectors").expect("PROTOCOL.md has the appendix");
    assert!(appendix.contains("ka-core/tests/vectors/vectors.txt"), "PROTOCOL.md says where the vectors are");
    for (name, _) in encoded() {
        let group = name.split('-').next().unwrap();
        assert!(appendix.contains(group), "PROTOCOL.md does not say what {group} is");
    }
}
