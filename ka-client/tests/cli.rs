//! The command line of `ka-d-client`: what it understands, and what it says when it does not.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ka_client::cli::receive::{self, Options};
use ka_core::crypto::session_key::Key;
use ka_core::net::Host;

fn parse(args: &[&str]) -> Options {
    let all = [&["ka-d-client"], args].concat();
    Options::parse(all.into_iter().map(OsString::from)).unwrap()
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ka-d-client")).env("KA_INSECURE", "1").args(args).output().unwrap()
}

#[test]
fn the_definition_is_sound() {
    Options::command().debug_assert();
}

#[test]
fn the_command_lines_of_2001() {
    let options = parse(&["-w", "-s", "kainstall1", "-e", "(cd /x && tar xf -)"]);
    assert!(options.wait && !options.go);
    assert_eq!(options.join.session.as_ref().unwrap().as_str(), "kainstall1");
    assert_eq!(options.output(), receive::Output::Command("(cd /x && tar xf -)".into()));

    let options = parse(&["-h", "10.0.0.1", "-e", "cat", "-p", "4000", "-P", "4001"]);
    let config = options.join.client(Key::insecure(), "pc05".into(), options.wait);
    assert_eq!(config.server, Some(Ipv4Addr::new(10, 0, 0, 1).into()));
    assert_eq!((config.ports.control, config.ports.data), (Some(4000), Some(4001)));
    assert_eq!(config.session, None);
    assert_eq!(config.label, "pc05");

    assert!(parse(&["-g", "-s", "kainstall1"]).go);
}

#[test]
fn what_came_since() {
    let options = parse(&[
        "--session=x",
        "--host=::1",
        "--output=f",
        "--window=64M",
        "--interface=eth0",
        "--interface=eth1",
        "--port-range=4000-4010",
        "--discover-timeout=30",
        "--discovery-port=5000",
        "--report=r",
        "--json",
    ]);
    let config = options.join.client(Key::insecure(), String::new(), options.wait);
    assert_eq!(options.output(), receive::Output::File("f".into()));
    assert_eq!(config.window_bytes, Some(64 << 20));
    assert_eq!(config.ports.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.ports.range, 4000..=4010);
    assert_eq!(config.ports.discovery, 5000);
    assert_eq!(config.discover_timeout, Some(Duration::from_secs(30)));
    assert_eq!(options.join.tell.report.as_deref(), Some(Path::new("r")));
    assert!(options.join.tell.json && config.session.is_some() && config.server.is_some());
}

#[test]
fn what_is_not_said_has_a_default() {
    let options = parse(&["-s", "x", "--output", "-"]);
    let config = options.join.client(Key::insecure(), String::new(), options.wait);
    assert_eq!(options.output(), receive::Output::Stdout);
    assert_eq!(config.discover_timeout, Some(Duration::from_secs(300)));
    assert_eq!((config.window_bytes, config.ports.control, config.ports.data), (None, None, None));
    assert_eq!(config.ports.range, 30764..=31275);
    assert_eq!(config.ports.discovery, 4957);
}

#[test]
fn a_host_may_have_a_name() {
    let options = parse(&["-h", "localhost", "-e", "cat"]);
    assert_eq!(options.join.host, Some(Host::Name("localhost".into())), "resolved when it is looked for");
}

#[test]
fn a_wrong_command_line_says_which_option_and_what_would_be_right() {
    let long = "x".repeat(65);
    let e = ["-e", "cat"];
    let wrong: &[(&[&str], &[&str])] = &[
        (&e, &["--session <NAME>", "-h HOST"]),
        (&["-s", "x", "-e", "cat", "--output", "f"], &["--exec", "--output", "cannot be used with"]),
        (&["-s", "x", "--json", "--output", "-"], &["--json", "--output -", "standard output"]),
        (&["-s", "x", "--json", "--output", "/dev/stdout"], &["--json", "--output -", "standard output"]),
        (
            &["-s", "x", "--report", "/dev/fd/1", "--output", "-"],
            &["--report", "--output -", "standard output"],
        ),
        (&["-s", "", "-e", "cat"], &["--session", "at least one character"]),
        (&["-s", &long, "-e", "cat"], &["--session", "at most 64 bytes"]),
        (&["-s", "a\u{7}", "-e", "cat"], &["--session", "no control characters"]),
        (&["-h", "golden:30765", "-e", "cat"], &["--host", "neither an address nor a name", "--port"]),
        (&["-s", "x", "-e", "cat", "-p", "0"], &["--port", "'0'", "1 to 65535"]),
        (&["-s", "x", "-e", "cat", "-P", "70000"], &["--data-port", "'70000'", "1 to 65535"]),
        (&["-s", "x", "-e", "cat", "--port-range", "9-5"], &["--port-range", "write it 5-9"]),
        (&["-s", "x", "-e", "cat", "--port-range", "9"], &["--port-range", "30764-31275"]),
        (&["-s", "x", "-e", "cat", "--window", "1000K"], &["--window", "'1000K'", "at least 1 MiB"]),
        (&["-s", "x", "-e", "cat", "--window", "big"], &["--window", "'big'", "64M"]),
        (&["-s", "x", "-e", "cat", "--discover-timeout", "0"], &["--discover-timeout", "longer than 0"]),
        (&["-s", "x", "-e", "cat", "--discover-timeout", "soon"], &["--discover-timeout", "5m"]),
        (&["-s", "x", "-g", "-w"], &["--go", "--wait", "cannot be used with"]),
        (&["-s", "x", "-e", "cat", "--no-such-option"], &["--no-such-option"]),
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
fn the_default_sink_needs_its_directory() {
    if Path::new("/tmp/stage2").exists() {
        return;
    }
    let output = run(&["-s", "x"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("/tmp/stage2") && said.contains("--exec") && said.contains("--output"), "{said}");
    assert!(parse(&["-g", "-s", "x"]).go, "which unpacks nothing");
}

#[test]
fn help_and_version_are_no_errors() {
    let help = run(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert_eq!(help.status.code(), Some(0));
    assert!(text.contains("-h, --host <HOST>") && text.contains("3  no server was found"), "{text}");
    for flag in ["-v", "-V", "--version"] {
        let version = run(&[flag]);
        assert_eq!(version.status.code(), Some(0));
        assert_eq!(version.stdout, concat!("ka-d-client ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    }
}

#[test]
fn packagers_get_a_man_page_and_completions() {
    let man = run(&["--man"]);
    let text = String::from_utf8_lossy(&man.stdout);
    assert_eq!(man.status.code(), Some(0));
    assert!(text.contains(".SH \"EXIT STATUS\"") && text.contains("ka\\-d\\-client"), "{text}");
    let bash = run(&["--completions", "bash"]);
    assert!(String::from_utf8_lossy(&bash.stdout).contains("--discover-timeout"));
}

#[test]
fn a_wrong_path_is_known_before_the_session_is_joined() {
    for option in ["--output", "--report"] {
        let output =
            run(&["-s", "x", option, "/nonexistent/f", if option == "--report" { "-ecat" } else { "-w" }]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("/nonexistent/f.part"), "{said}");
    }
}
