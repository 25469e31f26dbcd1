//! The progress of an installation, as its caller is told.

use std::sync::Arc;

use ka_core::net::ClientEvent;
use ka_desc::manifest::Stage;

use crate::receive;

/// Something that happens while this machine becomes a clone.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// This node is so far in the session.
    Session(&'a ClientEvent),
    /// The installation has reached a stage.
    Stage(Stage),
    /// A line of the log, for people.
    Log(&'a str),
    /// A line of the log about something that may be wrong.
    Warning(&'a str),
    /// An intended difference between this clone and the golden node, in words.
    Changed(&'a str),
}

impl<'a> From<receive::Progress<'a>> for Progress<'a> {
    fn from(progress: receive::Progress<'a>) -> Self {
        match progress {
            receive::Progress::Session(event) => Self::Session(event),
            receive::Progress::Remark(text) => Self::Log(text),
        }
    }
}

/// Tells the caller. Several threads do.
pub(super) type Tell = Arc<dyn Fn(Progress<'_>) + Send + Sync>;
