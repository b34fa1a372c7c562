//! What will happen, in the order in which it happens: virtual time of a simulation.
//!
//! Not here: what an event means. Time stands still between events and jumps from one to the next.
//!
//! Invariants
//! - V1 events come out by time, and those of one time in the order in which they were put in: a run depends on
//!   nothing but what was put in.
//! - V2 time never goes back: what is put in for a time that has passed happens now.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Events that wait for their time.
#[derive(Clone, Debug)]
pub struct Timeline<E> {
    now_ns: u64,
    seq: u64,
    events: BTreeMap<Reverse<(u64, u64)>, E>, // the last is the next
}

impl<E> Default for Timeline<E> {
    fn default() -> Self {
        Self { now_ns: 0, seq: 0, events: BTreeMap::new() }
    }
}

impl<E> Timeline<E> {
    /// Nothing is to happen, and it is 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time of the event that was taken last, in nanoseconds.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Puts an event in, for a time; one that has passed is now (V2).
    pub fn push(&mut self, at_ns: u64, event: E) {
        self.events.insert(Reverse((at_ns.max(self.now_ns), self.seq)), event);
        self.seq += 1;
    }

    /// Takes the next event, and moves time to it; `None` when nothing is to happen.
    pub fn pop(&mut self) -> Option<E> {
        let (Reverse((at_ns, _)), event) = self.events.pop_last()?;
        assert!(self.now_ns <= at_ns, "V2");
        self.now_ns = at_ns;
        Some(event)
    }

    /// Events that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing is to happen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_events_come_by_time_and_then_in_the_order_they_were_put_in() {
        let mut timeline = Timeline::new();
        for (at, event) in [(5, "c"), (2, "a"), (5, "d"), (2, "b")] {
            timeline.push(at, event);
        }
        let mut seen = Vec::new();
        while let Some(event) = timeline.pop() {
            seen.push((timeline.now_ns(), event));
        }
        assert_eq!(seen, [(2, "a"), (2, "b"), (5, "c"), (5, "d")]);
        assert!(timeline.is_empty());
    }

    #[test]
    fn v2_what_is_put_in_for_the_past_happens_now() {
        let mut timeline = Timeline::new();
        timeline.push(9, 'a');
        timeline.pop();
        timeline.push(1, 'b');
        assert_eq!((timeline.pop(), timeline.now_ns(), timeline.len()), (Some('b'), 9, 0));
    }
}
