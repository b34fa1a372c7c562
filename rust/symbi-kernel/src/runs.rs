//! Runs: asked for, decided, recorded, queued.
//!
//! Not here: executing an agent's code. The kernel says when a run starts and is told how it ended. Nor whose turn it is
//! (`turns`), and how it ends (`ends`).
//!
//! Invariants
//! - K74 policy is asked before a run is given to the scheduler, and sees what the scheduler will go by: its urgency, and the
//!   resources that it will hold.
//! - K121 runs that are begun together are decided, recorded and queued as if they had been begun one after the other; one
//!   that is refused keeps no other from beginning.

use std::sync::Arc;

use symbi_policy::{Entity, Value};
use symbi_scheduler::{Priority, Task, TaskError, Tier};
use symbi_types::{AgentId, LabelSet, ResourceLimits, ResourceVector, RunId};

use crate::agents::{AgentError, check_labels};
use crate::ends::RunOutcome;
use crate::kernel::Kernel;
use crate::monitor::counting::{Allowance, CPU_MS, TIME_MS};
use crate::monitor::{Asked, Granted};
use crate::moves::Moves;
use crate::registry::AgentSpec;
use crate::{Principal, exit};

/// How a run waits for its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    /// In which queue.
    pub tier: Tier,
    /// How urgent it is within its tier.
    pub priority: Priority,
    /// When it must be over, in milliseconds from now. A realtime run has one.
    pub deadline_ms: Option<u64>,
    /// An upper estimate of how long it runs, in milliseconds; none: the agent's execution timeout, where it has one.
    pub duration_ms: Option<u64>,
}

impl From<Priority> for Urgency {
    fn from(priority: Priority) -> Self {
        Self { priority, ..Self::default() }
    }
}

/// A run that was accepted.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The run.
    pub run: RunId,
    /// Its record.
    pub seq: u64,
    /// What the host does now; this run is among those that start, unless it waits.
    pub moves: Moves,
    /// How much it may take, where budgets of time bound it (K176).
    pub allowance: Option<Allowance>,
}

/// Runs that were asked for together.
#[derive(Debug)]
pub struct BegunMany {
    /// Each by itself, in the order in which they were asked for: the run, or why there is none.
    pub runs: Vec<Result<RunId, AgentError>>,
    /// What the host does now.
    pub moves: Moves,
    /// How much they may take: of those alone that budgets of time bound (K176).
    pub allowances: Vec<(RunId, Allowance)>,
}

/// A run that is asked for, of an agent that exists.
struct Asking<'a> {
    by: Principal,
    agent: AgentId,
    run: RunId,
    resource: Entity,
    spec: Arc<AgentSpec>,
    input: &'a [u8],
    labels: &'a LabelSet,
    urgency: Urgency,
    /// Its number, and the attempt before it, where its agent is supervised.
    attempt: Option<u32>,
    retry_of: Option<RunId>,
}

/// A run that may be, and is not recorded yet.
struct Permitted<'a> {
    agent: AgentId,
    run: RunId,
    labels: LabelSet,
    task: Task,
    asked: Asked<'a>,
    granted: Granted,
    details: String,
}

/// Runs that are recorded together. Nobody waits longer for the first of them than it takes to decide on so many.
const TOGETHER: usize = 64;
/// Details that are longer are recorded by themselves, in bytes.
const LONG_BYTES: usize = 16_384;

/// What one run of the agent holds on its node: what its limits allow it, and a sandbox where it runs in one.
fn need(spec: &AgentSpec) -> ResourceVector {
    ResourceVector {
        memory_mb: spec.limits.memory_mb.unwrap_or(0),
        cpu_millicores: spec.limits.cpu_millicores.unwrap_or(0),
        disk_io_mbps: spec.limits.disk_io_mbps.unwrap_or(0),
        network_io_mbps: spec.limits.network_io_mbps.unwrap_or(0),
        accelerators: 0,
        sandboxes: u64::from(!spec.in_process),
    }
}

/// The most that a run takes of each measure by its agent's limits, where they bound it.
fn bounds(limits: &ResourceLimits) -> Vec<(String, u64)> {
    let Some(time_ms) = limits.execution_timeout_ms else { return Vec::new() };
    let cpu_ms = limits.cpu_millicores.map(|cores| (time_ms.saturating_mul(cores) / 1_000).max(1));
    let both = [Some((TIME_MS, time_ms)), cpu_ms.map(|cpu_ms| (CPU_MS, cpu_ms))];
    both.into_iter().flatten().map(|(measure, ms)| (measure.to_owned(), ms)).collect()
}

/// What policy sees of it, besides the agent (K74).
fn circumstances(urgency: &Urgency, spec: &AgentSpec) -> Vec<(&'static str, Value)> {
    let long = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
    let mut seen = vec![
        ("tier", Value::String(urgency.tier.as_str().to_owned())),
        ("priority", long(urgency.priority.0.into())),
        ("tenant", Value::String(spec.tenant.clone())),
    ];
    seen.extend(urgency.deadline_ms.map(|deadline_ms| ("deadline_ms", long(deadline_ms))));
    let limits = &spec.limits;
    let held = [
        ("memory_mb", limits.memory_mb),
        ("cpu_millicores", limits.cpu_millicores),
        ("disk_io_mbps", limits.disk_io_mbps),
        ("network_io_mbps", limits.network_io_mbps),
        ("execution_timeout_ms", limits.execution_timeout_ms),
    ];
    seen.extend(held.into_iter().filter_map(|(name, limit)| Some((name, long(limit?)))));
    seen
}

impl Kernel {
    /// Asks for a run of `agent`. It starts now or when its turn has come and its resources are free.
    ///
    /// # Errors
    /// Refused by policy; no such agent; it needs more than the node has; its deadline cannot be kept.
    pub fn begin_run(
        &self,
        by: Principal,
        agent: AgentId,
        input: &[u8],
        labels: &LabelSet,
        urgency: impl Into<Urgency>,
    ) -> Result<Begun, AgentError> {
        self.begin_attempt(by, agent, input, labels, urgency, None)
    }

    /// As [`Kernel::begin_run`]; `retry_of`: the last attempt of the same task, whose verdict was to try it again.
    ///
    /// # Errors
    /// As [`Kernel::begin_run`], or there was no such verdict (K93).
    pub fn begin_attempt(
        &self,
        by: Principal,
        agent: AgentId,
        input: &[u8],
        labels: &LabelSet,
        urgency: impl Into<Urgency>,
        retry_of: Option<RunId>,
    ) -> Result<Begun, AgentError> {
        let asking = self.asking(by, agent, input, labels, urgency.into(), retry_of)?;
        let run = asking.run;
        let permitted = self.permit_run(asking).inspect_err(|_| self.attempt_refused(run))?;
        let (mut queued, moves) = self.queue_runs(std::slice::from_ref(&permitted));
        match queued.pop() {
            Some(Ok(seq)) => {
                Ok(Begun { run, seq, moves, allowance: self.allowances([run]).pop().map(|of| of.1) })
            }
            Some(Err(error)) => {
                self.tell_later(moves);
                Err(error)
            }
            None => Err(AgentError::Absent("run")),
        }
    }

    /// As [`Kernel::begin_run`] of each, in their order and in one call (K121). None of them is another attempt.
    pub fn begin_runs(
        &self,
        by: Principal,
        asks: &[(AgentId, &[u8])],
        labels: &LabelSet,
        urgency: impl Into<Urgency>,
    ) -> BegunMany {
        let urgency = urgency.into();
        let mut runs: Vec<Result<RunId, AgentError>> = Vec::with_capacity(asks.len());
        let mut moves = Moves::default();
        let mut permitted: Vec<Permitted<'_>> = Vec::with_capacity(asks.len().min(TOGETHER));
        let mut places: Vec<usize> = Vec::new();
        for (at, (agent, input)) in asks.iter().enumerate() {
            let asking = self.asking(by, *agent, input, labels, urgency, None);
            let run = asking.as_ref().ok().map(|asking| asking.run);
            match asking.and_then(|asking| self.permit_run(asking)) {
                Ok(one) => {
                    // What it carries is its agent's from its beginning, and the next decision sees that; what it is
                    // promised counts for the next promise; and a record that is too long takes no other with it.
                    let alone = !one.labels.is_empty()
                        || urgency.tier == Tier::Realtime
                        || LONG_BYTES < one.details.len();
                    if alone || permitted.len() == TOGETHER {
                        moves.append(self.queue_at(&mut permitted, &mut places, &mut runs));
                    }
                    runs.push(Ok(one.run));
                    places.push(at);
                    permitted.push(one);
                    if alone {
                        moves.append(self.queue_at(&mut permitted, &mut places, &mut runs));
                    }
                }
                Err(error) => {
                    if let Some(run) = run {
                        self.attempt_refused(run);
                    }
                    runs.push(Err(error));
                }
            }
        }
        moves.append(self.queue_at(&mut permitted, &mut places, &mut runs));
        let allowances = self.allowances(runs.iter().filter_map(|run| run.as_ref().ok().copied()));
        BegunMany { runs, moves, allowances }
    }

    /// How much the run may take, where budgets of time bound it: who carries it out ends it then, as `over_budget` (K176).
    #[must_use]
    pub fn run_allowance(&self, run: RunId) -> Allowance {
        self.allowances([run]).pop().map(|(_, allowance)| allowance).unwrap_or_default()
    }

    fn allowances(&self, runs: impl IntoIterator<Item = RunId>) -> Vec<(RunId, Allowance)> {
        let turns = self.turns();
        let timed = |run| Some((run, turns.runs.get(&run)?.timed.as_ref()?.allowance));
        runs.into_iter().filter_map(timed).collect()
    }

    /// What the run has used of processors so far, as its host reads it. The most that was said before its end is what it
    /// came to; of one of which nothing was said, what it had reserved stays taken (K240).
    pub fn run_used_cpu(&self, run: RunId, cpu_ms: u64) {
        if let Some(run) = self.turns().runs.get_mut(&run) {
            run.cpu_ms = Some(run.cpu_ms.unwrap_or(0).max(cpu_ms));
        }
    }

    fn queue_at(
        &self,
        permitted: &mut Vec<Permitted<'_>>,
        places: &mut Vec<usize>,
        runs: &mut [Result<RunId, AgentError>],
    ) -> Moves {
        let (queued, moves) = self.queue_runs(permitted);
        for (place, queued) in places.drain(..).zip(queued) {
            if let (Some(run), Err(error)) = (runs.get_mut(place), queued) {
                *run = Err(error);
            }
        }
        permitted.clear();
        moves
    }

    fn asking<'a>(
        &self,
        by: Principal,
        agent: AgentId,
        input: &'a [u8],
        labels: &'a LabelSet,
        urgency: Urgency,
        retry_of: Option<RunId>,
    ) -> Result<Asking<'a>, AgentError> {
        let (resource, spec) = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            (known.entity(agent)?, Arc::clone(&known.spec))
        };
        let run = RunId::random(self.entropy());
        let carried = match by {
            Principal::Agent(id) => labels.union(&self.agent_labels(id)),
            Principal::Host | Principal::Operator(_) => labels.clone(),
        };
        let attempt = self.attempt_begins(run, agent, &spec, (input, &carried), retry_of)?;
        Ok(Asking { by, agent, run, resource, spec, input, labels, urgency, attempt, retry_of })
    }

    /// Decides whether a run may be; nothing is recorded of one that may, and nothing queued.
    fn permit_run<'a>(&self, asking: Asking<'a>) -> Result<Permitted<'a>, AgentError> {
        let Asking { by, agent, run, resource, spec, input, urgency, .. } = asking;
        let asked = self.ask(by, "agent.run", resource)?;
        // An input that an agent gives carries what that agent has read.
        let labels = asking.labels.union(&exit::label_bytes(input, &asked.labels)).union(&asked.labels);
        check_labels(&labels)?;
        let asked = Asked {
            labels: labels.clone(),
            bytes: input.len() as u64,
            arguments: Some(input),
            agent: Some(agent),
            run: Some(run),
            circumstances: circumstances(&urgency, &spec),
            amounts: bounds(&spec.limits),
            unread: spec.in_process.then_some(CPU_MS),
            ..asked
        };
        let task = self.task(agent, &spec, &urgency)?;
        let granted = self.decide(&asked)?;
        let details = self
            .describe(&asked, &granted)
            .number("priority", urgency.priority.0.into())
            .string("tier", urgency.tier.as_str())
            .string("tenant", &spec.tenant);
        let details = match urgency.deadline_ms {
            Some(deadline_ms) => details.number("deadline_ms", deadline_ms),
            None => details,
        };
        let details = match (asking.attempt, asking.retry_of) {
            (Some(attempt), Some(last)) => {
                details.number("attempt", u64::from(attempt)).display("retry_of", last)
            }
            (Some(_) | None, _) => details,
        };
        Ok(Permitted { agent, run, labels, task, asked, granted, details: details.finish() })
    }

    /// Records runs that may be, and gives them to the scheduler (K74). Answers the record to wait for, of each.
    fn queue_runs(&self, permitted: &[Permitted<'_>]) -> (Vec<Result<u64, AgentError>>, Moves) {
        if permitted.is_empty() {
            return (Vec::new(), Moves::default());
        }
        let records = permitted.iter().map(|one| (&one.asked, &one.granted, one.details.as_str()));
        let seq = match self.record_internals(records) {
            Ok(seq) => seq,
            Err(refusal) => {
                permitted.iter().for_each(|one| self.attempt_refused(one.run));
                return (permitted.iter().map(|_| Err(refusal.clone().into())).collect(), Moves::default());
            }
        };
        let (submitted, mut moves) = self.turn(|turns, agents| {
            let mut submit = |one: &Permitted<'_>| {
                turns.insert(one.run, one.agent, one.task);
                if let (Some(timed), Some(run)) = (one.granted.timed(), turns.runs.get_mut(&one.run)) {
                    run.timed = Some(Box::new(timed));
                }
                match agents.get_mut(one.agent) {
                    Some(known) if !known.state.is_final() && known.has_room_for(&one.labels) => {
                        known.read(&one.labels);
                    }
                    _ => return Err("the agent is gone, or carries too many labels".to_owned()),
                }
                turns.submit(one.run).map_err(|error| error.to_string())
            };
            permitted.iter().map(&mut submit).collect::<Vec<_>>()
        });
        let ended = |one: &Permitted<'_>, text: &String| {
            let outcome = RunOutcome::Failed { kind: "not_scheduled".to_owned(), text: text.clone() };
            self.end_run(one.run, &outcome).map(|ended| ended.moves).unwrap_or_default() // K28
        };
        let queued = permitted
            .iter()
            .zip(submitted)
            .map(|(one, submitted)| match submitted {
                Ok(()) => Ok(seq),
                Err(text) => {
                    moves.append(ended(one, &text));
                    self.attempt_refused(one.run);
                    Err(AgentError::Invalid(text))
                }
            })
            .collect();
        (queued, moves)
    }

    /// The run as the scheduler takes it; refused here where the scheduler would never start it.
    fn task(&self, agent: AgentId, spec: &AgentSpec, urgency: &Urgency) -> Result<Task, AgentError> {
        let now_ns = self.moment().mono_ns;
        let ns = |ms: u64| ms.saturating_mul(1_000_000);
        let mut turns = self.turns();
        turns.scheduler.advance(now_ns);
        let task = Task {
            agent: Some(agent),
            tenant: turns.tenants.number(&spec.tenant)?,
            tier: urgency.tier,
            priority: urgency.priority,
            deadline_ns: urgency.deadline_ms.map(|ms| now_ns.saturating_add(ns(ms))),
            duration_ns: urgency.duration_ms.or(spec.limits.execution_timeout_ms).map(ns),
            ..Task::new(turns.next_task(), need(spec))
        };
        match turns.scheduler.check(&task) {
            Ok(()) => Ok(task),
            Err(error) => Err(AgentError::Invalid(describe(&error))),
        }
    }
}

/// A refusal of the scheduler in the words of who asked: a run is what it calls a task.
fn describe(error: &TaskError) -> String {
    match error {
        TaskError::NeverFits { lack, .. } => format!(
            "the run needs {} `{}`, and the machine has {}: lower the agent's limits",
            lack.need, lack.resource, lack.have
        ),
        TaskError::Incomplete { missing, .. } => {
            let named = missing.trim_end_matches("_ns");
            format!("a realtime run needs `{named}_ms`; the agent's execution timeout serves as its duration")
        }
        TaskError::Deadline { .. } => {
            "the run cannot be done by its deadline beside those that were promised theirs: \
            ask for a later one, or another tier"
                .to_owned()
        }
        other => other.to_string(),
    }
}
