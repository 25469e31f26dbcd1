//! `ka-d-install` for real: a session over loopback, disks that are images, the system's own tools.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use ka_core::net::{Control, Ports, ServerConfig, ServerEvent, ServerKey, Stream, serve};
use ka_core::proto::{Event, Report};
use ka_core::stream::{CommandSource, FileSource, Source};
use ka_core::types::SessionName;
use ka_desc::manifest::{
    Boot, DiskFacts, Files, Firmware, Manifest, Need, NodeState, Part, Raw, RawFormat, StreamKind, VERSION,
};
use ka_desc::run::{Call, Here, Runner};

/// Whether disks can be made here. If not, it is said, past the test runner; with `KA_EVERYTHING` it is a failure.
fn disks() -> bool {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let node = Here.write(&Call::new("losetup", ["--find", "--show", &image.path().display().to_string()]));
    if let Ok(node) = node {
        Here.write(&Call::new("losetup", ["--detach", node.trim()])).unwrap();
        return true;
    }
    let text = format!("{} cannot run here: no loop device can be had", module_path!());
    assert!(std::env::var_os("KA_EVERYTHING").is_none(), "{text}");
    let _ = writeln!(io::stderr(), "{text}");
    false
}

/// A folder with a golden tree, images, and a session of its own.
struct Lab {
    dir: tempfile::TempDir,
    session: String,
    discovery: u16,
}

impl Lab {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let lab = Self {
            dir,
            session: format!("install-{}-{number}", std::process::id()),
            discovery: 20_000 + (std::process::id() % 20_000) as u16 + number as u16,
        };
        let golden = lab.path("golden");
        fs::create_dir_all(golden.join("home/lab")).unwrap();
        fs::create_dir(golden.join("etc")).unwrap();
        fs::write(golden.join("etc/fstab"), "UUID=x / ext4\n").unwrap();
        fs::write(golden.join("home/lab/big"), vec![7; 3_000_000]).unwrap();
        fs::set_permissions(golden.join("home/lab"), fs::Permissions::from_mode(0o2751)).unwrap();
        std::os::unix::fs::chown(golden.join("home/lab"), Some(4_000_000), Some(1000)).unwrap();
        symlink("../etc/fstab", golden.join("home/link")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn image(&self, name: &str, mib: u64) -> PathBuf {
        let path = self.path(name);
        // Not all zeros: what is not written can be told.
        fs::write(&path, b"what was there before").unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(mib << 20).unwrap();
        path
    }

    fn install(&self, image: &Path, more: &[&str]) -> Child {
        let name = image.file_name().unwrap().to_string_lossy().into_owned();
        let root = self.path(&format!("root-{name}")).display().to_string();
        let disk = format!("sda={}", image.display());
        self.start(&[&["--disk", &disk, "--root", &root], more].concat())
    }

    fn start(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_ka-d-install"))
            .args(["-s", &self.session, "--insecure", "--interface", "lo"])
            .args(["--discovery-port", &self.discovery.to_string(), "--discover-timeout", "30s"])
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Serves `plan`, the golden tree and what is raw to the nodes, and gives the report and the nodes' notes.
    fn serve(&self, plan: &Manifest, raw: &[&Path], nodes: u32) -> (Report, Vec<(String, String)>) {
        struct Bytes(io::Cursor<Vec<u8>>);
        impl Source for Bytes {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                io::Read::read(&mut self.0, buf)
            }
        }
        let stream = |name: &str, purpose: StreamKind, source: Box<dyn Source>| Stream {
            name: name.into(),
            metadata: purpose.to_metadata(),
            source,
        };
        let mut tar = Command::new("tar");
        tar.args(["-c", "--format=posix", "-C"]).arg(self.path("golden")).arg(".");
        let bytes = |bytes: Vec<u8>| Box::new(Bytes(io::Cursor::new(bytes)));
        let mut streams = vec![
            stream("plan", StreamKind::Manifest, bytes(plan.to_bytes())),
            stream("files", StreamKind::Files, Box::new(CommandSource::run(tar).unwrap())),
        ];
        for (index, path) in raw.iter().enumerate() {
            streams.push(stream("raw", StreamKind::Raw(index), Box::new(FileSource::open(path).unwrap())));
        }
        streams.push(stream("boot", StreamKind::Boot, bytes(vec![0; plan.boot_bytes() as usize])));
        let config = ServerConfig {
            session: Some(SessionName::new(self.session.clone()).unwrap()),
            nodes,
            key: Some(ServerKey::insecure().unwrap()),
            ports: Ports { interfaces: vec!["lo".into()], discovery: self.discovery, ..Ports::default() },
            ..ServerConfig::default()
        };
        let notes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&notes);
        let (_control, inbox) = Control::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let report = runtime
            .block_on(serve(config, streams, inbox, move |event| {
                let said = match event {
                    ServerEvent::Session(Event::Noted { note, .. }) => (note.topic, note.text),
                    ServerEvent::Session(Event::State { state, .. }) => {
                        ("stage".into(), NodeState::from_bytes(&state).unwrap().stage.to_string())
                    }
                    _ => return,
                };
                kept.lock().unwrap().push(said);
            }))
            .unwrap();
        let notes = notes.lock().unwrap().clone();
        (report, notes)
    }

    /// Mounts a partition of an image and gives what is in it to `look`.
    fn inside<T>(&self, image: &Path, number: usize, look: impl FnOnce(&Path) -> T) -> T {
        let table = Here.read(&Call::new("sfdisk", ["--json", &image.display().to_string()])).unwrap();
        let table: serde_json::Value = serde_json::from_str(&table).unwrap();
        let part = &table["partitiontable"]["partitions"][number - 1];
        let offset = part["start"].as_u64().unwrap() * 512;
        let size = part["size"].as_u64().unwrap() * 512;
        let at = self.path("look");
        fs::create_dir_all(&at).unwrap();
        let options = format!("ro,loop,offset={offset},sizelimit={size}");
        let at_text = at.display().to_string();
        Here.write(&Call::new("mount", ["-o", &options, &image.display().to_string(), &at_text])).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&at)));
        Here.write(&Call::new("umount", [at_text])).unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A moment, in a bounded loop about something that tells nobody.
fn pause() -> bool {
    #[allow(clippy::disallowed_methods, reason = "see above")]
    std::thread::sleep(std::time::Duration::from_millis(20));
    false
}

fn plan(desc: &str) -> Manifest {
    Manifest {
        version: VERSION,
        golden: "golden".into(),
        time_s: 0,
        desc: format!("disk sda\n{desc}"),
        disks: vec![DiskFacts { name: "sda".into(), bytes: 1 << 30, modules: Vec::new() }],
        needs: vec![Need { part: Part { disk: "sda".into(), number: 1 }, bytes: 4 << 20, inodes: 10 }],
        files: Files { bytes: 3_000_000, mounts: vec!["/".into()], excluded: Vec::new() },
        raw: Vec::new(),
        boot: Boot { firmware: Vec::new(), pieces: Vec::new(), uefi: None, install: None },
        new_uuids: false,
        uuids: Vec::new(),
    }
}

const DESC: &str = "table mbr\nlinux 60 ext4 label root mount /\nswap 8\nextended fill\nlogical linux fill ext4 mount /home\n";

fn end(child: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

fn stages(notes: &[(String, String)]) -> Vec<&str> {
    let mut all: Vec<&str> = notes.iter().filter(|(t, _)| t == "stage").map(|(_, s)| s.as_str()).collect();
    all.dedup();
    all
}

#[test]
fn a_disk_becomes_a_clone() {
    if !disks() {
        return;
    }
    let lab = Lab::new();
    let image = lab.image("disk", 200);
    let log = lab.path("log").display().to_string();
    let child = lab.install(&image, &["--log", &log]);
    let (report, notes) = lab.serve(&plan(DESC), &[], 1);
    let (code, said) = end(child);
    assert_eq!(code, Some(0), "{said}");
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(stages(&notes), ["formatting", "ready", "streaming", "finishing"]);
    assert!(fs::read_to_string(&log).unwrap().contains("clone of golden"));
    lab.inside(&image, 1, |root| {
        assert_eq!(fs::read_to_string(root.join("etc/fstab")).unwrap(), "UUID=x / ext4\n");
        assert_eq!(fs::read_dir(root.join("home")).unwrap().count(), 0, "it is another file system");
    });
    lab.inside(&image, 4, |home| {
        let lab = fs::metadata(home.join("lab")).unwrap();
        assert_eq!((lab.uid(), lab.gid(), lab.mode() & 0o7777), (4_000_000, 1000, 0o2751));
        assert_eq!(fs::read(home.join("lab/big")).unwrap(), vec![7; 3_000_000]);
        assert_eq!(fs::read_link(home.join("link")).unwrap(), Path::new("../etc/fstab"));
    });
    // Whoever looks for a free loop device has each of them open for a moment.
    let left = || Here.read(&Call::new("losetup", ["--associated", &image.display().to_string()])).unwrap();
    assert!((0..200).any(|_| left().is_empty() || pause()), "{}", left());
}

#[test]
fn a_disk_that_is_too_small_is_refused_untouched_and_the_other_node_is_a_clone() {
    if !disks() {
        return;
    }
    let lab = Lab::new();
    let (large, small) = (lab.image("large", 200), lab.image("small", 60));
    let before = fs::read(&small).unwrap();
    let children = [lab.install(&large, &[]), lab.install(&small, &[])];
    let (report, _) = lab.serve(&plan(DESC), &[], 2);
    let [large_end, small_end] = children.map(end);
    assert_eq!(large_end.0, Some(0), "{}", large_end.1);
    assert_eq!(small_end.0, Some(6), "{}", small_end.1);
    assert!(small_end.1.contains("NOT A CLONE") && small_end.1.contains("not touched"), "{}", small_end.1);
    let done = format!("{} is partitioned and formatted", large.display());
    let formats = format!("{}: formatting partition 1", large.display());
    assert!(large_end.1.find(&formats).unwrap() < large_end.1.find(&done).unwrap(), "{}", large_end.1);
    assert_eq!(report.nodes.iter().filter(|node| node.outcome.is_ok()).count(), 1);
    assert!(fs::read(&small).unwrap() == before, "the small disk was written");
    lab.inside(&large, 4, |home| assert!(home.join("lab/big").exists()));
}

#[test]
fn files_that_do_not_fit_and_another_firmware_are_refused_before_anything_is_written() {
    if !disks() {
        return;
    }
    let lab = Lab::new();
    let image = lab.image("disk", 200);
    let before = fs::read(&image).unwrap();
    let mut full = plan(DESC);
    full.needs[0].bytes = 60 << 20;
    let mut foreign = plan(DESC);
    let here = if Path::new("/sys/firmware/efi").exists() { Firmware::Bios } else { Firmware::Uefi };
    foreign.boot.firmware = vec![here];
    for (plan, word) in [(full, "it needs 61"), (foreign, "machine's setup")] {
        let child = lab.install(&image, &[]);
        let (report, _) = lab.serve(&plan, &[], 1);
        let (code, said) = end(child);
        assert_eq!(code, Some(6), "{said}");
        assert!(said.contains(word) && !report.is_ok(), "{said}");
        assert!(fs::read(&image).unwrap() == before, "the disk was written");
    }
}

#[test]
fn what_is_wrong_with_a_disk_is_known_before_the_session_is_joined() {
    if !disks() {
        return;
    }
    let lab = Lab::new();
    let image = lab.image("image", 20);
    let before = fs::read(&image).unwrap();
    let name = image.display().to_string();
    for path in ["empty", "locked"] {
        fs::write(lab.path(path), if path == "empty" { "" } else { "a disk" }).unwrap();
    }
    fs::set_permissions(lab.path("locked"), fs::Permissions::from_mode(0o444)).unwrap();
    symlink("image", lab.path("link")).unwrap();
    let run = |args: &[&str]| {
        let root = ["--root", "root"];
        end(lab.start(&[if args.contains(&"--root") { &[] } else { &root[..] }, args].concat()))
    };
    let (twice, linked) = (format!("a={name}"), "b=link");
    for (args, code, word) in [
        (&["--disk", "./no"][..], 1, "--disk ./no: No such file"),
        (&["--disk", "sdno"], 1, "no device /dev/sdno, and no image ./sdno"),
        (&["--disk", "sda=/dev/disk/by-id/no"], 1, "--disk sda=/dev/disk/by-id/no: No such file"),
        (&["--disk", "null"], 1, "/dev/null is neither a disk nor a disk's image"),
        (&["--disk", "/tmp"], 1, "/tmp is neither a disk nor a disk's image"),
        (&["--disk", "empty"], 1, "has no bytes"),
        (&["--disk", "locked"], 1, "is read-only"),
        (&["--disk", &twice, "--disk", linked], 1, "is named twice"),
        (&["--disk", "image", "--root", "golden"], 1, "--root golden: is not empty"),
        (&["--disk", "image", "--disk", "link"], 2, "--disk NAME=image"),
        (&["--disk", "=image"], 2, "no name before"),
    ] {
        let (is, said) = run(args);
        assert!(is == Some(code) && said.contains(word), "{args:?}: {is:?} {said}");
        assert!(!said.contains("session `"), "{args:?}: it looked for the session: {said}");
        if code == 1 {
            assert!(said.contains("NOT A CLONE") && said.contains("its disk was not touched"), "{said}");
        }
    }
    // One that is mounted.
    let node = Here.write(&Call::new("losetup", ["--find", "--show", &name])).unwrap().trim().to_owned();
    let at = lab.path("at").display().to_string();
    fs::create_dir(&at).unwrap();
    Here.write(&Call::new("mkfs.ext4", ["-q", &node])).unwrap();
    Here.write(&Call::new("mount", [&node, &at])).unwrap();
    let ends = [&node, &name].map(|disk| run(&["--disk", disk]));
    Here.write(&Call::new("umount", [&at])).unwrap();
    Here.write(&Call::new("losetup", ["--detach", &node])).unwrap();
    for (code, said) in ends {
        assert!(code == Some(1) && said.contains("is mounted at"), "{said}");
    }
    fs::write(&image, before).unwrap();
    // By a bare name and a link a disk is as good as any.
    for disk in ["image", "./image", "link", "/dev/sda=image"] {
        let child = lab.start(&["--disk", disk, "--root", "root"]);
        let mut other = plan(DESC);
        other.version = 99;
        lab.serve(&other, &[], 1);
        let (code, said) = end(child);
        assert!(code == Some(6) && said.contains("version 99"), "{said}");
    }
}

#[test]
fn a_raw_partition_arrives_byte_for_byte() {
    if !disks() {
        return;
    }
    let lab = Lab::new();
    let image = lab.image("disk", 100);
    // The partition has other bytes before.
    let mut old = fs::OpenOptions::new().write(true).open(&image).unwrap();
    old.write_all(&vec![0xee; 100 << 20]).unwrap();
    let mut bytes: Vec<u8> =
        (0..2_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    bytes[1_000_000..3_000_000].fill(0);
    let raw = lab.path("raw");
    fs::write(&raw, [&[RawFormat::Bytes.byte()], &bytes[..]].concat()).unwrap();
    let mut plan = plan("table mbr\nlinux 60 ext4 mount /\ndata fill\n");
    plan.raw =
        vec![Raw { part: Part { disk: "sda".into(), number: 2 }, bytes: bytes.len() as u64, fs: None }];
    let child = lab.install(&image, &[]);
    let (report, _) = lab.serve(&plan, &[&raw], 1);
    let (code, said) = end(child);
    assert!(code == Some(0) && report.is_ok(), "{said}");
    let start = (1 + 60) << 20;
    assert!(fs::read(&image).unwrap()[start..start + bytes.len()] == bytes[..]);
}

#[test]
fn a_session_that_is_none_of_clones_writes_nothing() {
    let lab = Lab::new();
    let image = lab.image("disk", 20);
    let before = fs::read(&image).unwrap();
    let child = lab.install(&image, &[]);
    let mut not_json = plan(DESC);
    not_json.version = 99;
    let (report, _) = lab.serve(&not_json, &[], 1);
    let (code, said) = end(child);
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("version 99") && !report.is_ok(), "{said}");
    assert!(fs::read(&image).unwrap() == before);
}

#[test]
fn what_is_needed_is_listed() {
    let output = Command::new(env!("CARGO_BIN_EXE_ka-d-install")).arg("--check").output();
    // `--check` needs no session.
    let Output { status, stdout, stderr } = output.unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(matches!(status.code(), Some(0 | 1)), "{said}");
    assert!(said.contains("always needed"), "{said}");
}
