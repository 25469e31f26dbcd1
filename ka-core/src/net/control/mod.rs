//! Control connections: the [`connection`], and how a node that is not in yet finds its server ([`seek`]).

pub(crate) mod connection;
pub(crate) mod seek;
