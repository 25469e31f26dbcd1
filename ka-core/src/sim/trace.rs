//! The record of a run: one event a line. It costs nothing unless it is asked for.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::time::Instant;

/// The events of a run, in the order in which they happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    text: Option<String>,
}

impl Trace {
    /// A trace that records.
    pub(super) fn recording() -> Self {
        Self { text: Some(String::new()) }
    }

    /// Adds a line, if anybody wants it: the time, who, what.
    pub(super) fn note(&mut self, now: Instant, who: impl fmt::Display, what: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            let _ = writeln!(text, "{:>13.9} {who:>6} {what}", now.as_secs_f64());
        }
    }

    /// Whether lines are recorded.
    pub(super) fn on(&self) -> bool {
        self.text.is_some()
    }

    /// The lines so far; empty when nobody asked for them.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}

/// Adds a line to the trace; formats nothing unless somebody wants it.
macro_rules! note {
    ($world:expr, $who:expr, $($what:tt)*) => {
        if $world.trace.on() {
            $world.trace.note($world.clock.now, $who, format_args!($($what)*));
        }
    };
}
pub(super) use note;
