//! The faults of a run, one at a time; [`plan`](super::plan) puts them together.

use super::lie::Lie;
use super::path::Cut;
use crate::limits;
use crate::time::{Duration, Instant};

/// One thing that goes wrong. `node` is a host's number, 1 the first behind the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed; the kernel resets its connections.
    Kill {
        /// Whose.
        node: usize,
        /// When.
        at: Duration,
    },
    /// The whole machine stands still: nobody is told, no connection is reset.
    Freeze {
        /// Which.
        node: usize,
        /// When.
        at: Duration,
    },
    /// The process stands still for a while (SIGSTOP, SIGCONT; a machine that stalls): what arrives waits, timers go
    /// off late, and the kernel goes on accepting connections. 0 is the server.
    Pause {
        /// Which.
        node: usize,
        /// From when on.
        at: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// Its cable is out, both ways: what is sent arrives once it is in again. 0 is the server's cable.
    Cut {
        /// Whose.
        node: usize,
        /// From when on.
        at: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// A switch's cable is out: these hosts reach each other, and nobody else does.
    CutMany {
        /// The first host behind the switch.
        first: usize,
        /// The last one.
        last: usize,
        /// From when on.
        at: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// Nothing arrives there, but what it sends arrives.
    Deaf {
        /// The host.
        node: usize,
        /// From when on.
        at: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// The switch lets no node reach another one, only the server (port isolation).
    Isolate,
    /// The link to its parent is reset; both live.
    Reset {
        /// Whose.
        node: usize,
        /// When.
        at: Duration,
    },
    /// Small packets reach it, large ones do not (a port or a cable with another MTU): links to a parent come up, and carry
    /// nothing.
    Hole {
        /// Whom they do not reach.
        node: usize,
        /// From when on.
        at: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// Its first link takes long to come up, because its machine is busy.
    LateLink {
        /// Whose.
        node: usize,
        /// The time it takes.
        lasts: Duration,
    },
    /// Its network gives it another address: what it had open is silent from then on, and nobody reaches it where it was.
    Readdress {
        /// Whose.
        node: usize,
        /// When.
        at: Duration,
    },
    /// The host is behind an address that it shares with all others of which this is so, and nobody can dial it there.
    Shared {
        /// Which.
        node: usize,
    },
    /// The process is killed, and after a while somebody starts it anew: another incarnation, and another host here.
    Restart {
        /// Whose.
        node: usize,
        /// When it is killed.
        at: Duration,
        /// The time until it is there again.
        after: Duration,
    },
    /// Somebody presses Ctrl-C there.
    Stop {
        /// The host.
        node: usize,
        /// When.
        at: Duration,
    },
    /// The host forwards a bad block instead of the first that begins at this offset or behind.
    Taint {
        /// The host.
        node: usize,
        /// From where on.
        offset: u64,
    },
    /// The host has the key, and lies: it sends nothing of what begins at this offset or behind to those below it, but
    /// reports that it lives, and what it has.
    Withhold {
        /// The host.
        node: usize,
        /// From where on.
        offset: u64,
    },
    /// The host has the key, and tells a lie from then on.
    Lie {
        /// The host.
        node: usize,
        /// From when on.
        at: Duration,
        /// The lie.
        lie: Lie,
    },
    /// Its sink takes no byte beyond this offset.
    SinkFails {
        /// Whose.
        node: usize,
        /// From where on.
        offset: u64,
    },
    /// Its sink takes nothing for a while.
    SinkStalls {
        /// Whose.
        node: usize,
        /// From when on.
        at: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// The source gives this many bytes and then an error.
    SourceFails {
        /// The number of bytes.
        offset: u64,
    },
    /// The source cannot be read again any more: it has changed, or its spool is full.
    RereadFails {
        /// When.
        at: Duration,
    },
    /// The admin stops the session.
    StopAll {
        /// When.
        at: Duration,
    },
}

/// The time to bypass a liar that slows others: it gets another parent after a while, and is bypassed after the next.
const FOUND_OUT: Duration = Duration::from_secs(3 * limits::BYPASS_AFTER.as_secs());

/// The time for which a host with a new address is not heard: until it finds its connection silent and has a new one.
pub(super) const READDRESSED: Duration = Duration::from_secs(3);

impl Fault {
    /// When it happens, if a time and not an offset makes it happen.
    #[must_use]
    pub fn at(&self) -> Option<Duration> {
        let mut fault = *self;
        fault.at_mut().copied()
    }

    /// The same fault, so much later.
    #[must_use]
    pub fn delayed(mut self, by: Duration) -> Self {
        if let Some(at) = self.at_mut() {
            *at += by;
        }
        self
    }

    fn at_mut(&mut self) -> Option<&mut Duration> {
        match self {
            Self::Kill { at, .. }
            | Self::Freeze { at, .. }
            | Self::Pause { at, .. }
            | Self::Cut { at, .. }
            | Self::CutMany { at, .. }
            | Self::Deaf { at, .. }
            | Self::Reset { at, .. }
            | Self::Hole { at, .. }
            | Self::Readdress { at, .. }
            | Self::Lie { at, .. }
            | Self::Restart { at, .. }
            | Self::Stop { at, .. }
            | Self::SinkStalls { at, .. }
            | Self::RereadFails { at }
            | Self::StopAll { at } => Some(at),
            Self::LateLink { .. }
            | Self::Shared { .. }
            | Self::Taint { .. }
            | Self::Withhold { .. }
            | Self::SinkFails { .. }
            | Self::SourceFails { .. }
            | Self::Isolate => None,
        }
    }

    /// When it is over: the time from which on the world may be expected to come to its end.
    #[must_use]
    pub fn over(&self) -> Duration {
        let lasts = match self {
            Self::SinkStalls { lasts, .. } | Self::LateLink { lasts, .. } => *lasts,
            // Longer than this nobody waits for who is behind one.
            Self::Hole { lasts, .. } => (*lasts).min(3 * limits::ARRIVAL_TIMEOUT),
            Self::Readdress { .. } => READDRESSED,
            Self::Restart { after, .. } => *after,
            Self::Lie { lie: Lie::Trickle | Lie::Conceal | Lie::Babble, .. } => {
                FOUND_OUT + limits::FINISH_TIMEOUT
            }
            Self::Lie { .. } | Self::Withhold { .. } => FOUND_OUT,
            other => other.silence().map_or(Duration::ZERO, |(.., lasts)| lasts),
        };
        self.at().unwrap_or_default() + lasts
    }

    /// Whom it silences for how long: the first host, the last one, and the time.
    #[must_use]
    pub fn silence(&self) -> Option<(usize, usize, Duration)> {
        match *self {
            Self::Pause { node, lasts, .. }
            | Self::Cut { node, lasts, .. }
            | Self::Deaf { node, lasts, .. } => Some((node, node, lasts)),
            Self::CutMany { first, last, lasts, .. } => Some((first, last, lasts)),
            _ => None,
        }
    }

    /// Which paths it cuts.
    pub(super) fn cut(&self) -> Option<Cut> {
        let ((first, last, lasts), at) = (self.silence()?, self.at()?);
        let deaf = match self {
            Self::Pause { .. } => return None,
            other => matches!(other, Self::Deaf { .. }),
        };
        let from = Instant::ZERO + at;
        Some(Cut { first: first as u32, last: last as u32, from, to: from + lasts, deaf })
    }
}
