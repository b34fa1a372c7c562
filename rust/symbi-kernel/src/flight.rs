//! External operations under way, and how many each principal has.
//!
//! Invariants
//! - K8 the count of a principal is the number of its operations between intent and outcome.

use std::collections::HashMap;

use symbi_types::{AgentId, OperationId, RunId};

use crate::Principal;
use crate::calls::Watch;
use crate::window::Reservation;

/// An external operation between its intent and its outcome.
pub(crate) struct Pending {
    pub(crate) principal: Principal,
    pub(crate) agent: Option<AgentId>,
    pub(crate) run: Option<RunId>,
    pub(crate) seq: u64,
    pub(crate) resource: String,
    pub(crate) action: &'static str,
    pub(crate) reservations: Vec<Reservation>,
    /// What its outcome is told to besides.
    pub(crate) watch: Option<Watch>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct InFlight {
    operations: HashMap<OperationId, Pending>,
    counts: HashMap<Principal, usize>,
}

impl InFlight {
    pub(crate) fn insert(&mut self, operation: OperationId, pending: Pending) {
        *self.counts.entry(pending.principal).or_default() += 1;
        self.operations.insert(operation, pending);
    }

    pub(crate) fn remove(&mut self, operation: OperationId) -> Option<Pending> {
        let pending = self.operations.remove(&operation)?;
        if let Some(count) = self.counts.get_mut(&pending.principal) {
            *count -= 1; // K8: it was counted when it came
            if *count == 0 {
                self.counts.remove(&pending.principal);
            }
        }
        Some(pending)
    }

    pub(crate) fn of(&self, principal: Principal) -> usize {
        self.counts.get(&principal).copied().unwrap_or(0)
    }

    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_types::SystemEntropy;

    #[test]
    fn k8_each_principal_is_counted_while_its_operations_are_under_way() {
        let mut flight = InFlight::default();
        let pending = |principal| Pending {
            principal,
            agent: None,
            run: None,
            seq: 0,
            resource: String::new(),
            action: "tool.call",
            reservations: Vec::new(),
            watch: None,
        };
        let ids: Vec<OperationId> = (0..3).map(|_| OperationId::random(&SystemEntropy)).collect();
        flight.insert(ids[0], pending(Principal::Host));
        flight.insert(ids[1], pending(Principal::Host));
        flight.insert(ids[2], pending(Principal::Operator(0)));
        assert_eq!((flight.of(Principal::Host), flight.of(Principal::Operator(0)), flight.len()), (2, 1, 3));
        assert!(flight.remove(ids[0]).is_some() && flight.remove(ids[0]).is_none());
        assert_eq!((flight.of(Principal::Host), flight.len()), (1, 2));
    }
}
