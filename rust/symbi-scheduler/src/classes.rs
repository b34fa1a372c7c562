//! Waiting tasks that need the same stand in one class: where one does not fit, none does.
//!
//! Why: a release must not look at every waiting task. A class is a need of one tenant, in one tier, critical or not;
//! only its first task is looked at, so that a hundred thousand tasks that do not fit cost as much as one.
//!
//! Invariants
//! - C1 a class stands in the queue that it belongs to by the rank of its first task, exactly while it has one.
//! - C2 a class counts the tasks that name it, waiting or not; at most `IDLE_MAX` and those with tasks are kept.

use std::collections::VecDeque;

use symbi_types::ResourceVector;

use crate::column::{Column, NONE, Slot, Slots};
use crate::hash::Map;
use crate::heap::{Heap, Places};
use crate::nodes::Hint;
use crate::rank::Rank;
use crate::task::Tier;

const IDLE_MAX: usize = 1024; // classes without tasks, kept because such a task may come again
const TASKS_KEPT: usize = 256; // room that such a class keeps

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) need: ResourceVector,
    pub(crate) tenant: Slot,
    pub(crate) tier: Tier,
    /// It must leave the headroom of nodes to others.
    pub(crate) guarded: bool,
}

/// When a search for victims found none, and for how urgent a task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    pub(crate) raises: u64,
    pub(crate) level: usize,
    pub(crate) again_ns: u64,
    /// How many tasks had begun to run by then, in all.
    pub(crate) begun: u64,
    /// Whether time alone may change the answer.
    pub(crate) fresh: bool,
}

/// All that a look at a class without room reads: one line of cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Sight {
    pub(crate) need: ResourceVector,
    pub(crate) hint: Hint,
}

#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) kind: Kind,
    pub(crate) ready: Heap,
    /// By which rank it stands in its queue (C1).
    pub(crate) listed: Option<Rank>,
    /// Whether that queue is the one of its tenant's classes that wait for the quota.
    pub(crate) aside: bool,
    pub(crate) tried: Tried,
    /// As of which shape of the nodes one of them was known to be large enough.
    pub(crate) possible: u64,
    /// Its dominant share of all nodes, and as of which shape of them.
    pub(crate) share: (u64, u64),
    tasks: usize, // C2
    idle: bool,
}

#[derive(Debug)]
pub(crate) struct Classes {
    entries: Slots<Class>,
    by_kind: Map<Kind, Slot>,
    idle: VecDeque<Slot>,
    pub(crate) sights: Column<Sight>,
    /// Where each stands beyond the window of its queue.
    pub(crate) places: Places,
}

impl Classes {
    pub(crate) fn new() -> Self {
        Self {
            entries: Slots::new(),
            by_kind: Map::default(),
            idle: VecDeque::new(),
            sights: Column::new(),
            places: Column::new(),
        }
    }

    pub(crate) fn find(&self, kind: &Kind) -> Option<Slot> {
        self.by_kind.get(kind).copied()
    }

    /// The class of this kind, with one task more that names it.
    pub(crate) fn enter(&mut self, kind: Kind) -> Slot {
        let slot = match self.by_kind.get(&kind) {
            Some(slot) => *slot,
            None => self.make(kind),
        };
        self.join(slot);
        slot
    }

    /// One task more names the class.
    pub(crate) fn join(&mut self, slot: Slot) {
        self.entries[slot].tasks += 1;
    }

    fn make(&mut self, kind: Kind) -> Slot {
        while IDLE_MAX < self.idle.len() {
            let Some(slot) = self.idle.pop_front() else { break };
            let class = &mut self.entries[slot];
            class.idle = false;
            if class.tasks == 0 {
                self.by_kind.remove(&class.kind);
                class.ready.trim(TASKS_KEPT);
                self.entries.remove(slot);
                break;
            }
        }
        let sight = Sight { need: kind.need, hint: Hint::default() };
        let slot = match self.entries.revive() {
            Some(slot) => {
                self.sights[slot] = sight;
                let ready = std::mem::take(&mut self.entries[slot].ready);
                self.entries[slot] = Class::new(kind, ready);
                slot
            }
            None => {
                self.places.push(NONE);
                self.sights.push(sight);
                self.entries.insert(Class::new(kind, Heap::default()))
            }
        };
        self.by_kind.insert(kind, slot);
        slot
    }

    /// One task less names the class.
    pub(crate) fn leave(&mut self, slot: Slot) {
        let class = &mut self.entries[slot];
        class.tasks -= 1;
        if class.tasks == 0 {
            assert!(
                class.ready.is_empty() && class.listed.is_none(),
                "C1: a class without tasks stands nowhere"
            );
            if !class.idle {
                class.idle = true;
                self.idle.push_back(slot);
            }
        }
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.by_kind.values().copied()
    }

    /// How many tasks name the class (C2).
    pub(crate) fn tasks(&self, slot: Slot) -> usize {
        self.entries[slot].tasks
    }
}

impl Class {
    fn new(kind: Kind, ready: Heap) -> Self {
        Self {
            kind,
            ready,
            listed: None,
            aside: false,
            tried: Tried::default(),
            possible: 0,
            share: (0, 0),
            tasks: 0,
            idle: false,
        }
    }
}

impl std::ops::Index<Slot> for Classes {
    type Output = Class;
    fn index(&self, slot: Slot) -> &Class {
        &self.entries[slot]
    }
}

impl std::ops::IndexMut<Slot> for Classes {
    fn index_mut(&mut self, slot: Slot) -> &mut Class {
        &mut self.entries[slot]
    }
}
