//! A session as its program shows it: what is served, how nodes join it, and how it is tried again.

use std::path::PathBuf;

use ka_core::types::NodeId;

use crate::serve::Config;

/// The files and sockets by which a program tells of its session, and hears of it.
#[derive(Clone, Debug, Default)]
pub struct Outlets {
    /// A Unix socket that hears commands.
    pub control_socket: Option<PathBuf>,
    /// The file to which the outcome is written, as JSON.
    pub report: Option<PathBuf>,
}

/// A session that is served, as views and reports need it.
pub trait Serving: Send + Sync {
    /// Returns the settings of the session.
    fn session(&self) -> &Config;

    /// Returns where the program tells of the session.
    fn outlets(&self) -> Outlets;

    /// Returns the kind of its source, in one word, and which source it is.
    fn source(&self) -> (&'static str, Option<String>);

    /// Returns how a node joins with these words, as a sentence.
    fn invite(&self, words: &Words) -> String;

    /// Whether the source is standard input.
    fn reads_stdin(&self) -> bool {
        false
    }

    /// The command that serves it again, for so many nodes.
    fn again(&self, nodes: u32) -> String;

    /// Returns why the number of nodes in the report may not be that of machines.
    fn doubt(&self) -> Option<String> {
        None
    }

    /// Returns further lines for the end of the report, before the command that tries again.
    fn epilogue(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns further lines on a node for the end of the report: its last stage, what it did.
    fn remarks(&self, _: NodeId) -> Vec<String> {
        Vec::new()
    }
}

/// The words with which a node joins a session.
#[derive(Debug)]
pub struct Words {
    /// Options of a client.
    pub options: String,
    /// Words of a rescue system's kernel.
    pub kernel: String,
}
