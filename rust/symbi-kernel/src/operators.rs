//! What operators do: change policy, resolve what is unknown.
//!
//! Invariants
//! - K35 a policy set that does not compile, or whose change cannot be recorded, leaves the last good one in force.
//! - K36 an unknown operation stays reserved until a person says what became of it, and is never repeated by itself.
//! - K123 what a person says of a call goes for later attempts of its task: one that was not done is made, one that was done
//!   is answered without a result.

use std::time::Duration;

use symbi_audit::Event;
use symbi_policy::{Diagnostic, Entity, vocabulary};
use symbi_types::OperationId;

use crate::Principal;
use crate::agents::AgentError;
use crate::flight::Intent;
use crate::kernel::{Kernel, Policies, compile_given, lock};
use crate::monitor::Asked;
use crate::recovery::Unknown;

/// How long a change of policy waits for its record; a disk that takes longer is broken.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of an unknown operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It happened.
    Done,
    /// It did not; what it had reserved is given back.
    Failed,
}

/// Why an operator's request did nothing.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Refused or invalid.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The policies do not compile; the last good ones stay in force.
    #[error("{} problem(s) in the policies; those in force stay", .0.len())]
    Policies(Vec<Diagnostic>),
}

impl Kernel {
    /// Puts other policies in force: compiled, decided, recorded on disk, swapped. Answers the record.
    ///
    /// # Errors
    /// Refused, or they do not compile (K35).
    pub fn load_policies(&self, by: Principal, policies: &Policies) -> Result<u64, OperatorError> {
        let resource = bare("PolicySet", "active")?;
        let asked = self.ask(by, "policy.change", resource)?;
        let granted = self.decide(&asked).map_err(AgentError::from)?;
        let active = match compile_given(policies) {
            Ok(active) => active,
            Err(diagnostics) => {
                self.release(granted.reservations()); // K21
                return Err(OperatorError::Policies(diagnostics));
            }
        };
        let one_after_the_other = lock(&self.changing_policies);
        let (before, after) = (self.policy_digest(), active.digest.clone());
        let (_, seq) = self
            .record_internal(&asked, granted, |details| {
                details.string("before", &before).string("after", &after)
            })
            .map_err(AgentError::from)?;
        self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
        self.activate(active, &policies.counters);
        drop(one_after_the_other);
        self.reconsider_violations(by); // K80
        Ok(seq)
    }

    /// Operations whose outcome is not known, oldest first.
    #[must_use]
    pub fn unknown_operations(&self) -> Vec<Unknown> {
        let mut unknown: Vec<Unknown> = lock(&self.unknown).values().cloned().collect();
        unknown.sort_by_key(|operation| operation.seq);
        unknown
    }

    /// Says what became of an unknown operation. Answers the record to wait for.
    ///
    /// # Errors
    /// Refused, or there is no such unknown operation.
    pub fn resolve(
        &self,
        by: Principal,
        operation: OperationId,
        resolution: Resolution,
    ) -> Result<u64, OperatorError> {
        let absent = || OperatorError::from(AgentError::Absent("unknown operation"));
        let agent = lock(&self.unknown).get(&operation).ok_or_else(absent)?.agent;
        let asked = self.ask(by, "operation.resolve", bare("Runtime", "runtime")?)?;
        let asked = Asked { agent, ..asked };
        let granted = self.decide(&asked).map_err(AgentError::from)?;
        // Taken out before it is recorded: of two that resolve it at once, one finds nothing, and gives nothing back.
        let Some(unknown) = lock(&self.unknown).remove(&operation) else {
            self.release(granted.reservations()); // K21
            return Err(absent());
        };
        let word = match resolution {
            Resolution::Done => "done",
            Resolution::Failed => "failed",
        };
        let details = self
            .describe(&asked, &granted)
            .string("resolved", &unknown.action)
            .string("outcome", word)
            .finish();
        let event = Event {
            agent_id: unknown.agent,
            op: Some(operation),
            decision: Some("allow"),
            policy: Some(granted.policy()),
            ..Event::new("operation.resolved", &details)
        };
        let Ok(receipt) = self.log().append(&event) else {
            self.release(granted.reservations()); // K21
            lock(&self.unknown).insert(operation, unknown); // K36
            return Err(AgentError::from(self.unavailable()).into());
        };
        if resolution == Resolution::Failed {
            self.release(&unknown.reservations);
        }
        self.handler().resolved(unknown.agent, operation, resolution == Resolution::Done); // K123
        Ok(receipt.seq)
    }

    pub(crate) fn remember_unknown(&self, operation: OperationId, intent: &Intent) {
        let unknown = Unknown {
            operation,
            seq: intent.seq,
            action: intent.action.to_owned(),
            agent: intent.agent,
            principal: intent.principal.to_string(),
            resource: intent.resource.clone(),
            at_us: self.log().now(),
            reservations: intent.reservations.clone(),
        };
        lock(&self.unknown).insert(operation, unknown);
    }
}

fn bare(kind: &str, id: &str) -> Result<Entity, AgentError> {
    vocabulary::named(kind, id).map_err(|error| AgentError::Invalid(error.to_string()))
}
