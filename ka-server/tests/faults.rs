//! What happens on the way happens to real programs here: they die, stand still, and lose their links, in network
//! namespaces on one switch. Everybody else ends well.
//!
//! Only root can have namespaces: where there are none, a test says so and ends. How long each took is told
//! by `--show-output`, and never asserted. Absent: machines that lie, which are in `hostile.rs` and
//! `strangers.rs` of ka-core.

mod processes;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use processes::lab::Fate::{Back, Lost};
use processes::lab::{Lab, Run, Source};
use processes::noise;

/// Played with a window that holds the whole stream, and with one that holds a sixteenth of it.
macro_rules! twice {
    ($($scenario:ident)*) => {$(
        mod $scenario {
            use crate::processes::lab::Run;

            #[test]
            fn with_the_default_window() {
                let name = concat!(stringify!($scenario), "::with_the_default_window");
                super::$scenario(Run::with_the_default_window(name));
            }

            #[test]
            fn with_a_small_window() {
                let name = concat!(stringify!($scenario), "::with_a_small_window");
                super::$scenario(Run::with_a_small_window(name));
            }
        }
    )*};
}

twice! {
    nothing_happens
    the_third_of_six_is_killed
    the_first_is_killed
    the_last_is_killed
    the_third_of_six_stands_still
    the_cable_of_the_third_of_six_is_pulled
    the_switch_swallows_all_from_and_to_the_third_of_six
    the_third_and_the_fourth_of_six_are_cut_off_together
    a_node_stands_still_for_three_seconds
    a_cable_is_out_for_three_seconds
    the_server_s_cable_is_out_for_ten_seconds
    the_nodes_reach_the_server_and_not_each_other
    three_in_a_row_of_six_are_cut_off_together
    a_node_of_a_tree_is_killed
    strangers_knock_at_every_door
}

fn nothing_happens(run: Run) {
    let Some(mut lab) = Lab::new(run, 6) else { return };
    lab.start(&[]);
    lab.ends(&[]);
}

fn the_third_of_six_is_killed(run: Run) {
    one_of_six_is_killed(run, 3);
}

fn the_first_is_killed(run: Run) {
    one_of_six_is_killed(run, 1);
}

fn the_last_is_killed(run: Run) {
    one_of_six_is_killed(run, 6);
}

fn one_of_six_is_killed(run: Run, i: usize) {
    let Some(mut lab) = Lab::new(run, 6) else { return };
    lab.start(&[]);
    lab.when(i, 30);
    lab.kill(i);
    lab.ends(&[(i, Lost)]);
}

fn the_third_of_six_stands_still(run: Run) {
    let Some(mut lab) = Lab::new(run, 6) else { return };
    lab.start(&[]);
    lab.when(3, 30);
    lab.stop(3);
    lab.ends(&[(3, Lost)]);
}

fn the_cable_of_the_third_of_six_is_pulled(run: Run) {
    cables_of_six_are_pulled(run, &[3]);
}

fn the_third_and_the_fourth_of_six_are_cut_off_together(run: Run) {
    cables_of_six_are_pulled(run, &[3, 4]);
}

fn three_in_a_row_of_six_are_cut_off_together(run: Run) {
    cables_of_six_are_pulled(run, &[2, 3, 4]);
}

fn cables_of_six_are_pulled(run: Run, which: &[usize]) {
    let Some(mut lab) = Lab::new(run, 6) else { return };
    lab.start(&[]);
    lab.when(which[0], 30);
    which.iter().for_each(|i| lab.pull(*i));
    lab.ends(&which.iter().map(|i| (*i, Lost)).collect::<Vec<_>>());
}

fn the_switch_swallows_all_from_and_to_the_third_of_six(run: Run) {
    let Some(mut lab) = Lab::new(run, 6) else { return };
    lab.start(&[]);
    lab.when(3, 30);
    lab.swallow(3);
    lab.ends(&[(3, Lost)]);
}

/// Nodes 1 and 2 are fed by the server, and 2 feeds 5 and 6.
fn a_node_of_a_tree_is_killed(run: Run) {
    let Some(mut lab) = Lab::new(Run { mbit: 400, ..run }, 7) else { return };
    lab.start(&["-a", "2"]);
    lab.when(2, 30);
    lab.kill(2);
    lab.ends(&[(2, Lost)]);
}

#[test]
fn half_of_eight_are_killed_one_after_another() {
    // Where it is hardest: four times in one stream somebody has to catch up out of a small window.
    let run = Run::with_a_small_window("half_of_eight_are_killed_one_after_another");
    let Some(mut lab) = Lab::new(run, 8) else { return };
    lab.start(&[]);
    for (i, percent) in [(2, 10), (5, 25), (7, 40), (3, 55)] {
        lab.when(i, percent);
        lab.kill(i);
    }
    lab.ends(&[(2, Lost), (5, Lost), (7, Lost), (3, Lost)]);
}

/// The stream goes on for longer than the node is away, whatever the window.
const LONG_MIB: usize = 128;
const AWAY: Duration = Duration::from_secs(3);

fn a_node_stands_still_for_three_seconds(run: Run) -> Option<Lab> {
    let mut lab = Lab::new(Run { mib: LONG_MIB, ..run }, 6)?;
    lab.start(&[]);
    lab.when(3, 10);
    lab.stop(3);
    is_missed(&mut lab);
    lab.go_on(3);
    lab.ends(&[(3, Back)]);
    Some(lab)
}

fn a_cable_is_out_for_three_seconds(run: Run) -> Option<Lab> {
    let mut lab = Lab::new(Run { mib: LONG_MIB, ..run }, 6)?;
    lab.start(&[]);
    lab.when(3, 10);
    lab.pull(3);
    is_missed(&mut lab);
    lab.plug(3);
    lab.ends(&[(3, Back)]);
    Some(lab)
}

/// However slow the machine, more passes than a small window holds.
fn is_missed(lab: &mut Lab) {
    lab.for_so_long(AWAY);
    lab.when(6, 40);
}

#[test]
fn who_stood_still_for_long_is_served_later() {
    is_served_later("who_stood_still_for_long_is_served_later", a_node_stands_still_for_three_seconds);
}

#[test]
fn whose_cable_was_out_for_long_is_served_later() {
    is_served_later("whose_cable_was_out_for_long_is_served_later", a_cable_is_out_for_three_seconds);
}

fn is_served_later(test: &'static str, scenario: fn(Run) -> Option<Lab>) {
    let run = Run { source: Source::File, ..Run::with_a_small_window(test) };
    let Some(lab) = scenario(run) else { return };
    assert!(lab.reread() > 0, "nothing was sent again");
}

fn the_server_s_cable_is_out_for_ten_seconds(run: Run) {
    let Some(mut lab) = Lab::new(run, 6) else { return };
    lab.start(&[]);
    lab.when(1, 30);
    lab.pull(0);
    lab.for_so_long(Duration::from_secs(10));
    lab.plug(0);
    lab.ends(&[]);
}

/// Then the server has to feed each of them.
fn the_nodes_reach_the_server_and_not_each_other(run: Run) {
    let Some(mut lab) = Lab::new(Run { mbit: 400, ..run }, 3) else { return };
    lab.isolate_nodes();
    lab.start(&[]);
    lab.ends(&[]);
}

fn strangers_knock_at_every_door(run: Run) {
    let Some(mut lab) = Lab::new(Run { mib: LONG_MIB, ..run }, 6) else { return };
    lab.start(&[]);
    lab.when(6, 10);
    let heard = lab.stranger(|doors| {
        let crowd = || knock(doors, KNOCKS / CROWD);
        // Threads are where the thread is that starts them.
        thread::scope(|s| {
            [(); CROWD].map(|()| s.spawn(crowd)).map(|one| one.join().unwrap()).iter().sum::<usize>()
        })
    });
    println!("{heard} of {KNOCKS} strangers were heard");
    assert!(heard > KNOCKS / 2, "{heard} are no burst");
    lab.ends(&[]);
}

const KNOCKS: usize = 2000;
const CROWD: usize = 8;

/// Connects so many times, now here, now there, and says what makes no sense. The last ones stay for a while.
fn knock(doors: &[SocketAddr], times: usize) -> usize {
    let (garbage, mut inside, mut heard) = (noise(4096), VecDeque::new(), 0);
    for (n, door) in doors.iter().cycle().take(times).enumerate() {
        let Ok(mut stream) = TcpStream::connect_timeout(door, Duration::from_secs(1)) else { continue };
        heard += usize::from(stream.write_all(&garbage[n % 97..][..n % 2000]).is_ok());
        inside.push_back(stream);
        if inside.len() > 60 {
            inside.pop_front();
        }
    }
    heard
}
