//! The main job on one machine: a golden tree goes through a real session, over loopback, to three nodes; then
//! every copy is compared with the original, file by file and byte by byte.
//!
//! `cargo run --release --example clone_tree [TREE [FOLDER]]` clones `TREE` (`/usr/share`) into `FOLDER/node-1` to
//! `FOLDER/node-3` (a new folder among the temporary files, removed again).
// A program may read a clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ka_core::key::Key;
use ka_core::net::{
    ClientConfig, Control, NodeEnd, Ports, ServerConfig, ServerEvent, ServerKey, Stream, join, serve,
};
use ka_core::proto::Event;
use ka_core::stream::{CommandSink, CommandSource, Sink};
use ka_core::types::{NodeId, SessionName};

const NODES: u32 = 3;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let tree = args.next().unwrap_or_else(|| "/usr/share".into());
    let (folder, keep) = match args.next() {
        Some(folder) => (folder, true),
        None => (std::env::temp_dir().join(format!("ka-clone-{}", std::process::id())), false),
    };
    let result = clone(&tree, &folder).await;
    if !keep {
        let _ = fs::remove_dir_all(&folder);
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("clone_tree: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn clone(tree: &Path, folder: &Path) -> Result<(), Failure> {
    let golden = fs::canonicalize(tree).map_err(|e| format!("{}: {e}", tree.display()))?;
    let session = SessionName::new(format!("clone-tree-{}", std::process::id()))?;
    let ports = Ports { interfaces: vec!["lo".into()], ..Ports::default() };
    eprintln!("cloning {} to {NODES} nodes in {}", golden.display(), folder.display());

    let began = Instant::now();
    // Who may join, and by what nodes know the server.
    let key = ServerKey::generate()?;
    let server = tokio::spawn(golden_node(session.clone(), key.clone(), golden.clone(), ports.clone()));
    let mut nodes = Vec::new();
    for i in 1..=NODES {
        let target = folder.join(format!("node-{i}"));
        fs::create_dir_all(&target).map_err(|e| format!("{}: {e}", target.display()))?;
        nodes.push((
            target.clone(),
            tokio::spawn(node(session.clone(), key.key().clone(), target, ports.clone())),
        ));
    }
    let mut targets = Vec::new();
    for (target, node) in nodes {
        let end = node.await??;
        eprintln!("{}: {}, {} MiB", end.node, end.outcome, end.received.0 >> 20);
        targets.push((target, end));
    }
    let report = server.await??;
    if !report.is_ok() {
        return Err("not every node is OK".into());
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{} MiB to each of {NODES} nodes in {seconds:.1} s; comparing", report.bytes >> 20);

    let original = listing(&golden)?;
    for (target, end) in targets {
        let copy = listing(&target)?;
        if let Some(path) = difference(&original, &copy) {
            return Err(format!("{}: {} differs from the original", end.node, path.display()).into());
        }
        let mut files = 0;
        for (path, entry) in &original {
            if let Entry { kind: 'f', .. } = entry {
                if !same_bytes(&golden.join(path), &target.join(path))? {
                    return Err(format!("{}: the bytes of {} differ", end.node, path.display()).into());
                }
                files += 1;
            }
        }
        println!(
            "{}: {} entries and the bytes of {files} files are the original's",
            end.node,
            original.len()
        );
    }
    Ok(())
}

/// The golden node: packs the tree, and shows how far the slowest node is.
async fn golden_node(
    session: SessionName,
    key: ServerKey,
    golden: PathBuf,
    ports: Ports,
) -> Result<ka_core::proto::Report, Failure> {
    let pack = format!("tar -C {} -cf - .", quoted(&golden));
    let source = Box::new(CommandSource::spawn(&pack)?);
    let stream = Stream { name: "tree".into(), metadata: Vec::new(), source };
    let config = ServerConfig {
        session: Some(session),
        key: Some(key),
        nodes: NODES,
        ports,
        ..ServerConfig::default()
    };
    let mut far = BTreeMap::new();
    let show = move |event: ServerEvent| match event {
        ServerEvent::Session(Event::Joined { node, addr, ready, expected, .. }) => {
            eprintln!("{node} at {addr} is in: {ready} of {expected}");
        }
        ServerEvent::Session(Event::Progress { node, progress }) if node != NodeId::ROOT => {
            far.insert(node, progress.sunk.0 >> 20);
            let each: Vec<_> = far.iter().map(|(n, mib)| format!("{n}: {mib} MiB")).collect();
            eprintln!("{}", each.join(", "));
        }
        _ => {}
    };
    let (_control, inbox) = Control::new();
    Ok(serve(config, vec![stream], inbox, show).await?)
}

/// One node: unpacks what arrives.
async fn node(session: SessionName, key: Key, target: PathBuf, ports: Ports) -> Result<NodeEnd, Failure> {
    let config = ClientConfig {
        session: Some(session),
        key: Some(key),
        discover_timeout: Some(Duration::from_secs(10)),
        ports,
        ..ClientConfig::default()
    };
    let unpack = format!("tar -C {} -xpf -", quoted(&target));
    let open = move |_: &_| {
        CommandSink::spawn(&unpack).map(|s| Box::new(s) as Box<dyn Sink>).map_err(|e| e.to_string())
    };
    let (_control, inbox) = Control::new();
    Ok(join(config, open, inbox, |_| ()).await?)
}

/// A path as a word of the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// What a tree's entry is, besides its bytes.
#[derive(PartialEq)]
struct Entry {
    kind: char,
    mode: u32,
    size: u64,
    mtime: i64,
    target: Option<PathBuf>,
}

/// Every entry of a tree by its path in it.
fn listing(root: &Path) -> Result<BTreeMap<PathBuf, Entry>, Failure> {
    let mut entries = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            let kind = match meta.file_type() {
                t if t.is_dir() => 'd',
                t if t.is_symlink() => 'l',
                t if t.is_file() => 'f',
                t if t.is_fifo() => 'p',
                _ => '?',
            };
            if kind == 'd' {
                folders.push(path.clone());
            }
            let described = Entry {
                kind,
                mode: meta.mode(),
                size: if kind == 'd' { 0 } else { meta.size() },
                mtime: meta.mtime(),
                target: (kind == 'l').then(|| fs::read_link(&path)).transpose()?,
            };
            entries.insert(path.strip_prefix(root)?.to_path_buf(), described);
        }
    }
    Ok(entries)
}

/// The first path that is not the same in both.
fn difference<'a>(a: &'a BTreeMap<PathBuf, Entry>, b: &'a BTreeMap<PathBuf, Entry>) -> Option<&'a Path> {
    let missing = a.iter().find(|(path, entry)| b.get(*path) != Some(entry));
    let extra = b.iter().find(|(path, _)| !a.contains_key(*path));
    missing.or(extra).map(|(path, _)| path.as_path())
}

fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (fs::File::open(a)?, fs::File::open(b)?);
    let (mut x, mut y) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = a.read(&mut x)?;
        if n == 0 {
            return Ok(b.read(&mut y)? == 0);
        }
        b.read_exact(&mut y[..n])?;
        if x[..n] != y[..n] {
            return Ok(false);
        }
    }
}
