//! The candidates: one queue per priority, and a bit for each queue that holds something.
//!
//! Why: the most urgent candidate is found by four words of bits, whatever the number of tasks.
//!
//! Invariants
//! - Y1 bit `p` is set exactly when the queue of priority `p` holds something.
//! - Y2 the order is: priority from 255 to 0, and within one, `seq` ascending.

use std::collections::BTreeMap;

use symbi_types::ResourceVector;

use crate::slots::Slot;

const WORDS: usize = 4; // 4 × 64 bits, one per priority

/// A task that may be looked at, and what it needs: kept here, so that looking at 65 of them touches few cache lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) slot: Slot,
    pub(crate) need: ResourceVector,
}

#[derive(Debug)]
pub(crate) struct Ready {
    bits: [u64; WORDS],
    queues: Box<[BTreeMap<u64, Candidate>; 256]>,
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self { bits: [0; WORDS], queues: Box::new(std::array::from_fn(|_| BTreeMap::new())) }
    }

    #[expect(clippy::indexing_slicing, reason = "a byte is an index into 256")]
    fn queue(&self, priority: u8) -> &BTreeMap<u64, Candidate> {
        &self.queues[usize::from(priority)]
    }

    #[expect(clippy::indexing_slicing, reason = "a byte is an index into 256, and its quarter into 4")]
    pub(crate) fn insert(&mut self, priority: u8, seq: u64, candidate: Candidate) {
        let before = self.queues[usize::from(priority)].insert(seq, candidate);
        assert!(before.is_none(), "Y2: a `seq` is given once");
        self.bits[usize::from(priority >> 6)] |= 1 << (priority & 63); // Y1
    }

    #[expect(clippy::indexing_slicing, reason = "a byte is an index into 256, and its quarter into 4")]
    pub(crate) fn remove(&mut self, priority: u8, seq: u64) {
        let queue = &mut self.queues[usize::from(priority)];
        assert!(queue.remove(&seq).is_some(), "Y2: what leaves was there");
        if queue.is_empty() {
            self.bits[usize::from(priority >> 6)] &= !(1 << (priority & 63)); // Y1
        }
    }

    /// The most urgent priority at or below `limit` that holds something.
    fn highest(&self, limit: u8) -> Option<u8> {
        let top = usize::from(limit >> 6);
        let mask = u64::MAX >> (63 - (limit & 63));
        for (word, bits) in self.bits.iter().enumerate().rev().skip(WORDS - 1 - top) {
            let bits = if word == top { bits & mask } else { *bits };
            if bits != 0 {
                let bit = 63 - bits.leading_zeros();
                return u8::try_from(word * 64 + bit as usize).ok();
            }
        }
        None
    }

    /// Every candidate, in order (Y2).
    pub(crate) fn iter(&self) -> impl Iterator<Item = Candidate> {
        let priorities = std::iter::successors(self.highest(255), |priority| {
            priority.checked_sub(1).and_then(|below| self.highest(below))
        });
        priorities.flat_map(|priority| self.queue(priority).values().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn y2_candidates_come_most_urgent_first_and_oldest_first() {
        let mut ready = Ready::new();
        let given =
            [(0, 9), (255, 7), (64, 5), (63, 4), (255, 6), (128, 3), (0, 1), (127, 2), (191, 8), (192, 10)];
        for (at, (priority, seq)) in given.into_iter().enumerate() {
            ready.insert(priority, seq, Candidate { slot: at as u32, need: ResourceVector::default() });
        }
        let mut wanted: Vec<(u8, u64, u32)> =
            given.into_iter().enumerate().map(|(at, (priority, seq))| (priority, seq, at as u32)).collect();
        wanted.sort_by_key(|(priority, seq, _)| (std::cmp::Reverse(*priority), *seq));
        let slots: Vec<Slot> = ready.iter().map(|candidate| candidate.slot).collect();
        assert_eq!(slots, wanted.iter().map(|(_, _, at)| *at).collect::<Vec<_>>());
        for (priority, seq, _) in wanted {
            ready.remove(priority, seq);
        }
        assert_eq!(ready.bits, [0; WORDS], "Y1");
        assert_eq!(ready.iter().next(), None);
    }
}
