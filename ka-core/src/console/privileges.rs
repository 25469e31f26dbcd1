//! A session apart: what talks to the network runs on a thread that may do little else.
//!
//! ```text
//!   main thread      signals, view, report                 ┐ may what the program may
//!   `ka-threads`  ─▶ `ka-source`, `ka-sink`, `ka-again`,   ┘
//!                    `ka-resolve`
//!   `ka-session`     sockets, messages, keys, the relay      nobody's rights, no file system
//! ```
//!
//! On Linux a thread may have fewer rights than its process. This is a second wall, not the first: threads share their
//! memory, and whoever could run code of his own in one of them would find a way into the others.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use rustix::process::geteuid;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use tokio::sync::oneshot;

use crate::net::{Threads, Work};

/// The number of the user and the group `nobody`, on every Linux.
const NOBODY: u32 = 65_534;

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

/// Gives up what the present thread does not need.
fn confine() -> Result<(), String> {
    let said = |what: &str, e: io::Error| format!("{what}: {e}");
    set_no_new_privs(true).map_err(|e| said("no_new_privs", e.into()))?;
    if geteuid().is_root() {
        be_nobody().map_err(|e| said("it cannot be nobody", e))?;
    }
    // A port below 1024 may be asked for.
    let may = capabilities(None).map_err(|e| said("capabilities", e.into()))?;
    let keep = may.permitted & CapabilitySet::NET_BIND_SERVICE;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(|e| said("capabilities", e.into()))?;
    match without_files() {
        Ok(RulesetStatus::NotEnforced) => Err("this kernel has no Landlock".into()),
        Ok(_) => Ok(()),
        Err(e) => Err(format!("Landlock: {e}")),
    }
}

fn be_nobody() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
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
            let here = File::open(&path).is_ok();
            let (tx, rx) = mpsc::channel();
            threads.start("there", move || tx.send(File::open(path).is_ok()).unwrap()).unwrap();
            let readable = ["/proc/meminfo", "/dev/urandom"].map(|path| File::open(path).is_ok());
            (here, rx.recv().unwrap(), readable)
        }));
        assert_eq!(opened.unwrap(), (false, true, [true, true]));
    }
}
