//! A slab: values in a vector, named by an index that is used again when its value is gone.
//!
//! Why: a task is named by 4 bytes in every queue it stands in, and 100,000 of them are one allocation.
//!
//! Invariants
//! - G1 an index that `insert` gave, and `remove` has not taken back, holds its value.

/// An index into [`Slots`].
pub(crate) type Slot = u32;

#[derive(Debug)]
pub(crate) struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<Slot>,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }

    pub(crate) fn insert(&mut self, value: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            let place = self.values.get_mut(slot as usize);
            assert!(matches!(place, Some(None)), "G1");
            if let Some(place) = place {
                *place = Some(value);
            }
            return slot;
        }
        let slot = Slot::try_from(self.values.len()).unwrap_or(Slot::MAX);
        assert!(slot < Slot::MAX, "G1: `TASKS_MAX` keeps the slab far below this");
        self.values.push(Some(value));
        slot
    }

    #[expect(clippy::expect_used, reason = "G1: a broken index is our own fault, and must not be served")]
    pub(crate) fn get(&self, slot: Slot) -> &T {
        self.values.get(slot as usize).and_then(Option::as_ref).expect("G1")
    }

    #[expect(clippy::expect_used, reason = "G1: a broken index is our own fault, and must not be served")]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut T {
        self.values.get_mut(slot as usize).and_then(Option::as_mut).expect("G1")
    }

    #[expect(clippy::expect_used, reason = "G1: a broken index is our own fault, and must not be served")]
    pub(crate) fn remove(&mut self, slot: Slot) -> T {
        let value = self.values.get_mut(slot as usize).and_then(Option::take).expect("G1");
        self.free.push(slot);
        value
    }
}
