//! The log of an NTFS: whatever is on a disk where it is looked for, few places are read, each of a bounded length.
//!
//! The input is what each read finds, one behind the other, wherever it looks: so a disk of any size is as long as what is
//! read of it. A file system that mkfs.ntfs has made begins the corpus.
#![no_main]

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ka_desc::used::ntfs::is_clean;
use ka_fuzz::{begin_with, image};
use libfuzzer_sys::fuzz_target;

/// The bytes that are read of a fresh file system with clusters of this size.
fn fresh(cluster_bytes: &str) -> Option<Vec<u8>> {
    let args = ["--quiet", "--fast", "--force", "--cluster-size", cluster_bytes];
    image(8 << 20, "mkfs.ntfs", &args, |path| {
        let (disk, read) = (File::open(path).ok()?, RefCell::new(Vec::new()));
        let clean = is_clean(|at, buf| {
            disk.read_exact_at(buf, at)?;
            read.borrow_mut().extend_from_slice(buf);
            Ok(())
        });
        assert!(clean.expect("it is read"), "it is fresh");
        Some(read.into_inner())
    })
}

fuzz_target!(
    init: begin_with(["512", "4096", "65536"].into_iter().filter_map(fresh)),
    |bytes: &[u8]| {
        let (rest, reads) = (Cell::new(bytes), Cell::new(0));
        let clean = is_clean(|_, buf| {
            reads.set(reads.get() + 1);
            assert!(reads.get() <= 4 && (512..=64 << 10).contains(&buf.len()), "a bounded read");
            let (now, later) = rest.get().split_at_checked(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buf.copy_from_slice(now);
            rest.set(later);
            Ok(())
        });
        assert!(!matches!(clean, Ok(true)) || reads.get() == 4, "both pages were looked at");
    }
);
