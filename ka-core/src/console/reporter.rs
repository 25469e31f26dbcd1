//! Reports of what happens, to people on standard error and to programs on standard output.
//!
//! If people have no terminal but a log, each line begins with the time of day.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::clock::Time;
use super::exit::Exit;
use super::json;
use super::printer::{Printer, Size, Styled, window_size};

/// The interval between two lines of progress, if there is no live view.
const LOG_PACE: Duration = Duration::from_secs(10);

/// The voice of a program.
#[derive(Clone, Debug)]
pub struct Reporter {
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

impl Reporter {
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

    /// The time of day so long after the program's start, as this machine's clock has it by now, for programs.
    #[must_use]
    pub fn time_of(&self, at: Duration) -> String {
        Time::now().before(self.elapsed().saturating_sub(at)).stamp_ms()
    }

    /// Whether people see a live view.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.people.is_live()
    }

    /// Says something that people should read.
    pub fn say(&self, line: impl Into<Styled>) {
        if let lines @ 1.. = self.people.left_out() {
            let text = format!("{lines} lines are left out here: they were not read for long");
            self.people.line(self.stamped(text.into()));
        }
        self.people.line(self.stamped(line.into()));
    }

    /// Says something that happened.
    pub fn line(&self, line: Line) {
        match line {
            Line::Say(text) => self.say(text),
            Line::Note(text) if !self.is_live() => self.say(text),
            Line::Note(_) => {}
        }
    }

    fn stamped(&self, mut line: Styled) -> Styled {
        if !self.is_live() {
            line.text.insert_str(0, &format!("{} ", Time::now().stamp()));
        }
        line
    }

    /// Says why it ends here.
    pub fn fail(&self, why: &str, exit: Exit) {
        self.say(format!("{}: {why}", self.program));
        self.event(&Own::Error { text: why, exit: exit.code() });
    }

    /// Tells programs.
    pub fn event(&self, event: &impl Serialize) {
        if let Some(out) = &self.programs {
            if let lines @ 1.. = out.left_out() {
                out.line(json::line(&Own::LeftOut { lines }, self.elapsed(), Time::now()));
            }
            out.line(json::line(event, self.elapsed(), Time::now()));
        }
    }

    /// Tells programs something that the next of its kind makes old.
    pub fn passing(&self, event: &impl Serialize) {
        if let Some(out) = &self.programs {
            out.passing(json::line(event, self.elapsed(), Time::now()));
        }
    }

    /// Shows how far it is: the whole `view` on a terminal of this size, now and then a `line` in a log if it is another
    /// one.
    pub fn show(&mut self, view: impl FnOnce(Size) -> Vec<Styled>, line: impl FnOnce() -> String) {
        if self.is_live() {
            self.people.frame(view(window_size()));
        } else if self.elapsed() >= self.logged + LOG_PACE {
            self.logged = self.elapsed();
            let line = line();
            if line != self.last {
                self.people.passing(self.stamped(line.clone().into()));
                self.last = line;
            }
        }
    }

    /// Takes the live view away: what comes are the last words, of which nothing is left out.
    pub fn clear(&self) {
        self.people.frame(Vec::new());
        self.people.ends();
        self.programs.iter().for_each(Printer::ends);
    }

    /// Waits a while until all that was said is written.
    pub fn finish(&self) {
        self.people.finish();
        if let Some(out) = &self.programs {
            out.finish();
        }
    }
}

/// The events of every program.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Own<'a> {
    /// The last line of a program that ends without a report.
    Error { text: &'a str, exit: u8 },
    /// The reader was so slow that lines were left out here.
    LeftOut { lines: u64 },
}
