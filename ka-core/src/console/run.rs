//! The runtime, the signals and the clock of the live view.

use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::exit::Exit;
use crate::stream;

/// The interval between two drawings of the live view.
const TICK: Duration = Duration::from_millis(200);

/// Signals that come together are one: `timeout` sends its own to the process and to its group, and a service manager may
/// send two kinds.
const TOGETHER: Duration = Duration::from_millis(500);

/// Runs a session on this thread.
///
/// The runtime is left behind rather than wound up, so that a source or sink that is stuck cannot hold the exit. What
/// such a one has begun does not look complete: see [`stream::abandon`].
pub fn block_on(program: &str, session: impl Future<Output = Exit>) -> Exit {
    let _end = End;
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(session);
            runtime.shutdown_background();
            exit
        }
        Err(e) => no_start(program, &e),
    }
}

/// The end of a program, also by a panic.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        stream::abandon();
    }
}

/// Says why not even the first step could be taken.
pub fn no_start(program: &str, error: &io::Error) -> Exit {
    let _ = writeln!(io::stderr(), "{program}: cannot start: {error}");
    Exit::NoStart
}

/// Prints what a packager asked for.
pub fn print(text: &[u8]) -> Exit {
    if io::stdout().write_all(text).is_ok() { Exit::Fine } else { Exit::NoStart }
}

/// An event from outside a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Time to draw.
    Tick,
    /// Somebody stops it, with this.
    Stop(&'static str),
    /// Somebody stops it again: nothing is to be waited for, and whatever happens from now on is our own doing.
    Leave,
}

/// Runs `session` to its end, and meanwhile tells `heed` of ticks and of the first Ctrl-C, SIGTERM, SIGQUIT or SIGHUP.
/// `None`: there was a second one, and nothing that runs was waited for.
pub async fn supervise<T>(
    mut signals: Signals,
    session: impl Future<Output = T>,
    mut heed: impl FnMut(Moment),
) -> Option<T> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = pin!(session);
    let mut together = pin!(sleep(Duration::ZERO));
    let (mut stopping, mut again) = (false, false);
    loop {
        tokio::select! {
            end = &mut session => return Some(end),
            who = signals.next() => {
                if !stopping {
                    stopping = true;
                    together.set(sleep(TOGETHER));
                    heed(Moment::Stop(who));
                } else if again {
                    heed(Moment::Leave);
                    stream::abandon();
                    return None;
                }
            }
            () = &mut together, if stopping && !again => again = true,
            _ = ticks.tick() => heed(Moment::Tick),
        }
    }
}

/// Waits for a Ctrl-C or SIGTERM; forever, if the system does not let us hear them.
pub async fn interrupted() -> &'static str {
    match Signals::hear() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

/// The signals by which somebody stops a program. Once they are heard, none of them ends it by itself.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Of Ctrl-\, which would leave a terminal as it is.
    quit: Signal,
    /// Of a terminal that is gone; `None` if whoever started us wants us to live on, as nohup does.
    hangup: Option<Signal>,
}

impl Signals {
    /// Hears them from now on.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn hear() -> io::Result<Self> {
        let hear =
            |kind| signal(kind).map_err(|e| io::Error::new(e.kind(), format!("cannot hear signals: {e}")));
        let hangup = (!hangups_are_ignored()).then(|| hear(SignalKind::hangup())).transpose()?;
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            quit: hear(SignalKind::quit())?,
            hangup,
        })
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.quit.recv() => "SIGQUIT",
            _ = async {
                match &mut self.hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            } => "SIGHUP",
        }
    }
}

/// Whether this program was started so that the end of its terminal is none of its business.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The first bit is of signal 1.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
