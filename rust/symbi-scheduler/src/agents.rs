//! Which of an agent's tasks may be looked at: at most one, and none while it works.
//!
//! Why: an agent does one task at a time. If all its waiting tasks stood in the common queue, an agent with
//! thousands of them would have them looked at in vain each time others are served.
//!
//! Invariants
//! - A1 an agent that works has no candidate; one that does not, and has tasks, has exactly one: its best.
//! - A2 an agent without tasks has no entry, so that ten thousand idle agents cost nothing here.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use symbi_types::AgentId;

use crate::slots::{Slot, Slots};

/// A waiting task's place among its agent's: the smallest goes first.
pub(crate) type Place = (Reverse<u8>, u64, Slot);

#[derive(Debug)]
pub(crate) struct AgentTasks {
    agent: AgentId,
    pub(crate) running: Option<Slot>,
    pub(crate) candidate: Option<Place>,
    pub(crate) parked: BTreeSet<Place>,
}

#[derive(Debug)]
pub(crate) struct Agents {
    entries: Slots<AgentTasks>,
    by_id: HashMap<AgentId, Slot>,
}

impl Agents {
    pub(crate) fn new() -> Self {
        Self { entries: Slots::new(), by_id: HashMap::new() }
    }

    pub(crate) fn enter(&mut self, agent: AgentId) -> Slot {
        if let Some(slot) = self.by_id.get(&agent) {
            return *slot;
        }
        let fresh = AgentTasks { agent, running: None, candidate: None, parked: BTreeSet::new() };
        let slot = self.entries.insert(fresh);
        self.by_id.insert(agent, slot);
        slot
    }

    pub(crate) fn find(&self, agent: AgentId) -> Option<&AgentTasks> {
        self.by_id.get(&agent).map(|slot| self.entries.get(*slot))
    }

    pub(crate) fn get(&self, slot: Slot) -> &AgentTasks {
        self.entries.get(slot)
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut AgentTasks {
        self.entries.get_mut(slot)
    }

    /// Forgets the agent if it has no task left (A2).
    pub(crate) fn leave(&mut self, slot: Slot) {
        let entry = self.entries.get(slot);
        if entry.running.is_none() && entry.candidate.is_none() {
            assert!(entry.parked.is_empty(), "A1: tasks without a candidate would wait for ever");
            let entry = self.entries.remove(slot);
            self.by_id.remove(&entry.agent);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
