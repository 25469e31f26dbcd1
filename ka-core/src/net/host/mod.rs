//! The machine that a process runs on: its interfaces, ports, memory and threads, and what it refuses.

pub(crate) mod connect;
pub mod interfaces;
pub(crate) mod memory;
pub(crate) mod name;
pub(crate) mod ports;
pub(crate) mod refused;
pub(crate) mod threads;
