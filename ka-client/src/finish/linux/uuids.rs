//! References to UUIDs that the golden node has and the clone has not.

use ka_desc::error::Error;
use ka_desc::machine::DiskKind;
use ka_desc::manifest::Firmware;
use ka_desc::run::Runner;
use ka_desc::system::tree::{TEXT_BYTES_MAX, Tree};
use ka_desc::write::look;

use crate::finish::target::Target;

/// The golden node's UUID, and the clone's.
pub(crate) type Change = (String, String);

/// Texts that speak of UUIDs.
const FILES: [&str; 6] = [
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/default/grub",
    "/etc/kernel/cmdline",
    "/etc/dracut.conf",
    "/boot/extlinux/extlinux.conf",
];

/// Directories with such texts, and how their names end.
const FOLDERS: [(&str, &str); 10] = [
    ("/etc/default/grub.d", ".cfg"),
    ("/etc/initramfs-tools/conf.d", ""),
    ("/etc/dracut.conf.d", ".conf"),
    ("/etc/systemd/system", ".mount"),
    ("/etc/systemd/system", ".swap"),
    ("/boot/grub", ".cfg"),
    ("/boot/grub", "env"),
    ("/boot/grub2", ".cfg"),
    ("/boot/grub2", "env"),
    ("/boot/loader/entries", ".conf"),
];

/// The files in which GRUB's tools leave, as text, what they have built into a core: for BIOS, and for UEFI.
const BUILT_IN: [(&str, Firmware); 4] = [
    ("/boot/grub/i386-pc/load.cfg", Firmware::Bios),
    ("/boot/grub2/i386-pc/load.cfg", Firmware::Bios),
    ("/boot/grub/x86_64-efi/load.cfg", Firmware::Uefi),
    ("/boot/grub2/x86_64-efi/load.cfg", Firmware::Uefi),
];

/// The longest loader on an EFI system partition: a unified kernel image has less than half of it.
pub(crate) const LOADER_BYTES_MAX: u64 = 256 << 20;

/// Returns the UUIDs, old and new, of the clone's file systems and swap that differ from the golden node's in the plan.
pub(crate) fn changes(clone: &Target<'_>, runner: &mut dyn Runner) -> Result<Vec<Change>, Error> {
    let mut changes: Vec<Change> = Vec::new();
    for (facts, disk) in clone.plan.disks.iter().zip(clone.disks) {
        let mut old = clone.plan.uuids.iter().filter(|uuid| uuid.part.disk == facts.name).peekable();
        if old.peek().is_none() {
            continue;
        }
        let found = look(runner, &disk.facts).map_err(|e| e.to_string())?;
        for old in old {
            let contents =
                found.as_ref().and_then(|found| found.partition(old.part.number)?.contents.as_ref());
            let new = contents.and_then(|contents| contents.uuid.clone()).ok_or_else(|| {
                format!(
                    "nothing with a UUID is on partition {}, where the golden node has {}",
                    old.part, old.uuid
                )
            })?;
            if new != old.uuid {
                changes.push((old.uuid.clone(), new));
            }
        }
    }
    Ok(changes)
}

/// Rewrites every text of the clone that speaks of an old one; a sentence for each file.
pub(crate) fn rewrite(clone: &Target<'_>, tree: &Tree, changes: &[Change]) -> Result<Vec<String>, Error> {
    let mut told = Vec::new();
    if changes.is_empty() {
        return Ok(told);
    }
    for path in texts(tree, clone.esp().as_deref())? {
        let Some(text) = tree.read(&path, TEXT_BYTES_MAX)? else { continue };
        if let Some(new) = replaced(&text, changes) {
            tree.replace(&path, &new)?;
            told.push(format!("{path} has the clone's UUIDs instead of the golden node's"));
        }
    }
    Ok(told)
}

/// The texts that may speak of UUIDs, as far as they are there.
fn texts(tree: &Tree, esp: Option<&str>) -> Result<Vec<String>, Error> {
    let mut all: Vec<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
    all.extend(BUILT_IN.iter().map(|(path, _)| (*path).to_owned()));
    let mut folders: Vec<(String, &str)> =
        FOLDERS.iter().map(|(dir, end)| ((*dir).to_owned(), *end)).collect();
    if let Some(esp) = esp {
        folders.push((format!("{esp}/loader/entries"), ".conf"));
        folders.extend(vendors(tree, esp)?.into_iter().map(|dir| (dir, ".cfg")));
    }
    for (dir, end) in folders {
        let names = tree.list(&dir)?;
        all.extend(names.iter().filter(|name| name.ends_with(end)).map(|name| format!("{dir}/{name}")));
    }
    Ok(all)
}

/// The directories of loaders on an EFI system partition.
fn vendors(tree: &Tree, esp: &str) -> Result<Vec<String>, Error> {
    let Some(dir) = tree.find(&format!("{esp}/EFI"))? else { return Ok(Vec::new()) };
    Ok(tree.list(&dir)?.into_iter().map(|name| format!("{dir}/{name}")).collect())
}

/// Refuses what cannot be rewritten: a loader with an old UUID built in, unless the clone's tools make it anew.
pub(crate) fn refuse_built_in(clone: &Target<'_>, tree: &Tree, changes: &[Change]) -> Result<(), Error> {
    if changes.is_empty() || clone.plan.boot.install.is_some() {
        return Ok(());
    }
    let sentence = |path: &str| {
        format!(
            "GRUB has the golden node's UUID built in ({path} says so), and this clone has another one: let the clones' own \
             tools install it (-r grub), or clone with the same UUIDs"
        )
    };
    for (path, firmware) in BUILT_IN {
        let text = tree.read(path, TEXT_BYTES_MAX)?.unwrap_or_default();
        if clone.plan.boot.firmware.contains(&firmware) && replaced(&text, changes).is_some() {
            return Err(sentence(path).into());
        }
    }
    for dir in clone.esp().map_or(Ok(Vec::new()), |esp| vendors(tree, &esp))? {
        for name in tree.list(&dir)?.iter().filter(|name| name.to_lowercase().ends_with(".efi")) {
            let path = format!("{dir}/{name}");
            if speaks_of(tree, &path, changes)? {
                return Err(sentence(&path).into());
            }
        }
    }
    Ok(())
}

/// Whether a loader has an old UUID built in.
pub(crate) fn speaks_of(tree: &Tree, path: &str, changes: &[Change]) -> Result<bool, Error> {
    if changes.is_empty() {
        return Ok(false);
    }
    let bytes = tree.read(path, LOADER_BYTES_MAX)?.unwrap_or_default();
    let has = |(old, _): &Change| bytes.windows(old.len()).any(|window| window == old.as_bytes());
    Ok(changes.iter().any(has))
}

/// The text with new UUIDs in the place of old ones, where those are whole words; `None` if it has none of them. It may
/// have any bytes between them. Pure.
fn replaced(text: &[u8], changes: &[Change]) -> Option<Vec<u8>> {
    let mut new = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, next @ ..] = rest {
        // GRUB's names of entries end with one, behind a hyphen.
        let starts = !text[..text.len() - rest.len()].last().is_some_and(u8::is_ascii_alphanumeric);
        let ends = |behind: &[u8]| !behind.first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'-');
        let found = changes.iter().filter(|_| starts).find_map(|(old, uuid)| {
            rest.strip_prefix(old.as_bytes()).filter(|behind| ends(behind)).map(|behind| (uuid, behind))
        });
        if let Some((uuid, behind)) = found {
            new.extend_from_slice(uuid.as_bytes());
            rest = behind;
        } else {
            new.push(*byte);
            rest = next;
        }
    }
    (new != text).then_some(new)
}

/// Links each UUID to its device where no udev has done so. Without the link, GRUB's tools would write the device's
/// name, which is another one at the next boot.
pub(crate) fn name_devices(clone: &Target<'_>, runner: &mut dyn Runner) -> Result<(), Error> {
    let folder = clone.machine.path("dev/disk/by-uuid");
    for disk in clone.disks {
        let DiskKind::Disk(name) = &disk.facts.kind else { continue };
        let found = look(runner, &disk.facts).map_err(|e| e.to_string())?;
        for p in found.iter().flat_map(|found| &found.partitions) {
            let uuid = p.contents.as_ref().and_then(|contents| contents.uuid.as_ref());
            let node = ka_desc::write::kernel_node(clone.machine, name, p.number);
            let (Some(uuid), Some(node)) = (uuid, node) else { continue };
            let link = folder.join(uuid);
            let made =
                std::fs::create_dir_all(&folder).and_then(|()| match std::fs::symlink_metadata(&link) {
                    Ok(_) => Ok(()),
                    Err(_) => std::os::unix::fs::symlink(&node, &link),
                });
            made.map_err(|e| format!("{}: {e}", link.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f";
    const NEW: &str = "11111111-2222-3333-4444-555555555555";

    #[test]
    fn whole_words_are_replaced_wherever_they_are() {
        let changes = [(OLD.to_owned(), NEW.to_owned()), ("1A2B-3C4D".into(), "AAAA-BBBB".into())];
        for (text, new) in [
            ("UUID=OLD / ext4 defaults 0 1\nUUID=1A2B-3C4D /boot/efi vfat\n", true),
            ("UUID=\"OLD\" none swap sw 0 0", true),
            ("\tsearch --no-floppy --fs-uuid --set=root OLD\n", true),
            ("\tsearch --no-floppy --fs-uuid --set=root  1A2B-3C4D\n", true),
            ("linux /boot/vmlinuz root=UUID=OLD ro resume=/dev/disk/by-uuid/OLD quiet", true),
            ("menuentry 'Linux' $menuentry_id_option 'gnulinux-simple-OLD' {", true),
            ("saved_entry=gnulinux-advanced-OLD>gnulinux-6.1-OLD", true),
            ("RESUME=UUID=OLD", true),
            ("OLD", true),
            ("é OLD é", true),
            ("OLD-and-more aOLD OLD0 x1A2B-3C4D 1A2B-3C4D-5 8d3f2c1e", false),
            ("", false),
        ] {
            let with = |uuid: &str, vfat: &str| text.replace("OLD", uuid).replace("1A2B-3C4D", vfat);
            let expected = new.then(|| with(NEW, "AAAA-BBBB"));
            let replaced = replaced(with(OLD, "1A2B-3C4D").as_bytes(), &changes);
            assert_eq!(replaced, expected.map(String::into_bytes), "{text}");
        }
    }

    #[test]
    fn two_that_change_places_do() {
        let changes = [(OLD.to_owned(), NEW.to_owned()), (NEW.into(), OLD.into())];
        let replaced = replaced(format!("{OLD} {NEW}").as_bytes(), &changes);
        assert_eq!(replaced, Some(format!("{NEW} {OLD}").into_bytes()));
    }

    #[test]
    fn other_bytes_than_utf_8_are_no_hindrance() {
        let changes = [(OLD.to_owned(), NEW.to_owned())];
        let text = |uuid: &str| [b"# caf\xe9\nUUID=", uuid.as_bytes(), b" / ext4\n"].concat();
        assert_eq!(replaced(&text(OLD), &changes), Some(text(NEW)));
    }
}
