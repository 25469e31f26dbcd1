//! Whether an NTFS was put away properly. Pure.
//!
//! What Windows had not written when it stopped, or fell asleep, is in the log: the bitmap of used blocks is not true then.
//! The offsets, and when a log counts as clean, are those of Linux 6.1 (`fs/ntfs/layout.h` and `logfile.h` there).

use std::io;

/// The log's own entry in the master file table.
const LOG: u64 = 2;

/// The largest entry of a master file table, in bytes.
const ENTRY_BYTES_MAX: u64 = 64 << 10;

/// Numbers in an entry are checked in pieces of so many bytes.
const STRIDE: usize = 512;

/// A page of the log, in bytes: what a fresh one has, and every one on a PC.
const PAGE_BYTES: u64 = 4096;

const DATA: u32 = 0x80;
const END: u32 = u32::MAX;

/// Says whether nothing waits in the log. `read` fills a buffer from an offset of the file system.
///
/// # Errors
/// It cannot be read.
pub fn is_clean(read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<bool> {
    let mut boot = [0; STRIDE];
    read(0, &mut boot)?;
    let Some((at, bytes, cluster_bytes)) = log_entry(&boot) else { return Ok(false) };
    let mut entry = vec![0; bytes];
    read(at, &mut entry)?;
    let Some(log) = first_run(&mut entry).and_then(|cluster| cluster.checked_mul(cluster_bytes)) else {
        return Ok(false);
    };
    // Two pages say where it begins; either may be the newer one.
    for at in [log, log.saturating_add(PAGE_BYTES)] {
        let mut page = [0; PAGE_BYTES as usize];
        read(at, &mut page)?;
        if !rests(&page) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The place and the length of the log's entry, and the length of a cluster, all in bytes.
fn log_entry(boot: &[u8]) -> Option<(u64, usize, u64)> {
    if boot.get(3..11)? != b"NTFS    " {
        return None;
    }
    let per_cluster = match boot[0x0d] {
        exponent @ 0x81.. => 1_u64.checked_shl((256 - u32::from(exponent)).min(63))?,
        sectors => u64::from(sectors),
    };
    let cluster = u64::from(u16_at(boot, 0x0b)?).checked_mul(per_cluster).filter(|bytes| *bytes > 0)?;
    let entry = match i8::from_le_bytes([boot[0x40]]) {
        clusters @ 1.. => cluster.checked_mul(clusters.unsigned_abs().into())?,
        exponent => 1_u64.checked_shl(exponent.unsigned_abs().into())?,
    };
    let fits = entry <= ENTRY_BYTES_MAX && entry >= STRIDE as u64;
    let table = u64::from_le_bytes(*boot.get(0x30..)?.first_chunk()?).checked_mul(cluster)?;
    let at = table.checked_add(LOG * entry).filter(|_| fits)?;
    Some((at, usize::try_from(entry).ok()?, cluster))
}

/// The first cluster of what an entry's file has in it.
fn first_run(entry: &mut [u8]) -> Option<u64> {
    if entry.get(..4)? != b"FILE" {
        return None;
    }
    // The last two bytes of each piece are kept elsewhere, behind the number that stands in their place.
    let (from, pieces) = (usize::from(u16_at(entry, 4)?), entry.len() / STRIDE);
    let number = u16_at(entry, from)?;
    for piece in 1..=pieces {
        let own = u16_at(entry, from + 2 * piece)?;
        let place = piece * STRIDE - 2;
        if u16_at(entry, place)? != number {
            return None;
        }
        entry[place..place + 2].copy_from_slice(&own.to_le_bytes());
    }
    let mut at = usize::from(u16_at(entry, 0x14)?);
    loop {
        let attribute = entry.get(at..)?;
        let (kind, bytes) = (u32_at(attribute, 0)?, usize::try_from(u32_at(attribute, 4)?).ok()?);
        let (elsewhere, named) = (*attribute.get(8)? != 0, *attribute.get(9)? != 0);
        if kind == DATA && elsewhere && !named {
            return run(attribute.get(usize::from(u16_at(attribute, 0x20)?)..)?);
        }
        if kind == END || bytes < 16 {
            return None;
        }
        at = at.checked_add(bytes)?;
    }
}

/// The cluster at which a list of runs begins.
fn run(list: &[u8]) -> Option<u64> {
    let (len, offset) = (usize::from(list.first()? & 15), usize::from(list.first()? >> 4));
    let bytes = list.get(1 + len..)?.get(..offset).filter(|bytes| (1..=8).contains(&bytes.len()))?;
    Some(bytes.iter().rev().fold(0, |cluster, byte| cluster << 8 | u64::from(*byte)))
}

/// Whether a page of the log says that nobody uses it; or nobody has ever written to it.
fn rests(page: &[u8]) -> bool {
    const NOBODY: u16 = u16::MAX;
    const CLEAN: u16 = 2;
    if page.iter().all(|byte| *byte == 0xff) {
        return true;
    }
    let area = || page.get(usize::from(u16_at(page, 0x18)?)..);
    let says = |area: &[u8]| Some(u16_at(area, 0x0c)? == NOBODY || u16_at(area, 0x0e)? & CLEAN != 0);
    page.starts_with(b"RSTR") && area().and_then(says) == Some(true)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOG_AT: usize = 64 << 10;

    /// As little of a file system as there can be: clusters of 4096 bytes, entries of 1024.
    fn fresh() -> Vec<u8> {
        let mut fs = vec![0; LOG_AT + 2 * PAGE_BYTES as usize];
        fs[3..11].copy_from_slice(b"NTFS    ");
        fs[0x0b..0x0d].copy_from_slice(&512_u16.to_le_bytes());
        fs[0x0d] = 8;
        fs[0x30] = 4;
        fs[0x40] = 0xf6;
        let entry = &mut fs[4 * 4096 + 2 * 1024..][..1024];
        entry[..4].copy_from_slice(b"FILE");
        entry[4] = 0x30;
        entry[0x14] = 0x38;
        for at in [0x30, 510, 1022] {
            entry[at] = 7;
        }
        // Of a standard attribute only its length counts.
        entry[0x38..0x40].copy_from_slice(&[0x10, 0, 0, 0, 0x20, 0, 0, 0]);
        entry[0x58..0x5c].copy_from_slice(&DATA.to_le_bytes());
        entry[0x5c] = 0x48;
        entry[0x60] = 1;
        entry[0x78] = 0x40;
        entry[0x98..0x9b].copy_from_slice(&[0x11, 2, (LOG_AT / 4096) as u8]);
        fs[LOG_AT..].fill(0xff);
        fs
    }

    fn look(fs: &[u8]) -> io::Result<bool> {
        is_clean(|at, buf| {
            let from = usize::try_from(at).ok().and_then(|at| fs.get(at..)?.get(..buf.len()));
            buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    #[test]
    fn a_log_that_somebody_used_last_is_not_clean() {
        assert!(look(&fresh()).unwrap());
        let page = |clients: u16, flags: u16| {
            let mut fs = fresh();
            for page in fs[LOG_AT..].chunks_mut(PAGE_BYTES as usize) {
                page[..4].copy_from_slice(b"RSTR");
                page[0x18..0x1a].copy_from_slice(&0x30_u16.to_le_bytes());
                page[0x3c..0x3e].copy_from_slice(&clients.to_le_bytes());
                page[0x3e..0x40].copy_from_slice(&flags.to_le_bytes());
            }
            fs
        };
        assert!(look(&page(u16::MAX, 0)).unwrap());
        assert!(look(&page(0, 2)).unwrap());
        assert!(!look(&page(0, 0)).unwrap());
        let mut second = fresh();
        second[LOG_AT + 5000] = 0;
        assert!(!look(&second).unwrap(), "the other page counts, too");
        let mut other = fresh();
        other[4 * 4096 + 2 * 1024 + 510] = 8;
        assert!(!look(&other).unwrap(), "an entry that was not written whole");
    }

    /// 128 sectors are the most that a byte says as their number; beyond, it says a power of two.
    #[test]
    fn the_largest_cluster_by_its_sectors_is_known() {
        const CLUSTER: usize = 64 << 10;
        let small = fresh();
        let mut fs = vec![0; 3 * CLUSTER];
        fs[..512].copy_from_slice(&small[..512]);
        (fs[0x0d], fs[0x30]) = (128, 1);
        fs[CLUSTER + 2 * 1024..][..1024].copy_from_slice(&small[4 * 4096 + 2 * 1024..][..1024]);
        fs[CLUSTER + 2 * 1024 + 0x9a] = 2;
        fs[2 * CLUSTER..].fill(0xff);
        assert!(look(&fs).unwrap());
        fs[2 * CLUSTER] = 0;
        assert!(!look(&fs).unwrap());
    }

    proptest! {
        #[test]
        fn whatever_is_there_it_only_says_no(
            changes in prop::collection::vec((0..LOG_AT + 64, any::<u8>()), 1..40),
            len in 0..LOG_AT + 8192,
        ) {
            let mut fs = fresh();
            changes.into_iter().for_each(|(at, byte)| fs[at] = byte);
            fs.truncate(len.max(512));
            let _ = look(&fs);
        }
    }
}
