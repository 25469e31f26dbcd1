//! Proof of keys: handshakes, and the sealed connections that they leave, by the crate `snow`.
//!
//! [`identity`]: a server's. [`control`]: a node and its server. [`link`]: a child and its parent. [`transport`]: sealed
//! messages afterwards. [`tags`]: of what is not sealed.

pub(crate) mod control;
pub(crate) mod identity;
pub(crate) mod link;
pub(crate) mod tags;
pub(crate) mod transport;
