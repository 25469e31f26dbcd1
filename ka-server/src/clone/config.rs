//! The settings of a session that makes clones.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::golden::plan::choice::Typed;
use crate::serve;

/// The session's name unless another one is given, also in boot entries.
pub const SESSION: &str = "ka";

/// The system that is cloned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// The running one.
    Running,
    /// The one in this directory.
    Tree(PathBuf),
    /// The one on this image of a whole disk.
    Image(PathBuf),
}

/// The settings by which a system is cloned.
#[derive(Clone)]
pub struct Config {
    /// The system that is cloned.
    pub system: System,
    /// The options that say what the clones become, as the admin typed them.
    pub typed: Typed,
    /// A command to run before the files are read.
    pub quiesce: Option<String>,
    /// A command to run once they are read.
    pub resume: Option<String>,
    /// The longest time that nodes may take to partition and format their disks.
    pub format_timeout: Duration,
    /// The longest time that a node with all files may take to make itself bootable.
    pub finish_timeout: Duration,
    /// The directory of the nodes' logs; `None`: `/var/log/ka`.
    pub log_dir: Option<PathBuf>,
    /// The session.
    pub session: serve::Config,
    /// The command that tries again for so many nodes.
    pub again: Arc<dyn Fn(u32) -> String + Send + Sync>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("system", &self.system)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
