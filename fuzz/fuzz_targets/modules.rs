//! A kernel's lists of modules, and the firmware that a module names: any text gives no more modules than it has.
//!
//! The input is the three lists, with zeros between them.
#![no_main]

use ka_desc::system::modules::{Modules, firmware};
use ka_fuzz::begin_with;
use libfuzzer_sys::fuzz_target;

const DEP: &str = "\
kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.xz: kernel/drivers/ptp/ptp.ko.xz kernel/drivers/pps/pps_core.ko.xz
kernel/drivers/ptp/ptp.ko.xz: kernel/drivers/pps/pps_core.ko.xz
kernel/drivers/pps/pps_core.ko.xz:
kernel/fs/btrfs/btrfs.ko.xz: kernel/lib/raid6/raid6_pq.ko.xz
kernel/lib/raid6/raid6_pq.ko.xz:
kernel/lib/odd-sum.ko.xz:
kernel/arch/x86/crypto/odd-sum-fast.ko.xz:
";

const ALIAS: &str =
    "# Aliases\nalias crypto-odd odd_sum\nalias crypto-odd odd_sum_fast\nalias pci:v*d* e1000e\n";

const SOFT: &str = "# Soft dependencies\nsoftdep btrfs pre: crypto-odd post: none\n";

fn seeds() -> [Vec<u8>; 3] {
    let lists = |dep: &str, alias: &str, soft: &str| [dep, alias, soft].join("\0").into_bytes();
    let many = |of: fn(u32) -> String| (0..60).map(of).collect::<String>();
    [
        lists(DEP, ALIAS, SOFT),
        lists(
            &many(|n| format!("kernel/fs/ext4/m{n}.ko: kernel/fs/ext4/m{}.ko\n", n / 2)),
            &many(|n| format!("alias a{} m{n}\n", n % 8)),
            &many(|n| format!("softdep m{n} pre: a{} m{}\n", n % 8, n + 1)),
        ),
        b"\x7fELF\0license=GPL\0firmware=a/b.bin\0firmware=../x\0firmware=c.fw\0firmware=cut".to_vec(),
    ]
}

fuzz_target!(init: begin_with(seeds()), |bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut lists = text.splitn(3, '\0');
    let mut next = || lists.next().unwrap_or_default();
    let (dep, alias, soft) = (next(), next(), next());
    let modules = Modules::parse(dep, alias, soft);
    let also: Vec<String> = alias.split_whitespace().take(2).map(str::to_owned).collect();
    for also in [&[][..], &also[..]] {
        match modules.choose(also) {
            Ok(chosen) => assert!(chosen.iter().map(String::len).sum::<usize>() <= dep.len()),
            Err(unknown) => assert!(unknown.0.iter().all(|name| also.contains(name))),
        }
    }
    let names = firmware(bytes);
    assert!(names.iter().map(String::len).sum::<usize>() <= bytes.len());
    assert!(names.iter().all(|name| !name.contains("..")));
});
