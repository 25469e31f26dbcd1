//! README's way to clone a machine, word by word, as far as it goes without virtual machines: its commands, and nodes that
//! know what the printed boot entry says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use processes::clones::{World, image};
use processes::{Running, bare_server};
use rescues::System;

mod private;
mod processes;
mod rescues;

/// The first commands of a section of README's, without what they say of themselves.
fn commands(section: &str) -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let section = text.split_once(section).expect("the section").1;
    let block = section.lines().skip_while(|line| !line.starts_with("    "));
    let block = block.take_while(|line| line.starts_with("    "));
    block.map(|line| line.split(" #").next().unwrap().trim().to_owned()).collect()
}

/// A golden node for the walk, and its nodes.
struct Walk {
    world: World,
    system: System,
}

impl Walk {
    /// `None`, having said why, where it cannot be done.
    fn new(test: &str) -> Option<Self> {
        if !private::is_root() || !private::can_run(test) {
            return None;
        }
        let walk = Self { world: World::new(test, 2)?, system: System::new() };
        for dir in ["etc", "srv", "programs"] {
            fs::create_dir(walk.world.lan.path(dir)).unwrap();
        }
        // The golden node is an image, and not this machine; so is the system that its rescue is made of.
        let at = |path: &str| walk.system.path(path).display().to_string();
        let script = format!(
            "#!/bin/sh\nwhat=$1; shift\ncase $what in\n\
             clone) exec {ka_d} clone --image {image} --log-dir {logs} \"$@\" ;;\n\
             rescue) exec {ka_d} rescue --root {root} --bin {bin} \"$@\" ;;\nesac\n",
            ka_d = env!("CARGO_BIN_EXE_ka-d"),
            image = walk.world.golden,
            logs = walk.world.lan.arg("logs"),
            root = at("root"),
            bin = at("bin"),
        );
        let ka_d = walk.world.lan.path("programs/ka-d");
        fs::write(&ka_d, script).unwrap();
        fs::set_permissions(&ka_d, fs::Permissions::from_mode(0o755)).unwrap();
        Some(walk)
    }

    /// Starts a command on the golden node, as an admin types it.
    fn golden(&self, line: &str) -> Running {
        let lan = &self.world.lan;
        let (etc, srv) = (lan.path("etc"), lan.path("srv"));
        let mut command = private::with(&[(&etc, "/etc"), (&srv, "/srv")]);
        command.args(["sh", "-c", line]).env_remove("KA_KEY_FILE").env_remove("KA_IDENTITY");
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", lan.path("programs").display()));
        self.world.hosts.start(0, lan, &command)
    }

    /// Starts a node whose kernel was given these words.
    fn node(&self, i: usize, words: &str) -> Running {
        let lan = &self.world.lan;
        let line = lan.path(&format!("cmdline{i}"));
        fs::write(&line, format!("{words}\n")).unwrap();
        let disk = lan.path(&format!("disk{i}"));
        image(&disk, 160);
        let session = words.split(' ').find_map(|word| word.strip_prefix("ka.session=")).unwrap();
        let mut command = private::with(&[(&line, "/proc/cmdline")]);
        // What is given by name here is what the first script of a rescue takes from these words.
        command.arg(lan.install_command(&[]).get_program()).args(["--session", session]);
        command.args([
            "--disk",
            &format!("golden={}", disk.display()),
            "--root",
            &lan.arg(&format!("root{i}")),
        ]);
        for name in ["KA_KEY_FILE", "KA_IDENTITY", "KA_KEY", "KA_INSECURE"] {
            command.env_remove(name);
        }
        self.world.hosts.start(i, lan, &command)
    }
}

#[test]
fn readme_s_way_to_clone_works_as_it_is_written() {
    let Some(walk) = Walk::new("readme") else { return };
    let all = commands("\n## Clone a machine\n");
    let [build, look, rescue, clone] = &all[..] else { panic!("{all:?}") };
    assert!(build.starts_with("cargo static && PATH="), "{build}");

    let ended = walk.golden(look).end();
    assert!(ended.code == 0 && ended.stdout.contains("clones boot: by BIOS"), "{look}: {}", ended.stderr);
    assert!(!walk.world.lan.path("etc/ka").exists(), "a dry run makes no key");

    let entries = walk.golden(rescue).end();
    assert_eq!(entries.code, 0, "{rescue}: {}", entries.stderr);
    for file in ["vmlinuz", "initrd"] {
        assert!(walk.world.lan.path("srv/tftp/ka").join(file).exists(), "{file}");
    }
    let entry = entries.stdout.lines().find_map(|line| line.trim().strip_prefix("append initrd=initrd "));
    let entry = entry.expect("an entry for pxelinux");

    // Two nodes instead of thirty.
    let mut server = walk.golden(&clone.replace("-n 30", "-n 2"));
    server.until_says("the nodes' key is in /etc/ka/key");
    let nodes = [walk.node(1, entry), walk.node(2, entry)].map(Running::end);
    let server = server.end();
    for node in &nodes {
        assert_eq!(node.code, 0, "{}{}", node.stderr, server.stderr);
    }
    assert_eq!(server.code, 0, "{}", server.stderr);
    let key = fs::read_to_string(walk.world.lan.path("etc/ka/key")).unwrap();
    let key = key.trim();
    assert!(entry.contains(key) && !server.stderr.contains(key) && !nodes[0].stderr.contains(key));
    for i in [1, 2] {
        walk.world.check(i);
        let disk = walk.world.lan.path(&format!("disk{i}"));
        walk.world.inside(&disk, 1, |root| {
            assert_eq!(fs::read_dir(root.join("srv/tftp")).unwrap().count(), 0, "-x");
        });
        let found = Command::new("grep").args(["-qaF", key]).arg(&disk).status().unwrap();
        assert_eq!(found.code(), Some(1), "the key is on a clone's disk");
    }
}

#[test]
fn readme_s_rescue_is_made_as_it_is_written() {
    let Some(walk) = Walk::new("stick") else { return };
    let all = commands("\n### A rescue system for the nodes\n");
    let [directory, stick] = &all[..] else { panic!("{all:?}") };
    let first = walk.golden(directory).end();
    assert_eq!(first.code, 0, "{directory}: {}", first.stderr);
    // What makes a disc may not be here; that is all that may be wrong.
    let second = walk.golden(&format!("cd {} && {stick}", walk.world.lan.path("srv").display())).end();
    let lacks = second.stderr.contains("a disc needs ") && !second.stderr.contains("key");
    assert!(second.code == 0 && second.stdout == first.stdout || lacks, "{stick}: {}", second.stderr);
}

#[test]
fn the_default_command_sends_no_key() {
    let Some(walk) = Walk::new("default") else { return };
    let lan = &walk.world.lan;
    fs::create_dir(lan.path("etc/ka")).unwrap();
    for file in ["etc/ka/key", "etc/other"] {
        fs::write(lan.path(file), "secret").unwrap();
    }
    let help = String::from_utf8(bare_server(&["--help"]).output().unwrap().stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let command = help.split_once("[default: (cd /; ").expect("the default").1.split_once(" /)]").unwrap().0;
    // Of all that is there, what the test has in /etc, and what lies elsewhere by such a name.
    let elsewhere = lan.path("x/etc/ka/kept");
    fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    fs::write(&elsewhere, "").unwrap();
    let line = format!("cd /; {command} /etc {} | tar --list --file -", lan.path("x").display());
    let etc = lan.path("etc");
    let mut tar: Command = private::with(&[(&etc, "/etc")]);
    let listed = tar.args(["sh", "-c", &line]).stdin(Stdio::null()).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut names: Vec<&str> = listed.lines().filter(|name| !name.ends_with('/')).collect();
    names.sort_unstable();
    let kept = elsewhere.display().to_string();
    assert_eq!(names, ["etc/other", kept.trim_start_matches('/')]);
}
