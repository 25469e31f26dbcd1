//! The code about itself: what ARCHITECTURE.md claims and no compiler checks.
#![cfg(feature = "io")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source file below the members' `src`, with its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders: Vec<_> =
        ["ka-core", "ka-server", "ka-client", "ka-desc"].iter().map(|m| root().join(m).join("src")).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > 30, "the sources are where they were");
    files
}

fn files_with(needle: &str) -> Vec<String> {
    let mut found: Vec<_> =
        sources().into_iter().filter(|(_, text)| text.contains(needle)).map(|(name, _)| name).collect();
    found.sort();
    found
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "{name} begins with a sentence about itself");
    }
}

#[test]
fn one_file_knows_bincode_two_are_unsafe_and_two_loops_select() {
    assert_eq!(files_with("bincode::"), ["ka-core/src/wire/codec.rs"]);
    assert_eq!(files_with("unsafe {"), ["ka-core/src/net/data/low_water.rs", "ka-desc/src/private.rs"]);
    let selects: Vec<_> =
        files_with("tokio::select! {").into_iter().filter(|f| f.starts_with("ka-core")).collect();
    assert_eq!(selects, ["ka-core/src/net/discovery/answer.rs", "ka-core/src/net/driver.rs"]);
}

#[test]
fn the_pure_part_has_no_hash_map_and_the_library_never_prints() {
    for needle in ["HashMap", "HashSet"] {
        let found = files_with(needle);
        let pure = ["proto/", "wire/", "sim/", "seal.rs", "ring.rs"];
        assert!(!found.iter().any(|f| pure.iter().any(|p| f.contains(p))), "{needle}: {found:?}");
    }
    for needle in ["println!(", "print!(", "dbg!("] {
        let found: Vec<_> = files_with(needle).into_iter().filter(|f| f.starts_with("ka-core/src")).collect();
        assert!(found.is_empty(), "{needle} in {found:?}");
    }
}

#[test]
fn architecture_names_every_folder() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for folder in ["wire", "proto", "net", "stream", "sim"] {
        assert!(text.contains(&format!("`ka-core/src/{folder}/`")), "ARCHITECTURE.md speaks of {folder}");
    }
}

/// A machine whose clock says 1970 is as good as any: no key expires by date, and nobody compares times of day. Logs tell
/// people what the clock says.
#[test]
fn nobody_goes_by_what_day_it_is() {
    assert_eq!(files_with("SystemTime"), ["ka-core/src/console/clock.rs"]);
}
