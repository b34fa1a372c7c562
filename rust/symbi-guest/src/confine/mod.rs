//! The degraded tier: a process takes away its own rights and becomes the program.
//!
//! Why: development must work where no container engine is. Not a replacement for one: the kernel is shared, and what
//! this cannot hold (`NOT_ENFORCED`) is said in the first line and refused when it is asked for.
//! Order matters: what needs rights comes first, and the program is the last thing. Decision:
//! docs/adr/0031-degraded-tier.md.
//!
//! Invariants (with G2, G3 of the crate)
//! - N1 no descriptor but 0, 1, 2 reaches the program, and the one it is started through closes as it starts.
//! - N2 there is one program: no fork, no second exec; threads only.
//! - N3 nothing outside the view can be opened, and nothing outside the writable part of it written.
//! - N4 no socket, no signal, limit, priority or attribute of anything but itself.
//! - N5 it dies with its parent.

mod filter;
mod process;
mod spec;
mod view;

use std::ffi::{CString, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::command::{is_own_name, unbuffered_stdin, wait_for_go};
use crate::output::{Stop, emit};
use crate::{exec, probe, system};

/// What this tier does not hold, by the names that a caller may ask limits by.
const NOT_ENFORCED: [&str; 6] =
    ["disk_io_mbps", "network_io_mbps", "disk_bytes", "threads", "names_hidden", "kernel"];

/// Confines this process and becomes the program.
pub(crate) fn main(spec: &[u8], words: &[OsString]) -> Result<(), Stop> {
    let spec = spec::Spec::parse(spec)?;
    system::close_all_but_standard().map_err(|error| Stop::internal("close_range", error))?; // N1
    let abi = system::landlock_version().ok_or_else(|| {
        Stop::refused(
            "landlock.absent",
            "landlock",
            "this kernel has no Landlock (it needs 5.13, and `landlock` in lsm=)",
        )
    })?;
    let program = open_program(words)?;
    let arguments = exec::strings(words)?;
    let environment = environment(&spec)?;
    let stdin = if spec.hold { Some(unbuffered_stdin()?) } else { None };

    let directory = spec.directory.as_str();
    process::limits(&spec)?;
    let held = process::cpus(spec.cpus)?;
    let program = process::hide_descriptor(program, spec.open_files())?;
    process::user(spec.user)?;
    rustix::process::chdir(directory).map_err(|error| path_unusable(directory, error))?;
    process::die_with_parent(spec.parent)?; // N5; a change of user would have cleared it
    rustix::thread::set_no_new_privs(true).map_err(|error| Stop::internal("no_new_privs", error))?;
    let view = view::restrict(&spec.mounts, &program)?; // N3

    let uid = rustix::process::getuid().as_raw();
    filter::install(process::EXEC_DESCRIPTOR)?; // N2, N4
    let line = json!({
        "type": "confined", "format": 1, "landlock_abi": abi, "landlock_full": view.full, "seccomp": true,
        "no_new_privs": true, "uid": uid, "gid": rustix::process::getgid().as_raw(),
        "root_without_capabilities": uid == 0,
        "limits": {
            "memory_bytes": spec.limits.memory_bytes, "cpu_seconds": spec.limits.cpu_seconds,
            "file_bytes": spec.limits.file_bytes, "open_files": spec.open_files(), "cpus": held,
            "processes": 1, "core_bytes": 0,
        },
        "not_enforced": NOT_ENFORCED, "rules": view.rules, "masked": view.masked,
        "probe": probe::report(&spec.try_connect), // what can be seen and reached from in here
    });
    emit(&mut std::io::stdout().lock(), &line)?;
    if let Some(mut stdin) = stdin {
        wait_for_go(&mut stdin)?;
        drop(stdin); // N1
    }
    system::default_broken_pipe();
    let error = system::execute_descriptor(rustix::fd::AsFd::as_fd(&program), &arguments, &environment);
    Err(exec::failed(
        words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default(),
        &error,
    ))
}

fn path_unusable(path: &str, error: impl std::fmt::Display) -> Stop {
    Stop::refused("path.unusable", path, format!("`{path}`: {error}"))
}

/// The program as a descriptor, so that nothing can be put in its place before it starts.
fn open_program(words: &[OsString]) -> Result<OwnedFd, Stop> {
    let Some(word) = words.first() else { return Err(Stop::usage("there is no program")) };
    let own = is_own_name(word);
    let path: OsString = if own { "/proc/self/exe".into() } else { word.clone() };
    if !own && !path.to_string_lossy().starts_with('/') {
        return Err(Stop::usage(format!("`{}` must be an absolute path", path.to_string_lossy())));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty())
        .map_err(|error| exec::failed(path.to_string_lossy(), &error.into()))
}

fn environment(spec: &spec::Spec) -> Result<Vec<CString>, Stop> {
    let one = |(name, value): (&String, &String)| {
        let text = OsString::from_vec(format!("{name}={value}").into_bytes());
        let good = !name.is_empty() && !name.contains('=');
        let text = good.then(|| CString::new(text.into_vec()).ok()).flatten();
        text.ok_or_else(|| Stop::refused("spec.invalid", "environment", format!("`{name}` is no variable")))
    };
    spec.environment.iter().map(one).collect()
}
