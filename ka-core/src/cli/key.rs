//! The options that name a key.

use std::path::PathBuf;

use clap::Args;

use crate::console::key::{NONE, env, find};
use crate::crypto::session_key::Key;
use crate::types::Invalid;

/// What lets this node in.
#[derive(Args, Clone)]
#[command(next_help_heading = "Security")]
pub struct KeyArgs {
    /// The key that ka-d-server printed; others on this host can see it, so --key-file, KA_KEY or `ka.key=` on the
    /// kernel's command line are better places
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Read the key from FILE, or from standard input if it is `-` (or name it in KA_KEY_FILE)
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    #[command(flatten)]
    insecure: InsecureArgs,
}

/// Doing without.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Security")]
pub struct InsecureArgs {
    /// No key on either side: anybody on this network can read, join and forge the session (or set KA_INSECURE=1)
    #[arg(long)]
    insecure: bool,
}

impl InsecureArgs {
    /// Whether it was asked for, on the command line or in the environment.
    #[must_use]
    pub fn insecure(&self) -> bool {
        self.insecure || env("KA_INSECURE").is_some_and(|value| value == "1")
    }
}

/// Shows no secret.
impl std::fmt::Debug for KeyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyArgs").field("insecure", &self.insecure).finish_non_exhaustive()
    }
}

impl KeyArgs {
    /// Whether there is to be none.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        self.insecure.insecure()
    }

    /// The key, from where there is one.
    ///
    /// # Errors
    /// In words: there is none, there are too many, or it is mistyped.
    pub fn key(&self) -> Result<Key, Invalid> {
        self.find()?.ok_or_else(|| NONE.into())
    }

    /// The same, or `None` if nothing is said of a key anywhere.
    ///
    /// # Errors
    /// In words: there are too many, or it is mistyped.
    pub fn find(&self) -> Result<Option<Key>, Invalid> {
        find(self.key.clone(), self.key_file.clone(), self.is_insecure())
    }
}
