//! Which task starts next, and where; which stands still for it, and which goes on.
//!
//! The rule, whole. *Candidates* are, of each agent that is not at work, its best waiting task; a task without an agent
//! is one always. They stand in order: realtime by deadline; interactive by arrival and priority, all ageing alike
//! (`rank`); batch by the fair share of tenants (`tenants`). One start in `batch_turn` is batch's: when that turn has
//! come, batch stands before interactive until one starts. Candidates that need the same stand in one class
//! (`classes`). A decision looks at the first of each class in order, at most [`AHEAD_MAX`] + 1 classes of a tier:
//!
//! - Its tenant's quota does not allow it: its class is put aside until something of that tenant is over.
//! - A node has room and may be used: it starts there (`placement` says which of several).
//! - None has room, and suspending less urgent tasks would make it: they are asked to stand still, and what they give
//!   back is kept for it (`preemption`).
//! - None has room: the first such task is the *head* and reserves the node that comes nearest. What stands behind it
//!   starts there only if by the durations it cannot delay the head, and at most [`PASSED_MAX`] times; elsewhere
//!   freely, since the head waits for its node alone, and takes any other that has room first.
//!
//! A suspended task goes on at its node, in its place in order, as soon as what it gave back is free there.
//!
//! Cost: a decision O(log n) and a bounded number of looks; no tick, no clock: `wake_at` says when to ask again.
//! Not here: how a task is brought to a standstill; what time it is. The parts: `submission`, `ending`, `queues`, `placement`, `preemption`,
//! `suspension`, `cluster`, `urgency`, `explain`, `verify`.
//!
//! Invariants
//! - Q1 everything a task took is given back exactly once, whatever way it ends.
//! - Q2 a refused request changes nothing.
//! - Q3 an agent does at most one task.
//! - Q4 a task that is accepted fits a node that takes tasks, and its tenant's quota.
//! - Q5 while nothing changed since `next` found nothing, it says so without looking.
//! - Q6 a head is passed at its reserved node at most `PASSED_MAX` times.

use std::collections::VecDeque;

use symbi_types::ResourceVector;

use crate::admission::{Admission, Demand};
use crate::agents::Agents;
use crate::classes::Classes;
use crate::column::{NONE, Slot};
use crate::entry::{NEVER, Stage, Tasks};
use crate::front::Front;
use crate::levels::{Levels, level};
use crate::nodes::Nodes;
use crate::options::{Options, OptionsError, Share, Strategy};
use crate::placement::Head;
use crate::preemption::Search;
use crate::resources::{add, sub};
use crate::task::{Counts, Decision, Node, NodeId, Priority, TenantId, Tier, Totals};
use crate::tenants::{DURATION_UNKNOWN_NS, Tenants, cost, dominant_share};
use crate::urgency::Relations;

/// Times that others may take the node that a blocked head has reserved.
pub const PASSED_MAX: u8 = 64;
/// Classes of tasks behind the first of a tier that one decision looks at, so that its cost is bounded.
pub const AHEAD_MAX: usize = 64;

/// All queues over all nodes. Reads no clock; the same calls give the same answers.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) options: Options,
    pub(crate) ageing_ns: u64,
    pub(crate) quantum_ns: u64,
    pub(crate) now_ns: u64,
    pub(crate) seq: u64,
    pub(crate) tasks: Tasks,
    pub(crate) agents: Agents,
    pub(crate) classes: Classes,
    pub(crate) nodes: Nodes,
    pub(crate) tenants: Tenants,
    pub(crate) realtime: Front,
    pub(crate) interactive: Front,
    pub(crate) admission: Admission,
    pub(crate) levels: Levels,
    pub(crate) relations: Relations,
    /// The first blocked task, and the node that it reserves.
    pub(crate) head: Option<Head>,
    /// Suspensions that were decided and not handed out yet.
    pub(crate) decided: VecDeque<Decision>,
    /// Tasks whose claims have all they need.
    pub(crate) whole: VecDeque<Slot>,
    /// Nodes where something may go on.
    pub(crate) resumable: Vec<Slot>,
    pub(crate) search: Search,
    /// How often something had been given back when all classes were last looked at.
    pub(crate) refuted: u64,
    /// How often a task began to run or went on.
    pub(crate) begun: u64,
    /// Starts of other tiers since batch had one, while it waits.
    pub(crate) since_batch: u32,
    pub(crate) wake_ns: Option<u64>,
    pub(crate) settled: bool, // Q5
}

impl Scheduler {
    /// Empty queues over these nodes; more may be added.
    ///
    /// # Errors
    /// [`OptionsError`]: a setting out of range, two nodes of one name, a node that is too large.
    pub fn new(nodes: &[Node], options: Options) -> Result<Self, OptionsError> {
        options.check()?;
        let mut made = Self {
            options,
            ageing_ns: u64::from(options.ageing_ms) * 1_000_000,
            quantum_ns: u64::from(options.quantum_ms) * 1_000_000,
            now_ns: 0,
            seq: 0,
            tasks: Tasks::new(),
            agents: Agents::new(),
            classes: Classes::new(),
            nodes: Nodes::new(),
            tenants: Tenants::new(),
            realtime: Front::default(),
            interactive: Front::default(),
            admission: Admission::new(),
            levels: Levels::new(),
            relations: Relations::default(),
            head: None,
            decided: VecDeque::new(),
            whole: VecDeque::new(),
            resumable: Vec::new(),
            search: Search::default(),
            begun: 0,
            refuted: 0,
            since_batch: 0,
            wake_ns: None,
            settled: false,
        };
        made.tenants.enter(TenantId::DEFAULT)?;
        nodes.iter().try_for_each(|node| made.add_node(*node))?;
        Ok(made)
    }

    /// Moves the time on, never back; everything else reads it. In nanoseconds of any monotonic clock.
    pub fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.admission.advance(self.now_ns);
        if self.wake_ns.is_some_and(|wake_ns| wake_ns <= self.now_ns) {
            self.settled = false;
        }
    }

    /// Sets what a tenant may have. A lower quota suspends nothing: it holds for what starts from now on.
    ///
    /// # Errors
    /// [`OptionsError::Range`] for the weight, [`OptionsError::Tenants`]; nothing changed.
    pub fn set_tenant(&mut self, tenant: TenantId, share: Share) -> Result<(), OptionsError> {
        let given = u64::from(share.weight);
        if !(1..=1_000_000).contains(&given) {
            return Err(OptionsError::Range { name: "weight", accepted: "1 to 1000000", given });
        }
        let slot = self.tenants.enter(tenant)?;
        self.tenants[slot].share = share;
        self.reconsider(slot);
        self.settled = false;
        Ok(())
    }

    pub(crate) fn is_guarded(&self, tier: Tier, priority: Priority) -> bool {
        let critical = tier == Tier::Realtime || self.options.critical_priority <= priority.0;
        self.options.strategy == Strategy::Priority && !critical
    }

    pub(crate) fn need(&self, slot: Slot) -> &ResourceVector {
        &self.classes[self.tasks[slot].class].kind.need
    }

    pub(crate) fn tenant(&self, slot: Slot) -> Slot {
        self.classes[self.tasks[slot].class].kind.tenant
    }

    /// What a realtime task still has to do, for the test of admission.
    pub(crate) fn demand(&self, slot: Slot) -> Demand {
        let (entry, detail) = (&self.tasks[slot], self.tasks.detail(slot));
        Demand {
            deadline_ns: detail.deadline_ns,
            duration_ns: detail.duration_ns.saturating_sub(detail.ran_ns),
            cpu_millicores: self.need(slot).cpu_millicores,
            seq: entry.rank.seq,
        }
    }

    /// What to do now; `None` when there is nothing. Ask until then after each request, and at [`Scheduler::wake_at`].
    ///
    /// Cost: O(log n), and a bounded number of classes looked at.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end at the first `None`; this goes on"
    )]
    pub fn next(&mut self) -> Option<Decision> {
        if let Some(decision) = self.decided.pop_front() {
            return Some(decision);
        }
        if self.settled {
            return None;
        }
        let decision = match self.whole.pop_front() {
            Some(slot) => Some(self.start_claim(slot)),
            None => self.choose(),
        };
        self.settled = decision.is_none();
        decision
    }

    /// Adds up to `limit` decisions to `into`; the same as so many calls of [`Scheduler::next`].
    pub fn next_many(&mut self, limit: usize, into: &mut Vec<Decision>) {
        into.extend(std::iter::from_fn(|| self.next()).take(limit));
    }

    /// Starts a ready task that fits there.
    pub(crate) fn start(&mut self, slot: Slot, node: Slot) -> Decision {
        let need = *self.need(slot);
        self.unlist(slot);
        self.expect_next(self.tasks[slot].class);
        self.nodes.take(node, &need);
        let tenant = self.tenant(slot);
        add(&mut self.tenants[tenant].used, &need);
        self.occupy(slot);
        self.begin(slot, node)
    }

    /// Its agent is at work on it from now on.
    pub(crate) fn occupy(&mut self, slot: Slot) {
        let agent = self.tasks[slot].agent;
        if agent != NONE {
            let agent = &mut self.agents[agent];
            assert!(agent.running == NONE, "Q3");
            assert!(agent.candidate == slot, "A1");
            (agent.candidate, agent.running) = (NONE, slot);
        }
    }

    /// The task runs from now on; it holds what it needs.
    pub(crate) fn begin(&mut self, slot: Slot, node: Slot) -> Decision {
        let (tenant, tier) = (self.tenant(slot), self.tasks[slot].tier);
        self.tenants[tenant].waiting -= 1;
        match tier {
            Tier::Batch => {
                self.charge(slot);
                self.since_batch = 0;
            }
            _ if !self.tenants.active.is_empty() => self.since_batch = self.since_batch.saturating_add(1),
            _ => {}
        }
        if tier == Tier::Realtime {
            self.admission.leave(&self.demand(slot));
        }
        if self.head.is_some_and(|head| head.slot == slot) {
            self.set_head(None);
        }
        self.tasks[slot].passed = 0;
        self.run(slot, node);
        Decision::Start { task: self.tasks[slot].id, node: self.nodes[node].id }
    }

    /// Puts the task among those that run on the node.
    pub(crate) fn run(&mut self, slot: Slot, node: Slot) {
        self.begun += 1;
        let entry = &mut self.tasks[slot];
        (entry.node, entry.since_ns) = (node, self.now_ns);
        if entry.preemptible {
            self.levels.add(level(entry.urgency));
        }
        if self.tasks[slot].tier == Tier::Realtime {
            self.admission.run(&self.demand(slot), self.now_ns);
        }
        self.link(slot, node);
        self.tasks.enter(slot, Stage::Running);
    }

    /// The task runs no more: it is over, or stands still.
    pub(crate) fn stop(&mut self, slot: Slot) {
        let entry = &mut self.tasks[slot];
        if entry.stage == Stage::Running && entry.preemptible {
            self.levels.sub(level(entry.urgency));
        }
        if entry.tier == Tier::Realtime {
            let (since_ns, seq, detail) = (entry.since_ns, entry.rank.seq, self.tasks.detail(slot));
            let left_ns = detail.duration_ns.saturating_sub(detail.ran_ns);
            self.admission.end(since_ns.saturating_add(left_ns), seq);
        }
        let since_ns = std::mem::replace(&mut self.tasks[slot].since_ns, self.now_ns);
        self.tasks.add_run(slot, self.now_ns - since_ns);
        self.unlink(slot);
    }

    fn charge(&mut self, slot: Slot) {
        let class = &mut self.classes[self.tasks[slot].class];
        if class.share.1 != self.nodes.shape {
            class.share = (dominant_share(&class.kind.need, &self.nodes.capacity), self.nodes.shape);
        }
        let (share, tenant) = (class.share.0, class.kind.tenant);
        let detail = self.tasks.detail_mut(slot);
        let known = detail.duration_ns != NEVER;
        let charged = cost(share, if known { detail.duration_ns } else { DURATION_UNKNOWN_NS });
        detail.charged = charged;
        self.tenants.charge(tenant, charged);
    }

    /// Charges a batch task that is over, or lost its node, for what it ran instead of what it was to run.
    pub(crate) fn settle_account(&mut self, slot: Slot) {
        let entry = &self.tasks[slot];
        if entry.tier == Tier::Batch {
            let (class, detail) = (&self.classes[entry.class], self.tasks.detail(slot));
            let ran = cost(class.share.0, detail.ran_ns);
            self.tenants.correct(class.kind.tenant, detail.charged, ran);
        }
    }

    /// When time alone changes what [`Scheduler::next`] says, in nanoseconds; `None`: never.
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        self.wake_ns.filter(|_| self.settled)
    }

    /// What nobody holds on a node; `None` where there is none of that name.
    #[must_use]
    pub fn free(&self, node: NodeId) -> Option<ResourceVector> {
        self.nodes.find(node).map(|slot| self.nodes.rooms[slot].free)
    }

    /// What all nodes have together. Cost: O(nodes).
    #[must_use]
    pub fn totals(&self) -> Totals {
        let (mut free, mut reserved) = (ResourceVector::default(), ResourceVector::default());
        for slot in self.nodes.slots() {
            add(&mut free, &self.nodes.rooms[slot].free);
            add(&mut reserved, &self.nodes[slot].reserved);
        }
        let mut allocated = self.nodes.capacity;
        sub(&mut allocated, &free);
        sub(&mut allocated, &reserved);
        Totals { capacity: self.nodes.capacity, allocated, reserved }
    }

    /// What a tenant's tasks hold or claim; what stands still counts whole. `None` where it was never named.
    #[must_use]
    pub fn used(&self, tenant: TenantId) -> Option<ResourceVector> {
        self.tenants.find(tenant).map(|slot| self.tenants[slot].used)
    }

    /// How many tasks are in which state.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.tasks.counts
    }

    /// Tasks that wait for their start.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tasks.counts.waiting.iter().sum()
    }

    /// Tasks that were handed out and are not complete, those that stand still included.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.len() - self.waiting()
    }

    /// Agents that have a task.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents.len()
    }
}
