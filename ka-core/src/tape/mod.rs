//! The tape: what a session sends, item by item, from its first stream to its close.
//!
//! [`chain`]: signed statements, by which each node checks each block. [`ring`]: the items that a node holds. [`index`]:
//! where every item is, for children that lack what the ring has forgotten.

pub mod chain;
pub mod index;
pub mod ring;
