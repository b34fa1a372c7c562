//! A set of entities that requests refer to by name: what `PolicyEngine(entities=…)` holds.
//!
//! Invariants
//! - E1 ancestors are complete: a parent's parents are found too, and circles are refused.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use cedar_policy_core::ast;
use cedar_policy_core::entities::{Entities, EntityJsonParser, NoEntitiesSchema, TCComputation};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::{CoreSchema, ValidatorSchema};

use crate::entity::{Entity, EntityError, Uid};

/// Entities by name. Cheap to clone, never changes.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Body>);

#[derive(Debug, Default)]
struct Body {
    entities: Entities,
    prepared: HashMap<Uid, Entity>,
}

impl Store {
    /// Builds a store; `entities` may name only parents as their ancestors.
    ///
    /// # Errors
    /// The same entity twice with different attributes, or a circle of ancestors.
    pub fn new(entities: impl IntoIterator<Item = Entity>) -> Result<Self, EntityError> {
        let refused = |error: &dyn std::fmt::Display| EntityError::Refused { text: error.to_string() };
        let mut seen: HashMap<Uid, Arc<ast::Entity>> = HashMap::new();
        for entity in entities {
            match seen.entry(entity.uid().clone()) {
                Entry::Occupied(earlier) if !earlier.get().deep_eq(entity.cedar()) => {
                    return Err(EntityError::Duplicate { text: entity.uid().to_string() });
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => {
                    place.insert(Arc::clone(entity.cedar()));
                }
            }
        }
        let plain = seen.into_values().map(|entity| entity.as_ref().clone());
        let computed = Entities::from_entities(
            plain,
            None::<&NoEntitiesSchema>,
            TCComputation::ComputeNow,
            Extensions::all_available(),
        );
        Ok(Self::from_cedar(computed.map_err(|error| refused(&error))?))
    }

    /// Reads Cedar's JSON form, `[{"uid": {"type", "id"}, "attrs": {…}, "parents": […]}]`, against a schema if given.
    pub(crate) fn from_json(json: &str, schema: Option<&ValidatorSchema>) -> Result<Self, EntityError> {
        let core = schema.map(CoreSchema::new);
        let parser =
            EntityJsonParser::new(core.as_ref(), Extensions::all_available(), TCComputation::ComputeNow);
        let refused = |error: cedar_policy_core::entities::err::EntitiesError| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            EntityError::Refused { text }
        };
        parser.from_json_str(json).map(Self::from_cedar).map_err(refused)
    }

    pub(crate) fn from_cedar(entities: Entities) -> Self {
        let prepared = entities
            .iter()
            .map(|entity| Entity::from_cedar(Arc::new(entity.clone())))
            .map(|entity| (entity.uid().clone(), entity))
            .collect();
        Self(Arc::new(Body { entities, prepared }))
    }

    /// The entity of this name; one with nothing but its name when the store does not hold it.
    #[must_use]
    pub fn get(&self, uid: &Uid) -> Entity {
        self.0.prepared.get(uid).cloned().unwrap_or_else(|| Entity::bare(uid.clone()))
    }

    /// The entities, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entity> {
        self.0.prepared.values()
    }

    /// How many entities it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.prepared.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.prepared.is_empty()
    }

    /// Whether an evaluation over this store sees `entity` as it was given: it is from here, or has nothing to see.
    pub(crate) fn covers(&self, entity: &Entity) -> bool {
        match self.0.prepared.get(entity.uid()) {
            // Actions come from the schema, each time anew.
            Some(known) => {
                known.is_same(entity) || (entity.uid().is_action() && known.cedar().deep_eq(entity.cedar()))
            }
            None => entity.is_bare(),
        }
    }

    pub(crate) fn cedar(&self) -> &Entities {
        &self.0.entities
    }
}
