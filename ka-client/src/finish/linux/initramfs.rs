//! The clone's initramfs: whether it finds this node's disks, and a new one if it does not.
//!
//! What is in it is asked of the clone's own tools, which can read what they have written, however it is compressed.
//! What builds it stays the clone's own, too: initramfs-tools or dracut.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use ka_desc::error::Error;
use ka_desc::machine::DiskKind;
use ka_desc::system::drivers::{self, Kernel};
use ka_desc::system::tree::{TEXT_BYTES_MAX, Tree};

use super::chroot::Inside;
use crate::finish::remark::Remark;
use crate::finish::target::Target;

/// The file that lists, for initramfs-tools, the modules that are always in.
const MODULES: &str = "/etc/initramfs-tools/modules";

/// A program that builds an initramfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Builder {
    Tools,
    Dracut,
}

/// Makes sure that the kernel which the clone boots finds its disks. `wanted` are modules that it must have in any
/// case; with `rebuild` every initramfs is made anew. Gives a sentence for each change.
pub(crate) fn fit(
    clone: &Target<'_>,
    tree: &Tree,
    inside: &mut Inside<'_>,
    wanted: &[String],
    rebuild: bool,
    tell: &mut dyn FnMut(Remark<'_>),
) -> Result<Vec<String>, Error> {
    let Some(version) = default_kernel(tree)? else {
        tell(Remark::Warning(
            "the clone has no kernel below /lib/modules: whether it finds this node's disks is not known",
        ));
        return Ok(Vec::new());
    };
    let kernel = Kernel::read(tree, &version)?;
    if let Some(strange) = wanted.iter().find(|module| !kernel.has(&drivers::plain(module))) {
        return Err(format!(
            "-r asks for the module {strange}, which the clone's kernel {version} has not: leave it out"
        )
        .into());
    }
    warn_of_cards(clone, &kernel, tell);
    let needed = needed(clone, &kernel, wanted, tell);
    let builder =
        [(Builder::Tools, "update-initramfs", "lsinitramfs"), (Builder::Dracut, "dracut", "lsinitrd")];
    let builder = builder.into_iter().find(|(_, builds, lists)| inside.has(builds) && inside.has(lists));
    let image = image(tree, &version);
    let (Some((builder, _, _)), Some(image)) = (builder, image) else {
        let list = needed.into_iter().collect::<Vec<_>>().join(", ");
        tell(Remark::Warning(&format!(
            "the clone has no initramfs-tools and no dracut, or no initramfs of kernel {version}: whether that finds \
             this node's disks is not known (it needs {list})"
        )));
        return Ok(Vec::new());
    };
    let missing = kernel.missing(&needed, &list(inside, builder, &image)?);
    if missing.is_empty() && !rebuild {
        tell(Remark::Step(&format!("{image} has what this node's disks need, and stays as it is")));
        return Ok(Vec::new());
    }
    let why = if missing.is_empty() { "UUIDs in it".to_owned() } else { missing.join(", ") };
    tell(Remark::Step(&format!("{image} is made anew: {why}")));
    build(tree, inside, builder, &image, &version, &missing, rebuild)?;
    let still = kernel.missing(&needed, &list(inside, builder, &image)?);
    if !still.is_empty() {
        return Err(format!(
            "{image} was made anew and still lacks {}: the clone would not find its disk",
            still.join(", ")
        )
        .into());
    }
    Ok(vec![match missing.is_empty() {
        true => format!("{image} was made anew, with the clone's UUIDs"),
        false => format!("{image} was made anew: this node needs {}", missing.join(", ")),
    }])
}

/// The modules that an initramfs must have on this node.
fn needed(
    clone: &Target<'_>,
    kernel: &Kernel,
    wanted: &[String],
    tell: &mut dyn FnMut(Remark<'_>),
) -> BTreeSet<String> {
    let mut needed: BTreeSet<String> = wanted.iter().map(|module| drivers::plain(module)).collect();
    for disk in clone.disks {
        let DiskKind::Disk(name) = &disk.facts.kind else { continue };
        let (modules, unknown) = kernel.needs(&drivers::disk(clone.machine, name));
        needed.extend(modules);
        if !unknown.is_empty() {
            let (path, version) = (disk.facts.path.display(), &kernel.version);
            let list = unknown.join(", ");
            tell(Remark::Warning(&format!(
                "{path} is driven by {list} here, which the clone's kernel {version} has not"
            )));
        }
    }
    needed
}

/// A card that the clone's kernel does not know keeps it from the network, not from booting. The modules of the others
/// are found when the clone's files are there.
fn warn_of_cards(clone: &Target<'_>, kernel: &Kernel, tell: &mut dyn FnMut(Remark<'_>)) {
    for (card, devices) in drivers::cards(clone.machine) {
        let (_, unknown) = kernel.needs(&devices);
        if !unknown.is_empty() {
            let (list, version) = (unknown.join(", "), &kernel.version);
            tell(Remark::Warning(&format!(
                "{card} is driven by {list} here, which the clone's kernel {version} has not"
            )));
        }
    }
}

/// The paths in an initramfs, a line each.
fn list(inside: &mut Inside<'_>, builder: Builder, image: &str) -> Result<String, Error> {
    let program = match builder {
        Builder::Tools => "lsinitramfs",
        Builder::Dracut => "lsinitrd",
    };
    inside
        .read(program, &[image])
        .map_err(|failure| format!("what is in {image} of the clone is not known: {failure}").into())
}

fn build(
    tree: &Tree,
    inside: &mut Inside<'_>,
    builder: Builder,
    image: &str,
    version: &str,
    missing: &[String],
    all: bool,
) -> Result<(), Error> {
    let names = missing.join(" ");
    let done = match builder {
        Builder::Tools => {
            if !missing.is_empty() {
                let mut list = tree.read(MODULES, TEXT_BYTES_MAX)?.unwrap_or_default();
                if list.last().is_some_and(|byte| *byte != b'\n') {
                    list.push(b'\n');
                }
                list.extend_from_slice(format!("{}\n", missing.join("\n")).as_bytes());
                tree.replace(MODULES, &list)?;
            }
            inside.write("update-initramfs", &["-u", "-k", if all { "all" } else { version }])
        }
        Builder::Dracut => {
            let add: &[&str] = if missing.is_empty() { &[] } else { &["--add-drivers", &names] };
            let which: &[&str] = if all { &["--regenerate-all"] } else { &[image, version] };
            inside.write("dracut", &[&["--force"], add, which].concat())
        }
    };
    done.map(drop).map_err(|failure| format!("the clone's initramfs could not be made: {failure}").into())
}

/// The initramfs of this kernel.
fn image(tree: &Tree, version: &str) -> Option<String> {
    let names = [
        format!("/boot/initrd.img-{version}"),
        format!("/boot/initramfs-{version}.img"),
        format!("/boot/initrd-{version}"),
    ];
    names.into_iter().find(|path| tree.has(path))
}

/// The kernel that the clone boots if nobody chooses: the first of GRUB's menu, or else the newest.
fn default_kernel(tree: &Tree) -> Result<Option<String>, Error> {
    let mut versions = tree.list("/lib/modules")?;
    versions.retain(|version| tree.has(&format!("/lib/modules/{version}/modules.dep")));
    for path in ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"] {
        let menu = tree.read(path, TEXT_BYTES_MAX)?.unwrap_or_default();
        if let Some(first) =
            first_kernel(&String::from_utf8_lossy(&menu)).filter(|first| versions.contains(first))
        {
            return Ok(Some(first));
        }
    }
    Ok(versions.into_iter().max_by(|a, b| compare(a, b)))
}

/// The version of the first kernel of a menu.
fn first_kernel(menu: &str) -> Option<String> {
    let kernel = |line: &str| {
        let mut words = line.split_whitespace();
        let linux = words.next().is_some_and(|word| ["linux", "linux16", "linuxefi"].contains(&word));
        let file = words.next().filter(|_| linux)?.rsplit('/').next()?;
        Some(file.split_once('-')?.1.to_owned())
    };
    menu.lines().find_map(kernel)
}

/// Which of two versions is newer: numbers count as such.
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let mut parts: Vec<(u64, String)> = Vec::new();
        for part in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            parts.push((part[..digits].parse().unwrap_or(0), part[digits..].to_owned()));
        }
        parts
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_kernel_of_the_menu_is_the_default_or_else_the_newest() {
        let menu = "set root=x\nmenuentry 'Debian' {\n\tlinux\t/boot/vmlinuz-6.1.0-9-amd64 root=UUID=x ro\n}\n\
                    menuentry 'old' {\n linux /vmlinuz-5.10 }\n";
        assert_eq!(first_kernel(menu).as_deref(), Some("6.1.0-9-amd64"));
        assert_eq!(first_kernel("insmod linux\nlinux /boot/bzImage\n"), None);
        let mut all = ["6.1.0-10-amd64", "6.1.0-9-amd64", "5.10.0-30-amd64", "6.1.0-10-rt"];
        all.sort_by(|a, b| compare(a, b));
        assert_eq!(all, ["5.10.0-30-amd64", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-10-rt"]);
    }
}
