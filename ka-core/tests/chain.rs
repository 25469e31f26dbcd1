//! A story per phase of a session, told by simulated worlds: gathering, streaming, failing, ending; `repair` tells the
//! others.
//!
//! Nothing here is left to chance: a story that fails once fails always. Every rule of
//! [`checker`](ka_core::sim::checker) is on in each of them.

#![cfg(feature = "sim")]

use std::time::Duration;

use ka_core::limits;
use ka_core::proto::Event;
use ka_core::sim::{Fault, World, ms, secs};
use ka_core::time::Instant;
use ka_core::types::NodeId;
use ka_core::wire::control::{Outcome, Reason};

const MIB: u64 = 1 << 20;

/// Whether `node` failed because the bytes were lost at `culprit`.
fn lost_at(world: &World, node: usize, culprit: u32) -> bool {
    matches!(world.outcome(node), Outcome::Failed(Reason::Lost(n, _), _) if *n == NodeId(culprit))
}

fn interrupted(world: &World, node: usize) -> bool {
    matches!(world.outcome(node), Outcome::Failed(Reason::Interrupted(_), _))
}

fn started_with(world: &World) -> Option<u32> {
    world
        .events()
        .iter()
        .find_map(|(_, e)| if let Event::Started { nodes } = e { Some(*nodes) } else { None })
}

// ---- gathering ----

#[test]
fn the_gate_opens_when_all_are_in() {
    let world = World::chain(3).stream(MIB).joins_at(2, secs(7)).run();
    assert!(world.report().is_ok());
    assert_eq!(started_with(&world), Some(3));
    assert!(world.report().started.unwrap() >= Instant::ZERO + secs(7));
}

#[test]
fn a_node_that_leaves_before_the_start_is_not_counted() {
    for leaves in [Fault::Kill { node: 2, at: secs(1) }, Fault::Stop { node: 2, at: secs(1) }] {
        let world =
            World::chain(4).gate(3).stream(MIB).joins_at(3, secs(2)).joins_at(4, secs(3)).with(leaves).run();
        assert_eq!(started_with(&world), Some(3));
        assert_eq!(world.report().nodes.len(), 3);
        assert!(world.report().is_ok(), "{leaves:?}");
    }
}

#[test]
fn a_frozen_machine_is_not_waited_for() {
    let world = World::chain(3).gate(3).stream(MIB).joins_at(3, secs(60));
    let world = world.start_after(secs(5), 2).with(Fault::Freeze { node: 1, at: secs(1) }).run();
    // At 5 s it is not yet known to be gone, so the session starts with it, and goes on without it.
    assert_eq!(started_with(&world), Some(2));
    assert!(lost_at(&world, 1, 1) && world.outcome(2).is_ok());
    assert!(world.refusal(3).is_some());
}

#[test]
fn after_a_while_fewer_nodes_are_enough_but_not_too_few() {
    let world = World::chain(4).gate(4).stream(MIB).start_after(secs(10), 2);
    let world = world.joins_at(2, secs(20)).joins_at(3, secs(30)).joins_at(4, secs(30)).run();
    assert_eq!(started_with(&world), Some(2));
    assert_eq!(world.report().started, world.events().iter().find(|(_, e)| is_start(e)).map(|(at, _)| *at));
    assert!(world.report().started.unwrap() >= Instant::ZERO + secs(20), "one node was not enough at 10 s");
    assert!(world.report().is_ok());
}

fn is_start(event: &Event) -> bool {
    matches!(event, Event::Started { .. })
}

#[test]
fn the_admin_says_go() {
    let world = World::chain(3).gate(10).stream(MIB).go_at(secs(2)).run();
    assert_eq!(started_with(&world), Some(3));
    assert!(world.report().is_ok());
}

#[test]
fn who_comes_late_is_refused_with_words() {
    let world = World::chain(3).gate(2).stream(512 * MIB).joins_at(3, secs(1)).run();
    assert!(world.report().is_ok());
    assert!(world.refusal(3).unwrap().contains("already started with 2 nodes"), "{:?}", world.refusal(3));
}

#[test]
fn who_comes_late_is_let_in_while_somebody_holds_the_beginning() {
    let world = World::chain(3).gate(2).stream(8 * MIB).source_rate(MIB).joins_at(3, secs(1)).run();
    assert!(world.report().is_ok());
    assert_eq!(world.report().nodes.len(), 3);
}

#[test]
fn who_asks_for_another_session_is_refused_with_words() {
    let world = World::chain(3).gate(2).stream(MIB).asks_for(1, "another").run();
    assert!(world.report().is_ok());
    assert_eq!(world.refusal(1), Some("the server serves a session of another name"));
}

#[test]
fn a_stop_before_the_start_ends_it_for_all() {
    let world = World::chain(3).gate(9).stream(MIB).with(Fault::StopAll { at: secs(1) }).run();
    assert_eq!(started_with(&world), None);
    assert!((1..=3).all(|n| interrupted(&world, n)));
}

// ---- streaming ----

#[test]
fn a_healthy_chain_is_ok_to_the_last_node() {
    let world = World::chain(5).stream(64 * MIB).run();
    assert!(world.report().is_ok());
    assert_eq!(world.report().bytes, 64 * MIB);
    assert!((1..=5).all(|n| world.truly_ok(n)));
}

#[test]
fn a_binary_tree_of_seven_is_ok_to_its_leaves() {
    let world = World::tree(7, 2).stream(64 * MIB).run();
    assert!(world.report().is_ok());
    let links = world.events().iter().filter(|(_, e)| matches!(e, Event::Linked { .. })).count();
    assert_eq!(links, 7);
}

/// The oracle: a chain of N hosts takes S/B for the stream, and for each relay on the way one block and one latency.
#[test]
fn a_chain_takes_as_long_as_it_must_and_no_longer() {
    let (stream, rate, latency) = (24 * MIB, 125_000_000, Duration::from_micros(200));
    let block = limits::BLOCK_BYTES as u64;
    for nodes in [1_usize, 2, 5, 31] {
        let world = World::chain(nodes).stream(stream).rate(rate).latency(latency).run();
        let relays = (nodes - 1) as f64;
        let block_s = block as f64 / rate as f64;
        let l = latency.as_secs_f64();
        let should = stream as f64 / rate as f64 + l + relays * (l + block_s);
        let took = world.stream_time().as_secs_f64();
        assert!((took - should).abs() < block_s, "{nodes} nodes took {took} s instead of {should} s");
    }
}

#[test]
fn no_chain_waits_for_the_word_of_those_far_below() {
    for (rate, window) in [(125_000_000, MIB), (125_000_000, 8 * MIB), (1 << 30, 16 * MIB)] {
        for nodes in [4, 16] {
            let world = World::chain(nodes).stream(256 * MIB).rate(rate).window(window).run();
            let block_s = limits::BLOCK_BYTES as f64 / rate as f64;
            let should = 256.0 * MIB as f64 / rate as f64 + nodes as f64 * (block_s + 50e-6);
            let took = world.stream_time().as_secs_f64();
            assert!(took < 1.001 * should, "{rate}, {window}, {nodes} nodes: {took} s instead of {should} s");
        }
    }
}

#[test]
fn a_small_window_is_not_kept_full_by_larger_ones_that_have_no_news() {
    for small in 1..=4 {
        let world = World::chain(6).stream(256 * MIB).window(64 * MIB).window_of(small, MIB).run();
        assert!(world.report().is_ok());
        // A window passes each time the others have nothing more, and say so.
        assert!(world.stream_time() < secs(5), "{small}: {:?}", world.stream_time());
        let named = |e: &Event| matches!(e, Event::Slow { node, .. } if *node != NodeId(small as u32));
        assert!(world.events().iter().all(|(_, e)| !named(e)), "nobody else is to blame");
    }
}

#[test]
fn a_slow_sink_slows_the_chain_once_its_window_is_full() {
    let world = World::chain(3).stream(64 * MIB).window(4 * MIB).sink_rate(2, 20_000_000).run();
    assert!(world.report().is_ok());
    let slow = world.counters(2);
    assert!(slow.full > 0, "its window was full: {slow:?}");
    assert!(slow.evicted >= 60 * MIB, "all but a window was forgotten: {slow:?}");
    assert!(slow.held_max <= 4 * MIB, "{slow:?}");
    let seconds = world.stream_time().as_secs_f64();
    let should = 60.0 * MIB as f64 / 20e6;
    assert!(
        (seconds - should).abs() < 0.1 * should,
        "{seconds} s; all but a window at the sink's rate is {should} s"
    );
}

#[test]
fn a_slow_link_slows_only_what_is_behind_it_until_windows_are_full() {
    let world = World::chain(4).stream(16 * MIB).window(32 * MIB).link_rate(3, 10_000_000).run();
    assert!(world.report().is_ok());
    assert!(world.ended(2).unwrap().1 < world.ended(4).unwrap().1 || world.counters(2).full == 0);
}

#[test]
fn a_slow_source_sets_the_pace_and_no_window_fills() {
    let world = World::chain(3).stream(8 * MIB).source_rate(10_000_000).run();
    assert!(world.report().is_ok());
    assert!((1..=3).all(|n| world.counters(n).full == 0));
}

#[test]
fn a_rate_limit_is_kept() {
    let world = World::chain(3).stream(32 * MIB).paced(16_000_000).run();
    assert!(world.report().is_ok());
    let seconds = world.stream_time().as_secs_f64();
    let should = 32.0 * MIB as f64 / 16e6;
    assert!(seconds > 0.97 * should && seconds < 1.05 * should, "{seconds} s instead of {should} s");
}

#[test]
fn a_session_may_last_for_hours() {
    let world = World::chain(2).stream(64 * MIB).source_rate(8_000).run();
    assert!(world.report().is_ok());
    assert!(world.now() > Instant::ZERO + secs(2 * 3600));
}

// ---- failing ----

#[test]
fn two_deaths_at_different_times_are_both_named() {
    let world = World::tree(7, 2).stream(64 * MIB);
    let world =
        world.with(Fault::Kill { node: 7, at: ms(50) }).with(Fault::Kill { node: 1, at: ms(200) }).run();
    assert!(lost_at(&world, 7, 7));
    assert!(lost_at(&world, 1, 1));
    assert!((2..=6).all(|n| world.outcome(n).is_ok()));
}

#[test]
fn one_loss_does_not_hide_another() {
    // The views after the first loss have higher numbers, but most nodes never see one.
    let world = World::tree(7, 2).stream(64 * MIB);
    let world = world
        .with(Fault::Kill { node: 7, at: ms(50) })
        .with(Fault::Taint { node: 1, offset: 40 * MIB })
        .run();
    assert!(lost_at(&world, 7, 7));
    assert!((2..=6).all(|n| world.outcome(n).is_ok()));
}

#[test]
fn a_child_lost_while_its_parent_dials_does_no_harm() {
    // The second is told of it while its own link is still coming up.
    for micros in (100..1000).step_by(10) {
        let at = Duration::from_micros(micros);
        let world =
            World::chain(3).stream(MIB).start_after(secs(1), 1).with(Fault::Kill { node: 3, at }).run();
        assert!(world.outcome(1).is_ok() && world.outcome(2).is_ok(), "{at:?}");
    }
}

#[test]
fn a_node_with_a_failed_sink_relays_on() {
    let world = World::chain(4).stream(256 * MIB).with(Fault::SinkFails { node: 2, offset: 10 * MIB }).run();
    assert!([1, 3, 4].iter().all(|n| world.outcome(*n).is_ok()));
    assert!(matches!(world.outcome(2), Outcome::Failed(Reason::Sink(_), at) if at.0 == 10 * MIB));
    assert_eq!(world.report().nodes[1].bytes, 10 * MIB, "what it tells while it relays on changes nothing");
}

#[test]
fn a_failed_sink_at_the_end_of_the_chain_holds_nobody_up() {
    let world = World::chain(3)
        .stream(64 * MIB)
        .window(2 * MIB)
        .with(Fault::SinkFails { node: 3, offset: MIB })
        .run();
    assert!(world.outcome(1).is_ok() && world.outcome(2).is_ok() && !world.outcome(3).is_ok());
}

#[test]
fn when_every_sink_has_failed_the_session_is_over() {
    let world = (1..=3).fold(World::chain(3).stream(640 * MIB), |w, node| {
        w.with(Fault::SinkFails { node, offset: node as u64 * MIB })
    });
    let world = world.run();
    assert!((1..=3).all(|n| matches!(world.outcome(n), Outcome::Failed(Reason::Sink(_), _))));
    assert!(world.now() < Instant::ZERO + secs(1), "the rest of the source is not read");
}

#[test]
fn a_sink_that_stalls_for_twenty_seconds_is_no_failure() {
    let world = World::chain(3).stream(64 * MIB).window(2 * MIB);
    let world = world.with(Fault::SinkStalls { node: 2, at: ms(100), lasts: secs(20) }).run();
    assert!(world.report().is_ok());
    assert!(world.now() > Instant::ZERO + secs(20));
    assert!(world.events().iter().any(|(at, e)| {
        matches!(e, Event::Slow { node: NodeId(2), .. }) && *at < Instant::ZERO + secs(6)
    }));
}

#[test]
fn a_bad_last_word_is_as_bad_as_a_bad_block() {
    let world = World::chain(3).stream(MIB).with(Fault::Taint { node: 1, offset: MIB }).run();
    assert!(world.outcome(2).is_ok() && world.outcome(3).is_ok());
}

#[test]
fn when_the_source_fails_nobody_is_ok() {
    for offset in [64 << 10, 5 * MIB + 7] {
        // It begins to fail once the nodes are in.
        let world = World::chain(4).stream(32 * MIB).source_rate(11_000_000);
        let world = world.with(Fault::SourceFails { offset }).run();
        assert!((1..=4).all(|n| matches!(world.outcome(n), Outcome::Failed(Reason::Source(_), _))));
        assert!(matches!(world.report().root.outcome, Outcome::Failed(Reason::Source(_), _)));
    }
}

#[test]
fn when_the_admin_stops_it_everyone_is_interrupted() {
    let world = World::chain(4).stream(640 * MIB).with(Fault::StopAll { at: secs(1) }).run();
    assert!((1..=4).all(|n| interrupted(&world, n)));
    assert!(world.now() < Instant::ZERO + secs(2));
    assert!(world.report().bytes > 0, "it says how far the source was read");
}

#[test]
fn a_relay_whose_sink_has_failed_may_still_fall_silent() {
    let world = World::chain(3).stream(64 * MIB);
    let world = world
        .with(Fault::SinkFails { node: 2, offset: MIB })
        .with(Fault::Freeze { node: 2, at: ms(200) })
        .run();
    assert!(world.outcome(1).is_ok() && world.outcome(3).is_ok());
    assert!(matches!(world.outcome(2), Outcome::Failed(Reason::Sink(_), _)));
}

#[test]
fn who_has_everything_outlives_its_parent() {
    // The second has the whole tape while its slow sink is still at work, and its parent dies.
    let world = World::chain(2).stream(4 * MIB).sink_ends_after(1, secs(5)).sink_ends_after(2, secs(5));
    let world = world.with(Fault::Kill { node: 1, at: secs(2) }).run();
    assert!(*world.outcome(1) == Outcome::Unknown && world.outcome(2).is_ok());
}

// ---- ending ----

/// When each node ended, by its own clock.
fn ends(world: &World, nodes: usize) -> Vec<Instant> {
    (1..=nodes).map(|n| world.ended(n).unwrap().1).collect()
}

#[test]
fn a_node_leaves_only_when_nobody_near_below_needs_it() {
    let world = World::chain(8).stream(16 * MIB).window(32 * MIB).link_rate(8, 5_000_000).run();
    assert!(world.report().is_ok());
    let ends = ends(&world, 8);
    assert!(ends[0] < Instant::ZERO + secs(1), "the first is too far above the last to feed it one day");
    let near = limits::LOSSES + 1;
    assert!(ends[7 - near..7].iter().all(|e| *e > Instant::ZERO + secs(3)), "the last takes that long");
}

#[test]
fn who_waits_goes_after_everyone_has_ended_each_a_delay_apart() {
    let world = World::chain(4).stream(MIB).release_delay(secs(1)).sink_ends_after(4, secs(9));
    let world = (1..=3).fold(world, World::waits).run();
    assert!(world.report().is_ok());
    let ends = ends(&world, 4);
    assert!(ends[..3].iter().all(|e| *e >= Instant::ZERO + secs(9)));
    let mut apart: Vec<_> = ends[..3].to_vec();
    apart.sort_unstable();
    assert!(apart.windows(2).all(|w| w[1] - w[0] >= secs(1)), "{apart:?}");
}

#[test]
fn who_waits_but_failed_does_not_wait() {
    let world = World::chain(2).stream(MIB).waits(1).sink_ends_after(2, secs(20));
    let world = world.with(Fault::SinkFails { node: 1, offset: 0 }).run();
    assert!(world.outcome(2).is_ok());
    assert!(world.ended(1).unwrap().1 < Instant::ZERO + secs(1));
}

#[test]
fn streams_of_nothing_and_of_one_byte_end_well() {
    for bytes in [0, 1] {
        let world = World::chain(3).stream(bytes).run();
        assert!(world.report().is_ok());
        assert_eq!(world.report().bytes, bytes);
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| {
        let world = World::chain(4).stream(4 * MIB).jitter(ms(2)).seed(seed).traced();
        world.with(Fault::Kill { node: 3, at: ms(20) }).run().trace().clone()
    };
    assert_eq!(story(1), story(1));
    assert_ne!(story(1), story(2));
}
