//! The lines of `/proc/self/mountinfo`, and which of them are of file systems that a clone could want. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The device's number, such as `8:1`; that of a btrfs means nothing.
    pub number: String,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    /// The mount point.
    pub at: PathBuf,
    /// The file system's type.
    pub fs: String,
    /// The source of the mount, such as a device node.
    pub source: PathBuf,
    /// The options of the file system itself.
    pub options: Vec<String>,
}

/// The mounts, in their order; a mount that is hidden below a later one at the same place is left out.
#[must_use]
pub fn read(text: &str) -> Vec<Line> {
    let mut visible: Vec<Line> = lines(text).collect();
    let mut seen = BTreeSet::new();
    // The last one at a place comes first.
    visible.reverse();
    visible.retain(|line| seen.insert(line.at.clone()));
    visible.reverse();
    visible
}

/// All lines, with what is hidden.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line> {
    text.lines().filter_map(line)
}

fn line(text: &str) -> Option<Line> {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    let (fields, rest) = text.split_once(" - ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let [_, _, number, root, at, ..] = fields[..] else { return None };
    let mut rest = rest.split(' ');
    let (fs, source, options) = (rest.next()?, rest.next()?, rest.next().unwrap_or(""));
    Some(Line {
        number: number.into(),
        root: unescape(root),
        at: unescape(at),
        fs: fs.into(),
        source: unescape(source),
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// The kind of place that holds a file system's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsKind {
    /// On a block device.
    Device,
    /// On devices that it manages itself.
    Pool,
    /// On another machine.
    Network,
    /// In memory, or nowhere.
    Virtual,
}

/// File systems without a device's number that are on devices all the same: they have numbers of their own.
const NUMBERED: [&str; 2] = ["btrfs", "bcachefs"];

/// File systems that take their bytes from another machine, or from the host of a virtual one.
const NETWORK: [&str; 17] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "virtiofs",
    "vboxsf",
    "ceph",
    "afs",
    "lustre",
    "gfs2",
    "ocfs2",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.s3fs",
];

impl Line {
    /// The kind of place that holds the file system's bytes.
    #[must_use]
    pub fn kind(&self) -> FsKind {
        match self.fs.as_str() {
            fs if NETWORK.contains(&fs) => FsKind::Network,
            "zfs" => FsKind::Pool,
            fs if NUMBERED.contains(&fs) || !self.number.starts_with("0:") => FsKind::Device,
            _ => FsKind::Virtual,
        }
    }

    /// The subvolume that it is; `None` for the topmost.
    #[must_use]
    pub fn subvolume(&self) -> Option<&str> {
        let named = self.options.iter().find_map(|option| option.strip_prefix("subvol="))?;
        Some(named.trim_start_matches('/')).filter(|name| self.fs == "btrfs" && !name.is_empty())
    }

    /// Whether it shows only a directory of its file system, or of its subvolume.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.root.to_string_lossy().trim_start_matches('/') != self.subvolume().unwrap_or("")
    }

    /// Whether the file system can be written to.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.options.iter().any(|option| option == "ro")
    }
}

/// `/proc` writes blanks and backslashes in octal: `\040`.
#[must_use]
pub fn unescape(text: &str) -> PathBuf {
    let mut out = Vec::new();
    let mut bytes = text.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let octal = rest.get(..3).filter(|d| first == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        match octal {
            Some(d) => {
                out.push(d.iter().fold(0_u8, |n, c| n.wrapping_mul(8).wrapping_add(c - b'0')));
                bytes = &rest[3..];
            }
            None => {
                out.push(first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
28 27 0:40 / /efi rw - autofs systemd-1 rw,fd=43
29 28 8:1 / /efi rw - vfat /dev/sda1 rw
30 27 0:44 /@home /home rw - btrfs /dev/sda3 rw,subvolid=257,subvol=/@home
31 27 0:44 /@home/a /srv/a\\040b rw - btrfs /dev/sda3 rw,subvolid=257,subvol=/@home
32 27 0:44 / /top rw - btrfs /dev/sda3 ro,subvolid=5,subvol=/
33 27 8:2 /var/x /x rw - ext4 /dev/sda2 rw
34 27 0:50 / /net rw - nfs4 host:/srv rw
35 27 0:51 / /tank rw - zfs tank/data rw,xattr
";

    #[test]
    fn each_line_is_known_for_what_it_is() {
        let lines = read(TEXT);
        let all: Vec<_> = lines.iter().map(|l| (l.at.to_str().unwrap(), l.kind(), l.is_partial())).collect();
        let expected = [
            ("/proc", FsKind::Virtual, false),
            ("/", FsKind::Device, false),
            ("/efi", FsKind::Device, false),
            ("/home", FsKind::Device, false),
            ("/srv/a b", FsKind::Device, true),
            ("/top", FsKind::Device, false),
            ("/x", FsKind::Device, true),
            ("/net", FsKind::Network, false),
            ("/tank", FsKind::Pool, false),
        ];
        assert_eq!(all, expected);
        assert_eq!((lines[3].subvolume(), lines[5].subvolume()), (Some("@home"), None));
        assert!(lines[3].is_writable() && !lines[5].is_writable());
        assert_eq!(read("nonsense\n1 2 3\n"), []);
    }
}
