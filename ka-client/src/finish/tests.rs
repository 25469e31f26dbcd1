//! A clone on paper: a folder for its files, a folder for its node's `/sys`, and commands that are only written down.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use ka_desc::error::Error;
use ka_desc::language::parse;
use ka_desc::layout::{self, Geometry};
use ka_desc::machine::{DiskKind, Facts};
use ka_desc::manifest::{Boot, DiskFacts, Files, GoldenUuid, Install, Part, Uefi, VERSION};
use ka_desc::run::{Call, Failure};
use tempfile::TempDir;

use super::*;
use ka_desc::machine::Machine;
use ka_desc::manifest::Manifest;
use ka_desc::write::Prepared;

const OLD: &str = "8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f";
const NEW: &str = "11111111-2222-3333-4444-555555555555";

/// A plan with this desc, and nothing else in it.
pub(super) fn plan(desc: &str) -> Manifest {
    let names = parse(desc).unwrap().disks.into_iter().map(|disk| disk.name.unwrap());
    Manifest {
        version: VERSION,
        golden: "golden".into(),
        time_s: 0,
        desc: desc.into(),
        disks: names.map(|name| DiskFacts { name, bytes: 1 << 30, modules: Vec::new() }).collect(),
        needs: Vec::new(),
        files: Files { bytes: 0, mounts: Vec::new(), excluded: Vec::new() },
        raw: Vec::new(),
        boot: Boot { firmware: vec![Firmware::Bios], pieces: Vec::new(), uefi: None, install: None },
        new_uuids: false,
        uuids: Vec::new(),
    }
}

/// The desc's disks, as if they were in this machine by the same names.
pub(super) fn prepared(desc: &str) -> Vec<Prepared> {
    let geometry = Geometry { disk_bytes: 1 << 30, sector_bytes: 512 };
    let disk = |disk: ka_desc::language::Disk| {
        let name = disk.name.clone().unwrap();
        Prepared {
            plan: layout::Plan::new(&disk, geometry, None).unwrap(),
            disk,
            expect: Vec::new(),
            facts: Facts {
                path: format!("/dev/{name}").into(),
                kind: DiskKind::Disk(name),
                geometry,
                read_only: false,
                removable: false,
                usb: false,
                serial: Vec::new(),
                model: Vec::new(),
                wwn: Vec::new(),
                uses: Vec::new(),
            },
            found: None,
        }
    };
    parse(desc).unwrap().disks.into_iter().map(disk).collect()
}

/// Writes commands down, and answers them from a table: the first entry whose text is in the command, each once if it
/// is not the last such.
pub(super) struct Recorder {
    answers: Vec<(&'static str, Result<String, &'static str>)>,
    pub(super) calls: Vec<String>,
}

impl Recorder {
    pub(super) fn new(answers: &[(&'static str, Result<&str, &'static str>)]) -> Self {
        let answers = answers.iter().map(|(call, answer)| (*call, (*answer).map(str::to_owned))).collect();
        Self { answers, calls: Vec::new() }
    }

    fn answer(&mut self, call: &Call) -> Result<String, Failure> {
        let text = call.to_string();
        self.calls.push(text.clone());
        let Some(at) = self.answers.iter().position(|(part, _)| text.contains(part)) else {
            return Ok(String::new());
        };
        let last = !self.answers[at + 1..].iter().any(|(part, _)| *part == self.answers[at].0);
        let answer = if last { self.answers[at].1.clone() } else { self.answers.remove(at).1 };
        answer.map_err(|status| {
            let code = status.strip_prefix("exit status: ").and_then(|code| code.parse().ok());
            Failure { call: text, code, status: status.into(), said: String::new() }
        })
    }

    /// The commands without those that only look.
    fn done(&self) -> Vec<&str> {
        let looks = |call: &&String| !call.starts_with("sfdisk") && !call.starts_with("blkid --probe");
        self.calls.iter().filter(looks).map(String::as_str).collect()
    }
}

impl Runner for Recorder {
    fn read(&mut self, call: &Call) -> Result<String, Failure> {
        self.answer(call)
    }

    fn write(&mut self, call: &Call) -> Result<String, Failure> {
        self.answer(call)
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}

/// A clone and its node.
struct Lab {
    dir: TempDir,
    machine: Machine,
    plan: Manifest,
    disks: Vec<Prepared>,
    told: Vec<String>,
}

impl Lab {
    /// A node whose disk vda is virtio's, and a clone with kernel 6.1 and initramfs-tools.
    fn new() -> Self {
        let desc = "disk vda\ntable gpt\nesp 64 mount /boot/efi\nlinux fill ext4 mount /\n";
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(&dir.path().join("node"));
        let lab = Self { machine, plan: plan(desc), disks: prepared(desc), told: Vec::new(), dir };
        lab.node("sys/class/block/x", "");
        lab.node("sys/devices/pci0/4/virtio1/block/vda/x", "");
        lab.node("sys/bus/virtio/drivers/virtio_blk/x", "");
        lab.node("sys/module/virtio_blk/x", "");
        let at = |path: &str| lab.dir.path().join("node").join(path);
        symlink(at("sys/module/virtio_blk"), at("sys/bus/virtio/drivers/virtio_blk/module")).unwrap();
        symlink(at("sys/bus/virtio/drivers/virtio_blk"), at("sys/devices/pci0/4/virtio1/driver")).unwrap();
        symlink(at("sys/devices/pci0/4/virtio1/block/vda"), at("sys/class/block/vda")).unwrap();
        lab.clone("lib/modules/6.1/modules.dep", "kernel/drivers/block/virtio_blk.ko:\nkernel/ahci.ko:\n");
        lab.clone("boot/initrd.img-6.1", "cpio");
        lab.clone("usr/sbin/update-initramfs", "");
        lab.clone("usr/bin/lsinitramfs", "");
        lab
    }

    fn node(&self, path: &str, text: &str) {
        write(self.dir.path().join("node").join(path), text);
    }

    fn clone(&self, path: &str, text: &str) {
        write(self.root().join(path), text);
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("clone")
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn finish(&mut self, firmware: Firmware, runner: &mut Recorder) -> Result<Vec<String>, Error> {
        let root = self.root();
        let clone =
            Target { plan: &self.plan, root: &root, disks: &self.disks, machine: &self.machine, firmware };
        let told = &mut self.told;
        let done = finish(&clone, &[], runner, &mut |remark| told.push(format!("{remark:?}")));
        for call in &mut runner.calls {
            *call = call
                .replace(&root.display().to_string(), "ROOT")
                .replace("ROOT /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin", "ROOT");
        }
        done
    }
}

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The partition table of the node's disk, as sfdisk prints it.
const TABLE: (&str, Result<&str, &str>) = (
    "sfdisk --json",
    Ok(r#"{"partitiontable": {"label": "gpt", "partitions": [
        {"node": "/dev/vda1", "start": 2048, "size": 131072, "type": "U", "uuid": "aaaaaaaa-0000-0000-0000-000000000001"},
        {"node": "/dev/vda2", "start": 133120, "size": 1961984, "type": "L", "uuid": "aaaaaaaa-0000-0000-0000-000000000002"}
    ]}}"#),
);

const BINDS: [&str; 4] = [
    "mount --bind /dev ROOT/dev",
    "mount --bind /proc ROOT/proc",
    "mount --bind /sys ROOT/sys",
    "mount --bind /run ROOT/run",
];
const UNBINDS: [&str; 4] = ["umount ROOT/run", "umount ROOT/sys", "umount ROOT/proc", "umount ROOT/dev"];

#[test]
fn an_initramfs_that_finds_the_disk_is_left_alone() {
    let mut lab = Lab::new();
    let mut runner =
        Recorder::new(&[("lsinitramfs", Ok("lib/modules/6.1/kernel/drivers/block/virtio_blk.ko.zst\n"))]);
    assert_eq!(lab.finish(Firmware::Bios, &mut runner).unwrap(), [""; 0]);
    let looked = ["chroot ROOT lsinitramfs /boot/initrd.img-6.1"];
    assert_eq!(runner.calls, [&BINDS[..], &looked, &UNBINDS].concat());
    assert!(lab.told[0].contains("stays as it is"), "{:?}", lab.told);
}

#[test]
fn an_initramfs_that_does_not_is_made_anew_and_looked_at_again() {
    let mut lab = Lab::new();
    lab.clone("etc/initramfs-tools/modules", "# comment\next4");
    lab.plan.boot.install = Some(Install { args: vec!["--with=ahci".into()] });
    lab.clone("usr/sbin/grub-install", "");
    lab.clone("usr/sbin/update-grub", "");
    let full = "kernel/virtio_blk.ko\nkernel/ahci.ko\n";
    let mut runner = Recorder::new(&[TABLE, ("lsinitramfs", Ok("bin/sh\n")), ("lsinitramfs", Ok(full))]);
    let changed = lab.finish(Firmware::Bios, &mut runner).unwrap();
    assert!(changed[0].contains("this node needs ahci, virtio_blk"), "{changed:?}");
    assert_eq!(lab.text("etc/initramfs-tools/modules"), "# comment\next4\nahci\nvirtio_blk\n");
    let calls = runner.done();
    assert_eq!(
        calls[4..9],
        [
            "chroot ROOT lsinitramfs /boot/initrd.img-6.1",
            "chroot ROOT update-initramfs -u -k 6.1",
            "chroot ROOT lsinitramfs /boot/initrd.img-6.1",
            "chroot ROOT grub-install --target=i386-pc /dev/vda",
            "chroot ROOT update-grub",
        ]
    );
    assert_eq!(calls[9..], UNBINDS);

    let mut runner = Recorder::new(&[TABLE, ("lsinitramfs", Ok("bin/sh\n"))]);
    let why = lab.finish(Firmware::Bios, &mut runner).unwrap_err().to_string();
    assert!(why.contains("still lacks ahci, virtio_blk"), "{why}");
    assert_eq!(runner.done()[runner.done().len() - 4..], UNBINDS, "what was mounted is taken away");
    lab.plan.boot.install = Some(Install { args: vec!["--with=reiserfs".into()] });
    let why = lab.finish(Firmware::Bios, &mut Recorder::new(&[TABLE])).unwrap_err().to_string();
    assert!(why.contains("the module reiserfs"), "{why}");
}

#[test]
fn dracut_makes_it_too_and_without_either_it_is_said() {
    let mut lab = Lab::new();
    fs::remove_file(lab.root().join("usr/bin/lsinitramfs")).unwrap();
    assert_eq!(lab.finish(Firmware::Bios, &mut Recorder::new(&[])).unwrap(), [""; 0]);
    assert!(lab.told[0].contains("no initramfs-tools and no dracut") && lab.told[0].contains("virtio_blk"));
    fs::rename(lab.root().join("boot/initrd.img-6.1"), lab.root().join("boot/initramfs-6.1.img")).unwrap();
    lab.clone("usr/bin/dracut", "");
    lab.clone("usr/bin/lsinitrd", "");
    let mut runner = Recorder::new(&[("lsinitrd", Ok("")), ("lsinitrd", Ok("kernel/virtio_blk.ko.xz\n"))]);
    lab.finish(Firmware::Bios, &mut runner).unwrap();
    let call = "chroot ROOT dracut --force --add-drivers virtio_blk /boot/initramfs-6.1.img 6.1";
    assert_eq!(runner.calls[5], call);
    fs::remove_dir_all(lab.root().join("lib")).unwrap();
    lab.finish(Firmware::Bios, &mut Recorder::new(&[])).unwrap();
    assert!(lab.told.last().unwrap().contains("no kernel"));
}

#[test]
fn the_clone_s_programs_do_not_see_the_session_s_key() {
    let mut lab = Lab::new();
    lab.node("proc/cmdline", "quiet ka.session=ka ka.key=7t3xk-x root=/dev/ram0\n");
    let mut runner = Recorder::new(&[("lsinitramfs", Ok("virtio_blk.ko"))]);
    lab.finish(Firmware::Bios, &mut runner).unwrap();
    let shown = lab.dir.path().join("node/run/ka/cmdline");
    assert_eq!(fs::read_to_string(&shown).unwrap(), "quiet root=/dev/ram0\n");
    assert_eq!(runner.calls[4], format!("mount --bind {} ROOT/proc/cmdline", shown.display()));
    assert_eq!(runner.calls[6], "umount ROOT/proc/cmdline");
}

#[test]
fn what_was_mounted_goes_also_when_a_mount_fails_or_is_busy() {
    let mut lab = Lab::new();
    let mut runner = Recorder::new(&[("bind /sys", Err("no"))]);
    assert!(lab.finish(Firmware::Bios, &mut runner).unwrap_err().to_string().contains("mount --bind /sys"));
    assert_eq!(runner.calls[3..], UNBINDS[2..]);
    let mut runner = Recorder::new(&[
        ("lsinitramfs", Ok("virtio_blk.ko")),
        ("umount --lazy", Ok("")),
        ("umount", Err("busy")),
    ]);
    lab.finish(Firmware::Bios, &mut runner).unwrap();
    assert_eq!(runner.calls[5..7], ["umount ROOT/run", "umount --lazy ROOT/run"]);
    fs::remove_dir(lab.root().join("sys")).unwrap();
    symlink("/etc", lab.root().join("sys")).unwrap();
    let why = lab.finish(Firmware::Bios, &mut Recorder::new(&[])).unwrap_err().to_string();
    assert!(why.contains("/sys of the clone is no directory"), "{why}");
}

fn uefi() -> Uefi {
    Uefi {
        esp: Part { disk: "vda".into(), number: 1 },
        mount: "/boot/efi".into(),
        loader: "/EFI/debian/shimx64.efi".into(),
        label: "debian".into(),
    }
}

#[test]
fn the_fallback_is_made_once_with_what_shim_starts() {
    let mut lab = Lab::new();
    lab.plan.boot.uefi = Some(uefi());
    let listed = || Recorder::new(&[TABLE, ("lsinitramfs", Ok("virtio_blk.ko"))]);
    assert!(
        lab.finish(Firmware::Bios, &mut listed())
            .unwrap_err()
            .to_string()
            .contains("/EFI/debian/shimx64.efi")
    );
    lab.clone("boot/efi/EFI/debian/SHIMX64.EFI", "shim");
    lab.clone("boot/efi/EFI/debian/grubx64.efi", "grub");
    lab.clone("boot/efi/EFI/Boot/README", "");
    let changed = lab.finish(Firmware::Bios, &mut listed()).unwrap();
    assert!(changed[0].contains("/EFI/Boot/BOOTX64.EFI was made from"), "{changed:?}");
    assert_eq!(lab.text("boot/efi/EFI/Boot/BOOTX64.EFI"), "shim");
    assert_eq!(lab.text("boot/efi/EFI/Boot/grubx64.efi"), "grub");
    assert!(!lab.root().join("boot/efi/EFI/Boot/mmx64.efi").exists());
    fs::rename(
        lab.root().join("boot/efi/EFI/Boot/BOOTX64.EFI"),
        lab.root().join("boot/efi/EFI/Boot/bootx64.efi"),
    )
    .unwrap();
    lab.clone("boot/efi/EFI/Boot/bootx64.efi", "another");
    assert_eq!(lab.finish(Firmware::Bios, &mut listed()).unwrap(), [""; 0]);
    assert_eq!(lab.text("boot/efi/EFI/Boot/bootx64.efi"), "another");
}

#[test]
fn a_boot_entry_takes_the_place_of_those_that_mean_nothing_any_more() {
    let mut lab = Lab::new();
    lab.plan.boot.uefi = Some(uefi());
    lab.clone("boot/efi/EFI/debian/shimx64.efi", "shim");
    lab.clone("boot/efi/EFI/BOOT/BOOTX64.EFI", "shim");
    let listed = ("lsinitramfs", Ok("virtio_blk.ko"));
    lab.finish(Firmware::Uefi, &mut Recorder::new(&[listed])).unwrap();
    assert!(lab.told.last().unwrap().contains("no access to the firmware's variables"), "{:?}", lab.told);
    lab.node("sys/firmware/efi/efivars/Boot0000", "");
    let gone =
        "HD(1,GPT,bbbbbbbb-0000-0000-0000-000000000001,0x800,0x20000)/File(\\EFI\\debian\\shimx64.efi)";
    let ours = gone.replace("bbbbbbbb", "aaaaaaaa");
    let other = gone.replace("bbbbbbbb", "cccccccc");
    let said = format!(
        "BootCurrent: 0003\nBootOrder: 0003,0000\nBoot0000* debian\t{gone}\n      dp: 04 01\nBoot0001* debian\t{ours}\n\
         Boot0002* debian\t{other}\nBoot0003* Windows Boot Manager\t{gone}\nBoot0004* debian\tPciRoot(0x0)\n\
         Boot0005  debian\t{gone}RC\n"
    );
    let answers = [
        TABLE,
        listed,
        ("efibootmgr --verbose", Ok(said.as_str())),
        ("PARTUUID=bbbbbbbb", Err("exit status: 2")),
        ("PARTUUID=cccccccc", Ok("/dev/sdb1\n")),
    ];
    let mut runner = Recorder::new(&answers);
    lab.finish(Firmware::Uefi, &mut runner).unwrap();
    let changes: Vec<&str> =
        runner.done().into_iter().filter(|call| call.starts_with("efibootmgr --quiet")).collect();
    let create = "efibootmgr --quiet --create --disk /dev/vda --part 1 --label debian --loader '\\EFI\\debian\\shimx64.efi'";
    let delete = |number: &str| format!("efibootmgr --quiet --bootnum {number} --delete-bootnum");
    assert_eq!(changes, [&delete("0000"), &delete("0001"), &delete("0005"), create]);
    assert!(
        runner
            .calls
            .contains(&"mount --bind /sys/firmware/efi/efivars ROOT/sys/firmware/efi/efivars".to_owned())
    );
    lab.finish(Firmware::Uefi, &mut Recorder::new(&[TABLE, listed, ("--create", Err("full"))])).unwrap();
    assert!(lab.told.last().unwrap().starts_with("Warning(\"no boot entry was made"), "{:?}", lab.told);
}

#[test]
fn other_uuids_are_found_on_the_disk_and_every_text_follows() {
    let mut lab = Lab::new();
    lab.plan.uuids = vec![GoldenUuid { part: Part { disk: "vda".into(), number: 2 }, uuid: OLD.into() }];
    lab.clone("etc/fstab", &format!("UUID={OLD} / ext4 defaults 0 1\n"));
    lab.clone("boot/grub/grub.cfg", &format!("linux /boot/vmlinuz-6.1 root=UUID={OLD} ro\n"));
    lab.clone("etc/initramfs-tools/conf.d/resume", &format!("RESUME=UUID={OLD}\n"));
    lab.clone("etc/hostname", OLD);
    let contents = format!("ID_FS_TYPE=ext4\nID_FS_UUID_ENC={NEW}\n");
    let answers = [TABLE, ("blkid --probe", Ok(contents.as_str())), ("lsinitramfs", Ok("virtio_blk.ko"))];
    let mut runner = Recorder::new(&answers);
    let changed = lab.finish(Firmware::Bios, &mut runner).unwrap();
    assert_eq!(changed.len(), 4, "{changed:#?}");
    assert_eq!(lab.text("etc/fstab"), format!("UUID={NEW} / ext4 defaults 0 1\n"));
    assert_eq!(lab.text("boot/grub/grub.cfg"), format!("linux /boot/vmlinuz-6.1 root=UUID={NEW} ro\n"));
    assert_eq!(lab.text("etc/hostname"), OLD, "it is no text that speaks of UUIDs");
    // What is in the initramfs speaks of them, too.
    assert!(runner.calls.contains(&"chroot ROOT update-initramfs -u -k all".to_owned()));

    // What is built in cannot be rewritten.
    lab.plan.boot.uefi = Some(uefi());
    lab.clone("boot/efi/EFI/debian/shimx64.efi", "shim");
    lab.clone("boot/efi/EFI/debian/grubx64.efi", &format!("\u{0}search.fs_uuid {OLD} root\u{0}"));
    let why = lab.finish(Firmware::Bios, &mut Recorder::new(&answers)).unwrap_err().to_string();
    assert!(why.contains("grubx64.efi says so") && why.contains("-r grub"), "{why}");
    fs::remove_file(lab.root().join("boot/efi/EFI/debian/grubx64.efi")).unwrap();
    lab.clone("boot/grub/i386-pc/load.cfg", &format!("search.fs_uuid {OLD} root hd0,gpt2\n"));
    let why = lab.finish(Firmware::Bios, &mut Recorder::new(&answers)).unwrap_err().to_string();
    assert!(why.contains("load.cfg says so"), "{why}");
    lab.plan.boot.install = Some(Install { args: Vec::new() });
    let why = lab.finish(Firmware::Bios, &mut Recorder::new(&answers)).unwrap_err().to_string();
    assert!(why.contains("the clone has no grub-install"), "{why}");
    // The clone's tools make another loader, and the fallback is made from that.
    lab.clone("usr/sbin/grub-install", "");
    lab.clone("usr/sbin/grub-mkconfig", "");
    lab.clone("boot/efi/EFI/BOOT/BOOTX64.EFI", &format!("search.fs_uuid {OLD} root"));
    let mut runner = Recorder::new(&answers);
    lab.finish(Firmware::Uefi, &mut runner).unwrap();
    assert_eq!(lab.text("boot/efi/EFI/BOOT/BOOTX64.EFI"), "shim");
    assert!(runner.calls.contains(&"chroot ROOT grub-mkconfig -o /boot/grub/grub.cfg".to_owned()));
    let none = [TABLE, ("blkid --probe", Err("exit status: 2"))];
    assert!(
        lab.finish(Firmware::Bios, &mut Recorder::new(&none))
            .unwrap_err()
            .to_string()
            .contains("nothing with a UUID")
    );
}
