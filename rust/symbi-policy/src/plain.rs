//! What Cedar alone would answer, before our own rule for errors.
//!
//! Why: the index and the heads are ours, and must be shown to find exactly what Cedar finds. Compared is what Cedar's
//! authorizer reports: the decision, the policies that determined it, and those that could not be evaluated. And whoever
//! brings policies from elsewhere can see where we deny what Cedar would allow.
//! Not here: anything that is enforced. An erring `forbid` is skipped here, as Cedar skips it.
//!
//! Invariants: D8 of the crate.

use std::sync::Arc;

use crate::compile::Compiled;
use crate::decision::{Failure, Rule, RuleEffect};
use crate::engine::Engine;
use crate::evaluate::{Scene, cedar_request, visit};
use crate::request::Request;
use crate::store::Store;

/// An answer by Cedar's semantics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainDecision {
    /// A `permit` holds and no `forbid` does.
    pub allowed: bool,
    /// The forbids that hold, or else the permits that do.
    pub determining: Vec<Arc<Rule>>,
    /// What could not be evaluated: skipped.
    pub errors: Vec<Failure>,
}

impl Engine {
    /// Decides as `cedar-policy` would over all rules of this engine (D8). Not for enforcing: see the module.
    ///
    /// None where the action is not in the schema, or the entities of the request disagree with those of the store.
    ///
    /// Cost: like a decision, and besides every permit is evaluated where a `forbid` already holds.
    #[must_use]
    pub fn as_cedar_alone(&self, request: &Request<'_>, store: &Store) -> Option<PlainDecision> {
        let action = self.action(request.action, Some(store))?;
        let matching = self.matching(request.principal, &action, request.resource);
        let built = cedar_request(request, &action);
        visit(request, built, &action, Some(store), |scene| plainly(scene, matching.rules.iter().copied()))
    }
}

fn plainly<'a>(scene: &Scene<'_>, matching: impl Iterator<Item = &'a Compiled>) -> PlainDecision {
    let (mut permits, mut forbids, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for compiled in matching {
        let rule = Arc::clone(&compiled.rule);
        match scene.holds(compiled) {
            Ok(false) => {}
            Ok(true) if rule.effect == RuleEffect::Permit => permits.push(rule),
            Ok(true) => forbids.push(rule),
            Err(message) => errors.push(Failure { rule, message }),
        }
    }
    let allowed = forbids.is_empty() && !permits.is_empty();
    PlainDecision { allowed, determining: if forbids.is_empty() { permits } else { forbids }, errors }
}
