//! The nearest so far, in order, each with a mark whether it was expanded.
//!
//! Why one sorted array: it is short, stays in the nearest cache, and an insertion from the back moves few entries;
//! two heaps were measured to be slower. An entry is one integer, so that comparing is one instruction, and of equal
//! distances the later slot comes first, or what stands for it.
//!
//! Invariants
//! - CA1 entries ascend; at most `limit` are kept, the smallest ones, but for what `push_apart` has taken away.
//! - CA2 `next` gives each entry once, the nearest first, as long as fewer than `ef` are nearer.
//! - CA3 with `push_apart`, of those that are equally near the first few.

const MARK: u64 = 1;
/// Of those that are equally near, as copies of one vector are, no more are candidates for links.
const EQUAL_MAX: usize = 32;
/// Places from the back that are compared one by one; what belongs before them is looked for by halves and moved at once.
const SHIFTED: usize = 16;

/// What a slot is taken from, so that of equal distances the later slot comes first: of copies those that came last have links
/// to what came after the others (`prune`).
const LAST: u32 = (1 << 31) - 1;

/// Distance, slot (or what stands for it) and a free mark in 64 bits; smaller is nearer. Slots are below 2^30.
#[inline(always)]
pub(crate) fn key(distance: f32, slot: u32) -> u64 {
    let bits = distance.to_bits();
    let ordered = bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000);
    u64::from(ordered) << 32 | u64::from(LAST - slot) << 1
}

#[inline(always)]
pub(crate) fn slot_of(key: u64) -> u32 {
    LAST - (key as u32 >> 1)
}

/// What stands for a slot where, of equal distances, the nearest to `node` by slot is to come first: copies are linked so.
#[inline(always)]
pub(crate) fn place_from(node: u32, slot: u32) -> u32 {
    let apart = slot as i32 - node as i32;
    LAST - ((apart << 1) ^ (apart >> 31)) as u32
}

/// The slot that `place` stands for.
#[inline(always)]
pub(crate) fn slot_from(node: u32, place: u32) -> u32 {
    let place = LAST - place;
    let apart = (place >> 1) as i32 ^ -((place & 1) as i32);
    (node as i32 + apart) as u32
}

#[inline(always)]
pub(crate) fn distance_of(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered ^ 0x8000_0000 } else { !ordered };
    f32::from_bits(bits)
}

/// See the header.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    keys: Vec<u64>,
    limit: usize,
    ef: usize,
    /// Everything before it is marked.
    cursor: usize,
}

#[expect(clippy::indexing_slicing, reason = "places are below the length that was just taken")]
impl Candidates {
    /// Empties it, to keep `limit` (at least one) from now on, and to give them all.
    pub(crate) fn reset(&mut self, limit: usize) {
        self.reset_to_give(limit, limit);
    }

    /// Empties it, to keep `limit` from now on, of which only the nearest `ef` are given.
    pub(crate) fn reset_to_give(&mut self, ef: usize, limit: usize) {
        self.keys.clear();
        self.keys.reserve(limit + 1);
        self.limit = limit.max(1);
        self.ef = ef.max(1);
        self.cursor = 0;
    }

    /// Keeps `key` if it is among the nearest; whether `next` would give it now.
    #[inline(always)]
    pub(crate) fn push(&mut self, key: u64) -> bool {
        self.insert(key).is_some_and(|(_, leads)| leads)
    }

    /// As `push`; of more than `EQUAL_MAX` that are equally near only the first are kept (CA3).
    #[inline(always)]
    pub(crate) fn push_apart(&mut self, key: u64) -> bool {
        let Some((place, leads)) = self.insert(key) else { return false };
        let equal = |at: usize| self.keys.get(at).is_some_and(|&other| other >> 32 == key >> 32);
        if equal(place + 1) || place.checked_sub(1).is_some_and(equal) {
            self.thin(key);
        }
        leads
    }

    /// Where `key` stands now, and whether `next` would give it; `None` where it is not among the nearest.
    #[inline(always)]
    fn insert(&mut self, key: u64) -> Option<(usize, bool)> {
        let length = self.keys.len();
        if length == self.limit {
            if key >= self.keys[length - 1] {
                return None;
            }
            self.keys.pop();
        }
        let length = self.keys.len();
        self.keys.push(key);
        let mut place = length;
        let near = length.saturating_sub(SHIFTED);
        while place > near && self.keys[place - 1] > key {
            self.keys[place] = self.keys[place - 1];
            place -= 1;
        }
        if place == near && near > 0 {
            place = self.keys[..near].partition_point(|kept| *kept < key);
            self.keys.copy_within(place..near, place + 1);
        }
        self.keys[place] = key;
        let leads = place <= self.cursor;
        self.cursor = self.cursor.min(place);
        Some((place, leads))
    }

    /// Takes the last of those that are as near as `key` away, where they are too many.
    #[cold]
    fn thin(&mut self, key: u64) {
        let first = self.keys.partition_point(|kept| kept >> 32 < key >> 32);
        let after = self.keys.partition_point(|kept| kept >> 32 <= key >> 32);
        if after - first > EQUAL_MAX {
            self.keys.remove(after - 1);
            self.cursor = self.cursor.min(after - 1);
        }
    }

    /// The nearest that was not given yet.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<u64> {
        let near = self.keys.len().min(self.ef);
        while let Some(key) = self.keys[..near].get_mut(self.cursor) {
            self.cursor += 1;
            if *key & MARK == 0 {
                *key |= MARK;
                return Some(*key);
            }
        }
        None
    }

    /// What `next` would give.
    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<u64> {
        let near = self.keys.len().min(self.ef);
        self.keys[self.cursor.min(near)..near].iter().copied().find(|key| key & MARK == 0)
    }

    pub(crate) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The farthest that is kept, once there are as many as may be: nothing farther is.
    pub(crate) fn bound(&self) -> Option<u64> {
        self.keys.get(self.limit - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_order_as_distances_do() {
        let ascending = [f32::MIN, -2.5, -1e-30, 0.0, 1e-30, 0.5, 3.0, f32::MAX];
        for (place, &distance) in ascending.iter().enumerate() {
            assert_eq!(distance_of(key(distance, 7)).to_bits(), distance.to_bits());
            assert_eq!(slot_of(key(distance, (1 << 31) - 1) | MARK), (1 << 31) - 1);
            for &nearer in &ascending[..place] {
                assert!(key(nearer, 1) < key(distance, 9));
            }
        }
        assert!(key(1.0, 2) < key(1.0, 1));
    }

    #[test]
    fn places_order_slots_by_how_near_they_are() {
        let last = (1 << 30) - 1;
        for node in [0, 1, 7, last] {
            for slot in [0, 1, 6, 7, 8, last] {
                assert_eq!(slot_from(node, place_from(node, slot)), slot);
            }
        }
        let mut slots: Vec<u32> = (0..12).collect();
        slots.sort_by_key(|&slot| key(1.0, place_from(5, slot)));
        assert_eq!(slots, [5, 4, 6, 3, 7, 2, 8, 1, 9, 0, 10, 11]);
    }

    proptest! {
        /// CA1, CA2 against a plain sort.
        #[test]
        fn ca1_ca2_as_a_sorted_list(pushed in prop::collection::vec((0_u32..50, 0_u32..1000), 0..200),
                                    limit in 1_usize..40, ef in 1_usize..50) {
            let mut seen = std::collections::HashSet::new();
            let pushed: Vec<u64> = pushed.into_iter().filter(|(_, slot)| seen.insert(*slot))
                .map(|(distance, slot)| key(distance as f32, slot)).collect();
            let mut candidates = Candidates::default();
            candidates.reset_to_give(ef, limit);
            for &one in &pushed {
                candidates.push(one);
            }
            let mut expected = pushed.clone();
            expected.sort_unstable();
            expected.truncate(limit);
            prop_assert_eq!(candidates.keys(), &expected[..]);
            let mut given = Vec::new();
            while let Some(peeked) = candidates.peek() {
                let one = candidates.next().unwrap();
                prop_assert_eq!(one & !MARK, peeked);
                given.push(peeked);
            }
            expected.truncate(ef);
            prop_assert_eq!(given, expected);
        }

        /// CA3 against a plain sort, where there is room for all; a candidate that was not given yet still is.
        #[test]
        fn ca3_of_equally_near_ones_the_first_few(pushed in prop::collection::vec((0_u32..4, 0_u32..1000), 0..300), given in 0_usize..20) {
            let mut seen = std::collections::HashSet::new();
            let mut candidates = Candidates::default();
            candidates.reset(1000);
            let mut kept = std::collections::BTreeMap::<u32, Vec<u64>>::new();
            for (place, &(distance, slot)) in pushed.iter().filter(|(_, slot)| seen.insert(*slot)).enumerate() {
                let one = key(distance as f32, slot);
                candidates.push_apart(one);
                let equal = kept.entry(distance).or_default();
                equal.push(one);
                equal.sort_unstable();
                equal.truncate(EQUAL_MAX);
                if place % 20 == given {
                    candidates.next();
                }
            }
            let expected: Vec<u64> = kept.into_values().flatten().collect();
            prop_assert_eq!(candidates.keys().iter().map(|key| key & !MARK).collect::<Vec<_>>(), expected);
            let left = candidates.keys().iter().filter(|&&key| key & MARK == 0).count();
            prop_assert_eq!(std::iter::from_fn(|| candidates.next()).count(), left, "CA2");
        }
    }
}
