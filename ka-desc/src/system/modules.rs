//! Which kernel modules go along: those of disks, wired networks, keyboards and file systems, and what they need. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::{error, fmt};

/// Whole directories (`/`), modules, and those whose names begin so (`*`), of the kernel's tree.
const WANTED: &[&str] = &[
    // Wired networks.
    "drivers/net/ethernet/",
    "drivers/net/hyperv/",
    "drivers/net/mdio/",
    "drivers/net/pcs/",
    "drivers/net/phy/",
    "drivers/net/usb/",
    "drivers/net/virtio_net",
    "drivers/net/vmxnet3/",
    "drivers/net/xen-netfront",
    "net/packet/",
    // Disks, and what they are connected by.
    "drivers/ata/",
    "drivers/block/",
    "drivers/cdrom/",
    "drivers/hv/",
    "drivers/message/fusion/",
    "drivers/mmc/",
    "drivers/nvme/host/",
    "drivers/pci/controller/",
    "drivers/scsi/",
    "drivers/usb/host/",
    "drivers/usb/storage/",
    "drivers/virtio/",
    "drivers/char/hw_random/virtio-rng",
    // Keyboards, for the shell.
    "drivers/hid/hid-generic",
    "drivers/hid/hid-hyperv",
    "drivers/hid/usbhid/",
    "drivers/input/keyboard/atkbd",
    "drivers/input/serio/",
    // File systems; some ask for their checksums by alias only.
    "arch/x86/crypto/crc*",
    "arch/arm64/crypto/crc*",
    "crypto/blake2b*",
    "crypto/crc*",
    "crypto/xxhash*",
    "fs/btrfs/",
    "fs/efivarfs/",
    "fs/ext4/",
    "fs/f2fs/",
    "fs/fat/",
    "fs/isofs/",
    "fs/jfs/",
    "fs/nls/nls_ascii",
    "fs/nls/nls_cp437",
    "fs/nls/nls_cp850",
    "fs/nls/nls_iso8859-1",
    "fs/nls/nls_utf8",
    "fs/ntfs3/",
    "fs/xfs/",
];

/// The parts of those directories that no node needs to be cloned.
const UNWANTED: &[&str] = &[
    // Switches, modems and telephones.
    "drivers/net/ethernet/mellanox/mlxsw/",
    "drivers/net/usb/cdc-phonet",
    "drivers/net/usb/cdc_mbim",
    "drivers/net/usb/hso",
    "drivers/net/usb/qmi_wwan",
    "drivers/net/usb/sierra_net",
    // Disks that are somewhere else, in memory, or of the past.
    "drivers/block/aoe/",
    "drivers/block/brd",
    "drivers/block/drbd/",
    "drivers/block/floppy",
    "drivers/block/nbd",
    "drivers/block/null_blk/",
    "drivers/block/pktcdvd",
    "drivers/block/rbd",
    "drivers/block/rnbd/",
    "drivers/block/xen-blkback/",
    "drivers/block/zram/",
    "drivers/nvme/host/nvme-rdma",
    "drivers/nvme/host/nvme-tcp",
    "drivers/scsi/be2iscsi/",
    "drivers/scsi/bnx2fc/",
    "drivers/scsi/bnx2i/",
    "drivers/scsi/ch",
    "drivers/scsi/cxgbi/",
    "drivers/scsi/fcoe/",
    "drivers/scsi/iscsi_*",
    "drivers/scsi/pcmcia/",
    "drivers/scsi/qedf/",
    "drivers/scsi/qedi/",
    "drivers/scsi/qla2xxx/tcm_qla2xxx",
    "drivers/scsi/qla4xxx/",
    "drivers/scsi/scsi_debug",
    "drivers/scsi/st",
    "drivers/usb/host/u132-hcd",
];

/// A kernel's modules: their paths, names and dependencies.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// By path within the kernel's directory: what each needs, with all that these need.
    needs: BTreeMap<String, Vec<String>>,
    /// Paths by name.
    files: BTreeMap<String, Vec<String>>,
    /// Names by every alias without wildcards.
    aliases: BTreeMap<String, BTreeSet<String>>,
    /// By name: what is to be loaded before or after it, by name or alias.
    soft: BTreeMap<String, BTreeSet<String>>,
}

impl Modules {
    /// Reads `modules.dep`, `modules.alias` and `modules.softdep`.
    pub fn parse(dep: &str, alias: &str, softdep: &str) -> Self {
        let mut modules = Self::default();
        for (path, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            modules.files.entry(name(path)).or_default().push(path.to_owned());
            modules.needs.insert(path.to_owned(), needs.split_ascii_whitespace().map(Into::into).collect());
        }
        for line in alias.lines().filter(|line| !line.contains(['*', '?', '['])) {
            if let ["alias", alias, target] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                modules.aliases.entry(name(alias)).or_default().insert(name(target));
            }
        }
        for line in softdep.lines().filter_map(|line| line.strip_prefix("softdep ")) {
            let mut words = line.split_ascii_whitespace();
            if let Some(module) = words.next() {
                let names = words.filter(|word| !["pre:", "post:"].contains(word)).map(name);
                modules.soft.entry(name(module)).or_default().extend(names);
            }
        }
        modules
    }

    /// The paths of those that go along: the wanted ones, these by name, and what they need.
    ///
    /// # Errors
    /// Some names are no module's.
    pub fn choose(&self, also: &[String]) -> Result<BTreeSet<String>, UnknownModules> {
        let unknown: Vec<String> =
            also.iter().filter(|n| self.paths(&name(n)).next().is_none()).cloned().collect();
        if !unknown.is_empty() {
            return Err(UnknownModules(unknown));
        }
        let mut todo: Vec<&String> = self.needs.keys().filter(|path| is_wanted(path)).collect();
        let also: Vec<String> = also.iter().map(|n| name(n)).collect();
        todo.extend(also.iter().flat_map(|n| self.paths(n)));
        // Many may ask for the same: each is looked at once.
        let (mut chosen, mut asked) = (BTreeSet::new(), BTreeSet::new());
        while let Some(path) = todo.pop() {
            if chosen.insert(path.clone()) {
                todo.extend(self.needs.get(path).into_iter().flatten());
                let soft = self.soft.get(&name(path)).into_iter().flatten();
                todo.extend(soft.filter(|n| asked.insert(*n)).flat_map(|n| self.paths(n)));
            }
        }
        Ok(chosen)
    }

    /// The paths of the modules of this name, or with this alias.
    fn paths<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a String> {
        let aliased = self.aliases.get(name).into_iter().flatten().filter(move |own| *own != name);
        let names = std::iter::once(name).chain(aliased.map(String::as_str));
        names.filter_map(|name| self.files.get(name)).flatten()
    }
}

/// Names that no module of a kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownModules(pub Vec<String>);

impl fmt::Display for UnknownModules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it has no module {}", self.0.join(", "))
    }
}

impl error::Error for UnknownModules {}

/// A module's name: that of its file, with `_` for `-` as the kernel has it.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(stem, _)| stem).replace('-', "_")
}

fn is_wanted(path: &str) -> bool {
    let within = path.strip_prefix("kernel/").unwrap_or_default();
    let stem = within.split_once(".ko").map_or(within, |(stem, _)| stem);
    let is_in = |list: &[&str]| {
        list.iter().any(|&entry| match entry.strip_suffix('*') {
            Some(begin) => stem.starts_with(begin),
            None if entry.ends_with('/') => stem.starts_with(entry),
            None => stem == entry,
        })
    };
    is_in(WANTED) && !is_in(UNWANTED)
}

/// The firmware that a module asks for, as its file says.
pub fn firmware(module: &[u8]) -> Vec<String> {
    const WORD: &[u8] = b"\0firmware=";
    let mut names = Vec::new();
    for at in (0..module.len()).filter(|at| module[*at] == 0 && module[*at..].starts_with(WORD)) {
        let rest = &module[at + WORD.len()..];
        let text =
            rest.iter().position(|byte| *byte == 0).and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        // A name is used as a path.
        names.extend(text.filter(|name| !name.contains("..")).map(str::to_owned));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.xz: kernel/drivers/ptp/ptp.ko.xz kernel/drivers/pps/pps_core.ko.xz
kernel/drivers/ptp/ptp.ko.xz: kernel/drivers/pps/pps_core.ko.xz
kernel/drivers/pps/pps_core.ko.xz:
kernel/drivers/net/wireless/intel/iwlwifi/iwlwifi.ko.xz: kernel/net/wireless/cfg80211.ko.xz
kernel/net/wireless/cfg80211.ko.xz:
kernel/drivers/net/ethernet/mellanox/mlxsw/mlxsw_core.ko.xz:
kernel/drivers/scsi/st.ko.xz:
kernel/drivers/scsi/stex.ko.xz:
kernel/drivers/scsi/sd_mod.ko.xz:
kernel/drivers/gpu/drm/i915/i915.ko.xz:
kernel/fs/btrfs/btrfs.ko.xz: kernel/lib/raid6/raid6_pq.ko.xz
kernel/lib/raid6/raid6_pq.ko.xz:
kernel/lib/odd-sum.ko.xz:
kernel/arch/x86/crypto/odd-sum-fast.ko.xz:
updates/dkms/r8125.ko.xz:
";
    const ALIAS: &str =
        "# Aliases\nalias crypto-odd odd_sum\nalias crypto-odd odd_sum_fast\nalias pci:v*d* e1000e\n";
    const SOFT: &str = "# Soft dependencies\nsoftdep btrfs pre: crypto-odd post: none\n";

    fn names(also: &[&str]) -> Vec<String> {
        let also: Vec<String> = also.iter().map(|&n| n.to_owned()).collect();
        let chosen = Modules::parse(DEP, ALIAS, SOFT).choose(&also).unwrap();
        chosen.iter().map(|path| name(path)).collect()
    }

    #[test]
    fn the_wanted_ones_come_with_all_that_they_need() {
        let mut expected =
            ["odd_sum_fast", "e1000e", "sd_mod", "stex", "btrfs", "odd_sum", "raid6_pq", "pps_core", "ptp"];
        let mut got = names(&[]);
        got.sort();
        expected.sort_unstable();
        assert_eq!(got, expected);
        assert!(names(&["r8125"]).contains(&"r8125".into()));
        let with_needs = names(&["iwlwifi"]);
        assert!(with_needs.contains(&"cfg80211".into()));
    }

    #[test]
    fn names_that_no_module_has_are_told() {
        let also = ["e1000e".to_owned(), "no_such".to_owned()];
        assert_eq!(
            Modules::parse(DEP, ALIAS, SOFT).choose(&also),
            Err(UnknownModules(vec!["no_such".to_owned()]))
        );
    }

    #[test]
    fn aliases_give_no_more_than_there_is() {
        // One of a module's own name, and many of the same.
        let alias = "alias e1000e e1000e\n".repeat(16);
        let soft = "softdep e1000e pre: e1000e e1000e\n".repeat(16);
        let modules = Modules::parse(DEP, &alias, &soft);
        assert_eq!(modules.paths("e1000e").count(), 1);
        assert_eq!(
            modules.choose(&[]).unwrap().len(),
            Modules::parse(DEP, "", "").choose(&[]).unwrap().len()
        );
    }

    #[test]
    fn a_module_says_its_firmware() {
        let module = b"\x7fELF\0license=GPL\0firmware=a/b.bin\0firmware=../x\0firmware=c.fw\0firmware=cut";
        assert_eq!(firmware(module), ["a/b.bin", "c.fw"]);
    }
}
