//! Everything secret: a security review starts and stays here, and in `net::noise`, which proves who has which key.
//!
//! [`session_key`]: what lets a node in. [`link_keys`]: what data links are sealed with. [`payload`]: the cipher of the
//! stream.

pub mod link_keys;
pub mod payload;
pub mod session_key;
