//! Every timer of both machines, one sentence each. Their delays are in [`limits`](crate::limits).

use crate::time::Instant;

/// The events that a machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Timer {
    /// Node and coordinator: say that you live.
    Beat,
    /// Node: has the coordinator said so? Coordinator: who has not?
    Silence,
    /// Node: has the parent sent anything?
    ParentSilence,
    /// Node: let the children know that you live, and hear the parent out.
    Live,
    /// Node: dial the parent again.
    Redial,
    /// Node: dial the coordinator again.
    Rejoin,
    /// Node: it has been without the coordinator for too long.
    CutOff,
    /// Node: tell the parent what was not worth a message yet.
    Tell,
    /// Node: tell the coordinator what is held. Coordinator: tell the nodes what is safe.
    Ack,
    /// Node: a consumer stalls; give the parent more room.
    Room,
    /// Node: has a child been waiting too long for a view that names it?
    Offer,
    /// Root: the rate limit lets more through now.
    RateLimit,
    /// Coordinator: the time to start with fewer nodes has come.
    StartAfter,
    /// Coordinator: let the next waiting node go.
    Release,
}

const TIMERS: usize = Timer::Release as usize + 1;

/// When each timer is due.
#[derive(Clone, Debug, Default)]
pub struct Timers([Option<Instant>; TIMERS]);

impl Timers {
    /// Sets `timer` to go off at `when`, whatever it was set to before.
    pub fn set(&mut self, timer: Timer, when: Instant) {
        self.0[timer as usize] = Some(when);
    }

    /// Sets `timer` unless it is set already.
    pub fn start(&mut self, timer: Timer, when: Instant) {
        self.0[timer as usize].get_or_insert(when);
    }

    /// Stops `timer`.
    pub fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// Whether `timer` is due; if so it is stopped.
    pub fn due(&mut self, timer: Timer, now: Instant) -> bool {
        self.0[timer as usize].take_if(|t| *t <= now).is_some()
    }

    /// When `timer` is due.
    #[must_use]
    pub fn when(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}
