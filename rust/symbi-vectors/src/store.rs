//! Vectors, codes and graph of an index, by slot: what searches share and writers change.
//!
//! Why slots: an id may be replaced or removed while searches run; a slot keeps its vector until nobody can reach it.
//! A slot is *live* (found by searches), *hidden* (linked, and not found yet or any more) or *free*. Its state changes
//! only under `&mut`, so that a search sees all of a change or nothing of it.
//! Not here: locks (`index`), files (`snapshot`, `journal`).
//!
//! Invariants
//! - ST1 an id is in the directory exactly when its slot is live.
//! - ST2 a free slot stands in no list of the graph.
//! - ST3 a vector's row is written only while its slot is in no list.

use std::collections::HashMap;

use crate::codes::{Codec, Table};
use crate::error::{Result, VectorError};
use crate::graph::{Entry, Graph};
use crate::kernels::{View, best};
use crate::memory::{Rows, as_bytes};
use crate::options::{Options, Quantization, SLOTS_MAX};
use crate::seeds::{IdHashing, mix};
use crate::sums::{Pending, Sums};

/// State of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// No vector.
    Free = 0,
    /// Found by searches.
    Live = 1,
    /// In the graph, and not found.
    Hidden = 2,
}

/// See the header.
#[derive(Debug)]
pub(crate) struct Store {
    pub options: Options,
    pub codec: Codec,
    /// Codes; without one, empty.
    pub codes: Option<Table>,
    /// The vectors as they are compared in full precision.
    pub vectors: Rows,
    pub graph: Graph,
    pub ids: Vec<u64>,
    pub states: Vec<Slot>,
    pub directory: HashMap<u64, u32, IdHashing>,
    pub free: Vec<u32>,
    /// Slots that are hidden: searches look at states only where there are any.
    pub hidden: usize,
    /// How many were live when the codes' centre was last taken.
    pub centred: usize,
    /// Grows with every change of what is live.
    pub version: u64,
    /// Checks of what is mapped from a file.
    pub sums: Option<Sums>,
    /// The check of graph and codes, before their first use.
    pub pending: Option<Pending>,
}

#[expect(clippy::indexing_slicing, reason = "a slot that is not there must end in a panic")]
impl Store {
    pub(crate) fn new(options: Options) -> Self {
        let codec = Codec::new(&options, best());
        let codes = (options.quantization != Quantization::None).then(|| Table::new(&codec));
        Self {
            options,
            codec,
            codes,
            vectors: Rows::new(4 * options.dimension),
            graph: Graph::new(options.m, options.seed),
            ids: Vec::new(),
            states: Vec::new(),
            directory: HashMap::with_hasher(IdHashing(mix(options.seed))),
            free: Vec::new(),
            hidden: 0,
            centred: 0,
            version: 0,
            sums: None,
            pending: None,
        }
    }

    /// Vectors that searches find.
    pub(crate) fn len(&self) -> usize {
        self.directory.len()
    }

    /// Slots, whatever their state.
    pub(crate) fn slots(&self) -> usize {
        self.states.len()
    }

    /// The rows that a walk compares with.
    #[inline]
    pub(crate) fn walked(&self) -> View<'_> {
        self.codes.as_ref().map_or_else(|| self.vectors.view(), Table::view)
    }

    pub(crate) fn is_live(&self, slot: u32) -> bool {
        self.states[slot as usize] == Slot::Live
    }

    /// Checks graph and codes of a mapped file, the first time.
    ///
    /// # Errors
    /// [`VectorError::Damaged`] where they are not what was written.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        self.pending.as_ref().map_or(Ok(()), |pending| pending.check(self))
    }

    /// Checks the block of a mapped file that a vector stands in, the first time.
    ///
    /// # Errors
    /// [`crate::VectorError::Damaged`] where it is not what was written.
    #[inline]
    pub(crate) fn sound(&self, slot: u32) -> Result<()> {
        self.sums.as_ref().map_or(Ok(()), |sums| sums.check_vector(&self.vectors, slot))
    }

    /// Checks all vectors.
    ///
    /// # Errors
    /// As `sound`.
    pub(crate) fn all_sound(&self) -> Result<()> {
        (0..self.slots() as u32).try_for_each(|slot| self.sound(slot))
    }

    /// Makes room for `count` more vectors, so that placing them cannot fail.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<()> {
        let fresh = count.saturating_sub(self.free.len());
        let slots = self.slots() + fresh;
        if slots >= SLOTS_MAX {
            return Err(VectorError::Full);
        }
        let row = 4 * self.options.dimension + self.codec.row_bytes() + 8 * self.options.m;
        let failed = |source| VectorError::Memory { bytes: fresh * row, source };
        self.vectors.grow(slots).map_err(failed)?;
        if let Some(codes) = &mut self.codes {
            codes.grow(slots).map_err(failed)?;
        }
        self.graph.base.grow(slots).map_err(failed)
    }

    /// Puts a vector and its code into a slot of their own, hidden (ST3). Room was made by `reserve`.
    pub(crate) fn place(&mut self, id: u64, vector: &[f32], code: &[u8]) -> Result<u32> {
        let slot = self.free.pop().unwrap_or(self.slots() as u32);
        self.sound(slot)?; // a page of the file that is changed cannot be checked any more
        self.graph.place(slot).map_err(|source| VectorError::Memory { bytes: 0, source })?;
        if slot as usize == self.slots() {
            self.ids.push(id);
            self.states.push(Slot::Hidden);
        } else {
            self.ids[slot as usize] = id;
            self.states[slot as usize] = Slot::Hidden;
        }
        self.hidden += 1;
        self.vectors.row_mut(slot).copy_from_slice(as_bytes(vector));
        if let Some(codes) = &mut self.codes {
            codes.put(slot, code);
        }
        Ok(slot)
    }

    /// Makes a hidden slot live; what had its id before is hidden (ST1).
    pub(crate) fn reveal(&mut self, slot: u32) {
        debug_assert!(self.states[slot as usize] == Slot::Hidden, "ST1");
        self.states[slot as usize] = Slot::Live;
        self.hidden -= 1;
        if let Some(old) = self.directory.insert(self.ids[slot as usize], slot) {
            self.states[old as usize] = Slot::Hidden;
            self.hidden += 1;
        }
        self.version += 1;
    }

    /// Hides the slot of `id`; whether there was one.
    pub(crate) fn hide(&mut self, id: u64) -> bool {
        let Some(slot) = self.directory.remove(&id) else { return false };
        self.states[slot as usize] = Slot::Hidden;
        self.hidden += 1;
        self.version += 1;
        true
    }

    /// Frees the hidden slots `slots`, which no list names any more (ST2).
    pub(crate) fn release(&mut self, slots: &[u32]) {
        for &slot in slots {
            debug_assert!(self.states[slot as usize] == Slot::Hidden, "ST2");
            self.states[slot as usize] = Slot::Free;
            self.hidden -= 1;
            self.free.push(slot);
        }
    }

    /// The live node of the highest layer.
    pub(crate) fn highest(&self) -> Option<Entry> {
        (0..self.slots() as u32)
            .filter(|&slot| self.is_live(slot))
            .map(|slot| Entry { slot, level: self.graph.level(slot) })
            .max_by_key(|entry| (entry.level, std::cmp::Reverse(entry.slot)))
    }

    /// Bytes of graph, codes and directory in memory or mapped; of vectors in memory; of vectors in a file's map.
    pub(crate) fn bytes(&self) -> (usize, usize, usize) {
        let (own, mapped) = self.vectors.bytes();
        let codes = self.codes.as_ref().map_or(0, Table::bytes);
        // A hash table holds 16 bytes an entry and one of control, and is at most seven eighths full.
        let directory = 17 * (self.directory.capacity() * 8 / 7);
        (self.graph.bytes() + codes + directory + 9 * self.slots(), own, mapped)
    }
}
