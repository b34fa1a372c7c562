//! What may be opened: Landlock rules for each mount, and around masked names.
//!
//! Not here: hiding that other names exist. Landlock stops opening, not `stat`; `names_hidden` is in `not_enforced`.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags,
};

use super::spec::Mount;
use crate::output::Stop;

/// The newest rules this knows; an older kernel gets as many of them as it has.
const NEWEST: ABI = ABI::V9;
/// Entries looked at while masks are searched in one mount, and how deep. A project has some 100,000; what is larger
/// must be mounted in parts.
const MASK_ENTRIES_MAX: usize = 400_000;
const MASK_DEPTH_MAX: usize = 64;

/// What was done.
#[derive(Debug)]
pub(crate) struct View {
    /// Whether the kernel knows every kind of rule that was asked of it.
    pub(crate) full: bool,
    pub(crate) rules: usize,
    pub(crate) masked: usize,
}

/// Restricts this process to `mounts` and the program itself. It cannot be undone.
pub(crate) fn restrict(mounts: &[Mount], program: &OwnedFd) -> Result<View, Stop> {
    let fail = |error: landlock::RulesetError| Stop::internal("landlock", error);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(fail)?;
    let mut view = View { full: false, rules: 0, masked: 0 };
    for mount in mounts {
        let path = Path::new(&mount.path);
        let rights = rights(mount);
        let mut open = Vec::new();
        if mount.masks.is_empty() || !path.is_dir() {
            open.push((path.to_path_buf(), rights));
        } else {
            let mut walk =
                Walk { masks: &mount.masks, rights, left: MASK_ENTRIES_MAX, masked: 0, open: &mut open };
            walk.directory(path, 0).map_err(|why| super::path_unusable(&mount.path, why))?;
            view.masked += walk.masked;
            if open.iter().all(|(open, _)| open != path) {
                open.push((path.to_path_buf(), make_bitflags!(AccessFs::{ReadDir})));
            }
        }
        for (path, rights) in open {
            rules = allow(rules, &path, rights)?;
            view.rules += 1;
        }
    }
    if !in_memory(program) {
        let own = make_bitflags!(AccessFs::{Execute | ReadFile});
        rules = rules.add_rule(PathBeneath::new(program.as_fd(), own)).map_err(fail)?;
    }
    let status = rules.restrict_self().map_err(fail)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(Stop::refused("landlock.absent", "landlock", "Landlock took no rule"));
    }
    view.full = status.ruleset == RulesetStatus::FullyEnforced;
    Ok(view)
}

/// Whether the program lies in a memory file: those belong to no tree, so no rule can name them and none is needed.
fn in_memory(program: &OwnedFd) -> bool {
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", program.as_raw_fd()), Vec::new());
    link.is_ok_and(|target| target.to_bytes().starts_with(b"/memfd:"))
}

fn allow(rules: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, Stop> {
    let text = path.to_string_lossy();
    let file = PathFd::new(path).map_err(|error| super::path_unusable(&text, error))?;
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(file, rights)).map_err(|error| super::path_unusable(&text, error))
}

fn rights(mount: &Mount) -> BitFlags<AccessFs> {
    if mount.list_only {
        return make_bitflags!(AccessFs::{ReadDir});
    }
    let mut rights = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    if mount.execute {
        rights |= AccessFs::Execute;
    }
    if mount.writable {
        let special =
            make_bitflags!(AccessFs::{MakeChar | MakeBlock | MakeSock | MakeFifo | IoctlDev | ResolveUnix});
        rights |= AccessFs::from_write(NEWEST) & !special;
    }
    rights
}

/// Landlock only ever allows, so a masked name is left closed by opening everything beside it.
struct Walk<'a> {
    masks: &'a [String],
    rights: BitFlags<AccessFs>,
    left: usize,
    masked: usize,
    open: &'a mut Vec<(PathBuf, BitFlags<AccessFs>)>,
}

impl Walk<'_> {
    /// Opens `path` as a whole when nothing below it is masked, otherwise its clean children. Tells which.
    fn directory(&mut self, path: &Path, depth: usize) -> Result<bool, String> {
        if MASK_DEPTH_MAX < depth {
            return Err(format!("more than {MASK_DEPTH_MAX} levels deep: masked names could hide below"));
        }
        let first = self.open.len();
        let mut whole = true;
        let mut children = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| error.to_string())? {
            let entry = entry.map_err(|error| error.to_string())?;
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                format!("more than {MASK_ENTRIES_MAX} entries: mount its parts, or without masks")
            })?;
            if self.masks.iter().any(|mask| matches(mask.as_bytes(), entry.file_name().as_bytes())) {
                self.masked += 1;
                whole = false;
                continue;
            }
            let kind = entry.file_type().map_err(|error| error.to_string())?;
            if kind.is_dir() {
                // A directory that cannot be listed cannot be searched for masks, so it stays closed.
                match self.directory(&entry.path(), depth + 1) {
                    Ok(true) => children.push(entry.path()),
                    Ok(false) => whole = false,
                    Err(error) if entry.path().read_dir().is_ok() => return Err(error),
                    Err(_) => whole = false,
                }
            } else if kind.is_file() {
                children.push(entry.path());
            } // a link is judged by where it leads, and a socket or device is for nobody
        }
        if whole {
            self.open.truncate(first);
            if depth == 0 {
                self.open.push((path.to_path_buf(), self.rights));
            }
        } else {
            self.open.extend(children.into_iter().map(|child| (child, self.rights)));
        }
        Ok(whole)
    }
}

/// A name, or a beginning followed by `*`.
fn matches(mask: &[u8], name: &[u8]) -> bool {
    mask.strip_suffix(b"*").map_or(mask == name, |beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(files: &[&str], masks: &[&str]) -> (Vec<String>, usize) {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let masks: Vec<String> = masks.iter().map(|mask| (*mask).to_owned()).collect();
        let mut open = Vec::new();
        let rights = make_bitflags!(AccessFs::{ReadFile});
        let mut walk = Walk { masks: &masks, rights, left: 1_000, masked: 0, open: &mut open };
        walk.directory(root.path(), 0).unwrap();
        let masked = walk.masked;
        let short = |path: &PathBuf| path.strip_prefix(root.path()).unwrap().to_string_lossy().into_owned();
        let mut names: Vec<String> = open.iter().map(|(path, _)| short(path)).collect();
        names.sort();
        (names, masked)
    }

    #[test]
    fn n3_a_tree_without_masked_names_is_one_rule() {
        assert_eq!(opened(&["a", "b/c", "b/d/e"], &[".git"]), (vec![String::new()], 0));
    }

    #[test]
    fn n3_everything_beside_a_masked_name_is_opened_and_the_name_is_not() {
        let (names, masked) =
            opened(&["a", ".git/config", "b/c", "b/d/.env", "b/d/f", "e/g/h"], &[".git", ".env*"]);
        assert_eq!((names, masked), (["a", "b/c", "b/d/f", "e"].map(str::to_owned).to_vec(), 2));
        let (names, _) = opened(&["x/.env.local", "x/.environment", "x/env"], &[".env*"]);
        assert_eq!(names, ["x/env".to_owned()]);
    }

    #[test]
    fn n3_a_tree_too_large_to_search_for_masks_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for name in 0..20 {
            fs::write(root.path().join(name.to_string()), "x").unwrap();
        }
        let masks = vec![".git".to_owned()];
        let rights = make_bitflags!(AccessFs::{ReadFile});
        let mut walk = Walk { masks: &masks, rights, left: 10, masked: 0, open: &mut Vec::new() };
        assert!(walk.directory(root.path(), 0).is_err());
    }
}
