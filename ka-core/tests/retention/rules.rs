//! With all rules the model is sound; without any one of them it is not.

use super::*;

/// A crash and a false suspicion, in any order, are what most rules are about.
const TWO_FAULTS: Model = Model {
    nodes: 3,
    blocks: 3,
    window: 2,
    crashes_covered: 1,
    crashes: 1,
    suspicions: 1,
    early_leave: false,
    rules: Rules::ALL,
};

const ONE_CRASH: Model = Model { suspicions: 0, ..TWO_FAULTS };
const ONE_SUSPICION: Model = Model { crashes: 0, ..TWO_FAULTS };
const TWO_CRASHES: Model = Model { crashes_covered: 2, crashes: 2, suspicions: 0, ..TWO_FAULTS };

/// One crash, and it is one more than is covered.
const ONE_TOO_MANY: Model = Model { crashes_covered: 0, ..ONE_CRASH };

fn assert_sound(model: Model) {
    let findings = model.search(None);
    println!("{model:?}: {findings}");
    assert_eq!((findings.gaps.count, findings.deadlocks.count), (0, 0), "in {model:?}: {findings}");
}

#[test]
fn a_crash_and_a_false_suspicion_leave_no_gap_and_nobody_waiting() {
    assert_sound(TWO_FAULTS);
}

#[test]
fn two_crashes_leave_no_gap_and_nobody_waiting() {
    assert_sound(TWO_CRASHES);
}

#[test]
fn two_crashes_and_a_false_suspicion_leave_no_gap_and_nobody_waiting() {
    assert_sound(Model { suspicions: 1, ..TWO_CRASHES });
}

#[test]
fn nodes_that_leave_early_leave_no_gap_and_all_can_leave() {
    assert_sound(Model { early_leave: true, ..TWO_FAULTS });
    assert_sound(Model { early_leave: true, ..TWO_CRASHES });
}

#[test]
fn a_window_of_one_block_is_enough() {
    assert_sound(Model { window: 1, early_leave: true, ..TWO_FAULTS });
    assert_sound(Model { window: 1, early_leave: true, ..TWO_CRASHES });
}

#[test]
fn of_four_nodes_those_beyond_the_horizon_are_safe_too() {
    assert_sound(Model { nodes: 4, blocks: 2, window: 1, early_leave: true, ..TWO_FAULTS });
    assert_sound(Model { nodes: 4, blocks: 2, early_leave: true, ..TWO_CRASHES });
}

#[test]
fn suspicions_alone_need_no_horizon_beyond_the_children() {
    assert_sound(Model { crashes_covered: 0, suspicions: 2, blocks: 2, early_leave: true, ..ONE_SUSPICION });
}

#[test]
fn a_crash_too_many_fails_somebody_and_leaves_nobody_waiting() {
    for model in [ONE_TOO_MANY, Model { crashes_covered: 1, ..TWO_CRASHES }] {
        let findings = model.search(None);
        println!("{model:?}: {findings}");
        assert!(findings.gaps.count > 0, "{model:?} covers it after all");
        assert_eq!(findings.deadlocks.count, 0, "in {model:?}: {findings}");
    }
}

// ---- all rules but one ----

fn assert_flawed(model: Model, flaw: Flaw) {
    let findings = model.search(Some(flaw));
    println!("{model:?}: {findings}");
    let trace = findings.of(flaw).shortest.as_ref();
    let trace = trace.unwrap_or_else(|| panic!("no {flaw:?} in {model:?}: {findings}"));
    assert!(!trace.0.is_empty(), "the start is sound");
    assert_eq!(matches!(trace.0.last(), Some(Step::MeetGap { .. })), flaw == Flaw::Gap, "{findings}");
}

#[test]
fn without_r1_a_crash_finds_forgotten_what_only_the_dead_held() {
    let rules = Rules { keep_for_the_horizon: false, ..Rules::ALL };
    assert_flawed(Model { rules, ..ONE_CRASH }, Flaw::Gap);
}

#[test]
fn without_r2_a_parent_forgets_before_the_orphan_comes() {
    let rules = Rules { hold_after_a_loss: false, ..Rules::ALL };
    assert_flawed(Model { rules, ..ONE_CRASH }, Flaw::Gap);
}

#[test]
fn without_r3_a_parent_that_lost_a_child_lets_its_own_parent_forget() {
    let rules = Rules { publish_no_higher_while_holding: false, ..Rules::ALL };
    assert_flawed(Model { rules, ..TWO_FAULTS }, Flaw::Gap);
    assert_flawed(Model { rules, ..TWO_CRASHES }, Flaw::Gap);
}

#[test]
fn without_r4_a_new_parent_forgets_what_grandchildren_lack() {
    let rules = Rules { attach_with_the_subtree: false, ..Rules::ALL };
    assert_flawed(Model { rules, ..TWO_FAULTS }, Flaw::Gap);
    assert_flawed(Model { rules, ..TWO_CRASHES }, Flaw::Gap);
}

#[test]
fn without_r5_nobody_keeps_anything_for_those_below_a_finished_node() {
    let rules = Rules { reattach_for_descendants: false, ..Rules::ALL };
    assert_flawed(Model { rules, ..TWO_FAULTS }, Flaw::Gap);
    assert_flawed(Model { rules, ..TWO_CRASHES }, Flaw::Gap);
}

#[test]
fn without_r6_a_node_takes_along_what_grandchildren_lack() {
    let rules = Rules { leave_after_the_horizon: false, ..Rules::ALL };
    assert_flawed(Model { rules, early_leave: true, ..ONE_CRASH }, Flaw::Gap);
}

#[test]
fn without_r7_the_children_of_a_failed_node_wait_for_ever() {
    let rules = Rules { replace_children_of_the_failed: false, ..Rules::ALL };
    assert_flawed(Model { rules, ..ONE_TOO_MANY }, Flaw::Deadlock);
}

#[test]
fn one_fault_alone_does_not_show_that_r3_r4_or_r5_is_missing() {
    for rules in [
        Rules { publish_no_higher_while_holding: false, ..Rules::ALL },
        Rules { attach_with_the_subtree: false, ..Rules::ALL },
        Rules { reattach_for_descendants: false, ..Rules::ALL },
    ] {
        assert_sound(Model { rules, early_leave: true, ..ONE_CRASH });
        assert_sound(Model { rules, early_leave: true, ..ONE_SUSPICION });
    }
}
