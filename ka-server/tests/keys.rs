//! Who is let in, and what the others are told.

mod processes;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use processes::{Lan, Running, codes, json, noise};

/// A user of no name.
const SOMEBODY: u32 = 1 << 30;

/// Waits for the key that a server prints.
fn printed_key(server: &mut Running) -> String {
    let line = server.until_says("the nodes' key is ");
    let key = line.split("the nodes' key is ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    assert!(line.ends_with(&format!("in a boot entry: ka.key={key}")), "{line}");
    key
}

#[test]
fn a_node_needs_one_word_more() {
    let lan = Lan::new().without_keys();
    let bytes = noise(300_000);
    fs::write(lan.path("golden"), &bytes).unwrap();
    let mut server = lan.server(&["--source", &lan.arg("golden"), "--json", "--report", &lan.arg("report")]);
    let key = printed_key(&mut server);
    let client = lan.client(&["--key", &key, "--output", &lan.arg("clone"), "--json"]);
    let (client, server) = (client.end(), server.end());
    assert_eq!((client.code, server.code), (0, 0), "{}{}", client.stderr, server.stderr);
    assert!(fs::read(lan.path("clone")).unwrap() == bytes);
    let open = &server.events("open")[0];
    assert_eq!(open["secure"], true);
    // A part of it is too much, too.
    for told in [client.stdout, client.stderr, server.stdout, json(&lan.path("report")).to_string()] {
        assert!(key.split('-').all(|group| !told.contains(group)), "{told}");
    }
}

#[test]
fn who_has_no_key_or_a_mistyped_one_is_told_so_at_once() {
    let lan = Lan::new().without_keys();
    let output = lan.arg("clone");
    let told = |args: &[&str]| {
        let end = lan.client(&[args, &["--output", &output]].concat()).end();
        (end.code, end.stderr)
    };
    let (code, words) = told(&[]);
    assert_eq!(code, 2);
    assert!(
        words.contains("--key") && words.contains("--insecure") && words.contains("KA_INSECURE=1"),
        "{words}"
    );
    let (code, words) = told(&["--key", "00000-00000-00000-00000-00000-00000-00000-00000-00000-00000"]);
    assert_eq!(code, 2);
    assert!(words.contains("mistyped in group 1 of 10"), "{words}");
    let (code, words) = told(&["--key-file", &lan.arg("none")]);
    assert_eq!(code, 2);
    assert!(words.contains("none: No such file"), "{words}");
    assert!(!lan.path("clone").exists());
}

#[test]
fn who_has_another_key_is_refused_at_once_and_changes_nothing() {
    let lan = Lan::new();
    fs::write(lan.path("golden"), noise(1000)).unwrap();
    let mut server = lan.server(&["--source", &lan.arg("golden"), "--json"]);
    let port = server.until("open")["control_port"].to_string();
    let other = Lan::new().without_keys();
    let mut elsewhere = other.server(&["--source", &lan.arg("golden")]);
    let key = printed_key(&mut elsewhere);
    let strangers = lan.beside().without_keys();
    let strangers_of_the_session = |lan: &Lan, args: &[&str]| {
        let mut command = lan.client_command(args);
        lan.start(command.env_remove("KA_KEY_FILE").env_remove("KA_IDENTITY")).end()
    };
    let output = lan.arg("stolen");
    for (args, says) in
        [(["--key", key.as_str()].as_slice(), "does not know this key"), (&["--insecure"], "a key")]
    {
        let args = [args, &["-h", "127.0.0.1", "-p", &port, "--output", &output]].concat();
        let mut stranger = strangers.client(&args);
        let end = stranger.end_within(Duration::from_secs(20)).expect("it is refused");
        assert_eq!(end.code, 4, "{}", end.stderr);
        assert!(end.stderr.contains(says), "{}", end.stderr);
    }
    // One that looks by name may have come before its server: it is told, and goes on looking.
    let args = ["--key", &key, "--output", &output, "--discover-timeout", "3s"];
    let end = strangers_of_the_session(&lan, &args);
    assert_eq!(end.code, 4, "{}", end.stderr);
    let told = |words| end.stderr.matches(words).count();
    // While it looks, for each address of the server, and at the end.
    assert!(told("does not know this key") >= 2 && told("no server has answered") == 1, "{}", end.stderr);
    assert!(!lan.path("stolen").exists());
    let member = lan.client(&["--output", &lan.arg("clone")]);
    assert_eq!((member.end().code, server.end().code), (0, 0));
}

#[test]
fn a_key_that_was_made_for_an_identity_is_good_for_its_sessions_only() {
    let lan = Lan::new().without_keys();
    fs::write(lan.path("golden"), noise(1000)).unwrap();
    let [id, key, other] = ["id", "key", "other"].map(|name| lan.arg(name));
    for (id, key) in [(&id, &key), (&other, &lan.arg("of-other"))] {
        let made = lan.server(&["--identity", id, "--make-key", key]).end();
        assert_eq!(made.code, 0, "{}", made.stderr);
    }
    let source = lan.arg("golden");
    let end = lan.server(&["--source", &source, "--identity", &other, "--key-file", &key]).end();
    assert_eq!(end.code, 1);
    assert!(end.stderr.contains("is not of the identity in"), "{}", end.stderr);

    let server = lan.server(&["--source", &source, "--identity", &id, "--key-file", &key]);
    let client = lan.client(&["--key-file", &key, "--output", &lan.arg("clone")]);
    let server = server.end();
    assert_eq!((client.end().code, server.code), (0, 0));
    assert!(!server.stderr.contains("key is"), "{}", server.stderr);

    // The same identity with a new key: the old one has expired.
    let mut server = lan.server(&["--source", &source, "--identity", &id, "--json"]);
    let port = server.until("open")["control_port"].to_string();
    let late =
        lan.client(&["-h", "127.0.0.1", "-p", &port, "--key-file", &key, "--output", &lan.arg("late")]);
    let late = late.end();
    assert_eq!(late.code, 4);
    assert!(late.stderr.contains("copy the one it printed when this session was opened"), "{}", late.stderr);
}

#[test]
fn without_security_both_sides_say_so() {
    let lan = Lan::new().insecure();
    fs::write(lan.path("golden"), noise(1000)).unwrap();
    let server = lan.server(&["--source", &lan.arg("golden"), "--json"]);
    let client = lan.client(&["--output", &lan.arg("clone")]).end();
    let server = server.end();
    assert_eq!((client.code, server.code), (0, 0));
    assert!(client.stderr.contains("INSECURE") && server.stderr.contains("INSECURE"));
    assert_eq!(server.events("open")[0]["secure"], false);
}

#[test]
fn no_command_inherits_the_key_or_its_place() {
    let lan = Lan::new();
    let server = lan.server(&["-e", "env", "--spool", &lan.arg("")]);
    let mut client = lan.client_command(&["-e", &format!("env >{0}; cat >>{0}", lan.arg("seen"))]);
    let key = fs::read_to_string(env_of(&client, "KA_KEY_FILE")).unwrap();
    let client = lan.start(client.env_remove("KA_KEY_FILE").env("KA_KEY", key.trim()));
    assert_eq!(codes(vec![client, server]), [0, 0]);
    let seen = fs::read_to_string(lan.path("seen")).unwrap();
    assert_eq!(seen.lines().filter(|line| line.starts_with("PATH=")).count(), 2, "of both: {seen}");
    assert!(!seen.contains("KA_KEY") && !seen.contains(key.trim()), "{seen}");
}

fn env_of(command: &Command, name: &str) -> PathBuf {
    let (_, value) = command.get_envs().find(|(known, _)| *known == name).unwrap();
    value.unwrap().into()
}

/// The kernel gives what is in `/proc/PID` to root where a process may not be traced, read or dumped.
#[test]
fn a_program_with_a_key_belongs_to_nobody_but_root() {
    if !rustix::process::geteuid().is_root() {
        processes::hosts::cannot_run("a_program_with_a_key_belongs_to_nobody_but_root", "it needs root");
        return;
    }
    let lan = Lan::new();
    // Where a user of no name can reach them.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_somebody = |command: &mut Command, args: &[&str]| {
        let program = dir.path().join(Path::new(command.get_program()).file_name().unwrap());
        fs::copy(command.get_program(), &program).unwrap();
        let mut own = Command::new(program);
        own.args(command.get_args()).args(args).env("KA_INSECURE", "1").uid(SOMEBODY).gid(SOMEBODY);
        lan.start(own.env_remove("KA_KEY_FILE").stdout(Stdio::piped()).stderr(Stdio::piped()))
    };
    let mut server = as_somebody(&mut lan.server_command(&[]), &["-e", "sleep 1000", "--json"]);
    server.until("open");
    let mut client = as_somebody(&mut lan.client_command(&[]), &["--output", "/dev/stdout", "-w"]);
    client.until_says("joined");
    for process in [server.process().number(), client.process().number()] {
        let about = fs::metadata(format!("/proc/{process}/environ")).unwrap();
        assert_eq!(about.uid(), 0, "process {process}");
    }
}
