//! Images, loop devices and tools for tests; what a machine lacks is said aloud.
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use ka_desc::language::{Disk, parse};
use ka_desc::machine::Machine;
use ka_desc::run::Here;
use ka_desc::write::{Error, Options, Prepared, apply, prepare, unmount};
use tempfile::TempDir;

/// A folder for images; it goes when the test ends.
pub(crate) struct Lab {
    dir: TempDir,
    loops: Vec<PathBuf>,
}

/// Whether this machine can run `test`: root for loop devices, and tools. If not, it is said even though a passing
/// test's output is hidden; with `KA_EVERYTHING` it is a failure.
pub(crate) fn can_run(test: &str, root: bool, tools: &[&str]) -> bool {
    let found = |tool: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.any(|folder| folder.join(tool).is_file())
    };
    let mut lacks: Vec<String> = tools.iter().filter(|t| !found(t)).map(|t| (*t).to_owned()).collect();
    if root && !rustix::process::geteuid().is_root() {
        lacks.push("root".into());
    }
    if root && !has_loops() {
        lacks.push("loop devices".into());
    }
    if lacks.is_empty() {
        return true;
    }
    let text = format!("test {test} cannot run here: there is no {}", lacks.join(", "));
    assert!(std::env::var_os("KA_EVERYTHING").is_none(), "{text}");
    let _ = writeln!(io::stderr(), "{text}");
    false
}

/// A machine may have the device that gives out loop devices, and give none.
fn has_loops() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let mut lab = Lab::new();
        let image = lab.image("probe", 1 << 20);
        let attached = Command::new("losetup").args(["--find", "--show"]).arg(&image).output();
        let node = attached.ok().filter(|out| out.status.success());
        lab.loops.extend(node.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim())));
        !lab.loops.is_empty()
    })
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), loops: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new image without contents.
    pub(crate) fn image(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A loop device over an image, until the test ends.
    pub(crate) fn attach(&mut self, image: &Path, args: &[&str]) -> PathBuf {
        let all = [&["--find", "--show"], args, &[image.to_str().unwrap()]].concat();
        let node = PathBuf::from(run("losetup", &all).trim());
        self.loops.push(node.clone());
        node
    }
}

impl Lab {
    pub(crate) fn detach_all(&mut self) {
        for node in std::mem::take(&mut self.loops) {
            let _ = Command::new("losetup").arg("--detach").arg(&node).output();
            let name = node.file_name().unwrap().to_str().unwrap();
            let backing = Path::new("/sys/class/block").join(name).join("loop/backing_file");
            // Somebody else may have got its name by now.
            let ours = || {
                std::fs::read_to_string(&backing)
                    .is_ok_and(|file| file.starts_with(&*self.dir.path().to_string_lossy()))
            };
            wait(|| !ours());
        }
    }
}

/// Waits until no loop device has its contents in `image`: whoever looked at one may still have it open.
pub(crate) fn wait_until_free(image: &Path) {
    wait(|| output("losetup", &["--associated", image.to_str().unwrap()]).stdout.is_empty());
}

fn wait(until: impl Fn() -> bool) {
    for _ in 0..1000 {
        if until() {
            return;
        }
        #[allow(clippy::disallowed_methods, reason = "there is no event for it")]
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(std::thread::panicking(), "a loop device stays");
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What a failing test has left.
        let _ = unmount(&Machine::default(), &mut Here, self.dir.path());
        self.detach_all();
    }
}

/// Runs a tool that must succeed, and gives what it says.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = output(program, args);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {} {said}", out.status);
    String::from_utf8(out.stdout).unwrap()
}

pub(crate) fn output(program: &str, args: &[&str]) -> Output {
    let sbin = Path::new("/usr/sbin").join(program);
    let program = if sbin.exists() { sbin } else { program.into() };
    Command::new(program).args(args).env("LC_ALL", "C.UTF-8").output().unwrap()
}

/// Feeds a script to sfdisk.
pub(crate) fn sfdisk(path: &Path, script: &str) {
    let sfdisk = if Path::new("/usr/sbin/sfdisk").exists() { "/usr/sbin/sfdisk" } else { "sfdisk" };
    let mut child = Command::new(sfdisk)
        .args(["--quiet", "--no-tell-kernel"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
}

/// The digest of so many bytes of a file.
pub(crate) fn digest(path: &Path, from: u64, bytes: u64) -> blake3::Hash {
    use std::io::Seek;
    let mut file = File::open(path).unwrap();
    file.seek(io::SeekFrom::Start(from)).unwrap();
    let mut hasher = blake3::Hasher::new();
    let mut left = file.take(bytes);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = left.read(&mut buffer).unwrap();
        if n == 0 {
            return hasher.finalize();
        }
        hasher.update(&buffer[..n]);
    }
}

pub(crate) fn whole(path: &Path) -> blake3::Hash {
    digest(path, 0, u64::MAX)
}

pub(crate) fn disk(text: &str) -> Disk {
    parse(text).unwrap_or_else(|e| panic!("{e}")).disks.remove(0)
}

/// What the library would do.
pub(crate) fn prepared(text: &str, path: &Path, options: &Options) -> Result<Prepared, Error> {
    let path = std::fs::canonicalize(path).unwrap();
    prepare(&Machine::default(), &mut Here, (disk(text), path, Vec::new()), options)
}

/// Has the library do it.
pub(crate) fn applied(text: &str, path: &Path, options: &Options) -> Prepared {
    let prepared = prepared(text, path, options).unwrap_or_else(|e| panic!("{text}: {e}"));
    apply(&Machine::default(), &mut Here, std::slice::from_ref(&prepared), options, &mut |_| {})
        .unwrap_or_else(|e| panic!("{text}: {e}"));
    prepared
}
