//! Whole disks on images: formatted, mounted, captured, kept, interrupted. All of it needs root, for loop devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ka_desc::capture::capture;
use ka_desc::layout::{Contents, Found};
use ka_desc::machine::Machine;
use ka_desc::run::{Call, Failure, Here, Runner};
use ka_desc::write::{Error, Options, apply, look, mount, unmount};
use lab::{Lab, applied, can_run, digest, run, sfdisk, whole};

mod lab;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// Loop devices are everybody's, and mkfs.btrfs takes no UUID that it sees on another: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is on an image now.
fn found(image: &Path) -> Found {
    let facts = Machine::default().facts(image, 512).unwrap();
    look(&mut Here, &facts).unwrap().unwrap()
}

fn contents(found: &Found, number: u32) -> Contents {
    found.partition(number).unwrap().contents.clone().unwrap_or_default()
}

/// Every file system that Debian has the tools for, with the labels and UUIDs that were asked for.
#[test]
fn file_systems_get_their_labels_and_uuids() {
    let tools = [
        "mkfs.xfs",
        "mkfs.btrfs",
        "mkfs.vfat",
        "mkfs.f2fs",
        "mkfs.jfs",
        "jfs_tune",
        "mkfs.ntfs",
        "mkswap",
        "mkfs.ext4",
    ];
    if !can_run("file_systems_get_their_labels_and_uuids", true, &tools) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = lab.image("disk.img", 900 * MIB);
    let all = [
        ("linux", "ext2", 10),
        ("linux", "ext3", 10),
        ("linux", "ext4", 10),
        ("linux", "xfs", 300),
        ("linux", "btrfs", 110),
        ("linux", "jfs", 16),
        ("linux", "f2fs", 64),
        ("data", "vfat", 10),
        ("esp", "vfat", 64),
        ("data", "ntfs", 10),
        ("swap", "swap", 10),
    ];
    let uuid = |at: usize, fs: &str| match fs {
        "vfat" => format!("1A2B-3C{at:02X}"),
        _ => format!("8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e{at:02x}"),
    };
    let mut text = String::from("table gpt\n");
    for (at, (kind, fs, size)) in all.iter().enumerate() {
        let uuid = if *fs == "ntfs" { String::new() } else { format!("uuid {}", uuid(at, fs)) };
        text += &format!("{kind} {size} {fs} label \"A B {at}\" {uuid}\n");
    }
    applied(&text, &image, &Options::default());
    let found = found(&image);
    for (at, (_, fs, _)) in all.iter().enumerate() {
        let contents = contents(&found, at as u32 + 1);
        assert_eq!((contents.fs.as_str(), contents.label), (*fs, Some(format!("A B {at}"))));
        if *fs != "ntfs" {
            assert_eq!(contents.uuid, Some(uuid(at, fs)), "{fs}");
        }
    }
}

/// The least that `Fs::min_bytes` promises is enough for each mkfs.
#[test]
fn the_smallest_file_systems_can_be_made() {
    let tools =
        ["mkfs.xfs", "mkfs.btrfs", "mkfs.vfat", "mkfs.f2fs", "mkfs.jfs", "mkfs.ntfs", "mkswap", "mkfs.ext4"];
    if !can_run("the_smallest_file_systems_can_be_made", true, &tools) {
        return;
    }
    let lab = Lab::new();
    let lines = "linux fill ext2\nlinux fill ext3\nlinux fill ext4\nlinux fill xfs\nlinux fill btrfs\nlinux fill jfs\n\
                 linux fill f2fs\ndata fill vfat\ndata fill ntfs\nswap fill\n";
    let text = format!("table gpt\n{lines}");
    let mib = 1 + 1 + 2 + 2 + 300 + 110 + 16 + 64 + 1 + 2 + 1;
    let image = lab.image("disk.img", mib * MIB + 33 * SECTOR);
    assert!(lab::prepared(&text, &lab.image("less.img", mib * MIB), &Options::default()).is_err());
    let plan = applied(&text, &image, &Options::default()).plan;
    for p in &plan.partitions {
        assert_eq!(contents(&found(&image), p.number).fs, p.line.file_system().unwrap().to_string());
        assert!(plan.bytes(p.sectors) - p.line.file_system().unwrap().min_bytes() < MIB);
    }
}

/// An image of a disk with sectors of 4096 bytes: every tool sees them.
#[test]
fn an_image_may_have_sectors_of_4096_bytes() {
    if !can_run(
        "an_image_may_have_sectors_of_4096_bytes",
        true,
        &["sfdisk", "mkfs.ext4", "mkfs.vfat", "mkfs.xfs"],
    ) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = lab.image("disk.img", 600 * MIB);
    let options = Options { image_sector_bytes: 4096, ..Options::default() };
    let text = "esp 100\nlinux 300 xfs label root mount /\nlinux fill ext4 mount /home\n";
    let prepared = applied(text, &image, &options);
    assert_eq!(prepared.plan.partitions[0].start, 256);
    let facts = Machine::default().facts(&image, 4096).unwrap();
    let found = look(&mut Here, &facts).unwrap().unwrap();
    assert_eq!(prepared.plan.differences(&found), Vec::<String>::new());
    assert_eq!([1, 2, 3].map(|n| contents(&found, n).fs), ["vfat", "xfs", "ext4"]);
    let at = lab.path("tree");
    fs::create_dir(&at).unwrap();
    mount(&Machine::default(), &mut Here, &[prepared], &at).unwrap();
    let xfs = run("xfs_info", &[at.to_str().unwrap()]);
    unmount(&Machine::default(), &mut Here, &at).unwrap();
    assert!(xfs.contains("sectsz=4096"), "{xfs}");
    lab::wait_until_free(&image);
}

#[test]
fn a_tree_is_mounted_in_order_and_unmounted() {
    if !can_run(
        "a_tree_is_mounted_in_order_and_unmounted",
        true,
        &["mkfs.ext4", "mkfs.btrfs", "btrfs", "mount", "umount"],
    ) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = lab.image("disk.img", 256 * MIB);
    let text = "linux 20 ext4 mount /srv/data\nlinux 200 btrfs options noatime\n  subvol @root mount /\n  \
                subvol var/log mount /var/log options nodev\nlinux 20 ext4 mount /srv options ro\nswap 4\n";
    let prepared = [applied(text, &image, &Options::default())];
    let machine = Machine::default();
    let at = lab.path("tree");
    fs::create_dir(&at).unwrap();
    // The place for /srv/data is on a file system that is mounted read-only: nothing stays mounted then.
    assert!(mount(&machine, &mut Here, &prepared, &at).unwrap_err().to_string().contains("mkdir -p"));
    assert!(unmount(&machine, &mut Here, &at).unwrap_err().to_string().contains("nothing is mounted there"));

    let prepared = [applied(&text.replace(" options ro", ""), &image, &Options::default())];
    mount(&machine, &mut Here, &prepared, &at).unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours: Vec<&str> = table.lines().filter(|line| line.contains(at.to_str().unwrap())).collect();
    fs::write(at.join("srv/data/file"), "x").unwrap();
    assert!(lab::prepared(text, &image, &Options::default()).is_err(), "it is in use now");
    unmount(&machine, &mut Here, &at).unwrap();
    assert_eq!(ours.len(), 4, "{ours:?}");
    let of_btrfs = ours.iter().filter_map(|line| line.split_once(" - btrfs ")?.1.split(' ').next());
    assert_eq!(
        of_btrfs.collect::<std::collections::BTreeSet<_>>().len(),
        1,
        "one file system, one device: {ours:?}"
    );
    assert!(
        ours.iter()
            .any(|line| line.contains("/var/log ") && line.contains("nodev") && line.contains("noatime"))
    );
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    mount(&machine, &mut Here, &prepared, &at).unwrap();
    assert!(at.join("srv/data/file").exists(), "it was written through to the image");
    // Whatever is mounted cannot lead the others out of the tree.
    fs::remove_dir(at.join("var/log")).unwrap_err();
    unmount(&machine, &mut Here, &at).unwrap();
    let root = lab.path("root");
    fs::create_dir(&root).unwrap();
    let only_root = [applied("linux 200 btrfs\n  subvol @root mount /\n", &image, &Options::default())];
    mount(&machine, &mut Here, &only_root, &root).unwrap();
    std::os::unix::fs::symlink(lab.path("elsewhere"), root.join("var")).unwrap();
    unmount(&machine, &mut Here, &root).unwrap();
    let with_var = lab::prepared(
        "table mbr\nkeep linux 200 btrfs\n  subvol @root mount /\nlinux 20 ext4 mount /var\n",
        &image,
        &Options::default(),
    );
    let error = mount(&machine, &mut Here, &[with_var.unwrap()], &root).unwrap_err();
    assert!(error.to_string().contains("a symbolic link is no place to mount"), "{error}");
    assert!(unmount(&machine, &mut Here, &root).is_err(), "nothing stayed mounted");
}

/// The layouts of three golden machines: BIOS with an MBR, UEFI, BIOS with a GPT and btrfs. Made by other tools.
fn golden(lab: &mut Lab, name: &str) -> PathBuf {
    let image = lab.image(&format!("{name}.img"), 1024 * MIB);
    let mut part = |image: &Path, start_mib: u64, mib: u64| {
        let (offset, size) = ((start_mib * MIB).to_string(), (mib * MIB).to_string());
        lab.attach(image, &["--offset", &offset, "--sizelimit", &size]).to_str().unwrap().to_owned()
    };
    let fstab = |node: &str, options: &str, folder: &str, text: String| {
        let at = tempfile::TempDir::new().unwrap();
        let dir = at.path().to_str().unwrap();
        run("mount", &["-o", options, node, dir]);
        fs::create_dir_all(at.path().join(folder)).unwrap();
        fs::write(at.path().join(folder).join("fstab"), text).unwrap();
        run("umount", &[dir]);
    };
    let uuid = |node: &str| run("blkid", &["-p", "-o", "value", "-s", "UUID", node]).trim().to_owned();
    match name {
        "bios" => {
            sfdisk(
                &image,
                "label: dos\nstart=1MiB,size=64MiB,type=82\nsize=500MiB,type=83,bootable\ntype=5\nsize=300MiB,type=83\n",
            );
            let (swap, root, home) = (part(&image, 1, 64), part(&image, 65, 500), part(&image, 566, 300));
            run("mkswap", &["-L", "swap", &swap]);
            run("mkfs.ext4", &["-q", "-L", "root", &root]);
            run("mkfs.ext4", &["-q", "-L", "home", &home]);
            let text = format!(
                "UUID={} / ext4 errors=remount-ro 0 1\nUUID={} /home ext4 defaults,nodev 0 2\n",
                uuid(&root),
                uuid(&home)
            );
            fstab(&root, "rw", "etc", text);
        }
        "uefi" => {
            sfdisk(
                &image,
                "label: gpt\nstart=1MiB,size=64MiB,type=U\nsize=400MiB,type=L\nsize=64MiB,type=S\ntype=L\n",
            );
            let (esp, root, swap) = (part(&image, 1, 64), part(&image, 65, 400), part(&image, 465, 64));
            let home = part(&image, 529, 494);
            run("mkfs.vfat", &["-F", "32", "-n", "ESP", &esp]);
            run("mkfs.xfs", &["-q", "-L", "root", &root]);
            run("mkswap", &[&swap]);
            run("mkfs.ext4", &["-q", "-L", "home", &home]);
            let text = format!(
                "UUID={} / xfs defaults 0 0\nUUID={} /boot/efi vfat umask=0077 0 1\nLABEL=home /home ext4 nodev 0 2\n",
                uuid(&root),
                uuid(&esp)
            );
            fstab(&root, "rw", "etc", text);
        }
        _ => {
            sfdisk(
                &image,
                "label: gpt\nstart=1MiB,size=1MiB,type=21686148-6449-6E6F-744E-656564454649\nsize=64MiB,type=S\ntype=L\n",
            );
            let (swap, root) = (part(&image, 2, 64), part(&image, 66, 957));
            run("mkswap", &["-L", "swap", &swap]);
            run("mkfs.btrfs", &["-q", "-L", "root", &root]);
            let at = tempfile::TempDir::new().unwrap();
            let dir = at.path().to_str().unwrap();
            run("mount", &[&root, dir]);
            for name in ["@rootfs", "@home"] {
                run("btrfs", &["subvolume", "create", at.path().join(name).to_str().unwrap()]);
            }
            run("umount", &[dir]);
            let uuid = uuid(&root);
            let text = format!(
                "UUID={uuid} / btrfs subvol=@rootfs,compress=zstd:1 0 0\nUUID={uuid} /home btrfs subvol=@home 0 0\n"
            );
            fstab(&root, "subvol=@rootfs", "etc", text);
        }
    }
    image
}

/// Runs the program.
fn ka_desc(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_ka-desc")).args(args).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{args:?}: {said}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_captured_disk_is_made_again_on_others() {
    let tools = [
        "sfdisk",
        "mkfs.xfs",
        "mkfs.btrfs",
        "mkfs.vfat",
        "mkfs.ext4",
        "mkswap",
        "e2fsck",
        "xfs_repair",
        "btrfs",
        "fsck.vfat",
    ];
    if !can_run("a_captured_disk_is_made_again_on_others", true, &tools) {
        return;
    }
    let _alone = alone();
    for (name, mounts) in [("bios", 2), ("uefi", 3), ("btrfs", 2)] {
        let mut lab = Lab::new();
        let golden = golden(&mut lab, name);
        // mkfs.btrfs takes no UUID that it sees elsewhere.
        lab.detach_all();
        let text = ka_desc(&["capture", golden.to_str().unwrap()]);
        let flexible = ka_desc(&["capture", "--flexible", golden.to_str().unwrap()]);
        assert_eq!(text.matches(" mount /").count(), mounts, "{name}: {text}");
        assert!(flexible.contains(" fill"), "{flexible}");
        let needs = ka_desc::layout::Plan::new(&lab::disk(&text), geometry(1024 * MIB), None).unwrap();
        let end = needs.partitions.iter().map(|p| p.end()).max().unwrap() * SECTOR;
        // Just large enough is what the last one ends at, and the copy of a GPT behind it.
        let least = end + 33 * SECTOR;
        let sizes = [
            ("same", 1024 * MIB, &text),
            ("larger", 1500 * MIB, &text),
            ("fills", 1500 * MIB, &flexible),
            ("least", least, &text),
        ];
        let was = found(&golden);
        for (how, bytes, text) in sizes {
            let (image, desc) = (lab.image("copy.img", bytes), lab.file("copy.desc", text));
            ka_desc(&["apply", desc.to_str().unwrap(), "--disk", image.to_str().unwrap(), "--yes"]);
            let is = found(&image);
            assert_eq!((is.table, is.id, is.partitions.len()), (was.table, was.id, was.partitions.len()));
            for (is, was) in is.partitions.iter().zip(&was.partitions) {
                assert_eq!(
                    (is.number, &is.kind, &is.contents),
                    (was.number, &was.kind, &was.contents),
                    "{name} {how}"
                );
                assert_eq!((&is.partuuid, is.attributes), (&was.partuuid, was.attributes));
                assert!(
                    how == "fills" || is.sectors == was.sectors,
                    "{name} {how}: {} {}",
                    is.sectors,
                    was.sectors
                );
            }
            if how != "fills" {
                let again = capture(&is, geometry(bytes), "", false).unwrap();
                let first = capture(&was, geometry(bytes), "", false).unwrap();
                assert_eq!(again, first, "{name} {how}");
            }
            check(&mut lab, &image, &is);
        }
    }
}

fn geometry(disk_bytes: u64) -> ka_desc::layout::Geometry {
    ka_desc::layout::Geometry { disk_bytes, sector_bytes: 512 }
}

/// Every file system is clean, and mounts (vfat only where the kernel has it).
fn check(lab: &mut Lab, image: &Path, found: &Found) {
    for p in &found.partitions {
        let Some(contents) = &p.contents else { continue };
        let (offset, size) = ((p.start * SECTOR).to_string(), (p.sectors * SECTOR).to_string());
        let node =
            lab.attach(image, &["--offset", &offset, "--sizelimit", &size]).to_str().unwrap().to_owned();
        match contents.fs.as_str() {
            "ext4" => drop(run("e2fsck", &["-f", "-n", &node])),
            "xfs" => drop(run("xfs_repair", &["-n", &node])),
            "btrfs" => drop(run("btrfs", &["check", "--readonly", &node])),
            "vfat" => drop(run("fsck.vfat", &["-n", &node])),
            _ => {}
        }
        if ["ext4", "xfs", "btrfs"].contains(&contents.fs.as_str()) {
            let at = lab.path("mnt");
            fs::create_dir_all(&at).unwrap();
            run("mount", &["-o", "ro", &node, at.to_str().unwrap()]);
            let subvolumes =
                fs::read_dir(&at).unwrap().flatten().filter(|e| e.file_name() == "@home").count();
            run("umount", &[at.to_str().unwrap()]);
            assert_eq!(subvolumes == 1, contents.fs == "btrfs");
        }
        lab.detach_all();
    }
}

/// A disk shared with Windows: Linux comes anew, and every byte and GUID of the others is as it was.
#[test]
fn windows_does_not_notice() {
    if !can_run("windows_does_not_notice", true, &["sfdisk", "mkfs.ntfs", "mkfs.vfat", "mkfs.ext4", "mkswap"])
    {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = lab.image("disk.img", 600 * MIB);
    let windows = "table gpt\nesp 100 label SYSTEM\nmsr 16\ndata 200 ntfs label Windows name \"Basic data partition\"\n\
                   linux 120 ext4 number 5\nrecovery 50 ntfs label Recovery number 4 attributes 0,63\n";
    let first = applied(windows, &image, &Options::default());
    let was = found(&image);
    let stays = [1, 2, 3, 4].map(|number| was.partition(number).unwrap().clone());
    let noise: Vec<u8> = (0..16 * MIB).map(|n| ((n * 7919) >> 5) as u8).collect();
    std::os::unix::fs::FileExt::write_all_at(
        &fs::File::options().write(true).open(&image).unwrap(),
        &noise,
        stays[1].start * SECTOR,
    )
    .unwrap();
    let digests = || stays.clone().map(|p| digest(&image, p.start * SECTOR, p.sectors * SECTOR));
    let before = digests();
    let shared = "table gpt\nkeep esp 100 vfat label SYSTEM mount /boot/efi\nkeep msr 16\nkeep data 200 ntfs label Windows\n\
                  linux fill ext4 label root mount / number 5\nkeep recovery 50 ntfs label Recovery number 4\nswap fill\n";
    for text in [shared.to_owned(), shared.replace("linux fill ext4", "reuse linux any ext4")] {
        applied(&text, &image, &Options::default());
        let is = found(&image);
        for p in &stays {
            assert_eq!(is.partition(p.number), Some(p), "place, GUID, name, attributes, label and UUID");
        }
        assert_eq!((is.id, digests()), (was.id, before));
        assert_eq!((contents(&is, 5).fs.as_str(), contents(&is, 6).fs.as_str()), ("ext4", "swap"));
    }
    assert_eq!(first.plan.partitions.len(), 5);
    // A kept partition that is not as expected: not a byte changes.
    let digest = whole(&image);
    let other = shared.replace("label Windows", "label Windoze");
    assert!(
        lab::prepared(&other, &image, &Options::default())
            .unwrap_err()
            .to_string()
            .contains("its label is Windows")
    );
    assert_eq!(whole(&image), digest);
}

/// A runner that stops after so many commands, as if we were killed between them; or kills one.
struct Dies {
    after: usize,
}

impl Runner for Dies {
    fn read(&mut self, call: &Call) -> Result<String, Failure> {
        Here.read(call)
    }

    fn write(&mut self, call: &Call) -> Result<String, Failure> {
        if self.after == 0 {
            return Err(Failure {
                call: call.to_string(),
                code: None,
                status: "killed".into(),
                said: String::new(),
            });
        }
        self.after -= 1;
        Here.write(call)
    }

    fn has(&self, program: &str) -> bool {
        Here.has(program)
    }
}

const INTERRUPTED: &str = "table gpt id 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f
linux 40 ext4 uuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e01 partuuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e11
linux 120 btrfs uuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e02 partuuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e12
  subvol @root mount /
swap fill uuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e03 partuuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e13
";

fn assert_whole_again(lab: &Lab, image: &Path, first: &Found, what: &str) {
    // A tool that was at work when we were killed goes on until its end; until then the disk is refused.
    let again = || {
        let prepared = lab::prepared(INTERRUPTED, image, &Options::default())?;
        apply(&Machine::default(), &mut Here, &[prepared], &Options::default(), &mut |_| {})
    };
    let mut tries = 0;
    while let Err(e) = again() {
        tries += 1;
        assert!(matches!(e, Error::Refused(_)) && tries < 100, "{what}: {e}");
        #[allow(clippy::disallowed_methods, reason = "nobody tells when an orphan has ended")]
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(&found(image), first, "{what}");
    let at = lab.path("mnt");
    fs::create_dir_all(&at).unwrap();
    let p = first.partition(2).unwrap();
    let place = format!("ro,loop,offset={},sizelimit={}", p.start * SECTOR, p.sectors * SECTOR);
    run("mount", &["-o", &place, image.to_str().unwrap(), at.to_str().unwrap()]);
    let subvolumes: Vec<_> = fs::read_dir(&at).unwrap().flatten().map(|e| e.file_name()).collect();
    run("umount", &[at.to_str().unwrap()]);
    assert_eq!(subvolumes, ["@root"], "{what}");
}

/// Stopped after each of its commands, it ends, done again, as if it had run once.
#[test]
fn stopped_after_any_command_it_starts_clean() {
    if !can_run(
        "stopped_after_any_command_it_starts_clean",
        true,
        &["sfdisk", "mkfs.ext4", "mkfs.btrfs", "btrfs", "mkswap"],
    ) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = lab.image("disk.img", 200 * MIB);
    applied(INTERRUPTED, &image, &Options::default());
    let first = found(&image);
    let mut points = 0;
    for after in 0.. {
        let prepared = lab::prepared(INTERRUPTED, &image, &Options::default()).unwrap();
        let ended =
            apply(&Machine::default(), &mut Dies { after }, &[prepared], &Options::default(), &mut |_| {});
        if ended.is_ok() {
            break;
        }
        points += 1;
        assert_whole_again(&lab, &image, &first, &format!("after {after} commands"));
    }
    assert!(points > 12, "{points} commands");
}

/// The program itself, killed at twenty moments of its life.
#[test]
fn killed_at_any_moment_it_starts_clean() {
    if !can_run(
        "killed_at_any_moment_it_starts_clean",
        true,
        &["sfdisk", "mkfs.ext4", "mkfs.btrfs", "btrfs", "mkswap"],
    ) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = lab.image("disk.img", 200 * MIB);
    let desc = lab.file("lab.desc", INTERRUPTED);
    applied(INTERRUPTED, &image, &Options::default());
    let first = found(&image);
    let temporary = lab.path("");
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_ka-desc"))
            .arg("apply")
            .arg(&desc)
            .args(["--yes", "--disk", image.to_str().unwrap()])
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    #[allow(clippy::disallowed_methods, reason = "a moment is what this is about")]
    let (clock, sleep) = (std::time::Instant::now, std::thread::sleep);
    let begun = clock();
    assert!(start().wait().unwrap().success());
    let takes = begun.elapsed();
    // Not quite random: spread over the time that it takes, so that each phase is met.
    for moment in 0..20 {
        let mut child = start();
        sleep(takes * moment / 20);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_whole_again(&lab, &image, &first, &format!("killed after {moment}/20"));
    }
}

/// What cannot be formatted says so, with what the tool said.
#[test]
fn a_tool_s_message_is_kept() {
    if !can_run("a_tool_s_message_is_kept", true, &["sfdisk", "mkfs.ext4"]) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = lab.image("disk.img", 20 * MIB);
    struct Breaks;
    impl Runner for Breaks {
        fn read(&mut self, call: &Call) -> Result<String, Failure> {
            Here.read(call)
        }
        fn write(&mut self, call: &Call) -> Result<String, Failure> {
            let mut call = call.clone();
            if call.program == "mkfs.ext4" {
                call.args.insert(0, "-Z".into());
            }
            Here.write(&call)
        }
        fn has(&self, program: &str) -> bool {
            Here.has(program)
        }
    }
    let prepared = lab::prepared("linux fill ext4\n", &image, &Options::default()).unwrap();
    let error =
        apply(&Machine::default(), &mut Breaks, &[prepared], &Options::default(), &mut |_| {}).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("`mkfs.ext4 -Z -F -q /dev/loop") && text.contains("invalid option"), "{text}");
    lab::wait_until_free(&image);
}
