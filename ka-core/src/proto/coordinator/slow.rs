//! Slow nodes: measured, named, moved to the end of the line, and in the end done without.
//!
//! A node whose sink or link does not keep up fills its window, then its parent's, and so on up to the source. At
//! the end of the line only windows before it fill, and nobody behind it waits. What happens once they are full
//! [`Slow`] decides.

use super::*;
use crate::proto::tempo::Tempo;
use crate::wire::control::Blocked;

/// What to do about a node that holds up all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slow {
    /// Wait for it, for ever.
    Wait,
    /// Go on without it if it is stuck, or far slower than it may be, for [`limits::BYPASS`].
    #[default]
    Bypass,
    /// The same after [`limits::STUCK`].
    Drop,
}

/// What is wrong with a node.
enum Trouble {
    /// Its sink takes nothing.
    Stuck(Duration),
    /// Its sink takes so much per second only.
    Sink(u64),
    /// So much per second comes over its link only.
    Link(u64),
    /// Nothing comes, though its parent has something for it.
    Idle(Duration),
}

impl Coordinator {
    /// Looks who holds up the others.
    pub(super) fn look_for_slow(&mut self, now: Instant) {
        let fastest = self.roster.nodes().filter_map(|m| m.tempo.received()).max().unwrap_or(0);
        self.fastest = self.fastest.max(fastest);
        let mut nodes = Vec::new();
        for m in self.roster.nodes_mut().filter(|m| m.outcome.is_none()) {
            // Who is not heard tells nothing of how fast it is.
            if m.suspicion.is_none() && m.heard + repair::HOLE >= now {
                nodes.push(m.node);
            } else {
                m.tempo = Tempo::new(now);
            }
        }
        for node in nodes {
            if self.behind(node) == Some(0)
                && let Some(m) = self.roster.get_mut(node)
            {
                m.tempo.up_to_date(now);
            }
            let trouble = self.trouble(now, node);
            let Some(m) = self.roster.get_mut(node) else { continue };
            let lasts = m.tempo.slow_for(now, trouble.is_some());
            let Some(trouble) = trouble else { continue };
            let sure = lasts >= limits::TEMPO || matches!(trouble, Trouble::Stuck(_) | Trouble::Idle(_));
            if sure && !core::mem::replace(&mut m.named, true) {
                let why = words(&trouble, self.fastest);
                self.event(Event::Slow { node, why });
                self.send_to_the_end(node);
            }
            self.do_without(now, node, &trouble, lasts);
        }
    }

    fn trouble(&self, now: Instant, node: NodeId) -> Option<Trouble> {
        let m = self.roster.get(node)?;
        let stuck = m.tempo.stuck(now);
        if stuck >= limits::STUCK {
            return Some(Trouble::Stuck(stuck));
        }
        let slow = |rate: u64| rate < self.fastest / 10 * 7;
        let (blocked, _) = m.tempo.blocked(now);
        if blocked == Blocked::Sink
            && let Some(rate) = m.tempo.sunk().filter(|r| slow(*r))
        {
            return Some(Trouble::Sink(rate));
        }
        // Its parent has far more than it has, though it has room.
        let parent = self.roster.get(m.parent?)?;
        let behind = self.behind(node)?;
        let waits = parent.progress.blocked == Blocked::Child(node) || behind >= limits::BEHIND_BYTES;
        if blocked != Blocked::No || m.complete {
            return None;
        }
        let idle = m.tempo.idle(now);
        if behind > 0 && idle >= limits::STUCK {
            return Some(Trouble::Idle(idle));
        }
        if waits && let Some(rate) = m.tempo.received().filter(|r| slow(*r)) {
            return Some(Trouble::Link(rate));
        }
        None
    }

    /// How many bytes its parent has more than it.
    pub(super) fn behind(&self, node: NodeId) -> Option<u64> {
        let m = self.roster.get(node)?;
        Some(self.roster.get(m.parent?)?.progress.received - m.progress.received)
    }

    /// Those below it get its parent; it goes where nobody is behind it.
    fn send_to_the_end(&mut self, node: NodeId) {
        let Some(m) = self.roster.get(node).filter(|m| !m.children.is_empty() && m.lacks()) else { return };
        if m.children.iter().all(|c| !self.unfinished(*c)) {
            return;
        }
        let (at, old) = (m.progress.received, m.parent);
        self.detach(&[node]);
        if let Some(parent) = self.holder(node, at, None).or(old) {
            self.move_to(node, parent);
            if let Some(old) = old.filter(|old| *old != parent) {
                self.hold_for(node, old);
            }
        }
    }

    fn do_without(&mut self, now: Instant, node: NodeId, trouble: &Trouble, lasts: Duration) {
        let patience = match self.config.slow {
            Slow::Wait => return,
            Slow::Bypass => limits::BYPASS,
            Slow::Drop => limits::STUCK,
        };
        let Some(m) = self.roster.get(node) else { return };
        let least = self.config.min_rate.unwrap_or(self.fastest / 4);
        let (blocked, full_for) = m.tempo.blocked(now);
        let parent_waits = m.parent.and_then(|p| self.roster.get(p)).is_some_and(|p| {
            let (blocked, lasts) = p.tempo.blocked(now);
            blocked == Blocked::Child(node) && lasts >= patience
        });
        let reason = match *trouble {
            // With everything here nobody else is held up, but the session must end some day.
            Trouble::Stuck(lasts)
                if lasts >= patience
                    && (m.complete || (blocked == Blocked::Sink && full_for >= patience)) =>
            {
                Reason::Sink(words(trouble, self.fastest))
            }
            Trouble::Sink(rate) if rate < least && lasts >= patience && full_for >= patience => {
                Reason::Slow(words(trouble, self.fastest))
            }
            Trouble::Link(rate) if rate < least && lasts >= patience && parent_waits => {
                Reason::Slow(words(trouble, self.fastest))
            }
            // Who sent false bytes is not waited for.
            Trouble::Idle(lasts) if lasts >= patience || m.barred => {
                Reason::Slow(words(trouble, self.fastest))
            }
            _ => return,
        };
        let at = m.progress.received;
        self.fail(now, node, reason, at);
    }
}

fn words(trouble: &Trouble, fastest: u64) -> String {
    let mib = |rate: u64| rate as f64 / f64::from(1 << 20);
    match trouble {
        Trouble::Stuck(lasts) => format!("its sink has taken nothing for {} s", lasts.as_secs()),
        Trouble::Idle(lasts) => format!("nothing has reached it for {} s", lasts.as_secs()),
        Trouble::Sink(rate) => {
            format!("its sink takes {:.1} MiB/s, where others got {:.1}", mib(*rate), mib(fastest))
        }
        Trouble::Link(rate) => {
            format!("its link carries {:.1} MiB/s, where others got {:.1}", mib(*rate), mib(fastest))
        }
    }
}
