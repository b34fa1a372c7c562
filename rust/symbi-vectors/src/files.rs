//! An index in a directory: `snapshot`, the log of its generation, a lock.
//!
//! Why generations: a new snapshot and its empty log are written beside the old ones, and one rename makes both count;
//! at any byte of a crash there is one whole pair.
//!
//! Invariants
//! - FS1 at any moment the directory opens as the index was after some acknowledged change, and no later one is lost.
//! - FS2 one writer at a time; a second is refused, and so is the child of a fork.
//! - FS3 nothing is removed that this module has not named.

use std::fs::{File, Metadata, OpenOptions, create_dir_all, metadata, read_dir, remove_file, rename};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Result, VectorError};
use crate::fields::{at, damaged, sync_directory};
use crate::index::Index;
use crate::journal::{self, Journal, Record};
use crate::snapshot;
use crate::store::Store;
use crate::writer::Writer;

/// What may be done with an index that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Changes are logged; the directory is locked.
    Write,
    /// Changes are refused; nothing is locked, and nothing of the directory is changed.
    Read,
}

/// The directory that an index is bound to.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    journal: Journal,
    lock: Option<File>,
    process: u32,
}

fn log_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("log-{generation:016x}"))
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(at("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(VectorError::Locked { path: directory.to_owned() }),
        Err(error) => Err(at("lock", &path)(error.into())),
    }
}

impl Files {
    fn new(directory: PathBuf, journal: Journal, lock: Option<File>) -> Self {
        Self { directory, journal, lock, process: std::process::id() }
    }

    /// Whether they were opened by this process, and not by one that it was forked from (FS2).
    pub(crate) fn are_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Whether the lock is still that of the directory: somebody may have removed all of it (FS2).
    fn hold_the_lock(&self) -> bool {
        let place = |found: std::io::Result<Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
        let held = self.lock.as_ref().and_then(|file| place(file.metadata()));
        held.is_some() && held == place(metadata(self.directory.join("lock")))
    }

    pub(crate) fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    pub(crate) fn log(&self) -> (u64, u64) {
        self.journal.size()
    }

    /// Writes a snapshot of `store` and an empty log into `directory`, and makes them count (FS1).
    ///
    /// `held` is the binding so far: where it is to the same directory, its lock is kept, and its log takes no more
    /// (FS1) where it is not known whether the new pair counts.
    pub(crate) fn save(store: &Store, directory: &Path, held: Option<&mut Self>) -> Result<Saved> {
        create_dir_all(directory).map_err(at("create", directory))?;
        let directory = directory.canonicalize().map_err(at("open", directory))?;
        let held = held.filter(|files| files.directory == directory);
        let locked = held.as_ref().is_some_and(|files| files.hold_the_lock());
        let new_lock = if locked { None } else { Some(lock(&directory)?) };
        let path = directory.join("snapshot");
        let generation = snapshot::generation(&path)?.unwrap_or(0) + 1;
        let fresh = directory.join("snapshot.new");
        let written = snapshot::write(store, generation, &fresh)
            .and_then(|()| {
                Journal::create(&log_path(&directory, generation), generation, store.options.dimension)
            })
            .and_then(|journal| {
                sync_directory(&directory)?;
                rename(&fresh, &path).map_err(at("rename", &fresh))?;
                Ok(journal)
            });
        let journal = match written {
            Ok(journal) => journal,
            Err(error) => {
                // Half a snapshot only takes space that may be what is missing.
                let _ = remove_file(&fresh);
                let _ = remove_file(log_path(&directory, generation));
                return Err(error);
            }
        };
        if let Err(error) = sync_directory(&directory) {
            // A crash may bring either pair back: whatever the old log took from now on could be lost.
            if let Some(held) = held {
                held.journal.close();
            }
            return Err(error);
        }
        sweep(&directory, generation);
        Ok(Saved { directory, journal, new_lock })
    }
}

impl Drop for Files {
    /// A child of a fork has the same lock, and would keep it: so it is given up, and not only closed; but never by the child.
    fn drop(&mut self) {
        if let Some(lock) = self.lock.as_ref().filter(|_| self.are_ours()) {
            let _ = flock(lock, FlockOperation::Unlock);
        }
    }
}

/// A snapshot that counts; `bind` makes the index write behind it.
pub(crate) struct Saved {
    directory: PathBuf,
    journal: Journal,
    new_lock: Option<File>,
}

impl Saved {
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.directory.join("snapshot")
    }

    pub(crate) fn bind(self, held: Option<Files>) -> Files {
        let lock = self.new_lock.or(held.and_then(|mut files| files.lock.take()));
        Files::new(self.directory, self.journal, lock)
    }
}

/// Whether a name is that of a log (`log_path`).
fn is_log(name: &str) -> bool {
    name.strip_prefix("log-").is_some_and(|generation| {
        generation.len() == 16 && generation.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Removes what older generations and crashes left (FS3).
fn sweep(directory: &Path, generation: u64) {
    let keep = log_path(directory, generation);
    for entry in read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let stale = name.to_str().is_some_and(|name| is_log(name) || name == "snapshot.new");
        if stale && entry.path() != keep {
            // What cannot be removed takes space and does no harm: only the generation's own log is read.
            let _ = remove_file(entry.path());
        }
    }
}

/// Opens the index in `directory`.
///
/// Nothing keeps a writer from saving while a reader opens: where the log of the snapshot was swept away meanwhile,
/// the reader begins again, with the pair that counts now.
pub(crate) fn open(directory: &Path, access: Access) -> Result<Index> {
    let path = directory.join("snapshot");
    let what = match metadata(&path) {
        Ok(found) if found.is_file() => None,
        Ok(_) => Some("its `snapshot` is no file"),
        Err(_) if directory.is_file() => Some("it is a file, and an index is a directory"),
        Err(error) if error.kind() == ErrorKind::NotFound && directory.is_dir() => {
            Some("it holds no `snapshot`")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some("there is no such directory: `save` makes one")
        }
        Err(error) => return Err(at("open", &path)(error)),
    };
    if let Some(what) = what {
        return Err(VectorError::Foreign { path: directory.to_owned(), what: what.to_owned() });
    }
    let directory = directory.canonicalize().map_err(at("open", directory))?;
    if access == Access::Write {
        let held = lock(&directory)?;
        return open_pair(directory, Some(held));
    }
    let path = directory.join("snapshot");
    loop {
        let before = snapshot::generation(&path)?;
        let opened = open_pair(directory.clone(), None);
        if opened.is_ok() || snapshot::generation(&path)? == before {
            return opened;
        }
    }
}

/// The snapshot and the log of its generation; a writer has the directory's lock.
fn open_pair(directory: PathBuf, held: Option<File>) -> Result<Index> {
    let path = directory.join("snapshot");
    let (store, generation) = snapshot::open(&path)?;
    let dimension = store.options.dimension;
    let index = Index::of(store, Writer::default());
    let log = log_path(&directory, generation);
    {
        let mut writer = index.change();
        let mut fine = None;
        let mut apply = |record: Record| {
            writer.replay(&index, &record, &mut fine).map_err(|error| match record {
                Record::Put { .. } => damaged(&log, format!("a record that cannot be: {error}")),
                Record::Remove { .. } => error,
            })
        };
        if let Some(held) = held {
            let journal = Journal::open(&log, generation, dimension, &mut apply)?;
            sweep(&directory, generation);
            writer.bind(Files::new(directory, journal, Some(held)));
            index.set_logged(writer.log());
        } else {
            journal::replay(&log, generation, dimension, &mut apply)?;
            writer.refuse();
        }
    }
    Ok(index)
}
