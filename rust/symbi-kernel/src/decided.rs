//! Decisions that were made before, for the same request under the same policies.
//!
//! Why: agents that talk ask the same question thousands of times a second. The answer cannot change while neither the
//! policies nor the two entities do, so it is kept.
//! Not here: denials (each is recorded with its whole request, and must not be cheap), the decision itself.
//!
//! A kept answer is used if, and only if, a decision made now would be the same:
//!
//! Invariants
//! - K160 the policies are the very set that decided: another set, even of the same text, has none of its answers.
//! - K161 subject and resource are the very entities that were decided on. An agent's entity is made anew whenever anything
//!   that policies see of it changes; the ones here are held, so that no other can come to stand at their place.
//! - K162 action and size are equal, and nothing else is in the context: where a counter is declared for the action, where
//!   the data carry labels, where the request has circumstances or a call, nothing is kept and nothing is used. Policies
//!   have no clock.
//! - K163 only a plain permission is kept: no denial, no obligation, no rule that could not be evaluated.
//! - K164 at most `KEPT_MAX` answers are kept; past it all are let go.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use symbi_policy::{Decision, Effect, Entity};

use crate::kernel::{ActivePolicies, Kernel};
use crate::monitor::{Asked, evaluate};

/// Answers that are kept: as many pairs of agents as talk at once.
const KEPT_MAX: usize = 16_384;

/// Where an entity lies (it is held, so nothing else can lie there), the action, the size.
type Key = (usize, usize, &'static str, u64);

#[derive(Default)]
struct Answers {
    policies: Option<Arc<ActivePolicies>>,
    kept: HashMap<Key, (Entity, Entity, Arc<Decision>)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Decided {
    answers: RwLock<Answers>,
}

/// K162. Messages alone: the entities of other actions are made for one request.
fn key(asked: &Asked<'_>) -> Option<Key> {
    let plain = asked.action.name.starts_with("message.")
        && asked.labels.is_empty()
        && asked.circumstances.is_empty()
        && asked.call.is_none()
        && !asked.replays
        && asked.expected.is_none();
    plain.then(|| (asked.subject.place(), asked.resource.place(), asked.action.name, asked.bytes))
}

impl Decided {
    pub(crate) fn find(&self, policies: &Arc<ActivePolicies>, asked: &Asked<'_>) -> Option<Arc<Decision>> {
        let key = key(asked)?;
        let answers = self.answers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let same = answers.policies.as_ref().is_some_and(|known| Arc::ptr_eq(known, policies)); // K160
        let (subject, resource, decision) = answers.kept.get(&key).filter(|_| same)?;
        debug_assert!(subject.place() == key.0 && resource.place() == key.1, "K161");
        Some(Arc::clone(decision))
    }

    /// Keeps an answer, where it may be used again.
    pub(crate) fn keep(&self, policies: &Arc<ActivePolicies>, asked: &Asked<'_>, decision: &Decision) {
        let plain = decision.effect == Effect::Allow && decision.errors.is_empty(); // K163
        let Some(key) = key(asked).filter(|_| plain) else { return };
        let mut answers = self.answers.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !answers.policies.as_ref().is_some_and(|known| Arc::ptr_eq(known, policies)) {
            *answers = Answers { policies: Some(Arc::clone(policies)), kept: HashMap::new() };
        }
        if KEPT_MAX <= answers.kept.len() {
            answers.kept.clear(); // K164
        }
        let kept = (asked.subject.clone(), asked.resource.clone(), Arc::new(decision.clone()));
        answers.kept.insert(key, kept);
    }
}

impl Kernel {
    /// The decision on a request: the one that was made before, where that is the same (K160 to K162).
    pub(crate) fn evaluate_or_recall(
        &self,
        policies: &Arc<ActivePolicies>,
        asked: &Asked<'_>,
        counters: &[(String, u64)],
    ) -> Decision {
        let decided = &self.messaging.decided;
        if counters.is_empty()
            && let Some(known) = decided.find(policies, asked)
        {
            return Decision::clone(&known);
        }
        let decision = evaluate(&policies.engine, asked, counters);
        if counters.is_empty() {
            decided.keep(policies, asked, &decision);
        }
        decision
    }
}
