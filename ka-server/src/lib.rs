//! The code that runs on, or beside, the golden node: it serves the node's bytes, and makes clones of it.
//!
//! ```text
//! cli ──▶ clone ──▶ golden, serve      this machine, onto every node that joins
//!  ├────▶ serve ──▶ ka_core::net::serve   any stream, to any number of nodes
//!  └────▶ rescue                          the system that nodes boot
//! ```
//!
//! [`serve`](mod@serve) runs one session. [`golden`] knows what a golden node is and what its clones become.
//! [`mod@clone`] serves its clones. [`rescue`] builds what nodes boot. [`keys`]: what lets nodes in. Each takes a typed
//! configuration, tells its caller of its progress, and returns what became of it. `cli` has the programs: command lines,
//! what they show, exit statuses (feature `cli`); nothing else knows clap, and nothing else prints.
//!
//! ```no_run
//! use ka_core::net::Control;
//! use ka_server::clone::{Config, System, clone, ready};
//! use ka_server::serve::Progress;
//!
//! # async fn example() -> Result<(), ka_desc::error::Error> {
//! let mut config = Config::new(System::Tree("/srv/golden".into()));
//! config.session.nodes = 2;
//! // Before there is a second thread: the golden node's files are mounted where nobody else sees them.
//! let golden = ready(&config).map_err(|problems| problems.into_iter().next().unwrap())?;
//! // Its control starts the session with fewer nodes, and stops it.
//! let (control, inbox) = Control::new();
//! let (lines, log) = std::sync::mpsc::channel();
//! let report = clone(config, golden, inbox, move |progress| {
//!     if let Progress::Remark(text) = progress {
//!         let _ = lines.send(text.to_owned());
//!     }
//! })
//! .await?;
//! assert!(report.session.is_ok());
//! # drop((control, log));
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cli")]
pub mod cli;
pub mod clone;
pub mod golden;
pub mod keys;
pub mod rescue;
pub mod serve;
