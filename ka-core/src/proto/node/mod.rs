//! One relay: who feeds it, whom it feeds, how far it is, and how it ends.
//!
//! ```text
//!   Welcome ─▶ View ─▶ Dial parent ─▶ linked ─▶ tape … Close ─▶ Complete ─▶ Receipt ─▶ Release ─▶ Finished
//!                        ▲     ▲│ lost: dial again, and say so
//!              next view ┘     └┘
//! ```
//!
//! The node reports, the coordinator decides: a node whose parent is gone says so, and dials it again until it is
//! told of another one. While the coordinator is gone it goes on with the parent and the children it has, and dials the
//! coordinator again. The one thing it decides alone is that a coordinator which is away for too long is lost.
//!
//! It sees positions, not bytes. Whoever drives it checks every block first (see [`tape::chain`](crate::tape::chain)) and tells
//! it only of blocks that are true; one that is not is a [`LinkFault::Tainted`](crate::wire::control::LinkFault::Tainted).

mod children;
mod parent;
mod session;
mod state;

pub use state::{Input, Node, Output};
