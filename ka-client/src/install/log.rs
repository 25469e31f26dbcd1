//! The log of an installation, for everybody who needs it: the caller, a file, and the golden node.

use std::fs::File;
use std::io::{self, PipeReader, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ka_core::console::clock::Time;
use ka_core::net::Control;
use ka_core::stream::{self, Said, ours};
use ka_core::types::printable;
use ka_desc::manifest::{NodeState, Stage, topic};

use super::progress::{Progress, Tell};
use crate::finish::Remark;

/// Lines of one program that are passed on; a tar that complains of each file would fill a disk.
const LINES: usize = 200;

/// The interval at which it is said that something still goes on: a golden node waits for nobody who is silent for long.
const STILL: Duration = Duration::from_secs(60);

/// A log. Clones write the same one.
#[derive(Clone)]
pub(super) struct Log {
    tell: Tell,
    control: Control,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    file: Option<File>,
    state: NodeState,
}

impl Log {
    pub(super) fn open(tell: Tell, control: Control, path: Option<&Path>) -> io::Result<Self> {
        let open =
            |path: &Path| ours::append(path).map_err(|e| io::Error::new(e.kind(), format!("--log: {e}")));
        let file = path.map(open).transpose()?;
        let shared = Arc::new(Mutex::new(Shared {
            file,
            state: NodeState { stage: Stage::Gathering, partclone: None },
        }));
        Ok(Self { tell, control, shared })
    }

    /// A line for everybody.
    pub(super) fn say(&self, text: &str) {
        self.keep(text);
        (self.tell)(Progress::Log(text));
        self.control.note(topic::LOG, text);
    }

    /// What is told while the clone is finished.
    pub(super) fn remark(&self, remark: Remark<'_>) {
        match remark {
            Remark::Step(text) => self.say(text),
            Remark::Warning(text) => {
                self.keep(&format!("warning: {text}"));
                (self.tell)(Progress::Warning(text));
                self.control.note(topic::WARNING, text);
            }
        }
    }

    /// An intended difference between this clone and the golden node.
    pub(super) fn changed(&self, text: &str) {
        self.keep(text);
        (self.tell)(Progress::Changed(text));
        self.control.note(topic::CHANGED, text);
    }

    /// The file systems whose used blocks this node can write.
    pub(super) fn has(&self, file_systems: &[&str]) {
        let words = file_systems.iter().map(|word| (*word).to_owned()).collect();
        self.tell_state(|state| state.partclone = Some(words));
    }

    /// A new stage begins.
    pub(super) fn stage(&self, stage: Stage) {
        self.keep(&format!("-- {stage}"));
        (self.tell)(Progress::Stage(stage));
        self.tell_state(|state| state.stage = stage);
    }

    /// Changes the state of this node, and tells the golden node.
    fn tell_state(&self, change: impl FnOnce(&mut NodeState)) {
        let mut shared = self.shared();
        change(&mut shared.state);
        self.control.state(shared.state.to_bytes());
    }

    /// Says what a program says on the other end of this pipe, until it has nothing more to say.
    pub(super) fn follow(&self, name: &'static str, pipe: PipeReader) -> Receiver<Said> {
        let log = self.clone();
        stream::follow(pipe, move |number, text| match number {
            ..LINES => log.say(&format!("{name}: {text}")),
            LINES => log.say(&format!("{name} says more, which is left out")),
            _ => {}
        })
    }

    /// Does something that may take minutes, and says meanwhile that it goes on.
    pub(super) fn while_it_takes<T>(&self, words: &str, work: impl FnOnce() -> T) -> T {
        let (over, is_over) = channel::<()>();
        let still = move || {
            while is_over.recv_timeout(STILL) == Err(RecvTimeoutError::Timeout) {
                self.say(words);
            }
        };
        thread::scope(|scope| {
            // Without a thread it is silent, and works all the same.
            let _ = thread::Builder::new().name("ka-still".into()).spawn_scoped(scope, still);
            let done = work();
            drop(over);
            done
        })
    }

    /// A line for the file alone.
    pub(super) fn keep(&self, text: &str) {
        if let Some(file) = &mut self.shared().file {
            // A log that cannot be written stops nothing.
            let _ = writeln!(file, "{} {}", Time::now().stamp(), printable(text, usize::MAX));
        }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
