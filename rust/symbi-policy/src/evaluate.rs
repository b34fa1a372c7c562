//! Evaluating: from a request to the rules that hold, and from those to an answer.
//!
//! Why: only what the head of a policy does not settle is evaluated, in place where that is certain (`direct`); only when
//! a candidate needs it are entities and context put into the form of Cedar's evaluator. What would cost much and reads
//! nothing but the request itself may be answered from a cache.
//!
//! Invariants: D1 to D5, D7 and D8 of the crate.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cedar_policy_core::ast;
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;

use crate::cache::DecisionCache;
use crate::compile::Compiled;
use crate::decision::{Decision, Effect, Failure, Reason, Rule, RuleEffect};
use crate::direct::Sight;
use crate::engine::{Acting, Engine};
use crate::entity::{Entity, Uid};
use crate::index::action_matches;
use crate::obligation::{Obligation, merge};
use crate::request::Request;
use crate::store::Store;

/// What candidates cost before their decision is worth keeping: a request that is kept is hashed, compared and copied.
const COST_KEPT_MIN: usize = 16;
/// What a condition costs that Cedar's evaluator may be asked about, where one that is evaluated in place costs 1.
const COST_ASKED: usize = 16;

/// What a request became for one evaluation.
pub(crate) struct Scene<'a> {
    sight: Option<Sight<'a>>,
    pub principal: &'a Entity,
    pub action: &'a Entity,
    pub resource: &'a Entity,
    pub evaluator: &'a Evaluator<'a>,
}

/// How a request is to be decided.
#[derive(Clone, Copy, Default)]
struct Way<'a> {
    store: Option<&'a Store>,
    checked: bool,
    cache: Option<&'a DecisionCache>,
}

impl Engine {
    /// Decides. Whatever goes wrong is a denial.
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        self.evaluate_with(request, Way::default())
    }

    /// Like [`Engine::evaluate_in`], for requests from outside: one that does not fit the schema is denied.
    #[must_use]
    pub fn evaluate_checked(&self, request: &Request<'_>, store: &Store) -> Decision {
        self.evaluate_with(request, Way { store: Some(store), checked: true, cache: None })
    }

    /// Decides with the attributes and ancestors that `store` holds for any entity.
    #[must_use]
    pub fn evaluate_in(&self, request: &Request<'_>, store: &Store) -> Decision {
        self.evaluate_with(request, Way { store: Some(store), checked: false, cache: None })
    }

    /// Like [`Engine::evaluate_checked`], or without `checked` like [`Engine::evaluate_in`], with answers kept. The cache
    /// belongs to this engine and this store alone: see [`crate::Snapshot`].
    pub(crate) fn evaluate_cached(
        &self,
        request: &Request<'_>,
        store: &Store,
        checked: bool,
        cache: &DecisionCache,
    ) -> Decision {
        self.evaluate_with(request, Way { store: Some(store), checked, cache: Some(cache) })
    }

    fn evaluate_with(&self, request: &Request<'_>, way: Way<'_>) -> Decision {
        // A panic in the evaluator must deny one request, not end the monitor.
        catch_unwind(AssertUnwindSafe(|| self.decide(request, way)))
            .unwrap_or_else(|_| Decision::engine_failed())
    }

    fn decide(&self, request: &Request<'_>, way: Way<'_>) -> Decision {
        let Some(action) = self.acting(request.action, way.store) else {
            return Decision::denied(Reason::UnknownAction, Vec::new(), Vec::new());
        };
        let matching = self.matching(request.principal, action.entity(), request.resource);
        let cache = way.cache.filter(|_| {
            // CA1: what reads history, labels or time is asked each time.
            request.entities.is_empty()
                && matching.rules.iter().map(|compiled| compiled.cost()).sum::<usize>() >= COST_KEPT_MIN
                && matching.rules.iter().all(|compiled| compiled.stable)
        });
        let Some(cache) = cache else { return self.decide_now(request, &action, &matching, way) };
        let key = cache.key(request);
        if let Some(known) = cache.get(key, request) {
            return known;
        }
        let fresh = self.decide_now(request, &action, &matching, way);
        cache.put(key, request, &fresh);
        fresh
    }

    fn decide_now(
        &self,
        request: &Request<'_>,
        action: &Acting<'_>,
        matching: &Matching<'_>,
        way: Way<'_>,
    ) -> Decision {
        if way.checked
            && let Err(error) = self.check(request, action)
        {
            let denied = Decision::denied(Reason::InvalidRequest, Vec::new(), Vec::new());
            return Decision { detail: Some(error.to_string()), ..denied };
        }
        let action = action.entity();
        if matching.rules.iter().all(|compiled| compiled.condition.is_none()) {
            return answer(request, matching, &mut |_| Ok(true));
        }
        if let Some(sight) = Sight::of(request, action, way.store) {
            let mut certain = true;
            let decision = answer(request, matching, &mut |compiled| {
                let known = if certain { compiled.holds_directly(&sight) } else { None };
                certain = known.is_some();
                Ok(known.unwrap_or(false))
            });
            if certain {
                return decision;
            }
        }
        visit(request, cedar_request(request, action), action, way.store, |scene| {
            answer(request, matching, &mut |compiled| scene.holds(compiled))
        })
        .unwrap_or_else(Decision::engine_failed)
    }

    /// Rules whose head matches, by layer.
    pub(crate) fn matching(&self, principal: &Entity, action: &Entity, resource: &Entity) -> Matching<'_> {
        let (mut matching, mut found) = (Matching::default(), Vec::new());
        for layer in &self.layers {
            matching.before = matching.rules.len();
            layer.index.candidates(principal, action, resource, &mut found);
            let rules =
                found.drain(..).filter_map(|position| layer.rules.get(usize::try_from(position).ok()?));
            matching
                .rules
                .extend(rules.filter(|compiled| compiled.head_matches(principal, action, resource)));
        }
        matching
    }
}

/// Rules whose head matches, in the order of their layers, of which there are at most two.
#[derive(Default)]
pub(crate) struct Matching<'a> {
    pub rules: Vec<&'a Compiled>,
    /// How many stand in layers before the last.
    before: usize,
}

impl<'a> Matching<'a> {
    fn layers(&self) -> [&[&'a Compiled]; 2] {
        self.rules.split_at_checked(self.before).map_or([&[], &self.rules], |(first, second)| [first, second])
    }
}

impl Compiled {
    /// What evaluating it costs, against [`COST_KEPT_MIN`].
    fn cost(&self) -> usize {
        match (&self.condition, &self.direct) {
            (None, _) => 0,
            (Some(_), Some(_)) => 1,
            (Some(_), None) => COST_ASKED,
        }
    }

    /// None where Cedar's evaluator must be asked.
    fn holds_directly(&self, sight: &Sight<'_>) -> Option<bool> {
        match (&self.condition, &self.direct) {
            (None, _) => Some(true),
            (Some(_), Some(direct)) => direct.holds(sight),
            (Some(_), None) => None,
        }
    }

    pub(crate) fn head_matches(&self, principal: &Entity, action: &Entity, resource: &Entity) -> bool {
        action_matches(&self.action, action)
            && self.principal.matches(principal)
            && self.resource.matches(resource)
    }
}

impl Scene<'_> {
    /// Whether the body of a rule whose head matches is true.
    pub(crate) fn holds(&self, compiled: &Compiled) -> Result<bool, String> {
        let Some(condition) = &compiled.condition else { return Ok(true) };
        if let Some(known) = self.sight.as_ref().and_then(|sight| compiled.holds_directly(sight)) {
            return Ok(known);
        }
        self.truth(condition, &compiled.slots)
    }

    pub(crate) fn truth(&self, expression: &ast::Expr, slots: &ast::SlotEnv) -> Result<bool, String> {
        match self.evaluator.interpret(expression, slots) {
            Ok(value) => match value.value_kind() {
                ast::ValueKind::Lit(ast::Literal::Bool(flag)) => Ok(*flag),
                _ => Err("the condition is not a boolean".to_owned()),
            },
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Layers in turn: the first that permits or forbids decides; one that is silent leaves it to the next.
fn answer(
    request: &Request<'_>,
    matching: &Matching<'_>,
    holds: &mut dyn FnMut(&Compiled) -> Result<bool, String>,
) -> Decision {
    let mut errors = Vec::new();
    let mut layers = matching.layers().into_iter();
    while let Some(rules) = layers.next() {
        if let Some(decision) = answer_layer(rules, holds, &mut errors) {
            if request.action != "policy.change" {
                return decision;
            }
            return layers.fold(decision, |decision, below| with_persons(decision, below, holds));
        }
    }
    Decision::denied(Reason::NoPermit, Vec::new(), errors) // D1
}

/// D9. A permit that cannot be evaluated asks too: here it would only take something away.
fn with_persons(
    decision: Decision,
    below: &[&Compiled],
    holds: &mut dyn FnMut(&Compiled) -> Result<bool, String>,
) -> Decision {
    if decision.is_denied() {
        return decision;
    }
    let asks = |rule: &Rule| rule.obligations.iter().any(|one| matches!(one, Obligation::Approval(_)));
    let rules = below.iter().filter(|compiled| asks(&compiled.rule));
    let asking: Vec<Arc<Rule>> = rules
        .filter(|compiled| holds(compiled).unwrap_or(true))
        .map(|compiled| Arc::clone(&compiled.rule))
        .collect();
    if asking.is_empty() {
        return decision;
    }
    let owed = asking.iter().flat_map(|rule| rule.obligations.iter().cloned());
    let persons = merge(owed.filter(|one| matches!(one, Obligation::Approval(_))));
    let determining = decision.determining.into_iter().chain(asking).collect();
    Decision { effect: Effect::AllowWithConditions(persons), determining, ..decision }
}

fn answer_layer(
    rules: &[&Compiled],
    holds: &mut dyn FnMut(&Compiled) -> Result<bool, String>,
    errors: &mut Vec<Failure>,
) -> Option<Decision> {
    let mut reason = Reason::ForbidFailed;
    let mut collect = |effect: RuleEffect, failed_applies: bool, reason: &mut Reason| {
        let mut found: Vec<Arc<Rule>> = Vec::new();
        for compiled in rules.iter().filter(|compiled| compiled.rule.effect == effect) {
            match holds(compiled) {
                Ok(false) => {}
                Ok(true) => {
                    *reason = Reason::Forbidden;
                    found.push(Arc::clone(&compiled.rule));
                }
                Err(message) => {
                    errors.push(Failure { rule: Arc::clone(&compiled.rule), message });
                    if failed_applies {
                        found.push(Arc::clone(&compiled.rule));
                    }
                }
            }
        }
        found
    };
    let forbids = collect(RuleEffect::Forbid, true, &mut reason); // D2
    if !forbids.is_empty() {
        return Some(Decision::denied(reason, forbids, std::mem::take(errors)));
    }
    let permits = collect(RuleEffect::Permit, false, &mut reason); // D3
    if permits.is_empty() {
        return None;
    }
    let obligations = merge(permits.iter().flat_map(|rule| rule.obligations.iter().cloned()));
    let effect =
        if obligations.is_empty() { Effect::Allow } else { Effect::AllowWithConditions(obligations) };
    Some(Decision {
        effect,
        determining: permits,
        errors: std::mem::take(errors),
        reason: None,
        detail: None,
    })
}

pub(crate) fn cedar_request(request: &Request<'_>, action: &Entity) -> ast::Request {
    let known = |uid: &Uid| ast::EntityUIDEntry::Known { euid: Arc::clone(uid.cedar()), loc: None };
    let context: BTreeMap<smol_str::SmolStr, ast::Value> =
        request.context.iter().map(|(name, value)| (name.as_ref().into(), value.to_cedar())).collect();
    ast::Request::new_unchecked(
        known(request.principal.uid()),
        known(action.uid()),
        known(request.resource.uid()),
        Some(ast::Context::Value(Arc::new(context))),
    )
}

/// Puts a request before the evaluator. None when its entities disagree with one another or with the store: nobody
/// can say which is right.
pub(crate) fn visit<T>(
    request: &Request<'_>,
    built: ast::Request,
    action: &Entity,
    store: Option<&Store>,
    work: impl FnOnce(&Scene<'_>) -> T,
) -> Option<T> {
    let named = [request.principal, action, request.resource];
    let own;
    let entities = match store {
        Some(store) if request.entities.is_empty() && named.iter().all(|entity| store.covers(entity)) => {
            store.cedar()
        }
        _ => {
            let base = store.map_or_else(Entities::new, |store| store.cedar().clone());
            let given = named.into_iter().chain(request.entities.iter().copied());
            let given = given.map(|entity| Arc::clone(entity.cedar()));
            let assumed = TCComputation::AssumeAlreadyComputed;
            own = base
                .add_entities(given, None::<&NoEntitiesSchema>, assumed, Extensions::all_available())
                .ok()?;
            &own
        }
    };
    let evaluator = Evaluator::new(built, entities, Extensions::all_available());
    Some(work(&Scene {
        sight: Sight::of(request, action, store),
        principal: request.principal,
        action,
        resource: request.resource,
        evaluator: &evaluator,
    }))
}
