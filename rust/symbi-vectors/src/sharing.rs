//! Work on many vectors or nodes, divided between threads.
//!
//! Why scopes and no pool: a change is rare and long beside starting a thread, and an index that stands still has none.
//! Not here: what is done with one node (`link`), in which order changes become true (`writer`).
//!
//! Invariants
//! - SR1 on one thread everything is done in order (IX2).

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::aligned::Aligned;
use crate::codes::Codec;
use crate::graph::NONE;
use crate::index::Index;
use crate::link::{link, mend};
use crate::prune::Pairs;
use crate::store::Store;
use crate::sync::scope;

/// A fresh graph gets so many nodes from one thread, before several can find their way.
const FIRST: usize = 64;

/// Codes of rows of `vectors`, one after the other.
pub(crate) fn encode(codec: &Codec, vectors: &[f32], threads: usize) -> Vec<u8> {
    let (dimension, stride) = (codec.dimension(), codec.row_bytes());
    let count = vectors.len() / dimension;
    let mut codes = vec![0; count * stride];
    if stride == 0 {
        return codes;
    }
    let share = count.div_ceil(threads).max(1);
    let work = |vectors: &[f32], codes: &mut [u8]| {
        let mut rotated = Aligned::default();
        for (vector, row) in vectors.chunks_exact(dimension).zip(codes.chunks_exact_mut(stride)) {
            codec.encode(vector, &mut rotated, row);
        }
    };
    let parts = vectors.chunks(share * dimension).zip(codes.chunks_mut(share * stride));
    if threads == 1 || count < threads * 4 {
        parts.for_each(|(vectors, codes)| work(vectors, codes));
    } else {
        scope(|scope| {
            for (vectors, codes) in parts {
                scope.spawn(move || work(vectors, codes));
            }
        });
    }
    codes
}

/// Links `slots`, in order on one thread (SR1), by turns on several.
pub(crate) fn link_all(index: &Index, store: &Store, pairs: &Pairs<'_>, slots: &[u32], threads: usize) {
    let alone = if threads == 1 || slots.len() < 4 * threads {
        slots.len()
    } else {
        FIRST.saturating_sub(store.len()).min(slots.len())
    };
    let (alone, together) = slots.split_at(alone);
    let turn = AtomicUsize::new(0);
    let work = |next: &mut dyn FnMut() -> u32| {
        let (mut scratch, mut taken) = (index.take_scratch(), Vec::new());
        loop {
            match next() {
                NONE => break,
                slot => link(store, pairs, slot, &mut scratch, &mut taken),
            }
        }
        index.give_scratch(scratch);
    };
    let mut in_order = alone.iter().copied();
    work(&mut || in_order.next().unwrap_or(NONE));
    if !together.is_empty() {
        scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    work(&mut || together.get(turn.fetch_add(1, Ordering::Relaxed)).copied().unwrap_or(NONE));
                });
            }
        });
    }
}

/// Mends all lists; the nodes that are left without links.
pub(crate) fn mend_all(index: &Index, store: &Store, pairs: &Pairs<'_>, threads: usize) -> Vec<u32> {
    let slots = store.slots() as u32;
    let share = slots.div_ceil(threads as u32).max(1);
    let work = |first: u32| {
        let (mut scratch, mut lonely) = (index.take_scratch(), Vec::new());
        mend(store, pairs, first..(first + share).min(slots), &mut scratch, &mut lonely);
        index.give_scratch(scratch);
        lonely
    };
    if threads == 1 {
        return work(0);
    }
    scope(|scope| {
        let running: Vec<_> =
            (0..slots).step_by(share as usize).map(|first| scope.spawn(move || work(first))).collect();
        running
            .into_iter()
            .flat_map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
