//! The runtime, the signals and the clock of the live view.

use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::exit::Exit;

/// How often the live view is drawn.
const TICK: Duration = Duration::from_millis(200);

/// Runs a session on this thread.
///
/// The runtime is left behind rather than wound up, so that a source or sink that is stuck cannot hold the exit.
pub fn block_on(program: &str, session: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(session);
            runtime.shutdown_background();
            exit
        }
        Err(e) => no_start(program, &e),
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

/// What a running session hears from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Time to draw.
    Tick,
    /// Somebody stops it, with this.
    Stop(&'static str),
}

/// Runs `session` to its end, and meanwhile tells `heed` of ticks and of the first Ctrl-C, SIGTERM, SIGQUIT or SIGHUP.
/// `None`: there was a second one, and nothing is to be waited for.
///
/// # Errors
/// The system does not let us hear signals.
pub async fn supervise<T>(
    session: impl Future<Output = T>,
    mut heed: impl FnMut(Moment),
) -> io::Result<Option<T>> {
    let mut signals = Signals::new()?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = pin!(session);
    let mut stopping = false;
    loop {
        tokio::select! {
            end = &mut session => return Ok(Some(end)),
            who = signals.next() => {
                if stopping {
                    return Ok(None);
                }
                stopping = true;
                heed(Moment::Stop(who));
            }
            _ = ticks.tick() => heed(Moment::Tick),
        }
    }
}

/// Waits for a Ctrl-C or SIGTERM; forever, if the system does not let us hear them.
pub async fn interrupted() -> &'static str {
    match Signals::new() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Of Ctrl-\, which would leave a terminal as it is.
    quit: Signal,
    /// Of a terminal that is gone; `None` if whoever started us wants us to live on, as nohup does.
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let hangup = (!hangups_are_ignored()).then(|| signal(SignalKind::hangup())).transpose()?;
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, quit: signal(SignalKind::quit())?, hangup })
    }

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
