//! What is asked of the degraded tier, as JSON. Unknown keys are refused by name: nobody is told "yes" by silence.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::output::Stop;

/// Longest specification, bytes: a kernel takes at most 128 KiB as one argument.
const SPEC_BYTES_MAX: usize = 128 << 10;
/// Most mounts. The host's interpreter needs at most 50 (docs/formats/guest.md).
const MOUNTS_MAX: usize = 256;
/// Open files when nothing is asked: Python with numpy holds 20.
const OPEN_FILES_DEFAULT: u64 = 256;
/// Fewest and most open files. The descriptor of the program lies above the most (`process::EXEC_DESCRIPTOR`).
const OPEN_FILES: std::ops::RangeInclusive<u64> = 8..=1000;

/// The whole request.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) limits: Limits,
    pub(crate) cpus: Option<u32>,
    pub(crate) user: Option<User>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) directory: String,
    pub(crate) parent: Option<i32>,
    /// Wait for `go` before the program starts.
    pub(crate) hold: bool,
    /// Sockets that the probe tries to reach from inside.
    pub(crate) try_connect: Vec<std::ffi::OsString>,
}

/// A file or directory that may be opened.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) writable: bool,
    #[serde(default)]
    pub(crate) execute: bool,
    /// Only the names below it can be listed; nothing is opened.
    #[serde(default)]
    pub(crate) list_only: bool,
    /// Names below it that stay closed.
    #[serde(default)]
    pub(crate) masks: Vec<String>,
}

/// What rlimits can hold for a single process.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<u64>,
    pub(crate) file_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

/// Whom to become.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Spec {
    /// Reads and checks it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Stop> {
        if SPEC_BYTES_MAX < bytes.len() {
            return Err(invalid(
                "",
                format!("a specification has at most {SPEC_BYTES_MAX} bytes, and this one {}", bytes.len()),
            ));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| invalid("", error.to_string()))?;
        let Value::Object(fields) = value else {
            return Err(invalid("", "it must be a JSON object".to_owned()));
        };
        let mut spec = Self {
            mounts: Vec::new(),
            limits: Limits::default(),
            cpus: None,
            user: None,
            environment: BTreeMap::new(),
            directory: "/".to_owned(),
            parent: None,
            hold: false,
            try_connect: Vec::new(),
        };
        for (name, value) in fields {
            match name.as_str() {
                "mounts" => spec.mounts = read(&name, value)?,
                "limits" => limits(value, &mut spec)?,
                "user" => spec.user = read(&name, value)?,
                "environment" => spec.environment = read(&name, value)?,
                "directory" => spec.directory = read(&name, value)?,
                "parent" => spec.parent = read(&name, value)?,
                "hold" => spec.hold = read(&name, value)?,
                "try_connect" => {
                    let paths: Vec<String> = read(&name, value)?;
                    spec.try_connect = paths.into_iter().map(Into::into).collect();
                }
                _ => return Err(Stop::refused("spec.unknown_key", &name, format!("`{name}` is not known"))),
            }
        }
        spec.check()?;
        Ok(spec)
    }

    /// The limit of open files that holds.
    pub(crate) fn open_files(&self) -> u64 {
        self.limits.open_files.unwrap_or(OPEN_FILES_DEFAULT)
    }

    fn check(&self) -> Result<(), Stop> {
        if MOUNTS_MAX < self.mounts.len() {
            return Err(invalid(
                "mounts",
                format!("at most {MOUNTS_MAX}, and there are {}", self.mounts.len()),
            ));
        }
        for mount in &self.mounts {
            if !mount.path.starts_with('/') {
                return Err(invalid("mounts", format!("`{}` must be absolute", mount.path)));
            }
            if mount.writable && !mount.masks.is_empty() {
                let why = "cannot be writable and have masks: a new name could not be told from a masked one";
                return Err(invalid("mounts", format!("`{}` {why}", mount.path)));
            }
            if mount.list_only && (mount.writable || mount.execute || !mount.masks.is_empty()) {
                return Err(invalid("mounts", format!("`{}` is `list_only` and more", mount.path)));
            }
            if mount.masks.iter().any(|mask| mask.is_empty() || mask.contains('/')) {
                return Err(invalid("mounts", format!("the masks of `{}` must be names", mount.path)));
            }
        }
        if !OPEN_FILES.contains(&self.open_files()) {
            return Err(invalid(
                "open_files",
                format!("must be {} to {}", OPEN_FILES.start(), OPEN_FILES.end()),
            ));
        }
        if self.user.is_some_and(|user| user.uid == 0) {
            return Err(invalid("user", "root is nobody to become".to_owned()));
        }
        Ok(())
    }
}

fn invalid(name: &str, message: String) -> Stop {
    Stop::refused("spec.invalid", name, format!("specification, `{name}`: {message}"))
}

fn read<T: for<'de> Deserialize<'de>>(name: &str, value: Value) -> Result<T, Stop> {
    serde_json::from_value(value).map_err(|error| invalid(name, error.to_string()))
}

/// Each limit by name; one that cannot be held here is refused, whatever its value (G2).
fn limits(value: Value, spec: &mut Spec) -> Result<(), Stop> {
    let asked: BTreeMap<String, Option<u64>> = read("limits", value)?;
    for (name, value) in asked {
        let Some(value) = value else { continue };
        if value == 0 {
            return Err(invalid(&name, "must be at least 1".to_owned()));
        }
        match name.as_str() {
            "memory_bytes" => spec.limits.memory_bytes = Some(value),
            "cpu_seconds" => spec.limits.cpu_seconds = Some(value),
            "file_bytes" => spec.limits.file_bytes = Some(value),
            "open_files" => spec.limits.open_files = Some(value),
            "cpus" => spec.cpus = Some(u32::try_from(value).unwrap_or(u32::MAX)),
            "processes" if value == 1 => {}
            _ => {
                let message =
                    format!("the degraded tier cannot hold `{name}`; use the docker or gvisor tier");
                return Err(Stop::refused("limit.unenforceable", name, message));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(spec: &str, code: &str, name: &str) {
        match Spec::parse(spec.as_bytes()) {
            Err(Stop::Refused { code: found, name: about, .. }) => {
                assert_eq!((found, about.as_str()), (code, name))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn g2_what_cannot_be_held_is_refused_by_name() {
        for name in ["cpu_cores", "disk_io_mbps", "network_io_mbps", "connections", "pids", "disk_bytes"] {
            refused(&format!(r#"{{"limits":{{"{name}":1}}}}"#), "limit.unenforceable", name);
        }
        refused(r#"{"limits":{"processes":2}}"#, "limit.unenforceable", "processes");
    }

    #[test]
    fn g2_an_unknown_key_is_refused_by_name_at_every_level() {
        refused(r#"{"network":true}"#, "spec.unknown_key", "network");
        refused(r#"{"mounts":[{"path":"/a","read_only":true}]}"#, "spec.invalid", "mounts");
    }

    #[test]
    fn impossible_values_are_refused() {
        refused(r#"{"mounts":[{"path":"a"}]}"#, "spec.invalid", "mounts");
        refused(r#"{"mounts":[{"path":"/a","writable":true,"masks":[".git"]}]}"#, "spec.invalid", "mounts");
        refused(r#"{"mounts":[{"path":"/a","masks":["a/b"]}]}"#, "spec.invalid", "mounts");
        refused(r#"{"limits":{"open_files":5000}}"#, "spec.invalid", "open_files");
        refused(r#"{"limits":{"memory_bytes":0}}"#, "spec.invalid", "memory_bytes");
        refused(r#"{"user":{"uid":0,"gid":0}}"#, "spec.invalid", "user");
        refused("[]", "spec.invalid", "");
    }

    #[test]
    fn an_absent_limit_and_a_null_one_are_the_same() {
        let spec =
            Spec::parse(br#"{"limits":{"memory_bytes":null,"disk_io_mbps":null},"user":null}"#).unwrap();
        assert!(spec.limits.memory_bytes.is_none() && spec.user.is_none());
        assert_eq!(spec.open_files(), OPEN_FILES_DEFAULT);
    }
}
