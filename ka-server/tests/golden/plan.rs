//! What clones become: the command lines of 2001, and every reason to refuse one.

use ka_desc::language::Table;
use ka_desc::manifest::{Firmware, Manifest, Part, Place};
use ka_server::golden::facts::{On, Used};
use ka_server::golden::inspect::open_files::Busy;
use ka_server::golden::plan::show;
use proptest::prelude::*;

use super::facts::{MIB, Old, disk, part, partition, uuid};

/// The desc of 2001 for the machine of [`Old`].
const DESC: &str = "swap 500\nextended fill\nlogical linux fill\n";

#[test]
fn the_command_line_of_the_manual_means_what_it_meant() {
    let old = Old::new();
    old.file("desc", DESC);
    let planned = old.plan("-n 1 -p sda @desc -X sdb -r 'grub --with=jfs --with=ata_piix'").unwrap();
    let plan = &planned.plan;
    let expected = format!(
        "disk sda\ntable mbr id 0x1a2b3c4d\nswap 500 uuid {}\nextended fill\nlogical linux fill ext3 uuid {} mount / options relatime\n",
        uuid(1),
        uuid(5)
    );
    assert_eq!(plan.desc, expected);
    assert_eq!(plan.boot.install.as_ref().unwrap().args, ["--with=jfs", "--with=ata_piix"]);
    assert_eq!(plan.boot.firmware, [Firmware::Bios]);
    assert_eq!((plan.golden.as_str(), plan.files.mounts.as_slice()), ("node40", &["/".to_owned()][..]));
    assert_eq!(plan.needs.len(), 1);
    assert_eq!((&plan.needs[0].part, plan.needs[0].bytes), (&part("sda", 5), 100 * MIB));
    assert_eq!(
        (plan.disks[0].name.as_str(), plan.disks[0].modules.as_slice()),
        ("sda", &["ahci".to_owned()][..])
    );
    assert_eq!(planned.left_out[0].what, "/data");
    assert!(
        planned.warnings.iter().any(|w| w.contains("/data") && w.contains("nofail")),
        "{:?}",
        planned.warnings
    );
    assert_eq!(&Manifest::from_bytes(&plan.to_bytes()).unwrap(), plan);
}

#[test]
fn several_disks_are_left_out_in_one_word() {
    let mut old = Old::new();
    old.golden.disks.push(disk("sdc", 100, Table::Mbr, vec![partition(1, (1, 90), "83", "ext4")]));
    old.mount("/old", "ext4", On::Part(part("sdc", 1)));
    old.file("desc", DESC);
    for all in ["-X 'sdb|sdc'", "-X sdb,sdc", "-X sdb -X sdc", "-X /dev/sdb -X sdc"] {
        let line = format!("-n 3 -p sda @desc {all} -r 'grub --with=ata_piix --with=piix'");
        let planned = old.plan(&line).unwrap();
        assert_eq!(planned.plan.disks.len(), 1, "{all}");
        assert_eq!(planned.mounts.len(), 1, "{all}");
    }
    // Swap on such a disk is what a clone's boot would wait for.
    let sdc = &mut old.golden.disks[2].found.as_mut().unwrap().partitions;
    sdc.push(partition(2, (91, 8), "82", "swap"));
    old.golden.swaps.push(part("sdc", 2));
    old.golden.fstab += "/dev/sdc2 none swap sw\n";
    let warned = old.plan("-X sdb,sdc").unwrap().warnings;
    assert!(warned.iter().any(|w| w.contains("uses sdc2 as swap") && w.contains("nofail")), "{warned:?}");
    let said = old.refused("-X 'sdb|sdd'");
    assert!(said.contains("-X sdd: the golden node has no such disk; it has sda, sdb, sdc"), "{said}");
}

#[test]
fn without_a_desc_the_disks_are_captured() {
    let old = Old::new();
    let planned = old.plan("").unwrap();
    let expected = format!(
        "disk sda\ntable mbr id 0x1a2b3c4d\nswap 500 uuid {}\nextended 3500\nlogical linux 3499 ext3 uuid {} mount / options relatime\n\
         disk sdb\ntable mbr\nlinux 900 ext4 uuid {} mount /data\n",
        uuid(1),
        uuid(5),
        uuid(1)
    );
    assert_eq!(planned.plan.desc, expected);
    assert_eq!(planned.plan.needs.len(), 2);
    let flexible = old.desc("--flexible -X sdb");
    // What holds 100 of 800 MiB on a partition of 3499 needs an eighth of that.
    assert!(flexible.contains("extended fill\nlogical linux fill min 438 ext3"), "{flexible}");
    let fresh = old.plan("--new-uuids").unwrap().plan;
    assert!(!fresh.desc.contains("uuid"), "{}", fresh.desc);
    let were: Vec<_> = fresh.uuids.iter().map(|old| (old.part.number, old.uuid.clone())).collect();
    assert_eq!(were, [(1, uuid(1)), (5, uuid(5)), (1, uuid(1))]);
}

#[test]
fn directories_come_empty() {
    let mut old = Old::new();
    std::fs::create_dir_all(old.dir.path().join("root/var/tmp")).unwrap();
    let planned = old.plan("-x /var/tmp/ -x /data").unwrap();
    assert_eq!(planned.plan.files.excluded, ["/var/tmp", "/data"]);
    assert_eq!(planned.plan.needs[1].bytes, 0, "its files do not come, its file system does");
    let said = old.refused("-x tmp -x /no/such -x / -x /var/../var");
    for why in [
        "-x tmp: a directory is said by its whole path",
        "-x /no/such: No such file",
        "-x /:",
        "-x /var/../var",
    ] {
        assert!(said.contains(why), "{why}: {said}");
    }
    std::os::unix::fs::symlink("tmp", old.dir.path().join("root/var/link")).unwrap();
    assert!(old.refused("-x /var/link").contains("no directory"));
    // Clones need no room for what is in them.
    std::fs::write(old.dir.path().join("root/var/tmp/large"), vec![1; 20 << 20]).unwrap();
    let planned = old.plan("-x /var/tmp -x /var -X sdb").unwrap();
    assert!((79 * MIB..81 * MIB).contains(&planned.plan.needs[0].bytes), "{:?}", planned.plan.needs);
    // What is mounted below it does not come either, whatever it is on.
    old.mount("/data/deep/lvm", "ext4", On::Built { what: "LVM".into(), disks: vec!["sdb".into()] });
    assert_eq!(old.plan("-x /data").unwrap().mounts.len(), 2);
}

#[test]
fn a_desc_must_have_what_is_mounted() {
    let mut old = Old::new();
    old.file("desc", "swap 500\nlinux fill\n");
    let said = old.refused("-p sda @desc -X sdb");
    assert!(
        said.contains("/ is on partition 5 of disk sda, which") && said.contains("give it a line"),
        "{said}"
    );
    old.file("desc", "extended fill\nlogical swap 500\nlogical linux fill\n");
    let said = old.refused("-p sda @desc -X sdb");
    assert!(said.contains("the desc has `logical swap 500` there"), "{said}");
    old.file("desc", "linux 3500 ext4\nlinux x\n");
    let said = old.refused("-p sda @desc -p sdc @none -X sdb");
    assert!(said.contains("desc:2:") && said.contains("none: No such file"), "{said}");
    old.file("desc", "linux 3500 ext4\n");
    assert!(old.refused("-p sda @desc -X sdb").contains("of no partition that / is mounted there"));
    old.file("desc", "disk a\nlinux 9\ndisk b\nlinux 9\n");
    assert!(old.refused("-p sda @desc").contains("none is called sda"));
    old.file("desc", DESC);
    assert!(old.refused("-p sda @desc -p sda @desc").contains("said twice for sda"));
    assert!(old.refused("-p sdb @desc -X sdb").contains("say one of both"));
    assert!(old.refused("-X sda").contains("could be cloned: it is on sda, which -X leaves out"));
    old.unmount("/");
    assert!(old.refused("").contains("no root file system"));
}

#[test]
fn a_desc_that_says_mount_points_is_followed() {
    let mut old = Old::new();
    old.golden.disks[0].found.as_mut().unwrap().partitions.push(partition(6, (4001, 1), "83", "ext4"));
    old.mount("/home", "ext4", On::Part(part("sda", 6)));
    old.golden.fstab += &format!("UUID={} /home ext4 defaults 0 2\n", uuid(6));
    old.file("desc", "linux fill ext3 mount /\nswap 100\n");
    let planned = old.plan("-p sda @desc -X sdb").unwrap();
    let expected = format!("disk sda\nlinux fill ext3 uuid {} mount /\nswap 100 uuid {}\n", uuid(5), uuid(1));
    assert_eq!(planned.plan.desc, expected);
    assert_eq!((planned.plan.needs.len(), planned.plan.needs[0].bytes), (1, 200 * MIB), "/home goes to /");
    let fresh = old.plan("-p sda @desc -X sdb --new-uuids").unwrap().plan;
    let were: Vec<_> = fresh.uuids.iter().map(|old| (old.part.number, old.uuid.clone())).collect();
    assert_eq!(were, [(1, uuid(5)), (2, uuid(1))], "by what is there, not by number");
    // Another file system has the same UUID where it can; one that the desc names, or that is kept, has another.
    old.golden.fstab += &format!("UUID={} / ext3 defaults 0 1\n", uuid(5));
    old.golden.fstab = old.golden.fstab.replace("/dev/sda5 / ext3 relatime 1 1\n", "");
    old.file("desc", format!("linux fill xfs mount /\nlinux 300 ext4 uuid {} mount /home\n", uuid(99)));
    let other = old.plan("-p sda @desc -X sdb").unwrap();
    assert!(other.plan.desc.contains(&format!("xfs uuid {} mount /\n", uuid(5))), "{}", other.plan.desc);
    assert!(other.warnings.iter().any(|w| w.contains("makes / a xfs") && w.contains("write auto")));
    let were: Vec<_> = other.plan.uuids.iter().map(|old| (old.part.number, old.uuid.clone())).collect();
    assert_eq!(were, [(2, uuid(6))]);
    old.file("desc", "keep linux any ext4 mount /home\nlinux fill ext3 mount /\n");
    let kept = old.plan("-p sda @desc -X sdb").unwrap().plan;
    assert!(kept.desc.contains("keep linux any ext4 mount /home\n"), "{}", kept.desc);
    let were: Vec<_> = kept.uuids.iter().map(|old| (old.part.number, old.uuid.clone())).collect();
    assert_eq!(were, [(1, uuid(6))]);
    assert!(planned.warnings.iter().any(|w| w.contains("mounts nothing at /home") && w.contains("nofail")));
}

#[test]
fn boot_records_are_the_golden_ones_or_those_that_were_said() {
    let old = Old::new();
    let planned = old.plan("-X sdb").unwrap();
    assert_eq!((planned.plan.boot.pieces.len(), planned.boot[0]), (1, 0xeb));
    // For Windows: the code of the drive, whoever wrote it.
    let planned = old.plan("-m sda -m /dev/sdb").unwrap();
    assert_eq!((planned.plan.boot.pieces.len(), planned.boot.len()), (2, 880));
    assert!(planned.boot.iter().all(|byte| *byte == 0xfa));
    assert!(planned.plan.boot.pieces.iter().all(|p| p.place == Place::Mbr && p.bytes == 440));
    for (bytes, fine) in [(440, true), (446, true), (512, false), (0, false)] {
        old.file("mbr", vec![7; bytes]);
        let planned = old.plan("-M sda @mbr -X sdb");
        assert_eq!(planned.is_ok(), fine, "{bytes}");
        assert!(planned.is_err() || planned.unwrap().boot == [7; 440]);
    }
    // GRUB whose core is in a file system, somewhere on the golden node's disk.
    let mut elsewhere = Old::new();
    let code = &mut elsewhere.golden.disks[0].records[0].1;
    *code = vec![0; 440];
    code[..2].copy_from_slice(&[0xeb, 0x63]);
    code[0x5c..0x64].copy_from_slice(&9999_u64.to_le_bytes());
    code[0x180..0x185].copy_from_slice(b"GRUB ");
    assert!(elsewhere.refused("-X sdb").contains("-r grub"));
    let planned = elsewhere.plan("-X sdb -r grub").unwrap();
    assert!(planned.plan.boot.pieces.is_empty() && planned.plan.boot.firmware == [Firmware::Bios]);
    assert!(old.refused("-m sdx").contains("-m sdx: there is no such disk"));
    assert!(old.refused("-r lilo").contains("-r lilo"));
}

#[test]
fn partitions_may_come_as_their_blocks() {
    let mut old = Old::new();
    let sdb = &mut old.golden.disks[1].found.as_mut().unwrap().partitions;
    sdb.push(partition(2, (901, 50), "7", "ntfs"));
    sdb.push(partition(3, (951, 40), "c", "vfat"));
    let planned = old.plan("-D sdb2 -D /dev/sdb3").unwrap();
    let raw: Vec<_> =
        planned.plan.raw.iter().map(|raw| (raw.part.number, raw.bytes, raw.fs.as_deref())).collect();
    assert_eq!(raw, [(2, 50 * MIB, Some("ntfs")), (3, 40 * MIB, Some("vfat"))]);
    assert!(
        planned.plan.desc.ends_with("data 50\ntype0c 40\n"),
        "nothing is formatted: {}",
        planned.plan.desc
    );
    for (line, why) in [
        ("-D sdb1", "it is mounted at /data and can change: unmount it"),
        ("-D sda1", "in use as swap"),
        ("-D sdb9", "no such partition"),
        ("-D sdb", "no such partition"),
        ("-D sdb2 -D sdb2", "said twice"),
        ("-D sdb2 -X sdb", "say one of both"),
    ] {
        let said = old.refused(line);
        assert!(said.contains(why), "{line}: {said}");
    }
    old.golden.mounts[1].writable = false;
    assert!(old.refused("-D sdb1").contains("whose files are cloned already"));
    old.unmount("/data");
    // A raw partition may be the one that takes what is left, and has room for its blocks.
    assert!(old.desc("-D sdb1 --flexible").contains("linux fill min 900\n"));
    old.file("desc", "linux 899\n");
    assert!(old.refused("-D sdb1 -p sdb @desc").contains("has fewer"));
    old.file("desc", "linux 901\n");
    assert!(old.desc("-D sdb1 -p sdb @desc").contains("linux 901\n"));
}

/// What is done to the machine, and what is said then, each with its way out.
type Row = (fn(&mut Old), &'static str);

const REFUSED: [Row; 9] = [
    (
        |o| {
            o.mount("/srv", "ext4", On::Built { what: "LVM".into(), disks: vec!["sdb".into()] });
        },
        "/srv is on LVM, which clones cannot be given: unmount it, or leave it out with -x /srv, or the disk with -X sdb",
    ),
    (
        |o| o.golden.mounts[0].on = On::Built { what: "a software RAID".into(), disks: Vec::new() },
        "/ is on a software RAID, which clones cannot be given: this system cannot be cloned as it is",
    ),
    (
        |o| {
            o.mount("/srv", "ext4", On::Whole("sdb".into()));
        },
        "/srv is on the whole disk sdb, which has no partition table",
    ),
    (
        |o| {
            o.mount("/srv", "ext4", On::Unknown);
        },
        "/srv (ext4 from /dev/some) is on no partition that is known",
    ),
    (
        |o| {
            o.mount("/srv", "ext4", On::Part(part("sdb", 1)));
            o.golden.fstab.clear();
        },
        "/data and /srv are the same file system: unmount one of them",
    ),
    (|o| o.golden.mounts[1].fs = "reiserfs".into(), "clones cannot be given the file system reiserfs"),
    (
        |o| o.golden.mounts[1].used = Used { bytes: 1000 * MIB, capacity: 1000 * MIB, inodes: 0 },
        "would have 900 MiB, and the golden node's files need 1000 MiB: make it larger",
    ),
    (
        |o| {
            let sdb = &mut o.golden.disks[1].found.as_mut().unwrap().partitions;
            sdb.push(partition(2, (901, 50), "8e", "LVM2_member"));
        },
        "disk sdb: partition 2 is part of LVM",
    ),
    (
        |o| o.golden.firmware = Firmware::Uefi,
        "its EFI system partition with the loader is not among what is cloned",
    ),
];

#[test]
fn what_cannot_be_cloned_is_said_with_the_way_out() {
    for (change, why) in REFUSED {
        let mut old = Old::new();
        change(&mut old);
        if why.contains("reiserfs") {
            let sdb = &mut old.golden.disks[1].found.as_mut().unwrap().partitions;
            sdb[0].contents.as_mut().unwrap().fs = "reiserfs".into();
        }
        let said = old.refused("");
        assert!(said.contains(why), "{why}:\n{said}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut old = Old::new();
    old.mount("/srv", "ext4", On::Built { what: "LVM".into(), disks: Vec::new() });
    let said = old.refused("-X sdz -D sda1 -r lilo -x nowhere -M sda @none -p sda @none");
    assert_eq!(said.lines().count(), 7, "{said}");
}

#[test]
fn what_is_left_out_is_said_with_the_reason() {
    let mut old = Old::new();
    old.golden.disks.push(disk("sdc", 100, Table::Mbr, vec![partition(1, (1, 90), "83", "ext4")]));
    old.golden.disks[2].portable = true;
    old.golden.disks.push(disk("sdd", 100, Table::Mbr, vec![partition(1, (1, 90), "7", "ntfs")]));
    old.mount("/mnt/stick", "ext4", On::Part(part("sdc", 1)));
    old.mount("/net", "nfs4", On::Network);
    old.mount("/snap/x", "squashfs", On::File);
    old.mount("/again", "ext4", On::Part(part("sdb", 1)));
    old.mount("/bound", "ext4", On::Part(part("sda", 5))).partial = true;
    let planned = old.plan("").unwrap();
    let out =
        |what: &str| planned.left_out.iter().find(|out| out.what == what).map_or("", |out| out.why.as_str());
    assert!(out("/mnt/stick").contains("sdc can be taken out"));
    assert!(out("/net").contains("by the network, from /dev/some"));
    assert!(out("/snap/x").contains("a file of the golden node"));
    assert_eq!(out("/again"), "it is the same as /data", "fstab names the other one");
    assert_eq!(out("/bound"), "", "its files come with those of /");
    assert!(out("sdd").contains("-p, or -D"));
    assert_eq!(planned.mounts.len(), 2);
    // Who mounts NTFS is told how it can be cloned.
    old.mount("/win", "fuseblk", On::Part(part("sdd", 1)));
    let planned = old.plan("").unwrap();
    assert!(planned.left_out.iter().any(|out| out.what == "/win" && out.why.contains("-D sdd1")));
    // A machine that runs from a stick is cloned with it.
    old.golden.disks[0].portable = true;
    assert_eq!(old.plan("").unwrap().mounts.len(), 2);
}

#[test]
fn subvolumes_are_cloned_as_such() {
    let mut old = Old::new();
    let sda = &mut old.golden.disks[0].found.as_mut().unwrap().partitions;
    sda[2].contents.as_mut().unwrap().fs = "btrfs".into();
    old.golden.mounts[0].fs = "btrfs".into();
    old.golden.mounts[0].subvolume = Some("@rootfs".into());
    let home = old.mount("/home", "btrfs", On::Part(part("sda", 5)));
    home.subvolume = Some("@home".into());
    let id = uuid(5);
    old.golden.fstab = format!(
        "UUID={id} / btrfs subvol=@rootfs,compress=zstd:1 0 0\nUUID={id} /home btrfs subvolid=257 0 0\n"
    );
    let planned = old.plan("-X sdb").unwrap();
    let expected = format!(
        "logical linux 3499 btrfs uuid {id}\n  subvol @rootfs mount / options compress=zstd:1\n  subvol @home mount /home\n"
    );
    assert!(planned.plan.desc.ends_with(&expected), "{}", planned.plan.desc);
    assert_eq!((planned.plan.needs.len(), planned.plan.needs[0].bytes), (1, 100 * MIB), "counted once");
    assert!(
        planned.warnings.iter().any(|w| w.contains("say subvol=@home instead")),
        "{:?}",
        planned.warnings
    );
    // On two partitions it is no file system that a desc makes.
    let twin = old.golden.disks[0].found.as_ref().unwrap().partitions[2].contents.clone();
    old.golden.disks[1].found.as_mut().unwrap().partitions[0].contents = twin;
    assert!(old.refused("-X sdb").contains("a btrfs on several partitions"));
}

#[test]
fn uefi_starts_the_signed_loader() {
    let mut old = Old::new();
    let esp = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
    let linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
    let mut gpt = vec![partition(1, (1, 64), esp, "vfat"), partition(2, (65, 900), linux, "xfs")];
    gpt[0].contents.as_mut().unwrap().uuid = Some("1A2B-3C4D".into());
    old.golden.disks = vec![disk("vda", 1000, Table::Gpt, gpt)];
    (old.golden.firmware, old.golden.swaps) = (Firmware::Uefi, Vec::new());
    old.golden.mounts.clear();
    old.mount("/", "xfs", On::Part(part("vda", 2)));
    let loaders = [
        "/EFI/BOOT/BOOTX64.EFI",
        "/EFI/debian/fbx64.efi",
        "/EFI/debian/grubx64.efi",
        "/EFI/debian/shimx64.efi",
    ];
    let esp = old.mount("/boot/efi", "vfat", On::Part(part("vda", 1)));
    esp.loaders = loaders.map(str::to_owned).to_vec();
    esp.used = Used { bytes: MIB, capacity: 63 * MIB, inodes: 0 };
    old.golden.fstab = "UUID=1A2B-3C4D /boot/efi vfat umask=0077 0 1\n".into();
    let planned = old.plan("").unwrap();
    let uefi = planned.plan.boot.uefi.clone().unwrap();
    assert_eq!((uefi.loader.as_str(), uefi.label.as_str()), ("/EFI/debian/shimx64.efi", "debian"));
    assert_eq!((uefi.esp, uefi.mount.as_str()), (part("vda", 1), "/boot/efi"));
    assert_eq!(planned.plan.boot.firmware, [Firmware::Uefi]);
    assert!(planned.plan.desc.contains("esp 64 vfat uuid 1A2B-3C4D mount /boot/efi options umask=0077"));
    old.golden.mounts[1].loaders.truncate(1);
    assert_eq!(old.plan("").unwrap().plan.boot.uefi.unwrap().loader, loaders[0]);
    // A desc of 2001 for it knows the ESP by its number, too, and what else a disk is known by.
    let found = old.golden.disks[0].found.as_mut().unwrap();
    found.partitions[1].partuuid = Some("A2A0D0EB-E5B9-3344-87C0-68B6B72699C7".into());
    found.partitions[1].attributes = 4;
    old.file("desc", "esp 64\nlinux fill\n");
    let desc = old.desc("-p vda @desc");
    assert!(desc.contains("esp 64 uuid 1A2B-3C4D mount /boot/efi"), "{desc}");
    assert!(desc.contains(" mount / bootable partuuid A2A0D0EB-E5B9-3344-87C0-68B6B72699C7\n"), "{desc}");
}

#[test]
fn a_plan_is_shown_as_a_table_a_picture_and_json() {
    let mut old = Old::new();
    old.mount("/net", "nfs4", On::Network);
    let planned = old.plan("-X sdb -r grub").unwrap();
    let busy = Busy {
        databases: vec![("Redis", "/var/lib/redis".into())],
        files: vec![("/srv/file".into(), "program".into())],
        more: 3,
    };
    let text = show::text(&old.golden, &planned, &busy, 80);
    for words in [
        "node40, started by BIOS, is cloned:",
        "┌",
        "5 ext3 /",
        "partition 5 of disk sda: 100 MiB in 1000 files",
        "disk sda: its boot record, 440 B",
        "clones boot: by BIOS, grub-install",
        "/net: it comes by the network",
        "/data: it is on sdb, which -X leaves out",
        "nofail",
        "/var/lib/redis: Redis",
        "/srv/file: program writes to it",
        "and 3 files more",
        "/etc/ka: it is what a machine keeps for itself",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&show::json(&old.golden, &planned, &busy)).unwrap();
    assert_eq!(json["plan"]["golden"], "node40");
    assert_eq!(json["disks"][0]["partitions"][2]["mount"], "/");
    assert_eq!(json["left_out"][0]["what"], "/data");
    assert_eq!(json["busy"]["more"], 3);
}

proptest! {
    /// Whatever is mounted where, a plan is one that nodes take, and every file has a place in it.
    #[test]
    fn every_plan_is_one_that_nodes_take(
        sizes in prop::collection::vec(20_u64..400, 1..6),
        used in prop::collection::vec(1_u64..500, 6),
        mounted in prop::collection::vec(any::<bool>(), 6),
        options in prop::sample::subsequence(vec!["--flexible", "--new-uuids", "-X sdb", "-r grub", "-m sdb", "-D sda1"], 0..4),
    ) {
        let mut old = Old::new();
        let mut partitions = vec![partition(1, (1, 10), "82", "swap"), partition(2, (11, 3900), "5", "")];
        let mut at = 12;
        old.unmount("/");
        for (n, size) in sizes.iter().enumerate() {
            let number = 5 + n as u32;
            partitions.push(partition(number, (at, *size), "83", "ext4"));
            at += size + 1;
            let path = if n == 0 { "/".to_owned() } else { format!("/d{n}") };
            if n == 0 || mounted[n] {
                let mount = old.mount(&path, "ext4", On::Part(part("sda", number)));
                mount.used = Used { bytes: used[n] * MIB, capacity: 390 * MIB, inodes: 1 };
            }
        }
        old.golden.disks[0].found.as_mut().unwrap().partitions = partitions;
        match old.plan(&options.join(" ")) {
            Ok(planned) => {
                prop_assert_eq!(&Manifest::from_bytes(&planned.plan.to_bytes()).unwrap(), &planned.plan);
                prop_assert_eq!(planned.plan.boot_bytes(), planned.boot.len() as u64);
                let fit = planned.plan.needs.iter().all(|need| {
                    let Part { disk, number } = &need.part;
                    let grows = options.contains(&"--flexible");
                    grows || disk == "sdb" || sizes[*number as usize - 5] * MIB >= need.bytes
                });
                prop_assert!(fit);
                let all: u64 = planned.plan.needs.iter().map(|need| need.bytes).sum();
                prop_assert_eq!(all, planned.plan.files.bytes);
            }
            Err(why) => prop_assert!(!why.is_empty() && why.iter().all(|line| !line.is_empty())),
        }
    }
}
