//! One session served, from its opening to its last words, whatever its streams are.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka_core::console::exit::Exit;
use ka_core::console::meter::Total;
use ka_core::console::report::ReportFile;
use ka_core::console::reporter::{Line, Reporter};
use ka_core::console::run::{self, Moment};
use ka_core::console::{privileges, units};
use ka_core::net::{self, Control, ServeError, ServerConfig, ServerEvent, Stream};
use ka_core::proto::Report;
use ka_core::stream::Spool;
use ka_core::time::Instant;
use ka_desc::manifest::StreamKind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::config::{Config, Serving};
use super::control_socket::{self, Command};
use super::invite::{self, Start};
use super::json::{self, Event};
use super::keyboard::{KEY, Keyboard};
use super::report::{self, Told};
use super::status::Board;

/// Serves a session. `open` makes its streams, last of all that can fail before it is open; so nothing is left running.
pub async fn serve(
    serving: Arc<dyn Serving>,
    tell: &Reporter,
    open: impl FnOnce(&Reporter) -> io::Result<Vec<Stream>>,
) -> Exit {
    let config = serving.session();
    // From here on there are files that must not be left behind.
    let ready = run::Signals::hear().and_then(|signals| {
        let file = config.report.as_deref().map(ReportFile::open).transpose()?;
        Ok((signals, file))
    });
    let (signals, file) = match ready {
        Ok(ready) => ready,
        Err(e) => {
            tell.fail(&e.to_string(), Exit::NoStart);
            return Exit::NoStart;
        }
    };
    let (control, inbox) = Control::new();
    let watch = Arc::new(Mutex::new(Watch {
        tell: tell.clone(),
        board: Board::new(title(config), config.nodes),
        control,
        start: Start::default(),
        opened: None,
        stopped: None,
        serving: Arc::clone(&serving),
    }));
    let end = session(&watch, signals, inbox, open).await;
    lock(&watch).last_words(end, file)
}

/// The session in words, as each view of it has them.
fn title(config: &Config) -> String {
    config.title() + if config.keys.insecure { ", INSECURE" } else { "" }
}

/// The end of a session: with a report; or without a session, and why.
type End = Result<Report, (Exit, String)>;

async fn session(
    watch: &Arc<Mutex<Watch>>,
    signals: run::Signals,
    inbox: net::Inbox,
    open: impl FnOnce(&Reporter) -> io::Result<Vec<Stream>>,
) -> End {
    let (serving, tell) = {
        let watch = lock(watch);
        (Arc::clone(&watch.serving), watch.tell.clone())
    };
    let config = serving.session();
    let no_start = |e: io::Error| (Exit::NoStart, e.to_string());
    let _place = config
        .control_socket
        .as_deref()
        .map(|path| control_socket::open(path, obey(watch)))
        .transpose()
        .map_err(no_start)?;
    let key = Some(config.keys.server_key().map_err(|why| (Exit::NoStart, why.to_string()))?);
    if let Err(why) = allow_files(config.nodes) {
        tell.say(format!("warning: {why}"));
    }
    let spool = config.spool.as_deref().map(Spool::open).transpose().map_err(no_start)?;
    let streams = open(&tell).map_err(no_start)?;
    // Without it the session is started by other means, which are said.
    let here = config.session.as_ref().and_then(|name| control_socket::open_here(name, obey(watch)).ok());
    let keyboard = Keyboard::open(&tell, serving.reads_stdin());
    {
        let mut watch = lock(watch);
        watch.board.expect(
            streams
                .iter()
                .map(|s| Total::new(s.source.size(), StreamKind::is_estimate(&s.metadata)))
                .collect(),
        );
        watch.start = Start { key: keyboard.is_some(), local: here.is_some() };
    }
    if spool.is_some() && streams.iter().all(|stream| stream.source.again().is_some()) {
        tell.say("--spool is not needed: the source can be read again as it is");
    }
    let events = {
        let watch = Arc::clone(watch);
        move |event: ServerEvent| lock(&watch).take(&event)
    };
    let server = ServerConfig { spool, key, finish: serving.finish(), ..config.server() };
    let served = privileges::session(tell, move |threads| {
        net::serve(ServerConfig { threads, ..server }, streams, inbox, events)
    });
    let end = run::supervise(signals, served, |moment| match moment {
        Moment::Tick => lock(watch).tick(keyboard.as_ref().is_some_and(Keyboard::pressed)),
        Moment::Stop(who) => {
            lock(watch).stop(&format!("{who} on the server"), "; once more to leave at once");
        }
        Moment::Leave => {}
    });
    match end.await {
        Some(Ok(Ok(report))) => Ok(report),
        Some(Ok(Err(error))) => Err((exit_of(&error), error.to_string())),
        Some(Err(e)) => Err((Exit::NoStart, e.to_string())),
        None => Err((Exit::Interrupted, "interrupted twice, so nothing was waited for".into())),
    }
}

/// Files that are open beside the connections to so many nodes, with room for those who have not said who they are.
const FILES: u64 = 1024;

/// The least of them without which a session cannot go on.
const FILES_MIN: u64 = 24;

/// Raises this process's limit on open files to what so many nodes need. An error, in words, if they cannot all get in.
fn allow_files(nodes: u32) -> Result<(), String> {
    let nodes = u64::from(nodes);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = nodes + FILES;
    let Some(now) = current.filter(|now| *now < wanted) else { return Ok(()) };
    let may = maximum.map_or(wanted, |most| most.min(wanted)).max(now);
    let may = setrlimit(Resource::Nofile, Rlimit { current: Some(may), maximum }).map_or(now, |()| may);
    if may >= nodes + FILES_MIN {
        return Ok(());
    }
    let needed = nodes + FILES_MIN;
    Err(format!("this process may have {may} files open, and {nodes} nodes need {needed}: see `ulimit -n`"))
}

fn exit_of(error: &ServeError) -> Exit {
    match error {
        ServeError::Config(_) => Exit::Usage,
        ServeError::Rival(..) => Exit::Refused,
        _ => Exit::NoStart,
    }
}

/// Returns the handler of a socket's commands.
fn obey(watch: &Arc<Mutex<Watch>>) -> impl Fn(Command) -> Result<String, String> + Send + Sync + use<> {
    let watch = Arc::clone(watch);
    move |command| lock(&watch).obey(command)
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees the events, tells people and programs, and holds the remote control.
struct Watch {
    tell: Reporter,
    board: Board,
    control: Control,
    serving: Arc<dyn Serving>,
    start: Start,
    /// When the session was opened, since the program's start.
    opened: Option<Duration>,
    /// The origin of the stop, if the session was stopped here.
    stopped: Option<String>,
}

impl Watch {
    fn take(&mut self, event: &ServerEvent) {
        self.serving.hear(event);
        for json in Event::of(event, &*self.serving) {
            match json {
                Event::Progress { .. } => self.tell.passing(&json),
                _ => self.tell.event(&json),
            }
        }
        if let ServerEvent::Open { key, control_port, data_port, window_bytes, .. } = event {
            self.opened = Some(self.tell.elapsed());
            let data = (*data_port, *window_bytes);
            let lines = invite::lines(&*self.serving, key, *control_port, data, self.start);
            lines.into_iter().for_each(|line| self.tell.say(line));
        }
        if let Some(line) = self.board.take(event) {
            self.tell.line(line);
        }
    }

    /// Time passes; perhaps the key was `pressed` that starts the session.
    fn tick(&mut self, pressed: bool) {
        if pressed && !self.board.has_started() {
            match self.go() {
                Ok(nodes) => self.tell.say(format!("{KEY}: starting with {nodes}")),
                Err(why) => self.tell.say(format!("{KEY}: {why}")),
            }
        }
        if self.opened.is_none() {
            return;
        }
        let now = self.tell.elapsed();
        self.board.tick(now);
        let board = &self.board;
        let hint = if board.nodes() > 0 { invite::hint(self.start) } else { String::new() };
        self.tell.show(|size| board.frame(now, size, &hint), || board.line(now));
    }

    /// Starts with whoever is there: so many nodes.
    fn go(&self) -> Result<String, String> {
        if self.board.has_started() {
            return Err("the session has already started".into());
        }
        if self.board.nodes() == 0 {
            return Err("no node is waiting".into());
        }
        self.control.go();
        Ok(units::nodes(self.board.nodes()))
    }

    fn stop(&mut self, who: &str, hint: &str) {
        self.tell.say(format!("{who}: stopping{hint}"));
        self.board.stop();
        self.stopped.get_or_insert_with(|| who.into());
        self.control.stop(who);
    }

    /// Carries out a command of a socket, and returns the answer.
    fn obey(&mut self, command: Command) -> Result<String, String> {
        match command {
            Command::Rate(rate) => {
                let limit = rate.map_or("none".into(), units::rate);
                self.tell.line(Line::Say(format!("rate limit: {limit}")));
                self.control.set_rate(rate);
            }
            Command::Go => return self.go(),
            Command::Stop => self.stop("the control socket", ""),
            Command::Status => return Ok(self.board.line(self.tell.elapsed())),
        }
        Ok(String::new())
    }

    /// The table, the last event and the report; and with them the exit status.
    fn last_words(&self, end: End, file: Option<ReportFile>) -> Exit {
        let serving = &*self.serving;
        let (exit, error) = match &end {
            Ok(report) => (report::exit(report, self.stopped.is_some()), None),
            Err((exit, why)) => (*exit, Some(why.as_str())),
        };
        let json = match &end {
            Ok(report) => {
                let opened = self.opened.unwrap_or_default();
                json::Report::of(report, serving, exit, |at| self.tell.time_of(opened + at))
            }
            Err(_) => json::Report::without_session(serving, exit, error),
        };
        self.tell.clear();
        match &end {
            Ok(report) => {
                let moved = self.board.begun().zip(self.opened);
                let told = Told {
                    stopped: self.stopped.as_deref(),
                    begun: moved.map(|(begun, opened)| Instant::ZERO + begun.saturating_sub(opened)),
                    reason: &|node| self.board.has_told(node),
                };
                report::summary(report, serving, &told).into_iter().for_each(|line| self.tell.say(line));
                self.tell.event(&Event::Report(&json));
            }
            Err((_, why)) => self.tell.fail(why, exit),
        }
        match file.map(|file| file.write(&json)) {
            Some(Err(e)) => {
                self.tell.say(format!("{}: {e}", self.tell.program()));
                if exit == Exit::Fine { Exit::NoStart } else { exit }
            }
            _ => exit,
        }
    }
}
