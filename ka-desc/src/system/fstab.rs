//! The lines of an fstab. Pure.

use crate::layout::FoundPartition;
use crate::machine::unescape;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The device that is mounted, such as `UUID=…` or `/dev/sda1`.
    pub spec: String,
    /// The mount point; `none` for swap.
    pub at: String,
    /// The file system.
    pub fs: String,
    /// The options.
    pub options: Vec<String>,
}

/// The lines that mount something.
#[must_use]
pub fn read(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace().filter(|_| !line.trim_start().starts_with('#'));
        let mut field = || fields.next().map(plain);
        let (spec, at, fs) = (field()?, field()?, field()?);
        let options = field().unwrap_or_default().split(',').map(str::to_owned).collect();
        Some(Entry { spec, at, fs, options })
    };
    text.lines().filter_map(entry).collect()
}

fn plain(field: &str) -> String {
    unescape(field).to_string_lossy().into_owned()
}

impl Entry {
    /// Whether a boot waits for it, and stops without it.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.options.iter().any(|option| option == "nofail" || option == "noauto")
    }

    /// Whether it means a partition, `device` being the kernel's name for that.
    #[must_use]
    pub fn means(&self, p: &FoundPartition, device: &str) -> bool {
        let contents = p.contents.as_ref();
        let same = |is: Option<&String>, text: &str| is.is_some_and(|is| is.eq_ignore_ascii_case(text));
        let (tag, value) = self.spec.split_once('=').unwrap_or(("", &self.spec));
        let value = value.trim_matches('"');
        match tag {
            "UUID" => same(contents.and_then(|c| c.uuid.as_ref()), value),
            "LABEL" => contents.and_then(|c| c.label.as_deref()) == Some(value),
            "PARTUUID" => same(p.partuuid.as_ref(), value),
            "PARTLABEL" => p.name.as_deref() == Some(value),
            _ => value.strip_prefix("/dev/") == Some(device),
        }
    }

    /// The subvolume of a btrfs that it mounts.
    #[must_use]
    pub fn subvolume(&self) -> Option<&str> {
        let named = self.options.iter().find_map(|option| option.strip_prefix("subvol="))?;
        Some(named.trim_start_matches('/')).filter(|name| !name.is_empty())
    }

    /// The options that a desc gives: without what is the default, what has a word there (the subvolume), and what would
    /// keep a node from filling it.
    #[must_use]
    pub fn desc_options(&self) -> Option<String> {
        let own = |option: &&str| {
            !["", "defaults", "ro"].contains(option)
                && !option.starts_with("subvol")
                && !option.starts_with("x-")
        };
        let options: Vec<&str> = self.options.iter().map(String::as_str).filter(own).collect();
        (!options.is_empty()).then(|| options.join(","))
    }
}

/// The kernel's name for a partition of a disk: `sda5`, `nvme0n1p5`.
#[must_use]
pub fn device(disk: &str, number: u32) -> String {
    let digit = disk.ends_with(|c: char| c.is_ascii_digit());
    format!("{disk}{}{number}", if digit { "p" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Contents;

    #[test]
    fn lines_are_read_and_mean_partitions() {
        let text = "# UUID=no / ext4\nUUID=1A2B-3c4d /boot/efi vfat umask=0077 0 1\n\nLABEL=a\\040b /a\\040b ext4\n\
                    /dev/sda5 /x btrfs defaults,subvol=/@x,nofail,x-y 0 0\n/dev/nvme0n1p2 none swap sw\n";
        let entries = read(text);
        let p = |uuid: &str, label: &str| FoundPartition {
            contents: Some(Contents { fs: "x".into(), label: Some(label.into()), uuid: Some(uuid.into()) }),
            ..FoundPartition::default()
        };
        assert!(entries[0].means(&p("1A2B-3C4D", ""), "sda1") && entries[0].is_needed());
        assert!(entries[1].means(&p("", "a b"), "sda2") && entries[1].at == "/a b");
        assert!(entries[2].means(&p("", ""), &device("sda", 5)) && !entries[2].is_needed());
        assert_eq!((entries[2].subvolume(), entries[2].desc_options()), (Some("@x"), Some("nofail".into())));
        assert!(entries[3].means(&p("", ""), &device("nvme0n1", 2)));
        assert!(!entries[3].means(&p("", ""), "sda2") && entries.len() == 4);
    }
}
