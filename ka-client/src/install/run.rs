//! One run: the session, and what comes after it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use ka_core::console::exit::Exit;
use ka_core::console::reporter::Tell;
use ka_core::console::run;
use ka_desc::machine::Machine;
use ka_desc::manifest::Firmware;
use ka_desc::run::Here;
use rustix::system::{RebootCommand, reboot};

use super::cli::{Options, Then};
use super::log::Log;
use super::sinks;
use super::work::{Work, firmware};
use super::{PROGRAM, early, own};
use crate::receive::{self, Sinks, receive};

/// Whether systemd runs this machine; a rescue system has none.
const SYSTEMD: &str = "/run/systemd/system";

/// Runs what the command line says.
pub(super) async fn run(options: Options) -> Exit {
    let tell = match Tell::new(PROGRAM, options.join.tell.json) {
        Ok(tell) => tell,
        Err(e) => return run::no_start(PROGRAM, &e),
    };
    let then = options.then;
    let join = options.join.clone();
    let (mut kept, mut spoken) = (None, None);
    let touched = Arc::new(AtomicBool::new(false));
    let writes = Arc::clone(&touched);
    // Whoever is let go later still relays until then, so it always waits.
    // The address first, because a long label is cut.
    let label = format!("{} {}", mac().unwrap_or_default(), receive::label()).trim_start().to_owned();
    let received = receive(&join, label, true, &tell, |control| {
        let log = Log::open(&tell, control, options.log.as_deref())?;
        spoken = Some(log.clone());
        let machine = Machine::default();
        let known = early::look(&options, &machine, &mut |text| log.say(text)).map_err(|why| {
            log.keep(&why);
            io::Error::other(why)
        })?;
        let done = own::sessions(&machine, &known.disks).unwrap_or_else(|| {
            log.say("the disks cannot be read in time, so it is not known whether this machine is a clone already");
            Vec::new()
        });
        let work = Arc::new(Mutex::new(Work::new(options, known.given, log.clone(), writes)));
        kept = Some(Arc::clone(&work));
        let joins = Arc::clone(&work);
        Ok(Sinks {
            open: Box::new(move |info| sinks::open(&work, info)),
            tick: Box::new(move || log.tick()),
            joined: Box::new(move |session| sinks::lock(&joins).session = Some(session)),
            done,
        })
    })
    .await;
    let mut exit = received.exit;
    let already = received.already;
    if let (Some(log), Some(why)) = (&spoken, &received.why) {
        log.keep(why);
    }
    let mut cloned = false;
    if let Some(work) = kept {
        let free = match work.try_lock() {
            Ok(work) => Some(work),
            Err(TryLockError::Poisoned(work)) => Some(work.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        match free {
            Some(mut work) => {
                work.leave();
                cloned = work.is_done();
                if exit == Exit::Fine && !cloned {
                    tell.say(format!("{PROGRAM}: the session ended before this machine was finished"));
                    exit = Exit::Sink;
                }
            }
            // Somebody does not want to wait for a command that takes its time, or never ends.
            None => tell.say(format!("{PROGRAM}: a command still works on the disk, and is not waited for")),
        }
    }
    match (exit, then) {
        (Exit::Fine, None) => tell.say("this machine is a clone now; start it from its own disk"),
        (Exit::Fine, Some(_)) => {}
        _ if already => tell.say("this machine is a clone of this session already; it is to start from its own disk"),
        _ if cloned => tell.say(
            "this machine is a clone now, but the golden node may not know it, or cannot be told all: the reason is above",
        ),
        _ if touched.load(Ordering::Relaxed) => {
            tell.say("THIS MACHINE IS NOT A CLONE: the reason is above; its disk is unfinished");
        }
        _ => tell.say("THIS MACHINE IS NOT A CLONE: the reason is above; its disk was not touched"),
    }
    tell.finish();
    match then {
        Some(Then::Reboot) if already => start_own(),
        Some(then) if exit == Exit::Fine || already => act(then),
        _ => exit,
    }
}

/// Starts this machine, which is a clone, from its disk.
fn start_own() -> Exit {
    if firmware() == Firmware::Uefi {
        return act(Then::Reboot);
    }
    match own::load(&Machine::default(), &mut Here).and_then(|()| own::start(&mut Here)) {
        Ok(()) => Exit::Fine,
        Err(why) => {
            let hint = "have the network start it from its disk, and restart it";
            let _ = writeln!(io::stderr(), "{PROGRAM}: it cannot be started from here: {why}; {hint}");
            Exit::Refused
        }
    }
}

/// The lowest address of this machine's network cards, by which people know the machine. Programs decide nothing by it.
fn mac() -> Option<String> {
    let cards = fs::read_dir("/sys/class/net").ok()?.flatten();
    let address = |card: fs::DirEntry| fs::read_to_string(card.path().join("address")).ok();
    let all = cards.filter_map(address).map(|text| text.trim().to_owned());
    all.filter(|mac| mac.len() == 17 && mac != "00:00:00:00:00:00").min()
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
        Err(e) => run::no_start(PROGRAM, &e.into()),
    }
}
