//! A task goes: it is complete, or was cancelled, and leaves nothing behind.

use symbi_types::{AgentId, ResourceVector};

use crate::column::{NONE, Slot};
use crate::entry::Stage;
use crate::error::TaskError;
use crate::heap::Item;
use crate::resources::{kept, sub};
use crate::scheduler::Scheduler;
use crate::task::{TaskId, Tier};

impl Scheduler {
    /// Takes back what a task holds, and forgets it: one that runs, was asked to stand still, or does. Returns what it
    /// held.
    ///
    /// # Errors
    /// [`TaskError::Unknown`] (as for a second time, Q1), [`TaskError::NotRunning`]; nothing changed.
    ///
    /// Cost: O(log n).
    pub fn complete(&mut self, task: TaskId) -> Result<ResourceVector, TaskError> {
        let slot = self.slot(task)?;
        let entry = self.tasks[slot];
        if !entry.stage.placed() {
            return Err(TaskError::NotRunning { task });
        }
        let tenant = self.tenant(slot);
        if entry.tier == Tier::Realtime && self.tasks.detail(slot).deadline_ns < self.now_ns {
            self.tasks.counts.deadlines_missed += 1;
        }
        let held = self.displace(slot);
        self.nodes.give_back(entry.node, &held, &mut self.whole); // Q1
        self.raised(entry.node);
        self.settle_account(slot);
        self.vacate(slot);
        self.forget(slot);
        self.reconsider(tenant);
        Ok(held)
    }

    /// Takes the task off its node's lists and its tenant's use; what it held there is to be given back.
    pub(crate) fn displace(&mut self, slot: Slot) -> ResourceVector {
        let (need, tenant) = (*self.need(slot), self.tenant(slot));
        let held = match self.tasks[slot].stage {
            Stage::Running | Stage::Suspending => {
                self.withdraw(slot);
                self.stop(slot);
                need
            }
            stage => {
                if stage == Stage::Suspended {
                    let node = self.tasks[slot].node;
                    self.nodes[node].suspended.remove(slot, &mut self.tasks.places);
                }
                self.unlink(slot);
                kept(&need)
            }
        };
        sub(&mut self.tenants[tenant].used, &need); // F2
        held
    }

    /// The agent of a task that is over may do another.
    pub(crate) fn vacate(&mut self, slot: Slot) {
        let agent = self.tasks[slot].agent;
        if agent != NONE {
            assert!(self.agents[agent].running == slot, "Q3");
            self.agents[agent].running = NONE;
            self.promote(agent);
        }
    }

    /// Something was given back on the node.
    pub(crate) fn raised(&mut self, node: Slot) {
        self.settled = false;
        let entry = &mut self.nodes[node];
        if !entry.listed && !entry.suspended.is_empty() {
            entry.listed = true;
            self.resumable.push(node);
        }
    }

    /// Forgets a waiting task.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::Running`]; nothing changed.
    ///
    /// Cost: O(log n).
    pub fn cancel(&mut self, task: TaskId) -> Result<(), TaskError> {
        let slot = self.slot(task)?;
        let (entry, tenant) = (self.tasks[slot], self.tenant(slot));
        match entry.stage {
            Stage::Parked => {
                self.agents[entry.agent].parked.remove(slot, &mut self.tasks.places);
            }
            Stage::Ready => {
                self.unlist(slot);
                if entry.agent != NONE {
                    self.agents[entry.agent].candidate = NONE;
                    self.promote(entry.agent);
                }
            }
            Stage::Claiming => {
                self.drop_claim(slot);
                self.vacate(slot);
            }
            Stage::Stranded => self.vacate(slot),
            _ => return Err(TaskError::Running { task }),
        }
        self.tenants[tenant].waiting -= 1;
        if entry.tier == Tier::Realtime {
            self.admission.leave(&self.demand(slot));
        }
        self.forget(slot);
        self.reconsider(tenant);
        Ok(())
    }

    /// Forgets every waiting task of an agent, in the order in which they would have run. One that was handed out is
    /// not among them: it must be stopped, and completed.
    pub fn cancel_agent(&mut self, agent: AgentId) -> Vec<TaskId> {
        let Some(agent) = self.agents.find(agent) else { return Vec::new() };
        let tasks = &self.agents[agent];
        let mut slots: Vec<Slot> = tasks.parked.iter().map(Item::slot).collect();
        let others = [tasks.candidate, tasks.running].into_iter().filter(|slot| *slot != NONE);
        slots.extend(others.filter(|slot| self.tasks[*slot].stage.waits()));
        slots.sort_unstable_by_key(|slot| self.tasks[*slot].rank);
        let ids: Vec<TaskId> = slots.into_iter().map(|slot| self.tasks[slot].id).collect();
        // The last first, so that none is made candidate in vain.
        for id in ids.iter().rev() {
            assert!(self.cancel(*id).is_ok(), "A1: the agent's waiting tasks wait");
        }
        ids
    }

    pub(crate) fn slot(&self, task: TaskId) -> Result<Slot, TaskError> {
        self.tasks.find(task).ok_or(TaskError::Unknown { task })
    }

    /// Forgets a task that was taken out of every queue and list.
    pub(crate) fn forget(&mut self, slot: Slot) {
        if self.tasks[slot].related {
            self.part(slot);
        }
        if self.head.is_some_and(|head| head.slot == slot) {
            self.set_head(None);
        }
        let class = self.tasks[slot].class;
        self.tasks.enter(slot, Stage::Nowhere);
        self.classes.leave(class);
        self.tasks.remove(slot);
    }
}
