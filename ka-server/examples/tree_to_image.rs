//! A cloning tool of its own on ka's engines: it puts a directory tree on the image of a disk, and makes another image a
//! clone of that one, over the protocol. Read it from top to bottom.
//!
//! `cargo run --release -p ka-server --example tree_to_image -- TREE CLONE.img` (as root)
//!
//! A real tool has the golden node on one machine and the nodes on others: what is done here by one process in `clone`,
//! and what is done in `install`.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use ka_client::install::{self, install};
use ka_core::crypto::session_key::Key;
use ka_core::net::{ClientConfig, Control, Ports, ServerEvent};
use ka_core::types::SessionName;
use ka_desc::language::parse;
use ka_desc::machine::{DeviceName, Machine, Named};
use ka_desc::run::Here;
use ka_desc::{private, write};
use ka_server::clone::{self, System, clone, ready};
use ka_server::serve::Progress;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// The bytes of both disks.
const DISK_BYTES: u64 = 256 << 20;

/// What is on them.
const DESC: &str = "disk golden\ntable mbr\nlinux fill ext4 label golden mount / bootable\n";

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [tree, image] = args.as_slice() else { return Err("usage: tree_to_image TREE CLONE.img".into()) };
    // What is mounted from here on is seen by nobody else, and goes with this process: before there is a second thread.
    private::enter()?;
    let work = env::temp_dir().join(format!("tree_to_image-{}", std::process::id()));
    fs::create_dir(&work)?;
    let done = make_golden(tree.as_ref(), &work).and_then(|()| make_clone(image.as_ref(), &work));
    fs::remove_dir_all(&work)?;
    done
}

/// Partitions and formats an image, and copies the tree into it.
fn make_golden(tree: &Path, work: &Path) -> Result<(), Failed> {
    let (golden, mounted) = (work.join("golden"), work.join("mounted"));
    File::create(&golden)?.set_len(DISK_BYTES)?;
    fs::create_dir(&mounted)?;
    let desc = parse(DESC)?;
    let (machine, options) = (Machine::default(), write::Options::default());
    let disk = write::prepare(&machine, &mut Here, (desc.disks[0].clone(), golden, Vec::new()), &options)?;
    let disks = [disk];
    write::apply(&machine, &mut Here, &disks, &options, &mut |step| println!("golden image: {step}"))?;
    write::mount(&machine, &mut Here, &disks, &mounted)?;
    let copied = Command::new("cp").arg("--archive").arg(tree.join(".")).arg(&mounted).status()?;
    // A golden node is a system: it says itself what is mounted where.
    let fstab = mounted.join("etc/fstab");
    if !fstab.exists() {
        fs::create_dir_all(mounted.join("etc"))?;
        fs::write(fstab, "LABEL=golden / ext4 defaults 0 1\n")?;
    }
    write::unmount(&machine, &mut Here, &mounted)?;
    if copied.success() { Ok(()) } else { Err("cp could not copy the tree".into()) }
}

/// Serves the golden image to one node, which makes the other image a clone of it.
fn make_clone(image: &Path, work: &Path) -> Result<(), Failed> {
    File::create(image)?.set_len(DISK_BYTES)?;
    // Node and server share this host, so loopback is enough to ask on.
    let session = SessionName::new(format!("tree-to-image-{}", std::process::id()))?;
    let ports = Ports { interfaces: vec!["lo".into()], ..Ports::default() };

    let mut golden = clone::Config::new(System::Image(work.join("golden")));
    golden.session.session = Some(session.clone());
    golden.session.ports = ports.clone();
    golden.log_dir = Some(work.join("logs"));
    // Everything that can be known before a session is open.
    let looked = ready(&golden).map_err(|problems| problems[0].to_string())?;
    println!("{}", looked.show(false));

    let node = install::Config {
        disks: vec![Named {
            name: Some("golden".into()),
            value: DeviceName::parse(&image.display().to_string())?,
        }],
        root: work.join("root"),
        ..install::Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (keys, mut key) = unbounded_channel();
        let (_control, inbox) = Control::new();
        let server = clone(golden, looked, inbox, move |progress| show(&progress, &keys));
        let clone = async {
            // Nodes get in by the session's key. Elsewhere an admin brings it to them.
            let key = key.recv().await.ok_or("the session was not opened")?;
            let client = ClientConfig {
                session: Some(session),
                key: Some(key),
                wait: true,
                label: "image".into(),
                ports,
                ..ClientConfig::default()
            };
            let told = |progress: install::Progress<'_>| match progress {
                install::Progress::Log(text) | install::Progress::Changed(text) => println!("node: {text}"),
                install::Progress::Stage(stage) => println!("node: now {stage}"),
                _ => {}
            };
            install(node, client, Control::new(), told).await.map_err(Failed::from)
        };
        let (report, installed) = tokio::join!(server, clone);
        let (report, installed) = (report?, installed?);
        println!("server: {} bytes, all nodes are clones: {}", report.session.bytes, report.session.is_ok());
        report.remarks.iter().for_each(|remark| println!("server: {remark}"));
        if report.session.is_ok() && installed.is_ok() {
            Ok(())
        } else {
            Err(format!("not a clone: {installed:?}").into())
        }
    })
}

/// Shows what happens on the golden node, and passes on the session's key.
fn show(progress: &Progress<'_>, keys: &UnboundedSender<Key>) {
    match progress {
        Progress::Remark(text) => println!("server: {text}"),
        Progress::Session(ServerEvent::Open { key, .. }) => drop(keys.send(key.clone())),
        _ => {}
    }
}
