//! What is known of each task that is not over, and by which name it is found.
//!
//! Invariants
//! - T1 a task is at one stage, and stands in the one structure that belongs to it: parked at its agent, ready in its
//!   class, claiming on a node, running in a node's list, suspended or held in a node's list of those that stand still.
//! - T2 the counts by stage and tier are those of the tasks.

use crate::column::{Column, NONE, Slot, Slots};
use crate::hash::Map;
use crate::heap::Places;
use crate::rank::Rank;
use crate::task::{Counts, Priority, Task, TaskId, Tier};

/// Where a task stands in its life (T1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is over, or on its way between two stages.
    Nowhere,
    /// It waits behind another task of its agent.
    Parked,
    /// It waits in its class.
    Ready,
    /// Room is being made for it on a node.
    Claiming,
    /// It was held on a node that was lost, and is not released yet.
    Stranded,
    /// It was handed out.
    Running,
    /// It was asked to stand still.
    Suspending,
    /// It stands still for another, or was released, and goes on when there is room.
    Suspended,
    /// It stands still until it is released.
    Held,
}

impl Stage {
    pub(crate) const fn waits(self) -> bool {
        matches!(self, Self::Parked | Self::Ready | Self::Claiming | Self::Stranded)
    }

    /// Whether it holds something of a node.
    pub(crate) const fn placed(self) -> bool {
        matches!(self, Self::Running | Self::Suspending | Self::Suspended | Self::Held)
    }
}

/// No time: a deadline, an estimate that was not given.
pub(crate) const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) id: TaskId,
    /// Its place now, what it inherited included.
    pub(crate) rank: Rank,
    /// Its place without what it inherited.
    pub(crate) own_key: u64,
    pub(crate) deadline_ns: u64,
    pub(crate) duration_ns: u64,
    /// When it began to run, or to stand still.
    pub(crate) since_ns: u64,
    /// How long it ran before it last stood still.
    pub(crate) ran_ns: u64,
    /// What its tenant was charged for it.
    pub(crate) charged: u64,
    /// For whom it stands still.
    pub(crate) urgent: Option<TaskId>,
    pub(crate) class: Slot,
    pub(crate) agent: Slot,
    pub(crate) tenant: Slot,
    pub(crate) node: Slot,
    pub(crate) before: Slot,
    pub(crate) after: Slot,
    pub(crate) stage: Stage,
    pub(crate) tier: Tier,
    pub(crate) priority: Priority,
    /// Tier and priority with what it inherited.
    pub(crate) urgency: (Tier, Priority),
    /// How often a younger one took its reserved node.
    pub(crate) passed: u8,
    pub(crate) preemptible: bool,
    /// Whether another one's urgency is its own, or its urgency another one's.
    pub(crate) related: bool,
}

#[derive(Debug)]
pub(crate) struct Tasks {
    entries: Slots<Entry>,
    pub(crate) by_id: Map<TaskId, Slot>,
    /// Where each stands in the heap of its class, its agent or its node.
    pub(crate) places: Places,
    pub(crate) counts: Counts, // T2
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            entries: Slots::new(),
            by_id: Map::default(),
            places: Column::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn find(&self, task: TaskId) -> Option<Slot> {
        self.by_id.get(&task).copied()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..self.entries.slots()).filter(|slot| self.entries[*slot].stage != Stage::Nowhere)
    }

    pub(crate) fn insert(&mut self, task: &Task, rank: Rank, class: Slot, agent: Slot, tenant: Slot) -> Slot {
        let slot = self.entries.insert(Entry {
            id: task.id,
            rank,
            own_key: rank.key,
            deadline_ns: task.deadline_ns.unwrap_or(NEVER),
            duration_ns: task.duration_ns.unwrap_or(NEVER),
            since_ns: 0,
            ran_ns: 0,
            charged: 0,
            urgent: None,
            class,
            agent,
            tenant,
            node: NONE,
            before: NONE,
            after: NONE,
            stage: Stage::Nowhere,
            tier: task.tier,
            priority: task.priority,
            urgency: (task.tier, task.priority),
            passed: 0,
            preemptible: task.preemptible,
            related: false,
        });
        if slot == self.places.len() {
            self.places.push(NONE);
        }
        slot
    }

    /// Forgets the task. Its stage must be [`Stage::Nowhere`]: it was taken out of everything else.
    pub(crate) fn remove(&mut self, slot: Slot) {
        assert!(self.entries[slot].stage == Stage::Nowhere, "T1: it stands nowhere when it is forgotten");
        self.entries.remove(slot);
    }

    /// Moves the task on to `stage`, and counts it there (T2).
    pub(crate) fn enter(&mut self, slot: Slot, stage: Stage) {
        let entry = &mut self.entries[slot];
        let (from, tier) = (std::mem::replace(&mut entry.stage, stage), entry.tier as usize);
        if from.waits() == stage.waits() && from.waits() {
            return;
        }
        if let Some(count) = self.counted(from).and_then(|counts| counts.get_mut(tier)) {
            *count -= 1;
        }
        if let Some(count) = self.counted(stage).and_then(|counts| counts.get_mut(tier)) {
            *count += 1;
        }
    }

    fn counted(&mut self, stage: Stage) -> Option<&mut [usize; 3]> {
        match stage {
            Stage::Nowhere => None,
            Stage::Parked | Stage::Ready | Stage::Claiming | Stage::Stranded => {
                Some(&mut self.counts.waiting)
            }
            Stage::Running => Some(&mut self.counts.running),
            Stage::Suspending => Some(&mut self.counts.suspending),
            Stage::Suspended | Stage::Held => Some(&mut self.counts.suspended),
        }
    }
}

impl std::ops::Index<Slot> for Tasks {
    type Output = Entry;
    fn index(&self, slot: Slot) -> &Entry {
        &self.entries[slot]
    }
}

impl std::ops::IndexMut<Slot> for Tasks {
    fn index_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot]
    }
}
