//! # The KA session as a library
//!
//! One *golden node* has a system that works. This crate brings its bytes to many machines over an ordinary
//! LAN: the nodes find the server by a session's name, form a chain (or a tree) in which each forwards the
//! stream to the next, and end either with the exact bytes, or with a clear error.
#![cfg_attr(feature = "io", doc = include_str!("embed.md"))]
//! ## How it works
//!
//! ```text
//! golden fs ──▶ Source ──▶ session ──────────▶ chain ──────────────▶ Sink ──▶ disk
//!               stream/    wire/, proto/       ring, net/relay       stream/
//!
//!  SERVER PROCESS                           EACH CLIENT PROCESS
//!  ┌───────────────────────────────┐        ┌───────────────────────────────┐
//!  │ Source ▶ ring ▶ relay ────────┼──TCP──▶│ relay ▶ ring ▶ relay ─────────┼──TCP──▶ next
//!  │                  ▲            │        │          │  └▶ Sink ▶ disk    │
//!  │ Coordinator ─ Node(root)      │◀─ctl──▶│  Node    ▼ progress           │
//!  └───────────────────────────────┘        └───────────────────────────────┘
//! ```
//!
//! Two state machines take every decision, and neither touches a socket, a clock or a byte of the stream:
//! the [`Coordinator`](proto::Coordinator), one per session, decides when a session starts and ends, who is whose
//! parent, who is suspected, and who feeds those whose parent is lost; the [`Node`](proto::Node), one per process (the
//! server has one, too: the root), decides how far its parent may send, what may be forwarded and what forgotten. Both
//! take what happened and say what they want done.
//!
//! ## Where to look
//! - [`wire`]: the messages. [`proto`]: the decisions. [`tape`]: what is sent, and why a wrong byte goes nowhere.
//! - [`crypto`]: what lets a node in, and why nobody reads along.
//! - `net`: the sockets that move the bytes (feature `io`). `stream`: the two ends of the pipe (feature `io`).
//! - `sim`: a world of thousands of nodes (feature `sim`).
//! - `console`: what programs around a session share: how they report, and how they end (feature `console`). `cli`: the
//!   options that they share (feature `cli`).
//! - [`limits`]: every number. [`types`]: the nouns. [`time`]: instants, as arguments.
//!
//! ## What is absent
//! Without the feature `io` this crate is `no_std`: it cannot open a file or a socket, start a thread or read a
//! clock. With it, it still never prints, exits, installs a signal handler or starts a global runtime: `console` alone
//! prints, handles signals and starts a runtime.

#![cfg_attr(not(feature = "io"), no_std)]

extern crate alloc;

pub mod crypto;
pub mod limits;
pub mod proto;
pub mod tape;
pub mod time;
pub mod types;
pub mod wire;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "console")]
pub mod console;
#[cfg(feature = "io")]
pub mod net;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "io")]
pub mod stream;
