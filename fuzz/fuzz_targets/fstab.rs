//! Lines of an fstab: any text is read, and says the same if what was read is written again.
#![no_main]

use ka_desc::layout::{Contents, FoundPartition};
use ka_desc::system::fstab;
use ka_desc::system::mount_options::quiet_options;
use ka_fuzz::begin_with;
use libfuzzer_sys::fuzz_target;

/// Every way to name a device, subvolumes, swap, blanks in names.
const FSTAB: &str = "\
# UUID=no / ext4
UUID=1A2B-3c4d /boot/efi vfat umask=0077 0 1
LABEL=a\\040b /a\\040b ext4
/dev/sda5 /x btrfs defaults,subvol=/@x,nofail,x-y 0 0
PARTUUID=8d3f2c1e-01 / ext4 ro 0 1
PARTLABEL=\"data\" /srv xfs noauto
/dev/nvme0n1p2 none swap sw
host:/srv /net nfs4 _netdev 0 0
";

/// So many entries are written again: one is like the other.
const ENTRIES: usize = 20;

/// The same on many lines.
fn long() -> Vec<u8> {
    FSTAB.repeat(20).into_bytes()
}

/// A field as it is written.
fn escaped(field: &str) -> String {
    let one = |c: char| {
        let mut bytes = [0; 4];
        let encoded = c.encode_utf8(&mut bytes).bytes();
        match c.is_whitespace() || c == '\\' {
            true => encoded.map(|byte| format!("\\{byte:03o}")).collect(),
            false => c.to_string(),
        }
    };
    field.chars().map(one).collect()
}

fuzz_target!(init: begin_with([FSTAB.as_bytes().to_vec(), long()]), |bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let entries = fstab::read(&text);
    assert!(entries.len() <= text.lines().count());
    let contents = Contents { fs: "ext4".into(), label: Some("a b".into()), uuid: Some("1A2B-3C4D".into()) };
    let partition = FoundPartition { number: 5, contents: Some(contents), ..FoundPartition::default() };
    for entry in entries.iter().take(ENTRIES) {
        let _ = (entry.is_needed(), entry.subvolume(), entry.desc_options(), quiet_options(&entry.fs));
        let _ = entry.means(&partition, &fstab::device("sda", 5));
        let options = entry.options.join(",");
        let line = [&entry.spec, &entry.at, &entry.fs, &options].map(|field| escaped(field)).join(" ");
        // One that begins as a comment does is none when it is written without care.
        if !line.starts_with('#') {
            assert_eq!(fstab::read(&line), std::slice::from_ref(entry), "{line:?}");
        }
    }
});
