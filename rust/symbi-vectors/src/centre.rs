//! The centre that one-bit codes are measured from: the mean of the vectors, taken again as they become more.
//!
//! Why: the error of a code grows with the length of what it stands for. A model's embeddings have much in common, which the mean
//! holds; what is left is shorter, and so is the error.
//! Not here: how a code is made and read (`codes`).
//!
//! Invariants
//! - CE1 the same changes give the same centre, also when a log repeats them (IX2).
//! - CE2 a search sees codes and centre of one state.
//!
//! Source: Gao & Long 2024 (RaBitQ), section 3.1.

use crate::codes::{Codec, Table};
use crate::error::Result;
use crate::index::Index;
use crate::options::Quantization;
use crate::sharing::encode;
use crate::store::{Slot, Store};

/// A mean of fewer vectors says little, and so few are scanned anyway.
const LEAST: usize = 256;
/// Vectors that a mean is taken of, spread over all: its own error is then a sixty-fourth of theirs.
const SAMPLE: usize = 4096;
/// A centre is worth making all codes anew where it takes away this share of the squared lengths.
const WORTH: f64 = 0.05;
/// Codes made by one call.
const PIECE: usize = 1024;

/// Takes the mean anew where there are twice as many vectors as when it was last taken.
///
/// A vector that cannot be read leaves everything as it is: whoever needs it is told.
pub(crate) fn recentre_if_due(index: &Index, threads: usize) {
    let made = {
        let store = index.read();
        let due =
            store.options.quantization == Quantization::Binary && store.len() >= 2 * store.centred.max(LEAST);
        due.then(|| recentred(&store, threads))
    };
    let Some(made) = made else { return };
    let mut store = index.write();
    store.centred = store.len();
    if let Ok(Some((codec, codes))) = made {
        store.codec = codec; // CE2: both under one lock
        let old = store.codes.replace(codes);
        drop(store);
        drop(old); // no search waits for it
    }
}

/// Another codec and all codes by it, where that is worth it.
fn recentred(store: &Store, threads: usize) -> Result<Option<(Codec, Table)>> {
    let dimension = store.options.dimension;
    let (mut sums, mut squares, mut count) = (vec![0.0_f64; dimension], 0.0_f64, 0_u32);
    let live = (0..store.slots() as u32).filter(|&slot| store.is_live(slot));
    for slot in live.step_by(store.len().div_ceil(SAMPLE).max(1)) {
        store.sound(slot)?;
        for (sum, &value) in sums.iter_mut().zip(store.vectors.view().floats(slot)) {
            *sum += f64::from(value);
            squares += f64::from(value) * f64::from(value);
        }
        count += 1;
    }
    let mean = sums.iter().map(|sum| (sum / f64::from(count)) as f32).collect();
    let mean = store.codec.rotated(mean);
    let zero = vec![0.0; dimension];
    let old = if store.codec.centre().is_empty() { &zero } else { store.codec.centre() };
    let sum = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
        mean.iter().zip(old).map(|(&new, &old)| term(f64::from(new), f64::from(old))).sum()
    };
    let moved = sum(&|new, old| (new - old) * (new - old));
    let left = squares / f64::from(count) - sum(&|new, old| old * (2.0 * new - old));
    if moved <= WORTH * left {
        return Ok(None);
    }
    let codec = Codec::centred(&store.options, store.codec.kernels, mean);
    let mut codes = Table::new(&codec);
    let failed = |source| crate::VectorError::Memory { bytes: store.slots() * codec.row_bytes(), source };
    codes.grow(store.slots()).map_err(failed)?;
    let used: Vec<u32> = (0..store.slots() as u32)
        .filter(|&slot| store.states.get(slot as usize).is_some_and(|&state| state != Slot::Free))
        .collect();
    let mut vectors = Vec::with_capacity(PIECE * dimension);
    for slots in used.chunks(PIECE) {
        vectors.clear();
        for &slot in slots {
            store.sound(slot)?;
            vectors.extend_from_slice(store.vectors.view().floats(slot));
        }
        let rows = encode(&codec, &vectors, threads);
        for (&slot, row) in slots.iter().zip(rows.chunks_exact(codec.row_bytes())) {
            codes.put(slot, row);
        }
    }
    Ok(Some((codec, codes)))
}
