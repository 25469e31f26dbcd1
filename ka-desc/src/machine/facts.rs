//! The facts of one disk, from the kernel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sysfs::Machine;
use super::uses::{self, Use};
use crate::layout::Geometry;

/// The kind of device or file at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A file with a disk's contents.
    Image,
    /// A disk, by the kernel's name for it.
    Disk(String),
    /// A partition, and the disk it is on.
    Partition(String),
    /// Nothing that has partitions.
    Other,
}

/// The facts of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The path of the disk, without symbolic links.
    pub path: PathBuf,
    /// The kind of device or file at the path.
    pub kind: DiskKind,
    /// The size of the disk and of its sectors.
    pub geometry: Geometry,
    /// The kernel does not let it be written.
    pub read_only: bool,
    /// Its medium can be taken out.
    pub removable: bool,
    /// The disk is connected by USB.
    pub usb: bool,
    /// Its serial numbers, in the forms that are known.
    pub serial: Vec<String>,
    /// Its model.
    pub model: Vec<String>,
    /// Its world wide names.
    pub wwn: Vec<String>,
    /// The uses of the disk, and of its parts.
    pub uses: Vec<Use>,
}

impl Machine {
    /// All that is known of the disk at `path`. `image_sector_bytes` is what a file counts by, which it does not say.
    ///
    /// # Errors
    /// It is not there, or the kernel does not say how large it is.
    pub fn facts(&self, path: &Path, image_sector_bytes: u32) -> io::Result<Facts> {
        let path = fs::canonicalize(path)?;
        let meta = fs::metadata(&path)?;
        let name = self.name_of(&path);
        let disk_of = |name: &String| match self.disk_of(name) {
            Some(disk) => self.node(&disk).display().to_string(),
            None => "its disk".into(),
        };
        let kind = match &name {
            Some(name) if self.block(name).join("partition").exists() => DiskKind::Partition(disk_of(name)),
            Some(name) => DiskKind::Disk(name.clone()),
            None if meta.is_file() => DiskKind::Image,
            None => DiskKind::Other,
        };
        let geometry = match &kind {
            DiskKind::Disk(name) => self.geometry(name)?,
            _ => Geometry { disk_bytes: meta.len(), sector_bytes: image_sector_bytes },
        };
        let flag = |what: &str| name.as_ref().is_some_and(|n| self.line(n, what).as_deref() == Some("1"));
        let bus = name.as_ref().and_then(|name| fs::canonicalize(self.block(name)).ok());
        let usb = |bus: &Path| bus.components().any(|c| c.as_os_str().to_string_lossy().starts_with("usb"));
        let identity = |files: &[&str], udev: &[&str]| {
            name.as_ref().map_or(Vec::new(), |n| self.identity(n, files, udev))
        };
        Ok(Facts {
            read_only: if kind == DiskKind::Image { meta.permissions().readonly() } else { flag("ro") },
            removable: flag("removable"),
            usb: bus.is_some_and(|bus| usb(&bus)),
            serial: identity(
                &["device/serial", "serial", "device/vpd_pg80"],
                &["ID_SERIAL_SHORT", "ID_SERIAL"],
            ),
            model: identity(&["device/model"], &["ID_MODEL"]),
            wwn: identity(&["device/wwid", "wwid"], &["ID_WWN", "ID_WWN_WITH_EXTENSION"]),
            uses: uses::of(self, &path, name.as_deref()),
            path,
            kind,
            geometry,
        })
    }
}
