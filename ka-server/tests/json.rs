//! `docs/json.md` names every event and every field that programs are told, with its type.
//!
//! Something new is made here, too: the compiler asks for it, and then the page does.

use std::process::Command;
use std::time::Duration;

use facts::Old;
use ka_client::cli::console::json as client;
use ka_core::console::clock::Time;
use ka_core::console::exit::Exit;
use ka_core::console::json::{Counters, Ending, line};
use ka_core::proto::{NodeReport, Report};
use ka_core::time::Instant;
use ka_core::types::{NodeId, Offset, SessionId};
use ka_core::wire::control::{Outcome, Reason};
use ka_desc::language::parse;
use ka_desc::layout::{Geometry, Plan};
use ka_desc::manifest::{GoldenUuid, Install, Part, Raw, Uefi};
use ka_desc::show::json::disk_plan;
use ka_server::cli::console::json as server;
use ka_server::cli::server::{Options, Served};
use ka_server::golden::inspect::open_files::Busy;
use ka_server::golden::plan::scope::LeftOut;
use ka_server::golden::plan::show;
use serde_json::{Value, to_value};

#[allow(dead_code, reason = "the tests of golden nodes need more of it")]
#[path = "golden/facts.rs"]
mod facts;

const PAGE: &str = include_str!("../../docs/json.md");
const SERVER: &str = "Events of ka-d-server and ka-d clone";
const CLIENT: &str = "Events of ka-d-client and ka-d-install";

/// The part of the page below a heading.
fn section(title: &str) -> &'static str {
    let (_, rest) =
        PAGE.split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("a section {title}"));
    rest.split("\n## ").next().unwrap()
}

/// Whether one of these texts has the field, with the type of this value: `` `node` integer ``, or in a table
/// `` | `node` | integer | ``.
fn has(texts: &[&str], field: &str, value: &Value) -> bool {
    let types: &[&str] = match value {
        Value::Null => &["null"],
        Value::Bool(_) => &["boolean"],
        Value::Number(n) if n.is_f64() => &["number"],
        Value::Number(_) => &["integer", "number"],
        Value::String(_) => &["string"],
        Value::Array(_) => &["array"],
        Value::Object(_) => &["object"],
    };
    let named = format!("`{field}`");
    let said = texts.iter().flat_map(|text| text.lines()).flat_map(|line| {
        // In a table several fields may share a type: it stands in the next column.
        let (row, cells) =
            (line.trim().trim_matches('|'), line.split('|').map(str::trim).collect::<Vec<_>>());
        let column = cells.iter().position(|cell| cell.split(", ").any(|name| name == named));
        let beside = column.and_then(|at| cells.get(at + 1).copied());
        let behind = row.split(named.as_str()).skip(1).map(str::trim_start);
        beside.into_iter().chain(behind).collect::<Vec<_>>()
    });
    let mut said = said.map(|text| text.split([';', ':', ',', '(', ')', '|']).next().unwrap_or_default());
    said.any(|text| {
        let mut words = text.split_whitespace();
        let first = words.next().unwrap_or_default();
        let or = words.next() == Some("or");
        let second = words.next().filter(|_| or).unwrap_or_default();
        types.iter().any(|kind| first == *kind || second.trim_end_matches('.') == *kind)
    })
}

/// Holds all fields of a value, and of all within it, against these parts of the page.
fn holds(place: &str, texts: &[&str], value: &Value) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                assert!(
                    has(texts, field, value),
                    "docs/json.md, {place}: add the field `{field}`, whose value may be {value}, with its type"
                );
                holds(place, texts, value);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| holds(place, texts, item)),
        _ => {}
    }
}

/// An event's line against its row.
fn event_holds(title: &str, line: &str, more: &[&str]) {
    let value: Value = serde_json::from_str(line).unwrap();
    let name = value["event"].as_str().unwrap();
    let row = section(title).lines().find(|row| row.starts_with(&format!("| `{name}` |")));
    let row =
        row.unwrap_or_else(|| panic!("docs/json.md, {title}: add a row for the event `{name}`: {line}"));
    let texts = [&[row, section("Every line"), section("How a node ended")], more].concat();
    holds(&format!("{title}, {name}"), &texts, &value);
}

fn server_event(event: &server::Event<'_>, more: &[&str]) {
    // One that is new is to be made below, too.
    match event {
        server::Event::Open { .. }
        | server::Event::Nameless { .. }
        | server::Event::Joined { .. }
        | server::Event::Left { .. }
        | server::Event::Refused { .. }
        | server::Event::Started { .. }
        | server::Event::Linked { .. }
        | server::Event::Stream { .. }
        | server::Event::Progress { .. }
        | server::Event::Suspected { .. }
        | server::Event::Returned { .. }
        | server::Event::Rerouted { .. }
        | server::Event::Idle { .. }
        | server::Event::Slow { .. }
        | server::Event::Later { .. }
        | server::Event::Resumed { .. }
        | server::Event::RereadFailed { .. }
        | server::Event::Noted { .. }
        | server::Event::Complete { .. }
        | server::Event::Ended { .. }
        | server::Event::Released { .. }
        | server::Event::Warning { .. }
        | server::Event::Report(_) => {}
    }
    event_holds(
        SERVER,
        &line(event, Duration::from_millis(1500), Time::since_1970(Duration::from_secs(9))),
        more,
    );
}

fn failed() -> Outcome {
    Outcome::Failed(Reason::Lost(NodeId(3), "gone".into()), Offset(7))
}

fn node(id: u32, outcome: Outcome) -> NodeReport {
    NodeReport {
        node: NodeId(id),
        addr: ([10, 0, 0, 4], 30764).into(),
        label: "pc05".into(),
        outcome,
        bytes: 7,
        joined: Instant::ZERO,
        ended: Instant::ZERO,
        counters: ka_core::wire::control::Counters::default(),
    }
}

#[test]
fn what_a_server_says_is_on_the_page() {
    use server::Event;
    let (session, why, text, addr) = ("07".repeat(16), "a reason", "a text", ([10, 0, 0, 4], 30764).into());
    let at = 5;
    let outcome = failed();
    let ending: Ending<'_> = (&outcome).into();
    for event in [
        Event::Open {
            session,
            name: None,
            secure: true,
            encrypted: true,
            control_port: 1,
            data_port: 2,
            window_bytes: 3,
            expected: 4,
        },
        Event::Nameless { addrs: &[std::net::IpAddr::from([10, 0, 0, 1])] },
        Event::Joined { node: 1, addr, label: "pc05", ready: 1, expected: 2 },
        Event::Left { node: 1, ready: 1, expected: 2 },
        Event::Refused { addr, why },
        Event::Started { nodes: 2 },
        Event::Linked { node: 1, parent: 0 },
        Event::Stream { number: 0, name: "files", size: None, estimate: false },
        Event::Stream { number: 0, name: "files", size: Some(9), estimate: true },
        Event::Progress { node: 1, received: 9, sunk: 8 },
        Event::Suspected { node: 1, why },
        Event::Returned { node: 1, at },
        Event::Rerouted { node: 2, from: 1, to: 0, why },
        Event::Idle { node: 1, why },
        Event::Slow { node: 1, why },
        Event::Later { node: 1, at },
        Event::Resumed { node: 1, at },
        Event::RereadFailed { why },
        Event::Noted { node: 1, topic: "stage", text: text.into() },
        Event::Complete { node: 1 },
        Event::Ended { node: 1, ending: ending.clone() },
        Event::Released { node: 1 },
        Event::Warning { text },
    ] {
        server_event(&event, &[]);
    }
    let more = [section("Report of ka-d-server and ka-d clone"), section("Counters")];
    let args = ["ka-d-server", "-e", "tar c .", "-s", "x"].map(Into::into);
    let options = Served::from(Options::parse(args).unwrap());
    let report = Report {
        session: SessionId([7; 16]),
        bytes: 7,
        started: Some(Instant::ZERO),
        ended: Instant::ZERO,
        root: node(0, Outcome::Ok),
        nodes: vec![node(1, failed()), node(2, Outcome::Ok)],
    };
    let day = "2026-07-01T14:05:10.123Z";
    server_event(&Event::Report(&server::Report::of(&report, &options, Exit::Lost, |_| day.into())), &more);
    let none = server::Report::without_session(&options, Exit::NoStart, Some("no port"));
    server_event(&Event::Report(&none), &more);
}

/// The report of a node that was in, or never was.
fn client_report<'a>(session: &str, ending: &Ending<'a>, ok: bool) -> client::Report<'a> {
    client::Report {
        ka: "0.1.0",
        version: 1,
        session: ok.then(|| session.into()),
        name: ok.then_some("x"),
        secure: true,
        ok,
        exit: 0,
        error: (!ok).then(|| "no server".into()),
        node: ok.then_some(1),
        label: "pc05",
        ending: ending.clone(),
        received: 1,
        bytes: 2,
        joined_s: ok.then_some(1.5),
        ended_s: 2.5,
        joined: ok.then(|| "2026-07-01T14:05:10.123Z".into()),
        started: None,
        ended: "2026-07-01T14:05:11.123Z".into(),
        counters: Counters::default(),
    }
}

#[test]
fn what_a_client_says_is_on_the_page() {
    use client::Event;
    let (session, addr) = ("07".repeat(16), std::net::SocketAddr::from(([10, 0, 0, 4], 30764)));
    let outcome = failed();
    let ending: Ending<'_> = (&outcome).into();
    let (good, bad) = (client_report(&session, &ending, true), client_report(&session, &ending, false));
    for event in [
        Event::UnknownKey { addr: addr.ip(), text: "another key".into() },
        Event::OtherName { addr: addr.ip(), text: "another name".into() },
        Event::Trying { text: "no answer".into() },
        Event::Warning { text: "no descriptors" },
        Event::Found { addr },
        Event::Joined {
            node: 1,
            session: session.clone(),
            expected: 2,
            encrypted: true,
            data_port: 3,
            window_bytes: 4,
        },
        Event::Parent { node: 0, addr },
        Event::NoParent,
        Event::Linked,
        Event::Away,
        Event::Back,
        Event::Stream { number: 0, name: "files", size: None, estimate: false },
        Event::Stream { number: 0, name: "files", size: Some(1), estimate: true },
        Event::Progress { received: 1, sunk: 1 },
        Event::Complete,
        Event::Ended(ending.clone()),
        Event::Going { nodes: 2 },
        Event::Report(&good),
        Event::Report(&bad),
    ] {
        // One that is new is to be made above, too.
        let more: &[&str] = match event {
            Event::UnknownKey { .. }
            | Event::OtherName { .. }
            | Event::Trying { .. }
            | Event::Warning { .. }
            | Event::Found { .. }
            | Event::Joined { .. }
            | Event::Parent { .. }
            | Event::NoParent
            | Event::Linked
            | Event::Away
            | Event::Back
            | Event::Stream { .. }
            | Event::Progress { .. }
            | Event::Complete
            | Event::Ended(_)
            | Event::Going { .. } => &[],
            Event::Report(_) => &[section("Report of ka-d-client and ka-d-install"), section("Counters")],
        };
        event_holds(
            CLIENT,
            &line(&event, Duration::from_millis(1500), Time::since_1970(Duration::from_secs(9))),
            more,
        );
    }
}

#[test]
fn what_is_said_instead_of_a_report_is_on_the_page() {
    let args = ["--json", "--source", "/nonexistent"];
    let out = Command::new(env!("CARGO_BIN_EXE_ka-d-server")).args(args).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with(r#"{"event":"error""#), "{text}");
    [SERVER, CLIENT].iter().for_each(|title| event_holds(title, &text, &[]));
}

#[test]
fn plans_are_on_the_page() {
    let text = "esp 512 label EFI uuid 1A2B-3C4D mount /boot/efi options umask=0077\n\
        linux fill btrfs name x partuuid 8D3F2C1E-5B6A-4C7D-9E8F-0A1B2C3D4E5F\n subvol @ mount / options nodev\n";
    let desc = parse(text).unwrap();
    let geometry = Geometry { disk_bytes: 10 << 30, sector_bytes: 512 };
    let plan = Plan::new(&desc.disks[0], geometry, None).unwrap();
    let old = Old::new();
    let found = old.golden.disks[0].found.as_ref();
    let of_disks = [section("ka-desc plan --json")];
    for (name, device, found) in [(Some("a"), Some("/dev/sda".to_owned()), found), (None, None, None)] {
        holds("ka-desc plan --json", &of_disks, &to_value(disk_plan(name, device, &plan, found)).unwrap());
    }

    let mut planned = old.plan("-n 1 -m sda").unwrap();
    let part = Part { disk: "sda".into(), number: 1 };
    planned.plan.uuids.push(GoldenUuid { part: part.clone(), uuid: "1A2B-3C4D".into() });
    planned.plan.raw.push(Raw { part: part.clone(), bytes: 1, fs: Some("ntfs".into()) });
    planned.plan.boot.install = Some(Install { args: vec!["--x".into()] });
    planned.plan.boot.uefi =
        Some(Uefi { esp: part, mount: "/boot/efi".into(), loader: "/x".into(), label: "x".into() });
    planned.left_out.push(LeftOut { what: "/x".into(), why: "y".into() });
    let busy = Busy { databases: vec![("x", "/x".into())], files: vec![("/y".into(), "y".into())], more: 1 };
    let shown: Value = serde_json::from_str(&show::json(&old.golden, &planned, &busy)).unwrap();
    let texts = [section("ka-d clone --dry-run --json"), of_disks[0]];
    holds("ka-d clone --dry-run --json", &texts, &shown);
}
