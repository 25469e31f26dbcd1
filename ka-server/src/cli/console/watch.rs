//! One session served at the console, from its opening to its last words, whatever its streams are.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka_core::console::exit::Exit;
use ka_core::console::meter::Total;
use ka_core::console::report::ReportFile;
use ka_core::console::reporter::{Line, Reporter};
use ka_core::console::run::{self, Moment};
use ka_core::console::units;
use ka_core::net::{Control, Inbox, ServeError, ServerEvent, Stream};
use ka_core::proto::Report;
use ka_core::time::Instant;
use ka_desc::error::Error;
use ka_desc::manifest::StreamKind;

use super::control_socket::{self, Command};
use super::invite::{self, Start};
use super::json::{self, Event};
use super::keyboard::{KEY, Keyboard};
use super::limit::Limit;
use super::report;
use super::serving::Serving;
use super::status::Board;
use crate::serve::{Config, Progress};

/// Takes in what happens in the session, and shows it.
#[derive(Clone)]
pub struct Told(Arc<Mutex<Watch>>);

impl Told {
    /// Something happened.
    pub fn take(&self, progress: &Progress<'_>) {
        let mut watch = lock(&self.0);
        match progress {
            Progress::Streams(streams) => watch.board.expect(streams.iter().map(total).collect()),
            Progress::Session(event) => watch.take(event),
            Progress::Remark(text) => watch.tell.say((*text).to_owned()),
        }
    }
}

/// The size of a stream, as far as it is known beforehand.
fn total(stream: &Stream) -> Total {
    Total::new(stream.source.size(), StreamKind::is_estimate(&stream.metadata))
}

/// Serves a session at the console. `begin` returns its future; it gets the session's inbox, and what is to be told of
/// its progress.
pub async fn serve<S>(
    serving: Arc<dyn Serving>,
    tell: &Reporter,
    begin: impl FnOnce(Inbox, Told) -> S,
) -> Exit
where
    S: Future<Output = Result<Report, Error>>,
{
    let config = serving.session();
    // From here on there are files that must not be left behind.
    let ready = run::Signals::hear().and_then(|signals| {
        let file = serving.outlets().report.as_deref().map(ReportFile::open).transpose()?;
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
        limit: Limit::default(),
        control,
        start: Start::default(),
        opened: None,
        stopped: None,
        serving: Arc::clone(&serving),
    }));
    let end = match remote(&watch) {
        Ok(remote) => session(&watch, signals, begin(inbox, Told(Arc::clone(&watch))), &remote).await,
        Err(e) => Err((Exit::NoStart, e.to_string())),
    };
    lock(&watch).last_words(end, file)
}

/// The session in words, as each view of it has them.
fn title(config: &Config) -> String {
    config.title() + if config.keys.insecure { ", INSECURE" } else { "" }
}

/// The end of a session: with a report; or without a session, and why.
type End = Result<Report, (Exit, String)>;

/// The ways by which something may be said to the session. Dropped, they are closed.
struct Remote {
    keyboard: Option<Keyboard>,
    _sockets: [Option<control_socket::Place>; 2],
}

fn remote(watch: &Arc<Mutex<Watch>>) -> io::Result<Remote> {
    let serving = Arc::clone(&lock(watch).serving);
    let socket = serving
        .outlets()
        .control_socket
        .as_deref()
        .map(|path| control_socket::open(path, obey(watch)))
        .transpose()?;
    // Without it the session is started by other means, which are said.
    let name = serving.session().session.as_ref();
    let here = name.and_then(|name| control_socket::open_here(name, obey(watch)).ok());
    let keyboard = Keyboard::open(&lock(watch).tell, serving.reads_stdin());
    lock(watch).start = Start { key: keyboard.is_some(), local: here.is_some() };
    Ok(Remote { keyboard, _sockets: [socket, here] })
}

async fn session(
    watch: &Arc<Mutex<Watch>>,
    signals: run::Signals,
    session: impl Future<Output = Result<Report, Error>>,
    remote: &Remote,
) -> End {
    let end = run::supervise(signals, session, |moment| match moment {
        Moment::Tick => lock(watch).tick(remote.keyboard.as_ref().is_some_and(Keyboard::pressed)),
        Moment::Stop(who) => {
            lock(watch).stop(&format!("{who} on the server"), "; once more to leave at once");
        }
        Moment::Leave => {}
    });
    match end.await {
        Some(Ok(report)) => Ok(report),
        Some(Err(error)) => Err((error.cause().map_or(Exit::NoStart, exit_of), error.to_string())),
        None => Err((Exit::Interrupted, "interrupted twice, so nothing was waited for".into())),
    }
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
    limit: Limit,
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
        let printed = self.limit.passes(self.tell.elapsed(), event);
        for json in Event::of(event, &*self.serving).iter().filter(|_| printed) {
            match json {
                Event::Progress { .. } => self.tell.passing(json),
                _ => self.tell.event(json),
            }
        }
        if let ServerEvent::Open { key, control_port, data_port, window_bytes, .. } = event {
            self.opened = Some(self.tell.elapsed());
            let data = (*data_port, *window_bytes);
            let lines = invite::lines(&*self.serving, key, *control_port, data, self.start);
            lines.into_iter().for_each(|line| self.tell.say(line));
        }
        if let Some(line) = self.board.take(event).filter(|_| printed) {
            self.tell.line(line);
        }
    }

    /// Says what was left out.
    fn tell_left_out(&mut self, end: bool) {
        if let Some(text) = self.limit.left_out(self.tell.elapsed(), end) {
            self.tell.event(&Event::Warning { text: &text });
            self.tell.say(format!("warning: {text}"));
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
        self.tell_left_out(false);
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
    fn last_words(&mut self, end: End, file: Option<ReportFile>) -> Exit {
        self.tell_left_out(true);
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
                let told = report::Told {
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
