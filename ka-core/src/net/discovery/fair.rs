//! Which questions are answered when there are more than can be: those of searches that have had the fewest answers.
//! Pure.
//!
//! Who overhears a question can send it again, as often as it likes and from any address; it cannot make one with another
//! public key. So answers are counted for each public key, and the last ones of each second are kept for keys that have
//! had few.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

/// Answers, words to strangers, and questions passed on, of each at most so many per second: three hundred nodes that
/// start at once ask three times each, and a flood costs no more than this.
pub(super) const ANSWERS_PER_SECOND: u32 = 1000;

/// Of these, so many may go to public keys that have had [`FEW`] in this second, or have asked for [`SECONDS`] …
const TO_MANY: u32 = ANSWERS_PER_SECOND / 2;

/// … and so many to those that have had one in this second.
const TO_SOME: u32 = ANSWERS_PER_SECOND * 3 / 4;

/// Answers in a second that a search may need: it asks by several ways at once.
const FEW: u16 = 8;

/// Seconds of answers after which a search should have heard one.
const SECONDS: u16 = 10;

/// Public keys that are remembered, of two generations each.
const REMEMBERED: usize = 16_384;

/// So many a second, and the rest are dropped: an asker asks again.
pub(super) struct Budget {
    pub(super) left: u32,
    pub(super) renewed: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: ANSWERS_PER_SECOND, renewed: now }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.renew(now);
        let some_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some_left
    }

    /// Whether a new second has begun.
    fn renew(&mut self, now: Instant) -> bool {
        let new = now.saturating_duration_since(self.renewed) >= Duration::from_secs(1);
        if new {
            *self = Self::new(now);
        }
        new
    }
}

/// Answers to those who have the session's key.
pub(super) struct Fair {
    pub(super) budget: Budget,
    /// The number of this second.
    second: u64,
    young: BTreeMap<[u8; 32], Asker>,
    old: BTreeMap<[u8; 32], Asker>,
}

/// What a public key has had.
#[derive(Clone, Copy, Default)]
struct Asker {
    second: u64,
    in_second: u16,
    seconds: u16,
}

impl Fair {
    pub(super) fn new(now: Instant) -> Self {
        Self { budget: Budget::new(now), second: 0, young: BTreeMap::new(), old: BTreeMap::new() }
    }

    /// Whether a question with this public key is answered.
    pub(super) fn take(&mut self, now: Instant, public: &[u8; 32]) -> bool {
        self.second += u64::from(self.budget.renew(now));
        let asker = self.young.get(public).or_else(|| self.old.get(public)).copied().unwrap_or_default();
        let in_second = if asker.second == self.second { asker.in_second } else { 0 };
        let used = ANSWERS_PER_SECOND - self.budget.left;
        let most = match (in_second, asker.seconds) {
            (FEW.., _) | (_, SECONDS..) => TO_MANY,
            (1.., _) => TO_SOME,
            _ => ANSWERS_PER_SECOND,
        };
        if used >= most {
            return false;
        }
        self.budget.left -= 1;
        let seconds = asker.seconds.saturating_add(u16::from(in_second == 0));
        if self.young.len() >= REMEMBERED && !self.young.contains_key(public) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young
            .insert(*public, Asker { second: self.second, in_second: in_second.saturating_add(1), seconds });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(n: u32) -> [u8; 32] {
        let mut public = [0; 32];
        public[..4].copy_from_slice(&n.to_le_bytes());
        public
    }

    fn taken(fair: &mut Fair, now: Instant, askers: impl IntoIterator<Item = u32>) -> usize {
        askers.into_iter().filter(|n| fair.take(now, &public(*n))).count()
    }

    #[test]
    fn a_second_has_so_many_answers() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let given = (0..3 * ANSWERS_PER_SECOND).filter(|_| budget.take(now)).count();
        assert_eq!(given, ANSWERS_PER_SECOND as usize);
        assert!(budget.take(now + Duration::from_secs(1)));
        let mut fair = Fair::new(now);
        assert_eq!(taken(&mut fair, now, 0..3 * ANSWERS_PER_SECOND), ANSWERS_PER_SECOND as usize);
    }

    #[test]
    fn questions_that_are_said_again_leave_answers_to_others() {
        let now = Instant::now();
        let mut fair = Fair::new(now);
        for second in 0..30 {
            let now = now + Duration::from_secs(second);
            // Ten that were overheard, then three hundred nodes that are switched on.
            assert!(taken(&mut fair, now, (0..100_000).map(|n| n % 10)) <= TO_MANY as usize + 10);
            let fresh = 1000 * (1 + second as u32);
            assert_eq!(taken(&mut fair, now, fresh..fresh + 300), 300, "second {second}");
        }
    }

    #[test]
    fn many_questions_that_were_recorded_are_worn_out_after_seconds() {
        let now = Instant::now();
        let mut fair = Fair::new(now);
        let served = |fair: &mut Fair, second: u64| {
            let now = now + Duration::from_secs(second);
            taken(fair, now, (0..100_000).map(|n| n % 1000));
            taken(fair, now, [10_000 + second as u32])
        };
        let first: usize = (0..20).map(|second| served(&mut fair, second)).sum();
        assert!(first >= 10, "{first}");
        assert_eq!((20..60).map(|second| served(&mut fair, second)).sum::<usize>(), 40);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let begun = Instant::now();
        let mut fair = Fair::new(begun);
        for n in 0..200_000 {
            fair.take(begun + Duration::from_millis(u64::from(n)), &public(n));
        }
        assert!(fair.young.len() <= REMEMBERED && fair.old.len() <= REMEMBERED);
    }

    #[test]
    fn a_node_that_asks_by_many_ways_for_long_is_answered_each_time() {
        let now = Instant::now();
        let mut fair = Fair::new(now);
        for second in 0..300 {
            assert_eq!(taken(&mut fair, now + Duration::from_secs(second), [1; 40]), 40);
        }
    }
}
