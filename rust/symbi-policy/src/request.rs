//! Requests: who wants to do what to which thing, and under which circumstances.
//!
//! Why: one borrowed form for deciding (nothing is copied), one owned form for the log (`symbi explain` decides it
//! again, months later, under the same policies or others).
//!
//! Invariants
//! - Q1 a recorded request read back decides as the request did.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use crate::entity::{Entity, EntityError};
use crate::value::Value;

/// One request, borrowed. `context` names are given once; a later one replaces an equal earlier one.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: &'a Entity,
    /// What for, such as `tool.call`.
    pub action: &'a str,
    /// On what.
    pub resource: &'a Entity,
    /// The circumstances: `labels`, `bytes`, `counters`, `call`.
    pub context: Vec<(Cow<'static, str>, Value)>,
    /// Further entities whose attributes or tags a policy may read, such as the `Call` that the context names.
    pub entities: Vec<&'a Entity>,
}

impl<'a> Request<'a> {
    /// A request with an empty context.
    #[must_use]
    pub fn new(principal: &'a Entity, action: &'a str, resource: &'a Entity) -> Self {
        Self { principal, action, resource, context: Vec::new(), entities: Vec::new() }
    }

    /// Adds a value to the context.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: Value) -> Self {
        self.context.push((name.into(), value));
        self
    }

    /// Adds an entity that the context refers to.
    #[must_use]
    pub fn entity(mut self, entity: &'a Entity) -> Self {
        self.entities.push(entity);
        self
    }

    /// The same request, owned.
    #[must_use]
    pub fn to_record(&self) -> RecordedRequest {
        RecordedRequest {
            principal: self.principal.clone(),
            action: self.action.to_owned(),
            resource: self.resource.clone(),
            context: self
                .context
                .iter()
                .map(|(name, value)| (name.clone().into_owned(), value.clone()))
                .collect(),
            entities: self.entities.iter().map(|&entity| entity.clone()).collect(),
        }
    }
}

/// One request, owned: what the log keeps. Serialises as
/// `{"principal": {"type", "id", "attrs"}, "action", "resource": {…}, "context": {…}, "entities": […]}`.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Who asked.
    pub principal: Entity,
    /// What for.
    pub action: String,
    /// On what.
    pub resource: Entity,
    /// The circumstances.
    pub context: Vec<(String, Value)>,
    /// Further entities.
    pub entities: Vec<Entity>,
}

impl RecordedRequest {
    /// The borrowed form, for deciding.
    #[must_use]
    pub fn as_request(&self) -> Request<'_> {
        Request {
            principal: &self.principal,
            action: &self.action,
            resource: &self.resource,
            context: self
                .context
                .iter()
                .map(|(name, value)| (Cow::Owned(name.clone()), value.clone()))
                .collect(),
            entities: self.entities.iter().collect(),
        }
    }

    /// JSON for the log.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let context: Map<String, Json> =
            self.context.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
        let mut json = Map::from_iter([
            ("principal".to_owned(), self.principal.to_json()),
            ("action".to_owned(), Json::from(self.action.as_str())),
            ("resource".to_owned(), self.resource.to_json()),
            ("context".to_owned(), Json::Object(context)),
        ]);
        if !self.entities.is_empty() {
            json.insert("entities".to_owned(), self.entities.iter().map(Entity::to_json).collect());
        }
        Json::Object(json)
    }

    /// Reads what [`RecordedRequest::to_json`] wrote.
    ///
    /// # Errors
    /// A part is missing or has the wrong form.
    pub fn from_json(json: &Json) -> Result<Self, EntityError> {
        let part = |field: &'static str| json.get(field).ok_or(EntityError::Record { field });
        let context = match part("context")? {
            Json::Object(members) => members
                .iter()
                .map(|(name, value)| Ok((name.clone(), Value::from_json(value)?)))
                .collect::<Result<Vec<_>, EntityError>>()?,
            _ => return Err(EntityError::Record { field: "context" }),
        };
        let entities = match json.get("entities") {
            None => Vec::new(),
            Some(Json::Array(members)) => members.iter().map(Entity::from_json).collect::<Result<_, _>>()?,
            Some(_) => return Err(EntityError::Record { field: "entities" }),
        };
        Ok(Self {
            principal: Entity::from_json(part("principal")?)?,
            action: part("action")?.as_str().ok_or(EntityError::Record { field: "action" })?.to_owned(),
            resource: Entity::from_json(part("resource")?)?,
            context,
            entities,
        })
    }
}

impl serde::Serialize for RecordedRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for RecordedRequest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Json::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
