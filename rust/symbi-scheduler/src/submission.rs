//! A task comes: it is refused with what to do, or waits from now on.
//!
//! Not here: where it waits (`queues`), what a refusal says (`error`).

use symbi_types::ResourceVector;

use crate::admission::Demand;
use crate::classes::Kind;
use crate::column::{NONE, Slot};
use crate::error::TaskError;
use crate::rank::{Rank, SEQ_BITS, ageing_key, deadline_key};
use crate::scheduler::Scheduler;
use crate::task::{Task, Tier};
use crate::why::{Lack, lacks};

impl Scheduler {
    /// Whether [`Scheduler::submit`] would accept the task now.
    ///
    /// # Errors
    /// Those of [`Scheduler::submit`].
    pub fn check(&self, task: &Task) -> Result<(), TaskError> {
        let tenant = self.tenants.find(task.tenant);
        let class = tenant.and_then(|tenant| self.classes.find(&self.kind(task, tenant)));
        self.refuse(task, tenant, class)
    }

    fn kind(&self, task: &Task, tenant: Slot) -> Kind {
        let guarded = self.is_guarded(task.tier, task.priority);
        Kind { need: task.need, tenant, tier: task.tier, guarded }
    }

    fn refuse(&self, task: &Task, tenant: Option<Slot>, class: Option<Slot>) -> Result<(), TaskError> {
        if class.is_none_or(|class| self.classes[class].possible != self.nodes.shape) {
            self.check_fits(task, self.is_guarded(task.tier, task.priority))?; // Q4
        }
        if self.tasks.find(task.id).is_some() {
            return Err(TaskError::Duplicate { task: task.id });
        }
        if self.options.tasks_max <= self.tasks.len() {
            return Err(TaskError::Full { limit: self.options.tasks_max });
        }
        match tenant {
            None if self.tenants.is_full() => {
                return Err(TaskError::Tenants { limit: crate::tenants::TENANTS_MAX });
            }
            None => {}
            Some(slot) => self.check_tenant(task, slot)?,
        }
        if task.tier == Tier::Realtime { self.check_deadline(task) } else { Ok(()) }
    }

    fn check_fits(&self, task: &Task, guarded: bool) -> Result<(), TaskError> {
        if self.nodes.slots().any(|node| self.nodes.could_hold(node, &task.need, guarded)) {
            return Ok(());
        }
        let (lacking, node) = self.nearest(&task.need, guarded, true);
        let largest = node.map(|node| self.nodes.whole(node, guarded)).unwrap_or_default();
        match lacking.first() {
            Some(lack) => Err(TaskError::NeverFits { task: task.id, lack: *lack, largest }),
            None => Ok(()), // it needs nothing, and waits for the first node
        }
    }

    fn check_tenant(&self, task: &Task, slot: Slot) -> Result<(), TaskError> {
        let tenant = &self.tenants[slot];
        let over = tenant.share.quota.and_then(|quota| lacks(&task.need, &quota).next());
        if let Some(lack) = over {
            return Err(TaskError::OverQuota { task: task.id, tenant: task.tenant, lack });
        }
        match tenant.share.waiting_max.filter(|limit| *limit <= tenant.waiting) {
            Some(limit) => Err(TaskError::TenantFull { tenant: task.tenant, limit }),
            None => Ok(()),
        }
    }

    fn check_deadline(&self, task: &Task) -> Result<(), TaskError> {
        let missing = |missing| TaskError::Incomplete { task: task.id, missing };
        let demand = Demand {
            deadline_ns: task.deadline_ns.ok_or(missing("deadline_ns"))?,
            duration_ns: task.duration_ns.ok_or(missing("duration_ns"))?,
            cpu_millicores: task.need.cpu_millicores,
            seq: self.seq,
        };
        let late = |earliest_ns| TaskError::Deadline { task: task.id, earliest_ns };
        self.admission.test(&demand, self.now_ns).map_err(late)
    }

    /// Lets a task wait for its turn.
    ///
    /// # Errors
    /// [`TaskError`] says which of them: it could never start, the name is in use, there are too many tasks, its
    /// deadline cannot be promised, its tenant's limits. Nothing changed (Q2).
    ///
    /// Cost: O(log n).
    pub fn submit(&mut self, task: Task) -> Result<(), TaskError> {
        let known = self.tenants.find(task.tenant);
        let class = known.and_then(|tenant| self.classes.find(&self.kind(&task, tenant)));
        self.refuse(&task, known, class)?;
        let limit = crate::tenants::TENANTS_MAX;
        let tenant = self.tenants.enter(task.tenant).map_err(|_| TaskError::Tenants { limit })?;
        let class = match class {
            Some(class) => {
                self.classes.join(class);
                class
            }
            None => self.classes.enter(self.kind(&task, tenant)),
        };
        self.classes[class].possible = self.nodes.shape;
        let agent = task.agent.map_or(NONE, |agent| self.agents.enter(agent));
        let key = match (task.tier, task.deadline_ns) {
            (Tier::Realtime, Some(deadline_ns)) => deadline_key(deadline_ns),
            _ => ageing_key(task.tier, self.now_ns, task.priority, self.ageing_ns),
        };
        let rank = Rank { key, seq: self.seq };
        self.seq = (self.seq + 1) % (1 << SEQ_BITS);
        let slot = self.tasks.insert(&task, rank, class, agent);
        self.tenants[tenant].waiting += 1;
        if task.tier == Tier::Realtime {
            self.admission.wait(&self.demand(slot));
        }
        self.enqueue(slot);
        Ok(())
    }

    /// What a node lacks for this need, on the node that comes nearest: of what is free, or of what it has in all.
    pub(crate) fn nearest(
        &self,
        need: &ResourceVector,
        guarded: bool,
        whole: bool,
    ) -> (Vec<Lack>, Option<Slot>) {
        let usable = |node: Slot| match whole {
            true => self.nodes.whole(node, guarded),
            false => self.nodes.usable(node, guarded),
        };
        let open = self.nodes.slots().filter(|node| self.nodes.rooms[*node].open);
        let enough = open.filter(|node| whole || self.nodes.could_hold(*node, need, guarded));
        let nearest = enough.min_by_key(|node| {
            (crate::placement::distance(need, &usable(*node), &self.nodes[*node].capacity), *node)
        });
        match nearest {
            Some(node) => (lacks(need, &usable(node)).collect(), Some(node)),
            None if whole => (lacks(need, &ResourceVector::default()).collect(), None),
            None => (self.nearest(need, guarded, true).0, None),
        }
    }
}
