//! A disk in memory that fails on demand and whose power can be cut at any byte.
//!
//! Model (what a Linux file system promises, and no more)
//! - D1 a write is in the page cache at once and on the platter only after `sync_data` of that file returned.
//! - D2 of what was not synced, any prefix may survive a power cut, and of the writes in it any 512-byte sectors.
//! - D3 a name survives only after `sync_directory`, a size with the data.
//! - D4 a failed `sync_data` drops what it should have written, for good: a later success does not bring it back.
//! - D5 a failed write may have written any part of its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use symbi_types::{OpenMode, Storage, StorageFile, StorageLock};

use crate::SeededEntropy;

/// A write that is longer is cut at some of its bytes only.
const LONG_WRITE_BYTES: usize = 256 * 1024;
const LONG_WRITE_STEP: usize = 4_001;

/// Linux error numbers that a disk gives.
const EIO: i32 = 5;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;
/// The unit in which D2 loses data.
const SECTOR_BYTES: usize = 512;

/// What goes wrong at the call that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with EIO.
    Error,
    /// The call fails with ENOSPC; a write has written half.
    NoSpace,
    /// This call and every one after it fails with EIO: the disk is gone.
    Gone,
}

/// One thing that happened to the disk.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A name was given to a new file.
    Create(PathBuf, usize),
    /// Bytes at an offset of a file.
    Write(usize, u64, Vec<u8>),
    /// A file was cut or extended.
    SetSize(usize, u64),
    /// A file's data are on the platter.
    Sync(usize),
    /// A sync failed (D4).
    SyncLost(usize),
    /// A file got another name.
    Rename(PathBuf, PathBuf),
    /// A name is gone.
    Remove(PathBuf),
    /// The names are on the platter.
    SyncDirectory,
    /// The program said something to the outside here, such as "durable up to this number".
    Mark(u64),
}

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    files: Vec<Vec<u8>>,
    trace: Vec<Operation>,
    locks: BTreeSet<PathBuf>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    capacity_bytes: Option<usize>,
}

impl State {
    /// Counts the call and says whether it is the one that fails.
    fn enter(&mut self) -> Result<(), Fault> {
        self.calls += 1;
        match self.fault {
            Some((nth, Fault::Gone)) if self.calls >= nth => Err(Fault::Gone),
            Some((nth, fault)) if self.calls == nth => Err(fault),
            _ => Ok(()),
        }
    }

    fn room(&self) -> usize {
        let used: usize = self.names.values().map(|&file| self.files[file].len()).sum();
        self.capacity_bytes.map_or(usize::MAX, |capacity| capacity.saturating_sub(used))
    }

    fn put(&mut self, file: usize, offset: u64, bytes: &[u8]) {
        write_into(&mut self.files[file], offset, bytes);
        self.trace.push(Operation::Write(file, offset, bytes.to_vec()));
    }
}

fn write_into(data: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    if data.len() < offset + bytes.len() {
        data.resize(offset + bytes.len(), 0);
    }
    data[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn refuse(fault: Fault) -> io::Error {
    io::Error::from_raw_os_error(if fault == Fault::NoSpace { ENOSPC } else { EIO })
}

/// The disk. Clones share it.
#[derive(Clone, Default)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

/// What a power cut may leave.
pub struct CrashState {
    /// The disk as the next start finds it. Its trace is empty.
    pub disk: Disk,
    /// The last [`Disk::mark`] before the cut, 0 when there was none.
    pub mark: u64,
    /// How it came about, for the message of a failed assertion.
    pub story: String,
}

impl Disk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `nth` call from now (1 is the next) fails.
    pub fn fail(&self, nth: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.calls + nth, fault));
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        let mut state = self.state();
        state.fault = None;
        state.capacity_bytes = None;
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// At most this many bytes in all files together; a write past it writes what fits and fails with ENOSPC.
    pub fn set_capacity_bytes(&self, capacity_bytes: usize) {
        self.state().capacity_bytes = Some(capacity_bytes);
    }

    /// Bytes in all files together.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        let state = self.state();
        state.names.values().map(|&file| state.files[file].len()).sum()
    }

    /// Notes in the trace what the program has promised so far.
    pub fn mark(&self, promise: u64) {
        self.state().trace.push(Operation::Mark(promise));
    }

    /// A file's content as a reader sees it now.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|&file| state.files[file].clone())
    }

    /// Replaces a file's content behind the program's back.
    pub fn overwrite(&self, path: &Path, content: Vec<u8>) {
        let mut state = self.state();
        if let Some(&file) = state.names.get(path) {
            state.files[file] = content;
        } else {
            let file = state.files.len();
            state.files.push(content);
            state.names.insert(path.to_path_buf(), file);
        }
    }

    /// The names on the disk.
    #[must_use]
    pub fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> Vec<Operation> {
        self.state().trace.clone()
    }

    /// Goes through the states that a power cut could leave: at every point of the trace with all before it in the
    /// cache, every `step`-th byte prefix of each write (D2; of one that is longer than a group can be, such as the
    /// reserve's, some), and `lossy` seeded variants per write in which
    /// unsynced sectors are missing or zero and unsynced names are gone.
    pub fn crash_states(
        &self,
        step: usize,
        lossy: usize,
        seed: u64,
        mut visit: impl FnMut(CrashState),
    ) -> usize {
        let trace = self.trace();
        let entropy = SeededEntropy::new(seed);
        let mut replay = Replay::default();
        let mut count = 0;
        for (at, operation) in trace.iter().enumerate() {
            if let Operation::Write(_, _, bytes) = operation {
                let step =
                    if bytes.len() > LONG_WRITE_BYTES { step.max(LONG_WRITE_STEP) } else { step.max(1) };
                for length in (0..=bytes.len()).step_by(step) {
                    visit(replay.cut(at, operation, length));
                    count += 1;
                }
                for _ in 0..lossy {
                    visit(replay.lose(at, operation, &entropy));
                    count += 1;
                }
            }
            replay.apply(operation);
            if !matches!(operation, Operation::Write(..) | Operation::Mark(_)) {
                visit(replay.state(
                    replay.cache.clone(),
                    replay.names.clone(),
                    format!("after operation {at}"),
                ));
                visit(replay.lose(at, &Operation::Mark(replay.mark), &entropy));
                count += 2;
            }
        }
        count
    }
}

/// The trace up to a point, with what is on the platter beside what is in the cache.
#[derive(Default)]
struct Replay {
    cache: Vec<Vec<u8>>,
    platter: Vec<Vec<u8>>,
    /// Writes and cuts of each file since its last sync.
    pending: Vec<Vec<Operation>>,
    names: BTreeMap<PathBuf, usize>,
    names_on_platter: BTreeMap<PathBuf, usize>,
    mark: u64,
}

impl Replay {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create(path, file) => {
                while self.cache.len() <= *file {
                    self.cache.push(Vec::new());
                    self.platter.push(Vec::new());
                    self.pending.push(Vec::new());
                }
                self.names.insert(path.clone(), *file);
            }
            Operation::Write(file, offset, bytes) => {
                write_into(&mut self.cache[*file], *offset, bytes);
                self.pending[*file].push(operation.clone());
            }
            Operation::SetSize(file, size) => {
                self.cache[*file].resize(usize::try_from(*size).unwrap_or(0), 0);
                self.pending[*file].push(operation.clone());
            }
            Operation::Sync(file) => {
                let pending = std::mem::take(&mut self.pending[*file]);
                for one in &pending {
                    redo(&mut self.platter[*file], one);
                }
            }
            Operation::SyncLost(file) => self.pending[*file].clear(),
            Operation::Rename(from, to) => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Operation::Remove(path) => {
                self.names.remove(path);
            }
            Operation::SyncDirectory => self.names_on_platter = self.names.clone(),
            Operation::Mark(promise) => self.mark = *promise,
        }
    }

    fn state(&self, files: Vec<Vec<u8>>, names: BTreeMap<PathBuf, usize>, story: String) -> CrashState {
        let state = State { names, files, ..State::default() };
        CrashState { disk: Disk { state: Arc::new(Mutex::new(state)) }, mark: self.mark, story }
    }

    /// Everything before the write survives, and `length` bytes of it.
    fn cut(&self, at: usize, write: &Operation, length: usize) -> CrashState {
        let mut files = self.cache.clone();
        if let Operation::Write(file, offset, bytes) = write {
            write_into(&mut files[*file], *offset, &bytes[..length]);
        }
        self.state(files, self.names.clone(), format!("{length} bytes into operation {at}"))
    }

    /// The platter, and of what was not synced a seeded choice: per file a prefix of its writes, per sector of
    /// these whether it was written, kept, or zero.
    fn lose(&self, at: usize, last: &Operation, entropy: &SeededEntropy) -> CrashState {
        let mut files = self.platter.clone();
        for (file, data) in files.iter_mut().enumerate() {
            let mut pending: Vec<&Operation> = self.pending[file].iter().collect();
            if matches!(last, Operation::Write(written, ..) if *written == file) {
                pending.push(last);
            }
            let kept = entropy.below(pending.len() as u64 + 1);
            for one in pending.iter().take(usize::try_from(kept).unwrap_or(0)) {
                lose_sectors(data, one, entropy);
            }
        }
        let names = if entropy.below(2) == 0 { &self.names } else { &self.names_on_platter };
        self.state(files, names.clone(), format!("sectors lost at operation {at}"))
    }
}

fn redo(data: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Write(_, offset, bytes) => write_into(data, *offset, bytes),
        Operation::SetSize(_, size) => data.resize(usize::try_from(*size).unwrap_or(0), 0),
        _ => {}
    }
}

/// Applies an unsynced operation sector by sector of the file; each sector arrives, or not, or as zeros where the
/// file grew.
fn lose_sectors(data: &mut Vec<u8>, operation: &Operation, entropy: &SeededEntropy) {
    let Operation::Write(_, offset, bytes) = operation else { return redo(data, operation) };
    let start = usize::try_from(*offset).unwrap_or(0);
    let mut from = 0;
    let lucky = entropy.below(3) == 0;
    while from < bytes.len() {
        let sector_end = ((start + from) / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let to = (sector_end - start).min(bytes.len());
        if lucky || entropy.below(3) > 0 {
            write_into(data, (start + from) as u64, &bytes[from..to]);
        }
        from = to;
    }
}

struct DiskFile {
    disk: Disk,
    file: usize,
}

impl StorageFile for DiskFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.enter().map_err(refuse)?;
        let data = &state.files[self.file];
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let length = buffer.len().min(data.len() - from);
        buffer[..length].copy_from_slice(&data[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let outcome = state.enter();
        let data = state.files[self.file].len();
        let end = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(bytes.len());
        let growth = end.saturating_sub(data);
        let room = state.room();
        let (written, outcome) = match outcome {
            Err(Fault::Gone) => (0, Err(Fault::Gone)),
            Err(fault) => (bytes.len() / 2, Err(fault)), // D5
            Ok(()) if growth > room => (bytes.len() - (growth - room), Err(Fault::NoSpace)),
            Ok(()) => (bytes.len(), Ok(())),
        };
        if written > 0 {
            state.put(self.file, offset, &bytes[..written]);
        }
        outcome.map_err(refuse)
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.enter().map_err(refuse)?;
        Ok(state.files[self.file].len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.enter().map_err(refuse)?;
        state.files[self.file].resize(usize::try_from(size).unwrap_or(0), 0);
        state.trace.push(Operation::SetSize(self.file, size));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let outcome = state.enter();
        let what = if outcome.is_ok() { Operation::Sync } else { Operation::SyncLost }; // D4
        state.trace.push(what(self.file));
        outcome.map_err(refuse)
    }
}

struct DiskLock {
    disk: Disk,
    path: PathBuf,
}

impl StorageLock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

impl Storage for Disk {
    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        self.state().enter().map_err(refuse)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.enter().map_err(refuse)?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state();
        state.enter().map_err(refuse)?;
        let file = match (state.names.get(path), mode) {
            (Some(&file), _) => file,
            (None, OpenMode::Create) => {
                let file = state.files.len();
                state.files.push(Vec::new());
                state.names.insert(path.to_path_buf(), file);
                state.trace.push(Operation::Create(path.to_path_buf(), file));
                file
            }
            (None, _) => return Err(io::Error::from_raw_os_error(ENOENT)),
        };
        Ok(Box::new(DiskFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.enter().map_err(refuse)?;
        let file = state.names.remove(from).ok_or_else(|| io::Error::from_raw_os_error(ENOENT))?;
        state.names.insert(to.to_path_buf(), file);
        state.trace.push(Operation::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.enter().map_err(refuse)?;
        state.names.remove(path).ok_or_else(|| io::Error::from_raw_os_error(ENOENT))?;
        state.trace.push(Operation::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.enter().map_err(refuse)?;
        state.trace.push(Operation::SyncDirectory);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        let mut state = self.state();
        state.enter().map_err(refuse)?;
        if !state.locks.insert(path.to_path_buf()) {
            return Ok(None);
        }
        drop(state);
        Ok(Some(Box::new(DiskLock { disk: self.clone(), path: path.to_path_buf() })))
    }
}
