//! Runs that make room for others, and what time alone changes.

use symbi_types::RunId;

use crate::agents::AgentError;
use crate::kernel::Kernel;
use crate::moves::Moves;

impl Kernel {
    /// The host says that the run stands still.
    ///
    /// # Errors
    /// No such run.
    pub fn run_suspended(&self, run: RunId) -> Result<Moves, AgentError> {
        self.runs().get(&run).ok_or(AgentError::Absent("run"))?;
        Ok(Moves::default())
    }

    /// The host says that the run goes on.
    ///
    /// # Errors
    /// No such run.
    pub fn run_resumed(&self, run: RunId) -> Result<(), AgentError> {
        self.runs().get(&run).ok_or(AgentError::Absent("run"))?;
        Ok(())
    }

    /// When time alone changes what runs: nanoseconds on the monotonic clock; none: never.
    #[must_use]
    pub fn wake_at_ns(&self) -> Option<u64> {
        None
    }

    /// What is to be done now.
    pub fn tick(&self) -> Moves {
        self.start_ready()
    }
}
