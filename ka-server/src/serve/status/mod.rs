//! What people see of a session: who is there, who is how far, who is waited for.
//!
//! [`row`]: what is known of one node. [`table`]: how far it is, for a log and for a terminal.

mod board;
mod row;
mod table;
#[cfg(test)]
mod tests;

pub(super) use board::Board;
