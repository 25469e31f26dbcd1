//! The contents of a disk: `sfdisk --json` for its table, `blkid` for what its partitions hold.

use std::path::Path;

use serde::Deserialize;

use crate::error::Error;
use crate::language::{LEGACY_BOOT_BIT, Table, TableId};
use crate::layout::{Contents, Found, FoundPartition};
use crate::phrases;
use crate::run::{Call, Failure, Runner};
use crate::show;

/// Reads what is on the disk at `path`; `None` if it has no partition table of a kind that descs have.
///
/// # Errors
/// A tool failed.
pub fn probe(runner: &mut dyn Runner, path: &Path, sector_bytes: u32) -> Result<Option<Found>, Failure> {
    let path = path.display().to_string();
    let json = match runner.read(&Call::new("sfdisk", ["--json", &path])) {
        Ok(json) => json,
        Err(failure) if phrases::has_no_table(&failure) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let failure = |why: Error| Failure {
        call: format!("sfdisk --json {path}"),
        code: None,
        status: why.to_string(),
        said: json.clone(),
    };
    let Some(mut found) = found(&json).map_err(failure)? else { return Ok(None) };
    for p in found.partitions.iter_mut().filter(|p| !show::is_frame(&p.kind)) {
        let (offset, size) =
            (p.start.saturating_mul(sector_bytes.into()), p.sectors.saturating_mul(sector_bytes.into()));
        let args = [
            "--probe",
            "--offset",
            &offset.to_string(),
            "--size",
            &size.to_string(),
            "--output",
            "udev",
            &path,
        ];
        p.contents = match runner.read(&Call::new("blkid", args)) {
            Ok(text) => contents(&text),
            // Nothing was recognised.
            Err(failure) if failure.code == Some(2) => None,
            // Several things were, and they contradict each other.
            Err(failure) if failure.code == Some(8) => {
                Some(Contents { fs: "several".into(), ..Contents::default() })
            }
            Err(failure) => return Err(failure),
        };
    }
    Ok(Some(found))
}

#[derive(Deserialize)]
struct Dump {
    partitiontable: Option<DumpedTable>,
}

#[derive(Deserialize)]
struct DumpedTable {
    label: String,
    id: Option<String>,
    #[serde(default)]
    partitions: Vec<DumpedPartition>,
}

#[derive(Deserialize)]
struct DumpedPartition {
    node: String,
    start: u64,
    size: u64,
    r#type: String,
    uuid: Option<String>,
    name: Option<String>,
    attrs: Option<String>,
    #[serde(default)]
    bootable: bool,
}

/// The table in sfdisk's JSON; `None` if it is of a kind that descs do not have.
///
/// # Errors
/// It is not such JSON.
pub fn found(json: &str) -> Result<Option<Found>, Error> {
    let dump: Dump = serde_json::from_str(json).map_err(|e| format!("it said what is no JSON ({e})"))?;
    let Some(dumped) = dump.partitiontable else { return Ok(None) };
    let (table, id) = match dumped.label.as_str() {
        "gpt" => (Table::Gpt, dumped.id.and_then(|id| id.parse().ok()).map(TableId::Gpt)),
        "dos" => {
            let id = dumped.id.and_then(|id| u32::from_str_radix(id.strip_prefix("0x")?, 16).ok());
            (Table::Mbr, id.map(TableId::Mbr))
        }
        _ => return Ok(None),
    };
    let partition = |p: DumpedPartition| {
        let digits = p.node.len() - p.node.bytes().rev().take_while(u8::is_ascii_digit).count();
        let number = p.node[digits..].parse().ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| format!("it named a partition {}", p.node))?;
        let bootable = u64::from(p.bootable) << LEGACY_BOOT_BIT;
        Ok::<_, Error>(FoundPartition {
            number,
            start: p.start,
            sectors: p.size,
            kind: if table == Table::Gpt { p.r#type.to_uppercase() } else { p.r#type },
            name: p.name,
            partuuid: p.uuid.map(|uuid| uuid.to_uppercase()),
            attributes: p.attrs.map_or(0, |attrs| show::attribute_bits(&attrs)) | bootable,
            contents: None,
        })
    };
    let partitions = dumped.partitions.into_iter().map(partition).collect::<Result<_, _>>()?;
    Ok(Some(Found { table, id, partitions }))
}

/// The contents that blkid recognised, read from its output for udev.
#[must_use]
pub fn contents(text: &str) -> Option<Contents> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(decode(line))
    };
    Some(Contents {
        fs: value("ID_FS_TYPE")?,
        label: value("ID_FS_LABEL_ENC"),
        uuid: value("ID_FS_UUID_ENC"),
    })
}

/// `\x20` is a blank.
fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let hex = rest.strip_prefix(b"x").filter(|_| first == b'\\').and_then(|rest| rest.get(..2));
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(byte.unwrap_or(first));
        bytes = if byte.is_some() { &rest[3..] } else { rest };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_decoded() {
        let text = "ID_FS_LABEL=My_Disk\nID_FS_LABEL_ENC=My\\x20\\x5cDisk\\x\nID_FS_TYPE=ext4\n";
        let contents = contents(text).unwrap();
        assert_eq!(contents.label.as_deref(), Some("My \\Disk\\x"));
        assert_eq!((contents.fs.as_str(), contents.uuid), ("ext4", None));
        assert_eq!(super::contents("ID_PART_ENTRY_NUMBER=1\n"), None);
    }

    #[test]
    fn numbers_come_from_nodes() {
        let json = r#"{"partitiontable": {"label": "dos", "id": "0x1a2b3c4d", "unit": "sectors", "partitions": [
            {"node": "/dev/nvme0n1p12", "start": 2048, "size": 8, "type": "83", "bootable": true}]}}"#;
        let found = found(json).unwrap().unwrap();
        assert_eq!(found.id, Some(TableId::Mbr(0x1a2b3c4d)));
        assert_eq!((found.partitions[0].number, found.partitions[0].attributes), (12, 4));
        assert_eq!(super::found(r#"{"partitiontable": {"label": "sun"}}"#).unwrap(), None);
        assert!(super::found("[").unwrap_err().to_string().contains("no JSON"));
        for node in ["x", "p0", "p4294967296"] {
            let why = super::found(&json.replace("p12", node)).unwrap_err().to_string();
            assert!(why.contains("a partition /dev/nvme0n1"), "{why}");
        }
    }
}
