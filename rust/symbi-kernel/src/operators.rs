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
use crate::canary::{Flip, SHOWN};
use crate::content::{self, Showing};
use crate::flight::Intent;
use crate::json::Object;
use crate::kernel::{Kernel, KernelError, Policies, compile_given, lock};
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
    /// The trail did not do it.
    #[error(transparent)]
    Trail(symbi_audit::LogError),
    /// Too much of what was decided lately would fall otherwise.
    #[error("{} of the operations decided lately would fall otherwise; the policies in force stay", .0.len())]
    Flips(Vec<Flip>),
    /// A store could not be looked through.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An erasure that is recorded, and stopped here. Erasing the pseudonym again goes on with it, and so does the next opening.
    #[error("the erasure of `{pseudonym}` is recorded and not finished: {source}")]
    Unfinished {
        /// Of whom.
        pseudonym: String,
        /// What stopped it.
        source: KernelError,
    },
}

/// Policies that were put in force.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The record.
    pub seq: u64,
    /// Recent operations that were decided again.
    pub sampled: usize,
    /// Those that fall otherwise now, as far as they are told one by one.
    pub flips: Vec<Flip>,
}

/// Longest text of a problem in a record, in characters.
const PROBLEM_CHARS_MAX: usize = 8_192;

impl Kernel {
    /// Puts other policies in force: compiled, decided, recorded on disk, swapped. Answers the record.
    ///
    /// # Errors
    /// Refused, or they do not compile (K35).
    pub fn load_policies(&self, by: Principal, policies: &Policies) -> Result<u64, OperatorError> {
        Ok(self.change_policies(by, policies, None)?.seq)
    }

    /// As [`Kernel::load_policies`]; a sample of recent operations is decided by both sets first, and what falls otherwise
    /// is told. Where more than `flips_max` do, nothing is changed.
    ///
    /// # Errors
    /// Refused, they do not compile, or too much would fall otherwise (K35).
    pub fn change_policies(
        &self,
        by: Principal,
        policies: &Policies,
        flips_max: Option<usize>,
    ) -> Result<Changed, OperatorError> {
        // Compiled first: an approval is asked for what would be in force, and for nothing that does not compile.
        let compiled = compile_given(policies);
        let after = compiled.as_ref().map_or_else(|_| String::new(), |active| active.digest.clone());
        let resource = bare("PolicySet", "active")?;
        let asked = self.ask(by, "policy.change", resource)?;
        let show = || content::of_policies(&self.policy_digest(), &after, policies);
        let showing: Showing<'_> = if compiled.is_ok() { Some(&show) } else { None };
        let granted = self.decide_showing(&asked, showing).map_err(AgentError::from)?;
        let active = match compiled {
            Ok(active) => active,
            Err(diagnostics) => {
                self.undo(&granted.held()); // K21
                return Err(OperatorError::Policies(diagnostics));
            }
        };
        // What would fall is told against those that are replaced, whatever was put in force meanwhile.
        let one_after_the_other = lock(&self.changing_policies);
        let (sampled, flips) = self.compare(&self.policies().engine, &active.engine);
        if flips_max.is_some_and(|most| most < flips.len()) {
            self.undo(&granted.held()); // K21
            return Err(OperatorError::Flips(flips));
        }
        let before = self.policy_digest();
        let (_, seq) = self
            .record_internal(&asked, granted, |details| {
                details
                    .string("before", &before)
                    .string("after", &after)
                    .number("sampled", sampled as u64)
                    .number("flips", flips.len() as u64)
            })
            .map_err(AgentError::from)?;
        self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
        self.activate(active);
        drop(one_after_the_other);
        *lock(&self.policy_problem) = None;
        self.reconsider_violations(by); // K80
        let shown = flips.into_iter().take(SHOWN).collect();
        Ok(Changed { seq, sampled, flips: shown })
    }

    /// Policies that were to be put in force are not, and those before stay: recorded, and told until others are.
    pub fn refuse_policies(&self, problem: &str) -> Option<u64> {
        let shown: String = problem.chars().take(PROBLEM_CHARS_MAX).collect();
        let details =
            Object::new().string("problem", &shown).string("policy", &self.policy_digest()).finish();
        *lock(&self.policy_problem) = Some(shown);
        let event = Event { decision: Some("deny"), ..Event::new("policy.rejected", &details) };
        self.log().append(&event).ok().map(|receipt| receipt.seq)
    }

    /// Why policies that were to be put in force are not; none where nothing is amiss.
    #[must_use]
    pub fn policy_problem(&self) -> Option<String> {
        lock(&self.policy_problem).clone()
    }

    /// An operator's token is made, or taken away: decided, and recorded with its name.
    ///
    /// # Errors
    /// Refused, or it is not a name.
    pub fn change_operator(&self, by: Principal, name: &str, added: bool) -> Result<u64, OperatorError> {
        let good = !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|one| one.is_ascii_alphanumeric() || "._-".contains(one));
        if !good {
            let text = "an operator's name is 1 to 64 of a-z, A-Z, 0-9, `.`, `_`, `-`";
            return Err(AgentError::Invalid(text.to_owned()).into());
        }
        let asked = self.ask(by, "key.change", bare("Key", &format!("operator/{name}"))?)?;
        let granted = self.decide(&asked).map_err(AgentError::from)?;
        let (_, seq) = self
            .record_internal(&asked, granted, |details| details.flag("added", added))
            .map_err(AgentError::from)?;
        self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
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
            self.undo(&granted.held()); // K21
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
            self.undo(&granted.held()); // K21
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
            kept: false,
        };
        lock(&self.unknown).insert(operation, unknown);
    }
}

fn bare(kind: &str, id: &str) -> Result<Entity, AgentError> {
    vocabulary::named(kind, id).map_err(|error| AgentError::Invalid(error.to_string()))
}
