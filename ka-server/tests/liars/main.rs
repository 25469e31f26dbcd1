//! Members that lie, beside real programs: whatever they say, every honest node is OK, and the session ends.
//!
//! Each program and each liar is on a host of its own, a network namespace; all hang on one switch. Only root can have
//! namespaces: where there are none, a test says so and ends. Absent: strangers, and relays that alter bytes, which are
//! in ka-core's tests, and one who claims another's network card, which is in `clone.rs`.

#[allow(dead_code, reason = "a member of these tests has a life of its own")]
#[path = "../../../ka-core/tests/common/fake.rs"]
mod fake;
mod member;
#[path = "../processes/mod.rs"]
mod processes;
mod session;

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ka_core::crypto::session_key::Key;
use ka_core::limits::CONTROL_PORT;
use ka_core::types::{Epoch, NodeId, Offset};
use ka_core::wire::control::{LinkFault, Note, Progress, ToCoordinator, ToNode};
use ka_desc::manifest::{About, NodeState, Stage};
use member::{Door, Lies, Member, Now, run};
use processes::clones::{Waiting, World};
use processes::lab::Source;
use session::{Again, Session, door, door_at, liar};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than any step of a test takes on a slow machine.
const LONG: Duration = Duration::from_secs(60);

const MIB: u64 = 1 << 20;

/// Where a server is that a member comes to.
struct Place {
    key: Key,
    control: SocketAddr,
}

/// A disk that takes three quarters of 16 MiB a second.
const SLOWER: &str = "split -b 1M --filter='cat; sleep 0.06'";

/// Says this once so much has come, and goes.
fn says_and_goes(at: u64, words: impl Fn(&Now) -> Vec<ToCoordinator> + Send + 'static) -> Lies {
    let beat = move |now: &Now, says: &mut Vec<ToCoordinator>| {
        let goes = now.held.offset >= Offset(at);
        if goes {
            says.extend(words(now));
        }
        !goes
    };
    Lies { beat: Box::new(beat), ..Lies::default() }
}

#[test]
fn who_accuses_eight_times_and_goes_takes_nobody_along() {
    let test = "who_accuses_eight_times_and_goes_takes_nobody_along";
    let Some(mut session) = Session::new(test, 6, 64, Source::Command, &["--rate", "16M"]) else { return };
    [1, 2, 3, 4].into_iter().for_each(|i| session.honest(i, None));
    session.honest(6, Some(SLOWER));
    let accuse = |now: &Now| {
        let tainted = LinkFault::Tainted("it lies".into());
        let of = |epoch| ToCoordinator::LinkLost(epoch, now.held.offset, tainted.clone());
        [vec![of(Epoch(u32::MAX)); 8], vec![of(now.epoch); 8]].concat()
    };
    session.liar(5, says_and_goes(36 * MIB, accuse));
    session.ends();
}

#[test]
fn who_boasts_of_what_was_never_sent_makes_no_healthy_disk_slow() {
    let test = "who_boasts_of_what_was_never_sent_makes_no_healthy_disk_slow";
    let more = ["--rate", "16M", "--slow", "drop"];
    let Some(mut session) = Session::new(test, 3, 128, Source::Command, &more) else { return };
    session.honest(1, None);
    session.honest(2, Some(SLOWER));
    let beat = |now: &Now, says: &mut Vec<ToCoordinator>| {
        let received = now.held.offset + now.beats * (10 << 30);
        let progress = Progress { received, sunk: received, ..Progress::default() };
        says.retain(|word| !matches!(word, ToCoordinator::Progress(_)));
        says.push(ToCoordinator::Progress(progress));
        true
    };
    session.liar(3, Lies { beat: Box::new(beat), ..Lies::default() });
    session.ends();
}

#[test]
fn two_above_two_who_keep_back_the_rest_fail_nobody() {
    let test = "two_above_two_who_keep_back_the_rest_fail_nobody";
    let Some(mut session) = Session::new(test, 4, 64, Source::Command, &["--rate", "20M"]) else { return };
    for i in [1, 2] {
        let friends = vec![NodeId(1), NodeId(2)];
        session.liar(i, Lies { keeps_back: Offset(24 * MIB), friends, inflates: true, ..Lies::default() });
    }
    [3, 4].into_iter().for_each(|i| session.honest(i, None));
    session.ends();
}

// ---- who holds a session open ----

/// Joins so many times under new numbers, twice a second, and then takes nothing; the two before the last go. Returns what it
/// was refused with, if it was, and how often it had joined by then.
fn joins_anew(door: &Door, times: u64, stops: &AtomicBool) -> (u64, Option<ToNode>) {
    run(async {
        let mut inside = VecDeque::new();
        for n in 0..times {
            if stops.load(Ordering::Acquire) {
                return (n, None);
            }
            let comes = {
                let door = door.clone();
                async move { Member::join(&door, 1000 + n, Vec::new()).await }
            };
            // Where there is no server any more, the task fails.
            match tokio::spawn(comes).await {
                Ok(Ok(member)) => inside.push_back(tokio::spawn(member.lives(formats()))),
                Ok(Err(said)) => return (n, said),
                Err(_) => return (n, None),
            }
            if inside.len() > 2 {
                inside.pop_front().inspect(tokio::task::JoinHandle::abort);
            }
            let _ = timeout(Duration::from_millis(500), std::future::pending::<()>()).await;
        }
        (times, None)
    })
}

/// A node whose disk is never ready: it says that it is at work, and takes nothing.
fn formats() -> Lies {
    let beat = |_: &Now, says: &mut Vec<ToCoordinator>| {
        says.extend([is_at(Stage::Formatting), note("it still formats".into())]);
        true
    };
    Lies { beat: Box::new(beat), takes: false, ..Lies::default() }
}

fn is_at(stage: Stage) -> ToCoordinator {
    ToCoordinator::State(NodeState { stage, partclone: None }.to_bytes())
}

fn note(text: String) -> ToCoordinator {
    ToCoordinator::Note(Note { topic: "log".into(), text })
}

#[test]
fn who_joins_anew_again_and_again_holds_no_session_open() {
    let test = "who_joins_anew_again_and_again_holds_no_session_open";
    let Some(mut session) = Session::new(test, 2, 48, Source::File, &["--rate", "20M"]) else { return };
    [1, 2].into_iter().for_each(|i| session.honest(i, None));
    let joins = session.beside(3, |door| joins_anew(&door, 40, &AtomicBool::new(false)));
    session.ends();
    let (times, said) = joins.join().unwrap();
    println!("{test}: after {times} times {said:?}");
    assert!((2..40).contains(&times), "it joined {times} times");
}

#[test]
fn who_is_never_ready_and_never_done_holds_a_clone_no_longer_than_it_may() {
    let test = "who_is_never_ready_and_never_done_holds_a_clone_no_longer_than_it_may";
    let _again = Again(test);
    let Some(world) = World::new("ready", 3) else { return };
    let mut server = world.clone(&["-n", "2", "--format-timeout", "6s", "--finish-timeout", "3s"]);
    let door = door(&mut server, &world.hosts);
    let node = world.node(1, 160, None);
    let number = server.until("joined")["node"].clone();
    // It takes everything once it comes, and never sends a receipt.
    let lies = Lies { takes: true, has_receipt: false, ..formats() };
    let liar = liar(&world.hosts, 2, &door, lies);
    let stops = Arc::new(AtomicBool::new(false));
    let (told, again) = (Arc::clone(&stops), door.clone());
    server.until("started");
    let joins = world.hosts.beside(3, move || joins_anew(&again, 60, &told));
    // The files come.
    let some = |event: &serde_json::Value| event["received"].as_u64() > Some(MIB);
    server.until_that("progress", |event| event["node"] == number && some(event));
    stops.store(true, Ordering::Release);
    let (times, said) = joins.join().unwrap();
    assert!((2..60).contains(&times), "it joined {times} times: {said:?}");
    let node = node.end();
    assert_eq!(node.code, 0, "{}", node.stderr);
    world.check(1);
    let report = server.end().stderr;
    assert!(report.contains("1 of "), "{report}");
    liar.join().unwrap();
}

#[test]
fn who_is_done_with_another_machine_s_network_card_keeps_it_out_of_nothing() {
    const CARD: &str = "52:54:00:12:34:56";
    let test = "who_is_done_with_another_machine_s_network_card_keeps_it_out_of_nothing";
    let _again = Again(test);
    let Some(world) = World::new("card", 3) else { return };
    world.hosts.on(3, &format!("link set eth0 address {CARD}"));
    let mut server = world.clone(&["-n", "2", "--spool", &world.lan.arg("")]);
    let door = door(&mut server, &world.hosts);
    // One that cannot leave its file systems has the session last.
    let waiting = Waiting::at("umount");
    let waits = world.node(1, 160, Some(waiting.dir.path()));
    server.until("joined");
    let beat = |_: &Now, says: &mut Vec<ToCoordinator>| {
        says.push(is_at(Stage::Ready));
        true
    };
    let about = About { macs: vec![CARD.into()] }.to_bytes();
    let liar = liar(&world.hosts, 2, &door, Lies { about, beat: Box::new(beat), ..Lies::default() });
    let number = server.until("joined")["node"].clone();
    let end = server.until_that("ended", |event| event["node"] == number);
    assert_eq!(end["outcome"], "ok", "{end}");
    // It comes when the other one has ended, and waits until all may go.
    let victim = world.node(3, 160, None);
    let number = server.until("joined")["node"].clone();
    let end = server.until_that("ended", |event| event["node"] == number);
    assert_eq!(end["outcome"], "ok", "{end}");
    waiting.go();
    drop(waits.end());
    let victim = victim.end();
    assert_eq!(victim.code, 0, "{}", victim.stderr);
    world.check(3);
    let said = server.end().stderr;
    assert!(said.contains(&format!("node 2 claims the network card {CARD}, too")), "{said}");
    liar.join().unwrap();
}

// ---- who floods ----

#[test]
fn who_says_broken_and_linked_in_turn_fills_no_log() {
    let test = "who_says_broken_and_linked_in_turn_fills_no_log";
    let Some(mut session) = Session::new(test, 3, 64, Source::Command, &["--rate", "20M"]) else { return };
    [1, 2].into_iter().for_each(|i| session.honest(i, None));
    let flood = |now: &Now, says: &mut Vec<ToCoordinator>| {
        let broken = LinkFault::Broken("x".repeat(400));
        let turn =
            [ToCoordinator::LinkLost(now.epoch, now.held.offset, broken), ToCoordinator::Linked(now.epoch)];
        says.extend((0..2000).flat_map(|_| turn.clone()));
        true
    };
    session.liar(3, Lies { beat: Box::new(flood), ..Lies::default() });
    let server = session.ends();
    let said = server.stdout.len() + server.stderr.len();
    println!("{test}: the server said {said} bytes");
    assert!(said < MIB as usize, "the server said {said} bytes");
}

#[test]
fn a_hundred_and_fifty_who_join_and_talk_fill_no_disk() {
    let test = "a_hundred_and_fifty_who_join_and_talk_fill_no_disk";
    let _again = Again(test);
    let Some(world) = World::new("talk", 2) else { return };
    let logs = world.lan.arg("logs");
    let args = ["--image", &world.golden, "--log-dir", &logs, "-n", "200"];
    let mut server = world.hosts.start(0, &world.lan, &world.lan.clone_command(&args));
    server.until_says("is open");
    let door = door_at(&world.hosts, CONTROL_PORT);
    let node = world.node(1, 160, None);
    let talks = world.hosts.beside(2, move || {
        run(async {
            let mut members = JoinSet::new();
            for n in 0..150 {
                let member = Member::join(&door, 1000 + n, Vec::new()).await;
                members.spawn(member.unwrap_or_else(|said| panic!("{said:?}")).lives(talks()));
            }
            members.join_all().await;
        });
    });
    talks.join().unwrap();
    assert_eq!(world.hosts.client(2, &world.lan, &["-g"]).end().code, 0, "it may start");
    let (node, server) = (node.end(), server.end());
    assert_eq!(node.code, 0, "{}{}", node.stderr, server.stderr);
    world.check(1);
    let logs = fs::read_dir(fs::read_dir(logs).unwrap().next().unwrap().unwrap().path()).unwrap();
    let bytes: u64 = logs.map(|log| log.unwrap().metadata().unwrap().len()).sum();
    println!("{test}: {bytes} bytes of logs, {} of words", server.stderr.len());
    assert!(bytes <= 64 * MIB + 151 * (64 << 10), "{bytes} bytes of logs");
    assert!(server.stderr.len() < MIB as usize, "the server said {} bytes", server.stderr.len());
}

/// As many notes as the server passes on, for five seconds.
fn talks() -> Lies {
    let beat = |now: &Now, says: &mut Vec<ToCoordinator>| {
        says.extend((0..8).map(|_| note("x".repeat(1000))));
        now.beats < 70
    };
    Lies { beat: Box::new(beat), takes: false, ..Lies::default() }
}
