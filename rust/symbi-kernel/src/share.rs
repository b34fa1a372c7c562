//! Shares of the log's buffer: how many records of one agent may wait for the disk.
//!
//! Why: the buffer is bounded, and whoever adds past its bound waits. Without shares one agent that talks fast fills
//! it, and everybody waits, operators and settlements too.
//!
//! Invariants
//! - K46 before an agent's next operation is decided, at most a quarter of the buffer waits for the disk on its
//!   behalf, and at most three quarters on everybody's: the rest is for operators, the host and outcomes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use symbi_types::AgentId;

use crate::kernel::{Kernel, lock};
use crate::refusal::Refusal;

/// How long an agent waits for its share; a disk that stands still this long counts as one that failed.
const WAIT: Duration = Duration::from_secs(10);

/// The records of agents that were not on disk when last looked at.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    waiting: HashMap<AgentId, VecDeque<u64>>,
}

impl Shares {
    /// The record that must be on disk before the agent may go on; none while it is within `share`.
    fn blocked_by(&mut self, agent: AgentId, durable: u64, share: usize) -> Option<u64> {
        let waiting = self.waiting.get_mut(&agent)?;
        while waiting.front().is_some_and(|seq| *seq < durable) {
            waiting.pop_front();
        }
        let excess = waiting.len().checked_sub(share)?;
        waiting.get(excess).copied()
    }

    /// A record was put into the buffer on the agent's behalf.
    pub(crate) fn add(&mut self, agent: AgentId, seq: u64) {
        self.waiting.entry(agent).or_default().push_back(seq);
    }

    /// Lets go of what is on disk; whether anything of the agent's is not.
    pub(crate) fn tidy(&mut self, agent: AgentId, durable: u64) -> bool {
        let Some(waiting) = self.waiting.get_mut(&agent) else { return false };
        while waiting.front().is_some_and(|seq| *seq < durable) {
            waiting.pop_front();
        }
        if waiting.is_empty() {
            self.waiting.remove(&agent);
            return false;
        }
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The agent is gone.
    pub(crate) fn forget(&mut self, agent: AgentId) {
        self.waiting.remove(&agent);
    }
}

impl Kernel {
    /// Waits until the agent is within its share and the buffer has room for more than agents (K46).
    ///
    /// # Errors
    /// The log fails, or the disk stands still.
    pub(crate) fn wait_for_share(&self, agent: AgentId) -> Result<(), Refusal> {
        let buffer = self.log().buffer_max();
        loop {
            let durable = self.log().durable();
            let behind = if self.log().buffered() >= buffer * 3 / 4 {
                Some(durable)
            } else {
                lock(&self.shares).blocked_by(agent, durable, buffer / 4)
            };
            let Some(seq) = behind else { return Ok(()) };
            self.log().wait_durable(seq, WAIT).map_err(|_| self.unavailable())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_types::SystemEntropy;

    #[test]
    fn k46_an_agent_waits_for_its_own_records_and_for_nobody_elses() {
        let (mut shares, agent, other) =
            (Shares::default(), AgentId::random(&SystemEntropy), AgentId::random(&SystemEntropy));
        (0..10).for_each(|seq| shares.add(agent, seq));
        assert_eq!(shares.blocked_by(agent, 0, 4), Some(6), "with 6 on disk, 3 wait");
        assert_eq!(shares.blocked_by(other, 0, 4), None);
        assert_eq!(shares.blocked_by(agent, 6, 4), Some(6));
        assert_eq!(shares.blocked_by(agent, 7, 4), None);
        shares.forget(agent);
        assert_eq!(shares.blocked_by(agent, 0, 0), None);
    }
}
