//! How long a simulated chain takes: `cargo run --release --example sim_scale -- NODES MIB`.
//!
//! Prints the events of the run, the time it took here, and the time it took in the simulated world against
//! what a chain should take.
// How long the simulator takes is what this measures.
#![allow(clippy::disallowed_methods)]

use std::time::Instant;

use ka_core::limits::BLOCK_BYTES;
use ka_core::sim::World;

const RATE: u64 = 125_000_000;
const LATENCY_S: f64 = 50e-6;
const BLOCK: u64 = BLOCK_BYTES as u64;

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().expect("NODES and MIB are numbers"));
    let nodes = args.next().unwrap_or(1000);
    let bytes = args.next().unwrap_or(64) << 20;

    let started = Instant::now();
    let world = World::chain(nodes as usize).stream(bytes).block(BLOCK).rate(RATE).run();
    let wall = started.elapsed();

    assert!(world.report().is_ok(), "every node is OK");
    let formula = bytes as f64 / RATE as f64
        + LATENCY_S
        + (nodes - 1) as f64 * (LATENCY_S + BLOCK as f64 / RATE as f64);
    println!("{nodes} nodes, {} MiB, blocks of {} KiB", bytes >> 20, BLOCK >> 10);
    println!("events     {:>14}", world.steps());
    println!("here       {:>14.3} s", wall.as_secs_f64());
    println!("simulated  {:>14.6} s from the first byte to the last", world.stream_time().as_secs_f64());
    println!("formula    {formula:>14.6} s");
}
