//! One search by itself: what is heard, and what counts.

use super::*;
use crate::net::noise::identity::{Identity, ServerKey};
use crate::types::SessionId;
use crate::wire::discovery::Stranger;
use std::net::UdpSocket as StdUdpSocket;

/// An address of this host where no server listens.
const FROM: &str = "127.0.9.1:9";

fn name() -> SessionName {
    SessionName::new("lab").unwrap()
}

/// A search that nobody hears.
fn search(key: &Key) -> Search<'_> {
    let silent = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host = Target::Host(vec![silent.local_addr().unwrap()]);
    Search::begin(Some(&name()), host, &[], key, PAUSE_MAX).unwrap()
}

/// A search that nobody hears, and in which everybody is asked.
fn search_of_all(key: &Key) -> Search<'_> {
    Search { target: Target::Anyone(9), ..search(key) }
}

/// The answer of this server to a question with `public`.
fn answer(server: &ServerKey, session: &SessionName, public: [u8; 32]) -> Answer {
    let answer = Answer {
        public,
        server: *server.identity().public(),
        session: SessionId([1; 16]),
        control_port: 7,
        probing: false,
        tag: [0; 32],
    };
    answer.tagged(&Secret::new(server.key(), Some(session)), &server.agree(&public))
}

fn hears(search: &mut Search<'_>, answer: &Answer) -> bool {
    search.understand(0, &wire::encode_answer(answer), FROM.parse().unwrap()).is_some()
}

#[tokio::test]
async fn every_byte_of_an_answer_that_is_changed_makes_it_none() {
    let server = ServerKey::generate().unwrap();
    let mut search = search(server.key());
    let bytes = wire::encode_answer(&answer(&server, &name(), search.public));
    let from = FROM.parse().unwrap();
    let found = search.understand(0, &bytes, from);
    assert_eq!(found.as_ref().map(|f| f.control), Some("127.0.9.1:7".parse().unwrap()));
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            // The padding says nothing, nor do the two bytes behind the version.
            let says_nothing = at == 6 || at == 7 || at >= 10 + 115;
            let expected = found.clone().filter(|_| says_nothing);
            assert_eq!(search.understand(0, &changed, from), expected, "byte {at} ^ {flip:#x}");
        }
    }
    assert_eq!(search.understand(0, &bytes[..255], from), None);
    assert_eq!(search.understand(0, &[&bytes[..], &[0]].concat(), from), None);
}

#[tokio::test]
async fn an_answer_to_another_question_about_another_session_or_from_another_server_is_none() {
    let server = ServerKey::generate().unwrap();
    let mut older = search(server.key());
    let recorded = answer(&server, &name(), older.public);
    assert!(hears(&mut older, &recorded));

    let mut now = search(server.key());
    let public = now.public;
    assert!(!hears(&mut now, &recorded));
    assert!(!hears(&mut now, &Answer { public, ..recorded }));
    assert!(!hears(&mut now, &answer(&server, &SessionName::new("lap").unwrap(), public)));
    assert!(!hears(&mut now, &answer(&ServerKey::generate().unwrap(), &name(), public)));
    let right = answer(&server, &name(), public);
    assert!(hears(&mut now, &right));
}

#[tokio::test]
async fn who_has_the_token_and_not_the_identity_cannot_pose_as_the_server() {
    let token = [7; 12];
    let [server, other] = [(); 2].map(|()| {
        let identity = Identity::generate().unwrap();
        let key = Key::new(token, identity.public());
        ServerKey::with(identity, key).unwrap()
    });
    let mut search = search(server.key());
    let own_name = answer(&other, &name(), search.public);
    assert!(!hears(&mut search, &own_name), "the key does not pin it");
    let secret = Secret::new(server.key(), Some(&name()));
    let stolen_name = Answer { server: *server.identity().public(), ..own_name };
    for agreed in [*other.agree(&search.public), [0; 32]] {
        assert!(!hears(&mut search, &stolen_name.clone().tagged(&secret, &agreed)));
    }
}

#[tokio::test]
async fn without_a_key_everybody_is_believed_but_a_public_key_that_agrees_with_nobody() {
    let open = Key::insecure();
    let mut search = search(&open);
    let server = ServerKey::insecure().unwrap();
    let right = answer(&server, &name(), search.public);
    assert!(hears(&mut search, &right));
    let null = Answer { server: [0; 32], ..right };
    assert!(!hears(&mut search, &null.tagged(&Secret::new(&open, Some(&name())), &[0; 32])));
}

#[tokio::test]
async fn a_stranger_counts_if_it_was_asked_and_if_somebody_has_a_key() {
    let key = ServerKey::generate().unwrap().key().clone();
    for (key, secure, counts) in [
        (key.clone(), true, true),
        (key, false, true),
        (Key::insecure(), true, true),
        (Key::insecure(), false, false),
    ] {
        let mut search = search_of_all(&key);
        let own = search.public;
        let mut hear = |public, from: &str| {
            let bytes = wire::encode_stranger(&Stranger { public, secure });
            assert_eq!(search.understand(0, &bytes, from.parse().unwrap()), None);
            search.others.len()
        };
        assert_eq!(hear([5; 32], FROM), 0);
        let addr = "127.0.9.1".parse().unwrap();
        assert_eq!(hear(own, FROM), usize::from(counts));
        assert_eq!(hear(own, "127.0.9.1:8"), usize::from(counts), "once for each address");
        for n in 0..=255 {
            hear(own, &format!("127.0.10.{n}:9"));
        }
        assert!(search.others.len() <= OTHERS_MAX);
        let expected = Other::UnknownKey(UnknownKey { addr, secure, given: key.is_secure() });
        assert_eq!(search.others().next(), Some(expected).filter(|_| counts));
    }
}

#[tokio::test]
async fn of_a_host_that_is_asked_nobody_else_speaks() {
    let key = ServerKey::generate().unwrap().key().clone();
    let mut search = search(&key);
    let public = search.public;
    let stranger = wire::encode_stranger(&Stranger { public, secure: true });
    let mut version = wire::encode_version_answer(&search.question);
    version[4] = 9;
    let blind = [&version[..8], &[0; limits::DISCOVERY_BYTES - 8]].concat();
    let Target::Host(asked) = &search.target else { unreachable!() };
    let host = SocketAddr::new(asked[0].ip(), 5);
    for (words, from, counts) in [
        (&stranger, FROM.parse().unwrap(), false),
        (&version, FROM.parse().unwrap(), false),
        (&blind, host, false),
        (&version, host, true),
    ] {
        assert_eq!(search.understand(0, words, from), None);
        assert_eq!(search.other_since.is_some(), counts, "{from}");
    }
    let mut search = Search { other_since: None, ..search };
    search.understand(0, &stranger, host);
    assert!(search.other_since.is_some());
}

#[tokio::test]
async fn a_server_that_knows_the_key_without_the_name_serves_another_one() {
    let (server, other) = (ServerKey::generate().unwrap(), ServerKey::generate().unwrap());
    let mut search = search_of_all(server.key());
    let (public, from) = (search.public, FROM.parse().unwrap());
    let nameless = |server: &ServerKey| {
        let named = answer(server, &name(), public);
        wire::encode_answer(&named.tagged(&Secret::new(server.key(), None), &server.agree(&public)))
    };
    assert_eq!(search.understand(0, &nameless(&server), from), None);
    assert_eq!(search.others().next(), None, "it has not said that it is another");
    search.understand(0, &wire::encode_stranger(&Stranger { public, secure: true }), from);
    search.understand(0, &nameless(&other), from);
    assert!(matches!(search.others().next(), Some(Other::UnknownKey(_))));
    search.understand(0, &nameless(&server), from);
    assert_eq!(search.others().next(), Some(Other::Name(from.ip())));
}

#[tokio::test]
async fn a_server_heard_over_both_families_is_named_once() {
    let key = ServerKey::generate().unwrap().key().clone();
    let mut search = search_of_all(&key);
    let words = wire::encode_stranger(&Stranger { public: search.public, secure: true });
    let addrs = |search: &Search<'_>| search.others().map(|who| who.addr().to_string()).collect::<Vec<_>>();
    search.understand(0, &words, "[::1]:9".parse().unwrap());
    assert_eq!(addrs(&search), ["::1"]);
    search.understand(0, &words, FROM.parse().unwrap());
    assert_eq!(addrs(&search), ["127.0.9.1"]);
}

#[test]
fn each_ipv4_address_asks_and_one_of_ipv6_for_each_link() {
    let at = |name: &str, index, addr: &str| Interface {
        name: name.into(),
        index,
        addr: addr.parse().unwrap(),
        broadcast: None,
        loopback: name == "lo",
    };
    let all = [
        at("lo", 1, "127.0.0.1"),
        at("lo", 1, "::1"),
        at("eth0", 2, "10.0.0.1"),
        at("eth0", 2, "fd00::1"),
        at("eth0", 2, "fe80::1"),
        at("eth0", 2, "10.0.0.2"),
        at("eth1", 3, "fd01::1"),
        at("eth2", 4, "fe80::1"),
    ];
    let asking: Vec<_> = asking(all.to_vec()).iter().map(|i| i.at(0).to_string()).collect();
    let v4 = ["127.0.0.1:0", "10.0.0.1:0", "10.0.0.2:0"];
    assert_eq!(asking, [&v4[..], &["[fe80::1%2]:0", "[fd01::1]:0", "[fe80::1%4]:0"]].concat());
    let group = all_neighbours(&all[7], 4957);
    assert_eq!(group.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[ff12::efff:4b41%4]:4957"]);
}

#[test]
fn questions_become_rarer_up_to_one_a_second() {
    let ms = |round, noise| pause(round, noise, PAUSE_MAX).as_millis();
    assert_eq!([0, 1, 2, 3, 4, 5, 40].map(|r| ms(r, 0)), [40, 80, 160, 320, 640, 800, 800]);
    assert_eq!([0, 1, 2, 3, 4, 5, 40].map(|r| ms(r, u32::MAX)), [60, 120, 240, 480, 960, 1200, 1200]);
}

#[test]
fn waiting_for_ever_is_no_overflow() {
    assert!(after(Instant::now(), Duration::MAX) > Instant::now());
}
