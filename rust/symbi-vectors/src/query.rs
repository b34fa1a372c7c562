//! One query: which way to answer it.
//!
//! Invariants
//! - QU1 as many hits as there are, up to `k`: where a walk finds fewer, everything that may be found is looked at.

use crate::aligned::Aligned;
use crate::error::{Result, VectorError};
use crate::filter::Compiled;
use crate::options::Metric;
use crate::rescore;
use crate::scan::{EXACT_MAX, scan};
use crate::search::Scratch;
use crate::store::Store;

/// A walk compares with about so many slots for each candidate that it keeps.
const COMPARED_PER_CANDIDATE: usize = 16;

/// What is worth another look where `ef` is small: a walk meets more that is near than it goes on from.
const RESCORED_PER_HIT: usize = 2;

/// Squares of lengths below it have lost digits, as their terms have.
const SMALL: f32 = 1e-30;
/// Above it sums of squares and products would not be finite.
pub(crate) const LARGE: f32 = f32::MAX / 16.0;

/// Whether a vector of this squared length is compared without a closer look.
pub(crate) fn usual(squared: f32) -> bool {
    (SMALL..=LARGE).contains(&squared)
}

/// Writes `vector` as it is compared: normalised under cosine.
///
/// # Errors
/// Where a component is not finite; under cosine where the length is zero, else where its square is above `largest`.
pub(crate) fn normalised(
    metric: Metric,
    dot: fn(&[f32], &[f32]) -> f32,
    row: usize,
    vector: &mut [f32],
    largest: f32,
) -> Result<()> {
    let mut squared = dot(vector, vector);
    if squared.is_nan() || squared > largest || (squared < SMALL && metric == Metric::Cosine) {
        // Very large and very small vectors have a direction too, unless they hold what is no number.
        if vector.iter().any(|value| !value.is_finite()) || metric != Metric::Cosine {
            return Err(VectorError::NotFinite { row });
        }
        let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 {
            return Err(VectorError::Zero { row });
        }
        vector.iter_mut().for_each(|value| *value /= largest);
        squared = dot(vector, vector);
    }
    if metric == Metric::Cosine {
        let inverse = 1.0 / squared.sqrt();
        vector.iter_mut().for_each(|value| *value *= inverse);
    }
    Ok(())
}

/// Copies `query` as it is compared: normalised under cosine.
///
/// # Errors
/// As `normalised`.
pub(crate) fn taken(
    metric: Metric,
    dot: fn(&[f32], &[f32]) -> f32,
    row: usize,
    query: &[f32],
    place: &mut Aligned,
) -> Result<()> {
    let squared = dot(query, query);
    if metric == Metric::Cosine && usual(squared) {
        let inverse = 1.0 / squared.sqrt(); // as `normalised` has it, without a pass for the copy
        place.fill(query.iter().map(|value| value * inverse));
        return Ok(());
    }
    place.fill(query.iter().copied());
    normalised(metric, dot, row, place, LARGE)
}

/// The hits for `scratch.query.exact` into `scratch.hits`.
pub(crate) fn answer(
    store: &Store,
    scratch: &mut Scratch,
    k: usize,
    ef: usize,
    filter: Option<&Compiled>,
) -> Result<()> {
    store.codec.prepare(&mut scratch.query);
    let allowed = filter.map_or(store.len(), |filter| filter.slots.len());
    let few = match filter {
        None => allowed <= EXACT_MAX,
        Some(_) => allowed <= EXACT_MAX || allowed * allowed <= COMPARED_PER_CANDIDATE * ef * store.len(),
    };
    if few {
        return everything(store, scratch, k, ef, filter);
    }
    let Some(entry) = store.graph.entry() else {
        scratch.hits.clear();
        return Ok(());
    };
    let from = scratch.descend(store, entry, 0, None);
    match filter {
        Some(filter) => scratch.among(store, from, ef, |slot| filter.contains(slot)),
        None if store.hidden > 0 => scratch.among(store, from, ef, |slot| store.is_live(slot)),
        None => scratch.walk(store, from, ef, ef.max(RESCORED_PER_HIT * k)),
    }
    rescore::exact(store, scratch, k, ef)?;
    if scratch.hits.len() < k.min(allowed) {
        return everything(store, scratch, k, ef, filter); // QU1
    }
    Ok(())
}

fn everything(
    store: &Store,
    scratch: &mut Scratch,
    k: usize,
    ef: usize,
    filter: Option<&Compiled>,
) -> Result<()> {
    match filter {
        Some(filter) => scan(store, scratch, filter.slots.iter().copied(), k, ef),
        None => {
            let mut slots: Vec<u32> = store.directory.values().copied().collect();
            slots.sort_unstable();
            scan(store, scratch, slots.into_iter(), k, ef)
        }
    }
}
