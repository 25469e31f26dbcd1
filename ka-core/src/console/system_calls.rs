//! System calls that a session's thread never makes, and is refused from then on.
//!
//! The list says what is forbidden, not what is allowed: which calls a library makes for the same purpose differs by libc,
//! its version and the kernel, and a session must not fail for that. A forbidden call fails as one that the kernel does not
//! know (`ENOSYS`): libraries that try a new call first fall back to the old one, and nothing is killed.
//!
//! Absent: what takes a capability that the thread has not anyway (clocks, `reboot`, `kexec`).

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// The system calls that the thread never makes.
const FORBIDDEN: &[i64] = &[
    // Other programs: to start, to signal, to trace, to read.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Another view of the machine.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Its flags are in memory, where a filter cannot read them. Without it, libraries take `clone`.
    libc::SYS_clone3,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Files, where Landlock does not look.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_utimensat,
    // Programs and modules for the kernel, and large parts of it.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    libc::SYS_syslog,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// The flags that `clone` must not be given: namespaces of its own.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// The first call of x86-64's other binary interface, x32, which a few kernels know; and which of them have numbers
/// of their own.
#[cfg(target_arch = "x86_64")]
const X32: (i64, std::ops::Range<i64>) = (0x4000_0000, 512..548);

/// From now on the present thread, and each that it starts, is refused what is forbidden.
///
/// # Errors
/// The kernel has no filter of system calls, or nobody knows the numbers of this machine's.
pub(super) fn forbid() -> Result<(), Error> {
    let arch = TargetArch::try_from(ARCH)?;
    let forbidden = SeccompAction::Errno(libc::ENOSYS as u32);
    let program: BpfProgram =
        SeccompFilter::new(rules()?, SeccompAction::Allow, forbidden, arch)?.try_into()?;
    apply_filter(&program)
}

/// The numbers of the calls, and with which arguments they are forbidden; without a rule, with any.
fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, Error> {
    let mut rules: BTreeMap<_, _> = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(FORBIDDEN.iter().copied().chain(X32.1).map(|call| (X32.0 | call, Vec::new())));
    let namespace = |flag: libc::c_int| {
        let flag = flag as u32 as u64;
        let asked = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
        SeccompRule::new(vec![asked])
    };
    rules.insert(libc::SYS_clone, NAMESPACES.into_iter().map(namespace).collect::<Result<_, _>>()?);
    // A program that aborts signals itself.
    let own = u64::from(process::id());
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, own)?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![other])?]);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::{self, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;
    use std::thread;

    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, getpid, pidfd_open, test_kill_process};
    use rustix::system::sethostname;

    use super::*;

    #[test]
    fn what_is_forbidden_fails_and_all_else_goes_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let confined = thread::spawn(move || {
            if let Err(why) = forbid() {
                let _ = writeln!(io::stderr(), "test {} cannot run here: {why}", module_path!());
                return;
            }
            let unknown = Some(libc::ENOSYS);
            let started = Command::new("true").status().expect_err("no program starts");
            assert_eq!(started.raw_os_error(), unknown);
            let changed = fs::set_permissions(&path, Permissions::from_mode(0o700)).expect_err("no mode");
            assert_eq!(changed.raw_os_error(), unknown);
            assert_eq!(test_kill_process(getpid()), Err(Errno::NOSYS));
            assert_eq!(pidfd_open(getpid(), PidfdFlags::empty()).err(), Some(Errno::NOSYS));
            // What is not on the list is the kernel's to decide: here, that the name is too long.
            assert_ne!(sethostname(&[b'x'; 100]), Err(Errno::NOSYS));

            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let heard = thread::spawn(move || io::read_to_string(listener.accept().unwrap().0).unwrap());
            TcpStream::connect(addr).unwrap().write_all(b"said").unwrap();
            assert_eq!(heard.join().unwrap(), "said");
            // Threads that it starts are no freer.
            assert!(thread::spawn(|| Command::new("true").status().is_err()).join().unwrap());
        });
        confined.join().unwrap();
        assert!(Command::new("true").status().unwrap().success(), "other threads are as free as before");
    }
}
