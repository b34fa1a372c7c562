//! The one change that would allow: found by changing the request and deciding again.
//!
//! Why: "it would be allowed if `context.bytes < 1024` held" says which clause; a person wants to know what to change.
//! Not here: two changes at once, changes of a rule, and guesses: what is not decided `allow` after it is not named.
//!
//! Invariants
//! - X2 a change that is named was made to the request, and the changed request was allowed by the same set.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp, Var};
use serde_json::{Value as Json, json};

use crate::decision::Effect;
use crate::engine::Engine;
use crate::entity::Entity;
use crate::expression::Clause;
use crate::request::{RecordedRequest, Request};
use crate::store::Store;
use crate::value::{cedar_to_json, uid_to_json};

/// A change of one attribute, or of one membership.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// `attribute` or `membership`.
    pub kind: &'static str,
    /// What is changed: `context.bytes`, `principal.capabilities`, `principal`.
    pub what: String,
    /// As it is, as JSON; null where it is absent.
    pub from: Json,
    /// As it would have to be.
    pub to: Json,
}

/// A path below the request, as JSON: `principal.attrs.tier`, `context.bytes`.
struct Place {
    var: &'static str,
    attribute: String,
}

impl Place {
    /// `principal.tier`, `context.bytes`: attributes of attributes are not changed.
    fn of(expression: &Expr) -> Option<Self> {
        let ExprKind::GetAttr { expr, attr } = expression.expr_kind() else { return None };
        let var = variable(expr)?;
        (var != "action").then(|| Self { var, attribute: attr.to_string() })
    }

    fn shown(&self) -> String {
        format!("{}.{}", self.var, self.attribute)
    }

    fn record<'a>(&self, request: &'a mut Json) -> Option<&'a mut serde_json::Map<String, Json>> {
        let of = request.get_mut(self.var)?.as_object_mut()?;
        if self.var == "context" {
            return Some(of);
        }
        of.entry("attrs").or_insert_with(|| json!({})).as_object_mut()
    }
}

fn variable(expression: &Expr) -> Option<&'static str> {
    match expression.expr_kind() {
        ExprKind::Var(Var::Principal) => Some("principal"),
        ExprKind::Var(Var::Resource) => Some("resource"),
        ExprKind::Var(Var::Context) => Some("context"),
        ExprKind::Var(Var::Action) => Some("action"),
        _ => None,
    }
}

fn literal(expression: &Expr) -> Option<Json> {
    match expression.expr_kind() {
        ExprKind::Lit(literal) => Some(cedar_to_json(&literal.clone().into())),
        _ => None,
    }
}

fn literals(expression: &Expr) -> Option<Vec<Json>> {
    match expression.expr_kind() {
        ExprKind::Set(members) => members.iter().map(literal).collect(),
        _ => Some(vec![literal(expression)?]),
    }
}

fn whole(expression: &Expr) -> Option<i64> {
    match expression.expr_kind() {
        ExprKind::Lit(Literal::Long(number)) => Some(*number),
        _ => None,
    }
}

/// Puts members into a set, or takes them out.
fn with_members(set: &Json, members: &[Json], present: bool) -> Option<Json> {
    let mut kept = set.as_array()?.clone();
    kept.retain(|one| !members.contains(one));
    if present {
        kept.extend_from_slice(members);
    }
    Some(Json::Array(kept))
}

/// The request with this clause turned around, where the clause is of a kind that one attribute decides.
fn turned(request: &Json, clause: &Clause<'_>) -> Option<(Json, Change)> {
    let (expression, wanted) = (clause.expression, clause.wanted);
    match expression.expr_kind() {
        ExprKind::UnaryApp { op: UnaryOp::Not, arg } => {
            turned(request, &Clause { expression: arg, wanted: !wanted })
        }
        ExprKind::GetAttr { .. } => set(request, &Place::of(expression)?, |_| Some(Json::Bool(wanted))),
        ExprKind::BinaryApp { op, arg1, arg2 } => match op {
            BinaryOp::In => member(request, arg1, arg2, wanted),
            BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny => {
                if let Some(place) = Place::of(arg1) {
                    let members = literals(arg2)?;
                    return set(request, &place, |now| with_members(now, &members, wanted));
                }
                // `["a"].containsAll(context.labels)`: what is too much is taken out.
                let allowed = literals(arg1)?;
                set(request, &Place::of(arg2).filter(|_| wanted)?, |now| {
                    Some(now.as_array()?.iter().filter(|one| allowed.contains(one)).cloned().collect())
                })
            }
            BinaryOp::Eq => {
                let (place, value) = match (Place::of(arg1), Place::of(arg2)) {
                    (Some(place), _) => (place, literal(arg2)?),
                    (None, Some(place)) => (place, literal(arg1)?),
                    (None, None) => return None,
                };
                set(request, &place, |now| match (wanted, now) {
                    (true, _) => Some(value.clone()),
                    (false, Json::Bool(flag)) => Some(Json::Bool(!flag)),
                    (false, _) => None,
                })
            }
            BinaryOp::Less | BinaryOp::LessEq => {
                let strict = *op == BinaryOp::Less;
                let (place, bound, below) = match (Place::of(arg1), whole(arg2)) {
                    (Some(place), Some(bound)) => (place, bound, wanted),
                    _ => (Place::of(arg2)?, whole(arg1)?, !wanted),
                };
                // `a < n` and `n < a` turn beside the bound and back on it, `<=` the other way round.
                let to = match (strict != wanted, below) {
                    (true, _) => bound,
                    (false, true) => bound.checked_sub(1)?,
                    (false, false) => bound.checked_add(1)?,
                };
                set(request, &place, |_| Some(json!(to)))
            }
            _ => None,
        },
        _ => None,
    }
}

fn set(request: &Json, place: &Place, value: impl FnOnce(&Json) -> Option<Json>) -> Option<(Json, Change)> {
    let mut changed = request.clone();
    let record = place.record(&mut changed)?;
    let from = record.get(&place.attribute).cloned().unwrap_or(Json::Null);
    let to = value(&from)?;
    record.insert(place.attribute.clone(), to.clone());
    Some((changed, Change { kind: "attribute", what: place.shown(), from, to }))
}

/// `principal in Group::"g"`: the membership is granted.
fn member(request: &Json, who: &Expr, what: &Expr, wanted: bool) -> Option<(Json, Change)> {
    let var = variable(who).filter(|_| wanted)?;
    let ExprKind::Lit(Literal::EntityUID(uid)) = what.expr_kind() else { return None };
    join(request, var, &uid_to_json(uid))
}

/// The request with one membership more.
pub(crate) fn join(request: &Json, var: &str, group: &Json) -> Option<(Json, Change)> {
    let mut changed = request.clone();
    let of = changed.get_mut(var)?.as_object_mut()?;
    let ancestors = of.entry("ancestors").or_insert_with(|| json!([])).as_array_mut()?;
    let from = Json::Array(ancestors.clone());
    ancestors.push(group.clone());
    let to = Json::Array(ancestors.clone());
    Some((changed, Change { kind: "membership", what: var.to_owned(), from, to }))
}

impl Engine {
    /// X2.
    pub(crate) fn change_of(
        &self,
        request: &Request<'_>,
        store: Option<&Store>,
        attempt: impl FnOnce(&Json) -> Option<(Json, Change)>,
    ) -> Option<Change> {
        let (changed, change) = attempt(&request.to_record().to_json())?;
        let changed = RecordedRequest::from_json(&changed).ok()?;
        // The store holds the old attributes: everything else of it comes with the request.
        let named = [changed.principal.uid(), changed.resource.uid()];
        let others: Vec<Entity> = store
            .into_iter()
            .flat_map(Store::iter)
            .filter(|entity| !named.contains(&entity.uid()))
            .filter(|entity| !entity.uid().is_action())
            .cloned()
            .collect();
        let mut asked = changed.as_request();
        asked.entities.extend(&others);
        (self.evaluate(&asked).effect == Effect::Allow).then_some(change)
    }

    /// X2, for a clause.
    pub(crate) fn change_of_clause(
        &self,
        request: &Request<'_>,
        store: Option<&Store>,
        clause: &Clause<'_>,
    ) -> Option<Change> {
        self.change_of(request, store, |json| turned(json, clause))
    }
}
