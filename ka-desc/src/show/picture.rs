//! A disk as a bar of text: what lies where, roughly to scale.

use crate::language::bytes::people;
use crate::language::{Action, Kind, Partition};
use crate::layout::{Found, FoundPartition, Geometry, Placed, Plan};

/// A part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its size in bytes.
    pub bytes: u64,
    /// The words for what is there, the most telling first; none if the stretch is free.
    pub words: Vec<String>,
}

/// The stretches of a disk as it is now.
#[must_use]
pub fn before(found: Option<&Found>, geometry: Geometry) -> Vec<Stretch> {
    let list = found.map_or(&[][..], |found| &found.partitions);
    // A frame is shown as what it holds.
    let parts = list.iter().filter(|p| !is_frame(&p.kind));
    let words = |p: &FoundPartition| {
        let on = p.contents.as_ref();
        let fs = on.map_or_else(|| "?".into(), |c| c.fs.clone());
        let label = on.and_then(|c| c.label.clone());
        [Some(p.number.to_string()), Some(fs), label].into_iter().flatten().collect()
    };
    stretches(parts.map(|p| (p.start, p.end(), words(p))).collect(), geometry)
}

/// The stretches of a disk as the plan makes it.
#[must_use]
pub fn after(plan: &Plan) -> Vec<Stretch> {
    let parts = plan.partitions.iter().filter(|p| p.line.kind != Kind::Extended);
    stretches(parts.map(|p| (p.start, p.end(), words(p))).collect(), plan.geometry)
}

fn words(p: &Placed) -> Vec<String> {
    let line = &p.line;
    let stays = match line.action {
        Action::Make => None,
        Action::Keep => Some("keep".into()),
        Action::Reuse => Some("reuse".into()),
    };
    [Some(p.number.to_string()), Some(contents(line)), mounts(line), stays].into_iter().flatten().collect()
}

/// The contents of a partition, in a word.
pub(super) fn contents(line: &Partition) -> String {
    line.file_system().map_or_else(|| line.kind.to_string(), |fs| fs.to_string())
}

/// The mount points of a partition and of its subvolumes.
pub(super) fn mounts(line: &Partition) -> Option<String> {
    let all = line.mount.iter().chain(line.subvolumes.iter().filter_map(|s| s.mount.as_ref()));
    let all: Vec<&str> = all.map(String::as_str).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// Whether this type, as sfdisk writes it, is that of an extended partition.
pub(crate) fn is_frame(kind: &str) -> bool {
    ["5", "f", "85"].contains(&kind)
}

/// The parts in order, and the free ones of at least a mebibyte between them.
fn stretches(mut parts: Vec<(u64, u64, Vec<String>)>, geometry: Geometry) -> Vec<Stretch> {
    let sector = u64::from(geometry.sector_bytes);
    parts.sort_by_key(|(start, ..)| *start);
    let mut list = Vec::new();
    // Table and alignment take the first mebibyte, or what the first partition leaves of it.
    let mut at = parts.first().map_or(0, |(start, ..)| (*start).min((1 << 20) / sector));
    let end = geometry.disk_bytes / sector;
    for (start, behind, words) in parts.into_iter().chain([(end, end, Vec::new())]) {
        let free = start.saturating_sub(at) * sector;
        // Less than two mebibytes is what alignment and the chain of logicals leave.
        if free >= 2 << 20 {
            list.push(Stretch { bytes: free, words: Vec::new() });
        }
        if behind > start {
            list.push(Stretch { bytes: (behind - start) * sector, words });
        }
        at = at.max(behind);
    }
    list
}

/// The bar, `width` characters wide or as wide as it must be, in four lines.
#[must_use]
pub fn bar(stretches: &[Stretch], width: usize) -> String {
    const LEAST: usize = 4;
    let total: u64 = stretches.iter().map(|s| s.bytes).sum::<u64>().max(1);
    let inner = width.saturating_sub(1 + stretches.len());
    let spare = inner.saturating_sub(LEAST * stretches.len()) as f64;
    let columns = |s: &Stretch| LEAST + (spare * s.bytes as f64 / total as f64) as usize;
    let mut lines = [String::from("┌"), String::from("│"), String::from("│"), String::from("└")];
    for (at, s) in stretches.iter().enumerate() {
        let columns = columns(s);
        let last = at + 1 == stretches.len();
        let (fill, above, below) = if s.words.is_empty() {
            ('·', "free".into(), people(s.bytes))
        } else {
            (' ', s.words.join(" "), people(s.bytes))
        };
        lines[0].push_str(&"─".repeat(columns));
        lines[0].push(if last { '┐' } else { '┬' });
        for (line, text) in [(1, above), (2, below)] {
            let text: String = text.chars().take(columns).collect();
            lines[line].push_str(&text);
            lines[line].extend(std::iter::repeat_n(fill, columns - text.chars().count()));
            lines[line].push('│');
        }
        lines[3].push_str(&"─".repeat(columns));
        lines[3].push(if last { '┘' } else { '┴' });
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::parse;

    #[test]
    fn a_bar_shows_everything_and_what_is_free() {
        let desc = parse("esp 512 mount /boot/efi\nlinux 8G ext4 mount /\nswap 1G\n").unwrap();
        let geometry = Geometry { disk_bytes: 16 << 30, sector_bytes: 512 };
        let plan = Plan::new(&desc.disks[0], geometry, None).unwrap();
        let expected = "\
┌─────┬──────────────────────┬──────┬───────────────────┐
│1 vfa│2 ext4 /              │3 swap│free···············│
│512 M│8 GiB                 │1 GiB │6.5 GiB············│
└─────┴──────────────────────┴──────┴───────────────────┘
";
        assert_eq!(bar(&after(&plan), 58), expected);
        assert!(
            bar(&before(None, geometry), 20).contains("16.0 GiB")
                || bar(&before(None, geometry), 20).contains("16 GiB")
        );
        assert_eq!(bar(&after(&plan), 0).lines().count(), 4, "however narrow");
    }
}
