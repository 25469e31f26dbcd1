//! The names of disks and partitions as people type them, alike in all programs.
//!
//! | word | device |
//! |---|---|
//! | `sda` | `/dev/sda`; if there is none, the image `sda` in this directory |
//! | `/dev/sda`, `/dev/disk/by-id/ata-…`, `./disk.img` | that path |
//! | `sda=/dev/vda`, `/dev/sda=vda` | `/dev/vda`, for the disk that a desc or a golden node calls `sda` |

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sysfs::Machine;
use crate::error::Error;

/// A disk, a partition or an image, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName(String);

impl DeviceName {
    /// Takes a word.
    ///
    /// # Errors
    /// A sentence: the word is empty.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.trim().is_empty() {
            true => Err("a device is missing: name it such as sda, /dev/sda or /dev/disk/by-id/…".into()),
            false => Ok(Self(text.into())),
        }
    }

    /// The path of the device or image on this machine, with its symbolic links: a name below `/dev/disk` stays true
    /// when disks get other names.
    ///
    /// # Errors
    /// The device is not there, or two could be meant.
    pub fn find(&self, machine: &Machine) -> io::Result<PathBuf> {
        let file = PathBuf::from(&self.0);
        if self.0.contains('/') {
            return fs::metadata(&file).map(|_| file);
        }
        let device = machine.node(&self.0);
        let is_device = fs::metadata(&device).is_ok_and(|meta| !meta.is_dir());
        let is_file = fs::metadata(&file).is_ok_and(|meta| !meta.is_dir());
        let (there, here) = (device.display(), file.display());
        match (is_device, is_file) {
            (true, true) if fs::canonicalize(&device)? != fs::canonicalize(&file)? => {
                Err(io::Error::other(format!("it may be {there} or ./{here}: say which one")))
            }
            (true, _) => Ok(device),
            (false, true) => Ok(file),
            (false, false) => {
                let why = format!("there is no device {there}, and no image ./{here}");
                Err(io::Error::new(io::ErrorKind::NotFound, why))
            }
        }
    }

    /// Whether it names the device or image at `path`, which is called `name`.
    #[must_use]
    pub fn means(&self, name: &str, path: &Path) -> bool {
        self.plain() == name || fs::canonicalize(&self.0).is_ok_and(|real| real == path)
    }

    /// The name without the directory of devices, as descs have it.
    #[must_use]
    pub fn plain(&self) -> &str {
        plain(&self.0)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that may be for one disk of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    /// The disk, as a desc or a golden node calls it.
    pub name: Option<String>,
    /// The value.
    pub value: T,
}

impl<T> Named<T> {
    /// Reads `VALUE`, or the disk's name, `separator` and `VALUE`.
    ///
    /// # Errors
    /// A sentence about what is wrong with the value or the name.
    pub fn parse(
        text: &str,
        separator: char,
        value: impl Fn(&str) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        match text.split_once(separator).map(|(name, rest)| (plain(name.trim()), rest)) {
            Some(("", _)) => Err(format!("there is no name before `{separator}`").into()),
            Some((name, rest)) if !name.contains(['/', '=']) => {
                Ok(Self { name: Some(name.into()), value: value(rest)? })
            }
            _ => Ok(Self { name: None, value: value(text)? }),
        }
    }
}

impl Named<DeviceName> {
    /// Reads `[NAME=]DEVICE`.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn device(text: &str) -> Result<Self, Error> {
        Self::parse(text, '=', DeviceName::parse)
    }
}

impl fmt::Display for Named<DeviceName> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.value),
            None => self.value.fmt(f),
        }
    }
}

fn plain(name: &str) -> &str {
    name.strip_prefix("/dev/").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_device_may_be_for_a_disk() {
        let read = |text: &str| Named::device(text).ok().map(|named| (named.name, named.value.0));
        let of = |name: Option<&str>, device: &str| Some((name.map(str::to_owned), device.to_owned()));
        assert_eq!(read("vda"), of(None, "vda"));
        assert_eq!(read("sda=vda"), of(Some("sda"), "vda"));
        assert_eq!(read("/dev/sda=/dev/vda"), of(Some("sda"), "/dev/vda"));
        assert_eq!(read("sda=./image"), of(Some("sda"), "./image"));
        // A path may have the separator in it.
        assert_eq!(read("/dev/disk/by-id/a=b"), of(None, "/dev/disk/by-id/a=b"));
        assert_eq!(read("sda=/dev/disk/by-id/a=b"), of(Some("sda"), "/dev/disk/by-id/a=b"));
        for wrong in ["", " ", "=vda", "/dev/=vda", "sda=", "sda= "] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_word_is_a_device_or_an_image() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("dev/disk/by-id")).unwrap();
        fs::write(at("dev/vda"), "").unwrap();
        symlink("../../vda", at("dev/disk/by-id/virtio-x")).unwrap();
        let machine = Machine::at(root.path());
        let find = |word: &str| DeviceName::parse(word).unwrap().find(&machine).map_err(|e| e.to_string());
        assert_eq!(find("vda"), Ok(at("dev/vda")));
        let by_id = at("dev/disk/by-id/virtio-x").display().to_string();
        assert_eq!(find(&by_id), Ok(by_id.clone().into()));
        assert!(DeviceName(by_id).means("sda", &fs::canonicalize(at("dev/vda")).unwrap()));
        // A test's directory is that of its package.
        assert_eq!(find("Cargo.toml"), Ok("Cargo.toml".into()));
        fs::write(at("dev/Cargo.toml"), "").unwrap();
        assert!(find("Cargo.toml").unwrap_err().to_string().contains("say which one"));
        for missing in ["disk", "vdz", "src"] {
            assert!(find(missing).unwrap_err().to_string().contains("no device"), "{missing}");
        }
        assert!(find("/dev/no/such").is_err());
    }
}
