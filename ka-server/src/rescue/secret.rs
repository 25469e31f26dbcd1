//! The secret that lets nodes in, as boot entries have it.

use std::path::PathBuf;

use ka_core::console::key;
use ka_desc::error::Error;
use zeroize::Zeroizing;

use super::config::Config;
use super::entry::Secret;
use crate::keys::Place;

/// The origin of the key.
#[derive(Debug)]
pub(super) enum Origin {
    /// From this file.
    File(PathBuf),
    /// The key that `ka-d clone` serves with, made if there is none.
    Own(Place),
    /// The same key, which this user cannot read.
    Later(Place),
    /// Sessions without a key.
    Insecure,
}

impl Origin {
    /// The origin that the configuration names.
    ///
    /// # Errors
    /// Both, a key and none, are asked for.
    pub(super) fn of(config: &Config) -> Result<Self, Error> {
        match (config.key_file.clone(), config.insecure) {
            (Some(_), true) => {
                Err("--insecure (or KA_INSECURE) has no use for a key: leave one of them out".into())
            }
            (Some(file), false) => Ok(Self::File(file)),
            (None, true) => Ok(Self::Insecure),
            (None, false) if Place::is_ours() => Ok(Self::Own(Place::own())),
            (None, false) => Ok(Self::Later(Place::own())),
        }
    }

    /// Whether the entries are complete.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Self::Later(_))
    }

    /// The key, if there is one to be had.
    ///
    /// # Errors
    /// The key cannot be read, or made.
    pub(super) fn text(&self) -> Result<Option<Zeroizing<String>>, Error> {
        let key = match self {
            Self::File(file) => key::read(file),
            Self::Own(place) => {
                place.ready()?;
                key::read(&place.key())
            }
            Self::Later(_) | Self::Insecure => return Ok(None),
        };
        Ok(key.map_err(|e| e.to_string())?.text())
    }

    /// The secret in the entries.
    pub(super) fn secret<'a>(&self, key: Option<&'a str>) -> Secret<'a> {
        match (key, self) {
            (Some(key), _) => Secret::Known(key),
            (None, Self::Later(_)) => Secret::Later,
            (None, _) => Secret::Insecure,
        }
    }

    /// The sentence to print with the entries.
    pub(super) fn says(&self) -> String {
        match self {
            Self::File(_) => {
                "the session's key is in these entries: who can read them can join the session".into()
            }
            Self::Own(place) => format!(
                "the key that ka-d clone serves with, {}, is in these entries: who can read them can join its sessions",
                place.key().display()
            ),
            Self::Later(place) => format!(
                "fill in the key for the dots: root finds it in {}, where ka-d clone makes it; or run this as root, or give \
                 --key-file",
                place.key().display()
            ),
            Self::Insecure => "without a key anybody on the network can join and forge the session".into(),
        }
    }
}
