//! Foreign words: garbage, other versions, other keys, and servers of one name.

use super::*;

/// A socket that says whatever a test wants it to.
pub(crate) struct Voice {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
}

impl Voice {
    pub(crate) async fn facing(server_port: u16) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { socket, server: (Ipv4Addr::LOCALHOST, server_port).into() }
    }

    pub(crate) async fn say(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.server).await.unwrap();
    }

    pub(crate) async fn hear(&self) -> Vec<u8> {
        let mut buf = vec![0; 4096];
        let (len, _) = timeout(LONG, self.socket.recv_from(&mut buf)).await.expect("an answer").unwrap();
        buf.truncate(len);
        buf
    }

    /// Asks, and holds the next thing heard against it. So nothing said before has been answered, because a
    /// single server takes a single sender's datagrams in order.
    pub(crate) async fn asks_and_is_answered(&self, secret: &Secret, n: u64) {
        let question = question(secret, n);
        self.say(&question).await;
        loop {
            let heard = self.hear().await;
            assert!(heard.len() <= question.len());
            // Of several servers, one that does not serve this session may have got it first.
            if let Ok(stranger) = decode_stranger(&heard) {
                assert_eq!(stranger.public, public(n));
                continue;
            }
            return assert_eq!(decode_answer(&heard).unwrap().public, public(n));
        }
    }
}

/// No key pair's public half: who uses it checks no answer.
pub(crate) fn public(n: u64) -> [u8; 32] {
    std::array::from_fn(|i| n.to_le_bytes()[i % 8] ^ i as u8)
}

pub(crate) fn question(secret: &Secret, n: u64) -> Vec<u8> {
    encode_question(&Question::new(secret, public(n)))
}

#[tokio::test]
async fn garbage_of_every_size_is_ignored_and_a_question_after_it_answered() {
    let servers = Servers::with(&[("lab", 1)]);
    let voice = Voice::facing(servers.port).await;
    let secret = servers.secret("lab");
    let real = question(&secret, 0);
    for size in 0..=2 * limits::DISCOVERY_BYTES {
        let mut cut = real.clone();
        cut.resize(size, 0xff);
        if size == real.len() {
            cut[8..].fill(0xff);
        }
        let noise: Vec<u8> = (0..size).map(|i| (i * 31 + size) as u8).collect();
        for garbage in [cut, noise, vec![0; size]] {
            voice.say(&garbage).await;
        }
        if size % 16 == 0 {
            voice.asks_and_is_answered(&secret, size as u64).await;
        }
    }
    voice.asks_and_is_answered(&secret, u64::MAX).await;
}

#[tokio::test]
async fn an_answer_is_never_larger_than_its_question() {
    let servers = Servers::with(&[("lab", 1)]);
    let voice = Voice::facing(servers.port).await;
    let secret = servers.secret("lab");
    voice.asks_and_is_answered(&secret, 1).await;
    let mut newer = question(&secret, 2);
    newer[4] = 9;
    for size in [8, 100, limits::DISCOVERY_BYTES - 1] {
        voice.say(&newer[..size]).await;
    }
    voice.asks_and_is_answered(&secret, 3).await;
    for size in [limits::DISCOVERY_BYTES, 1000] {
        newer.resize(size, 0);
        voice.say(&newer).await;
        let answer = voice.hear().await;
        assert_eq!(answer, encode_version_answer(&newer));
        assert!(answer.len() <= size);
    }
}

/// A server's keys, to answer whatever a test wants to.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) own: StaticSecret,
    pub(crate) key: Key,
}

impl Fake {
    pub(crate) fn new(token: u8, n: u8) -> Self {
        let own = StaticSecret::from([n; 32]);
        let key = Key::new([token; 12], PublicKey::from(&own).as_bytes());
        Self { own, key }
    }

    pub(crate) fn answer(&self, public: [u8; 32], n: u8) -> Vec<u8> {
        let server = PublicKey::from(&self.own).to_bytes();
        let answer =
            Answer { public, server, session: id(n), control_port: CONTROL, probing: false, tag: [0; 32] };
        let agreed = self.own.diffie_hellman(&PublicKey::from(public)).to_bytes();
        encode_answer(&answer.tagged(&Secret::new(&self.key, Some(&name("lab"))), &agreed))
    }
}

/// Says `words` to each question, one after the other.
pub(crate) async fn serve_words(
    words: impl Fn(&Question) -> Vec<Vec<u8>> + Send + 'static,
) -> (u16, JoinSet<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut buf = vec![0; 4096];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            for bytes in words(&decode_question(&buf[..len]).unwrap()) {
                socket.send_to(&bytes, from).await.unwrap();
            }
        }
    });
    (port, running)
}

/// Looks for the session `lab`, whoever is called for strangers.
pub(crate) async fn ask_lab(target: Target, give_up: Duration, key: &Key) -> Result<Vec<Found>, AskError> {
    ask(Some(&name("lab")), target, &lo(), give_up, key, &mut |_| ()).await
}

/// What a server of this version says to a question.
pub(crate) fn version_answer(version: u8, q: &Question) -> Vec<u8> {
    let mut bytes = encode_version_answer(&encode_question(q));
    bytes[4] = version;
    bytes
}

#[tokio::test]
async fn a_server_of_another_version_is_named_if_no_other_is_there() {
    let key = Fake::new(7, 1).key;
    let (port, _running) = serve_words(|q| vec![version_answer(9, q)]).await;
    for (target, give_up) in [(Target::Anyone(port), SHORT), (here(port), LONG)] {
        let begun = Instant::now();
        let asked = ask_lab(target, give_up, &key).await;
        assert!(matches!(asked, Err(AskError::OtherVersion(9))), "{asked:?}");
        assert!(begun.elapsed() < LONG);
    }
    let right = Fake::new(7, 1);
    let (port, _running) = serve_words(move |q| vec![version_answer(9, q), right.answer(q.public, 1)]).await;
    let found = ask_lab(here(port), LONG, &key).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
}

/// Somebody who has not seen the question, or is not the one asked, and who knows every port of the asker.
#[tokio::test]
async fn who_was_not_asked_ends_no_search_by_naming_a_version() {
    let (right, key) = (Fake::new(7, 1), Fake::new(7, 1).key);
    let elsewhere = UdpSocket::bind("127.0.9.1:0").await.unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let host = Target::Host(vec![socket.local_addr().unwrap()]);
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut buf = vec![0; 4096];
        let mut first = None;
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            let q = decode_question(&buf[..len]).unwrap();
            let blind = version_answer(9, &Question { public: [5; 32], ..q.clone() });
            for words in [
                &blind,
                &version_answer(9, &q),
                &encode_stranger(&Stranger { public: q.public, secure: true }),
            ] {
                elsewhere.send_to(words, from).await.unwrap();
            }
            socket.send_to(&blind, from).await.unwrap();
            // The true server is later than the grace of a host that was heard to be another.
            let first = *first.get_or_insert_with(Instant::now);
            if first.elapsed() > Duration::from_millis(1500) {
                socket.send_to(&right.answer(q.public, 1), from).await.unwrap();
            }
        }
    });
    let found = ask_lab(host, LONG, &key).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
}

#[tokio::test]
async fn an_answer_to_another_question_or_of_another_size_is_no_answer() {
    let (right, key) = (Fake::new(7, 1), Fake::new(7, 1).key);
    let wrong = move |q: &Question| {
        let mut odd_version = version_answer(9, q);
        odd_version.push(0);
        let long = [&Fake::new(7, 1).answer(q.public, 2)[..], &[0]].concat();
        vec![right.answer([5; 32], 3), long, vec![], vec![1; 3000], odd_version]
    };
    let (port, _running) = serve_words(wrong.clone()).await;
    let asked = ask_lab(here(port), SHORT, &key).await;
    assert!(matches!(asked, Err(AskError::NotFound { .. })), "{asked:?}");

    let also_right = move |q: &Question| [wrong(q), vec![Fake::new(7, 1).answer(q.public, 1)]].concat();
    let (port, _running) = serve_words(also_right).await;
    let found = ask_lab(here(port), LONG, &key).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
}

#[tokio::test]
async fn who_has_only_the_token_is_ignored_and_the_true_server_found_though_it_answers_later() {
    let (true_one, thief) = (Fake::new(7, 1), Fake::new(7, 2));
    let key = true_one.key.clone();
    let words = move |q: &Question| vec![thief.answer(q.public, 2), true_one.answer(q.public, 1)];
    let (port, _running) = serve_words(words).await;
    for target in ways(port) {
        let found = ask_lab(target, LONG, &key).await.unwrap();
        assert_eq!(ids(&found), [id(1)].into());
    }
}

#[tokio::test]
async fn an_answer_that_was_recorded_is_none() {
    let server = Fake::new(7, 1);
    let key = server.key.clone();
    let first = std::sync::OnceLock::new();
    let words = move |q: &Question| vec![first.get_or_init(|| server.answer(q.public, 1)).clone()];
    let (port, _running) = serve_words(words).await;
    let found = ask_lab(here(port), LONG, &key).await.unwrap();
    assert_eq!(ids(&found), [id(1)].into());
    let asked = ask_lab(here(port), SHORT, &key).await;
    assert!(matches!(asked, Err(AskError::NotFound { .. })), "{asked:?}");
}

// ---- those who do not know each other ----

#[tokio::test]
async fn a_question_with_another_key_gets_nothing_but_that_it_is_unknown() {
    let recorded = question(&Secret::new(server_key(7).key(), Some(&name("lab"))), 5);
    for (key, secure) in [(server_key(8), true), (ServerKey::insecure().unwrap(), false)] {
        let servers = Servers::with_key(key, &[("lab", 1)]);
        let voice = Voice::facing(servers.port).await;
        voice.say(&recorded).await;
        let heard = voice.hear().await;
        assert_eq!(heard, encode_stranger(&Stranger { public: public(5), secure }));
        // And of what it passed on, which it hears itself, it tells nobody again.
        voice.asks_and_is_answered(&servers.secret("lab"), 6).await;
        let asked = ask_lab(Target::Anyone(servers.port), SHORT, server_key(7).key()).await;
        assert!(matches!(asked, Err(AskError::NotFound { .. })), "{asked:?}");
    }
}

/// Asks everybody for `lab`, and says of whom the asker was told, and when.
pub(crate) async fn told(servers: &Servers, give_up: Duration, key: &Key) -> (bool, Vec<(Other, Duration)>) {
    let (begun, mut told) = (Instant::now(), Vec::new());
    let mut others = |who| told.push((who, begun.elapsed()));
    let everybody = Target::Anyone(servers.port);
    let asked = ask(Some(&name("lab")), everybody, &lo(), give_up, key, &mut others).await;
    (asked.is_ok(), told)
}

#[tokio::test]
async fn of_servers_that_do_not_know_the_key_an_asker_is_told_once_and_after_a_second() {
    const SECOND: Duration = Duration::from_secs(1);
    let mut servers = Servers::with(&[("other", 1)]);
    let asker = server_key(9);
    let (found, all) = told(&servers, SECOND * 7 / 2, asker.key()).await;
    let here = Other::UnknownKey(UnknownKey { addr: Ipv4Addr::LOCALHOST.into(), secure: true, given: true });
    assert!(!found);
    assert_eq!(all.iter().map(|(who, _)| *who).collect::<Vec<_>>(), [here]);
    assert!(all[0].1 >= SECOND);

    let (_, all) = told(&servers, SECOND / 2, asker.key()).await;
    assert!(all.is_empty(), "not before: {all:?}");
    servers.add_with(asker.clone(), Some("lab"), 2, false);
    let (found, all) = told(&servers, LONG, asker.key()).await;
    assert_eq!((found, all), (true, vec![]), "nor when the right one answers");
}

#[tokio::test]
async fn where_nobody_has_a_key_a_session_of_another_name_is_no_matter() {
    let open = ServerKey::insecure().unwrap();
    let servers = Servers::with_key(open.clone(), &[("other", 1)]);
    let (found, all) = told(&servers, Duration::from_millis(1500), open.key()).await;
    assert_eq!((found, all), (false, vec![]));
}

#[tokio::test]
async fn a_host_that_does_not_know_the_key_ends_the_search() {
    let (own, open) = (server_key(7), ServerKey::insecure().unwrap());
    for (server, asker) in [(server_key(8), &own), (open.clone(), &own), (server_key(8), &open)] {
        let (secure, given) = (server.key().is_secure(), asker.key().is_secure());
        let servers = Servers::with_key(server, &[("lab", 1)]);
        let begun = Instant::now();
        match ask_lab(here(servers.port), LONG, asker.key()).await {
            Err(AskError::Other(who)) => {
                let here = UnknownKey { addr: Ipv4Addr::LOCALHOST.into(), secure, given };
                assert_eq!(who, Other::UnknownKey(here));
            }
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() >= Duration::from_secs(1), "it may have another server that does");
        assert!(begun.elapsed() < LONG);
    }
}

#[tokio::test]
async fn two_servers_of_one_name_with_different_keys_do_not_meet() {
    let mut servers = Servers::with(&[("lab", 1)]);
    let other = server_key(8);
    servers.add_with(other.clone(), Some("lab"), 2, false);
    assert_eq!(rival(&name("lab"), id(1), &lo(), servers.port, servers.key.key()).await, None);
    for (key, n) in [(servers.key.key(), 1), (other.key(), 2)] {
        for target in servers.ways() {
            let found = ask_lab(target, LONG, key).await.unwrap();
            assert_eq!(ids(&found), [id(n)].into());
        }
    }
}

#[tokio::test]
async fn two_servers_of_one_name_without_a_key_are_both_listed_and_one_yields() {
    let servers = Servers::with_key(ServerKey::insecure().unwrap(), &[("lab", 1), ("lab", 2)]);
    let found = servers.ask("lab", Target::Anyone(servers.port), LONG).await.unwrap();
    assert_eq!(ids(&found), [id(1), id(2)].into());
    assert_eq!(servers.rival("lab", 3).await.map(|r| r.session.0[0] < 3), Some(true));
}

#[tokio::test]
async fn a_starting_server_yields_to_a_settled_one_and_to_a_smaller_one_that_starts_too() {
    let mut servers = Servers::new();
    servers.add(Some("settled"), 9, false);
    servers.add(Some("smaller"), 1, true);
    servers.add(Some("greater"), 9, true);
    servers.add(Some("own"), 5, true);
    let (settled, smaller, greater, own, nobody) = tokio::join!(
        servers.rival("settled", 5),
        servers.rival("smaller", 5),
        servers.rival("greater", 5),
        servers.rival("own", 5),
        servers.rival("nobody", 5),
    );
    assert_eq!(settled.map(|f| f.session), Some(id(9)));
    assert_eq!(smaller.map(|f| f.session), Some(id(1)));
    assert_eq!((greater, own, nobody), (None, None, None));
}

#[tokio::test]
async fn of_two_servers_that_start_at_once_exactly_one_yields() {
    let mut servers = Servers::new();
    servers.add(Some("lab"), 1, true);
    servers.add(Some("lab"), 2, true);
    let (one, two) = tokio::join!(servers.rival("lab", 1), servers.rival("lab", 2));
    assert_eq!(one, None);
    assert_eq!(two.map(|f| f.session), Some(id(1)));
}

// ---- between network namespaces ----
