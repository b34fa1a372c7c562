//! How many tasks of an agent failed within its window.
//!
//! Invariants
//! - SV15 `add` answers the number of failures in `(now - window, now]`, this one included, up to `FAILURES_MAX`.

use std::collections::VecDeque;

/// Most failures that are remembered: one more than the most restarts that can be asked for.
pub const FAILURES_MAX: usize = crate::policy::RESTARTS_MAX as usize + 1;

/// The times of the last failures, oldest first.
#[derive(Clone, Debug, Default)]
pub struct FailureWindow {
    times_ns: VecDeque<u64>,
}

impl FailureWindow {
    /// One more failure; answers how many there are in the window (SV15).
    pub fn add(&mut self, now_ns: u64, window_ns: u64) -> usize {
        while self.times_ns.front().is_some_and(|time| now_ns.saturating_sub(*time) >= window_ns) {
            self.times_ns.pop_front();
        }
        if self.times_ns.len() >= FAILURES_MAX {
            self.times_ns.pop_front();
        }
        self.times_ns.push_back(now_ns);
        self.times_ns.len()
    }
}
