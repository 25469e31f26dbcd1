//! The tape on its way: from the parent or the source through the ring to the children and the sink.
//!
//! [`relay`] is a process's data plane, polled by the run loop. [`child`]: one connection to a child. [`root`]: the server's
//! end, which seals; [`reread`]: its tape once more. [`ends`]: sources and sinks on threads of their own, with memory from
//! [`pool`]. [`frames`]: frames from whatever pieces a socket brings. [`place`]: whether a place that a child
//! claims is one of the tape.

pub(crate) mod child;
pub(crate) mod ends;
pub(crate) mod frames;
pub(crate) mod low_water;
pub(crate) mod place;
pub(crate) mod pool;
pub(crate) mod relay;
pub(crate) mod reread;
pub(crate) mod root;
