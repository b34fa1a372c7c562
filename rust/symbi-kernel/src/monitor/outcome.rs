//! How an external operation ended: recorded, and what it had reserved given back.
//!
//! Not here: when it may act (`permit`), what is under way (`flight`).

use symbi_audit::Event;
use symbi_types::OperationId;

use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::permit::Outcome;

impl Kernel {
    /// Records how an external operation ended. `acted`: its bytes were taken. `outcome` is none where the permit
    /// was dropped. Answers the record's number, or none where the log cannot write.
    pub(crate) fn settle(
        &self,
        operation: OperationId,
        acted: bool,
        outcome: Option<&Outcome>,
        result: Option<Vec<u8>>,
    ) -> Option<u64> {
        let mut pending = lock(&self.pending).remove(operation)?;
        let doubt = match (outcome, &pending.watch) {
            (Some(Outcome::Failed { kind, .. }), Some(watch)) => watch.leaves_doubt(kind),
            (Some(_) | None, _) => false,
        };
        if let Some(watch) = pending.watch.take() {
            self.watched(watch, operation, outcome, acted, result);
        }
        if pending.reported && outcome.is_none() {
            return None; // K78: it is recorded `unknown`, and is
        }
        let (word, details) = match (outcome, acted) {
            (Some(Outcome::Done), _) => ("done", Object::new()),
            (Some(Outcome::Failed { kind, text }), _) => ("failed", self.describe_error(kind, text)),
            (None, false) => ("released", Object::new()),
            (None, true) => ("unknown", Object::new()),
        };
        if word == "released" {
            self.release(&pending.intent.reservations);
        }
        let details = details.string("outcome", word).string("action", pending.intent.action);
        let details = if pending.reported { details.flag("late", true) } else { details }.finish();
        let event = Event {
            agent_id: pending.intent.agent,
            run: pending.intent.run,
            op: Some(operation),
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
}
