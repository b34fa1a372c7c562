//! Checksums of a mapped file, checked where they are first needed.
//!
//! Why not all at open: a million vectors are six gigabytes, and opening them must take a blink. Graph and codes are
//! checked before the first use of any of it, and so are vectors that are walked on themselves; else a vector's block is
//! checked when the vector is first read.
//! Not here: where the sums stand in the file (`snapshot`).
//!
//! Invariants
//! - SU1 no byte of the file is used before the block that it stands in was checked.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::codes::Table;
use crate::error::{Result, VectorError};
use crate::memory::Rows;
use crate::store::Store;

/// Bytes under one checksum.
pub(crate) const BLOCK_BYTES: usize = 1 << 16;

/// Checksums of the blocks of a section, the last one shorter.
pub(crate) fn of(pieces: &[&[u8]]) -> Vec<u32> {
    let mut sums = Vec::new();
    let (mut hasher, mut filled) = (crc32fast::Hasher::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - filled));
            hasher.update(now);
            filled += now.len();
            rest = later;
            if filled == BLOCK_BYTES {
                sums.push(std::mem::take(&mut hasher).finalize());
                filled = 0;
            }
        }
    }
    if filled > 0 {
        sums.push(hasher.finalize());
    }
    sums
}

/// Checks of the vectors of a mapped snapshot.
#[derive(Debug)]
pub(crate) struct Sums {
    path: PathBuf,
    sums: Vec<u32>,
    /// A bit a block: checked, and good.
    good: Vec<AtomicU64>,
    rows: u32,
    stride: usize,
}

impl Sums {
    pub(crate) fn new(path: PathBuf, sums: Vec<u32>, rows: u32, stride: usize) -> Self {
        let good = (0..sums.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { path, sums, good, rows, stride }
    }

    /// Checks the blocks of a vector, once (SU1).
    ///
    /// # Errors
    /// [`VectorError::Damaged`] where a block is not what was written.
    #[inline]
    pub(crate) fn check_vector(&self, vectors: &Rows, slot: u32) -> Result<()> {
        if slot >= self.rows {
            return Ok(());
        }
        self.unseen(slot).try_for_each(|block| self.check_block(vectors, block))
    }

    /// Has the system read the blocks of vectors that were not checked yet, all at once: a disk is asked once for a query,
    /// and not once for each vector.
    pub(crate) fn will_check(&self, vectors: &Rows, slots: impl Iterator<Item = u32>) {
        for block in slots.filter(|&slot| slot < self.rows).flat_map(|slot| self.unseen(slot)) {
            vectors.will_read(block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES);
        }
    }

    /// The blocks that a vector stands in and that were not checked yet.
    #[inline]
    fn unseen(&self, slot: u32) -> impl Iterator<Item = usize> {
        let start = slot as usize * self.stride;
        (start / BLOCK_BYTES..=(start + self.stride - 1) / BLOCK_BYTES).filter(|block| {
            let word = self.good.get(block / 64).map_or(0, |word| word.load(Ordering::Acquire));
            word & 1 << (block % 64) == 0
        })
    }

    #[cold]
    fn check_block(&self, vectors: &Rows, block: usize) -> Result<()> {
        let mapped = vectors.mapped();
        vectors.will_read(block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES);
        let end = mapped.len().min((block + 1) * BLOCK_BYTES);
        let found = mapped.get(block * BLOCK_BYTES..end).map(crc32fast::hash);
        if found.is_none() || found != self.sums.get(block).copied() {
            let what = format!("checksum of block {block} of the vectors");
            return Err(VectorError::Damaged { path: self.path.clone(), what });
        }
        if let Some(word) = self.good.get(block / 64) {
            word.fetch_or(1 << (block % 64), Ordering::Release);
        }
        Ok(())
    }
}

/// The check of graph and codes of a mapped snapshot, done once, before their first use.
#[derive(Debug)]
pub(crate) struct Pending {
    path: PathBuf,
    links: Vec<u32>,
    codes: Vec<u32>,
    factors: Vec<u32>,
    done: AtomicBool,
}

impl Pending {
    pub(crate) fn new(path: PathBuf, links: Vec<u32>, codes: Vec<u32>, factors: Vec<u32>) -> Self {
        Self { path, links, codes, factors, done: AtomicBool::new(false) }
    }

    /// Checks once (SU1); several threads may do so at the same time, with the same result.
    #[inline]
    pub(crate) fn check(&self, store: &Store) -> Result<()> {
        if self.done.load(Ordering::Acquire) { Ok(()) } else { self.check_now(store) }
    }

    #[cold]
    fn check_now(&self, store: &Store) -> Result<()> {
        let damaged = |what: &str| VectorError::Damaged { path: self.path.clone(), what: what.to_owned() };
        store.graph.base.will_read(0..usize::MAX);
        if let Some(codes) = &store.codes {
            codes.will_read();
        }
        if of(&[store.graph.base.mapped()]) != self.links {
            return Err(damaged("checksum of the links"));
        }
        let [codes, factors] = store.codes.as_ref().map_or([&[][..]; 2], Table::mapped);
        if of(&[codes]) != self.codes || of(&[factors]) != self.factors {
            return Err(damaged("checksum of the codes"));
        }
        // A good checksum says that the bytes are as written; that they are links is still to be seen. A free slot's own
        // lists are never read.
        let slots = store.slots();
        let leads = |&link: &u32| (link as usize) < slots && store.is_live(link);
        let mut links = Vec::new();
        let sound = (0..slots as u32).filter(|&slot| store.is_live(slot)).all(|slot| {
            (0..=store.graph.level(slot)).all(|layer| {
                links.clear();
                store.graph.links(slot, layer, &mut links);
                links.iter().all(leads)
            })
        });
        let entry = store
            .graph
            .entry()
            .is_none_or(|entry| store.is_live(entry.slot) && entry.level == store.graph.level(entry.slot));
        if !sound || !entry {
            return Err(damaged("a link to nowhere"));
        }
        if store.codes.is_none() {
            store.all_sound()?; // the vectors themselves are walked on
        }
        self.done.store(true, Ordering::Release);
        Ok(())
    }
}
