//! Runs: begun, started when their turn comes, ended.
//!
//! Not here: executing an agent's code. The kernel says when a run starts and is told how it ended. Nor whose turn it is
//! (`turns`).
//!
//! Invariants
//! - K28 every run that was recorded as started is recorded as finished, unless the process died.
//! - K74 policy is asked before a run is given to the scheduler, and sees what the scheduler will go by.

use std::sync::Arc;

use symbi_audit::Event;
use symbi_policy::{Entity, Value};
use symbi_scheduler::{Cause, Priority, State, Task, TaskError, Tier};
use symbi_supervisor::Verdict;
use symbi_types::{AgentId, LabelSet, ResourceVector, RunId};

use crate::agents::{AgentError, check_labels};
use crate::json::Object;
use crate::kernel::Kernel;
use crate::monitor::Asked;
use crate::moves::Moves;
use crate::registry::{AgentSpec, Registry};
use crate::supervise::Aftermath;
use crate::turns::Run;
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

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// With a result.
    Done,
    /// Its own code failed, or a limit ended it. `kind` is a class or code, `text` is sealed in the log.
    Failed {
        /// A class of error or the name of a limit.
        kind: String,
        /// What it said.
        text: String,
    },
    /// It was stopped from outside.
    Cancelled,
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
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The record of its outcome; wait for it before the result leaves. None where the log cannot write.
    pub seq: Option<u64>,
    /// What follows from it.
    pub aftermath: Aftermath,
    /// What the host does now.
    pub moves: Moves,
}

/// A run that is asked for, of an agent that exists.
struct Asking<'a> {
    by: Principal,
    agent: AgentId,
    run: RunId,
    resource: Entity,
    spec: Arc<AgentSpec>,
    labels: &'a LabelSet,
    urgency: Urgency,
}

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

/// What policy sees of it, besides the agent (K74).
fn circumstances(urgency: &Urgency, tenant: &str) -> Vec<(&'static str, Value)> {
    let long = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
    let mut seen = vec![
        ("tier", Value::String(urgency.tier.as_str().to_owned())),
        ("priority", long(urgency.priority.0.into())),
        ("tenant", Value::String(tenant.to_owned())),
    ];
    seen.extend(urgency.deadline_ms.map(|deadline_ms| ("deadline_ms", long(deadline_ms))));
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
        let urgency = urgency.into();
        let (resource, spec) = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            (known.entity(agent)?, Arc::clone(&known.spec))
        };
        let run = RunId::random(self.entropy());
        let attempt = self.attempt_begins(run, agent, &spec, input, retry_of)?;
        let extra = |details: Object| match (attempt, retry_of) {
            (Some(attempt), Some(last)) => {
                details.number("attempt", u64::from(attempt)).display("retry_of", last)
            }
            (Some(_) | None, _) => details,
        };
        let asking = Asking { by, agent, run, resource, spec, labels, urgency };
        self.submit_run(asking, input, extra).inspect_err(|_| self.attempt_refused(run))
    }

    fn submit_run(
        &self,
        asking: Asking<'_>,
        input: &[u8],
        extra: impl FnOnce(Object) -> Object,
    ) -> Result<Begun, AgentError> {
        let Asking { by, agent, run, resource, spec, labels, urgency } = asking;
        let asked = self.ask(by, "agent.run", resource)?;
        // An input that an agent gives carries what that agent has read.
        let labels = labels.union(&exit::label_bytes(input, &asked.labels)).union(&asked.labels);
        check_labels(&labels)?;
        let asked = Asked {
            labels: labels.clone(),
            bytes: input.len() as u64,
            arguments: Some(input),
            agent: Some(agent),
            run: Some(run),
            circumstances: circumstances(&urgency, &spec.tenant),
            ..asked
        };
        let task = self.task(agent, &spec, &urgency)?;
        let granted = self.decide(&asked)?;
        let (_, seq) = self.record_internal(&asked, granted, |details| {
            let details = details
                .number("priority", urgency.priority.0.into())
                .string("tier", urgency.tier.as_str())
                .string("tenant", &spec.tenant);
            extra(match urgency.deadline_ms {
                Some(deadline_ms) => details.number("deadline_ms", deadline_ms),
                None => details,
            })
        })?;
        let (submitted, moves) = self.turn(|turns, agents| {
            turns.insert(run, agent, task);
            match agents.get_mut(agent) {
                Some(known) if !known.state.is_final() && known.has_room_for(&labels) => known.read(&labels),
                _ => return Err("the agent is gone, or carries too many labels".to_owned()),
            }
            turns.submit(run).map_err(|error| error.to_string())
        });
        if let Err(text) = submitted {
            let kind = "not_scheduled".to_owned();
            let ended = self.end_run(run, &RunOutcome::Failed { kind, text: text.clone() }); // K28
            self.tell_later(moves);
            self.tell_later(ended.map(|ended| ended.moves).unwrap_or_default());
            return Err(AgentError::Invalid(text));
        }
        Ok(Begun { run, seq, moves })
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

    /// Records how a run ended and gives back what it held (K27, K28).
    ///
    /// # Errors
    /// No such run.
    pub fn end_run(&self, run: RunId, outcome: &RunOutcome) -> Result<Ended, AgentError> {
        let agent = self.turns().runs.get(&run).ok_or(AgentError::Absent("run"))?.agent;
        let gives_up = self.judge(run, outcome).is_some_and(|judged| judged.verdict == Verdict::Escalate);
        let (ended, transitions) = {
            let mut turns = self.turns();
            let ended = turns.remove(run).ok_or(AgentError::Absent("run"))?; // of two that end it at once, one goes on
            let transitions = match ended.phase.is_begun() {
                true => rest(&mut self.agents(), &ended, gives_up),
                false => Vec::new(),
            };
            (ended, transitions)
        };
        let judged = self.settle_attempt(run, agent, outcome);
        let details = match outcome {
            RunOutcome::Done if judged.class.is_some() => {
                self.describe_error("unknown_effect", "").string("outcome", "failed") // K97
            }
            RunOutcome::Done => Object::new().string("outcome", "done"),
            RunOutcome::Cancelled => Object::new().string("outcome", "cancelled"),
            RunOutcome::Failed { kind, text } => self.describe_error(kind, text).string("outcome", "failed"),
        };
        let took_ns = self.moment().mono_ns.saturating_sub(ended.started_ns);
        let details = judged
            .describe(details)
            .number("took_us", if ended.phase.is_begun() { took_ns / 1_000 } else { 0 })
            .strings("transitions", transitions)
            .finish();
        let event =
            Event { agent_id: Some(ended.agent), run: Some(run), ..Event::new("run.finished", &details) };
        let seq = self.log().append(&event).ok().map(|receipt| receipt.seq);
        let ((), moves) = self.turn(|_, _| ());
        Ok(Ended { seq, aftermath: judged, moves })
    }
}

/// The agent's task is over: Running → Ready. One that stood still for others passes Running; one that is held stays
/// Suspended, without a task. One that failed more often than its supervision allows (`gives_up`) goes Running →
/// Suspended → Terminated, and its host clears away what is left of it with [`Kernel::stop_agent`].
fn rest(agents: &mut Registry, ended: &Run, gives_up: bool) -> Vec<&'static str> {
    let mut transitions = vec!["ready>running"];
    let Some(known) = agents.get_mut(ended.agent) else { return transitions };
    known.running = None;
    known.cancelled = false;
    known.forget_entity();
    if gives_up {
        while let Ok((before, _)) = known.step(Cause::SupervisionExhausted) {
            let running = before == State::Running;
            transitions.push(if running { "running>suspended" } else { "suspended>terminated" });
        }
        return transitions;
    }
    if known.state == State::Suspended && known.holds.is_empty() && known.step(Cause::Cleared).is_ok() {
        transitions.push("suspended>running");
    }
    if known.step(Cause::TaskCompleted).is_ok() {
        transitions.push("running>ready");
    }
    transitions
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
