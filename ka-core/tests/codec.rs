//! Whatever is encoded comes back, whatever is not ours is refused, and no bytes make a decoder panic.

#![cfg(feature = "sim")]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use ka_core::crypto::link_keys::LinkKey;
use ka_core::crypto::payload::PayloadKey;
use ka_core::limits::{self, BLOCK_BYTES};
use ka_core::tape::chain::{Checker, Hash, Sealer, Segment, Statement, StreamEnd, StreamInfo};
use ka_core::types::{Epoch, NodeId, Offset, Position, SessionId, SessionName, Watermarks};
use ka_core::wire::codec::{decode_control, encode_control};
use ka_core::wire::control::{
    Blocked, Counters, Hello, LinkFault, Note, Outcome, Peer, Progress, Reason, Receipt, Refusal,
    RefusalCode, Role, ToCoordinator, ToNode, View, Welcome,
};
use ka_core::wire::data::{Attach, Grant, HEADER_BYTES, Header, Kind, Refuse};
use ka_core::wire::{discovery, preface};
use proptest::collection::vec;
use proptest::prelude::*;

// ---- the nouns ----

fn text() -> impl Strategy<Value = String> {
    "[ -~äß…]{0,40}"
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<u32>().prop_map(NodeId)
}

fn offset() -> impl Strategy<Value = Offset> {
    any::<u64>().prop_map(Offset)
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), offset()).prop_map(|(item, offset)| Position { item, offset })
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<[u8; 16]>().prop_map(SessionId)
}

fn name() -> impl Strategy<Value = SessionName> {
    "[a-zA-Z0-9 äß_.-]{1,30}".prop_map(|s| SessionName::new(s).unwrap())
}

fn addr() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

// ---- control messages ----

fn counters() -> impl Strategy<Value = Counters> {
    any::<[u64; 7]>().prop_map(|[grants, full, evicted, held_max, holds, attaches, reread]| Counters {
        grants,
        full,
        evicted,
        held_max,
        holds,
        attaches,
        reread,
    })
}

fn blocked() -> impl Strategy<Value = Blocked> {
    prop_oneof![Just(Blocked::No), Just(Blocked::Sink), node().prop_map(Blocked::Child), Just(Blocked::Below)]
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        text().prop_map(Reason::Source),
        text().prop_map(Reason::Sink),
        (node(), text()).prop_map(|(n, t)| Reason::Lost(n, t)),
        (node(), text()).prop_map(|(n, t)| Reason::Tainted(n, t)),
        text().prop_map(Reason::Interrupted),
        text().prop_map(Reason::Slow),
        (offset(), offset()).prop_map(|(from, to)| Reason::Missing(from, to)),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Ok),
        Just(Outcome::Unknown),
        (reason(), offset()).prop_map(|(r, o)| Outcome::Failed(r, o)),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn to_coordinator() -> impl Strategy<Value = ToCoordinator> {
    let role = prop_oneof![
        Just(Role::Go),
        (any::<u16>(), any::<bool>(), proptest::option::of(node()))
            .prop_map(|(data_port, wait, back)| Role::Node { data_port, wait, back }),
    ];
    let fault = prop_oneof![
        text().prop_map(LinkFault::Broken),
        text().prop_map(LinkFault::Tainted),
        text().prop_map(LinkFault::Unreachable),
        offset().prop_map(LinkFault::Gone),
    ];
    prop_oneof![
        (proptest::option::of(name()), any::<u64>(), role, text(), bytes()).prop_map(
            |(session, incarnation, role, label, about)| {
                ToCoordinator::Hello(Hello { session, incarnation, role, label, about })
            }
        ),
        bytes().prop_map(ToCoordinator::State),
        any::<u32>().prop_map(|e| ToCoordinator::Linked(Epoch(e))),
        (offset(), offset(), offset(), blocked(), counters()).prop_map(
            |(received, sunk, kept, blocked, counters)| {
                ToCoordinator::Progress(Progress { received, sunk, kept, blocked, counters })
            }
        ),
        (any::<u32>(), offset(), fault).prop_map(|(e, o, f)| ToCoordinator::LinkLost(Epoch(e), o, f)),
        Just(ToCoordinator::Complete),
        (outcome(), any::<u64>(), any::<[u8; 32]>(), counters()).prop_map(
            |(outcome, bytes, chain, counters)| {
                ToCoordinator::Receipt(Receipt { outcome, bytes, chain, counters })
            }
        ),
        (text(), text()).prop_map(|(topic, text)| ToCoordinator::Note(Note { topic, text })),
        any::<u64>().prop_map(ToCoordinator::Stored),
    ]
}

fn to_node() -> impl Strategy<Value = ToNode> {
    let code = prop_oneof![
        Just(RefusalCode::OtherSession),
        any::<u32>().prop_map(RefusalCode::Started),
        Just(RefusalCode::Unknown),
        Just(RefusalCode::Full),
        Just(RefusalCode::NobodyReady),
        Just(RefusalCode::Ending),
        Just(RefusalCode::Invalid),
        any::<u16>().prop_map(RefusalCode::Rule),
    ];
    let refusal = (code, text()).prop_map(|(code, text)| Refusal { code, text });
    let link = || proptest::option::of(any::<[u8; 32]>().prop_map(LinkKey::new));
    let peer = (node(), addr(), link()).prop_map(|(node, addr, key)| Peer { node, addr, key });
    prop_oneof![
        (node(), session(), any::<[u8; 32]>(), payload(), any::<u32>(), link()).prop_map(
            |(node, session, key, payload, expected, link)| {
                ToNode::Welcome(Welcome { node, session, key, payload, expected, link })
            }
        ),
        refusal.prop_map(ToNode::Refused),
        any::<u32>().prop_map(ToNode::Going),
        (any::<u32>(), proptest::option::of(peer), vec(node(), 0..limits::FAN_OUT as usize), any::<bool>())
            .prop_map(|(epoch, parent, children, keep)| {
                ToNode::View(View { epoch: Epoch(epoch), parent, children, retain: keep })
            }),
        Just(ToNode::Beat),
        reason().prop_map(ToNode::Abort),
        Just(ToNode::Release),
        any::<u64>().prop_map(ToNode::Stable),
    ]
}

fn payload() -> impl Strategy<Value = PayloadKey> {
    prop_oneof![
        Just(PayloadKey::Plain),
        any::<[u8; 32]>().prop_map(PayloadKey::Aes256),
        any::<[u8; 32]>().prop_map(PayloadKey::ChaCha20),
    ]
}

fn statement() -> impl Strategy<Value = Statement> {
    prop_oneof![
        (any::<u32>(), text(), vec(any::<u8>(), 0..2000), any::<Option<u64>>()).prop_map(
            |(number, name, metadata, size)| Statement::Begin(StreamInfo { number, name, metadata, size })
        ),
        (any::<u32>(), vec(any::<Hash>(), 0..=limits::SEGMENT_BLOCKS))
            .prop_map(|(last_bytes, hashes)| Statement::Segment(Segment { last_bytes, hashes })),
        (any::<u64>(), proptest::option::of(text()))
            .prop_map(|(length, failure)| Statement::End(StreamEnd { length, failure })),
        Just(Statement::Close),
    ]
}

fn grant() -> impl Strategy<Value = Grant> {
    let floor = prop_oneof![position(), Just(Position::END)];
    (proptest::array::uniform(floor), offset())
        .prop_map(|(watermarks, upto)| Grant { watermarks: Watermarks(watermarks), upto })
}

fn kind() -> impl Strategy<Value = Kind> {
    use Kind as K;
    proptest::sample::select(vec![K::Attach, K::Statement, K::Block, K::Grant, K::Refuse, K::Beat])
}

proptest! {
    #[test]
    fn every_control_message_comes_back(up in to_coordinator(), down in to_node()) {
        prop_assert_eq!(decode_control::<ToCoordinator>(&encode_control(&up).unwrap()), Ok(up));
        prop_assert_eq!(decode_control::<ToNode>(&encode_control(&down).unwrap()), Ok(down));
    }

    #[test]
    fn every_statement_comes_back(said in statement(), payload in payload(), open in any::<u32>()) {
        prop_assert_eq!(Statement::decode(&said.encode(&payload, open).unwrap(), &payload, open), Ok(said));
    }

    #[test]
    fn every_data_message_comes_back(
        session in session(), child in node(), epoch in any::<u32>(), grant in grant(),
        kept in proptest::option::of((0..u64::MAX).prop_map(Offset)), why in text(),
    ) {
        let attach = Attach { session, child, epoch: Epoch(epoch), grant };
        prop_assert_eq!(Attach::decode(&attach.encode()), Ok(attach));
        prop_assert_eq!(Grant::decode(&grant.encode()), Ok(grant));
        let refuse = Refuse { kept, why };
        prop_assert_eq!(Refuse::decode(&refuse.encode()), Ok(refuse));
    }

    #[test]
    fn every_header_within_its_limit_comes_back(kind in kind(), len in 0..=BLOCK_BYTES) {
        let header = Header { kind, len };
        if let Ok(back) = Header::decode(header.encode()) {
            prop_assert_eq!(back, header);
        } else {
            prop_assert!(kind != Kind::Block, "a block may have every length there is");
        }
    }

    #[test]
    fn every_discovery_datagram_comes_back(
        [public, server, tag] in any::<[[u8; 32]; 3]>(), port in any::<Option<u16>>(), session in session(),
        control_port in any::<u16>(), flag in any::<bool>(),
    ) {
        let asker = port.map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        let question = discovery::Question { public, tag, asker };
        prop_assert_eq!(discovery::decode_question(&discovery::encode_question(&question)), Ok(question));
        let answer = discovery::Answer { public, server, session, control_port, probing: flag, tag };
        prop_assert_eq!(discovery::decode_answer(&discovery::encode_answer(&answer)), Ok(answer));
        let stranger = discovery::Stranger { public, secure: flag };
        prop_assert_eq!(discovery::decode_stranger(&discovery::encode_stranger(&stranger)), Ok(stranger));
    }

    /// What a decoder accepts, it would also have encoded: there is one way to say each thing.
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..400)) {
        if let Ok(up) = decode_control::<ToCoordinator>(&bytes) {
            prop_assert_eq!(encode_control(&up).unwrap(), bytes.clone());
        }
        if let Ok(down) = decode_control::<ToNode>(&bytes) {
            prop_assert_eq!(encode_control(&down).unwrap(), bytes.clone());
        }
        let _ = Statement::decode(&bytes, &PayloadKey::Plain, 0);
        let _ = discovery::decode_question(&bytes);
        let _ = discovery::decode_answer(&bytes);
        let _ = discovery::decode_stranger(&bytes);
        let _ = (Attach::decode(&bytes), Grant::decode(&bytes), Refuse::decode(&bytes));
        let (mut sealer, mut checker) = sealed();
        let _ = (checker.statement(&bytes), checker.block(&bytes));
        prop_assert!(checker.statement(&sealer.seal(&begin())).is_ok(), "it stays where it was");
    }

    #[test]
    fn no_header_makes_a_decoder_panic(bytes in any::<[u8; HEADER_BYTES]>()) {
        if let Ok(header) = Header::decode(bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
        let control = ka_core::wire::Plane::Control;
        prop_assert_eq!(ka_core::wire::check_preface(control, &bytes).is_ok(), bytes == preface(control));
    }

    /// Bytes that begin like a datagram of ours and then go on in any way.
    #[test]
    fn no_datagram_makes_a_decoder_panic(
        tag in any::<[u8; 32]>(), at in 0..limits::DISCOVERY_BYTES, byte in any::<u8>()
    ) {
        let question = discovery::Question { public: tag, tag, asker: None };
        let stranger = discovery::Stranger { public: tag, secure: false };
        for mut bytes in [discovery::encode_question(&question), discovery::encode_stranger(&stranger)] {
            bytes[at] = byte;
            let _ = (discovery::decode_question(&bytes), discovery::decode_stranger(&bytes));
        }
    }
}

// ---- the seal ----

fn sealed() -> (Sealer, Checker) {
    let session = SessionId([9; 16]);
    let sealer = Sealer::new(session, [3; 32], PayloadKey::Plain);
    let checker = Checker::new(session, &sealer.public_key(), PayloadKey::Plain).unwrap();
    (sealer, checker)
}

fn begin() -> Statement {
    Statement::Begin(StreamInfo { number: 0, name: "s".into(), metadata: Vec::new(), size: None })
}

/// A whole tape: a beginning, a segment of full blocks and a short last one, an end, the close.
fn tape(full_blocks: usize, last: &[u8]) -> Vec<(bool, Vec<u8>)> {
    let (mut sealer, _) = sealed();
    let mut blocks = vec![vec![7; BLOCK_BYTES]; full_blocks];
    blocks.push(last.to_vec());
    let segment = Statement::Segment(Segment {
        last_bytes: last.len() as u32,
        hashes: blocks.iter().map(|b| *blake3::hash(b).as_bytes()).collect(),
    });
    let length = blocks.iter().map(|b| b.len() as u64).sum();
    let mut items = vec![(true, sealer.seal(&begin()).to_vec()), (true, sealer.seal(&segment).to_vec())];
    items.extend(blocks.into_iter().map(|b| (false, b)));
    items.push((true, sealer.seal(&Statement::End(StreamEnd { length, failure: None })).to_vec()));
    items.push((true, sealer.seal(&Statement::Close).to_vec()));
    items
}

/// How many items a checker accepts before it refuses one.
fn accepted(items: &[(bool, Vec<u8>)]) -> (usize, Checker) {
    let (_, mut checker) = sealed();
    let ok =
        items
            .iter()
            .take_while(|(statement, body)| {
                if *statement { checker.statement(body).is_ok() } else { checker.block(body).is_ok() }
            })
            .count();
    (ok, checker)
}

/// One thing done to a tape.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    Cut(usize),
    Grow(u8),
    LeaveOut,
    Repeat,
    SwapWithNext,
    OtherKind,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (1..100_usize).prop_map(Mutation::Cut),
        any::<u8>().prop_map(Mutation::Grow),
        Just(Mutation::LeaveOut),
        Just(Mutation::Repeat),
        Just(Mutation::SwapWithNext),
        Just(Mutation::OtherKind),
    ]
}

proptest! {
    /// Any single change of any item is refused at that item, and the tape is never taken for complete.
    #[test]
    fn no_mutation_passes_the_seal(
        full in 0..3_usize, last in vec(any::<u8>(), 1..50), item in any::<prop::sample::Index>(), m in mutation(),
    ) {
        let good = tape(full, &last);
        let (all, checker) = accepted(&good);
        prop_assert!(all == good.len() && checker.closed());

        let mut bad = good.clone();
        let i = item.index(good.len());
        match m {
            Mutation::Flip(at, bit) => {
                let at = at % bad[i].1.len();
                bad[i].1[at] ^= 1 << bit;
            }
            Mutation::Cut(n) => { let len = bad[i].1.len(); bad[i].1.truncate(len.saturating_sub(n)); }
            Mutation::Grow(byte) => bad[i].1.push(byte),
            Mutation::LeaveOut => { bad.remove(i); }
            Mutation::Repeat => bad.insert(i, good[i].clone()),
            Mutation::SwapWithNext => bad.swap(i, (i + 1) % good.len()),
            Mutation::OtherKind => bad[i].0 = !bad[i].0,
        }
        // Equal blocks may stand for each other: then nothing was changed, or only a block too many follows.
        prop_assume!(bad != good);
        let same = bad.iter().zip(&good).take_while(|(b, g)| b == g).count();
        let (ok, checker) = accepted(&bad);
        prop_assert_eq!(ok, same);
        prop_assert!(!checker.closed() || ok == good.len(), "{:?}", checker);
    }
}
