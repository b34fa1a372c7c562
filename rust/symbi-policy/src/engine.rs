//! The engine: a compiled set that answers.
//!
//! Why: compiled once, shared by every thread, never changed (D6): a swap of the pointer is a change of policy.
//! Not here: how a request is decided (`evaluate`).
//!
//! Invariants: D1 to D7 of the crate.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cedar_policy_core::ast;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::{Validator, ValidatorSchema};
use sha2::{Digest as _, Sha256};

use crate::builtin;
use crate::compile::{Compiled, Layer, Link, Source, compile};
use crate::counter::CounterSpec;
use crate::decision::Rule;
use crate::diagnostic::Diagnostic;
use crate::entity::{Entity, EntityError, Uid};
use crate::evaluate::cedar_request;
use crate::expression::Counters;
use crate::fit::Shape;
use crate::index::action_matches;
use crate::nesting::with_stack;
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
pub(crate) struct Action {
    entity: Entity,
    /// None without a schema, and where only Cedar can say what fits.
    shape: Option<Shape>,
    counters: Vec<CounterSpec>,
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
        let action = self.acting(request.action, None).ok_or_else(|| EntityError::Refused {
            text: format!("action `{}` is not in the schema", request.action),
        })?;
        self.check(request, &action)
    }

    pub(crate) fn check(&self, asked: &Request<'_>, action: &Acting<'_>) -> Result<(), EntityError> {
        let Some(validator) = &self.validator else { return Ok(()) };
        if let Acting::Known(Action { shape: Some(shape), .. }) = action
            && shape.surely_fits(asked)
        {
            return Ok(());
        }
        let built = cedar_request(asked, action.entity());
        ast::RequestSchema::validate_request(validator.schema(), &built, Extensions::all_available())
            .map_err(|error| EntityError::Refused { text: error.to_string() })
    }

    /// The action, prepared if the schema has it. Without a schema any name is an action.
    pub(crate) fn acting(&self, name: &str, store: Option<&Store>) -> Option<Acting<'_>> {
        if let (Some(known), Some(_)) = (self.actions.get(name), &self.validator) {
            return Some(Acting::Known(known));
        }
        let uid = if name.contains("::\"") { Uid::parse(name) } else { Uid::new("Action", name) }.ok()?;
        if self.validator.is_some() {
            return self.actions.get(&action_name(uid.cedar())).map(Acting::Known);
        }
        Some(Acting::Made(store.map_or_else(|| Entity::bare(uid.clone()), |store| store.get(&uid))))
    }

    /// Its entity.
    pub(crate) fn action(&self, name: &str, store: Option<&Store>) -> Option<Entity> {
        self.acting(name, store).map(|found| found.entity().clone())
    }
}

/// An action as a request names it.
pub(crate) enum Acting<'a> {
    Known(&'a Action),
    Made(Entity),
}

impl Acting<'_> {
    pub(crate) fn entity(&self) -> &Entity {
        match self {
            Self::Known(known) => &known.entity,
            Self::Made(entity) => entity,
        }
    }
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
            let shape = schema.and_then(|schema| Shape::of(schema, entity.uid().cedar()));
            (name, Action { entity, shape, counters })
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
