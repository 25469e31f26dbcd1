//! The settings of a session that makes clones.

use std::path::PathBuf;
use std::time::Duration;

use ka_core::types::SessionName;

use crate::golden::plan::choice::Typed;
use crate::serve;

/// The session's name unless another one is given, also in boot entries.
pub const SESSION: &str = "ka";

/// The longest time that nodes may take to partition and format their disks, unless another one is given.
pub const FORMAT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The longest time that a node with all files may take to make itself bootable, unless another one is given.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(30 * 60);

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
#[derive(Clone, Debug)]
pub struct Config {
    /// The system that is cloned.
    pub system: System,
    /// The options that say what the clones become, as the admin typed them.
    pub typed: Typed,
    /// A command to run before the files are read.
    pub quiesce: Option<String>,
    /// A command to run once they are read.
    pub resume: Option<String>,
    /// The longest time that nodes may take to partition and format their disks. One that says nothing of it is waited for
    /// three minutes at most.
    pub format_timeout: Duration,
    /// The directory of the nodes' logs; `None`: `/var/log/ka`.
    pub log_dir: Option<PathBuf>,
    /// The session. Its [`finish_timeout`](serve::Config::finish_timeout) is the longest time that a node with all files
    /// may take to make itself bootable.
    pub session: serve::Config,
}

impl Config {
    /// What `ka-d clone` does with this system unless options say otherwise.
    #[must_use]
    pub fn new(system: System) -> Self {
        let session = SessionName::new(SESSION).ok();
        Self {
            system,
            typed: Typed::default(),
            quiesce: None,
            resume: None,
            format_timeout: FORMAT_TIMEOUT,
            log_dir: None,
            session: serve::Config {
                session,
                finish_timeout: Some(FINISH_TIMEOUT),
                ..serve::Config::default()
            },
        }
    }
}
