//! What an exploration has found, and how it is told.

use super::*;

/// What a search has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) states: usize,
    pub(crate) gaps: Sightings,
    pub(crate) deadlocks: Sightings,
}

/// How often one flaw was met.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    pub(crate) count: usize,
    pub(crate) shortest: Option<Trace>,
}

/// The steps from the start to a flaw. The search goes breadth first, so none of them is superfluous.
#[derive(Debug)]
pub(crate) struct Trace(pub(crate) Vec<Step>);

impl Findings {
    pub(crate) fn of(&self, flaw: Flaw) -> &Sightings {
        match flaw {
            Flaw::Gap => &self.gaps,
            Flaw::Deadlock => &self.deadlocks,
        }
    }
}

impl Sightings {
    /// One more; the first one is one of the shortest.
    pub(crate) fn add(&mut self, trace: impl FnOnce() -> Trace) {
        self.count += 1;
        self.shortest.get_or_insert_with(trace);
    }
}

impl Trace {
    /// The way to a visited state, and perhaps one step further.
    pub(crate) fn to(visits: &[Visit], mut at: usize, last: Option<Step>) -> Self {
        let mut steps: Vec<_> = last.into_iter().collect();
        while let Some(step) = visits[at].by {
            steps.push(step);
            at = visits[at].from;
        }
        steps.reverse();
        Self(steps)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states", self.states)?;
        for (name, sightings) in [("gaps", &self.gaps), ("deadlocks", &self.deadlocks)] {
            write!(f, ", {} {name}", sightings.count)?;
        }
        for (name, sightings) in [("gap", &self.gaps), ("deadlock", &self.deadlocks)] {
            if let Some(trace) = &sightings.shortest {
                write!(f, "\nthe shortest way to a {name}:{trace}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, step)| write!(f, "\n{:4}. {step}", i + 1))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Produce => write!(f, "the source gives a block to the server"),
            Self::Receive { node, parent } => write!(f, "node {node} receives a block from {}", name(parent)),
            Self::Publish { node, parent, watermarks } => {
                write!(f, "node {node} tells {} its watermarks: {}", name(parent), list(&watermarks))
            }
            Self::MissParent { node, parent } => write!(f, "node {node} misses its parent, {}", name(parent)),
            Self::MissChild { node, parent } => write!(f, "{} misses its child, node {node}", name(parent)),
            Self::Bury { node } => write!(f, "the coordinator notices that node {node} crashed"),
            Self::Attach { node, parent, watermarks } => {
                write!(
                    f,
                    "node {node} attaches to {} with the watermarks {}",
                    name(parent),
                    list(&watermarks)
                )
            }
            Self::MeetGap { node, parent } => {
                write!(f, "GAP: {} has forgotten what node {node} lacks, which fails", name(parent))
            }
            Self::EndHolding { place } => write!(f, "a view tells {} that nobody is to come", name(place)),
            Self::Leave { node } => write!(f, "node {node} leaves"),
            Self::Crash { node } => write!(f, "FAULT: node {node} crashes"),
            Self::SuspectParent { node, parent } => {
                write!(f, "FAULT: node {node} gives up its parent, {}", name(parent))
            }
            Self::SuspectChild { node, parent } => {
                write!(f, "FAULT: {} gives up its child, node {node}", name(parent))
            }
        }
    }
}

pub(crate) fn name(place: usize) -> String {
    if place == SERVER { "the server".to_owned() } else { format!("node {place}") }
}

/// Watermarks for people: a depth without anybody is a dash.
pub(crate) fn list(watermarks: &Watermarks) -> String {
    watermarks.map(|floor| if floor == NOBODY { "-".to_owned() } else { floor.to_string() }).join(" ")
}

// ---- all rules ----
