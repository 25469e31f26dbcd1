//! A story per fault that a session survives, told by simulated worlds: who is lost, and that nobody else is.
//!
//! Nothing here is left to chance, and every rule of [`checker`](ka_core::sim::checker) is on in each story.

#![cfg(feature = "sim")]

use std::time::Duration;

use ka_core::limits;
use ka_core::proto::Event;
use ka_core::sim::{Fault, World, ms, secs};
use ka_core::time::Instant;
use ka_core::types::NodeId;
use ka_core::wire::control::{Outcome, Reason};

const MIB: u64 = 1 << 20;

/// A chain whose stream of 64 MiB takes about six seconds.
fn chain(nodes: usize) -> World {
    World::chain(nodes).stream(64 * MIB).source_rate(11_000_000).window(64 * MIB)
}

/// The same stream through a tree with two children per node.
fn tree(nodes: usize) -> World {
    World::tree(nodes, 2).stream(64 * MIB).source_rate(11_000_000).window(64 * MIB)
}

fn lost_at(world: &World, node: usize, culprit: u32) -> bool {
    matches!(world.outcome(node), Outcome::Failed(Reason::Lost(n, _), _) if *n == NodeId(culprit))
}

/// These nodes are lost by themselves, and all others are OK.
fn assert_only_lost(world: &World, lost: &[usize]) {
    for node in 1..=world.report().nodes.len() {
        let outcome = world.outcome(node);
        if lost.contains(&node) {
            assert!(lost_at(world, node, node as u32), "{node}: {outcome}");
        } else {
            assert!(outcome.is_ok(), "{node}: {outcome}");
        }
    }
}

/// Everyone is OK, and so many seconds after the start at the latest.
fn assert_all_ok_by(world: &World, by: Duration) {
    assert_only_lost(world, &[]);
    assert!(world.now() < Instant::ZERO + by, "it took until {}", world.now());
}

fn suspected(world: &World, node: u32) -> usize {
    let is = |e: &Event| matches!(e, Event::Suspected { node: n, .. } if *n == NodeId(node));
    world.events().iter().filter(|(_, e)| is(e)).count()
}

fn returned(world: &World, node: u32) -> usize {
    let is = |e: &Event| matches!(e, Event::Returned { node: n, .. } if *n == NodeId(node));
    world.events().iter().filter(|(_, e)| is(e)).count()
}

// ---- somebody is lost ----

#[test]
fn when_one_in_the_middle_is_killed_the_others_are_ok_at_once() {
    let world = chain(7).with(Fault::Kill { node: 4, at: secs(2) }).run();
    assert_only_lost(&world, &[4]);
    assert!(world.stream_time() < secs(7), "{:?}", world.stream_time());
    let linked = world.events().iter().find(|(at, e)| {
        *at > Instant::ZERO + secs(2) && matches!(e, Event::Linked { node: NodeId(5), parent: NodeId(3) })
    });
    assert!(linked.expect("the fifth has a new parent").0 < Instant::ZERO + ms(2100));
}

#[test]
fn whoever_is_killed_and_whenever_the_others_are_ok() {
    for node in 1..=5 {
        for at in [0, 1, 50, 100, 400, 900, 1500] {
            let world = World::chain(5).stream(16 * MIB).start_after(ms(10), 1).source_rate(11_000_000);
            let world = world.with(Fault::Kill { node, at: ms(at) }).run();
            assert!(
                world.report().nodes.iter().filter(|n| !n.outcome.is_ok()).count() <= 1,
                "{node} at {at} ms"
            );
        }
    }
}

#[test]
fn two_three_and_four_neighbours_may_be_killed_at_once() {
    for last in [4, 5, 6] {
        let world = (3..=last).fold(chain(9), |w, node| w.with(Fault::Kill { node, at: secs(2) })).run();
        assert_only_lost(&world, &(3..=last).collect::<Vec<_>>());
    }
}

#[test]
fn neighbours_of_slow_sinks_may_be_killed_too() {
    // Every window is full, and every node is at another place.
    for last in [3, 4, 5] {
        let world = (1..=8).fold(World::chain(8).stream(64 * MIB).window(2 * MIB), |w, n| {
            w.sink_rate(n, 60_000_000 - 5_000_000 * n as u64)
        });
        let world = (3..=last).fold(world, |w, node| w.with(Fault::Kill { node, at: secs(1) })).run();
        assert_only_lost(&world, &(3..=last).collect::<Vec<_>>());
    }
}

#[test]
fn whoever_is_first_or_last_may_be_killed() {
    assert_only_lost(&chain(5).with(Fault::Kill { node: 1, at: secs(2) }).run(), &[1]);
    assert_only_lost(&chain(5).with(Fault::Kill { node: 5, at: secs(2) }).run(), &[5]);
}

#[test]
fn eight_of_sixteen_are_killed_one_a_second() {
    let world = World::chain(16).stream(64 * MIB).source_rate(6_000_000).window(16 * MIB);
    let lost: Vec<_> = (1..=8).map(|n| 2 * n).collect();
    let world = lost
        .iter()
        .enumerate()
        .fold(world, |w, (i, node)| w.with(Fault::Kill { node: *node, at: secs(1 + i as u64) }));
    assert_only_lost(&world.run(), &lost);
}

#[test]
fn a_frozen_machine_is_bypassed_within_a_second_and_a_half() {
    let world = chain(5).with(Fault::Freeze { node: 2, at: secs(2) }).run();
    assert_only_lost(&world, &[2]);
    let (told, _) = world
        .events()
        .iter()
        .find(|(at, e)| *at > Instant::ZERO + secs(2) && matches!(e, Event::Linked { node: NodeId(3), .. }))
        .expect("the third has a new parent");
    assert!(told.since(Instant::ZERO + secs(2)) < ms(1200), "at {told}");
}

#[test]
fn the_donor_of_a_repair_may_be_killed_while_it_gives() {
    for after in [0, 1, 5, 50, 200] {
        let world = chain(6)
            .with(Fault::Kill { node: 3, at: secs(2) })
            .with(Fault::Kill { node: 2, at: secs(2) + ms(after) })
            .run();
        assert_only_lost(&world, &[2, 3]);
    }
}

#[test]
fn the_new_parent_may_be_frozen_when_it_is_needed() {
    let world = chain(6)
        .with(Fault::Freeze { node: 2, at: ms(1900) })
        .with(Fault::Kill { node: 3, at: secs(2) })
        .run();
    assert_only_lost(&world, &[2, 3]);
}

#[test]
fn who_has_everything_but_feeds_somebody_gets_a_parent_and_then_nothing() {
    // The link to the third is slow: the first two have everything long before it does.
    for (killed, rest) in [(1, [2, 3]), (2, [1, 3])] {
        let world = World::chain(3).stream(32 * MIB).window(64 * MIB).link_rate(3, 5_000_000);
        let world = world.with(Fault::Kill { node: killed, at: secs(3) }).run();
        assert!(rest.iter().all(|n| world.outcome(*n).is_ok()), "{killed}");
    }
}

#[test]
fn a_tree_loses_a_branch_and_nobody_else() {
    for lost in [&[1][..], &[2], &[1, 3], &[3, 4]] {
        let world =
            lost.iter().fold(tree(7), |w, node| w.with(Fault::Kill { node: *node, at: secs(2) })).run();
        assert_only_lost(&world, lost);
    }
}

#[test]
fn a_stopped_node_takes_nobody_along() {
    let world = chain(5).with(Fault::Stop { node: 2, at: secs(2) }).run();
    assert!(matches!(world.outcome(2), Outcome::Failed(Reason::Interrupted(_), _)));
    assert!([1, 3, 4, 5].iter().all(|n| world.outcome(*n).is_ok()));
}

#[test]
fn who_starts_anew_when_the_gate_is_open_is_told_so_and_before_that_is_in() {
    let world = chain(3).with(Fault::Restart { node: 2, at: secs(2), after: secs(1) }).run();
    assert_only_lost(&world, &[2]);
    assert!(world.refusal(4).is_some());

    let world = World::chain(3).stream(MIB).joins_at(3, secs(5));
    let world = world.with(Fault::Restart { node: 1, at: secs(2), after: secs(1) }).run();
    assert!(world.report().is_ok() && world.report().nodes.len() == 3);
}

// ---- somebody is away for a while ----

#[test]
fn who_comes_back_far_behind_slows_nobody() {
    // The line is as busy as it can be, so that whoever waits for a moment is late at the end.
    let busy = || World::chain(6).stream(256 * MIB).window(1 << 30).rate(25_000_000);
    let last = |world: &World| {
        let ended = |(at, e): &(Instant, Event)| match e {
            Event::Ended { node, .. } if *node != NodeId(3) => Some(*at),
            _ => None,
        };
        world.events().iter().filter_map(ended).max().expect("they end")
    };
    let healthy = last(&busy().run());
    let world = busy().with(Fault::Pause { node: 3, at: secs(2), lasts: secs(3) }).run();
    assert_all_ok_by(&world, secs(30));
    assert!(last(&world).since(healthy) < ms(1500), "{} instead of {healthy}", last(&world));
}

#[test]
fn a_node_cut_off_for_three_seconds_comes_back_and_is_ok() {
    for node in 1..=5 {
        let world = chain(5).with(Fault::Cut { node, at: secs(1), lasts: secs(3) }).run();
        assert_all_ok_by(&world, secs(15));
        assert_eq!((suspected(&world, node as u32), returned(&world, node as u32)), (1, 1), "{node}");
        assert!(world.marks().rejoined > 0);
    }
}

#[test]
fn a_node_paused_for_three_seconds_comes_back_and_is_ok() {
    for node in 1..=5 {
        let world = chain(5).with(Fault::Pause { node, at: secs(1), lasts: secs(3) }).run();
        assert_all_ok_by(&world, secs(15));
        assert!(suspected(&world, node as u32) > 0);
    }
}

#[test]
fn a_short_pause_is_not_noticed() {
    let world = chain(5).with(Fault::Pause { node: 2, at: secs(1), lasts: ms(300) }).run();
    assert_all_ok_by(&world, secs(8));
    assert_eq!(suspected(&world, 2), 0);
}

#[test]
fn who_comes_back_too_late_for_every_window_is_told_what_is_missing() {
    let world = World::chain(4).stream(256 * MIB).source_rate(30_000_000).window(2 * MIB);
    let world = world.with(Fault::Cut { node: 2, at: secs(1), lasts: secs(5) }).run();
    assert!(matches!(world.outcome(2), Outcome::Failed(Reason::Missing(..), _)), "{}", world.outcome(2));
    assert!([1, 3, 4].iter().all(|n| world.outcome(*n).is_ok()));
}

#[test]
fn who_comes_back_too_late_or_comes_late_is_served_after_the_others() {
    let world =
        World::chain(5).gate(4).stream(256 * MIB).source_rate(30_000_000).window(2 * MIB).rereadable();
    let world = world.joins_at(5, secs(3)).with(Fault::Cut { node: 2, at: secs(1), lasts: secs(5) }).run();
    assert_all_ok_by(&world, secs(20));
    assert!(world.counters(0).reread > 220 * MIB, "{:?}", world.counters(0));
    // One behind the other: who came late has nothing, so it comes first.
    let linked = |e: &Event| matches!(e, Event::Linked { node: NodeId(2), parent: NodeId(5) });
    assert!(world.events().iter().any(|(_, e)| linked(e)));
}

#[test]
fn who_is_put_off_is_told_when_the_source_cannot_be_read_again() {
    let world = World::chain(4).stream(256 * MIB).source_rate(30_000_000).window(2 * MIB).rereadable();
    let world = world
        .with(Fault::Cut { node: 2, at: secs(1), lasts: secs(5) })
        .with(Fault::RereadFails { at: secs(8) })
        .run();
    assert!(matches!(world.outcome(2), Outcome::Failed(Reason::Missing(..), _)), "{}", world.outcome(2));
    assert!([1, 3, 4].iter().all(|n| world.outcome(*n).is_ok()));
}

#[test]
fn a_cable_that_comes_and_goes_costs_time_only() {
    let flaps = (0..3).map(|i| Fault::Cut { node: 2, at: ms(1000 + 1300 * i), lasts: ms(500) });
    let world = flaps.fold(chain(4), World::with).run();
    assert_all_ok_by(&world, secs(20));
}

#[test]
fn a_link_that_is_away_for_two_seconds_costs_time_only_even_at_the_end() {
    for node in 1..=3 {
        for at in (2000..7000).step_by(50) {
            let world = World::chain(3).stream(6 * MIB).source_rate(1_000_000).window(8 * MIB);
            let world = world.with(Fault::Cut { node, at: ms(at), lasts: secs(2) }).run();
            assert_all_ok_by(&world, secs(15));
        }
    }
}

#[test]
fn who_comes_back_to_a_parent_that_is_away_itself_is_kept_for_until_it_is_fed() {
    // It lacks little, and yet more than those hold who keep nothing for it.
    let world = World::chain(5).stream(12 * MIB).source_rate(1_000_000).window(64 * MIB);
    let world = world
        .with(Fault::Cut { node: 2, at: secs(2), lasts: secs(2) })
        .with(Fault::Cut { node: 5, at: ms(4500), lasts: secs(2) })
        .run();
    assert_all_ok_by(&world, secs(25));
}

#[test]
fn a_switch_that_is_cut_off_takes_half_the_chain_along_and_brings_it_back() {
    let world = chain(8).with(Fault::CutMany { first: 5, last: 8, at: secs(1), lasts: secs(3) }).run();
    assert_all_ok_by(&world, secs(20));
    assert_eq!(suspected(&world, 1), 0);
}

#[test]
fn the_servers_cable_may_be_out_for_ten_seconds_or_sixty() {
    for lasts in [10, 60] {
        let world = chain(4).with(Fault::Cut { node: 0, at: secs(1), lasts: secs(lasts) }).run();
        assert_all_ok_by(&world, secs(lasts + 12));
        assert_eq!((1..=4).map(|n| suspected(&world, n)).sum::<usize>(), 0, "it was the server's own cable");
    }
}

#[test]
fn who_is_without_the_server_for_too_long_gives_up() {
    let lasts = limits::PARTITION_TIMEOUT + secs(60);
    let world = chain(3).with(Fault::Cut { node: 0, at: secs(1), lasts }).run();
    assert!((1..=3).all(|n| !world.outcome(n).is_ok()));
    assert!(
        (1..=3)
            .all(|n| matches!(world.ended(n), Some((Outcome::Failed(Reason::Lost(NodeId::ROOT, _), _), _))))
    );
}

#[test]
fn the_server_may_stand_still_for_a_while() {
    let world = chain(4).with(Fault::Pause { node: 0, at: secs(1), lasts: secs(10) }).run();
    assert_all_ok_by(&world, secs(22));
}

#[test]
fn a_node_that_hears_nothing_for_a_while_is_ok_in_the_end() {
    let world = chain(4).with(Fault::Deaf { node: 2, at: secs(1), lasts: secs(3) }).run();
    assert_all_ok_by(&world, secs(20));
}

#[test]
fn a_link_that_is_reset_comes_up_again() {
    for node in 1..=4 {
        let world = chain(4).with(Fault::Reset { node, at: secs(1) }).run();
        assert_all_ok_by(&world, secs(8));
        assert_eq!(suspected(&world, node as u32), 0, "its control connection is well");
    }
}

#[test]
fn nodes_that_cannot_reach_each_other_are_served_by_the_server() {
    let world = chain(4).with(Fault::Isolate).run();
    assert_all_ok_by(&world, secs(25));
    let rerouted = |e: &Event| matches!(e, Event::Rerouted { to: NodeId::ROOT, .. });
    assert!(world.events().iter().filter(|(_, e)| rerouted(e)).count() >= 3, "and it is said aloud");
}

#[test]
fn who_was_away_when_all_others_ended_is_not_waited_for() {
    let world = chain(4).with(Fault::Cut { node: 4, at: secs(3), lasts: secs(60) }).run();
    assert_only_lost(&world, &[4]);
    assert!(world.events().iter().all(|(at, _)| *at < Instant::ZERO + secs(20)));
}

// ---- somebody lies ----

#[test]
fn those_below_a_tainting_relay_are_ok_by_another_way_and_it_is_named() {
    for offset in [0, 5 * MIB, 64 * MIB] {
        let world = chain(5).with(Fault::Taint { node: 2, offset }).run();
        assert!([1, 3, 4, 5].iter().all(|n| world.outcome(*n).is_ok()), "{offset}");
        let names = |e: &Event| match e {
            Event::Rerouted { node, from, .. } => (*node, *from) == (NodeId(3), NodeId(2)),
            Event::Ended { outcome: Outcome::Failed(Reason::Tainted(node, _), _), .. } => *node == NodeId(2),
            _ => false,
        };
        assert!(world.events().iter().any(|(_, e)| names(e)), "{offset}");
    }
}
