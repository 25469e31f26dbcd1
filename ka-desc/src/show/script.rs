//! A plan as a script for `sfdisk`.

use std::fmt::Write;

use crate::language::{LEGACY_BOOT_BIT, Table};
use crate::layout::{Placed, Plan};
use crate::limits::GPT_ENTRIES_BYTES;

/// The script: header, then a line for each partition, by number.
#[must_use]
pub fn script(plan: &Plan) -> String {
    let mut text = String::new();
    let label = match plan.table {
        Table::Mbr => "dos",
        Table::Gpt => "gpt",
    };
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes everything");
    line(format!("label: {label}"));
    if let Some(id) = plan.id {
        line(format!("label-id: {id}"));
    }
    line("unit: sectors".into());
    if plan.table == Table::Gpt {
        // sfdisk's own default is a mebibyte, and what is kept may begin before that.
        let sector = u64::from(plan.geometry.sector_bytes);
        line(format!("first-lba: {}", 2 + GPT_ENTRIES_BYTES / sector));
    }
    line(String::new());
    let mut partitions: Vec<&Placed> = plan.partitions.iter().collect();
    partitions.sort_by_key(|p| p.number);
    partitions.into_iter().for_each(|p| line(entry(p, plan.table)));
    text
}

fn entry(p: &Placed, table: Table) -> String {
    let mut text = format!("{} : start={}, size={}, type={}", p.number, p.start, p.sectors, p.kind);
    if let Some(uuid) = &p.partuuid {
        text += &format!(", uuid={uuid}");
    }
    if let Some(name) = p.name.as_ref().filter(|name| !name.is_empty()) {
        text += &format!(", name=\"{name}\"");
    }
    match table {
        Table::Mbr if p.attributes != 0 => text += ", bootable",
        Table::Gpt if p.attributes != 0 => text += &format!(", attrs=\"{}\"", attributes(p.attributes)),
        _ => {}
    }
    text
}

/// The words that sfdisk has for the first three attributes of a GPT.
const NAMED: [&str; 3] = ["RequiredPartition", "NoBlockIOProtocol", "LegacyBIOSBootable"];

fn attributes(bits: u64) -> String {
    let set = (0..64).filter(|bit| bits >> bit & 1 == 1);
    let word = |bit: usize| NAMED.get(bit).map_or_else(|| format!("GUID:{bit}"), |name| (*name).into());
    set.map(word).collect::<Vec<_>>().join(",")
}

/// The attributes in sfdisk's words, as bits. What it does not name stays unset.
pub(crate) fn attribute_bits(text: &str) -> u64 {
    let mut bits = 0;
    for word in text.split([' ', ',']) {
        // `GUID:60,63`: the prefix stands before the first of a list only.
        let number = word.strip_prefix("GUID:").unwrap_or(word).parse().ok();
        let named = NAMED.iter().position(|name| *name == word);
        bits |= named.or(number).filter(|bit| *bit < 64).map_or(0, |bit: usize| 1 << bit);
    }
    bits
}

const _: () = assert!(LEGACY_BOOT_BIT == 2, "the third of NAMED");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::parse;
    use crate::layout::Geometry;

    #[test]
    fn a_script_has_all_of_a_plan() {
        let text = "table gpt id 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f\nesp 100 number 3 name \"a b\"\nlinux 5 bootable\n";
        let desc = parse(text).unwrap();
        let geometry = Geometry { disk_bytes: 1 << 30, sector_bytes: 4096 };
        let plan = Plan::new(&desc.disks[0], geometry, None).unwrap();
        let expected = "\
label: gpt
label-id: 8D3F2C1E-5B6A-4C7D-9E8F-0A1B2C3D4E5F
unit: sectors
first-lba: 6

1 : start=25856, size=1280, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, attrs=\"LegacyBIOSBootable\"
3 : start=256, size=25600, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=\"a b\"
";
        assert_eq!(script(&plan), expected);
    }

    #[test]
    fn attributes_come_back() {
        for bits in [0, 1, 2, 4, 7, 1 << 48, 1 << 63 | 1 << 60 | 1] {
            assert_eq!(attribute_bits(&attributes(bits)), bits);
        }
        assert_eq!(attribute_bits("RequiredPartition LegacyBIOSBootable GUID:60,63"), 1 << 63 | 1 << 60 | 5);
    }
}
