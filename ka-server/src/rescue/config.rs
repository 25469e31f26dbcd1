//! The settings of the build of a rescue system.

use std::path::PathBuf;

use ka_core::types::SessionName;

/// The settings of a build: the rescue system to make, and what it is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of `vmlinuz` and `initrd`, made if there is none.
    pub out: PathBuf,
    /// Also make `rescue.iso` there.
    pub iso: bool,
    /// The kernel's version; `None`: the one that runs, or with [`root`](Self::root) the only one.
    pub kernel: Option<String>,
    /// More kernel modules, by name.
    pub modules: Vec<String>,
    /// The system that kernel and tools come from; `None`: this one.
    pub root: Option<PathBuf>,
    /// The directory of our own static programs; `None`: where this program is.
    pub bin: Option<PathBuf>,
    /// The session that nodes join.
    pub session: SessionName,
    /// The file with the nodes' key; `None`: the one that this machine keeps.
    pub key_file: Option<PathBuf>,
    /// More words for the kernel's command line.
    pub append: Vec<String>,
    /// Sessions have no key.
    pub insecure: bool,
}
