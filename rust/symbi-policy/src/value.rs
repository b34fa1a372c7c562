//! Values that policies see: attributes of entities and the context of a request.
//!
//! Why: the kernel speaks plain values; Cedar's own are reference-counted trees with sources attached. This is the
//! one place where the first become the second, and where both become JSON for the log.
//! Not here: floats. There is no way to build one, so no policy input can depend on how a float prints.
//!
//! Invariants
//! - V1 a value turned into JSON and back is the same value.
//! - V2 integers beyond 2^53 stand as text in JSON, because many readers of JSON would round them.

use std::sync::Arc;

use cedar_policy_core::ast;
use cedar_policy_core::extensions::Extensions;
use serde_json::{Map, Value as Json};
use symbi_types::LabelSet;

use crate::entity::{EntityError, Uid};

/// Largest integer that every JSON reader keeps exactly.
const JSON_INTEGER_MAX: u64 = 1 << 53;
/// How deep a recorded value may nest; Cedar's evaluator needs stack for each level.
pub(crate) const DEPTH_MAX: usize = 64;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Long(i64),
    /// A text.
    String(String),
    /// A set: order and repetition do not matter.
    Set(Vec<Value>),
    /// Named values. A later name replaces an equal earlier one.
    Record(Vec<(String, Value)>),
    /// A reference to an entity.
    Entity(Uid),
    /// A value converted once and kept: what the kernel caches.
    Prepared(Prepared),
}

/// A value in Cedar's own form. Cloning is one reference count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared(pub(crate) ast::Value);

impl Value {
    /// A set of texts.
    pub fn strings<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let literals = texts.into_iter().map(|text| ast::Literal::from(text.as_ref()));
        Self::Prepared(Prepared(ast::Value::set_of_lits(literals, None)))
    }

    /// A set of labels.
    #[must_use]
    pub fn labels(labels: &LabelSet) -> Self {
        Self::strings(labels.iter().map(symbi_types::Label::as_str))
    }

    /// An extension value: `ip`, `decimal`, `datetime` or `duration` of a text.
    ///
    /// # Errors
    /// The function does not exist, or refuses the text.
    pub fn extension(function: &str, argument: &str) -> Result<Self, EntityError> {
        Self::extension_call(function, &[ast::Value::from(argument)])
    }

    fn extension_call(function: &str, arguments: &[ast::Value]) -> Result<Self, EntityError> {
        let wrong = || EntityError::Extension { function: function.to_owned() };
        let name = function.parse::<ast::Name>().map_err(|_| wrong())?;
        let call = Extensions::all_available().func(&name).map_err(|_| wrong())?;
        match call.call(arguments).map_err(|_| wrong())? {
            ast::PartialValue::Value(value) => Ok(Self::Prepared(Prepared(value))),
            ast::PartialValue::Residual(_) => Err(wrong()),
        }
    }

    /// Converts once, so that later uses cost one reference count.
    #[must_use]
    pub fn prepare(&self) -> Self {
        Self::Prepared(Prepared(self.to_cedar()))
    }

    pub(crate) fn to_cedar(&self) -> ast::Value {
        match self {
            Self::Bool(flag) => ast::Value::from(*flag),
            Self::Long(number) => ast::Value::from(*number),
            Self::String(text) => ast::Value::from(text.as_str()),
            Self::Set(members) => ast::Value::set(members.iter().map(Self::to_cedar), None),
            Self::Record(pairs) => {
                ast::Value::record(pairs.iter().map(|(name, value)| (name.as_str(), value.to_cedar())), None)
            }
            Self::Entity(uid) => ast::Value::from(Arc::clone(uid.cedar())),
            Self::Prepared(prepared) => prepared.0.clone(),
        }
    }

    /// JSON for the log: entities are `{"__entity": {"type", "id"}}`, as Cedar writes them.
    #[must_use]
    pub fn to_json(&self) -> Json {
        cedar_to_json(&self.to_cedar())
    }

    /// Reads what [`Value::to_json`] wrote.
    ///
    /// # Errors
    /// A float, a null, a nesting deeper than 64, or an escape that names nothing.
    pub fn from_json(json: &Json) -> Result<Self, EntityError> {
        Self::from_json_at(json, 0)
    }

    fn from_json_at(json: &Json, depth: usize) -> Result<Self, EntityError> {
        if depth > DEPTH_MAX {
            return Err(EntityError::TooDeep);
        }
        match json {
            Json::Bool(flag) => Ok(Self::Bool(*flag)),
            Json::Number(number) => number
                .as_i64()
                .map(Self::Long)
                .ok_or_else(|| EntityError::NotAValue { text: number.to_string() }),
            Json::String(text) => Ok(Self::String(text.clone())),
            Json::Array(members) => members
                .iter()
                .map(|one| Self::from_json_at(one, depth + 1))
                .collect::<Result<_, _>>()
                .map(Self::Set),
            Json::Object(members) => Self::from_object(members, depth),
            Json::Null => Err(EntityError::NotAValue { text: "null".to_owned() }),
        }
    }

    fn from_object(members: &Map<String, Json>, depth: usize) -> Result<Self, EntityError> {
        let wrong = || EntityError::NotAValue { text: "an escape that names nothing".to_owned() };
        let text = |json: &Json, name: &str| json.get(name).and_then(Json::as_str).map(str::to_owned);
        if let Some(reference) = members.get("__entity") {
            let kind = text(reference, "type").ok_or_else(wrong)?;
            let id = text(reference, "id").ok_or_else(wrong)?;
            return Uid::new(&kind, &id).map(Self::Entity);
        }
        if let Some(call) = members.get("__extn") {
            let function = text(call, "fn").ok_or_else(wrong)?;
            if let Some(argument) = text(call, "arg") {
                return Self::extension(&function, &argument);
            }
            let arguments = call.get("args").and_then(Json::as_array).ok_or_else(wrong)?;
            let arguments: Vec<ast::Value> = arguments
                .iter()
                .map(|one| Ok(Self::from_json_at(one, depth + 1)?.to_cedar()))
                .collect::<Result<_, EntityError>>()?;
            return Self::extension_call(&function, &arguments);
        }
        if let Some(number) = members.get("__long") {
            let number = number.as_str().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
            return Ok(Self::Long(number));
        }
        members
            .iter()
            .map(|(name, value)| Ok((name.clone(), Self::from_json_at(value, depth + 1)?)))
            .collect::<Result<_, _>>()
            .map(Self::Record)
    }
}

/// V1, V2. A value that no policy input can hold becomes its text, so that a record never fails to be written.
pub(crate) fn cedar_to_json(value: &ast::Value) -> Json {
    let escape = |name: &str, body: Json| Json::Object(Map::from_iter([(name.to_owned(), body)]));
    match value.value_kind() {
        ast::ValueKind::Lit(ast::Literal::Bool(flag)) => Json::Bool(*flag),
        ast::ValueKind::Lit(ast::Literal::Long(number)) if number.unsigned_abs() <= JSON_INTEGER_MAX => {
            Json::from(*number)
        }
        ast::ValueKind::Lit(ast::Literal::Long(number)) => escape("__long", Json::from(number.to_string())),
        ast::ValueKind::Lit(ast::Literal::String(text)) => Json::from(text.as_str()),
        ast::ValueKind::Lit(ast::Literal::EntityUID(uid)) => escape("__entity", uid_to_json(uid)),
        ast::ValueKind::Set(set) => set.iter().map(cedar_to_json).collect(),
        ast::ValueKind::Record(pairs) => {
            Json::Object(pairs.iter().map(|(name, value)| (name.to_string(), cedar_to_json(value))).collect())
        }
        ast::ValueKind::ExtensionValue(extension) => {
            let call = ast::RestrictedExpr::from(extension.as_ref().clone());
            call_to_json(call.as_borrowed().as_ref())
        }
    }
}

/// How an extension value is made: a call of a text, or of other calls.
fn call_to_json(expression: &ast::Expr) -> Json {
    match expression.expr_kind() {
        ast::ExprKind::Lit(literal) => cedar_to_json(&ast::Value::from(literal.clone())),
        ast::ExprKind::ExtensionFunctionApp { fn_name, args } => {
            let arguments = match args.as_slice() {
                [one] => match one.expr_kind() {
                    ast::ExprKind::Lit(ast::Literal::String(text)) => ("arg", Json::from(text.as_str())),
                    _ => ("args", args.iter().map(call_to_json).collect()),
                },
                _ => ("args", args.iter().map(call_to_json).collect()),
            };
            let call =
                [("fn".to_owned(), Json::from(fn_name.to_string())), (arguments.0.to_owned(), arguments.1)];
            Json::Object(Map::from_iter([("__extn".to_owned(), Json::Object(Map::from_iter(call)))]))
        }
        _ => Json::from(expression.to_string()),
    }
}

pub(crate) fn uid_to_json(uid: &ast::EntityUID) -> Json {
    let id: &str = uid.eid().as_ref();
    Json::Object(Map::from_iter([
        ("type".to_owned(), Json::from(uid.entity_type().to_string())),
        ("id".to_owned(), Json::from(id)),
    ]))
}
