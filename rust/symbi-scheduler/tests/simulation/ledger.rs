//! The second set of books, and the rules that are checked against them.
//!
//! Why: a scheduler that checks itself repeats its own mistakes. These books know only what was asked and what was
//! answered; every sum is made anew from them, O(n), after every step.
//! Not here: how they are compared with the scheduler's own (`comparison`), what may be refused (`submission`), in which order tasks start (`order`), what the host does (`host`).
//!
//! Invariants
//! - N1 an agent changes its state only as the table of the lifecycle allows.
//! - N2 a task is in one place: only one that waits is started, only one that runs is asked to stand still, only one
//!   that stands still and is not held goes on.
//! - N4 a task gives back what it held once, whatever way it ends.
//! - N6 an agent does one task at a time.
//! - N7 no decision takes a tenant beyond its quota.
//! - N9 only a preemptible task is suspended, for one that is strictly more urgent, after it ran for the quantum.
//! - N10 what stood still goes on where it stood.
//! - N11 nothing starts on a node that is drained, lost or unknown.

use std::collections::{BTreeMap, BTreeSet};

use symbi_scheduler::{Decision, Move, Node, NodeId, Options, Share, Strategy, Task, TaskId, TenantId, Tier};
use symbi_types::{AgentId, ResourceVector};

use crate::plan::{Job, MS};

/// A rule that does not hold.
#[derive(Clone, Debug)]
pub struct Broken {
    pub rule: &'static str,
    pub text: String,
}

/// Breaks the rule unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $rule:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::ledger::Broken { rule: $rule, text: format!($($text)+) });
        }
    };
}
pub(crate) use ensure;

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Waiting,
    Running,
    /// It runs, and was asked to stand still.
    Suspending,
    Standing,
}

/// What the books know of a task.
#[derive(Clone, Debug)]
pub struct Entry {
    pub task: Task,
    pub job: Job,
    pub place: Place,
    pub node: Option<NodeId>,
    pub held: bool,
    /// The node where others were asked to make room for it, until it starts there.
    pub claims: Option<NodeId>,
    /// When it last began to run, or to stand still.
    pub since_ns: u64,
    /// What is left of its work, as of `since_ns`.
    pub left_ns: u64,
    /// Its deadline now: it moves by as long as the task stood still.
    pub deadline_ns: Option<u64>,
    /// How long it ran, in all stretches that are over.
    pub ran_ns: u64,
    /// When it came, and how many came before it.
    pub arrived_ns: u64,
    pub number: u64,
    /// How often another started before it while it was the first of its tier.
    pub passed: u32,
    /// Whose urgency it has besides its own.
    pub inherits: BTreeSet<TaskId>,
    /// Grows when it begins to run or stops: what was foreseen for an earlier stretch is void.
    pub stretch: u64,
}

impl Entry {
    /// What it holds: all of its need while it runs; memory, accelerators and its sandbox while it stands still.
    pub fn holds(&self) -> ResourceVector {
        match self.place {
            Place::Waiting => ResourceVector::default(),
            Place::Running | Place::Suspending => self.task.need,
            Place::Standing => {
                let [memory, _, _, _, accelerators, sandboxes] = self.task.need.to_array();
                ResourceVector::from_array([memory, 0, 0, 0, accelerators, sandboxes])
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub capacity: ResourceVector,
    pub drained: bool,
}

/// All books.
#[derive(Debug)]
pub struct Ledger {
    pub options: Options,
    pub tasks: BTreeMap<TaskId, Entry>,
    pub nodes: BTreeMap<NodeId, Machine>,
    pub tenants: BTreeMap<TenantId, Share>,
    pub accepted: u64,
    pub ended: u64,
    /// Realtime tasks that ended too late.
    pub missed: u64,
    /// Whether nodes stand as they did at first.
    pub original: bool,
    /// Starts in a row that a batch task could have had.
    pub without_batch: u32,
}

pub fn sum(of: impl Iterator<Item = ResourceVector>) -> ResourceVector {
    of.fold(ResourceVector::default(), |sum, one| sum.checked_add(&one).expect("far below the range"))
}

impl Ledger {
    pub fn new(nodes: &[Node], options: Options) -> Self {
        let machine = |node: &Node| (node.id, Machine { capacity: node.capacity, drained: false });
        Self {
            options,
            tasks: BTreeMap::new(),
            nodes: nodes.iter().map(machine).collect(),
            tenants: BTreeMap::new(),
            accepted: 0,
            ended: 0,
            missed: 0,
            original: true,
            without_batch: 0,
        }
    }

    /// The n-th task in that place, by name.
    pub fn nth(&self, n: u64, place: impl Fn(Place) -> bool) -> Option<TaskId> {
        let there: Vec<TaskId> =
            self.tasks.iter().filter(|(_, entry)| place(entry.place)).map(|(id, _)| *id).collect();
        there.get(usize::try_from(n).unwrap() % there.len().max(1)).copied()
    }

    /// What the tasks on a node hold.
    pub fn held_on(&self, node: NodeId) -> ResourceVector {
        sum(self.tasks.values().filter(|entry| entry.node == Some(node)).map(Entry::holds))
    }

    /// What a tenant's tasks need that were handed out. Those that stand still count whole: they are to go on.
    pub fn used_by(&self, tenant: TenantId) -> ResourceVector {
        let placed = |entry: &&Entry| entry.task.tenant == tenant && entry.place != Place::Waiting;
        sum(self.tasks.values().filter(placed).map(|entry| entry.task.need))
    }

    pub fn claimed_by(&self, tenant: TenantId) -> ResourceVector {
        let claims = |entry: &&Entry| entry.task.tenant == tenant && entry.claims.is_some();
        sum(self.tasks.values().filter(claims).map(|entry| entry.task.need))
    }

    /// The task that keeps an agent from starting another.
    pub fn busy(&self, agent: AgentId) -> Option<TaskId> {
        let works = |entry: &Entry| entry.place != Place::Waiting || entry.claims.is_some() || entry.held;
        let works = |entry: &Entry| entry.task.agent == Some(agent) && works(entry);
        self.tasks.iter().find(|(_, entry)| works(entry)).map(|(id, _)| *id)
    }

    fn entry(&mut self, task: TaskId, rule: &'static str) -> Result<&mut Entry, Broken> {
        self.tasks.get_mut(&task).ok_or_else(|| Broken { rule, text: format!("task {task} is over") })
    }

    /// Whether headroom is kept from it: neither by itself nor by whom it interrupts others for is it critical.
    pub fn guarded(&self, entry: &Entry) -> bool {
        let most = u32::from(self.options.critical_priority);
        let own = entry.task.tier == Tier::Realtime || most <= u32::from(entry.task.priority.0);
        let level = self.level(entry); // 0 for all of batch: there nothing is lent but the place in order
        self.options.strategy == Strategy::Priority && !own && (level == 0 || level <= most)
    }

    /// Whether an empty machine has room for it, and takes tasks.
    pub fn could_hold(&self, machine: &Machine, entry: &Entry) -> bool {
        let headroom = if self.guarded(entry) { u64::from(self.options.headroom_percent) } else { 0 };
        let mut parts = machine.capacity.to_array().into_iter().zip(entry.task.need.to_array());
        !machine.drained && parts.all(|(have, need)| need == 0 || need + have * headroom / 100 <= have)
    }

    /// Books a node that came, or takes tasks again.
    pub fn adds(&mut self, node: Node) {
        self.original = false;
        self.nodes.insert(node.id, Machine { capacity: node.capacity, drained: false });
    }

    /// Books whose urgency a task has besides its own.
    pub fn inherits(&mut self, task: TaskId, from: TaskId, on: bool) {
        let circle = self
            .tasks
            .get(&from)
            .is_some_and(|giver| self.givers(giver).iter().any(|known| known.task.id == task));
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        if on && circle {
            return; // those on a circle wait for each other, whatever their urgency
        }
        if on {
            entry.inherits.insert(from);
        } else {
            entry.inherits.remove(&from);
        }
    }

    /// A proposed move is of a task that runs, from where it is to an open node that has room for it.
    pub fn may_move(&self, proposed: Move) -> Result<(), Broken> {
        let Move { task, from, to } = proposed;
        let entry = self.tasks.get(&task);
        let runs = entry.is_some_and(|entry| entry.place == Place::Running && entry.node == Some(from));
        ensure!(runs, "N2 a task is in one place", "{proposed:?}: {entry:?}");
        let open = self.nodes.get(&to).is_some_and(|machine| !machine.drained);
        ensure!(open && from != to, "N11 only open nodes", "{proposed:?}");
        Ok(())
    }

    /// Books what the scheduler decided, if it may.
    pub fn decided(&mut self, now_ns: u64, decision: Decision) -> Result<(), Broken> {
        match decision {
            Decision::Start { task, node } => self.starts(now_ns, task, node),
            Decision::Resume { task, node } => self.goes_on(now_ns, task, node),
            Decision::Suspend { task, urgent } => self.is_to_stand(now_ns, task, urgent),
        }
    }

    fn starts(&mut self, now_ns: u64, task: TaskId, node: NodeId) -> Result<(), Broken> {
        let entry = self.entry(task, "N2 a task is in one place")?;
        ensure!(
            entry.place == Place::Waiting,
            "N2 a task is in one place",
            "{task} starts, and is {entry:?}"
        );
        ensure!(!entry.held, "N2 a held task stands still", "{task} starts, and is held");
        let (agent, claims) = (entry.task.agent, entry.claims.take());
        if let Some(claimed) = claims {
            ensure!(
                claimed == node,
                "N11 room is used where it was made",
                "{task} starts on {node}, not {claimed}"
            );
        }
        if let Some(agent) = agent {
            let busy = self.busy(agent);
            ensure!(busy.is_none(), "N6 one task an agent", "{task} starts beside {busy:?}");
        }
        let machine = self.nodes.get(&node);
        let open = machine.is_some_and(|machine| !machine.drained);
        ensure!(open, "N11 only open nodes", "{task} starts on {node}: {machine:?}");
        if claims.is_none() {
            self.judge(now_ns, task, node)?; // others were judged when room was made
        }
        self.begins(now_ns, task, node)?;
        let tenant = self.tasks[&task].task.tenant;
        if claims.is_none() // else it counted when room was made, and a quota that was lowered since takes nothing back
            && let Some(quota) = self.tenants.get(&tenant).and_then(|share| share.quota)
        {
            let used = self.used_by(tenant);
            ensure!(quota.fits(&used), "N7 within the quota", "{task}: {tenant} uses {used:?} of {quota:?}");
        }
        Ok(())
    }

    fn goes_on(&mut self, now_ns: u64, task: TaskId, node: NodeId) -> Result<(), Broken> {
        let entry = self.entry(task, "N2 a task is in one place")?;
        ensure!(
            entry.place == Place::Standing,
            "N2 a task is in one place",
            "{task} goes on, and is {entry:?}"
        );
        ensure!(!entry.held, "N2 a held task stands still", "{task} goes on, and is held");
        ensure!(
            entry.node == Some(node),
            "N10 on its node",
            "{task} goes on on {node}, not {:?}",
            entry.node
        );
        entry.deadline_ns =
            entry.deadline_ns.map(|deadline_ns| deadline_ns.saturating_add(now_ns - entry.since_ns));
        self.begins(now_ns, task, node)
    }

    fn begins(&mut self, now_ns: u64, task: TaskId, node: NodeId) -> Result<(), Broken> {
        let entry = self.entry(task, "N2 a task is in one place")?;
        entry.place = Place::Running;
        entry.node = Some(node);
        entry.passed = 0; // if its node is lost, it waits anew
        entry.since_ns = now_ns;
        entry.stretch += 1;
        let (held, capacity) = (self.held_on(node), self.nodes[&node].capacity);
        ensure!(
            capacity.fits(&held),
            "N3 never above the pool",
            "{task} on {node}: {held:?} of {capacity:?}"
        );
        Ok(())
    }

    fn is_to_stand(&mut self, now_ns: u64, task: TaskId, urgent: TaskId) -> Result<(), Broken> {
        let options = self.options;
        let waiting = self.entry(urgent, "N9 for one that waits")?.clone();
        let entry = self.entry(task, "N2 a task is in one place")?;
        ensure!(entry.place == Place::Running, "N2 a task is in one place", "{task} is to stand: {entry:?}");
        ensure!(
            waiting.place == Place::Waiting,
            "N9 for one that waits",
            "{task} stands for {urgent}: {waiting:?}"
        );
        let may = options.preemption && entry.task.preemptible;
        ensure!(may, "N9 only preemptible", "{task} is to stand for {urgent}");
        let ran_ns = now_ns - entry.since_ns;
        let quantum_ns = u64::from(options.quantum_ms) * MS;
        ensure!(quantum_ns <= ran_ns, "N9 past the quantum", "{task} is to stand after {ran_ns} ns");
        entry.place = Place::Suspending;
        let (node, theirs) = (entry.node, self.level(&self.tasks[&task]));
        let own = self.level(&waiting);
        ensure!(
            theirs < own,
            "N9 for a more urgent one",
            "{task} at {theirs} is to stand for {urgent} at {own}"
        );
        let claims = &mut self.entry(urgent, "N9 for one that waits")?.claims;
        ensure!(
            claims.is_none() || *claims == node,
            "N9 on one node",
            "{urgent} makes room on {claims:?} and {node:?}"
        );
        *claims = node;
        Ok(())
    }

    /// How far a task is above others that it may interrupt: batch, 256 priorities, realtime.
    pub fn level(&self, entry: &Entry) -> u32 {
        let level = |of: &Entry| match of.task.tier {
            Tier::Batch => 0,
            Tier::Interactive => 1 + u32::from(of.task.priority.0),
            Tier::Realtime => 257,
        };
        self.givers(entry).into_iter().map(level).max().unwrap_or_default()
    }

    /// The task, and those it inherits from, directly or through others.
    pub fn givers<'a>(&'a self, entry: &'a Entry) -> Vec<&'a Entry> {
        let mut all = vec![entry];
        let mut next = 0;
        while let Some(of) = all.get(next).copied() {
            next += 1;
            for giver in of.inherits.iter().filter_map(|id| self.tasks.get(id)) {
                if !all.iter().any(|known| known.task.id == giver.task.id) {
                    all.push(giver);
                }
            }
        }
        all
    }

    /// Books that a task stopped working where it was, and returns its entry.
    pub fn stands(&mut self, now_ns: u64, task: TaskId) -> &mut Entry {
        let entry = self.tasks.get_mut(&task).expect("the host knows what runs");
        if matches!(entry.place, Place::Running | Place::Suspending) {
            entry.left_ns = entry.left_ns.saturating_sub(now_ns - entry.since_ns);
            entry.ran_ns += now_ns - entry.since_ns;
            entry.since_ns = now_ns;
            entry.stretch += 1;
        }
        entry.place = Place::Standing;
        entry
    }

    /// Books that a task runs elsewhere now; its quantum begins anew.
    pub fn moves(&mut self, now_ns: u64, task: TaskId, node: NodeId) {
        let entry = self.tasks.get_mut(&task).expect("the host knows what runs");
        let ran_ns = now_ns - entry.since_ns;
        (entry.node, entry.since_ns) = (Some(node), now_ns);
        (entry.ran_ns, entry.left_ns) = (entry.ran_ns + ran_ns, entry.left_ns.saturating_sub(ran_ns));
    }

    /// Books the end of a task.
    pub fn ends(&mut self, now_ns: u64, task: TaskId) -> Entry {
        self.ended += 1;
        let entry = self.tasks.remove(&task).expect("the host knows what it ends");
        let late = entry.task.tier == Tier::Realtime && entry.deadline_ns < Some(now_ns);
        self.missed += u64::from(late && entry.place != Place::Waiting);
        entry
    }

    /// Books the loss of a node: its tasks wait again, and their work was in vain.
    pub fn loses(&mut self, node: NodeId, told: &[TaskId]) -> Result<Vec<Entry>, Broken> {
        let mut there = Vec::new();
        for entry in self.tasks.values_mut().filter(|entry| entry.claims == Some(node)) {
            entry.claims = None;
        }
        for (id, entry) in self.tasks.iter_mut().filter(|(_, entry)| entry.node == Some(node)) {
            ensure!(told.contains(id), "N5 none is lost", "{id} was on {node}, and nobody says so");
            there.push(entry.clone());
            entry.place = Place::Waiting;
            entry.node = None;
            entry.left_ns = entry.job.runs_ns;
            entry.ran_ns = 0;
            entry.stretch += 1;
        }
        ensure!(
            told.len() == there.len(),
            "N5 none is lost",
            "{told:?} of {node}, where {} were",
            there.len()
        );
        self.original = false;
        self.nodes.remove(&node);
        Ok(there)
    }
}
