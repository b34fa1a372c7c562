//! How urgent the tasks are that may be suspended: a count for each level, and the lowest that is not zero.
//!
//! Why: where nothing that runs is less urgent than what waits, no victim is looked for at all.
//!
//! Invariants
//! - E1 a level counts the running preemptible tasks of that urgency; a bit is set exactly where a count is not zero.

use crate::task::{Priority, Tier};

const LEVELS: usize = 258; // batch, 256 priorities, realtime
const WORDS: usize = LEVELS.div_ceil(64);

/// Batch is 0, interactive 1 to 256 by priority, realtime 257. A higher level preempts a lower one.
pub(crate) const fn level((tier, priority): (Tier, Priority)) -> usize {
    match tier {
        Tier::Batch => 0,
        Tier::Interactive => 1 + priority.0 as usize,
        Tier::Realtime => LEVELS - 1,
    }
}

#[derive(Debug)]
pub(crate) struct Levels {
    counts: [u32; LEVELS],
    bits: [u64; WORDS],
}

impl Levels {
    pub(crate) const fn new() -> Self {
        Self { counts: [0; LEVELS], bits: [0; WORDS] }
    }

    pub(crate) fn add(&mut self, level: usize) {
        if let (Some(count), Some(word)) = (self.counts.get_mut(level), self.bits.get_mut(level / 64)) {
            *count += 1;
            *word |= 1 << (level % 64); // E1
        }
    }

    pub(crate) fn sub(&mut self, level: usize) {
        if let (Some(count), Some(word)) = (self.counts.get_mut(level), self.bits.get_mut(level / 64)) {
            *count -= 1;
            if *count == 0 {
                *word &= !(1 << (level % 64)); // E1
            }
        }
    }

    /// The lowest level that something runs at.
    pub(crate) fn lowest(&self) -> Option<usize> {
        let (word, bits) = self.bits.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    pub(crate) fn counts(&self) -> &[u32] {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e1_the_lowest_level_that_runs_is_found() {
        let mut levels = Levels::new();
        assert_eq!(levels.lowest(), None);
        let urgencies =
            [(Tier::Realtime, 0), (Tier::Interactive, 255), (Tier::Interactive, 0), (Tier::Batch, 9)];
        let numbers = urgencies.map(|(tier, priority)| level((tier, Priority(priority))));
        assert_eq!(numbers, [257, 256, 1, 0]);
        for number in numbers {
            levels.add(number);
            assert_eq!(levels.lowest(), Some(number), "E1");
        }
        for number in numbers.into_iter().rev() {
            assert_eq!(levels.lowest(), Some(number), "E1");
            levels.sub(number);
        }
        assert_eq!(levels.lowest(), None);
    }
}
