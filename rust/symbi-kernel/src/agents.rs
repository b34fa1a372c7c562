//! Agents and their runs: create, run, stop.
//!
//! Not here: executing an agent's code. The kernel says when a run starts and is told how it ended.
//!
//! Invariants
//! - K27 a run holds its resources from the moment it is started until it is ended, and returns them once.
//! - K43 an agent that is stopped or suspended starts no run.
//! - K28 every run that was recorded as started is recorded as finished, unless the process died.

use std::sync::Arc;

use symbi_audit::Event;
use symbi_policy::{Entity, EntityError, vocabulary};
use symbi_scheduler::{Cause, Priority, State, Task, Why};
use symbi_types::{AgentId, LabelSet, ResourceVector, RunId};

use crate::action::action;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::monitor::Asked;
use crate::refusal::{Refusal, RefusalCode};
use crate::registry::{Agent, AgentSpec, AgentView, LABELS_MAX, NAME_CHARS_MAX};
use crate::{Principal, exit};

/// A run: one task of one agent.
pub(crate) struct Run {
    pub(crate) agent: AgentId,
    pub(crate) task: Task,
    pub(crate) started: bool,
    /// Its turn came while its agent was suspended: it goes back into the queue when that is over.
    held: bool,
    started_ns: u64,
}

/// Longest note of an agent, in characters.
const NOTE_CHARS_MAX: usize = 4_096;

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

/// Why an agent or a run was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The monitor refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something about it cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Its state does not allow it.
    #[error(transparent)]
    Illegal(#[from] symbi_scheduler::IllegalTransition),
    /// No such agent or run.
    #[error("there is no such {0}")]
    Absent(&'static str),
}

impl From<EntityError> for AgentError {
    fn from(error: EntityError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// A run that was accepted.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The run.
    pub run: RunId,
    /// Its record.
    pub seq: u64,
    /// Runs that may start now; this one is among them unless it waits.
    pub started: Vec<RunId>,
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The record of its outcome; wait for it before the result leaves. None where the log cannot write.
    pub seq: Option<u64>,
    /// Runs that may start now.
    pub started: Vec<RunId>,
}

/// An agent that was stopped.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Its runs, which the caller ends now.
    pub runs: Vec<RunId>,
    /// Its record; none where it is recorded late.
    pub seq: Option<u64>,
    /// Runs of other agents that may start now.
    pub started: Vec<RunId>,
    /// False where a graceful stop waits for the running task.
    pub terminated: bool,
}

fn check(spec: &AgentSpec) -> Result<(), AgentError> {
    let length = spec.name.chars().count();
    if length == 0 || NAME_CHARS_MAX < length || spec.name.chars().any(char::is_control) {
        let text = format!("an agent's name is 1 to {NAME_CHARS_MAX} printable characters");
        return Err(AgentError::Invalid(text));
    }
    spec.limits.check().map_err(|error| AgentError::Invalid(error.to_string()))
}

/// More labels than a record and a message have room for.
pub(crate) fn check_labels(labels: &LabelSet) -> Result<(), AgentError> {
    if labels.len() <= LABELS_MAX {
        return Ok(());
    }
    Err(AgentError::Invalid(format!("at most {LABELS_MAX} labels, and these are {}", labels.len())))
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
    /// Creates an agent: Initializing → Ready (spec L1).
    ///
    /// # Errors
    /// Refused by policy, or its configuration cannot be.
    pub fn create_agent(&self, by: Principal, spec: Arc<AgentSpec>) -> Result<(AgentId, u64), AgentError> {
        check(&spec)?;
        if !self.agents().promise(self.agents_max()) {
            let text = format!(
                "there are {} agents, the most that `runtime.max_concurrent_agents` allows",
                self.agents_max()
            );
            return Err(AgentError::Invalid(text));
        }
        self.create_promised(by, spec).inspect_err(|_| self.agents().fulfil())
    }

    fn create_promised(&self, by: Principal, spec: Arc<AgentSpec>) -> Result<(AgentId, u64), AgentError> {
        let id = AgentId::random(self.entropy());
        let mut agent = Agent::new(Arc::clone(&spec), State::Initializing);
        let entity = agent.entity(id)?;
        agent.forget_entity();
        let asked = self.ask(by, "agent.create", entity)?;
        agent.read(&asked.labels); // what it is made of was written by who made it
        check_labels(&agent.labels)?;
        let asked = Asked { agent: Some(id), resource: agent.entity(id)?, ..asked };
        agent.forget_entity();
        let granted = self.decide(&asked)?; // refused, it never became one: nothing to move to Failed
        agent.step(Cause::Validated)?;
        let (_, seq) = self.record_internal(&asked, granted, |details| {
            details
                .string("name", &spec.name)
                .string("kind", &spec.kind)
                .string("isolation", if spec.in_process { "in_process" } else { "sandbox" })
                .string("tier", spec.tier.as_str())
                .strings("capabilities", spec.capabilities.iter().map(String::as_str))
                .strings("transitions", ["initializing>ready"])
        })?;
        let registered = self.bus().register(id, None); // before anybody can write to it
        debug_assert!(registered.is_ok(), "a fresh id is not on the bus");
        let mut agents = self.agents();
        agents.fulfil();
        agents.insert(id, agent);
        Ok((id, seq))
    }

    /// Another instance of what `agent` is: decided and recorded as any.
    ///
    /// # Errors
    /// As [`Kernel::create_agent`].
    pub fn clone_agent(&self, by: Principal, agent: AgentId) -> Result<(AgentId, u64), AgentError> {
        let spec = self
            .agents()
            .get(agent)
            .map(|known| Arc::clone(&known.spec))
            .ok_or(AgentError::Absent("agent"))?;
        self.create_agent(by, spec)
    }

    /// A line of the agent's own in the trail, sealed.
    ///
    /// # Errors
    /// No such agent, too long, or the log cannot write.
    pub fn note(&self, agent: AgentId, text: &str) -> Result<u64, AgentError> {
        if text.chars().count() > NOTE_CHARS_MAX {
            return Err(AgentError::Invalid(format!("a note has at most {NOTE_CHARS_MAX} characters")));
        }
        let (run, labels) = {
            let agents = self.agents();
            let known = agents.get(agent).ok_or(AgentError::Absent("agent"))?;
            (known.running, known.labels.clone())
        };
        if !self.admission().admit(agent, self.moment().mono_ns) {
            return Err(AgentError::Invalid("too many notes; slow down".to_owned()));
        }
        self.wait_for_share(agent)?;
        let details = Object::new().string("sealed", &self.seal(text.as_bytes())).finish();
        let event =
            Event { agent_id: Some(agent), run, labels: &labels, ..Event::new("agent.note", &details) };
        let seq = self.log().append(&event).map_err(|_| self.unavailable())?.seq;
        lock(&self.shares).add(agent, seq);
        Ok(seq)
    }

    /// How many agents there are.
    #[must_use]
    pub fn count_agents(&self) -> usize {
        self.agents().len()
    }

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
        let (resource, spec) = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            (known.entity(agent)?, Arc::clone(&known.spec))
        };
        let run = RunId::random(self.entropy());
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
        let task = Task { id: self.next_task(), agent, priority, need: need(&spec) };
        if !self.scheduler().capacity().fits(&task.need) {
            // The scheduler refuses it, changes nothing, and says what is lacking.
            let refused = self.scheduler().submit(task).map_err(|error| error.to_string());
            return Err(AgentError::Invalid(refused.err().unwrap_or_default()));
        }
        let granted = self.decide(&asked)?;
        let (_, seq) = self
            .record_internal(&asked, granted, |details| details.number("priority", u64::from(priority.0)))?;
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
            debug_assert!(ended.is_ok_and(|ended| ended.started.is_empty()), "nothing was given back");
            return Err(error);
        }
        Ok(Begun { run, seq, started: self.start_ready() })
    }

    /// Hands out what fits now, for whoever resumed an agent whose runs were held.
    #[must_use]
    pub fn start_waiting(&self) -> Vec<RunId> {
        self.start_ready()
    }

    /// Hands out what fits now: Ready → Running.
    fn start_ready(&self) -> Vec<RunId> {
        let mut started = Vec::new();
        loop {
            let Some(task) = self.scheduler().next() else { return started };
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
            started.push(run);
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

    /// Records how a run ended and gives back what it held (K27, K28).
    ///
    /// # Errors
    /// No such run, or it never started.
    pub fn end_run(&self, run: RunId, outcome: &RunOutcome) -> Result<Ended, AgentError> {
        let ended = self.runs().remove(&run).ok_or(AgentError::Absent("run"))?;
        self.tasks().remove(&ended.task.id);
        let mut transition = None;
        if ended.started {
            transition = self.rest(ended.agent);
            let returned = self.scheduler().complete(ended.task.id);
            debug_assert!(returned.is_ok(), "K27");
        } else {
            let _ = self.scheduler().cancel(ended.task.id); // K27: it held nothing
        }
        let details = match outcome {
            RunOutcome::Done => Object::new().string("outcome", "done"),
            RunOutcome::Cancelled => Object::new().string("outcome", "cancelled"),
            RunOutcome::Failed { kind, text } => self.describe_error(kind, text).string("outcome", "failed"),
        };
        let took_ns = self.moment().mono_ns.saturating_sub(ended.started_ns);
        let transitions = ended.started.then_some("ready>running").into_iter().chain(transition);
        let details = details
            .number("took_us", if ended.started { took_ns / 1_000 } else { 0 })
            .strings("transitions", transitions)
            .finish();
        let event =
            Event { agent_id: Some(ended.agent), run: Some(run), ..Event::new("run.finished", &details) };
        let seq = self.log().append(&event).ok().map(|receipt| receipt.seq);
        Ok(Ended { seq, started: self.start_ready() })
    }

    /// Stops an agent. A brake: never refused, recorded when the log can write (K23).
    ///
    /// # Errors
    /// No such agent.
    pub fn stop_agent(&self, by: Principal, agent: AgentId, force: bool) -> Result<Stopped, AgentError> {
        let mut transitions = Vec::new();
        let terminated = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            let causes = known.state.stop(force);
            for cause in causes.unwrap_or(&[]) {
                let (before, after) = known.step(*cause)?;
                transitions.push(format!("{before}>{after}"));
            }
            causes.is_some()
        };
        let runs: Vec<RunId> = self
            .runs()
            .iter()
            .filter(|(_, run)| run.agent == agent && (terminated || !run.started))
            .map(|(run, _)| *run)
            .collect();
        let seq = self.record_brake("agent.stop", by, agent, |details| {
            details.flag("forced", force).strings("transitions", transitions.iter().map(String::as_str))
        });
        if terminated {
            // What was unread goes with it; its senders were told that it was delivered, not that it was read.
            let _ = self.bus().unregister(agent);
            self.admission().forget(agent);
            lock(&self.shares).forget(agent);
            self.agents().remove(agent);
        }
        Ok(Stopped { runs, seq, started: Vec::new(), terminated })
    }

    /// Freezes a running agent: Running → Suspended. A brake.
    ///
    /// # Errors
    /// No such agent, or it is not running.
    pub fn suspend_agent(&self, by: Principal, agent: AgentId) -> Result<Option<u64>, AgentError> {
        let cause = Cause::OperatorHold;
        let (before, after) = self.agents().get_mut(agent).ok_or(AgentError::Absent("agent"))?.step(cause)?;
        let transition = format!("{before}>{after}");
        Ok(self.record_brake("agent.suspend", by, agent, |details| {
            details.string("cause", cause.as_str()).strings("transitions", [transition.as_str()])
        }))
    }

    /// Lets a suspended agent go on: Suspended → Running, and → Ready where its run was ended meanwhile. Runs that were
    /// held wait again; see [`Kernel::start_waiting`].
    ///
    /// # Errors
    /// Refused by policy, no such agent, or it is not suspended.
    pub fn resume_agent(&self, by: Principal, agent: AgentId) -> Result<u64, AgentError> {
        let (resource, ended) = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            known.state.after(Cause::Cleared)?;
            let ended = known.running.is_none();
            (known.entity(agent)?, ended)
        };
        let asked = Asked { agent: Some(agent), ..self.ask(by, "agent.resume", resource)? };
        let granted = self.decide(&asked)?;
        let (_, seq) = self.record_internal(&asked, granted, |details| {
            let rests = ended.then_some("running>ready");
            details.strings("transitions", ["suspended>running"].into_iter().chain(rests))
        })?;
        {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            known.step(Cause::Cleared)?;
            if known.running.is_none() {
                known.step(Cause::TaskCompleted)?; // its run was ended while it was held
            }
        }
        let mut held: Vec<Task> = {
            let mut runs = self.runs();
            let held = runs.values_mut().filter(|run| run.agent == agent && run.held);
            held.map(|run| (run.held = false, run.task).1).collect()
        };
        held.sort_by_key(|task| task.id); // in the order in which they were asked for
        for task in held {
            let again = self.scheduler().submit(task);
            debug_assert!(again.is_ok(), "it was accepted before, and is in the queue no more");
        }
        Ok(seq)
    }

    /// All agents.
    #[must_use]
    pub fn list_agents(&self) -> Vec<AgentView> {
        self.agents().view()
    }

    /// One agent's state.
    #[must_use]
    pub fn agent_state(&self, agent: AgentId) -> Option<State> {
        self.agents().get(agent).map(|known| known.state)
    }

    /// What the agent has read.
    #[must_use]
    pub fn agent_labels(&self, agent: AgentId) -> LabelSet {
        self.agents().get(agent).map(|known| known.labels.clone()).unwrap_or_default()
    }

    /// What the oldest waiting run of the agent waits for.
    #[must_use]
    pub fn why(&self, run: RunId) -> Option<Why> {
        let task = self.runs().get(&run)?.task.id;
        self.scheduler().why(task)
    }

    /// An operation with nothing in it yet. The principal's entity is the kernel's own, never the caller's word.
    pub(crate) fn ask(
        &self,
        principal: Principal,
        name: &str,
        resource: Entity,
    ) -> Result<Asked<'static>, AgentError> {
        let action = action(name).ok_or_else(|| AgentError::Invalid(format!("`{name}` is not an action")))?; // K1
        let invalid = |error: symbi_policy::EntityError| AgentError::Invalid(error.to_string());
        let (subject, agent, labels) = match principal {
            Principal::Host => (vocabulary::host().map_err(invalid)?, None, LabelSet::default()),
            Principal::Operator(uid) => {
                (vocabulary::operator(uid).map_err(invalid)?, None, LabelSet::default())
            }
            Principal::Agent(id) => {
                let mut agents = self.agents();
                let known = agents.get_mut(id).ok_or(AgentError::Absent("agent"))?;
                if known.state.is_final() {
                    return Err(AgentError::Absent("agent"));
                }
                let held = known.state == State::Suspended;
                let run = known.running;
                let entity = known.entity(id)?;
                let labels = known.labels.clone();
                drop(agents);
                return Ok(Asked {
                    principal,
                    action,
                    subject: entity,
                    resource,
                    held,
                    labels,
                    bytes: 0,
                    call: None,
                    arguments: None,
                    agent: Some(id),
                    run,
                });
            }
        };
        Ok(Asked {
            principal,
            action,
            subject,
            resource,
            held: false,
            labels,
            bytes: 0,
            call: None,
            arguments: None,
            agent,
            run: None,
        })
    }

    /// The refusal of what does not exist. It is decided like what does, so that limits, counters, messages and faults
    /// tell nobody which of the two it was; what policy would have let through is refused all the same.
    pub(crate) fn refuse_absent(&self, asked: &Asked<'_>) -> Refusal {
        match self.decide(asked) {
            Err(refusal) => refusal,
            Ok(granted) => {
                self.release(granted.reservations()); // K21
                self.refuse(asked, RefusalCode::Denied, None, "not allowed")
            }
        }
    }
}
