//! Which task starts next on one node.
//!
//! The rule, whole. *Candidates* are, of each agent that is not at work, its best waiting task (most urgent,
//! then oldest). They stand in order: priority from 255 to 0, then age. `next` hands out the first candidate if
//! what it needs is free. If not, it is the *blocked head*: one of the [`AHEAD_MAX`] behind it may pass, the first
//! that fits, and this may happen to a head [`PASSED_MAX`] times; after that nothing behind it starts before it.
//! A more urgent task that comes later stands before the head, and so does not pass it.
//!
//! Why so: strict order alone leaves a node idle behind one large task, and free passing starves that task.
//! Not here: ageing between priorities, preemption, deadlines, more than one node.
//!
//! Invariants
//! - Q1 `allocated` is the sum of the needs of the running tasks, and fits the capacity.
//! - Q2 each need is given back exactly once, by `complete`.
//! - Q3 an agent runs at most one task.
//! - Q4 a task that was accepted can start: its need fits the capacity.
//! - Q5 a refused request changes nothing.
//! - Q6 a blocked head is passed at most `PASSED_MAX` times.

use std::cmp::Reverse;
use std::collections::HashMap;

use symbi_types::{AgentId, ResourceVector};

use crate::agents::Agents;
use crate::ready::{Candidate, Ready};
use crate::slots::{Slot, Slots};
use crate::task::{Reason, Task, TaskError, TaskId, Why, lacks};

/// Tasks that may wait and run in all: about 100 MB of queue. Past it `submit` is refused.
pub const TASKS_MAX: usize = 1 << 20;
/// Times that others may start before a blocked head.
pub const PASSED_MAX: u8 = 64;
/// Candidates behind a blocked head that one `next` looks at, so that its cost is bounded.
pub const AHEAD_MAX: usize = 64;

#[derive(Debug)]
struct Entry {
    id: TaskId,
    seq: u64,
    need: ResourceVector,
    agent: Slot,
    priority: u8,
    passed: u8,
    running: bool,
}

/// The queue and the capacity of one node. Reads no clock; the same calls give the same answers.
#[derive(Debug)]
pub struct Scheduler {
    capacity: ResourceVector,
    allocated: ResourceVector, // Q1
    tasks: Slots<Entry>,
    by_id: HashMap<TaskId, Slot>,
    agents: Agents,
    ready: Ready,
    running: usize,
    seq: u64,
    exhausted: bool, // nothing changed since `next` found nothing
}

impl Scheduler {
    /// An empty queue over what the node has.
    #[must_use]
    pub fn new(capacity: ResourceVector) -> Self {
        Self {
            capacity,
            allocated: ResourceVector::default(),
            tasks: Slots::new(),
            by_id: HashMap::new(),
            agents: Agents::new(),
            ready: Ready::new(),
            running: 0,
            seq: 0,
            exhausted: false,
        }
    }

    /// Lets a task wait for its turn.
    ///
    /// # Errors
    /// [`TaskError::NeverFits`], [`TaskError::Duplicate`], [`TaskError::Full`]; nothing changed (Q5).
    ///
    /// Cost: O(log n).
    pub fn submit(&mut self, task: Task) -> Result<(), TaskError> {
        if let Some(lack) = lacks(&task.need, &self.capacity).next() {
            return Err(TaskError::NeverFits { task: task.id, lack }); // Q4
        }
        if self.by_id.contains_key(&task.id) {
            return Err(TaskError::Duplicate { task: task.id });
        }
        if TASKS_MAX <= self.tasks.len() {
            return Err(TaskError::Full { limit: TASKS_MAX });
        }
        let agent = self.agents.enter(task.agent);
        let entry = Entry {
            id: task.id,
            seq: self.seq,
            need: task.need,
            agent,
            priority: task.priority.0,
            passed: 0,
            running: false,
        };
        let place = (Reverse(entry.priority), entry.seq);
        let slot = self.tasks.insert(entry);
        self.by_id.insert(task.id, slot);
        self.seq += 1;
        self.agents.get_mut(agent).parked.insert((place.0, place.1, slot));
        self.promote(agent);
        self.exhausted = false;
        Ok(())
    }

    /// Hands out the task that starts now, and takes what it needs; `None` when none can.
    ///
    /// Cost: O(log n), and at most `1 + AHEAD_MAX` candidates looked at.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end at the first `None`; this goes on"
    )]
    pub fn next(&mut self) -> Option<TaskId> {
        if self.exhausted {
            return None;
        }
        let Some((slot, passed)) = self.choose() else {
            self.exhausted = true;
            return None;
        };
        if let Some(head) = passed {
            let head = self.tasks.get_mut(head);
            head.passed += 1;
            assert!(head.passed <= PASSED_MAX, "Q6");
        }
        Some(self.start(slot))
    }

    /// The candidate to start, and the blocked head that it passes.
    fn choose(&self) -> Option<(Slot, Option<Slot>)> {
        let free = self.free();
        let mut candidates = self.ready.iter();
        let head = candidates.next()?;
        if free.fits(&head.need) {
            return Some((head.slot, None));
        }
        if PASSED_MAX <= self.tasks.get(head.slot).passed {
            return None;
        }
        let fitting = candidates.take(AHEAD_MAX).find(|candidate| free.fits(&candidate.need))?;
        Some((fitting.slot, Some(head.slot)))
    }

    fn start(&mut self, slot: Slot) -> TaskId {
        let entry = self.tasks.get_mut(slot);
        entry.running = true;
        let (id, agent, priority, seq, need) = (entry.id, entry.agent, entry.priority, entry.seq, entry.need);
        self.ready.remove(priority, seq);
        let tasks = self.agents.get_mut(agent);
        assert!(tasks.running.is_none(), "Q3");
        assert!(tasks.candidate == Some((Reverse(priority), seq, slot)), "A1");
        tasks.candidate = None;
        tasks.running = Some(slot);
        let allocated = self.allocated.checked_add(&need);
        assert!(allocated.is_some_and(|sum| self.capacity.fits(&sum)), "Q1");
        self.allocated = allocated.unwrap_or(self.allocated);
        self.running += 1;
        id
    }

    /// Takes back what a running task held, and forgets the task. Returns what it held.
    ///
    /// # Errors
    /// [`TaskError::Unknown`] (as for a second time, Q2), [`TaskError::NotRunning`]; nothing changed.
    pub fn complete(&mut self, task: TaskId) -> Result<ResourceVector, TaskError> {
        let slot = self.slot(task)?;
        if !self.tasks.get(slot).running {
            return Err(TaskError::NotRunning { task });
        }
        let entry = self.forget(slot);
        let allocated = self.allocated.checked_sub(&entry.need);
        assert!(allocated.is_some(), "Q1: more is given back than was taken");
        self.allocated = allocated.unwrap_or(self.allocated);
        self.running -= 1;
        assert!(0 < self.running || self.allocated == ResourceVector::default(), "Q1");
        let tasks = self.agents.get_mut(entry.agent);
        assert!(tasks.running == Some(slot), "Q3");
        tasks.running = None;
        self.promote(entry.agent);
        self.exhausted = false;
        Ok(entry.need)
    }

    /// Forgets a waiting task.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::Running`]; nothing changed.
    pub fn cancel(&mut self, task: TaskId) -> Result<(), TaskError> {
        let slot = self.slot(task)?;
        if self.tasks.get(slot).running {
            return Err(TaskError::Running { task });
        }
        let entry = self.forget(slot);
        let place = (Reverse(entry.priority), entry.seq, slot);
        let tasks = self.agents.get_mut(entry.agent);
        if tasks.candidate == Some(place) {
            tasks.candidate = None;
            self.ready.remove(entry.priority, entry.seq);
        } else {
            assert!(tasks.parked.remove(&place), "A1: a waiting task is candidate or parked");
        }
        self.promote(entry.agent);
        self.exhausted = false;
        Ok(())
    }

    /// Forgets every waiting task of an agent, in the order in which they would have run. One that runs is not
    /// among them: it must be stopped, and completed.
    pub fn cancel_agent(&mut self, agent: AgentId) -> Vec<TaskId> {
        let Some(tasks) = self.agents.find(agent) else {
            return Vec::new();
        };
        let slots = tasks.candidate.iter().chain(&tasks.parked);
        let ids: Vec<TaskId> = slots.map(|(_, _, slot)| self.tasks.get(*slot).id).collect();
        for id in &ids {
            assert!(self.cancel(*id).is_ok(), "A1: the agent's waiting tasks wait");
        }
        ids
    }

    /// Why a task is not running, or that it is; `None` when it neither waits nor runs.
    ///
    /// Cost: O(n). For people who ask, not for the hot path.
    #[must_use]
    pub fn why(&self, task: TaskId) -> Option<Why> {
        let slot = *self.by_id.get(&task)?;
        let entry = self.tasks.get(slot);
        if entry.running {
            return Some(Why::Running);
        }
        let mine = (Reverse(entry.priority), entry.seq);
        let before = |other: &&Entry| !other.running && (Reverse(other.priority), other.seq) < mine;
        let position = self.tasks.iter().filter(before).count();
        Some(Why::Waiting { position, reason: self.reason(slot, entry) })
    }

    fn reason(&self, slot: Slot, entry: &Entry) -> Reason {
        let tasks = self.agents.get(entry.agent);
        if let Some(running) = tasks.running {
            return Reason::AgentBusy { running: self.tasks.get(running).id };
        }
        if let Some((_, _, before)) = tasks.candidate.filter(|(_, _, candidate)| *candidate != slot) {
            return Reason::AgentQueue { before: self.tasks.get(before).id };
        }
        let lacking: Vec<_> = lacks(&entry.need, &self.free()).collect();
        if !lacking.is_empty() {
            return Reason::Lacks(lacking);
        }
        match (self.choose(), self.ready.iter().next()) {
            (Some((chosen, _)), _) if chosen == slot => Reason::Next,
            (None, Some(head)) if PASSED_MAX <= self.tasks.get(head.slot).passed => {
                Reason::HeldBy { head: self.tasks.get(head.slot).id }
            }
            _ => Reason::Turn,
        }
    }

    /// What the node has.
    #[must_use]
    pub const fn capacity(&self) -> ResourceVector {
        self.capacity
    }

    /// What the running tasks hold (Q1).
    #[must_use]
    pub const fn allocated(&self) -> ResourceVector {
        self.allocated
    }

    /// What nobody holds.
    #[must_use]
    pub fn free(&self) -> ResourceVector {
        let free = self.capacity.checked_sub(&self.allocated);
        assert!(free.is_some(), "Q1");
        free.unwrap_or_default()
    }

    /// Tasks that were handed out and are not complete.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Tasks that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tasks.len() - self.running
    }

    /// Agents that have a task, waiting or running.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    fn slot(&self, task: TaskId) -> Result<Slot, TaskError> {
        self.by_id.get(&task).copied().ok_or(TaskError::Unknown { task })
    }

    fn forget(&mut self, slot: Slot) -> Entry {
        let entry = self.tasks.remove(slot);
        self.by_id.remove(&entry.id);
        entry
    }

    /// Makes the best waiting task of an idle agent its candidate (A1); forgets an agent that has none (A2).
    fn promote(&mut self, agent: Slot) {
        let tasks = self.agents.get_mut(agent);
        if tasks.running.is_some() {
            return;
        }
        if let Some(best) = tasks.parked.first().copied() {
            if tasks.candidate.is_some_and(|candidate| candidate < best) {
                return;
            }
            tasks.parked.remove(&best);
            let before = tasks.candidate.replace(best);
            let need = self.tasks.get(best.2).need;
            self.ready.insert(best.0.0, best.1, Candidate { slot: best.2, need });
            if let Some(before) = before {
                tasks.parked.insert(before);
                self.ready.remove(before.0.0, before.1);
            }
        }
        self.agents.leave(agent);
    }
}
