//! The boot of clones: the boot records they get, and what UEFI starts. Pure.

use std::path::Path;

use ka_desc::boot::check;
use ka_desc::error::Error;
use ka_desc::language::{Action, Desc, Kind};
use ka_desc::manifest::{Boot, Firmware, Install, Piece, Place, Uefi};

use super::choice::Choice;
use super::scope::Scope;
use crate::golden::facts::{Golden, GoldenDisk, Mount};

/// Returns what clones boot by, the bytes of the stream `boot`, and what the admin should know.
///
/// # Errors
/// Sentences: clones could not boot as the golden node does.
pub fn boot(
    golden: &Golden,
    choice: &Choice,
    scope: &Scope<'_>,
    desc: &Desc,
) -> Result<(Boot, Vec<u8>, Vec<String>), Vec<Error>> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let uefi = uefi(scope);
    let (mut all, mut bytes) = (Vec::new(), Vec::new());
    for disk in &scope.disks {
        let (pieces, own) = pieces(choice, disk, desc, &mut warnings);
        match check(&pieces, &own) {
            Ok(()) => {
                all.extend(pieces);
                bytes.extend(own);
            }
            // Others start the clones, or the clones' own tools make them such.
            Err(_) if choice.install.is_some() => {}
            Err(why) if uefi.is_some() => warnings.push(format!("clones will not boot by BIOS: {why}")),
            Err(why) => problems.push(why),
        }
    }
    let pieces = all;
    if golden.firmware == Firmware::Uefi && uefi.is_none() && choice.install.is_none() {
        problems.push(
            "the golden node was started by UEFI, and its EFI system partition with the loader is not among what is cloned: \
             mount it, such as at /boot/efi"
                .into(),
        );
    }
    let mut firmware = Vec::new();
    if pieces.iter().any(|piece| matches!(piece.place, Place::Mbr)) {
        firmware.push(Firmware::Bios);
    }
    if uefi.is_some() {
        firmware.push(Firmware::Uefi);
    }
    let install = choice.install.clone().map(|args| Install { args });
    if install.is_some() && !firmware.contains(&golden.firmware) {
        firmware.push(golden.firmware);
    }
    if firmware.is_empty() {
        warnings.push(
            "no boot record and no EFI loader was found: clones will not boot by themselves, unless -r grub installs one".into(),
        );
    }
    if problems.is_empty() {
        Ok((Boot { firmware, pieces, uefi, install }, bytes, warnings))
    } else {
        Err(problems)
    }
}

/// The boot records of a disk, as far as clones have room for them.
fn pieces(
    choice: &Choice,
    disk: &GoldenDisk,
    desc: &Desc,
    warnings: &mut Vec<String>,
) -> (Vec<Piece>, Vec<u8>) {
    let (mut pieces, mut bytes) = (Vec::new(), Vec::new());
    let code = choice.codes.iter().find(|(name, _)| *name == disk.name).map(|(_, code)| code);
    if let Some(code) = code {
        let (name, length) = (disk.name.clone(), code.len() as u64);
        pieces.push(Piece { disk: name, place: Place::Mbr, sector: 0, bytes: length });
        bytes.extend(code);
    }
    for (piece, content) in &disk.records {
        let has_room = match piece.place {
            Place::Mbr => code.is_none(),
            Place::Gap => true,
            Place::Partition(number) => is_bios_boot(desc, &disk.name, number),
        };
        if has_room {
            pieces.push(piece.clone());
            bytes.extend(content);
        } else if let Place::Partition(number) = piece.place {
            warnings.push(format!(
                "the desc has no bios_boot as partition {number} of {}, where the golden node's loader is: clones need \
                 -r grub, or do not boot by BIOS",
                disk.name
            ));
        }
    }
    (pieces, bytes)
}

fn is_bios_boot(desc: &Desc, disk: &str, number: u32) -> bool {
    let disk = desc.disks.iter().find(|d| d.name.as_deref() == Some(disk));
    disk.is_some_and(|disk| {
        let mut lines = disk.partitions.iter().zip(disk.numbers());
        // What a node keeps is not ours to write.
        lines.any(|(line, n)| n == number && line.kind == Kind::BiosBoot && line.action != Action::Keep)
    })
}

/// Returns the loader that UEFI starts, if a file system with one is cloned.
fn uefi(scope: &Scope<'_>) -> Option<Uefi> {
    let loader = |mount: &&Mount| {
        let loader = mount.loaders.iter().min_by_key(|path| rank(path))?;
        let label = Path::new(loader).parent()?.file_name()?.to_str()?.to_owned();
        let mount_point = mount.at.to_str()?.to_owned();
        Some(Uefi { esp: mount.part()?.clone(), mount: mount_point, loader: loader.clone(), label })
    };
    scope.mounts.iter().find_map(loader)
}

/// Which loader is started: a distribution's shim before its GRUB before anything else, and the fallback last.
fn rank(path: &str) -> (bool, usize, &str) {
    let lower = path.to_ascii_lowercase();
    let fallback = lower.starts_with("/efi/boot/");
    let order = ["/shimx64.efi", "/grubx64.efi", "/systemd-bootx64.efi"];
    (fallback, order.iter().position(|name| lower.ends_with(name)).unwrap_or(order.len()), path)
}
