//! Which ids a search may return.
//!
//! Why compiled: a search asks about slots, a caller speaks of ids. The set is translated once for a state of an
//! index and kept with the filter; where the index has changed since, it is translated again.
//!
//! Invariants
//! - FI1 a search with a filter returns no id outside it, and none that is not live.

use std::sync::{Arc, PoisonError};

use roaring::RoaringTreemap;

use crate::error::Result;
use crate::options::range;
use crate::store::Store;
use crate::sync::Mutex;

const ROARING: &str = "a 64-bit Roaring bitmap in its portable form";

/// A set of ids, compressed. Cheap to keep, may be used with several indexes and threads.
#[derive(Debug, Default)]
pub struct Filter {
    ids: RoaringTreemap,
    compiled: Mutex<Option<Arc<Compiled>>>,
}

impl Filter {
    /// From ids in any order; those that an index does not have do no harm.
    pub fn from_ids(ids: &[u64]) -> Self {
        Self::from_bitmap(ids.iter().copied().collect())
    }

    /// From a bitmap, such as a compiled predicate yields.
    pub fn from_bitmap(ids: RoaringTreemap) -> Self {
        Self { ids, compiled: Mutex::new(None) }
    }

    /// From the portable form of a 64-bit Roaring bitmap, as CRoaring, pyroaring and others write it.
    ///
    /// # Errors
    /// [`crate::VectorError::Range`] for bytes that are none.
    pub fn from_roaring(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        match RoaringTreemap::deserialize_from(&mut rest) {
            Ok(ids) if rest.is_empty() => Ok(Self::from_bitmap(ids)),
            Ok(_) => Err(range("bitmap", format!("{} bytes too long", rest.len()), ROARING)),
            Err(error) => Err(range("bitmap", error, ROARING)),
        }
    }

    /// The set in the portable form, which `from_roaring` takes.
    pub fn to_roaring(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.ids.serialized_size());
        // Writing to memory does not fail; what was written is what counts.
        let _ = self.ids.serialize_into(&mut bytes);
        bytes
    }

    /// Ids in the set.
    pub fn len(&self) -> u64 {
        self.ids.len()
    }

    /// Whether nothing passes.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether `id` passes.
    pub fn contains(&self, id: u64) -> bool {
        self.ids.contains(id)
    }

    /// The set as slots of the index `identity`.
    pub(crate) fn compile(&self, identity: u64, store: &Store) -> Arc<Compiled> {
        let mut kept = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = kept.as_ref()
            && compiled.of == (identity, store.version)
        {
            return Arc::clone(compiled);
        }
        let compiled = Arc::new(Compiled::new(&self.ids, identity, store));
        *kept = Some(Arc::clone(&compiled));
        compiled
    }
}

/// Live slots of one state of one index.
#[derive(Debug)]
pub(crate) struct Compiled {
    of: (u64, u64),
    bits: Vec<u64>,
    /// Ascending.
    pub slots: Vec<u32>,
}

impl Compiled {
    fn new(ids: &RoaringTreemap, identity: u64, store: &Store) -> Self {
        let mut slots: Vec<u32> = if ids.len() < store.len() as u64 {
            ids.iter().filter_map(|id| store.directory.get(&id).copied()).collect()
        } else {
            store.directory.iter().filter(|(id, _)| ids.contains(**id)).map(|(_, &slot)| slot).collect()
        };
        slots.sort_unstable();
        let mut bits = vec![0_u64; store.slots().div_ceil(64)];
        for &slot in &slots {
            if let Some(word) = bits.get_mut(slot as usize / 64) {
                *word |= 1 << (slot % 64);
            }
        }
        Self { of: (identity, store.version), bits, slots }
    }

    #[inline]
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.bits.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }
}
