//! Runs: begun, started when their turn comes, ended.
//!
//! Not here: executing an agent's code. The kernel says when a run starts and is told how it ended.
//!
//! Invariants
//! - K27 a run holds its resources from the moment it is started until it is ended, and returns them once.
//! - K43 an agent that is stopped or suspended starts no run.
//! - K28 every run that was recorded as started is recorded as finished, unless the process died.

use std::sync::Arc;

use symbi_audit::Event;
use symbi_policy::Entity;
use symbi_scheduler::{Cause, Decision, Priority, State, Task, TaskError, Why};
use symbi_supervisor::Verdict;
use symbi_types::{AgentId, LabelSet, ResourceVector, RunId};

use crate::agents::{AgentError, check_labels};
use crate::json::Object;
use crate::kernel::Kernel;
use crate::monitor::Asked;
use crate::moves::Moves;
use crate::registry::AgentSpec;
use crate::supervise::Aftermath;
use crate::{Principal, exit};

/// A run: one task of one agent.
pub(crate) struct Run {
    pub(crate) agent: AgentId,
    pub(crate) task: Task,
    pub(crate) started: bool,
    /// Its turn came while its agent was suspended: it goes back into the queue when that is over.
    pub(crate) held: bool,
    started_ns: u64,
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
    priority: Priority,
}

/// What one run of the agent holds on its node.
fn need(spec: &AgentSpec) -> ResourceVector {
    if spec.in_process {
        return ResourceVector::default();
    }
    ResourceVector {
        memory_mb: spec.limits.memory_mb.unwrap_or(0),
        cpu_millicores: spec.limits.cpu_millicores.unwrap_or(0),
        sandboxes: 1,
        ..ResourceVector::default()
    }
}

impl Kernel {
    /// Asks for a run of `agent`. It starts now or when its resources are free.
    ///
    /// # Errors
    /// Refused by policy; no such agent; it needs more than the node has.
    pub fn begin_run(
        &self,
        by: Principal,
        agent: AgentId,
        input: &[u8],
        labels: &LabelSet,
        priority: Priority,
    ) -> Result<Begun, AgentError> {
        self.begin_attempt(by, agent, input, labels, priority, None)
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
        priority: Priority,
        retry_of: Option<RunId>,
    ) -> Result<Begun, AgentError> {
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
        let asking = Asking { by, agent, run, resource, spec, labels, priority };
        self.submit_run(asking, input, extra).inspect_err(|_| self.attempt_refused(run))
    }

    fn submit_run(
        &self,
        asking: Asking<'_>,
        input: &[u8],
        extra: impl FnOnce(Object) -> Object,
    ) -> Result<Begun, AgentError> {
        let Asking { by, agent, run, resource, spec, labels, priority } = asking;
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
            ..asked
        };
        let task = Task { agent: Some(agent), priority, ..Task::new(self.next_task(), need(&spec)) };
        if let Err(error @ TaskError::NeverFits { .. }) = self.scheduler().check(&task) {
            return Err(AgentError::Invalid(error.to_string()));
        }
        let granted = self.decide(&asked)?;
        let (_, seq) = self.record_internal(&asked, granted, |details| {
            extra(details.number("priority", u64::from(priority.0)))
        })?;
        // Known before it can be handed out: another thread may do that at once (K27).
        self.runs().insert(run, Run { agent, task, started: false, held: false, started_ns: 0 });
        self.tasks().insert(task.id, run);
        let readable = self.agents().get_mut(agent).is_some_and(|known| {
            let room = !known.state.is_final() && known.has_room_for(&labels);
            if room {
                known.read(&labels);
            }
            room
        });
        let submitted = match readable {
            true => self.scheduler().submit(task).map_err(|error| AgentError::Invalid(error.to_string())),
            false => Err(AgentError::Invalid("the agent is gone, or carries too many labels".to_owned())),
        };
        if let Err(error) = submitted {
            let kind = "not_scheduled".to_owned();
            let ended = self.end_run(run, &RunOutcome::Failed { kind, text: error.to_string() }); // K28
            debug_assert!(ended.is_ok_and(|ended| ended.moves.is_empty()), "nothing was given back");
            return Err(error);
        }
        Ok(Begun { run, seq, moves: self.start_ready() })
    }

    /// Hands out what fits now: Ready → Running.
    pub(crate) fn start_ready(&self) -> Moves {
        let mut moves = Moves::default();
        loop {
            let Some(decision) = self.scheduler().next() else { return moves };
            let (Decision::Start { task, .. } | Decision::Resume { task, .. }) = decision else { continue };
            let run = self.tasks().get(&task).copied();
            let Some(run) = run else {
                let _ = self.scheduler().complete(task); // ended between the queue and here
                continue;
            };
            let now_ns = self.moment().mono_ns;
            let Some(agent) = self.runs().get(&run).map(|known| known.agent) else {
                let _ = self.scheduler().complete(task); // as above
                continue;
            };
            // K43. The scheduler hands out one task an agent; stopping and holding move an agent without asking it.
            let state = self.agents().get_mut(agent).map(|known| {
                let moved = known.step(Cause::TaskAssigned);
                if moved.is_ok() {
                    known.running = Some(run);
                }
                known.state
            });
            if state != Some(State::Running) {
                let returned = self.scheduler().complete(task);
                debug_assert!(returned.is_ok(), "K27");
                if let Some(known) = self.runs().get_mut(&run) {
                    known.held = true; // until the agent is resumed, or whoever stopped it ends its runs
                }
                continue;
            }
            let mut runs = self.runs();
            let Some(known) = runs.get_mut(&run) else {
                drop(runs);
                let _ = self.scheduler().complete(task); // as above
                self.rest(agent);
                continue;
            };
            known.started = true;
            known.started_ns = now_ns;
            drop(runs);
            moves.start.push(run);
        }
    }

    /// The agent's task is over: Running → Ready. A suspended one stays suspended, without a task.
    fn rest(&self, agent: AgentId) -> Option<&'static str> {
        let mut agents = self.agents();
        let known = agents.get_mut(agent)?;
        known.running = None;
        known.forget_entity();
        known.step(Cause::TaskCompleted).ok().map(|_| "running>ready")
    }

    /// It failed more often than its supervision allows: Running → Suspended → Terminated. Its host clears away what is
    /// left of it with [`Kernel::stop_agent`].
    fn give_agent_up(&self, agent: AgentId) -> Vec<&'static str> {
        let mut agents = self.agents();
        let Some(known) = agents.get_mut(agent) else { return Vec::new() };
        known.running = None;
        known.forget_entity();
        let mut step = || known.step(Cause::SupervisionExhausted).map(|(before, _)| before);
        let mut steps = Vec::new();
        while let Ok(before) = step() {
            steps.push(if before == State::Running { "running>suspended" } else { "suspended>terminated" });
        }
        steps
    }

    /// Records how a run ended and gives back what it held (K27, K28).
    ///
    /// # Errors
    /// No such run, or it never started.
    pub fn end_run(&self, run: RunId, outcome: &RunOutcome) -> Result<Ended, AgentError> {
        let ended = self.runs().remove(&run).ok_or(AgentError::Absent("run"))?;
        self.tasks().remove(&ended.task.id);
        let judged = self.settle_attempt(run, ended.agent, outcome);
        let mut transitions = Vec::new();
        if ended.started {
            transitions.push("ready>running");
            transitions.extend(match judged.verdict {
                Verdict::Escalate => self.give_agent_up(ended.agent),
                Verdict::None | Verdict::Retry { .. } | Verdict::Restart | Verdict::Dead => {
                    self.rest(ended.agent).into_iter().collect()
                }
            });
            let returned = self.scheduler().complete(ended.task.id);
            debug_assert!(returned.is_ok(), "K27");
        } else {
            let _ = self.scheduler().cancel(ended.task.id); // K27: it held nothing
        }
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
            .number("took_us", if ended.started { took_ns / 1_000 } else { 0 })
            .strings("transitions", transitions)
            .finish();
        let event =
            Event { agent_id: Some(ended.agent), run: Some(run), ..Event::new("run.finished", &details) };
        let seq = self.log().append(&event).ok().map(|receipt| receipt.seq);
        Ok(Ended { seq, aftermath: judged, moves: self.start_ready() })
    }

    /// What the oldest waiting run of the agent waits for.
    #[must_use]
    pub fn why(&self, run: RunId) -> Option<Why> {
        let task = self.runs().get(&run)?.task.id;
        self.scheduler().why(task)
    }
}
