//! Never the wrong disk: each reason to refuse one, and that not a byte of it changes.
//!
//! Most reasons are shown on a machine that is a folder: its `/sys`, `/proc` and `/dev` say what a kernel would.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ka_desc::machine::{Machine, expectations};
use ka_desc::run::{Call, DryRun, Failure, Here, Runner};
use ka_desc::write::{Error, Options, Prepared, Want, apply, find, prepare};
use lab::{Lab, can_run, disk, run, sfdisk, whole};

mod lab;

const MIB: u64 = 1 << 20;
const DESC: &str = "linux 20 ext4\nlinux fill ext4\n";
const TOOLS: [&str; 5] = ["sfdisk", "blkid", "wipefs", "blockdev", "mkfs.ext4"];

/// A machine with the disks `sda` (32 MiB, two partitions) and `sdb` (its twin).
struct Fake {
    lab: Lab,
}

impl Fake {
    fn new() -> Self {
        let fake = Self { lab: Lab::new() };
        fake.disk("sda", "8:0", "pci0/ata1");
        fake.disk("sdb", "8:16", "pci0/ata2");
        fake.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        fake.write("proc/thread-self/mountinfo", "1 0 0:1 / / rw - tmpfs tmpfs rw\n");
        fake
    }

    fn disk(&self, name: &str, number: &str, bus: &str) {
        let real = self.lab.path("sys/devices").join(bus).join(name);
        fs::create_dir_all(real.join("device")).unwrap();
        fs::create_dir_all(self.lab.path("sys/class/block")).unwrap();
        symlink(&real, self.lab.path("sys/class/block").join(name)).unwrap();
        fs::create_dir_all(self.lab.path("dev")).unwrap();
        let node = self.lab.image(&format!("dev/{name}"), 32 * MIB);
        let sys = |file: &str, text: &str| self.sys(name, file, text);
        sys("size", &(32 * MIB / 512).to_string());
        sys("ro", "0");
        sys("removable", "0");
        sys("dev", number);
        sys("queue/logical_block_size", "512");
        sys("device/serial", &format!("SERIAL-{name}  "));
        sys("device/model", "Lab Disk 300 ");
        sys("device/wwid", &format!("naa.5000{name}"));
        for (part, start) in [(1, 2048), (2, 43008)] {
            let part = format!("{name}{part}");
            fs::create_dir_all(real.join(&part)).unwrap();
            symlink(real.join(&part), self.lab.path("sys/class/block").join(&part)).unwrap();
            self.sys(&part, "partition", &part[3..]);
            self.sys(
                &part,
                "dev",
                &number.replace(":0", ":").replace(":16", ":1").replace(':', &format!(":{start}")),
            );
            fs::write(self.lab.path("dev").join(&part), "").unwrap();
        }
        sfdisk(&node, "label: dos\nlabel-id: 0x12345678\nsize=20MiB, type=83\ntype=83\n");
    }

    fn sys(&self, name: &str, file: &str, text: &str) {
        self.write(&format!("sys/class/block/{name}/{file}"), &format!("{text}\n"));
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.lab.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Something that the kernel has built on `members`.
    fn holder(&self, name: &str, members: &[&str]) {
        fs::create_dir_all(self.lab.path(&format!("sys/class/block/{name}/slaves"))).unwrap();
        for member in members {
            self.write(&format!("sys/class/block/{name}/slaves/{member}"), "");
            self.write(&format!("sys/class/block/{member}/holders/{name}"), "");
        }
        self.sys(name, "dev", "253:7");
        fs::write(self.lab.path("dev").join(name), "").unwrap();
    }

    fn mount(&self, number: &str, source: &str, at: &str) {
        self.write(
            "proc/thread-self/mountinfo",
            &format!("1 0 0:1 / / rw - tmpfs tmpfs rw\n2 1 {number} / {at} rw shared:1 - ext4 {source} rw\n"),
        );
    }

    fn machine(&self) -> Machine {
        Machine::at(&fs::canonicalize(self.lab.path("")).unwrap())
    }

    fn node(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.lab.path("dev").join(name)).unwrap()
    }

    fn prepare(&self, node: &Path, text: &str, expect: &str, options: &Options) -> Result<Prepared, Error> {
        let expect = if expect.is_empty() { Vec::new() } else { expectations(expect).unwrap() };
        prepare(&self.machine(), &mut Here, (disk(text), node.into(), expect), options)
    }
}

/// A runner that must not be asked to change anything.
struct ReadsOnly;

impl Runner for ReadsOnly {
    fn read(&mut self, call: &Call) -> Result<String, Failure> {
        Here.read(call)
    }

    fn write(&mut self, call: &Call) -> Result<String, Failure> {
        panic!("{call} was run")
    }

    fn has(&self, program: &str) -> bool {
        Here.has(program)
    }
}

fn refused(result: Result<Prepared, Error>) -> String {
    match result.expect_err("it is refused") {
        Error::Refused(list) => list.iter().map(|r| format!("{r}\n")).collect(),
        other => panic!("{other}"),
    }
}

/// What is done to the machine, how, and what is said then.
type Row = (fn(&Fake), &'static str, &'static str);

/// What can be true before a plan is made, or become true after.
const ROWS: [Row; 14] = [
    (|f| f.mount("8:0", "/dev/root", "/mnt"), "", "sda is mounted at /mnt: unmount it"),
    (|f| f.mount("8:2048", "/dev/root", "/a\\040b"), "", "sda1 is mounted at /a b"),
    (|f| f.mount("0:44", f.node("sda2").to_str().unwrap(), "/mnt"), "", "sda2 is mounted at /mnt"),
    (
        |f| f.write("proc/swaps", &format!("Filename Type\n{} partition 9 0 -2\n", f.node("sda2").display())),
        "",
        "sda2 is in use as swap: swapoff it, or say --deactivate",
    ),
    (|f| f.holder("md127", &["sda1"]), "", "sda1 is part of the array"),
    (|f| f.holder("md127", &["sda1", "sdb1"]), "deactivate", "which lies on other disks too: stop it"),
    (
        |f| {
            f.holder("dm-0", &["sda1"]);
            f.sys("dm-0", "dm/name", "vg-root");
        },
        "",
        "dm-0 (vg-root): deactivate that, or say --deactivate",
    ),
    (
        |f| {
            f.holder("md127", &["sda1", "sda2"]);
            f.holder("dm-0", &["md127"]);
            f.sys("dm-0", "dm/name", "vg-root");
            f.mount("253:7", "/dev/mapper/vg-root", "/srv");
        },
        "deactivate",
        "is mounted at /srv: unmount it",
    ),
    (|f| f.holder("bcache0", &["sda1"]), "deactivate", "is held by"),
    (|f| f.sys("sda", "ro", "1"), "", "is read-only"),
    (
        |f| f.sys("sda", "removable", "1"),
        "",
        "is removable: if it is the disk that you mean, say --removable",
    ),
    (
        |f| {
            fs::create_dir_all(f.lab.path("sys/class/block/loop7")).unwrap();
            f.sys("loop7", "loop/backing_file", f.node("sda").to_str().unwrap());
            f.sys("loop7", "dev", "7:7");
            f.write("dev/loop7", "");
            f.mount("7:7", "/dev/loop7", "/mnt");
        },
        "",
        "loop7 is mounted at /mnt",
    ),
    (
        |f| {
            fs::remove_file(f.lab.path("sys/class/block/sda")).unwrap();
            let usb = f.lab.path("sys/devices/pci0/usb2/2-1");
            fs::create_dir_all(&usb).unwrap();
            fs::rename(f.lab.path("sys/devices/pci0/ata1/sda"), usb.join("sda")).unwrap();
            symlink(usb.join("sda"), f.lab.path("sys/class/block/sda")).unwrap();
        },
        "",
        "is connected by USB: if it is the disk that you mean, say --removable",
    ),
    (
        |f| f.sys("sda", "device/serial", "another"),
        "expect",
        "is not the disk with serial=serial-sda: it says another",
    ),
];

fn row_options(word: &str) -> (Options, &'static str) {
    let options = Options { deactivate: word == "deactivate", ..Options::default() };
    (options, if word == "expect" { "serial=serial-sda" } else { "" })
}

#[test]
fn what_is_in_use_or_not_expected_is_refused_before_the_plan() {
    if !can_run("what_is_in_use_or_not_expected_is_refused_before_the_plan", false, &TOOLS) {
        return;
    }
    for (happens, word, said) in ROWS {
        let fake = Fake::new();
        let (node, (options, expect)) = (fake.node("sda"), row_options(word));
        fake.prepare(&node, DESC, expect, &options).unwrap_or_else(|e| panic!("{said}: {e}"));
        let before = whole(&node);
        happens(&fake);
        let text = refused(fake.prepare(&node, DESC, expect, &options));
        assert!(text.contains(said), "{text}");
        assert_eq!(whole(&node), before);
    }
}

#[test]
fn whatever_happens_after_the_plan_is_refused_right_before_the_first_write() {
    if !can_run("whatever_happens_after_the_plan_is_refused", false, &TOOLS) {
        return;
    }
    let more: [Row; 3] = [
        (|f| f.sys("sda", "size", &(30 * MIB / 512).to_string()), "", "the plan was made for another size"),
        (|f| f.sys("sda", "queue/logical_block_size", "4096"), "", "has sectors of 4096 bytes, and the plan"),
        (
            |f| sfdisk(&f.node("sda"), "label: dos\ntype=83\n"),
            "",
            "is not what it was when the plan was made: look at it again",
        ),
    ];
    for (happens, word, said) in ROWS.into_iter().chain(more) {
        let fake = Fake::new();
        let (node, (options, expect)) = (fake.node("sda"), row_options(word));
        let twin = fake.prepare(&fake.node("sdb"), DESC, "", &options).unwrap();
        let prepared = fake.prepare(&node, DESC, expect, &options).unwrap();
        happens(&fake);
        let before = (whole(&node), whole(&fake.node("sdb")));
        let ended = apply(&fake.machine(), &mut ReadsOnly, &[twin, prepared], &options, &mut |_| {});
        let text = ended.unwrap_err().to_string();
        assert!(text.contains(said), "{text}");
        assert_eq!((whole(&node), whole(&fake.node("sdb"))), before, "{said}: nor is the other disk written");
    }
}

#[test]
fn what_the_disk_must_be_it_must_be() {
    if !can_run("what_the_disk_must_be_it_must_be", false, &TOOLS) {
        return;
    }
    let fake = Fake::new();
    let node = fake.node("sda");
    let before = whole(&node);
    let options = Options::default();
    for expect in ["serial=serial-sda,size=32M,model=lab_disk_300,wwn=0x5000sda", "size=34MB", "size=0.03G"] {
        fake.prepare(&node, DESC, expect, &options).unwrap_or_else(|e| panic!("{expect}: {e}"));
    }
    for (expect, said) in [
        ("serial=SERIAL-sdb", "it says SERIAL-sda"),
        ("size=33M", "it says 32 MiB (33554432 B)"),
        ("model=Other", "it says Lab Disk 300"),
        ("wwn=0x5000sdb", "it says naa.5000sda"),
    ] {
        let text = refused(fake.prepare(&node, DESC, expect, &options));
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(whole(&node), before);
}

#[test]
fn a_disk_that_does_not_fit_or_keeps_something_else_is_refused() {
    if !can_run("a_disk_that_does_not_fit_or_keeps_something_else_is_refused", false, &TOOLS) {
        return;
    }
    let fake = Fake::new();
    let node = fake.node("sda");
    let before = whole(&node);
    for (text, said) in [
        ("linux 400\n", "369 MiB are missing"),
        ("table mbr sector 4096\nlinux fill\n", "sectors of 512 bytes, and the desc is for 4096"),
        ("table mbr\nkeep linux 21\n", "its size in sectors is 40960 instead of 43008"),
        ("table mbr\nkeep data 20\n", "its type is 83 instead of 7"),
        ("table mbr\nkeep linux 20 ext4\n", "its file system is none instead of ext4"),
        ("table mbr\nkeep linux 20 at 2\n", "its first sector is 2048 instead of 4096"),
        ("table mbr\nkeep linux any number 3\n", "is not there"),
        ("table mbr id 0x12345679\nkeep linux 20\n", "is it the right disk?"),
        ("table gpt\nreuse linux 20 ext4\n", "write `table mbr`"),
    ] {
        let error = fake.prepare(&node, text, "", &Options::default()).expect_err(text);
        assert!(matches!(error, Error::Misfit(..)) && error.to_string().contains(said), "{text}: {error}");
    }
    assert_eq!(whole(&node), before);
}

#[test]
fn which_disk_must_be_clear() {
    let fake = Fake::new();
    let machine = fake.machine();
    let disks = [disk("linux fill\n")];
    let want = |expect: &str| vec![Want { expect: expectations(expect).unwrap(), ..Want::default() }];
    let found = find(&machine, &disks, &want("serial=serial-sdb")).unwrap();
    assert_eq!(found[0].1, fake.node("sdb"));
    let two = find(&machine, &disks, &want("model=Lab Disk 300")).unwrap_err().to_string();
    assert!(two.contains("several disks could be meant (") && two.contains("sda, "), "{two}");
    let none = find(&machine, &disks, &want("serial=x")).unwrap_err().to_string();
    assert!(none.contains("no such disk"), "{none}");
    assert!(
        find(&machine, &disks, &[]).unwrap_err().to_string().contains("which disk? name it: --disk DEVICE")
    );

    let both = ka_desc::language::parse("disk a\nlinux fill\ndisk b\nlinux fill\n").unwrap().disks;
    let named = |name: &str, node: &str| Want {
        name: Some(name.into()),
        path: Some(fake.node(node)),
        expect: Vec::new(),
    };
    assert_eq!(
        find(&machine, &both, &[named("b", "sdb"), named("a", "sda")]).unwrap()[1].1,
        fake.node("sdb")
    );
    for (wants, said) in [
        (vec![named("a", "sda")], "which disk is b? name it: --disk b=DEVICE"),
        (vec![named("a", "sda"), named("b", "sda")], "is named for two disks of the desc"),
        (vec![named("a", "sda"), named("a", "sdb")], "several disks are named for a"),
        (vec![named("a", "sda"), named("c", "sdb")], "no disk that is called c"),
    ] {
        let text = find(&machine, &both, &wants).unwrap_err().to_string();
        assert!(text.contains(said), "{text}");
    }
    let partition = refused(fake.prepare(&fake.node("sda1"), DESC, "", &Options::default()));
    assert!(partition.contains("is a partition of") && partition.contains("dev/sda"), "{partition}");
    let folder = refused(fake.prepare(&fake.lab.path("dev"), DESC, "", &Options::default()));
    assert!(folder.contains("neither a disk nor a disk's image"), "{folder}");
}

#[test]
fn what_lies_wholly_on_the_disk_is_stopped_from_the_top() {
    if !can_run("what_lies_wholly_on_the_disk_is_stopped_from_the_top", false, &TOOLS) {
        return;
    }
    let fake = Fake::new();
    fake.holder("md127", &["sda1", "sda2"]);
    fake.holder("dm-0", &["md127"]);
    fake.sys("dm-0", "dm/name", "vg-swap");
    fake.write("proc/swaps", &format!("Filename Type\n{} partition 9 0 -2\n", fake.node("dm-0").display()));
    let (node, options) = (fake.node("sda"), Options { deactivate: true, ..Options::default() });
    let said = refused(fake.prepare(&node, DESC, "", &Options::default()));
    assert_eq!(said.lines().count(), 3, "all at once: {said}");
    let prepared = fake.prepare(&node, DESC, "", &options).unwrap();
    let mut list = Vec::new();
    /// Has the tools that the machine may lack.
    struct All<'a>(DryRun<&'a mut Vec<u8>>);
    impl Runner for All<'_> {
        fn read(&mut self, call: &Call) -> Result<String, Failure> {
            self.0.read(call)
        }
        fn write(&mut self, call: &Call) -> Result<String, Failure> {
            self.0.write(call)
        }
        fn has(&self, _: &str) -> bool {
            true
        }
        fn is_dry(&self) -> bool {
            true
        }
    }
    let before = whole(&node);
    apply(&fake.machine(), &mut All(DryRun::new(&mut list)), &[prepared], &options, &mut |_| {}).unwrap();
    let list = String::from_utf8(list).unwrap();
    let lines: Vec<&str> = list.lines().take(4).collect();
    let (swap, md) = (fake.node("dm-0"), fake.node("md127"));
    assert_eq!(lines[0], format!("swapoff {}", swap.display()));
    assert_eq!(lines[1..3], ["dmsetup remove vg-swap".to_owned(), format!("mdadm --stop {}", md.display())]);
    assert!(lines[3].starts_with("wipefs"), "{list}");
    assert!(list.contains(&format!("mkfs.ext4 -F -q {}", fake.node("sda2").display())), "{list}");
    assert_eq!(whole(&node), before, "a dry run changes nothing");
}

/// A disk whose partitions have nodes: the table is written for real, the rest is what would be run.
#[test]
fn a_disk_with_nodes_is_formatted_by_them() {
    if !can_run("a_disk_with_nodes_is_formatted_by_them", false, &TOOLS) {
        return;
    }
    struct Table(PathBuf, Vec<String>);
    impl Runner for Table {
        fn read(&mut self, call: &Call) -> Result<String, Failure> {
            Here.read(call)
        }
        fn write(&mut self, call: &Call) -> Result<String, Failure> {
            let whole = call.args.last().is_some_and(|arg| Path::new(arg) == self.0);
            self.1.push(
                call.to_string().lines().next().unwrap_or_default().replace(self.0.to_str().unwrap(), "SDA"),
            );
            if whole && call.program != "blockdev" { Here.write(call) } else { Ok(String::new()) }
        }
        fn has(&self, program: &str) -> bool {
            Here.has(program)
        }
    }
    let fake = Fake::new();
    let node = fake.node("sda");
    let prepared = fake.prepare(&node, DESC, "", &Options::default()).unwrap();
    let mut runner = Table(node, Vec::new());
    apply(&fake.machine(), &mut runner, &[prepared], &Options::default(), &mut |_| {}).unwrap();
    assert_eq!(
        runner.1,
        [
            "wipefs --all --quiet SDA",
            "sfdisk --quiet --wipe always --wipe-partitions always --no-tell-kernel SDA <<'END'",
            "blockdev --rereadpt SDA",
            "wipefs --all --quiet SDA1",
            "mkfs.ext4 -F -q SDA1",
            "wipefs --all --quiet SDA2",
            "mkfs.ext4 -F -q SDA2",
        ]
    );
}

#[test]
fn a_locked_disk_is_refused_and_missing_tools_are_named_first() {
    if !can_run("a_locked_disk_is_refused", false, &TOOLS) {
        return;
    }
    let fake = Fake::new();
    let node = fake.node("sda");
    let before = whole(&node);
    let prepared = fake.prepare(&node, DESC, "", &Options::default()).unwrap();
    let other = fs::File::open(&node).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let ended = apply(&fake.machine(), &mut ReadsOnly, &[prepared], &Options::default(), &mut |_| {});
    assert!(ended.unwrap_err().to_string().contains("is locked by another program"));

    struct Without(&'static [&'static str]);
    impl Runner for Without {
        fn read(&mut self, call: &Call) -> Result<String, Failure> {
            Here.read(call)
        }
        fn write(&mut self, call: &Call) -> Result<String, Failure> {
            panic!("{call} was run")
        }
        fn has(&self, program: &str) -> bool {
            !self.0.contains(&program)
        }
    }
    let mut bare = Without(&["mkfs.ntfs", "mkfs.jfs", "jfs_tune"]);
    let text = "table mbr\ndata 5 ntfs\nlinux 20 jfs uuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f\n";
    let meant = (disk(text), node.clone(), Vec::new());
    let said = prepare(&fake.machine(), &mut bare, meant, &Options::default()).unwrap_err().to_string();
    assert_eq!(
        said,
        "there is no jfs_tune: install it (Debian's package jfsutils)\n\
         there is no mkfs.jfs: install it (Debian's package jfsutils)\n\
         there is no mkfs.ntfs: install it (Debian's package ntfs-3g)"
    );
    assert_eq!(whole(&node), before);
}

/// The program itself: nobody to ask, and a person who does not say yes.
#[test]
fn without_yes_and_without_a_terminal_nothing_is_written() {
    if !can_run("without_yes_and_without_a_terminal_nothing_is_written", false, &TOOLS) {
        return;
    }
    let lab = Lab::new();
    let (image, desc) = (lab.image("disk.img", 64 * MIB), lab.file("lab.desc", "linux fill\n"));
    sfdisk(&image, "label: dos\ntype=7\n");
    let before = whole(&image);
    let apply = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ka-desc"));
        command.arg("apply").arg(&desc).args(args).stdin(Stdio::null()).output().unwrap()
    };
    let image_arg = image.to_str().unwrap();
    let out = apply(&["--disk", image_arg, "--table-only"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{said}");
    assert!(said.contains("will be lost: 1") && said.contains("say --yes"), "{said}");
    let out = apply(&["--disk", image_arg, "--table-only", "--dry-run"]);
    assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("sfdisk --quiet"));
    let out = apply(&["--disk", image_arg, "--table-only", "--yes", "--expect", "size=65M"]);
    assert_eq!(out.status.code(), Some(4));
    fs::set_permissions(&image, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
    let out = apply(&["--disk", image_arg, "--table-only", "--yes"]);
    assert_eq!(out.status.code(), Some(4), "read-only");
    assert_eq!(whole(&image), before);
}

/// A person on a terminal is asked, and nothing but `yes` is yes.
#[test]
fn on_a_terminal_a_person_is_asked() {
    if !can_run("on_a_terminal_a_person_is_asked", false, &["sfdisk", "blkid", "wipefs", "script"]) {
        return;
    }
    let lab = Lab::new();
    let (image, desc) = (lab.image("disk.img", 8 * MIB), lab.file("lab.desc", "linux fill\n"));
    let command = format!(
        "{} apply {} --disk {} --table-only",
        env!("CARGO_BIN_EXE_ka-desc"),
        desc.display(),
        image.display()
    );
    let before = whole(&image);
    for (answer, code) in [("no\n", 4), ("\n", 4), ("y\n", 4), ("yes\n", 0)] {
        assert_eq!(whole(&image), before, "so far");
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(script.stdin.as_mut().unwrap(), answer.as_bytes()).unwrap();
        let out = script.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(said.contains("Type yes:"), "{said}");
        assert_eq!(out.status.code(), Some(code), "{answer:?}: {said}");
    }
    assert_ne!(whole(&image), before);
}

/// The same on real devices, as far as this machine has them.
#[test]
fn real_mounts_and_real_swap_are_seen() {
    if !can_run(
        "real_mounts_and_real_swap_are_seen",
        true,
        &["sfdisk", "losetup", "mkfs.ext4", "mount", "swapon"],
    ) {
        return;
    }
    let mut lab = Lab::new();
    let image = lab.image("disk.img", 64 * MIB);
    sfdisk(&image, "label: dos\nsize=20MiB, type=83\ntype=82\n");
    let whole_disk = lab.attach(&image, &[]);
    let part = lab.attach(&whole_disk, &["--offset", "1048576", "--sizelimit", "20971520"]);
    let part_arg = part.to_str().unwrap();
    let at = lab.path("mnt");
    fs::create_dir(&at).unwrap();
    let options = Options { deactivate: true, ..Options::default() };
    let before = whole(&image);
    assert!(
        lab::prepared("linux fill\n", &image, &options).is_ok(),
        "loop devices that nobody uses do no harm"
    );

    run("mkfs.ext4", &["-q", "-F", part_arg]);
    run("mount", &[part_arg, at.to_str().unwrap()]);
    let mounted = whole(&image);
    for path in [&image, &whole_disk] {
        let text = refused(lab::prepared("linux fill\n", path, &options));
        assert!(text.contains(&format!("{part_arg} is mounted at {}", at.display())), "{text}");
    }
    assert_eq!(whole(&image), mounted);
    run("umount", &[at.to_str().unwrap()]);

    run("mkswap", &[part_arg]);
    run("swapon", &[part_arg]);
    let no = Options::default();
    let text = refused(lab::prepared("linux fill\n", &image, &no));
    let prepared = lab::prepared("linux fill ext4\n", &whole_disk, &options);
    let busy = whole(&image);
    let made = prepared.map(|p| apply(&Machine::default(), &mut Here, &[p], &options, &mut |_| {}));
    let still = fs::read_to_string("/proc/swaps").unwrap().contains(part_arg);
    if still {
        run("swapoff", &[part_arg]);
    }
    assert!(text.contains(&format!("{part_arg} is in use as swap")), "{text}");
    made.unwrap().unwrap();
    assert!(!still, "--deactivate stops it");
    assert_ne!(whole(&image), busy);
    assert_ne!(before, busy);
}
