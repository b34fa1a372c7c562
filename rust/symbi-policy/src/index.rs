//! The index: from a request to the few policies whose scope can match it.
//!
//! Why: Cedar's authorizer evaluates every policy of the set for every request (589 µs at 1,000 policies); most of
//! them name another principal, another resource or another action in their scope. Keys are hashes; a collision
//! adds a candidate, whose scope is then compared exactly.
//!
//! Invariants
//! - D4 a policy whose scope matches a request is found under the keys of that request:
//!   an action by its own uid, one of its ancestors, or none; a principal and a resource by uid, by an ancestor, by
//!   type, or by nothing. `in` also matches the thing itself, so uid and ancestors share one key space.
//! - D5 candidates come out sorted, each once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use cedar_policy_core::ast::{
    self, ActionConstraint, EntityReference, PrincipalOrResourceConstraint as Constraint, SlotId,
};

use crate::entity::{Entity, type_key, uid_key};

/// The key of an unconstrained place. A hash may equal it; that only adds candidates.
const ANY: u64 = 0;

/// Keys are hashes already.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

pub(crate) type ByKey<T> = HashMap<u64, T, BuildHasherDefault<KeyHasher>>;

/// What a policy's head asks of the principal or the resource.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    Any,
    Is(Arc<ast::EntityType>),
    Equal(Arc<ast::EntityUID>),
    In(Arc<ast::EntityUID>),
    IsIn(Arc<ast::EntityType>, Arc<ast::EntityUID>),
}

/// A slot that no link fills: the policy cannot be compiled.
pub(crate) struct UnfilledSlot;

impl Scope {
    pub(crate) fn new(
        constraint: &Constraint,
        slot: SlotId,
        filled: &ast::SlotEnv,
    ) -> Result<Self, UnfilledSlot> {
        let resolve = |reference: &EntityReference| match reference {
            EntityReference::EUID(uid) => Ok(Arc::clone(uid)),
            EntityReference::Slot(_) => {
                filled.get(&slot).map(|uid| Arc::new(uid.clone())).ok_or(UnfilledSlot)
            }
        };
        Ok(match constraint {
            Constraint::Any => Self::Any,
            Constraint::Is(kind) => Self::Is(Arc::clone(kind)),
            Constraint::Eq(reference) => Self::Equal(resolve(reference)?),
            Constraint::In(reference) => Self::In(resolve(reference)?),
            Constraint::IsIn(kind, reference) => Self::IsIn(Arc::clone(kind), resolve(reference)?),
        })
    }

    fn key(&self) -> u64 {
        match self {
            Self::Any => ANY,
            Self::Is(kind) => type_key(kind),
            Self::Equal(uid) | Self::In(uid) | Self::IsIn(_, uid) => uid_key(uid),
        }
    }

    /// Exactly what Cedar would say of the head.
    pub(crate) fn matches(&self, entity: &Entity) -> bool {
        let uid = entity.uid().cedar();
        let within = |ancestor: &Arc<ast::EntityUID>| {
            uid == ancestor
                || (!entity.ancestor_keys().is_empty() && entity.cedar().is_descendant_of(ancestor))
        };
        match self {
            Self::Any => true,
            Self::Is(kind) => uid.entity_type() == kind.as_ref(),
            Self::Equal(wanted) => uid == wanted,
            Self::In(ancestor) => within(ancestor),
            Self::IsIn(kind, ancestor) => uid.entity_type() == kind.as_ref() && within(ancestor),
        }
    }
}

/// Whether the head's action matches.
pub(crate) fn action_matches(constraint: &ActionConstraint, action: &Entity) -> bool {
    let uid = action.uid().cedar();
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(wanted) => uid == wanted,
        ActionConstraint::In(list) => {
            list.iter().any(|wanted| uid == wanted || action.cedar().is_descendant_of(wanted))
        }
    }
}

/// Positions of policies, by action, then principal, then resource.
#[derive(Debug, Default)]
pub(crate) struct Index {
    actions: ByKey<ByKey<ByKey<Vec<u32>>>>,
}

impl Index {
    pub(crate) fn insert(
        &mut self,
        position: u32,
        action: &ActionConstraint,
        principal: &Scope,
        resource: &Scope,
    ) {
        let actions: Vec<u64> = match action {
            ActionConstraint::Any => vec![ANY],
            ActionConstraint::Eq(uid) => vec![uid_key(uid)],
            ActionConstraint::In(list) => list.iter().map(|uid| uid_key(uid)).collect(),
        };
        for action in actions {
            let principals = self.actions.entry(action).or_default();
            principals.entry(principal.key()).or_default().entry(resource.key()).or_default().push(position);
        }
    }

    /// Adds the candidates to `found`, which was empty (D4, D5).
    pub(crate) fn candidates(
        &self,
        principal: &Entity,
        action: &Entity,
        resource: &Entity,
        found: &mut Vec<u32>,
    ) {
        for principals in keys(action).filter_map(|key| self.actions.get(&key)) {
            for resources in keys(principal).filter_map(|key| principals.get(&key)) {
                for positions in keys(resource).filter_map(|key| resources.get(&key)) {
                    found.extend_from_slice(positions);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
    }
}

fn keys(entity: &Entity) -> impl Iterator<Item = u64> + '_ {
    [ANY, entity.uid().key(), entity.type_key()].into_iter().chain(entity.ancestor_keys().iter().copied())
}
