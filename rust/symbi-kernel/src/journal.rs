//! The journal of one task: which external effects its attempts have had.
//!
//! Why: a task that is tried again runs its code from the start. What it had done must not happen twice: a call that was
//! recorded as done is answered with its recorded result.
//! Not here: deciding (a replay is decided like a call), attempts after a restart of the runtime. Calls are matched by
//! tool and arguments: one that differs in either is another call.
//!
//! Invariants
//! - K90 in one attempt each recorded call answers at most one call.
//! - K91 of equal calls those that are done are matched first, then those that are unknown: while one of them is left, no
//!   equal call goes out.
//! - K92 at most `JOURNAL_CALLS_MAX` calls and `JOURNAL_BYTES_MAX` bytes of results are kept; past either, what was done
//!   is `lost`, and the task is not tried again.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;
use symbi_types::{OperationId, Part};

/// Bytes of results that one task keeps: as much as one payload.
pub(crate) const JOURNAL_BYTES_MAX: usize = 1 << 20;
/// Calls that one task keeps.
pub(crate) const JOURNAL_CALLS_MAX: usize = 4_096;

/// What makes two calls equal: a keyed digest of tool, arguments and texts.
pub(crate) type CallDigest = [u8; 32];

/// A call's place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(usize);

/// What is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has not happened: it was not let through, or it failed.
    Not,
    /// It is under way, or was when its attempt ended; or nobody knows.
    Unknown(OperationId),
    /// It is done, with this result; without, the result was not kept.
    Done(OperationId, Option<Arc<[u8]>>),
}

#[derive(Debug)]
struct Call {
    fate: Fate,
    /// The last attempt in which it answered a call; 0: none.
    attempt: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    calls: Vec<Call>,
    places: HashMap<CallDigest, Vec<usize>>,
    bytes: usize,
    lost: bool,
}

impl Journal {
    /// The place of the next call of this digest in this attempt, and what is known of it (K90, K91). None where there
    /// is no room: the call may go out, and is lost for a retry.
    pub(crate) fn place(&mut self, digest: CallDigest, attempt: u32) -> Option<(Slot, Fate)> {
        let places = self.places.entry(digest).or_default();
        let rank = |fate: &Fate| match fate {
            Fate::Done(..) => 0,
            Fate::Unknown(_) => 1,
            Fate::Not => 2,
        };
        let free = places
            .iter()
            .copied()
            .filter_map(|at| self.calls.get(at).filter(|call| call.attempt != attempt).map(|call| (at, call)))
            .min_by_key(|(at, call)| (rank(&call.fate), *at))
            .map(|(at, _)| at);
        let at = match free {
            Some(at) => at,
            None if self.calls.len() >= JOURNAL_CALLS_MAX => {
                self.lost = true; // K92
                return None;
            }
            None => {
                places.push(self.calls.len());
                self.calls.push(Call { fate: Fate::Not, attempt: 0 });
                self.calls.len() - 1
            }
        };
        let call = self.calls.get_mut(at)?;
        call.attempt = attempt;
        Some((Slot(at), call.fate.clone()))
    }

    /// The call was not let through: its place is free again.
    pub(crate) fn leave(&mut self, slot: Slot) {
        if let Some(call) = self.calls.get_mut(slot.0) {
            call.attempt = 0;
        }
    }

    /// The call goes out: until it is settled, nobody knows.
    pub(crate) fn begin(&mut self, slot: Slot, operation: OperationId) {
        if let Some(call) = self.calls.get_mut(slot.0) {
            call.fate = Fate::Unknown(operation);
        }
    }

    /// The call has ended. One that was repeated meanwhile says nothing any more. `room`: bytes that all journals together
    /// may still take; answers how many were taken.
    pub(crate) fn settle(&mut self, slot: Slot, operation: OperationId, fate: Fate, room: usize) -> usize {
        let Some(call) = self.calls.get_mut(slot.0).filter(|call| call.fate == Fate::Unknown(operation))
        else {
            return 0;
        };
        let room = room.min(JOURNAL_BYTES_MAX - self.bytes);
        let before = self.bytes;
        call.fate = match fate {
            Fate::Done(operation, Some(result)) if result.len() <= room => {
                self.bytes += result.len();
                Fate::Done(operation, Some(result))
            }
            Fate::Done(operation, _) => {
                self.lost = true; // K92
                Fate::Done(operation, None)
            }
            other => other,
        };
        self.bytes - before
    }

    /// Results that it keeps.
    pub(crate) fn count_results(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call.fate, Fate::Done(_, Some(_)))).count()
    }

    /// The results go: what was done stays done, and there will be no retry. Answers how many there were.
    pub(crate) fn lose_results(&mut self) -> usize {
        let mut gone = 0;
        for call in &mut self.calls {
            if let Fate::Done(operation, Some(_)) = call.fate {
                call.fate = Fate::Done(operation, None);
                gone += 1;
            }
        }
        self.lost |= gone > 0;
        self.bytes = 0;
        gone
    }

    /// Where the call of this operation stands, of which nobody knows.
    pub(crate) fn doubt(&self, operation: OperationId) -> Option<Slot> {
        self.calls.iter().position(|call| call.fate == Fate::Unknown(operation)).map(Slot)
    }

    /// Bytes of results that it keeps.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Something was done whose result is not here.
    pub(crate) fn lost(&self) -> bool {
        self.lost
    }
}

/// What the digest of a call is taken of: tool, arguments in one spelling, texts. Not labels: what an agent has read
/// since changes what a call carries, not what it does.
pub(crate) fn spelling(tool: &str, arguments: &Json, parts: &[Part]) -> Vec<u8> {
    let mut text = Vec::with_capacity(256);
    let mut put = |bytes: &[u8]| {
        text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        text.extend_from_slice(bytes);
    };
    put(tool.as_bytes());
    put(sorted(arguments).to_string().as_bytes());
    for part in parts {
        put(part.text.as_bytes());
    }
    text
}

/// The same value, the keys of each object in order.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Json::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Json::Array(values) => Json::Array(values.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use symbi_types::SystemEntropy;

    fn operation() -> OperationId {
        OperationId::random(&SystemEntropy)
    }

    fn result(text: &str) -> Option<Arc<[u8]>> {
        Some(text.as_bytes().into())
    }

    /// A whole call in this attempt; answers the result it was given instead, if any.
    fn call(journal: &mut Journal, digest: u8, attempt: u32, fate: impl Fn(OperationId) -> Fate) -> Fate {
        let (slot, known) = journal.place([digest; 32], attempt).unwrap();
        if known == Fate::Not {
            let operation = operation();
            journal.begin(slot, operation);
            journal.settle(slot, operation, fate(operation), usize::MAX);
        }
        known
    }

    #[test]
    fn k90_equal_calls_are_answered_one_by_one_in_their_order() {
        let mut journal = Journal::default();
        for text in ["first", "second"] {
            let known = call(&mut journal, 1, 1, |operation| Fate::Done(operation, result(text)));
            assert_eq!(known, Fate::Not);
        }
        for text in ["first", "second"] {
            let Fate::Done(_, kept) = call(&mut journal, 1, 2, |_| Fate::Not) else { panic!("K90") };
            assert_eq!(kept, result(text));
        }
        assert_eq!(call(&mut journal, 1, 2, |_| Fate::Not), Fate::Not, "a third is a new one");
    }

    #[test]
    fn k91_a_call_that_failed_first_and_was_done_then_is_not_made_again() {
        let mut journal = Journal::default();
        call(&mut journal, 1, 1, |_| Fate::Not);
        call(&mut journal, 1, 1, |operation| Fate::Done(operation, result("done")));
        assert!(matches!(call(&mut journal, 1, 2, |_| Fate::Not), Fate::Done(..)));
        let mut journal = Journal::default();
        call(&mut journal, 1, 1, |_| Fate::Not);
        call(&mut journal, 1, 1, Fate::Unknown);
        assert!(matches!(call(&mut journal, 1, 2, |_| Fate::Not), Fate::Unknown(_)));
    }

    #[test]
    fn k92_past_the_bounds_what_was_done_is_lost() {
        let mut journal = Journal::default();
        let large: Arc<[u8]> = vec![0; JOURNAL_BYTES_MAX].into();
        call(&mut journal, 1, 1, |operation| Fate::Done(operation, Some(Arc::clone(&large))));
        assert!(!journal.lost());
        call(&mut journal, 2, 1, |operation| Fate::Done(operation, result("x")));
        assert!(journal.lost());
        let mut journal = Journal::default();
        let operation = operation();
        let (slot, _) = journal.place([1; 32], 1).unwrap();
        journal.begin(slot, operation);
        let fate = Fate::Done(operation, Some(large));
        assert_eq!(
            journal.settle(slot, operation, fate, JOURNAL_BYTES_MAX - 1),
            0,
            "others have taken the rest"
        );
        assert!(journal.lost());
        let mut journal = Journal::default();
        for _ in 0..JOURNAL_CALLS_MAX {
            call(&mut journal, 1, 1, |_| Fate::Not);
        }
        assert!(!journal.lost());
        assert!(journal.place([1; 32], 1).is_none() && journal.lost());
    }

    #[test]
    fn an_outcome_that_comes_after_its_call_was_repeated_says_nothing() {
        let mut journal = Journal::default();
        let (first, second) = (operation(), operation());
        let (slot, _) = journal.place([1; 32], 1).unwrap();
        journal.begin(slot, first);
        let (again, known) = journal.place([1; 32], 2).unwrap();
        assert_eq!((again, known), (slot, Fate::Unknown(first)));
        journal.begin(again, second);
        journal.settle(slot, first, Fate::Not, 0);
        assert_eq!(journal.place([1; 32], 3).unwrap().1, Fate::Unknown(second));
    }

    #[test]
    fn arguments_are_equal_whatever_the_order_of_their_names() {
        let spell = |text: &str| spelling("t", &serde_json::from_str(text).unwrap(), &[]);
        assert_eq!(spell(r#"{"a":{"x":1,"y":[2]},"b":3}"#), spell(r#"{"b":3,"a":{"y":[2],"x":1}}"#));
        assert_ne!(spell(r#"{"a":[1,2]}"#), spell(r#"{"a":[2,1]}"#));
        assert_ne!(spelling("t", &Json::Null, &[]), spelling("u", &Json::Null, &[]));
    }

    proptest! {
        /// K90, K91 against a plain list: over attempts of equal and different calls, no digest is done more often than
        /// the attempt that called it most often.
        #[test]
        fn k90_k91_no_effect_happens_more_often_than_one_attempt_asks_for(
            attempts in prop::collection::vec(prop::collection::vec((0..3u8, 0..3u8), 0..12), 1..6),
        ) {
            let mut journal = Journal::default();
            let mut done = [0usize; 3];
            let mut most = [0usize; 3];
            for (number, calls) in attempts.iter().enumerate() {
                let mut asked = [0usize; 3];
                let mut failed = false;
                for (digest, outcome) in calls {
                    if failed {
                        break;
                    }
                    let slot = usize::from(*digest);
                    let known = call(&mut journal, *digest, number as u32 + 1, |operation| match outcome {
                        0 => Fate::Not,
                        _ => Fate::Done(operation, result("x")),
                    });
                    if known == Fate::Not {
                        done[slot] += usize::from(*outcome != 0);
                        failed = *outcome == 0 && *digest == 0; // this one ends its attempt
                    }
                    asked[slot] += 1;
                    most[slot] = most[slot].max(asked[slot]);
                    prop_assert!(done[slot] <= most[slot], "an effect happened twice");
                }
            }
        }
    }
}
