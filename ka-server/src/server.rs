//! One server's run: the source, the session, the signals, the report.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ka_client::console::apart;
use ka_client::console::exit::Exit;
use ka_client::console::report::ReportFile;
use ka_client::console::run::{self, Moment};
use ka_client::console::tell::{Line, Tell};
use ka_client::console::units;
use ka_core::net::{self, Control, ServeError, ServerConfig, ServerEvent, Stream};
use ka_core::proto::Report;
use ka_core::stream::{CommandSource, FileSource, Spool, StdinSource};

use crate::board::Board;
use crate::cli::{Options, Source};
use crate::json::{self, Event};
use crate::socket::{self, Command, Place};
use crate::{PROGRAM, report};

/// Runs what the command line says.
pub(crate) async fn run(options: Options) -> Exit {
    let tell = match Tell::new(PROGRAM, options.tell.json) {
        Ok(tell) => tell,
        Err(e) => return run::no_start(PROGRAM, &e),
    };
    let exit = match &options.key.make_key {
        Some(path) => make_key(&options, path, &tell),
        None => serve(options, &tell).await,
    };
    tell.finish();
    exit
}

fn make_key(options: &Options, path: &Path, tell: &Tell) -> Exit {
    match options.key.make(path) {
        Ok(words) => {
            tell.say(words);
            Exit::Fine
        }
        Err(why) => {
            tell.fail(&why, Exit::NoStart);
            Exit::NoStart
        }
    }
}

async fn serve(options: Options, tell: &Tell) -> Exit {
    let file = match options.tell.report.as_deref().map(ReportFile::open).transpose() {
        Ok(file) => file,
        Err(e) => {
            tell.fail(&e.to_string(), Exit::NoStart);
            return Exit::NoStart;
        }
    };
    let title = options.session.as_ref().map_or("the session".into(), |name| format!("session `{name}`"));
    let open = if options.key.is_insecure() {
        " (INSECURE: anybody on this network can read, join and forge it)"
    } else if !options.key.encrypts() {
        " (NOT ENCRYPTED: anybody on this network can read it)"
    } else {
        ""
    };
    let board = Board::new(title + open, options.nodes);
    let (control, inbox) = Control::new();
    let watch = Watch { tell: tell.clone(), board, control, options, stopped: false };
    let watch = Arc::new(Mutex::new(watch));
    let end = session(&watch, inbox).await;
    lock(&watch).last_words(end, file)
}

/// How it ended: with a report, or without a session and why.
type End = Result<Report, (Exit, String)>;

async fn session(watch: &Arc<Mutex<Watch>>, inbox: net::Inbox) -> End {
    let options = lock(watch).options.clone();
    let no_start = |e: io::Error| (Exit::NoStart, e.to_string());
    // The source is started last: nothing that can fail here may leave a command running.
    let _place =
        options.control_socket.as_deref().map(|path| listen(path, watch)).transpose().map_err(no_start)?;
    if let (true, Some(path)) = (options.sends_everything(), options.key.on_root()) {
        let why = format!(
            "{} is on the file system that is sent, and every node would have this server's secrets: keep it on another \
             one, such as /run",
            path.display()
        );
        return Err((Exit::NoStart, why));
    }
    let key = Some(options.key.server_key().map_err(|why| (Exit::NoStart, why))?);
    let spool = options.spool.as_deref().map(Spool::open).transpose().map_err(no_start)?;
    let stream = open(&options.source()).map_err(no_start)?;
    if spool.is_some() && stream.source.again().is_some() {
        lock(watch).tell.say("--spool is not needed: the source can be read again as it is");
    }
    let events = {
        let watch = Arc::clone(watch);
        move |event: ServerEvent| lock(&watch).take(&event)
    };
    let tell = lock(watch).tell.clone();
    let config = ServerConfig { spool, key, ..options.config() };
    let served = apart::session(tell, move |threads| {
        net::serve(ServerConfig { threads, ..config }, vec![stream], inbox, events)
    });
    let end = run::supervise(served, |moment| match moment {
        Moment::Tick => lock(watch).tick(),
        Moment::Stop(who) => {
            lock(watch).stop(&format!("{who} on the server"), "; once more to leave at once");
        }
    });
    match end.await {
        Ok(Some(Ok(Ok(report)))) => Ok(report),
        Ok(Some(Ok(Err(error)))) => Err((exit_of(&error), error.to_string())),
        Ok(Some(Err(e))) => Err((Exit::NoStart, e.to_string())),
        Ok(None) => Err((Exit::Interrupted, "interrupted twice, so nothing was waited for".into())),
        Err(e) => Err((Exit::NoStart, format!("cannot hear signals: {e}"))),
    }
}

fn exit_of(error: &ServeError) -> Exit {
    match error {
        ServeError::Config(_) => Exit::Usage,
        ServeError::Rival(..) => Exit::Refused,
        _ => Exit::NoStart,
    }
}

/// The name that nodes see is no secret, so it is not the command.
fn open(source: &Source) -> io::Result<Stream> {
    let (name, source): (_, Box<dyn ka_core::stream::Source>) = match source {
        Source::Command(command) => ("command".into(), Box::new(CommandSource::spawn(command)?)),
        Source::File(path) => (file_name(path), Box::new(FileSource::open(path)?)),
        Source::Stdin => ("stdin".into(), Box::new(StdinSource::open()?)),
    };
    Ok(Stream { name, metadata: Vec::new(), source })
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy().into_owned())
}

fn listen(path: &Path, watch: &Arc<Mutex<Watch>>) -> io::Result<Place> {
    let watch = Arc::clone(watch);
    socket::open(path, move |command| lock(&watch).obey(command))
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees the events, tells people and programs, and holds the remote control.
struct Watch {
    tell: Tell,
    board: Board,
    control: Control,
    options: Options,
    stopped: bool,
}

impl Watch {
    fn take(&mut self, event: &ServerEvent) {
        match Event::of(event, &self.options) {
            Some(json @ Event::Progress { .. }) => self.tell.passing(&json),
            Some(json) => self.tell.event(&json),
            None => {}
        }
        if let Some(line) = self.board.take(event) {
            self.tell.line(line);
        }
        if let ServerEvent::Open { key, .. } = event
            && !self.options.key.is_given_out()
            && let Some(text) = key.text()
        {
            self.tell.say(format!("the nodes' key is {}; in a boot entry: ka.key={}", *text, *text));
        }
    }

    fn tick(&mut self) {
        let now = self.tell.elapsed();
        self.board.tick(now);
        let board = &self.board;
        self.tell.show(|| board.frame(now), || board.line(now));
    }

    fn stop(&mut self, who: &str, hint: &str) {
        self.tell.say(format!("{who}: stopping{hint}"));
        self.stopped = true;
        self.control.stop(who);
    }

    /// What the control socket says.
    fn obey(&mut self, command: Command) -> Result<String, String> {
        match command {
            Command::Rate(rate) => {
                let limit = rate.map_or("none".into(), units::rate);
                self.tell.line(Line::Say(format!("rate limit: {limit}")));
                self.control.set_rate(rate);
            }
            Command::Go if self.board.has_started() => return Err("the session has already started".into()),
            Command::Go if self.board.is_empty() => return Err("no node is waiting".into()),
            Command::Go => self.control.go(),
            Command::Stop => self.stop("the control socket", ""),
            Command::Status => return Ok(self.board.line(self.tell.elapsed())),
        }
        Ok(String::new())
    }

    /// The table, the last event and the report; and with them the exit status.
    fn last_words(&self, end: End, file: Option<ReportFile>) -> Exit {
        let (exit, error) = match &end {
            Ok(report) => (report::exit(report, self.stopped), None),
            Err((exit, why)) => (*exit, Some(why.as_str())),
        };
        let json = match &end {
            Ok(report) => json::Report::of(report, &self.options, exit),
            Err(_) => json::Report::without_session(&self.options, exit, error),
        };
        self.tell.clear();
        match &end {
            Ok(report) => {
                report::summary(report, &self.options).into_iter().for_each(|line| self.tell.say(line));
                self.tell.event(&Event::Report(&json));
            }
            Err((_, why)) => self.tell.fail(why, exit),
        }
        match file.map(|file| file.write(&json)) {
            Some(Err(e)) => {
                self.tell.say(format!("{PROGRAM}: {e}"));
                if exit == Exit::Fine { Exit::NoStart } else { exit }
            }
            _ => exit,
        }
    }
}
