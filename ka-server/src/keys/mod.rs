//! The server's identity and its session's key: made, kept and given out in files that nobody else can read.
//!
//! [`Keys`]: what a server lets nodes in by. [`Place`]: where this machine keeps its own. [`is_exposed`]: whether clones would
//! get a copy of a secret.

mod exposed;
mod place;
mod server;

pub use exposed::{Sent, is_exposed};
pub use place::Place;
pub use server::{Keys, NO_IDENTITY};
