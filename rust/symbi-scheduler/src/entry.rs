//! What is known of each task that is not over, and by which name it is found.
//!
//! Why in two parts: each task is taken up a few times in its life, and each time costs the wait for its memory. What
//! every task has is one line of cache. What only some have (a deadline, an estimate, an account, urgency of others) lies
//! elsewhere, and is not even written for the rest.
//!
//! Invariants
//! - T1 a task is at one stage, and stands in the one structure that belongs to it: parked at its agent, ready in its
//!   class, claiming on a node, running in a node's list, suspended or held in a node's list of those that stand still.
//! - T2 the counts by stage and tier are those of the tasks.
//! - T3 a task without a detail is interactive, has no estimate and inherits nothing: its own key is that of its rank.

use crate::column::{Column, NONE, Slot, Slots};
use crate::fetch::fetch;
use crate::heap::Places;
use crate::index::Index;
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

/// What every task has: one line of cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Entry {
    pub(crate) id: TaskId,
    /// Its place now, what it inherited included.
    pub(crate) rank: Rank,
    /// When it began to run, or to stand still.
    pub(crate) since_ns: u64,
    pub(crate) class: Slot,
    pub(crate) agent: Slot,
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
    /// Whether its [`Detail`] was written.
    detailed: bool,
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry is one line of cache");

/// What only some tasks have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail {
    /// Its place without what it inherited.
    pub(crate) own_key: u64,
    pub(crate) deadline_ns: u64,
    pub(crate) duration_ns: u64,
    /// How long it ran before it last stood still; only of use where there is an estimate or an account.
    pub(crate) ran_ns: u64,
    /// What its tenant was charged for it.
    pub(crate) charged: u64,
    /// For whom it stands still.
    pub(crate) urgent: Option<TaskId>,
}

/// The detail of a task that has none (T3).
const PLAIN: Detail =
    Detail { own_key: 0, deadline_ns: NEVER, duration_ns: NEVER, ran_ns: 0, charged: 0, urgent: None };

#[derive(Debug)]
pub(crate) struct Tasks {
    entries: Slots<Entry>,
    details: Column<Detail>,
    by_id: Index,
    /// Where each stands in the heap of its class, its agent or its node.
    pub(crate) places: Places,
    pub(crate) counts: Counts, // T2
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            entries: Slots::new(),
            details: Column::new(),
            by_id: Index::new(),
            places: Column::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many names are known.
    pub(crate) fn names(&self) -> usize {
        self.by_id.len()
    }

    #[inline]
    pub(crate) fn find(&self, task: TaskId) -> Option<Slot> {
        self.by_id.find(task.0, |slot| self.entries[slot].id == task)
    }

    /// The name is asked for soon.
    #[inline]
    pub(crate) fn expect_name(&self, task: TaskId) {
        self.by_id.expect(task.0);
    }

    /// The task is taken up soon.
    #[inline]
    pub(crate) fn expect(&self, slot: Slot) {
        fetch(&self.entries[slot]);
    }

    /// So many tasks come soon.
    pub(crate) fn expect_new(&self, count: usize) {
        self.entries.expect_new(count);
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..self.entries.slots()).filter(|slot| self.entries[*slot].stage != Stage::Nowhere)
    }

    /// What is known of it beyond its entry.
    #[inline]
    pub(crate) fn detail(&self, slot: Slot) -> Detail {
        let entry = &self.entries[slot];
        if entry.detailed { self.details[slot] } else { Detail { own_key: entry.rank.key, ..PLAIN } }
    }

    pub(crate) fn has_detail(&self, slot: Slot) -> bool {
        self.entries[slot].detailed
    }

    /// The same, to be changed: from now on it has a detail.
    pub(crate) fn detail_mut(&mut self, slot: Slot) -> &mut Detail {
        if !self.entries[slot].detailed {
            let plain = self.detail(slot);
            while self.details.len() <= slot {
                self.details.push(PLAIN);
            }
            self.details[slot] = plain;
            self.entries[slot].detailed = true;
        }
        &mut self.details[slot]
    }

    /// It ran for so long, and runs no more.
    pub(crate) fn add_run(&mut self, slot: Slot, ran_ns: u64) {
        if self.entries[slot].detailed {
            self.details[slot].ran_ns += ran_ns; // without an estimate or an account nobody asks
        }
    }

    pub(crate) fn insert(&mut self, task: &Task, rank: Rank, class: Slot, agent: Slot) -> Slot {
        let slot = self.entries.insert(Entry {
            id: task.id,
            rank,
            since_ns: 0,
            class,
            agent,
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
            detailed: false,
        });
        if slot == self.places.len() {
            self.places.push(NONE);
        }
        if task.tier != Tier::Interactive || task.duration_ns.is_some() {
            let detail = self.detail_mut(slot);
            detail.deadline_ns = task.deadline_ns.unwrap_or(NEVER);
            detail.duration_ns = task.duration_ns.unwrap_or(NEVER);
        }
        self.by_id.insert(task.id.0, slot);
        slot
    }

    /// Forgets the task. Its stage must be [`Stage::Nowhere`]: it was taken out of everything else.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let Entry { id, stage, .. } = self.entries[slot];
        assert!(stage == Stage::Nowhere, "T1: it stands nowhere when it is forgotten");
        self.by_id.remove(id.0, |found| found == slot);
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

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_types::ResourceVector;

    #[test]
    fn t3_a_task_without_a_detail_is_as_plain_as_one_that_has_it_written() {
        let mut tasks = Tasks::new();
        let plain = Task::new(TaskId(1), ResourceVector::default());
        let slot = tasks.insert(&plain, Rank { key: 5, seq: 0 }, 0, NONE);
        assert!(!tasks.has_detail(slot) && tasks.detail(slot).own_key == 5, "T3");
        tasks.detail_mut(slot).charged = 7;
        assert_eq!(
            (tasks.detail(slot).own_key, tasks.detail(slot).charged, tasks.has_detail(slot)),
            (5, 7, true)
        );
        let batch = Task { tier: Tier::Batch, ..Task::new(TaskId(2), ResourceVector::default()) };
        let other = tasks.insert(&batch, Rank { key: 6, seq: 1 }, 0, NONE);
        assert!(tasks.has_detail(other) && tasks.detail(other).charged == 0, "T3");
    }
}
