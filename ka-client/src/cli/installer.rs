//! `ka-d-install`: makes this machine a clone, and starts it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use ka_core::cli::args;
use ka_core::console::exit::Exit;
use ka_core::console::reporter::{Line, Reporter};
use ka_core::console::{run as runtime, secrets};
use ka_desc::manifest::About;
use ka_desc::private;
use rustix::system::{RebootCommand, reboot};

use super::console::{self, Received, Told};
use super::install::{Options, Then, page};
use crate::install::{self, Config, Installation, Installed, Progress};
use crate::receive;

/// The program's name.
pub const PROGRAM: &str = "ka-d-install";

/// Whether systemd runs this machine; a rescue system has none.
const SYSTEMD: &str = "/run/systemd/system";

/// The whole program, from the command line to the exit status. It must be called before there is a second thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    if let Err(e) = secrets::keep() {
        return runtime::no_start(PROGRAM, &e);
    }
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => return args::refuse(&error),
    };
    match options.generate.text(Options::command(), &page()) {
        Some(text) => runtime::print(&text),
        None if options.check => check(),
        // Threads that are there already would stay outside.
        None => match private::enter() {
            Ok(()) => runtime::block_on(PROGRAM, run(options)),
            Err(e) => {
                let why = format!("no mount namespace is to be had: {e}: run it as root");
                runtime::no_start(PROGRAM, &io::Error::new(e.kind(), why))
            }
        },
    }
}

/// `--check`: lists what is missing. The exit status says whether what is always needed is here.
fn check() -> Exit {
    let checked = install::check();
    let missing = checked.missing;
    if io::stdout().write_all(checked.text.as_bytes()).is_err() || missing > 0 {
        let _ = writeln!(io::stderr(), "{PROGRAM}: {missing} programs are missing");
        return Exit::NoStart;
    }
    Exit::Fine
}

/// Runs what the command line says.
async fn run(options: Options) -> Exit {
    let tell = match Reporter::new(PROGRAM, options.join.tell.json) {
        Ok(tell) => tell,
        Err(e) => return runtime::no_start(PROGRAM, &e),
    };
    let then = options.then;
    let about = About { macs: macs() };
    // The address first, because a long label is cut.
    let label = format!("{} {}", about.macs.first().map_or("", String::as_str), receive::label());
    // A node that is let go early relays until then, so it always waits.
    let session = match options.join.config(label.trim_start().to_owned(), true) {
        Ok(mut session) => {
            session.client.about = about.to_bytes();
            session
        }
        Err(why) => {
            tell.fail(&why.to_string(), Exit::Usage);
            tell.say(untouched());
            tell.finish();
            return Exit::Usage;
        }
    };
    let config = Config { how: options.how(), disks: options.disk, root: options.root, log: options.log };
    let (Received { exit, already, .. }, installed) = install(config, session, &tell).await;
    match (exit, then) {
        (Exit::Fine, None) => tell.say("this machine is a clone now; start it from its own disk"),
        (Exit::Fine, Some(_)) => {}
        _ if already => tell.say("this machine is a clone of this session already; it is to start from its own disk"),
        _ if installed.cloned => tell.say(
            "this machine is a clone now, but the golden node may not know it, or cannot be told all: the reason is above",
        ),
        _ if installed.touched => {
            tell.say("THIS MACHINE IS NOT A CLONE: the reason is above; its disk is unfinished");
        }
        _ => tell.say(untouched()),
    }
    tell.finish();
    match then {
        Some(Then::Reboot) if already => start_own(),
        Some(then) if exit == Exit::Fine || already => act(then),
        _ => exit,
    }
}

/// Makes this machine a clone, and shows how far it is.
async fn install(config: Config, session: console::Config, tell: &Reporter) -> (Received, Installed) {
    let mut begun = None;
    let received = console::receive(session, tell, |client, (control, inbox), told| {
        let voice = tell.clone();
        let installation =
            Installation::begin(config, control, move |progress| show(&progress, &told, &voice))?;
        begun = Some(installation.clone());
        Ok(async move { installation.run(client, inbox).await })
    });
    let mut received = received.await;
    let Some(installation) = begun else {
        return (received, Installed { cloned: false, touched: false, busy: false });
    };
    let installed = installation.end();
    if installed.busy {
        tell.say(format!("{PROGRAM}: a command still works on the disk, and is not waited for"));
    } else if received.exit == Exit::Fine && !installed.cloned {
        tell.say(format!("{PROGRAM}: the session ended before this machine was finished"));
        received.exit = Exit::Sink;
    }
    (received, installed)
}

fn show(progress: &Progress<'_>, told: &Told, tell: &Reporter) {
    match progress {
        Progress::Session(event) => told.take(&receive::Progress::Session(event)),
        Progress::Log(text) => tell.say((*text).to_owned()),
        Progress::Warning(text) => tell.say(format!("warning: {text}")),
        Progress::Changed(text) => tell.line(Line::Note((*text).to_owned())),
        Progress::Stage(_) => {}
    }
}

fn untouched() -> &'static str {
    "THIS MACHINE IS NOT A CLONE: the reason is above; its disk was not touched"
}

/// Starts this machine, which is a clone, from its disk.
fn start_own() -> Exit {
    if install::is_uefi() {
        return act(Then::Reboot);
    }
    match install::start_own() {
        Ok(()) => Exit::Fine,
        Err(why) => {
            let hint = "have the network start it from its disk, and restart it";
            let _ = writeln!(io::stderr(), "{PROGRAM}: it cannot be started from here: {why}; {hint}");
            Exit::Refused
        }
    }
}

/// The addresses of this machine's network cards, the lowest first.
fn macs() -> Vec<String> {
    let cards = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let address = |card: fs::DirEntry| fs::read_to_string(card.path().join("address")).ok();
    let all = cards.filter_map(address).map(|text| text.trim().to_owned());
    let mut macs: Vec<_> = all.filter(|mac| mac.len() == 17 && mac != "00:00:00:00:00:00").collect();
    macs.sort();
    macs
}

fn act(then: Then) -> Exit {
    let (command, word) = match then {
        Then::Shell => {
            let shell = Command::new("/bin/sh").status();
            return if shell.is_ok() { Exit::Fine } else { Exit::NoStart };
        }
        Then::Reboot => (RebootCommand::Restart, "reboot"),
        Then::Poweroff => (RebootCommand::PowerOff, "poweroff"),
    };
    if Path::new(SYSTEMD).is_dir() {
        let status = Command::new("systemctl").arg(word).status();
        return if status.is_ok_and(|status| status.success()) { Exit::Fine } else { Exit::NoStart };
    }
    rustix::fs::sync();
    match reboot(command) {
        Ok(()) => Exit::Fine,
        Err(e) => runtime::no_start(PROGRAM, &e.into()),
    }
}
