//! Entities: who asks, and what is asked for, prepared once and shared.
//!
//! Why: an agent, a tool, a document takes part in many decisions. Its names are parsed, its attributes converted
//! and its index keys hashed when it is made; a decision then costs reference counts.
//! Not here: which attributes a type must have (`schema`), and the entities of symbi by name (`vocabulary`).
//!
//! Invariants
//! - N1 an entity never changes; a new fact makes a new entity.
//! - N2 equal uids have equal keys. Unequal uids may too: a key finds candidates, it never decides.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use cedar_policy_core::ast;
use serde_json::{Map, Value as Json};

use crate::value::{Value, cedar_to_json, uid_to_json};

/// Longest id of an entity, in bytes: a path fits, a document does not.
pub const ID_BYTES_MAX: usize = 4096;
/// Type names remembered so that they are parsed once; a program uses a few dozen.
const TYPE_NAMES_MAX: usize = 1024;
/// Longest name of a type, in bytes.
const TYPE_NAME_BYTES_MAX: usize = 256;

/// What cannot be an entity or a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntityError {
    /// Not a name of a type.
    #[error("`{text}` is not an entity type: accepted are names such as `Agent` or `Clinic::Patient`")]
    TypeName {
        /// What was given, cut to 80 characters.
        text: String,
    },
    /// Not an entity.
    #[error("`{text}` is not an entity: accepted is a type and a quoted id, such as `Agent::\"triage\"`")]
    Text {
        /// What was given, cut to 80 characters.
        text: String,
    },
    /// The id is too long.
    #[error("an entity's id has `{bytes}` bytes: at most 4096 are accepted")]
    IdTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not a value that a policy may see.
    #[error(
        "`{text}` is not a policy value: accepted are booleans, 64-bit integers, texts, lists, records, entities"
    )]
    NotAValue {
        /// What was given.
        text: String,
    },
    /// Values nested too deep.
    #[error("values are nested deeper than 64 levels")]
    TooDeep,
    /// An extension function that does not exist or refuses its text.
    #[error(
        "`{function}` does not accept this text: accepted functions are `ip`, `decimal`, `datetime`, `duration`"
    )]
    Extension {
        /// The function's name.
        function: String,
    },
    /// A recorded request misses a part or has one of the wrong form.
    #[error("a recorded request has no usable `{field}`")]
    Record {
        /// The field.
        field: &'static str,
    },
    /// The same entity was given twice with different attributes.
    #[error("`{text}` is given twice with different attributes")]
    Duplicate {
        /// The entity.
        text: String,
    },
    /// Entities that do not fit the schema, or whose ancestors form a circle.
    #[error("{text}")]
    Refused {
        /// Cedar's reason.
        text: String,
    },
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

static TYPE_NAMES: LazyLock<RwLock<HashMap<String, ast::EntityType>>> = LazyLock::new(RwLock::default);

/// Parses a type name; names seen before are taken from memory, because parsing one costs microseconds.
fn entity_type(text: &str) -> Result<ast::EntityType, EntityError> {
    if let Some(known) = TYPE_NAMES.read().unwrap_or_else(PoisonError::into_inner).get(text) {
        return Ok(known.clone());
    }
    if text.len() > TYPE_NAME_BYTES_MAX {
        return Err(EntityError::TypeName { text: cut(text) });
    }
    let name: ast::Name = text.parse().map_err(|_| EntityError::TypeName { text: cut(text) })?;
    let fresh = ast::EntityType::from(name);
    let mut names = TYPE_NAMES.write().unwrap_or_else(PoisonError::into_inner);
    if names.len() < TYPE_NAMES_MAX {
        names.insert(text.to_owned(), fresh.clone());
    }
    Ok(fresh)
}

pub(crate) fn type_key(kind: &ast::EntityType) -> u64 {
    let mut hasher = DefaultHasher::new();
    (1_u8, kind).hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn uid_key(uid: &ast::EntityUID) -> u64 {
    let mut hasher = DefaultHasher::new();
    (2_u8, uid).hash(&mut hasher);
    hasher.finish()
}

/// The name of an entity: its type and its id. Cheap to clone.
#[derive(Clone)]
pub struct Uid {
    uid: Arc<ast::EntityUID>,
    key: u64,
}

impl Uid {
    /// `type_name` such as `Agent` or `Clinic::Patient`; `id` any text of at most 4096 bytes.
    ///
    /// # Errors
    /// The type is not a name, or the id is too long.
    pub fn new(type_name: &str, id: &str) -> Result<Self, EntityError> {
        if id.len() > ID_BYTES_MAX {
            return Err(EntityError::IdTooLong { bytes: id.len() });
        }
        let kind = entity_type(type_name)?;
        Ok(Self::from_cedar(Arc::new(ast::EntityUID::from_components(kind, ast::Eid::new(id), None))))
    }

    /// Reads `Agent::"triage"`.
    ///
    /// # Errors
    /// Not a type and a quoted id.
    pub fn parse(text: &str) -> Result<Self, EntityError> {
        let wrong = || EntityError::Text { text: cut(text) };
        let (kind, quoted) = text.split_once("::\"").ok_or_else(wrong)?;
        let id = quoted.strip_suffix('"').ok_or_else(wrong)?;
        if !id.contains(['\\', '"']) {
            return Self::new(kind, id);
        }
        if text.len() > TYPE_NAME_BYTES_MAX + 2 * ID_BYTES_MAX {
            return Err(wrong());
        }
        let uid: ast::EntityUID = text.parse().map_err(|_| wrong())?;
        let id: &str = uid.eid().as_ref();
        Self::new(&uid.entity_type().to_string(), id)
    }

    pub(crate) fn from_cedar(uid: Arc<ast::EntityUID>) -> Self {
        let key = uid_key(&uid);
        Self { uid, key }
    }

    /// The type's name.
    #[must_use]
    pub fn type_name(&self) -> String {
        self.uid.entity_type().to_string()
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.uid.eid().as_ref()
    }

    pub(crate) fn cedar(&self) -> &Arc<ast::EntityUID> {
        &self.uid
    }

    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// Cedar's own entities for actions.
    pub(crate) fn is_action(&self) -> bool {
        self.uid.entity_type().is_action()
    }
}

/// N2: the key first, which nearly always settles it.
impl PartialEq for Uid {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && (Arc::ptr_eq(&self.uid, &other.uid) || self.uid == other.uid)
    }
}

impl Eq for Uid {}

impl Hash for Uid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.key);
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uid.fmt(f)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uid.fmt(f)
    }
}

/// A prepared entity (N1). Cloning is one reference count.
#[derive(Clone, Debug)]
pub struct Entity(Arc<Body>);

#[derive(Debug)]
struct Body {
    uid: Uid,
    type_key: u64,
    ancestor_keys: Vec<u64>,
    cedar: Arc<ast::Entity>,
    /// See [`Entity::recorded`]: 0 is none. No fact of the entity, so it does not break N1.
    recorded: AtomicU64,
}

impl Entity {
    /// `ancestors` must hold all of them, not only the parents.
    ///
    /// # Errors
    /// The type is not a name, or the id is too long.
    pub fn new<N: Into<String>>(
        type_name: &str,
        id: &str,
        attributes: impl IntoIterator<Item = (N, Value)>,
        ancestors: impl IntoIterator<Item = Uid>,
    ) -> Result<Self, EntityError> {
        Self::with_tags(type_name, id, attributes, ancestors, Vec::<(String, Value)>::new())
    }

    /// Like [`Entity::new`], with tags: names that are only known at run time.
    ///
    /// # Errors
    /// The type is not a name, or the id is too long.
    pub fn with_tags<N: Into<String>, T: Into<String>>(
        type_name: &str,
        id: &str,
        attributes: impl IntoIterator<Item = (N, Value)>,
        ancestors: impl IntoIterator<Item = Uid>,
        tags: impl IntoIterator<Item = (T, Value)>,
    ) -> Result<Self, EntityError> {
        let uid = Uid::new(type_name, id)?;
        let ancestors: HashSet<ast::EntityUID> =
            ancestors.into_iter().map(|ancestor| ancestor.cedar().as_ref().clone()).collect();
        Ok(Self::from_cedar(Arc::new(ast::Entity::new_with_attr_partial_value(
            uid.cedar().as_ref().clone(),
            attributes.into_iter().map(|(name, value)| (name.into().into(), value.to_cedar().into())),
            HashSet::new(),
            ancestors,
            tags.into_iter().map(|(name, value)| (name.into().into(), value.to_cedar().into())),
        ))))
    }

    /// An entity with nothing but its name.
    #[must_use]
    pub fn bare(uid: Uid) -> Self {
        let cedar = Arc::new(ast::Entity::with_uid(uid.cedar().as_ref().clone()));
        let type_key = type_key(uid.cedar().entity_type());
        Self(Arc::new(Body { uid, type_key, ancestor_keys: Vec::new(), cedar, recorded: AtomicU64::new(0) }))
    }

    pub(crate) fn from_cedar(cedar: Arc<ast::Entity>) -> Self {
        let uid = Uid::from_cedar(Arc::new(cedar.uid().clone()));
        let mut ancestor_keys: Vec<u64> = cedar.ancestors().map(uid_key).collect();
        ancestor_keys.sort_unstable();
        ancestor_keys.dedup();
        let type_key = type_key(cedar.uid().entity_type());
        Self(Arc::new(Body { type_key, uid, ancestor_keys, cedar, recorded: AtomicU64::new(0) }))
    }

    /// Its name.
    #[must_use]
    pub fn uid(&self) -> &Uid {
        &self.0.uid
    }

    pub(crate) fn cedar(&self) -> &Arc<ast::Entity> {
        &self.0.cedar
    }

    /// Where this very entity lies: two that are held at once and lie at one place are one entity, whatever they are equal to.
    #[must_use]
    pub fn place(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// It has nothing but its name.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.0.ancestor_keys.is_empty() && self.0.cedar.attrs_len() == 0 && self.0.cedar.tags_len() == 0
    }

    pub(crate) fn type_key(&self) -> u64 {
        self.0.type_key
    }

    /// The number of the record that says what this entity is, where its keeper has noted one.
    #[must_use]
    pub fn recorded(&self) -> Option<u64> {
        Some(self.0.recorded.load(Ordering::Relaxed)).filter(|seq| *seq > 0)
    }

    /// Notes that number, so that the next record can name it.
    pub fn note_record(&self, seq: u64) {
        self.0.recorded.store(seq, Ordering::Relaxed);
    }

    pub(crate) fn ancestor_keys(&self) -> &[u64] {
        &self.0.ancestor_keys
    }

    /// An attribute that is a text.
    #[must_use]
    pub fn text_attribute(&self, name: &str) -> Option<&str> {
        match self.0.cedar.get(name)? {
            ast::PartialValue::Value(value) => match value.value_kind() {
                ast::ValueKind::Lit(ast::Literal::String(text)) => Some(text.as_str()),
                _ => None,
            },
            ast::PartialValue::Residual(_) => None,
        }
    }

    /// JSON for the log: `{"type", "id", "attrs"?, "ancestors"?, "tags"?}`; what is empty is left out.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let pairs = |pairs: &mut dyn Iterator<Item = (&smol_str::SmolStr, &ast::PartialValue)>| {
            let members: Map<String, Json> = pairs
                .filter_map(|(name, value)| match value {
                    ast::PartialValue::Value(value) => Some((name.to_string(), cedar_to_json(value))),
                    ast::PartialValue::Residual(_) => None,
                })
                .collect();
            members
        };
        let mut json = match uid_to_json(self.uid().cedar()) {
            Json::Object(members) => members,
            _ => Map::new(),
        };
        let attributes = pairs(&mut self.0.cedar.attrs());
        if !attributes.is_empty() {
            json.insert("attrs".to_owned(), Json::Object(attributes));
        }
        let mut ancestors: Vec<&ast::EntityUID> = self.0.cedar.ancestors().collect();
        ancestors.sort();
        if !ancestors.is_empty() {
            json.insert("ancestors".to_owned(), ancestors.into_iter().map(uid_to_json).collect());
        }
        let tags = pairs(&mut self.0.cedar.tags());
        if !tags.is_empty() {
            json.insert("tags".to_owned(), Json::Object(tags));
        }
        Json::Object(json)
    }

    /// Reads what [`Entity::to_json`] wrote.
    ///
    /// # Errors
    /// A part is missing or has the wrong form.
    pub fn from_json(json: &Json) -> Result<Self, EntityError> {
        let text = |json: &Json, field: &'static str| {
            json.get(field).and_then(Json::as_str).map(str::to_owned).ok_or(EntityError::Record { field })
        };
        let pairs = |field: &'static str| match json.get(field) {
            None => Ok(Vec::new()),
            Some(Json::Object(members)) => members
                .iter()
                .map(|(name, value)| Ok((name.clone(), Value::from_json(value)?)))
                .collect::<Result<Vec<_>, EntityError>>(),
            Some(_) => Err(EntityError::Record { field }),
        };
        let ancestors = match json.get("ancestors") {
            None => Vec::new(),
            Some(Json::Array(members)) => members
                .iter()
                .map(|one| Uid::new(&text(one, "type")?, &text(one, "id")?))
                .collect::<Result<Vec<_>, EntityError>>()?,
            Some(_) => return Err(EntityError::Record { field: "ancestors" }),
        };
        Self::with_tags(&text(json, "type")?, &text(json, "id")?, pairs("attrs")?, ancestors, pairs("tags")?)
    }
}
