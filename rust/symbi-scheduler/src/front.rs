//! Many queues by the rank of their heads: the first ones in a sorted window, the rest in a heap.
//!
//! Why: a decision looks at the heads in order until one fits, and at no more than a bounded number of them. A heap
//! alone gives only the first in order; a sorted vector alone costs O(n) a change where every task has a need of its
//! own. So the first 65 to 128 are kept sorted, and the others wait behind them.
//!
//! Invariants
//! - W1 the window is sorted, and everything beyond stands after its last.
//! - W2 the window holds at least `LOOK` of them, or all.

use crate::heap::{Heap, Item, Places};

/// How many heads one decision may look at: a blocked one, and [`crate::AHEAD_MAX`] behind it.
pub(crate) const LOOK: usize = crate::AHEAD_MAX + 1;
const WINDOW_MAX: usize = 128; // more than `LOOK`, so that a head that moves a little stays inside

#[derive(Debug, Default)]
pub(crate) struct Front {
    window: Vec<Item>,
    beyond: Heap,
}

impl Front {
    pub(crate) fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.window.len() + self.beyond.len()
    }

    pub(crate) fn first(&self) -> Option<Item> {
        self.window.first().copied()
    }

    /// The `at`th in order, for the first [`LOOK`].
    pub(crate) fn get(&self, at: usize) -> Option<Item> {
        self.window.get(at).filter(|_| at < LOOK).copied()
    }

    pub(crate) fn insert(&mut self, item: Item, places: &mut Places) {
        let within = match self.window.last() {
            Some(last) => item < *last || (self.window.len() < WINDOW_MAX && self.beyond.is_empty()),
            None => true,
        };
        if !within {
            self.beyond.push(item, places); // W1
            return;
        }
        if WINDOW_MAX <= self.window.len()
            && let Some(last) = self.window.pop()
        {
            self.beyond.push(last, places);
        }
        let at = self.window.partition_point(|other| *other < item);
        self.window.insert(at, item);
    }

    pub(crate) fn remove(&mut self, item: Item, places: &mut Places) {
        if self.window.last().is_none_or(|last| *last < item) {
            self.beyond.remove(item.slot(), places);
            return;
        }
        let at = self.window.partition_point(|other| *other < item);
        assert!(self.window.get(at) == Some(&item), "W1: what leaves is where it stands");
        self.window.remove(at);
        if self.window.len() < LOOK
            && let Some(next) = self.beyond.pop(places)
        {
            self.window.push(next); // W2
        }
    }

    /// All of them, the window's in order, the others in none.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Item> {
        self.window.iter().copied().chain(self.beyond.iter())
    }

    /// # Errors
    /// W1, W2 or H1, and where.
    pub(crate) fn verify(&self, places: &Places) -> Result<(), String> {
        let sorted = self.window.iter().zip(self.window.iter().skip(1)).all(|(a, b)| a < b);
        let last = self.window.last();
        let after = self.beyond.first().is_none_or(|item| last.is_some_and(|last| *last < item));
        if !sorted || !after {
            return Err("W1: the window is not in order".to_owned());
        }
        if self.window.len() < LOOK && !self.beyond.is_empty() {
            return Err("W2: the window is too short".to_owned());
        }
        self.beyond.verify(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::NONE;
    use crate::rank::Rank;

    #[test]
    fn w1_w2_the_first_ones_stand_sorted_whatever_comes_and_goes() {
        let (mut front, mut places) = (Front::default(), Places::new());
        let mut random = 7u64;
        let mut items: Vec<Option<Item>> = vec![None; 400];
        for _ in 0..400 {
            places.push(NONE);
        }
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = (random >> 33) as u32 % 400;
            match items[slot as usize].take() {
                Some(item) => front.remove(item, &mut places),
                None => {
                    let item = Item::new(Rank { key: random >> 50, seq: slot.into() }, slot);
                    items[slot as usize] = Some(item);
                    front.insert(item, &mut places);
                }
            }
            assert_eq!(front.verify(&places), Ok(()), "W1, W2");
            assert_eq!(front.first(), items.iter().flatten().min().copied());
        }
        assert_eq!(front.len(), items.iter().flatten().count());
    }
}
