//! The golden node: what is found out of it, what its clones become, and that nothing of it is left changed.

mod facts;
#[path = "../../../ka-desc/tests/lab/mod.rs"]
mod lab;
mod look;
mod plan;
mod still;
