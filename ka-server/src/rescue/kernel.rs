//! The kernel of a rescue system: its image, its modules and their firmware.

use std::fs;
use std::path::PathBuf;

use ka_desc::error::Error;
use ka_desc::run::{Call, Runner};
use ka_desc::system::modules::{self, Modules};
use ka_desc::system::tree::Tree;

use super::cpio::{Archive, Content, Entry, Mode};
use super::programs::merged;

/// The indices by which modprobe finds modules. They know more modules than go along; a missing one is no harm.
const INDICES: [&str; 5] = [
    "modules.dep.bin",
    "modules.alias.bin",
    "modules.softdep",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
];

/// Without these, modprobe finds nothing.
const NEEDED_INDICES: usize = 2;

/// The directories of firmware, in the order in which they are searched.
const FIRMWARE: [&str; 2] = ["/lib/firmware/updates", "/lib/firmware"];

/// A kernel of a system.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// Its version, as `uname -r` says it.
    pub(super) version: String,
    /// Its image.
    pub(super) image: PathBuf,
}

/// The sizes of the modules and of the firmware, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub(super) modules: u64,
    pub(super) firmware: u64,
}

impl Kernel {
    /// The one of this version, or the one that runs, or the only one.
    ///
    /// # Errors
    /// There is none, or it is not clear which: a sentence.
    pub(super) fn find(tree: &Tree, asked: Option<&str>, running: Option<&str>) -> Result<Self, Error> {
        let there: Vec<String> = tree
            .list("/lib/modules")
            .unwrap_or_default()
            .into_iter()
            .filter(|v| tree.file(&format!("/boot/vmlinuz-{v}")).is_ok())
            .collect();
        let known = match there.is_empty() {
            true => "install Debian's package linux-image-amd64".to_owned(),
            false => format!("give --kernel VERSION, one of: {}", there.join(", ")),
        };
        let version = match (asked.or(running), &there[..]) {
            (Some(version), _) if there.iter().any(|v| v == version) => version.to_owned(),
            (Some(version), _) => {
                let which = if asked.is_some() { "" } else { " (the running one)" };
                return Err(format!(
                    "kernel {version}{which} is not in both /boot and /lib/modules: {known}"
                )
                .into());
            }
            (None, [only]) => only.clone(),
            (None, []) => return Err(format!("there is no kernel in /boot and /lib/modules: {known}").into()),
            (None, _) => return Err(format!("there are several kernels: {known}").into()),
        };
        let image = tree.file(&format!("/boot/vmlinuz-{version}")).map_err(|e| e.to_string())?;
        Ok(Self { version, image })
    }

    /// Whether it says that it was built with this setting.
    pub(super) fn is_set(&self, tree: &Tree, setting: &str) -> bool {
        let config = tree.text(&format!("/boot/config-{}", self.version)).unwrap_or_default();
        config.lines().any(|line| line.strip_prefix(setting) == Some("=y"))
    }

    /// Adds the modules that nodes need, those of `also`, and the firmware that they ask for. Compressed ones stay so:
    /// modprobe comes from the same system, so it can read them, and they take less memory on the node.
    ///
    /// # Errors
    /// Something cannot be read, or is not there: a sentence.
    pub(super) fn add(
        &self,
        tree: &Tree,
        runner: &mut dyn Runner,
        also: &[String],
        archive: &mut Archive,
    ) -> Result<Sizes, Error> {
        let folder = format!("/lib/modules/{}", self.version);
        for (n, index) in INDICES.iter().enumerate() {
            match tree.file(&format!("{folder}/{index}")) {
                Ok(file) => {
                    archive.add(
                        &merged(&format!("{folder}/{index}")),
                        Entry::File(Content::Copy(file), Mode::Plain),
                    );
                }
                Err(e) if n < NEEDED_INDICES => {
                    return Err(format!("{e}: run depmod {}", self.version).into());
                }
                Err(_) => {}
            }
        }
        let text = |name: &str| tree.text(&format!("{folder}/{name}"));
        let dep = text("modules.dep").map_err(|e| e.to_string())?;
        let known = Modules::parse(
            &dep,
            &text("modules.alias").unwrap_or_default(),
            &text("modules.softdep").unwrap_or_default(),
        );
        let chosen = known
            .choose(also)
            .map_err(|unknown| format!("kernel {} has no module {}", self.version, unknown.0.join(", ")))?;
        let mut sizes = Sizes::default();
        let (mut firmware, mut packed) = (Vec::new(), Vec::new());
        for path in &chosen {
            let file = tree.file(&format!("{folder}/{path}")).map_err(|e| e.to_string())?;
            let bytes = fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            sizes.modules += bytes.len() as u64;
            match path.rsplit('.').next() {
                Some("ko") => firmware.extend(modules::firmware(&bytes)),
                Some(sort) => packed.push((sort, file.display().to_string())),
                None => {}
            }
            archive.add(&merged(&format!("{folder}/{path}")), Entry::File(Content::Copy(file), Mode::Plain));
        }
        for (sort, program) in [("xz", "xz"), ("zst", "zstd"), ("gz", "gzip")] {
            let files: Vec<&str> = packed.iter().filter(|p| p.0 == sort).map(|p| p.1.as_str()).collect();
            if !files.is_empty() {
                let args = ["-d", "-c", "-q"].into_iter().chain(files);
                let bytes = runner.read(&Call::new(program, args)).map_err(|e| e.to_string())?;
                firmware.extend(modules::firmware(bytes.as_bytes()));
            }
        }
        for name in firmware {
            sizes.firmware += add_firmware(tree, &name, archive);
        }
        Ok(sizes)
    }
}

/// Adds a file of firmware as it is there, perhaps compressed; nothing if the system does not have it. Its size.
fn add_firmware(tree: &Tree, name: &str, archive: &mut Archive) -> u64 {
    let places =
        FIRMWARE.iter().flat_map(|folder| ["", ".zst", ".xz"].map(|end| format!("{folder}/{name}{end}")));
    let Some((path, real)) = places.into_iter().find_map(|path| {
        let real = tree.real(&path).filter(|real| tree.host(real).is_file())?;
        Some((merged(&path), real))
    }) else {
        return 0;
    };
    let (target, file) = (merged(&real), tree.host(&real));
    let is_new = !archive.has(&target);
    let bytes = fs::metadata(&file).map_or(0, |about| about.len());
    archive.add(&target, Entry::File(Content::Copy(file), Mode::Plain));
    archive.add(&path, Entry::Link(target));
    if is_new { bytes } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(versions: &[&str]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for version in versions {
            fs::create_dir_all(dir.path().join("lib/modules").join(version)).unwrap();
            fs::create_dir_all(dir.path().join("boot")).unwrap();
            fs::write(dir.path().join(format!("boot/vmlinuz-{version}")), "").unwrap();
            fs::write(
                dir.path().join(format!("boot/config-{version}")),
                "CONFIG_RD_ZSTD=y\nCONFIG_RD_XZ=n\n",
            )
            .unwrap();
        }
        let tree = Tree::open(dir.path(), "the system").unwrap();
        (dir, tree)
    }

    #[test]
    fn which_kernel_is_asked_running_or_the_only_one() {
        let (_dir, two) = tree(&["6.1", "6.12"]);
        let (_dir, one) = tree(&["6.1"]);
        let (_dir, none) = tree(&[]);
        let find = |tree, asked, running| Kernel::find(tree, asked, running).map(|kernel| kernel.version);
        assert_eq!(find(&two, None, Some("6.12")).unwrap(), "6.12");
        assert_eq!(find(&two, Some("6.1"), Some("6.12")).unwrap(), "6.1");
        assert_eq!(find(&one, None, None).unwrap(), "6.1");
        assert!(
            find(&two, None, None)
                .unwrap_err()
                .to_string()
                .ends_with("give --kernel VERSION, one of: 6.1, 6.12")
        );
        assert!(find(&one, None, Some("5.0")).unwrap_err().to_string().contains("the running one"));
        assert!(find(&none, None, Some("5.0")).unwrap_err().to_string().contains("linux-image-amd64"));
    }

    #[test]
    fn a_kernel_s_settings_are_read() {
        let (_dir, tree) = tree(&["6.1"]);
        let kernel = Kernel::find(&tree, None, None).unwrap();
        assert!(kernel.is_set(&tree, "CONFIG_RD_ZSTD"));
        assert!(!kernel.is_set(&tree, "CONFIG_RD_XZ") && !kernel.is_set(&tree, "CONFIG_RD"));
    }

    #[test]
    fn firmware_comes_by_its_name_and_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lib/firmware/x")).unwrap();
        fs::write(dir.path().join("lib/firmware/x/new.bin.xz"), "1234").unwrap();
        std::os::unix::fs::symlink("x/new.bin.xz", dir.path().join("lib/firmware/old.bin.xz")).unwrap();
        let (tree, mut archive) = (Tree::open(dir.path(), "the system").unwrap(), Archive::default());
        let bytes = ["old.bin", "x/new.bin", "none.bin"].map(|name| add_firmware(&tree, name, &mut archive));
        assert_eq!(bytes, [4, 0, 0]);
        assert!(archive.has("usr/lib/firmware/old.bin.xz") && archive.has("usr/lib/firmware/x/new.bin.xz"));
    }
}
