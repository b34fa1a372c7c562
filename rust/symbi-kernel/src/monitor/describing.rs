//! What stands in the record of an operation.
//!
//! Not here: when it is written (`monitor`), the form of a record (`symbi-audit`).

use symbi_audit::Event;
use symbi_types::{AgentId, OperationId, RunId};

use super::{Asked, Granted};
use crate::Principal;
use crate::json::Object;
use crate::kernel::{Kernel, lock};

/// Longest class of an error in a record, in characters.
const KIND_CHARS_MAX: usize = 64;

impl Kernel {
    /// The class of an error plain, what it said sealed. A class comes from outside: one that is not a short word is
    /// text like any other.
    pub(crate) fn describe_error(&self, kind: &str, text: &str) -> Object {
        let word = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
        let good = !kind.is_empty() && kind.len() <= KIND_CHARS_MAX && kind.chars().all(word);
        let (kind, text) = if good { (kind, text.to_owned()) } else { ("other", format!("{kind}: {text}")) };
        let details = Object::new().string("error", kind);
        if text.is_empty() { details } else { details.string("sealed", &self.seal(text.as_bytes())) }
    }

    pub(crate) fn describe(&self, asked: &Asked<'_>, granted: &Granted) -> Object {
        let details = Object::new()
            .string("action", asked.action.name)
            .display("principal", asked.principal)
            .display("resource", asked.resource.uid())
            .number("bytes", asked.bytes);
        let details = match asked.arguments {
            Some(arguments) => details.string("arguments", &self.digest(arguments)),
            None => details,
        };
        let details = if granted.rules.is_empty() {
            details
        } else {
            details.strings("rules", granted.rules.iter().map(String::as_str))
        };
        if granted.counters.is_empty() {
            return details;
        }
        let counts =
            granted.counters.iter().fold(Object::new(), |object, (name, count)| object.number(name, *count));
        details.string("subject", &asked.subject.uid().to_string()).raw("counters", &counts.finish()) // K22
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record, in its order")]
    pub(super) fn append(
        &self,
        agent: Option<AgentId>,
        run: Option<RunId>,
        op: Option<OperationId>,
        event_type: &str,
        granted: &Granted,
        asked: &Asked<'_>,
        details: &str,
    ) -> Option<u64> {
        let decision = match (&granted.redact, granted.enforced) {
            (_, false) => "unenforced",
            (Some(_), _) => "redact",
            (None, _) => "allow",
        };
        let event = Event {
            agent_id: agent,
            run,
            op,
            decision: Some(decision),
            policy: Some(&granted.policies.digest),
            labels: &asked.labels,
            ..Event::new(event_type, details)
        };
        let seq = self.log().append(&event).ok()?.seq;
        if let Principal::Agent(agent) = asked.principal {
            lock(&self.shares).add(agent, seq);
        }
        Some(seq)
    }
}
