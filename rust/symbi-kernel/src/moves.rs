//! What the host does next with the runs of its agents.
//!
//! Why: who runs is decided here, and a coroutine or a sandbox is started, brought to a standstill and let go on by the
//! host. Every call that may change who runs answers with what is to be done; nothing is told twice.
//! Not here: who is chosen (`symbi-scheduler`).

use symbi_types::RunId;

/// What the host is to do. A run stands in one of the lists at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Runs that start now.
    pub start: Vec<RunId>,
    /// Runs to bring to a standstill; say so with `run_suspended`.
    pub suspend: Vec<RunId>,
    /// Runs that go on now; say so with `run_resumed`.
    pub resume: Vec<RunId>,
}

impl Moves {
    /// Nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start.is_empty() && self.suspend.is_empty() && self.resume.is_empty()
    }

    pub(crate) fn suspend(&mut self, run: RunId) {
        self.resume.retain(|other| *other != run); // the later word holds
        self.suspend.push(run);
    }

    pub(crate) fn resume(&mut self, run: RunId) {
        self.suspend.retain(|other| *other != run);
        self.resume.push(run);
    }

    pub(crate) fn forget(&mut self, run: RunId) {
        for list in [&mut self.start, &mut self.suspend, &mut self.resume] {
            list.retain(|other| *other != run);
        }
    }

    pub(crate) fn append(&mut self, later: Self) {
        self.start.extend(later.start);
        later.suspend.into_iter().for_each(|run| self.suspend(run));
        later.resume.into_iter().for_each(|run| self.resume(run));
    }
}
