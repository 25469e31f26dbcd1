//! One run: look, plan, show, serve; and nothing of it is left at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka_core::net::{Inbox, ServerEvent};
use ka_core::proto::coordinator::Slow;
use ka_core::proto::{self, NodeReport};
use ka_core::stream::ours;
use ka_core::types::NodeId;
use ka_desc::boot::pieces;
use ka_desc::error::Error;
use ka_desc::machine::Machine;
use ka_desc::manifest::{Manifest, OWN, Raw};
use ka_desc::run::{Here, Runner};
use tokio::time::Instant;

use super::barrier::{Gate, Shared};
use super::config::{Config, System};
use super::files::{Files, Slot, mounts};
use super::logs::Logs;
use super::nodes::Nodes;
use super::raw::{Range, check};
use super::streams::{StreamSources, streams};
use crate::golden::facts::{Golden, Mount};
use crate::golden::freeze::inhibit::{Awake, Timers};
use crate::golden::freeze::tree::{places, tidy};
use crate::golden::inspect::look::{Looked, Source, look};
use crate::golden::inspect::open_files::busy;
use crate::golden::inspect::usage::compressed;
use crate::golden::plan::choice::Choice;
use crate::golden::plan::make::{Planned, plan};
use crate::golden::plan::show;
use crate::golden::private::{Private, RUN};
use crate::keys::{Sent, is_exposed};
use crate::serve::{Progress, serve};

/// The directory of the nodes' logs unless another one is given.
const LOGS: &str = "/var/log/ka";

/// The longest time for weighing the files, which serves for nothing but to show the progress.
const WEIGHING: Duration = Duration::from_secs(10);

/// The width of a picture, in columns.
const WIDTH: usize = 80;

/// A golden node that is ready to be cloned.
pub struct Ready {
    private: Private,
    looked: Looked,
    planned: Planned,
}

/// Looks at the golden node: everything that can be known before a session is open. It must be called before there is a
/// second thread.
///
/// # Errors
/// Everything that is wrong, as sentences.
pub fn ready(config: &Config) -> Result<Ready, Vec<Error>> {
    let one = |why: Error| vec![why];
    // First of all: threads that are there already would stay outside.
    let private = Private::enter().map_err(one)?;
    // What a killed run has stopped is started again, whatever comes now.
    Timers::restore(Box::new(Here), Path::new(RUN)).map_err(one)?;
    let machine = Machine::default();
    let source = match &config.system {
        System::Tree(dir) => Source::Tree(dir),
        System::Image(file) => Source::Image(file, &private),
        System::Running => Source::Running,
    };
    let looked = look(&machine, &mut Here, source, pieces).map_err(one)?;
    let choice = Choice::read(&config.typed, &looked.golden);
    let planned = plan(&looked.golden, &choice)?;
    keeps_to_itself(config, &looked.golden, &planned).map_err(one)?;
    if !Here.has("tar") {
        return Err(one("there is no tar to pack the files with: install it (Debian's package tar)".into()));
    }
    for range in raw(&looked.golden, &planned.plan) {
        check(&range).map_err(|e| one(format!("-D: {e}").into()))?;
    }
    let cloned = mounts(&looked.golden, &planned);
    // Better now than when all nodes have formatted their disks.
    places(&private, &cloned).map_err(one)?;
    Ok(Ready { private, looked, planned })
}

/// Whether clones get nothing of what is only this session's.
fn keeps_to_itself(config: &Config, golden: &Golden, planned: &Planned) -> Result<(), Error> {
    let files =
        mounts(golden, planned).into_iter().map(|mount| Sent { here: &mount.here, at: Some(&mount.at) });
    let is_raw = |mount: &&Mount| {
        mount.part().is_some_and(|part| planned.plan.raw.iter().any(|raw| raw.part == *part))
    };
    let blocks = golden.mounts.iter().filter(is_raw).map(|mount| Sent { here: &mount.here, at: None });
    let sent: Vec<Sent<'_>> = files.chain(blocks).collect();
    let left_out: Vec<&Path> =
        planned.excluded.iter().map(PathBuf::as_path).chain([Path::new(OWN)]).collect();
    let exposed = |path: &PathBuf| is_exposed(path, &sent, &left_out);
    if let Some(path) = config.session.keys.secrets().find(exposed) {
        return Err(format!(
            "{} is on a file system that is cloned, and every clone would have this server's secrets: keep it on another \
             one, such as /run, or leave its directory out with -x",
            path.display()
        ).into());
    }
    // One in a directory has no name there.
    match config.session.spool.as_ref().filter(|path| !path.is_dir() && exposed(path)) {
        Some(path) => Err(format!(
            "--spool {}: it is on a file system that is cloned, and would be packed into itself: name a directory, or a \
             file on another one, or leave its directory out with -x",
            path.display()
        ).into()),
        None => Ok(()),
    }
}

impl Ready {
    /// Returns what the clones become, for people; with `json`, for programs.
    #[must_use]
    pub fn show(&self, json: bool) -> String {
        let (golden, planned) = (&self.looked.golden, &self.planned);
        let busy = busy(&Machine::default(), &mounts(golden, planned), &planned.excluded);
        if json {
            show::json(golden, planned, &busy) + "\n"
        } else {
            show::text(golden, planned, &busy, WIDTH)
        }
    }
}

/// Serves the clones of a golden node that is ready. `inbox` and `progress` are as for [`serve`](fn@serve).
///
/// Dropping the future gives the session up; whatever the golden node's files are held by is released.
///
/// # Errors
/// As for [`serve`](fn@serve).
pub async fn clone(
    config: Config,
    ready: Ready,
    inbox: Inbox,
    progress: impl Fn(Progress<'_>) + Send + Sync + 'static,
) -> Result<Report, Error> {
    let cloning = Cloning::new();
    let session = cloning.run(config, ready, inbox, progress).await?;
    let of = |node: &NodeReport| (node.node, cloning.remarks(node.node));
    let nodes = session.nodes.iter().map(of).collect();
    Ok(Report { nodes, remarks: cloning.epilogue(), session })
}

/// The outcome of a session that makes clones.
#[derive(Debug)]
pub struct Report {
    /// The outcome of the session, and of each node.
    pub session: proto::Report,
    /// Remarks on each node, in words: the stage at which one failed, the warnings of one that is a clone.
    pub nodes: BTreeMap<NodeId, Vec<String>>,
    /// Remarks on all of them, in words: how still the files were, what clones have otherwise on purpose.
    pub remarks: Vec<String>,
}

/// A session that makes clones, and what its nodes say of themselves.
#[derive(Clone, Default)]
pub struct Cloning {
    nodes: Arc<Mutex<Nodes>>,
}

impl Cloning {
    /// One that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves the clones, as [`clone`](fn@clone).
    ///
    /// # Errors
    /// As for [`serve`](fn@serve).
    pub async fn run(
        &self,
        config: Config,
        ready: Ready,
        inbox: Inbox,
        progress: impl Fn(Progress<'_>) + Send + Sync + 'static,
    ) -> Result<proto::Report, Error> {
        let tell: Arc<dyn Fn(Progress<'_>) + Send + Sync> = Arc::new(progress);
        let voice = Arc::clone(&tell);
        let say = move |text: String| voice(Progress::Remark(&text));
        let Ready { private, looked, planned } = ready;
        let _held = (config.system == System::Running).then(|| {
            tidy(&private, &mounts(&looked.golden, &planned));
            hold(&say)
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "it says how long nodes have formatted, and decides nothing else"
        )]
        let begun = Instant::now();
        let limit = (config.session.slow != Slow::Wait).then_some(config.format_timeout);
        let gate = Shared::new(Gate::new(limit), move || begun.elapsed());
        let logs = logs(&config, &say);
        let raw = raw(&looked.golden, &planned.plan);
        let patient = move || begun.elapsed() < WEIGHING;
        let packed = compressed(&mounts(&looked.golden, &planned), &planned.excluded, &patient);
        let files_bytes = planned.plan.files.bytes + packed;
        let slot = Slot::default();
        // The thread that packs may be left behind; what it holds is not.
        let _release = Release { slot: Arc::clone(&slot), say: Box::new(say.clone()) };
        let nodes = Arc::clone(&self.nodes);
        let files = Files {
            private,
            looked,
            planned: planned.clone(),
            quiesce: config.quiesce,
            resume: config.resume,
            slot,
            nodes: Arc::clone(&nodes),
        };
        let heard = Heard { gate: gate.clone(), nodes: Arc::clone(&nodes), logs, say: Box::new(say.clone()) };
        let from = StreamSources { plan: planned.plan, boot: planned.boot, raw, files, files_bytes, nodes };
        let progress = move |progress: Progress<'_>| {
            if let Progress::Session(event) = &progress {
                heard.take(event);
            }
            tell(progress);
        };
        serve(&config.session, || Ok(streams(from, gate, say)), inbox, progress).await
    }

    /// Remarks on a node, in words: the stage at which it failed, the warnings of one that is a clone.
    #[must_use]
    pub fn remarks(&self, node: NodeId) -> Vec<String> {
        lock(&self.nodes).remarks(node)
    }

    /// Why the number of nodes may not be that of machines, in words: nodes claim to have one network card.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        lock(&self.nodes).doubt()
    }

    /// Remarks on all nodes, for the end of the session.
    #[must_use]
    pub fn epilogue(&self) -> Vec<String> {
        lock(&self.nodes).epilogue()
    }
}

/// What listens to the session, besides the caller.
struct Heard {
    gate: Shared,
    nodes: Arc<Mutex<Nodes>>,
    logs: Option<(Logs, PathBuf)>,
    say: Box<dyn Fn(String) + Send + Sync>,
}

impl Heard {
    fn take(&self, event: &ServerEvent) {
        match event {
            ServerEvent::Open { session, .. } => {
                if let Some((logs, folder)) = &self.logs {
                    lock(&self.nodes).keep_logs(logs.clone(), folder.join(session.to_string()));
                }
            }
            ServerEvent::Session(event) => {
                self.gate.hear(event);
                let worry = lock(&self.nodes).hear(event);
                worry.into_iter().for_each(|text| (self.say)(format!("warning: {text}")));
            }
            _ => {}
        }
    }
}

fn lock(nodes: &Mutex<Nodes>) -> MutexGuard<'_, Nodes> {
    nodes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Releases, at the end, what holds the golden node's files still.
struct Release {
    slot: Slot,
    say: Box<dyn Fn(String) + Send>,
}

impl Drop for Release {
    fn drop(&mut self) {
        let left = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(why)) = left.map(|(still, ..)| still.release()) {
            (self.say)(format!("warning: {why}"));
        }
    }
}

/// The writer of the nodes' logs, and their folder.
fn logs(config: &Config, say: &dyn Fn(String)) -> Option<(Logs, PathBuf)> {
    let folder = config.log_dir.clone().unwrap_or_else(|| LOGS.into());
    let made = fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()));
    let ours = made.and_then(|()| ours::check_directory(&folder).map_err(|e| e.to_string()));
    match ours.and_then(|()| Logs::start().map_err(|e| e.to_string())) {
        Ok(logs) => Some((logs, folder)),
        Err(why) => {
            say(format!("warning: the nodes' logs are not kept: {why}"));
            None
        }
    }
}

/// Keeps the golden node from sleeping, and its package managers from waking, until this is dropped.
fn hold(say: &dyn Fn(String)) -> (Option<Awake>, Option<Timers>) {
    let warn = |why: Error| say(format!("warning: {why}"));
    let awake = Awake::hold().map_err(warn).ok();
    let timers = Timers::stop(Box::new(Here), Path::new(RUN)).map_err(warn).ok().flatten();
    (awake, timers)
}

/// Returns the ranges of the raw partitions' bytes.
fn raw(golden: &Golden, plan: &Manifest) -> Vec<Range> {
    let range = |raw: &Raw| {
        let disk = golden.disk(&raw.part.disk)?;
        let found = golden.partition(&raw.part)?;
        let at = found.start * u64::from(disk.geometry.sector_bytes);
        let sector_bytes = disk.geometry.sector_bytes;
        Some(Range { path: disk.path.clone(), at, bytes: raw.bytes, sector_bytes })
    };
    plan.raw.iter().filter_map(range).collect()
}
