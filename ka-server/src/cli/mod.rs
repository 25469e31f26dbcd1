//! The programs `ka-d-server` and `ka-d`: their command lines, and what they do with them. Only this folder knows clap.
//!
//! [`program`] is `ka-d-server`, and [`server`] its options. [`ka_d`] is `ka-d`, with [`clone`](mod@clone) and [`rescue`].
//! [`session`] and [`keys`]: options that all of them have. [`console`]: how all of them show a session.

pub mod clone;
pub mod console;
pub mod ka_d;
pub mod keys;
pub mod program;
pub mod rescue;
pub mod server;
pub mod session;
