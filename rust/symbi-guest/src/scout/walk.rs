//! Walking a hostile tree: in order, bounded, following nothing.
//!
//! Every directory is opened beneath the root's descriptor, with `openat2` where the kernel has it and otherwise name by
//! name with `O_NOFOLLOW`; every file below its directory's descriptor. So a link that is put in place of a directory
//! while we walk leads nowhere.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::ignored::{self, Patterns};
use crate::output::Stop;

/// Entries met in all. A tree of 100,000 files passes whole; past this the walk ends and says so.
const ENTRIES_MAX: u64 = 500_000;
/// Levels. Names of one letter could go 2,000 deep below the longest path; no project does.
const DEPTH_MAX: usize = 128;
/// Bytes of a path below the root: the kernel takes no longer one in a call.
const PATH_BYTES_MAX: usize = 4_000;

/// Directories that hold no words of people: the runtime's own, version control, packages, caches.
const SKIPPED_NAMES: [&[u8]; 12] = [
    b".symbi",
    b".git",
    b".hg",
    b".svn",
    b"node_modules",
    b"__pycache__",
    b".mypy_cache",
    b".ruff_cache",
    b".pytest_cache",
    b".tox",
    b".venv",
    b".cache",
];

/// One thing that was met.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// A regular file, not opened yet.
    File { path: &'a [u8], directory: &'a OwnedFd, name: &'a CStr },
    /// Something that is not read.
    Skipped { path: &'a [u8], reason: &'static str },
}

/// How the walk ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) entries: u64,
    pub(crate) complete: bool,
}

/// A directory that is still to be listed, with the rules of its ancestors.
struct Pending {
    path: Vec<u8>,
    depth: usize,
    rules: Option<std::rc::Rc<Rules>>,
}

/// The patterns of one directory, and of those above.
struct Rules {
    /// Bytes of the directory's path with its slash: what to cut off before matching.
    prefix: usize,
    patterns: Patterns,
    above: Option<std::rc::Rc<Rules>>,
}

impl Rules {
    /// The nearest file's verdict that there is.
    fn ignores(rules: Option<&std::rc::Rc<Self>>, path: &[u8], directory: bool) -> bool {
        let mut next = rules;
        while let Some(rules) = next {
            let relative = path.get(rules.prefix..).unwrap_or_default();
            if let Some(verdict) = rules.patterns.verdict(relative, directory) {
                return verdict;
            }
            next = rules.above.as_ref();
        }
        false
    }
}

/// The root, which may itself be reached through links: it is what was asked for.
pub(crate) fn open_root(path: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Visits every entry, by name within a directory, files before its directories.
pub(crate) fn walk(root: OwnedFd, visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Stop>) -> Result<End, Stop> {
    let mut pending = vec![Pending { path: Vec::new(), depth: 0, rules: None }];
    let mut end = End { entries: 0, complete: true };
    while let Some(next) = pending.pop() {
        let directory = match open_directory(&root, &next.path) {
            Ok(directory) => directory,
            Err(error) => {
                visit(Entry::Skipped { path: &next.path, reason: unreadable(error) })?;
                continue;
            }
        };
        if 0 < next.depth && is_there(&directory, c"pyvenv.cfg") {
            visit(Entry::Skipped { path: &next.path, reason: "virtual_environment" })?;
            continue;
        }
        let room = ENTRIES_MAX - end.entries;
        let listed = list(&directory, room);
        end.entries += listed.names.len() as u64;
        if let Some(error) = listed.error {
            visit(Entry::Skipped { path: &next.path, reason: unreadable(error) })?;
        }
        let rules = rules(&directory, &next);
        let mut below = Vec::new();
        for name in &listed.names {
            if let Some(path) = one(&directory, &next, name, rules.as_ref(), visit)? {
                below.push(Pending { path, depth: next.depth + 1, rules: rules.clone() });
            }
        }
        pending.extend(below.into_iter().rev()); // the stack gives them back by name
        if listed.cut {
            end.complete = false;
            break;
        }
    }
    Ok(end)
}

/// What one name is: visited here, or given back when it is a directory to walk.
fn one(
    directory: &OwnedFd,
    parent: &Pending,
    name: &CStr,
    rules: Option<&std::rc::Rc<Rules>>,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Stop>,
) -> Result<Option<Vec<u8>>, Stop> {
    let mut path = parent.path.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    let kind = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let kind = kind.map(|found| FileType::from_raw_mode(found.st_mode));
    let is_directory = kind == Ok(FileType::Directory);
    let reason = match kind {
        Err(error) => unreadable(error),
        Ok(FileType::Directory) if SKIPPED_NAMES.contains(&name.to_bytes()) => "tool_directory",
        Ok(FileType::Directory | FileType::RegularFile) if Rules::ignores(rules, &path, is_directory) => {
            "ignored"
        }
        Ok(FileType::Directory) if DEPTH_MAX <= parent.depth || PATH_BYTES_MAX < path.len() => "too_deep",
        Ok(FileType::Directory) => return Ok(Some(path)),
        Ok(FileType::RegularFile) => {
            visit(Entry::File { path: &path, directory, name })?;
            return Ok(None);
        }
        Ok(FileType::Symlink) => "symlink",
        Ok(FileType::Fifo) => "fifo",
        Ok(FileType::Socket) => "socket",
        Ok(FileType::CharacterDevice | FileType::BlockDevice) => "device",
        Ok(_) => "not_a_file",
    };
    visit(Entry::Skipped { path: &path, reason })?;
    Ok(None)
}

struct Listed {
    names: Vec<CString>,
    error: Option<Errno>,
    cut: bool,
}

/// The names of a directory, sorted, at most `room` of them.
fn list(directory: &OwnedFd, room: u64) -> Listed {
    let mut listed = Listed { names: Vec::new(), error: None, cut: false };
    let entries = match Dir::read_from(directory) {
        Ok(entries) => entries,
        Err(error) => return Listed { error: Some(error), ..listed },
    };
    for entry in entries {
        match entry {
            Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Ok(_) if room <= listed.names.len() as u64 => {
                listed.cut = true;
                break;
            }
            Ok(entry) => listed.names.push(entry.file_name().to_owned()),
            Err(error) => {
                listed.error = Some(error);
                break;
            }
        }
    }
    listed.names.sort_unstable();
    listed
}

fn rules(directory: &OwnedFd, at: &Pending) -> Option<std::rc::Rc<Rules>> {
    let text = read_bytes(directory, c".gitignore", ignored::FILE_BYTES_MAX).ok();
    let Some(text) = text else { return at.rules.clone() };
    let prefix = if at.path.is_empty() { 0 } else { at.path.len() + 1 };
    Some(std::rc::Rc::new(Rules { prefix, patterns: Patterns::parse(&text), above: at.rules.clone() }))
}

fn is_there(directory: &OwnedFd, name: &CStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// The directory at `path` below the root, without passing a link.
fn open_directory(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let path = if path.is_empty() { b"." } else { path };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), beneath) {
        Err(Errno::NOSYS | Errno::PERM) => {} // gVisor and old kernels have no openat2; some filters refuse it
        other => return other,
    }
    let mut at = rustix::fs::openat(root, ".", flags, Mode::empty())?;
    for name in path.split(|byte| *byte == b'/') {
        at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
    }
    Ok(at)
}

/// A file's text, or why it is not read.
pub(crate) fn read(directory: &OwnedFd, name: &CStr, bytes_max: u64) -> Result<String, &'static str> {
    let bytes = read_bytes(directory, name, bytes_max)?;
    if bytes.contains(&0) {
        return Err("binary");
    }
    String::from_utf8(bytes).map_err(|_| "not_utf8")
}

/// At most `bytes_max` bytes: a larger file is refused before its content is looked at, and one that grows is cut off.
fn read_bytes(directory: &OwnedFd, name: &CStr, bytes_max: u64) -> Result<Vec<u8>, &'static str> {
    use std::io::Read as _;
    // Looked at first: opening a device can do something, and opening a FIFO can wait.
    let before = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable)?;
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Err("not_a_file");
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(unreadable)?;
    let after = rustix::fs::fstat(&file).map_err(unreadable)?;
    if FileType::from_raw_mode(after.st_mode) != FileType::RegularFile {
        return Err("not_a_file");
    }
    if bytes_max < u64::try_from(after.st_size).unwrap_or(u64::MAX) {
        return Err("too_large");
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file).take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|_| "unreadable")?;
    if bytes_max < bytes.len() as u64 {
        return Err("too_large");
    }
    Ok(bytes)
}

fn unreadable(error: Errno) -> &'static str {
    match error {
        Errno::ACCESS | Errno::PERM => "no_permission",
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => "changed_to_link",
        Errno::NOENT => "vanished",
        _ => "unreadable",
    }
}
