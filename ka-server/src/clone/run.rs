//! One run: look, plan, show, serve; and nothing of it is left at the end.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka_core::console::exit::Exit;
use ka_core::console::reporter::{Line, Tell};
use ka_core::console::run::{self, block_on};
use ka_core::net::ServerEvent;
use ka_core::proto::coordinator::Slow;
use ka_core::types::NodeId;
use ka_desc::boot::pieces;
use ka_desc::machine::Machine;
use ka_desc::manifest::{OWN, Plan, Raw};
use ka_desc::run::{Here, Runner};
use rustix::time::{ClockId, clock_gettime};

use super::PROGRAM;
use super::cli::Options;
use super::files::{Files, Slot, mounts};
use super::gate::{Gate, Shared};
use super::logs::Logs;
use super::nodes::Nodes;
use super::raw::{Range, check};
use super::streams::{From, streams};
use crate::golden::awake::{Awake, Timers};
use crate::golden::busy::busy;
use crate::golden::choice::Choice;
use crate::golden::facts::{Golden, Mount};
use crate::golden::look::{Looked, Source, look};
use crate::golden::plan::{Planned, plan};
use crate::golden::private::{Private, RUN};
use crate::golden::show;
use crate::golden::still::{places, tidy};
use crate::golden::weigh::compressed;
use crate::invite::Words;
use crate::keys::{Place, Sent, is_exposed};
use crate::serve::serve;
use crate::session::{Serving, SessionArgs};

/// Where the nodes' logs are kept unless another place is given.
const LOGS: &str = "/var/log/ka";

/// How long the files may be weighed, for nothing but to show how far they are.
const WEIGHING: Duration = Duration::from_secs(10);

/// How wide a picture is.
const WIDTH: usize = 80;

/// Runs what the command line says. It must be called before there is a second thread.
#[must_use]
pub fn run(mut options: Options) -> Exit {
    let place = Place::own();
    let own = options.session.key.or_place(&place);
    // That needs no golden node.
    if let Some(path) = &options.session.key.make_key {
        let made = options.session.key.make(path);
        let exit = if made.is_ok() { Exit::Fine } else { Exit::NoStart };
        let _ = writeln!(io::stderr(), "{PROGRAM}: {}", made.unwrap_or_else(|why| why));
        return exit;
    }
    match ready(&options) {
        Ok((private, looked, planned)) if options.dry_run => {
            let exit = show(&options, &looked.golden, &planned, &mut io::stdout());
            drop((looked, private));
            exit
        }
        Ok((private, looked, planned)) => {
            show(&options, &looked.golden, &planned, &mut io::stderr());
            if own {
                if let Err(why) = place.ready() {
                    return run::no_start(PROGRAM, &io::Error::other(why));
                }
                let key = place.key();
                let _ = writeln!(
                    io::stderr(),
                    "the nodes' key is in {}; ka-d rescue puts it into boot entries",
                    key.display()
                );
            }
            block_on(PROGRAM, clone(options, private, looked, planned))
        }
        Err(problems) => {
            let mut out = io::stderr();
            for problem in &problems {
                let _ = writeln!(out, "{PROGRAM}: {problem}");
            }
            Exit::NoStart
        }
    }
}

/// Everything that can be known before a session is open.
fn ready(options: &Options) -> Result<(Private, Looked, Planned), Vec<String>> {
    let one = |why: String| vec![why];
    // First of all: threads that are there already would stay outside.
    let private = Private::enter().map_err(one)?;
    // What a killed run has stopped is started again, whatever comes now.
    Timers::restore(Box::new(Here), Path::new(RUN)).map_err(one)?;
    let machine = Machine::default();
    let source = match (&options.root, &options.image) {
        (Some(dir), _) => Source::Tree(dir),
        (_, Some(file)) => Source::Image(file, &private),
        _ => Source::Running,
    };
    let looked = look(&machine, &mut Here, source, pieces).map_err(one)?;
    let now_s = u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or_default();
    let choice = Choice::read(&options.typed(now_s), &looked.golden);
    let planned = plan(&looked.golden, &choice)?;
    keeps_to_itself(options, &looked.golden, &planned).map_err(one)?;
    if !Here.has("tar") {
        return Err(one("there is no tar to pack the files with: install it (Debian's package tar)".into()));
    }
    for range in raw(&looked.golden, &planned.plan) {
        check(&range).map_err(|e| one(format!("-D: {e}")))?;
    }
    let cloned = mounts(&looked.golden, &planned);
    // Better now than when all nodes have formatted their disks.
    places(&private, &cloned).map_err(one)?;
    Ok((private, looked, planned))
}

/// Whether clones get nothing of what is only this session's.
fn keeps_to_itself(options: &Options, golden: &Golden, planned: &Planned) -> Result<(), String> {
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
    if let Some(path) = options.session.key.secrets().find(exposed) {
        return Err(format!(
            "{} is on a file system that is cloned, and every clone would have this server's secrets: keep it on another \
             one, such as /run, or leave its directory out with -x",
            path.display()
        ));
    }
    // One in a directory has no name there.
    match options.session.spool.as_ref().filter(|path| !path.is_dir() && exposed(path)) {
        Some(path) => Err(format!(
            "--spool {}: it is on a file system that is cloned, and would be packed into itself: name a directory, or a \
             file on another one, or leave its directory out with -x",
            path.display()
        )),
        None => Ok(()),
    }
}

fn show(options: &Options, golden: &Golden, planned: &Planned, out: &mut dyn Write) -> Exit {
    let busy = busy(&Machine::default(), &mounts(golden, planned), &planned.excluded);
    let text = if options.dry_run && options.session.tell.json {
        show::json(golden, planned, &busy) + "\n"
    } else {
        show::text(golden, planned, &busy, WIDTH)
    };
    if out.write_all(text.as_bytes()).is_ok() { Exit::Fine } else { Exit::NoStart }
}

async fn clone(options: Options, private: Private, looked: Looked, planned: Planned) -> Exit {
    let tell = match Tell::new(PROGRAM, options.session.tell.json) {
        Ok(tell) => tell,
        Err(e) => return run::no_start(PROGRAM, &e),
    };
    let held = options.is_live().then(|| {
        tidy(&private, &mounts(&looked.golden, &planned));
        hold(&tell)
    });
    let limit = (options.session.config().slow != Slow::Wait).then_some(options.format_timeout);
    let clock = tell.clone();
    let gate = Shared::new(Gate::new(limit), move || clock.elapsed());
    let folder = options.log_dir.clone().unwrap_or_else(|| LOGS.into());
    let logs = fs::create_dir_all(&folder).and_then(|()| Logs::start());
    let logs = logs.map(|logs| (logs, folder.clone())).map_err(|e| {
        tell.say(format!("warning: the nodes' logs are not kept: {}: {e}", folder.display()));
    });
    let logs = logs.ok();
    let cloning = Cloning { options, gate: gate.clone(), nodes: Arc::default(), logs };
    let raw = raw(&looked.golden, &planned.plan);
    let (begun, clock) = (tell.elapsed(), tell.clone());
    let patient = move || clock.elapsed() < begun + WEIGHING;
    let files_bytes =
        planned.plan.files.bytes + compressed(&mounts(&looked.golden, &planned), &planned.excluded, &patient);
    let nodes = Arc::clone(&cloning.nodes);
    let (quiesce, resume) = (cloning.options.quiesce.clone(), cloning.options.resume.clone());
    let still = Slot::default();
    let slot = Arc::clone(&still);
    let exit = serve(Arc::new(cloning), &tell, move |tell| {
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
        let from = From { plan: planned.plan, boot: planned.boot, raw, files, files_bytes, nodes };
        Ok(streams(from, gate, move |text| voice.line(Line::Say(text))))
    })
    .await;
    // The thread that packs may be left behind; what it holds is not.
    let left = still.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Err(why)) = left.map(|(still, ..)| still.release()) {
        tell.say(format!("warning: {why}"));
    }
    drop(held);
    tell.finish();
    exit
}

/// Keeps the golden node from sleeping, and its package managers from waking, until this is dropped.
fn hold(tell: &Tell) -> (Option<Awake>, Option<Timers>) {
    let warn = |why: String| tell.say(format!("warning: {why}"));
    let awake = Awake::hold().map_err(warn).ok();
    let timers = Timers::stop(Box::new(Here), Path::new(RUN)).map_err(warn).ok().flatten();
    (awake, timers)
}

/// Where the bytes of the raw partitions are.
fn raw(golden: &Golden, plan: &Plan) -> Vec<Range> {
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
    options: Options,
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
    fn session(&self) -> &SessionArgs {
        &self.options.session
    }

    fn source(&self) -> (&'static str, Option<String>) {
        self.options.source()
    }

    fn invite(&self, words: &Words) -> String {
        let Words { options, kernel } = words;
        format!("on each node: boot what `ka-d rescue` makes, with {kernel}; or run ka-d-install {options}")
    }

    fn again(&self, nodes: u32) -> String {
        self.options.again(nodes)
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
        Some(self.options.finish_timeout)
    }

    fn remarks(&self, node: NodeId) -> Vec<String> {
        self.nodes().remarks(node)
    }

    fn epilogue(&self) -> Vec<String> {
        self.nodes().epilogue()
    }
}
