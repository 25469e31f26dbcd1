//! Whole clones, without a virtual machine: hosts that are network namespaces, disks that are images, the system's own
//! tools. The golden node is an image, too.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ka_desc::run::{Call, Here, Runner};
use processes::clones::{MIB, Waiting, World, blocks, image, is_at, place, with_partition};
use processes::hosts::cannot_run;
use processes::{Running, json};
use rustix::process::Signal;

mod processes;

#[test]
fn two_nodes_become_clones() {
    let Some(world) = World::new("two", 2) else { return };
    let (scratch, raw) = ("/srv/scratch", "golden6");
    let server = world.clone(&["-n", "2", "-x", scratch, "-D", raw, "-d", "5"]);
    let nodes = [world.node(1, 160, None), world.node(2, 300, None)].map(Running::end);
    let server = server.end();
    for node in &nodes {
        assert_eq!(node.code, 0, "{}", node.stderr);
    }
    for told in nodes.iter().chain([&server]) {
        let streams: Vec<_> =
            told.events("stream").iter().map(|s| (s["number"].clone(), s["estimate"].clone())).collect();
        let all = [(0, false), (1, true), (2, false), (3, false)];
        assert_eq!(streams, all.map(|(number, estimate)| (number.into(), estimate.into())), "in their order");
    }
    assert_eq!(server.code, 0, "{}", server.stderr);
    assert!(server.stderr.contains("/etc/machine-id is empty"), "{}", server.stderr);
    let report = json(&world.lan.path("report"));
    assert_eq!((&report["ok"], report["nodes"].as_array().unwrap().len()), (&true.into(), 2));
    for i in [1, 2] {
        world.check(i);
        let disk = world.lan.path(&format!("disk{i}"));
        world.inside(&disk, 1, |root| {
            assert_eq!(fs::read_dir(root.join("srv/scratch")).unwrap().count(), 0, "-x leaves it out");
        });
        let mut bytes = vec![0; blocks().len()];
        File::open(&disk).unwrap().read_exact_at(&mut bytes, place(&disk, 6).0).unwrap();
        assert!(bytes == blocks(), "-D");
    }
    let logs = fs::read_dir(world.lan.path("logs")).unwrap().next().unwrap().unwrap().path();
    let logs: Vec<PathBuf> = fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(logs.len(), 2, "{logs:?}");
    assert!(fs::read_to_string(&logs[0]).unwrap().contains("-- finishing"));
    world.is_left_alone();
}

#[test]
fn a_small_disk_is_refused_untouched_and_the_other_is_a_clone() {
    let Some(world) = World::new("small", 2) else { return };
    let server = world.clone(&["-n", "2"]);
    let [large, small] = [world.node(1, 200, None), world.node(2, 100, None)].map(Running::end);
    let server = server.end();
    assert_eq!((large.code, small.code, server.code), (0, 6, 6), "{}", server.stderr);
    world.check(1);
    let bytes = fs::read(world.lan.path("disk2")).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0), "the small disk was written");
    let again = server.stderr.lines().last().unwrap();
    assert!(again.contains("ka-d clone -n 1 --image"), "{}", server.stderr);
}

#[test]
fn of_a_raw_partition_only_the_used_blocks_come_if_everybody_has_partclone() {
    let tools = ["partclone.ntfs", "mkfs.ntfs", "ntfscp", "ntfscat"];
    if let Some(tool) = tools.iter().find(|tool| !Here.has(tool)) {
        return cannot_run("used", &format!("there is no {tool}"));
    }
    let Some(world) = World::new("used", 2) else { return };
    let (golden, file) = (PathBuf::from(&world.golden), world.lan.path("file"));
    fs::write(&file, processes::noise(2 << 20)).unwrap();
    with_partition(&golden, 6, |node| {
        Here.write(&Call::new("mkfs.ntfs", ["--fast", "--quiet", "--force", node])).unwrap();
        Here.write(&Call::new("ntfscp", [node, &file.display().to_string(), "noise"])).unwrap();
    });
    let run = || {
        let server = world.clone(&["-n", "2", "-D", "golden6"]);
        let nodes = [world.node(1, 160, None), world.node(2, 300, None)].map(Running::end);
        let server = server.end();
        assert_eq!((nodes[0].code, nodes[1].code, server.code), (0, 0, 0), "{}", server.stderr);
        world.is_left_alone();
        server
    };
    let said = run().stderr;
    assert!(said.contains("partition 6 of disk golden is sent with its used blocks, by partclone"), "{said}");
    for i in [1, 2] {
        world.check(i);
        with_partition(&world.lan.path(&format!("disk{i}")), 6, |node| {
            let out = Command::new("ntfscat").args([node, "noise"]).output().unwrap();
            assert!(out.stdout == processes::noise(2 << 20), "{}", String::from_utf8_lossy(&out.stderr));
        });
    }
    // One that partclone cannot read comes with all its bytes.
    let (at, size) = place(&golden, 6);
    let disk = OpenOptions::new().read(true).write(true).open(&golden).unwrap();
    // The second entry of the master file table.
    disk.write_all_at(&processes::noise(1 << 10), at + (17 << 10)).unwrap();
    let said = run().stderr;
    assert!(
        said.contains("partition 6 of disk golden is sent with all its bytes: `partclone.ntfs "),
        "{said}"
    );
    let bytes = |image: &Path, at: u64| {
        let mut bytes = vec![0; size as usize];
        File::open(image).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    let clone = world.lan.path("disk2");
    assert!(bytes(&clone, place(&clone, 6).0) == bytes(&golden, at));
}

#[test]
fn another_system_s_partition_is_kept_and_a_disk_where_it_differs_is_refused() {
    let Some(world) = World::new("dual", 2) else { return };
    let desc = world.lan.path("desc");
    fs::write(
        &desc,
        "table mbr\nkeep data 40\nlinux 100 ext4 mount / bootable\nlinux fill ext4 mount /home\nswap 8\n",
    )
    .unwrap();
    let other = processes::noise(40 << 20);
    for (i, mib) in [(1, 40_usize), (2, 41)] {
        let disk = world.lan.path(&format!("disk{i}"));
        image(&disk, 220);
        let table = world.lan.path("table");
        fs::write(&table, format!("label: dos\nstart=1MiB, size={mib}MiB, type=7\ntype=83\n")).unwrap();
        let table = File::open(table).unwrap();
        let sfdisk = Command::new("sfdisk").arg("--quiet").arg(&disk).stdin(table).status();
        assert!(sfdisk.unwrap().success());
        OpenOptions::new().write(true).open(&disk).unwrap().write_all_at(&other, MIB).unwrap();
    }
    let refused = fs::read(world.lan.path("disk2")).unwrap();
    let server = world.clone(&["-n", "2", "-p", "golden", &desc.display().to_string()]);
    let [kept, differs] = [1, 2].map(|i| world.node_as_it_is(i, None)).map(Running::end);
    let server = server.end();
    assert_eq!((kept.code, differs.code, server.code), (0, 6, 6), "{}{}", kept.stderr, server.stderr);
    assert!(server.stderr.contains("keep data 40"), "{}", server.stderr);
    assert!(fs::read(world.lan.path("disk2")).unwrap() == refused, "the other disk was written");
    let disk = world.lan.path("disk1");
    let mut bytes = vec![0; other.len()];
    File::open(&disk).unwrap().read_exact_at(&mut bytes, MIB).unwrap();
    assert!(bytes == other, "what is kept was written");
    world.inside(&disk, 2, |root| {
        assert_eq!(fs::read(root.join("usr/big")).unwrap(), processes::noise(9 << 20));
    });
    world.inside(&disk, 3, |home| assert!(home.join("lab/tool").exists()));
}

/// Plays a session of three, of which the last one is killed at `stage`.
fn dies_at(world: &World, stage: &str, tool: Option<&str>) {
    let waiting = tool.map(Waiting::at);
    // Slow enough for somebody to die in the midst of it.
    let mut server = world.clone(&["-n", "3", "--rate", "3M"]);
    let others = [world.node(1, 160, None), world.node(2, 160, None)];
    let mut victim = world.node(3, 160, waiting.as_ref().map(|waiting| waiting.dir.path()));
    let number = victim.until("joined")["node"].clone();
    let at = is_at(stage);
    server.until_that("noted", |event| event["node"] == number && at(event));
    if stage == "streaming" {
        let some = |event: &serde_json::Value| event["received"].as_u64() > Some(3 << 20);
        victim.until_that("progress", some);
    }
    let mounted = world.sees(&victim, "root3");
    assert!(mounted || stage == "formatting", "{stage}: nothing is mounted, so nothing can be left");
    victim.signal(Signal::KILL);
    drop(victim);
    waiting.into_iter().for_each(Waiting::go);
    world.has_no_use_of(3);
    for other in others.map(Running::end) {
        assert_eq!(other.code, 0, "{stage}: {}", other.stderr);
    }
    let server = server.end();
    assert_eq!(server.code, 7, "{stage}: {}", server.stderr);
    let said = server.stderr;
    assert!(said.contains(&format!("it was {stage} when it stopped")), "{stage}: {said}");
    assert!(said.contains("  ka-d clone -n 1 --image "), "{stage}: {said}");
    world.check(1);
    world.check(2);
}

#[test]
fn a_node_that_dies_while_it_formats_is_named_and_the_others_are_clones() {
    let Some(world) = World::new("format", 3) else { return };
    dies_at(&world, "formatting", Some("mkfs.ext4"));
}

#[test]
fn a_node_that_dies_while_files_arrive_is_named_and_the_others_are_clones() {
    let Some(world) = World::new("stream", 3) else { return };
    dies_at(&world, "streaming", None);
}

#[test]
fn a_node_that_dies_while_it_is_finished_is_named_and_the_others_are_clones() {
    let Some(world) = World::new("finish", 3) else { return };
    dies_at(&world, "finishing", Some("umount"));
}

#[test]
fn a_node_that_dies_before_the_start_is_named_and_the_others_are_clones() {
    let Some(world) = World::new("gather", 3) else { return };
    let mut server = world.clone(&["-n", "3", "--min-nodes", "2", "--start-after", "2s"]);
    let mut victim = world.node(3, 160, None);
    victim.until("joined");
    victim.signal(Signal::KILL);
    drop(victim);
    server.until("left");
    let others = [world.node(1, 160, None), world.node(2, 160, None)].map(Running::end);
    assert_eq!((others[0].code, others[1].code), (0, 0), "{}", others[0].stderr);
    let server = server.end();
    assert!(server.stderr.contains("it left before the session started (gathering)"), "{}", server.stderr);
    world.check(1);
    world.check(2);
}

#[test]
fn a_finished_clone_starts_from_its_disk_and_one_that_is_none_is_cloned_again() {
    let Some(world) = World::new("already", 2) else { return };
    let mut server = world.clone(&["-n", "2", "--spool", &world.lan.arg("")]);
    // One comes to its end, and cannot leave its file systems; the other one has the session last meanwhile.
    let (fails, waiting) = (world.lan.path("fails"), Waiting::at("umount"));
    fs::create_dir(&fails).unwrap();
    symlink("/bin/false", fails.join("umount")).unwrap();
    let mut failed = world.node(1, 160, Some(&fails));
    let mut waits = world.node(2, 160, Some(waiting.dir.path()));
    let [number, gone] = [&mut waits, &mut failed].map(|node| node.until("joined")["node"].clone());
    let end = failed.until("ended");
    assert_eq!(end["outcome"], "failed", "{end}");
    // The server must have heard of it before the node is killed, or nobody knows how it ended.
    let ended = |event: &serde_json::Value| event["event"] == "ended" && event["node"] == gone;
    server.until_each(vec![&ended, &|event| event["node"] == number && is_at("finishing")(event)]);
    // It relays on, and is started anew: its disk is none of a clone, so it becomes one.
    failed.signal(Signal::KILL);
    drop(failed);
    world.has_no_use_of(1);
    let mut clone = world.node_as_it_is(1, None);
    let number = clone.until("joined")["node"].clone();
    let end = server.until_that("ended", |event| event["node"] == number);
    assert_eq!(end["outcome"], "ok", "{end}");
    clone.signal(Signal::KILL);
    drop(clone);
    // Once more: its own disk says that it is one. It joins nothing, and nothing is written.
    world.has_no_use_of(1);
    let before = fs::read(world.lan.path("disk1")).unwrap();
    let already = world.node_as_it_is(1, None).end();
    assert_eq!(already.code, 4, "{}", already.stderr);
    assert!(already.stderr.contains("is a clone of this session already"), "{}", already.stderr);
    assert!(already.events("joined").is_empty() && !already.stderr.contains("NOT A CLONE"));
    assert!(fs::read(world.lan.path("disk1")).unwrap() == before, "the disk was written");
    world.check(1);
    waiting.go();
    drop(waits.end());
    let server = server.end();
    let report = json(&world.lan.path("report"));
    let outcomes = report["nodes"].as_array().unwrap().iter().map(|node| node["outcome"].as_str().unwrap());
    let failed = outcomes.clone().filter(|outcome| *outcome == "failed").count();
    assert_eq!((failed, outcomes.filter(|outcome| *outcome == "ok").count()), (1, 2), "{}", server.stderr);
    // In another session it is a machine like any other.
    let server = world.clone(&["-n", "1"]);
    let again = world.node_as_it_is(1, None).end();
    assert_eq!((again.code, server.end().code), (0, 0), "{}", again.stderr);
}

#[test]
fn who_claims_another_machine_s_network_card_keeps_it_out_of_nothing() {
    const VICTIM: &str = "52:54:00:12:34:56";
    let Some(world) = World::new("cards", 2) else { return };
    world.hosts.on(2, &format!("link set eth0 address {VICTIM}"));
    world.hosts.on(1, &format!("link add eth1 address {VICTIM} type veth peer name unplugged"));
    let mut server = world.clone(&["-n", "2"]);
    let liar = world.node(1, 160, None);
    server.until("joined");
    let victim = world.node(2, 160, None);
    let (liar, victim, server) = (liar.end(), victim.end(), server.end());
    assert_eq!((liar.code, victim.code, server.code), (0, 0, 0), "{}{}", victim.stderr, server.stderr);
    world.check(2);
    // Neither is taken for the other, and people are told: as the second one comes, and at the end.
    let words = format!("node 1 claims the network card {VICTIM}, too");
    assert!(server.stderr.contains(&format!("warning: node 2: {words}")), "{}", server.stderr);
    let doubt = "2 of 2 nodes OK, ";
    let headline = server.stderr.lines().find(|line| line.contains(doubt)).unwrap();
    assert!(
        headline.ends_with("; 2 nodes claim each other's network cards, and may be fewer machines"),
        "{headline}"
    );
    for node in json(&world.lan.path("report"))["nodes"].as_array().unwrap() {
        let remarks = node["remarks"].to_string();
        assert!(remarks.contains(&format!("claims the network card {VICTIM}, too")), "{remarks}");
    }
}

#[test]
fn the_command_that_tries_again_works() {
    let Some(world) = World::new("again", 2) else { return };
    let mut server = world.clone(&["-n", "2", "--rate", "3M"]);
    let (first, mut victim) = (world.node(1, 160, None), world.node(2, 160, None));
    server.until_that("noted", is_at("streaming"));
    victim.until_that("progress", |event| event["received"].as_u64() > Some(1 << 20));
    victim.signal(Signal::KILL);
    drop(victim);
    assert_eq!(first.end().code, 0);
    let said = server.end().stderr;
    let again = said
        .lines()
        .rev()
        .find_map(|line| line.find("ka-d clone -n 1").map(|at| &line[at..]))
        .expect("a command");
    // As an admin would: through a shell, with what is in the environment anyway.
    let programs = Path::new(env!("CARGO_BIN_EXE_ka-d")).parent().unwrap();
    let mut shell = world.lan.clone_command(&[]);
    let environment: Vec<_> =
        shell.get_envs().map(|(k, v)| (k.to_owned(), v.map(|v| v.to_owned()))).collect();
    shell = Command::new("sh");
    shell.args(["-c", &format!("exec {}", again)]);
    for (name, value) in environment {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    let server = world.hosts.start(0, &world.lan, &shell);
    let node = world.node(2, 160, None).end();
    let server = server.end();
    assert_eq!((node.code, server.code), (0, 0), "{}{}", node.stderr, server.stderr);
    world.check(2);
}

#[test]
fn an_interrupted_golden_node_is_as_it_was() {
    let Some(world) = World::new("stop", 1) else { return };
    for (stage, signal) in [
        ("", Signal::INT),
        ("formatting", Signal::INT),
        ("streaming", Signal::TERM),
        ("streaming", Signal::KILL),
    ] {
        let waiting = (stage == "formatting").then(|| Waiting::at("mkfs.ext4"));
        let mut server = world.clone(&["-n", "1", "--rate", "3M"]);
        let mut node = None;
        if stage.is_empty() {
            server.until("open");
        } else {
            node = Some(world.node(1, 160, waiting.as_ref().map(|waiting| waiting.dir.path())));
            server.until_that("noted", is_at(stage));
        }
        server.signal(signal);
        waiting.into_iter().for_each(Waiting::go);
        let end = server.end();
        assert_eq!(end.code, if signal == Signal::KILL { -1 } else { 8 }, "{stage}: {}", end.stderr);
        world.is_left_alone();
        // A node without a server gives up after a minute and a half; nothing is to be learned from that here.
        drop(node);
    }
}

#[test]
fn a_secret_or_a_spool_in_what_is_cloned_is_refused_unless_it_is_left_out() {
    let Some(world) = World::new("secret", 0) else { return };
    let root = world.lan.path("mounted");
    fs::create_dir(&root).unwrap();
    let at = root.display().to_string();
    with_partition(Path::new(&world.golden), 1, |node| {
        Here.write(&Call::new("mount", [node, &at])).unwrap();
        let run = |args: &[&str]| {
            let mut command = world.lan.clone_command(&[&["--root", &at, "--dry-run"], args].concat());
            let out = command.env_remove("KA_IDENTITY").env_remove("KA_KEY_FILE").output().unwrap();
            (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
        };
        let at = |path: &str| root.join(path).display().to_string();
        let (identity, own, spool) = (at("srv/id"), at("etc/ka/identity"), at("srv/spool"));
        let all = [
            (run(&["--identity", &identity]), Some("this server's secrets")),
            (run(&["--identity", &identity, "-x", "/srv"]), None),
            (run(&["--identity", &own]), None),
            (run(&["--insecure", "--spool", &spool]), Some("packed into itself")),
            (run(&["--insecure", "--spool", &spool, "-x", "/srv"]), None),
            (run(&["--insecure", "--spool", &at("srv")]), None),
        ];
        Here.write(&Call::new("umount", [at("")])).unwrap();
        for (number, ((code, said), refused)) in all.into_iter().enumerate() {
            let right = refused.map_or(code == Some(0), |why| code == Some(1) && said.contains(why));
            assert!(right, "{number}: {code:?} {said}");
        }
    });
}

#[test]
fn logs_that_cannot_be_kept_are_not_promised() {
    let Some(world) = World::new("logs", 0) else { return };
    let nowhere = format!("{}/logs", world.golden);
    let mut command = world.lan.clone_command(&["--image", &world.golden, "--log-dir", &nowhere]);
    let mut server = world.lan.start(&mut command);
    server.until_says("warning: the nodes' logs are not kept");
    server.until_says("is open");
    server.signal(Signal::INT);
    let end = server.end();
    assert!(end.code == 8 && !end.stderr.contains("logs are in"), "{}", end.stderr);
}

#[test]
fn what_cannot_be_cloned_is_said_before_anything_starts() {
    let Some(world) = World::new("bad", 0) else { return };
    let run = |args: &[&str]| {
        let mut command = world.lan.clone_command(args);
        let out = command.stdin(Stdio::null()).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let golden = ["--image", &world.golden];
    let (code, said) = run(&[&golden[..], &["--dry-run"]].concat());
    assert!(code == Some(0) && said.contains("clones boot: by BIOS") && said.contains("/home"), "{said}");
    let (code, said) = run(&[&golden[..], &["--dry-run", "--json"]].concat());
    let plan: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!((code, plan["plan"]["version"].as_u64()), (Some(0), Some(1)));
    for (args, word) in [
        (&["-x", "/nowhere"][..], "/nowhere"),
        (&["-X", "sdz"], "sdz"),
        (&["-D", "golden1"], "golden1"),
        (&["-p", "golden", "/nonexistent"], "/nonexistent"),
        (&["-r", "lilo"], "lilo"),
    ] {
        let (code, said) = run(&[&golden[..], args].concat());
        assert!(code == Some(1) && said.contains(word), "{args:?}: {said}");
    }
    let (code, said) = run(&["--image", "/nonexistent"]);
    assert!(code == Some(1) && said.contains("/nonexistent"), "{said}");
    world.is_left_alone();
}

/// The golden node's commands, and those that make a machine a clone, the clone's own included.
#[test]
fn no_command_of_a_clone_has_the_key() {
    let Some(world) = World::new("env", 1) else { return };
    let tools = world.lan.path("tools");
    fs::create_dir(&tools).unwrap();
    for tool in ["tar", "sfdisk", "mkfs.ext4", "mount", "blkid"] {
        let script = format!(
            "#!/bin/sh\nenv >>{}/seen-{tool}\nPATH=${{PATH#*:}} exec {tool} \"$@\"\n",
            tools.display()
        );
        fs::write(tools.join(tool), script).unwrap();
        fs::set_permissions(tools.join(tool), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let mut server = world.lan.clone_command(&["--image", &world.golden, "-n", "1"]);
    let server = world.hosts.start(0, &world.lan, server.env("PATH", path));
    let node = world.node(1, 160, Some(&tools)).end();
    assert_eq!((node.code, server.end().code), (0, 0), "{}", node.stderr);
    for tool in ["tar", "sfdisk", "mkfs.ext4", "mount", "blkid"] {
        let seen = fs::read_to_string(tools.join(format!("seen-{tool}"))).unwrap();
        assert!(!seen.contains("KA_KEY"), "{tool}: {seen}");
    }
}
