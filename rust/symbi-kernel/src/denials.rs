//! Identical denials become one record with a count and a time range.
//!
//! Why: an agent that loops on a refused call must not fill the disk, and the operator must still see how often
//! it tried. The first is recorded at once and whole; repetitions are counted and written when their number
//! doubles or their window ends.
//!
//! Invariants
//! - K4 n identical denials within one window make at most 2 + log2(n) records.
//! - K5 the counts of all records of one denial add up to the denials recorded so far.
//! - K42 one principal has at most `DISTINCT_MAX` different denials in a window; what comes on top is one denial more.

use std::collections::HashMap;

use symbi_types::DecisionId;

use crate::Principal;
use crate::refusal::RefusalCode;

/// How long repetitions are gathered, in microseconds.
pub(crate) const WINDOW_US: u64 = 1_000_000;
/// Different denials of one principal in a window: whoever asks for ever new things that it may not have writes no
/// more than this, whatever names it makes up.
pub(crate) const DISTINCT_MAX: usize = 64;
/// Different denials remembered at once, of all principals.
const REMEMBERED_MAX: usize = 4_096;
/// The action of a denial that stands for all the others of its principal.
pub(crate) const OTHERS: &str = "*";

/// What makes two denials the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DenialKey {
    pub(crate) principal: Principal,
    pub(crate) action: &'static str,
    pub(crate) resource: String,
    pub(crate) code: RefusalCode,
    pub(crate) rule: String,
}

/// A batch of repetitions that is due to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repeated {
    pub(crate) key: DenialKey,
    pub(crate) decision: DecisionId,
    pub(crate) count: u64,
    pub(crate) since_us: u64,
    pub(crate) until_us: u64,
}

#[derive(Debug)]
struct Open {
    decision: DecisionId,
    started_us: u64,
    since_us: u64,
    until_us: u64,
    seen: u64,
    unwritten: u64,
}

/// What to do with a denial.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The first of its window: record it whole.
    First,
    /// A repetition of this decision; write what is given, if anything.
    Again(DecisionId, Option<Repeated>),
}

/// The denials of the current windows.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    open: HashMap<DenialKey, Open>,
    distinct: HashMap<Principal, usize>,
    oldest_us: u64,
}

impl Denials {
    /// The key under which a denial is counted: its own, or, past the bounds, the one for all others (K42).
    pub(crate) fn key(&self, key: DenialKey) -> DenialKey {
        let many = |count: &usize| *count >= DISTINCT_MAX;
        let full = self.distinct.get(&key.principal).is_some_and(many) || self.open.len() >= REMEMBERED_MAX;
        if !full || self.open.contains_key(&key) {
            return key;
        }
        DenialKey { action: OTHERS, resource: String::new(), rule: String::new(), ..key }
    }

    /// Notes a denial at `now_us` (log time). Call [`Denials::opened`] after a [`Seen::First`] was recorded.
    pub(crate) fn see(&mut self, key: &DenialKey, now_us: u64) -> Seen {
        let Some(open) = self.open.get_mut(key) else { return Seen::First };
        open.seen += 1;
        open.unwritten += 1;
        if open.unwritten == 1 {
            open.since_us = now_us;
        }
        open.until_us = now_us;
        let due = open.seen.is_power_of_two().then(|| {
            let repeated = repeated(key, open);
            open.unwritten = 0;
            repeated
        });
        Seen::Again(open.decision, due)
    }

    /// The first denial of this key was recorded under `decision`.
    pub(crate) fn opened(&mut self, key: DenialKey, decision: DecisionId, now_us: u64) {
        if self.open.is_empty() {
            self.oldest_us = now_us;
        }
        let open =
            Open { decision, started_us: now_us, since_us: now_us, until_us: now_us, seen: 1, unwritten: 0 };
        let principal = key.principal;
        if self.open.insert(key, open).is_none() {
            *self.distinct.entry(principal).or_default() += 1;
        }
    }

    /// Whether [`Denials::close_before`] would find anything; cheap.
    pub(crate) fn due(&self, now_us: u64) -> bool {
        !self.open.is_empty() && now_us >= self.oldest_us.saturating_add(WINDOW_US)
    }

    /// When the oldest window ends; none where none is open.
    pub(crate) fn due_us(&self) -> Option<u64> {
        (!self.open.is_empty()).then(|| self.oldest_us.saturating_add(WINDOW_US))
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Closes the windows that ended before `now_us`, or all of them, and gives what is still unwritten.
    pub(crate) fn close_before(&mut self, now_us: u64, all: bool) -> Vec<Repeated> {
        self.close(now_us, all, usize::MAX)
    }

    /// Closes at most `limit` of the windows that ended. One that stays open goes on counting (K5).
    pub(crate) fn close_some(&mut self, now_us: u64, limit: usize) -> Vec<Repeated> {
        self.close(now_us, false, limit)
    }

    fn close(&mut self, now_us: u64, all: bool, limit: usize) -> Vec<Repeated> {
        let mut due = Vec::new();
        let mut oldest_us = u64::MAX;
        self.distinct.clear();
        let distinct = &mut self.distinct;
        self.open.retain(|key, open| {
            if due.len() >= limit || (!all && now_us < open.started_us.saturating_add(WINDOW_US)) {
                oldest_us = oldest_us.min(open.started_us);
                *distinct.entry(key.principal).or_default() += 1;
                return true;
            }
            if open.unwritten > 0 {
                due.push(repeated(key, open));
            }
            false
        });
        self.oldest_us = oldest_us;
        due
    }
}

fn repeated(key: &DenialKey, open: &Open) -> Repeated {
    Repeated {
        key: key.clone(),
        decision: open.decision,
        count: open.unwritten,
        since_us: open.since_us,
        until_us: open.until_us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_types::SystemEntropy;

    fn key() -> DenialKey {
        DenialKey {
            principal: Principal::Host,
            action: "tool.call",
            resource: "x".to_owned(),
            code: RefusalCode::Denied,
            rule: String::new(),
        }
    }

    #[test]
    fn k4_k5_a_million_identical_denials_are_a_handful_of_records_that_add_up() {
        let mut denials = Denials::default();
        let (mut records, mut counted) = (0u32, 0u64);
        for at in 0..1_000_000u64 {
            match denials.see(&key(), at / 10) {
                Seen::First => {
                    denials.opened(key(), DecisionId::random(&SystemEntropy), at / 10);
                    records += 1;
                    counted += 1;
                }
                Seen::Again(_, Some(repeated)) => {
                    records += 1;
                    counted += repeated.count;
                }
                Seen::Again(_, None) => {}
            }
        }
        for repeated in denials.close_before(0, true) {
            records += 1;
            counted += repeated.count;
        }
        assert_eq!(counted, 1_000_000);
        assert!(records <= 2 + 20, "{records}");
    }

    #[test]
    fn k5_windows_that_are_closed_a_few_at_a_time_add_up_too() {
        let mut denials = Denials::default();
        for tool in 0..10 {
            let key = DenialKey { resource: tool.to_string(), ..key() };
            denials.opened(key.clone(), DecisionId::random(&SystemEntropy), 0);
            (0..2).for_each(|_| drop(denials.see(&key, 0)));
        }
        assert_eq!(denials.due_us(), Some(WINDOW_US));
        let closed: Vec<u64> = (0..5)
            .map(|_| denials.close_some(WINDOW_US, 3).iter().map(|repeated| repeated.count).sum())
            .collect();
        assert_eq!((closed, denials.len()), (vec![3, 3, 3, 1, 0], 0), "K5");
    }

    #[test]
    fn k5_a_window_that_ends_gives_what_it_counted() {
        let mut denials = Denials::default();
        assert_eq!(denials.see(&key(), 0), Seen::First);
        denials.opened(key(), DecisionId::random(&SystemEntropy), 0);
        for at in 1..=4 {
            denials.see(&key(), at);
        }
        assert!(!denials.due(WINDOW_US - 1) && denials.due(WINDOW_US));
        let closed = denials.close_before(WINDOW_US, false);
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].count, 1, "2 and 4 were written when the number doubled");
        assert_eq!(denials.see(&key(), WINDOW_US), Seen::First);
    }
}
