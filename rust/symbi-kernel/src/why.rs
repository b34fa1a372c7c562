//! Why a run or an agent stands where it stands, in words for people.

use symbi_scheduler::Why;
use symbi_types::{AgentId, RunId};

use crate::agents::AgentError;
use crate::kernel::Kernel;

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of a run: `waiting`, `running`. Of an agent: its lifecycle state.
    pub state: &'static str,
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub text: String,
}

impl Kernel {
    /// Where a run stands; none where there is no such run.
    #[must_use]
    pub fn why_run(&self, run: RunId) -> Option<Standing> {
        Some(match self.why(run)? {
            Why::Running { .. } | Why::Suspending { .. } | Why::Suspended { .. } => {
                Standing { state: "running", reason: "running", text: "it runs".to_owned() }
            }
            Why::Waiting { position, .. } => Standing {
                state: "waiting",
                reason: "waiting",
                text: format!("{position} runs stand before it"),
            },
        })
    }

    /// Where an agent stands.
    ///
    /// # Errors
    /// No such agent.
    pub fn why_agent(&self, agent: AgentId) -> Result<Standing, AgentError> {
        let state = self.agent_state(agent).ok_or(AgentError::Absent("agent"))?.as_str();
        Ok(Standing { state, reason: state, text: format!("it is {state}") })
    }
}
