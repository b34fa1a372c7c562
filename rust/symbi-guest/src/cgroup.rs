//! The limits of the control group that this process is in, as far as they can be seen from inside.
//!
//! Not here: the host's own reading of the same files, which is the one that counts.

use std::fs;
use std::path::{Path, PathBuf};

/// Values at or above this many bytes mean "no limit" in version 1, which has no word for it.
const V1_UNLIMITED_BYTES: u64 = 1 << 62;

/// What was found. `None`: no limit, or not visible.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) version: Option<&'static str>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) swap_bytes: Option<u64>,
    pub(crate) pids: Option<u64>,
    pub(crate) cpu_quota_us: Option<u64>,
    pub(crate) cpu_period_us: Option<u64>,
}

/// Reads them below `root` (`/sys/fs/cgroup`) for the groups that `membership` (`/proc/self/cgroup`) names.
pub(crate) fn read(root: &Path, membership: &str) -> Limits {
    if root.join("cgroup.controllers").exists() {
        return version_2(root, membership);
    }
    version_1(root, membership)
}

/// The directory of the group, or the root when a namespace makes the named one invisible.
fn directory(base: PathBuf, group: &str) -> PathBuf {
    let named = base.join(group.trim_start_matches('/'));
    if named.is_dir() { named } else { base }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn version_2(root: &Path, membership: &str) -> Limits {
    let group = membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let group = directory(root.to_path_buf(), group);
    let cpu = fs::read_to_string(group.join("cpu.max")).unwrap_or_default();
    let mut words = cpu.split_whitespace();
    let quota = words.next().and_then(|word| word.parse().ok());
    Limits {
        version: Some("v2"),
        memory_bytes: number(&group.join("memory.max")),
        swap_bytes: number(&group.join("memory.swap.max")),
        pids: number(&group.join("pids.max")),
        cpu_quota_us: quota,
        cpu_period_us: quota.and(words.next().and_then(|word| word.parse().ok())),
    }
}

fn version_1(root: &Path, membership: &str) -> Limits {
    let of = |controller: &str| {
        let line = membership.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, group) = rest.split_once(':')?;
            names.split(',').any(|name| name == controller).then_some(group)
        });
        directory(root.join(controller), line.unwrap_or("/"))
    };
    let bytes = |name: &str| number(&of("memory").join(name)).filter(|bytes| *bytes < V1_UNLIMITED_BYTES);
    let quota = number(&of("cpu").join("cpu.cfs_quota_us")); // -1, no limit, is not a u64
    Limits {
        version: (root.join("memory").is_dir() || root.join("pids").is_dir()).then_some("v1"),
        memory_bytes: bytes("memory.limit_in_bytes"),
        swap_bytes: bytes("memory.memsw.limit_in_bytes"),
        pids: number(&of("pids").join("pids.max")),
        cpu_quota_us: quota,
        cpu_period_us: quota.and(number(&of("cpu").join("cpu.cfs_period_us"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn version_2_words_and_numbers_are_read() {
        let root = tree(&[
            ("cgroup.controllers", "cpu memory pids\n"),
            ("a/memory.max", "134217728\n"),
            ("a/memory.swap.max", "max\n"),
            ("a/pids.max", "256\n"),
            ("a/cpu.max", "50000 100000\n"),
        ]);
        let limits = read(root.path(), "0::/a\n");
        assert_eq!(
            (limits.version, limits.memory_bytes, limits.swap_bytes),
            (Some("v2"), Some(134_217_728), None)
        );
        assert_eq!(
            (limits.pids, limits.cpu_quota_us, limits.cpu_period_us),
            (Some(256), Some(50_000), Some(100_000))
        );
    }

    #[test]
    fn version_1_says_no_limit_with_huge_and_negative_numbers() {
        let root = tree(&[
            ("memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/x/memory.memsw.limit_in_bytes", "1048576\n"),
            ("pids/pids.max", "max\n"),
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        let limits = read(root.path(), "4:memory:/x\n3:cpu,cpuacct:/gone\n2:pids:/\n");
        let swap_bytes = Some(1 << 20);
        assert_eq!(limits, Limits { version: Some("v1"), swap_bytes, ..Limits::default() });
    }

    #[test]
    fn nothing_visible_is_nothing_and_not_an_error() {
        let root = tree(&[]);
        assert_eq!(read(root.path(), ""), Limits::default());
    }
}
