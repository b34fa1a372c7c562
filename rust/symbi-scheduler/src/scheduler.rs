//! Which task starts next, and where.
//!
//! Not here: the lifecycle of agents (`lifecycle`).
//!
//! Invariants
//! - Q1 what a node has is what its tasks hold and what is free.

use std::collections::{BTreeMap, HashMap, HashSet};

use symbi_types::{AgentId, ResourceVector};

use crate::error::TaskError;
use crate::options::{Options, OptionsError, Share};
use crate::task::{Counts, Decision, Move, Node, NodeId, Task, TaskId, TenantId, Tier, Totals};
use crate::why::{Reason, Why, lacks};

/// Times that others may start before a blocked head.
pub const PASSED_MAX: u8 = 64;
/// Resource classes behind a blocked head that one `next` looks at, so that its cost is bounded.
pub const AHEAD_MAX: usize = 64;

/// In order: tier, key, the order of arrival.
type Rank = (Tier, u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running(NodeId),
    Suspended { node: NodeId, held: bool },
}

#[derive(Debug)]
struct Entry {
    task: Task,
    rank: Rank,
    state: State,
}

#[derive(Debug)]
struct Place {
    capacity: ResourceVector,
    free: ResourceVector, // Q1
    drained: bool,
}

/// All queues over all nodes. Reads no clock; the same calls give the same answers.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
    now_ns: u64,
    seq: u64,
    nodes: BTreeMap<NodeId, Place>,
    tasks: HashMap<TaskId, Entry>,
    order: BTreeMap<Rank, TaskId>, // those that wait for a start or to go on
    busy: HashSet<AgentId>,
}

fn kept(need: &ResourceVector) -> ResourceVector {
    ResourceVector { cpu_millicores: 0, disk_io_mbps: 0, network_io_mbps: 0, ..*need }
}

fn given_back(need: &ResourceVector) -> ResourceVector {
    need.checked_sub(&kept(need)).unwrap_or_default()
}

impl Scheduler {
    /// Empty queues over these nodes.
    ///
    /// # Errors
    /// [`OptionsError`]: a setting out of range, two nodes of one name.
    pub fn new(nodes: &[Node], options: Options) -> Result<Self, OptionsError> {
        options.check()?;
        let mut made = Self {
            options,
            now_ns: 0,
            seq: 0,
            nodes: BTreeMap::new(),
            tasks: HashMap::new(),
            order: BTreeMap::new(),
            busy: HashSet::new(),
        };
        nodes.iter().try_for_each(|node| made.add_node(*node))?;
        Ok(made)
    }

    /// Moves the time on, never back. Everything else reads it.
    pub fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// Sets what a tenant may have.
    ///
    /// # Errors
    /// [`OptionsError`]: a weight out of range.
    pub fn set_tenant(&mut self, _tenant: TenantId, share: Share) -> Result<(), OptionsError> {
        match share.weight {
            1..=1_000_000 => Ok(()),
            given => {
                Err(OptionsError::Range { name: "weight", accepted: "1 to 1000000", given: given.into() })
            }
        }
    }

    /// Whether [`Scheduler::submit`] would accept the task now.
    ///
    /// # Errors
    /// Those of [`Scheduler::submit`].
    pub fn check(&self, task: &Task) -> Result<(), TaskError> {
        let largest = self.nodes.values().map(|place| place.capacity).max_by_key(|c| c.to_array());
        let largest = largest.unwrap_or_default();
        let fits = self.nodes.values().any(|place| place.capacity.fits(&task.need));
        if let Some(lack) = lacks(&task.need, &largest).next().filter(|_| !fits) {
            return Err(TaskError::NeverFits { task: task.id, lack, largest });
        }
        if self.tasks.contains_key(&task.id) {
            return Err(TaskError::Duplicate { task: task.id });
        }
        if self.options.tasks_max <= self.tasks.len() {
            return Err(TaskError::Full { limit: self.options.tasks_max });
        }
        match (task.tier, task.deadline_ns, task.duration_ns) {
            (Tier::Realtime, None, _) => Err(TaskError::Incomplete { task: task.id, missing: "deadline_ns" }),
            (Tier::Realtime, _, None) => Err(TaskError::Incomplete { task: task.id, missing: "duration_ns" }),
            _ => Ok(()),
        }
    }

    /// Lets a task wait for its turn.
    ///
    /// # Errors
    /// [`TaskError`]; nothing changed.
    pub fn submit(&mut self, task: Task) -> Result<(), TaskError> {
        self.check(&task)?;
        let ageing_ns = u64::from(self.options.ageing_ms) * 1_000_000;
        let aged_ns = self.now_ns.saturating_add(u64::from(255 - task.priority.0) * ageing_ns);
        let key = match (task.tier, task.deadline_ns) {
            (Tier::Realtime, Some(deadline_ns)) => deadline_ns,
            _ => aged_ns,
        };
        let rank = (task.tier, key, self.seq);
        self.seq += 1;
        self.order.insert(rank, task.id);
        self.tasks.insert(task.id, Entry { task, rank, state: State::Waiting });
        Ok(())
    }

    /// What to do now; `None` when there is nothing. Ask until then.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end at the first `None`; this goes on"
    )]
    pub fn next(&mut self) -> Option<Decision> {
        let (rank, id, node) = self.choose()?;
        self.order.remove(&rank);
        let entry = self.tasks.get_mut(&id)?;
        let place = self.nodes.get_mut(&node)?;
        let resumed = entry.state != State::Waiting;
        let taken = if resumed { given_back(&entry.task.need) } else { entry.task.need };
        entry.state = State::Running(node);
        place.free = place.free.checked_sub(&taken)?;
        self.busy.extend(entry.task.agent);
        Some(if resumed { Decision::Resume { task: id, node } } else { Decision::Start { task: id, node } })
    }

    fn choose(&self) -> Option<(Rank, TaskId, NodeId)> {
        let mut agents = self.busy.clone();
        self.order.iter().find_map(|(rank, id)| {
            let entry = self.tasks.get(id)?;
            let found = match entry.state {
                State::Suspended { node, .. } => {
                    let free = self.nodes.get(&node)?.free;
                    free.fits(&given_back(&entry.task.need)).then_some(node)?
                }
                _ => {
                    if entry.task.agent.is_some_and(|agent| !agents.insert(agent)) {
                        return None;
                    }
                    let mut nodes = self.nodes.iter();
                    *nodes.find(|(_, place)| !place.drained && place.free.fits(&entry.task.need))?.0
                }
            };
            Some((*rank, *id, found))
        })
    }

    /// Adds up to `limit` decisions to `into`; the same as so many calls of [`Scheduler::next`].
    pub fn next_many(&mut self, limit: usize, into: &mut Vec<Decision>) {
        into.extend(std::iter::from_fn(|| self.next()).take(limit));
    }

    /// Takes back what a task holds, and forgets it: one that runs, or was asked to stand still, or does.
    ///
    /// # Errors
    /// [`TaskError::Unknown`] (as for a second time), [`TaskError::NotRunning`]; nothing changed.
    pub fn complete(&mut self, task: TaskId) -> Result<ResourceVector, TaskError> {
        let entry = self.tasks.get(&task).ok_or(TaskError::Unknown { task })?;
        let (node, held) = match entry.state {
            State::Waiting => return Err(TaskError::NotRunning { task }),
            State::Running(node) => (node, entry.task.need),
            State::Suspended { node, .. } => (node, kept(&entry.task.need)),
        };
        self.order.remove(&entry.rank);
        if let Some(agent) = entry.task.agent {
            self.busy.remove(&agent);
        }
        self.tasks.remove(&task);
        self.give_back(node, &held);
        Ok(held)
    }

    fn give_back(&mut self, node: NodeId, held: &ResourceVector) {
        if let Some(place) = self.nodes.get_mut(&node) {
            let free = place.free.checked_add(held);
            assert!(free.is_some_and(|free| place.capacity.fits(&free)), "Q1");
            place.free = free.unwrap_or_default();
        }
    }

    /// The task that was asked to stands still now: processor, disk and network are given back; memory, accelerators
    /// and the sandbox slot are kept.
    ///
    /// # Errors
    /// [`TaskError`]; nothing changed.
    pub fn suspended(&mut self, task: TaskId) -> Result<(), TaskError> {
        self.tasks.get(&task).ok_or(TaskError::Unknown { task })?;
        Err(TaskError::NotSuspending { task })
    }

    /// The task stands still, for an operator, policy or a limit: as [`Scheduler::suspended`], and it does not go on
    /// before [`Scheduler::release`].
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::NotRunning`]; nothing changed.
    pub fn hold(&mut self, task: TaskId) -> Result<(), TaskError> {
        let entry = self.tasks.get_mut(&task).ok_or(TaskError::Unknown { task })?;
        match entry.state {
            State::Waiting => Err(TaskError::NotRunning { task }),
            State::Suspended { node, .. } => {
                entry.state = State::Suspended { node, held: true };
                self.order.remove(&entry.rank);
                Ok(())
            }
            State::Running(node) => {
                entry.state = State::Suspended { node, held: true };
                let back = given_back(&entry.task.need);
                self.give_back(node, &back);
                Ok(())
            }
        }
    }

    /// Ends a hold: the task goes on when what it needs is free.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::NotHeld`]; nothing changed.
    pub fn release(&mut self, task: TaskId) -> Result<(), TaskError> {
        let entry = self.tasks.get_mut(&task).ok_or(TaskError::Unknown { task })?;
        let State::Suspended { node, held: true } = entry.state else {
            return Err(TaskError::NotHeld { task });
        };
        entry.state = State::Suspended { node, held: false };
        self.order.insert(entry.rank, task);
        Ok(())
    }

    /// Forgets a waiting task.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::Running`]; nothing changed.
    pub fn cancel(&mut self, task: TaskId) -> Result<(), TaskError> {
        let entry = self.tasks.get(&task).ok_or(TaskError::Unknown { task })?;
        if entry.state != State::Waiting {
            return Err(TaskError::Running { task });
        }
        self.order.remove(&entry.rank);
        self.tasks.remove(&task);
        Ok(())
    }

    /// Forgets every waiting task of an agent, in the order in which they would have run. One that was handed out is
    /// not among them: it must be stopped, and completed.
    pub fn cancel_agent(&mut self, agent: AgentId) -> Vec<TaskId> {
        let waits = |id: &&TaskId| {
            let entry = self.tasks.get(id);
            entry.is_some_and(|entry| entry.task.agent == Some(agent) && entry.state == State::Waiting)
        };
        let ids: Vec<TaskId> = self.order.values().filter(waits).copied().collect();
        for id in &ids {
            assert!(self.cancel(*id).is_ok(), "Q1: it waits");
        }
        ids
    }

    /// A task becomes as urgent as another that waits for its answer, until [`Scheduler::disinherit`] or the end of
    /// either.
    ///
    /// # Errors
    /// [`TaskError::Unknown`]; nothing changed.
    pub fn inherit(&mut self, task: TaskId, from: TaskId) -> Result<(), TaskError> {
        for task in [task, from] {
            self.tasks.get(&task).ok_or(TaskError::Unknown { task })?;
        }
        Ok(())
    }

    /// Takes back what [`Scheduler::inherit`] gave.
    ///
    /// # Errors
    /// [`TaskError::Unknown`]; nothing changed.
    pub fn disinherit(&mut self, task: TaskId, _from: TaskId) -> Result<(), TaskError> {
        self.tasks.get(&task).map(|_| ()).ok_or(TaskError::Unknown { task })
    }

    /// Adds a node, or takes tasks again on a drained one that is empty.
    ///
    /// # Errors
    /// [`OptionsError`]; nothing changed.
    pub fn add_node(&mut self, node: Node) -> Result<(), OptionsError> {
        if self.nodes.contains_key(&node.id) {
            return Err(OptionsError::DuplicateNode { node: node.id });
        }
        let place = Place { capacity: node.capacity, free: node.capacity, drained: false };
        self.nodes.insert(node.id, place);
        Ok(())
    }

    /// Nothing starts on the node any more; what is there goes on, and resumes there.
    ///
    /// # Errors
    /// [`OptionsError::UnknownNode`]; nothing changed.
    pub fn drain_node(&mut self, node: NodeId) -> Result<(), OptionsError> {
        self.nodes.get_mut(&node).ok_or(OptionsError::UnknownNode { node })?.drained = true;
        Ok(())
    }

    /// The node is gone. Its tasks wait again, at their place; their names, in order.
    ///
    /// # Errors
    /// [`OptionsError::UnknownNode`]; nothing changed.
    pub fn lose_node(&mut self, node: NodeId) -> Result<Vec<TaskId>, OptionsError> {
        self.nodes.remove(&node).ok_or(OptionsError::UnknownNode { node })?;
        let mut lost = Vec::new();
        for (id, entry) in &mut self.tasks {
            let (State::Running(at) | State::Suspended { node: at, .. }) = entry.state else { continue };
            if at == node {
                entry.state = State::Waiting;
                self.order.insert(entry.rank, *id);
                if let Some(agent) = entry.task.agent {
                    self.busy.remove(&agent);
                }
                lost.push((entry.rank, *id));
            }
        }
        lost.sort_unstable();
        Ok(lost.into_iter().map(|(_, id)| id).collect())
    }

    /// Up to `limit` moves that even out the load. Nothing is moved before [`Scheduler::moved`].
    pub fn rebalance(&mut self, _limit: usize) -> Vec<Move> {
        Vec::new()
    }

    /// A running task runs on another node now.
    ///
    /// # Errors
    /// [`TaskError`]; nothing changed.
    pub fn moved(&mut self, task: TaskId, node: NodeId) -> Result<(), TaskError> {
        let entry = self.tasks.get_mut(&task).ok_or(TaskError::Unknown { task })?;
        let State::Running(from) = entry.state else { return Err(TaskError::NotRunning { task }) };
        let place = self.nodes.get_mut(&node).ok_or(TaskError::UnknownNode { node })?;
        let free = place.free.checked_sub(&entry.task.need).ok_or(TaskError::NoRoom { task, node })?;
        place.free = free;
        entry.state = State::Running(node);
        let need = entry.task.need;
        self.give_back(from, &need);
        Ok(())
    }

    /// Why a task is not running, or how it is; `None` when there is none of that name.
    ///
    /// Cost: O(n). For people who ask, not for the hot path.
    #[must_use]
    pub fn why(&self, task: TaskId) -> Option<Why> {
        let entry = self.tasks.get(&task)?;
        let need = &entry.task.need;
        let waiting = match entry.state {
            State::Running(node) => Why::Running { node },
            State::Suspended { node, held } => {
                let free = self.nodes.get(&node)?.free;
                let lacking = lacks(&given_back(need), &free).collect();
                Why::Suspended { node, urgent: None, held, lacking }
            }
            State::Waiting => {
                let before = self.order.range(..entry.rank).filter_map(|(_, id)| self.tasks.get(id));
                let position = before.clone().filter(|other| other.state == State::Waiting).count();
                let same =
                    |other: &&Entry| other.task.agent.is_some() && other.task.agent == entry.task.agent;
                let running = self.tasks.values().filter(same).find(|other| other.state != State::Waiting);
                let reason = if let Some(running) = running {
                    Reason::AgentBusy { running: running.task.id }
                } else if let Some(before) = before.clone().find(same) {
                    Reason::AgentQueue { before: before.task.id }
                } else if self.choose().is_some_and(|(_, chosen, _)| chosen == task) {
                    Reason::Next
                } else if self.nodes.values().any(|place| place.free.fits(need)) {
                    Reason::Turn
                } else {
                    let lacking = |place: &Place| lacks(need, &place.free).collect::<Vec<_>>();
                    let nearest = self.nodes.iter().map(|(node, place)| (lacking(place), *node));
                    let (lacking, node) =
                        nearest.min_by_key(|(lacking, node)| (lacking.len(), *node)).unzip();
                    Reason::Lacks { node, lacking: lacking.unwrap_or_default() }
                };
                Why::Waiting { position, reason }
            }
        };
        Some(waiting)
    }

    /// When time alone changes what [`Scheduler::next`] says, in nanoseconds; `None`: never.
    #[must_use]
    pub const fn wake_at(&self) -> Option<u64> {
        None
    }

    /// What nobody holds on a node.
    #[must_use]
    pub fn free(&self, node: NodeId) -> Option<ResourceVector> {
        self.nodes.get(&node).map(|place| place.free)
    }

    /// What all nodes have together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let sum = |amount: fn(&Place) -> ResourceVector| {
            let sums = self.nodes.values().map(amount);
            sums.reduce(|sum, amount| sum.checked_add(&amount).unwrap_or(sum)).unwrap_or_default()
        };
        let capacity = sum(|place| place.capacity);
        let allocated = capacity.checked_sub(&sum(|place| place.free)).unwrap_or_default();
        Totals { capacity, allocated, reserved: ResourceVector::default() }
    }

    /// How many tasks are in which state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.tasks.values() {
            let of = match entry.state {
                State::Waiting => &mut counts.waiting,
                State::Running(_) => &mut counts.running,
                State::Suspended { .. } => &mut counts.suspended,
            };
            if let Some(count) = of.get_mut(entry.task.tier as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// Tasks that wait for their start.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.counts().waiting.iter().sum()
    }

    /// Tasks that were handed out and are not complete, those that stand still included.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.len() - self.waiting()
    }

    /// Agents that have a task.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.tasks.values().filter_map(|entry| entry.task.agent).collect::<HashSet<_>>().len()
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// The name of the one that is broken, and where.
    ///
    /// Cost: O(n). For tests and the simulator.
    #[doc(hidden)]
    pub fn verify(&self) -> Result<(), String> {
        for (id, place) in &self.nodes {
            let held = self.tasks.values().filter_map(|entry| match entry.state {
                State::Running(node) if node == *id => Some(entry.task.need),
                State::Suspended { node, .. } if node == *id => Some(kept(&entry.task.need)),
                _ => None,
            });
            let sum = held.fold(place.free, |sum, held| sum.checked_add(&held).unwrap_or_default());
            if sum != place.capacity {
                return Err(format!("Q1: node {id} has {sum:?} of {:?}", place.capacity));
            }
        }
        Ok(())
    }
}
