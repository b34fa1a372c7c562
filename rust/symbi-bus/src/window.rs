//! Which numbers of one key were received: the highest, and those below it that are still missing.
//!
//! Why not a bitmap of the last 1,024: a reply waits in its place while thousands of later messages of the same sender
//! are read, and must not look like a replay afterwards. In order, as almost always, this is one number.
//!
//! Invariants
//! - W1 a number is accepted once.
//! - W2 at most `MISSING_MAX` numbers are remembered; the oldest are given up, and count as received.

use std::collections::BTreeSet;

/// Missing numbers remembered for one key: more than a mailbox and its waiting replies hold.
const MISSING_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Window {
    top: u64, // numbers begin at 1
    missing: BTreeSet<u64>,
}

impl Window {
    /// Takes a number; false when it was taken before, or given up.
    #[must_use]
    pub(crate) fn accept(&mut self, number: u64) -> bool {
        if number <= self.top {
            return self.missing.remove(&number);
        }
        let first = self.top.max(number.saturating_sub(MISSING_MAX as u64 + 1)) + 1;
        self.missing.extend(first..number);
        while MISSING_MAX < self.missing.len() {
            self.missing.pop_first(); // W2
        }
        self.top = number;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w1_each_number_is_accepted_once_in_any_order() {
        let mut window = Window::default();
        for number in [3, 1, 2, 7, 5, 6, 4, 8] {
            assert!(window.accept(number), "{number}");
            assert!(!window.accept(number), "{number}");
        }
        assert!(window.missing.is_empty());
        assert!((0..=8).all(|number| !window.accept(number)));
    }

    #[test]
    fn w2_a_late_number_is_taken_after_thousands_and_memory_is_bounded() {
        let mut window = Window::default();
        assert!((2..=100_000).all(|number| window.accept(number)));
        assert!(window.accept(1));
        assert!(window.accept(u64::MAX));
        assert_eq!(window.missing.len(), MISSING_MAX);
        assert!(!window.accept(100_001), "given up");
        assert!(window.accept(u64::MAX - MISSING_MAX as u64));
        assert!(!window.accept(u64::MAX - MISSING_MAX as u64 - 1));
    }
}
