//! Partitions as a table of text.

use super::picture::{contents, is_frame, mounts};
use crate::language::bytes::people;
use crate::language::{Action, Kind};
use crate::layout::{Found, Geometry, Plan};

/// The partitions of a plan, a line for each, in the disk's order.
#[must_use]
pub fn plan_table(plan: &Plan) -> String {
    let mut rows =
        vec![["#", "begins", "size", "type", "holds", "label", "mounted at", ""].map(String::from)];
    let mut partitions: Vec<_> = plan.partitions.iter().collect();
    partitions.sort_by_key(|p| (p.start, p.line.logical));
    for p in partitions {
        let what = match (p.line.action, p.line.formatted()) {
            (Action::Keep, _) => "stays as it is",
            (Action::Reuse, _) => "stays, is formatted",
            (Action::Make, Some(_)) => "new, is formatted",
            (Action::Make, None) if p.line.kind == Kind::Extended => "",
            (Action::Make, None) => "new, empty",
        };
        let bootable = if p.line.bootable { ", bootable" } else { "" };
        rows.push([
            p.number.to_string(),
            people(plan.bytes(p.start)),
            people(plan.bytes(p.sectors)),
            p.line.kind.to_string(),
            p.line.file_system().map_or_else(String::new, |_| contents(&p.line)),
            p.line.label.clone().unwrap_or_default(),
            mounts(&p.line).unwrap_or_default(),
            format!("{what}{bootable}"),
        ]);
    }
    columns(&rows)
}

/// The partitions that are on a disk now, a line for each, in the disk's order.
#[must_use]
pub fn before_table(found: &Found, geometry: Geometry) -> String {
    let sector = u64::from(geometry.sector_bytes);
    let mut rows = vec![["#", "begins", "size", "type", "holds", "label"].map(String::from)];
    let mut partitions: Vec<_> = found.partitions.iter().collect();
    partitions.sort_by_key(|p| (p.start, !is_frame(&p.kind)));
    for p in partitions {
        let contents = p.contents.clone().unwrap_or_default();
        let kind = p.kind.parse().map_or_else(|_| p.kind.clone(), |guid| Kind::of_gpt_type(guid).to_string());
        rows.push([
            p.number.to_string(),
            people(p.start.saturating_mul(sector)),
            people(p.sectors.saturating_mul(sector)),
            kind,
            contents.fs,
            contents.label.unwrap_or_default(),
        ]);
    }
    columns(&rows)
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += "  ";
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    text
}
