//! A heap of slots by rank, which knows where each slot stands.
//!
//! Why not 256 FIFO queues: an agent's next task, an inherited urgency and a lost node put tasks in the middle. A heap
//! with four children a node takes them anywhere in O(log n), and a newcomer, who stands last, in O(1). Rank and slot
//! lie in the heap itself as one number of 128 bits, so that comparing touches no task and branches nowhere, and the
//! four children of a node are one line of cache. Places lie in a column of their own, 4 bytes each, so that a slot is
//! removed from anywhere without being searched for.
//!
//! Invariants
//! - H1 no child stands before its parent; `places` names where each slot stands.
//! - H2 what is beyond the last in its line stands after everything.

use crate::column::{Column, NONE, Slot};
use crate::fetch::fetch;
use crate::rank::{Rank, SEQ_BITS};

const CHILDREN: usize = 4;
/// The first stands in the last place of the first line, so that the children of each fill a line.
const BEFORE: usize = CHILDREN - 1;
const SLOT_BITS: u32 = 64 - SEQ_BITS;
const SLOTS: u64 = (1 << SLOT_BITS) - 1;

/// A slot and its rank: key, order of arrival and slot, from the highest bit to the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item(u128);

impl Item {
    const LAST: Self = Self(u128::MAX);

    pub(crate) fn new(rank: Rank, slot: Slot) -> Self {
        debug_assert!(
            u64::from(slot) <= SLOTS && rank.seq >> SEQ_BITS == 0,
            "H1: both fit beside each other"
        );
        Self(u128::from(rank.key) << 64 | u128::from(rank.seq << SLOT_BITS | u64::from(slot)))
    }

    pub(crate) const fn rank(self) -> Rank {
        Rank { key: (self.0 >> 64) as u64, seq: self.0 as u64 >> SLOT_BITS }
    }

    pub(crate) const fn slot(self) -> Slot {
        (self.0 as u64 & SLOTS) as Slot
    }
}

/// Where each slot stands in the one heap it is in; [`NONE`] outside.
pub(crate) type Places = Column<Slot>;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([Item; CHILDREN]);

impl Line {
    /// The one that stands first, and where. Without a branch: which it is cannot be foreseen.
    #[inline]
    fn least(&self) -> (usize, Item) {
        let [a, b, c, d] = self.0;
        let (left, ab) = if b < a { (1, b) } else { (0, a) };
        let (right, cd) = if d < c { (3, d) } else { (2, c) };
        if cd < ab { (right, cd) } else { (left, ab) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Heap {
    lines: Vec<Line>,
    len: usize,
}

impl Heap {
    pub(crate) fn first(&self) -> Option<Item> {
        self.lines.first().map(|line| line.0[BEFORE])
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Item> {
        self.lines.iter().flat_map(|line| line.0).skip(BEFORE).take(self.len)
    }

    /// Gives back memory that a former rush left.
    pub(crate) fn trim(&mut self, keep: usize) {
        self.lines.shrink_to((keep + BEFORE).div_ceil(CHILDREN).max(self.lines.len()));
    }

    /// Something is put in soon.
    #[inline]
    pub(crate) fn expect_push(&self) {
        let parent = self.len.saturating_sub(1) / CHILDREN;
        for at in [self.len, parent, parent.saturating_sub(1) / CHILDREN] {
            self.lines.get((at + BEFORE) / CHILDREN).into_iter().for_each(fetch);
        }
    }

    /// The first is taken out soon.
    #[inline]
    pub(crate) fn expect_pop(&self) {
        self.lines.iter().take(2).chain(self.lines.last()).for_each(fetch);
    }

    /// The first is taken out soon, and what rises so far down was asked for before.
    #[inline]
    pub(crate) fn expect_sink(&self, depth: usize, places: &Places) {
        let (mut at, mut rises) = (0, self.first());
        for _ in 0..depth {
            let Some(children) = self.lines.get(at + 1) else { return };
            let (which, below) = children.least();
            (at, rises) = (at * CHILDREN + 1 + which, Some(below));
        }
        rises.into_iter().for_each(|item| fetch(&places[item.slot()]));
        self.lines.get(at + 1).into_iter().for_each(fetch);
    }

    /// Those that may be first when the first is taken out.
    pub(crate) fn seconds(&self) -> impl Iterator<Item = Slot> {
        self.lines
            .get(1)
            .into_iter()
            .flat_map(|line| line.0)
            .filter(|item| *item != Item::LAST)
            .map(Item::slot)
    }

    #[expect(clippy::indexing_slicing, reason = "H1: `at` is inside")]
    fn get(&self, at: usize) -> Item {
        self.lines[(at + BEFORE) / CHILDREN].0[(at + BEFORE) % CHILDREN]
    }

    #[expect(clippy::indexing_slicing, reason = "H1: `at` is inside")]
    fn set(&mut self, at: usize, item: Item, places: &mut Places) {
        self.lines[(at + BEFORE) / CHILDREN].0[(at + BEFORE) % CHILDREN] = item;
        places[item.slot()] = at as Slot;
    }

    pub(crate) fn push(&mut self, item: Item, places: &mut Places) {
        let at = self.len;
        if (at + BEFORE) / CHILDREN == self.lines.len() {
            self.lines.push(Line([Item::LAST; CHILDREN])); // H2
        }
        self.len += 1;
        self.rise(at, item, places);
    }

    pub(crate) fn pop(&mut self, places: &mut Places) -> Option<Item> {
        let first = self.first()?;
        self.remove(first.slot(), places);
        Some(first)
    }

    pub(crate) fn remove(&mut self, slot: Slot, places: &mut Places) {
        let at = places[slot] as usize;
        assert!(at < self.len && self.get(at).slot() == slot, "H1: what leaves is where it stands");
        places[slot] = NONE;
        let last = self.take_last();
        if at == self.len {
            return; // it was the last itself
        }
        if 0 < at && last < self.get((at - 1) / CHILDREN) {
            self.rise(at, last, places);
        } else {
            self.sink(at, last, places);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "H1: there is a last one")]
    fn take_last(&mut self) -> Item {
        self.len -= 1;
        let at = self.len + BEFORE;
        let last = std::mem::replace(&mut self.lines[at / CHILDREN].0[at % CHILDREN], Item::LAST); // H2
        if at.is_multiple_of(CHILDREN) || self.len == 0 {
            self.lines.pop();
        }
        last
    }

    /// Puts an item in at a place that is free, or nearer to the first.
    fn rise(&mut self, mut at: usize, item: Item, places: &mut Places) {
        while 0 < at {
            let parent = (at - 1) / CHILDREN;
            let above = self.get(parent);
            if above < item {
                break;
            }
            self.set(at, above, places);
            at = parent;
        }
        self.set(at, item, places);
    }

    /// Puts an item in at a place that is free, or further from the first.
    fn sink(&mut self, mut at: usize, item: Item, places: &mut Places) {
        while let Some(children) = self.lines.get(at + 1) {
            let (which, below) = children.least();
            if item < below {
                break;
            }
            self.set(at, below, places);
            at = at * CHILDREN + 1 + which;
        }
        self.set(at, item, places);
    }

    /// # Errors
    /// H1 or H2, and where.
    pub(crate) fn verify(&self, places: &Places) -> Result<(), String> {
        for (at, item) in self.iter().enumerate() {
            let parent = at.checked_sub(1).map(|at| self.get(at / CHILDREN));
            if parent.is_some_and(|parent| item < parent) || places[item.slot()] != at as Slot {
                return Err(format!("H1: slot {} at {at}", item.slot()));
            }
        }
        let beyond = self.lines.iter().flat_map(|line| line.0).skip(BEFORE + self.len);
        let lines = if self.len == 0 { 0 } else { (self.len + BEFORE).div_ceil(CHILDREN) };
        match beyond.into_iter().all(|item| item == Item::LAST) && self.lines.len() == lines {
            true => Ok(()),
            false => Err(format!("H2: {} of them in {} lines", self.len, self.lines.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h1_h2_what_is_put_in_anywhere_and_taken_from_anywhere_comes_out_in_order() {
        let (mut heap, mut places) = (Heap::default(), Places::new());
        let mut random = 1u64;
        let mut item = |slot: u32| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Item::new(Rank { key: random >> 60, seq: slot.into() }, slot)
        };
        for slot in 0..300 {
            places.push(NONE);
            heap.push(item(slot), &mut places);
            assert_eq!(heap.verify(&places), Ok(()), "H1, H2");
        }
        for slot in (0..300).step_by(3) {
            heap.remove(slot, &mut places);
            assert_eq!(heap.verify(&places), Ok(()), "H1, H2");
        }
        let out: Vec<Item> = std::iter::from_fn(|| heap.pop(&mut places)).collect();
        assert_eq!(out.len(), 200);
        assert!(out.windows(2).all(|pair| pair[0].rank() < pair[1].rank()), "H1");
        assert!(places.iter().all(|place| *place == NONE), "H1");
        assert_eq!(heap.verify(&places), Ok(()), "H2");
    }

    #[test]
    fn h1_an_item_is_its_rank_and_its_slot() {
        let rank = Rank { key: u64::MAX, seq: (1 << SEQ_BITS) - 1 };
        let item = Item::new(rank, (1 << 24) + 2_000);
        assert_eq!((item.rank(), item.slot()), (rank, (1 << 24) + 2_000));
        assert!(
            item < Item::LAST
                && Item::new(Rank { key: 0, seq: 1 }, 0) < Item::new(Rank { key: 0, seq: 2 }, 0)
        );
    }
}
