//! A node's run in a session: join, feed the sinks, report.

pub mod json;
mod run;
mod view;

pub use run::{Config, OpenSink, Received, Sinks, exit_of, label, receive};
