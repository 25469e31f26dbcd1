//! What to install on this machine, and how.

use std::path::PathBuf;

use ka_desc::machine::{DeviceName, Named};
use ka_desc::write;

/// How this machine is to become a clone.
#[derive(Clone, Debug)]
pub struct Config {
    /// The devices to write, and for which of the golden node's disks; empty: the only disk there is.
    pub disks: Vec<Named<DeviceName>>,
    /// How disks are looked at and written.
    pub how: write::Options,
    /// Where the clone is mounted while it is made: an empty directory, made if it is not there.
    pub root: PathBuf,
    /// A file that the log is appended to.
    pub log: Option<PathBuf>,
}
