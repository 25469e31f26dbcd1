//! What `ka-d-server` and `ka-d-client` have in common: how they are told, how they tell, how they end.
//!
//! `ka-core` never prints, so none of this can live there; and nothing of it may be written twice. It is here
//! because this is the lower of the two crates: `ka-server` depends on `ka-client`, never the other way round.
//!
//! - [`args`]: options of both. [`units`]: sizes, rates and times as people write them.
//! - [`tell`]: lines, the live view and JSON, by way of a [`printer`] that no terminal can hold up.
//! - [`meter`]: how fast, how long yet. [`clock`]: the time of day. [`json`]: the objects. [`report`]: the file they end in.
//! - [`local`]: how a server is reached from its own host. [`key`]: what lets a node in.
//! - [`exit`]: the statuses. [`run`]: the runtime and the signals. [`apart`]: a session with fewer rights.

pub mod apart;
pub mod args;
pub mod clock;
pub mod exit;
pub mod json;
pub mod key;
pub mod local;
pub mod meter;
pub mod printer;
pub mod report;
pub mod run;
pub mod tell;
pub mod units;
