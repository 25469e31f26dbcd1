//! Control connections: the [`connection`] and its [`frames`], and how a node that is not in yet finds its server ([`seek`]).

pub(crate) mod connection;
pub(crate) mod frames;
pub(crate) mod seek;
