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

use crate::entity::{Entity, EntityError, Uid, uid_key};
use crate::index::ByKey;

/// Entities by name. Cheap to clone, never changes.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Body>);

#[derive(Debug, Default)]
struct Body {
    entities: Entities,
    prepared: ByKey<Entity>,
    /// Those whose key another has (N2).
    alike: Vec<Entity>,
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
        let (mut prepared, mut alike) = (ByKey::default(), Vec::new());
        for entity in entities.iter().map(|entity| Entity::from_cedar(Arc::new(entity.clone()))) {
            match prepared.entry(entity.uid().key()) {
                Entry::Vacant(place) => drop(place.insert(entity)),
                Entry::Occupied(_) => alike.push(entity),
            }
        }
        Self(Arc::new(Body { entities, prepared, alike }))
    }

    fn known(&self, key: u64, is: impl Fn(&Entity) -> bool) -> Option<&Entity> {
        match self.0.prepared.get(&key)? {
            first if is(first) => Some(first),
            _ => self.0.alike.iter().find(|entity| is(entity)),
        }
    }

    /// The entity of this name, where the store holds it.
    pub(crate) fn find(&self, uid: &ast::EntityUID) -> Option<&Entity> {
        self.known(uid_key(uid), |entity| entity.uid().cedar().as_ref() == uid)
    }

    /// The entity of this name; one with nothing but its name when the store does not hold it.
    #[must_use]
    pub fn get(&self, uid: &Uid) -> Entity {
        let known = self.known(uid.key(), |entity| entity.uid() == uid);
        known.cloned().unwrap_or_else(|| Entity::bare(uid.clone()))
    }

    /// The entities, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entity> {
        self.0.prepared.values().chain(&self.0.alike)
    }

    /// How many entities it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.prepared.len() + self.0.alike.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.prepared.is_empty()
    }

    /// Whether an evaluation over this store sees `entity` as it was given: it is from here, or has nothing to see.
    pub(crate) fn covers(&self, entity: &Entity) -> bool {
        match self.known(entity.uid().key(), |known| known.uid() == entity.uid()) {
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
