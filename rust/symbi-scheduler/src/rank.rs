//! The place of a task among all that wait: one static number, so that waiting never changes the order.
//!
//! The key is the tier in the two highest bits and a time in the others: a realtime task's deadline; for the other
//! tiers `arrival + (255 − priority) × ageing`. All age alike, so the difference between two tasks never changes and
//! nothing has to be moved while they wait.
//!
//! The bound on waiting: let an interactive task of priority `p` arrive at `t`. A later one of priority `q`, arriving
//! at `u`, stands before it only if `u + (255 − q) × ageing < t + (255 − p) × ageing`, that is
//! `u − t < (q − p) × ageing ≤ (255 − p) × ageing`. So whatever arrives, nothing that comes later than
//! `(255 − p) × ageing` (at most 255 × ageing) after it can stand before it; what stands before it is finite, and is
//! served. Batch tasks have the same bound within their tenant, and `batch_turn` against the other tiers.
//!
//! Invariants
//! - O1 ranks are unique and totally ordered: tier, key, order of arrival.
//! - O2 an interactive task is passed in order only by what arrives within `(255 − priority) × ageing` after it.

use crate::task::{Priority, Tier};

const TIME_BITS: u32 = 62; // 146 years in nanoseconds; past it times count as equal
const TIME_MAX: u64 = (1 << TIME_BITS) - 1;

/// Bits of the order of arrival: after 2^39 tasks, a year at 17,000 a second, it begins anew, and of two tasks with one
/// key and more than that between them the later may stand first.
pub(crate) const SEQ_BITS: u32 = 39;

/// A place in order: the smallest goes first (O1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) key: u64,
    pub(crate) seq: u64,
}

/// The key of a task that is served by deadline.
pub(crate) fn deadline_key(deadline_ns: u64) -> u64 {
    tier_key(Tier::Realtime, deadline_ns)
}

/// The key of a task that is served by priority and age (O2).
pub(crate) fn ageing_key(tier: Tier, arrival_ns: u64, priority: Priority, ageing_ns: u64) -> u64 {
    let later_ns = ageing_ns.saturating_mul(u64::from(u8::MAX - priority.0));
    tier_key(tier, arrival_ns.saturating_add(later_ns))
}

fn tier_key(tier: Tier, time_ns: u64) -> u64 {
    ((tier as u64) << TIME_BITS) | time_ns.min(TIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o2_a_later_task_stands_before_an_older_one_only_within_the_bound() {
        let ageing_ns = 1_000;
        for p in [0u8, 1, 100, 254, 255] {
            let old = ageing_key(Tier::Interactive, 5_000, Priority(p), ageing_ns);
            let bound_ns = u64::from(255 - p) * ageing_ns;
            let young = |after_ns| ageing_key(Tier::Interactive, 5_000 + after_ns, Priority(255), ageing_ns);
            assert!(old <= young(bound_ns), "at the bound the older one goes first, by its order of arrival");
            assert!(p == 255 || young(bound_ns - 1) < old, "the bound is tight");
        }
    }

    #[test]
    fn o1_a_tier_goes_before_a_later_one_whatever_the_times() {
        let last = deadline_key(u64::MAX);
        let middle = |time_ns| ageing_key(Tier::Interactive, time_ns, Priority(0), u64::MAX);
        assert!(last < middle(0) && middle(u64::MAX) < ageing_key(Tier::Batch, 0, Priority(255), 1));
    }
}
