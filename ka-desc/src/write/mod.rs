//! Writing disks: from a desc and devices to tables and file systems.
//!
//! ```text
//! prepare ─ look, refuse, plan ─▶ Prepared ─▶ (somebody says yes) ─▶ apply ─ lock, look again, refuse, write, look
//! ```
//!
//! `apply.rs` writes to devices by commands only. The one thing that no command writes is bytes of a boot record:
//! `record.rs` does, where neither a table nor a partition with contents is.
//!
//! Commands, not crates: file systems exist as tools only, a rescue system has them anyway, and a list of arguments can be
//! printed, counted, and stopped after in a test. After sfdisk the table is read back and compared with the plan;
//! `sfdisk --verify` accepts a table of the wrong sector size. A table with kept partitions is rewritten as a whole, so
//! that the result depends on the plan alone.

mod apply;
mod error;
mod format;
mod made;
mod mount;
mod nodes;
mod peek;
mod prepare;
mod record;

pub use apply::{Step, apply};
pub use error::Error;
pub use format::{READERS, Tool, format, tools};
pub use made::partition;
pub use mount::{mount, unmount};
pub use nodes::{Node, partition as kernel_node};
pub use peek::peek;
pub use prepare::{Options, Prepared, Want, check, find, look, prepare, survey};
pub use record::{CODE_BYTES, record, record_rooms};
