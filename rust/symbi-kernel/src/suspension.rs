//! Holding an agent still, and letting it go on.

use symbi_scheduler::{Cause, Task};
use symbi_types::AgentId;

use crate::Principal;
use crate::agents::AgentError;
use crate::kernel::Kernel;
use crate::monitor::Asked;

impl Kernel {
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
}
