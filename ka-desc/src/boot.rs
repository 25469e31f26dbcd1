//! Boot records: which pieces a disk has, and what becomes of GRUB's numbers when a piece goes elsewhere. Pure.
//!
//! ```text
//! sector 0      boot.img       at 0x5C: the first sector of the core ─┐
//! gap, or BIOS  core.img  ◀───────────────────────────────────────────┘
//! boot          its first sector (diskboot.img) has a list of the others, from 0x1F4 downwards
//! ```
//!
//! The numbers count sectors from the disk's beginning. In a gap they stay true; a BIOS boot partition may begin
//! elsewhere on a clone. A core that lies in a file system comes with the files, so its sectors on a clone are unknown:
//! that is refused.
//!
//! What is absent: boot loaders in the first sector of a partition, and other loaders' numbers. Their pieces travel as
//! they are.

use std::io;
use std::ops::Range;

use crate::error::Error;
use crate::language::{Guid, Kind, Table};
use crate::layout::{Found, Geometry};
use crate::manifest::{Piece, Place};
use crate::write::CODE_BYTES;

/// Bytes of a sector, as firmware and boot loaders count.
const SECTOR: u64 = 512;

/// The most bytes of a gap, or of a BIOS boot partition, that travel. GRUB's core has at most half of it.
const ROOM_BYTES_MAX: u64 = 1 << 20;

/// The offset in boot.img of the number of the sector that it loads.
const KERNEL_SECTOR_AT: usize = 0x5C;

/// The offset of the first entry of diskboot.img's list; the next ones are before it.
const FIRST_BLOCK_AT: usize = 0x1F4;

/// An entry: a first sector (8 bytes), a number of sectors (2), where they go in memory (2).
const BLOCK_BYTES: usize = 12;

/// Diskboot.img's code ends before this.
const LAST_BLOCK_AT: usize = 0x100;

/// The pieces of boot records that a disk has, each with its bytes; none if it does not boot by BIOS. `disk` is the
/// desc's name for it; `read` gives a range of the disk's bytes.
///
/// # Errors
/// What `read` said.
pub fn pieces(
    disk: &str,
    found: &Found,
    geometry: Geometry,
    read: &mut dyn FnMut(Range<u64>) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<(Piece, Vec<u8>)>> {
    // BIOS boots from sectors of 512 bytes only.
    if u64::from(geometry.sector_bytes) != SECTOR {
        return Ok(Vec::new());
    }
    let first = read(0..SECTOR)?;
    let code = &first[..CODE_BYTES as usize];
    if first[510..] != [0x55, 0xAA] || code.iter().all(|byte| *byte == 0) {
        return Ok(Vec::new());
    }
    let rooms: Vec<(Place, Range<u64>)> = match found.table {
        Table::Mbr => {
            let end = found.partitions.iter().map(|p| p.start).min().unwrap_or(1 << 11);
            vec![(Place::Gap, 1..end)]
        }
        Table::Gpt => {
            let boot =
                |kind: &str| kind.parse::<Guid>().is_ok_and(|guid| Kind::of_gpt_type(guid) == Kind::BiosBoot);
            let parts = found.partitions.iter().filter(|p| boot(&p.kind));
            parts.map(|p| (Place::Partition(p.number), p.start..p.end())).collect()
        }
    };
    let piece =
        |place, sector, bytes: &[u8]| Piece { disk: disk.into(), place, sector, bytes: bytes.len() as u64 };
    let mut all = vec![(piece(Place::Mbr, 0, code), code.to_vec())];
    for (place, sectors) in rooms {
        // A table may say more than there is.
        let byte = |sector: u64| sector.saturating_mul(SECTOR).min(geometry.disk_bytes);
        let start = byte(sectors.start);
        let end = byte(sectors.end).min(start.saturating_add(ROOM_BYTES_MAX));
        let mut bytes = if start < end { read(start..end)? } else { Vec::new() };
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
        // Zeros that GRUB loads must be there, whatever was on the clone's disk before.
        let used = used.max(listed_end(code, &bytes, sectors.start) * SECTOR).next_multiple_of(SECTOR);
        bytes.truncate(used as usize);
        if !bytes.is_empty() {
            all.push((piece(place, sectors.start, &bytes), bytes));
        }
    }
    Ok(all)
}

/// The number of sectors of `bytes`, which begin at `sector`, up to the last one that GRUB loads; 0 if its core is not
/// there.
fn listed_end(code: &[u8], bytes: &[u8], sector: u64) -> u64 {
    let core = kernel_sector(code).and_then(|at| usize::try_from(at.checked_sub(sector)?).ok());
    let Some(core) = core.and_then(|at| bytes.chunks_exact(SECTOR as usize).nth(at)) else { return 0 };
    let end = |(_, first, sectors): (usize, u64, u64)| first.checked_add(sectors)?.checked_sub(sector);
    // What is beyond the room is no reason to read more than it has.
    let room = bytes.len() as u64 / SECTOR;
    blocks(core).into_iter().filter_map(end).filter(|end| *end <= room).max().unwrap_or(0)
}

/// The bytes of each piece as a clone gets them; `starts` are the sectors at which its rooms for them begin. `boot` is
/// the stream of that name: the pieces one after another.
///
/// # Errors
/// A sentence: the stream is not as long as the pieces, or GRUB loads what no piece brings.
pub fn relocate(pieces: &[Piece], boot: &[u8], starts: &[u64]) -> Result<Vec<Vec<u8>>, Error> {
    let mut all = split(pieces, boot)?;
    for (at, piece) in pieces.iter().enumerate().filter(|(_, piece)| piece.place == Place::Mbr) {
        let Some(kernel) = kernel_sector(&all[at]) else { continue };
        let elsewhere = |sector: u64, sectors: u64| moved(pieces, starts, &piece.disk, sector, sectors);
        let (core, to) = elsewhere(kernel, 1).ok_or_else(|| lost(&piece.disk, kernel))?;
        all[at][KERNEL_SECTOR_AT..][..8].copy_from_slice(&to.to_le_bytes());
        let offset = ((kernel - pieces[core].sector) * SECTOR) as usize;
        let Some(first) = all[core].get_mut(offset..offset + SECTOR as usize) else {
            return Err(lost(&piece.disk, kernel));
        };
        for (at, sector, sectors) in blocks(first) {
            let (_, to) = elsewhere(sector, sectors).ok_or_else(|| lost(&piece.disk, sector))?;
            first[at..][..8].copy_from_slice(&to.to_le_bytes());
        }
    }
    Ok(all)
}

/// Whether clones can boot by these pieces, wherever they go.
///
/// # Errors
/// A sentence: see [`relocate`].
pub fn check(pieces: &[Piece], boot: &[u8]) -> Result<(), Error> {
    relocate(pieces, boot, &pieces.iter().map(|piece| piece.sector).collect::<Vec<_>>()).map(drop)
}

fn lost(disk: &str, sector: u64) -> Error {
    format!(
        "GRUB on disk {disk} loads sector {sector}, which is in no boot record: its core is in a file system, where each \
         clone has it elsewhere. Let the clones' own tools install it: -r grub"
    )
    .into()
}

/// The stream `boot`, piece by piece.
fn split(pieces: &[Piece], boot: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut rest = boot;
    let mut all = Vec::new();
    for piece in pieces {
        let taken = usize::try_from(piece.bytes).ok().and_then(|bytes| rest.split_at_checked(bytes));
        let (bytes, behind) = taken.ok_or("the stream of boot records is shorter than the plan says")?;
        all.push(bytes.to_vec());
        rest = behind;
    }
    if rest.is_empty() {
        Ok(all)
    } else {
        Err("the stream of boot records is longer than the plan says".into())
    }
}

/// The sector that GRUB's boot.img loads; `None` if the code is something else.
fn kernel_sector(code: &[u8]) -> Option<u64> {
    let grub = code.starts_with(&[0xEB, 0x63]) && code.windows(6).any(|text| text == b"GRUB \0");
    let number = code.get(KERNEL_SECTOR_AT..KERNEL_SECTOR_AT + 8)?;
    grub.then(|| u64::from_le_bytes(number.try_into().expect("eight bytes")))
}

/// The list in a core's first sector: where each entry is, its first sector, and how many it has.
fn blocks(core: &[u8]) -> Vec<(usize, u64, u64)> {
    let mut list = Vec::new();
    let mut at = FIRST_BLOCK_AT;
    while at >= LAST_BLOCK_AT {
        let sector = u64::from_le_bytes(core[at..at + 8].try_into().expect("eight bytes"));
        let sectors = u16::from_le_bytes(core[at + 8..at + 10].try_into().expect("two bytes"));
        if sectors == 0 {
            break;
        }
        list.push((at, sector, sectors.into()));
        at -= BLOCK_BYTES;
    }
    list
}

/// In which piece of the disk these sectors travel, and at which sector they begin on the clone.
fn moved(pieces: &[Piece], starts: &[u64], disk: &str, sector: u64, sectors: u64) -> Option<(usize, u64)> {
    let holds = |piece: &Piece| {
        let end = piece.sector.checked_add(piece.bytes / SECTOR);
        let within =
            piece.sector <= sector && sector.checked_add(sectors).is_some_and(|last| Some(last) <= end);
        piece.disk == disk && piece.place != Place::Mbr && within
    };
    let at = pieces.iter().position(holds)?;
    Some((at, (sector - pieces[at].sector).checked_add(starts[at])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::FoundPartition;
    use proptest::prelude::*;

    /// A disk whose first partition, or whose BIOS boot partition, begins at sector `at`; GRUB's core is `core` sectors
    /// behind the room's start, and its list has two entries.
    fn disk(table: Table, at: u64, core: u64) -> (Found, Vec<u8>) {
        let bios_boot = "21686148-6449-6E6F-744E-656564454649";
        let kind = if table == Table::Gpt { bios_boot } else { "83" };
        let part =
            FoundPartition { number: 3, start: at, sectors: 64, kind: kind.into(), ..Default::default() };
        let room = if table == Table::Gpt { at } else { 1 };
        let mut bytes = vec![0; ((at + 64) * SECTOR) as usize];
        bytes[..2].copy_from_slice(&[0xEB, 0x63]);
        bytes[0x180..0x186].copy_from_slice(b"GRUB \0");
        bytes[0x5C..0x64].copy_from_slice(&(room + core).to_le_bytes());
        bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
        let core_at = ((room + core) * SECTOR) as usize;
        bytes[core_at] = 0x52;
        for (entry, first, sectors) in [(0x1F4, room + core + 1, 5_u16), (0x1E8, room + core + 8, 3)] {
            bytes[core_at + entry..][..8].copy_from_slice(&first.to_le_bytes());
            bytes[core_at + entry + 8..][..2].copy_from_slice(&sectors.to_le_bytes());
        }
        (Found { table, id: None, partitions: vec![part] }, bytes)
    }

    fn carried(found: &Found, bytes: &[u8]) -> (Vec<Piece>, Vec<u8>) {
        let geometry = Geometry { disk_bytes: bytes.len() as u64, sector_bytes: 512 };
        let mut read = |range: Range<u64>| Ok(bytes[range.start as usize..range.end as usize].to_vec());
        let all = pieces("sda", found, geometry, &mut read).unwrap();
        assert!(all.iter().all(|(piece, bytes)| piece.bytes == bytes.len() as u64));
        let boot = all.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        (all.into_iter().map(|(piece, _)| piece).collect(), boot)
    }

    #[test]
    fn a_disk_that_does_not_boot_has_no_pieces() {
        let (found, mut bytes) = disk(Table::Mbr, 64, 0);
        bytes[510] = 0;
        assert_eq!(carried(&found, &bytes).0, []);
        let (_, mut bytes) = disk(Table::Mbr, 64, 0);
        bytes[..440].fill(0);
        assert_eq!(carried(&found, &bytes).0, []);
        let geometry = Geometry { disk_bytes: 1 << 20, sector_bytes: 4096 };
        assert_eq!(pieces("sda", &found, geometry, &mut |_| unreachable!()).unwrap(), []);
    }

    #[test]
    fn the_code_travels_and_what_is_behind_it_up_to_the_last_sector_that_is_loaded() {
        let (found, bytes) = disk(Table::Mbr, 64, 0);
        let (pieces, boot) = carried(&found, &bytes);
        let places: Vec<(Place, u64, u64)> = pieces.iter().map(|p| (p.place, p.sector, p.bytes)).collect();
        assert_eq!(places, [(Place::Mbr, 0, 440), (Place::Gap, 1, 11 * 512)]);
        assert_eq!(boot[440..], bytes[512..12 * 512]);
        let (found, bytes) = disk(Table::Gpt, 40, 2);
        let (pieces, _) = carried(&found, &bytes);
        assert_eq!((pieces[1].place, pieces[1].sector, pieces[1].bytes), (Place::Partition(3), 40, 13 * 512));
    }

    #[test]
    fn another_loader_travels_as_it_is() {
        let (found, mut bytes) = disk(Table::Mbr, 64, 0);
        bytes[0x180] = b'X';
        bytes[0x5C] = 0xFF;
        let (pieces, boot) = carried(&found, &bytes);
        assert_eq!(pieces[1].bytes, 512, "its one sector that is not empty");
        assert_eq!(relocate(&pieces, &boot, &[0, 7]).unwrap().concat(), boot);
    }

    #[test]
    fn a_core_that_is_not_carried_is_refused_with_the_way_out() {
        let (found, mut bytes) = disk(Table::Mbr, 64, 0);
        bytes[0x5C..0x64].copy_from_slice(&1_000_000_u64.to_le_bytes());
        let (pieces, boot) = carried(&found, &bytes);
        let why = check(&pieces, &boot).unwrap_err().to_string();
        assert!(why.contains("sector 1000000") && why.contains("-r grub"), "{why}");
        let (found, mut bytes) = disk(Table::Mbr, 64, 0);
        bytes[512 + 0x1E8..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let (pieces, boot) = carried(&found, &bytes);
        assert!(check(&pieces, &boot).unwrap_err().to_string().contains(&u64::MAX.to_string()));
        assert!(check(&pieces, &boot[1..]).unwrap_err().to_string().contains("shorter"));
        assert!(check(&pieces, &[&boot[..], &[0]].concat()).unwrap_err().to_string().contains("longer"));
    }

    #[test]
    fn what_a_table_says_is_read_as_far_as_there_is_a_disk() {
        let geometry = Geometry { disk_bytes: 4 << 20, sector_bytes: 512 };
        let mut first = vec![0; 512];
        (first[0], first[510], first[511]) = (1, 0x55, 0xAA);
        let kind = "21686148-6449-6E6F-744E-656564454649".to_owned();
        let boot =
            |start, sectors| FoundPartition { start, sectors, kind: kind.clone(), ..Default::default() };
        for (start, sectors, read) in
            [(2048, u64::MAX, 1 << 20), (8000, 400, 192 * 512), (1 << 55, 1, 0), (u64::MAX, u64::MAX, 0)]
        {
            let found = Found { table: Table::Gpt, id: None, partitions: vec![boot(start, sectors)] };
            let mut asked = 0;
            pieces("sda", &found, geometry, &mut |range| {
                asked += range.end - range.start;
                Ok(if range.start == 0 { first.clone() } else { vec![1; (range.end - range.start) as usize] })
            })
            .unwrap();
            assert_eq!(asked, 512 + read, "{start}");
        }
    }

    proptest! {
        /// Sectors that were at a place on the golden disk are loaded from the same place of the clone's room.
        #[test]
        fn numbers_follow_their_room(at in 34..3000_u64, to in 34..u64::MAX / 2, core in 0..20_u64) {
            let (found, bytes) = disk(Table::Gpt, at, core);
            let (pieces, boot) = carried(&found, &bytes);
            let moved = relocate(&pieces, &boot, &[0, to]).unwrap();
            prop_assert_eq!(kernel_sector(&moved[0]), Some(to + core));
            let first = &moved[1][(core * SECTOR) as usize..][..512];
            let list: Vec<(u64, u64)> = blocks(first).into_iter().map(|(_, first, n)| (first, n)).collect();
            prop_assert_eq!(list, [(to + core + 1, 5), (to + core + 8, 3)]);
            // Nothing else has changed, and the way back gives what was there.
            let there: Vec<Piece> =
                pieces.iter().zip([0, to]).map(|(piece, sector)| Piece { sector, ..piece.clone() }).collect();
            prop_assert_eq!(relocate(&there, &moved.concat(), &[0, at]).unwrap().concat(), boot);
        }

        /// Nothing that a stranger could send makes it fail otherwise than with a sentence.
        #[test]
        fn any_bytes_are_borne(
            mut boot in prop::collection::vec(any::<u8>(), 440 + 1024),
            kernel in 0..20_u64,
            starts in any::<[u64; 2]>(),
            sector in any::<u64>(),
        ) {
            boot[..2].copy_from_slice(&[0xEB, 0x63]);
            boot[0x180..0x186].copy_from_slice(b"GRUB \0");
            boot[0x5C..0x64].copy_from_slice(&sector.wrapping_add(kernel).to_le_bytes());
            let piece = |place, sector, bytes| Piece { disk: "sda".into(), place, sector, bytes };
            let pieces = [piece(Place::Mbr, 0, 440), piece(Place::Gap, sector, 1024)];
            let _ = relocate(&pieces, &boot, &starts);
        }
    }
}
