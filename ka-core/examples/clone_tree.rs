//! The main job on one machine: a golden tree goes through a real session, over loopback, to three nodes; then
//! every copy is compared with the original, file by file and byte by byte.
//!
//! `cargo run --release --example clone_tree [TREE [FOLDER]]` clones `TREE` (`/usr/share`) into `FOLDER/node-1` to
//! `FOLDER/node-3` (a new folder among the temporary files, removed again). It needs GNU tar, and no root: it takes
//! what it can read and what there is room for, says what it leaves out, and compares the rest.
// A program may read a clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ka_core::crypto::session_key::Key;
use ka_core::net::{
    ClientConfig, Control, Inbox, NodeEnd, Ports, ServerConfig, ServerEvent, ServerKey, Stream, join, serve,
};
use ka_core::proto::Event;
use ka_core::stream::{CommandSink, CommandSource, Sink, Stop};
use ka_core::types::{NodeId, SessionName};
use tokio::signal::unix::{SignalKind, signal};

const NODES: u32 = 3;

/// The tree that is cloned unless another is named.
const TREE: &str = "/usr/share";

/// So much of it is enough for a first look.
const TREE_BYTES: u64 = 256 << 20;

/// The room of a file or directory besides its bytes, and the unit to which these are rounded up.
const ENTRY_BYTES: u64 = 4096;

/// How many of those that cannot be read are named.
const NAMED: usize = 4;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (tree, folder) = (args.next(), args.next());
    let stop = Stop::new();
    let done = match Folder::new(folder) {
        Ok(folder) => clone(tree, &folder, &stop).await,
        Err(why) => Err(why),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if stop.is_set() => {
            eprintln!("clone_tree: stopped by a signal");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("clone_tree: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn clone(tree: Option<PathBuf>, folder: &Folder, stop: &Stop) -> Result<(), Failure> {
    let (server_control, server_inbox) = Control::new();
    let (controls, inboxes): (Vec<_>, Vec<_>) = (0..NODES).map(|_| Control::new()).unzip();
    tokio::spawn(stop_when_told(stop.clone(), [controls, vec![server_control]].concat()));

    let root = tree.clone().unwrap_or_else(|| TREE.into());
    let root = fs::canonicalize(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    let most = if tree.is_some() { u64::MAX } else { TREE_BYTES };
    let room = folder.room()?.min(most);
    let golden = Tree::read(&root, room, stop)?;
    if golden.entries.is_empty() {
        let folder = folder.path.display();
        return Err(format!(
            "nothing of {} can be read, or {folder} has no room for it; TMPDIR=DIR puts the copies elsewhere",
            root.display()
        )
        .into());
    }
    golden.tell(&folder.path, room);

    let began = Instant::now();
    let session = SessionName::new(format!("clone-tree-{}", std::process::id()))?;
    let ports = Ports { interfaces: vec!["lo".into()], ..Ports::default() };
    // Who may join, and by what nodes know the server.
    let key = ServerKey::generate()?;
    let list = golden.list(&folder.path.join("list"))?;
    let stream = Stream { name: "tree".into(), metadata: Vec::new(), source: Box::new(pack(&root, &list)?) };
    let config = ServerConfig {
        session: Some(session.clone()),
        key: Some(key.clone()),
        nodes: NODES,
        ports: ports.clone(),
        ..ServerConfig::default()
    };
    let server = tokio::spawn(serve(config, vec![stream], server_inbox, shower(golden.bytes)));
    let mut nodes = Vec::new();
    for (inbox, i) in inboxes.into_iter().zip(1..) {
        let target = folder.path.join(format!("node-{i}"));
        fs::create_dir_all(&target).map_err(|e| format!("{}: {e}", target.display()))?;
        let node = node(session.clone(), key.key().clone(), target.clone(), ports.clone(), inbox);
        nodes.push((target, tokio::spawn(node)));
    }
    let mut copies = Vec::new();
    for (target, node) in nodes {
        let end = node.await??;
        eprintln!("{}: {}, {}", end.node, end.outcome, size(end.received.0));
        copies.push((end, target));
    }
    copies.sort_by_key(|(end, _)| end.node);
    let report = server.await??;
    fs::remove_file(list)?;
    if !report.is_ok() {
        return Err("not every node is OK".into());
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{} to each of {NODES} nodes in {seconds:.1} s; comparing", size(report.bytes));
    for (end, target) in copies {
        let files = golden.compare(&Tree::read(&target, u64::MAX, stop)?, stop);
        let files = files.map_err(|why| format!("{}: {why}", end.node))?;
        println!(
            "{}: {} entries and the bytes of {files} files are the original's",
            end.node,
            golden.entries.len()
        );
    }
    Ok(())
}

/// Ends everything in order when somebody stops this program, so that nothing of it is left.
async fn stop_when_told(stop: Stop, controls: Vec<Control>) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    stop.set();
    controls.iter().for_each(|control| control.stop("a signal"));
    Ok(())
}

/// Packs what is listed. The list, and not tar, says what can be read.
fn pack(root: &Path, list: &Path) -> io::Result<CommandSource> {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).args(["--no-recursion", "--null", "-T"]).arg(list).args(["-cf", "-"]);
    CommandSource::run(tar)
}

/// Shows who is in, and at each quarter how far the slowest node is.
fn shower(bytes: u64) -> impl FnMut(ServerEvent) + Send {
    let mut far = BTreeMap::new();
    let mut shown = 0;
    move |event| match event {
        ServerEvent::Session(Event::Joined { node, addr, ready, expected, .. }) => {
            eprintln!("{node} at {addr} is in: {ready} of {expected}");
        }
        ServerEvent::Session(Event::Progress { node, progress }) if node != NodeId::ROOT => {
            far.insert(node, progress.sunk.0);
            let slowest = far.values().min().filter(|_| far.len() == NODES as usize).unwrap_or(&0);
            let quarter = (4 * slowest / bytes.max(1)).min(3);
            if quarter > shown {
                shown = quarter;
                eprintln!("{} % are at all nodes", 25 * quarter);
            }
        }
        _ => {}
    }
}

/// One node: unpacks what arrives.
async fn node(
    session: SessionName,
    key: Key,
    target: PathBuf,
    ports: Ports,
    inbox: Inbox,
) -> Result<NodeEnd, Failure> {
    let config = ClientConfig {
        session: Some(session),
        key: Some(key),
        discover_timeout: Some(Duration::from_secs(10)),
        ports,
        ..ClientConfig::default()
    };
    let open = move |_: &_| {
        let mut tar = Command::new("tar");
        // In a container, root may not give files away.
        tar.arg("-C").arg(&target).args(["--no-same-owner", "-xpf", "-"]);
        CommandSink::run(tar).map(|s| Box::new(s) as Box<dyn Sink>)
    };
    Ok(join(config, open, inbox, |_| ()).await?)
}

/// Where the copies go.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// The one that is named, or a new one among the temporary files that nobody else reads.
    fn new(named: Option<PathBuf>) -> Result<Self, Failure> {
        let keep = named.is_some();
        let path =
            named.unwrap_or_else(|| std::env::temp_dir().join(format!("ka-clone-{}", std::process::id())));
        let made = DirBuilder::new().mode(0o700).recursive(keep).create(&path);
        made.map_err(|e| format!("{}: {e}; TMPDIR=DIR puts the copies elsewhere", path.display()))?;
        Ok(Self { path, keep })
    }

    /// The bytes that each copy may have, entries included: all of them together leave a quarter of what is free.
    fn room(&self) -> io::Result<u64> {
        let free = rustix::fs::statvfs(&self.path)?;
        let bytes = free.f_bavail * free.f_frsize;
        // Some file systems do not count their entries.
        let entries = if free.f_files == 0 { u64::MAX } else { free.f_favail };
        Ok(bytes.min(entries.saturating_mul(ENTRY_BYTES)) / 4 * 3 / u64::from(NODES))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        allow(&self.path);
        if let Err(e) = fs::remove_dir_all(&self.path) {
            eprintln!("clone_tree: {} is left behind: {e}", self.path.display());
        }
    }
}

/// Directories whose modes would not let them be emptied get others.
fn allow(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).for_each(|e| allow(&e.path()));
}

/// What a tree's entry is, besides its bytes.
#[derive(PartialEq)]
struct Entry {
    kind: Kind,
    mode: u32,
    size: u64,
    mtime: i64,
    target: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Folder,
    File,
    Link,
}

/// A tree, as far as it can be read and there is room for it.
struct Tree<'a> {
    root: &'a Path,
    /// By their paths in it.
    entries: BTreeMap<PathBuf, Entry>,
    bytes: u64,
    room: u64,
    unreadable: Vec<String>,
    no_room: usize,
    stop: &'a Stop,
}

impl<'a> Tree<'a> {
    fn read(root: &'a Path, room: u64, stop: &'a Stop) -> Result<Self, Failure> {
        let (entries, unreadable) = (BTreeMap::new(), Vec::new());
        let mut tree = Self { root, entries, bytes: 0, room, unreadable, no_room: 0, stop };
        let top = fs::read_dir(root).map_err(|e| format!("{}: {e}", root.display()))?;
        tree.folder(root, top)?;
        Ok(tree)
    }

    fn folder(&mut self, folder: &Path, entries: fs::ReadDir) -> Result<(), Failure> {
        let mut paths = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => paths.push(entry.path()),
                Err(why) => self.unreadable.push(format!("{}: {why}", folder.display())),
            }
        }
        paths.sort();
        for path in paths {
            if self.stop.is_set() {
                return Err("stopped".into());
            }
            match self.entry(&path) {
                Ok(None) => {}
                Ok(Some(inside)) => self.folder(&path, inside)?,
                Err(why) => self.unreadable.push(format!("{}: {why}", path.display())),
            }
        }
        Ok(())
    }

    /// Takes what can be read; what is in a directory is still to be taken.
    fn entry(&mut self, path: &Path) -> io::Result<Option<fs::ReadDir>> {
        let meta = fs::symlink_metadata(path)?;
        let (kind, size, target, inside) = match meta.file_type() {
            t if t.is_dir() => (Kind::Folder, 0, None, Some(fs::read_dir(path)?)),
            t if t.is_symlink() => (Kind::Link, meta.size(), Some(fs::read_link(path)?), None),
            t if t.is_file() => File::open(path).map(|_| (Kind::File, meta.size(), None, None))?,
            _ => return Err(io::Error::other("neither a file nor a directory nor a link")),
        };
        let bytes = size.next_multiple_of(ENTRY_BYTES) + ENTRY_BYTES;
        if bytes > self.room {
            self.no_room += 1;
            return Ok(None);
        }
        self.room -= bytes;
        self.bytes += size;
        let entry = Entry { kind, mode: meta.mode(), size, mtime: meta.mtime(), target };
        self.entries.insert(path.strip_prefix(self.root).expect("it is below").to_path_buf(), entry);
        Ok(inside)
    }

    /// Says what is cloned, and what is not.
    fn tell(&self, folder: &Path, room: u64) {
        eprintln!(
            "cloning {}, {} in {} entries, to {NODES} nodes in {}",
            self.root.display(),
            size(self.bytes),
            self.entries.len(),
            folder.display()
        );
        for line in self.unreadable.iter().take(NAMED) {
            eprintln!("left out: {line}");
        }
        if self.unreadable.len() > NAMED {
            eprintln!("left out: {} more that cannot be read", self.unreadable.len() - NAMED);
        }
        if self.no_room > 0 {
            let (more, room) = (self.no_room, size(room));
            eprintln!("left out: {more} more, and what is below them: each copy gets at most {room}");
        }
    }

    /// Writes the list that tar reads.
    fn list(&self, path: &Path) -> io::Result<PathBuf> {
        let mut text = Vec::new();
        for path in self.entries.keys() {
            text.extend([b"./", path.as_os_str().as_bytes(), b"\0"].concat());
        }
        fs::write(path, text)?;
        Ok(path.into())
    }

    /// How many files of a copy have the original's bytes: all of them.
    fn compare(&self, copy: &Tree<'_>, stop: &Stop) -> Result<usize, Failure> {
        let missing = self.entries.iter().find(|(path, entry)| copy.entries.get(*path) != Some(entry));
        let extra = copy.entries.keys().find(|path| !self.entries.contains_key(*path));
        if let Some(path) = missing.map(|(path, _)| path).or(extra) {
            return Err(format!("{} differs from the original", path.display()).into());
        }
        if let Some(line) = copy.unreadable.first() {
            return Err(line.clone().into());
        }
        let mut files = 0;
        for (path, _) in self.entries.iter().filter(|(_, entry)| entry.kind == Kind::File) {
            if stop.is_set() {
                return Err("stopped".into());
            }
            if !same_bytes(&self.root.join(path), &copy.root.join(path))? {
                return Err(format!("the bytes of {} differ", path.display()).into());
            }
            files += 1;
        }
        Ok(files)
    }
}

/// For people.
fn size(bytes: u64) -> String {
    if bytes < 10 << 20 { format!("{} KiB", bytes.div_ceil(1 << 10)) } else { format!("{} MiB", bytes >> 20) }
}

fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
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
