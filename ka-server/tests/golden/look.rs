//! What is found out of a golden node: machines that are folders, for what no test's host has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ka_desc::machine::Machine;
use ka_desc::manifest::Firmware;
use ka_desc::run::Here;
use ka_server::golden::facts::{Golden, On};
use ka_server::golden::inspect::look::{Source, look};
use ka_server::golden::inspect::open_files::{Busy, busy};
use ka_server::golden::plan::choice::{Choice, Typed};
use ka_server::golden::plan::make::plan;

use super::facts::part;
use super::lab::{Lab, can_run, sfdisk};

const MIB: u64 = 1 << 20;

/// A machine that is a folder.
struct Fake(Lab);

impl Fake {
    fn new() -> Self {
        let fake = Self(Lab::new());
        fake.write("proc/sys/kernel/hostname", "node40\n");
        fake.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        fake
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn sys(&self, name: &str, file: &str, text: &str) {
        self.write(&format!("sys/class/block/{name}/{file}"), &format!("{text}\n"));
    }

    /// A block device below `bus`, such as `pci0/ata1`.
    fn block(&self, name: &str, bus: &str, number: &str) {
        let real = self.0.path("sys/devices").join(bus).join(name);
        fs::create_dir_all(&real).unwrap();
        fs::create_dir_all(self.0.path("sys/class/block")).unwrap();
        symlink(&real, self.0.path("sys/class/block").join(name)).unwrap();
        self.sys(name, "dev", number);
        self.write(&format!("dev/{name}"), "");
    }

    /// A disk with two partitions, or without a table.
    fn disk(&self, name: &str, bus: &str, major: u32, table: bool) {
        self.block(name, bus, &format!("{major}:0"));
        let node = self.0.image(&format!("dev/{name}"), 32 * MIB);
        self.sys(name, "size", &(32 * MIB / 512).to_string());
        self.sys(name, "queue/logical_block_size", "512");
        self.sys(name, "removable", "0");
        if table {
            sfdisk(&node, "label: dos\nlabel-id: 0x12345678\nsize=20MiB, type=83\ntype=83\n");
            for number in 1..=2 {
                let part = format!("{name}{number}");
                self.block(&part, &format!("{bus}/{name}"), &format!("{major}:{number}"));
                self.sys(&part, "partition", &number.to_string());
            }
        }
    }

    /// Something that the kernel has built on `members`.
    fn built(&self, name: &str, number: &str, members: &[&str]) {
        self.block(name, "virtual", number);
        for member in members {
            self.write(&format!("sys/class/block/{name}/slaves/{member}"), "");
        }
    }

    /// What is mounted: number, directory of the file system, where, type, source.
    fn mounts(&self, lines: &[&str]) {
        let line = |line: &&str| {
            let [number, root, at, fs, source] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            fs::create_dir_all(self.0.path(at.trim_start_matches('/'))).unwrap();
            let source = source.replace("/dev", self.0.path("dev").to_str().unwrap());
            format!("1 0 {number} {root} {at} rw shared:1 - {fs} {source} rw\n")
        };
        self.write("proc/thread-self/mountinfo", &lines.iter().map(line).collect::<String>());
    }

    fn machine(&self) -> Machine {
        Machine::at(&fs::canonicalize(self.0.path("")).unwrap())
    }

    fn look(&self) -> Golden {
        look(&self.machine(), &mut Here, Source::Running, |_, _, _, _| Ok(Vec::new())).unwrap().golden
    }
}

/// Where each mount point is.
fn on(golden: &Golden) -> BTreeMap<&str, &On> {
    golden.mounts.iter().map(|mount| (mount.at.to_str().unwrap(), &mount.on)).collect()
}

fn built(what: &str, disks: &[&str]) -> On {
    On::Built { what: what.into(), disks: disks.iter().map(|d| (*d).to_owned()).collect() }
}

/// A machine with file systems on all kinds of devices.
fn many_devices() -> Fake {
    let fake = Fake::new();
    for (disk, bus, major, table) in [
        ("sda", "pci0/ata1", 8, true),
        ("sdb", "pci0/ata2", 9, true),
        ("sdc", "pci0/ata3", 10, false),
        ("sdd", "pci0/usb1/1-1", 11, true),
    ] {
        fake.disk(disk, bus, major, table);
    }
    fake.built("dm-0", "253:0", &["sda2"]);
    fake.sys("dm-0", "dm/uuid", "LVM-abc");
    fake.built("md127", "254:7", &["sda2", "sdb2"]);
    fake.built("dm-1", "253:1", &["md127"]);
    fake.sys("dm-1", "dm/uuid", "CRYPT-LUKS2-abc");
    fake.block("loop7", "virtual", "7:7");
    fake.sys("loop7", "loop/backing_file", "/var/lib/snapd/core.snap");
    fake.mounts(&[
        "0:21 / /proc proc proc",
        "8:1 / / ext4 /dev/root",
        "0:44 / /btrfs btrfs /dev/sdb1",
        "253:0 / /lvm ext4 /dev/mapper/vg-lvm",
        "254:7 / /raid xfs /dev/md127",
        "253:1 / /secret ext4 /dev/dm-1",
        "10:0 / /whole ext4 /dev/sdc",
        "7:7 / /snap squashfs /dev/loop7",
        "0:50 / /net nfs4 host:/srv",
        "0:51 / /tank zfs tank/x",
        "99:9 / /what ext4 /dev/none",
        "11:1 / /stick ext4 /dev/sdd1",
        "8:1 /home /bound ext4 /dev/root",
        "0:52 / /tmp tmpfs tmpfs",
    ]);
    let swap = fake.0.path("dev/sdb2");
    fake.write(
        "proc/swaps",
        &format!("Filename Type\n{} partition 9 0 -2\n/swapfile file 9 0 -3\n", swap.display()),
    );
    fake.write("etc/fstab", "/dev/sda1 / ext4\n");
    fake
}

#[test]
fn what_each_file_system_is_on_is_known() {
    if !can_run("what_each_file_system_is_on_is_known", false, &["sfdisk", "blkid"]) {
        return;
    }
    let fake = many_devices();
    let golden = fake.look();
    let (sda, sdb) = (part("sda", 1), part("sdb", 1));
    let expected = BTreeMap::from([
        ("/", On::Part(sda.clone())),
        ("/btrfs", On::Part(sdb)),
        ("/lvm", built("LVM", &["sda"])),
        ("/raid", built("a software RAID", &["sda", "sdb"])),
        ("/secret", built("LUKS, or another encryption", &["sda", "sdb"])),
        ("/whole", On::Whole("sdc".into())),
        ("/snap", On::File),
        ("/net", On::Network),
        ("/tank", built("ZFS", &[])),
        ("/what", On::Unknown),
        ("/stick", On::Part(part("sdd", 1))),
        ("/bound", On::Part(sda)),
    ]);
    assert_eq!(on(&golden), expected.iter().map(|(at, on)| (*at, on)).collect());
    assert_eq!((golden.host.as_str(), golden.firmware), ("node40", Firmware::Bios));
    assert_eq!(
        (golden.swaps.as_slice(), golden.fstab.as_str()),
        (&[part("sdb", 2)][..], "/dev/sda1 / ext4\n")
    );
    let disks: Vec<_> =
        golden.disks.iter().map(|d| (d.name.as_str(), d.found.is_some(), d.portable)).collect();
    assert_eq!(
        disks,
        [("sda", true, false), ("sdb", true, false), ("sdc", false, false), ("sdd", true, true)]
    );
    assert_eq!(golden.disks[0].code.len(), 440);
    assert!(golden.mounts.iter().all(|m| m.partial == (m.at == Path::new("/bound"))));
    assert!(
        golden.mounts[0].used.capacity > 0
            && golden.mounts.iter().all(|m| m.on != On::Network || m.used.bytes == 0)
    );
    // And all of it is said, with the ways out.
    let problems = plan(&golden, &Choice::default()).unwrap_err();
    let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for at in [
        "/lvm is on LVM",
        "/raid is on",
        "/secret is on LUKS",
        "/whole is on the whole disk sdc",
        "/tank",
        "/what",
    ] {
        assert!(said.contains(at), "{at}:\n{said}");
    }
}

#[test]
fn the_modules_of_controllers_are_found_from_the_disk_up() {
    if !can_run("the_modules_of_controllers_are_found_from_the_disk_up", false, &["sfdisk", "blkid"]) {
        return;
    }
    let fake = Fake::new();
    fake.disk("vda", "pci0/0000:00:05.0/virtio2/block", 8, true);
    fake.mounts(&["8:1 / / ext4 /dev/vda1"]);
    for (at, module) in [("virtio2", "virtio_blk"), ("", "virtio_pci")] {
        let driver = fake.0.path("sys/devices/pci0/0000:00:05.0").join(at).join("driver");
        fs::create_dir_all(&driver).unwrap();
        symlink(format!("../../../module/{module}"), driver.join("module")).unwrap();
    }
    assert_eq!(fake.look().disks[0].modules, ["virtio_blk", "virtio_pci"]);
}

#[test]
fn loaders_are_found_whatever_their_case() {
    if !can_run("loaders_are_found_whatever_their_case", false, &["sfdisk", "blkid"]) {
        return;
    }
    let fake = Fake::new();
    fake.disk("sda", "pci0/ata1", 8, true);
    fake.mounts(&["8:1 / / ext4 /dev/sda1", "8:2 / /boot/efi vfat /dev/sda2"]);
    for file in ["efi/Debian/SHIMX64.EFI", "efi/Debian/grub.cfg", "efi/boot/bootx64.efi", "other/x.efi"] {
        fake.write(&format!("boot/efi/{file}"), "x");
    }
    fs::create_dir_all(fake.0.path("sys/firmware/efi")).unwrap();
    let golden = fake.look();
    assert_eq!(golden.mounts[1].loaders, ["/efi/Debian/SHIMX64.EFI", "/efi/boot/bootx64.efi"]);
    assert_eq!(golden.firmware, Firmware::Uefi);
}

#[test]
fn what_changes_is_listed() {
    if !can_run("what_changes_is_listed", false, &["sfdisk", "blkid"]) {
        return;
    }
    let fake = Fake::new();
    fake.disk("sda", "pci0/ata1", 8, true);
    fake.mounts(&["8:1 / / ext4 /dev/sda1"]);
    fake.write("var/lib/redis/dump.rdb", "x");
    fs::create_dir_all(fake.0.path("var/lib/mysql")).unwrap();
    let open = |pid: u32, fd: u32, file: &str, flags: &str| {
        fake.write(file, "x");
        fake.write(&format!("proc/{pid}/comm"), &format!("program{pid}\n"));
        fake.write(&format!("proc/{pid}/fdinfo/{fd}"), &format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n"));
        let dir = fake.0.path(&format!("proc/{pid}/fd"));
        fs::create_dir_all(&dir).unwrap();
        symlink(fake.0.path(file), dir.join(fd.to_string())).unwrap();
    };
    open(7, 3, "srv/written", "0100001");
    open(7, 4, "srv/read", "0100000");
    open(8, 3, "srv/written", "0100002");
    open(8, 5, "srv/both", "02100002");
    open(9, 3, "tmp/scratch", "0100001");
    symlink("/dev/null", fake.0.path("proc/9/fd/4")).unwrap();
    symlink("socket:[1]", fake.0.path("proc/9/fd/5")).unwrap();
    for n in 0..30 {
        open(10, n, &format!("srv/many{n:02}"), "0100001");
    }
    open(std::process::id(), 3, "srv/ours", "0100001");
    let golden = fake.look();
    let mounts: Vec<_> = golden.mounts.iter().collect();
    let found = busy(&fake.machine(), &mounts, &[fake.0.path("tmp")]);
    assert_eq!(found.databases, [("Redis", "/var/lib/redis".into())]);
    assert_eq!((found.files.len(), found.more), (20, 12), "{:?}", found.files);
    assert_eq!(
        found.files[0],
        (fs::canonicalize(fake.0.path("")).unwrap().join("srv/both"), "program8".into())
    );
    assert!(!found.files.iter().any(|(path, _)| path.ends_with("read") || path.ends_with("ours")));
    assert_eq!(busy(&fake.machine(), &mounts, &["/var/lib".into(), fake.0.path("")]), Busy::default());
    // What cannot be written to does not change.
    let mut still = golden.clone();
    still.mounts[0].writable = false;
    assert!(busy(&fake.machine(), &still.mounts.iter().collect::<Vec<_>>(), &[]).is_empty());
}

#[test]
fn what_was_typed_is_read_from_the_machine() {
    if !can_run("what_was_typed_is_read_from_the_machine", false, &["sfdisk", "blkid"]) {
        return;
    }
    let fake = Fake::new();
    fake.disk("sda", "pci0/ata1", 8, true);
    fake.mounts(&["8:1 / / ext4 /dev/sda1"]);
    fs::create_dir_all(fake.0.path("var/tmp")).unwrap();
    let typed = Typed {
        exclude: vec!["/var/tmp".into(), "/var/none".into()],
        mbr: vec!["sda".into()],
        ..Typed::default()
    };
    let choice = Choice::read(&typed, &fake.look());
    assert_eq!(
        (choice.exclude.as_slice(), choice.problems.len()),
        (&["/var/tmp".into()][..], 1),
        "{:?}",
        choice.problems
    );
    assert_eq!((choice.codes[0].0.as_str(), choice.codes[0].1.len()), ("sda", 440));
}
