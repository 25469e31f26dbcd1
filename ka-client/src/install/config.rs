//! The settings of an installation on this machine.

use std::path::PathBuf;

use ka_desc::machine::{DeviceName, Named};
use ka_desc::write;

/// The mount point of a clone while it is made, unless another one is given.
pub const ROOT: &str = "/mnt/ka";

/// The settings by which this machine becomes a clone.
#[derive(Clone, Debug)]
pub struct Config {
    /// The devices to write, and for which of the golden node's disks; empty: the only disk there is.
    pub disks: Vec<Named<DeviceName>>,
    /// The options by which disks are inspected and written.
    pub how: write::Options,
    /// The mount point of the clone while it is made: an empty directory, made if it is not there.
    pub root: PathBuf,
    /// A file that the log is appended to.
    pub log: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { disks: Vec::new(), how: write::Options::default(), root: ROOT.into(), log: None }
    }
}
