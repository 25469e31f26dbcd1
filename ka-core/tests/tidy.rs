//! The code about itself: what ARCHITECTURE.md claims and no compiler checks.
#![cfg(feature = "io")]

#[path = "tidy/api.rs"]
mod api;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/errors.rs"]
mod errors;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/security.rs"]
mod security;
#[path = "tidy/size.rs"]
mod size;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::fs;

use source::{files, root};

fn files_with(needle: &str) -> Vec<String> {
    files(&["src"]).into_iter().filter(|(_, text)| text.contains(needle)).map(|(name, _)| name).collect()
}

#[test]
fn one_file_knows_bincode_three_are_unsafe_and_two_loops_select() {
    assert_eq!(files_with("bincode::"), ["ka-core/src/wire/codec.rs"]);
    assert_eq!(
        files_with("unsafe {"),
        ["ka-core/src/console/secrets.rs", "ka-core/src/net/data/low_water.rs", "ka-desc/src/private.rs"]
    );
    let selects: Vec<_> =
        files_with("tokio::select! {").into_iter().filter(|f| f.starts_with("ka-core/src/net")).collect();
    assert_eq!(selects, ["ka-core/src/net/discovery/answer.rs", "ka-core/src/net/driver.rs"]);
}

#[test]
fn the_pure_part_has_no_hash_map() {
    for needle in ["HashMap", "HashSet"] {
        let found = files_with(needle);
        let pure = ["ka-core/src/proto/", "ka-core/src/wire/", "ka-core/src/sim/", "ka-core/src/tape/"];
        assert!(!found.iter().any(|f| pure.iter().any(|p| f.starts_with(p))), "{needle}: {found:?}");
    }
}

#[test]
fn architecture_names_every_folder() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for folder in ["wire", "tape", "crypto", "proto", "net", "stream", "sim", "console"] {
        assert!(text.contains(&format!("`ka-core/src/{folder}/`")), "ARCHITECTURE.md speaks of {folder}");
    }
}

/// What makes or opens a file of a name that another user of the host may have taken: `ka_core::stream::ours` has the
/// careful way. Each file here has one place, in a directory that only root or this user can write.
#[test]
fn files_are_made_where_nobody_else_can_have_made_them() {
    let needles =
        ["File::create(", "fs::write(", "fs::copy(", "create_dir_all", "temp_dir()", ".create(true)"];
    let allowed = [
        "ka-client/src/finish/linux/chroot.rs",   // below /run/ka
        "ka-client/src/finish/linux/uuids.rs",    // below /dev/disk
        "ka-client/src/install/own.rs",           // below /run/ka
        "ka-client/src/install/work.rs",          // checked before it is used
        "ka-desc/src/write/apply.rs",             // a dry run's, made by nobody
        "ka-server/src/clone/logs.rs",            // below a directory that was checked
        "ka-server/src/clone/run.rs",             // checked before it is used
        "ka-server/src/golden/freeze/inhibit.rs", // below /run/ka
        "ka-server/src/rescue/iso.rs",            // in a directory of this run's own
        "ka-server/src/rescue/mod.rs",            // the same
    ];
    let with = |text: &str| needles.iter().any(|needle| text.contains(needle));
    // Tests stand last.
    let code = |text: &str| with(text.split("#[cfg(test)]").next().unwrap_or_default());
    let found: Vec<_> = files(&["src"])
        .into_iter()
        .filter(|(name, text)| !name.ends_with("/tests.rs") && code(text))
        .collect();
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), allowed);
}

/// A machine whose clock says 1970 is as good as any: no key expires by date, and nobody compares times of day. Logs tell
/// people what the clock says.
#[test]
fn nobody_goes_by_what_day_it_is() {
    assert_eq!(files_with("SystemTime"), ["ka-core/src/console/clock.rs"]);
}
