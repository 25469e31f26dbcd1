//! The golden node's files, held still: images, trees, snapshots; and that nothing is left of it, whatever happens.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use ka_desc::machine::Machine;
use ka_desc::manifest::Firmware;
use ka_desc::run::Here;
use ka_desc::write::{self, Options};
use ka_server::golden::facts::{Golden, Mount};
use ka_server::golden::freeze::quiesce::Quiesced;
use ka_server::golden::freeze::tree::{State, Still};
use ka_server::golden::inspect::look::{Source, look};
use ka_server::golden::plan::choice::Choice;
use ka_server::golden::plan::make::plan;
use ka_server::golden::private::Private;

use super::facts::part;
use super::lab::{Lab, applied, can_run, run, wait_until_free, whole};

const MIB: u64 = 1 << 20;
const TOOLS: [&str; 6] = ["sfdisk", "blkid", "losetup", "mkfs.ext4", "mkswap", "mkfs.btrfs"];

/// An MBR: swap, a root, and a home that is a logical one.
const BIOS: &str = "swap 10\nlinux 60 ext4 label root mount / bootable\nextended fill\nlogical linux fill ext4 mount /home\n";

/// A GPT: a btrfs with subvolumes, one of them mounted nowhere.
const BTRFS: &str = "bios_boot 1\nswap 10\nlinux fill btrfs label root\n  subvol @rootfs mount /\n  subvol @home mount /home\n  \
                     subvol @old\n";

/// Loop devices are everybody's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On a thread with a mount namespace of its own, which goes with it.
fn inside<T: Send>(work: impl FnOnce(&Private) -> T + Send) -> T {
    let ended = thread::scope(|scope| scope.spawn(|| work(&Private::enter().unwrap())).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// An image of a system with this desc. Its subvolumes may be of their own.
fn golden(lab: &Lab, desc: &str) -> PathBuf {
    let image = lab.image("golden.img", 300 * MIB);
    let prepared = applied(desc, &image, &Options::default());
    let machine = Machine::default();
    let found = write::look(&mut Here, &machine.facts(&image, 512).unwrap()).unwrap().unwrap();
    let id = |number: u32| found.partition(number).unwrap().contents.clone().unwrap().uuid.unwrap();
    let at = lab.path("made");
    fs::create_dir_all(&at).unwrap();
    write::mount(&machine, &mut Here, &[prepared], &at).unwrap();
    let fstab = match desc.starts_with("swap") {
        true => format!("UUID={} / ext4 errors=remount-ro 0 1\n/dev/sda5 /home ext4 nodev 0 2\n", id(2)),
        false => format!(
            "UUID={0} / btrfs subvol=@rootfs,compress=zstd:1\nUUID={0} /home btrfs subvol=@home\n",
            id(3)
        ),
    };
    for dir in ["etc", "tmp", "proc", "home/lab"] {
        fs::create_dir_all(at.join(dir)).unwrap();
    }
    fs::write(at.join("etc/fstab"), fstab + "tmpfs /tmp tmpfs nosuid 0 0\nhost:/x /net nfs nofail 0 0\n")
        .unwrap();
    fs::write(at.join("etc/hostname"), "image\n").unwrap();
    fs::write(at.join("tmp/hidden"), "below what is mounted").unwrap();
    fs::write(at.join("home/lab/notes"), "before").unwrap();
    write::unmount(&machine, &mut Here, &at).unwrap();
    wait_until_free(&image);
    image
}

/// Mounts a partition of an image, for a system that runs. It goes with the namespace.
fn mount(image: &Path, number: u32, options: &str, at: &Path) {
    let found = write::look(&mut Here, &Machine::default().facts(image, 512).unwrap()).unwrap().unwrap();
    let p = found.partition(number).unwrap();
    fs::create_dir_all(at).unwrap();
    let (offset, size) = ((p.start * 512).to_string(), (p.sectors * 512).to_string());
    let options = format!("{options},loop,offset={offset},sizelimit={size}");
    run("mount", &["-o", &options, image.to_str().unwrap(), at.to_str().unwrap()]);
}

fn golden_of(source: Source<'_>) -> (Golden, Option<ka_server::golden::inspect::image::Image>) {
    let looked = look(&Machine::default(), &mut Here, source, |_, _, _, _| Ok(Vec::new())).unwrap();
    (looked.golden, looked.image)
}

fn ats(golden: &Golden) -> Vec<&str> {
    golden.mounts.iter().map(|mount| mount.at.to_str().unwrap()).collect()
}

fn hold(private: &Private, golden: &Golden, quiesced: Quiesced) -> Still {
    let mounts: Vec<&Mount> = golden.mounts.iter().collect();
    Still::hold(private, &mounts, quiesced).unwrap()
}

fn states(still: &Still) -> Vec<State> {
    still.states().iter().map(|(_, state)| *state).collect()
}

fn none() -> Quiesced {
    Quiesced::run(None, None).unwrap()
}

#[test]
fn an_image_is_read_and_let_go() {
    if !can_run("an_image_is_read_and_let_go", true, &TOOLS) {
        return;
    }
    let _alone = alone();
    for (desc, root, disk_table) in [(BIOS, 2, "table mbr"), (BTRFS, 3, "table gpt")] {
        let lab = Lab::new();
        let image = golden(&lab, desc);
        let before = whole(&image);
        inside(|private| {
            let (golden, held) = golden_of(Source::Image(&image, private));
            assert_eq!((golden.host.as_str(), golden.firmware), ("image", Firmware::Bios));
            assert_eq!(ats(&golden), ["/", "/home"], "{:?}", golden.warnings);
            assert_eq!(golden.mounts[0].part(), Some(&part("golden", root)));
            assert!(golden.fstab.contains("host:/x"));
            assert!(golden.mounts[0].used.bytes > 0 && golden.mounts[0].used.capacity <= 300 * MIB);
            let planned = plan(&golden, &Choice::default()).unwrap();
            let text = &planned.plan.desc;
            assert!(text.starts_with("disk golden\n") && text.contains(disk_table), "{text}");
            assert_eq!(text.matches(" mount /").count(), 2, "{text}");
            assert_eq!(
                planned.warnings.iter().any(|w| w.contains("mounted nowhere are not cloned: @old")),
                desc == BTRFS
            );
            let still = hold(private, &golden, none());
            assert_eq!(states(&still), [State::Unwritable, State::Unwritable]);
            assert_eq!(fs::read_to_string(still.root().join("home/lab/notes")).unwrap(), "before");
            assert_eq!(fs::read_to_string(still.root().join("tmp/hidden")).unwrap(), "below what is mounted");
            assert!(fs::write(still.root().join("home/lab/notes"), "x").is_err());
            drop(still);
            drop(held);
            // All is gone before the namespace is.
            wait_until_free(&image);
        });
        assert_eq!(whole(&image), before, "not even a journal was written");
    }
}

#[test]
fn images_that_are_none_of_a_system_are_refused_and_let_go() {
    if !can_run("images_that_are_none_of_a_system_are_refused_and_let_go", true, &TOOLS) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let refused_at_once = |image: &Path| {
        inside(|private| {
            let source = Source::Image(image, private);
            look(&Machine::default(), &mut Here, source, |_, _, _, _| Ok(Vec::new()))
                .map(drop)
                .unwrap_err()
                .to_string()
        })
    };
    let refused = |image: &Path| {
        let said = refused_at_once(image);
        wait_until_free(image);
        said
    };
    let image = lab.image("empty.img", 20 * MIB);
    assert!(refused(&image).contains("has no partition table: an image is one of a whole disk"));
    applied("linux fill ext4\n", &image, &Options::default());
    assert!(refused(&image).contains("has an /etc/fstab: it is no image"));
    let image = golden(&lab, BIOS);
    // While somebody has it mounted, what he writes is not all on the image.
    // Where something would be mounted there is a link out of the image.
    inside(|_| {
        let at = lab.path("edit");
        mount(&image, 2, "rw", &at);
        let said = refused_at_once(&image);
        assert!(said.contains("edit: unmount it; ") && said.contains("when nobody writes to it"), "{said}");
        fs::remove_dir(at.join("home")).unwrap();
        std::os::unix::fs::symlink("/tmp", at.join("home")).unwrap();
    });
    wait_until_free(&image);
    assert!(refused(&image).contains("/home is no directory of its own"));
    assert!(refused(&lab.path("none.img")).contains("none.img: No such file"));
}

#[test]
fn a_tree_is_read_without_what_is_mounted_over_it() {
    if !can_run("a_tree_is_read_without_what_is_mounted_over_it", true, &TOOLS) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = golden(&lab, BIOS);
    inside(|private| {
        let at = fs::canonicalize(lab.path("")).unwrap().join("tree");
        mount(&image, 2, "rw", &at);
        mount(&image, 5, "rw", &at.join("home"));
        run("mount", &["-t", "tmpfs", "over", at.join("tmp").to_str().unwrap()]);
        fs::write(at.join("tmp/shown"), "").unwrap();
        let (golden, _) = golden_of(Source::Tree(&at));
        assert_eq!(ats(&golden), ["/", "/home"]);
        assert_eq!(golden.mounts[1].part(), Some(&part("golden", 5)));
        assert_eq!(plan(&golden, &Choice::default()).unwrap().mounts.len(), 2);
        let resumed = lab.path("resumed");
        let resume = format!("echo x >> '{}'", resumed.display());
        let still = hold(private, &golden, Quiesced::run(None, Some(&resume)).unwrap());
        assert_eq!(states(&still), [State::Changing, State::Changing]);
        assert_eq!(still.states()[0].1.says(), "crash-consistent copy of a running system");
        assert!(still.root().join("tmp/hidden").exists() && !still.root().join("tmp/shown").exists());
        assert!(!resumed.exists(), "it is still being read");
        drop(still);
        assert_eq!(fs::read_to_string(&resumed).unwrap(), "x\n");
        // A directory that is no file system of its own is no system.
        let (golden, _) = golden_of(Source::Tree(&at.join("etc")));
        assert!(
            plan(&golden, &Choice::default()).unwrap_err()[0].to_string().contains("no root file system")
        );
    });
    wait_until_free(&image);
}

#[test]
fn a_btrfs_is_read_from_snapshots() {
    if !can_run("a_btrfs_is_read_from_snapshots", true, &[&TOOLS[..], &["btrfs"]].concat()) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let image = golden(&lab, BTRFS);
    inside(|private| {
        let at = fs::canonicalize(lab.path("")).unwrap().join("tree");
        mount(&image, 3, "rw,subvol=@rootfs", &at);
        // A second loop device would be a second file system with the same UUID.
        let device = run("findmnt", &["-nvo", "SOURCE", at.to_str().unwrap()]);
        let home = at.join("home");
        run("mount", &["-o", "subvol=@home", device.trim(), home.to_str().unwrap()]);
        let (golden, _) = golden_of(Source::Tree(&at));
        assert_eq!(ats(&golden), ["/", "/home"]);
        let resumed = lab.path("resumed");
        let resume = format!("echo x >> '{}'", resumed.display());
        let still = hold(private, &golden, Quiesced::run(None, Some(&resume)).unwrap());
        assert_eq!(states(&still), [State::Snapshot, State::Snapshot], "{:?}", still.warnings());
        assert_eq!(
            fs::read_to_string(&resumed).unwrap(),
            "x\n",
            "snapshots are there, so services may go on"
        );
        fs::write(home.join("lab/notes"), "after").unwrap();
        assert_eq!(fs::read_to_string(still.root().join("home/lab/notes")).unwrap(), "before");
        // A second run leaves the first one's alone.
        let list = || run("btrfs", &["subvolume", "list", at.to_str().unwrap()]);
        assert_eq!(list().matches(".ka-d-snapshots/").count(), 2, "{}", list());
        drop(still);
        assert!(!list().contains("ka-d-snapshots"), "{}", list());
        assert_eq!(fs::read_to_string(&resumed).unwrap(), "x\n", "once");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _still = hold(private, &golden, none());
            panic!("as it may");
        }));
        assert!(panicked.is_err() && !list().contains("ka-d-snapshots"), "{}", list());
    });
    wait_until_free(&image);
}

#[test]
fn what_is_unmounted_meanwhile_is_not_held() {
    if !can_run("what_is_unmounted_meanwhile_is_not_held", true, &["mount", "umount"]) {
        return;
    }
    let lab = Lab::new();
    let at = lab.path("stick").display().to_string();
    fs::create_dir_all(&at).unwrap();
    // A machine whose mounts are shared, as systemd has it.
    inside(|_| {
        run("mount", &["--make-rshared", "/"]);
        run("mount", &["-t", "tmpfs", "stick", &at]);
        let (entered, wait) = mpsc::channel();
        let (unmounted, told) = mpsc::channel();
        let at = &at;
        thread::scope(|scope| {
            let run_of_ours = scope.spawn(move || {
                let holds = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(at);
                let private = Private::enter().unwrap();
                entered.send(holds()).unwrap();
                told.recv().unwrap();
                let held = holds();
                drop(private);
                held
            });
            assert!(wait.recv().unwrap());
            run("umount", &[at]);
            unmounted.send(()).unwrap();
            assert!(!run_of_ours.join().unwrap());
        });
    });
}

/// What [`killed_it_leaves_only_what_the_next_run_tidies_up`] kills: a run that holds all that can be held.
#[test]
fn helper() {
    let Some(dir) = std::env::var_os("KA_GOLDEN_HELPER").map(PathBuf::from) else { return };
    let private = Private::enter().unwrap();
    let at = dir.join("tree");
    mount(&dir.join("golden.img"), 3, "rw,subvol=@rootfs", &at);
    let (golden, _) = golden_of(Source::Tree(&at));
    let (_, _image) = golden_of(Source::Image(&dir.join("other.img"), &private));
    let resume = format!("echo resumed > '{}'", dir.join("fifo").display());
    let _resting = Quiesced::run(None, Some(&resume)).unwrap();
    let still = hold(&private, &golden, none());
    assert_eq!(states(&still), [State::Snapshot], "{:?}", still.warnings());
    let list = run("btrfs", &["subvolume", "list", at.to_str().unwrap()]);
    writeln!(std::io::stdout(), "\nHELD {}", list.matches(".ka-d-snapshots/").count()).unwrap();
    // Until we are killed, or let go.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn killed_it_leaves_only_what_the_next_run_tidies_up() {
    if !can_run(
        "killed_it_leaves_only_what_the_next_run_tidies_up",
        true,
        &[&TOOLS[..], &["btrfs", "mkfifo"]].concat(),
    ) {
        return;
    }
    let _alone = alone();
    let lab = Lab::new();
    let dir = fs::canonicalize(lab.path("")).unwrap();
    let (image, other) = (dir.join("golden.img"), dir.join("other.img"));
    golden(&lab, BIOS);
    fs::rename(&image, &other).unwrap();
    golden(&lab, BTRFS);
    let fifo = dir.join("fifo");
    run("mkfifo", &[fifo.to_str().unwrap()]);
    let seen = || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(dir.to_str().unwrap());
    for killed in [true, false] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "still::helper", "--nocapture"])
            .env("KA_GOLDEN_HELPER", &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let held = lines.find(|line| line.starts_with("HELD")).expect("it holds");
        assert_eq!(held, "HELD 1", "a killed run's snapshot is gone, our own is there");
        assert!(!seen(), "nobody else sees what it mounts");
        if killed {
            child.kill().unwrap();
        } else {
            drop(child.stdin.take());
        }
        // Whoever waited for our end resumes.
        assert_eq!(fs::read_to_string(&fifo).unwrap(), "resumed\n");
        assert_eq!(child.wait().unwrap().success(), !killed);
        wait_until_free(&image);
        wait_until_free(&other);
        assert_eq!(fs::read_dir("/run/ka/still").unwrap().count(), 0);
        let left = inside(|_| {
            let at = dir.join("top");
            mount(&image, 3, "ro,subvolid=5", &at);
            run("btrfs", &["subvolume", "list", at.to_str().unwrap()]).matches(".ka-d-snapshots/").count()
        });
        assert_eq!(left, usize::from(killed));
        wait_until_free(&image);
    }
}
