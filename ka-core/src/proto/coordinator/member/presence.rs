//! Whether a node is heard.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::limits;
use crate::time::{Duration, Instant};

/// A node that is not heard for so long has missed a beat.
pub(crate) const HOLE: Duration = Duration::from_millis(
    (2 * limits::PROGRESS_INTERVAL.as_millis() + limits::SILENCE_CHECK_INTERVAL.as_millis()) as u64,
);

/// The longest pause between two messages of a node that counts as its usual one: twice as much is silence.
const GAP_MAX: Duration = Duration::from_millis(1500);

/// A longer pause than usual is forgotten over so many messages: about twenty seconds' worth.
const GAP_DECAY: u32 = 128;

/// Whether a node is heard.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    suspicion: Option<Suspicion>,
    /// Times it was suspected, one soon after another, and when it was last.
    flaps: (u32, Instant),
    /// When its connection closed; `None` while it has one.
    gone: Option<Instant>,
    pub(super) heard: Instant,
    /// The longest pause between two messages, lately.
    gap: Duration,
    /// Notes since then.
    notes: (u32, Instant),
    /// The state of the node's application, and whether the one at the server was told.
    state: (Vec<u8>, bool),
}

/// Why a node has no place for now.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    since: Instant,
    /// Since when the node is heard again.
    back: Option<Instant>,
    cause: Cause,
}

/// The reason why the coordinator suspects a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing was heard from it.
    Silent,
    /// Its connection ended: how, in words.
    Gone(String),
}

impl Presence {
    /// A node that has just come.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            suspicion: None,
            flaps: (0, now),
            gone: None,
            heard: now,
            gap: limits::PROGRESS_INTERVAL,
            notes: (0, now),
            state: (Vec::new(), true),
        }
    }

    /// Notes that the node was heard.
    pub(crate) fn heard(&mut self, now: Instant) {
        // A busy host says what it has to say late now and then. That is forgotten slowly; a long silence is an outage, and
        // tells nothing of the next one.
        let gap = now.since(self.heard).min(GAP_MAX);
        self.gap = gap.max(self.gap - self.gap / GAP_DECAY);
        self.heard = now;
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.back.get_or_insert(now);
        }
    }

    /// When the node was last heard.
    pub(crate) fn last_heard(&self) -> Instant {
        self.heard
    }

    /// Counts the node as heard at `when`, if that is later than when it was.
    pub(crate) fn heard_at_least(&mut self, when: Instant) {
        self.heard = self.heard.max(when);
    }

    /// Whether the node has missed no beat.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.heard + HOLE >= now
    }

    /// Whether the node has been silent for longer than is usual for it.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.heard + limits::SUSPECT_AFTER.max(2 * self.gap) <= now
    }

    /// Notes that the node's connection closed, or that it has one again.
    pub(crate) fn set_gone(&mut self, gone: Option<Instant>) {
        self.gone = gone;
    }

    /// When the node's connection closed.
    pub(crate) fn gone(&self) -> Option<Instant> {
        self.gone
    }

    /// Suspects the node, and says why, in words.
    pub(crate) fn suspect(&mut self, now: Instant, cause: &Cause) -> String {
        let why = self.words(now, cause);
        let soon = now.since(self.flaps.1) < limits::RETURN_DELAY_MAX;
        self.flaps = (if soon { self.flaps.0 + 1 } else { 1 }, now);
        self.suspicion = Some(Suspicion { since: now, back: None, cause: cause.clone() });
        why
    }

    /// Whether the node is suspected.
    pub(crate) fn is_suspected(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Since when the node is suspected.
    pub(crate) fn suspected_since(&self) -> Option<Instant> {
        Some(self.suspicion.as_ref()?.since)
    }

    /// Since when a suspected node is heard again.
    pub(crate) fn back(&self) -> Option<Instant> {
        self.suspicion.as_ref()?.back
    }

    /// The reason why the node is suspected now, in words.
    pub(crate) fn suspected_of(&self, now: Instant) -> Option<String> {
        self.suspicion.as_ref().map(|suspicion| self.words(now, &suspicion.cause))
    }

    /// Takes the suspicion away; whether there was one.
    pub(crate) fn trust(&mut self) -> bool {
        self.suspicion.take().is_some()
    }

    /// Starts the wait of a suspected node anew unless it is heard without a gap.
    pub(crate) fn watch_return(&mut self, now: Instant) {
        let fresh = self.is_fresh(now);
        if let Some(suspicion) = self.suspicion.as_mut().filter(|_| !fresh) {
            suspicion.back = None;
        }
    }

    /// Whether a node that is heard again comes and goes, and must be heard for longer before it gets a place.
    pub(crate) fn is_flapping(&self, now: Instant, back: Instant) -> bool {
        let delay = limits::RETURN_DELAY * (1 << (self.flaps.0.saturating_sub(1)).min(7)) / 2;
        self.flaps.0 > 1 && now < back + delay.min(limits::RETURN_DELAY_MAX)
    }

    /// Whether one more note may pass.
    pub(crate) fn may_note(&mut self, now: Instant) -> bool {
        if now.since(self.notes.1) >= Duration::from_secs(1) {
            self.notes = (0, now);
        }
        let may = self.notes.0 < limits::NOTES_PER_SECOND;
        self.notes.0 += u32::from(may);
        may
    }

    /// Notes the state of the node's application.
    pub(crate) fn set_state(&mut self, state: Vec<u8>) {
        if self.state.0 != state {
            self.state = (state, false);
        }
    }

    /// The state of the node's application, if that is another one than the application at the server was told last. A node
    /// that sends too many has the last of them passed on, a moment later.
    pub(crate) fn take_state(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.state.1 || !self.may_note(now) {
            return None;
        }
        self.state.1 = true;
        Some(self.state.0.clone())
    }

    /// The cause in words: silence is still going on.
    fn words(&self, now: Instant, cause: &Cause) -> String {
        let silent = now.since(self.heard);
        match cause {
            Cause::Gone(why) => why.clone(),
            Cause::Silent if silent < Duration::from_secs(2) => {
                format!("it has said nothing for {} ms", silent.as_millis())
            }
            Cause::Silent => format!("it has said nothing for {} s", silent.as_secs()),
        }
    }
}
