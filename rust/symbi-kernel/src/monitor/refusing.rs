//! Refusals: recorded, or counted with the identical ones of their window.
//!
//! Not here: which denials are identical (`denials`), what the principal learns of one (`refusal`).

use symbi_audit::Event;
use symbi_policy::Decision;
use symbi_types::DecisionId;

use super::asked::request;
use super::counting::Unpaid;
use super::{Asked, evaluate};
use crate::Principal;
use crate::denials::{DenialKey, OTHERS, Repeated, Seen};
use crate::described::names_persons;
use crate::json::Object;
use crate::kernel::{ActivePolicies, Kernel, lock};
use crate::refusal::{Refusal, RefusalCode};
use crate::violation::consequence;

/// Longest request that is kept whole in the record of its denial: a record must always fit, or a denial could hide
/// behind its own size.
const REQUEST_BYTES_MAX: usize = 65_536;

impl Kernel {
    /// A refusal that policy decided: the public message of its rule, and the whole request in the log.
    pub(super) fn refuse_by_policy(
        &self,
        asked: &Asked<'_>,
        policies: &ActivePolicies,
        decision: &Decision,
        counters: &[(String, u64)],
    ) -> Refusal {
        let message = decision.message().unwrap_or("not allowed").to_owned();
        // Its own budget is spent if, and only if, it would be allowed as the first of its window.
        let first: Vec<(String, u64)> = counters.iter().map(|(name, _)| (name.clone(), 1)).collect();
        let over_budget = !counters.is_empty() && !evaluate(&policies.engine, asked, &first).is_denied();
        let code = if over_budget { RefusalCode::OverBudget } else { RefusalCode::Denied };
        let rules = decision.determining.iter().map(|rule| rule.id.as_str());
        let recorded = request(asked, counters).to_record();
        let request = serde_json::to_string(&recorded).unwrap_or_else(|_| "null".to_owned());
        let details = Object::new()
            .strings("rules", rules)
            .string("reason", decision.reason.map_or("", symbi_policy::Reason::as_str));
        let details = match &asked.call {
            _ if request.len() > REQUEST_BYTES_MAX => details.number("request_bytes", request.len() as u64),
            // The declared attributes of a call are taken from its arguments, and those are never plain.
            Some(_) => details.string("request_sealed", &self.seal_for(&asked.labels, request.as_bytes())),
            // Nor are the owner and the readers of a document (K111).
            None if names_persons(&asked.resource) => {
                details.string("request_sealed", &self.seal_for(&asked.labels, request.as_bytes()))
            }
            None => details.raw("request", &request),
        };
        let refusal = self.refuse_under(policies, asked, code, Some(details), &message);
        if let (Principal::Agent(agent), Some(consequence)) = (asked.principal, consequence(decision)) {
            self.violated(agent, consequence, recorded, refusal.decision); // K79
        }
        refusal
    }

    /// A refusal of counters, of what policies let pass.
    pub(super) fn refuse_unpaid(&self, asked: &Asked<'_>, unpaid: Unpaid, details: Object) -> Refusal {
        match unpaid {
            Unpaid::Spent { name, count, cap } => {
                let text = format!("the budget `{name}` is spent");
                let details = details.string("budget", &name).number("would_be", count).number("cap", cap);
                self.refuse(asked, RefusalCode::OverBudget, Some(details), &text) // K102
            }
            Unpaid::Unread { name, measure } => {
                let text = format!(
                    "`{name}` counts `{measure}`, which cannot be read of an agent in the host's process: run it in a \
                     sandbox, or bound its `time_ms`"
                );
                let details = details.string("counter", &name).string("unread", measure);
                self.refuse(asked, RefusalCode::Denied, Some(details), &text) // K240
            }
        }
    }

    /// Records a refusal, or counts it with the identical ones of its window.
    pub(crate) fn refuse(
        &self,
        asked: &Asked<'_>,
        code: RefusalCode,
        details: Option<Object>,
        message: &str,
    ) -> Refusal {
        self.refuse_under(&self.policies(), asked, code, details, message)
    }

    pub(super) fn refuse_under(
        &self,
        policies: &ActivePolicies,
        asked: &Asked<'_>,
        code: RefusalCode,
        details: Option<Object>,
        message: &str,
    ) -> Refusal {
        let key = DenialKey {
            principal: asked.principal,
            action: asked.action.name,
            resource: asked.resource.uid().to_string(),
            code,
            rule: message.to_owned(),
        };
        let now_us = self.log().now();
        let (key, seen) = {
            let mut denials = self.denials();
            let key = denials.key(key);
            let seen = denials.see(&key, now_us);
            (key, seen)
        };
        match seen {
            Seen::Again(decision, due) => {
                let seq = due.and_then(|repeated| self.record_repeated(&repeated));
                Refusal { code, decision, message: message.to_owned(), seq, approval: None }
            }
            Seen::First => {
                let decision = DecisionId::random(self.entropy());
                // What stands for all others says nothing of the one that happened to be the first.
                let details = details.filter(|_| key.action != OTHERS);
                let details = details
                    .unwrap_or_else(Object::new)
                    .string("action", key.action)
                    .display("principal", asked.principal)
                    .string("resource", &key.resource)
                    .string("code", code.as_str())
                    .display("decision_id", decision)
                    .string("message", message)
                    .number("count", 1)
                    .finish();
                let event = Event {
                    agent_id: asked.agent,
                    run: asked.run,
                    decision: Some("deny"),
                    policy: Some(&policies.digest),
                    labels: &asked.labels,
                    ..Event::new("operation.denied", &details)
                };
                self.denials().opened(key, decision, now_us);
                self.garbage_is_left();
                let seq = self.log().append(&event).ok().map(|receipt| receipt.seq);
                if let (Principal::Agent(agent), Some(seq)) = (asked.principal, seq) {
                    lock(&self.shares).add(agent, seq);
                }
                Refusal { code, decision, message: message.to_owned(), seq, approval: None }
            }
        }
    }

    fn record_repeated(&self, repeated: &Repeated) -> Option<u64> {
        let details = Object::new()
            .string("action", repeated.key.action)
            .display("principal", repeated.key.principal)
            .string("resource", &repeated.key.resource)
            .string("code", repeated.key.code.as_str())
            .display("decision_id", repeated.decision)
            .number("count", repeated.count)
            .number("since_us", repeated.since_us)
            .number("until_us", repeated.until_us)
            .finish();
        let agent_id = match repeated.key.principal {
            Principal::Agent(agent) => Some(agent),
            Principal::Host | Principal::Operator(_) => None,
        };
        let event = Event { agent_id, decision: Some("deny"), ..Event::new("operation.denied", &details) };
        self.log().append(&event).ok().map(|receipt| receipt.seq)
    }

    /// Writes the repetitions whose window has ended, or all of them.
    pub(crate) fn flush_denials(&self, all: bool) {
        let now_us = self.log().now();
        if !all && !self.denials().due(now_us) {
            return;
        }
        let due = self.denials().close_before(now_us, all);
        for repeated in &due {
            self.record_repeated(repeated);
        }
    }

    /// Writes at most `limit` of the repetitions whose window has ended; how many it wrote.
    pub(crate) fn flush_some_denials(&self, limit: usize) -> usize {
        let now_us = self.log().now();
        if !self.denials().due(now_us) {
            return 0;
        }
        let due = self.denials().close_some(now_us, limit);
        for repeated in &due {
            self.record_repeated(repeated);
        }
        due.len()
    }

    pub(super) fn denials_due(&self) -> bool {
        // Cheap enough for every operation, and then nothing is left to a timer.
        let now_us = self.log().now(); // before the lock (K25)
        self.denials().due(now_us)
    }

    /// The log cannot write, so nothing can be recorded, not even this.
    pub(crate) fn unavailable(&self) -> Refusal {
        Refusal {
            code: RefusalCode::Unavailable,
            decision: DecisionId::random(self.entropy()),
            message: "the trail cannot be written; nothing may happen until the runtime is reopened"
                .to_owned(),
            seq: None,
            approval: None,
        }
    }
}
