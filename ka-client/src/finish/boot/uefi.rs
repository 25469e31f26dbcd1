//! The boot by UEFI: the loader on the EFI system partition, the path that every firmware knows, and the boot entry.

use std::fs;

use ka_desc::error::Error;
use ka_desc::machine::DiskKind;
use ka_desc::manifest::Uefi;
use ka_desc::run::{Call, Runner};
use ka_desc::system::tree::Tree;
use ka_desc::write::look;

use crate::finish::linux::chroot::EFIVARS;
use crate::finish::linux::uuids::{Change, LOADER_BYTES_MAX, speaks_of};
use crate::finish::remark::Remark;
use crate::finish::target::Target;

/// The loader that every firmware starts when it has no other.
const FALLBACK: &str = "BOOTX64.EFI";

/// The programs that shim starts from its own directory: GRUB, and the one that enrols keys.
const BESIDE_SHIM: [&str; 2] = ["grubx64.efi", "mmx64.efi"];

/// Makes sure that the loader is there, and that a firmware without boot entries finds it. A loader at the fallback's
/// path stays, unless it has an old UUID built in. A sentence for each change.
pub(crate) fn fall_back(tree: &Tree, uefi: &Uefi, changes: &[Change]) -> Result<Vec<String>, Error> {
    let wanted = format!("{}/{}", uefi.mount, uefi.loader.replace('\\', "/"));
    let loader = tree.find(&wanted)?.ok_or_else(|| {
        format!("the clone has no {wanted}, which UEFI is to start: is the EFI system partition among what was cloned?")
    })?;
    let (dir, name) = loader.rsplit_once('/').unwrap_or(("", &loader));
    let efi = tree.find(&format!("{}/EFI", uefi.mount))?.unwrap_or_else(|| format!("{}/EFI", uefi.mount));
    let folder = tree.find(&format!("{efi}/BOOT"))?.unwrap_or_else(|| format!("{efi}/BOOT"));
    let old = tree.find(&format!("{folder}/{FALLBACK}"))?;
    let outdated = old.as_ref().map_or(Ok(false), |old| speaks_of(tree, old, changes))?;
    if old.is_some() && (!outdated || old.as_ref() == Some(&loader)) {
        return Ok(Vec::new());
    }
    tree.make_dir(&folder)?;
    let fallback = old.unwrap_or_else(|| format!("{folder}/{FALLBACK}"));
    let mut copies = vec![(loader.clone(), fallback.clone())];
    if name.to_lowercase().starts_with("shim") {
        for name in BESIDE_SHIM {
            if let Some(from) = tree.find(&format!("{dir}/{name}"))? {
                let to = format!("{folder}/{name}");
                copies.push((from, tree.find(&to)?.unwrap_or(to)));
            }
        }
    }
    for (from, to) in copies {
        let bytes =
            tree.read(&from, LOADER_BYTES_MAX)?.ok_or_else(|| format!("{from} of the clone is no file"))?;
        tree.replace(&to, &bytes)?;
    }
    Ok(vec![format!("{fallback} was made from {loader}: firmware without a boot entry starts it")])
}

/// Makes a boot entry, where this node's firmware can be told of one. What goes wrong is told, and is no failure: the
/// fallback boots.
pub(crate) fn enter(
    clone: &Target<'_>,
    uefi: &Uefi,
    runner: &mut dyn Runner,
    tell: &mut dyn FnMut(Remark<'_>),
) {
    let variables = clone.machine.path(EFIVARS);
    let has_variables = fs::read_dir(variables).is_ok_and(|mut entries| entries.next().is_some());
    if !has_variables || !runner.has("efibootmgr") {
        let lacks = if has_variables { "efibootmgr" } else { "access to the firmware's variables" };
        tell(Remark::Warning(&format!(
            "no boot entry was made, for there is no {lacks}; the firmware starts {FALLBACK}"
        )));
        return;
    }
    match entries(clone, uefi, runner) {
        Ok(said) => tell(Remark::Step(&said)),
        Err(why) => {
            tell(Remark::Warning(&format!("no boot entry was made; the firmware starts {FALLBACK}: {why}")))
        }
    }
}

fn entries(clone: &Target<'_>, uefi: &Uefi, runner: &mut dyn Runner) -> Result<String, Error> {
    let disk = clone.disk(&uefi.esp.disk)?;
    let path = disk.facts.path.display().to_string();
    if !matches!(disk.facts.kind, DiskKind::Disk(_)) {
        return Err(format!("{path} is no disk that firmware knows").into());
    }
    let found = look(runner, &disk.facts).map_err(|e| e.to_string())?;
    let esp = found.and_then(|found| found.partition(uefi.esp.number)?.partuuid.clone());
    let said = runner.read(&Call::new("efibootmgr", ["--verbose"])).map_err(|failure| failure.to_string())?;
    for entry in parse(&said).into_iter().filter(|entry| entry.label == uefi.label) {
        let Some(partition) = entry.partition else { continue };
        let ours = esp.as_ref().is_some_and(|esp| esp.eq_ignore_ascii_case(&partition));
        if ours || is_gone(runner, &partition)? {
            let args = ["--quiet", "--bootnum", &entry.number, "--delete-bootnum"];
            runner.write(&Call::new("efibootmgr", args)).map_err(|failure| failure.to_string())?;
        }
    }
    let loader = uefi.loader.replace('/', "\\");
    let number = uefi.esp.number.to_string();
    let args = [
        "--quiet",
        "--create",
        "--disk",
        &path,
        "--part",
        &number,
        "--label",
        &uefi.label,
        "--loader",
        &loader,
    ];
    runner.write(&Call::new("efibootmgr", args)).map_err(|failure| failure.to_string())?;
    Ok(format!("the firmware has a boot entry `{}`: {loader} on partition {}", uefi.label, uefi.esp))
}

/// Whether no disk of this node has such a partition.
fn is_gone(runner: &mut dyn Runner, partition: &str) -> Result<bool, Error> {
    let token = format!("PARTUUID={}", partition.to_lowercase());
    let args = ["--cache-file", "/dev/null", "--match-token", &token, "--output", "device"];
    match runner.read(&Call::new("blkid", args)) {
        Ok(devices) => Ok(devices.trim().is_empty()),
        Err(failure) if failure.code == Some(2) => Ok(true),
        Err(failure) => Err(failure.into()),
    }
}

/// A boot entry.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    number: String,
    label: String,
    /// The GUID of the partition that it means, if it means one of a GPT.
    partition: Option<String>,
}

/// The boot entries in what efibootmgr says. Pure.
fn parse(said: &str) -> Vec<Entry> {
    // Boot0001* debian<tab>HD(1,GPT,b5e6…,0x800,0x20000)/File(\EFI\debian\shimx64.efi)
    let entry = |line: &str| {
        let rest = line.strip_prefix("Boot")?;
        let (number, rest) = rest.split_at_checked(4)?;
        let rest = rest.strip_prefix(['*', ' '])?.strip_prefix(' ')?;
        let (label, device) = rest.split_once('\t').unwrap_or((rest, ""));
        let partition = device.strip_prefix("HD(").and_then(|device| {
            let mut fields = device.split(',').skip(1);
            (fields.next()? == "GPT").then(|| fields.next())?
        });
        let hex = number.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| Entry {
            number: number.into(),
            label: label.into(),
            partition: partition.map(Into::into),
        })
    };
    said.lines().filter_map(entry).collect()
}
