//! The command line of `ka-desc`: help, manual page, statuses, and what needs no root.

use std::process::{Command, Output, Stdio};

use ka_desc::cli::command;
use lab::{Lab, can_run, sfdisk};

mod lab;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ka-desc")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn status(args: &[&str]) -> (i32, String) {
    let out = run(args);
    (out.status.code().unwrap(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn help_shows_examples_and_statuses() {
    let (code, text) = status(&["--help"]);
    assert_eq!(code, 0);
    for part in
        ["Examples:", "ka-desc plan lab.desc --size 20G", "4  refused: it might be the wrong disk", "capture"]
    {
        assert!(text.contains(part), "{text}");
    }
    for (command, option) in
        [("apply", "--deactivate"), ("plan", "--json"), ("capture", "--flexible"), ("mount", "<DIR>")]
    {
        let (code, text) = status(&[command, "--help"]);
        assert!(code == 0 && text.contains(option), "{text}");
    }
    assert_eq!(status(&["--version"]).1, concat!("ka-desc ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn packagers_get_a_man_page_and_completions() {
    let (code, text) = status(&["--man"]);
    assert_eq!(code, 0);
    for part in [".SH \"EXIT STATUS\"", "ka\\-desc\\-apply", ".SH EXAMPLES"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = status(&["apply", "--man"]);
    assert!(code == 0 && text.contains("\\-\\-dry\\-run"), "{text}");
    assert!(status(&["--completions", "bash"]).1.contains("--deactivate"));
}

#[test]
fn every_ending_has_its_status() {
    let lab = Lab::new();
    let file = |name: &str, text: &str| lab.file(name, text).to_str().unwrap().to_owned();
    let (good, bad) = (file("good.desc", "linux fill\n"), file("bad.desc", "linux\nlvm 3\n"));
    let (large, keep) = (file("large.desc", "linux 5G\n"), file("keep.desc", "table mbr\nkeep linux any\n"));
    let empty = file("empty", "");
    for (args, code, said) in [
        (vec!["check", &good], 0, "good.desc: 1 partition, no errors"),
        (vec!["check", &bad], 5, "bad.desc:2:1: `lvm` is not done by a desc"),
        (vec!["check", "/nonexistent"], 1, "No such file"),
        (vec!["plan", &good, "--size", "3G"], 0, "new, empty"),
        (vec!["plan", &large, "--size", "3G"], 5, "2049 MiB are missing"),
        (vec!["plan", &keep, "--size", "3G"], 5, "keeps partitions"),
        (vec!["plan", &good], 2, "which disk? name it: --disk DEVICE"),
        (vec!["plan", &good, "--size", "big"], 2, "20480"),
        (vec!["plan", &good, "--disk", "/dev/null"], 4, "neither a disk nor a disk's image"),
        (vec!["plan", &good, "--disk", "/nonexistent"], 1, "No such file"),
        (vec!["plan", &good, "--disk", "sdno"], 1, "sdno: there is no device /dev/sdno, and no image ./sdno"),
        (vec!["plan", &good, "--disk", "null"], 4, "/dev/null is neither a disk nor a disk's image"),
        (vec!["plan", &good, "--disk", "=sda"], 2, "no name before"),
        (vec!["plan", &good, "--disk", &empty], 4, "has no bytes"),
        (vec!["capture", &empty], 4, "has no bytes"),
        (vec!["apply", &good, "--disk", &empty, "--yes"], 4, "has no bytes"),
        (vec!["capture", "sdno"], 1, "no device /dev/sdno"),
        (vec!["apply", &good, "--disk", "/dev/null", "--yes"], 4, "neither a disk"),
        (vec!["apply", &good, "--expect", "colour=red"], 2, "serial=S3Z9"),
        (vec!["apply", &good, "--disk", "x", "--sector-size", "520"], 2, "512 or 4096"),
        (vec!["umount", "/nonexistent"], 1, "No such file"),
        (vec![], 2, "Usage"),
    ] {
        let (is, text) = status(&args);
        assert!(is == code && text.contains(said), "{args:?}: {is} {text}");
    }
}

/// The status says when a tool failed: before anything was written, or on the way.
#[test]
fn a_tool_that_fails_has_the_status_of_what_it_was_for() {
    if !can_run("a_tool_that_fails_has_the_status_of_what_it_was_for", false, &["sfdisk", "wipefs", "blkid"])
    {
        return;
    }
    let lab = Lab::new();
    let desc = lab.file("lab.desc", "linux fill\n").to_str().unwrap().to_owned();
    let image = lab.image("disk.img", 1 << 30);
    sfdisk(&image, "label: dos\ntype=83\n");
    let image = image.to_str().unwrap();
    let apply = ["apply", &desc, "--disk", image, "--yes", "--table-only"];
    for (tool, args, code) in [
        ("sfdisk", &["capture", image][..], 1),
        ("blkid", &["capture", image], 1),
        ("sfdisk", &["plan", &desc, "--disk", image], 1),
        ("sfdisk", &["mount", &desc, "/mnt", "--disk", image], 1),
        ("sfdisk", &apply, 1),
        ("wipefs", &apply, 6),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/false", folder.path().join(tool)).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let out = Command::new(env!("CARGO_BIN_EXE_ka-desc")).args(args).env("PATH", path).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(code) && said.contains(tool),
            "{tool} {args:?}: {:?} {said}",
            out.status
        );
    }
}

/// With several disks, what is wrong with each is said.
#[test]
fn every_disk_that_does_not_fit_is_named() {
    let lab = Lab::new();
    let desc = lab.file("lab.desc", "disk a\nlinux 5G\ndisk b\nlinux 7G\n").to_str().unwrap().to_owned();
    let (code, text) = status(&["plan", &desc, "--size", "a=3G", "--size", "b=4G"]);
    assert!(code == 5 && text.contains("a disk of 3 GiB") && text.contains("a disk of 4 GiB"), "{text}");
}

#[test]
fn a_plan_is_json_too() {
    let lab = Lab::new();
    let text =
        "disk a\nesp 512 label EFI mount /boot/efi\nlinux fill btrfs\n subvol @ mount /\ndisk b\nswap fill\n";
    let desc = lab.file("lab.desc", text).to_str().unwrap().to_owned();
    let (code, text) = status(&["plan", &desc, "--size", "a=10G", "--size", "b=1G", "--json"]);
    assert_eq!(code, 0, "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (a, b) = (&json[0], &json[1]);
    assert!(
        a["name"] == "a" && a["table"] == "gpt" && a["disk_bytes"] == 10_u64 << 30 && a["before"].is_null()
    );
    let root = &a["partitions"][1];
    assert!(
        root["fs"] == "btrfs" && root["subvolumes"][0]["mount"] == "/" && root["start_sector"] == 513 * 2048
    );
    assert!(
        b["table"] == "mbr"
            && b["partitions"][0]["type"] == "82"
            && b["script"].as_str().unwrap().contains("size=")
    );
    let (code, text) = status(&["plan", &desc, "--size", "a=10G"]);
    assert!(code == 2 && text.contains("--size b=SIZE"), "{text}");
}

/// The README's example as far as it needs no root: on an image, plan and table.
#[test]
fn an_image_is_partitioned_without_root() {
    if !can_run("an_image_is_partitioned_without_root", false, &["sfdisk", "wipefs", "blkid"]) {
        return;
    }
    let lab = Lab::new();
    let desc = lab.file("lab.desc", "esp 512 mount /boot/efi\nlinux fill ext4 label root mount /\nswap 1G\n");
    let image = lab.image("disk.img", 20 << 30);
    sfdisk(&image, "label: dos\nsize=100MiB, type=7\ntype=83\n");
    let (desc, image) = (desc.to_str().unwrap(), image.to_str().unwrap());
    let (code, text) = status(&["plan", desc, "--disk", image]);
    assert!(code == 0 && text.contains("before:") && text.contains("will be lost: 1, 2"), "{text}");
    let (code, text) = status(&["apply", desc, "--disk", image, "--table-only", "--yes"]);
    assert!(code == 0 && text.ends_with("done\n"), "{text}");
    let (code, text) = status(&["capture", image]);
    assert!(code == 0 && text.contains("\nesp 512 partuuid ") && text.contains("\ntable gpt id "), "{text}");
}
