//! A heap of slots by rank, which knows where each slot stands.
//!
//! Why not 256 FIFO queues: an agent's next task, an inherited urgency and a lost node put tasks in the middle. A heap
//! with four children a node takes them anywhere in O(log n), and a newcomer, who stands last, in O(1). Ranks lie in
//! the heap itself, so that comparing touches no task; places lie in a column of their own, 4 bytes each, so that a
//! slot is removed from anywhere without being searched for.
//!
//! Invariants
//! - H1 no child stands before its parent; `places` names where each slot stands.

use crate::column::{Column, NONE, Slot};
use crate::rank::Rank;

const CHILDREN: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) rank: Rank,
    pub(crate) slot: Slot,
}

/// Where each slot stands in the one heap it is in; [`NONE`] outside.
pub(crate) type Places = Column<Slot>;

#[derive(Debug, Default)]
pub(crate) struct Heap {
    items: Vec<Item>,
}

impl Heap {
    pub(crate) fn first(&self) -> Option<Item> {
        self.items.first().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Item> {
        self.items.iter().copied()
    }

    /// Gives back memory that a former rush left.
    pub(crate) fn trim(&mut self, keep: usize) {
        self.items.shrink_to(keep.max(self.items.len()));
    }

    pub(crate) fn push(&mut self, rank: Rank, slot: Slot, places: &mut Places) {
        self.items.push(Item { rank, slot });
        self.rise(self.items.len() - 1, places);
    }

    pub(crate) fn pop(&mut self, places: &mut Places) -> Option<Item> {
        let first = self.first()?;
        self.remove(first.slot, places);
        Some(first)
    }

    pub(crate) fn remove(&mut self, slot: Slot, places: &mut Places) {
        let at = places[slot] as usize;
        assert!(
            self.items.get(at).is_some_and(|item| item.slot == slot),
            "H1: what leaves is where it stands"
        );
        places[slot] = NONE;
        let last = self.items.pop();
        if let (Some(last), Some(hole)) = (last, self.items.get_mut(at)) {
            *hole = last;
            self.sink(at, places);
            self.rise(at, places);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "H1: `at` is inside, and so is its parent")]
    fn rise(&mut self, mut at: usize, places: &mut Places) {
        let Some(item) = self.items.get(at).copied() else { return };
        while 0 < at {
            let parent = (at - 1) / CHILDREN;
            let above = self.items[parent];
            if above.rank < item.rank {
                break;
            }
            self.items[at] = above;
            places[above.slot] = at as Slot;
            at = parent;
        }
        self.items[at] = item;
        places[item.slot] = at as Slot;
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "H1: `at` and `best` are inside, and `first + 4` is compared"
    )]
    fn sink(&mut self, mut at: usize, places: &mut Places) {
        let item = self.items[at];
        loop {
            let first = at * CHILDREN + 1;
            let children =
                self.items.get(first..(first + CHILDREN).min(self.items.len())).unwrap_or_default();
            let Some((best, below)) = children.iter().enumerate().min_by_key(|(_, child)| child.rank) else {
                break;
            };
            if item.rank < below.rank {
                break;
            }
            let below = *below;
            self.items[at] = below;
            places[below.slot] = at as Slot;
            at = first + best;
        }
        self.items[at] = item;
        places[item.slot] = at as Slot;
    }

    /// # Errors
    /// H1, and where.
    pub(crate) fn verify(&self, places: &Places) -> Result<(), String> {
        for (at, item) in self.items.iter().enumerate() {
            let parent = at.checked_sub(1).and_then(|at| self.items.get(at / CHILDREN));
            if parent.is_some_and(|parent| item.rank < parent.rank) || places[item.slot] != at as Slot {
                return Err(format!("H1: slot {} at {at}", item.slot));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h1_what_is_put_in_anywhere_and_taken_from_anywhere_comes_out_in_order() {
        let (mut heap, mut places) = (Heap::default(), Places::new());
        let mut random = 1u64;
        let mut rank = |slot: u32| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Rank { key: random >> 60, seq: slot.into() }
        };
        for slot in 0..300 {
            places.push(NONE);
            heap.push(rank(slot), slot, &mut places);
        }
        for slot in (0..300).step_by(3) {
            heap.remove(slot, &mut places);
            assert_eq!(heap.verify(&places), Ok(()), "H1");
        }
        let out: Vec<Item> = std::iter::from_fn(|| heap.pop(&mut places)).collect();
        assert_eq!(out.len(), 200);
        assert!(out.windows(2).all(|pair| pair[0].rank < pair[1].rank), "H1");
        assert!(places.iter().all(|place| *place == NONE), "H1");
    }
}
