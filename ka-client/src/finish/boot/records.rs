//! Boot records to the disks of a clone.
//!
//! They are the golden node's own, so that a clone boots without any tool of its distribution.

use std::ops::Range;

use ka_desc::boot::relocate;
use ka_desc::error::Error;
use ka_desc::manifest::{Firmware, Manifest, Piece, Place};
use ka_desc::run::Runner;
use ka_desc::write::{Options, Prepared, record, record_rooms};

use crate::finish::remark::Remark;
use crate::finish::target::{Target, disk};

/// Why the golden node's boot records cannot be put on these disks, if this node needs them. Pure.
pub(crate) fn misfits(plan: &Manifest, disks: &[Prepared], firmware: Firmware) -> Vec<String> {
    let needed = firmware == Firmware::Bios && plan.boot.install.is_none();
    let pieces = plan.boot.pieces.iter().filter(|_| needed);
    let mut all: Vec<String> = pieces
        .filter_map(|piece| start(disk(plan, disks, &piece.disk).ok()?, piece).err())
        .map(|why| why.to_string())
        .collect();
    all.dedup();
    all
}

/// Writes the pieces where this clone has room for them, with GRUB's numbers changed accordingly.
pub(crate) fn write(
    clone: &Target<'_>,
    boot: &[u8],
    runner: &mut dyn Runner,
    tell: &mut dyn FnMut(Remark<'_>),
) -> Result<(), Error> {
    let pieces = &clone.plan.boot.pieces;
    let start = |piece: &Piece| start(clone.disk(&piece.disk)?, piece);
    let starts = pieces.iter().map(start).collect::<Result<Vec<u64>, Error>>();
    let all = starts.and_then(|starts| Ok((relocate(pieces, boot, &starts)?, starts)));
    let (all, starts) = match all {
        // The clone's own tools write what is needed, or nothing of this is.
        Err(why) if clone.plan.boot.install.is_some() || clone.firmware == Firmware::Uefi => {
            tell(Remark::Step(&format!("the golden node's boot records are not used: {why}")));
            return Ok(());
        }
        all => all?,
    };
    for ((piece, start), bytes) in pieces.iter().zip(starts).zip(&all) {
        let disk = clone.disk(&piece.disk)?;
        let sector_bytes = disk.plan.geometry.sector_bytes;
        let what = match piece.place {
            Place::Mbr => "the boot code",
            Place::Gap => "the boot loader behind the partition table",
            Place::Partition(_) => "the boot loader in its partition",
        };
        tell(Remark::Step(&format!("{}: {what}, {} bytes", disk.facts.path.display(), bytes.len())));
        let options = Options { image_sector_bytes: sector_bytes, ..Options::default() };
        record(clone.machine, runner, disk, start * u64::from(sector_bytes), bytes, &options)
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The sector at which the room for a piece begins.
fn start(disk: &Prepared, piece: &Piece) -> Result<u64, Error> {
    let path = disk.facts.path.display();
    if disk.plan.geometry.sector_bytes != 512 {
        return Err(format!(
            "{path} has sectors of {} bytes, and BIOS boots from such of 512 only: use another disk, or UEFI",
            disk.plan.geometry.sector_bytes
        )
        .into());
    }
    let start = match piece.place {
        Place::Mbr => 0,
        Place::Gap => 1,
        Place::Partition(number) => {
            let placed = disk.plan.partitions.iter().find(|p| p.number == number).map(|p| p.start);
            placed
                .ok_or_else(|| format!("{path} has no partition {number}, where the boot loader belongs"))?
        }
    };
    let at = start * 512;
    let has_room = |room: &Range<u64>| room.start <= at && at + piece.bytes <= room.end;
    if record_rooms(&disk.plan).iter().any(has_room) {
        return Ok(start);
    }
    Err(format!(
        "{path} has no room for the golden node's boot loader, {} bytes from sector {start} on: begin the first partition \
         later in the desc, make the BIOS boot partition larger, or let the clones' own tools install one (-r grub)",
        piece.bytes
    ).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::tests::{plan, prepared};
    use ka_desc::manifest::Install;

    #[test]
    fn a_loader_that_does_not_fit_is_known_before_anything_is_written() {
        let desc = "disk sda\ntable gpt\nbios_boot 1\nlinux fill ext4 mount /\n";
        let (mut plan, mut disks) = (plan(desc), prepared(desc));
        let piece = |place, bytes| Piece { disk: "sda".into(), place, sector: 0, bytes };
        plan.boot.pieces = vec![piece(Place::Mbr, 440), piece(Place::Partition(1), 1 << 20)];
        let misfits =
            |plan: &Manifest, disks: &[Prepared], firmware| misfits(plan, disks, firmware).join("; ");
        assert_eq!(misfits(&plan, &disks, Firmware::Bios), "");
        plan.boot.pieces[1].bytes += 1;
        assert!(misfits(&plan, &disks, Firmware::Bios).contains("1048577 bytes from sector 2048 on"));
        plan.boot.pieces[1].place = Place::Gap;
        assert!(misfits(&plan, &disks, Firmware::Bios).contains("from sector 1 on"), "a GPT is there");
        plan.boot.pieces[1].place = Place::Partition(9);
        assert!(misfits(&plan, &disks, Firmware::Bios).contains("no partition 9"));
        disks[0].plan.geometry.sector_bytes = 4096;
        assert!(misfits(&plan, &disks, Firmware::Bios).contains("sectors of 4096 bytes"));
        // Who starts by UEFI needs none of it, and tools of its own write what is needed.
        assert_eq!(misfits(&plan, &disks, Firmware::Uefi), "");
        plan.boot.install = Some(Install { args: Vec::new() });
        assert_eq!(misfits(&plan, &disks, Firmware::Bios), "");
    }
}
