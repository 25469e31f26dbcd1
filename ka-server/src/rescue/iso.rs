//! The rescue as a disc: boots by BIOS and by UEFI, from CD and from USB.

use std::fs;
use std::path::Path;

use ka_desc::error::Error;
use ka_desc::run::{Call, Runner};
use ka_desc::write::Tool;

use super::tools;

/// The tools that make a disc: programs first, then the loader's files.
const PROGRAMS: [Tool; 3] = [
    Tool { program: "grub-mkrescue", package: "grub-common" },
    Tool { program: "xorriso", package: "xorriso" },
    Tool { program: "mformat", package: "mtools" },
];
const FILES: [(&str, Tool); 2] = [
    ("/usr/lib/grub/i386-pc/modinfo.sh", Tool { program: "GRUB for BIOS", package: "grub-pc-bin" }),
    ("/usr/lib/grub/x86_64-efi/modinfo.sh", Tool { program: "GRUB for UEFI", package: "grub-efi-amd64-bin" }),
];

/// Returns what this machine lacks to make a disc, a sentence each.
pub(super) fn missing(runner: &dyn Runner) -> Vec<String> {
    let programs = PROGRAMS.into_iter().filter(|tool| !runner.has(tool.program));
    let files = FILES.into_iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, tool)| tool);
    tools::sentences(&programs.chain(files).collect::<Vec<_>>())
}

/// Makes `disc`, in a directory that nobody else can enter, from a kernel, its initrd, and the loader's settings.
///
/// # Errors
/// A file cannot be made, or a tool failed: a sentence.
pub(super) fn make(
    runner: &mut dyn Runner,
    [kernel, initrd]: [&Path; 2],
    settings: &str,
    disc: &Path,
) -> Result<(), Error> {
    let named = |path: &Path, e: &std::io::Error| format!("{}: {e}", path.display());
    // The settings may have the key, so they are made where the disc is: out of others' sight.
    let stage = disc.with_extension("stage");
    let boot = stage.join("boot");
    fs::create_dir_all(boot.join("grub")).map_err(|e| named(&boot, &e))?;
    fs::write(boot.join("grub/grub.cfg"), settings).map_err(|e| named(&boot, &e))?;
    for (file, name) in [(kernel, "vmlinuz"), (initrd, "initrd")] {
        // A second name is enough, where the file system has such.
        let link = fs::hard_link(file, boot.join(name));
        link.or_else(|_| fs::copy(file, boot.join(name)).map(drop)).map_err(|e| named(file, &e))?;
    }
    let [disc, stage] = [disc, &stage].map(|path| path.display().to_string());
    // The loader draws nothing.
    let args = ["--output", &disc, "--fonts=", "--locales=", "--themes=", &stage];
    runner.write(&Call::new("grub-mkrescue", args)).map_err(|e| e.to_string())?;
    Ok(())
}
