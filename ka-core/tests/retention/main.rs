//! The rules by which a node keeps and forgets blocks, tried in every order in which things can happen.
//!
//! An orphan goes on at its exact position below its nearest living ancestor. That works only if the ancestor
//! still has what the orphan lacks, whatever was lost before. Seven rules see to it ([`Rules`]). This model of
//! them is so small that each of its states is visited: with all rules nobody meets a gap and nobody is left
//! waiting, and without any one of them somebody is.
//!
//! ```text
//!     source ─blocks─▶ server ───────▶ node 1 ───────▶ node 2 ───────▶ node 3
//!                      low..holds      low..holds      low..holds      low..holds
//!
//!     as the server counts:            depth 1         depth 2         depth 3
//!     its horizon, if F = 1:           ├─────────────────────┤
//!     the watermarks it has from node 1:   3               2
//! ```
//!
//! A place *holds* the blocks before a number and has forgotten those before its *low*. It tells its parent its
//! *watermarks*: what it holds itself, and for each depth below it the least that is known to be held there. Watermarks
//! end at the *horizon*, which is one depth more than the crashes to be covered (the protocol's F). What a parent
//! knows may be older than the truth, and it forgets as soon as the rules let it: the worst case.
//!
//! The faults are crashes of nodes and false suspicions: one end gives up a link though both ends live. The
//! other end notices at any later time, and so does the coordinator with a crash. It places an orphan below the
//! nearest place before it in the chain that is not known to be gone.
//!
//! What the model leaves out:
//! - Bytes, statements and sinks: a sink takes a block at once.
//! - Time: what can happen may happen next, so deadlines do not show. Nor is it asked whether a run goes round
//!   in circles, only whether it stops too early.
//! - Messages under way: one is delivered at once, or later with what is true then, or never. Watermarks that were
//!   told earlier could only have done their harm earlier.
//! - What the coordinator does not know: it learns late of crashes, but at once of all else.
//! - The view that names a replacement. A parent holds until the replacement has attached or the coordinator
//!   knows that there is none: to be told its name must change nothing, neither for R2 nor for R3.
//! - The loss of the server, which ends a session, and a node that restarts, which is a new one.
//! - Other shapes than a chain, and other places for a suspect than its old one.
//! - What only adds to the rules: memory that is kept while there is room, spools, release by an admin.

mod report;
mod rules;

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use report::{Findings, Trace};

/// The server and at most four nodes.
const PLACES: usize = 5;

/// At most two crashes are covered, so a horizon has at most three depths.
const DEPTHS: usize = 3;

/// The floor of a depth at which there is no descendant: it keeps nothing.
const NOBODY: u8 = u8::MAX;

/// The place that the source feeds. Nodes are 1, 2, … in the order of the chain.
const SERVER: usize = 0;

/// For each depth below a parent, from its child on, the least that is known to be held there.
type Watermarks = [u8; DEPTHS];

/// The rules of retention and repair, each of which can be taken away.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// R1: keep a block until every descendant within the horizon is known to hold it.
    /// Without: until the children are.
    keep_for_the_horizon: bool,
    /// R2: on losing a child forget nothing until a view names its replacement or says that there is none.
    hold_after_a_loss: bool,
    /// R3: while so holding publish no position higher than before the loss.
    publish_no_higher_while_holding: bool,
    /// R4: an attach carries the watermarks of the whole subtree, and the parent pins before it answers.
    /// Without: only what the node itself holds; the rest follows later.
    attach_with_the_subtree: bool,
    /// R5: a node that has everything but unfinished descendants must re-attach, too.
    reattach_for_descendants: bool,
    /// R6: leave only when all descendants within the horizon are done. Without: when the children are.
    leave_after_the_horizon: bool,
    /// R7: the children of a failed node are re-placed or failed, never left waiting.
    replace_children_of_the_failed: bool,
}

impl Rules {
    const ALL: Self = Self {
        keep_for_the_horizon: true,
        hold_after_a_loss: true,
        publish_no_higher_while_holding: true,
        attach_with_the_subtree: true,
        reattach_for_descendants: true,
        leave_after_the_horizon: true,
        replace_children_of_the_failed: true,
    };
}

/// How long the chain is, what runs along it, and what may happen to it.
#[derive(Clone, Copy, Debug)]
struct Model {
    nodes: usize,
    blocks: u8,
    /// Blocks that a place keeps at most.
    window: u8,
    /// The protocol's F. A suspicion uses up none of it.
    crashes_covered: usize,
    crashes: usize,
    suspicions: u8,
    /// Nodes leave as soon as R6 lets them; else they stay until all is over.
    early_leave: bool,
    rules: Rules,
}

/// Where a place is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Up,
    /// It crashed, and the coordinator does not know yet.
    Crashed,
    /// It crashed, and the coordinator knows.
    Buried,
    /// It met a gap and said so. It feeds nobody any more.
    Failed,
    /// It has everything and was not needed any more.
    Left,
}

/// The server or a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    life: Life,
    /// It has received the blocks before this one.
    holds: u8,
    /// It has forgotten the blocks before this one.
    low: u8,
    parent: Option<u8>,
    /// It lost a child; the replacement has not attached, and no view has said that there is none.
    bereaved: bool,
    /// What it knows of each of its children and of those below it.
    children: [Option<Watermarks>; PLACES],
}

impl Place {
    const NEW: Self =
        Self { life: Life::Up, holds: 0, low: 0, parent: None, bereaved: false, children: [None; PLACES] };

    /// A place that takes no part any more. What it had is of no meaning, so all such places are equal.
    fn gone(life: Life) -> Self {
        Self { life, ..Self::NEW }
    }

    fn is_up(&self) -> bool {
        self.life == Life::Up
    }

    /// What is known of the children, and of those below them.
    fn known(&self) -> impl Iterator<Item = &Watermarks> {
        self.children.iter().flatten()
    }
}

/// All that is true at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    places: [Place; PLACES],
    /// False suspicions so far. (Crashes can be seen.)
    suspicions: u8,
}

/// What can happen next. `node` is never the server.
///
/// To miss somebody is to notice that the other end of a link is gone, or has given it up; to bury a node is the
/// coordinator's noticing that it crashed. The end of holding is a view that says that nobody is to come.
#[derive(Clone, Copy, Debug)]
enum Step {
    Produce,
    Receive { node: usize, parent: usize },
    Publish { node: usize, parent: usize, watermarks: Watermarks },
    MissParent { node: usize, parent: usize },
    MissChild { node: usize, parent: usize },
    Bury { node: usize },
    Attach { node: usize, parent: usize, watermarks: Watermarks },
    MeetGap { node: usize, parent: usize },
    EndHolding { place: usize },
    Leave { node: usize },
    Crash { node: usize },
    SuspectParent { node: usize, parent: usize },
    SuspectChild { node: usize, parent: usize },
}

impl Step {
    /// Whether nobody can count on it to happen.
    fn is_fault(self) -> bool {
        matches!(self, Self::Crash { .. } | Self::SuspectParent { .. } | Self::SuspectChild { .. })
    }
}

impl Model {
    /// A chain that is complete, and a stream that has not begun.
    fn start(&self) -> State {
        let mut places = [Place::NEW; PLACES];
        for node in self.nodes() {
            places[node].parent = Some(node as u8 - 1);
        }
        let mut state = State { places, suspicions: 0 };
        for node in self.nodes().rev() {
            state.places[node - 1].children[node] = Some(self.watermarks(&state, node));
        }
        state
    }

    fn nodes(&self) -> RangeInclusive<usize> {
        1..=self.nodes
    }

    /// How many depths below it a place cares for.
    fn horizon(&self) -> usize {
        self.crashes_covered + 1
    }

    // ---- what can happen ----

    /// Everything that can happen next.
    fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.has_room(&state.places[SERVER]) {
            steps.push(Step::Produce);
        }
        for node in self.nodes() {
            match state.places[node].life {
                Life::Up => self.steps_of_a_node(state, node, &mut steps),
                Life::Crashed => steps.push(Step::Bury { node }),
                Life::Buried | Life::Failed | Life::Left => {}
            }
        }
        for place in SERVER..=self.nodes {
            if state.places[place].is_up() {
                self.steps_of_a_parent(state, place, &mut steps);
            }
        }
        steps
    }

    fn steps_of_a_node(&self, state: &State, node: usize, steps: &mut Vec<Step>) {
        match state.places[node].parent.map(usize::from) {
            None => steps.extend(self.attempt(state, node)),
            Some(parent) if self.is_linked(state, node, parent) => {
                self.steps_of_a_link(state, node, parent, steps);
            }
            Some(parent) if self.wants_a_parent(state, node) => steps.push(Step::MissParent { node, parent }),
            Some(_) => {}
        }
        if self.early_leave && self.may_leave(&state.places[node]) {
            steps.push(Step::Leave { node });
        }
        if self.crashed(state) < self.crashes {
            steps.push(Step::Crash { node });
        }
    }

    fn steps_of_a_link(&self, state: &State, node: usize, parent: usize, steps: &mut Vec<Step>) {
        let (child, feeder) = (&state.places[node], &state.places[parent]);
        // Only without R7 does anybody look up to a place that is not up.
        let Some(known) = feeder.children[node] else { return };
        if child.holds < feeder.holds && self.has_room(child) {
            steps.push(Step::Receive { node, parent });
        }
        let watermarks = self.floors_to_publish(state, node, &known);
        if watermarks != known {
            steps.push(Step::Publish { node, parent, watermarks });
        }
        if state.suspicions < self.suspicions {
            steps.push(Step::SuspectParent { node, parent });
            steps.push(Step::SuspectChild { node, parent });
        }
    }

    fn steps_of_a_parent(&self, state: &State, parent: usize, steps: &mut Vec<Step>) {
        let place = &state.places[parent];
        for node in self.nodes().filter(|node| place.children[*node].is_some()) {
            let child = &state.places[node];
            if !child.is_up() || child.parent != Some(parent as u8) {
                steps.push(Step::MissChild { node, parent });
            }
        }
        if place.bereaved && !self.nodes().any(|node| self.is_awaited(state, node, parent)) {
            steps.push(Step::EndHolding { place: parent });
        }
    }

    /// What an orphan can do: nothing while the place that it is sent to is dead and nobody knows.
    fn attempt(&self, state: &State, node: usize) -> Option<Step> {
        let parent = placement(state, node);
        if !self.wants_a_parent(state, node) || !state.places[parent].is_up() {
            return None;
        }
        let is_gap = state.places[node].holds < state.places[parent].low;
        Some(if is_gap {
            Step::MeetGap { node, parent }
        } else {
            Step::Attach { node, parent, watermarks: self.floors_to_attach(state, node) }
        })
    }

    // ---- what it leads to ----

    /// The state after a step.
    fn after(&self, state: &State, step: Step) -> State {
        let mut next = *state;
        let places = &mut next.places;
        match step {
            Step::Produce => places[SERVER].holds += 1,
            Step::Receive { node, .. } => places[node].holds += 1,
            Step::Publish { node, parent, watermarks } => places[parent].children[node] = Some(watermarks),
            Step::MissParent { node, .. } => places[node].parent = None,
            Step::MissChild { node, parent } => {
                let left = places[node].life == Life::Left;
                places[parent].children[node] = None;
                places[parent].bereaved |= !left;
            }
            Step::Bury { node } => places[node] = Place::gone(Life::Buried),
            Step::Attach { node, parent, watermarks } => {
                places[node].parent = Some(parent as u8);
                places[parent].children[node] = Some(watermarks);
            }
            Step::MeetGap { node, .. } => places[node] = Place::gone(Life::Failed),
            Step::EndHolding { place } => places[place].bereaved = false,
            Step::Leave { node } => places[node] = Place::gone(Life::Left),
            Step::Crash { node } => places[node] = Place::gone(Life::Crashed),
            Step::SuspectParent { node, .. } => {
                places[node].parent = None;
                next.suspicions += 1;
            }
            Step::SuspectChild { node, parent } => {
                places[parent].children[node] = None;
                places[parent].bereaved = true;
                next.suspicions += 1;
            }
        }
        for place in &mut next.places {
            self.forget(place);
        }
        next
    }

    /// R1 and R2: forgets at once what may be forgotten.
    fn forget(&self, place: &mut Place) {
        if self.rules.hold_after_a_loss && place.bereaved {
            return;
        }
        let depths = if self.rules.keep_for_the_horizon { self.horizon() } else { 1 };
        let needed =
            place.known().flat_map(|watermarks| &watermarks[..depths]).copied().min().unwrap_or(NOBODY);
        place.low = place.low.max(needed.min(place.holds));
    }

    // ---- what is said ----

    /// What a node holds, and what it knows to be held below it.
    fn watermarks(&self, state: &State, node: usize) -> Watermarks {
        let place = &state.places[node];
        let mut watermarks = [NOBODY; DEPTHS];
        watermarks[0] = place.holds;
        for depth in 1..self.horizon() {
            watermarks[depth] = place.known().map(|below| below[depth - 1]).min().unwrap_or(NOBODY);
        }
        watermarks
    }

    /// R3: a node that lost a child says of its descendants no more than it `said` before.
    fn floors_to_publish(&self, state: &State, node: usize, said: &Watermarks) -> Watermarks {
        let mut watermarks = self.watermarks(state, node);
        if self.rules.publish_no_higher_while_holding && state.places[node].bereaved {
            for (floor, said) in watermarks.iter_mut().zip(said).skip(1) {
                *floor = (*floor).min(*said);
            }
        }
        watermarks
    }

    /// R4, and R3 towards a new parent: no more than was said to the old one, which was at least what the node
    /// itself still keeps.
    fn floors_to_attach(&self, state: &State, node: usize) -> Watermarks {
        let place = &state.places[node];
        if !self.rules.attach_with_the_subtree {
            let mut watermarks = [NOBODY; DEPTHS];
            watermarks[0] = place.holds;
            return watermarks;
        }
        let mut watermarks = self.watermarks(state, node);
        if self.rules.publish_no_higher_while_holding && place.bereaved {
            for floor in &mut watermarks[1..self.horizon()] {
                *floor = (*floor).min(place.low);
            }
        }
        watermarks
    }

    // ---- what is so ----

    fn has_room(&self, place: &Place) -> bool {
        place.holds < self.blocks && place.holds - place.low < self.window
    }

    fn crashed(&self, state: &State) -> usize {
        state.places.iter().filter(|place| matches!(place.life, Life::Crashed | Life::Buried)).count()
    }

    /// Whether a node and its parent still have each other. R7: nobody has a failed parent.
    fn is_linked(&self, state: &State, node: usize, parent: usize) -> bool {
        match state.places[parent].life {
            Life::Up => state.places[parent].children[node].is_some(),
            Life::Failed => !self.rules.replace_children_of_the_failed,
            Life::Crashed | Life::Buried | Life::Left => false,
        }
    }

    /// R5: whether a node without a parent would ask for one.
    fn wants_a_parent(&self, state: &State, node: usize) -> bool {
        let place = &state.places[node];
        let unfinished_below = || place.bereaved || !self.are_done_below(place, self.horizon());
        place.holds < self.blocks || (self.rules.reattach_for_descendants && unfinished_below())
    }

    /// Whether a node can go. R6: nobody within the horizon needs it.
    fn may_leave(&self, place: &Place) -> bool {
        let depths = if self.rules.leave_after_the_horizon { self.horizon() } else { 1 };
        place.holds == self.blocks && !place.bereaved && self.are_done_below(place, depths)
    }

    /// Whether all descendants down to a depth are known to hold everything.
    fn are_done_below(&self, place: &Place, depths: usize) -> bool {
        place.known().flat_map(|watermarks| &watermarks[..depths]).all(|floor| *floor >= self.blocks)
    }

    /// Whether the coordinator expects a node to attach to a place to which it has not attached.
    fn is_awaited(&self, state: &State, node: usize, parent: usize) -> bool {
        let expected = match state.places[node].life {
            Life::Up => self.wants_a_parent(state, node),
            Life::Crashed => true,
            Life::Buried | Life::Failed | Life::Left => false,
        };
        expected && state.places[parent].children[node].is_none() && placement(state, node) == parent
    }

    /// Whether a node waits for nothing any more.
    fn has_ended(&self, place: &Place) -> bool {
        !place.is_up() || (place.holds == self.blocks && !self.early_leave)
    }
}

/// Where an orphan belongs: to the nearest place before it that the coordinator does not know to be gone.
fn placement(state: &State, node: usize) -> usize {
    let may_feed = |place: &usize| matches!(state.places[*place].life, Life::Up | Life::Crashed);
    (SERVER..node).rev().find(may_feed).unwrap_or(SERVER)
}

// ---- the search ----

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// The place below which an orphan is put has forgotten what the orphan lacks.
    Gap,
    /// Nothing more will happen, and somebody still waits.
    Deadlock,
}

/// A state, and how it was first reached.
struct Visit {
    state: State,
    from: usize,
    by: Option<Step>,
}

impl Model {
    /// Visits every state, the nearest first, or only as far as the first flaw of the kind that is sought.
    fn search(&self, sought: Option<Flaw>) -> Findings {
        let start = self.start();
        let mut seen = HashSet::from([start]);
        let mut visits = vec![Visit { state: start, from: 0, by: None }];
        let mut findings = Findings::default();
        let mut at = 0;
        while at < visits.len() && sought.is_none_or(|flaw| findings.of(flaw).count == 0) {
            let state = visits[at].state;
            let steps = self.steps(&state);
            if self.is_deadlock(&state, &steps) {
                findings.deadlocks.add(|| Trace::to(&visits, at, None));
            }
            for step in steps {
                if matches!(step, Step::MeetGap { .. }) {
                    findings.gaps.add(|| Trace::to(&visits, at, Some(step)));
                }
                let next = self.after(&state, step);
                if seen.insert(next) {
                    visits.push(Visit { state: next, from: at, by: Some(step) });
                }
            }
            at += 1;
        }
        findings.states = visits.len();
        findings
    }

    /// Whether somebody waits, and only a fault could end it.
    fn is_deadlock(&self, state: &State, steps: &[Step]) -> bool {
        steps.iter().all(|step| step.is_fault())
            && self.nodes().any(|node| !self.has_ended(&state.places[node]))
    }
}
