//! Columns and slabs: values named by 4 bytes, which are used again when their value is gone.
//!
//! Why: a task is named by 4 bytes in every queue it stands in, and a million of them are a few allocations.
//!
//! Invariants
//! - G1 a slot that `insert` gave, and `remove` has not taken back, holds its value and no other's.

use std::ops::{Index, IndexMut};

use crate::fetch::fetch;

/// An index into a [`Column`].
pub(crate) type Slot = u32;
/// No slot.
pub(crate) const NONE: Slot = Slot::MAX;

/// A vector that is indexed by [`Slot`]. An index beyond it is our own fault, and stops the program (G1).
#[derive(Debug)]
pub(crate) struct Column<T>(Vec<T>);

impl<T> Column<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, value: T) -> Slot {
        let slot = Slot::try_from(self.0.len()).unwrap_or(NONE);
        assert!(slot < NONE, "G1: the limits keep every column far below this");
        self.0.push(value);
        slot
    }

    pub(crate) fn len(&self) -> Slot {
        self.0.len() as Slot
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> Index<Slot> for Column<T> {
    type Output = T;
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "G1: a broken index must not be served")]
    fn index(&self, slot: Slot) -> &T {
        &self.0[slot as usize]
    }
}

impl<T> IndexMut<Slot> for Column<T> {
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "G1: a broken index must not be served")]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.0[slot as usize]
    }
}

/// A column whose slots are used again. A removed value stays where it is, unread, until its slot is given again.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    values: Column<T>,
    free: Vec<Slot>,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { values: Column::new(), free: Vec::new() }
    }

    /// How many values are in it.
    pub(crate) fn len(&self) -> usize {
        self.values.len() as usize - self.free.len()
    }

    /// How many slots there ever were.
    pub(crate) fn slots(&self) -> Slot {
        self.values.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Slot {
        match self.free.pop() {
            Some(slot) => {
                self.values[slot] = value;
                slot
            }
            None => self.values.push(value),
        }
    }

    /// So many values come soon.
    pub(crate) fn expect_new(&self, count: usize) {
        self.free.iter().rev().take(count).for_each(|slot| fetch(&self.values[*slot]));
    }

    /// Takes the slot back. Its value may be reused by [`Slots::revive`].
    pub(crate) fn remove(&mut self, slot: Slot) {
        debug_assert!(64 < self.free.len() || !self.free.contains(&slot), "G1: a slot is given back once");
        self.free.push(slot);
    }

    /// A slot that was given back, with the value it had: so that what it has allocated is used again.
    pub(crate) fn revive(&mut self) -> Option<Slot> {
        self.free.pop()
    }
}

impl<T> Index<Slot> for Slots<T> {
    type Output = T;
    #[inline]
    fn index(&self, slot: Slot) -> &T {
        &self.values[slot]
    }
}

impl<T> IndexMut<Slot> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.values[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g1_a_slot_is_given_again_only_after_it_was_given_back() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        slots.remove(a);
        assert_eq!((slots.insert('c'), slots[a], slots[b], slots.len()), (a, 'c', 'b', 2));
        slots.remove(b);
        assert_eq!((slots.revive(), slots.revive(), slots[b]), (Some(b), None, 'b'));
    }
}
