//! Who holds up the others, or comes too late for what is under way, is served after them, if the source can be read
//! again: real programs in network namespaces, as in `faults.rs`, where nodes are that were only away.

mod processes;

use processes::lab::Fate::Stuck;
use processes::lab::{Lab, Run, Source};

/// The longest that may pass until a sink that takes nothing is named, in seconds. It is less than 6 where nobody else is
/// at work; but whenever its node is not heard for a moment, because the machine is busy, five seconds begin anew.
const NAMED_S: f64 = 15.0;

/// The others get there long before the half minute is over after which a stuck node is given up. The name has it begin
/// first, because it takes the longest.
#[test]
fn a_sink_that_is_stuck_is_put_off_where_windows_are_small() {
    let run = Run::with_a_small_window("a_sink_that_is_stuck_is_put_off_where_windows_are_small");
    one_of_four_is_stuck(Run { source: Source::File, ..run }, "bypass");
}

#[test]
fn a_stuck_sink_is_given_up_where_windows_hold_everything() {
    let run = Run::with_the_default_window("a_stuck_sink_is_given_up_where_windows_hold_everything");
    one_of_four_is_stuck(Run { mib: 128, source: Source::File, ..run }, "drop");
}

#[test]
fn a_stuck_sink_is_given_up_where_nothing_is_read_again() {
    let run = Run::with_a_small_window("a_stuck_sink_is_given_up_where_nothing_is_read_again");
    one_of_four_is_stuck(run, "drop");
}

fn one_of_four_is_stuck(run: Run, policy: &str) {
    let Some(mut lab) = Lab::new(run, 4) else { return };
    lab.is_stuck(2);
    lab.start(&["--slow", policy]);
    lab.ends(&[(2, Stuck)]);
    let named = lab.said("slow", 2).1 - lab.said("linked", 2).1;
    println!("it was named after {named:.1} s");
    assert!(named <= NAMED_S, "it was named after {named} s");
    if policy == "bypass" {
        for i in [1, 3, 4] {
            assert!(lab.said("ended", i) < lab.said("ended", 2), "node {i} waited for it");
        }
    }
}

#[test]
fn a_slow_link_holds_up_nobody() {
    let run = Run {
        mib: 64,
        mbit: 400,
        source: Source::File,
        ..Run::with_a_small_window("a_slow_link_holds_up_nobody")
    };
    let Some(mut lab) = Lab::new(run, 4) else { return };
    lab.limit(2, 60);
    lab.start(&[]);
    lab.ends(&[]);
    for i in [1, 3, 4] {
        assert!(lab.said("complete", i) < lab.said("resumed", 2), "node {i} waited for it");
    }
    assert!(lab.reread() > 0, "nothing was sent again");
}

#[test]
fn who_comes_late_is_served_from_the_file() {
    one_comes_late(Run::with_a_small_window("who_comes_late_is_served_from_the_file"), Source::File);
}

#[test]
fn who_comes_late_is_served_from_the_spool() {
    one_comes_late(Run::with_a_small_window("who_comes_late_is_served_from_the_spool"), Source::Spooled);
}

fn one_comes_late(run: Run, source: Source) {
    let Some(mut lab) = Lab::new(Run { mib: 64, source, ..run }, 3) else { return };
    lab.start(&[]);
    nobody_holds_the_beginning(&mut lab);
    lab.joins_late();
    lab.ends(&[]);
    for i in 1..=3 {
        assert!(lab.said("complete", i) < lab.said("resumed", 4), "node {i} waited for it");
    }
    assert!(lab.reread() > 0, "nothing was sent again");
}

#[test]
fn who_comes_late_is_refused_where_nothing_is_read_again() {
    let run = Run::with_a_small_window("who_comes_late_is_refused_where_nothing_is_read_again");
    let Some(mut lab) = Lab::new(run, 3) else { return };
    lab.start(&[]);
    nobody_holds_the_beginning(&mut lab);
    lab.is_refused_late();
    lab.ends(&[]);
}

/// The last has got several small windows.
fn nobody_holds_the_beginning(lab: &mut Lab) {
    lab.when(3, 30);
}
