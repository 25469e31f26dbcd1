//! A window by example: what it tells, counts and blames. What holds for any order of events is in `properties`.

use ka_core::limits::{self, BLOCK_BYTES};
use ka_core::proto::Window;
use ka_core::time::Instant;
use ka_core::types::{NodeId, Offset, Position, Watermarks};
use ka_core::wire::control::Blocked;
use ka_core::wire::data::Grant;

const NOW: Instant = Instant::ZERO;
const CHILD: NodeId = NodeId(1);
const BLOCK: u64 = BLOCK_BYTES as u64;
/// The smallest window, in blocks: its room is half of it at first, and a step is one block.
const SIZE: u64 = limits::WINDOW_BYTES_MIN / BLOCK;

fn at(block: u64) -> Position {
    Position { item: block, offset: Offset(block * BLOCK) }
}

fn holds(block: u64) -> Grant {
    Grant { watermarks: Watermarks::leaf(at(block)), upto: Offset(u64::MAX) }
}

/// A window of so many blocks with a sink that has told its parent what there is to tell.
fn window(blocks: u64, children: &[NodeId]) -> Window {
    let mut window = Window::new(blocks * BLOCK, true);
    window.set_children(NOW, children, false);
    window.grant(false).expect("there is room");
    window
}

/// The same with one child, which attaches at the start and is sent the first `received` blocks.
fn with_child(blocks: u64, received: u64) -> Window {
    let mut window = window(blocks, &[CHILD]);
    window.attach(NOW, CHILD, holds(0));
    window.receive(NOW, at(received), false);
    window.sent(CHILD, at(received));
    window
}

/// Opens a window as far as it goes: it is more than half full.
fn open(window: &mut Window) {
    while let Some(when) = window.opens() {
        window.open(when);
    }
}

// ---- the end of the tape ----

#[test]
fn a_tape_that_is_closed_stays_so() {
    let mut window = window(SIZE, &[]);
    window.receive(NOW, at(1), false);
    assert!(!window.closed());
    window.receive(NOW, at(2), true);
    window.receive(NOW, at(2), false);
    assert!(window.closed());
}

#[test]
fn all_is_done_when_everybody_below_has_everything() {
    let mut window = with_child(SIZE, 2);
    assert!(window.child_granted(NOW, CHILD, holds(2)));
    assert!(!window.all_done(), "more may come");
    window.receive(NOW, at(3), true);
    window.sent(CHILD, at(3));
    assert!(!window.all_done());
    assert!(window.child_granted(NOW, CHILD, holds(3)));
    assert!(window.all_done());
}

// ---- who may come, and what is believed ----

#[test]
fn who_would_take_the_room_that_is_promised_is_not_covered() {
    let mut window = window(SIZE, &[]);
    for half in [SIZE / 2, SIZE] {
        window.receive(NOW, at(half), false);
        window.sink_took(NOW, at(half));
        let _ = window.grant(false);
    }
    // Half a window more may come at any time.
    assert_eq!((window.kept(), window.granted()), (at(0), at(SIZE * 3 / 2).offset));
    assert!(window.covers(at(SIZE / 2)) && !window.covers(at(SIZE / 2 - 1)));
}

#[test]
fn a_child_is_believed_neither_items_nor_bytes_that_it_was_not_sent() {
    let mut window = with_child(SIZE, 1);
    for held in [Position { item: 2, ..at(1) }, Position { item: 1, ..at(2) }] {
        assert!(!window.child_granted(NOW, CHILD, Grant { watermarks: Watermarks::leaf(held), ..holds(0) }));
    }
    assert!(window.child_granted(NOW, CHILD, holds(1)));
}

#[test]
fn a_child_that_comes_back_behind_gets_no_more_room_than_it_takes() {
    let room = limits::CREDIT_BYTES / BLOCK;
    let mut window = window(4 * room, &[]);
    window.receive(NOW, at(room), false);
    (1..=room).for_each(|n| window.sink_took(NOW, at(n)));
    assert_eq!(window.attach_grant().upto, at(2 * room).offset);
    window.set_children(NOW, &[CHILD], false);
    window.attach(NOW, CHILD, holds(room * 3 / 4));
    assert_eq!(window.low(), at(room * 3 / 4));
    // The parent may send as before.
    assert_eq!(window.attach_grant().upto, at(2 * room).offset);
}

#[test]
fn for_somebody_far_below_as_much_is_held_as_there_is_room_for() {
    let mut window = with_child(SIZE, SIZE);
    window.sink_took(NOW, at(SIZE));
    for held in [SIZE / 4, SIZE / 2, SIZE * 3 / 4, SIZE] {
        assert!(window.child_granted(NOW, CHILD, holds(held)));
    }
    let _ = window.grant(false);
    assert_eq!(window.from(), at(SIZE / 2).offset);
    let mut watermarks = Watermarks::leaf(at(SIZE));
    watermarks.0[1] = at(1);
    assert!(window.child_granted(NOW, CHILD, Grant { watermarks, ..holds(SIZE) }));
    assert_eq!(window.low(), at(SIZE), "it has it by its own word");
    window.set_stable(NOW, 1);
    assert_eq!((window.low(), window.kept()), (at(SIZE / 2), at(0)));
}

// ---- what is safe ----

/// With one child that holds everything and says that all below it do: so many blocks have come.
fn child_that_boasts(blocks: u64, received: u64, safe: u64) -> Window {
    let mut window = window(blocks, &[CHILD]);
    window.set_stable(NOW, safe);
    window.attach(NOW, CHILD, holds(0));
    for n in 1..=received {
        window.receive(NOW, at(n), false);
        window.sent(CHILD, at(n));
        window.sink_took(NOW, at(n));
        assert!(window.child_granted(NOW, CHILD, holds(n)));
        let _ = window.grant(false);
    }
    window
}

#[test]
fn what_a_child_says_of_those_below_it_makes_nobody_forget() {
    let history = limits::HISTORY_BYTES / BLOCK;
    let mut window = child_that_boasts(4 * history, 2 * history, 1);
    assert_eq!((window.low(), window.kept()), (at(2 * history), at(0)));
    window.set_stable(NOW, 2 * history - 1);
    assert_eq!(window.kept(), at(history - 1));
    // Less than was said before: what is left stays.
    window.set_stable(NOW, 1);
    window.receive(NOW, at(2 * history + 1), false);
    window.sink_took(NOW, at(2 * history + 1));
    assert_eq!(window.kept(), at(history - 1));
    window.set_stable(NOW, u64::MAX);
    assert_eq!(window.kept(), at(history));
}

#[test]
fn no_more_is_taken_in_than_fits_behind_what_is_safe() {
    let mut window = child_that_boasts(SIZE, SIZE * 3 / 4, 2);
    assert_eq!((window.granted(), window.low()), (at(2 + SIZE).offset, at(SIZE * 3 / 4)));
    // Nobody whom it sees is to blame for that.
    assert_eq!(window.blocked(), Blocked::Below);
    window.set_stable(NOW, SIZE * 3 / 4);
    assert_eq!(window.blocked(), Blocked::No);
    assert_eq!(window.grant(false).expect("there is room").upto, at(SIZE * 5 / 4).offset);
}

#[test]
fn who_becomes_a_child_finds_what_its_own_word_has_kept() {
    const ORPHAN: NodeId = NodeId(2);
    let mut window = child_that_boasts(SIZE, SIZE / 2, 3);
    window.set_children(NOW, &[ORPHAN], false);
    window.set_stable(NOW, u64::MAX);
    assert_eq!(window.low(), at(3));
    assert!(window.covers(at(3)));
    window.attach(NOW, ORPHAN, holds(3));
    assert_eq!(window.low(), at(3));
}

// ---- what is told ----

#[test]
fn what_is_worth_a_message_is_told_at_once_and_the_rest_when_asked() {
    let step = limits::GRANT_STEP_BYTES / BLOCK;
    let mut window = window(64 * step, &[]);
    assert!(!window.untold() && window.grant(true).is_none(), "nothing is new");

    // A statement has no bytes: the room is the same, and one item more is held.
    let statement = Position { item: 1, ..at(0) };
    window.receive(NOW, statement, false);
    assert!(window.untold() && window.grant(false).is_none());
    assert_eq!(window.grant(true).expect("asked for").watermarks.held(), statement);
    // A sink that takes a block makes room, and nothing more is held.
    let block = Position { item: 2, ..at(1) };
    window.receive(NOW, block, false);
    assert!(window.grant(true).is_some() && !window.untold());
    window.sink_took(NOW, block);
    assert!(window.untold() && window.grant(false).is_none());
    assert!(window.grant(true).is_some());

    // A step of what is held, and one of the room.
    let far = Position { item: 2 + step, ..at(1 + step) };
    window.receive(NOW, Position { item: 1 + step, ..at(step) }, false);
    assert!(window.grant(false).is_none(), "less than a step");
    window.receive(NOW, far, false);
    assert_eq!(window.grant(false).expect("a step").watermarks.held(), far);
    window.sink_took(NOW, far);
    assert!(window.grant(false).is_some());
    // The end is told, however near.
    window.receive(NOW, Position { item: 3 + step, ..far }, true);
    assert!(window.grant(false).is_some());
}

#[test]
fn who_comes_and_lacks_more_is_told_of_at_once() {
    let mut window = window(SIZE, &[CHILD]);
    window.receive(NOW, at(2), false);
    window.attach(NOW, CHILD, holds(2));
    assert!(window.grant(true).is_some());
    window.attach(NOW, CHILD, holds(1));
    assert_eq!(window.grant(false).expect("its parent must not forget").watermarks.0[1], at(1));
}

// ---- how far it opens, and what keeps it full ----

#[test]
fn it_opens_once_more_than_half_of_its_room_is_taken_for_a_moment() {
    let mut window = window(SIZE, &[]);
    window.receive(NOW, at(SIZE / 4), false);
    assert_eq!(window.opens(), None);
    window.receive(NOW, at(SIZE / 4 + 1), false);
    assert_eq!(window.opens(), Some(NOW + limits::STALL_AFTER));
    window.open(NOW);
    assert_eq!(window.attach_grant().upto, at(SIZE / 2).offset, "too soon");
    window.open(NOW + limits::STALL_AFTER);
    assert_eq!(window.attach_grant().upto, at(SIZE).offset);
    assert_eq!(window.opens(), None, "that is less than half");
}

#[test]
fn a_consumer_that_moves_gets_more_room_later_but_gets_it() {
    let mut window = window(SIZE, &[]);
    window.receive(NOW, at(SIZE / 2), false);
    let soon = NOW + limits::STALL_AFTER / 2;
    window.sink_took(soon, at(1));
    assert_eq!(window.opens(), Some(soon + limits::STALL_AFTER));
    window.sink_took(NOW + limits::CREDIT_INTERVAL, at(2));
    assert_eq!(window.opens(), Some(NOW + limits::CREDIT_INTERVAL));
}

#[test]
fn it_closes_once_less_than_a_quarter_of_its_first_room_is_taken() {
    // With the first room as many blocks more are more than half of it, with all room they are not.
    let opens = |sunk: u64| {
        let mut window = window(SIZE, &[]);
        window.receive(NOW, at(SIZE / 2), false);
        open(&mut window);
        window.sink_took(NOW, at(sunk));
        window.receive(NOW, at(SIZE / 2 + 4), false);
        window.opens().is_some()
    };
    let quarter = SIZE / 2 / 4;
    assert!(!opens(SIZE / 2 - quarter) && opens(SIZE / 2 - quarter + 1));
}

#[test]
fn a_full_window_blames_the_slowest_and_its_own_sink_first() {
    let mut window = with_child(SIZE, SIZE / 2);
    open(&mut window);
    let _ = window.grant(false);
    assert_eq!(window.granted(), at(SIZE).offset);
    window.receive(NOW, at(SIZE * 3 / 4), false);
    assert_eq!(window.opens(), None, "there is no more");
    assert_eq!(window.blocked(), Blocked::No, "a quarter is left");
    window.receive(NOW, at(SIZE), false);
    assert_eq!(window.blocked(), Blocked::Sink, "both hold nothing");
    window.sink_took(NOW, at(1));
    assert_eq!(window.blocked(), Blocked::Child(CHILD));
    assert!(window.child_granted(NOW, CHILD, holds(2)));
    assert_eq!(window.blocked(), Blocked::Sink);
    window.sink_gone(NOW);
    assert_eq!(window.blocked(), Blocked::Child(CHILD));
    window.receive(NOW, at(SIZE), true);
    assert_eq!(window.blocked(), Blocked::No, "nothing more comes");
}

// ---- what is counted ----

#[test]
fn a_window_is_counted_full_when_no_block_may_come_and_no_room_is_worth_a_grant() {
    let full = |sunk: u64| {
        let mut window = window(SIZE, &[]);
        window.receive(NOW, at(SIZE / 2), false);
        assert_eq!(window.counters().full, 0, "it opens");
        open(&mut window);
        let _ = window.grant(false);
        window.receive(NOW, at(SIZE - 1), false);
        assert_eq!(window.counters().full, 0, "one more block may come");
        window.sink_took(NOW, at(sunk));
        window.receive(NOW, at(SIZE), false);
        window.counters().full
    };
    assert_eq!((full(0), full(1)), (1, 0));
}

#[test]
fn grants_links_and_children_that_are_lost_while_they_lack_bytes_are_counted() {
    let mut window = with_child(SIZE, 1);
    assert_eq!(window.counters().grants, 1);
    let _ = window.attach_grant();
    assert_eq!(window.counters().grants, 2);
    window.attached();
    window.attached();
    window.child_lost(CHILD);
    window.child_lost(CHILD);
    assert_eq!((window.counters().attaches, window.counters().holds), (2, 1));
    window.receive(NOW, at(1), true);
    window.attach(NOW, CHILD, holds(1));
    window.child_lost(CHILD);
    assert_eq!(window.counters().holds, 1, "it lacked nothing");
    window.attach(NOW, CHILD, holds(0));
    window.child_lost(CHILD);
    assert_eq!(window.counters().holds, 2);
}
