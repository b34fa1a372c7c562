//! The agents of a runtime: who they are, which state they are in, what they have read.
//!
//! Invariants
//! - K18 a state changes only along the lifecycle table; a refused change leaves everything as it was.
//! - K19 an agent's labels only grow while it lives.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use symbi_policy::{Entity, EntityError, vocabulary};
use symbi_scheduler::{Cause, IllegalTransition, State};
use symbi_supervisor::Supervision;
use symbi_types::{AgentId, LabelSet, ResourceLimits, RunId, SecurityTier};

use crate::violation::Violation;

/// Longest agent name, in characters: it stands in every record that names the agent.
pub const NAME_CHARS_MAX: usize = 128;

/// Labels that an agent carries, or a payload: as many as a message can. Without it, a sender of made-up labels could
/// grow a reader's records until none fits.
pub const LABELS_MAX: usize = 64;

/// What an agent is, as its creator says it. The monitor decides whether it may be.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// Its name: what policies call it. Several instances may share one.
    pub name: String,
    /// `python`, `program`, `symbi` or `model`.
    pub kind: String,
    /// Runs in the host's process, inside the trust boundary.
    pub in_process: bool,
    /// Where it runs otherwise.
    pub tier: SecurityTier,
    /// What the assessment of its risk asks for; none where it was not assessed.
    pub assessed: Option<SecurityTier>,
    /// What it says it needs, such as `tool:git_log`.
    pub capabilities: Vec<String>,
    /// Labels of its inputs.
    pub labels: LabelSet,
    /// On whose account its runs are.
    pub tenant: String,
    /// Its limits.
    pub limits: ResourceLimits,
    /// What follows when it fails; none: nothing does.
    pub supervision: Option<Supervision>,
}

/// Who wants an agent to stand still: a small set of causes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holds(u8);

impl Holds {
    /// Why an agent may be held, the first the one that is told.
    pub(crate) const CAUSES: [Cause; 3] =
        [Cause::OperatorHold, Cause::PolicyViolation, Cause::ResourceConstraint];
    pub(crate) const ALL: Self = Self(0b111);

    pub(crate) fn of(cause: Cause) -> Self {
        Self(Self::CAUSES.iter().position(|other| *other == cause).map_or(0, |at| 1 << at))
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn contains(self, cause: Cause) -> bool {
        !self.and(Self::of(cause)).is_empty()
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn insert(&mut self, cause: Cause) {
        self.0 |= Self::of(cause).0;
    }

    pub(crate) const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    pub(crate) fn causes(self) -> impl Iterator<Item = Cause> {
        Self::CAUSES.into_iter().filter(move |cause| self.contains(*cause))
    }

    pub(crate) fn first(self) -> Option<Cause> {
        self.causes().next()
    }

    /// The names in the log.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        self.causes().map(Cause::as_str)
    }
}

/// One agent. Kept small: there may be a hundred thousand.
pub(crate) struct Agent {
    pub(crate) spec: Arc<AgentSpec>,
    pub(crate) state: State,
    pub(crate) labels: LabelSet,
    pub(crate) running: Option<RunId>,
    /// The collector knows of it.
    pub(crate) listed: bool,
    /// Who wants it to stand still (K76).
    pub(crate) holds: Holds,
    /// What it did, where a policy holds it for that.
    pub(crate) violation: Option<Box<Violation>>,
    /// The run it is at work on is cancelled: it may ask for nothing (K77).
    pub(crate) cancelled: bool,
    /// Which one of all it was, for the oldest of a name.
    born: u64,
    /// Its Cedar entity: made when first needed, again when its labels grow, dropped when it falls idle.
    entity: Option<Entity>,
    /// The same together with the instance of its name that it last talked to.
    pair: Option<Box<Pair>>,
}

/// Two instances of one name as policy sees them together, and the entities of each that it was made of.
struct Pair {
    other: AgentId,
    mine: Entity,
    theirs: Entity,
    both: Entity,
}

impl Pair {
    /// K191: an entity is made anew when anything about it changes, and the two are held here, so that nothing else can
    /// come to lie at their place.
    fn is_of(&self, other: AgentId, mine: &Entity, theirs: &Entity) -> bool {
        self.other == other && self.mine.place() == mine.place() && self.theirs.place() == theirs.place()
    }
}

/// An agent as `agents list` shows it.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// `python`, `program`, …
    pub kind: String,
    /// In the host's process.
    pub in_process: bool,
    /// Its tier otherwise.
    pub tier: SecurityTier,
    /// Its lifecycle state.
    pub state: State,
    /// What it has read.
    pub labels: LabelSet,
    /// The run it is at work on.
    pub running: Option<RunId>,
    /// Why it is held, where it is.
    pub held: Option<Cause>,
    /// On whose account its runs are.
    pub tenant: String,
}

impl Agent {
    pub(crate) fn new(spec: Arc<AgentSpec>, state: State) -> Self {
        let labels = spec.labels.clone();
        let (running, holds, violation) = (None, Holds::default(), None);
        Self {
            spec,
            state,
            labels,
            running,
            holds,
            violation,
            cancelled: false,
            listed: false,
            born: 0,
            entity: None,
            pair: None,
        }
    }

    /// K18.
    pub(crate) fn step(&mut self, cause: Cause) -> Result<(State, State), IllegalTransition> {
        let before = self.state;
        self.state = before.after(cause)?;
        Ok((before, self.state))
    }

    /// Whether its labels stay within bounds when it reads this.
    pub(crate) fn has_room_for(&self, labels: &LabelSet) -> bool {
        self.labels.covers(labels) || self.labels.union(labels).len() <= LABELS_MAX
    }

    /// K19.
    pub(crate) fn read(&mut self, labels: &LabelSet) {
        if !self.labels.covers(labels) {
            self.labels = self.labels.union(labels);
            self.entity = None;
        }
    }

    /// Whether it has read something of this label.
    pub(crate) fn carries(&self, label: &str) -> bool {
        self.labels.contains(label)
    }

    /// A declassification: it counts as not having read these.
    pub(crate) fn lower(&mut self, labels: &LabelSet) {
        self.labels = self.labels.iter().filter(|label| !labels.contains(label.as_str())).cloned().collect();
        self.entity = None;
    }

    pub(crate) fn entity(&mut self, id: AgentId) -> Result<Entity, EntityError> {
        if let Some(entity) = &self.entity {
            return Ok(entity.clone());
        }
        let entity = agent_entity(&self.spec, id, &self.labels)?;
        self.entity = Some(entity.clone());
        Ok(entity)
    }

    /// An idle agent does not keep what can be made again.
    pub(crate) fn forget_entity(&mut self) {
        self.entity = None;
        self.pair = None;
    }
}

fn agent_entity(spec: &AgentSpec, id: AgentId, labels: &LabelSet) -> Result<Entity, EntityError> {
    vocabulary::agent(&vocabulary::AgentFacts {
        name: &spec.name,
        instance: &id.to_string(),
        tier: spec.tier,
        in_process: spec.in_process,
        kind: &spec.kind,
        capabilities: &spec.capabilities,
        labels,
        tenant: &spec.tenant,
    })
}

/// All agents.
#[derive(Default)]
pub(crate) struct Registry {
    agents: HashMap<AgentId, Agent>,
    names: HashMap<Arc<str>, BTreeSet<(u64, AgentId)>>,
    born: u64,
    /// Places promised to agents that are being created.
    promised: usize,
}

impl Registry {
    /// Promises places to agents that are being created; false when there would be more than `most`. Two that are created
    /// at once cannot both get the last place.
    pub(crate) fn promise(&mut self, count: usize, most: usize) -> bool {
        let room = count <= most.saturating_sub(self.agents.len() + self.promised);
        self.promised += if room { count } else { 0 };
        room
    }

    /// Takes promises back, or ends them when their agents are in.
    pub(crate) fn fulfil(&mut self, count: usize) {
        self.promised = self.promised.saturating_sub(count);
    }

    pub(crate) fn insert(&mut self, id: AgentId, mut agent: Agent) {
        self.born += 1;
        agent.born = self.born;
        match self.names.get_mut(agent.spec.name.as_str()) {
            Some(ids) => {
                ids.insert((self.born, id));
            }
            None => {
                let name: Arc<str> = agent.spec.name.as_str().into();
                self.names.insert(name, BTreeSet::from([(self.born, id)]));
            }
        }
        self.agents.insert(id, agent);
    }

    pub(crate) fn remove(&mut self, id: AgentId) {
        let Some(agent) = self.agents.remove(&id) else { return };
        if let Some(ids) = self.names.get_mut(agent.spec.name.as_str()) {
            ids.remove(&(agent.born, id));
            if ids.is_empty() {
                self.names.remove(agent.spec.name.as_str());
            }
        }
    }

    /// Those that have read something of this label, with their names.
    pub(crate) fn carriers(&self, label: &str) -> Vec<(AgentId, String)> {
        let carry = self.agents.iter().filter(|(_, agent)| agent.carries(label));
        carry.map(|(id, agent)| (*id, agent.spec.name.clone())).collect()
    }

    pub(crate) fn has(&self, id: AgentId) -> bool {
        self.agents.contains_key(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.agents.iter()
    }

    pub(crate) fn get(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: AgentId) -> Option<&mut Agent> {
        self.agents.get_mut(&id)
    }

    /// The instance that a message to `name` reaches: the oldest one alive.
    pub(crate) fn by_name(&self, name: &str) -> Option<AgentId> {
        self.names.get(name).and_then(|ids| ids.first()).map(|(_, id)| *id)
    }

    pub(crate) fn len(&self) -> usize {
        self.agents.len()
    }

    /// Two instances of one name are one entity to policy, which knows agents by name. What it then sees is the
    /// more careful of both: all labels, the weaker containment, only the capabilities they share.
    /// None where one of them is not there.
    ///
    /// # Errors
    /// Their names make no entity.
    pub(crate) fn both(&mut self, one: AgentId, other: AgentId) -> Result<Option<Entity>, EntityError> {
        let Some(theirs) = self.get_mut(other).map(|agent| agent.entity(other)).transpose()? else {
            return Ok(None);
        };
        let Some(mine) = self.get_mut(one).map(|agent| agent.entity(one)).transpose()? else {
            return Ok(None);
        };
        let (Some(left), Some(right)) = (self.get(one), self.get(other)) else { return Ok(None) };
        if let Some(known) = left.pair.as_ref().filter(|pair| pair.is_of(other, &mine, &theirs)) {
            return Ok(Some(known.both.clone()));
        }
        let shared = |capability: &String| right.spec.capabilities.contains(capability);
        let spec = AgentSpec {
            tier: left.spec.tier.min(right.spec.tier),
            in_process: left.spec.in_process || right.spec.in_process,
            capabilities: left.spec.capabilities.iter().filter(|one| shared(one)).cloned().collect(),
            ..AgentSpec::clone(&left.spec)
        };
        let both = agent_entity(&spec, one, &left.labels.union(&right.labels))?;
        if let Some(agent) = self.get_mut(one) {
            agent.pair = Some(Box::new(Pair { other, mine, theirs, both: both.clone() }));
        }
        Ok(Some(both))
    }

    pub(crate) fn view(&self) -> Vec<AgentView> {
        self.agents
            .iter()
            .map(|(id, agent)| AgentView {
                id: *id,
                name: agent.spec.name.clone(),
                kind: agent.spec.kind.clone(),
                in_process: agent.spec.in_process,
                tier: agent.spec.tier,
                state: agent.state,
                labels: agent.labels.clone(),
                running: agent.running,
                held: agent.holds.first(),
                tenant: agent.spec.tenant.clone(),
            })
            .collect()
    }
}
