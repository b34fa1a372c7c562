//! What is asked of the plain scheduler: quotas, beginnings and ends, submission, standing still, nodes and tenants.
//!
//! Why beside `plain`: that page says what is decided, this one what each request changes and when it is refused.

use symbi_scheduler::{Decision, Node, NodeId, PASSED_MAX, Share, Task, TaskId, TenantId, Tier};
use symbi_types::{AgentId, ResourceVector};

use crate::plain::{Kind, Machine, Place, Plain, Rank, TIME_MAX, Tenant, Work, given_back, parts};

const WHOLE: u128 = 1 << 16;
const SECOND_NS: u64 = 1_000_000_000;

impl Plain {
    // --- quotas ---

    pub fn quota_allows(&self, kind: &Kind, rank: Rank) -> bool {
        let tenant = self.tenant_of(kind.tenant);
        let Some(quota) = tenant.share.quota else { return true };
        let used = self.used(kind.tenant).checked_add(&kind.need).expect("far below the range");
        let older = self.oldest_aside(tenant).filter(|older| *older < rank);
        let held = older.is_some_and(|older| tenant.passed.0 == older.2 && PASSED_MAX <= tenant.passed.1);
        !held && quota.fits(&used)
    }

    pub fn oldest_aside(&self, tenant: &Tenant) -> Option<Rank> {
        let firsts = self.firsts();
        firsts.into_iter().filter(|(_, kind, _)| tenant.aside.contains(kind)).map(|(rank, ..)| rank).min()
    }

    pub fn count_quota_pass(&mut self, kind: &Kind, rank: Rank) {
        let at = self.tenant(kind.tenant);
        if let Some(older) = self.oldest_aside(&self.tenants[at]).filter(|older| *older < rank) {
            let passed = &mut self.tenants[at].passed;
            if passed.0 != older.2 {
                *passed = (older.2, 0);
            }
            passed.1 += 1;
        }
    }

    /// Something of the tenant is over, or its quota changed.
    pub fn reconsider(&mut self, tenant: TenantId) {
        self.relist();
        let at = self.tenant(tenant);
        let aside: Vec<_> =
            self.firsts().into_iter().filter(|(_, kind, _)| self.tenants[at].aside.contains(kind)).collect();
        for (rank, kind, _) in aside {
            if self.quota_allows(&kind, rank) {
                self.tenants[at].aside.retain(|other| *other != kind);
            }
        }
        self.relist();
    }

    // --- beginnings and ends ---

    pub fn start(&mut self, task: TaskId, kind: Kind, slot: usize) -> Decision {
        let at = self.at(task).expect("it waits");
        let work = &mut self.tasks[at];
        (work.place, work.node, work.since_ns, work.passed, work.began) =
            (Place::Running, slot, self.now_ns, 0, Some(kind));
        self.relist();
        if self.tasks[at].task.tier == Tier::Batch {
            self.charge(at, kind);
            self.since_batch = 0;
        } else if self.any_active() {
            self.since_batch += 1;
        }
        if self.head.is_some_and(|(head, _)| head == task) {
            self.reserve(None);
        }
        Decision::Start { task, node: self.machine(slot).node.id }
    }

    pub fn charge(&mut self, at: usize, kind: Kind) {
        let (need, all) = (parts(&kind.need), parts(&self.capacity()));
        let counted = (0..6).filter(|at| 0 < all[*at]);
        let share = counted.map(|at| u128::from(need[at]) * WHOLE / u128::from(all[at])).max().unwrap_or(0);
        let share = share.clamp(1, WHOLE) as u64;
        self.shares.retain(|(other, _)| *other != kind);
        self.shares.push((kind, share));
        let duration_ns = self.tasks[at].task.duration_ns.unwrap_or(SECOND_NS);
        let charged = (share * (duration_ns / 1_000)).max(1);
        self.tasks[at].charged = charged;
        let tenant = self.tenant(kind.tenant);
        let tenant = &mut self.tenants[tenant];
        self.present = self.present.max(tenant.clock);
        self.served += 1;
        tenant.clock += charged / u64::from(tenant.share.weight);
    }

    /// What it was charged for by estimate is put right by what it ran.
    pub fn settle(&mut self, at: usize) {
        let work = &self.tasks[at];
        let Some(kind) = work.began.filter(|_| work.task.tier == Tier::Batch) else { return };
        let share = self.shares.iter().find(|(other, _)| *other == kind).expect("it was charged").1;
        let (ran, charged) = ((share * (work.ran_ns / 1_000)).max(1), work.charged);
        let tenant = self.tenant(kind.tenant);
        let tenant = &mut self.tenants[tenant];
        let weight = u64::from(tenant.share.weight);
        tenant.clock = (tenant.clock + ran / weight).saturating_sub(charged / weight);
    }

    pub fn stop(&mut self, at: usize) {
        let work = &mut self.tasks[at];
        if work.place == Place::Running {
            work.ran_ns += self.now_ns - work.since_ns;
            work.since_ns = self.now_ns;
        }
    }

    pub fn complete(&mut self, id: TaskId) -> Result<(), &'static str> {
        let at = self.at(id).ok_or("scheduler.unknown_task")?;
        if !Self::placed(&self.tasks[at]) {
            return Err("scheduler.not_running");
        }
        let late = self.tasks[at].deadline_ns < self.now_ns;
        self.missed += u64::from(late && self.tasks[at].task.tier == Tier::Realtime);
        self.stop(at);
        self.given.push(self.tasks[at].node);
        self.settle(at);
        self.forget(at);
        Ok(())
    }

    pub fn cancel(&mut self, id: TaskId) -> Result<(), &'static str> {
        let at = self.at(id).ok_or("scheduler.unknown_task")?;
        if Self::placed(&self.tasks[at]) {
            return Err("scheduler.running");
        }
        self.forget(at);
        Ok(())
    }

    pub fn forget(&mut self, at: usize) {
        let Task { id, tenant, .. } = self.tasks.remove(at).task;
        self.tasks.iter_mut().for_each(|work| work.givers.retain(|giver| *giver != id));
        if self.head.is_some_and(|(head, _)| head == id) {
            self.reserve(None);
        }
        self.reconsider(tenant);
    }

    pub fn cancel_agent(&mut self, agent: AgentId) -> Vec<TaskId> {
        let mine = |work: &&Work| work.task.agent == Some(agent) && !Self::placed(work);
        let mut gone: Vec<_> =
            self.tasks.iter().filter(mine).map(|work| (self.rank(work), work.task.id)).collect();
        gone.sort();
        gone.iter().rev().for_each(|(_, id)| self.cancel(*id).expect("it waits"));
        gone.into_iter().map(|(_, id)| id).collect()
    }

    // --- submission ---

    pub fn submit(&mut self, task: Task) -> Result<(), &'static str> {
        let guarded = self.guards(task.tier, task.priority);
        let fits = (0..self.machines.len()).any(|slot| self.could_hold(slot, &task.need, guarded));
        let refused = if !fits && task.need != ResourceVector::default() {
            Some("scheduler.never_fits")
        } else if self.at(task.id).is_some() {
            Some("scheduler.duplicate")
        } else if self.options.tasks_max <= self.tasks.len() {
            Some("scheduler.full")
        } else {
            self.tenant_refuses(&task).or_else(|| self.deadline_refuses(&task))
        };
        if let Some(code) = refused {
            return Err(code);
        }
        self.tenant(task.tenant);
        self.tasks.push(Work {
            task,
            place: Place::Waiting,
            arrival: self.arrivals,
            arrived_ns: self.now_ns,
            deadline_ns: task.deadline_ns.unwrap_or(u64::MAX),
            since_ns: 0,
            ran_ns: 0,
            node: usize::MAX,
            passed: 0,
            charged: 0,
            began: None,
            givers: Vec::new(),
        });
        self.arrivals += 1;
        self.relist();
        Ok(())
    }

    pub fn tenant_refuses(&self, task: &Task) -> Option<&'static str> {
        let tenant = self.tenants.iter().find(|tenant| tenant.id == task.tenant)?;
        let mine = |work: &&Work| work.task.tenant == task.tenant && !Self::placed(work);
        if tenant.share.quota.is_some_and(|quota| !quota.fits(&task.need)) {
            return Some("scheduler.over_quota");
        }
        let waiting = self.tasks.iter().filter(mine).count();
        tenant.share.waiting_max.filter(|most| *most <= waiting).map(|_| "scheduler.tenant_full")
    }

    /// By each promised deadline from its own on, what is due then must be no more than what is done by then.
    pub fn deadline_refuses(&self, task: &Task) -> Option<&'static str> {
        if task.tier != Tier::Realtime {
            return None;
        }
        let (Some(deadline_ns), Some(duration_ns)) = (task.deadline_ns, task.duration_ns) else {
            return Some("scheduler.incomplete");
        };
        let work = |need: &ResourceVector, ns: u64| i128::from(need.cpu_millicores) * i128::from(ns);
        let realtime = || self.tasks.iter().filter(|work| work.task.tier == Tier::Realtime);
        let promised: Vec<(u64, i128)> = realtime()
            .filter(|work| !Self::placed(work))
            .map(|one| (one.deadline_ns, work(&one.task.need, one.task.duration_ns.unwrap_or(0))))
            .collect();
        let runs: i128 = realtime()
            .filter(|work| work.place == Place::Running)
            .map(|one| {
                let left_ns = one.task.duration_ns.unwrap_or(0).saturating_sub(one.ran_ns);
                let end_ns = one.since_ns.saturating_add(left_ns);
                work(&one.task.need, end_ns.saturating_sub(self.now_ns))
            })
            .sum();
        let own = work(&task.need, duration_ns);
        let rate = i128::from(self.capacity().cpu_millicores) * i128::from(self.options.realtime_percent);
        let kept = |by_ns: u64| {
            let due: i128 =
                promised.iter().filter(|(deadline, _)| *deadline <= by_ns).map(|(_, work)| work).sum();
            (due + own + runs) * 100 <= rate * (i128::from(by_ns) - i128::from(self.now_ns))
        };
        let later =
            promised.iter().map(|(deadline, _)| *deadline).filter(|deadline| deadline_ns <= *deadline);
        let in_time = self.now_ns.saturating_add(duration_ns) <= deadline_ns;
        let fine = in_time && (own == 0 || (0 < rate && kept(deadline_ns) && later.into_iter().all(kept)));
        (!fine).then_some("scheduler.deadline")
    }

    // --- standing still ---

    /// Its place among those that wait to go on: a batch task's is that of an interactive one of priority 0 that came
    /// when it stood still.
    pub fn return_rank(&self, work: &Work) -> Rank {
        match self.rank(work) {
            (Tier::Batch, _, arrival) => {
                let ageing_ns = u64::from(self.options.ageing_ms) * 1_000_000;
                (Tier::Interactive, (work.since_ns + 255 * ageing_ns).min(TIME_MAX), arrival)
            }
            other => other,
        }
    }

    pub fn first_standing(&self, slot: usize) -> Option<(Rank, TaskId)> {
        let there = self.tasks.iter().filter(|work| work.place == Place::Standing && work.node == slot);
        there.map(|work| (self.return_rank(work), work.task.id)).min()
    }

    pub fn first_resumable(&self) -> Option<(Rank, TaskId)> {
        let slots = (0..self.machines.len()).filter(|slot| self.machines[*slot].is_some());
        let fits = |slot: usize| {
            let first = self.first_standing(slot)?;
            let waits = &self.tasks[self.at(first.1).expect("it stands")];
            self.free(slot).fits(&given_back(&waits.task.need)).then_some(first)
        };
        slots.filter_map(fits).min()
    }

    pub fn resume(&mut self, id: TaskId) -> Decision {
        let at = self.at(id).expect("it stands");
        let work = &mut self.tasks[at];
        work.deadline_ns = work.deadline_ns.saturating_add(self.now_ns - work.since_ns);
        (work.place, work.since_ns) = (Place::Running, self.now_ns);
        let slot = work.node;
        Decision::Resume { task: id, node: self.machine(slot).node.id }
    }

    pub fn hold(&mut self, id: TaskId) -> Result<(), &'static str> {
        let at = self.at(id).ok_or("scheduler.unknown_task")?;
        match self.tasks[at].place {
            Place::Waiting | Place::Stranded => return Err("scheduler.not_running"),
            Place::Held => return Ok(()),
            Place::Running => {
                self.stop(at);
                self.given.push(self.tasks[at].node);
            }
            Place::Standing => {}
        }
        self.tasks[at].place = Place::Held;
        Ok(())
    }

    pub fn release(&mut self, id: TaskId) -> Result<(), &'static str> {
        let at = self.at(id).ok_or("scheduler.unknown_task")?;
        self.tasks[at].place = match self.tasks[at].place {
            Place::Held => Place::Standing,
            Place::Stranded => Place::Waiting,
            _ => return Err("scheduler.not_held"),
        };
        self.relist();
        Ok(())
    }

    pub fn inherit(&mut self, task: TaskId, from: TaskId) -> Result<(), &'static str> {
        let heir = self.at(task).ok_or("scheduler.unknown_task")?;
        let giver = self.at(from).ok_or("scheduler.unknown_task")?;
        let circle = self.sources(&self.tasks[giver]).iter().any(|source| source.task.id == task);
        if !circle && !self.tasks[heir].givers.contains(&from) {
            self.tasks[heir].givers.push(from);
        }
        self.relist();
        Ok(())
    }

    pub fn disinherit(&mut self, task: TaskId, from: TaskId) -> Result<(), &'static str> {
        let heir = self.at(task).ok_or("scheduler.unknown_task")?;
        self.at(from).ok_or("scheduler.unknown_task")?;
        self.tasks[heir].givers.retain(|giver| *giver != from);
        self.relist();
        Ok(())
    }

    // --- nodes and tenants ---

    pub fn moved(&mut self, id: TaskId, node: NodeId) -> Result<(), &'static str> {
        let at = self.at(id).ok_or("scheduler.unknown_task")?;
        let kind = self.tasks[at].began.filter(|_| self.tasks[at].place == Place::Running);
        let kind = kind.ok_or("scheduler.not_running")?;
        let to = self.slot(node).ok_or("scheduler.unknown_node")?;
        if to == self.tasks[at].node {
            return Ok(());
        }
        if !self.has_room(to, &kind) {
            return Err("scheduler.no_room");
        }
        self.stop(at);
        self.given.push(self.tasks[at].node);
        self.tasks[at].node = to;
        Ok(())
    }

    pub fn add_node(&mut self, node: Node) -> Result<(), &'static str> {
        let machine = Some(Machine { node, open: true });
        let slot = match self.slot(node.id) {
            Some(slot) => {
                let empty = !self.tasks.iter().any(|work| Self::placed(work) && work.node == slot);
                if self.machine(slot).open || !empty {
                    return Err("scheduler.duplicate_node");
                }
                self.machines[slot] = machine;
                slot
            }
            None => match self.lost.pop() {
                Some(slot) => {
                    self.machines[slot] = machine;
                    slot
                }
                None => {
                    self.machines.push(machine);
                    self.machines.len() - 1
                }
            },
        };
        self.given.push(slot);
        Ok(())
    }

    pub fn drain_node(&mut self, node: NodeId) -> Result<(), &'static str> {
        let slot = self.slot(node).ok_or("scheduler.unknown_node")?;
        self.machines[slot].as_mut().expect("it is there").open = false;
        Ok(())
    }

    pub fn lose_node(&mut self, node: NodeId) -> Result<Vec<TaskId>, &'static str> {
        let slot = self.slot(node).ok_or("scheduler.unknown_node")?;
        let there = |work: &Work| Self::placed(work) && work.node == slot;
        let gone: Vec<usize> = (0..self.tasks.len()).filter(|at| there(&self.tasks[*at])).collect();
        for at in &gone {
            self.stop(*at);
            self.settle(*at);
            self.given.push(slot);
            let work = &mut self.tasks[*at];
            let held = work.place == Place::Held;
            (work.place, work.ran_ns) = (if held { Place::Stranded } else { Place::Waiting }, 0);
        }
        self.machines[slot] = None;
        self.lost.push(slot);
        self.relist();
        for at in &gone {
            self.reconsider(self.tasks[*at].task.tenant);
        }
        let mut told: Vec<_> =
            gone.iter().map(|at| (self.rank(&self.tasks[*at]), self.tasks[*at].task.id)).collect();
        told.sort();
        Ok(told.into_iter().map(|(_, id)| id).collect())
    }

    pub fn set_tenant(&mut self, id: TenantId, share: Share) {
        let at = self.tenant(id);
        self.tenants[at].share = share;
        self.reconsider(id);
    }
}
