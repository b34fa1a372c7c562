//! The written rule with nothing but lists: everything is summed, sorted and searched anew for each answer.
//!
//! Why: hints, classes, windows, heaps and clocks kept in order make the scheduler quick, and each could make it wrong.
//! Here there are none, so that this page can be read beside docs/scheduling.md and the head of `scheduler.rs`.
//! Not here: suspending for others (`preemption` is off; the simulation judges it), bounds on how many classes, nodes and
//! tenants are looked at (plans stay below them).

use std::cmp::Reverse;

use symbi_scheduler::{
    Decision, Node, NodeId, Options, PASSED_MAX, Priority, Share, Strategy, Task, TaskId, TenantId, Tier,
};
use symbi_types::{AgentId, ResourceVector};

const TIME_MAX: u64 = (1 << 62) - 1;
const RECENT: usize = 8;
const WHOLE: u128 = 1 << 16;
const SECOND_NS: u64 = 1_000_000_000;

/// Place in order: tier, time, arrival.
type Rank = (Tier, u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Waiting,
    /// It was held on a node that was lost, and is not released yet.
    Stranded,
    Running,
    /// It was released, and goes on when there is room.
    Standing,
    Held,
}

/// What makes tasks alike: of those only the first is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind {
    need: ResourceVector,
    tenant: TenantId,
    tier: Tier,
    guarded: bool,
}

#[derive(Clone, Debug)]
pub struct Work {
    pub task: Task,
    pub place: Place,
    arrival: u64,
    arrived_ns: u64,
    deadline_ns: u64,
    since_ns: u64,
    ran_ns: u64,
    node: usize,
    passed: u8,
    charged: u64,
    /// What it was like when it began.
    began: Option<Kind>,
    /// From whom it inherits, directly.
    givers: Vec<TaskId>,
}

#[derive(Clone, Debug)]
struct Machine {
    node: Node,
    open: bool,
}

#[derive(Clone, Debug)]
struct Tenant {
    id: TenantId,
    share: Share,
    clock: u64,
    active: bool,
    /// How often somebody had been served when it last had no batch work.
    left: u64,
    /// Its kinds that its quota did not allow when they were looked at, until something of it is over.
    aside: Vec<Kind>,
    passed: (u64, u8),
}

/// The answer, and whether only estimates of durations allowed it.
pub type Answer = (Decision, bool);

#[derive(Clone, Debug)]
pub struct Plain {
    options: Options,
    now_ns: u64,
    arrivals: u64,
    pub tasks: Vec<Work>,
    machines: Vec<Option<Machine>>,
    tenants: Vec<Tenant>,
    shares: Vec<(Kind, u64)>,
    present: u64,
    served: u64,
    head: Option<(TaskId, usize)>,
    /// Where something was given back, in order.
    given: Vec<usize>,
    lost: Vec<usize>,
    since_batch: u32,
    pub missed: u64,
}

fn parts(of: &ResourceVector) -> [u64; 6] {
    of.to_array()
}

fn sum(of: impl Iterator<Item = ResourceVector>) -> ResourceVector {
    of.fold(ResourceVector::default(), |sum, one| sum.checked_add(&one).expect("far below the range"))
}

/// Processor, disk and network: what a task that stands still does not use.
fn given_back(need: &ResourceVector) -> ResourceVector {
    let [_, cpu, disk, network, _, _] = parts(need);
    ResourceVector::from_array([0, cpu, disk, network, 0, 0])
}

/// Whether taking `need` from `free` leaves one that waits for `wanted` no worse off.
fn spares(free: &ResourceVector, wanted: &ResourceVector, need: &ResourceVector) -> bool {
    (0..6).all(|at| {
        let (free, wanted, need) = (parts(free)[at], parts(wanted)[at], parts(need)[at]);
        need == 0 || wanted == 0 || wanted + need <= free
    })
}

impl Plain {
    pub fn new(nodes: &[Node], options: Options) -> Self {
        let machines: Vec<_> = nodes.iter().map(|node| Some(Machine { node: *node, open: true })).collect();
        let mut made = Self {
            options,
            now_ns: 0,
            arrivals: 0,
            tasks: Vec::new(),
            given: (0..machines.len()).collect(),
            machines,
            tenants: Vec::new(),
            shares: Vec::new(),
            present: 0,
            served: 0,
            head: None,
            lost: Vec::new(),
            since_batch: 0,
            missed: 0,
        };
        made.tenant(TenantId::DEFAULT);
        made
    }

    pub fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    // --- what is known ---

    pub fn at(&self, id: TaskId) -> Option<usize> {
        self.tasks.iter().position(|work| work.task.id == id)
    }

    fn tenant(&mut self, id: TenantId) -> usize {
        let known = self.tenants.iter().position(|tenant| tenant.id == id);
        known.unwrap_or_else(|| {
            let (share, aside) = (Share::default(), Vec::new());
            self.tenants.push(Tenant { id, share, clock: 0, active: false, left: 0, aside, passed: (0, 0) });
            self.tenants.len() - 1
        })
    }

    fn tenant_of(&self, id: TenantId) -> &Tenant {
        self.tenants.iter().find(|tenant| tenant.id == id).expect("whoever has tasks is known")
    }

    pub fn slot(&self, node: NodeId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.as_ref().is_some_and(|of| of.node.id == node))
    }

    fn machine(&self, slot: usize) -> &Machine {
        self.machines[slot].as_ref().expect("nothing is on a lost node")
    }

    fn holds(work: &Work) -> ResourceVector {
        match work.place {
            Place::Running => work.task.need,
            Place::Standing | Place::Held => {
                work.task.need.checked_sub(&given_back(&work.task.need)).expect("a part of it")
            }
            Place::Waiting | Place::Stranded => ResourceVector::default(),
        }
    }

    fn placed(work: &Work) -> bool {
        !matches!(work.place, Place::Waiting | Place::Stranded)
    }

    pub fn free(&self, slot: usize) -> ResourceVector {
        let there = self.tasks.iter().filter(|work| Self::placed(work) && work.node == slot);
        self.machine(slot).node.capacity.checked_sub(&sum(there.map(Self::holds))).expect("N1")
    }

    pub fn used(&self, tenant: TenantId) -> ResourceVector {
        let mine = self.tasks.iter().filter(|work| Self::placed(work) && work.task.tenant == tenant);
        sum(mine.map(|work| work.task.need))
    }

    fn capacity(&self) -> ResourceVector {
        sum(self.machines.iter().flatten().map(|machine| machine.node.capacity))
    }

    // --- order ---

    fn own_rank(&self, work: &Work) -> Rank {
        let ageing_ns = u64::from(self.options.ageing_ms) * 1_000_000;
        let time_ns = match work.task.tier {
            Tier::Realtime => work.deadline_ns,
            _ => work.arrived_ns + u64::from(255 - work.task.priority.0) * ageing_ns,
        };
        (work.task.tier, time_ns.min(TIME_MAX), work.arrival)
    }

    /// The task, and all it inherits from, directly or through others.
    fn sources<'a>(&'a self, work: &'a Work) -> Vec<&'a Work> {
        let (mut all, mut at) = (vec![work], 0);
        while let Some(next) = all.get(at).copied() {
            at += 1;
            for giver in self.tasks.iter().filter(|other| next.givers.contains(&other.task.id)) {
                if !all.iter().any(|known| known.task.id == giver.task.id) {
                    all.push(giver);
                }
            }
        }
        all
    }

    fn rank(&self, work: &Work) -> Rank {
        let first = self.sources(work).into_iter().map(|source| self.own_rank(source)).min().expect("itself");
        (first.0, first.1, work.arrival)
    }

    fn guards(&self, tier: Tier, priority: Priority) -> bool {
        let critical = tier == Tier::Realtime || self.options.critical_priority <= priority.0;
        self.options.strategy == Strategy::Priority && !critical
    }

    fn kind(&self, work: &Work) -> Kind {
        let urgency =
            |of: &Work| (Reverse(of.task.tier), (of.task.tier != Tier::Batch).then_some(of.task.priority));
        let mut most = work;
        for source in self.sources(work) {
            if urgency(most) < urgency(source) {
                most = source;
            }
        }
        let Task { tier, priority, tenant, need, .. } = work.task;
        let guarded = self.guards(tier, priority) && self.guards(most.task.tier, most.task.priority);
        Kind { need, tenant, tier: most.task.tier, guarded }
    }

    fn busy(&self, agent: AgentId) -> bool {
        self.tasks.iter().any(|work| work.task.agent == Some(agent) && work.place != Place::Waiting)
    }

    /// Tasks that may be looked at: the best of each agent that is not at work; of alike ones the first.
    fn firsts(&self) -> Vec<(Rank, Kind, TaskId)> {
        let waiting = || self.tasks.iter().filter(|work| work.place == Place::Waiting);
        let best = |work: &&Work| {
            let Some(agent) = work.task.agent else { return true };
            let mine = waiting().filter(|other| other.task.agent == Some(agent));
            !self.busy(agent) && mine.map(|other| self.rank(other)).min() == Some(self.rank(work))
        };
        let mut all: Vec<_> =
            waiting().filter(best).map(|work| (self.rank(work), self.kind(work), work.task.id)).collect();
        all.sort_by_key(|(rank, ..)| *rank);
        let mut firsts: Vec<(Rank, Kind, TaskId)> = Vec::new();
        for one in all {
            if !firsts.iter().any(|first| first.1 == one.1) {
                firsts.push(one);
            }
        }
        firsts
    }

    /// Tenants come and go in the order of batch: who comes back after others were served is not behind the present.
    fn relist(&mut self) {
        let firsts = self.firsts();
        for at in 0..self.tenants.len() {
            let tenant = &mut self.tenants[at];
            tenant.aside.retain(|kind| firsts.iter().any(|first| first.1 == *kind));
            let mine = |kind: &Kind| kind.tenant == tenant.id && kind.tier == Tier::Batch;
            let active = firsts.iter().any(|(_, kind, _)| mine(kind) && !tenant.aside.contains(kind));
            if active && !tenant.active && tenant.left != self.served {
                tenant.clock = tenant.clock.max(self.present);
            }
            if !active && tenant.active {
                tenant.left = self.served;
            }
            tenant.active = active;
        }
    }

    fn any_active(&self) -> bool {
        self.tenants.iter().any(|tenant| tenant.active)
    }

    // --- the next decision ---

    pub fn next(&mut self) -> Option<Answer> {
        self.relist();
        let due = self.options.batch_turn <= self.since_batch + 1 && self.any_active();
        let mut resume = self.first_resumable();
        let mut head = None;
        let tiers = match due {
            true => [Tier::Realtime, Tier::Batch, Tier::Interactive],
            false => [Tier::Realtime, Tier::Interactive, Tier::Batch],
        };
        let mut found = None;
        for tier in tiers {
            found = self.look_through(tier, &mut resume, &mut head);
            if found.is_some() {
                break;
            }
        }
        let head = head.or(self.head.filter(|_| found.is_some()));
        self.reserve(head);
        found.or_else(|| resume.map(|(_, task)| (self.resume(task), false)))
    }

    fn look_through(
        &mut self,
        tier: Tier,
        resume: &mut Option<(Rank, TaskId)>,
        head: &mut Option<(TaskId, usize)>,
    ) -> Option<Answer> {
        let clock = |kind: &Kind| match tier {
            Tier::Batch => {
                let at = self.tenants.iter().position(|tenant| tenant.id == kind.tenant).expect("known");
                (self.tenants[at].clock, at)
            }
            _ => (0, 0),
        };
        let aside = |kind: &Kind| self.tenant_of(kind.tenant).aside.contains(kind);
        let mut order: Vec<_> =
            self.firsts().into_iter().filter(|(_, kind, _)| kind.tier == tier && !aside(kind)).collect();
        order.sort_by_key(|(rank, kind, _)| (clock(kind), *rank));
        for (rank, kind, task) in order {
            if let Some((_, stands)) = resume.take_if(|(theirs, _)| *theirs < rank) {
                return Some((self.resume(stands), false));
            }
            if !self.quota_allows(&kind, rank) {
                let tenant = self.tenant(kind.tenant);
                self.tenants[tenant].aside.push(kind);
                self.relist();
                continue;
            }
            let rooms: Vec<usize> =
                (0..self.machines.len()).filter(|slot| self.has_room(*slot, &kind)).collect();
            let may = |slot: &&usize| self.may_start(**slot, task, rank, &kind, *head).is_some();
            let usable = rooms.iter().filter(may).copied();
            let chosen = match self.options.strategy {
                Strategy::BestFit => usable.min_by_key(|slot| (self.left_over(*slot, &kind.need), *slot)),
                Strategy::FirstFit | Strategy::Priority => usable.min(),
            };
            if let Some(slot) = chosen {
                let estimated = self.may_start(slot, task, rank, &kind, *head) == Some(true);
                if let Some((passed, _)) = head.filter(|(_, node)| *node == slot) {
                    let passed = self.at(passed).expect("it waits");
                    self.tasks[passed].passed += 1;
                }
                self.count_quota_pass(&kind, rank);
                return Some((self.start(task, kind, slot), estimated));
            }
            if rooms.is_empty() && head.is_none() {
                *head = self.nearest(task, &kind).map(|slot| (task, slot));
                if head.is_some() {
                    self.reserve(*head);
                }
            }
        }
        None
    }

    fn headroom(&self, slot: usize, guarded: bool) -> [u64; 6] {
        let percent = if guarded { u64::from(self.options.headroom_percent) } else { 0 };
        parts(&self.machine(slot).node.capacity).map(|have| have * percent / 100)
    }

    fn fits_beside(have: &ResourceVector, need: &ResourceVector, headroom: [u64; 6]) -> bool {
        (0..6).all(|at| parts(need)[at] == 0 || parts(need)[at] + headroom[at] <= parts(have)[at])
    }

    fn has_room(&self, slot: usize, kind: &Kind) -> bool {
        self.machines[slot].as_ref().is_some_and(|machine| machine.open)
            && Self::fits_beside(&self.free(slot), &kind.need, self.headroom(slot, kind.guarded))
    }

    fn could_hold(&self, slot: usize, need: &ResourceVector, guarded: bool) -> bool {
        let Some(machine) = self.machines[slot].as_ref().filter(|machine| machine.open) else { return false };
        Self::fits_beside(&machine.node.capacity, need, self.headroom(slot, guarded))
    }

    /// Whether nothing that stands before it waits there for what it takes; and whether only estimates allow it.
    fn may_start(
        &self,
        slot: usize,
        task: TaskId,
        rank: Rank,
        kind: &Kind,
        head: Option<(TaskId, usize)>,
    ) -> Option<bool> {
        let free = self.free(slot);
        let mut estimated = false;
        if let Some((head, _)) = head.filter(|(_, node)| *node == slot) {
            let waits = &self.tasks[self.at(head).expect("it waits")];
            estimated = !spares(&free, &waits.task.need, &kind.need);
            if PASSED_MAX <= waits.passed || estimated && !self.is_over_in_time(task, waits, slot) {
                return None;
            }
        }
        let still = self.first_standing(slot).filter(|(theirs, _)| *theirs < rank);
        let robs = still.is_some_and(|(_, first)| {
            let waits = &self.tasks[self.at(first).expect("it stands")];
            !spares(&free, &given_back(&waits.task.need), &kind.need)
        });
        (!robs).then_some(estimated)
    }

    fn is_over_in_time(&self, task: TaskId, head: &Work, slot: usize) -> bool {
        let Some(duration_ns) = self.tasks[self.at(task).expect("it waits")].task.duration_ns else {
            return false;
        };
        let runs = self.tasks.iter().filter(|work| work.place == Place::Running && work.node == slot);
        let end = |work: &Work| {
            Some((
                work.since_ns.saturating_add(work.task.duration_ns?.saturating_sub(work.ran_ns)),
                work.task.need,
            ))
        };
        let mut ends: Vec<_> = runs.filter_map(end).filter(|(end_ns, _)| self.now_ns < *end_ns).collect();
        ends.sort_by_key(|(end_ns, _)| *end_ns);
        let mut free = self.free(slot);
        let start = ends.into_iter().find(|(_, need)| {
            free = free.checked_add(need).expect("far below the range");
            free.fits(&head.task.need)
        });
        start.is_some_and(|(start_ns, _)| self.now_ns.saturating_add(duration_ns) <= start_ns)
    }

    fn left_over(&self, slot: usize, need: &ResourceVector) -> u64 {
        let (free, all) = (parts(&self.free(slot)), parts(&self.machine(slot).node.capacity));
        (0..6).filter(|at| 0 < all[*at]).map(|at| ((free[at] - parts(need)[at]) << 16) / all[at]).sum()
    }

    /// The node to reserve: the one reserved for it already; of those where something was given back last the one that
    /// comes nearest; of all the one that comes nearest.
    fn nearest(&self, task: TaskId, kind: &Kind) -> Option<usize> {
        let large = |slot: &usize| self.could_hold(*slot, &kind.need, kind.guarded);
        let still = self.head.filter(|(head, _)| *head == task).map(|(_, slot)| slot).filter(large);
        let lack = |slot: &usize| {
            let (free, all) = (parts(&self.free(*slot)), parts(&self.machine(*slot).node.capacity));
            let need = parts(&kind.need);
            let lacking = (0..6).filter(|at| free[*at] < need[*at]);
            let far = lacking
                .map(|at| if all[at] == 0 { 1 << 32 } else { ((need[at] - free[at]) << 16) / all[at] });
            (far.sum::<u64>(), *slot)
        };
        let recent = self.given.iter().rev().take(RECENT).copied().filter(large);
        still
            .or_else(|| recent.min_by_key(lack))
            .or_else(|| (0..self.machines.len()).filter(large).min_by_key(lack))
    }

    fn reserve(&mut self, head: Option<(TaskId, usize)>) {
        let former = std::mem::replace(&mut self.head, head).map(|(_, slot)| slot);
        self.given.extend(former.filter(|former| head.map(|(_, slot)| slot) != Some(*former)));
    }

    // --- quotas ---

    fn quota_allows(&self, kind: &Kind, rank: Rank) -> bool {
        let tenant = self.tenant_of(kind.tenant);
        let Some(quota) = tenant.share.quota else { return true };
        let used = self.used(kind.tenant).checked_add(&kind.need).expect("far below the range");
        let older = self.oldest_aside(tenant).filter(|older| *older < rank);
        let held = older.is_some_and(|older| tenant.passed.0 == older.2 && PASSED_MAX <= tenant.passed.1);
        !held && quota.fits(&used)
    }

    fn oldest_aside(&self, tenant: &Tenant) -> Option<Rank> {
        let firsts = self.firsts();
        firsts.into_iter().filter(|(_, kind, _)| tenant.aside.contains(kind)).map(|(rank, ..)| rank).min()
    }

    fn count_quota_pass(&mut self, kind: &Kind, rank: Rank) {
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
    fn reconsider(&mut self, tenant: TenantId) {
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

    fn start(&mut self, task: TaskId, kind: Kind, slot: usize) -> Decision {
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

    fn charge(&mut self, at: usize, kind: Kind) {
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
    fn settle(&mut self, at: usize) {
        let work = &self.tasks[at];
        let Some(kind) = work.began.filter(|_| work.task.tier == Tier::Batch) else { return };
        let share = self.shares.iter().find(|(other, _)| *other == kind).expect("it was charged").1;
        let (ran, charged) = ((share * (work.ran_ns / 1_000)).max(1), work.charged);
        let tenant = self.tenant(kind.tenant);
        let tenant = &mut self.tenants[tenant];
        let weight = u64::from(tenant.share.weight);
        tenant.clock = (tenant.clock + ran / weight).saturating_sub(charged / weight);
    }

    fn stop(&mut self, at: usize) {
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

    fn forget(&mut self, at: usize) {
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

    fn tenant_refuses(&self, task: &Task) -> Option<&'static str> {
        let tenant = self.tenants.iter().find(|tenant| tenant.id == task.tenant)?;
        let mine = |work: &&Work| work.task.tenant == task.tenant && !Self::placed(work);
        if tenant.share.quota.is_some_and(|quota| !quota.fits(&task.need)) {
            return Some("scheduler.over_quota");
        }
        let waiting = self.tasks.iter().filter(mine).count();
        tenant.share.waiting_max.filter(|most| *most <= waiting).map(|_| "scheduler.tenant_full")
    }

    /// By each promised deadline from its own on, what is due then must be no more than what is done by then.
    fn deadline_refuses(&self, task: &Task) -> Option<&'static str> {
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
    fn return_rank(&self, work: &Work) -> Rank {
        match self.rank(work) {
            (Tier::Batch, _, arrival) => {
                let ageing_ns = u64::from(self.options.ageing_ms) * 1_000_000;
                (Tier::Interactive, (work.since_ns + 255 * ageing_ns).min(TIME_MAX), arrival)
            }
            other => other,
        }
    }

    fn first_standing(&self, slot: usize) -> Option<(Rank, TaskId)> {
        let there = self.tasks.iter().filter(|work| work.place == Place::Standing && work.node == slot);
        there.map(|work| (self.return_rank(work), work.task.id)).min()
    }

    fn first_resumable(&self) -> Option<(Rank, TaskId)> {
        let slots = (0..self.machines.len()).filter(|slot| self.machines[*slot].is_some());
        let fits = |slot: usize| {
            let first = self.first_standing(slot)?;
            let waits = &self.tasks[self.at(first.1).expect("it stands")];
            self.free(slot).fits(&given_back(&waits.task.need)).then_some(first)
        };
        slots.filter_map(fits).min()
    }

    fn resume(&mut self, id: TaskId) -> Decision {
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
