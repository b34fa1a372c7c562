//! Which of an agent's tasks may be looked at: at most one, and none while it works.
//!
//! Why: an agent does one task at a time. If all its waiting tasks stood in the common queue, an agent with
//! thousands of them would have them looked at in vain each time others are served.
//!
//! Invariants
//! - A1 an agent that works has no candidate; one that does not, and has tasks, has exactly one: its best.
//! - A2 an agent without tasks has no entry, so that ten thousand idle agents cost nothing here.

use symbi_types::AgentId;

use crate::column::{NONE, Slot, Slots};
use crate::hash::Map;
use crate::heap::Heap;

const PARKED_KEPT: usize = 16; // room that an agent without tasks leaves to the next one

#[derive(Debug)]
pub(crate) struct AgentTasks {
    pub(crate) agent: AgentId,
    /// The task that it works on, or for which room is being made.
    pub(crate) running: Slot,
    pub(crate) candidate: Slot,
    pub(crate) parked: Heap,
}

#[derive(Debug)]
pub(crate) struct Agents {
    entries: Slots<AgentTasks>,
    by_id: Map<AgentId, Slot>,
}

impl Agents {
    pub(crate) fn new() -> Self {
        Self { entries: Slots::new(), by_id: Map::default() }
    }

    pub(crate) fn enter(&mut self, agent: AgentId) -> Slot {
        let entries = &mut self.entries;
        *self.by_id.entry(agent).or_insert_with(|| match entries.revive() {
            Some(slot) => {
                entries[slot].agent = agent;
                slot
            }
            None => {
                entries.insert(AgentTasks { agent, running: NONE, candidate: NONE, parked: Heap::default() })
            }
        })
    }

    pub(crate) fn find(&self, agent: AgentId) -> Option<Slot> {
        self.by_id.get(&agent).copied()
    }

    /// Forgets the agent if it has no task left (A2).
    pub(crate) fn leave(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot];
        if entry.running == NONE && entry.candidate == NONE {
            assert!(entry.parked.is_empty(), "A1: tasks without a candidate would wait for ever");
            entry.parked.trim(PARKED_KEPT);
            self.by_id.remove(&entry.agent);
            self.entries.remove(slot);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.by_id.values().copied()
    }
}

impl std::ops::Index<Slot> for Agents {
    type Output = AgentTasks;
    fn index(&self, slot: Slot) -> &AgentTasks {
        &self.entries[slot]
    }
}

impl std::ops::IndexMut<Slot> for Agents {
    fn index_mut(&mut self, slot: Slot) -> &mut AgentTasks {
        &mut self.entries[slot]
    }
}
