//! `ka-d rescue`, from a small system tree: what is in the initrd, what is said, and what is refused.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ka_core::crypto::session_key::Key;
use rescues::{System, VERSION};

mod private;
mod rescues;

/// The number of the user `nobody`.
const NOBODY: u32 = 65_534;

impl System {
    /// `ka-d rescue` with these arguments, for this system and sessions without a key.
    fn rescue(&self, args: &[&str]) -> Output {
        self.with_key(Command::new(env!("CARGO_BIN_EXE_ka-d")), &[&["--insecure"], args].concat())
    }

    /// `ka-d rescue` with these arguments, for this system.
    fn with_key(&self, mut command: Command, args: &[&str]) -> Output {
        for name in ["KA_KEY_FILE", "KA_INSECURE"] {
            command.env_remove(name);
        }
        command.args(["rescue", "--root"]).arg(self.path("root")).arg("--bin").arg(self.path("bin"));
        command.args(args).current_dir(self.0.path()).output().unwrap()
    }

    fn built(&self, args: &[&str]) -> (String, String) {
        built(&self.rescue(args))
    }
}

/// The two outputs of a run that must be well.
fn built(output: &Output) -> (String, String) {
    let [said, told] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    assert!(output.status.success(), "{told}");
    (said, told)
}

/// What a program says that reads this.
fn piped(program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => {
            let _ = writeln!(io::stderr(), "not tested: {program}: {e}");
            assert!(std::env::var_os("KA_EVERYTHING").is_none(), "{program}: {e}");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

fn listed(initrd: &Path, unpacker: &str) -> Option<Vec<String>> {
    let archive = piped(unpacker, &["-d", "-c"], &fs::read(initrd).unwrap())?;
    let names = piped("cpio", &["-i", "-t", "--quiet"], &archive)?;
    Some(String::from_utf8(names).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn everything_that_is_needed_is_in_it_and_nothing_else_of_the_kernel() {
    let system = System::new();
    let (entries, told) = system.built(&["out", "--append", "console=ttyS0"]);
    assert!(told.contains("efibootmgr (Debian's package efibootmgr)"), "{told}");
    assert_eq!(entries.matches("quiet ka.session=ka ka.insecure=1 console=ttyS0\n").count(), 3, "{entries}");
    assert_eq!(fs::read(system.path("out/vmlinuz")).unwrap(), b"kernel");
    let mut names: Vec<String> = fs::read_dir(system.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["initrd", "vmlinuz"], "nothing is left over");

    let Some(names) = listed(&system.path("out/initrd"), "gzip") else { return };
    assert!(names.is_sorted());
    for name in
        ["init", "etc/udhcpc.sh", "dev/console", "usr/bin/ka-d-install", "usr/sbin/mkfs.ext4", "usr/bin/sh"]
    {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    assert!(names.contains(&"usr/sbin/partclone.restore".into()) && names.contains(&"bin".into()));
    let modules: Vec<&String> = names.iter().filter(|name| name.ends_with(".ko")).collect();
    let folder = format!("usr/lib/modules/{VERSION}/kernel");
    assert_eq!(
        modules,
        [&format!("{folder}/drivers/net/ethernet/x/card.ko"), &format!("{folder}/lib/sums.ko")]
    );
    let firmware: Vec<&String> = names.iter().filter(|name| name.ends_with(".fw")).collect();
    assert_eq!(firmware, ["usr/lib/firmware/x/card.fw"]);
}

#[test]
fn a_compressed_module_stays_so_and_its_firmware_is_found() {
    let system = System::new();
    let Some(packed) = piped("xz", &["-c"], b"\x7fELF\0firmware=x/card.fw\0") else { return };
    let modules = format!("root/usr/lib/modules/{VERSION}");
    system.file(&format!("{modules}/kernel/drivers/scsi/disk.ko.xz"), &packed);
    system.file(&format!("{modules}/modules.dep"), b"kernel/drivers/scsi/disk.ko.xz:\n");
    system.built(&["out"]);
    let Some(names) = listed(&system.path("out/initrd"), "gzip") else { return };
    assert!(names.contains(&format!("usr/lib/modules/{VERSION}/kernel/drivers/scsi/disk.ko.xz")));
    assert!(names.contains(&"usr/lib/firmware/x/card.fw".into()));
}

#[test]
fn the_same_system_gives_the_same_bytes_and_what_was_there_is_replaced() {
    let system = System::new();
    system.built(&["one"]);
    system.built(&["two"]);
    let first = fs::read(system.path("one/initrd")).unwrap();
    assert_eq!(first, fs::read(system.path("two/initrd")).unwrap());
    system.built(&["two", "--module", "picture"]);
    assert_ne!(first, fs::read(system.path("two/initrd")).unwrap());
}

/// In a folder that is as `/tmp`.
#[test]
fn what_another_user_has_put_there_is_not_written_through() {
    let system = System::new();
    let (out, precious) = (system.path("out"), system.path("precious"));
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(&precious, "old").unwrap();
    for name in ["vmlinuz.part", "initrd.part", "initrd.cpio", "initrd.cpio.part"] {
        symlink(&precious, out.join(name)).unwrap();
    }
    system.built(&["out"]);
    assert_eq!(fs::read(&precious).unwrap(), b"old");
    assert_eq!(fs::read(out.join("vmlinuz")).unwrap(), b"kernel");
    if private::is_root() {
        chown(out.join("initrd"), Some(NOBODY), None).unwrap();
        let told = String::from_utf8(system.rescue(&["out"]).stderr).unwrap();
        assert!(
            told.contains("out/initrd: it is there already, and of another user (number 65534)"),
            "{told}"
        );
    }
    fs::remove_file(out.join("initrd")).unwrap();
    symlink(&precious, out.join("initrd")).unwrap();
    let told = String::from_utf8(system.rescue(&["out"]).stderr).unwrap();
    assert!(told.contains("out/initrd: it is not a regular file: remove it"), "{told}");
    assert_eq!(fs::read(&precious).unwrap(), b"old");
}

#[test]
fn a_kernel_that_can_unpack_zstd_gets_it() {
    let system = System::new();
    if piped("zstd", &["-q"], b"").is_none() {
        return;
    }
    system.file(&format!("root/boot/config-{VERSION}"), b"CONFIG_RD_ZSTD=y\n");
    system.built(&["out"]);
    assert!(fs::read(system.path("out/initrd")).unwrap().starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    listed(&system.path("out/initrd"), "zstd");
}

#[test]
fn the_key_is_in_the_entries_if_it_is_given() {
    let system = System::new();
    let key = Key::new([3; 12], &[9; 32]).text().unwrap();
    system.file("key", key.as_bytes());
    let command = || Command::new(env!("CARGO_BIN_EXE_ka-d"));
    let (entries, told) = built(&system.with_key(command(), &["out", "-s", "lab", "--key-file", "key"]));
    assert_eq!(entries.matches(&format!("ka.session=lab ka.key={}\n", *key)).count(), 3);
    assert!(told.contains("who can read them can join") && !told.contains(&*key));
    let (entries, told) = system.built(&["out"]);
    assert_eq!(entries.matches("ka.insecure=1\n").count(), 3);
    assert!(told.contains("without a key anybody"));
}

#[test]
fn root_s_entries_have_the_key_of_ka_d_clone_which_is_made_once() {
    let test = "root_s_entries_have_the_key_of_ka_d_clone_which_is_made_once";
    if !private::is_root() || !private::can_run(test) {
        return;
    }
    let system = System::new();
    let etc = system.path("etc");
    fs::create_dir(&etc).unwrap();
    let run = || {
        let mut command = private::with(&[(&etc, "/etc")]);
        command.arg(env!("CARGO_BIN_EXE_ka-d"));
        built(&system.with_key(command, &["out"]))
    };
    let (first, told) = run();
    let key = fs::read_to_string(etc.join("ka/key")).unwrap();
    assert_eq!(first.matches(&format!("ka.session=ka ka.key={key}")).count(), 3, "{first}");
    assert!(told.contains("/etc/ka/key, is in these entries") && !told.contains(key.trim()), "{told}");
    assert_eq!(run().0, first, "it is kept");
    for (path, mode) in [("ka", 0o700), ("ka/key", 0o600), ("ka/identity", 0o600)] {
        let about = fs::metadata(etc.join(path)).unwrap();
        assert_eq!((about.mode() & 0o777, about.uid()), (mode, 0), "{path}");
    }
    // The entries have it; what all nodes are given has not.
    let Some(archive) = piped("gzip", &["-d", "-c"], &fs::read(system.path("out/initrd")).unwrap()) else {
        return;
    };
    assert!(!archive.windows(key.trim().len()).any(|bytes| bytes == key.trim().as_bytes()));
}

#[test]
fn who_is_not_root_hears_where_the_key_is() {
    let system = System::new();
    // Where others can reach it.
    fs::copy(env!("CARGO_BIN_EXE_ka-d"), system.path("ka-d")).unwrap();
    fs::set_permissions(system.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(system.path("out")).unwrap();
    fs::set_permissions(system.path("out"), fs::Permissions::from_mode(0o1777)).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(system.path("ka-d"));
        if private::is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        system.with_key(command, args)
    };
    let told = String::from_utf8(run(&["out", "--iso"]).stderr).unwrap();
    assert!(told.contains("a disc needs the session's key"), "{told}");
    let (entries, told) = built(&run(&["out"]));
    assert_eq!(entries.matches("quiet ka.session=ka ka.key=...\n").count(), 3, "{entries}");
    assert!(told.contains("root finds it in /etc/ka/key"), "{told}");
}

#[test]
fn all_that_is_missing_is_told_at_once_and_nothing_is_written() {
    let system = System::new();
    for path in ["root/usr/sbin/sfdisk", "root/usr/bin/mount", "bin/ka-desc"] {
        fs::remove_file(system.path(path)).unwrap();
    }
    fs::remove_dir_all(system.path("root/boot")).unwrap();
    system.program("root/usr/bin/busybox", b"\0ash\0cttyhack\0ip\0setsid\0xargs\0");
    fs::copy(std::env::current_exe().unwrap(), system.path("bin/ka-d-client")).unwrap();
    let output = system.rescue(&["out"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    for part in [
        "the rescue needs sfdisk (Debian's package fdisk)",
        "the rescue needs mount (Debian's package mount)",
        "this busybox has no udhcpc",
        "bin/ka-desc: No such file or directory (os error 2): build it with `cargo static`",
        "linux-image-amd64",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // Tests are linked as the system does it; where that is static, they are as good as any.
    if !cfg!(target_feature = "crt-static") {
        assert!(told.contains("bin/ka-d-client is not static: build it with `cargo static`"), "{told}");
    }
    assert!(!system.path("out").exists());

    let output = System::new().rescue(&["out", "--module", "none"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().last(), Some("ka-d: kernel 6.1.0-test has no module none"));
}
