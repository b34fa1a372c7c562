//! The queries of one call, divided between threads.
//!
//! Why runs that are taken in turn: on a machine that does something else too, halves of a batch are not done at the same
//! time. The caller's thread takes its share.
//! Why no threads that stand by: one is started in some microseconds, and an index that is not asked has none.
//! Not here: one query (`query`).
//!
//! Invariants
//! - BA1 an answer does not depend on the threads, nor on the queries beside it.
//! - BA2 of several mistakes in a batch the first is told, whatever the threads.

use std::sync::PoisonError;

use crate::error::{Result, VectorError};
use crate::filter::Filter;
use crate::index::Index;
use crate::query::{answer, taken};
use crate::search::Scratch;
use crate::sync::{Mutex, scope};

/// Queries answered under one shared lock, and taken by a thread at once: a writer waits for no more than these.
pub(crate) const RUN: usize = 8;

/// Runs of the caller's thread between two looks at whether it wants to go on: some milliseconds.
const LOOKED: usize = 32;

/// What is asked about each query.
pub(crate) struct Asked<'a> {
    pub k: usize,
    /// Hits a row: `k`, or as many as may be found.
    pub width: usize,
    pub ef: usize,
    pub filter: Option<&'a Filter>,
}

/// A few queries, and where their answers go.
struct Run<'a> {
    first: usize,
    queries: &'a [f32],
    ids: &'a mut [u64],
    distances: &'a mut [f32],
}

/// Answers all queries on `threads` threads, of which the caller's is one, as long as `go_on` says so.
pub(crate) fn answer_all(
    index: &Index,
    asked: &Asked<'_>,
    threads: usize,
    queries: &[f32],
    ids: &mut [u64],
    distances: &mut [f32],
    go_on: &mut dyn FnMut() -> bool,
) -> Result<()> {
    let mut runs = queries
        .chunks(RUN * index.options.dimension)
        .zip(ids.chunks_mut(RUN * asked.width))
        .zip(distances.chunks_mut(RUN * asked.width))
        .enumerate()
        .map(|(run, ((queries, ids), distances))| Run { first: run * RUN, queries, ids, distances });
    if threads == 1 {
        return work(index, asked, || runs.next(), go_on).map_err(|(_, error)| error);
    }
    let runs = Mutex::new(Some(runs));
    let left = || runs.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || left().as_mut()?.next();
    // A thread ends at its first mistake. Runs are taken in order, so the first mistake of all is one of these (BA2).
    let mistakes = scope(|scope| {
        let others: Vec<_> =
            (1..threads).map(|_| scope.spawn(|| work(index, asked, next, &mut || true))).collect();
        let mut mistakes: Vec<_> = work(index, asked, next, go_on).err().into_iter().collect();
        if matches!(mistakes.first(), Some((_, VectorError::Interrupted))) {
            *left() = None;
        }
        for other in others {
            mistakes.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).err());
        }
        mistakes
    });
    mistakes.into_iter().min_by_key(|(first, _)| *first).map_or(Ok(()), |(_, error)| Err(error))
}

/// Answers runs until there is none; a mistake with the first row of its run.
fn work<'a>(
    index: &Index,
    asked: &Asked<'_>,
    mut next: impl FnMut() -> Option<Run<'a>>,
    go_on: &mut dyn FnMut() -> bool,
) -> std::result::Result<(), (usize, VectorError)> {
    let mut scratch = index.take_scratch();
    let mut taken = 0_usize;
    while let Some(run) = next() {
        let first = run.first;
        answer_run(index, asked, run, &mut scratch).map_err(|error| (first, error))?;
        taken += 1;
        if taken.is_multiple_of(LOOKED) && !go_on() {
            return Err((usize::MAX, VectorError::Interrupted));
        }
    }
    index.give_scratch(scratch);
    Ok(())
}

fn answer_run(index: &Index, asked: &Asked<'_>, run: Run<'_>, scratch: &mut Scratch) -> Result<()> {
    let store = index.read();
    let compiled = asked.filter.map(|filter| filter.compile(index.identity, &store));
    let queries = run.queries.chunks_exact(index.options.dimension);
    let places = run.ids.chunks_exact_mut(asked.width).zip(run.distances.chunks_exact_mut(asked.width));
    for (place, (query, (ids, distances))) in queries.zip(places).enumerate() {
        let dot = store.codec.kernels.dot;
        taken(index.options.metric, dot, run.first + place, query, &mut scratch.query.exact)?;
        answer(&store, scratch, asked.k, asked.ef, compiled.as_deref())?;
        let padding = std::iter::repeat(&(f32::INFINITY, u64::MAX));
        for ((id, distance), hit) in ids.iter_mut().zip(distances).zip(scratch.hits.iter().chain(padding)) {
            (*distance, *id) = *hit;
        }
    }
    Ok(())
}
