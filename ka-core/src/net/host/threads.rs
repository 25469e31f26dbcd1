//! The start of the threads that read sources and feed sinks.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;

/// The way a session starts its threads. `Default` starts them as the session's own thread would.
///
/// An application that lets its session run with fewer rights than sources and sinks need starts them elsewhere: on Linux
/// a thread has the rights of the one that starts it.
#[derive(Clone)]
pub struct Threads(Arc<Start>);

/// The function in a [`Threads`]: starts a thread of this name that does this work.
pub type Start = dyn Fn(&'static str, Work) -> io::Result<()> + Send + Sync;

/// The work of a thread.
pub type Work = Box<dyn FnOnce() + Send>;

impl Threads {
    /// Threads that `start` starts.
    pub fn new(start: impl Fn(&'static str, Work) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(start))
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        (self.0)(name, Box::new(work))
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::new(|name, work| thread::Builder::new().name(name.into()).spawn(work).map(drop))
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Threads(..)")
    }
}
