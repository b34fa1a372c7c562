//! Decisions that were made already: the same request under the same set and the same entities.
//!
//! Why: an agent asks the same thing again and again, and where thirty rules match, evaluating them is what costs.
//! Not here: what changes outside of the request. Rules that read counters, labels or time are never answered from here,
//! although the request holds their values: a mistake in a key must not be able to hide what has happened since.
//!
//! Invariants
//! - CA1 a decision is kept only when every rule whose head matches is stable: it reads no counter, no label, no time, and
//!   nothing as a whole that could hold one.
//! - CA2 a kept decision answers only for the identical request: the same entities (not equal ones), the same context.
//! - CA3 a cache lives and dies with one set and one store ([`Snapshot`] owns all three): nothing has to be invalidated.
//! - CA4 memory is bounded: shards that are full begin anew, large requests are not kept.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cedar_policy_core::ast::{Expr, ExprKind, Var};

use crate::decision::Decision;
use crate::engine::Engine;
use crate::entity::Entity;
use crate::expression::children;
use crate::request::{RecordedRequest, Request};
use crate::store::Store;
use crate::value::Value;

/// Locks, so that threads of a batch seldom wait for each other.
const SHARDS: usize = 16;
/// Decisions of a shard; 16 shards of large requests stay below 16 MiB.
const SHARD_DECISIONS_MAX: usize = 512;
/// Values, and bytes of texts, in the context of a request that is kept.
const REQUEST_WEIGHT_MAX: usize = 1_024;
/// Attributes that change with what an agent has read, whatever they belong to.
const MOVING: [&str; 2] = ["counters", "labels"];
/// Functions that make a time. A policy that compares times is asked each time.
const TIMES: [&str; 2] = ["datetime", "duration"];

/// CA1: whether an expression reads nothing but what stays as it is.
pub(crate) fn is_stable(expression: &Expr) -> bool {
    match expression.expr_kind() {
        ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => {
            let direct = matches!(expr.expr_kind(), ExprKind::Var(_));
            !MOVING.contains(&attr.as_str()) && (direct || is_stable(expr))
        }
        ExprKind::ExtHasAttr { expr, attrs } => {
            let direct = matches!(expr.expr_kind(), ExprKind::Var(_));
            attrs.iter().all(|attr| !MOVING.contains(&attr.as_str())) && (direct || is_stable(expr))
        }
        // The context as a whole holds all of it. An entity as a whole is only its name.
        ExprKind::Var(Var::Context) => false,
        ExprKind::ExtensionFunctionApp { fn_name, args } => {
            !TIMES.contains(&fn_name.to_string().as_str()) && args.iter().all(is_stable)
        }
        _ => children(expression).into_iter().all(is_stable),
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DecisionCache {
    shards: [Mutex<HashMap<u64, (RecordedRequest, Decision)>>; SHARDS],
}

impl DecisionCache {
    /// Under which number a request is kept; none when it is too large (CA4).
    pub(crate) fn key(&self, request: &Request<'_>) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        let mut weight = 0;
        (request.principal.uid(), request.action, request.resource.uid()).hash(&mut hasher);
        for (name, value) in &request.context {
            name.hash(&mut hasher);
            feed(value, &mut hasher, &mut weight);
        }
        (weight <= REQUEST_WEIGHT_MAX).then(|| hasher.finish())
    }

    /// CA2.
    pub(crate) fn get(&self, key: Option<u64>, request: &Request<'_>) -> Option<Decision> {
        let key = key?;
        let shard = self.shard(key)?;
        let (known, decision) = shard.get(&key)?;
        let alike = |one: &Entity, other: &Entity| {
            one.is_same(other) || (one.is_bare() && other.is_bare() && one.uid() == other.uid())
        };
        let same = alike(&known.principal, request.principal)
            && alike(&known.resource, request.resource)
            && known.action == request.action
            && known.context.len() == request.context.len()
            && known
                .context
                .iter()
                .zip(&request.context)
                .all(|(one, other)| one.0 == other.0 && one.1 == other.1);
        same.then(|| decision.clone())
    }

    /// CA4.
    pub(crate) fn put(&self, key: Option<u64>, request: &Request<'_>, decision: &Decision) {
        let Some((key, mut shard)) = key.and_then(|key| Some((key, self.shard(key)?))) else { return };
        if shard.len() >= SHARD_DECISIONS_MAX {
            shard.clear();
        }
        shard.insert(key, (request.to_record(), decision.clone()));
    }

    fn shard(&self, key: u64) -> Option<MutexGuard<'_, HashMap<u64, (RecordedRequest, Decision)>>> {
        let at = usize::try_from(key % SHARDS as u64).ok()?;
        Some(self.shards.get(at)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn feed(value: &Value, hasher: &mut DefaultHasher, weight: &mut usize) {
    *weight += 1;
    match value {
        Value::Bool(flag) => flag.hash(hasher),
        Value::Long(number) => number.hash(hasher),
        Value::String(text) => {
            *weight += text.len();
            text.hash(hasher);
        }
        Value::Set(members) => members.iter().for_each(|member| feed(member, hasher, weight)),
        Value::Record(pairs) => {
            for (name, value) in pairs {
                *weight += name.len();
                name.hash(hasher);
                feed(value, hasher, weight);
            }
        }
        Value::Entity(uid) => uid.hash(hasher),
        // Of unknown size: such a request is not kept.
        Value::Prepared(_) => *weight += REQUEST_WEIGHT_MAX,
    }
}

/// A set, its entities, and the decisions that were made with both (CA3).
#[derive(Debug)]
pub struct Snapshot {
    engine: Engine,
    store: Store,
    checked: bool,
    cache: DecisionCache,
}

impl Snapshot {
    /// `checked`: requests that do not fit the schema of the engine are denied.
    #[must_use]
    pub fn new(engine: Engine, store: Store, checked: bool) -> Self {
        Self { engine, store, checked, cache: DecisionCache::default() }
    }

    /// The set.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The entities.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Decides; what was decided before under this set and these entities may be answered from memory.
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        self.engine.evaluate_cached(request, &self.store, self.checked, &self.cache)
    }
}
