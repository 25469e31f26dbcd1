//! What goes wrong, and plans of it: by hand, from a seed, or from a property test that shrinks them.

use alloc::vec::Vec;

use super::World;
use super::rng::Rng;
use crate::time::Duration;

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
    /// Somebody presses Ctrl-C there.
    Stop {
        /// Where.
        node: usize,
        /// When.
        at: Duration,
    },
    /// It forwards a bad block instead of the first that begins at this offset or behind.
    Taint {
        /// Who.
        node: usize,
        /// From where on.
        offset: u64,
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
        /// How long.
        lasts: Duration,
    },
    /// The source gives this many bytes and then an error.
    SourceFails {
        /// How many.
        offset: u64,
    },
    /// The admin stops the session.
    StopAll {
        /// When.
        at: Duration,
    },
}

impl Fault {
    /// When it happens, if a time and not an offset makes it happen.
    #[must_use]
    pub fn at(&self) -> Option<Duration> {
        match self {
            Self::Kill { at, .. }
            | Self::Freeze { at, .. }
            | Self::Stop { at, .. }
            | Self::SinkStalls { at, .. }
            | Self::StopAll { at } => Some(*at),
            Self::Taint { .. } | Self::SinkFails { .. } | Self::SourceFails { .. } => None,
        }
    }

    /// When it is over: the time from which on the world may be expected to come to its end.
    #[must_use]
    pub fn over(&self) -> Duration {
        match self {
            Self::SinkStalls { at, lasts, .. } => *at + *lasts,
            other => other.at().unwrap_or_default(),
        }
    }
}

/// A small world and what goes wrong in it. Smaller numbers are simpler worlds, so that a property test can shrink it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed of the control messages' jitter.
    pub seed: u64,
    /// Nodes behind the server.
    pub nodes: usize,
    /// Children per node.
    pub fan_out: u32,
    /// Bytes of the stream.
    pub bytes: u64,
    /// Bytes per second of every sink.
    pub sink_rate: Option<u64>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// The plan of this seed: up to 12 nodes and up to 4 faults in the first half second of the stream.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = 1 + rng.below(12) as usize;
        let bytes = [0, 1, 3 << 20, 24 << 20][rng.below(4) as usize] + rng.below(1 << 20);
        let mut plan = Self {
            seed,
            nodes,
            fan_out: 1 + rng.below(3) as u32,
            bytes,
            sink_rate: [None, Some(60_000_000), Some(300_000_000)][rng.below(3) as usize],
            faults: Vec::new(),
        };
        for _ in 0..rng.below(5) {
            plan.faults.push(plan.any_fault(&mut rng));
        }
        plan
    }

    fn any_fault(&self, rng: &mut Rng) -> Fault {
        let node = 1 + rng.below(self.nodes as u64) as usize;
        // Many happen while the nodes join and link up, which takes about a millisecond.
        let span = [2_000, 500_000][rng.below(2) as usize];
        let at = Duration::from_micros(rng.below(span));
        let offset = rng.below(self.bytes + 1);
        match rng.below(8) {
            0 => Fault::Kill { node, at },
            1 => Fault::Freeze { node, at },
            2 => Fault::Stop { node, at },
            3 => Fault::Taint { node, offset },
            4 => Fault::SinkFails { node, offset },
            5 => Fault::SinkStalls { node, at, lasts: Duration::from_millis(rng.below(3000)) },
            6 => Fault::SourceFails { offset },
            _ => Fault::StopAll { at },
        }
    }

    /// The world of this plan. Its gate also opens after a second, for nodes may be lost before it does.
    #[must_use]
    pub fn world(&self) -> World {
        let mut world = World::tree(self.nodes, self.fan_out)
            .stream(self.bytes)
            .window(2 << 20)
            .start_after(Duration::from_secs(1), 0)
            .jitter(Duration::from_micros(400))
            .seed(self.seed);
        if let Some(rate) = self.sink_rate {
            world = (1..=self.nodes).fold(world, |w, n| w.sink_rate(n, rate));
        }
        self.faults.iter().fold(world, |w, f| w.with(*f))
    }
}
