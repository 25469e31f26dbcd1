//! The live view of a session: the nodes that are there, their progress, and those that are waited for.
//!
//! [`row`]: what is known of one node. [`table`]: how far it is, for a log and for a terminal.

mod board;
mod row;
mod table;
#[cfg(test)]
mod tests;

pub(super) use board::{Board, node_of};
