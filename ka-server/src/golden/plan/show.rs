//! A plan for people, as a table and a picture, and for programs, as JSON. Pure.

use std::fmt::Write;

use ka_desc::error::Error;
use ka_desc::language::bytes::people;
use ka_desc::language::{Desc, Disk};
use ka_desc::layout;
use ka_desc::manifest::{Manifest, Need};
use ka_desc::show::{after, bar, json, plan_table};
use serde::Serialize;

use super::make::Planned;
use super::scope::LeftOut;
use super::sizes;
use crate::golden::facts::Golden;
use crate::golden::inspect::open_files::Busy;

/// The plan for people, `width` characters wide.
#[must_use]
pub fn text(golden: &Golden, planned: &Planned, busy: &Busy, width: usize) -> String {
    let plan = &planned.plan;
    let mut text = format!("{}, started by {}, is cloned:\n", golden.host, golden.firmware);
    for (disk, laid) in laid_out(golden, plan) {
        let name = disk.name.as_deref().unwrap_or_default();
        match laid {
            Ok(laid) => {
                let bytes = people(laid.geometry.disk_bytes);
                line(
                    &mut text,
                    &format!(
                        "\ndisk {name}, table {}, on a disk as large as this one ({bytes}):",
                        laid.table
                    ),
                );
                text += &bar(&after(&laid), width);
                text += &plan_table(&laid);
            }
            Err(_) => {
                line(&mut text, &format!("\ndisk {name}, whose sizes depend on the clone's disk:"));
                disk.to_string().lines().for_each(|l| line(&mut text, &format!("  {l}")));
            }
        }
    }
    line(&mut text, "\nwhat comes:");
    for need in &plan.needs {
        line(&mut text, &format!("  partition {}: {}", need.part, amount(need)));
    }
    for raw in &plan.raw {
        let only = raw.fs.as_ref().map_or_else(String::new, |fs| {
            format!(", or only those that {fs} uses, if this machine and all nodes have partclone.{fs}")
        });
        line(&mut text, &format!("  partition {}: its blocks, {}{only}", raw.part, people(raw.bytes)));
    }
    for disk in &plan.disks {
        let bytes: u64 = plan.boot.pieces.iter().filter(|p| p.disk == disk.name).map(|p| p.bytes).sum();
        if bytes > 0 {
            line(&mut text, &format!("  disk {}: its boot record, {}", disk.name, people(bytes)));
        }
    }
    line(&mut text, &format!("clones boot: {}", boots(plan)));
    if plan.new_uuids {
        line(&mut text, "clones get UUIDs of their own");
    }
    let empty = planned.excluded.iter().map(|dir| format!("{}: -x leaves its contents out", dir.display()));
    let out: Vec<String> =
        planned.left_out.iter().map(|out| format!("{}: {}", out.what, out.why)).chain(empty).collect();
    section(&mut text, "what does not come:", &out);
    section(&mut text, "look at this first:", &planned.warnings);
    section(
        &mut text,
        "what changes while it is read (--quiesce and --resume can put it to rest):",
        &changing(busy),
    );
    text
}

/// The plan for programs.
#[must_use]
pub fn json(golden: &Golden, planned: &Planned, busy: &Busy) -> String {
    #[derive(Serialize)]
    struct Shown<'a> {
        plan: &'a Manifest,
        /// On disks as large as the golden node's; those whose desc does not fit these are missing.
        disks: Vec<json::DiskPlan<'a>>,
        mounts: &'a [std::path::PathBuf],
        left_out: &'a [LeftOut],
        warnings: &'a [String],
        busy: &'a Busy,
    }
    let laid = laid_out(golden, &planned.plan);
    let disks = laid.iter().filter_map(|(disk, laid)| {
        let own = golden.disk(disk.name.as_ref()?)?;
        let laid = laid.as_ref().ok()?;
        let device = Some(own.path.display().to_string());
        Some(json::disk_plan(disk.name.as_deref(), device, laid, own.found.as_ref()))
    });
    let shown = Shown {
        plan: &planned.plan,
        disks: disks.collect(),
        mounts: &planned.mounts,
        left_out: &planned.left_out,
        warnings: &planned.warnings,
        busy,
    };
    serde_json::to_string_pretty(&shown).expect("plain data")
}

/// Each disk of the plan, on a disk of the golden node's size.
fn laid_out(golden: &Golden, plan: &Manifest) -> Vec<(Disk, Result<layout::Plan, Error>)> {
    let desc: Desc = plan.desc().unwrap_or_default();
    let laid = |disk: Disk| {
        let laid = sizes::laid_out(golden, &disk);
        (disk, laid)
    };
    desc.disks.into_iter().map(laid).collect()
}

fn amount(need: &Need) -> String {
    let files = if need.inodes > 0 { format!(" in {} files", need.inodes) } else { String::new() };
    format!("{}{files}", people(need.bytes))
}

fn boots(plan: &Manifest) -> String {
    let mut ways: Vec<String> = plan.boot.firmware.iter().map(|firmware| format!("by {firmware}")).collect();
    if let Some(uefi) = &plan.boot.uefi {
        ways.push(format!("{} of partition {}", uefi.loader, uefi.esp));
    }
    if let Some(install) = &plan.boot.install {
        ways.push(["grub-install".to_owned(), install.args.join(" ")].join(" ").trim().to_owned());
    }
    if ways.is_empty() { "not by themselves".into() } else { ways.join(", ") }
}

fn changing(busy: &Busy) -> Vec<String> {
    let databases = busy.databases.iter().map(|(what, path)| format!("{}: {what}", path.display()));
    let files =
        busy.files.iter().map(|(path, program)| format!("{}: {program} writes to it", path.display()));
    let more = (busy.more > 0).then(|| format!("and {} files more", busy.more));
    databases.chain(files).chain(more).collect()
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        line(text, &format!("\n{title}"));
        lines.iter().for_each(|l| line(text, &format!("  {l}")));
    }
}

fn line(text: &mut String, words: &str) {
    writeln!(text, "{words}").expect("a string takes everything");
}
