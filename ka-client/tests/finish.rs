//! A whole clone on images: its disk written, its files there, GRUB's own tools to compare its boot records with.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ka_client::finish::{Target, finish};
use ka_desc::boot::{check, pieces};
use ka_desc::error::Error;
use ka_desc::layout::{Found, Geometry};
use ka_desc::machine::Machine;
use ka_desc::manifest::{Boot, DiskFacts, Files, Firmware, GoldenUuid, Manifest, Part, Piece, VERSION};
use ka_desc::run::Here;
use ka_desc::write::{Options, Prepared, look, mount, unmount};
use lab::{Lab, applied, can_run, output, run};

#[path = "../../ka-desc/tests/lab/mod.rs"]
mod lab;

const MIB: u64 = 1 << 20;
const TOOLS: [&str; 6] = ["sfdisk", "mkfs.ext4", "mkswap", "blkid", "losetup", "mount"];
const SETUP: &str = "/usr/lib/grub/i386-pc/grub-bios-setup";

/// Whether GRUB's tools for BIOS are here; said as the others are.
fn has_grub(test: &str) -> bool {
    let all = [SETUP, "/usr/lib/grub/i386-pc/boot.img"].iter().all(|file| Path::new(file).exists());
    can_run(test, true, if all { &["grub-mkimage"] } else { &["grub-bios-setup (grub-pc-bin)"] })
}

/// Puts GRUB on a disk image as `grub-install` does, its files on the file system that begins at byte `at`.
fn grub(lab: &mut Lab, image: &Path, at: u64, bytes: u64) {
    let name = image.file_stem().unwrap().to_str().unwrap().to_owned();
    let whole = lab.attach(image, &[]);
    let part = lab.attach(image, &["--offset", &at.to_string(), "--sizelimit", &bytes.to_string()]);
    let dir = lab.path(&format!("grub-{name}"));
    fs::create_dir(&dir).unwrap();
    run("mount", &[part.to_str().unwrap(), dir.to_str().unwrap()]);
    fs::copy("/usr/lib/grub/i386-pc/boot.img", dir.join("boot.img")).unwrap();
    let core = dir.join("core.img").display().to_string();
    let modules = ["biosdisk", "part_gpt", "part_msdos", "ext2", "normal"];
    run("grub-mkimage", &[&["-O", "i386-pc", "-p", "(,3)/boot/grub", "-o", &core][..], &modules].concat());
    let map = lab.file(&format!("{name}.map"), &format!("(hd0) {}\n", whole.display()));
    let args =
        ["--skip-fs-probe", "--device-map", map.to_str().unwrap(), "--directory", dir.to_str().unwrap()];
    let out = output(SETUP, &[&args[..], &[whole.to_str().unwrap()]].concat());
    run("umount", &[dir.to_str().unwrap()]);
    lab.detach_all();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn found(image: &Path) -> (Found, Geometry) {
    let facts = Machine::default().facts(image, 512).unwrap();
    (look(&mut Here, &facts).unwrap().unwrap(), facts.geometry)
}

/// The pieces of an image, and the stream that they make.
fn carried(image: &Path) -> (Vec<Piece>, Vec<u8>) {
    let (found, geometry) = found(image);
    let mut read = |range: Range<u64>| {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        File::open(image)?.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    };
    let all = pieces("sda", &found, geometry, &mut read).unwrap();
    (
        all.iter().map(|(piece, _)| piece.clone()).collect(),
        all.into_iter().flat_map(|(_, bytes)| bytes).collect(),
    )
}

fn plan(desc: &str, pieces: Vec<Piece>) -> Manifest {
    Manifest {
        version: VERSION,
        golden: "golden".into(),
        time_s: 0,
        desc: desc.into(),
        disks: vec![DiskFacts { name: "sda".into(), bytes: 1, modules: Vec::new() }],
        needs: Vec::new(),
        files: Files { bytes: 0, mounts: Vec::new(), excluded: Vec::new() },
        raw: Vec::new(),
        boot: Boot { firmware: vec![Firmware::Bios], pieces, uefi: None, install: None },
        new_uuids: false,
        uuids: Vec::new(),
    }
}

/// A clone of which only the files are missing: written and mounted.
fn mounted(lab: &Lab, name: &str, text: &str, mib: u64) -> (PathBuf, Prepared) {
    let image = lab.image(&format!("{name}.img"), mib * MIB);
    let disk = applied(text, &image, &Options::default());
    let root = lab.path(name);
    fs::create_dir(&root).unwrap();
    mount(&Machine::default(), &mut Here, std::slice::from_ref(&disk), &root).unwrap();
    (root, disk)
}

fn finished(
    plan: &Manifest,
    root: &Path,
    disk: &Prepared,
    boot: &[u8],
) -> Result<(Vec<String>, Vec<String>), Error> {
    let machine = Machine::default();
    let disks = std::slice::from_ref(disk);
    let clone = Target { plan, root, disks, machine: &machine, firmware: Firmware::Bios };
    let mut told = Vec::new();
    let changed = finish(&clone, boot, &mut Here, &mut |remark| told.push(format!("{remark:?}")))?;
    Ok((changed, told))
}

/// What GRUB's own tool would have written there is what the clone has.
fn same_as_grubs_own(test: &str, golden_text: &str, clone_text: &str) {
    if !has_grub(test) || !can_run(test, true, &TOOLS) {
        return;
    }
    let mut lab = Lab::new();
    let golden = lab.image("golden.img", 96 * MIB);
    let disk = applied(golden_text, &golden, &Options::default());
    let root_of = |disk: &Prepared| {
        let p = disk.plan.partitions.iter().find(|p| p.line.mount.as_deref() == Some("/")).unwrap();
        (disk.plan.bytes(p.start), disk.plan.bytes(p.sectors))
    };
    let (at, bytes) = root_of(&disk);
    grub(&mut lab, &golden, at, bytes);
    let (pieces, boot) = carried(&golden);
    check(&pieces, &boot).unwrap();

    let (root, disk) = mounted(&lab, "clone", clone_text, 160);
    let (_, told) = finished(&plan(clone_text, pieces), &root, &disk, &boot).unwrap();
    assert!(told.iter().any(|line| line.contains("boot code")), "{told:?}");
    unmount(&Machine::default(), &mut Here, &root).unwrap();
    lab::wait_until_free(&disk.facts.path);

    let (at, bytes) = root_of(&disk);
    let again = lab.path("again.img");
    fs::copy(&disk.facts.path, &again).unwrap();
    grub(&mut lab, &again, at, bytes);
    let (cloned, own) = (fs::read(&disk.facts.path).unwrap(), fs::read(&again).unwrap());
    for room in ka_desc::write::record_rooms(&disk.plan) {
        let range = room.start as usize..room.end as usize;
        assert!(cloned[range.clone()] == own[range], "bytes {room:?} differ");
    }
}

#[test]
fn a_core_in_the_gap_is_where_grub_puts_it() {
    let golden = "disk sda\ntable mbr\nswap 4\nlinux 10\nlinux fill ext4 mount /\n";
    let clone = "disk sda\ntable mbr\nswap 40\nlinux 10\nlinux fill ext4 mount /\n";
    same_as_grubs_own("a_core_in_the_gap_is_where_grub_puts_it", golden, clone);
}

#[test]
fn a_core_in_a_bios_boot_partition_that_is_elsewhere_is_where_grub_puts_it() {
    let golden = "disk sda\ntable gpt\nswap 4\nbios_boot 1\nlinux fill ext4 mount /\n";
    let clone = "disk sda\ntable gpt\nswap 40\nbios_boot 1\nlinux fill ext4 mount /\n";
    same_as_grubs_own(
        "a_core_in_a_bios_boot_partition_that_is_elsewhere_is_where_grub_puts_it",
        golden,
        clone,
    );
}

#[test]
fn a_clone_becomes_itself_and_nothing_stays_mounted_in_it() {
    if !can_run("a_clone_becomes_itself_and_nothing_stays_mounted_in_it", true, &TOOLS) {
        return;
    }
    let lab = Lab::new();
    let text = "disk sda\ntable mbr\nlinux 20 ext4 mount /\nlinux 10 ext4 mount /home\nswap fill\n";
    let (root, disk) = mounted(&lab, "clone", text, 64);
    let mut plan = plan(text, Vec::new());
    let old = |number| format!("8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e0{number}");
    let uuid = |number| GoldenUuid { part: Part { disk: "sda".into(), number }, uuid: old(number) };
    plan.uuids = (1..=3).map(uuid).collect();
    fs::create_dir(root.join("etc")).unwrap();
    let fstab = |uuid: &dyn Fn(u32) -> String| {
        format!("UUID={} / ext4\nUUID={} /home ext4\nUUID={} none swap\n", uuid(1), uuid(2), uuid(3))
    };
    fs::write(root.join("etc/fstab"), fstab(&old)).unwrap();
    fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let (changed, told) = finished(&plan, &root, &disk, &[]).unwrap();
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert!(told.iter().any(|line| line.contains("no kernel")), "{told:?}");
    let (found, _) = found(&disk.facts.path);
    let new = |number| found.partition(number).unwrap().contents.clone().unwrap().uuid.unwrap();
    assert_eq!(fs::read_to_string(root.join("etc/fstab")).unwrap(), fstab(&new));
    assert_eq!(fs::read(root.join("etc/machine-id")).unwrap(), b"");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(mounts.lines().filter(|line| line.contains(root.to_str().unwrap())).count(), 2, "{mounts}");
    unmount(&Machine::default(), &mut Here, &root).unwrap();
    lab::wait_until_free(&disk.facts.path);
}
