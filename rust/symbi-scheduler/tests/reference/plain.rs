//! The written rule with nothing but lists: everything is summed, sorted and searched anew for each answer.
//!
//! Why: hints, classes, windows, heaps and clocks kept in order make the scheduler quick, and each could make it wrong.
//! Here there are none, so that this page can be read beside docs/scheduling.md and the head of `scheduler.rs`.
//! Not here: what is asked of it, from submission to the loss of a node (`requests`); suspending for others (`preemption` is off; the simulation judges it), bounds on how many classes, nodes and
//! tenants are looked at (plans stay below them).

use std::cmp::Reverse;

use symbi_scheduler::{
    Decision, Node, NodeId, Options, PASSED_MAX, Priority, Share, Strategy, Task, TaskId, TenantId, Tier,
};
use symbi_types::{AgentId, ResourceVector};

pub const TIME_MAX: u64 = (1 << 62) - 1;
const RECENT: usize = 8;

/// Place in order: tier, time, arrival.
pub type Rank = (Tier, u64, u64);

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
pub struct Kind {
    pub need: ResourceVector,
    pub tenant: TenantId,
    pub tier: Tier,
    pub guarded: bool,
}

#[derive(Clone, Debug)]
pub struct Work {
    pub task: Task,
    pub place: Place,
    pub arrival: u64,
    pub arrived_ns: u64,
    pub deadline_ns: u64,
    pub since_ns: u64,
    pub ran_ns: u64,
    pub node: usize,
    pub passed: u8,
    pub charged: u64,
    /// What it was like when it began.
    pub began: Option<Kind>,
    /// From whom it inherits, directly.
    pub givers: Vec<TaskId>,
}

#[derive(Clone, Debug)]
pub struct Machine {
    pub node: Node,
    pub open: bool,
}

#[derive(Clone, Debug)]
pub struct Tenant {
    pub id: TenantId,
    pub share: Share,
    pub clock: u64,
    pub active: bool,
    /// How often somebody had been served when it last had no batch work.
    pub left: u64,
    /// Its kinds that its quota did not allow when they were looked at, until something of it is over.
    pub aside: Vec<Kind>,
    pub passed: (u64, u8),
}

/// The answer, and whether only estimates of durations allowed it.
pub type Answer = (Decision, bool);

#[derive(Clone, Debug)]
pub struct Plain {
    pub options: Options,
    pub now_ns: u64,
    pub arrivals: u64,
    pub tasks: Vec<Work>,
    pub machines: Vec<Option<Machine>>,
    pub tenants: Vec<Tenant>,
    pub shares: Vec<(Kind, u64)>,
    pub present: u64,
    pub served: u64,
    pub head: Option<(TaskId, usize)>,
    /// Where something was given back, in order.
    pub given: Vec<usize>,
    pub lost: Vec<usize>,
    pub since_batch: u32,
    pub missed: u64,
}

pub fn parts(of: &ResourceVector) -> [u64; 6] {
    of.to_array()
}

fn sum(of: impl Iterator<Item = ResourceVector>) -> ResourceVector {
    of.fold(ResourceVector::default(), |sum, one| sum.checked_add(&one).expect("far below the range"))
}

/// Processor, disk and network: what a task that stands still does not use.
pub fn given_back(need: &ResourceVector) -> ResourceVector {
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

    pub fn tenant(&mut self, id: TenantId) -> usize {
        let known = self.tenants.iter().position(|tenant| tenant.id == id);
        known.unwrap_or_else(|| {
            let (share, aside) = (Share::default(), Vec::new());
            self.tenants.push(Tenant { id, share, clock: 0, active: false, left: 0, aside, passed: (0, 0) });
            self.tenants.len() - 1
        })
    }

    pub fn tenant_of(&self, id: TenantId) -> &Tenant {
        self.tenants.iter().find(|tenant| tenant.id == id).expect("whoever has tasks is known")
    }

    pub fn slot(&self, node: NodeId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.as_ref().is_some_and(|of| of.node.id == node))
    }

    pub fn machine(&self, slot: usize) -> &Machine {
        self.machines[slot].as_ref().expect("nothing is on a lost node")
    }

    pub fn holds(work: &Work) -> ResourceVector {
        match work.place {
            Place::Running => work.task.need,
            Place::Standing | Place::Held => {
                work.task.need.checked_sub(&given_back(&work.task.need)).expect("a part of it")
            }
            Place::Waiting | Place::Stranded => ResourceVector::default(),
        }
    }

    pub fn placed(work: &Work) -> bool {
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

    pub fn capacity(&self) -> ResourceVector {
        sum(self.machines.iter().flatten().map(|machine| machine.node.capacity))
    }

    // --- order ---

    pub fn own_rank(&self, work: &Work) -> Rank {
        let ageing_ns = u64::from(self.options.ageing_ms) * 1_000_000;
        let time_ns = match work.task.tier {
            Tier::Realtime => work.deadline_ns,
            _ => work.arrived_ns + u64::from(255 - work.task.priority.0) * ageing_ns,
        };
        (work.task.tier, time_ns.min(TIME_MAX), work.arrival)
    }

    /// The task, and all it inherits from, directly or through others.
    pub fn sources<'a>(&'a self, work: &'a Work) -> Vec<&'a Work> {
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

    pub fn rank(&self, work: &Work) -> Rank {
        let first = self.sources(work).into_iter().map(|source| self.own_rank(source)).min().expect("itself");
        (first.0, first.1, work.arrival)
    }

    pub fn guards(&self, tier: Tier, priority: Priority) -> bool {
        let critical = tier == Tier::Realtime || self.options.critical_priority <= priority.0;
        self.options.strategy == Strategy::Priority && !critical
    }

    pub fn kind(&self, work: &Work) -> Kind {
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

    pub fn busy(&self, agent: AgentId) -> bool {
        self.tasks.iter().any(|work| work.task.agent == Some(agent) && work.place != Place::Waiting)
    }

    /// Tasks that may be looked at: the best of each agent that is not at work; of alike ones the first.
    pub fn firsts(&self) -> Vec<(Rank, Kind, TaskId)> {
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
    pub fn relist(&mut self) {
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

    pub fn any_active(&self) -> bool {
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

    pub fn look_through(
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

    pub fn headroom(&self, slot: usize, guarded: bool) -> [u64; 6] {
        let percent = if guarded { u64::from(self.options.headroom_percent) } else { 0 };
        parts(&self.machine(slot).node.capacity).map(|have| have * percent / 100)
    }

    pub fn fits_beside(have: &ResourceVector, need: &ResourceVector, headroom: [u64; 6]) -> bool {
        (0..6).all(|at| parts(need)[at] == 0 || parts(need)[at] + headroom[at] <= parts(have)[at])
    }

    pub fn has_room(&self, slot: usize, kind: &Kind) -> bool {
        self.machines[slot].as_ref().is_some_and(|machine| machine.open)
            && Self::fits_beside(&self.free(slot), &kind.need, self.headroom(slot, kind.guarded))
    }

    pub fn could_hold(&self, slot: usize, need: &ResourceVector, guarded: bool) -> bool {
        let Some(machine) = self.machines[slot].as_ref().filter(|machine| machine.open) else { return false };
        Self::fits_beside(&machine.node.capacity, need, self.headroom(slot, guarded))
    }

    /// Whether nothing that stands before it waits there for what it takes; and whether only estimates allow it.
    pub fn may_start(
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

    pub fn is_over_in_time(&self, task: TaskId, head: &Work, slot: usize) -> bool {
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

    pub fn left_over(&self, slot: usize, need: &ResourceVector) -> u64 {
        let (free, all) = (parts(&self.free(slot)), parts(&self.machine(slot).node.capacity));
        (0..6).filter(|at| 0 < all[*at]).map(|at| ((free[at] - parts(need)[at]) << 16) / all[at]).sum()
    }

    /// The node to reserve: the one reserved for it already; of those where something was given back last the one that
    /// comes nearest; of all the one that comes nearest.
    pub fn nearest(&self, task: TaskId, kind: &Kind) -> Option<usize> {
        let large = |slot: &usize| self.could_hold(*slot, &kind.need, kind.guarded);
        let still = self.head.filter(|(head, _)| *head == task).map(|(_, slot)| slot).filter(large);
        let lack = |slot: &usize| {
            let (free, all) = (parts(&self.free(*slot)), parts(&self.machine(*slot).node.capacity));
            let need = parts(&kind.need);
            let lacking = (0..6).filter(|at| free[*at] < need[*at]);
            let far = lacking.map(|at| ((need[at] - free[at]) << 16).checked_div(all[at]).unwrap_or(1 << 32));
            (far.sum::<u64>(), *slot)
        };
        let recent = self.given.iter().rev().take(RECENT).copied().filter(large);
        still
            .or_else(|| recent.min_by_key(lack))
            .or_else(|| (0..self.machines.len()).filter(large).min_by_key(lack))
    }

    pub fn reserve(&mut self, head: Option<(TaskId, usize)>) {
        let former = std::mem::replace(&mut self.head, head).map(|(_, slot)| slot);
        self.given.extend(former.filter(|former| head.map(|(_, slot)| slot) != Some(*former)));
    }
}
