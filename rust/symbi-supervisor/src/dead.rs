//! Tasks that failed for good, kept for inspection.
//!
//! Why: what will not be tried again must not vanish. A person reads why, mends the cause, and gives the input again.
//! Not here: opening what is sealed. The input is kept as the log keeps texts: sealed, so that a dump of it says nothing.
//!
//! Invariants
//! - SV16 at most `DEAD_MAX` tasks of together at most `DEAD_BYTES_MAX` sealed bytes are kept; the oldest goes first.
//! - SV17 kept and dropped together are all that ever died.

use std::collections::VecDeque;

use symbi_types::{AgentId, RunId};

use crate::class::Class;

/// Most tasks kept.
pub const DEAD_MAX: usize = 256;
/// Most sealed bytes kept, of all together.
pub const DEAD_BYTES_MAX: usize = 8 << 20;

/// A task that failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadTask {
    /// Its first run.
    pub task: RunId,
    /// Its last run.
    pub run: RunId,
    /// Whose it was.
    pub agent: AgentId,
    /// Its agent's name.
    pub name: String,
    /// Attempts made.
    pub attempts: u32,
    /// What the last failure was.
    pub class: Class,
    /// Its code.
    pub code: String,
    /// Why it was not tried again.
    pub reason: &'static str,
    /// When, microseconds since the epoch.
    pub at_us: u64,
    /// Its input, sealed; empty where it was too large to keep.
    pub input_sealed: String,
    /// What the last failure said, sealed.
    pub text_sealed: String,
}

impl DeadTask {
    fn bytes(&self) -> usize {
        self.input_sealed.len() + self.text_sealed.len()
    }
}

/// All that are kept, oldest first.
#[derive(Debug, Default)]
pub struct DeadTasks {
    kept: VecDeque<DeadTask>,
    bytes: usize,
    dropped: u64,
}

impl DeadTasks {
    /// Keeps one, and drops the oldest where there are too many (SV16).
    pub fn add(&mut self, task: DeadTask) {
        self.bytes += task.bytes();
        self.kept.push_back(task);
        while self.kept.len() > DEAD_MAX || self.bytes > DEAD_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.bytes();
            self.dropped += 1; // SV17
        }
    }

    /// Those that are kept, oldest first.
    pub fn kept(&self) -> impl ExactSizeIterator<Item = &DeadTask> {
        self.kept.iter()
    }

    /// How many were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}
