//! The options that name a server's keys.

use std::path::{Path, PathBuf};

use clap::Args;
use ka_core::cli::key::InsecureArgs;
use ka_core::console::key;
use ka_desc::error::Error;

use crate::keys::{Keys, NO_IDENTITY, Place};

/// What this server lets nodes in by.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Security")]
pub struct KeyArgs {
    /// Keep this server's secret identity in FILE, which is made if there is none (or name it in KA_IDENTITY); otherwise
    /// each session has a new one
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,

    /// The nodes' key is the one in FILE, made before by --make-key, and is not printed (or name it in KA_KEY_FILE);
    /// otherwise each session has a new one
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Make a key for the nodes of sessions with this --identity, write it to the new file FILE, and serve nothing
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub make_key: Option<PathBuf>,

    /// Do not encrypt the payload: anybody on this network can read it, but still nobody can change it, or join
    /// without the key
    #[arg(long)]
    no_encrypt: bool,

    #[command(flatten)]
    insecure: InsecureArgs,
}

impl KeyArgs {
    /// What the options and the environment say.
    #[must_use]
    pub fn keys(&self) -> Keys {
        let named = |option: &Option<PathBuf>, variable| {
            option.clone().or_else(|| key::env(variable).map(Into::into))
        };
        Keys {
            identity: named(&self.identity, "KA_IDENTITY"),
            key_file: named(&self.key_file, "KA_KEY_FILE"),
            insecure: self.insecure.insecure(),
            encrypt: !self.no_encrypt,
        }
    }

    /// Takes the key that this machine keeps for its clones, unless anything is said about keys. Whether it did.
    pub(crate) fn or_place(&mut self, place: &Place) -> bool {
        let keys = self.keys();
        let own =
            keys.identity.is_none() && keys.key_file.is_none() && self.make_key.is_none() && !keys.insecure;
        if own {
            (self.identity, self.key_file) = (Some(place.identity()), Some(place.key()));
        }
        own
    }

    /// Whether what was said goes together, as far as that is known without a look at any file.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), Error> {
        let keys = self.keys();
        match &self.make_key {
            Some(_) if keys.identity.is_none() && !keys.insecure => Err(NO_IDENTITY.into()),
            Some(_) => Ok(()),
            None => keys.check(),
        }
    }

    /// `--make-key`: writes the key; says so in words.
    ///
    /// # Errors
    /// As for [`Keys::make`].
    pub fn make(&self, path: &Path) -> Result<String, Error> {
        self.keys().make(path)
    }
}
