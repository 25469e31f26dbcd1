//! Slow nodes, told by simulated worlds: who is named, who waits, and who is done without.

#![cfg(feature = "sim")]

use std::time::Duration;

use ka_core::limits;
use ka_core::proto::Event;
use ka_core::proto::coordinator::Slow;
use ka_core::sim::lie::LIES;
use ka_core::sim::{Fault, Lie, World, ms, secs};
use ka_core::time::Instant;
use ka_core::types::NodeId;
use ka_core::wire::control::{Outcome, Reason};

const MIB: u64 = 1 << 20;
const EVER: Duration = secs(3600);

/// When `node` was named as slow.
fn named(world: &World, node: u32) -> Option<Duration> {
    let is = |e: &Event| matches!(e, Event::Slow { node: n, .. } if *n == NodeId(node));
    world.events().iter().find(|(_, e)| is(e)).map(|(at, _)| at.since(Instant::ZERO))
}

/// When the server had `node`'s receipt.
fn done(world: &World, node: u32) -> Duration {
    let is = |e: &Event| matches!(e, Event::Ended { node: n, .. } if *n == NodeId(node));
    let ended = world.events().iter().find(|(_, e)| is(e)).expect("it ended");
    ended.0.since(Instant::ZERO)
}

fn all_ok_but(world: &World, nodes: usize, failed: usize) -> bool {
    (1..=nodes).all(|n| world.outcome(n).is_ok() != (n == failed))
}

/// The second of four has a sink that takes nothing any more after a while.
fn stuck(window: u64) -> World {
    World::chain(4).stream(64 * MIB).window(window).with(Fault::SinkStalls {
        node: 2,
        at: ms(100),
        lasts: EVER,
    })
}

#[test]
fn a_stuck_sink_is_named_at_once_and_bypassed_in_time() {
    for window in [2 * MIB, 256 * MIB] {
        let world = stuck(window).run();
        assert!(named(&world, 2).expect("it is named") < secs(6));
        assert!(all_ok_but(&world, 4, 2));
        assert!(matches!(world.outcome(2), Outcome::Failed(Reason::Sink(why), _) if why.contains("30 s")));
        assert!(world.report().ended < Instant::ZERO + secs(40), "{}", world.report().ended);
    }
}

#[test]
fn who_drops_does_not_wait_and_who_waits_waits() {
    let world = stuck(2 * MIB).slow(Slow::Drop).run();
    assert!(all_ok_but(&world, 4, 2));
    assert!(world.report().ended < Instant::ZERO + secs(12), "{}", world.report().ended);

    let stall = Fault::SinkStalls { node: 2, at: ms(100), lasts: secs(90) };
    let world = World::chain(4).stream(64 * MIB).window(2 * MIB).slow(Slow::Wait).with(stall).run();
    assert!(world.report().is_ok());
}

#[test]
fn what_is_done_when_all_is_there_may_take_its_own_time() {
    // All of the stream is in the window; then the sink is at work for a minute and a half.
    let stall = Fault::SinkStalls { node: 2, at: ms(100), lasts: secs(90) };
    let chain = || World::chain(4).stream(64 * MIB).window(1 << 30).with(stall);
    assert!(all_ok_but(&chain().run(), 4, 2), "the session does not wait for it for ever");
    assert!(chain().finish(secs(600)).run().report().is_ok());
    assert!(all_ok_but(&chain().finish(secs(60)).run(), 4, 2));
}

#[test]
fn a_slow_link_goes_to_the_end_and_holds_nobody_up_while_windows_last() {
    let healthy = World::chain(8).stream(512 * MIB).window(1 << 30).run();
    let world = World::chain(8).stream(512 * MIB).window(1 << 30).link_rate(3, 12_500_000).run();
    assert!(world.report().is_ok());
    assert!(named(&world, 3).expect("it is named") < secs(3));
    let healthy = done(&healthy, 8);
    let last = (1..=8).filter(|n| *n != 3).map(|n| done(&world, n)).max().expect("there are seven");
    // Until it is known the others have no more than it has.
    assert!(last < healthy + secs(3), "{last:?} instead of {healthy:?}");
    assert!(done(&world, 3) > secs(35), "it takes as long as its link");
}

#[test]
fn a_slow_sink_slows_the_session_no_further_than_it_may() {
    // Half as fast as the network: it is waited for.
    let world = World::chain(3).stream(256 * MIB).window(4 * MIB).sink_rate(2, 60_000_000).run();
    assert!(world.report().is_ok());
    // A fiftieth: for thirty seconds, then no more.
    let world = World::chain(3).stream(256 * MIB).window(64 * MIB).sink_rate(2, 2_500_000).run();
    assert!(all_ok_but(&world, 3, 2));
    assert!(matches!(world.outcome(2), Outcome::Failed(Reason::Slow(_), _)));
    assert!(world.report().ended < Instant::ZERO + secs(45), "{}", world.report().ended);
    // … unless the admin says how slow is fast enough.
    let world = World::chain(3).stream(256 * MIB).window(64 * MIB).sink_rate(2, 2_500_000);
    assert!(world.min_rate(2_000_000).run().report().is_ok());
}

#[test]
fn sinks_that_are_all_as_slow_are_waited_for() {
    let rates: [&[u64]; 5] = [
        &[20_000_000],
        &[20_000_000, 20_000_000],
        &[20_000_000, 19_000_000, 21_000_000, 18_000_000],
        &[21_000_000, 20_000_000, 19_000_000, 18_000_000],
        &[18_000_000, 19_000_000, 20_000_000, 21_000_000],
    ];
    for (rates, window) in rates.into_iter().flat_map(|rates| [(rates, 8 * MIB), (rates, 256 * MIB)]) {
        let world = World::chain(rates.len()).stream(2048 * MIB).window(window);
        let sink = |world: World, (n, rate): (usize, &u64)| world.sink_rate(n + 1, *rate);
        let world = rates.iter().enumerate().fold(world, sink).run();
        assert!(world.report().is_ok(), "{rates:?}, window {window}: {:?}", world.outcome(1));
    }
}

#[test]
fn who_is_alone_holds_up_nobody() {
    let world = World::chain(1).stream(256 * MIB).window(8 * MIB).sink_rate(1, 2_500_000).run();
    assert!(world.report().is_ok());
    let world = World::chain(1).stream(256 * MIB).window(8 * MIB).link_rate(1, 2_500_000).run();
    assert!(world.report().is_ok());
}

// ---- a source that can be read again ----

#[test]
fn a_slow_node_is_served_after_the_others() {
    for window in [8 * MIB, 64 * MIB] {
        let chain = || World::chain(8).stream(2048 * MIB).window(window);
        let healthy = done(&chain().run(), 8);
        for slow in [1_u32, 3, 8] {
            let world =
                chain().rereadable().server_carries(125_000_000).link_rate(slow as usize, 12_500_000).run();
            assert!(world.report().is_ok());
            let last =
                (1..=8).filter(|n| *n != slow).map(|n| done(&world, n)).max().expect("there are seven");
            assert!(
                last < healthy + secs(3),
                "window {window}, node {slow}: {last:?} instead of {healthy:?}"
            );
            assert!(world.counters(0).reread > 1024 * MIB);
        }
    }
}

#[test]
fn a_stuck_sink_holds_up_nobody() {
    let world = stuck(2 * MIB).rereadable().run();
    assert!(all_ok_but(&world, 4, 2));
    for node in [1, 3, 4] {
        assert!(done(&world, node) < secs(7));
    }
    // One that is only slow is waited for, however slow it is.
    let world = World::chain(3).stream(256 * MIB).window(64 * MIB).sink_rate(2, 2_500_000).rereadable().run();
    assert!(world.report().is_ok());
    assert!(done(&world, 3) < secs(6));
}

#[test]
fn nobody_is_moved_to_see_whether_a_tree_is_faster() {
    let tree = World::tree(7, 2).stream(256 * MIB).rate(25_000_000).server_carries(1_250_000_000);
    let world = tree.run();
    assert!(world.report().is_ok());
    assert!((1..=7).all(|n| world.counters(n).attaches == 1));
}

#[test]
fn whoever_shares_a_link_is_not_slow_for_that() {
    for lost in [&[3][..], &[2, 3, 4]] {
        for window in [8 * MIB, 256 * MIB] {
            let mut tree =
                World::tree(7, 2).stream(256 * MIB).window(window).rate(25_000_000).card(25_000_000);
            for node in lost {
                tree = tree.with(Fault::Cut { node: *node, at: secs(4), lasts: EVER });
            }
            let world = tree.run();
            let left: Vec<_> = (1..=7).filter(|n| !lost.contains(n)).collect();
            for node in left {
                assert!(world.outcome(node).is_ok());
                assert_eq!(named(&world, node as u32), None, "window {window}, lost {lost:?}");
            }
        }
    }
}

#[test]
fn a_slow_link_in_a_tree_is_named() {
    let tree = World::tree(7, 2).stream(512 * MIB).window(256 * MIB).card(125_000_000);
    let world = tree.link_rate(2, 12_500_000).run();
    assert!(world.report().is_ok());
    assert!(named(&world, 2).expect("it is named") < secs(5));
    assert!((1..=7).filter(|n| *n != 2).all(|n| named(&world, n).is_none()));
}

// ---- somebody lies ----

#[test]
fn who_keeps_back_what_others_need_harms_nobody() {
    for (nodes, fan_out, window) in [(6, 1, 8 * MIB), (6, 1, 256 * MIB), (7, 2, 8 * MIB)] {
        for offset in [0, 20 * MIB] {
            let tree = World::tree(nodes, fan_out).stream(64 * MIB).window(window);
            let world = tree.with(Fault::Withhold { node: 2, offset }).run();
            assert!(world.report().is_ok(), "{nodes} {fan_out} {window} {offset}: {:?}", world.report());
            assert!(world.report().ended < Instant::ZERO + secs(10), "{:?}", world.report());
        }
    }
}

#[test]
fn a_false_accusation_harms_nobody() {
    for node in [3, 6] {
        let world = World::chain(6).stream(256 * MIB).window(8 * MIB);
        let world = world.with(Fault::Lie { node, at: secs(1), lie: Lie::Accuse }).run();
        assert!(world.report().is_ok(), "{:?}", world.report());
    }
}

/// Everybody but the liars is OK.
fn assert_liars_alone(world: &World, nodes: usize, liars: &[usize], what: &str) {
    for node in (1..=nodes).filter(|n| !liars.contains(n)) {
        assert!(world.outcome(node).is_ok(), "{what}: {node}: {}", world.outcome(node));
    }
}

#[test]
fn who_accuses_again_and_again_and_dies_takes_nobody_along() {
    for (nodes, fan_out) in [(10, 1), (14, 2)] {
        for lie in [Lie::Accuse, Lie::Poison, Lie::Complain] {
            for window in [2 * MIB, 64 * MIB] {
                // Every window is full, and every node is at another place.
                let world = World::tree(nodes, fan_out).stream(512 * MIB).window(window);
                let slower = |w: World, n: usize| w.sink_rate(n, 60_000_000 - 2_000_000 * n as u64);
                let world = (1..=nodes).fold(world, slower).with(Fault::Lie { node: 5, at: ms(4400), lie });
                let world = world.with(Fault::Kill { node: 5, at: ms(4410) }).run();
                assert_liars_alone(&world, nodes, &[5], &format!("{lie:?}, {window}"));
            }
        }
    }
}

#[test]
fn who_says_to_have_far_more_makes_nobody_slow() {
    // The source gives 20 MB/s, and a healthy disk takes three quarters of that.
    for window in [8 * MIB, 64 * MIB] {
        let world = World::chain(4).stream(1536 * MIB).window(window).source_rate(20_000_000);
        let world =
            world.sink_rate(2, 15_000_000).with(Fault::Lie { node: 4, at: secs(1), lie: Lie::Boast }).run();
        assert_liars_alone(&world, 4, &[4], "boast");
    }
}

#[test]
fn two_who_keep_back_the_rest_harm_nobody_below_them() {
    for liars in [[1, 2], [2, 3], [1, 3]] {
        for (window, lie) in [8 * MIB, 64 * MIB].into_iter().flat_map(|w| LIES.map(|lie| (w, lie))) {
            let world = World::chain(4).stream(256 * MIB).window(window);
            let world =
                liars.iter().fold(world, |w, node| w.with(Fault::Lie { node: *node, at: ms(700), lie }));
            let world = liars
                .iter()
                .fold(world, |w, node| w.with(Fault::Withhold { node: *node, offset: 100 * MIB }));
            let world = world.run();
            assert_liars_alone(&world, 4, &liars, &format!("{liars:?}, {window}, {lie:?}"));
        }
    }
}

#[test]
fn who_never_ends_holds_a_session_no_longer_than_it_may() {
    for lie in [Lie::Conceal, Lie::Trickle, Lie::Understate, Lie::Blame] {
        for reread in [false, true] {
            let world = World::chain(4).stream(64 * MIB).window(8 * MIB).source_rate(20_000_000);
            let world = if reread { world.rereadable() } else { world };
            let world = world.with(Fault::Lie { node: 2, at: secs(1), lie }).run();
            assert_liars_alone(&world, 4, &[2], &format!("{lie:?}, {reread}"));
            let bound = limits::FINISH_TIMEOUT * 2 + limits::BYPASS_AFTER * 3;
            assert!(world.now() < Instant::ZERO + bound, "{lie:?}, {reread}: {}", world.now());
        }
    }
}

/// The second of five says that nobody below it lacks anything. It dies while the third is far behind it.
fn lies_and_dies(window: u64) -> World {
    let chain = World::chain(5).stream(256 * MIB).window(window);
    chain.with(Fault::Lie { node: 2, at: ms(0), lie: Lie::Inflate })
}

#[test]
fn who_is_said_to_have_what_it_lacks_loses_nothing_when_the_liar_dies() {
    for window in [MIB, 8 * MIB, 64 * MIB] {
        let paused = lies_and_dies(window).with(Fault::Pause { node: 3, at: ms(500), lasts: ms(700) });
        let slow = lies_and_dies(window).sink_rate(3, 60_000_000);
        let far = lies_and_dies(window).with(Fault::Pause { node: 4, at: ms(500), lasts: ms(700) });
        for (what, world, lost) in [("paused", paused, &[2][..]), ("slow", slow, &[2]), ("far", far, &[2, 3])]
        {
            let world = lost.iter().fold(world, |w, node| w.with(Fault::Kill { node: *node, at: ms(1150) }));
            let world = world.run();
            for node in (1..=5).filter(|n| !lost.contains(n)) {
                assert!(world.outcome(node).is_ok(), "{what}, {window}: {node}: {}", world.outcome(node));
            }
            assert!(world.marks().inflated > 0);
        }
    }
}

#[test]
fn a_liar_that_lives_slows_nobody_by_what_it_makes_of_others() {
    let honest = World::chain(6).stream(256 * MIB).run();
    let world =
        World::chain(6).stream(256 * MIB).with(Fault::Lie { node: 2, at: ms(0), lie: Lie::Inflate }).run();
    assert!(world.report().is_ok());
    assert!(world.stream_time() < honest.stream_time() + ms(50), "{:?}", world.stream_time());
}

#[test]
fn who_says_to_have_less_than_it_has_is_done_without_and_nobody_else_is() {
    for node in 1..=5 {
        for fault in [Lie::Understate, Lie::Deflate].map(|lie| Fault::Lie { node, at: secs(1), lie }) {
            for window in [8 * MIB, 64 * MIB] {
                let world = World::chain(5).stream(512 * MIB).window(window).with(fault).run();
                for other in (1..=5).filter(|n| *n != node) {
                    let outcome = world.outcome(other);
                    assert!(outcome.is_ok(), "{fault:?}, {window}: {other}: {outcome}");
                }
                println!("{fault:?} {window} {} {}", world.outcome(node), world.now());
                let end = limits::BYPASS_AFTER * 3 + secs(15);
                assert!(world.now() < Instant::ZERO + end, "{fault:?}, {window}: {}", world.now());
                // While the source can be read again nobody waits even for it.
                let world = World::chain(5).stream(512 * MIB).window(window).rereadable().with(fault).run();
                assert!(world.report().is_ok() || !world.outcome(node).is_ok());
                println!("  reread {} {}", world.outcome(node), world.now());
            }
        }
    }
}
