//! Looking at every slot of a set: exact for few, by estimates for more.
//!
//! Why: a graph is for finding a few among many. Where a filter leaves a few hundred, a walk would pass through
//! thousands that are refused; reading those few in order is both faster and better.

use crate::candidates::key;
use crate::error::Result;
use crate::rescore;
use crate::search::Scratch;
use crate::store::Store;

/// Up to so many are compared in full precision: the answer is exact.
pub(crate) const EXACT_MAX: usize = 256;
/// Slots estimated by one call of a kernel.
const CHUNK: usize = 256;

/// The `k` nearest of `slots`, which are live, into `scratch.hits`.
pub(crate) fn scan(
    store: &Store,
    scratch: &mut Scratch,
    slots: impl ExactSizeIterator<Item = u32>,
    k: usize,
    ef: usize,
) -> Result<()> {
    if slots.len() <= EXACT_MAX {
        return exact(store, scratch, slots, k);
    }
    let kept = ef.max(4 * k);
    scratch.candidates.reset(kept);
    let mut slots = slots.peekable();
    while slots.peek().is_some() {
        let Scratch { query, slots: some, distances, candidates, .. } = &mut *scratch;
        some.clear();
        some.extend(slots.by_ref().take(CHUNK));
        store.codec.estimate(query, &store.walked(), some, distances);
        for (&slot, &distance) in some.iter().zip(distances.iter()) {
            candidates.push(key(distance, slot));
        }
    }
    rescore::exact(store, scratch, k, kept)
}

fn exact(store: &Store, scratch: &mut Scratch, slots: impl Iterator<Item = u32>, k: usize) -> Result<()> {
    let rows = store.vectors.view();
    scratch.hits.clear();
    for slot in slots {
        store.sound(slot)?;
        let distance = store.codec.exact(&scratch.query.exact, rows.floats(slot));
        let id = store.ids.get(slot as usize).copied().unwrap_or(u64::MAX);
        scratch.hits.push((distance, id));
    }
    scratch.hits.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scratch.hits.truncate(k);
    Ok(())
}
