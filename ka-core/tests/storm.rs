//! Storms: many small worlds in which anything may go wrong at any time, with every checker on.
//!
//! `KA_SEED=7 cargo test -p ka-core --features sim --test storm -- --nocapture` runs the one world of seed 7 and
//! prints its trace; `KA_STORMS=100000 …` runs that many worlds instead of three hundred.

#![cfg(feature = "sim")]

use std::time::Duration;

use ka_core::sim::{Fault, Plan};
use proptest::prelude::*;

#[test]
fn three_hundred_storms_break_no_rule() {
    if let Some(seed) = std::env::var("KA_SEED").ok().and_then(|s| s.parse().ok()) {
        let plan = Plan::from_seed(seed);
        println!("{plan:#?}");
        let traced = plan.world().traced().try_run();
        match traced {
            Ok(world) => println!("{}", world.trace().text()),
            Err(violation) => panic!("{violation}\n{}", violation.trace),
        }
        return;
    }
    let storms = std::env::var("KA_STORMS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    for seed in 0..storms {
        let again =
            format!("KA_SEED={seed} cargo test -p ka-core --features sim --test storm -- --nocapture");
        let _ = Plan::from_seed(seed).world().repeated_by(again).run();
    }
}

/// A fault in a world of `nodes` nodes and `bytes` bytes.
fn fault(nodes: usize, bytes: u64) -> impl Strategy<Value = Fault> {
    let node = || 1..=nodes;
    let at = || (0..400_000_u64).prop_map(Duration::from_micros);
    let offset = || 0..=bytes;
    prop_oneof![
        (node(), offset()).prop_map(|(node, offset)| Fault::SinkFails { node, offset }),
        (node(), at(), (0..3000_u64).prop_map(Duration::from_millis))
            .prop_map(|(node, at, lasts)| Fault::SinkStalls { node, at, lasts }),
        (node(), at()).prop_map(|(node, at)| Fault::Kill { node, at }),
        (node(), at()).prop_map(|(node, at)| Fault::Stop { node, at }),
        (node(), at()).prop_map(|(node, at)| Fault::Freeze { node, at }),
        (node(), offset()).prop_map(|(node, offset)| Fault::Taint { node, offset }),
        offset().prop_map(|offset| Fault::SourceFails { offset }),
        at().prop_map(|at| Fault::StopAll { at }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        1..10_usize,
        1..4_u32,
        0..(20_u64 << 20),
        any::<u64>(),
        proptest::option::of(20_000_000..400_000_000_u64),
    )
        .prop_flat_map(|(nodes, fan_out, bytes, seed, sink_rate)| {
            proptest::collection::vec(fault(nodes, bytes), 0..5).prop_map(move |faults| Plan {
                seed,
                nodes,
                fan_out,
                bytes,
                sink_rate,
                faults,
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Shrinks to the fewest nodes and faults that break a rule.
    #[test]
    fn no_plan_of_faults_breaks_a_rule(plan in plan()) {
        let _ = plan.world().repeated_by(format!("{plan:?}.world().traced().run()")).run();
    }
}
