//! The bytes themselves: what `PROTOCOL.md` lists in its appendix, the code writes and reads, and nothing else.
//!
//! A change here is a change of the protocol: see the rules for its version in `PROTOCOL.md`.

#![cfg(feature = "io")]

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
    Blocked, Counters, Hello, LinkFault, Note, Outcome, Peer, Progress, Reason, Receipt, Refusal, Role,
    ToCoordinator, ToNode, View, Welcome,
};
use ka_core::wire::data::{Attach, Grant, Header, Kind, Refuse};
use ka_core::wire::discovery::{self, Answer, Question, Secret, Stranger};
use ka_core::wire::{Plane, check_preface, preface};
use x25519_dalek::{PublicKey, StaticSecret};

/// A name, and its bytes in the lines below it. `PROTOCOL.md` has the same text.
const VECTORS: &str = "\
encoding-bool-true
  01
encoding-u16-30764
  2c78
encoding-u32-7
  07000000
encoding-u64-7
  0700000000000000
encoding-string
  03000000000000006c6162
encoding-option-none
  00
encoding-option-some-u64-7
  010700000000000000
encoding-list-of-u32-1-2
  02000000000000000100000002000000
encoding-list-of-bytes
  02000000000000000102
encoding-16-bytes
  000102030405060708090a0b0c0d0e0f
preface-control
  4b41630001000000
preface-data
  4b41640001000000
discovery-asker
  605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc44ac6c4ab6e2f805d23c
discovery-server
  dc2cca31e8e43bbd91dff7e475cca3347eb478107d5bd765aba4ae4a30c35d44
discovery-agreed
  3b87c5035cce13678dd93d2dbc3a3d42039ebec86444a1ff82cd61b84c6fe968
discovery-secret
  e57fe29565dcfe0b2bd037cb30edbd90c7242b19d74552de1c8428331184a0d2
discovery-secret-nameless
  e98a7697e119cbee867f406e2844124389f4b25ebc550ca8de2fe7577d5ab3e1
question
  4b417100010000004100605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc
  44ac6c4ab6e2f805d23c8a55c1106a74b93bf2c295d06cd13b13608d9d0a3431
  92123e9445df58148de800
question-passed-on
  4b417100010000004700605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc
  44ac6c4ab6e2f805d23ce8ab110f0ed4f5fc1a8c6c0966944e700a3ea6f0cbc5
  e437b3656d3e13a8efe3010a000009409c
answer
  4b416100010000007300605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc
  44ac6c4ab6e2f805d23cdc2cca31e8e43bbd91dff7e475cca3347eb478107d5b
  d765aba4ae4a30c35d44000102030405060708090a0b0c0d0e0f2d7801a965f4
  2fa78f0e5e69be0649313f1063d53462ef065ac68043587a31f916ac6c
stranger
  4b416e00010000002100605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc
  44ac6c4ab6e2f805d23c01
answer-version
  4b41610001000000
key-public
  605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc44ac6c4ab6e2f805d23c
key-text
  32303868712d3434726d382d326d6231612d653630736b2d3338647a662d6d32
  377a7a2d38306678642d7664656a332d74637165782d386a723163
key-control-secret
  53dd9ea43d88ffa494974436a85ea16e5989266b049bb62068d2a60db403e4c8
key-discovery-secret
  1a5c03adf1ae6e93519970df7f304e4a3bb9d502bb9ece0ceca294617ab2af05
handshake-1
  dc2cca31e8e43bbd91dff7e475cca3347eb478107d5bd765aba4ae4a30c35d44
  1b7cafc02cc5572178c20e7969950f1a
handshake-2
  736845d54e87de09d6bb114aa7042c50a4a015bd9901d1a0026f5956533a1519
  7af86abba93e939dbf2f6ce849b77d65b63f8b579119d93d2e51ddbc60719d1f
  180b904931f66d24e4ae65096e78a15268b8aae6c5d9b1addd0b89ae77519354
frame-beat
  14000000039cccdb907c4bd60d15858d11cf9c135089b48c
hello-node
  000000000103000000000000006c61628877665544332211000000002c780100
  040000000000000070633035
hello-node-back
  000000000103000000000000006c61628877665544332211000000002c780101
  03000000040000000000000070633035
hello-go
  00000000000100000000000000010000000000000000000000
linked
  0100000001000000
progress
  0200000000000100000000000080000000000000004000000000000000000000
  0100000000000000020000000000000003000000000000000400000000000000
  050000000000000006000000000000000700000000000000
progress-blocked-by-sink
  0200000000000100000000000080000000000000004000000000000001000000
  0100000000000000020000000000000003000000000000000400000000000000
  050000000000000006000000000000000700000000000000
progress-blocked-by-child
  0200000000000100000000000080000000000000004000000000000002000000
  0400000001000000000000000200000000000000030000000000000004000000
  00000000050000000000000006000000000000000700000000000000
progress-blocked-below
  0200000000000100000000000080000000000000004000000000000003000000
  0100000000000000020000000000000003000000000000000400000000000000
  050000000000000006000000000000000700000000000000
link-lost-broken
  0300000001000000008000000000000000000000050000000000000072657365
  74
link-lost-tainted
  0300000001000000008000000000000001000000040000000000000068617368
link-lost-unreachable
  0300000001000000008000000000000002000000070000000000000072656675
  736564
link-lost-gone
  03000000010000000080000000000000030000000000010000000000
complete
  04000000
receipt-ok
  05000000000000000280000000000000cccccccccccccccccccccccccccccccc
  cccccccccccccccccccccccccccccccc01000000000000000200000000000000
  0300000000000000040000000000000005000000000000000600000000000000
  0700000000000000
receipt-failed
  0500000001000000020000000200000005000000000000007265736574008000
  0000000000000000000000000000000000000000000000000000000000000000
  0000000000000000000000000001000000000000000200000000000000030000
  0000000000040000000000000005000000000000000600000000000000070000
  0000000000
receipt-unknown
  0500000002000000000000000000000000000000000000000000000000000000
  0000000000000000000000000000000001000000000000000200000000000000
  0300000000000000040000000000000005000000000000000600000000000000
  0700000000000000
note
  060000000500000000000000737461676505000000000000007265616479
stored
  070000001400000000000000
welcome-aes
  0000000003000000000102030405060708090a0b0c0d0e0fcd14b37f956e9531
  94ff7fb73b3d81dcc561d61a7538094b7c3e1a643ee5f3aa0100000080818283
  8485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f08000000
  0130d80be6799382ccdb6bc3e8f35b96b5aa0936ba23d799819ca1c31d50c49c
  13
welcome-chacha
  0000000003000000000102030405060708090a0b0c0d0e0fcd14b37f956e9531
  94ff7fb73b3d81dcc561d61a7538094b7c3e1a643ee5f3aa0200000080818283
  8485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f08000000
  0130d80be6799382ccdb6bc3e8f35b96b5aa0936ba23d799819ca1c31d50c49c
  13
welcome-plain
  0000000003000000000102030405060708090a0b0c0d0e0fcd14b37f956e9531
  94ff7fb73b3d81dcc561d61a7538094b7c3e1a643ee5f3aa0000000008000000
  0130d80be6799382ccdb6bc3e8f35b96b5aa0936ba23d799819ca1c31d50c49c
  13
welcome-insecure
  0000000003000000000102030405060708090a0b0c0d0e0fcd14b37f956e9531
  94ff7fb73b3d81dcc561d61a7538094b7c3e1a643ee5f3aa0000000008000000
  00
refused-other-session
  0100000000000000
refused-started
  010000000100000008000000
refused-unknown
  0100000002000000
refused-full
  0100000003000000
refused-nobody-ready
  0100000004000000
refused-rule
  010000000500000002000000000000006e6f
refused-ending
  010000000600000004000000000000006f766572
going
  0200000008000000
view-of-the-root
  0300000001000000000200000000000000010000000200000000
view-ipv4
  03000000010000000102000000000000000a0000052c7801e5d9d6dfdb777de3
  bd535813ea0869812aa19ae894d256aa040aa68b7c6c6c090100000000000000
  0400000000
view-ipv6-insecure
  0300000001000000010200000001000000fd0000000000000000000000000000
  052c7800000000000000000001
beat
  04000000
abort-source
  05000000000000000600000000000000657869742031
abort-sink
  050000000100000009000000000000006469736b2066756c6c
abort-lost
  05000000020000000200000005000000000000007265736574
abort-tainted
  050000000300000002000000040000000000000068617368
abort-interrupted
  050000000400000006000000000000004374726c2d43
abort-slow
  0500000005000000060000000000000031204d422f73
abort-missing
  050000000600000000800000000000000000010000000000
release
  06000000
stable
  070000001300000000000000
stable-nobody
  07000000ffffffffffffffff
header-attach
  0100000060000000
header-statement
  0200000044000000
header-block
  0300000000000100
header-grant
  0400000048000000
header-refuse
  050000000c000000
header-beat
  0600000000000000
attach
  000102030405060708090a0b0c0d0e0f03000000010000000400000000000000
  0000010000000000ffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffff0000010400000000
grant
  1400000000000000000009000000000013000000000000000000080000000000
  03000000000000000000010000000000ffffffffffffffffffffffffffffffff
  0000090400000000
refuse-gone
  0000010000000000676f6e65
refuse-other
  ffffffffffffffff616e6f746865722073657373696f6e
link-own
  3e9b4fe7fa22d935b0d1ef6345f4382d19bcdabbaf9d26009eec936181fac76f
link-key
  e5d9d6dfdb777de3bd535813ea0869812aa19ae894d256aa040aa68b7c6c6c09
link-child
  4b4164000100000003000000dc2cca31e8e43bbd91dff7e475cca3347eb47810
  7d5bd765aba4ae4a30c35d44cdae6da9b0ce782e349a9e4b7bc21422
link-parent
  4b41640001000000736845d54e87de09d6bb114aa7042c50a4a015bd9901d1a0
  026f5956533a1519498d133361aa22e7ff3d4d0acc9f8376
link-attach
  0100000070000000e229c9f4e3fe050f4aa87e78ced618d088e2a31e8a449b3d
  dc0812b1c6adf1660bc7545e3e4417604cf1a8d3a078b980f727b36ce809bb2e
  13bf8d64126f354ad68994cc55b635b1d4e1f60b9c2e246bd951a4e04271ea27
  d72b1808c2c2d05b94b4943513dd78e876d197e6c15ffd83
link-accepted
  06000000100000002ea71cd763642389ac609c44a227047b
link-refused
  050000001c0000004162d92300329c78b5194ebccd16de4440e0a489c4ecf63f
  6090c5a3
link-grant
  04000000580000006efb390d4c3f922bee1e16284d3de87932d5870884220972
  709fd182931bc97c29097efaba1beb62e44c2b7d4d93a747c4993c47c2b5b47e
  3853ec755afdadecf90e00b2361f6af74d2cebfadc90b3e17fcb24bc3942bde0
link-beat
  06000000100000004eb92cda488b4e349e9295793d9a94e0
payload-aes-bytes
  971ea4ada31a433cf4ddedb445f82094e60afdece05e964ab2f00a9295cf6bff
payload-aes-bytes-at-65543
  673d9286c43e8c3b4a1f8427d38173541cb816e86dd18e1ccdf6954f205bf9d2
payload-aes-bytes-at-2-to-40
  39d11f0921bbae27e7b0479b19456f837e76ec77ae22506339485984a370dec2
payload-aes-begin
  e5f943ae190e605b958070461bbd8415bf50c4a45abe152139a3beb0f969a5b1
payload-aes-end
  f38a9b6b6a2eff43e9662f5f20b4aa90702d0e1bca9f4c967bc0e0769f1b2d14
payload-chacha-bytes
  9230fd50414f19781c928d7b35b4b144d2338034f8a2fbb82516e2a30b2c4bf1
payload-chacha-bytes-at-65543
  9cdc72c3f82a4d1fac4dda70374670617ad3d14229f907fbac38b28e8644635f
payload-chacha-bytes-at-2-to-40
  10849c41b1529717acf6ba3b7c9ae1135555dcae192a0000cf520de0c7f19a28
tape-key
  cd14b37f956e953194ff7fb73b3d81dcc561d61a7538094b7c3e1a643ee5f3aa
tape-chain-0
  1a0653e994abf0c8693d3d2d77bc51187d6a4c5fcc8115b34c8fcafeb5247efc
tape-begin
  bfa2074df145a277dd6cfb29da93fc9e27fbf5c02584266ee825a8f6afa3ba83
  cd85fd0df72e2f8acfd336139f917125b47eb509e4b12916a650f8eba7c3a90a
  0000000000000000200000000000000004000000000000006469736b03000000
  00000000010203010200010000000000
tape-chain-1
  d299ac8d90c0878f18558b6dd57fd91386dfad0a95f0d983ac187fb7928183b2
tape-segment
  e0b741eee6b0989eadfbfd4d87c1d081bd0c5833b21aa1f1d4fe0b9410431e05
  b27793dbf06f82741d77d276119c8d75207403e26271dafff1450c0814707a0b
  0100000002000000020000000000000068d647e619a930e7b1082f74f334b0c6
  5a315725569bdc123f0ee11881717bfe0f87ae7956b212bf636e5e8687b2cdc7
  1915bd8d7695c0012a69ebdff5e16120
tape-chain-2
  887eac68566742757240aa49730601fe8b9a6edfdc4d352457168b7f9a503e01
tape-end
  3f74b028e99fb2fd91d9bc2a2317376f7fdd0e0debecf34f7be0ffd83976b357
  d00b6bad5e44c24118cb2e82e0d917bfb18cdbe0e55efe21cdc852903279bb0e
  02000000020001000000000000
tape-chain-3
  4d121f783d134cce25a24036bfd9df0a75b2aa34fe1c77738c3434fa09020141
tape-close
  45cf1e6b6f7a2d06223bde382e9ee35fef2463e78629cad2c38e1fcf651c7d64
  5409a74c5f7823c033dfdb0faeaf0ca67c5e75fb6fce1f71400f1b2793d61d09
  03000000
tape-chain-4
  6ad92f1d686556a93e0b4e3f86e74f7dbe64ecfe72f386a0c55c7fd30056ee5d
";

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
        })
    };
    let link_lost = |fault| T::LinkLost(Epoch(1), Offset(32768), fault);
    vec![
        ("hello-node", hello(None)),
        ("hello-node-back", hello(Some(NodeId(3)))),
        ("hello-go", T::Hello(Hello { session: None, incarnation: 1, role: Role::Go, label: String::new() })),
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
    vec![
        ("welcome-aes", welcome(PayloadKey::Aes256(SECRET), own())),
        ("welcome-chacha", welcome(PayloadKey::ChaCha20(SECRET), own())),
        ("welcome-plain", welcome(PayloadKey::Plain, own())),
        ("welcome-insecure", welcome(PayloadKey::Plain, None)),
        ("refused-other-session", T::Refused(Refusal::OtherSession)),
        ("refused-started", T::Refused(Refusal::Started(8))),
        ("refused-unknown", T::Refused(Refusal::Unknown)),
        ("refused-full", T::Refused(Refusal::Full)),
        ("refused-nobody-ready", T::Refused(Refusal::NobodyReady)),
        ("refused-rule", T::Refused(Refusal::Rule("no".into()))),
        ("refused-ending", T::Refused(Refusal::Ending("over".into()))),
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
    all.push(("answer-version", unpadded(&discovery::encode_version_answer())));
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
    let child = child.into_stateless_transport_mode().unwrap();
    let parent = parent.into_stateless_transport_mode().unwrap();
    let sealed = |keys: &snow::StatelessTransportState, number, kind, said: &[u8]| {
        let mut body = vec![0; said.len() + 16];
        keys.write_message(number, said, &mut body).unwrap();
        [&Header { kind, len: body.len() }.encode()[..], &body].concat()
    };
    let refusal = refusals()[0].1.encode();
    vec![
        ("link-child", [&preface(Plane::Data)[..], &CHILD.0.to_le_bytes(), &first].concat()),
        ("link-parent", [&preface(Plane::Data)[..], &second].concat()),
        ("link-attach", sealed(&child, 0, Kind::Attach, &attach().encode())),
        ("link-accepted", sealed(&parent, 0, Kind::Beat, &[])),
        ("link-refused", sealed(&parent, 0, Kind::Refuse, &refusal)),
        ("link-grant", sealed(&child, 1, Kind::Grant, &grant().encode())),
        ("link-beat", sealed(&parent, 1, Kind::Beat, &[])),
    ]
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
    assert_eq!(datagram("answer-version"), discovery::encode_version_answer());
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

/// Without the library: AES block by block as `PROTOCOL.md` describes it.
#[test]
fn the_keystreams_are_as_described() {
    for (context, name) in
        [("bytes", "payload-aes-bytes"), ("beginning", "payload-aes-begin"), ("end", "payload-aes-end")]
    {
        let about = [&SECRET[..], &1_u32.to_le_bytes()].concat();
        let key = blake3::derive_key(&format!("ka 1 {context} of a stream"), &about);
        let aes = aes::Aes256::new(&key.into());
        let blocks = (0..2_u128).flat_map(|i| {
            let mut block = i.to_be_bytes().into();
            aes.encrypt_block(&mut block);
            block
        });
        assert_eq!(vector(name), blocks.collect::<Vec<_>>());
    }
}

/// Without the library: the keys of links as `PROTOCOL.md` describes them.
#[test]
fn the_keys_of_links_are_as_described() {
    let derived = |context, key: &[u8], node: u32| {
        blake3::derive_key(context, &[key, &node.to_le_bytes()].concat()).to_vec()
    };
    let own = derived("ka 1 a node's data links", &counting::<32>(0x40), 2);
    assert_eq!(vector("link-own"), own);
    assert_eq!(vector("link-key"), derived("ka 1 data link", &own, 3));
}

/// Without the library: the tags as `PROTOCOL.md` describes them.
#[test]
fn the_tags_of_discovery_are_as_described() {
    let vector = |name| <[u8; 32]>::try_from(vector(name)).unwrap();
    let derived = |about: &[u8]| blake3::derive_key("ka 1 discovery", &[&token()[..], about].concat());
    assert_eq!(vector("discovery-secret"), derived(b"lab"));
    assert_eq!(vector("discovery-secret-nameless"), derived(b""));
    assert_eq!(
        vector("discovery-agreed"),
        server().diffie_hellman(&vector("discovery-asker").into()).to_bytes()
    );

    let tag = |key: &[u8; 32], about: &[&[u8]]| *blake3::keyed_hash(key, &about.concat()).as_bytes();
    for (name, key) in [("question", "discovery-secret"), ("question-passed-on", "discovery-secret-nameless")]
    {
        let value = &datagram(name)[10..];
        assert_eq!(value[..32], vector("discovery-asker"));
        assert_eq!(value[32..64], tag(&vector(key), &[b"question", &value[..32]]));
    }
    let value = &datagram("answer")[10..];
    assert_eq!(value[32..64], vector("discovery-server"));
    let key = tag(&vector("discovery-secret"), &[&vector("discovery-agreed")]);
    assert_eq!(value[83..115], tag(&key, &[b"answer", &value[..83]]));
}

/// The same without the library: the chain and the signatures as `PROTOCOL.md` describes them.
#[test]
fn the_chain_and_the_signatures_are_as_described() {
    let key = ed25519_dalek::VerifyingKey::from_bytes(&vector("tape-key").try_into().unwrap()).unwrap();
    let mut chain = blake3::derive_key("ka tape v1", &SESSION.0);
    for (n, (name, statement)) in tape().into_iter().enumerate() {
        let body = vector(name);
        let (signature, content) = body.split_at(64);
        assert_eq!(Statement::decode(content, &PayloadKey::Plain, 0), Ok(statement));
        chain = *blake3::hash(&[&chain[..], content].concat()).as_bytes();
        assert_eq!(chain.to_vec(), vector(&format!("tape-chain-{}", n + 1)));
        let message = [&b"ka statement v1\0"[..], &SESSION.0, &chain].concat();
        assert_eq!(message.len(), 64);
        let signature = ed25519_dalek::Signature::from_slice(signature).unwrap();
        key.verify_strict(&message, &signature).unwrap();
    }
}

#[test]
fn the_protocols_description_lists_the_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../PROTOCOL.md");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("not compared: there is no {}", path.display());
        return;
    };
    for (name, bytes) in encoded() {
        let paragraph = paragraph(name, &bytes);
        assert!(text.contains(&format!("\n{paragraph}")), "PROTOCOL.md does not list\n{paragraph}");
    }
}
