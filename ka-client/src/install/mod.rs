//! Makes this machine a clone of a golden node.
//!
//! ```text
//! run ── early: what is known of this machine before it joins; own: is it a clone already?
//!  │
//!  ├──▶ receive ──▶ sinks ──▶ work ── prepare: disks (which one?), ka_desc (may it be? write it), mount
//!  │                              └──── finish: boot records, what makes it bootable and distinct, unmount
//!  └──▶ log: the caller (progress), a file, and the golden node hear the same
//! ```
//!
//! Every refusal comes before anything is written, and before the session is joined if it does not depend on the plan. A
//! later failure is this node's alone: it goes on passing the streams to others.
//!
//! All of it happens in a mount namespace of its own, which takes mounts and loop devices with it, also after a `kill -9`.

mod check;
mod config;
mod disks;
mod early;
mod log;
mod own;
mod progress;
mod raw;
mod run;
mod sinks;
mod unpack;
mod work;

pub use check::{Checked, check};
pub use config::{Config, ROOT};
pub use progress::Progress;
pub use run::{Installation, Installed, Report, install, is_uefi, start_own};
