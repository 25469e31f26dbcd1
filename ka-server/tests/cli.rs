//! The command line of `ka-d-server`: what it understands, and what it says when it does not.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use ka_server::cli::server::{Options, Source};

fn parse(args: &[&str]) -> Options {
    let all = [&["ka-d-server"], args].concat();
    Options::parse(all.into_iter().map(OsString::from)).unwrap()
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ka-d-server")).args(args).output().unwrap()
}

#[test]
fn the_definition_is_sound() {
    Options::command().debug_assert();
}

#[test]
fn the_command_lines_of_2001() {
    let options = parse(&["-s", "kainstall1", "-n", "2", "-e", "(cd /dir && tar c *)"]);
    let config = options.session.config();
    assert_eq!(options.source(), Source::Command("(cd /dir && tar c *)".into()));
    assert_eq!(config.session.unwrap().as_str(), "kainstall1");
    assert_eq!((config.nodes, config.fan_out), (2, 1));

    let config = parse(&["-a", "2", "-d", "10", "-l", "-p", "4000", "-P", "4001"]).session.config();
    assert_eq!(config.fan_out, 2);
    assert_eq!(config.release_delay, Duration::from_secs(1));
    assert_eq!((config.ports.control, config.ports.data), (Some(4000), Some(4001)));
}

#[test]
fn what_came_since() {
    let options = parse(&[
        "--session=x",
        "--nodes=5",
        "--source=f",
        "--fan-out=3",
        "--min-nodes=2",
        "--start-after=10m",
        "--window=64M",
        "--rate=400mbit",
        "--control-socket=/run/ka",
        "--interface=eth0",
        "--port-range=4000-4010",
        "--discovery-port=5000",
        "--report=r",
        "--json",
    ]);
    let config = options.session.config();
    assert_eq!(options.source(), Source::File("f".into()));
    assert_eq!((config.nodes, config.fan_out, config.min_nodes), (5, 3, 2));
    assert_eq!(config.start_after, Some(Duration::from_secs(600)));
    assert_eq!(config.window_bytes, Some(64 << 20));
    assert_eq!(config.rate, Some(50_000_000));
    assert_eq!(config.ports.interfaces, ["eth0"]);
    assert_eq!((config.ports.range, config.ports.discovery), (4000..=4010, 5000));
}

#[test]
fn what_is_not_said_has_a_default() {
    let options = parse(&[]);
    let config = options.session.config();
    let everything = "(cd /; tar --create --one-file-system --sparse --anchored --exclude=/etc/ka /)";
    assert_eq!(options.source(), Source::Command(everything.into()));
    assert_eq!((config.nodes, config.fan_out, config.min_nodes), (1, 1, 1));
    assert_eq!(config.release_delay, Duration::ZERO);
    assert!(config.session.is_none() && config.start_after.is_none() && config.rate.is_none());
    assert_eq!(parse(&["--source", "-"]).source(), Source::Stdin);
}

#[test]
fn a_wrong_command_line_says_which_option_and_what_would_be_right() {
    let long = "x".repeat(65);
    let wrong: &[(&[&str], &[&str])] = &[
        (&["-n", "0"], &["--nodes", "'0'", "1 to 65536 nodes"]),
        (&["-n", "65537"], &["--nodes", "'65537'", "1 to 65536 nodes"]),
        (&["-n", "many"], &["--nodes", "'many'", "1 to 65536 nodes"]),
        (&["-a", "0"], &["--arity", "'0'", "1 to 64"]),
        (&["-a", "65"], &["--arity", "'65'", "1 to 64"]),
        (&["-d", "-1"], &["-1"]),
        (&["-d", "99999"], &["--delay", "'99999'", "0 to 36000"]),
        (&["-s", ""], &["--session", "at least one character"]),
        (&["-s", &long], &["--session", "at most 64 bytes"]),
        (&["-s", "a\nb"], &["--session", "no control characters"]),
        (&["-p", "0"], &["--port", "'0'", "1 to 65535"]),
        (&["--discovery-port", "x"], &["--discovery-port", "'x'", "1 to 65535"]),
        (&["--port-range", "5-0"], &["--port-range", "1 to 65535"]),
        (&["--window", "1K"], &["--window", "'1K'", "at least 1 MiB"]),
        (&["--window", "64"], &["--window", "'64'", "write 64M for 64 MiB, or 64B if"]),
        (&["--rate", "10"], &["--rate", "'10'", "write 10M for 10 MiB/s, or 10B if"]),
        (&["--rate", "100Mb"], &["--rate", "'100Mb'", "100mbit for bits"]),
        (&["--min-rate", "5"], &["--min-rate", "'5'", "write 5M for 5 MiB/s, or 5B if"]),
        (&["--rate", "0"], &["--rate", "'0'", "leave it out"]),
        (&["--rate", "fast"], &["--rate", "'fast'", "50M", "400mbit"]),
        (&["--start-after", "later"], &["--start-after", "'later'", "5m"]),
        (&["--min-nodes", "1"], &["--start-after"]),
        (&["-n", "2", "--min-nodes", "3", "--start-after", "5m"], &["--min-nodes 3", "--nodes 2", "raise"]),
        (&["-e", "cat", "--source", "f"], &["--exec", "--source", "cannot be used with"]),
        (&["stray"], &["'stray'"]),
    ];
    for (args, expected) in wrong {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(expected.iter().all(|e| said.contains(e)), "{args:?} said: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    let missing = "/nonexistent/f";
    for option in ["--source", "--spool", "--report", "--control-socket"] {
        let source: &[&str] = if option == "--source" { &[] } else { &["--source", "/dev/null"] };
        let output = run(&[&[option, missing], source].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(missing) && said.contains("No such file or directory"), "{said}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let help = run(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert_eq!(help.status.code(), Some(0));
    assert!(text.contains("fan-out"), "{text}");
    assert!(text.contains("5  the source failed"), "{text}");
    for flag in ["-v", "-V", "--version"] {
        let version = run(&[flag]);
        assert_eq!(version.status.code(), Some(0));
        assert_eq!(version.stdout, concat!("ka-d-server ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    }
}

#[test]
fn packagers_get_a_man_page_and_completions() {
    let man = run(&["--man"]);
    let text = String::from_utf8_lossy(&man.stdout);
    assert_eq!(man.status.code(), Some(0));
    assert!(text.contains(".SH \"EXIT STATUS\"") && text.contains("ka\\-d\\-server"), "{text}");
    let zsh = run(&["--completions", "zsh"]);
    assert!(String::from_utf8_lossy(&zsh.stdout).contains("--control-socket"));
}

#[test]
fn a_spool_takes_the_place_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (here, new) = (dir.path().join("here"), dir.path().join("new"));
    fs::write(&here, "precious").unwrap();
    let [here_arg, new_arg] = [&here, &new].map(|path| path.to_str().unwrap());
    for (args, name, why) in [
        (["--spool", here_arg, "--source", "/dev/null"], here_arg, "it exists already"),
        (["--spool", "/dev/null", "--source", "/dev/null"], "/dev/null", "it exists already"),
        (["--spool", new_arg, "--source", "/nonexistent/f"], "/nonexistent/f", "No such file or directory"),
    ] {
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(name) && said.contains(why), "{said}");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!((left, fs::read(&here).unwrap()), (vec!["here".into()], b"precious".into()));
    }
}

#[test]
fn ka_d_clone_makes_a_key_on_a_machine_that_is_no_golden_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (identity, key) = (path("identity"), path("key"));
    let root = path("no-system");
    let made = Command::new(env!("CARGO_BIN_EXE_ka-d"))
        .args(["clone", "--root", &root, "--identity", &identity, "--make-key", &key])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(!fs::read_to_string(&key).unwrap().is_empty());
}
