//! How often rare things have happened in a run: the proof that storms reach them.

use core::ops::AddAssign;

use super::World;
use crate::proto::Event;
use crate::wire::control::{Outcome, Reason};

/// Counters of one run, or of many together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A node's control connection came up again.
    pub rejoined: u64,
    /// A node was suspected.
    pub suspected: u64,
    /// A suspected node got a place again.
    pub returned: u64,
    /// A node was given another parent because it did not reach the one it had.
    pub rerouted: u64,
    /// A node attached three times or more.
    pub replaced_twice: u64,
    /// A child was ahead of the parent that accepted it.
    pub ahead: u64,
    /// A parent did not hold any more what a child lacked.
    pub gone: u64,
    /// A node lost a child and held everything.
    pub held: u64,
    /// A node failed because nobody held what it lacked.
    pub missing: u64,
    /// Nobody knew how a node ended.
    pub unknown: u64,
    /// A node got false bytes, and went elsewhere.
    pub tainted: u64,
    /// A node said that those below it have more than they have.
    pub inflated: u64,
    /// A node was named as slow.
    pub slow: u64,
    /// Nothing reached a node.
    pub idle: u64,
    /// A node's connection came up from another address.
    pub readdressed: u64,
    /// A node was served after the others.
    pub later: u64,
    /// A node was OK in a session in which another one was lost.
    pub survived: u64,
}

impl Marks {
    /// Each counter by its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 15] {
        [
            ("rejoined", self.rejoined),
            ("suspected", self.suspected),
            ("returned", self.returned),
            ("rerouted", self.rerouted),
            ("replaced twice", self.replaced_twice),
            ("ahead", self.ahead),
            ("gone", self.gone),
            ("held", self.held),
            ("missing", self.missing),
            ("unknown", self.unknown),
            ("tainted", self.tainted),
            ("inflated", self.inflated),
            ("slow", self.slow),
            ("later", self.later),
            ("survived", self.survived),
        ]
    }

    /// These, and whatever can be read off `world` after its run.
    pub(super) fn of(mut self, world: &World) -> Self {
        for (_, event) in world.events() {
            match event {
                Event::Suspected { .. } => self.suspected += 1,
                Event::Returned { .. } => self.returned += 1,
                Event::Rerouted { from, .. } => {
                    let liar =
                        world.by_id.get(from).is_some_and(|h| world.hosts[*h as usize].taints_from.is_some());
                    self.rerouted += 1;
                    self.tainted += u64::from(liar);
                }
                Event::Slow { .. } => self.slow += 1,
                Event::Idle { .. } => self.idle += 1,
                Event::Resumed { .. } => self.later += 1,
                _ => {}
            }
        }
        self.readdressed += world.hosts.iter().map(|h| u64::from(h.moves)).sum::<u64>();
        for counters in world.hosts.iter().filter_map(|h| Some(h.node.as_ref()?.window().counters())) {
            self.held += counters.holds;
            self.replaced_twice += u64::from(counters.attaches > 2);
        }
        let (mut ok, mut lost) = (0, 0);
        for node in world.report.iter().flat_map(|r| &r.nodes) {
            match &node.outcome {
                Outcome::Ok => ok += 1,
                Outcome::Unknown => self.unknown += 1,
                Outcome::Failed(Reason::Missing(..), _) => self.missing += 1,
                Outcome::Failed(Reason::Lost(..), _) => lost += 1,
                Outcome::Failed(..) => {}
            }
        }
        self.survived += if lost > 0 { ok } else { 0 };
        self
    }
}

impl AddAssign for Marks {
    fn add_assign(&mut self, other: Self) {
        let Self { rejoined, suspected, returned, rerouted, replaced_twice, ahead, .. } = other;
        self.rejoined += rejoined;
        self.suspected += suspected;
        self.returned += returned;
        self.rerouted += rerouted;
        self.replaced_twice += replaced_twice;
        self.ahead += ahead;
        self.idle += other.idle;
        self.readdressed += other.readdressed;
        let Self { gone, held, missing, unknown, tainted, inflated, slow, survived, later, .. } = other;
        self.inflated += inflated;
        self.slow += slow;
        self.later += later;
        self.gone += gone;
        self.held += held;
        self.missing += missing;
        self.unknown += unknown;
        self.tainted += tainted;
        self.survived += survived;
    }
}
