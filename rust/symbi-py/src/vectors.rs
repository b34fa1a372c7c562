//! `_core.VectorIndex`, `_core.VectorFilter`: buffers in, buffers out.
//!
//! Why buffers: numpy arrays are read and filled where they lie, without the GIL. One query is so short that asking for three
//! buffers and making two arrays in Python would be a fifth of it: it goes through numpy's own interface (docs/adr/0265).
//! Not here: shapes, dtypes and defaults (`symbi/vectors.py`), everything else (`symbi-vectors`).

use std::path::PathBuf;

use numpy::{PyArray1, PyArrayMethods};
use pyo3::buffer::{Element, PyBuffer};
use pyo3::prelude::*;
use symbi_vectors as core;

use crate::errors::{Raise, enter};

fn class(error: &core::VectorError) -> &'static str {
    use core::VectorError as E;
    match error {
        E::Range { .. } | E::Count { .. } | E::ReservedId | E::Within => "InputError",
        E::Dimension { .. } => "DimensionError",
        E::NotFinite { .. } | E::Zero { .. } => "VectorValueError",
        E::Duplicate { .. } => "DuplicateIdError",
        E::Foreign { .. } | E::Damaged { .. } => "VectorFileError",
        E::Locked { .. } => "VectorIndexLockedError",
        E::Partly { source, .. } => class(source),
        E::Full
        | E::Memory { .. }
        | E::Io { .. }
        | E::ReadOnly
        | E::Poisoned
        | E::Forked
        | E::Interrupted
        | E::Stopped { .. } => "VectorIndexError",
    }
}

impl From<core::VectorError> for Raise {
    fn from(error: core::VectorError) -> Self {
        Self::new(class(&error), error.to_string())
    }
}

/// Hits of one query that are kept on the stack until they are an array.
const HITS: usize = 128;

type Hits<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<f32>>);

/// The memory of an array, to be read.
#[expect(unsafe_code, reason = "a buffer's memory as a slice")]
fn readable<T: Element>(buffer: &PyBuffer<T>) -> PyResult<&[T]> {
    if !buffer.is_c_contiguous() {
        return Err(Raise::new("InputError", "the array must be contiguous").into());
    }
    if buffer.item_count() == 0 {
        return Ok(&[]);
    }
    // SAFETY: the buffer is held for as long as the slice, C-contiguous, of items of T (`PyBuffer::get` has checked
    // format and alignment). Nobody may write into the array during the call, as with any library that reads numpy's
    // memory without the GIL; who does gets other numbers: every bit pattern is one, and none of them bounds memory.
    Ok(unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<T>().cast_const(), buffer.item_count()) })
}

/// The memory of an array that our own wrapper has just made, to be filled.
#[expect(unsafe_code, reason = "a buffer's memory as a slice")]
#[expect(clippy::mut_from_ref, reason = "the buffer is a view of memory that it does not own")]
fn writable<T: Element>(buffer: &PyBuffer<T>) -> PyResult<&mut [T]> {
    if buffer.readonly() || !buffer.is_c_contiguous() {
        return Err(Raise::new("InputError", "the array must be writable and contiguous").into());
    }
    if buffer.item_count() == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as in `readable`; the wrapper gives arrays that nobody else has seen yet.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast::<T>(), buffer.item_count()) })
}

/// A set of ids that a search may return.
#[pyclass(frozen, module = "symbi._core")]
struct VectorFilter(core::Filter);

#[pymethods]
impl VectorFilter {
    #[new]
    fn new(ids: PyBuffer<u64>) -> PyResult<Self> {
        Ok(Self(core::Filter::from_ids(readable(&ids)?)))
    }

    #[staticmethod]
    fn from_roaring(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        enter(py, || core::Filter::from_roaring(data)).map(Self)
    }

    fn to_roaring(&self, py: Python<'_>) -> Vec<u8> {
        py.detach(|| self.0.to_roaring())
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.0.len()).unwrap_or(usize::MAX)
    }

    fn __contains__(&self, id: u64) -> bool {
        self.0.contains(id)
    }
}

/// See `symbi.VectorIndex`.
#[pyclass(frozen, module = "symbi._core")]
struct VectorIndex(core::Index);

#[pymethods]
impl VectorIndex {
    #[new]
    fn new(
        dimension: usize,
        metric: &str,
        m: usize,
        ef_construct: usize,
        quantization: &str,
        seed: u64,
    ) -> PyResult<Self> {
        let made = || {
            core::Index::new(core::Options {
                dimension,
                metric: metric.parse()?,
                m,
                ef_construct,
                quantization: core::Quantization::choose(quantization, dimension)?,
                seed,
            })
        };
        Ok(Self(made().map_err(Raise::from)?))
    }

    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, read_only: bool) -> PyResult<Self> {
        let access = if read_only { core::Access::Read } else { core::Access::Write };
        enter(py, || core::Index::open(&path, access)).map(Self)
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        enter(py, || self.0.save(&path))
    }

    /// `progress(done, total)` is called after each piece; signals are looked at in between.
    fn add(
        &self,
        py: Python<'_>,
        ids: PyBuffer<u64>,
        vectors: PyBuffer<f32>,
        replace: bool,
        threads: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<usize> {
        let (ids, vectors) = (readable(&ids)?, readable(&vectors)?);
        let mode = if replace { core::Mode::Upsert } else { core::Mode::Insert };
        let mut raised = None;
        let mut told = |done: usize, total: usize| {
            Python::attach(|py| {
                let heard = py.check_signals().and_then(|()| match &progress {
                    Some(progress) => progress.call1(py, (done, total)).map(|_| ()),
                    None => Ok(()),
                });
                raised = heard.err();
                raised.is_none()
            })
        };
        let added = enter(py, || self.0.add(ids, vectors, mode, threads, &mut told));
        raised.map_or(added, Err)
    }

    fn remove(&self, py: Python<'_>, ids: PyBuffer<u64>) -> PyResult<usize> {
        let ids = readable(&ids)?;
        enter(py, || self.0.remove(ids))
    }

    /// Ids and distances of one query that lies in memory as the core reads it, with up to 128 hits. `None` for anything else:
    /// the general way looks at it.
    #[expect(unsafe_code, reason = "an array's memory as a slice")]
    fn search_one<'py>(
        &self,
        py: Python<'py>,
        query: &Bound<'py, PyAny>,
        k: &Bound<'py, PyAny>,
        ef: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Hits<'py>>> {
        let (Ok(query), Ok(k), Ok(ef)) =
            (query.cast::<PyArray1<f32>>(), k.extract::<usize>(), ef.extract::<Option<usize>>())
        else {
            return Ok(None);
        };
        // SAFETY: as in `readable`: the array is held for as long as the slice, and nobody may write into it meanwhile.
        let Ok(query) = (unsafe { query.as_slice() }) else { return Ok(None) };
        let usual = (1..=HITS).contains(&k) && ef.is_none_or(|ef| (k..=core::EF_MAX).contains(&ef));
        if !usual || query.len() != self.0.options().dimension {
            return Ok(None);
        }
        let (mut ids, mut distances) = ([0; HITS], [0.0; HITS]);
        let width = enter(py, || self.0.search(query, k, ef, None, 1, &mut ids, &mut distances))?;
        // Where vectors are removed meanwhile the row is filled up; one row can end where its hits do.
        let width = ids.iter().take(width).take_while(|&&id| id != u64::MAX).count();
        let (Some(ids), Some(distances)) = (ids.get(..width), distances.get(..width)) else {
            return Ok(None);
        };
        Ok(Some((PyArray1::from_slice(py, ids), PyArray1::from_slice(py, distances))))
    }

    /// Fills `ids` and `distances`; the length of a row.
    #[expect(clippy::too_many_arguments, reason = "one call a search")]
    fn search(
        &self,
        py: Python<'_>,
        queries: PyBuffer<f32>,
        k: usize,
        ef: Option<usize>,
        filter: Option<Bound<'_, VectorFilter>>,
        threads: usize,
        ids: PyBuffer<u64>,
        distances: PyBuffer<f32>,
    ) -> PyResult<usize> {
        let queries = readable(&queries)?;
        let (ids, distances) = (writable(&ids)?, writable(&distances)?);
        let filter = filter.as_ref().map(|filter| &filter.get().0);
        let mut raised = None;
        let mut go_on = || {
            raised = Python::attach(|py| py.check_signals()).err();
            raised.is_none()
        };
        let found =
            enter(py, || self.0.search_while(queries, k, ef, filter, threads, ids, distances, &mut go_on));
        raised.map_or(found, Err)
    }

    /// Fills `ids`, ascending, as far as they fit; how many there are.
    fn ids(&self, py: Python<'_>, ids: PyBuffer<u64>) -> PyResult<usize> {
        let places = writable(&ids)?;
        let all = py.detach(|| self.0.ids());
        for (place, id) in places.iter_mut().zip(&all) {
            *place = *id;
        }
        Ok(all.len())
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __contains__(&self, id: u64) -> bool {
        self.0.contains(id)
    }

    #[getter]
    fn dimension(&self) -> usize {
        self.0.options().dimension
    }

    #[getter]
    fn metric(&self) -> &'static str {
        self.0.options().metric.as_str()
    }

    #[getter]
    fn quantization(&self) -> &'static str {
        self.0.options().quantization.as_str()
    }

    #[getter]
    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    /// Names and values, in the order of `symbi.vectors.VectorStats`.
    fn stats(&self, py: Python<'_>) -> VectorStats {
        let stats = py.detach(|| self.0.stats());
        let (log_records, log_bytes) = stats.log.unwrap_or_default();
        (
            (stats.kernels, stats.vectors, stats.slots, stats.hidden, stats.level),
            (stats.options.m, stats.options.ef_construct, stats.options.seed),
            (stats.index_bytes, stats.vector_bytes, stats.mapped_bytes, log_records, log_bytes),
        )
    }
}

type VectorStats =
    ((&'static str, usize, usize, usize, u32), (usize, usize, u64), (usize, usize, usize, u64, u64));

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<VectorFilter>()?;
    module.add_class::<VectorIndex>()
}
