//! Disks as the ends of streams: written by one, and by nobody while they are in use. On loop devices.
#![cfg(feature = "io")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use ka_core::stream::{FileSink, FileSource, Sink, Stop};

const BYTES: u64 = 4 << 20;

/// A disk of our own, which goes with the test.
struct Disk {
    dir: tempfile::TempDir,
    node: PathBuf,
}

impl Disk {
    /// `None` where there are no loop devices, which is said, past the test runner; with `KA_EVERYTHING` it is a failure.
    fn new(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(BYTES).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&image).output();
        match made {
            Ok(made) if made.status.success() => {
                let node = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim());
                Some(Self { dir, node })
            }
            _ => {
                let text = format!("test {test} cannot run here: there are no loop devices");
                assert!(std::env::var_os("KA_EVERYTHING").is_none(), "{text}");
                let _ = writeln!(io::stderr(), "{text}");
                None
            }
        }
    }

    /// Mounts it where only a process sees it that goes with the test.
    fn mounted(&self) -> Mounted {
        let made = Command::new("mkfs.ext4").arg("-q").arg(&self.node).status().unwrap();
        assert!(made.success());
        let at = self.dir.path().join("at");
        fs::create_dir(&at).unwrap();
        let script = "mount \"$1\" \"$2\" && echo mounted && read -r _";
        let mut shell = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .args([&self.node, &at])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 8];
        shell.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        Mounted(shell)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.node).status();
    }
}

struct Mounted(Child);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn refused(result: io::Result<impl Sized>) -> String {
    let error = result.err().expect("it is in use");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
    error.to_string()
}

fn begins_with(node: &Path) -> [u8; 5] {
    let mut begin = [0; 5];
    File::open(node).unwrap().read_exact(&mut begin).unwrap();
    begin
}

#[test]
fn a_disk_has_one_writer() {
    let Some(disk) = Disk::new("a_disk_has_one_writer") else { return };
    let link = disk.dir.path().join("link");
    std::os::unix::fs::symlink(&disk.node, &link).unwrap();
    let mut first = Box::new(FileSink::open(&link).unwrap());
    let said = refused(FileSink::open(&disk.node));
    assert!(
        said.starts_with(&format!("cannot write {}: it is in use: mounted", disk.node.display())),
        "{said}"
    );
    first.write(&[Bytes::from_static(b"first")], &Stop::new()).unwrap();
    first.finish(&Stop::new()).unwrap();
    assert_eq!(begins_with(&disk.node), *b"first");
    FileSink::open(&disk.node).unwrap();
}

#[test]
fn a_disk_that_is_too_small_is_known_before_it_is_written() {
    let Some(disk) = Disk::new("a_disk_that_is_too_small_is_known_before_it_is_written") else { return };
    let mut sink = FileSink::open(&disk.node).unwrap();
    sink.check_size(BYTES).unwrap();
    let said = sink.check_size(BYTES + 1).unwrap_err().to_string();
    let text = format!("it has {BYTES} bytes, and the stream {}", BYTES + 1);
    assert_eq!(said, format!("cannot write {}: {text}", disk.node.display()));
    // Looking has not moved anything.
    sink.write(&[Bytes::from_static(b"first")], &Stop::new()).unwrap();
    Box::new(sink).finish(&Stop::new()).unwrap();
    assert_eq!(begins_with(&disk.node), *b"first");
}

#[test]
fn a_mounted_disk_is_not_written() {
    let Some(disk) = Disk::new("a_mounted_disk_is_not_written") else { return };
    let mounted = disk.mounted();
    refused(FileSink::open(&disk.node));
    FileSource::open(&disk.node).expect("it may be read");
    drop(mounted);
    FileSink::open(&disk.node).unwrap();
}

#[test]
fn a_disk_that_is_sent_is_not_written() {
    let Some(disk) = Disk::new("a_disk_that_is_sent_is_not_written") else { return };
    let source = FileSource::open(&disk.node).unwrap();
    FileSource::open(&disk.node).expect("two may read it");
    let said = refused(FileSink::open(&disk.node));
    assert!(said.contains("this program itself uses it already"), "{said}");
    drop(source);
    FileSink::open(&disk.node).unwrap();
}

#[test]
fn a_disk_that_is_written_is_not_sent() {
    let Some(disk) = Disk::new("a_disk_that_is_written_is_not_sent") else { return };
    let sink = FileSink::open(&disk.node).unwrap();
    refused(FileSource::open(&disk.node));
    drop(sink);
    FileSource::open(&disk.node).unwrap();
}
