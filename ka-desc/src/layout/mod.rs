//! Desc and disk to [`Plan`]: which sectors each partition gets. Pure: same input, same output.
//!
//! ```text
//! MBR │table│ 1 MiB … partitions …            │ up to 2^32 sectors
//! GPT │table│ 1 MiB … partitions …            │copy of the table│
//!     partitions that stay (keep, reuse) cut this into rooms; each room is shared by the lines between them,
//!     and the extended partition is a room of its own
//! ```
//!
//! Nothing here reads a disk: its size is an argument, and so is what was found on it.

mod found;
mod geometry;
mod misfit;
mod plan;
mod room;

pub use found::{Contents, Found, FoundPartition};
pub use geometry::Geometry;
pub use misfit::{Misfit, Room};
pub use plan::{Placed, Plan};
