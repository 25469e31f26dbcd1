//! Many nodes: what a run costs, and that time in a long chain is what the formula says.
//!
//! Small enough for every run of the tests; `examples/sim_scale.rs` takes the big ones.

#![cfg(feature = "sim")]

use ka_core::sim::{Fault, World, ms};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 64 << 10;

fn assert_on_time(world: &World, nodes: u64, bytes: u64) {
    let (rate, latency) = (125e6, 50e-6);
    let should = bytes as f64 / rate + latency + (nodes - 1) as f64 * (latency + BLOCK as f64 / rate);
    let took = world.stream_time().as_secs_f64();
    assert!((took - should).abs() < BLOCK as f64 / rate, "{took} s instead of {should} s");
}

#[test]
fn a_thousand_nodes_clone_64_mib() {
    let world = World::chain(1000).stream(64 * MIB).block(BLOCK).run();
    assert!(world.report().is_ok());
    assert_on_time(&world, 1000, 64 * MIB);
}

#[test]
fn ten_thousand_nodes_clone_a_megabyte() {
    let world = World::chain(10_000).stream(MIB).block(BLOCK).run();
    assert!(world.report().is_ok());
    assert_on_time(&world, 10_000, MIB);
}

#[test]
fn ten_thousand_nodes_in_a_tree() {
    let world = World::tree(10_000, 4).stream(4 * MIB).block(BLOCK).run();
    assert!(world.report().is_ok());
}

#[test]
fn the_first_of_ten_thousand_dies_and_nobody_else() {
    let world =
        World::chain(10_000).stream(64 * MIB).block(BLOCK).with(Fault::Kill { node: 1, at: ms(300) }).run();
    assert_eq!(world.report().nodes.iter().filter(|n| !n.outcome.is_ok()).count(), 1);
}

#[test]
fn ten_thousand_slow_sinks_end_long_after_their_bytes() {
    let world = World::chain(10_000).stream(MIB).block(BLOCK);
    let world = (1..=10_000).fold(world, |w, n| w.sink_ends_after(n, ms(8000))).run();
    assert!(world.report().is_ok());
}
