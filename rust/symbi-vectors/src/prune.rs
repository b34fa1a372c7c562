//! Which of the near nodes to link to: near ones that are not nearer to each other.
//!
//! Why: links to a cluster's centre alone lead nowhere else. A candidate is taken only where it is nearer to the node
//! than to every one taken before.
//!
//! Source: Malkov & Yashunin, algorithm 4, without filling up with what was left out.

use crate::candidates::{distance_of, key, slot_of};
use crate::codes::Codec;
use crate::kernels::{View, fetch_vector};
use crate::store::Store;

/// Distances between stored vectors: from codes that are fine enough, or from the vectors.
#[derive(Clone, Copy)]
pub(crate) enum Pairs<'a> {
    /// Rows of this codec.
    Codes(&'a Codec, View<'a>),
    /// The vectors as they are stored. One in a damaged block of a file is as far as can be: what reads it raises.
    Vectors(&'a Store),
}

impl Pairs<'_> {
    #[inline]
    pub(crate) fn distance(&self, left: u32, right: u32) -> f32 {
        match self {
            Self::Codes(codec, rows) => codec.between(rows, left, right),
            Self::Vectors(store) => {
                if store.sound(left).and_then(|()| store.sound(right)).is_err() {
                    return f32::MAX;
                }
                let rows = store.vectors.view();
                store.codec.exact(rows.floats(left), rows.floats(right))
            }
        }
    }
}

impl Pairs<'_> {
    /// Keys of `others`, nearest to `slot` first. A vector's lines are asked for while the one before is compared.
    pub(crate) fn near_first(&self, slot: u32, others: &[u32], keys: &mut Vec<u64>) {
        keys.clear();
        for (place, &other) in others.iter().enumerate() {
            if let (Self::Vectors(store), Some(&next)) = (self, others.get(place + 1)) {
                fetch_vector(store.vectors.view().floats(next));
            }
            keys.push(key(self.distance(slot, other), other));
        }
        keys.sort_unstable();
    }
}

/// Takes at most `limit` of `keys` (ascending distances from the node) into `taken`.
pub(crate) fn choose(pairs: &Pairs<'_>, keys: &[u64], limit: usize, taken: &mut Vec<u32>) {
    taken.clear();
    for &key in keys {
        if taken.len() == limit {
            break;
        }
        let (slot, distance) = (slot_of(key), distance_of(key));
        if taken.iter().all(|&other| pairs.distance(slot, other) >= distance) {
            taken.push(slot);
        }
    }
}
