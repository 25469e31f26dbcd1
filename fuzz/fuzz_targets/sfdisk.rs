//! A table in sfdisk's JSON, and what is made of it: the desc of the disk, a plan for the same disk, its boot records.
//!
//! Behind a zero the input goes on with what is on the disk.
#![no_main]

use ka_desc::boot::{check, pieces};
use ka_desc::capture::capture;
use ka_desc::language::{faults, parse};
use ka_desc::layout::{Geometry, Plan};
use ka_desc::machine::found;
use ka_fuzz::{begin_with, image, output};
use libfuzzer_sys::fuzz_target;

/// The most bytes that boot records are read of at once.
const ROOM_BYTES_MAX: u64 = 1 << 20;

const FSTAB: &str =
    "UUID=1A2B-3C4D /boot/efi vfat umask=0077\nLABEL=root / btrfs subvol=@\n/dev/sda1 /x ext4\n";

/// A table by hand: an MBR of old with logicals and a boot sector behind it.
const MBR: &str = r#"{"partitiontable": {"label": "dos", "id": "0x1a2b3c4d", "unit": "sectors", "partitions": [
    {"node": "/dev/sda1", "start": 63, "size": 204800, "type": "7", "bootable": true},
    {"node": "/dev/sda2", "start": 206848, "size": 409600, "type": "f"},
    {"node": "/dev/sda5", "start": 206911, "size": 202752, "type": "83"},
    {"node": "/dev/sda6", "start": 411648, "size": 204800, "type": "82"}]}}"#;

/// The JSON of a disk that sfdisk has made by this script.
fn made(script: &str) -> Option<Vec<u8>> {
    let sfdisk = format!("printf '{script}' | sfdisk --quiet \"$0\"");
    image(256 << 20, "sh", &["-c", &sfdisk], |path| output("sfdisk", &["--json", path]))
}

/// A GPT of as many partitions as it has entries for.
fn full() -> String {
    format!("label: gpt\\n{}", "size=1MiB, name=\"a b\"\\n".repeat(128))
}

fn seeds() -> Vec<Vec<u8>> {
    let mixed = "label: gpt\\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649\\n\
                 size=64MiB, type=uefi, attrs=\"RequiredPartition GUID:60,63\"\\ntype=linux, name=root\\n";
    let logicals = "label: dos\\nsize=64MiB, type=83, bootable\\ntype=5\\nsize=32MiB\\nsize=32MiB\\n";
    let mut record = vec![0; 512];
    record[..2].copy_from_slice(&[0xEB, 0x63]);
    record[0x5c] = 1;
    record[0x180..0x186].copy_from_slice(b"GRUB \0");
    record[510..].copy_from_slice(&[0x55, 0xAA]);
    let mut core = vec![1; 1024];
    core[0x1f4..0x200].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x20, 8]);
    let mbr = [MBR.as_bytes(), &[0], &record, &core].concat();
    std::iter::once(mbr).chain([mixed, logicals, &full()].into_iter().filter_map(made)).collect()
}

fuzz_target!(init: begin_with(seeds()), |bytes: &[u8]| {
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let disk = bytes.get(cut + 1..).unwrap_or_default();
    let Ok(Some(found)) = found(&String::from_utf8_lossy(&bytes[..cut])) else { return };
    let geometry = Geometry { disk_bytes: 256 << 20, sector_bytes: if cut % 8 == 0 { 4096 } else { 512 } };
    match capture(&found, geometry, FSTAB, cut % 2 == 0) {
        Ok(captured) => {
            assert!(faults(&captured.desc).is_empty());
            assert_eq!(parse(captured.desc.to_string()).as_ref(), Ok(&captured.desc));
            let plan = Plan::new(&captured.desc.disks[0], geometry, Some(&found));
            if let Ok(plan) = plan {
                let _ = plan.differences(&found);
            }
        }
        Err(problems) => assert!(problems.iter().all(|problem| !problem.to_string().is_empty())),
    }
    let records = pieces("sda", &found, geometry, &mut |range| {
        let length = range.end - range.start;
        assert!(length > 0 && length <= ROOM_BYTES_MAX, "a bounded read: {range:?}");
        let mut read = vec![0; length as usize];
        let there = usize::try_from(range.start).ok().and_then(|at| disk.get(at..)).unwrap_or_default();
        let there = &there[..there.len().min(read.len())];
        read[..there.len()].copy_from_slice(there);
        Ok(read)
    });
    let (all, contents): (Vec<_>, Vec<_>) = records.expect("every read succeeds").into_iter().unzip();
    assert!(all.iter().zip(&contents).all(|(piece, content)| piece.bytes == content.len() as u64));
    let _ = check(&all, &contents.concat());
});
