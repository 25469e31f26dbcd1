//! What happens, told to people on standard error and to programs on standard output.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::exit::Exit;
use super::json;
use super::printer::Printer;

/// Where there is no live view, progress is a line so often.
const LOG_PACE: Duration = Duration::from_secs(10);

/// The voice of a program.
#[derive(Clone, Debug)]
pub struct Tell {
    program: &'static str,
    people: Printer,
    programs: Option<Printer>,
    begun: Instant,
    logged: Duration,
    last: String,
}

/// A line that stays: one that everybody should read, or one that only a log needs, as the live view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// For everybody.
    Say(String),
    /// For logs.
    Note(String),
}

impl Tell {
    /// The voice of `program`, which also prints JSON if `json` says so.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn new(program: &'static str, json: bool) -> io::Result<Self> {
        let programs = if json { Some(Printer::stdout()?) } else { None };
        #[expect(
            clippy::disallowed_methods,
            reason = "the one clock of both programs: all else gets its time from here"
        )]
        let begun = Instant::now();
        Ok(Self {
            program,
            people: Printer::stderr()?,
            programs,
            begun,
            logged: Duration::ZERO,
            last: String::new(),
        })
    }

    /// Whose voice it is.
    #[must_use]
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// The time since the program's start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Says something that people should read.
    pub fn say(&self, text: impl Into<String>) {
        self.people.line(text);
    }

    /// Says something that happened.
    pub fn line(&self, line: Line) {
        match line {
            Line::Say(text) => self.people.line(text),
            Line::Note(text) if !self.people.is_live() => self.people.line(text),
            Line::Note(_) => {}
        }
    }

    /// Says why it ends here.
    pub fn fail(&self, why: &str, exit: Exit) {
        self.say(format!("{}: {why}", self.program));
        self.event(&Failure::Error { text: why, exit: exit.code() });
    }

    /// Tells programs.
    pub fn event(&self, event: &impl Serialize) {
        if let Some(out) = &self.programs {
            out.line(json::line(event, self.elapsed()));
        }
    }

    /// Tells programs something that the next of its kind makes old.
    pub fn passing(&self, event: &impl Serialize) {
        if let Some(out) = &self.programs {
            out.passing(json::line(event, self.elapsed()));
        }
    }

    /// Shows how far it is: the whole `view` on a terminal, now and then a `line` in a log if it is another one.
    pub fn show(&mut self, view: impl FnOnce() -> Vec<String>, line: impl FnOnce() -> String) {
        if self.people.is_live() {
            self.people.frame(view());
        } else if self.elapsed() >= self.logged + LOG_PACE {
            self.logged = self.elapsed();
            let line = line();
            if line != self.last {
                self.people.passing(line.clone());
                self.last = line;
            }
        }
    }

    /// Takes the live view away.
    pub fn clear(&self) {
        self.people.frame(Vec::new());
    }

    /// Waits a while until all that was said is written.
    pub fn finish(&self) {
        self.people.finish();
        if let Some(out) = &self.programs {
            out.finish();
        }
    }
}

/// The last line of a program that ends without a report.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Failure<'a> {
    Error { text: &'a str, exit: u8 },
}
