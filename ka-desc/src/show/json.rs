//! A plan for programs.

use serde::Serialize;

use crate::language::{Action, Partition, Subvolume};
use crate::layout::{Found, FoundPartition, Plan};

/// A disk's plan. Sizes and places are given in bytes and in sectors.
#[derive(Serialize, Debug)]
#[expect(missing_docs, reason = "their names say it")]
pub struct DiskPlan<'a> {
    /// The desc's name for the disk.
    pub name: Option<&'a str>,
    /// The device or image, if there is one.
    pub device: Option<String>,
    pub disk_bytes: u64,
    pub sector_bytes: u32,
    pub table: String,
    pub id: Option<String>,
    /// The number of bytes of the disk that an MBR cannot address.
    pub out_of_reach_bytes: u64,
    /// The partitions on the disk now; null if there is no table, or no disk.
    pub before: Option<Vec<Before<'a>>>,
    pub partitions: Vec<After<'a>>,
    /// The script for sfdisk.
    pub script: String,
}

/// A partition that is on the disk.
#[derive(Serialize, Debug)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Before<'a> {
    pub number: u32,
    pub start_sector: u64,
    pub sectors: u64,
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub name: Option<&'a str>,
    pub partuuid: Option<&'a str>,
    pub fs: Option<&'a str>,
    pub label: Option<&'a str>,
    pub uuid: Option<&'a str>,
}

/// A partition that will be.
#[derive(Serialize, Debug)]
#[expect(missing_docs, reason = "their names say it")]
pub struct After<'a> {
    pub number: u32,
    /// `make`, `keep` or `reuse`.
    pub action: &'static str,
    pub logical: bool,
    /// In the desc's word.
    pub kind: String,
    /// As sfdisk writes it.
    #[serde(rename = "type")]
    pub code: &'a str,
    pub start_sector: u64,
    pub sectors: u64,
    pub start_bytes: u64,
    pub bytes: u64,
    pub name: Option<&'a str>,
    pub partuuid: Option<&'a str>,
    pub attributes: u64,
    pub bootable: bool,
    pub fs: Option<String>,
    /// Whether a file system is made.
    pub formatted: bool,
    pub label: Option<&'a str>,
    pub uuid: Option<&'a str>,
    pub mount: Option<&'a str>,
    pub options: Option<&'a str>,
    pub subvolumes: Vec<Sub<'a>>,
}

/// A subvolume of one.
#[derive(Serialize, Debug)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Sub<'a> {
    pub name: &'a str,
    pub mount: Option<&'a str>,
    pub options: Option<&'a str>,
}

/// The plan of a disk, and what is there now.
#[must_use]
pub fn disk_plan<'a>(
    name: Option<&'a str>,
    device: Option<String>,
    plan: &'a Plan,
    found: Option<&'a Found>,
) -> DiskPlan<'a> {
    DiskPlan {
        name,
        device,
        disk_bytes: plan.geometry.disk_bytes,
        sector_bytes: plan.geometry.sector_bytes,
        table: plan.table.to_string(),
        id: plan.id.map(|id| id.to_string()),
        out_of_reach_bytes: plan.out_of_reach_bytes(),
        before: found.map(|found| found.partitions.iter().map(before).collect()),
        partitions: plan.partitions.iter().map(|p| after(plan, p)).collect(),
        script: super::script(plan),
    }
}

fn before(p: &FoundPartition) -> Before<'_> {
    let contents = p.contents.as_ref();
    Before {
        number: p.number,
        start_sector: p.start,
        sectors: p.sectors,
        kind: &p.kind,
        name: p.name.as_deref(),
        partuuid: p.partuuid.as_deref(),
        fs: contents.map(|c| c.fs.as_str()),
        label: contents.and_then(|c| c.label.as_deref()),
        uuid: contents.and_then(|c| c.uuid.as_deref()),
    }
}

fn after<'a>(plan: &Plan, p: &'a crate::layout::Placed) -> After<'a> {
    let line: &Partition = &p.line;
    let sub =
        |s: &'a Subvolume| Sub { name: &s.name, mount: s.mount.as_deref(), options: s.options.as_deref() };
    After {
        number: p.number,
        action: match line.action {
            Action::Make => "make",
            Action::Keep => "keep",
            Action::Reuse => "reuse",
        },
        logical: line.logical,
        kind: line.kind.to_string(),
        code: &p.kind,
        start_sector: p.start,
        sectors: p.sectors,
        start_bytes: plan.bytes(p.start),
        bytes: plan.bytes(p.sectors),
        name: p.name.as_deref(),
        partuuid: p.partuuid.as_deref(),
        attributes: p.attributes,
        bootable: p.attributes >> crate::language::LEGACY_BOOT_BIT & 1 == 1,
        fs: line.file_system().map(|fs| fs.to_string()),
        formatted: line.formatted().is_some(),
        label: line.label.as_deref(),
        uuid: line.uuid.as_deref(),
        mount: line.mount.as_deref(),
        options: line.options.as_deref(),
        subvolumes: line.subvolumes.iter().map(sub).collect(),
    }
}
