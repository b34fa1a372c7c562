//! Conditions in a form of our own, evaluated in place.
//!
//! Why: Cedar's evaluator wants the context and the entities in its own form, and copies each value that it touches:
//! for `context.bytes < 4096` that is most of a decision. Nearly every condition is made of attributes, comparisons,
//! memberships and `&&`; those are compiled once to a small tree that only looks at what the request lends.
//! Not here: errors and their words, arithmetic, extensions, sets and records that a condition makes of what it reads.
//! What is not certain is not answered, and Cedar's evaluator is asked.
//!
//! Invariants
//! - DE1 an answer is the one that Cedar's evaluator gives. Where it errs, or where anything of it is unknown here, there is
//!   none: also no answer made of the part that is known, but for what Cedar itself does not look at (`false && …`).
//! - DE2 depth is bounded, and so is the work on two sets.

use std::borrow::Cow;
use std::sync::Arc;

use cedar_policy_core::ast::{
    self, BinaryOp, EntityType, EntityUID, Expr, ExprKind, Literal, Pattern, SlotEnv, UnaryOp, ValueKind, Var,
};
use smol_str::SmolStr;

use crate::entity::Entity;
use crate::request::Request;
use crate::store::Store;
use crate::value::Value;

/// Levels of a tree (DE2): ours takes little stack, and people stop at five.
const DEPTH_MAX: usize = 64;
/// Members of a set that are looked at one by one rather than hashed.
const FEW: usize = 8;
/// Comparisons of members that two sets may cost (DE2).
const PAIRS_MAX: usize = 4_096;

/// A condition, or a part of one that is true or false.
#[derive(Debug)]
pub(crate) enum Direct {
    /// Cedar is asked.
    Ask,
    Truth(Term),
    Not(Box<Direct>),
    And(Box<(Direct, Direct)>),
    Or(Box<(Direct, Direct)>),
    If(Box<(Direct, Direct, Direct)>),
    Pair(BinaryOp, Box<(Term, Term)>),
    IsEmpty(Term),
    Has(Term, Box<[SmolStr]>),
    Like(Term, Pattern),
    Is(Term, EntityType),
}

/// What has a value.
#[derive(Debug)]
pub(crate) enum Term {
    Var(Var),
    Literal(ast::Value),
    Attribute(Box<Term>, SmolStr),
    Tag(Box<(Term, Term)>),
}

impl Direct {
    /// None where nothing of it could be answered here.
    pub(crate) fn of(condition: &Expr, slots: &SlotEnv) -> Option<Self> {
        let compiled = Self::at(condition, slots, 0);
        (!matches!(compiled, Self::Ask)).then_some(compiled)
    }

    fn at(expression: &Expr, slots: &SlotEnv, depth: usize) -> Self {
        if depth > DEPTH_MAX {
            return Self::Ask;
        }
        let inner = |expression: &Expr| Self::at(expression, slots, depth + 1);
        let term = |expression: &Expr| Term::at(expression, slots, depth + 1);
        let found = match expression.expr_kind() {
            ExprKind::And { left, right } => Some(Self::And(Box::new((inner(left), inner(right))))),
            ExprKind::Or { left, right } => Some(Self::Or(Box::new((inner(left), inner(right))))),
            ExprKind::If { test_expr, then_expr, else_expr } => {
                Some(Self::If(Box::new((inner(test_expr), inner(then_expr), inner(else_expr)))))
            }
            ExprKind::UnaryApp { op: UnaryOp::Not, arg } => Some(Self::Not(Box::new(inner(arg)))),
            ExprKind::UnaryApp { op: UnaryOp::IsEmpty, arg } => term(arg).map(Self::IsEmpty),
            ExprKind::BinaryApp { op, arg1, arg2 } if is_relation(*op) => {
                term(arg1).zip(term(arg2)).map(|both| Self::Pair(*op, Box::new(both)))
            }
            ExprKind::HasAttr { expr, attr } => term(expr).map(|of| Self::Has(of, Box::new([attr.clone()]))),
            ExprKind::ExtHasAttr { expr, attrs } => {
                term(expr).map(|of| Self::Has(of, attrs.iter().cloned().collect()))
            }
            ExprKind::Like { expr, pattern } => term(expr).map(|of| Self::Like(of, pattern.clone())),
            ExprKind::Is { expr, entity_type } => term(expr).map(|of| Self::Is(of, entity_type.clone())),
            _ => term(expression).map(Self::Truth),
        };
        match found {
            // A start that nobody can answer leaves nothing to answer.
            Some(Self::And(both) | Self::Or(both)) if matches!(both.0, Self::Ask) => Self::Ask,
            Some(Self::Not(inner)) if matches!(*inner, Self::Ask) => Self::Ask,
            Some(Self::If(parts)) if matches!(parts.0, Self::Ask) => Self::Ask,
            Some(found) => found,
            None => Self::Ask,
        }
    }

    /// DE1.
    pub(crate) fn holds(&self, sight: &Sight<'_>) -> Option<bool> {
        match self {
            Self::Ask => None,
            Self::Truth(term) => match term.see(sight)? {
                Seen::Bool(flag) => Some(flag),
                _ => None,
            },
            Self::Not(inner) => Some(!inner.holds(sight)?),
            Self::And(both) => {
                if both.0.holds(sight)? {
                    both.1.holds(sight)
                } else {
                    Some(false)
                }
            }
            Self::Or(both) => {
                if both.0.holds(sight)? {
                    Some(true)
                } else {
                    both.1.holds(sight)
                }
            }
            Self::If(parts) => {
                if parts.0.holds(sight)? {
                    parts.1.holds(sight)
                } else {
                    parts.2.holds(sight)
                }
            }
            Self::Pair(op, terms) => relation(*op, terms.0.see(sight)?, terms.1.see(sight)?, sight),
            Self::IsEmpty(of) => Some(Members::of(of.see(sight)?)?.is_empty()),
            Self::Has(of, path) => has(of.see(sight)?, path, sight),
            Self::Like(of, pattern) => match of.see(sight)? {
                Seen::Text(text) => Some(pattern.wildcard_match(text)),
                _ => None,
            },
            Self::Is(of, kind) => Some(of.see(sight)?.uid()?.entity_type() == kind),
        }
    }
}

fn is_relation(op: BinaryOp) -> bool {
    match op {
        BinaryOp::Eq | BinaryOp::Less | BinaryOp::LessEq | BinaryOp::In | BinaryOp::HasTag => true,
        BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny => true,
        BinaryOp::GetTag | BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => false,
    }
}

impl Term {
    fn at(expression: &Expr, slots: &SlotEnv, depth: usize) -> Option<Self> {
        if depth > DEPTH_MAX {
            return None;
        }
        let inner = |expression: &Expr| Self::at(expression, slots, depth + 1);
        match expression.expr_kind() {
            ExprKind::Lit(literal) => Some(Self::Literal(literal.clone().into())),
            ExprKind::Var(var) => Some(Self::Var(*var)),
            ExprKind::Slot(id) => Some(Self::Literal(slots.get(id)?.clone().into())),
            ExprKind::GetAttr { expr, attr } => Some(Self::Attribute(Box::new(inner(expr)?), attr.clone())),
            ExprKind::BinaryApp { op: BinaryOp::GetTag, arg1, arg2 } => {
                Some(Self::Tag(Box::new((inner(arg1)?, inner(arg2)?))))
            }
            ExprKind::Set(members) => {
                let members = members.iter().map(|member| match member.expr_kind() {
                    ExprKind::Lit(literal) => Some(ast::Value::from(literal.clone())),
                    _ => None,
                });
                let members: Vec<ast::Value> = members.collect::<Option<_>>()?;
                Some(Self::Literal(ast::Value::set(members, None)))
            }
            _ => None,
        }
    }

    fn see<'a>(&'a self, sight: &Sight<'a>) -> Option<Seen<'a>> {
        match self {
            Self::Var(Var::Principal) => Some(Seen::Entity(sight.principal)),
            Self::Var(Var::Action) => Some(Seen::Entity(sight.action)),
            Self::Var(Var::Resource) => Some(Seen::Entity(sight.resource)),
            Self::Var(Var::Context) => Some(Seen::Context),
            Self::Literal(value) => Some(Seen::cedar(value)),
            Self::Attribute(of, name) => match of.see(sight)?.attribute(name, sight) {
                Found::Value(value) => Some(value),
                Found::Absent | Found::Unknown => None,
            },
            Self::Tag(both) => {
                let (of, Seen::Text(name)) = (both.0.see(sight)?, both.1.see(sight)?) else { return None };
                match of.entity(sight)?.cedar().get_tag(name)? {
                    ast::PartialValue::Value(value) => Some(Seen::cedar(value)),
                    ast::PartialValue::Residual(_) => None,
                }
            }
        }
    }
}

/// What a request lends to its conditions.
pub(crate) struct Sight<'a> {
    principal: &'a Entity,
    action: &'a Entity,
    resource: &'a Entity,
    context: &'a [(Cow<'static, str>, Value)],
    others: &'a [&'a Entity],
    store: Option<&'a Store>,
}

impl<'a> Sight<'a> {
    /// None where two entities of one name could disagree: see [`crate::evaluate::visit`].
    pub(crate) fn of(request: &'a Request<'_>, action: &'a Entity, store: Option<&'a Store>) -> Option<Self> {
        let named = [request.principal, action, request.resource];
        let others = request.entities.as_slice();
        let plain = match store {
            Some(store) => others.is_empty() && named.iter().all(|entity| store.covers(entity)),
            None => {
                let all = || named.iter().chain(others);
                let apart = |one: &Entity, other: &Entity| one.uid() != other.uid() || one.is_same(other);
                all().enumerate().all(|(at, one)| all().skip(at + 1).all(|other| apart(one, other)))
            }
        };
        plain.then_some(Self {
            principal: request.principal,
            action,
            resource: request.resource,
            context: &request.context,
            others,
            store,
        })
    }

    fn entity(&self, uid: &EntityUID) -> Option<&'a Entity> {
        let mut named =
            [self.principal, self.action, self.resource].into_iter().chain(self.others.iter().copied());
        named
            .find(|entity| entity.uid().cedar().as_ref() == uid)
            .or_else(|| self.store.and_then(|store| store.find(uid)))
    }

    fn circumstance(&self, name: &str) -> Option<Seen<'a>> {
        let given = self.context.iter().rev().find(|(known, _)| known == name);
        given.map(|(_, value)| Seen::given(value))
    }
}

/// A value where it lies.
#[derive(Clone, Copy)]
enum Seen<'a> {
    Bool(bool),
    Long(i64),
    Text(&'a str),
    /// One of those that the request names.
    Entity(&'a Entity),
    Uid(&'a Arc<EntityUID>),
    Context,
    /// A set or a record of a request.
    Given(&'a Value),
    /// A set, a record or an extension value in Cedar's form.
    Cedar(&'a ast::Value),
}

enum Found<'a> {
    Value(Seen<'a>),
    Absent,
    /// Cedar errs, or it cannot be told here.
    Unknown,
}

impl<'a> Found<'a> {
    fn of(found: Option<Seen<'a>>) -> Self {
        found.map_or(Self::Absent, Self::Value)
    }
}

impl<'a> Seen<'a> {
    fn given(value: &'a Value) -> Self {
        match value {
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Long(number) => Self::Long(*number),
            Value::String(text) => Self::Text(text),
            Value::Entity(uid) => Self::Uid(uid.cedar()),
            Value::Prepared(prepared) => Self::cedar(&prepared.0),
            Value::Set(_) | Value::Record(_) => Self::Given(value),
        }
    }

    fn cedar(value: &'a ast::Value) -> Self {
        match value.value_kind() {
            ValueKind::Lit(Literal::Bool(flag)) => Self::Bool(*flag),
            ValueKind::Lit(Literal::Long(number)) => Self::Long(*number),
            ValueKind::Lit(Literal::String(text)) => Self::Text(text),
            ValueKind::Lit(Literal::EntityUID(uid)) => Self::Uid(uid),
            ValueKind::Set(_) | ValueKind::Record(_) | ValueKind::ExtensionValue(_) => Self::Cedar(value),
        }
    }

    fn uid(self) -> Option<&'a Arc<EntityUID>> {
        match self {
            Self::Entity(entity) => Some(entity.uid().cedar()),
            Self::Uid(uid) => Some(uid),
            _ => None,
        }
    }

    fn entity(self, sight: &Sight<'a>) -> Option<&'a Entity> {
        match self {
            Self::Entity(entity) => Some(entity),
            _ => sight.entity(self.uid()?),
        }
    }

    fn is_plain(self) -> bool {
        !matches!(self, Self::Context | Self::Given(_) | Self::Cedar(_))
    }

    fn attribute(self, name: &str, sight: &Sight<'a>) -> Found<'a> {
        match self {
            Self::Context => Found::of(sight.circumstance(name)),
            Self::Given(Value::Record(pairs)) => {
                let value = pairs.iter().rev().find(|(known, _)| known == name);
                Found::of(value.map(|(_, value)| Self::given(value)))
            }
            Self::Cedar(value) => match value.value_kind() {
                ValueKind::Record(record) => Found::of(record.get(name).map(Self::cedar)),
                _ => Found::Unknown,
            },
            Self::Entity(_) | Self::Uid(_) => {
                match self.entity(sight).and_then(|entity| entity.cedar().get(name)) {
                    Some(ast::PartialValue::Value(value)) => Found::Value(Self::cedar(value)),
                    Some(ast::PartialValue::Residual(_)) => Found::Unknown,
                    None => Found::Absent,
                }
            }
            _ => Found::Unknown,
        }
    }

    /// None for two sets, records or extension values that are not both in Cedar's form.
    fn equals(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Some(one == other),
            (Self::Long(one), Self::Long(other)) => Some(one == other),
            (Self::Text(one), Self::Text(other)) => Some(one == other),
            (Self::Cedar(one), Self::Cedar(other)) => Some(one == other),
            _ => match (self.uid(), other.uid()) {
                (Some(one), Some(other)) => Some(Arc::ptr_eq(one, other) || one == other),
                // Values of two kinds are not equal; what is no plain value may still be the other's kind.
                _ => (self.is_plain() || other.is_plain()).then_some(false),
            },
        }
    }
}

/// A set where it lies.
#[derive(Clone, Copy)]
enum Members<'a> {
    Given(&'a [Value]),
    Cedar(&'a ast::Set),
}

impl<'a> Members<'a> {
    fn of(seen: Seen<'a>) -> Option<Self> {
        match seen {
            Seen::Given(Value::Set(members)) => Some(Self::Given(members)),
            Seen::Cedar(value) => match value.value_kind() {
                ValueKind::Set(set) => Some(Self::Cedar(set)),
                _ => None,
            },
            _ => None,
        }
    }

    fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn len(self) -> usize {
        match self {
            Self::Given(members) => members.len(),
            Self::Cedar(set) => set.len(),
        }
    }

    fn iter(self) -> impl Iterator<Item = Seen<'a>> {
        let (given, cedar) = match self {
            Self::Given(members) => (Some(members.iter()), None),
            Self::Cedar(set) => (None, Some(set.iter())),
        };
        given.into_iter().flatten().map(Seen::given).chain(cedar.into_iter().flatten().map(Seen::cedar))
    }

    /// `one` is plain: whatever is not plain in the set is another.
    fn contains(self, one: Seen<'a>) -> Option<bool> {
        if !one.is_plain() {
            return None;
        }
        if let Self::Cedar(set) = self
            && let Some(fast) = set.fast.as_ref().filter(|fast| fast.len() > FEW)
        {
            return Some(fast.contains(&literal(one)?));
        }
        Some(self.iter().any(|member| member.equals(one) == Some(true)))
    }
}

fn literal(seen: Seen<'_>) -> Option<Literal> {
    Some(match seen {
        Seen::Bool(flag) => Literal::Bool(flag),
        Seen::Long(number) => Literal::Long(number),
        Seen::Text(text) => Literal::String(text.into()),
        _ => Literal::EntityUID(Arc::clone(seen.uid()?)),
    })
}

fn has<'a>(of: Seen<'a>, path: &[SmolStr], sight: &Sight<'a>) -> Option<bool> {
    let mut of = of;
    for name in path {
        match of.attribute(name, sight) {
            Found::Value(value) => of = value,
            Found::Absent => return Some(false),
            Found::Unknown => return None,
        }
    }
    Some(true)
}

fn relation<'a>(op: BinaryOp, one: Seen<'a>, other: Seen<'a>, sight: &Sight<'a>) -> Option<bool> {
    match op {
        BinaryOp::Eq => one.equals(other),
        BinaryOp::Less | BinaryOp::LessEq => match (one, other) {
            (Seen::Long(one), Seen::Long(other)) if op == BinaryOp::Less => Some(one < other),
            (Seen::Long(one), Seen::Long(other)) => Some(one <= other),
            _ => None,
        },
        BinaryOp::In => within(one, other, sight),
        BinaryOp::HasTag => {
            let Seen::Text(name) = other else { return None };
            one.uid()?;
            Some(one.entity(sight).is_some_and(|entity| entity.cedar().get_tag(name).is_some()))
        }
        BinaryOp::Contains => Members::of(one)?.contains(other),
        BinaryOp::ContainsAll | BinaryOp::ContainsAny => {
            let (one, other) = (Members::of(one)?, Members::of(other)?);
            if one.len().saturating_mul(other.len()) > PAIRS_MAX {
                return None;
            }
            let mut common = 0_usize;
            for member in other.iter() {
                common += usize::from(one.contains(member)?);
            }
            Some(if op == BinaryOp::ContainsAny { common > 0 } else { common == other.len() })
        }
        _ => None,
    }
}

fn within<'a>(one: Seen<'a>, other: Seen<'a>, sight: &Sight<'a>) -> Option<bool> {
    let uid = one.uid()?;
    let entity = one.entity(sight);
    let below = |ancestor: &Arc<EntityUID>| {
        uid == ancestor || entity.is_some_and(|entity| entity.cedar().is_descendant_of(ancestor))
    };
    if let Some(ancestor) = other.uid() {
        return Some(below(ancestor));
    }
    let ancestors = Members::of(other)?;
    // Cedar looks at the kinds of all members first.
    if ancestors.iter().any(|member| member.uid().is_none()) {
        return None;
    }
    Some(ancestors.iter().filter_map(Seen::uid).any(below))
}

#[cfg(test)]
mod tests;
