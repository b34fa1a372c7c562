//! Changes, in the order in which they become true: checked, logged, placed, linked, seen.
//!
//! Why pieces: a build of a million vectors is logged, linked and shown a thousand at a time, so that memory for it is
//! bounded, searches see it grow, and a caller can stop it.
//! Not here: the bytes of the log (`journal`), how the work is divided between threads (`sharing`).
//!
//! Invariants
//! - WR1 what is wrong with the arguments is found before anything is changed.
//! - WR2 a change is in the log before any search sees it.

use std::collections::HashSet;
use std::path::Path;

use crate::aligned::Aligned;
use crate::centre::recentre_if_due;
use crate::codes::{Codec, Table};
use crate::error::{Result, VectorError};
use crate::files::Files;
use crate::index::{Index, Mode};
use crate::journal::Record;
use crate::kernels::best;
use crate::options::{Options, Quantization};
use crate::prune::Pairs;
use crate::query::{LARGE, normalised, usual};
use crate::sharing::{encode, link_all, mend_all};
use crate::snapshot;
use crate::store::{Slot, Store};

/// Vectors that become visible together.
pub(crate) const PIECE: usize = 1024;
/// The graph is mended when one in so many slots is hidden: a pass over all lists costs as much as some inserts.
const MEND_SHARE: usize = 16;
const MEND_MIN: usize = 64;
/// Where an `add` brings at least one in so many of all vectors, finer codes of all are made for its duration.
const SKETCH_SHARE: usize = 8;

/// The writer's own state. Its lock is the index's one writer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    files: Option<Files>,
    read_only: bool,
}

/// Finer codes than one bit, for choosing links; made for a build and dropped after it.
pub(crate) struct Sketch {
    codec: Codec,
    rows: Table,
}

impl Sketch {
    fn new(options: &Options) -> Self {
        let codec = Codec::new(&Options { quantization: Quantization::Int4, ..*options }, best());
        let rows = Table::new(&codec);
        Self { codec, rows }
    }

    /// Codes of all that stands in the graph, hidden or not.
    fn of_all(store: &Store) -> Result<Self> {
        let mut sketch = Self::new(&store.options);
        let used = |&slot: &u32| store.states.get(slot as usize).is_some_and(|&state| state != Slot::Free);
        sketch.cover(store, (0..store.slots() as u32).filter(used))?;
        Ok(sketch)
    }

    /// Codes of the slots `slots`, from their vectors.
    fn cover(&mut self, store: &Store, slots: impl Iterator<Item = u32>) -> Result<()> {
        let failed = |source| VectorError::Memory { bytes: store.slots() * self.codec.row_bytes(), source };
        self.rows.grow(store.slots()).map_err(failed)?;
        let (mut scratch, mut row) = (Aligned::default(), vec![0; self.codec.row_bytes()]);
        for slot in slots {
            store.sound(slot)?;
            self.codec.encode(store.vectors.view().floats(slot), &mut scratch, &mut row);
            self.rows.put(slot, &row);
        }
        Ok(())
    }
}

impl Writer {
    /// Records and bytes of the log, where there is one.
    pub(crate) fn log(&self) -> Option<(u64, u64)> {
        self.files.as_ref().map(Files::log)
    }

    pub(crate) fn bind(&mut self, files: Files) {
        self.files = Some(files);
    }

    /// From now on changes are refused.
    pub(crate) fn refuse(&mut self) {
        self.read_only = true;
    }

    fn allowed(&self) -> Result<()> {
        if self.read_only {
            return Err(VectorError::ReadOnly);
        }
        if self.files.as_ref().is_some_and(|files| !files.are_ours()) {
            Err(VectorError::Forked)
        } else {
            Ok(())
        }
    }

    /// Writes a snapshot into `directory` and logs there from now on. Searches go on; so do mapped vectors after it.
    pub(crate) fn save(&mut self, index: &Index, directory: &Path) -> Result<()> {
        self.allowed()?;
        index.read().check()?;
        self.mend_now(index, None, 1);
        let saved = {
            let store = index.read();
            store.all_sound()?;
            Files::save(&store, directory, self.files.as_mut())?
        };
        let mapped = snapshot::map_vectors(&saved.snapshot());
        self.files = Some(saved.bind(self.files.take()));
        index.set_logged(self.log());
        let (vectors, sums) = mapped?;
        let old = {
            let mut store = index.write();
            store.sums = Some(sums);
            std::mem::replace(&mut store.vectors, vectors)
        };
        drop(old); // gives gigabytes back, and no search waits for it
        let store = index.read();
        if store.codes.is_none() { store.all_sound() } else { Ok(()) } // SU1: these are walked on
    }

    /// Does again what a record of the log says: everything about it is checked but whether ids are there.
    pub(crate) fn replay(&mut self, index: &Index, record: &Record, fine: &mut Option<Sketch>) -> Result<()> {
        match record {
            Record::Remove { ids } => self.remove(index, ids).map(|_| ()),
            Record::Put { ids, vectors, fine: chosen } => {
                index.read().check()?;
                check(&index.read(), ids, vectors, Mode::Upsert, f32::MAX)?; // earlier builds took longer ones
                if !chosen {
                    *fine = None;
                } else if fine.is_none() {
                    *fine = Some(Sketch::of_all(&index.read())?);
                }
                let codes = encode(&index.read().codec, vectors, 1);
                self.place(index, ids, vectors, &codes, fine.as_mut(), 1).map(|_| ())
            }
        }
    }

    pub(crate) fn add(
        &mut self,
        index: &Index,
        ids: &[u64],
        vectors: &[f32],
        mode: Mode,
        threads: usize,
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<usize> {
        self.allowed()?;
        let dimension = index.options.dimension;
        {
            let store = index.read();
            store.check()?;
            check(&store, ids, vectors, mode, LARGE)?;
        }
        let mut sketch = self.sketch(index, ids.len())?;
        let (mut done, mut replaced, total) = (0, 0, ids.len());
        for (ids, vectors) in ids.chunks(PIECE).zip(vectors.chunks(PIECE * dimension)) {
            replaced += self.piece(index, ids, vectors, sketch.as_mut(), threads).map_err(|source| {
                if done == 0 { source } else { VectorError::Partly { done, total, source: Box::new(source) } }
            })?;
            done += ids.len();
            if !progress(done, total) {
                return Err(VectorError::Stopped { done, total });
            }
        }
        Ok(replaced)
    }

    fn sketch(&self, index: &Index, count: usize) -> Result<Option<Sketch>> {
        let store = index.read();
        let worth = count * SKETCH_SHARE >= store.len() && count > 1;
        if index.options.quantization != Quantization::Binary || !worth {
            return Ok(None);
        }
        Sketch::of_all(&store).map(Some)
    }

    /// A piece of an `add`: made as it is stored, logged (WR2), placed, linked, seen.
    fn piece(
        &mut self,
        index: &Index,
        ids: &[u64],
        vectors: &[f32],
        sketch: Option<&mut Sketch>,
        threads: usize,
    ) -> Result<usize> {
        let dimension = index.options.dimension;
        let mut vectors = vectors.to_vec();
        let codes = {
            let store = index.read();
            for (row, vector) in vectors.chunks_exact_mut(dimension).enumerate() {
                normalised(index.options.metric, store.codec.kernels.dot, row, vector, LARGE)?;
            }
            encode(&store.codec, &vectors, threads)
        };
        index.write().reserve(ids.len())?; // before it is in the log: no record that cannot be done
        if let Some(files) = &mut self.files {
            files.journal().put(ids, &vectors, sketch.is_some())?; // WR2
        }
        index.set_logged(self.log());
        self.place(index, ids, &vectors, &codes, sketch, threads)
    }

    /// Vectors as they are stored, with their codes, into the index; how many replaced another.
    fn place(
        &mut self,
        index: &Index,
        ids: &[u64],
        vectors: &[f32],
        codes: &[u8],
        mut sketch: Option<&mut Sketch>,
        threads: usize,
    ) -> Result<usize> {
        let dimension = index.options.dimension;
        index.write().reserve(ids.len())?;
        let slots = {
            let mut store = index.write();
            let stride = store.codec.row_bytes();
            let mut slots = Vec::with_capacity(ids.len());
            for (place, (&id, vector)) in ids.iter().zip(vectors.chunks_exact(dimension)).enumerate() {
                let code = codes.get(place * stride..(place + 1) * stride).unwrap_or_default();
                slots.push(store.place(id, vector, code)?);
            }
            slots
        };
        {
            let store = index.read();
            if let Some(sketch) = sketch.as_deref_mut() {
                sketch.cover(&store, slots.iter().copied())?;
            }
            let pairs = pairs(&store, sketch.as_deref());
            link_all(index, &store, &pairs, &slots, threads);
        }
        let mut store = index.write();
        let before = store.len();
        for &slot in &slots {
            store.reveal(slot);
        }
        let replaced = slots.len() - (store.len() - before);
        drop(store);
        self.mend_if_due(index, sketch.as_deref(), threads);
        recentre_if_due(index, threads);
        Ok(replaced)
    }

    pub(crate) fn remove(&mut self, index: &Index, ids: &[u64]) -> Result<usize> {
        self.allowed()?;
        let known: Vec<u64> = {
            let store = index.read();
            store.check()?;
            ids.iter().copied().filter(|id| store.directory.contains_key(id)).collect()
        };
        if let Some(files) = self.files.as_mut().filter(|_| !known.is_empty()) {
            files.journal().remove(&known)?; // WR2
        }
        index.set_logged(self.log());
        let removed = {
            let mut store = index.write();
            known.iter().filter(|&&id| store.hide(id)).count()
        };
        self.mend_if_due(index, None, 1);
        Ok(removed)
    }

    /// Takes hidden slots out of the graph where there are enough of them.
    fn mend_if_due(&mut self, index: &Index, sketch: Option<&Sketch>, threads: usize) {
        let due = {
            let store = index.read();
            store.hidden >= MEND_MIN.max(store.slots() / MEND_SHARE) || store.len() == 0
        };
        if due {
            self.mend_now(index, sketch, threads);
        }
    }

    fn mend_now(&mut self, index: &Index, sketch: Option<&Sketch>, threads: usize) {
        let store = index.read();
        if store.hidden == 0 {
            return;
        }
        let entry = store.graph.entry().filter(|entry| store.is_live(entry.slot));
        store.graph.set_entry(entry.or_else(|| store.highest()));
        let pairs = pairs(&store, sketch);
        let lonely = mend_all(index, &store, &pairs, threads);
        link_all(index, &store, &pairs, &lonely, 1);
        let hidden: Vec<u32> = (0..store.slots() as u32)
            .filter(|&slot| store.states.get(slot as usize) == Some(&Slot::Hidden))
            .collect();
        drop(store);
        index.write().release(&hidden);
    }
}

/// WR1: everything that can be wrong with an `add`.
fn check(store: &Store, ids: &[u64], vectors: &[f32], mode: Mode, largest: f32) -> Result<()> {
    let dimension = store.options.dimension;
    if !vectors.len().is_multiple_of(dimension) {
        return Err(VectorError::Dimension { given: vectors.len(), expected: dimension });
    }
    if vectors.len() / dimension != ids.len() {
        return Err(VectorError::Count { ids: ids.len(), vectors: vectors.len() / dimension });
    }
    let mut seen = HashSet::with_capacity(ids.len());
    for &id in ids {
        if id == u64::MAX {
            return Err(VectorError::ReservedId);
        }
        if !seen.insert(id) {
            return Err(VectorError::Duplicate { id, why: "stands twice in one call" });
        }
        if mode == Mode::Insert && store.directory.contains_key(&id) {
            return Err(VectorError::Duplicate { id, why: "is in the index already: `upsert` replaces it" });
        }
    }
    let mut scratch = Vec::new();
    for (row, vector) in vectors.chunks_exact(dimension).enumerate() {
        let squared = (store.codec.kernels.dot)(vector, vector);
        if !usual(squared) {
            scratch.clear();
            scratch.extend_from_slice(vector);
            normalised(store.options.metric, store.codec.kernels.dot, row, &mut scratch, largest)?;
        }
    }
    Ok(())
}

fn pairs<'a>(store: &'a Store, sketch: Option<&'a Sketch>) -> Pairs<'a> {
    match (sketch, &store.codes, store.options.quantization) {
        (Some(sketch), _, _) => Pairs::Codes(&sketch.codec, sketch.rows.view()),
        (None, Some(codes), Quantization::Int8 | Quantization::Int4) => {
            Pairs::Codes(&store.codec, codes.view())
        }
        _ => Pairs::Vectors(store),
    }
}
