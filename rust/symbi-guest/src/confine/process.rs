//! Limits, processors, user and capabilities, the parent.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, CpuSet, Gid, Uid};

use super::spec::{Spec, User};
use crate::output::Stop;

/// Where the program's descriptor stands while it is started. Above every limit of open files that can be asked
/// for: it closes as the program starts, and no later descriptor can get its number, so that the one exec that the
/// filter allows, of this number, can never happen again (N2).
pub(crate) const EXEC_DESCRIPTOR: i32 = 1023;

/// Capabilities are numbered from 0; the kernel refuses the first that it does not know.
const CAPABILITIES: u32 = 64;

/// Sets every limit, soft and hard alike. The one of open files comes with `hide_descriptor`.
pub(crate) fn limits(spec: &Spec) -> Result<(), Stop> {
    set(Resource::Core, Some(0), "core")?;
    set(Resource::As, spec.limits.memory_bytes, "memory_bytes")?;
    set(Resource::Cpu, spec.limits.cpu_seconds, "cpu_seconds")?;
    set(Resource::Fsize, spec.limits.file_bytes, "file_bytes")
}

fn set(resource: Resource, value: Option<u64>, name: &str) -> Result<(), Stop> {
    let Some(value) = value else { return Ok(()) };
    let failed =
        |why: String| Stop::refused("limit.unenforceable", name, format!("`{name}` of {value}: {why}"));
    let now = getrlimit(resource);
    if now.maximum.is_some_and(|maximum| maximum < value) && name != "core" {
        return Err(failed(format!("above what this process itself may use ({:?})", now.maximum)));
    }
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
        .map_err(|error| failed(error.to_string()))
}

/// Holds the process to `count` processors, which is what a whole number of cores means for one process. Returns
/// how many it may use.
pub(crate) fn cpus(count: Option<u32>) -> Result<u32, Stop> {
    let fail = |error| Stop::internal("affinity", error);
    let allowed = rustix::thread::sched_getaffinity(None).map_err(fail)?;
    let Some(count) = count.filter(|count| *count < allowed.count()) else { return Ok(allowed.count()) };
    // Begin at a different one for each process, so that one-core sandboxes do not all share the first.
    let present: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let first = usize::try_from(std::process::id()).unwrap_or(0);
    let mut wanted = CpuSet::new();
    let take = usize::try_from(count).unwrap_or(usize::MAX);
    for cpu in present.iter().cycle().skip(first % present.len().max(1)).take(take) {
        wanted.set(*cpu);
    }
    rustix::thread::sched_setaffinity(None, &wanted).map_err(fail)?;
    Ok(wanted.count())
}

/// Moves the program to `EXEC_DESCRIPTOR` and lowers the limit of open files below it (N1, N2).
pub(crate) fn hide_descriptor(program: OwnedFd, open_files: u64) -> Result<OwnedFd, Stop> {
    let number = u64::from(EXEC_DESCRIPTOR.unsigned_abs());
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current <= number) {
        let maximum = now.maximum;
        setrlimit(Resource::Nofile, Rlimit { current: maximum.map_or(Some(number + 1), Some), maximum })
            .map_err(|error| Stop::refused("limit.unenforceable", "open_files", error.to_string()))?;
    }
    let hidden = rustix::io::fcntl_dupfd_cloexec(&program, EXEC_DESCRIPTOR).map_err(|error| {
        Stop::refused("limit.unenforceable", "open_files", format!("the hard limit is below 1024: {error}"))
    })?;
    if rustix::fd::AsRawFd::as_raw_fd(&hidden) != EXEC_DESCRIPTOR {
        return Err(Stop::internal("descriptor", "the number of the program's descriptor is taken"));
    }
    set(Resource::Nofile, Some(open_files), "open_files")?;
    Ok(hidden)
}

/// Becomes `user`, or stays; in any case without one capability, now or after an exec.
pub(crate) fn user(user: Option<User>) -> Result<(), Stop> {
    let fail = |error| Stop::internal("capabilities", error);
    let held = rustix::thread::capabilities(None).map_err(fail)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..CAPABILITIES {
            let Some(one) = 1u64.checked_shl(number).map(CapabilitySet::from_bits_retain) else { break };
            if rustix::thread::remove_capability_from_bounding_set(one).is_err() {
                break;
            }
        }
    }
    if let Some(User { uid, gid }) = user {
        let fail =
            |error| Stop::refused("user.unusable", "user", format!("cannot become uid {uid}: {error}"));
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&[]).map_err(fail)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(fail)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(fail)?;
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    let _ = rustix::thread::clear_ambient_capability_set(); // older kernels have none
    rustix::thread::set_capabilities(None, sets).map_err(fail)?;
    let left = rustix::thread::capabilities(None).map_err(fail)?;
    if !(left.effective | left.permitted | left.inheritable).is_empty() {
        return Err(Stop::internal("capabilities", "some are left"));
    }
    Ok(())
}

/// The kernel kills this process when its parent ends; and if it has ended already, nothing starts (N5).
pub(crate) fn die_with_parent(parent: Option<i32>) -> Result<(), Stop> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Stop::internal("parent_death", error))?;
    let Some(expected) = parent else { return Ok(()) };
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(expected) {
        return Err(Stop::refused("parent.gone", "parent", format!("the parent is not {expected} any more")));
    }
    Ok(())
}
