//! How an external operation ended: recorded, and what it had reserved given back.
//!
//! Not here: when it may act (`permit`), what is under way (`flight`).

use std::collections::BTreeMap;

use symbi_audit::Event;
use symbi_types::{LabelSet, OperationId};

use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::monitor::counting::TIME_MS;
use crate::obligations::FULL_BYTES_MAX;
use crate::permit::{Outcome, Settlement};

impl Kernel {
    /// Records how an external operation ended. `acted`: its bytes were taken. `outcome` is none where the permit
    /// was dropped. Answers the record's number, or none where the log cannot write.
    pub(crate) fn settle(
        &self,
        operation: OperationId,
        acted: bool,
        outcome: Option<&Outcome>,
        settlement: Settlement,
    ) -> Option<u64> {
        let now_ns = self.moment().mono_ns;
        let mut pending = lock(&self.pending).remove(operation)?;
        let doubt = match (outcome, &pending.watch) {
            (Some(Outcome::Failed { kind, .. }), Some(watch)) => watch.leaves_doubt(kind),
            (Some(_) | None, _) => false,
        };
        let Settlement { result, used, labels, returned: _ } = settlement;
        let kept = result.as_deref().filter(|_| pending.intent.full);
        let labels = labels.union(&pending.intent.persons);
        let kept = kept.map(|result| self.describe_result(&labels, result));
        if let Some(watch) = pending.watch.take() {
            self.watched(watch, operation, outcome, acted, result);
        }
        let mut used = each_once(used);
        if acted {
            used.insert(TIME_MS.to_owned(), now_ns.saturating_sub(pending.acted_ns) / 1_000_000);
            self.adjust(&mut pending.intent.reservations, &used);
        }
        if pending.reported && outcome.is_none() {
            return None; // K78: it is recorded `unknown`, and is
        }
        let (word, details) = match (outcome, acted) {
            (Some(Outcome::Done), _) => ("done", Object::new()),
            (Some(Outcome::Failed { kind, text }), _) => ("failed", self.describe_error(&labels, kind, text)),
            (None, false) => ("released", Object::new()),
            (None, true) => ("unknown", Object::new()),
        };
        if word == "released" {
            self.release(&pending.intent.reservations);
        }
        let details = details.string("outcome", word).string("action", pending.intent.action);
        let details = if pending.reported { details.flag("late", true) } else { details };
        let details = if doubt { details.flag("doubt", true) } else { details }; // K37
        let spent = pending.intent.reservations.iter().any(|one| !one.measure.is_empty());
        let details = if spent && acted {
            let used = used.iter().fold(Object::new(), |all, (name, amount)| all.number(name, *amount));
            details.raw("used", &used.finish()) // K103
        } else {
            details
        };
        let details = match kept {
            Some((key, text)) => details.string(key, &text),
            None => details,
        };
        let details = details.finish();
        let event = Event {
            agent_id: pending.intent.agent,
            run: pending.intent.run,
            op: Some(operation),
            labels: &labels,
            ..Event::new("operation.outcome", &details)
        };
        let seq = self.log().append(&event).ok().map(|receipt| receipt.seq);
        if word == "unknown" || doubt {
            self.remember_unknown(operation, &pending.intent);
        } else if pending.reported && seq.is_some() {
            lock(&self.unknown).remove(&operation); // K78
        }
        seq
    }

    /// A result that a rule wants recorded: sealed; of one that is too long its digest, for it has happened.
    fn describe_result(&self, labels: &LabelSet, result: &[u8]) -> (&'static str, String) {
        if result.len() <= FULL_BYTES_MAX {
            ("result_sealed", self.seal_for(labels, result))
        } else {
            ("result_digest", self.digest_for(labels, result))
        }
    }
}

/// By measure; said several times it adds up.
fn each_once(used: Vec<(String, u64)>) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for (measure, amount) in used {
        let sum = all.entry(measure).or_default();
        *sum = sum.saturating_add(amount);
    }
    all
}
