//! What is waited for, and for how long: clocks run for what they measure, and nothing waits without evidence of
//! progress.

#![cfg(feature = "sim")]

use std::time::Duration;

use ka_core::limits;
use ka_core::proto::Event;
use ka_core::sim::{Fault, World, ms, secs};
use ka_core::time::Instant;
use ka_core::types::NodeId;
use ka_core::wire::control::{Outcome, Reason};

const MIB: u64 = 1 << 20;
const EVER: Duration = secs(36_000);

/// When the first event of this kind came.
fn when(world: &World, is: impl Fn(&Event) -> bool) -> Option<Duration> {
    world.events().iter().find(|(_, e)| is(e)).map(|(at, _)| at.since(Instant::ZERO))
}

fn ended(world: &World, node: u32) -> Duration {
    when(world, |e| matches!(e, Event::Ended { node: n, .. } if *n == NodeId(node))).expect("it ended")
}

fn assert_ok(world: &World, nodes: impl IntoIterator<Item = usize>) {
    for node in nodes {
        assert!(world.outcome(node).is_ok(), "{node}: {}", world.outcome(node));
    }
}

// ---- clocks begin with what they measure ----

#[test]
fn a_long_wait_for_the_others_is_held_against_nobody() {
    for wait in [secs(35), secs(3600)] {
        for late in 1..=3 {
            // Nobody's link is up at the first look.
            let links = (1..=3).map(|node| Fault::LateLink { node, lasts: ms(2500) });
            let world = World::chain(3).stream(4 * MIB).joins_at(late, wait);
            let world = links.fold(world, World::with).run();
            assert!(world.report().is_ok(), "{:?}", world.report());
            assert!(when(&world, |e| matches!(e, Event::Idle { .. } | Event::Slow { .. })).is_none());
        }
    }
}

#[test]
fn a_long_wait_for_the_others_excuses_nobody_either() {
    for (nodes, bytes, window) in [(4, 146_642, 64 * MIB), (12, 146_642, 64 * MIB), (12, 64 * MIB, MIB)] {
        for (node, reread) in [1, 2, 3, nodes].into_iter().flat_map(|node| [(node, false), (node, true)]) {
            let world = World::chain(nodes).stream(bytes).window(window).joins_at(2, secs(360));
            let world = if reread { world.rereadable() } else { world };
            let world = world.with(Fault::Withhold { node, offset: 69_483 }).run();
            assert!(world.report().is_ok(), "{:?}", world.report());
            let end = Instant::ZERO + secs(360) + limits::ARRIVAL_TIMEOUT;
            assert!(world.report().ended < end, "{nodes} {node} {reread}: {}", world.report().ended);
        }
    }
}

#[test]
fn who_was_put_off_for_long_begins_with_a_clock_of_its_own() {
    let slow = World::chain(3).stream(512 * MIB).window(8 * MIB).rereadable().link_rate(2, 5_000_000);
    let world = slow.with(Fault::Reset { node: 2, at: secs(1) }).run();
    assert!(world.report().is_ok(), "{:?}", world.report());
}

#[test]
fn a_rate_that_lets_little_through_is_no_fault_of_the_nodes() {
    let world = World::chain(3).stream(MIB).paced(5000).run();
    assert!(world.report().is_ok(), "{:?}", world.report());
}

// ---- bytes are progress, links are not ----

fn mtu(outcome: &Outcome, node: u32) -> bool {
    matches!(outcome, Outcome::Failed(Reason::Lost(n, why), _) if *n == NodeId(node) && why.contains("MTU"))
}

#[test]
fn a_port_that_drops_large_packets_holds_up_the_others_for_ten_seconds_at_most() {
    for (nodes, hole) in [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (12, 5)] {
        for (bytes, window) in [(MIB, 64 * MIB), (256 * MIB, 8 * MIB)] {
            for reread in [false, true] {
                let chain = World::chain(nodes).stream(bytes).window(window);
                let chain = if reread { chain.rereadable() } else { chain };
                let fault = Fault::Hole { node: hole, at: ms(0), lasts: EVER };
                let (clean, world) =
                    (World::chain(nodes).stream(bytes).window(window).run(), chain.with(fault).run());
                let case = format!("{nodes} nodes, {hole} is behind it, {bytes} bytes, {reread}");
                assert!(mtu(world.outcome(hole), hole as u32), "{case}: {}", world.outcome(hole));
                assert_ok(&world, (1..=nodes).filter(|n| *n != hole));
                let end = clean.report().ended + limits::ARRIVAL_TIMEOUT + secs(4);
                assert!(world.report().ended < end, "{case}: {}", world.report().ended);
                let named = when(
                    &world,
                    |e| matches!(e, Event::Idle { node, .. } | Event::Slow { node, .. } if *node == NodeId(hole as u32)),
                );
                assert!(named.expect("it is named") < secs(7), "{case}");
            }
        }
    }
}

#[test]
fn large_packets_that_get_lost_for_a_while_cost_time_only() {
    for node in 1..=3 {
        let hole = Fault::Hole { node, at: secs(2), lasts: secs(8) };
        let world = World::chain(3).stream(64 * MIB).source_rate(11_000_000).with(hole).run();
        assert!(world.report().is_ok(), "{:?}", world.report());
    }
}

#[test]
fn in_a_tree_a_parent_that_feeds_others_is_not_doubted_for_one_child() {
    let world = World::tree(7, 2).stream(512 * MIB).window(256 * MIB);
    let world = world.with(Fault::Hole { node: 3, at: ms(0), lasts: EVER }).run();
    assert_ok(&world, [1, 2, 4, 5, 6, 7]);
    let rerouted = world.events().iter().filter_map(|(_, e)| match e {
        Event::Rerouted { node, .. } => Some(*node),
        _ => None,
    });
    assert!(rerouted.clone().all(|node| node == NodeId(3)), "{:?}", rerouted.collect::<Vec<_>>());
}

#[test]
fn who_was_behind_a_hole_is_not_put_back_there_when_its_new_parent_is_lost() {
    for lost in 0..20 {
        for hole in 2..=5 {
            let at = ms(4000 + 100 * lost);
            let world = World::chain(6).stream(64 * MIB).window(MIB);
            let world = world.with(Fault::Hole { node: hole, at: ms(0), lasts: EVER });
            let world = world.with(Fault::Readdress { node: hole - 1, at }).run();
            assert_ok(&world, (1..=6).filter(|n| *n != hole));
        }
    }
}

// ---- ends have bounds ----

#[test]
fn a_node_that_joins_anew_again_and_again_does_not_hold_up_the_end() {
    for waits in [false, true] {
        // Its sink takes nothing, and it is started anew every fifteen seconds for ten minutes.
        let world = World::chain(3).stream(4 * MIB).rereadable();
        let world = if waits { world.waits(1).waits(3) } else { world };
        let mut world = world.with(Fault::SinkStalls { node: 2, at: ms(0), lasts: EVER });
        let mut host = 2;
        for n in 1..40 {
            world = world.with(Fault::Restart { node: host, at: secs(15 * n), after: ms(200) });
            host = 3 + n as usize;
        }
        let world = world.run();
        assert_ok(&world, [1, 3]);
        assert!(world.report().ended < Instant::ZERO + secs(60), "{}", world.report().ended);
    }
}

#[test]
fn who_comes_late_is_served_while_others_are_at_work_and_refused_after_that() {
    let chain = || World::chain(2).gate(1).stream(64 * MIB).source_rate(11_000_000).rereadable();
    let world = chain().joins_at(2, secs(3)).run();
    assert!(world.report().is_ok() && world.report().nodes.len() == 2);
    // The first has ended, and waits to be let go; the second is served after it, and a third is too late.
    let world = World::chain(3).gate(1).stream(64 * MIB).source_rate(11_000_000).rereadable();
    let world = world.joins_at(2, secs(3)).link_rate(2, 3_000_000).joins_at(3, secs(12)).run();
    assert_ok(&world, [1, 2]);
    assert!(world.refusal(3).expect("it is refused").contains("ending"));
}

#[test]
fn a_source_that_fails_while_nodes_gather_ends_the_session_at_once() {
    for offset in [0, MIB] {
        let world = World::chain(3).gate(5).stream(64 * MIB).with(Fault::SourceFails { offset }).run();
        let report = world.report();
        assert!(report.ended < Instant::ZERO + secs(1), "{}", report.ended);
        let source =
            |o: &Outcome| matches!(o, Outcome::Failed(Reason::Source(why), _) if why == "read error");
        assert!(source(&report.root.outcome));
        assert!(report.nodes.iter().all(|n| source(&n.outcome)), "{report:?}");
    }
}

#[test]
fn who_stayed_for_a_node_that_has_failed_is_let_go_at_the_end() {
    let world = World::chain(2).stream(MIB).with(Fault::Hole { node: 1, at: ms(0), lasts: EVER }).run();
    assert_ok(&world, [2]);
    let released = |e: &Event| matches!(e, Event::Released { node: NodeId(2) });
    assert!(when(&world, released).is_some(), "it hears no more than that the server is gone");
}

#[test]
fn a_sink_may_take_its_time_to_end_but_not_for_ever() {
    let world = World::chain(3).stream(4 * MIB).sink_ends_after(2, secs(300)).run();
    assert!(world.report().is_ok(), "{:?}", world.report());
    assert!(when(&world, |e| matches!(e, Event::Slow { .. })).is_none(), "it is not slow");
    let world = World::chain(3).stream(4 * MIB).sink_ends_after(2, EVER).run();
    assert_ok(&world, [1, 3]);
    let why = world.outcome(2).to_string();
    assert!(why.contains("has taken everything, and has not ended for 600 s"), "{why}");
}

// ---- a node is its incarnation ----

#[test]
fn nodes_behind_one_address_are_nodes_of_their_own() {
    for late in [false, true] {
        for reread in [false, true] {
            let chain = World::chain(4).stream(64 * MIB).source_rate(11_000_000);
            let chain = if reread { chain.rereadable() } else { chain };
            let chain = if late { chain.gate(3).joins_at(4, secs(2)) } else { chain };
            let world = chain.with(Fault::Shared { node: 2 }).with(Fault::Shared { node: 4 }).run();
            assert_ok(&world, 1..=3);
            if !late || reread {
                assert_ok(&world, [4]);
            }
        }
    }
}

#[test]
fn a_node_with_another_address_goes_on_and_so_do_its_children() {
    for node in 1..=4 {
        let world = World::chain(4).stream(64 * MIB).source_rate(11_000_000).window(64 * MIB);
        let world = world.with(Fault::Readdress { node, at: secs(2) }).run();
        assert!(world.report().is_ok(), "{:?}", world.report());
        assert!(world.report().ended < Instant::ZERO + secs(12), "{}", world.report().ended);
    }
}

// ---- true words ----

#[test]
fn silence_is_told_as_long_as_it_is() {
    let world = World::chain(3).stream(64 * MIB).source_rate(11_000_000);
    let world = world.with(Fault::Freeze { node: 2, at: secs(1) }).run();
    let why = world.outcome(2).to_string();
    assert!(
        why.contains("it has said nothing for 8 s") || why.contains("it has said nothing for 5 s"),
        "{why}"
    );
}

#[test]
fn who_was_lost_before_the_admin_stopped_the_session_is_lost_and_not_interrupted() {
    let world = World::chain(3).stream(64 * MIB).source_rate(11_000_000);
    let world = world.with(Fault::Freeze { node: 2, at: secs(1) }).with(Fault::StopAll { at: secs(4) }).run();
    assert!(
        matches!(world.outcome(2), Outcome::Failed(Reason::Lost(NodeId(2), _), _)),
        "{}",
        world.outcome(2)
    );
    for node in [1, 3] {
        assert!(matches!(world.outcome(node), Outcome::Failed(Reason::Interrupted(_), _)));
    }
    assert!(ended(&world, 2) < secs(5));
}
