//! The counts of rare things in a run: the proof that storms reach them.

use core::ops::AddAssign;

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
