//! `-r "grub ..."`: the clone's own tools install the boot loader and write its menu.

use std::path::Path;

use ka_desc::error::Error;
use ka_desc::manifest::{Firmware, Manifest, Place};
use ka_desc::run::Runner;
use ka_desc::system::tree::Tree;
use ka_desc::write::Prepared;

use crate::finish::linux::chroot::Inside;
use crate::finish::linux::uuids;
use crate::finish::remark::Remark;
use crate::finish::target::Target;

/// Before the clone's tools look: whoever runs them must see which device has which UUID.
pub(crate) fn prepare(clone: &Target<'_>, runner: &mut dyn Runner) -> Result<(), Error> {
    if clone.plan.boot.install.is_some() { uuids::name_devices(clone, runner) } else { Ok(()) }
}

/// The modules that arguments such as `--with=ata_piix` ask for, and the arguments that are `grub-install`'s. In 2001
/// the former went to mkinitrd.
pub(crate) fn modules(args: &[String]) -> (Vec<String>, Vec<String>) {
    let module = |arg: &String| {
        let name = arg.strip_prefix("--with=").or_else(|| arg.strip_prefix("--preload="))?;
        Some(name.to_owned())
    };
    let others = args.iter().filter(|arg| module(arg).is_none()).cloned().collect();
    (args.iter().filter_map(module).collect(), others)
}

/// Runs the clone's own `grub-install` for this node's firmware, and then what writes the menu.
pub(crate) fn run(
    clone: &Target<'_>,
    tree: &Tree,
    inside: &mut Inside<'_>,
    tell: &mut dyn FnMut(Remark<'_>),
) -> Result<Vec<String>, Error> {
    let Some(install) = &clone.plan.boot.install else { return Ok(Vec::new()) };
    let missing = |what: &str| {
        format!("the clone has no {what}, which -r grub needs: install its package on the golden node")
    };
    let program = ["grub-install", "grub2-install"].into_iter().find(|program| inside.has(program));
    let program = program.ok_or_else(|| missing("grub-install"))?;
    for args in calls(clone.plan, clone.disks, clone.firmware, &modules(&install.args).1)? {
        tell(Remark::Step(&format!("{program} {}", args.join(" "))));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        inside.write(program, &args).map_err(|failure| failure.to_string())?;
    }
    let menu = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"]
        .into_iter()
        .find(|path| tree.has(Path::new(path).parent().and_then(Path::to_str).unwrap_or("/")));
    let writers = ["grub-mkconfig", "grub2-mkconfig"].into_iter().find(|program| inside.has(program));
    let written = match (writers, menu) {
        _ if inside.has("update-grub") => inside.write("update-grub", &[]),
        (Some(writer), Some(menu)) => inside.write(writer, &["-o", menu]),
        _ => return Err(missing("update-grub and no grub-mkconfig").into()),
    };
    written?;
    Ok(vec![format!("the boot loader and its menu were made by the clone's own {program}")])
}

/// The arguments of each run of `grub-install`. Pure.
fn calls(
    plan: &Manifest,
    disks: &[Prepared],
    firmware: Firmware,
    others: &[String],
) -> Result<Vec<Vec<String>>, Error> {
    let with = |own: &[&str]| {
        own.iter().map(|arg| (*arg).to_owned()).chain(others.iter().cloned()).collect::<Vec<_>>()
    };
    if firmware == Firmware::Uefi {
        let uefi = plan.boot.uefi.as_ref();
        let uefi = uefi.ok_or("this node boots by UEFI, and the plan has no EFI system partition")?;
        let dir = format!("--efi-directory={}", uefi.mount);
        // The folder of the golden node's loader: what is installed takes its place. The boot entry is ours.
        let id = uefi.loader.split(['/', '\\']).rev().nth(1).unwrap_or_default();
        let id = format!("--bootloader-id={id}");
        return Ok(vec![with(&["--target=x86_64-efi", &dir, &id, "--no-nvram"])]);
    }
    let boot = ["/boot", "/"].into_iter().find_map(|path| disks.iter().position(|disk| mounts(disk, path)));
    let had_code =
        |name: &str| plan.boot.pieces.iter().any(|piece| piece.disk == name && piece.place == Place::Mbr);
    let which = plan.disks.iter().zip(disks).enumerate();
    let which = which.filter(|(at, (facts, _))| had_code(&facts.name) || boot == Some(*at));
    let call = |disk: &Prepared| {
        let mut args = with(&["--target=i386-pc"]);
        args.push(disk.facts.path.display().to_string());
        args
    };
    Ok(which.map(|(_, (_, disk))| call(disk)).collect())
}

/// Whether something on the disk is mounted there.
fn mounts(disk: &Prepared, path: &str) -> bool {
    let own = |p: &ka_desc::language::Partition| {
        p.mount.as_deref() == Some(path) || p.subvolumes.iter().any(|s| s.mount.as_deref() == Some(path))
    };
    disk.disk.partitions.iter().any(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::tests::{plan, prepared};
    use ka_desc::manifest::{Part, Piece, Uefi};

    #[test]
    fn what_mkinitrd_was_told_in_2001_are_modules() {
        let args = ["--with=ata_piix", "--recheck", "--preload=jfs"].map(String::from);
        let (modules, others) = modules(&args);
        assert_eq!((modules, others), (vec!["ata_piix".into(), "jfs".into()], vec!["--recheck".into()]));
    }

    #[test]
    fn bios_installs_on_disks_that_had_code_and_on_that_of_boot() {
        let text = "disk a\nlinux 10 ext4 mount /data\ndisk b\nlinux 200 btrfs\n subvol @ mount /\ndisk c\nlinux 10\n";
        let mut plan = plan(text);
        let disks = prepared(text);
        let others = ["--recheck".to_owned()];
        let bios = |plan: &Manifest| calls(plan, &disks, Firmware::Bios, &others).unwrap();
        assert_eq!(bios(&plan), [["--target=i386-pc", "--recheck", "/dev/b"]]);
        plan.boot.pieces = vec![Piece { disk: "c".into(), place: Place::Mbr, sector: 0, bytes: 440 }];
        assert_eq!(bios(&plan).len(), 2);
        assert!(
            calls(&plan, &disks, Firmware::Uefi, &[])
                .unwrap_err()
                .to_string()
                .contains("no EFI system partition")
        );
        plan.boot.uefi = Some(Uefi {
            esp: Part { disk: "a".into(), number: 1 },
            mount: "/boot/efi".into(),
            loader: "/EFI/debian/shimx64.efi".into(),
            label: "debian".into(),
        });
        let uefi = calls(&plan, &disks, Firmware::Uefi, &others).unwrap();
        let expected = ["--efi-directory=/boot/efi", "--bootloader-id=debian", "--no-nvram", "--recheck"];
        assert_eq!(uefi, [[&["--target=x86_64-efi"], &expected[..]].concat()]);
    }
}
