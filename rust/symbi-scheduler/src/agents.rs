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
use crate::fetch::fetch;
use crate::hash::mix;
use crate::heap::Heap;
use crate::index::Index;

const PARKED_KEPT: usize = 16; // room that an agent without tasks leaves to the next one

/// One line of cache.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct AgentTasks {
    pub(crate) agent: AgentId,
    /// The task that it works on, or for which room is being made.
    pub(crate) running: Slot,
    pub(crate) candidate: Slot,
    pub(crate) parked: Heap,
}

/// The 16 bytes of an agent's name as a number: its last bits are those that are counted up, where any are.
fn name(agent: AgentId) -> u64 {
    let id = u128::from_be_bytes(*agent.as_bytes());
    (id as u64) ^ mix((id >> 64) as u64) << 3
}

#[derive(Debug)]
pub(crate) struct Agents {
    entries: Slots<AgentTasks>,
    by_id: Index,
}

impl Agents {
    pub(crate) fn new() -> Self {
        Self { entries: Slots::new(), by_id: Index::new() }
    }

    pub(crate) fn enter(&mut self, agent: AgentId) -> Slot {
        if let Some(slot) = self.find(agent) {
            return slot;
        }
        let slot = match self.entries.revive() {
            Some(slot) => {
                self.entries[slot].agent = agent;
                slot
            }
            None => {
                let parked = Heap::default();
                self.entries.insert(AgentTasks { agent, running: NONE, candidate: NONE, parked })
            }
        };
        self.by_id.insert(name(agent), slot);
        slot
    }

    #[inline]
    pub(crate) fn find(&self, agent: AgentId) -> Option<Slot> {
        self.by_id.find(name(agent), |slot| self.entries[slot].agent == agent)
    }

    /// The agent is asked for soon.
    #[inline]
    pub(crate) fn expect_name(&self, agent: AgentId) {
        self.by_id.expect(name(agent));
    }

    /// Something is done with the agent soon.
    #[inline]
    pub(crate) fn expect(&self, slot: Slot) {
        fetch(&self.entries[slot]);
    }

    /// Forgets the agent if it has no task left (A2).
    pub(crate) fn leave(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot];
        if entry.running == NONE && entry.candidate == NONE {
            assert!(entry.parked.is_empty(), "A1: tasks without a candidate would wait for ever");
            entry.parked.trim(PARKED_KEPT);
            let name = name(entry.agent);
            self.by_id.remove(name, |found| found == slot);
            self.entries.remove(slot);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.by_id.slots()
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
