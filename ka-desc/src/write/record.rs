//! Bytes of boot records, on a disk that was written by [`apply`](super::apply::apply()): the only bytes that no command
//! writes.
//!
//! ```text
//! MBR │code, 440 bytes│table│ gap … │ first partition …           room: the code, the gap
//! GPT │code, 440 bytes│table          │ … │ BIOS boot │ …          room: the code, BIOS boot partitions
//! ```
//!
//! Nothing else has room for them: no table, no file system, nothing that is kept.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};

use super::apply::lock;
use super::error::Error;
use super::prepare::{Options, Prepared, facts, look, refuse};
use crate::language::{Action, Kind, Table};
use crate::layout::{Placed, Plan};
use crate::machine::{Facts, Machine, Refusal};
use crate::run::Runner;

/// Bytes of a first sector that are code. The table's identity and the table follow.
pub const CODE_BYTES: u64 = 440;

/// The ranges of bytes on a disk that boot records may have: the code in the first sector, and the gap behind an MBR or
/// the BIOS boot partitions of a GPT that are not kept. Pure.
#[must_use]
pub fn record_rooms(plan: &Plan) -> Vec<Range<u64>> {
    let code = 0..CODE_BYTES;
    match plan.table {
        Table::Mbr => {
            let first = plan.partitions.iter().map(|p| p.start).min().unwrap_or(plan.usable.start);
            vec![code, plan.bytes(1)..plan.bytes(first)]
        }
        Table::Gpt => {
            let ours = |p: &&Placed| p.line.kind == Kind::BiosBoot && p.line.action != Action::Keep;
            let parts = plan.partitions.iter().filter(ours);
            std::iter::once(code).chain(parts.map(|p| plan.bytes(p.start)..plan.bytes(p.end()))).collect()
        }
    }
}

/// Writes `bytes` at byte `at` of a disk that was prepared and written, and reads them back. File systems of the disk
/// may be mounted. In a dry run nothing is written.
///
/// # Errors
/// There is no room for boot records; or the disk is another one, or has another table, than was planned: nothing was
/// written then. Or it does not hold what was written.
pub fn record(
    machine: &Machine,
    runner: &mut dyn Runner,
    disk: &Prepared,
    at: u64,
    bytes: &[u8],
    options: &Options,
) -> Result<(), Error> {
    let path = &disk.facts.path;
    let wrong = |why: String| Error::Wrong(path.clone(), vec![why]);
    let end = at.saturating_add(bytes.len() as u64);
    if !record_rooms(&disk.plan).iter().any(|room| room.start <= at && end <= room.end) {
        return Err(wrong(format!(
            "there is no room for a boot record of {} bytes at byte {at}: a partition or the table is there",
            bytes.len()
        )));
    }
    let _lock = lock(path)?;
    let now = facts(machine, path, options)?;
    let identity = |f: &Facts| (f.kind.clone(), f.serial.clone(), f.wwn.clone(), f.geometry);
    if identity(&now) != identity(&disk.facts) {
        refuse(vec![Refusal::Changed(path.clone())])?;
    }
    if runner.is_dry() {
        return Ok(());
    }
    let found = look(runner, &now)?.ok_or_else(|| wrong("there is no table".into()))?;
    let differences = disk.plan.differences(&found);
    if !differences.is_empty() {
        return Err(Error::Wrong(path.clone(), differences));
    }
    let same = write_at(path, at, bytes).map_err(|e| Error::Io(path.clone(), e))?;
    if same { Ok(()) } else { Err(wrong(format!("at byte {at} it does not hold what was written"))) }
}

/// Whether the bytes are on the disk afterwards.
fn write_at(path: &std::path::Path, at: u64, bytes: &[u8]) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.write_all_at(bytes, at)?;
    file.sync_all()?;
    forget(&file)?;
    let mut back = vec![0; bytes.len()];
    file.read_exact_at(&mut back, at)?;
    Ok(back == bytes)
}

/// Drops the file's cached pages, so that the next read comes from the disk, not from memory.
fn forget(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::parse;
    use crate::layout::{Found, FoundPartition, Geometry};

    fn rooms(text: &str, found: Option<&Found>) -> Vec<Range<u64>> {
        let geometry = Geometry { disk_bytes: 1 << 30, sector_bytes: 512 };
        record_rooms(&Plan::new(&parse(text).unwrap().disks[0], geometry, found).unwrap())
    }

    #[test]
    fn an_mbr_has_its_code_and_the_gap() {
        assert_eq!(rooms("linux 10\nlinux 10", None), [0..440, 512..1 << 20]);
        // A partition of old that is kept begins where it always did.
        let old =
            FoundPartition { number: 1, start: 63, sectors: 20_000, kind: "7".into(), ..Default::default() };
        let found = Found { table: Table::Mbr, id: None, partitions: vec![old] };
        assert_eq!(rooms("table mbr\nkeep type07 any\nlinux fill", Some(&found)), [0..440, 512..63 * 512]);
    }

    #[test]
    fn a_gpt_has_its_code_and_bios_boot_partitions_that_are_not_kept() {
        let code = std::slice::from_ref(&(0..440));
        let made = rooms("linux 10\nbios_boot 1\nlinux fill", None);
        assert_eq!(made, [0..440, 11 << 20..12 << 20]);
        let kind = "21686148-6449-6E6F-744E-656564454649".to_owned();
        let old = FoundPartition { number: 1, start: 2048, sectors: 2048, kind, ..Default::default() };
        let found = Found { table: Table::Gpt, id: None, partitions: vec![old] };
        assert_eq!(rooms("table gpt\nkeep bios_boot any\nlinux fill", Some(&found)), code);
    }
}
