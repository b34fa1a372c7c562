//! Tasks that stand still: asked to for a more urgent one, or held; and how they go on.
//!
//! A suspended task keeps its node, its place in order, its memory, accelerators and sandbox slot. It goes on as soon
//! as what it gave back is free there and nothing before it in order takes that; nothing behind it may take what it
//! lacks (P2), and it stands before what has no room, so that nobody waits for memory that it holds while it waits for
//! their turn. A batch task that was suspended stands like an interactive one of priority 0 that came at that moment,
//! so that it goes on within 255 × ageing however busy the other tiers are.
//!
//! Invariants
//! - U1 a held task does not go on before it is released.
//! - U2 a realtime task's deadline moves by as long as it stood still.

use crate::column::{NONE, Slot};
use crate::entry::Stage;
use crate::error::TaskError;
use crate::heap::Item;
use crate::rank::{Rank, ageing_key, deadline_key};
use crate::resources::given_back;
use crate::scheduler::Scheduler;
use crate::task::{Decision, Priority, TaskId, Tier};

impl Scheduler {
    /// The task that was asked to stands still now: processor, disk and network are given back; memory, accelerators
    /// and the sandbox slot are kept.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::NotRunning`], [`TaskError::NotSuspending`]; nothing changed.
    pub fn suspended(&mut self, task: TaskId) -> Result<(), TaskError> {
        let slot = self.slot(task)?;
        match self.tasks[slot].stage {
            Stage::Suspending if !self.is_yet_to_be_asked(task) => {
                self.freeze(slot);
                self.tasks.enter(slot, Stage::Suspended);
                self.await_room(slot);
                Ok(())
            }
            stage if stage.waits() => Err(TaskError::NotRunning { task }),
            _ => Err(TaskError::NotSuspending { task }),
        }
    }

    /// The task stands still, for an operator, policy or a limit: as [`Scheduler::suspended`], and it does not go on
    /// before [`Scheduler::release`]. A task that stands still already is held from now on.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::NotRunning`]; nothing changed.
    pub fn hold(&mut self, task: TaskId) -> Result<(), TaskError> {
        let slot = self.slot(task)?;
        match self.tasks[slot].stage {
            Stage::Running | Stage::Suspending => self.freeze(slot),
            Stage::Suspended => {
                let node = self.tasks[slot].node;
                self.nodes[node].suspended.remove(slot, &mut self.tasks.places);
                self.raised(node); // what stood behind it may start, or go on
            }
            Stage::Held => return Ok(()),
            _ => return Err(TaskError::NotRunning { task }),
        }
        self.tasks.enter(slot, Stage::Held); // U1
        Ok(())
    }

    /// Ends a hold: the task goes on when what it gave back is free.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::NotHeld`]; nothing changed.
    pub fn release(&mut self, task: TaskId) -> Result<(), TaskError> {
        let slot = self.slot(task)?;
        match self.tasks[slot].stage {
            Stage::Held => {
                self.tasks.enter(slot, Stage::Suspended);
                self.await_room(slot);
                Ok(())
            }
            Stage::Stranded => {
                self.tasks.enter(slot, Stage::Nowhere);
                let agent = self.tasks[slot].agent;
                if agent != NONE {
                    self.agents[agent].running = NONE;
                }
                self.enqueue(slot);
                Ok(())
            }
            _ => Err(TaskError::NotHeld { task }),
        }
    }

    /// The task runs no more and gives back what it does not use while it stands still.
    fn freeze(&mut self, slot: Slot) {
        self.withdraw(slot);
        self.stop(slot);
        let node = self.tasks[slot].node;
        self.link_still(slot, node);
        let back = given_back(self.need(slot));
        self.nodes.give_back(node, &back, &mut self.whole); // Q1
        self.raised(node);
    }

    fn await_room(&mut self, slot: Slot) {
        let (node, rank) = (self.tasks[slot].node, self.return_rank(slot));
        self.nodes[node].suspended.push(Item::new(rank, slot), &mut self.tasks.places);
        self.raised(node);
    }

    /// Its place among those that wait for what is free on its node.
    pub(crate) fn return_rank(&self, slot: Slot) -> Rank {
        let entry = &self.tasks[slot];
        match entry.urgency.0 {
            Tier::Batch => {
                let key = ageing_key(Tier::Interactive, entry.since_ns, Priority(0), self.ageing_ns);
                Rank { key, ..entry.rank }
            }
            _ => entry.rank,
        }
    }

    /// The first in order of those that could go on now.
    pub(crate) fn first_resumable(&mut self) -> Option<Item> {
        let mut found: Option<Item> = None;
        let mut at = 0;
        while let Some(node) = self.resumable.get(at).copied() {
            let first = self.nodes[node].suspended.first();
            let free = &self.nodes.rooms[node].free;
            match first.filter(|first| free.fits(&given_back(self.need(first.slot())))) {
                Some(first) => {
                    if found.is_none_or(|found| first.rank() < found.rank()) {
                        found = Some(first);
                    }
                    at += 1;
                }
                None => {
                    self.nodes[node].listed = false;
                    self.resumable.swap_remove(at);
                }
            }
        }
        found
    }

    /// Lets a suspended task go on; what it gave back is free.
    pub(crate) fn resume(&mut self, slot: Slot) -> Decision {
        let node = self.tasks[slot].node;
        let back = given_back(self.need(slot));
        self.nodes[node].suspended.remove(slot, &mut self.tasks.places);
        self.unlink(slot);
        self.nodes.take(node, &back);
        let stood_ns = self.now_ns - self.tasks[slot].since_ns;
        assert!(self.tasks[slot].stage == Stage::Suspended, "U1");
        let detail = self.tasks.detail_mut(slot);
        detail.deadline_ns = detail.deadline_ns.saturating_add(stood_ns); // U2; past all times it stays never
        detail.urgent = None;
        self.run(slot, node);
        if self.tasks[slot].tier == Tier::Realtime {
            let detail = self.tasks.detail_mut(slot);
            detail.own_key = deadline_key(detail.deadline_ns); // for its heirs too
            self.renew(slot);
        }
        Decision::Resume { task: self.tasks[slot].id, node: self.nodes[node].id }
    }
}
