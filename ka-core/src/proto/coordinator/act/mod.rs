//! The actions of the coordinator: each part asks the deciders, changes members and tree, and tells nodes.
//!
//! ```text
//!   session ─▶ gate, bypass ─▶ repair ─▶ deferral ─▶ ending        a part calls those to its right
//!        └───▶ views
//! ```

mod bypass;
mod deferral;
mod ending;
mod gate;
mod repair;
mod session;
mod views;
