//! External operations under way, and how many each principal has.
//!
//! Invariants
//! - K8 a principal has at most as many operations between decision and outcome as it has places, whatever its threads do
//!   at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use symbi_types::{AgentId, LabelSet, OperationId, RunId};

use crate::Principal;
use crate::calls::Watch;
use crate::counters::Reservation;
use crate::kernel::lock;

/// External operations that one agent may have under way at once; the rest of the log's room is for others.
pub const IN_FLIGHT_MAX: usize = 256;

/// How many each principal has under way.
#[derive(Clone, Default)]
pub(crate) struct Places {
    taken: Arc<Mutex<HashMap<Principal, usize>>>,
}

/// The right to have one operation under way; given back when it is dropped.
pub(crate) struct Place {
    places: Places,
    principal: Principal,
}

impl Places {
    /// K8: looked at and taken at once. Only agents are bounded.
    pub(crate) fn take(&self, principal: Principal) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let count = taken.entry(principal).or_default();
        if matches!(principal, Principal::Agent(_)) && IN_FLIGHT_MAX <= *count {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), principal })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        if let Some(count) = taken.get_mut(&self.principal) {
            *count -= 1; // K8: it was counted when it was taken
            if *count == 0 {
                taken.remove(&self.principal);
            }
        }
    }
}

/// What is to be done, as its intent says.
#[derive(Clone)]
pub(crate) struct Intent {
    pub(crate) principal: Principal,
    /// The persons that it concerns.
    pub(crate) persons: LabelSet,
    pub(crate) agent: Option<AgentId>,
    pub(crate) run: Option<RunId>,
    pub(crate) seq: u64,
    pub(crate) resource: String,
    pub(crate) action: &'static str,
    pub(crate) reservations: Vec<Reservation>,
    /// Its result is recorded, sealed.
    pub(crate) full: bool,
}

/// An external operation between its intent and its outcome.
pub(crate) struct Pending {
    pub(crate) intent: Intent,
    /// What its outcome is told to besides.
    pub(crate) watch: Option<Watch>,
    /// Its bytes were given: anything may have happened.
    pub(crate) acted: bool,
    /// When they were.
    pub(crate) acted_ns: u64,
    /// Its run was cancelled before that: they never will be (K77).
    pub(crate) revoked: bool,
    /// It was recorded `unknown` while it was under way (K78).
    pub(crate) reported: bool,
    _place: Option<Place>,
}

impl Pending {
    pub(crate) fn new(intent: Intent, watch: Option<Watch>, place: Option<Place>) -> Self {
        Self { intent, watch, acted: false, acted_ns: 0, revoked: false, reported: false, _place: place }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct InFlight {
    operations: HashMap<OperationId, Pending>,
}

impl InFlight {
    pub(crate) fn insert(&mut self, operation: OperationId, pending: Pending) {
        self.operations.insert(operation, pending);
    }

    pub(crate) fn remove(&mut self, operation: OperationId) -> Option<Pending> {
        self.operations.remove(&operation)
    }

    pub(crate) fn contains(&self, operation: OperationId) -> bool {
        self.operations.contains_key(&operation)
    }

    /// Its bytes are given now; false where they may not be any more.
    pub(crate) fn act(&mut self, operation: OperationId, now_ns: u64) -> bool {
        let Some(pending) = self.operations.get_mut(&operation).filter(|pending| !pending.revoked) else {
            return false;
        };
        pending.acted = true;
        pending.acted_ns = now_ns;
        true
    }

    /// Those of the run that have not acted never will (K77). Answers those that have, each once (K78).
    pub(crate) fn revoke(&mut self, run: RunId) -> Vec<(OperationId, Intent)> {
        let mut under_way = Vec::new();
        for (operation, pending) in &mut self.operations {
            if pending.intent.run != Some(run) {
                continue;
            }
            pending.revoked |= !pending.acted;
            if pending.acted && !pending.reported {
                pending.reported = true;
                under_way.push((*operation, pending.intent.clone()));
            }
        }
        under_way
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
    fn k8_an_agent_has_so_many_places_and_gets_back_what_it_gives() {
        let places = Places::default();
        let agent = Principal::Agent(AgentId::random(&SystemEntropy));
        let mut held: Vec<Place> = std::iter::from_fn(|| places.take(agent)).collect();
        assert_eq!(held.len(), IN_FLIGHT_MAX, "K8");
        assert!(places.take(Principal::Host).is_some(), "K8: the host's program is not bounded");
        held.pop();
        assert!(places.take(agent).is_some(), "K8");
        drop(held);
        assert!(lock(&places.taken).is_empty(), "K8");
    }

    #[test]
    fn k77_k78_what_has_not_acted_never_will_and_what_has_is_told_once() {
        let mut flight = InFlight::default();
        let run = RunId::random(&SystemEntropy);
        let intent = |run| Intent {
            persons: LabelSet::default(),
            principal: Principal::Host,
            agent: None,
            run: Some(run),
            seq: 0,
            resource: String::new(),
            action: "tool.call",
            reservations: Vec::new(),
            full: false,
        };
        let ids: Vec<OperationId> = (0..3).map(|_| OperationId::random(&SystemEntropy)).collect();
        flight.insert(ids[0], Pending::new(intent(run), None, None));
        flight.insert(ids[1], Pending::new(intent(run), None, None));
        flight.insert(ids[2], Pending::new(intent(RunId::random(&SystemEntropy)), None, None));
        assert!(flight.act(ids[0], 1));
        let told: Vec<OperationId> = flight.revoke(run).into_iter().map(|(operation, _)| operation).collect();
        assert_eq!(told, [ids[0]], "K78");
        assert!(flight.revoke(run).is_empty(), "K78: once");
        assert!(!flight.act(ids[1], 1), "K77");
        assert!(flight.act(ids[2], 1), "K77: of that run alone");
    }
}
