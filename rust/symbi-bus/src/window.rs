//! Which numbers of one key were received: the highest, and the gaps below it that are still missing.
//!
//! Why: a reply waits in its place while thousands of later messages of the same sender are read, and must not look like
//! a replay afterwards; a bitmap of the last 1,024 would take it for one. In order, as almost always, this is one number.
//!
//! Invariants
//! - W1 a number is accepted once.
//! - W2 at most `GAPS_MAX` gaps are remembered; the oldest are given up, and count as received.
//! - W3 once it had gaps it allocates nothing more until it has more of them at once.

use std::collections::VecDeque;

/// Gaps remembered for one key: 16 KiB, and more places than a mailbox and its waiting replies have.
const GAPS_MAX: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Window {
    top: u64,                   // numbers begin at 1
    gaps: VecDeque<(u64, u64)>, // first and last missing number, ascending, apart
}

impl Window {
    /// Takes a number; false when it was taken before, or given up.
    #[must_use]
    pub(crate) fn accept(&mut self, number: u64) -> bool {
        if self.top < number {
            if self.top + 1 < number {
                self.gaps.push_back((self.top + 1, number - 1));
            }
            self.top = number;
        } else if !self.fill(number) {
            return false;
        }
        if GAPS_MAX < self.gaps.len() {
            self.gaps.pop_front(); // W2
        }
        true
    }

    /// Takes a number out of its gap, if it is in one.
    fn fill(&mut self, number: u64) -> bool {
        let at = self.gaps.partition_point(|(_, last)| *last < number);
        let Some(gap) = self.gaps.get_mut(at).filter(|(first, _)| *first <= number) else { return false };
        match *gap {
            (first, last) if first == last => {
                self.gaps.remove(at);
            }
            (first, last) if first == number => *gap = (number + 1, last),
            (first, last) if last == number => *gap = (first, number - 1),
            (first, last) => {
                *gap = (first, number - 1);
                self.gaps.insert(at + 1, (number + 1, last));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn w1_each_number_is_accepted_once_in_any_order() {
        let mut window = Window::default();
        for number in [3, 1, 2, 7, 5, 6, 4, 8] {
            assert!(window.accept(number), "{number}");
            assert!(!window.accept(number), "{number}");
        }
        assert!(window.gaps.is_empty());
        assert!((0..=8).all(|number| !window.accept(number)));
    }

    #[test]
    fn w2_a_late_number_is_taken_after_thousands_and_memory_is_bounded() {
        let mut window = Window::default();
        assert!((2..=100_000).all(|number| window.accept(number)));
        assert!(window.accept(1));
        assert!((0..3_000).all(|gap| window.accept(100_002 + 2 * gap)));
        assert_eq!(window.gaps.len(), GAPS_MAX);
        assert!(!window.accept(100_001), "given up");
        assert!(window.accept(100_001 + 2 * 2_999));
        assert!(window.accept(u64::MAX) && !window.accept(u64::MAX) && window.accept(u64::MAX - 1));
    }

    #[test]
    fn w3_gaps_that_come_and_go_use_the_same_memory() {
        let mut window = Window::default();
        let mut round = |from: u64| {
            assert!((0..100).all(|gap| window.accept(from + 2 * gap + 1)));
            assert!((0..100).all(|gap| window.accept(from + 2 * gap)));
            window.gaps.capacity()
        };
        let first = round(1);
        assert!((1..50).all(|turn| round(1 + 200 * turn) == first));
    }

    proptest! {
        #[test]
        fn w1_any_order_is_judged_as_by_a_set(numbers in proptest::collection::vec(0..600u64, 0..800)) {
            let mut window = Window::default();
            let mut taken = HashSet::from([0]);
            for number in numbers {
                prop_assert_eq!(window.accept(number), taken.insert(number), "{}", number);
                prop_assert!(window.gaps.iter().all(|(first, last)| first <= last));
                prop_assert!(window.gaps.iter().zip(window.gaps.iter().skip(1)).all(|(left, right)| left.1 < right.0));
            }
        }
    }
}
