//! The index: one writer, any number of searches.
//!
//! Why two locks: `writer` is held for the whole of a change and keeps other writers out; `store` is held for writing
//! only for the moments in which slots are placed or change their state, and shared while nodes are linked (the lists
//! are atomics). So a search waits for microseconds at most, and sees a change whole or not at all.
//! Not here: what is on disk (`snapshot`, `journal`).
//!
//! Invariants
//! - IX1 a search sees all of a piece of an `add`, a `remove` or an `upsert`, or nothing of it.
//! - IX2 one thread and one seed give the same index from the same calls.
//! - IX3 when `add` or `remove` returns, every later search sees what it did.

use std::cell::RefCell;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::batch::{Asked, RUN, answer_all};
use crate::error::{Result, VectorError};
use crate::files::{self, Access};
use crate::filter::Filter;
use crate::options::{EF_MAX, K_MAX, Options, THREADS_MAX, range};
use crate::query::{LARGE, normalised};
use crate::search::Scratch;
use crate::store::Store;
use crate::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::writer::Writer;

/// Candidates that a search keeps where the caller says nothing, for up to 32 results.
pub const EF_DEFAULT: usize = 64;

/// How `add` treats an id that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is an error, and nothing is added.
    Insert,
    /// The new vector takes the place of the old one.
    Upsert,
}

/// What an index is made of, in numbers.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Settings.
    pub options: Options,
    /// Kernels in use.
    pub kernels: &'static str,
    /// Vectors that searches find.
    pub vectors: usize,
    /// Slots, free and hidden ones included.
    pub slots: usize,
    /// Slots that wait to be free: removed or replaced since the graph was mended last.
    pub hidden: usize,
    /// Layers above the lowest.
    pub level: u32,
    /// Bytes of graph, codes and directory.
    pub index_bytes: usize,
    /// Bytes of vectors in memory.
    pub vector_bytes: usize,
    /// Bytes of vectors mapped from a file: in memory only as far as they are read.
    pub mapped_bytes: usize,
    /// Changes in the log since the last snapshot; bytes of the log.
    pub log: Option<(u64, u64)>,
}

/// A set of vectors under 64-bit ids, searchable by nearness. All methods may be called from several threads.
#[derive(Debug)]
pub struct Index {
    pub(crate) options: Options,
    pub(crate) store: RwLock<Store>,
    pub(crate) writer: Mutex<Writer>,
    pool: Mutex<Vec<Scratch>>,
    /// Records and bytes of the log, as the last change left it: who asks does not wait for a build.
    logged: Mutex<Option<(u64, u64)>>,
    pub(crate) identity: u64,
}

thread_local! {
    /// The indexes whose `progress` this thread is in, one within the other.
    static TELLING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, this thread is in the `progress` of an index.
struct Telling;

impl Telling {
    fn of(index: &Index) -> Self {
        TELLING.with_borrow_mut(|telling| telling.push(index.identity));
        Self
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        TELLING.with_borrow_mut(|telling| telling.pop());
    }
}

impl Index {
    /// An empty index in memory.
    ///
    /// # Errors
    /// [`VectorError::Range`] names a setting outside its range.
    pub fn new(options: Options) -> Result<Self> {
        let options = options.checked()?;
        Ok(Self::of(Store::new(options), Writer::default()))
    }

    pub(crate) fn of(store: Store, writer: Writer) -> Self {
        static IDENTITIES: AtomicU64 = AtomicU64::new(0);
        Self {
            options: store.options,
            store: RwLock::new(store),
            writer: Mutex::new(writer),
            pool: Mutex::new(Vec::new()),
            logged: Mutex::new(None),
            identity: IDENTITIES.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Its settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Vectors that searches find.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `id` is there.
    pub fn contains(&self, id: u64) -> bool {
        self.read().directory.contains_key(&id)
    }

    /// All ids, ascending.
    pub fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.read().directory.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Adds vectors, rows of `vectors`, under `ids`.
    ///
    /// Works in pieces, each visible at once and whole; `progress` is told how many are in after each and may stop.
    /// Returns how many replaced another.
    ///
    /// # Errors
    /// Wrong counts or lengths, components that are not finite, ids that are there ([`Mode::Insert`]) or stand twice:
    /// nothing was added. [`VectorError::Io`] for a log that cannot be written, [`VectorError::Stopped`]: what was
    /// told to `progress` stays, and so does what came before [`VectorError::Partly`]. [`VectorError::Within`] from the `progress` of its own change.
    pub fn add(
        &self,
        ids: &[u64],
        vectors: &[f32],
        mode: Mode,
        threads: usize,
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<usize> {
        let mut told = |done, total| {
            let _telling = Telling::of(self);
            progress(done, total)
        };
        self.changing()?.add(self, ids, vectors, mode, checked_threads(threads)?, &mut told)
    }

    /// Removes ids; returns how many were there.
    ///
    /// # Errors
    /// [`VectorError::Io`] for a log that cannot be written: nothing was removed.
    pub fn remove(&self, ids: &[u64]) -> Result<usize> {
        self.changing()?.remove(self, ids)
    }

    /// The nearest to each query (rows of `queries`), nearest first, into rows of `ids` and `distances`.
    ///
    /// Returns the length of a row, which is `k`, or the number of vectors that may be found where that is less; the
    /// rows stand one after the other, without gaps. Where vectors are removed meanwhile, a row is filled up with
    /// `u64::MAX` and infinity.
    ///
    /// # Errors
    /// Wrong lengths and components; `k`, `ef` or `threads` out of range; a file that turns out to be damaged.
    #[expect(clippy::too_many_arguments, reason = "one call a search: a struct would be built for each")]
    pub fn search(
        &self,
        queries: &[f32],
        k: usize,
        ef: Option<usize>,
        filter: Option<&Filter>,
        threads: usize,
        ids: &mut [u64],
        distances: &mut [f32],
    ) -> Result<usize> {
        self.search_while(queries, k, ef, filter, threads, ids, distances, &mut || true)
    }

    /// As `search`, as long as `go_on`, which is asked every few milliseconds, says so.
    ///
    /// # Errors
    /// As `search`; [`VectorError::Interrupted`].
    #[expect(clippy::too_many_arguments, reason = "as `search`")]
    pub fn search_while(
        &self,
        queries: &[f32],
        k: usize,
        ef: Option<usize>,
        filter: Option<&Filter>,
        threads: usize,
        ids: &mut [u64],
        distances: &mut [f32],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<usize> {
        let dimension = self.options.dimension;
        if !(1..=K_MAX).contains(&k) {
            return Err(range("k", k, "1 to 16,384"));
        }
        let ef = ef.unwrap_or_else(|| EF_DEFAULT.max(2 * k));
        if ef < k || ef > EF_MAX {
            return Err(range("ef", ef, "`k` to 65,536"));
        }
        if !queries.len().is_multiple_of(dimension) {
            return Err(VectorError::Dimension { given: queries.len(), expected: dimension });
        }
        let count = queries.len() / dimension;
        if ids.len() < count * k || distances.len() < count * k {
            return Err(VectorError::Count { ids: ids.len(), vectors: count * k });
        }
        let threads = checked_threads(threads)?.min(count.div_ceil(RUN)).max(1);
        let width = {
            let store = self.read();
            store.check()?;
            let allowed =
                filter.map_or(store.len(), |filter| filter.compile(self.identity, &store).slots.len());
            k.min(allowed)
        };
        if width == 0 || count == 0 {
            for (row, query) in queries.chunks_exact(dimension).enumerate() {
                let mut query = query.to_vec();
                normalised(self.options.metric, self.read().codec.kernels.dot, row, &mut query, LARGE)?;
            }
            return Ok(width);
        }
        let asked = Asked { k, width, ef, filter };
        answer_all(self, &asked, threads, queries, ids, distances, go_on).map(|()| width)
    }

    /// Writes the index into `directory`, which is made, and logs every later change there before it is seen.
    ///
    /// Searches go on meanwhile. Afterwards the vectors are mapped from the file, and their memory is given back.
    ///
    /// # Errors
    /// [`VectorError::Io`], [`VectorError::Locked`], [`VectorError::Foreign`]: what was in the directory still is, and
    /// the index is as it was. Where the very last step failed, either the old or the new state opens after a crash;
    /// the index then refuses changes ([`VectorError::Poisoned`]) until it is opened again.
    pub fn save(&self, directory: &Path) -> Result<()> {
        self.changing()?.save(self, directory)
    }

    /// Opens the index in `directory`, by memory map: what was saved there, and all changes since.
    ///
    /// # Errors
    /// [`VectorError::Foreign`], [`VectorError::Damaged`], [`VectorError::Io`]; [`VectorError::Locked`] where another
    /// has it open for writing.
    pub fn open(directory: &Path, access: Access) -> Result<Self> {
        files::open(directory, access)
    }

    /// What it is made of.
    pub fn stats(&self) -> Stats {
        let log = *self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.read();
        let (index_bytes, vector_bytes, mapped_bytes) = store.bytes();
        Stats {
            options: self.options,
            kernels: store.codec.kernels.name,
            vectors: store.len(),
            slots: store.slots(),
            hidden: store.hidden,
            level: store.graph.entry().map_or(0, |entry| entry.level),
            index_bytes,
            vector_bytes,
            mapped_bytes,
            log,
        }
    }

    /// Bytes of graph, codes and directory; vectors in full precision are not among them.
    pub fn memory_bytes(&self) -> usize {
        self.read().bytes().0
    }

    // A panic while a lock was held is a broken invariant; what it left is still bounded by checks on every read.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Store> {
        self.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer, for who does not have it yet.
    fn changing(&self) -> Result<MutexGuard<'_, Writer>> {
        let within = TELLING.with_borrow(|telling| telling.contains(&self.identity));
        if within { Err(VectorError::Within) } else { Ok(self.change()) }
    }

    pub(crate) fn set_logged(&self, log: Option<(u64, u64)>) {
        *self.logged.lock().unwrap_or_else(PoisonError::into_inner) = log;
    }

    pub(crate) fn take_scratch(&self) -> Scratch {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(crate) fn give_scratch(&self, scratch: Scratch) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}

fn checked_threads(threads: usize) -> Result<usize> {
    if (1..=THREADS_MAX).contains(&threads) {
        Ok(threads)
    } else {
        Err(range("threads", threads, "1 to 1,024"))
    }
}
