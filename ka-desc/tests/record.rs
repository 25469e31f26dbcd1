//! Bytes of boot records on images: where they may go, and what refuses them.

use std::fs::{self, File};

use ka_desc::machine::Machine;
use ka_desc::run::{DryRun, Here, Runner};
use ka_desc::write::{Options, Prepared, record};
use lab::{Lab, applied, can_run, sfdisk, whole};

mod lab;

const MIB: u64 = 1 << 20;

fn write(disk: &Prepared, at: u64, bytes: &[u8], runner: &mut dyn Runner) -> Result<(), String> {
    record(&Machine::default(), runner, disk, at, bytes, &Options::default()).map_err(|e| e.to_string())
}

#[test]
fn they_go_before_the_table_and_into_the_gap_and_nowhere_else() {
    if !can_run("they_go_before_the_table_and_into_the_gap_and_nowhere_else", true, &["sfdisk", "mkfs.ext4"])
    {
        return;
    }
    let lab = Lab::new();
    let image = lab.image("disk.img", 64 * MIB);
    let disk = applied("table mbr\nlinux 20 ext4\nlinux fill\n", &image, &Options::default());
    let before = fs::read(&image).unwrap();
    let code = vec![0xAB; 440];
    let gap = vec![0xCD; (MIB - 512) as usize];
    for (at, bytes) in [
        (0, &[1; 441][..]),
        (439, &[1, 2]),
        (440, &[1]),
        (511, &[1]),
        (512, &[gap.clone(), vec![1]].concat()),
        (MIB, &[1]),
        (63 * MIB, &[1]),
        (u64::MAX, &[1]),
    ] {
        let why = write(&disk, at, bytes, &mut Here).unwrap_err();
        assert!(why.contains("there is no room for a boot record"), "{at}: {why}");
    }
    write(&disk, 0, &code, &mut DryRun::new(Vec::new())).unwrap();
    assert_eq!(fs::read(&image).unwrap(), before, "nothing was written");
    write(&disk, 0, &code, &mut Here).unwrap();
    write(&disk, 512, &gap, &mut Here).unwrap();
    let after = fs::read(&image).unwrap();
    assert_eq!(after, [&code[..], &before[440..512], &gap, &before[MIB as usize..]].concat());
}

#[test]
fn another_table_or_another_disk_is_refused() {
    if !can_run("another_table_or_another_disk_is_refused", true, &["sfdisk"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.image("disk.img", 64 * MIB);
    let disk = applied("table gpt\nlinux 20\nbios_boot 1\nlinux fill\n", &image, &Options::default());
    write(&disk, 21 * MIB, b"core", &mut Here).unwrap();
    assert!(write(&disk, 512, b"core", &mut Here).unwrap_err().contains("no room"), "a GPT has no gap");
    assert!(
        write(&disk, 20 * MIB, b"core", &mut Here).unwrap_err().contains("no room"),
        "a partition's contents"
    );
    let locked = File::open(&image).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(write(&disk, 0, b"code", &mut Here).unwrap_err().contains("locked by another program"));
    drop(locked);
    sfdisk(&image, "label: gpt\nsize=10MiB\nsize=1MiB,type=21686148-6449-6E6F-744E-656564454649\n");
    let before = whole(&image);
    let why = write(&disk, 21 * MIB, b"core", &mut Here).unwrap_err();
    assert!(why.contains("has not become what was planned"), "{why}");
    assert_eq!(whole(&image), before);
    File::options().write(true).open(&image).unwrap().set_len(65 * MIB).unwrap();
    assert!(write(&disk, 0, b"code", &mut Here).unwrap_err().contains("is not what it was"));
}
