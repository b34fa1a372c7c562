//! The exact distances of the few that an estimate puts first.
//!
//! Why adaptive: how many of the first need another look depends on how wrong the estimates are, which the first looks
//! tell. Reading stops where the next estimate is so far behind the k-th exact distance that it would have to be wrong
//! by more than a few of the standard deviations seen so far. Who asks for a larger `ef` asks for more care: every
//! doubling past 20 adds two thirds of a deviation, so that recall goes on growing with `ef`.
//!
//! Invariants
//! - RE1 what is returned is exact, ascending, equal distances by id.

use crate::candidates::{distance_of, slot_of};
use crate::error::Result;
use crate::kernels::fetch_vector;
use crate::search::Scratch;
use crate::store::Store;

/// Vectors a hit that are asked of the disk together, where they lie there: about as many as are read.
const AT_ONCE: usize = 2;

/// Reads go on up to so many standard deviations of the estimates' error past the k-th exact distance.
fn deviations(ef: usize) -> f32 {
    2.0 + 0.66 * (ef as f32 / 20.0).log2().max(0.0)
}

/// Leaves in `scratch.hits` the `k` nearest of `scratch.candidates`.
pub(crate) fn exact(store: &Store, scratch: &mut Scratch, k: usize, ef: usize) -> Result<()> {
    let Scratch { query, candidates, hits, .. } = scratch;
    let rows = store.vectors.view();
    let keys = candidates.keys();
    let deviations = deviations(ef);
    hits.clear();
    if let Some(sums) = &store.sums {
        sums.will_check(&store.vectors, keys.iter().take(AT_ONCE * k).map(|&key| slot_of(key)));
    }
    if let Some(&first) = keys.first() {
        fetch_vector(rows.floats(slot_of(first)));
    }
    let (mut squares, mut worst) = (0.0_f32, f32::INFINITY);
    for (place, &key) in keys.iter().enumerate() {
        let (slot, estimate) = (slot_of(key), distance_of(key));
        if place >= k && estimate > worst + deviations * (squares / place as f32).sqrt() {
            break;
        }
        let next = keys.get(place + 1).map_or(&[][..], |&next| rows.floats(slot_of(next)));
        store.sound(slot)?;
        let distance = store.codec.exact_ahead(&query.exact, rows.floats(slot), next);
        squares += (distance - estimate) * (distance - estimate);
        if hits.len() < k || distance <= worst {
            let hit = (distance, store.ids.get(slot as usize).copied().unwrap_or(u64::MAX));
            let at = hits.partition_point(|other| *other < hit);
            hits.insert(at, hit);
            hits.truncate(k);
            if hits.len() == k {
                worst = hits.last().map_or(f32::INFINITY, |last| last.0);
            }
        }
    }
    Ok(())
}
