//! Which kernel modules this node's disks and network cards need, in the clone's kernel.
//!
//! What drives a device here is known from `/sys`: from the disk, or the card, up to the bus. The clone's kernel may be
//! another one, with other names for it, or with what is a module here built in; its own lists say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::tree::Tree;
use crate::error::Error;
use crate::machine::Machine;

/// A device between a disk and the machine's root, with what drives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The driver's module; `None` if it is built in here.
    module: Option<String>,
    /// The driver.
    driver: String,
    /// The device's description of itself, in the form that modules are found by.
    modalias: Option<String>,
}

/// The devices that the disk called `name` depends on.
pub fn disk(machine: &Machine, name: &str) -> Vec<Device> {
    let mut devices = Vec::new();
    let Ok(at) = fs::canonicalize(machine.path("sys/class/block").join(name)) else { return devices };
    chain(machine, &at, &mut devices);
    // Of NVMe there may be several ways to a disk, which is then nobody's child.
    for entry in at.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten() {
        let controller = entry.file_name().to_string_lossy().starts_with("nvme") && entry.path().is_symlink();
        if let Some(at) = fs::canonicalize(entry.path()).ok().filter(|_| controller) {
            chain(machine, &at, &mut devices);
        }
    }
    devices
}

/// The modules that drive the disk called `name`, from its own driver up to its bus.
#[must_use]
pub fn disk_modules(machine: &Machine, name: &str) -> Vec<String> {
    let mut modules: Vec<String> = Vec::new();
    for module in disk(machine, name).into_iter().filter_map(|device| device.module) {
        if !modules.contains(&module) {
            modules.push(module);
        }
    }
    modules
}

/// The network cards, each with the devices that it depends on.
pub fn cards(machine: &Machine) -> Vec<(String, Vec<Device>)> {
    let mut cards = Vec::new();
    for entry in fs::read_dir(machine.path("sys/class/net")).into_iter().flatten().flatten() {
        if let (Ok(at), true) = (fs::canonicalize(entry.path()), entry.path().join("device").exists()) {
            let mut devices = Vec::new();
            chain(machine, &at, &mut devices);
            cards.push((entry.file_name().to_string_lossy().into_owned(), devices));
        }
    }
    cards.sort_by(|a, b| a.0.cmp(&b.0));
    cards
}

/// From a device up.
fn chain(machine: &Machine, at: &Path, devices: &mut Vec<Device>) {
    let root = fs::canonicalize(machine.path("sys/devices")).unwrap_or_default();
    for dir in at.ancestors().take_while(|dir| dir.starts_with(&root) && *dir != root) {
        let name = |path: PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
        let driver = dir.join("driver");
        // The link to the module says its name, whether or not it can be followed.
        let module = fs::read_link(driver.join("module")).ok().and_then(name);
        let Some(driver) = fs::canonicalize(driver).ok().and_then(name) else { continue };
        let device = Device {
            module,
            driver,
            modalias: fs::read_to_string(dir.join("modalias")).ok().map(|text| text.trim().to_owned()),
        };
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
}

/// The clone's kernel, with its modules.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Its version.
    pub version: String,
    /// The names of its modules.
    modules: BTreeSet<String>,
    /// The names of those that are no files.
    builtin: BTreeSet<String>,
    /// Which device's pattern means which module.
    aliases: Vec<(String, String)>,
}

impl Kernel {
    /// The clone's kernel of this version.
    pub fn read(tree: &Tree, version: &str) -> Result<Self, Error> {
        let list = |name: &str| {
            let bytes = tree.read(&format!("/lib/modules/{version}/{name}"), 64 << 20)?;
            Ok::<_, Error>(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
        };
        Ok(Self::new(version, &list("modules.dep")?, &list("modules.builtin")?, &list("modules.alias")?))
    }

    fn new(version: &str, dep: &str, builtin: &str, alias: &str) -> Self {
        let alias_of = |line: &str| {
            let (pattern, module) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
            Some((pattern.to_owned(), plain(module)))
        };
        Self {
            version: version.into(),
            modules: dep.lines().filter_map(|line| module_of(line.split(':').next()?)).collect(),
            builtin: builtin.lines().filter_map(module_of).collect(),
            aliases: alias.lines().filter_map(alias_of).collect(),
        }
    }

    /// The modules that these devices need, and the drivers of those for which it has none.
    pub fn needs(&self, devices: &[Device]) -> (BTreeSet<String>, Vec<String>) {
        let (mut modules, mut unknown) = (BTreeSet::new(), Vec::new());
        for device in devices {
            let here = plain(device.module.as_ref().unwrap_or(&device.driver));
            if self.builtin.contains(&here) {
                continue;
            }
            if self.modules.contains(&here) {
                modules.insert(here);
                continue;
            }
            let alias = device.modalias.as_deref().unwrap_or("");
            let mut fitting =
                self.aliases.iter().filter(|(pattern, _)| matches(pattern.as_bytes(), alias.as_bytes()));
            let fitting: BTreeSet<String> = if device.is_bridge() {
                BTreeSet::new()
            } else {
                fitting.by_ref().map(|(_, module)| module.clone()).collect()
            };
            if fitting.is_empty() && device.module.is_some() {
                unknown.push(here);
            }
            modules.extend(fitting.into_iter().filter(|module| self.modules.contains(module)));
        }
        (modules, unknown)
    }

    /// Whether it has a module of this name, or what it would do built in.
    pub fn has(&self, module: &str) -> bool {
        self.modules.contains(module) || self.builtin.contains(module)
    }

    /// Which of these it has neither in `files`, the paths of an initramfs, nor built in.
    pub fn missing(&self, modules: &BTreeSet<String>, files: &str) -> Vec<String> {
        let there: BTreeSet<String> =
            files.lines().filter_map(|line| module_of(line.split_whitespace().last()?)).collect();
        modules
            .iter()
            .filter(|module| !there.contains(*module) && !self.builtin.contains(*module))
            .cloned()
            .collect()
    }
}

impl Device {
    /// Whether it only joins two buses: every kernel does that, and what else says it fits is for other ends.
    fn is_bridge(&self) -> bool {
        self.modalias.as_ref().is_some_and(|alias| alias.starts_with("pci:") && alias.contains("bc06"))
    }
}

/// The module in a path: `kernel/drivers/ata/ahci.ko.xz`.
fn module_of(path: &str) -> Option<String> {
    let (name, end) = path.rsplit('/').next()?.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"].contains(&end).then(|| plain(name))
}

/// Modules are written with either, and mean the same.
pub fn plain(module: &str) -> String {
    module.replace('-', "_")
}

/// Whether a pattern of shells fits the text: `*`, `?` and `[0-9]`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Where the last star is, and what it has taken so far.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        let (fits, width) = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => (true, 1),
            Some(b'[') => class(&pattern[p..], text[t]),
            Some(byte) => (*byte == text[t], 1),
            None => (false, 0),
        };
        if fits {
            (p, t) = (p + width, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether a byte is one of `[a-z0]`, and how long that is.
fn class(pattern: &[u8], byte: u8) -> (bool, usize) {
    let Some(end) = pattern.iter().position(|b| *b == b']') else { return (false, 1) };
    let mut inner = &pattern[1..end];
    let mut fits = false;
    while let Some((&first, rest)) = inner.split_first() {
        if let [b'-', last, rest @ ..] = rest {
            fits |= (first..=*last).contains(&byte);
            inner = rest;
        } else {
            fits |= first == byte;
            inner = rest;
        }
    }
    (fits, end + 1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const AHCI: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";

    fn device(module: Option<&str>, driver: &str, modalias: &str) -> Device {
        Device { module: module.map(Into::into), driver: driver.into(), modalias: Some(modalias.into()) }
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("pci:v*d*sv*sd*bc01sc06i01*", AHCI, true),
            ("pci:v00008086d00002922sv*sd*bc*sc*i*", AHCI, true),
            ("pci:v00008086d00002923sv*sd*bc*sc*i*", AHCI, false),
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4", true),
            ("a[0-3x]c", "a2c", true),
            ("a[0-3x]c", "axc", true),
            ("a[0-3x]c", "a4c", false),
            ("a?c", "abc", true),
            ("*", "", true),
            ("", "a", false),
            ("a[", "a[", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn what_a_kernel_has_built_in_is_not_missing() {
        let kernel = Kernel::new(
            "6.1",
            "kernel/drivers/ata/ahci.ko: kernel/drivers/ata/libahci.ko
kernel/drivers/block/virtio_blk.ko.xz:
",
            "kernel/drivers/virtio/virtio_pci.ko
",
            "# Aliases
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v*d*sv*sd*bc06sc04i* ahci
",
        );
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        // A module of this name; one built in there; a driver that is built in here, and found by its device; a bridge.
        let devices = [
            device(Some("virtio_blk"), "virtio_blk", "virtio:x"),
            device(Some("virtio_pci"), "virtio-pci", "pci:x"),
            device(None, "ahci-here", AHCI),
            device(None, "pcieport", "pci:v1d1sv1sd1bc06sc04i00"),
        ];
        assert_eq!(kernel.needs(&devices), (set(&["ahci", "virtio_blk"]), vec![]));
        let strange = [device(Some("mpt3sas"), "mpt3sas", "pci:y"), device(None, "platform", "acpi:z")];
        assert_eq!(kernel.needs(&strange), (set(&[]), vec!["mpt3sas".to_owned()]));
        let files = "-rw-r--r-- 1 root root 9 Jan 1 00:00 usr/lib/modules/6.1/kernel/drivers/ata/ahci.ko.zst
bin/sh
";
        assert_eq!(kernel.missing(&set(&["ahci", "virtio_blk", "virtio_pci"]), files), ["virtio_blk"]);
    }

    #[test]
    fn drivers_are_found_from_the_disk_up() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let pci = "sys/devices/pci0000:00/0000:00:04.0";
        for path in ["virtio1/block/vda", "virtio1/net/eth0"] {
            fs::create_dir_all(at(pci).join(path)).unwrap();
        }
        for path in ["sys/class/block", "sys/class/net", "sys/devices/virtual/net/lo"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (driver, module) in [("virtio-pci", None), ("virtio_blk", Some("virtio_blk"))] {
            fs::create_dir_all(at("sys/bus").join(driver)).unwrap();
            if let Some(module) = module {
                fs::create_dir_all(at("sys/module").join(module)).unwrap();
                symlink(at("sys/module").join(module), at("sys/bus").join(driver).join("module")).unwrap();
            }
        }
        symlink(at("sys/bus/virtio-pci"), at(pci).join("driver")).unwrap();
        fs::write(
            at(pci).join("modalias"),
            "pci:x
",
        )
        .unwrap();
        symlink(at("sys/bus/virtio_blk"), at(pci).join("virtio1/driver")).unwrap();
        symlink(at(pci).join("virtio1/block/vda"), at("sys/class/block/vda")).unwrap();
        symlink(at(pci).join("virtio1/net/eth0"), at("sys/class/net/eth0")).unwrap();
        symlink(at(pci).join("virtio1"), at(pci).join("virtio1/net/eth0/device")).unwrap();
        symlink(at("sys/devices/virtual/net/lo"), at("sys/class/net/lo")).unwrap();
        let machine = Machine::at(dir.path());
        let expected = [
            Device { modalias: None, ..device(Some("virtio_blk"), "virtio_blk", "") },
            device(None, "virtio-pci", "pci:x"),
        ];
        assert_eq!(disk(&machine, "vda"), expected);
        assert_eq!(cards(&machine), [("eth0".to_owned(), expected.to_vec())]);
        // A disk to which several controllers lead.
        let nvme = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
        fs::create_dir_all(at(nvme).join("nvme0n1")).unwrap();
        fs::create_dir_all(at(pci).join("nvme/nvme0")).unwrap();
        symlink(at(pci).join("nvme/nvme0"), at(nvme).join("nvme0")).unwrap();
        symlink(at(nvme).join("nvme0n1"), at("sys/class/block/nvme0n1")).unwrap();
        assert_eq!(disk(&machine, "nvme0n1"), expected[1..]);
        assert_eq!(disk(&machine, "sdz"), []);
    }
}
