//! Whose turn it is: the scheduler, the runs it has been given, and what the host was told about each.
//!
//! Why: a run is in the scheduler, in the table of runs and in its agent's state at once. One lock holds the first two
//! together, and the agents are looked at within it, so that no order of calls sees them differ.
//! Not here: who is chosen (`symbi-scheduler`), what is recorded (`runs`, `preemption`, `suspension`).
//!
//! Invariants
//! - K27 a run holds its resources from the moment it is started until it is ended, less what it gives back while it
//!   stands still, and returns them once.
//! - K43 an agent that is stopped or suspended starts no run.
//! - K70 a run is known to the scheduler exactly as long as it is in the table and not set aside; what the host was told
//!   last about a run is what the run's phase says.

use std::collections::{BTreeSet, HashMap};

use symbi_scheduler::{Cause, Decision, Scheduler, State, Task, TaskError, TaskId};
use symbi_types::{AgentId, RunId};

use crate::inheritance::Requests;
use crate::kernel::Kernel;
use crate::monitor::Timed;
use crate::moves::Moves;
use crate::registry::Registry;
use crate::tenants::Tenants;

/// How far a run has come, and what the host was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for its turn.
    Waiting,
    /// Its turn came while its agent was held: it goes back into the queue when that is over.
    SetAside,
    /// It was started, or let go on, and the host does so.
    Running,
    /// The host was told to bring it to a standstill.
    Suspending,
    /// The host says that it stands still.
    Suspended,
    /// It stood still, and the host was told to let it go on.
    Resuming,
}

impl Phase {
    /// It was handed out: it holds resources, and its agent is at work on it.
    pub(crate) const fn is_begun(self) -> bool {
        !matches!(self, Self::Waiting | Self::SetAside)
    }

    /// The name in answers for people.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::SetAside => "set_aside",
            Self::Running => "running",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Resuming => "resuming",
        }
    }
}

/// A run: one task of one agent.
pub(crate) struct Run {
    pub(crate) agent: AgentId,
    pub(crate) task: Task,
    pub(crate) phase: Phase,
    /// The scheduler asked for its standstill, for this one.
    pub(crate) urgent: Option<RunId>,
    pub(crate) started_ns: u64,
    pub(crate) cancelled: bool,
    /// How long it has stood still, and since when it does.
    still_ns: u64,
    still_since_ns: Option<u64>,
    /// The time that it has reserved, where time is counted.
    pub(crate) timed: Option<Box<Timed>>,
    /// What it has used of processors, as its host reads it; none where nobody has said.
    pub(crate) cpu_ms: Option<u64>,
}

impl Run {
    /// The host says that it stands still.
    pub(crate) fn stands(&mut self, now_ns: u64) {
        self.phase = Phase::Suspended;
        self.still_since_ns.get_or_insert(now_ns);
    }

    /// The host says that it goes on.
    pub(crate) fn goes_on(&mut self, now_ns: u64) {
        self.phase = Phase::Running;
        if let Some(since_ns) = self.still_since_ns.take() {
            self.still_ns = self.still_ns.saturating_add(now_ns.saturating_sub(since_ns));
        }
    }

    /// It was about to stand still and need not: had it stood before, that time is not told from work any more.
    pub(crate) fn is_at_work(&mut self) {
        self.still_since_ns = None;
    }

    /// How long it has been at work.
    pub(crate) fn worked_ns(&self, now_ns: u64) -> u64 {
        if !self.phase.is_begun() {
            return 0;
        }
        let still_ns = self.still_since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
        now_ns.saturating_sub(self.started_ns).saturating_sub(self.still_ns).saturating_sub(still_ns)
    }
}

/// See the module.
pub(crate) struct Turns {
    pub(crate) scheduler: Scheduler,
    pub(crate) runs: HashMap<RunId, Run>,
    pub(crate) tasks: HashMap<TaskId, RunId>,
    of_agent: BTreeSet<(AgentId, TaskId, RunId)>,
    pub(crate) tenants: Tenants,
    pub(crate) requests: Requests,
    /// What the kernel decided by itself, and the host has not been told.
    pub(crate) untold: Moves,
    /// Agents that policy ends; the host stops them.
    condemned: Vec<AgentId>,
    next_task: u64,
}

impl Turns {
    pub(crate) fn new(scheduler: Scheduler, tenants: Tenants) -> Self {
        Self {
            scheduler,
            tenants,
            runs: HashMap::new(),
            tasks: HashMap::new(),
            of_agent: BTreeSet::new(),
            requests: Requests::default(),
            untold: Moves::default(),
            condemned: Vec::new(),
            next_task: 0,
        }
    }

    pub(crate) fn next_task(&mut self) -> TaskId {
        self.next_task += 1;
        TaskId(self.next_task)
    }

    /// A run is in the table from here on; it waits once it is submitted.
    pub(crate) fn insert(&mut self, run: RunId, agent: AgentId, task: Task) {
        let phase = Phase::SetAside;
        let fresh = Run {
            agent,
            task,
            phase,
            urgent: None,
            started_ns: 0,
            cancelled: false,
            still_ns: 0,
            still_since_ns: None,
            timed: None,
            cpu_ms: None,
        };
        self.runs.insert(run, fresh);
        self.tasks.insert(task.id, run);
        self.of_agent.insert((agent, task.id, run));
    }

    /// The runs of an agent, in the order in which they were asked for.
    pub(crate) fn runs_of(&self, agent: AgentId) -> impl Iterator<Item = RunId> {
        let mine =
            self.of_agent.range((agent, TaskId(0), RunId::MIN)..=(agent, TaskId(u64::MAX), RunId::MAX));
        mine.map(|(_, _, run)| *run)
    }

    /// Gives a run to the scheduler.
    pub(crate) fn submit(&mut self, run: RunId) -> Result<(), TaskError> {
        let Some(known) = self.runs.get_mut(&run) else { return Ok(()) };
        self.scheduler.submit(known.task)?;
        known.phase = Phase::Waiting;
        let (agent, task) = (known.agent, known.task.id);
        self.inherit_all(agent, task);
        Ok(())
    }

    /// The host is to bring the run to a standstill, unless it was told so already.
    pub(crate) fn halt(&mut self, run: RunId, moves: &mut Moves) {
        let Some(known) = self.runs.get_mut(&run) else { return };
        if matches!(known.phase, Phase::Running | Phase::Resuming) {
            known.phase = Phase::Suspending;
            moves.suspend(run);
        }
    }

    /// Policy ends the agent; the host is told once.
    pub(crate) fn condemn(&mut self, agent: AgentId) {
        if !self.condemned.contains(&agent) {
            self.condemned.push(agent);
        }
    }

    /// Takes everything that the scheduler decides now. `agents` is locked within this lock.
    pub(crate) fn hand_out(&mut self, agents: &mut Registry, now_ns: u64) -> Moves {
        self.scheduler.advance(now_ns);
        let mut moves = std::mem::take(&mut self.untold);
        while let Some(decision) = self.scheduler.next() {
            match decision {
                Decision::Start { task, .. } => self.start(task, agents, now_ns, &mut moves),
                Decision::Suspend { task, urgent } => {
                    let (Some(run), urgent) = (self.run_of(task), self.tasks.get(&urgent).copied()) else {
                        continue;
                    };
                    if let Some(known) = self.runs.get_mut(&run) {
                        known.urgent = urgent;
                    }
                    self.halt(run, &mut moves);
                }
                Decision::Resume { task, .. } => {
                    let Some(run) = self.run_of(task) else { continue };
                    let Some(known) = self.runs.get_mut(&run) else { continue };
                    debug_assert!(known.phase == Phase::Suspended, "K70: {:?}", known.phase);
                    known.urgent = None;
                    known.phase = Phase::Resuming;
                    moves.resume(run);
                }
            }
        }
        moves
    }

    fn run_of(&self, task: TaskId) -> Option<RunId> {
        let run = self.tasks.get(&task).copied();
        debug_assert!(run.is_some(), "K70: the scheduler knows a task that is no run");
        run
    }

    fn start(&mut self, task: TaskId, agents: &mut Registry, now_ns: u64, moves: &mut Moves) {
        let Some(run) = self.run_of(task) else { return };
        let Some(known) = self.runs.get_mut(&run) else { return };
        let agent = agents.get_mut(known.agent);
        // K43. Stopping and holding move an agent without asking the scheduler.
        let starts = agent.is_some_and(|agent| {
            let moved = agent.step(Cause::TaskAssigned).is_ok();
            if moved {
                agent.running = Some(run);
                agent.cancelled = known.cancelled; // one that waited may be cancelled already (K77)
            }
            moved
        });
        if starts {
            known.phase = Phase::Running;
            known.started_ns = now_ns;
            moves.start.push(run);
            let agent = known.agent;
            self.inherit_all(agent, task);
        } else {
            known.phase = Phase::SetAside; // until the agent goes on, or whoever stopped it ends its runs
            let returned = self.scheduler.complete(task);
            debug_assert!(returned.is_ok(), "K27");
        }
    }

    /// Puts back into the queue what was set aside while the agent was held, in the order in which it was asked for.
    /// What the queue does not take any more (it is full, or its deadline can be kept no longer) is answered.
    pub(crate) fn take_up(&mut self, agent: AgentId) -> Vec<(RunId, String)> {
        let aside = |run: &RunId| self.runs.get(run).is_some_and(|known| known.phase == Phase::SetAside);
        let aside: Vec<RunId> = self.runs_of(agent).filter(aside).collect();
        aside.into_iter().filter_map(|run| Some((run, self.submit(run).err()?.to_string()))).collect()
    }

    /// Forgets a run and takes back what it holds (K27).
    pub(crate) fn remove(&mut self, run: RunId) -> Option<Run> {
        let known = self.runs.remove(&run)?;
        self.tasks.remove(&known.task.id);
        self.of_agent.remove(&(known.agent, known.task.id, run));
        self.forget_requests(run);
        let returned = match known.phase {
            Phase::SetAside => Ok(()),
            Phase::Waiting => self.scheduler.cancel(known.task.id),
            Phase::Running | Phase::Suspending | Phase::Suspended | Phase::Resuming => {
                self.scheduler.complete(known.task.id).map(|_| ())
            }
        };
        debug_assert!(returned.is_ok(), "K27: {returned:?}");
        self.untold.forget(run);
        Some(known)
    }

    /// What must hold between calls, for tests: the name of what does not.
    pub(crate) fn verify(&self, agents: &Registry) -> Result<(), String> {
        self.scheduler.verify()?;
        for (id, run) in &self.runs {
            let named = self.tasks.get(&run.task.id) == Some(id);
            let scheduled = self.scheduler.why(run.task.id).is_some();
            if !named || scheduled == (run.phase == Phase::SetAside) {
                return Err(format!("K70: run {id} is {} and scheduled: {scheduled}", run.phase.as_str()));
            }
            let Some(agent) = agents.get(run.agent) else { continue };
            if run.phase.is_begun() != (agent.running == Some(*id)) {
                return Err(format!("K70: run {id} is {} and its agent disagrees", run.phase.as_str()));
            }
            let still = matches!(run.phase, Phase::Suspended | Phase::Resuming);
            if still && agent.state != State::Suspended {
                return Err(format!("K43: run {id} stands still and its agent is {}", agent.state));
            }
        }
        Ok(())
    }
}

impl Kernel {
    /// Whatever the scheduler decides now, under both locks.
    pub(crate) fn turn<T>(&self, change: impl FnOnce(&mut Turns, &mut Registry) -> T) -> (T, Moves) {
        let now_ns = self.moment().mono_ns; // before the locks (K25)
        let mut turns = self.turns();
        let mut agents = self.agents();
        turns.scheduler.advance(now_ns);
        let changed = change(&mut turns, &mut agents);
        let moves = turns.hand_out(&mut agents, now_ns);
        (changed, moves)
    }

    /// Tells the host, at its next call, what the kernel decided by itself.
    pub(crate) fn tell_later(&self, moves: Moves) {
        if moves.is_empty() {
            return;
        }
        self.turns().untold.append(moves);
        self.ring();
    }

    /// Whether there is something that [`Kernel::tick`] or [`Kernel::take_condemned`] would say now.
    #[must_use]
    pub fn has_untold(&self) -> bool {
        let turns = self.turns();
        !turns.untold.is_empty() || !turns.condemned.is_empty()
    }

    /// Agents that policy ends, each once: the host stops them. They are suspended already.
    #[must_use]
    pub fn take_condemned(&self) -> Vec<AgentId> {
        std::mem::take(&mut self.turns().condemned)
    }

    /// Checks the invariants between runs, agents and scheduler.
    ///
    /// # Errors
    /// The name of the one that is broken, and where.
    ///
    /// Cost: O(n). For tests.
    #[doc(hidden)]
    pub fn verify_turns(&self) -> Result<(), String> {
        let turns = self.turns();
        turns.verify(&self.agents())
    }
}
