//! Urgency that a task has from others: whoever answers an urgent request is as urgent, until it is answered.
//!
//! Why: without it an urgent task waits for the answer of one that any other may hold up (priority inversion).
//!
//! Invariants
//! - I1 a task's place and urgency are the most urgent of its own and those of all it inherits from, directly or
//!   through others.
//! - I2 nothing inherits from itself through others: an edge that would close a circle is left out, since those on it
//!   wait for each other whatever their urgency.

use crate::column::Slot;
use crate::entry::Stage;
use crate::error::TaskError;
use crate::hash::Map;
use crate::heap::Item;
use crate::levels::level;
use crate::scheduler::Scheduler;
use crate::task::TaskId;

/// Tasks that one change of urgency may reach.
const REACH_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// From whom a task inherits.
    pub(crate) givers: Map<Slot, Vec<Slot>>,
    /// Who inherits from a task.
    pub(crate) heirs: Map<Slot, Vec<Slot>>,
}

impl Relations {
    pub(crate) fn heirs_of(&self, slot: Slot) -> &[Slot] {
        self.heirs.get(&slot).map_or(&[], Vec::as_slice)
    }

    fn givers_of(&self, slot: Slot) -> &[Slot] {
        self.givers.get(&slot).map_or(&[], Vec::as_slice)
    }

    fn has(&self, task: Slot, from: Slot) -> bool {
        self.givers_of(task).contains(&from)
    }

    fn add(&mut self, task: Slot, from: Slot) {
        self.givers.entry(task).or_default().push(from);
        self.heirs.entry(from).or_default().push(task);
    }

    fn remove(&mut self, task: Slot, from: Slot) {
        for (edges, key, other) in [(&mut self.givers, task, from), (&mut self.heirs, from, task)] {
            if let Some(slots) = edges.get_mut(&key) {
                slots.retain(|slot| *slot != other);
                if slots.is_empty() {
                    edges.remove(&key);
                }
            }
        }
    }

    /// Whether `slot` inherits from `from`, directly or through others; yes where that is too far to tell.
    fn reaches(&self, from: Slot, slot: Slot) -> bool {
        let mut seen = vec![from];
        let mut at = 0;
        while let Some(next) = seen.get(at).copied() {
            if next == slot || REACH_MAX <= seen.len() {
                return true;
            }
            let fresh: Vec<Slot> =
                self.heirs_of(next).iter().filter(|heir| !seen.contains(heir)).copied().collect();
            seen.extend(fresh);
            at += 1;
        }
        false
    }
}

impl Scheduler {
    /// A task becomes as urgent as another that waits for its answer, until [`Scheduler::disinherit`] or the end of
    /// either. What it runs for is not charged otherwise, and no deadline is promised anew.
    ///
    /// # Errors
    /// [`TaskError::Unknown`]; nothing changed.
    ///
    /// Cost: O(log n) for each task that inherits in turn.
    pub fn inherit(&mut self, task: TaskId, from: TaskId) -> Result<(), TaskError> {
        let (heir, giver) = (self.slot(task)?, self.slot(from)?);
        if self.relations.has(heir, giver) || self.relations.reaches(heir, giver) {
            return Ok(()); // I2
        }
        self.relations.add(heir, giver);
        (self.tasks[heir].related, self.tasks[giver].related) = (true, true);
        self.renew(heir);
        Ok(())
    }

    /// Takes back what [`Scheduler::inherit`] gave; nothing where it gave nothing.
    ///
    /// # Errors
    /// [`TaskError::Unknown`]; nothing changed.
    pub fn disinherit(&mut self, task: TaskId, from: TaskId) -> Result<(), TaskError> {
        let (heir, giver) = (self.slot(task)?, self.slot(from)?);
        self.relations.remove(heir, giver);
        self.renew(heir);
        Ok(())
    }

    /// The task is over: nobody inherits from it, and it from nobody.
    pub(crate) fn part(&mut self, slot: Slot) {
        for giver in self.relations.givers_of(slot).to_vec() {
            self.relations.remove(slot, giver);
        }
        for heir in self.relations.heirs_of(slot).to_vec() {
            self.relations.remove(heir, slot);
            self.renew(heir);
        }
    }

    /// What a task's place and urgency should be (I1).
    pub(crate) fn due(&self, slot: Slot) -> (u64, (crate::Tier, crate::Priority)) {
        let entry = &self.tasks[slot];
        let own = (self.tasks.detail(slot).own_key, (entry.tier, entry.priority));
        self.relations.givers_of(slot).iter().fold(own, |(key, urgency), giver| {
            let giver = &self.tasks[*giver];
            let higher = level(urgency) < level(giver.urgency);
            (key.min(giver.rank.key), if higher { giver.urgency } else { urgency })
        })
    }

    /// Makes a task as urgent as it should be, and then those that inherit from it.
    pub(crate) fn renew(&mut self, slot: Slot) {
        let mut open = vec![slot];
        let mut left = REACH_MAX;
        while let Some(slot) = open.pop() {
            let (key, urgency) = self.due(slot);
            let entry = &self.tasks[slot];
            if (entry.rank.key, entry.urgency) == (key, urgency) || left == 0 {
                continue;
            }
            left -= 1;
            self.become_urgent(slot, key, urgency);
            open.extend_from_slice(self.relations.heirs_of(slot));
        }
    }

    fn become_urgent(&mut self, slot: Slot, key: u64, urgency: (crate::Tier, crate::Priority)) {
        let (stage, agent, node) = (self.tasks[slot].stage, self.tasks[slot].agent, self.tasks[slot].node);
        match stage {
            Stage::Parked => self.agents[agent].parked.remove(slot, &mut self.tasks.places),
            Stage::Ready => self.unlist(slot),
            Stage::Suspended => self.nodes[node].suspended.remove(slot, &mut self.tasks.places),
            Stage::Running if self.tasks[slot].preemptible => {
                let before = self.tasks[slot].urgency;
                self.levels.sub(level(before));
                self.levels.add(level(urgency));
            }
            _ => {}
        }
        self.tasks.detail_mut(slot); // its own key stays what it is
        let entry = &mut self.tasks[slot];
        (entry.rank.key, entry.urgency) = (key, urgency);
        let item = Item::new(entry.rank, slot);
        match stage {
            Stage::Parked => {
                self.agents[agent].parked.push(item, &mut self.tasks.places);
                self.promote(agent);
            }
            Stage::Ready => {
                self.list(slot);
                let class = self.tasks[slot].class;
                if self.classes[class].aside && self.quota_allows(class) {
                    self.set_aside(class, false); // it stands before the one that had been passed too often
                }
                if agent != crate::column::NONE {
                    self.promote(agent);
                }
            }
            Stage::Suspended => {
                let rank = self.return_rank(slot);
                self.nodes[node].suspended.push(Item::new(rank, slot), &mut self.tasks.places);
                self.raised(node);
            }
            _ => {}
        }
        self.settled = false;
    }
}
