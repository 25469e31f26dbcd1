//! The programs `ka-d-client` and `ka-d-install`: their command lines, and what they do with them. Only this folder knows
//! clap.
//!
//! [`client`] and [`installer`] are the programs. [`receive`] and [`install`] are their options, with [`join`] in common. [`console`]: how
//! both show a session.

pub mod client;
pub mod console;
pub mod install;
pub mod installer;
pub mod join;
pub mod receive;
