//! Storms: many small worlds in which anything may go wrong at any time, with every checker on.
//!
//! `KA_SEED=7 cargo test -p ka-core --features sim --test storm thousand -- --nocapture` runs the one world of
//! seed 7 and prints its trace; `KA_STORMS=100000 …` runs that many worlds instead of two thousand. `KA_ELSEWHERE_SEED`
//! and `KA_ELSEWHERE` do the same under other people's conditions, `KA_LIVELY_SEED` and `KA_LIVELY` for the storms that
//! stop (`when_faults_stop`), `KA_HOURS_SEED` and `KA_HOURS` for hours of what healthy machines survive (`node_hours`), `KA_HOSTILE_SEED`
//! and `KA_HOSTILE` for liars.

#![cfg(feature = "sim")]

use std::time::Duration;

use ka_core::sim::lie::LIES;
use ka_core::sim::{Fault, Lie, Marks, Plan, secs};
use ka_core::time::Instant;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

#[test]
fn two_thousand_storms_break_no_rule_and_reach_every_rare_path() {
    let storms = weather("KA_STORMS", 2000);
    let Some(marks) = run_all("KA_SEED", storms, Plan::from_seed) else { return };
    for (what, times) in marks.named() {
        assert!(times > 0 || storms < 2000, "no storm reached this: {what}");
    }
}

#[test]
fn storms_under_other_people_s_conditions_break_no_rule() {
    let storms = weather("KA_ELSEWHERE", 1000);
    let Some(marks) = run_all("KA_ELSEWHERE_SEED", storms, Plan::elsewhere) else { return };
    assert!(storms < 1000 || (marks.idle > 0 && marks.readdressed > 0));
}

/// Up to three nodes have the key and lie, each in several ways and again and again: all others are OK, and the session ends.
#[test]
fn nobody_is_harmed_by_three_members_who_lie() {
    let _ = run_all("KA_HOSTILE_SEED", weather("KA_HOSTILE", 500), Plan::hostile);
}

/// Storms that once broke a rule, and are too rare to come again soon.
#[test]
fn what_broke_once_does_not_break_again() {
    // 250: its old parent forgot before the new link was up. 38819 and 57110: whoever was to feed it
    // instead was lost, too. 13997: it was to be fed by one that had been moved below it. 7655 and 29954: who was sent
    // to the end of the line was all that held what those below it lacked.
    for seed in [250, 38_819, 57_110, 13_997, 7655, 29_954] {
        let again =
            format!("KA_SEED={seed} cargo test -p ka-core --features sim --test storm -- --nocapture");
        let _ = Plan::from_seed(seed).world().repeated_by(again).run();
    }
}

/// A plan of this seed, for so many nodes and this fan-out, with so many bytes, this window and this rate of the source.
fn liars(seed: u64, nodes: usize, fan_out: u32, [bytes, window, rate]: [u64; 3], faults: Vec<Fault>) -> Plan {
    let (source_rate, reread) = (Some(rate), false);
    Plan { seed, nodes, fan_out, bytes, window, source_rate, reread, faults, ..Plan::hostile(0) }
}

/// The same of liars.
#[test]
fn what_liars_once_broke_does_not_break_again() {
    let us = Duration::from_micros;
    let lie = |node, at, lie| Fault::Lie { node, at: us(at), lie };
    let withhold = |node, offset| Fault::Withhold { node, offset };
    let kill = |node, at| Fault::Kill { node, at: us(at) };
    let plans = [
        // Those that kept what it lacked had come below it.
        liars(
            66486,
            11,
            1,
            [16_000_000, 8_388_608, 4_000_000],
            vec![
                withhold(7, 5_232_638),
                lie(6, 4_255_010, Lie::Accuse),
                lie(6, 3_530_758, Lie::Blame),
                lie(10, 3_283_481, Lie::Complain),
                withhold(10, 4_545_654),
                lie(10, 926_044, Lie::Understate),
                kill(10, 6_236_327),
            ],
        ),
        // The root fed it for another one's sake, and then it was sent to the end of the line.
        liars(
            98950,
            7,
            2,
            [16_000_000, 8_388_608, 4_000_000],
            vec![
                lie(1, 1_287_267, Lie::Understate),
                lie(1, 3_984_454, Lie::Trickle),
                lie(1, 3_751_033, Lie::Poison),
                kill(1, 7_799_579),
                withhold(2, 3_804_393),
                Fault::Taint { node: 2, offset: 15_557_829 },
                lie(2, 4_604_414, Lie::Understate),
                lie(3, 110_424, Lie::Deflate),
                withhold(3, 3_815_760),
                lie(3, 1_131_952, Lie::Flap),
                Fault::Cut { node: 0, at: us(2_090_671), lasts: us(2_907_000) },
                Fault::Reset { node: 7, at: us(127_763) },
            ],
        ),
        liars(
            57330,
            10,
            2,
            [16_000_000, 67_108_864, 4_000_000],
            vec![
                withhold(1, 13_463_062),
                lie(1, 601_713, Lie::Deflate),
                lie(2, 2_435_186, Lie::Accuse),
                kill(2, 8_561_672),
                lie(3, 1_807_716, Lie::Understate),
                withhold(3, 8_040_093),
                lie(3, 1_756_095, Lie::Complain),
                Fault::Pause { node: 1, at: us(56), lasts: us(414_000) },
            ],
        ),
        // Its parent waited for what a liar below it said of itself.
        liars(
            8841,
            4,
            1,
            [80_000_000, 8_388_608, 20_000_000],
            vec![
                lie(4, 868_817, Lie::Flap),
                lie(4, 1_307_508, Lie::Deflate),
                lie(4, 1_624_457, Lie::Trickle),
                lie(2, 4_644_574, Lie::Blame),
                lie(2, 2_868_373, Lie::Accuse),
                lie(1, 1_644_631, Lie::Poison),
                kill(1, 9_572_819),
            ],
        ),
    ];
    for plan in plans {
        let _ = plan.world().repeated_by(format!("{plan:?}.world().traced().run()")).run();
    }
}

/// Faults come for ten seconds and then stop: every checker is on, and who was spared must be done soon after.
#[test]
fn when_faults_stop_everyone_who_can_finish_does() {
    let until = secs(10);
    let plan = |seed| Plan::lively(seed, until);
    let _ = run_all("KA_LIVELY_SEED", weather("KA_LIVELY", 500), plan);
}

/// Disks that stall for ten seconds and links that are away for two, at several nodes at once and at any time: nobody is
/// given up.
#[test]
fn no_healthy_node_is_given_up_in_twenty_node_hours() {
    let plan = |seed| Plan::healthy(seed, secs(360));
    if alone("KA_HOURS_SEED", plan) {
        return;
    }
    let all = secs(3600 * weather("KA_HOURS", 20));
    let (mut seed, mut time, mut marks) = (0, Duration::ZERO, Marks::default());
    while time < all {
        let again = format!(
            "KA_HOURS_SEED={seed} cargo test -p ka-core --features sim --test storm node_hours -- --nocapture"
        );
        let plan = plan(seed);
        let world = plan.world().repeated_by(again.clone()).run();
        let report = world.report();
        let given_up: Vec<_> = report.nodes.iter().filter(|n| !n.outcome.is_ok()).collect();
        assert!(report.is_ok() && report.nodes.len() == plan.nodes, "{given_up:#?}\n  repeat: {again}");
        time += report.ended.since(Instant::ZERO) * plan.nodes as u32;
        marks += world.marks();
        seed += 1;
    }
    println!("{marks:#?}");
    assert!(marks.suspected > 0 && marks.returned > 0 && marks.slow > 0);
}

/// A number from the environment.
fn weather(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Runs the plan of the seed that the environment names, if it names one, and prints its trace.
fn alone(seed_name: &str, plan: impl Fn(u64) -> Plan) -> bool {
    let Some(seed) = std::env::var(seed_name).ok().and_then(|s| s.parse().ok()) else { return false };
    let plan = plan(seed);
    println!("{plan:#?}");
    match plan.world().traced().try_run() {
        Ok(world) => println!("{}", world.trace().text()),
        Err(violation) => panic!("{}\n{violation}", violation.trace),
    }
    true
}

/// The plans of the first `storms` seeds, or of the one that the environment names, with its trace
/// and no marks.
fn run_all(seed_name: &str, storms: u64, plan: impl Fn(u64) -> Plan) -> Option<Marks> {
    if alone(seed_name, &plan) {
        return None;
    }
    let mut marks = Marks::default();
    for seed in 0..storms {
        let again =
            format!("{seed_name}={seed} cargo test -p ka-core --features sim --test storm -- --nocapture");
        marks += plan(seed).world().repeated_by(again).run().marks();
    }
    println!("{marks:#?}");
    Some(marks)
}

/// A fault in a world of `nodes` nodes and `bytes` bytes.
fn fault(nodes: usize, bytes: u64) -> impl Strategy<Value = Fault> {
    let node = || 1..=nodes;
    let at = || (0..4_000_000_u64).prop_map(Duration::from_micros);
    let lasts = || (0..15_000_u64).prop_map(Duration::from_millis);
    let offset = || 0..=bytes;
    prop_oneof![
        (node(), offset()).prop_map(|(node, offset)| Fault::SinkFails { node, offset }),
        (node(), at(), (0..3000_u64).prop_map(Duration::from_millis))
            .prop_map(|(node, at, lasts)| Fault::SinkStalls { node, at, lasts }),
        (node(), at()).prop_map(|(node, at)| Fault::Kill { node, at }),
        (node(), at()).prop_map(|(node, at)| Fault::Stop { node, at }),
        (node(), at()).prop_map(|(node, at)| Fault::Freeze { node, at }),
        (node(), at(), lasts()).prop_map(|(node, at, lasts)| Fault::Pause { node, at, lasts }),
        (0..=nodes, at(), lasts()).prop_map(|(node, at, lasts)| Fault::Cut { node, at, lasts }),
        (node(), node(), at(), lasts()).prop_map(|(a, b, at, lasts)| Fault::CutMany {
            first: a.min(b),
            last: a.max(b),
            at,
            lasts
        }),
        (node(), at(), lasts()).prop_map(|(node, at, lasts)| Fault::Deaf { node, at, lasts }),
        (node(), at()).prop_map(|(node, at)| Fault::Reset { node, at }),
        (node(), at(), lasts()).prop_map(|(node, at, after)| Fault::Restart { node, at, after }),
        (node(), at(), lasts()).prop_map(|(node, at, lasts)| Fault::Hole { node, at, lasts }),
        (node(), (0..2500_u64).prop_map(Duration::from_millis))
            .prop_map(|(node, lasts)| Fault::LateLink { node, lasts }),
        (node(), at()).prop_map(|(node, at)| Fault::Readdress { node, at }),
        node().prop_map(|node| Fault::Shared { node }),
        Just(Fault::Isolate),
        (node(), offset()).prop_map(|(node, offset)| Fault::Taint { node, offset }),
        (node(), offset()).prop_map(|(node, offset)| Fault::Withhold { node, offset }),
        (node(), at(), prop::sample::select(LIES.to_vec())).prop_map(|(node, at, lie)| Fault::Lie {
            node,
            at,
            lie
        }),
        at().prop_map(|at| Fault::RereadFails { at }),
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
        prop::sample::select(vec![1_u64 << 20, 2 << 20, 8 << 20, 64 << 20]),
        proptest::option::of(2_000_000..50_000_000_u64),
        proptest::option::of(20_000_000..400_000_000_u64),
        any::<bool>(),
    )
        .prop_flat_map(|(nodes, fan_out, bytes, seed, window, source_rate, sink_rate, reread)| {
            proptest::collection::vec(fault(nodes, bytes), 0..5).prop_map(move |faults| Plan {
                seed,
                nodes,
                fan_out,
                bytes,
                window,
                source_rate,
                sink_rate,
                reread,
                gathering: Duration::ZERO,
                faults,
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: weather("KA_PLANS", 2000) as u32,
        rng_seed: RngSeed::Fixed(weather("KA_PLANS_SEED", 9)),
        ..ProptestConfig::default()
    })]

    /// Shrinks to the fewest nodes and faults that break a rule. The plans are the same ones each time, because several
    /// liars together still break one now and then (SECURITY.md): `KA_PLANS_SEED` and `KA_PLANS` try others.
    #[test]
    fn no_plan_of_faults_breaks_a_rule(plan in plan()) {
        let _ = plan.world().repeated_by(format!("{plan:?}.world().traced().run()")).run();
    }
}
