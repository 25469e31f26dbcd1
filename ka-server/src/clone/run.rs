//! One run: look, plan, show, serve; and nothing of it is left at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka_core::console::exit::Exit;
use ka_core::console::reporter::{Line, Reporter};
use ka_core::net::ServerEvent;
use ka_core::proto::coordinator::Slow;
use ka_core::types::NodeId;
use ka_desc::boot::pieces;
use ka_desc::error::Error;
use ka_desc::machine::Machine;
use ka_desc::manifest::{Manifest, OWN, Raw};
use ka_desc::run::{Here, Runner};

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
use crate::serve::{self, Serving, Words, serve};

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

/// Serves the clones of a golden node that is ready.
pub async fn clone(config: Config, ready: Ready, tell: &Reporter) -> Exit {
    let Ready { private, looked, planned } = ready;
    let held = (config.system == System::Running).then(|| {
        tidy(&private, &mounts(&looked.golden, &planned));
        hold(tell)
    });
    let limit = (config.session.slow != Slow::Wait).then_some(config.format_timeout);
    let clock = tell.clone();
    let gate = Shared::new(Gate::new(limit), move || clock.elapsed());
    let folder = config.log_dir.clone().unwrap_or_else(|| LOGS.into());
    let logs = fs::create_dir_all(&folder).and_then(|()| Logs::start());
    let logs = logs.map(|logs| (logs, folder.clone())).map_err(|e| {
        tell.say(format!("warning: the nodes' logs are not kept: {}: {e}", folder.display()));
    });
    let logs = logs.ok();
    let cloning = Cloning { config, gate: gate.clone(), nodes: Arc::default(), logs };
    let raw = raw(&looked.golden, &planned.plan);
    let (begun, clock) = (tell.elapsed(), tell.clone());
    let patient = move || clock.elapsed() < begun + WEIGHING;
    let files_bytes =
        planned.plan.files.bytes + compressed(&mounts(&looked.golden, &planned), &planned.excluded, &patient);
    let nodes = Arc::clone(&cloning.nodes);
    let (quiesce, resume) = (cloning.config.quiesce.clone(), cloning.config.resume.clone());
    let still = Slot::default();
    let slot = Arc::clone(&still);
    let exit = serve(Arc::new(cloning), tell, move |tell| {
        let voice = tell.clone();
        let files = Files {
            private,
            looked,
            planned: planned.clone(),
            quiesce,
            resume,
            slot,
            nodes: Arc::clone(&nodes),
        };
        let from = StreamSources { plan: planned.plan, boot: planned.boot, raw, files, files_bytes, nodes };
        Ok(streams(from, gate, move |text| voice.line(Line::Say(text))))
    })
    .await;
    // The thread that packs may be left behind; what it holds is not.
    let left = still.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Err(why)) = left.map(|(still, ..)| still.release()) {
        tell.say(format!("warning: {why}"));
    }
    drop(held);
    exit
}

/// Keeps the golden node from sleeping, and its package managers from waking, until this is dropped.
fn hold(tell: &Reporter) -> (Option<Awake>, Option<Timers>) {
    let warn = |why: Error| tell.say(format!("warning: {why}"));
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

/// A clone as it is served.
struct Cloning {
    config: Config,
    gate: Shared,
    nodes: Arc<Mutex<Nodes>>,
    logs: Option<(Logs, PathBuf)>,
}

impl Cloning {
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving for Cloning {
    fn session(&self) -> &serve::Config {
        &self.config.session
    }

    fn source(&self) -> (&'static str, Option<String>) {
        match &self.config.system {
            System::Running => ("system", None),
            System::Tree(dir) => ("tree", Some(dir.display().to_string())),
            System::Image(file) => ("image", Some(file.display().to_string())),
        }
    }

    fn invite(&self, words: &Words) -> String {
        let Words { options, kernel } = words;
        format!("on each node: boot what `ka-d rescue` makes, with {kernel}; or run ka-d-install {options}")
    }

    fn again(&self, nodes: u32) -> String {
        (self.config.again)(nodes)
    }

    fn hear(&self, event: &ServerEvent) {
        match event {
            ServerEvent::Open { session, .. } => {
                if let Some((logs, folder)) = &self.logs {
                    self.nodes().keep_logs(logs.clone(), folder.join(session.to_string()));
                }
            }
            ServerEvent::Session(event) => {
                self.gate.hear(event);
                self.nodes().hear(event);
            }
            _ => {}
        }
    }

    fn finish(&self) -> Option<Duration> {
        Some(self.config.finish_timeout)
    }

    fn remarks(&self, node: NodeId) -> Vec<String> {
        self.nodes().remarks(node)
    }

    fn epilogue(&self) -> Vec<String> {
        self.nodes().epilogue()
    }
}
