//! A session apart: what talks to the network runs on a thread that may do little else.
//!
//! ```text
//!   main thread      signals, view, report                 ┐ may what the program may
//!   `ka-threads`  ─▶ `ka-source`, `ka-sink`, `ka-again`,   ┘
//!                    `ka-resolve`
//!   `ka-session`     sockets, messages, keys, the relay      a user of its own, no rights, no file system,
//!                                                            not all system calls
//! ```
//!
//! On Linux a thread may have fewer rights than its process. This is a second wall, not the first: threads share their
//! memory, and whoever could run code of his own in one of them would find a way into the others.

use std::future::Future;
use std::sync::mpsc;
use std::{fs, io, process, thread};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use tokio::sync::oneshot;

use super::system_calls;
use crate::net::{Threads, Work};

/// The number of the user and the group `nobody`, on every Linux. Other programs may be that, too, and signal each other.
const NOBODY: u32 = 65_534;

/// The first of the numbers that no system gives to users, services or containers: 0x70000000 to 0x7FFDFFFF, by systemd's
/// `UIDS-GIDS`.
const UNUSED: u32 = 0x7000_0000;

/// More than any process has as its number on Linux.
const PROCESSES: u32 = 1 << 22;

/// As many numbers as there are for each process.
const NUMBERS: u32 = (0x7FFE_0000 - UNUSED) / PROCESSES;

/// The paths that a session reads: how much memory there is, how fast the interfaces are, and random numbers, which a
/// static program gets from the device.
const READABLE: [&str; 4] = ["/proc", "/sys", "/dev/random", "/dev/urandom"];

/// Runs a session on a thread of its own. `start` gets what starts threads with the rights that this one has, and what
/// the system could not take from the session, in words.
///
/// Dropping the future gives the session up.
///
/// # Errors
/// The system gives no thread.
pub async fn session<T, F>(start: impl FnOnce(Threads, Option<String>) -> F + Send + 'static) -> io::Result<T>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let threads = threads()?;
    let (tx, end) = oneshot::channel();
    let (_held, given_up) = oneshot::channel::<()>();
    thread::Builder::new().name("ka-session".into()).spawn(move || {
        let too_many =
            confine().err().map(|why| format!("the session runs with more rights than it needs: {why}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _ = tx.send(runtime.map(|runtime| {
            let end = runtime.block_on(async {
                tokio::select! {
                    end = start(threads, too_many) => Some(end),
                    _ = given_up => None,
                }
            });
            runtime.shutdown_background();
            end
        }));
    })?;
    let gone = || io::Error::other("the session's thread has ended");
    end.await.map_err(|_| gone())??.ok_or_else(gone)
}

/// Threads that have the rights of the present one.
fn threads() -> io::Result<Threads> {
    type Order = (&'static str, Work, mpsc::SyncSender<io::Result<()>>);
    let (orders, rx) = mpsc::channel::<Order>();
    thread::Builder::new().name("ka-threads".into()).spawn(move || {
        for (name, work, done) in rx {
            let _ = done.send(thread::Builder::new().name(name.into()).spawn(work).map(drop));
        }
    })?;
    Ok(Threads::new(move |name, work| {
        let gone = || io::Error::other("nobody starts threads any more");
        let (done, started) = mpsc::sync_channel(1);
        orders.send((name, work, done)).map_err(|_| gone())?;
        started.recv().map_err(|_| gone())?
    }))
}

/// Gives up what the present thread does not need; what the system does not let go of, in words.
fn confine() -> Result<(), String> {
    let steps = [
        set_no_new_privs(true).map_err(|e| format!("no_new_privs: {e}")),
        if geteuid().is_root() { be_nobody() } else { Ok(()) },
        without_capabilities().map_err(|e| format!("capabilities: {e}")),
        match without_files() {
            Ok(RulesetStatus::NotEnforced) => Err("this kernel has no Landlock".into()),
            Ok(_) => Ok(()),
            Err(e) => Err(format!("Landlock: {e}")),
        },
        system_calls::forbid().map_err(|e| format!("a filter of system calls: {e}")),
    ];
    let kept: Vec<String> = steps.into_iter().filter_map(Result::err).collect();
    if kept.is_empty() { Ok(()) } else { Err(kept.join("; ")) }
}

/// A port below 1024 may be asked for.
fn without_capabilities() -> Result<(), Errno> {
    let may = capabilities(None)?;
    let keep = may.permitted & CapabilitySet::NET_BIND_SERVICE;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
}

/// Becomes a user that no other process is, so that none but root's may signal or trace this thread.
fn be_nobody() -> Result<(), String> {
    let file = |path| fs::read_to_string(path).unwrap_or_default();
    let own = number(process::id(), &[&file("/etc/passwd"), &file("/etc/group")]);
    let kept = match be(own) {
        // In a container, not all numbers are to be had.
        Err(Errno::INVAL) => match be(NOBODY) {
            Ok(()) => Err("it is `nobody`, as other programs may be that could end it".into()),
            Err(e) => Err(format!("it cannot be another user: {e}")),
        },
        Err(e) => Err(format!("it cannot be another user: {e}")),
        Ok(()) => Ok(()),
    };
    // A change of user makes a setting of the system count, by which it may be dumped.
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    kept.and(dumpable.map_err(|e| format!("it can be dumped: {e}")))
}

fn be(number: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// The number of a user and a group that no other process has: the process's own, behind those that are in use
/// everywhere. One that a table of users or groups has is passed over.
fn number(process: u32, tables: &[&str]) -> u32 {
    let all = (0..NUMBERS).map(|n| UNUSED + n * PROCESSES + process % PROCESSES);
    // `name:password:number:` begins a line of both tables.
    let is_in = |number: u32, table: &str| {
        table.lines().any(|line| line.split(':').nth(2).and_then(|text| text.parse().ok()) == Some(number))
    };
    let mut unused = all.filter(|number| !tables.iter().any(|table| is_in(*number, table)));
    unused.next().unwrap_or(NOBODY)
}

/// From now on this thread opens no file, but to read a few.
fn without_files() -> Result<RulesetStatus, RulesetError> {
    let abi = ABI::V5;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(READABLE, AccessFs::from_read(abi)))?
        .restrict_self()?;
    Ok(status.ruleset)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn each_process_has_a_user_of_its_own() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nodd\nsomebody:x:1879048199:100::/:\n";
        let group = "users:x:100:\nothers:x:1883242503:somebody\n";
        assert_eq!(number(7, &[]), 0x7000_0007);
        assert_eq!(number(8, &[passwd, group]), 0x7000_0008);
        assert_eq!(number(7, &[passwd, group]), 0x7080_0007, "both are passed over");
        assert!((0..9).all(|n| number(PROCESSES - 1 - n, &[]) < 0x7FFE_0000));
        let every: String = (0..NUMBERS).map(|n| format!("x:x:{}:\n", UNUSED + n * PROCESSES + 7)).collect();
        assert_eq!(number(7, &[&every]), NOBODY);
    }

    #[test]
    fn a_session_opens_no_file_and_the_threads_it_starts_do() {
        if let Err(why) = thread::spawn(confine).join().unwrap() {
            let _ = writeln!(io::stderr(), "test {} cannot run here: {why}", module_path!());
            return;
        }
        // For its owner only.
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let opened = runtime.block_on(session(move |threads, _| async move {
            assert_eq!(rustix::process::test_kill_process(rustix::process::getpid()), Err(Errno::NOSYS));
            let here = File::open(&path).is_ok();
            let (tx, rx) = mpsc::channel();
            threads.start("there", move || tx.send(File::open(path).is_ok()).unwrap()).unwrap();
            let readable = ["/proc/meminfo", "/dev/urandom"].map(|path| File::open(path).is_ok());
            (here, rx.recv().unwrap(), readable)
        }));
        assert_eq!(opened.unwrap(), (false, true, [true, true]));
    }
}
