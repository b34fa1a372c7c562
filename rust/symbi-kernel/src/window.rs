//! Counters over history: how often something happened within a window, including what is in flight.
//!
//! Why: "at most ten a minute" must hold for two concurrent calls as well. The cost is added before the decision
//! and taken back when nothing happened, so both calls cannot take the last one.
//! Not here: which counters exist (policy), or the time they move on (the log's, less the jumps of the wall clock,
//! those of earlier openings included: it never goes back, and a jump moves nothing out of a window).
//!
//! Invariants
//! - K6 a count is never lower than the number of reservations within the window; it may be higher by those of
//!   the window's oldest 64th.
//! - K7 a release takes back exactly what its reservation added, or nothing when that has left the window.

use std::collections::{HashMap, VecDeque};

/// Buckets a window.
const BUCKETS: u64 = 64;
/// Windows below which nobody looks for empty ones.
const PRUNE_AT: usize = 1_024;

/// Whose count it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CounterKey {
    pub(crate) name: String,
    /// None for a counter of all principals together. Agents are counted by name, so that a new instance does
    /// not start at zero.
    pub(crate) principal: Option<String>,
}

/// What a reservation must give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    key: CounterKey,
    bucket_us: u64,
    bucket: u64,
}

#[derive(Debug)]
struct Window {
    bucket_us: u64,
    /// (bucket number, count), oldest first.
    buckets: VecDeque<(u64, u64)>,
    total: u64,
}

impl Window {
    fn new(window_us: u64) -> Self {
        Self { bucket_us: (window_us / BUCKETS).max(1), buckets: VecDeque::new(), total: 0 }
    }

    /// The same counts in buckets of another width, each at the youngest time it can have (K6).
    fn resized(&self, window_us: u64) -> Self {
        let mut fresh = Self::new(window_us);
        for (bucket, count) in &self.buckets {
            let youngest_us = bucket.saturating_add(1).saturating_mul(self.bucket_us).saturating_sub(1);
            fresh.add(youngest_us / fresh.bucket_us, *count);
        }
        fresh
    }

    /// Answers the bucket it went to: never one before the last, so that the oldest stands in front.
    fn add(&mut self, bucket: u64, added: u64) -> u64 {
        self.total += added;
        match self.buckets.back_mut() {
            Some((last, count)) if bucket <= *last => {
                *count += added;
                *last
            }
            _ => {
                self.buckets.push_back((bucket, added));
                bucket
            }
        }
    }

    fn expire(&mut self, now_us: u64) {
        let oldest = (now_us / self.bucket_us).saturating_sub(BUCKETS);
        while let Some((bucket, count)) = self.buckets.front().copied() {
            if bucket >= oldest {
                break;
            }
            self.total -= count;
            self.buckets.pop_front();
        }
    }
}

/// All counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    windows: HashMap<CounterKey, Window>,
    /// Number of windows at which empty ones are let go.
    prune_at: usize,
}

impl Counters {
    /// Adds one and answers the count with it.
    pub(crate) fn reserve(&mut self, key: CounterKey, window_us: u64, now_us: u64) -> (u64, Reservation) {
        if self.windows.len() >= self.prune_at.max(PRUNE_AT) && !self.windows.contains_key(&key) {
            self.windows.retain(|_, window| {
                window.expire(now_us);
                window.total > 0
            });
            self.prune_at = self.windows.len() * 2;
        }
        let window = self.windows.entry(key.clone()).or_insert_with(|| Window::new(window_us));
        if window.bucket_us != (window_us / BUCKETS).max(1) {
            *window = window.resized(window_us);
        }
        window.expire(now_us);
        let bucket = window.add(now_us / window.bucket_us, 1);
        (window.total, Reservation { key, bucket_us: window.bucket_us, bucket })
    }

    /// Takes back a reservation (K7).
    pub(crate) fn release(&mut self, reservation: &Reservation) {
        let Some(window) = self.windows.get_mut(&reservation.key) else { return };
        if window.bucket_us != reservation.bucket_us {
            return; // the counter was declared anew; what was counted before stays counted (K6)
        }
        if let Some((_, count)) =
            window.buckets.iter_mut().find(|(bucket, count)| *bucket == reservation.bucket && *count > 0)
        {
            *count -= 1;
            window.total -= 1;
        }
    }

    /// Keeps only the windows whose counter still exists.
    pub(crate) fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.windows.retain(|key, _| exists(&key.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> CounterKey {
        CounterKey { name: "calls".to_owned(), principal: None }
    }

    const WINDOW_US: u64 = 6_400;

    proptest! {
        #[test]
        fn k6_a_count_is_at_least_the_truth_and_at_most_a_bucket_more(
            steps in proptest::collection::vec((0u64..2_000, any::<bool>()), 1..200)
        ) {
            let mut counters = Counters::default();
            let mut model: Vec<(u64, Reservation)> = Vec::new();
            let mut now = 1_000_000;
            for (pause, give_back) in steps {
                now += pause;
                let (count, reservation) = counters.reserve(key(), WINDOW_US, now);
                model.push((now, reservation.clone()));
                let within = |span: u64| model.iter().filter(|(at, _)| now - at < span).count() as u64;
                prop_assert!(within(WINDOW_US) <= count, "K6 low");
                prop_assert!(count <= within(WINDOW_US + 2 * WINDOW_US / BUCKETS), "K6 high");
                if give_back {
                    counters.release(&reservation);
                    model.pop();
                }
            }
        }
    }

    #[test]
    fn k6_a_counter_declared_with_another_window_keeps_what_was_counted() {
        let mut counters = Counters::default();
        let mut held = None;
        for at in 0..10 {
            held = Some(counters.reserve(key(), WINDOW_US, at * 100).1);
        }
        assert_eq!(counters.reserve(key(), 10 * WINDOW_US, 1_000).0, 11);
        counters.release(&held.unwrap());
        assert_eq!(counters.reserve(key(), 10 * WINDOW_US, 1_000).0, 12, "a stale reservation takes nothing");
        assert_eq!(counters.reserve(key(), 10 * WINDOW_US, 20 * WINDOW_US).0, 1, "and all of it ends");
    }

    #[test]
    fn k6_windows_of_principals_that_are_gone_are_let_go() {
        let mut counters = Counters::default();
        for at in 0..100_000u64 {
            let key = CounterKey { name: "calls".to_owned(), principal: Some(at.to_string()) };
            counters.reserve(key, WINDOW_US, at * WINDOW_US);
        }
        assert!(counters.windows.len() <= PRUNE_AT, "{}", counters.windows.len());
    }

    #[test]
    fn k7_a_release_after_the_window_changes_nothing() {
        let mut counters = Counters::default();
        let (_, old) = counters.reserve(key(), WINDOW_US, 0);
        let (count, _) = counters.reserve(key(), WINDOW_US, 10 * WINDOW_US);
        assert_eq!(count, 1);
        counters.release(&old);
        assert_eq!(counters.reserve(key(), WINDOW_US, 10 * WINDOW_US).0, 2);
    }
}
