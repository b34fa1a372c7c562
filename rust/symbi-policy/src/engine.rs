//! The engine: a compiled set that answers.
//!
//! Why: compiled once, shared by every thread, never changed (D6): a swap of the pointer is a change of policy.
//! Only what the head of a policy does not settle is evaluated, and only when a candidate needs it are entities and
//! context put into the evaluator's form.
//!
//! Invariants: D1 to D7 of the crate.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use cedar_policy_core::ast;
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::{Validator, ValidatorSchema};
use sha2::{Digest as _, Sha256};

use crate::builtin;
use crate::compile::{Compiled, Layer, Link, Source, compile};
use crate::counter::CounterSpec;
use crate::decision::{Decision, Effect, Failure, Reason, Rule, RuleEffect};
use crate::diagnostic::Diagnostic;
use crate::entity::{Entity, EntityError, Uid};
use crate::expression::Counters;
use crate::fit::surely_fits;
use crate::index::action_matches;
use crate::nesting::with_stack;
use crate::obligation::merge;
use crate::request::Request;
use crate::schema::{Schema, action_name};
use crate::store::Store;

/// A compiled policy set. Share it in an `Arc`.
#[derive(Debug)]
pub struct Engine {
    pub(crate) layers: Vec<Layer>,
    actions: HashMap<String, Action>,
    validator: Option<Arc<Validator>>,
    warnings: Vec<Diagnostic>,
    digest: String,
}

/// An action of the schema, prepared.
#[derive(Debug)]
struct Action {
    entity: Entity,
    counters: Vec<CounterSpec>,
}

/// What a request became for one evaluation.
pub(crate) struct Scene<'a> {
    pub principal: &'a Entity,
    pub action: &'a Entity,
    pub resource: &'a Entity,
    pub evaluator: &'a Evaluator<'a>,
}

impl Engine {
    /// Compiles a set: parses, checks against the schema, indexes.
    ///
    /// # Errors
    /// Every error that was found. Nothing of a refused set is usable (D6).
    pub fn compile(
        schema: Schema,
        sources: &[Source],
        counters: &[CounterSpec],
    ) -> Result<Self, Vec<Diagnostic>> {
        Self::compile_linked(schema, sources, counters, &[])
    }

    /// Like [`Engine::compile`], with templates filled by `links`.
    ///
    /// # Errors
    /// Every error that was found.
    pub fn compile_linked(
        schema: Schema,
        sources: &[Source],
        counters: &[CounterSpec],
        links: &[Link],
    ) -> Result<Self, Vec<Diagnostic>> {
        with_stack(|| Self::compile_here(&schema, sources, counters, links)).unwrap_or_else(|| {
            let message = "no thread to compile on: the system is out of threads or memory";
            Err(vec![Diagnostic::error("policies", (1, 1), "policy.no_thread", message, None)])
        })
    }

    fn compile_here(
        schema: &Schema,
        sources: &[Source],
        counters: &[CounterSpec],
        links: &[Link],
    ) -> Result<Self, Vec<Diagnostic>> {
        let validator = validator_of(schema, counters)?;
        let mut layers = Vec::new();
        if *schema == Schema::Symbi {
            layers.push(compile(&[builtin::operator()], &[], validator.as_deref())?.layer); // D7
        }
        let outcome = compile(sources, links, validator.as_deref())?;
        layers.push(outcome.layer);
        let actions = prepare_actions(validator.as_deref().map(Validator::schema), &layers, counters);
        let digest = digest(schema, sources, counters, links);
        Ok(Self { layers, actions, validator, warnings: outcome.warnings, digest })
    }

    /// Findings that do not refuse the set: rules that can never apply, names that look like others.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// SHA-256 over schema, counters, links and sources, in hex. The order of sources and counters does not matter.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Every rule, the built-in ones first.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.layers.iter().flat_map(|layer| layer.rules.iter().map(|compiled| &compiled.rule))
    }

    /// The declared counters that a policy for this action may read: what the kernel adds to before it asks.
    #[must_use]
    pub fn counters_for(&self, action: &str) -> &[CounterSpec] {
        self.actions.get(action).map_or(&[], |action| &action.counters)
    }

    /// Reads entities in Cedar's JSON form, checked against this engine's schema.
    ///
    /// # Errors
    /// Not that form, not that schema, a circle of ancestors.
    pub fn store_from_json(&self, json: &str) -> Result<Store, EntityError> {
        Store::from_json(json, self.validator.as_deref().map(Validator::schema))
    }

    /// Whether a request fits the schema: types of principal and resource, the context of the action. The kernel
    /// builds requests that do; whoever takes them from elsewhere asks first, because an attribute under a wrong
    /// name would make a guarded rule (`context has x && …`) silently not apply.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check_request(&self, request: &Request<'_>) -> Result<(), EntityError> {
        if self.validator.is_none() {
            return Ok(());
        }
        let action = self.action(request.action, None).ok_or_else(|| EntityError::Refused {
            text: format!("action `{}` is not in the schema", request.action),
        })?;
        self.check(request, &action, &cedar_request(request, &action))
    }

    fn check(&self, asked: &Request<'_>, action: &Entity, built: &ast::Request) -> Result<(), EntityError> {
        let Some(validator) = &self.validator else { return Ok(()) };
        if let Some(ast::Context::Value(context)) = built.context() {
            let context = ast::Value::record_arc(Arc::clone(context), None);
            if surely_fits(validator.schema(), asked.principal, action, asked.resource, &context) {
                return Ok(());
            }
        }
        ast::RequestSchema::validate_request(validator.schema(), built, Extensions::all_available())
            .map_err(|error| EntityError::Refused { text: error.to_string() })
    }

    /// Decides. Whatever goes wrong is a denial.
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        self.evaluate_with(request, None, false)
    }

    /// Like [`Engine::evaluate_in`], for requests from outside: one that does not fit the schema is denied.
    #[must_use]
    pub fn evaluate_checked(&self, request: &Request<'_>, store: &Store) -> Decision {
        self.evaluate_with(request, Some(store), true)
    }

    /// Decides with the attributes and ancestors that `store` holds for any entity.
    #[must_use]
    pub fn evaluate_in(&self, request: &Request<'_>, store: &Store) -> Decision {
        self.evaluate_with(request, Some(store), false)
    }

    fn evaluate_with(&self, request: &Request<'_>, store: Option<&Store>, checked: bool) -> Decision {
        // A panic in the evaluator must deny one request, not end the monitor.
        catch_unwind(AssertUnwindSafe(|| self.decide(request, store, checked)))
            .unwrap_or_else(|_| Decision::engine_failed())
    }

    fn decide(&self, request: &Request<'_>, store: Option<&Store>, checked: bool) -> Decision {
        let Some(action) = self.action(request.action, store) else {
            return Decision::denied(Reason::UnknownAction, Vec::new(), Vec::new());
        };
        let built = checked.then(|| cedar_request(request, &action));
        if let Some(Err(error)) = built.as_ref().map(|built| self.check(request, &action, built)) {
            let denied = Decision::denied(Reason::InvalidRequest, Vec::new(), Vec::new());
            return Decision { detail: Some(error.to_string()), ..denied };
        }
        let matching: Vec<Vec<&Compiled>> = self
            .layers
            .iter()
            .map(|layer| layer.matching(request.principal, &action, request.resource))
            .collect();
        if matching.iter().flatten().all(|compiled| compiled.condition.is_none()) {
            return answer(&matching, &mut |_| Ok(true));
        }
        let built = built.unwrap_or_else(|| cedar_request(request, &action));
        visit(request, built, &action, store, |scene| {
            answer(&matching, &mut |compiled| scene.holds(compiled))
        })
        .unwrap_or_else(Decision::engine_failed)
    }

    /// The prepared action. Without a schema any name is an action.
    pub(crate) fn action(&self, name: &str, store: Option<&Store>) -> Option<Entity> {
        if let (Some(known), Some(_)) = (self.actions.get(name), &self.validator) {
            return Some(known.entity.clone());
        }
        let uid = if name.contains("::\"") { Uid::parse(name) } else { Uid::new("Action", name) }.ok()?;
        if self.validator.is_some() {
            return self.actions.get(&action_name(uid.cedar())).map(|known| known.entity.clone());
        }
        Some(store.map_or_else(|| Entity::bare(uid.clone()), |store| store.get(&uid)))
    }
}

impl Layer {
    /// Rules whose head matches, in order.
    fn matching(&self, principal: &Entity, action: &Entity, resource: &Entity) -> Vec<&Compiled> {
        self.index
            .candidates(principal, action, resource)
            .into_iter()
            .filter_map(|position| self.rules.get(usize::try_from(position).ok()?))
            .filter(|compiled| compiled.head_matches(principal, action, resource))
            .collect()
    }
}

impl Compiled {
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
fn answer(matching: &[Vec<&Compiled>], holds: &mut dyn FnMut(&Compiled) -> Result<bool, String>) -> Decision {
    let mut errors = Vec::new();
    for rules in matching {
        if let Some(decision) = answer_layer(rules, holds, &mut errors) {
            return decision;
        }
    }
    Decision::denied(Reason::NoPermit, Vec::new(), errors) // D1
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
        principal: request.principal,
        action,
        resource: request.resource,
        evaluator: &evaluator,
    }))
}

/// The schema of symbi without counters is built once a process: it takes milliseconds, and most sets use it.
fn validator_of(
    schema: &Schema,
    counters: &[CounterSpec],
) -> Result<Option<Arc<Validator>>, Vec<Diagnostic>> {
    static PLAIN: OnceLock<Arc<Validator>> = OnceLock::new();
    let plain = *schema == Schema::Symbi && counters.is_empty();
    if let Some(known) = PLAIN.get().filter(|_| plain) {
        return Ok(Some(Arc::clone(known)));
    }
    let built = schema.build(counters)?.map(Validator::new).map(Arc::new);
    Ok(match built {
        Some(fresh) if plain => Some(Arc::clone(PLAIN.get_or_init(|| fresh))),
        other => other,
    })
}

fn prepare_actions(
    schema: Option<&ValidatorSchema>,
    layers: &[Layer],
    counters: &[CounterSpec],
) -> HashMap<String, Action> {
    let entities: Vec<Entity> = match schema {
        Some(schema) => schema.action_entities().map_or_else(
            |_| Vec::new(),
            |all| all.iter().map(|entity| Entity::from_cedar(Arc::new(entity.clone()))).collect(),
        ),
        // Without a schema only the actions that counters name need to be known beforehand.
        None => counters
            .iter()
            .filter_map(|counter| Uid::new("Action", &counter.action).ok())
            .map(Entity::bare)
            .collect(),
    };
    entities
        .into_iter()
        .map(|entity| {
            let name = action_name(entity.uid().cedar());
            let read = |counter: &&CounterSpec| {
                counter.is_seen_by(&name)
                    && layers.iter().flat_map(|layer| &layer.rules).any(|compiled| {
                        action_matches(&compiled.action, &entity) && compiled.reads(&counter.name)
                    })
            };
            let mut counters: Vec<CounterSpec> = counters.iter().filter(read).cloned().collect();
            counters.sort();
            (name, Action { entity, counters })
        })
        .collect()
}

impl Compiled {
    fn reads(&self, counter: &str) -> bool {
        match &self.counters {
            Counters::All => true,
            Counters::Named(names) => names.iter().any(|name| name == counter),
        }
    }
}

/// Every text with its length before it, so that no two sets run together into the same bytes.
fn digest(schema: &Schema, sources: &[Source], counters: &[CounterSpec], links: &[Link]) -> String {
    let mut hash = Sha256::new();
    let mut feed = |text: &str| {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text.as_bytes());
    };
    feed("symbi/policy/digest/v1\0");
    feed(match schema {
        Schema::Symbi => "symbi",
        Schema::Text { .. } => "text",
        Schema::Unchecked => "unchecked",
    });
    feed(&schema.text(counters).unwrap_or_default());
    if *schema == Schema::Symbi {
        feed(builtin::OPERATOR);
    }
    let mut counters: Vec<&CounterSpec> = counters.iter().collect();
    counters.sort();
    feed(&counters.len().to_string());
    for counter in counters {
        feed(&counter.spelling());
    }
    let mut links: Vec<String> = links
        .iter()
        .map(|link| {
            let show = |uid: &Option<Uid>| uid.as_ref().map_or_else(String::new, Uid::to_string);
            format!("{:?} {:?} {} {}", link.template, link.id, show(&link.principal), show(&link.resource))
        })
        .collect();
    links.sort();
    feed(&links.len().to_string());
    links.iter().for_each(|link| feed(link));
    let mut sources: Vec<&Source> = sources.iter().collect();
    sources.sort();
    for source in sources {
        feed(&source.name);
        feed(&source.text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
