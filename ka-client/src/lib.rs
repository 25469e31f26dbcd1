//! The code that runs on a node: it receives what a golden node streams, and makes machines clones of it.
//!
//! ```text
//! cli ──▶ install ──▶ receive ──▶ ka_core::net::join ──▶ sinks that the caller opens
//!             └─────▶ ka_desc: partition, format, mount ──▶ finish: bootable and distinct
//! ```
//!
//! [`receive`](mod@receive) takes a session's streams. [`mod@install`] is `ka-d-install`: this machine becomes a clone.
//! [`finish`] makes a clone bootable and itself. Each takes a typed configuration, tells its caller of its progress, and
//! returns what became of it. `cli` has the programs: command lines, what they show, exit statuses (feature `cli`);
//! nothing else knows clap, and nothing else prints.
//!
//! ```no_run
//! use ka_client::install::{Config, Progress, install};
//! use ka_core::net::{ClientConfig, Control};
//!
//! # async fn example(key: ka_core::crypto::session_key::Key) -> Result<(), ka_desc::error::Error> {
//! // Mounts that nobody else sees: before there is a second thread.
//! ka_desc::private::enter()?;
//! let client = ClientConfig {
//!     server: Some("192.168.1.10".parse().unwrap()),
//!     key: Some(key),
//!     // A node relays for others until all of them are done.
//!     wait: true,
//!     label: ka_client::receive::label(),
//!     ..ClientConfig::default()
//! };
//! // The only disk of this machine is erased.
//! let (lines, log) = std::sync::mpsc::channel();
//! let report = install(Config::default(), client, Control::new(), move |progress| {
//!     if let Progress::Log(text) = progress {
//!         let _ = lines.send(text.to_owned());
//!     }
//! })
//! .await?;
//! # drop(log);
//! assert!(report.is_ok(), "{:?}", report.session);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cli")]
pub mod cli;
pub mod finish;
pub mod install;
pub mod receive;
