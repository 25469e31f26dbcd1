//! Boot records to the disks of a clone.

use ka_desc::run::Runner;
use ka_desc::write::{Options, record};

use super::Clone;
use crate::plan::{Piece, Place};
use crate::record::relocate;

/// Writes the pieces where this clone has room for them, with GRUB's numbers changed accordingly.
pub(super) fn write(
    clone: &Clone<'_>,
    boot: &[u8],
    runner: &mut dyn Runner,
    tell: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let pieces = &clone.plan.boot.pieces;
    let starts = pieces.iter().map(|piece| start(clone, piece)).collect::<Result<Vec<u64>, String>>()?;
    let all = match relocate(pieces, boot, &starts) {
        // The clone's own tools write what is needed.
        Err(why) if clone.plan.boot.install.is_some() => {
            tell(&format!("the golden node's boot records are not used: {why}"));
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
        tell(&format!("{}: {what}, {} bytes", disk.facts.path.display(), bytes.len()));
        let options = Options { image_sector_bytes: sector_bytes, ..Options::default() };
        record(clone.machine, runner, disk, start * u64::from(sector_bytes), bytes, &options)
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The sector at which the room for a piece begins.
fn start(clone: &Clone<'_>, piece: &Piece) -> Result<u64, String> {
    let disk = clone.disk(&piece.disk)?;
    let path = disk.facts.path.display();
    if disk.plan.geometry.sector_bytes != 512 {
        return Err(format!(
            "{path} has sectors of {} bytes, and BIOS boots from such of 512 only: use another disk, or UEFI",
            disk.plan.geometry.sector_bytes
        ));
    }
    match piece.place {
        Place::Mbr => Ok(0),
        Place::Gap => Ok(1),
        Place::Partition(number) => {
            let placed = disk.plan.partitions.iter().find(|p| p.number == number).map(|p| p.start);
            placed.ok_or_else(|| format!("{path} has no partition {number}, where the boot loader belongs"))
        }
    }
}
