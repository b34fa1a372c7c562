//! The host of a simulated run: it does what the scheduler decides, as slowly and as badly as the plan says.
//!
//! Why: a victim that takes long to stand still, or ends before it does, is where a scheduler loses count.
//! Not here: what happens from outside (`plan`), what must hold (`ledger`, `order`).
//!
//! Invariants
//! - N1 an agent changes its state only as the table of the lifecycle allows.
//! - N13 when faults stop, everything that was accepted ends, and every node is as empty as it was.
//! - N14 time alone changes an answer at `wake_at` and never else; a host needs one timer and no tick.
//! - N15 a refused request says why and changes nothing.

use std::collections::BTreeMap;

use symbi_scheduler::{
    Cause, Decision, Node, NodeId, Scheduler, Share, State, Task, TaskError, TaskId, TenantId,
};
use symbi_testkit::Timeline;
use symbi_types::{AgentId, ResourceVector};

use crate::ledger::{Broken, Entry, Ledger, Place, ensure};
use crate::plan::{self, Event, Job, Plan, Which};

/// What one run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A digest of every decision and every answer, with its time: equal runs have equal ones.
    pub digest: u64,
    pub steps: u64,
    pub accepted: u64,
    pub refused: u64,
    pub preempted: u64,
    pub resumed: u64,
    pub lost: u64,
    pub moved: u64,
    pub missed: u64,
}

pub enum Happening {
    Planned(usize),
    /// A task has done its work, if this stretch is still the one it is in.
    Done(TaskId, u64),
    /// A task that was asked to stand still does, likewise.
    Stands(TaskId, u64),
    Moved(TaskId, u64, NodeId),
    Wake,
    FaultsStop,
}

pub struct Host<'a> {
    plan: &'a Plan,
    pub scheduler: Scheduler,
    pub ledger: Ledger,
    pub timeline: Timeline<Happening>,
    states: BTreeMap<AgentId, State>,
    generations: [u32; 256],
    armed: Option<u64>,
    pub last: TaskId,
    pub outcome: Outcome,
}

/// More steps than any plan can need: a run that reaches them goes round in circles.
const STEPS_MAX: u64 = 100_000;

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> Result<Outcome, Broken> {
    let scheduler = Scheduler::new(&plan.nodes, plan.options).expect("the plan's settings are in range");
    let mut host = Host {
        plan,
        scheduler,
        ledger: Ledger::new(&plan.nodes, plan.options),
        timeline: Timeline::new(),
        states: BTreeMap::new(),
        generations: [0; 256],
        armed: None,
        last: TaskId(u64::MAX),
        outcome: Outcome { digest: 0xcbf2_9ce4_8422_2325, ..Outcome::default() },
    };
    for (tenant, share) in &plan.tenants {
        host.set_tenant(*tenant, *share)?;
    }
    for (at, (at_ns, _)) in plan.events.iter().enumerate() {
        host.timeline.push(*at_ns, Happening::Planned(at));
    }
    let last_ns = plan.events.last().map_or(0, |(at_ns, _)| *at_ns);
    host.timeline.push(last_ns, Happening::FaultsStop);
    while let Some(happening) = host.timeline.pop() {
        host.outcome.steps += 1;
        ensure!(host.outcome.steps < STEPS_MAX, "N13 progress", "{STEPS_MAX} steps and no end");
        host.scheduler.advance(host.timeline.now_ns());
        host.happens(happening)?;
        host.decide()?;
        host.ledger.check(&host.scheduler, host.outcome.steps, 8)?;
        host.arm()?;
    }
    host.nothing_is_left()?;
    host.outcome.missed = host.ledger.missed;
    Ok(host.outcome)
}

impl Host<'_> {
    pub fn now_ns(&self) -> u64 {
        self.timeline.now_ns()
    }

    /// FNV-1a, a word at a time.
    pub fn note(&mut self, words: &[u64]) {
        for word in words.iter().chain(&[self.timeline.now_ns()]) {
            self.outcome.digest = (self.outcome.digest ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn happens(&mut self, happening: Happening) -> Result<(), Broken> {
        let in_stretch = |host: &Self, task, stretch| {
            host.ledger.tasks.get(&task).is_some_and(|entry: &Entry| entry.stretch == stretch)
        };
        match happening {
            Happening::Planned(at) => self.planned(&self.plan.events[at].1),
            Happening::Done(task, stretch) if in_stretch(self, task, stretch) => self.done(task),
            Happening::Stands(task, stretch) if in_stretch(self, task, stretch) => self.stands(task),
            Happening::Moved(task, stretch, node) if in_stretch(self, task, stretch) => {
                self.moved(task, node)
            }
            Happening::Done(..) | Happening::Stands(..) | Happening::Moved(..) | Happening::Wake => Ok(()),
            Happening::FaultsStop => self.faults_stop(),
        }
    }

    /// Asks until there is nothing to do, and does it.
    fn decide(&mut self) -> Result<(), Broken> {
        let mut batch = Vec::new();
        loop {
            match self.plan.batch {
                0 => batch.extend(self.scheduler.next()),
                limit => self.scheduler.next_many(limit, &mut batch),
            }
            if batch.is_empty() {
                return self.ledger.judge_pause(self.timeline.now_ns());
            }
            for decision in batch.drain(..) {
                self.carry_out(decision)?;
            }
        }
    }

    fn carry_out(&mut self, decision: Decision) -> Result<(), Broken> {
        let now_ns = self.now_ns();
        self.ledger.decided(now_ns, decision)?;
        match decision {
            Decision::Start { task, node } => {
                self.note(&[1, task.0, node.0.into()]);
                self.turn(task, &[Cause::TaskAssigned])?;
                self.works(task);
            }
            Decision::Resume { task, node } => {
                self.note(&[2, task.0, node.0.into()]);
                self.turn(task, &[Cause::Cleared])?;
                self.outcome.resumed += 1;
                self.works(task);
            }
            Decision::Suspend { task, urgent } => {
                self.note(&[3, task.0, urgent.0]);
                self.outcome.preempted += 1;
                let entry = &self.ledger.tasks[&task];
                self.timeline.push(now_ns + entry.job.slow_ns, Happening::Stands(task, entry.stretch));
            }
        }
        Ok(())
    }

    fn works(&mut self, task: TaskId) {
        let entry = &self.ledger.tasks[&task];
        self.timeline.push(self.now_ns() + entry.left_ns, Happening::Done(task, entry.stretch));
    }

    /// N1: moves the state of the task's agent.
    fn turn(&mut self, task: TaskId, causes: &[Cause]) -> Result<(), Broken> {
        let Some(agent) = self.ledger.tasks[&task].task.agent else { return Ok(()) };
        self.turn_agent(agent, causes)
    }

    pub fn turn_agent(&mut self, agent: AgentId, causes: &[Cause]) -> Result<(), Broken> {
        let state = self.states.get_mut(&agent).expect("an agent is made before its first task");
        for cause in causes {
            let after = state.after(*cause);
            *state =
                after.map_err(|no| Broken { rule: "N1 only legal transitions", text: no.to_string() })?;
        }
        Ok(())
    }

    /// The task has done its work, or crashed: it is over, and may be tried again.
    fn done(&mut self, task: TaskId) -> Result<(), Broken> {
        let entry = self.complete(task)?;
        if let Some(crashes) = entry.job.crashes.checked_sub(1) {
            let id = TaskId(task.0 + 1_000_000);
            let deadline_ns = entry.task.deadline_ns.map(|_| self.now_ns() + entry.job.runs_ns * 10);
            let again = Job { crashes, task: Task { id, deadline_ns, ..entry.job.task }, ..entry.job };
            self.submit(again)?;
        }
        Ok(())
    }

    /// N4: what comes back is what was held, and it comes back once.
    fn complete(&mut self, task: TaskId) -> Result<Entry, Broken> {
        let standing = self.ledger.tasks[&task].place == Place::Standing;
        self.turn(
            task,
            if standing { &[Cause::Cleared, Cause::TaskCompleted] } else { &[Cause::TaskCompleted] },
        )?;
        let entry = self.ledger.ends(self.now_ns(), task);
        let back = self.scheduler.complete(task);
        ensure!(
            back == Ok(entry.holds()),
            "N4 given back once",
            "{task}: {back:?}, and it held {:?}",
            entry.holds()
        );
        self.note(&[4, task.0]);
        self.last = task;
        Ok(entry)
    }

    fn stands(&mut self, task: TaskId) -> Result<(), Broken> {
        let now_ns = self.now_ns();
        self.ledger.stands(now_ns, task);
        self.turn(task, &[Cause::ResourceConstraint])?;
        let answer = self.scheduler.suspended(task);
        ensure!(answer == Ok(()), "N15 it was asked to", "{task} stands still: {answer:?}");
        Ok(())
    }

    /// N14: one timer, for what the scheduler says, and never in vain.
    fn arm(&mut self) -> Result<(), Broken> {
        let at = self.scheduler.wake_at();
        if let Some(at_ns) = at {
            ensure!(self.now_ns() < at_ns, "N14 a wake lies ahead", "{at_ns} at {}", self.now_ns());
            if self.armed != at {
                self.timeline.push(at_ns, Happening::Wake);
            }
        }
        self.armed = at;
        Ok(())
    }

    fn planned(&mut self, event: &Event) -> Result<(), Broken> {
        match *event {
            Event::Submit(job) => self.submit(job),
            Event::Hold(which) => self.hold(which),
            Event::Release(which) => self.release(which),
            Event::Cancel(which) => self.cancel(which),
            Event::CancelAgent(number) => self.cancel_agent(self.agent(number)),
            Event::StopAgent(number) => self.stop_agent(number),
            Event::Inherit(task, from) => self.inherit(task, from, true),
            Event::Disinherit(task, from) => self.inherit(task, from, false),
            Event::SetTenant(tenant, share) => self.set_tenant(tenant, share),
            Event::AddNode(node) => self.add_node(node),
            Event::DrainNode(n) => self.drain_node(n),
            Event::LoseNode(n) => self.lose_node(n),
            Event::Rebalance(limit) => self.rebalance(limit),
            Event::Nonsense(dice) => self.nonsense(dice),
            Event::Ask => self.ask(),
        }
    }

    fn agent(&self, number: u8) -> AgentId {
        plan::agent(number, self.generations[usize::from(number)])
    }

    fn submit(&mut self, job: Job) -> Result<(), Broken> {
        let agent = job.agent.map(|number| self.agent(number));
        let task = Task { agent, ..job.task };
        if let Some(agent) = agent
            && !self.states.contains_key(&agent)
        {
            self.states.insert(agent, State::Initializing);
            self.turn_agent(agent, &[Cause::Validated])?;
        }
        let answer = self.scheduler.submit(task);
        self.ledger.submitted(self.now_ns(), job, task, answer)?;
        match answer {
            Ok(()) => self.outcome.accepted += 1,
            Err(_) => self.outcome.refused += 1,
        }
        self.note(&[6, task.id.0, u64::from(answer.is_ok())]);
        Ok(())
    }

    /// A task by name, or by its number among those in a place.
    pub fn find(&self, which: Which) -> TaskId {
        let found = match which {
            Which::Named(id) => Some(TaskId(id)),
            Which::Waiting(n) => self.ledger.nth(n, |place| place == Place::Waiting),
            Which::Running(n) => {
                self.ledger.nth(n, |place| matches!(place, Place::Running | Place::Suspending))
            }
            Which::Standing(n) => self.ledger.nth(n, |place| place == Place::Standing),
        };
        found.unwrap_or(TaskId(u64::MAX))
    }

    fn hold(&mut self, which: Which) -> Result<(), Broken> {
        let (task, now_ns) = (self.find(which), self.now_ns());
        let answer = self.scheduler.hold(task);
        let place = self.ledger.tasks.get(&task).map(|entry| entry.place);
        let due = match place {
            None => Err(TaskError::Unknown { task }),
            Some(Place::Waiting) => Err(TaskError::NotRunning { task }),
            Some(_) => Ok(()),
        };
        ensure!(answer == due, "N15 says why", "hold {task}, which is {place:?}: {answer:?}");
        if answer.is_ok() {
            if place != Some(Place::Standing) {
                self.turn(task, &[Cause::OperatorHold])?;
            }
            self.ledger.stands(now_ns, task).held = true;
        }
        Ok(())
    }

    fn release(&mut self, which: Which) -> Result<(), Broken> {
        let task = self.find(which);
        let answer = self.scheduler.release(task);
        let entry = self.ledger.tasks.get_mut(&task);
        let due = match &entry {
            None => Err(TaskError::Unknown { task }),
            Some(entry) if !entry.held => Err(TaskError::NotHeld { task }),
            Some(_) => Ok(()),
        };
        ensure!(answer == due, "N15 says why", "release {task}, {entry:?}: {answer:?}");
        if let (Ok(()), Some(entry)) = (answer, entry) {
            entry.held = false;
        }
        Ok(())
    }

    /// As the kernel does it: what waits is cancelled, what was handed out is ended.
    fn cancel(&mut self, which: Which) -> Result<(), Broken> {
        let task = self.find(which);
        let answer = self.scheduler.cancel(task);
        match self.ledger.tasks.get(&task).map(|entry| entry.place) {
            None => ensure!(answer == Err(TaskError::Unknown { task }), "N15 says why", "{task}: {answer:?}"),
            Some(Place::Waiting) => {
                ensure!(answer == Ok(()), "N15 what waits can be cancelled", "{task}: {answer:?}");
                self.ledger.ends(self.now_ns(), task);
            }
            Some(_) => {
                ensure!(answer == Err(TaskError::Running { task }), "N15 says why", "{task}: {answer:?}");
                self.complete(task)?;
            }
        }
        Ok(())
    }

    fn cancel_agent(&mut self, agent: AgentId) -> Result<(), Broken> {
        let gone = self.scheduler.cancel_agent(agent);
        let waits = |entry: &Entry| entry.place == Place::Waiting && entry.task.agent == Some(agent);
        let due: Vec<TaskId> =
            self.ledger.tasks.iter().filter(|(_, entry)| waits(entry)).map(|(id, _)| *id).collect();
        let mut told = gone.clone();
        told.sort_unstable();
        ensure!(told == due, "N5 none is lost", "cancelled of {agent}: {told:?}, and {due:?} waited");
        for task in gone {
            self.note(&[7, task.0]);
            self.ledger.ends(self.now_ns(), task);
        }
        Ok(())
    }

    fn stop_agent(&mut self, number: u8) -> Result<(), Broken> {
        let agent = self.agent(number);
        let Some(state) = self.states.get(&agent).copied() else { return Ok(()) };
        self.cancel_agent(agent)?;
        self.turn_agent(agent, state.stop(true).expect("a forced stop waits for nothing"))?;
        if let Some(task) = self.ledger.busy(agent) {
            let entry = self.ledger.ends(self.now_ns(), task);
            let back = self.scheduler.complete(task);
            ensure!(back == Ok(entry.holds()), "N4 given back once", "{task}: {back:?}");
        }
        self.generations[usize::from(number)] += 1;
        Ok(())
    }

    fn inherit(&mut self, task: Which, from: Which, on: bool) -> Result<(), Broken> {
        let (task, from) = (self.find(task), self.find(from));
        let known = |task| self.ledger.tasks.contains_key(&task);
        let answer =
            if on { self.scheduler.inherit(task, from) } else { self.scheduler.disinherit(task, from) };
        if !known(task) || on && !known(from) {
            ensure!(answer.is_err(), "N15 says why", "{task} inherits from {from}: {answer:?}");
        }
        if answer.is_ok() {
            self.ledger.inherits(task, from, on);
        }
        Ok(())
    }

    fn set_tenant(&mut self, tenant: TenantId, share: Share) -> Result<(), Broken> {
        let answer = self.scheduler.set_tenant(tenant, share);
        ensure!(answer == Ok(()), "N15 a tenant can be set", "{tenant}: {answer:?}");
        self.ledger.tenants.insert(tenant, share);
        Ok(())
    }

    /// N14: nothing has happened since everything was decided, so there is nothing to decide.
    fn ask(&mut self) -> Result<(), Broken> {
        if self.armed.is_none_or(|at_ns| self.now_ns() < at_ns) {
            let decision = self.scheduler.next();
            ensure!(
                decision.is_none(),
                "N14 a wake is told",
                "{decision:?}, and the timer is at {:?}",
                self.armed
            );
        }
        Ok(())
    }

    /// Nothing fails any more: nodes are there, holds end, quotas leave room.
    fn faults_stop(&mut self) -> Result<(), Broken> {
        for (n, node) in self.plan.nodes.iter().enumerate() {
            let id = NodeId(u32::try_from(1_000_000 + n).unwrap());
            self.add_node(Node { id, capacity: node.capacity })?;
        }
        let added = self.plan.events.iter().filter_map(|(_, event)| match event {
            Event::AddNode(node) => Some(*node),
            _ => None,
        });
        for node in added.collect::<Vec<_>>() {
            self.add_node(Node { id: NodeId(node.id.0 + 2_000_000), ..node })?;
        }
        for (tenant, _) in &self.plan.tenants {
            self.set_tenant(*tenant, Share::default())?;
        }
        let held: Vec<TaskId> =
            self.ledger.tasks.iter().filter(|(_, entry)| entry.held).map(|(id, _)| *id).collect();
        held.into_iter().try_for_each(|task| self.release(Which::Named(task.0)))
    }

    fn nothing_is_left(&self) -> Result<(), Broken> {
        if let Some((id, entry)) = self.ledger.tasks.iter().next() {
            let why = self.scheduler.why(*id);
            ensure!(
                false,
                "N13 progress",
                "{} are not over; {id}: {why:?} {entry:?}",
                self.ledger.tasks.len()
            );
        }
        let empty = self.scheduler.totals().allocated == ResourceVector::default();
        ensure!(empty, "N3 to the last unit", "{:?} at the end", self.scheduler.totals());
        ensure!(self.scheduler.agents() == 0, "N5 none is lost", "{} agents", self.scheduler.agents());
        let ended = self.outcome.accepted == self.ledger.ended;
        ensure!(ended, "N5 none is lost", "{} accepted, {} ended", self.outcome.accepted, self.ledger.ended);
        Ok(())
    }
}
