//! One installation: look at this machine, receive the session, leave nothing mounted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use ka_core::net::{ClientConfig, ClientEvent, Control, Inbox, NodeEnd};
use ka_core::types::SessionId;
use ka_desc::error::Error;
use ka_desc::machine::Machine;
use ka_desc::manifest::Firmware;
use ka_desc::run::Here;

use super::config::Config;
use super::log::Log;
use super::progress::{Progress, Tell};
use super::sinks;
use super::work::{Work, firmware};
use super::{early, own};
use crate::receive::{self, receive};

/// The state in which an installation leaves this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// This machine is a clone now, whatever the session says.
    pub cloned: bool,
    /// Something was written to a disk.
    pub touched: bool,
    /// A command still works on the disk, and was not waited for: the session was given up.
    pub busy: bool,
}

/// The outcome of an installation.
#[derive(Debug)]
pub struct Report {
    /// The end of the session for this node. An error is one of [`receive`](mod@crate::receive)'s.
    pub session: Result<NodeEnd, Error>,
    /// The state of this machine.
    pub machine: Installed,
}

impl Report {
    /// Whether this machine is a clone, and the golden node knows it.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.machine.cloned && self.session.as_ref().is_ok_and(|end| end.outcome.is_ok())
    }
}

/// Makes this machine a clone of the golden node whose session it receives, in the mount namespace of its own that
/// [`ka_desc::private::enter`] makes.
///
/// Dropping the future gives the session up, and leaves nothing mounted, unless a step of the work is under way just then.
///
/// # Errors
/// This machine cannot become a clone, for reasons that are known before the session is joined. Everything later is in
/// the report.
pub async fn install(
    config: Config,
    client: ClientConfig,
    remote: (Control, Inbox),
    progress: impl Fn(Progress<'_>) + Send + Sync + 'static,
) -> Result<Report, Error> {
    let (control, inbox) = remote;
    let installation = Installation::begin(config, control, progress)?;
    let leave = Leave(installation.clone());
    let session = installation.run(client, inbox).await;
    let machine = leave.0.end();
    Ok(Report { session, machine })
}

/// Leaves nothing mounted, also if nobody waits for the end.
struct Leave(Installation);

impl Drop for Leave {
    fn drop(&mut self) {
        // A second time there is nothing to do.
        let _ = self.0.end();
    }
}

/// An installation in its three steps, for callers that give up the second one: [`install`] is all of them.
#[derive(Clone)]
pub struct Installation {
    tell: Tell,
    log: Log,
    work: Arc<Mutex<Work>>,
    touched: Arc<AtomicBool>,
    /// The session has ended, and the log says how.
    ended: Arc<AtomicBool>,
    /// Sessions that this machine has been through.
    done: Vec<SessionId>,
}

impl Installation {
    /// Looks at this machine; writes nothing. `progress` is called on several threads, and must not block; `control` is
    /// the session's.
    ///
    /// # Errors
    /// Everything that is wrong with this machine as far as the plan is not needed to know it, as sentences.
    pub fn begin(
        config: Config,
        control: Control,
        progress: impl Fn(Progress<'_>) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let tell: Tell = Arc::new(progress);
        let log = Log::open(Arc::clone(&tell), control, config.log.as_deref())?;
        let machine = Machine::default();
        let known = early::look(&config, &machine, &mut |text| log.say(text)).inspect_err(|why| {
            log.keep(&why.to_string());
        })?;
        let done = own::sessions(&machine, &known.disks).unwrap_or_else(|| {
            log.say("the disks cannot be read in time, so it is not known whether this machine is a clone already");
            Vec::new()
        });
        let touched = Arc::new(AtomicBool::new(false));
        let work = Work::new(config, known.given, log.clone(), Arc::clone(&touched));
        Ok(Self { tell, log, work: Arc::new(Mutex::new(work)), touched, ended: Arc::default(), done })
    }

    /// Receives the session, and with it everything that makes this machine a clone.
    ///
    /// # Errors
    /// As [`receive`](fn@receive). A failure of this machine is its node's outcome.
    pub async fn run(&self, client: ClientConfig, inbox: Inbox) -> Result<NodeEnd, Error> {
        let client = ClientConfig { done: self.done.clone(), ..client };
        let (work, joins, tell) = (Arc::clone(&self.work), Arc::clone(&self.work), Arc::clone(&self.tell));
        let progress = move |progress: receive::Progress<'_>| {
            if let receive::Progress::Session(ClientEvent::Joined { session, .. }) = &progress {
                sinks::lock(&joins).session = Some(*session);
            }
            tell(progress.into());
        };
        let end = receive(client, Box::new(move |info| sinks::open(&work, info)), inbox, progress).await;
        self.ended.store(true, Ordering::Relaxed);
        match &end {
            Ok(end) if end.outcome.is_ok() => {}
            Ok(end) => self.log.keep(&end.outcome.to_string()),
            Err(why) => self.log.keep(&why.to_string()),
        }
        end
    }

    /// Leaves nothing mounted. Called when [`run`](Self::run) has ended, or its future was dropped.
    #[must_use]
    pub fn end(&self) -> Installed {
        if !self.ended.load(Ordering::Relaxed) {
            self.log.keep("the session was given up");
        }
        let free = match self.work.try_lock() {
            Ok(work) => Some(work),
            Err(TryLockError::Poisoned(work)) => Some(work.into_inner()),
            // A command takes its time, or never ends.
            Err(TryLockError::WouldBlock) => None,
        };
        let touched = self.touched.load(Ordering::Relaxed);
        let Some(mut work) = free else { return Installed { cloned: false, touched, busy: true } };
        work.leave();
        Installed { cloned: work.is_done(), touched, busy: false }
    }
}

/// Starts this machine, which is a clone, from its disk.
///
/// # Errors
/// A sentence.
pub fn start_own() -> Result<(), Error> {
    own::load(&Machine::default(), &mut Here).and_then(|()| own::start(&mut Here))
}

/// Whether UEFI started this machine.
#[must_use]
pub fn is_uefi() -> bool {
    firmware() == Firmware::Uefi
}
