//! The probe: what this sandbox is, seen from inside.
//!
//! Not here: any verdict. The host compares the report with what it asked for and with its own inspection.

use std::ffi::{CStr, OsString};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Access, StatVfsMountFlags};
use rustix::process::Resource;
use serde_json::{Map, Value, json};

use crate::{cgroup, system};

/// Mounts reported. A container has 20 to 40; the rest is counted, and the line stays below its limit.
const MOUNTS_MAX: usize = 512;
/// Bytes of one text taken from a file of the kernel.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// Names of variables and numbers of descriptors reported.
const NAMES_MAX: usize = 512;
/// What `dmesg` and `/proc/version` of gVisor hold.
const GVISOR_MESSAGE: &str = "Starting gVisor";
const GVISOR_VERSION: &str = "#1 SMP Sun Jan 10 15:06:54 PST 2016";

/// The whole line.
pub(crate) fn report(connects: &[OsString]) -> Value {
    let status = fs::read_to_string("/proc/self/status").ok();
    let field = |name: &str| {
        let line = status.as_deref()?.lines().find(|line| line.split(':').next() == Some(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = cgroup::read(Path::new("/sys/fs/cgroup"), &membership);
    let version = text("/proc/version");
    let evidence = gvisor_evidence(version.as_deref());
    let (mounts, left_out) = mounts();
    let mut line = json!({
        "type": "probe", "format": 1, "guest": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uid": rustix::process::getuid().as_raw(), "gid": rustix::process::getgid().as_raw(),
        "groups": groups(field("Groups")),
        "kernel": kernel(version),
        "gvisor": !evidence.is_empty(), "gvisor_evidence": evidence,
        "capabilities": capabilities(&field),
        "no_new_privs": no_new_privs(field("NoNewPrivs")),
        "seccomp_mode": field("Seccomp").and_then(|mode| mode.parse::<u8>().ok()),
        "root_read_only": root_read_only(),
        "rlimits": rlimits(),
        "interfaces": interfaces(),
        "mounts": mounts, "mounts_left_out": left_out,
        "environment": environment(), "descriptors": descriptors(),
        "connects": connects.iter().map(connect).collect::<Vec<_>>(),
    });
    let extra = json!({
        "cgroup": limits.version, "memory_limit_bytes": limits.memory_bytes, "swap_limit_bytes": limits.swap_bytes,
        "pids_limit": limits.pids, "cpu_quota_us": limits.cpu_quota_us, "cpu_period_us": limits.cpu_period_us,
    });
    if let (Some(line), Value::Object(extra)) = (line.as_object_mut(), extra) {
        line.extend(extra);
    }
    line
}

fn text(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().chars().take(TEXT_BYTES_MAX / 4).collect())
}

fn kernel(version: Option<String>) -> Value {
    let name = rustix::system::uname();
    let lossy = |text: &CStr| text.to_string_lossy().into_owned();
    json!({
        "sysname": lossy(name.sysname()), "release": lossy(name.release()), "version": lossy(name.version()),
        "machine": lossy(name.machine()), "proc_version": version,
    })
}

fn gvisor_evidence(version: Option<&str>) -> Vec<&'static str> {
    let message = system::kernel_messages().is_some_and(|text| text.contains(GVISOR_MESSAGE));
    let version = version.is_some_and(|text| text.contains(GVISOR_VERSION));
    [(message, "dmesg"), (version, "proc_version")]
        .into_iter()
        .filter_map(|(found, name)| found.then_some(name))
        .collect()
}

fn groups(field: Option<String>) -> Value {
    field.map_or(Value::Null, |text| {
        text.split_whitespace().filter_map(|group| group.parse::<u32>().ok()).collect()
    })
}

fn capabilities(field: &impl Fn(&str) -> Option<String>) -> Value {
    let names = [
        ("effective", "CapEff"),
        ("permitted", "CapPrm"),
        ("inheritable", "CapInh"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ];
    let sets: Map<String, Value> =
        names.into_iter().filter_map(|(name, line)| Some((name.to_owned(), field(line)?.into()))).collect();
    if sets.is_empty() { Value::Null } else { Value::Object(sets) }
}

/// From the status file, or where gVisor leaves the line out from the kernel itself.
fn no_new_privs(field: Option<String>) -> Option<bool> {
    field.map(|text| text == "1").or_else(|| rustix::thread::no_new_privs().ok())
}

/// Whether nothing can be written at the root: by the mount's flags, or by trying (as root a try is allowed by
/// permissions and fails by the mount alone).
fn root_read_only() -> bool {
    let flagged = rustix::fs::statvfs("/").is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    flagged || rustix::fs::access("/", Access::WRITE_OK) == Err(rustix::io::Errno::ROFS)
}

fn rlimits() -> Value {
    let soft = |resource| rustix::process::getrlimit(resource).current;
    json!({
        "nofile": soft(Resource::Nofile), "fsize": soft(Resource::Fsize), "as": soft(Resource::As),
        "cpu": soft(Resource::Cpu), "nproc": soft(Resource::Nproc), "core": soft(Resource::Core),
    })
}

fn interfaces() -> Option<Vec<String>> {
    if let Ok(text) = fs::read_to_string("/proc/net/dev") {
        let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
        return Some(names.map(|(name, _)| name.trim().to_owned()).take(NAMES_MAX).collect());
    }
    let names = fs::read_dir("/sys/class/net").ok()?;
    Some(
        names
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .take(NAMES_MAX)
            .collect(),
    )
}

/// Target, type and whether read-only, from `/proc/self/mountinfo` (proc(5): options are field 6, the type follows `-`).
fn mounts() -> (Value, usize) {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return (Value::Null, 0) };
    let one = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(4);
        let (target, options) = (fields.next()?, fields.next()?);
        let mut tail = after.split(' ');
        let (kind, super_options) = (tail.next()?, tail.nth(1).unwrap_or_default());
        let read_only = |options: &str| options.split(',').any(|option| option == "ro");
        let read_only = read_only(options) || read_only(super_options);
        let target: String = target.chars().take(TEXT_BYTES_MAX).collect();
        Some(json!({"target": target, "type": kind, "read_only": read_only}))
    };
    let count = text.lines().count();
    let found: Vec<Value> = text.lines().take(MOUNTS_MAX).filter_map(one).collect();
    (Value::Array(found), count.saturating_sub(MOUNTS_MAX))
}

fn environment() -> Vec<String> {
    let mut names: Vec<String> = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().chars().take(256).collect())
        .take(NAMES_MAX)
        .collect();
    names.sort();
    names
}

fn descriptors() -> Option<Vec<u32>> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    let open = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|target| target != Path::new("/proc/self/fd"))
    };
    let own = format!("/proc/{}/fd", std::process::id());
    let foreign =
        |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|target| target != Path::new(&own));
    let found = entries.flatten().filter(|entry| open(entry) && foreign(entry));
    let mut numbers: Vec<u32> =
        found.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(NAMES_MAX).collect();
    numbers.sort_unstable();
    Some(numbers)
}

fn connect(path: &OsString) -> Value {
    let result = UnixStream::connect(path);
    let error = result.as_ref().err().map(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => "ENOENT".to_owned(),
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::EACCES) => "EACCES".to_owned(),
        Some(libc::ECONNREFUSED) => "ECONNREFUSED".to_owned(),
        Some(number) => format!("errno {number}"),
        None => "refused".to_owned(),
    });
    json!({"path": path.to_string_lossy(), "reachable": result.is_ok(), "error": error})
}
