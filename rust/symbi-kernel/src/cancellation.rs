//! Cancelling a run. A brake.

use symbi_types::RunId;

use crate::Principal;
use crate::agents::AgentError;
use crate::kernel::Kernel;
use crate::moves::Moves;
use crate::suspension::Moved;

impl Kernel {
    /// Cancels a run; the host ends it.
    ///
    /// # Errors
    /// No such run.
    pub fn cancel_run(&self, by: Principal, run: RunId) -> Result<Moved, AgentError> {
        let agent = self.runs().get(&run).ok_or(AgentError::Absent("run"))?.agent;
        let seq = self.record_brake("run.cancel", by, agent, |details| details.display("run", run));
        Ok(Moved { seq, moves: Moves::default() })
    }
}
