//! One run: the session, and what comes after it.

use std::io::{self};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use ka_core::console::exit::Exit;
use ka_core::console::reporter::Reporter;
use ka_desc::error::Error;
use ka_desc::machine::Machine;
use ka_desc::manifest::Firmware;
use ka_desc::run::Here;

use super::config::Config;
use super::log::Log;
use super::sinks;
use super::work::{Work, firmware};
use super::{early, own};
use crate::receive;
use crate::receive::{Sinks, receive};

/// The outcome of an installation.
pub struct Installed {
    /// The exit status.
    pub exit: Exit,
    /// This machine is a clone of this session already.
    pub already: bool,
    /// This machine is a clone now, whatever the session says.
    pub cloned: bool,
    /// Something was written to a disk.
    pub touched: bool,
}

/// Makes this machine a clone of the golden node whose session it receives.
pub async fn install(config: Config, session: receive::Config, tell: &Reporter) -> Installed {
    let (mut kept, mut spoken) = (None, None);
    let touched = Arc::new(AtomicBool::new(false));
    let writes = Arc::clone(&touched);
    let received = receive(session, tell, |control| {
        let log = Log::open(tell, control, config.log.as_deref())?;
        spoken = Some(log.clone());
        let machine = Machine::default();
        let known = early::look(&config, &machine, &mut |text| log.say(text)).map_err(|why| {
            log.keep(&why.to_string());
            io::Error::other(why)
        })?;
        let done = own::sessions(&machine, &known.disks).unwrap_or_else(|| {
            log.say("the disks cannot be read in time, so it is not known whether this machine is a clone already");
            Vec::new()
        });
        let work = Arc::new(Mutex::new(Work::new(config, known.given, log.clone(), writes)));
        kept = Some(Arc::clone(&work));
        let joins = Arc::clone(&work);
        Ok(Sinks {
            open: Box::new(move |info| sinks::open(&work, info)),
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
                    tell.say(format!(
                        "{}: the session ended before this machine was finished",
                        tell.program()
                    ));
                    exit = Exit::Sink;
                }
            }
            // Somebody does not want to wait for a command that takes its time, or never ends.
            None => tell
                .say(format!("{}: a command still works on the disk, and is not waited for", tell.program())),
        }
    }
    Installed { exit, already, cloned, touched: touched.load(Ordering::Relaxed) }
}

/// Starts this machine, which is a clone, from its disk.
///
/// # Errors
/// A sentence.
pub fn start_own() -> Result<(), Error> {
    own::load(&Machine::default(), &mut Here).and_then(|()| own::start(&mut Here))
}

/// Whether UEFI started this machine.
pub fn is_uefi() -> bool {
    firmware() == Firmware::Uefi
}
