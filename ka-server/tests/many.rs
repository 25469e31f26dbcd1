//! Two hundred clients on one host, found by the session's name, in one chain.

mod processes;

use std::fs;

use processes::{Lan, json, noise};

const CLIENTS: usize = 200;

/// So many of them keep what they got: 200 times 16 MiB is much for a disk.
const KEEP: usize = 4;

#[test]
fn two_hundred_clients_on_one_host() {
    let lan = Lan::new();
    let bytes = noise((16 << 20) + 12_345);
    let input = lan.arg("in");
    fs::write(&input, &bytes).unwrap();
    let n = CLIENTS.to_string();
    let args = ["-n", &n, "--source", &input, "--window", "1M", "--report", &lan.arg("report.json")];
    let server = lan.server(&args);
    // The others compare bit for bit as it comes.
    let compares = format!("cmp - {input}");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| match n * KEEP % CLIENTS {
            0 => lan.client(&["--window", "1M", "--output", &lan.arg(&format!("out{n}"))]),
            _ => lan.client(&["--window", "1M", "-e", &compares]),
        })
        .collect();
    for (n, client) in clients.into_iter().enumerate() {
        let end = client.end();
        assert_eq!(end.code, 0, "client {n}: {}{}", end.stdout, end.stderr);
    }
    let end = server.end();
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(end.stderr.contains("200 of 200 nodes OK"), "{}", end.stderr);

    let kept: Vec<_> = lan.names().into_iter().filter(|name| name.starts_with("out")).collect();
    assert_eq!(kept.len(), KEEP);
    for name in kept {
        assert!(fs::read(lan.path(&name)).unwrap() == bytes, "{name}");
    }
    let report = json(&lan.path("report.json"));
    assert_eq!((&report["ok"], &report["bytes"]), (&true.into(), &bytes.len().into()));
    let nodes = report["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), CLIENTS);
    for node in nodes {
        assert_eq!((&node["outcome"], &node["bytes"]), (&"ok".into(), &bytes.len().into()), "{node}");
        // Only a node's own receipt says that.
        assert!(node["counters"]["evicted"].as_u64().unwrap() >= 15 << 20, "{node}");
    }
}
