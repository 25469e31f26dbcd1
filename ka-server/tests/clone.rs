//! Whole clones, without a virtual machine: hosts that are network namespaces, disks that are images, the system's own
//! tools. The golden node is an image, too.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ka_desc::disk::Machine;
use ka_desc::language::parse;
use ka_desc::run::{Call, Here, Runner};
use ka_desc::write::{self, Options};
use processes::hosts::{Hosts, cannot_run};
use processes::{Lan, Running, json};
use rustix::process::Signal;

mod processes;

const MIB: u64 = 1 << 20;

const GOLDEN: &str = "disk golden\ntable mbr id 0x1a2b3c4d\nlinux 100 ext4 label root mount / bootable\nswap 8\n\
                      extended fill\nlogical linux 30 ext4 mount /home options nodev\nlogical data fill\n";

/// Where Linux keeps a file's access list.
const ACCESS: &str = "system.posix_acl_access";

/// One that lets the user 1 write, whatever that is called here.
fn access_list() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [(1, 7, NOBODY), (2, 6, 1_u32), (4, 5, NOBODY), (0x10, 7, NOBODY), (0x20, 1, NOBODY)];
    let entry = |(tag, mode, who): &(u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &mode.to_le_bytes()[..], &who.to_le_bytes()[..]].concat()
    };
    [2_u32.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat()
}

/// What is in the last partition, which has no file system.
fn blocks() -> Vec<u8> {
    let mut bytes = processes::noise(3 << 20);
    bytes[1 << 20..2 << 20].fill(0);
    bytes
}

/// A golden node and a switch with nodes. `None`, having said why, where there are none to be had.
struct World {
    lan: Lan,
    hosts: Hosts,
    golden: String,
}

impl World {
    fn new(test: &str, nodes: usize) -> Option<Self> {
        let hosts = Hosts::new(test, "10.81.0", nodes + 1)?;
        let lan = Lan::new();
        let golden = lan.path("golden");
        image(&golden, 160);
        if let Err(why) = Here
            .write(&Call::new("losetup", ["--find", "--show", &lan.arg("golden")]))
            .map(|node| Here.write(&Call::new("losetup", ["--detach", node.trim()])))
        {
            cannot_run(test, &why.to_string());
            return None;
        }
        make(&lan, &golden);
        let golden = lan.arg("golden");
        Some(Self { lan, hosts, golden })
    }

    /// Serves the golden image.
    fn clone(&self, args: &[&str]) -> Running {
        let (report, logs) = (self.lan.arg("report"), self.lan.arg("logs"));
        let own = ["--image", &self.golden, "--json", "--report", &report, "--log-dir", &logs];
        self.hosts.start(0, &self.lan, &self.lan.clone_command(&[&own, args].concat()))
    }

    /// Starts a node whose disk is empty, and has so many mebibytes. `tools` stand before the system's own.
    fn node(&self, i: usize, mib: u64, tools: Option<&Path>) -> Running {
        image(&self.lan.path(&format!("disk{i}")), mib);
        self.node_as_it_is(i, tools)
    }

    /// Starts a node whose disk is there already.
    fn node_as_it_is(&self, i: usize, tools: Option<&Path>) -> Running {
        let (disk, root) = (self.lan.arg(&format!("disk{i}")), self.lan.arg(&format!("root{i}")));
        let disk = format!("golden={disk}");
        let mut command = self.lan.install_command(&["--disk", &disk, "--root", &root, "--json"]);
        if let Some(tools) = tools {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", tools.display()));
        }
        self.hosts.start(i, &self.lan, &command)
    }

    /// Whether the disk of this node has become a clone.
    fn check(&self, i: usize) {
        let disk = self.lan.path(&format!("disk{i}"));
        let read = |path: &Path, at: u64, len: usize| {
            let mut bytes = vec![0; len];
            File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert!(read(&disk, 0, 440) == read(Path::new(&self.golden), 0, 440), "the boot code of node {i}");
        assert_eq!(read(&disk, 440, 4), 0x1a2b_3c4d_u32.to_le_bytes(), "the disk's identity");
        self.inside(&disk, 1, |root| {
            let home = fs::read_dir(root.join("home")).unwrap().count();
            assert_eq!(home, 0, "what is below a mount does not hide in it");
            assert_eq!(fs::read(root.join("usr/big")).unwrap(), processes::noise(9 << 20));
            assert_eq!(fs::read_link(root.join("bin")).unwrap(), Path::new("usr/bin"));
            assert_eq!(fs::read(root.join("etc/machine-id")).unwrap(), b"", "a clone is itself");
            let empty = fs::metadata(root.join("srv/scratch")).unwrap();
            assert_eq!((empty.mode() & 0o7777, empty.uid()), (0o1770, 77));
        });
        self.inside(&disk, 5, |home| {
            let tool = fs::metadata(home.join("lab/tool")).unwrap();
            assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid()), (0o4771, 4_000_000, 1000));
            let mut list = [0; 64];
            let len = rustix::fs::getxattr(home.join("lab/tool"), ACCESS, &mut list[..]).unwrap();
            assert_eq!(list[..len], access_list());
        });
    }

    /// What is in a partition of an image.
    fn inside<T>(&self, image: &Path, number: u32, look: impl FnOnce(&Path) -> T) -> T {
        let (at, size) = place(image, number);
        let dir = tempfile::tempdir_in(self.lan.path("")).unwrap();
        let (path, dir_arg) = (image.display().to_string(), dir.path().display().to_string());
        let options = format!("ro,loop,offset={at},sizelimit={size}");
        Here.write(&Call::new("mount", ["-o", &options, &path, &dir_arg])).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(dir.path())));
        Here.write(&Call::new("umount", [dir_arg])).unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Nothing of the golden image is mounted or attached.
    fn is_left_alone(&self) {
        let attached = || Here.read(&Call::new("losetup", ["--associated", &self.golden])).unwrap();
        // The kernel takes a dead process's mounts away after it.
        let gone = (0..200).any(|_| attached().is_empty() || pause());
        assert!(gone, "{}", attached());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains("/run/ka/"), "{mounts}");
    }
}

/// A moment, in a bounded loop about something that tells nobody.
fn pause() -> bool {
    #[allow(clippy::disallowed_methods, reason = "see above")]
    std::thread::sleep(Duration::from_millis(50));
    false
}

/// An empty disk.
fn image(path: &Path, mib: u64) {
    File::create(path).unwrap().set_len(mib * MIB).unwrap();
}

/// Where a partition of an image is, in bytes, and how long.
fn place(image: &Path, number: u32) -> (u64, u64) {
    let table = Here.read(&Call::new("sfdisk", ["--json", &image.display().to_string()])).unwrap();
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    // A name that ends with a digit gets a `p` before the number.
    let disk = image.display().to_string();
    let names = [format!("{disk}{number}"), format!("{disk}p{number}")];
    let parts = table["partitiontable"]["partitions"].as_array().unwrap();
    let part = parts.iter().find(|part| names.iter().any(|name| part["node"] == name.as_str())).unwrap();
    (part["start"].as_u64().unwrap() * 512, part["size"].as_u64().unwrap() * 512)
}

/// Makes a system on an image.
fn make(lan: &Lan, image: &Path) {
    let machine = Machine::default();
    let desc = parse(GOLDEN).unwrap();
    let options = Options::default();
    let meant = (desc.disks[0].clone(), image.to_path_buf(), Vec::new());
    let prepared = [write::prepare(&machine, &mut Here, meant, &options).unwrap()];
    write::apply(&machine, &mut Here, &prepared, &options, &mut |_| ()).unwrap();
    let root = lan.path("made");
    fs::create_dir(&root).unwrap();
    write::mount(&machine, &mut Here, &prepared, &root).unwrap();
    for dir in ["etc", "usr/bin", "srv/scratch/deep", "home/lab", "proc", "tmp", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let uuid = |number| {
        let (at, size) = place(image, number);
        let args = ["-p", "-o", "value", "-s", "UUID", "-O", &at.to_string(), "-S", &size.to_string()];
        let args = [&args[..], &[image.to_str().unwrap()]].concat();
        Here.read(&Call::new("blkid", args)).unwrap().trim().to_owned()
    };
    let fstab = format!("UUID={} / ext4 defaults 0 1\nUUID={} /home ext4 nodev 0 2\n", uuid(1), uuid(5));
    fs::write(root.join("etc/fstab"), fstab).unwrap();
    fs::write(root.join("etc/hostname"), "golden\n").unwrap();
    fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(root.join("usr/big"), processes::noise(9 << 20)).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("srv/scratch/deep/file"), "left out").unwrap();
    std::os::unix::fs::chown(root.join("srv/scratch"), Some(77), None).unwrap();
    fs::set_permissions(root.join("srv/scratch"), fs::Permissions::from_mode(0o1770)).unwrap();
    let tool = root.join("home/lab/tool");
    fs::write(&tool, "tool").unwrap();
    std::os::unix::fs::chown(&tool, Some(4_000_000), Some(1000)).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4751)).unwrap();
    rustix::fs::setxattr(&tool, ACCESS, &access_list(), rustix::fs::XattrFlags::empty()).unwrap();
    write::unmount(&machine, &mut Here, &root).unwrap();
    let disk = OpenOptions::new().write(true).open(image).unwrap();
    disk.write_all_at(&[0xEB; 440], 0).unwrap();
    disk.write_all_at(&blocks(), place(image, 6).0).unwrap();
}

/// A folder with a tool that waits until it is let go, in front of the real one.
struct Waiting {
    dir: tempfile::TempDir,
    hold: File,
}

impl Waiting {
    fn at(tool: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        Here.write(&Call::new("mkfifo", [fifo.display().to_string()])).unwrap();
        let script = dir.path().join(tool);
        fs::write(&script, format!("#!/bin/sh\nread line <{}\nexit 1\n", fifo.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let hold = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        Self { dir, hold }
    }

    /// Lets whoever waits go, so that nobody is left.
    fn go(mut self) {
        let _ = self.hold.write_all(b"go\n");
        let mut left = [0; 3];
        let _ = rustix::fs::fcntl_setfl(&self.hold, rustix::fs::OFlags::NONBLOCK);
        let _ = self.hold.read(&mut left);
    }
}

fn is_at(stage: &str) -> impl Fn(&serde_json::Value) -> bool {
    move |event| event["topic"] == "stage" && event["text"] == stage
}

#[test]
fn two_nodes_become_clones() {
    let Some(world) = World::new("two", 2) else { return };
    let (scratch, raw) = ("/srv/scratch", "golden6");
    let server = world.clone(&["-n", "2", "-x", scratch, "-D", raw, "-d", "5"]);
    let nodes = [world.node(1, 160, None), world.node(2, 300, None)].map(Running::end);
    let server = server.end();
    for node in &nodes {
        assert_eq!(node.code, 0, "{}", node.stderr);
    }
    for told in nodes.iter().chain([&server]) {
        let streams: Vec<_> =
            told.events("stream").iter().map(|s| (s["number"].clone(), s["estimate"].clone())).collect();
        let all = [(0, false), (1, true), (2, false), (3, false)];
        assert_eq!(streams, all.map(|(number, estimate)| (number.into(), estimate.into())), "in their order");
    }
    assert_eq!(server.code, 0, "{}", server.stderr);
    assert!(server.stderr.contains("/etc/machine-id is empty"), "{}", server.stderr);
    let report = json(&world.lan.path("report"));
    assert_eq!((&report["ok"], report["nodes"].as_array().unwrap().len()), (&true.into(), 2));
    for i in [1, 2] {
        world.check(i);
        let disk = world.lan.path(&format!("disk{i}"));
        world.inside(&disk, 1, |root| {
            assert_eq!(fs::read_dir(root.join("srv/scratch")).unwrap().count(), 0, "-x leaves it out");
        });
        let mut bytes = vec![0; blocks().len()];
        File::open(&disk).unwrap().read_exact_at(&mut bytes, place(&disk, 6).0).unwrap();
        assert!(bytes == blocks(), "-D");
    }
    let logs = fs::read_dir(world.lan.path("logs")).unwrap().next().unwrap().unwrap().path();
    let logs: Vec<PathBuf> = fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(logs.len(), 2, "{logs:?}");
    assert!(fs::read_to_string(&logs[0]).unwrap().contains("-- finishing"));
    world.is_left_alone();
}

#[test]
fn a_small_disk_is_refused_untouched_and_the_other_is_a_clone() {
    let Some(world) = World::new("small", 2) else { return };
    let server = world.clone(&["-n", "2"]);
    let [large, small] = [world.node(1, 200, None), world.node(2, 100, None)].map(Running::end);
    let server = server.end();
    assert_eq!((large.code, small.code, server.code), (0, 6, 6), "{}", server.stderr);
    world.check(1);
    let bytes = fs::read(world.lan.path("disk2")).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0), "the small disk was written");
    let again = server.stderr.lines().last().unwrap();
    assert!(again.contains("ka-d clone -n 1 --image"), "{}", server.stderr);
}

/// A loop device over a partition of an image, for as long as the work takes.
fn with_partition(image: &Path, number: u32, work: impl FnOnce(&str)) {
    let (at, size) = place(image, number);
    let (at, size, image) = (at.to_string(), size.to_string(), image.display().to_string());
    let attach = ["--find", "--show", "--offset", &at, "--sizelimit", &size, &image];
    let node = Here.write(&Call::new("losetup", attach)).unwrap().trim().to_owned();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&node)));
    Here.write(&Call::new("losetup", ["--detach", &node])).unwrap();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn of_a_raw_partition_only_the_used_blocks_come_if_everybody_has_partclone() {
    let tools = ["partclone.ntfs", "mkfs.ntfs", "ntfscp", "ntfscat"];
    if let Some(tool) = tools.iter().find(|tool| !Here.has(tool)) {
        return cannot_run("used", &format!("there is no {tool}"));
    }
    let Some(world) = World::new("used", 2) else { return };
    let (golden, file) = (PathBuf::from(&world.golden), world.lan.path("file"));
    fs::write(&file, processes::noise(2 << 20)).unwrap();
    with_partition(&golden, 6, |node| {
        Here.write(&Call::new("mkfs.ntfs", ["--fast", "--quiet", "--force", node])).unwrap();
        Here.write(&Call::new("ntfscp", [node, &file.display().to_string(), "noise"])).unwrap();
    });
    let run = || {
        let server = world.clone(&["-n", "2", "-D", "golden6"]);
        let nodes = [world.node(1, 160, None), world.node(2, 300, None)].map(Running::end);
        let server = server.end();
        assert_eq!((nodes[0].code, nodes[1].code, server.code), (0, 0, 0), "{}", server.stderr);
        world.is_left_alone();
        server
    };
    let said = run().stderr;
    assert!(said.contains("partition 6 of disk golden is sent with its used blocks, by partclone"), "{said}");
    for i in [1, 2] {
        world.check(i);
        with_partition(&world.lan.path(&format!("disk{i}")), 6, |node| {
            let out = Command::new("ntfscat").args([node, "noise"]).output().unwrap();
            assert!(out.stdout == processes::noise(2 << 20), "{}", String::from_utf8_lossy(&out.stderr));
        });
    }
    // One that partclone cannot read comes with all its bytes.
    let (at, size) = place(&golden, 6);
    let disk = OpenOptions::new().read(true).write(true).open(&golden).unwrap();
    // The second entry of the master file table.
    disk.write_all_at(&processes::noise(1 << 10), at + (17 << 10)).unwrap();
    let said = run().stderr;
    assert!(
        said.contains("partition 6 of disk golden is sent with all its bytes: `partclone.ntfs "),
        "{said}"
    );
    let bytes = |image: &Path, at: u64| {
        let mut bytes = vec![0; size as usize];
        File::open(image).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    let clone = world.lan.path("disk2");
    assert!(bytes(&clone, place(&clone, 6).0) == bytes(&golden, at));
}

#[test]
fn another_system_s_partition_is_kept_and_a_disk_where_it_differs_is_refused() {
    let Some(world) = World::new("dual", 2) else { return };
    let desc = world.lan.path("desc");
    fs::write(
        &desc,
        "table mbr\nkeep data 40\nlinux 100 ext4 mount / bootable\nlinux fill ext4 mount /home\nswap 8\n",
    )
    .unwrap();
    let other = processes::noise(40 << 20);
    for (i, mib) in [(1, 40_usize), (2, 41)] {
        let disk = world.lan.path(&format!("disk{i}"));
        image(&disk, 220);
        let table = world.lan.path("table");
        fs::write(&table, format!("label: dos\nstart=1MiB, size={mib}MiB, type=7\ntype=83\n")).unwrap();
        let table = File::open(table).unwrap();
        let sfdisk = Command::new("sfdisk").arg("--quiet").arg(&disk).stdin(table).status();
        assert!(sfdisk.unwrap().success());
        OpenOptions::new().write(true).open(&disk).unwrap().write_all_at(&other, MIB).unwrap();
    }
    let refused = fs::read(world.lan.path("disk2")).unwrap();
    let server = world.clone(&["-n", "2", "-p", "golden", &desc.display().to_string()]);
    let [kept, differs] = [1, 2].map(|i| world.node_as_it_is(i, None)).map(Running::end);
    let server = server.end();
    assert_eq!((kept.code, differs.code, server.code), (0, 6, 6), "{}{}", kept.stderr, server.stderr);
    assert!(server.stderr.contains("keep data 40"), "{}", server.stderr);
    assert!(fs::read(world.lan.path("disk2")).unwrap() == refused, "the other disk was written");
    let disk = world.lan.path("disk1");
    let mut bytes = vec![0; other.len()];
    File::open(&disk).unwrap().read_exact_at(&mut bytes, MIB).unwrap();
    assert!(bytes == other, "what is kept was written");
    world.inside(&disk, 2, |root| {
        assert_eq!(fs::read(root.join("usr/big")).unwrap(), processes::noise(9 << 20));
    });
    world.inside(&disk, 3, |home| assert!(home.join("lab/tool").exists()));
}

/// Plays a session of three, of which the last one is killed at `stage`.
fn dies_at(world: &World, stage: &str, tool: Option<&str>) {
    let waiting = tool.map(Waiting::at);
    // Slow enough for somebody to die in the midst of it.
    let mut server = world.clone(&["-n", "3", "--rate", "3M"]);
    let others = [world.node(1, 160, None), world.node(2, 160, None)];
    let mut victim = world.node(3, 160, waiting.as_ref().map(|waiting| waiting.dir.path()));
    let number = victim.until("joined")["node"].clone();
    let at = is_at(stage);
    server.until_that("noted", |event| event["node"] == number && at(event));
    if stage == "streaming" {
        let some = |event: &serde_json::Value| event["received"].as_u64() > Some(3 << 20);
        victim.until_that("progress", some);
    }
    victim.signal(Signal::KILL);
    drop(victim);
    waiting.into_iter().for_each(Waiting::go);
    for other in others.map(Running::end) {
        assert_eq!(other.code, 0, "{stage}: {}", other.stderr);
    }
    let server = server.end();
    assert_eq!(server.code, 7, "{stage}: {}", server.stderr);
    let said = server.stderr;
    assert!(said.contains(&format!("it was {stage} when it stopped")), "{stage}: {said}");
    assert!(said.contains("  ka-d clone -n 1 --image "), "{stage}: {said}");
    world.check(1);
    world.check(2);
}

#[test]
fn a_node_that_dies_while_it_formats_is_named_and_the_others_are_clones() {
    let Some(world) = World::new("format", 3) else { return };
    dies_at(&world, "formatting", Some("mkfs.ext4"));
}

#[test]
fn a_node_that_dies_while_files_arrive_is_named_and_the_others_are_clones() {
    let Some(world) = World::new("stream", 3) else { return };
    dies_at(&world, "streaming", None);
}

#[test]
fn a_node_that_dies_while_it_is_finished_is_named_and_the_others_are_clones() {
    let Some(world) = World::new("finish", 3) else { return };
    dies_at(&world, "finishing", Some("umount"));
}

#[test]
fn a_node_that_dies_before_the_start_is_named_and_the_others_are_clones() {
    let Some(world) = World::new("gather", 3) else { return };
    let mut server = world.clone(&["-n", "3", "--min-nodes", "2", "--start-after", "2s"]);
    let mut victim = world.node(3, 160, None);
    victim.until("joined");
    victim.signal(Signal::KILL);
    drop(victim);
    server.until("left");
    let others = [world.node(1, 160, None), world.node(2, 160, None)].map(Running::end);
    assert_eq!((others[0].code, others[1].code), (0, 0), "{}", others[0].stderr);
    let server = server.end();
    assert!(server.stderr.contains("it left before the session started (gathering)"), "{}", server.stderr);
    world.check(1);
    world.check(2);
}

#[test]
fn the_command_that_tries_again_works() {
    let Some(world) = World::new("again", 2) else { return };
    let mut server = world.clone(&["-n", "2", "--rate", "3M"]);
    let (first, mut victim) = (world.node(1, 160, None), world.node(2, 160, None));
    server.until_that("noted", is_at("streaming"));
    victim.until_that("progress", |event| event["received"].as_u64() > Some(1 << 20));
    victim.signal(Signal::KILL);
    drop(victim);
    assert_eq!(first.end().code, 0);
    let said = server.end().stderr;
    let again = said
        .lines()
        .rev()
        .find_map(|line| line.find("ka-d clone -n 1").map(|at| &line[at..]))
        .expect("a command");
    // As an admin would: through a shell, with what is in the environment anyway.
    let programs = Path::new(env!("CARGO_BIN_EXE_ka-d")).parent().unwrap();
    let mut shell = world.lan.clone_command(&[]);
    let environment: Vec<_> =
        shell.get_envs().map(|(k, v)| (k.to_owned(), v.map(|v| v.to_owned()))).collect();
    shell = Command::new("sh");
    shell.args(["-c", &format!("exec {}", again)]);
    for (name, value) in environment {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    let server = world.hosts.start(0, &world.lan, &shell);
    let node = world.node(2, 160, None).end();
    let server = server.end();
    assert_eq!((node.code, server.code), (0, 0), "{}{}", node.stderr, server.stderr);
    world.check(2);
}

#[test]
fn an_interrupted_golden_node_is_as_it_was() {
    let Some(world) = World::new("stop", 1) else { return };
    for (stage, signal) in [
        ("", Signal::INT),
        ("formatting", Signal::INT),
        ("streaming", Signal::TERM),
        ("streaming", Signal::KILL),
    ] {
        let waiting = (stage == "formatting").then(|| Waiting::at("mkfs.ext4"));
        let mut server = world.clone(&["-n", "1", "--rate", "3M"]);
        let mut node = None;
        if stage.is_empty() {
            server.until("open");
        } else {
            node = Some(world.node(1, 160, waiting.as_ref().map(|waiting| waiting.dir.path())));
            server.until_that("noted", is_at(stage));
        }
        server.signal(signal);
        waiting.into_iter().for_each(Waiting::go);
        let end = server.end();
        assert_eq!(end.code, if signal == Signal::KILL { -1 } else { 8 }, "{stage}: {}", end.stderr);
        world.is_left_alone();
        // A node without a server gives up after a minute and a half; nothing is to be learned from that here.
        drop(node);
    }
}

#[test]
fn what_cannot_be_cloned_is_said_before_anything_starts() {
    let Some(world) = World::new("bad", 0) else { return };
    let run = |args: &[&str]| {
        let mut command = world.lan.clone_command(args);
        let out = command.stdin(Stdio::null()).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let golden = ["--image", &world.golden];
    let (code, said) = run(&[&golden[..], &["--dry-run"]].concat());
    assert!(code == Some(0) && said.contains("clones boot: by BIOS") && said.contains("/home"), "{said}");
    let (code, said) = run(&[&golden[..], &["--dry-run", "--json"]].concat());
    let plan: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!((code, plan["plan"]["version"].as_u64()), (Some(0), Some(1)));
    for (args, word) in [
        (&["-x", "/nowhere"][..], "/nowhere"),
        (&["-X", "sdz"], "sdz"),
        (&["-D", "golden1"], "golden1"),
        (&["-p", "golden", "/nonexistent"], "/nonexistent"),
        (&["-r", "lilo"], "lilo"),
    ] {
        let (code, said) = run(&[&golden[..], args].concat());
        assert!(code == Some(1) && said.contains(word), "{args:?}: {said}");
    }
    let (code, said) = run(&["--image", "/nonexistent"]);
    assert!(code == Some(1) && said.contains("/nonexistent"), "{said}");
    world.is_left_alone();
}
