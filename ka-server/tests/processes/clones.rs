//! A golden node on an image, and nodes whose disks are images: whole clones without a virtual machine.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ka_desc::language::parse;
use ka_desc::machine::Machine;
use ka_desc::private;
use ka_desc::run::{Call, Here, Runner};
use ka_desc::write::{self, Options};

use super::hosts::{Hosts, cannot_run};
use super::{Lan, Running, noise};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) const GOLDEN: &str = "disk golden\ntable mbr id 0x1a2b3c4d\nlinux 100 ext4 label root mount / bootable\nswap 8\n\
                      extended fill\nlogical linux 30 ext4 mount /home options nodev\nlogical data fill\n";

/// The text of the golden node's own secrets.
const SECRET: &str = "the golden node's own secret";

/// Where Linux keeps a file's access list.
pub(crate) const ACCESS: &str = "system.posix_acl_access";

/// One that lets the user 1 write, whatever that is called here.
pub(crate) fn access_list() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [(1, 7, NOBODY), (2, 6, 1_u32), (4, 5, NOBODY), (0x10, 7, NOBODY), (0x20, 1, NOBODY)];
    let entry = |(tag, mode, who): &(u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &mode.to_le_bytes()[..], &who.to_le_bytes()[..]].concat()
    };
    [2_u32.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat()
}

/// What is in the last partition, which has no file system.
pub(crate) fn blocks() -> Vec<u8> {
    let mut bytes = noise(3 << 20);
    bytes[1 << 20..2 << 20].fill(0);
    bytes
}

/// A golden node and a switch with nodes. `None`, having said why, where there are none to be had.
pub(crate) struct World {
    pub(crate) lan: Lan,
    pub(crate) hosts: Hosts,
    pub(crate) golden: String,
}

impl World {
    pub(crate) fn new(test: &str, nodes: usize) -> Option<Self> {
        let hosts = Hosts::new(test, "10.81.0", nodes + 1)?;
        let lan = Lan::new();
        let golden = lan.path("golden");
        image(&golden, 160);
        if let Err(why) = Here
            .write(&Call::new("losetup", ["--find", "--show", &lan.arg("golden")]))
            .map(|node| Here.write(&Call::new("losetup", ["--detach", node.trim()])))
        {
            cannot_run(test, &why.to_string());
            return None;
        }
        apart(|| make(&lan, &golden));
        let golden = lan.arg("golden");
        let world = Self { lan, hosts, golden };
        world.is_free(&world.golden);
        Some(world)
    }

    /// Serves the golden image.
    pub(crate) fn clone(&self, args: &[&str]) -> Running {
        let (report, logs) = (self.lan.arg("report"), self.lan.arg("logs"));
        let own = ["--image", &self.golden, "--json", "--report", &report, "--log-dir", &logs];
        self.hosts.start(0, &self.lan, &self.lan.clone_command(&[&own, args].concat()))
    }

    /// Starts a node whose disk is empty, and has so many mebibytes. `tools` stand before the system's own.
    pub(crate) fn node(&self, i: usize, mib: u64, tools: Option<&Path>) -> Running {
        image(&self.lan.path(&format!("disk{i}")), mib);
        self.node_as_it_is(i, tools)
    }

    /// Starts a node whose disk is there already.
    pub(crate) fn node_as_it_is(&self, i: usize, tools: Option<&Path>) -> Running {
        let (disk, root) = (self.lan.arg(&format!("disk{i}")), self.lan.arg(&format!("root{i}")));
        let disk = format!("golden={disk}");
        let mut command = self.lan.install_command(&["--disk", &disk, "--root", &root, "--json"]);
        if let Some(tools) = tools {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", tools.display()));
        }
        self.hosts.start(i, &self.lan, &command)
    }

    /// Whether the disk of this node has become a clone.
    pub(crate) fn check(&self, i: usize) {
        let disk = self.lan.path(&format!("disk{i}"));
        let read = |path: &Path, at: u64, len: usize| {
            let mut bytes = vec![0; len];
            File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert!(read(&disk, 0, 440) == read(Path::new(&self.golden), 0, 440), "the boot code of node {i}");
        assert_eq!(read(&disk, 440, 4), 0x1a2b_3c4d_u32.to_le_bytes(), "the disk's identity");
        self.inside(&disk, 1, |root| {
            let home = fs::read_dir(root.join("home")).unwrap().count();
            assert_eq!(home, 0, "what is below a mount does not hide in it");
            assert_eq!(fs::read(root.join("usr/big")).unwrap(), noise(9 << 20));
            assert_eq!(fs::read_link(root.join("bin")).unwrap(), Path::new("usr/bin"));
            assert_eq!(fs::read(root.join("etc/machine-id")).unwrap(), b"", "a clone is itself");
            let own: Vec<_> =
                fs::read_dir(root.join("etc/ka")).unwrap().map(|entry| entry.unwrap()).collect();
            assert!(own.len() == 1 && own[0].file_name() == "clone", "{own:?}");
            let mark = fs::read_to_string(own[0].path()).unwrap();
            assert!(mark.starts_with("session ") && mark.len() == 8 + 32 + 1, "{mark}");
            let empty = fs::metadata(root.join("srv/scratch")).unwrap();
            assert_eq!((empty.mode() & 0o7777, empty.uid()), (0o1770, 77));
        });
        self.inside(&disk, 5, |home| {
            let tool = fs::metadata(home.join("lab/tool")).unwrap();
            assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid()), (0o4771, 4_000_000, 1000));
            let mut list = [0; 64];
            let len = rustix::fs::getxattr(home.join("lab/tool"), ACCESS, &mut list[..]).unwrap();
            assert_eq!(list[..len], access_list());
        });
    }

    /// What is in a partition of an image.
    pub(crate) fn inside<T: Send>(
        &self,
        image: &Path,
        number: u32,
        look: impl FnOnce(&Path) -> T + Send,
    ) -> T {
        let (at, size) = place(image, number);
        let dir = tempfile::tempdir_in(self.lan.path("")).unwrap();
        let (path, dir_arg) = (image.display().to_string(), dir.path().display().to_string());
        let options = format!("ro,loop,offset={at},sizelimit={size}");
        apart(|| {
            Here.write(&Call::new("mount", ["-o", &options, &path, &dir_arg])).unwrap();
            look(dir.path())
        })
    }

    /// Whether a program sees something mounted at or below `name` of the test's directory.
    pub(crate) fn sees(&self, program: &Running, name: &str) -> bool {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", program.process().number())).unwrap();
        mounts.contains(&self.lan.arg(name))
    }

    /// Nothing of a node is mounted, and nothing attached to its disk.
    pub(crate) fn has_no_use_of(&self, i: usize) {
        let (disk, root) = (format!("disk{i}"), format!("root{i}"));
        self.is_free(&self.lan.arg(&disk));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&self.lan.arg(&root)), "{mounts}");
    }

    fn is_free(&self, image: &str) {
        let attached = || Here.read(&Call::new("losetup", ["--associated", image])).unwrap();
        // The kernel takes a dead process's mounts away after it.
        let gone = (0..200).any(|_| attached().is_empty() || pause());
        assert!(gone, "{}", attached());
    }

    /// Nothing of the golden image is mounted or attached.
    pub(crate) fn is_left_alone(&self) {
        self.is_free(&self.golden);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains("/run/ka/"), "{mounts}");
    }
}

/// Runs this where its mounts are seen by nobody else, and go with it. A program that starts meanwhile in a namespace of
/// its own would keep what it sees mounted here.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let ended = thread::scope(|scope| {
        let apart = || {
            private::enter().unwrap();
            work()
        };
        scope.spawn(apart).join()
    });
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A moment, in a bounded loop about something that tells nobody.
pub(crate) fn pause() -> bool {
    #[allow(clippy::disallowed_methods, reason = "see above")]
    thread::sleep(Duration::from_millis(50));
    false
}

/// An empty disk.
pub(crate) fn image(path: &Path, mib: u64) {
    File::create(path).unwrap().set_len(mib * MIB).unwrap();
}

/// Where a partition of an image is, in bytes, and how long.
pub(crate) fn place(image: &Path, number: u32) -> (u64, u64) {
    let table = Here.read(&Call::new("sfdisk", ["--json", &image.display().to_string()])).unwrap();
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    // A name that ends with a digit gets a `p` before the number.
    let disk = image.display().to_string();
    let names = [format!("{disk}{number}"), format!("{disk}p{number}")];
    let parts = table["partitiontable"]["partitions"].as_array().unwrap();
    let part = parts.iter().find(|part| names.iter().any(|name| part["node"] == name.as_str())).unwrap();
    (part["start"].as_u64().unwrap() * 512, part["size"].as_u64().unwrap() * 512)
}

/// Makes a system on an image.
pub(crate) fn make(lan: &Lan, image: &Path) {
    let machine = Machine::default();
    let desc = parse(GOLDEN).unwrap();
    let options = Options::default();
    let meant = (desc.disks[0].clone(), image.to_path_buf(), Vec::new());
    let prepared = [write::prepare(&machine, &mut Here, meant, &options).unwrap()];
    write::apply(&machine, &mut Here, &prepared, &options, &mut |_| ()).unwrap();
    let root = lan.path("made");
    fs::create_dir(&root).unwrap();
    write::mount(&machine, &mut Here, &prepared, &root).unwrap();
    for dir in ["etc/ka", "usr/bin", "srv/scratch/deep", "srv/tftp", "home/lab", "proc", "tmp", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    // It is itself a golden node, and a clone of another one.
    for (file, text) in [("identity", SECRET), ("key", SECRET), ("clone", "session of yore")] {
        fs::write(root.join("etc/ka").join(file), text).unwrap();
    }
    fs::write(root.join("srv/tftp/entry"), "boot").unwrap();
    let uuid = |number| {
        let (at, size) = place(image, number);
        let args = ["-p", "-o", "value", "-s", "UUID", "-O", &at.to_string(), "-S", &size.to_string()];
        let args = [&args[..], &[image.to_str().unwrap()]].concat();
        Here.read(&Call::new("blkid", args)).unwrap().trim().to_owned()
    };
    let fstab = format!("UUID={} / ext4 defaults 0 1\nUUID={} /home ext4 nodev 0 2\n", uuid(1), uuid(5));
    fs::write(root.join("etc/fstab"), fstab).unwrap();
    fs::write(root.join("etc/hostname"), "golden\n").unwrap();
    fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(root.join("usr/big"), noise(9 << 20)).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("srv/scratch/deep/file"), "left out").unwrap();
    std::os::unix::fs::chown(root.join("srv/scratch"), Some(77), None).unwrap();
    fs::set_permissions(root.join("srv/scratch"), fs::Permissions::from_mode(0o1770)).unwrap();
    let tool = root.join("home/lab/tool");
    fs::write(&tool, "tool").unwrap();
    std::os::unix::fs::chown(&tool, Some(4_000_000), Some(1000)).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4751)).unwrap();
    rustix::fs::setxattr(&tool, ACCESS, &access_list(), rustix::fs::XattrFlags::empty()).unwrap();
    write::unmount(&machine, &mut Here, &root).unwrap();
    let disk = OpenOptions::new().write(true).open(image).unwrap();
    disk.write_all_at(&[0xEB; 440], 0).unwrap();
    disk.write_all_at(&blocks(), place(image, 6).0).unwrap();
}

/// A folder with a tool that waits until it is let go, in front of the real one.
pub(crate) struct Waiting {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) hold: File,
}

impl Waiting {
    pub(crate) fn at(tool: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        Here.write(&Call::new("mkfifo", [fifo.display().to_string()])).unwrap();
        let script = dir.path().join(tool);
        fs::write(&script, format!("#!/bin/sh\nread line <{}\nexit 1\n", fifo.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let hold = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        Self { dir, hold }
    }

    /// Lets whoever waits go, so that nobody is left.
    pub(crate) fn go(mut self) {
        let _ = self.hold.write_all(b"go\n");
        let mut left = [0; 3];
        let _ = rustix::fs::fcntl_setfl(&self.hold, rustix::fs::OFlags::NONBLOCK);
        let _ = self.hold.read(&mut left);
    }
}

pub(crate) fn is_at(stage: &str) -> impl Fn(&serde_json::Value) -> bool {
    move |event| event["topic"] == "stage" && event["text"] == stage
}

/// A loop device over a partition of an image, for as long as the work takes.
pub(crate) fn with_partition(image: &Path, number: u32, work: impl FnOnce(&str)) {
    let (at, size) = place(image, number);
    let (at, size, image) = (at.to_string(), size.to_string(), image.display().to_string());
    let attach = ["--find", "--show", "--offset", &at, "--sizelimit", &size, &image];
    let node = Here.write(&Call::new("losetup", attach)).unwrap().trim().to_owned();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&node)));
    Here.write(&Call::new("losetup", ["--detach", &node])).unwrap();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
