//! Holding an agent still, and letting it go on.

use symbi_scheduler::{Cause, Task};
use symbi_types::AgentId;

use crate::Principal;
use crate::agents::AgentError;
use crate::kernel::Kernel;
use crate::monitor::Asked;
use crate::moves::Moves;

/// Why an agent may be held.
const HOLDING: [Cause; 3] = [Cause::OperatorHold, Cause::PolicyViolation, Cause::ResourceConstraint];

/// An agent or a run that was held, let go, or cancelled.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Its record; none where it is recorded late.
    pub seq: Option<u64>,
    /// What the host does now.
    pub moves: Moves,
}

impl Kernel {
    /// Holds a running agent: Running → Suspended. A brake. From here on it may ask for nothing; the host brings its run
    /// to a standstill.
    ///
    /// # Errors
    /// No such agent, or it is not running, or nobody holds an agent for that cause.
    pub fn suspend_agent(&self, by: Principal, agent: AgentId, cause: Cause) -> Result<Moved, AgentError> {
        if !HOLDING.contains(&cause) {
            return Err(AgentError::Invalid(format!("an agent is not held for `{cause}`")));
        }
        let (before, after, running) = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            let (before, after) = known.step(cause)?;
            (before, after, known.running)
        };
        let transition = format!("{before}>{after}");
        let seq = self.record_brake("agent.suspend", by, agent, |details| {
            details.string("cause", cause.as_str()).strings("transitions", [transition.as_str()])
        });
        Ok(Moved { seq, moves: Moves { suspend: running.into_iter().collect(), ..Moves::default() } })
    }

    /// Lets a suspended agent go on: Suspended → Running, and → Ready where its run was ended meanwhile. Runs that were
    /// held wait again.
    ///
    /// # Errors
    /// Refused by policy, no such agent, or it is not suspended.
    pub fn resume_agent(&self, by: Principal, agent: AgentId) -> Result<Moved, AgentError> {
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
        let running = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            known.step(Cause::Cleared)?;
            if known.running.is_none() {
                known.step(Cause::TaskCompleted)?; // its run was ended while it was held
            }
            known.running
        };
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
        let moves = Moves { resume: running.into_iter().collect(), ..self.start_ready() };
        Ok(Moved { seq: Some(seq), moves })
    }
}
