//! What stands in the record of an operation.
//!
//! Not here: when it is written (`monitor`), the form of a record (`symbi-audit`).

use symbi_audit::Event;
use symbi_types::{LabelSet, OperationId};

use super::asked::request;
use super::counting::write_reservations;
use super::{Asked, Granted};
use crate::Principal;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::obligations::FULL_BYTES_MAX;
use crate::refusal::Refusal;

/// Longest class of an error in a record, in characters.
const KIND_CHARS_MAX: usize = 64;

impl Kernel {
    /// The class of an error plain, what it said sealed. A class comes from outside: one that is not a short word is
    /// text like any other.
    pub(crate) fn describe_error(&self, labels: &LabelSet, kind: &str, text: &str) -> Object {
        let word = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
        let good = !kind.is_empty() && kind.len() <= KIND_CHARS_MAX && kind.chars().all(word);
        let (kind, text) = if good { (kind, text.to_owned()) } else { ("other", format!("{kind}: {text}")) };
        let details = Object::new().string("error", kind);
        if text.is_empty() {
            details
        } else {
            details.string("sealed", &self.seal_for(labels, text.as_bytes()))
        }
    }

    pub(crate) fn describe(&self, asked: &Asked<'_>, granted: &Granted) -> Object {
        let details = Object::new()
            .string("action", asked.action.name)
            .display("principal", asked.principal)
            .display("resource", asked.resource.uid())
            .number("bytes", asked.bytes);
        let details = match asked.arguments {
            Some(arguments) => details.string("arguments", &self.digest_for(&asked.labels, arguments)),
            None => details,
        };
        let details = if granted.rules.is_empty() {
            details
        } else {
            details.strings("rules", granted.rules.iter().map(String::as_str))
        };
        let details = self.name_request(asked, details); // K110
        let details = self.describe_terms(asked, granted, details);
        if granted.counters.is_empty() && granted.reservations.is_empty() {
            return details;
        }
        let counts =
            granted.counters.iter().fold(Object::new(), |object, (name, count)| object.number(name, *count));
        let details = details.raw("counters", &counts.finish()); // K22
        if granted.reservations.is_empty() {
            return details;
        }
        details.raw("reserved", &write_reservations(&granted.reservations)) // K103
    }

    /// What the grant is bound to.
    fn describe_terms(&self, asked: &Asked<'_>, granted: &Granted, details: Object) -> Object {
        let terms = &granted.terms;
        if terms.names.is_empty() {
            return details;
        }
        let details = details.strings("obligations", terms.names.iter().copied());
        let details = match &terms.approved {
            Some(approval) => details.display("approval", approval.id),
            None => details,
        };
        let details = if terms.notify.is_empty() {
            details
        } else {
            details.strings("notify", terms.notify.iter().map(String::as_str))
        };
        if !terms.full {
            return details;
        }
        let request = request(asked, &granted.counters).to_record();
        let text = serde_json::to_string(&request).unwrap_or_else(|_| "null".to_owned());
        if text.len() <= FULL_BYTES_MAX {
            details.string("request_sealed", &self.seal_for(&asked.labels, text.as_bytes()))
        } else {
            details.number("request_bytes", text.len() as u64)
        }
    }

    pub(super) fn append(
        &self,
        op: OperationId,
        event_type: &'static str,
        granted: &Granted,
        asked: &Asked<'_>,
        details: &str,
    ) -> Option<u64> {
        let seq = self.log().append(&event(op, event_type, granted, asked, details)).ok()?.seq;
        self.count_share(asked, seq);
        Some(seq)
    }

    /// The one record each of internal operations, in their order, into the log's buffer (K24). Answers the number of the
    /// last one.
    ///
    /// # Errors
    /// The log cannot write: none of them may happen, and what they had reserved is given back (K21).
    pub(crate) fn record_internals<'a>(
        &self,
        grants: impl IntoIterator<Item = (&'a Asked<'a>, &'a Granted, &'a str)> + Clone,
    ) -> Result<u64, Refusal> {
        let written = |(asked, granted, details): (&'a Asked<'a>, &'a Granted, &'a str)| {
            event(granted.operation, "operation", granted, asked, details)
        };
        let events: Vec<Event<'_>> = grants.clone().into_iter().map(written).collect();
        match self.log().append_many(&events) {
            Ok(taken) if !taken.is_empty() => {
                for ((asked, granted, _), seq) in grants.into_iter().zip(taken.clone()) {
                    self.count_share(asked, seq);
                    self.tell(asked, granted, seq);
                }
                Ok(taken.end.saturating_sub(1))
            }
            Ok(_) | Err(_) => {
                self.undo_all(grants.into_iter().map(|(_, granted, _)| granted)); // K21
                Err(self.unavailable())
            }
        }
    }

    fn count_share(&self, asked: &Asked<'_>, seq: u64) {
        if let Principal::Agent(agent) = asked.principal {
            lock(&self.shares).add(agent, seq);
        }
    }
}

/// The record of one operation.
fn event<'a>(
    op: OperationId,
    event_type: &'a str,
    granted: &'a Granted,
    asked: &'a Asked<'_>,
    details: &'a str,
) -> Event<'a> {
    Event {
        agent_id: asked.agent,
        run: asked.run,
        op: Some(op),
        decision: Some(granted.word()),
        policy: Some(&granted.policies.digest),
        labels: &asked.labels,
        ..Event::new(event_type, details)
    }
}
