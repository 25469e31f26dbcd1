//! Plans of faults: by hand, from a seed, or from a property test that shrinks them.

use alloc::vec::Vec;

use super::fault::Fault;
use super::lie::{LIES, Lie};
use super::rng::Rng;
use super::world::World;
use crate::time::Duration;

/// A small world and what goes wrong in it. Smaller numbers are simpler worlds, so that a property test can shrink it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed of whatever is left to chance.
    pub seed: u64,
    /// Nodes behind the server.
    pub nodes: usize,
    /// Children per node.
    pub fan_out: u32,
    /// Bytes of the stream.
    pub bytes: u64,
    /// Bytes of every window.
    pub window: u64,
    /// Bytes per second of the source.
    pub source_rate: Option<u64>,
    /// Bytes per second of every sink.
    pub sink_rate: Option<u64>,
    /// Whether the source can be read again.
    pub reread: bool,
    /// The time over which the nodes join, one here and one there.
    pub gathering: Duration,
    /// The faults of the run.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// The plan of this seed: up to 12 nodes and up to 5 faults while they join and the stream flows.
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
            window: [1 << 20, 2 << 20, 8 << 20, 64 << 20][rng.below(4) as usize],
            source_rate: [None, Some(20_000_000), Some(4_000_000)][rng.below(3) as usize],
            sink_rate: [None, Some(60_000_000), Some(300_000_000)][rng.below(3) as usize],
            reread: seed.is_multiple_of(3),
            gathering: Duration::ZERO,
            faults: Vec::new(),
        };
        for _ in 0..rng.below(6) {
            plan.faults.push(plan.any_fault(&mut rng));
        }
        if plan.reread && rng.below(4) == 0 {
            plan.faults.push(Fault::RereadFails { at: Duration::from_micros(rng.below(10_000_000)) });
        }
        if rng.below(4) == 0 {
            let node = 1 + rng.below(nodes as u64) as usize;
            let (offset, at) = (rng.below(bytes + 1), Duration::from_micros(rng.below(5_000_000)));
            plan.faults.push(
                [Fault::Withhold { node, offset }, Fault::Lie { node, at, lie: Lie::Accuse }]
                    [rng.below(2) as usize],
            );
        }
        if rng.below(3) == 0 {
            let node = 1 + rng.below(nodes as u64) as usize;
            let span = [2_000, 5_000_000][rng.below(2) as usize];
            let at = Duration::from_micros(rng.below(span));
            let lie = [Lie::Inflate, Lie::Deflate, Lie::Understate][rng.below(6).saturating_sub(3) as usize];
            plan.faults.push(Fault::Lie { node, at, lie });
            // It lies, and then those whom it lied about need what others were not to keep.
            if rng.below(2) == 0 {
                plan.faults.push(Fault::Kill { node, at: at + Duration::from_micros(rng.below(5_000_000)) });
            }
        }
        plan
    }

    /// The plan of this seed under other people's conditions: the nodes gather for up to some minutes, links are slow to
    /// come up, large packets are lost, addresses change or are shared, and nodes are started anew.
    #[must_use]
    pub fn elsewhere(seed: u64) -> Self {
        let mut rng = Rng::new(!seed);
        let gathering = Duration::from_millis([0, 3_000, 40_000, 360_000][rng.below(4) as usize]);
        let mut plan = Self::from_seed(seed);
        plan.faults.truncate(rng.below(4) as usize);
        for _ in 0..1 + rng.below(4) {
            let node = 1 + rng.below(plan.nodes as u64) as usize;
            let span = [2_000, 5_000_000, 20_000_000][rng.below(3) as usize];
            let longest = [2_500, 30_000, 600_000][rng.below(3) as usize];
            let at = Duration::from_micros(rng.below(span));
            let lasts = Duration::from_millis(rng.below(longest));
            plan.faults.push(match rng.below(6) {
                0 | 1 => Fault::Hole { node, at, lasts },
                2 => Fault::LateLink { node, lasts: lasts.min(Duration::from_millis(2500)) },
                3 => Fault::Readdress { node, at },
                4 => Fault::Shared { node },
                _ => Fault::Restart { node, at, after: lasts },
            });
        }
        // Some go wrong while the nodes gather, most after it.
        let faults = core::mem::take(&mut plan.faults).into_iter();
        plan.faults = faults.map(|f| if rng.below(5) > 0 { f.delayed(gathering) } else { f }).collect();
        Self { gathering, ..plan }
    }

    /// A plan of this seed in which faults come for `until` and then stop, one or two each second, and some nodes
    /// are spared: they must be OK, and soon.
    #[must_use]
    pub fn lively(seed: u64, until: Duration) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = 4 + rng.below(12) as usize;
        let rate = 2_000_000;
        let mut plan = Self {
            seed,
            nodes,
            fan_out: 1 + rng.below(2) as u32,
            bytes: rate * until.as_secs(),
            window: [2 << 20, 16 << 20, 128 << 20][rng.below(3) as usize],
            source_rate: Some(rate),
            sink_rate: None,
            reread: seed.is_multiple_of(3),
            gathering: Duration::ZERO,
            faults: Vec::new(),
        };
        let mut at = Duration::from_millis(rng.below(1000));
        while at < until {
            let node = 1 + rng.below(nodes as u64) as usize;
            let longest = (until - at).min(Duration::from_secs(8)).as_millis() as u64;
            let lasts = Duration::from_millis(rng.below(longest + 1));
            plan.faults.push(match rng.below(8) {
                0 => Fault::Kill { node, at },
                1 => Fault::Freeze { node, at },
                2 => Fault::Pause { node, at, lasts },
                3 => Fault::Cut { node, at, lasts },
                4 => Fault::Cut { node: 0, at, lasts },
                5 => Fault::Deaf { node, at, lasts },
                6 => Fault::CutMany { first: node, last: (node + 2).min(nodes), at, lasts },
                _ => Fault::Reset { node, at },
            });
            at += Duration::from_millis(300 + rng.below(2500));
        }
        plan
    }

    /// A plan of this seed for a session of `lasts` in which nothing goes wrong but what healthy machines survive: every
    /// few minutes each of them has a disk that stalls for ten seconds or a link that is away for two, to the end.
    ///
    /// A window must hold what passes until such a link is up again: it holds eight seconds of the stream at least.
    #[must_use]
    pub fn healthy(seed: u64, lasts: Duration) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = 20 + rng.below(81) as usize;
        let rate = 1_000_000;
        let mut plan = Self {
            seed,
            nodes,
            fan_out: 1 + rng.below(3) as u32,
            bytes: rate * lasts.as_secs(),
            window: [8 << 20, 64 << 20][rng.below(2) as usize],
            source_rate: Some(rate),
            sink_rate: [None, Some(20_000_000)][rng.below(2) as usize],
            reread: false,
            gathering: Duration::ZERO,
            faults: Vec::new(),
        };
        for node in 1..=nodes {
            // Everybody is in by then.
            let mut at = Duration::from_millis(1000 + rng.below(240_000));
            while at < lasts + Duration::from_secs(5) {
                plan.faults.push(match rng.below(2) {
                    0 => Fault::SinkStalls { node, at, lasts: Duration::from_secs(10) },
                    _ => Fault::Cut { node, at, lasts: Duration::from_secs(2) },
                });
                at += Duration::from_millis(20_000 + rng.below(220_000));
            }
        }
        plan
    }

    /// A plan of this seed with up to three liars, which tell several lies each and are often neighbours, and few other
    /// faults: all others must be OK.
    #[must_use]
    pub fn hostile(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x11a7);
        let nodes = 2 + rng.below(11) as usize;
        let rate = [4_000_000, 20_000_000][rng.below(2) as usize];
        let mut plan = Self {
            seed,
            nodes,
            fan_out: 1 + rng.below(3) as u32,
            bytes: rate * 4,
            window: [1 << 20, 2 << 20, 8 << 20, 64 << 20][rng.below(4) as usize],
            source_rate: Some(rate),
            sink_rate: None,
            reread: seed.is_multiple_of(4),
            gathering: Duration::ZERO,
            faults: Vec::new(),
        };
        let first = 1 + rng.below(nodes as u64) as usize;
        let neighbours = rng.below(2) == 0;
        for liar in 0..1 + rng.below(3) as usize {
            let next = if neighbours { first + liar } else { 1 + rng.below(nodes as u64) as usize };
            let node = next.min(nodes);
            for _ in 0..1 + rng.below(3) {
                let (at, offset) = (Duration::from_micros(rng.below(5_000_000)), rng.below(plan.bytes));
                plan.faults.push(match rng.below(LIES.len() as u64 + 3) as usize {
                    0 => Fault::Taint { node, offset },
                    1 | 2 => Fault::Withhold { node, offset },
                    lie => Fault::Lie { node, at, lie: LIES[lie - 3] },
                });
            }
            if rng.below(4) == 0 {
                plan.faults.push(Fault::Kill { node, at: Duration::from_micros(rng.below(10_000_000)) });
            }
        }
        for _ in 0..rng.below(5).saturating_sub(2) {
            let fault = plan.any_fault(&mut rng);
            let ends =
                matches!(fault, Fault::SourceFails { .. } | Fault::StopAll { .. } | Fault::SinkFails { .. });
            plan.faults.extend(Some(fault).filter(|_| !ends));
        }
        plan
    }

    fn any_fault(&self, rng: &mut Rng) -> Fault {
        let node = 1 + rng.below(self.nodes as u64) as usize;
        // Many happen while the nodes join and link up, which takes about a millisecond.
        let span = [2_000, 500_000, 5_000_000][rng.below(3) as usize];
        let at = Duration::from_micros(rng.below(span));
        let offset = rng.below(self.bytes + 1);
        let longest = [500, 3_000, 12_000, 60_000][rng.below(4) as usize];
        let lasts = Duration::from_millis(rng.below(longest));
        match rng.below(17) {
            0 | 1 => Fault::Kill { node, at },
            2 => Fault::Freeze { node, at },
            3 => Fault::Stop { node, at },
            4 => Fault::Taint { node, offset },
            5 => Fault::SinkFails { node, offset },
            6 => Fault::SinkStalls { node, at, lasts: lasts.min(Duration::from_secs(3)) },
            7 | 8 => Fault::Pause { node, at, lasts },
            9 | 10 => Fault::Cut { node, at, lasts },
            11 => Fault::Cut { node: 0, at, lasts },
            12 => {
                let last = node + rng.below((self.nodes - node + 1) as u64) as usize;
                Fault::CutMany { first: node, last, at, lasts }
            }
            13 => Fault::Deaf { node, at, lasts },
            14 => Fault::Reset { node, at },
            15 => [Fault::Isolate, Fault::Restart { node, at, after: lasts }][rng.below(2) as usize],
            _ => [Fault::SourceFails { offset }, Fault::StopAll { at }][rng.below(2) as usize],
        }
    }

    /// The world of this plan. Its gate also opens after a second, for nodes may be lost before it does.
    #[must_use]
    pub fn world(&self) -> World {
        let mut world = World::tree(self.nodes, self.fan_out)
            .stream(self.bytes)
            .window(self.window)
            .start_after(self.gathering + Duration::from_secs(1), 0)
            .jitter(Duration::from_micros(400))
            .seed(self.seed);
        if self.reread {
            world = world.rereadable();
        }
        if !self.gathering.is_zero() {
            let mut rng = Rng::new(self.seed);
            let micros = self.gathering.as_micros() as u64;
            world =
                (1..=self.nodes).fold(world, |w, n| w.joins_at(n, Duration::from_micros(rng.below(micros))));
        }
        if let Some(rate) = self.source_rate {
            world = world.source_rate(rate);
        }
        if let Some(rate) = self.sink_rate {
            world = (1..=self.nodes).fold(world, |w, n| w.sink_rate(n, rate));
        }
        self.faults.iter().fold(world, |w, f| w.with(*f))
    }
}
