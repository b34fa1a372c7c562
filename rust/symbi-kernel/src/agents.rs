//! Agents: created, cloned, listed, and who asks for an operation.
//!
//! Not here: their runs (`runs`), holding them still (`suspension`), ending them (`stop`).
//!
//! Invariants
//! - K120 agents that are asked for together are all made, or none of them.

use std::sync::Arc;

use symbi_audit::Event;
use symbi_policy::{Approval, Entity, EntityError, vocabulary};
use symbi_scheduler::{Cause, State};
use symbi_supervisor::Supervision;
use symbi_types::{AgentId, LabelSet, OperationId};

use crate::Principal;
use crate::action::action;
use crate::content::{self, Showing};
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::monitor::{Asked, Barred, Granted};
use crate::refusal::{Refusal, RefusalCode};
use crate::registry::{Agent, AgentSpec, AgentView, LABELS_MAX, NAME_CHARS_MAX};

use crate::tenants::check_tenant;

/// Longest note of an agent, in characters.
const NOTE_CHARS_MAX: usize = 4_096;

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
    /// An earlier attempt of the task made this call, and nobody knows whether it happened.
    #[error("operation {0} of an earlier attempt is unknown, so it is not repeated: `symbi approvals list`")]
    EffectUnknown(OperationId),
}

impl From<EntityError> for AgentError {
    fn from(error: EntityError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// An agent that may be, and is not recorded yet.
struct Permitted {
    id: AgentId,
    agent: Agent,
    asked: Asked<'static>,
    granted: Granted,
    details: String,
}

/// What an operator must know of it to judge later attempts.
fn describe_supervision(supervision: Option<&Supervision>, details: Object) -> Object {
    let Some(asked) = supervision else { return details };
    let details = details.number("retries", u64::from(asked.retries));
    match asked.restarts {
        Some(restarts) => {
            details.number("restarts", u64::from(restarts)).number("window_ms", asked.window_ms)
        }
        None => details,
    }
}

fn check(spec: &AgentSpec) -> Result<(), AgentError> {
    let length = spec.name.chars().count();
    if length == 0 || NAME_CHARS_MAX < length || spec.name.chars().any(char::is_control) {
        let text = format!("an agent's name is 1 to {NAME_CHARS_MAX} printable characters");
        return Err(AgentError::Invalid(text));
    }
    if spec.name == symbi_store::EVERYBODY {
        return Err(AgentError::Invalid(
            "no agent is called `*`: among the readers of a document it stands for all".to_owned(),
        ));
    }
    if let Some(supervision) = &spec.supervision {
        supervision.check().map_err(|error| AgentError::Invalid(error.to_string()))?;
    }
    check_tenant(&spec.tenant)?;
    spec.limits.check().map_err(|error| AgentError::Invalid(error.to_string()))
}

/// More labels than a record and a message have room for.
pub(crate) fn check_labels(labels: &LabelSet) -> Result<(), AgentError> {
    if labels.len() <= LABELS_MAX {
        return Ok(());
    }
    Err(AgentError::Invalid(format!("at most {LABELS_MAX} labels, and these are {}", labels.len())))
}

impl Kernel {
    /// Creates an agent: Initializing → Ready (spec L1).
    ///
    /// # Errors
    /// Refused by policy, or its configuration cannot be.
    pub fn create_agent(&self, by: Principal, spec: Arc<AgentSpec>) -> Result<(AgentId, u64), AgentError> {
        let (ids, seq) = self.create_agents(by, spec, 1)?;
        let id = ids.first().copied().ok_or(AgentError::Absent("agent"))?;
        Ok((id, seq))
    }

    /// Creates `count` agents of one specification: each is decided on and recorded by itself, in one call. Answers the
    /// number of the last record.
    ///
    /// # Errors
    /// As [`Kernel::create_agent`]; then none of them was made (K120).
    pub fn create_agents(
        &self,
        by: Principal,
        spec: Arc<AgentSpec>,
        count: usize,
    ) -> Result<(Vec<AgentId>, u64), AgentError> {
        check(&spec)?;
        if !self.agents().promise(count, self.agents_max()) {
            let text = format!(
                "there are {} agents, and `runtime.max_concurrent_agents` allows {}",
                self.count_agents(),
                self.agents_max()
            );
            return Err(AgentError::Invalid(text));
        }
        let made = self.create_promised(by, &spec, count);
        self.agents().fulfil(count);
        made
    }

    fn create_promised(
        &self,
        by: Principal,
        spec: &Arc<AgentSpec>,
        count: usize,
    ) -> Result<(Vec<AgentId>, u64), AgentError> {
        let mut permitted: Vec<Permitted> = Vec::with_capacity(count);
        for _ in 0..count {
            // Persons who agree to so many agents agree to each of them.
            let agreed = permitted.first().and_then(|one| one.granted.terms.approval.clone());
            match self.permit_agent(by, spec, (count, agreed)) {
                Ok(one) => permitted.push(one),
                Err(error) => {
                    self.undo_all(permitted.iter().map(|one| &one.granted)); // K21, K120
                    return Err(error);
                }
            }
        }
        let seq = self
            .record_internals(permitted.iter().map(|one| (&one.asked, &one.granted, one.details.as_str())))?;
        for one in &permitted {
            let registered = self.bus().register(one.id); // before anybody can write to it
            debug_assert!(registered.is_ok(), "a fresh id is not on the bus");
        }
        let ids: Vec<AgentId> = permitted.iter().map(|one| one.id).collect();
        {
            let mut agents = self.agents();
            permitted.into_iter().for_each(|one| agents.insert(one.id, one.agent));
        }
        ids.iter().for_each(|id| self.claim_letters(*id, &spec.name));
        Ok((ids, seq))
    }

    /// Decides whether one more agent may be. Refused, it never became one: nothing moves to Failed.
    fn permit_agent(
        &self,
        by: Principal,
        spec: &Arc<AgentSpec>,
        (count, agreed): (usize, Option<Approval>),
    ) -> Result<Permitted, AgentError> {
        let id = AgentId::random(self.entropy());
        let mut agent = Agent::new(Arc::clone(spec), State::Initializing);
        let asked = self.ask(by, "agent.create", agent.entity(id)?)?;
        agent.read(&asked.labels); // what it is made of was written by who made it
        check_labels(&agent.labels)?;
        let asked = Asked { agent: Some(id), resource: agent.entity(id)?, agreed, ..asked };
        agent.forget_entity();
        let granted = self.decide_showing(&asked, Some(&|| content::of_agents(spec, count)))?;
        agent.step(Cause::Validated)?;
        let details = describe_supervision(spec.supervision.as_ref(), self.describe(&asked, &granted))
            .string("name", &spec.name)
            .string("kind", &spec.kind)
            .string("isolation", if spec.in_process { "in_process" } else { "sandbox" })
            .string("tier", spec.tier.as_str())
            .string("tenant", &spec.tenant)
            .strings("capabilities", spec.capabilities.iter().map(String::as_str))
            .strings("transitions", ["initializing>ready"]);
        let details = match spec.assessed {
            Some(assessed) if spec.tier.number() < assessed.number() => {
                details.flag("below_assessment", true).string("assessed_tier", assessed.as_str())
            }
            Some(_) | None => details,
        };
        Ok(Permitted { id, agent, asked, granted, details: details.finish() })
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
        let admitted = self.admission().admit(agent, self.moment().mono_ns);
        self.touch(agent);
        if !admitted {
            return Err(AgentError::Invalid("too many notes; slow down".to_owned()));
        }
        self.wait_for_share(agent)?;
        let details = Object::new().string("sealed", &self.seal_for(&labels, text.as_bytes())).finish();
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

    /// An operation with nothing in it yet. The principal's entity is the kernel's own, never the caller's word.
    pub(crate) fn ask(
        &self,
        principal: Principal,
        name: &str,
        resource: Entity,
    ) -> Result<Asked<'static>, AgentError> {
        let action = action(name).ok_or_else(|| AgentError::Invalid(format!("`{name}` is not an action")))?; // K1
        let invalid = |error: symbi_policy::EntityError| AgentError::Invalid(error.to_string());
        let asked = |subject| Asked {
            principal,
            action,
            subject,
            resource,
            barred: None,
            labels: LabelSet::default(),
            bytes: 0,
            circumstances: Vec::new(),
            call: None,
            attributes: Vec::new(),
            amounts: Vec::new(),
            unread: None,
            arguments: None,
            agreed: None,
            agent: None,
            run: None,
            expected: None,
            replays: false,
        };
        match principal {
            Principal::Host => Ok(asked(vocabulary::host().map_err(invalid)?)),
            Principal::Operator(uid) => Ok(asked(vocabulary::operator(uid).map_err(invalid)?)),
            Principal::Agent(id) => {
                let mut agents = self.agents();
                let known = agents.get_mut(id).ok_or(AgentError::Absent("agent"))?;
                if known.state.is_final() {
                    return Err(AgentError::Absent("agent"));
                }
                let barred = match known.state {
                    _ if known.cancelled => Some(Barred::Cancelled),
                    State::Suspended => Some(Barred::Suspended),
                    _ => None,
                };
                let (run, labels) = (known.running, known.labels.clone());
                Ok(Asked { barred, labels, agent: Some(id), run, ..asked(known.entity(id)?) })
            }
        }
    }

    /// The refusal of what does not exist. It is decided like what does, so that limits, counters, messages and faults
    /// tell nobody which of the two it was; what policy would have let through is refused all the same.
    pub(crate) fn refuse_absent(&self, asked: &Asked<'_>) -> Refusal {
        match self.admit(asked) {
            Err(refusal) => refusal,
            Ok(()) => self.refuse_absent_admitted(asked, None),
        }
    }

    /// As [`Kernel::refuse_absent`], for whoever was admitted.
    pub(crate) fn refuse_absent_admitted(&self, asked: &Asked<'_>, showing: Showing<'_>) -> Refusal {
        match self.decide_admitted(asked, showing) {
            Err(refusal) => refusal,
            Ok(granted) => {
                self.undo(&granted.held()); // K21
                self.refuse(asked, RefusalCode::Denied, None, "not allowed")
            }
        }
    }
}
