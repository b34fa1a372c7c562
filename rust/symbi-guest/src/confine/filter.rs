//! System calls: what there is, and what of it is refused.
//!
//! Two filters, because three answers are needed. The first knows every call that a Python with threads, sqlite3, ssl
//! and numpy makes; what it does not know (new calls, the x32 numbers) does not exist: `ENOSYS`, on which libraries
//! fall back. The second refuses with `EPERM` what is known and not allowed, also by its arguments. A call of another
//! architecture kills the process.
//!
//! Not here: paths (`view`) and limits (`process`). Decision with what was tried: docs/adr/0031-degraded-tier.md.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::output::Stop;

/// What exists. Neither process nor namespace nor socket is made by any of these, once `refused` has taken its part.
#[rustfmt::skip]
const KNOWN: &[c_long] = &[
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_close, libc::SYS_close_range,
    libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_lseek, libc::SYS_mmap, libc::SYS_mprotect,
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_mincore, libc::SYS_msync, libc::SYS_mlock,
    libc::SYS_munlock, libc::SYS_brk, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending, libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigsuspend, libc::SYS_sigaltstack,
    libc::SYS_restart_syscall, libc::SYS_ioctl, libc::SYS_fcntl, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,
    libc::SYS_flock, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_fallocate,
    libc::SYS_ftruncate, libc::SYS_fadvise64, libc::SYS_readahead, libc::SYS_getdents64, libc::SYS_getcwd,
    libc::SYS_chdir, libc::SYS_fchdir, libc::SYS_renameat2, libc::SYS_mkdirat, libc::SYS_unlinkat,
    libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_faccessat2,
    libc::SYS_umask, libc::SYS_openat, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_copy_file_range,
    libc::SYS_sendfile, libc::SYS_splice, libc::SYS_tee, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_ppoll, libc::SYS_pselect6,
    libc::SYS_timerfd_create, libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime, libc::SYS_signalfd4,
    libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq,
    libc::SYS_membarrier, libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime,
    libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_getitimer, libc::SYS_setitimer,
    libc::SYS_timer_create, libc::SYS_timer_settime, libc::SYS_timer_gettime, libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete, libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid,
    libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getgroups, libc::SYS_getresuid, libc::SYS_getresgid,
    libc::SYS_getpgid, libc::SYS_getsid, libc::SYS_getrusage, libc::SYS_uname, libc::SYS_sysinfo,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_getparam, libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min, libc::SYS_getpriority, libc::SYS_getcpu,
    libc::SYS_getrandom, libc::SYS_set_tid_address, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_clone,
    libc::SYS_wait4, libc::SYS_waitid, libc::SYS_prlimit64, libc::SYS_prctl, libc::SYS_tgkill,
    libc::SYS_kill, libc::SYS_execveat,
];

/// What only x86-64 has: the calls that later ones replaced.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const KNOWN_HERE: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_poll, libc::SYS_select,
    libc::SYS_pipe, libc::SYS_dup2, libc::SYS_getdents, libc::SYS_readlink, libc::SYS_mkdir, libc::SYS_rmdir,
    libc::SYS_rename, libc::SYS_unlink, libc::SYS_link, libc::SYS_symlink, libc::SYS_epoll_create,
    libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_signalfd, libc::SYS_alarm, libc::SYS_pause, libc::SYS_time,
    libc::SYS_arch_prctl, libc::SYS_getpgrp, libc::SYS_getrlimit, libc::SYS_renameat, libc::SYS_sync_file_range,
];
#[cfg(not(target_arch = "x86_64"))]
const KNOWN_HERE: &[c_long] = &[];

/// Refused whatever the arguments, with `EPERM` so that a program learns that it may not.
#[rustfmt::skip]
const REFUSED: &[c_long] = &[
    // sockets of every family
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept,
    libc::SYS_accept4, libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_recvfrom, libc::SYS_recvmsg,
    libc::SYS_recvmmsg, libc::SYS_setsockopt, libc::SYS_getsockopt, libc::SYS_getsockname, libc::SYS_getpeername,
    libc::SYS_shutdown, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // programs other than the one
    libc::SYS_execve, libc::SYS_memfd_create, libc::SYS_memfd_secret,
    // metadata, which Landlock does not cover
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_setxattr,
    libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_removexattr, libc::SYS_lremovexattr, libc::SYS_fremovexattr,
    libc::SYS_utimensat, libc::SYS_truncate, libc::SYS_mknodat,
    // other processes
    libc::SYS_tkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_ptrace,
    libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise, libc::SYS_process_mrelease,
    libc::SYS_pidfd_open, libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal, libc::SYS_kcmp,
    libc::SYS_setpriority, libc::SYS_ioprio_set, libc::SYS_sched_setaffinity, libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam, libc::SYS_sched_setattr, libc::SYS_setpgid, libc::SYS_setsid, libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // mounts, namespaces, identity
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_fsopen, libc::SYS_fsconfig,
    libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr,
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid,
    libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups,
    libc::SYS_capset, libc::SYS_personality,
    // the kernel
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_add_key, libc::SYS_request_key,
    libc::SYS_keyctl, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct, libc::SYS_quotactl, libc::SYS_syslog,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_settimeofday, libc::SYS_clock_settime,
    libc::SYS_adjtimex, libc::SYS_clock_adjtime, libc::SYS_seccomp, libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self, libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at, libc::SYS_fanotify_init, libc::SYS_fanotify_mark, libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch, libc::SYS_lookup_dcookie, libc::SYS_vhangup, libc::SYS_io_setup, libc::SYS_io_submit,
    // System V and POSIX queues, semaphores, shared memory
    libc::SYS_shmget, libc::SYS_shmat, libc::SYS_shmctl, libc::SYS_semget, libc::SYS_semop, libc::SYS_semtimedop,
    libc::SYS_semctl, libc::SYS_msgget, libc::SYS_msgsnd, libc::SYS_msgrcv, libc::SYS_msgctl, libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS_fork, libc::SYS_vfork, libc::SYS_setrlimit, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime,
    libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_mknod, libc::SYS_creat, libc::SYS_uselib, libc::SYS_inotify_init,
    libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt, libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[libc::SYS_kexec_file_load];

/// Questions about a terminal or a pipe, and making a descriptor non-blocking or closed on exec. The numbers of
/// `asm-generic/ioctls.h`, which x86-64 and aarch64 share.
const IOCTLS: [u64; 7] = [
    0x5401,      // TCGETS
    0x802c_542a, // TCGETS2, which newer C libraries ask
    0x5413,      // TIOCGWINSZ
    0x541b,      // FIONREAD
    0x5421,      // FIONBIO
    0x5450,      // FIONCLEX
    0x5451,      // FIOCLEX
];

/// Of `fcntl`: who gets signals about a descriptor (a way to kill the parent), leases and watches on files.
const FCNTLS: [i32; 5] =
    [libc::F_SETOWN, 15 /* F_SETOWN_EX */, 10 /* F_SETSIG */, libc::F_SETLEASE, libc::F_NOTIFY];

/// Flags of `clone` that make namespaces; a thread needs none of them.
#[rustfmt::skip]
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID, libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS, libc::CLONE_NEWCGROUP,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Installs both filters for this thread and everything after. Nothing can be taken back.
pub(crate) fn install(program: i32) -> Result<(), Stop> {
    let fail = |error: seccompiler::Error| Stop::refused("seccomp.absent", "seccomp", error.to_string());
    for filter in filters(program, std::process::id()).map_err(|error| Stop::internal("seccomp", error))? {
        seccompiler::apply_filter(&filter).map_err(fail)?;
    }
    Ok(())
}

/// First what exists, then what is refused: of two errors the newer filter's is what the program sees.
fn filters(program: i32, own: u32) -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let seccomp = [libc::SYS_seccomp]; // for the second filter, which then refuses it
    let known: Rules = KNOWN.iter().chain(KNOWN_HERE).chain(&seccomp).map(|call| (*call, vec![])).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let known = SeccompFilter::new(known, missing, SeccompAction::Allow, arch)?;
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let refused = SeccompFilter::new(refused(program, own)?, SeccompAction::Allow, denied, arch)?;
    Ok([known.try_into()?, refused.try_into()?])
}

fn refused(program: i32, own: u32) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, vec![])).collect();
    let word = |index: u8, is: Is, value: u64| SeccompCondition::new(index, Length::Dword, is, value);
    let bits = |value: i32| u64::from(value.unsigned_abs());
    let any = |conditions: Vec<SeccompCondition>| {
        conditions.into_iter().map(|one| SeccompRule::new(vec![one])).collect::<Result<Vec<_>, _>>()
    };
    let all = |conditions: Vec<SeccompCondition>| {
        Ok::<_, seccompiler::BackendError>(vec![SeccompRule::new(conditions)?])
    };

    // N2: a thread, or nothing. Flags of namespaces are refused even on a thread.
    let mut clone = vec![word(0, Is::MaskedEq(bits(libc::CLONE_THREAD)), 0)?];
    for flag in NAMESPACES {
        clone.push(word(0, Is::MaskedEq(bits(flag)), bits(flag))?);
    }
    rules.insert(libc::SYS_clone, any(clone)?);
    // N2: the one exec, of a descriptor that no later file can have.
    let exec = vec![word(0, Is::Ne, bits(program))?, word(4, Is::Ne, bits(libc::AT_EMPTY_PATH))?];
    rules.insert(libc::SYS_execveat, any(exec)?);
    // N4: signals to itself only.
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, any(vec![word(0, Is::Ne, u64::from(own))?])?);
    }
    // Limits are read, of itself, and not set. The pointer is 64 bits wide.
    let set = SeccompCondition::new(2, Length::Qword, Is::Ne, 0)?;
    rules.insert(libc::SYS_prlimit64, any(vec![word(0, Is::Ne, 0)?, set])?);
    let mut ioctl = Vec::new();
    for request in IOCTLS {
        ioctl.push(word(1, Is::Ne, request)?);
    }
    rules.insert(libc::SYS_ioctl, all(ioctl)?);
    let mut fcntl = Vec::new();
    for command in FCNTLS {
        fcntl.push(word(1, Is::Eq, bits(command))?);
    }
    rules.insert(libc::SYS_fcntl, any(fcntl)?);
    // A thread's name, and nothing else: not the death signal, not dumpability, not another filter.
    let prctl = vec![word(0, Is::Ne, bits(libc::PR_SET_NAME))?, word(0, Is::Ne, bits(libc::PR_GET_NAME))?];
    rules.insert(libc::SYS_prctl, all(prctl)?);
    // Landlock before version 3 does not see a truncation by a descriptor that is opened for reading.
    let truncate =
        |index: u8| word(index, Is::MaskedEq(bits(libc::O_TRUNC | libc::O_ACCMODE)), bits(libc::O_TRUNC));
    rules.insert(libc::SYS_openat, any(vec![truncate(2)?])?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, any(vec![truncate(1)?])?);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_known_and_refused() {
        for call in KNOWN.iter().chain(KNOWN_HERE) {
            assert!(!REFUSED.contains(call) && !REFUSED_HERE.contains(call), "{call}");
        }
    }

    #[test]
    fn n2_n4_what_would_break_out_is_not_among_the_known_without_a_condition() {
        let conditional = refused(1023, 1).unwrap();
        for call in [
            libc::SYS_clone,
            libc::SYS_execveat,
            libc::SYS_kill,
            libc::SYS_prctl,
            libc::SYS_prlimit64,
            libc::SYS_ioctl,
        ] {
            assert!(KNOWN.contains(&call) && !conditional[&call].is_empty(), "{call}");
        }
        for call in [libc::SYS_clone3, libc::SYS_openat2] {
            assert!(
                !KNOWN.contains(&call) && !REFUSED.contains(&call),
                "{call} must not exist, so that libraries fall back"
            );
        }
    }

    #[test]
    fn both_filters_fit_into_what_the_kernel_takes() {
        const INSTRUCTIONS_MAX: usize = 4096; // BPF_MAXINSNS
        for filter in filters(1023, 1).unwrap() {
            assert!(filter.len() < INSTRUCTIONS_MAX, "{}", filter.len());
        }
    }
}
