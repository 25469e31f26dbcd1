//! The parts that programs around a session share, to report and to end. Nothing else in this crate prints.
//!
//! - [`reporter`]: lines, the live view and JSON, by way of a [`printer`] that no terminal can hold up.
//! - [`meter`]: how fast, how long yet. [`clock`]: the time of day. [`units`]: sizes, rates and times as people write them.
//! - [`json`]: the objects. [`report`]: the file they end in. [`shell`]: words as a shell takes them.
//! - [`local`]: how a server is reached from its own host. [`key`]: where a node's key comes from. [`secrets`]: who does not
//!   get it.
//! - [`exit`]: the statuses. [`run`]: the runtime and the signals. [`privileges`]: a session with fewer rights;
//!   `system_calls`: the calls that it is refused.

// The clocks of people: how long a program has run, and what time it is.
#![allow(clippy::disallowed_methods)]

pub mod clock;
pub mod exit;
pub mod json;
pub mod key;
pub mod local;
pub mod meter;
pub mod printer;
pub mod privileges;
pub mod report;
pub mod reporter;
pub mod run;
pub mod secrets;
pub mod shell;
mod system_calls;
pub mod units;
