//! Many requests at once: the same as one after the other, and what each needs of memory is brought before its turn.
//!
//! Why: with a hundred thousand tasks waiting, a request mostly waits for memory, a line after the other: the name, the
//! task, its agent, the agent's queue. A batch says what comes. So blocks of it are gone through a few times: each time
//! the next line of each is asked for, which the processor then brings side by side, and at last they are acted upon.
//! Not here: what is decided. Without the passes before the last everything would be the same, and slower.

use crate::column::{NONE, Slot};
use crate::error::TaskError;
use crate::scheduler::Scheduler;
use crate::task::{Task, TaskId};

/// Requests that are prepared together: as many lines of cache as can well be on their way at once.
const BLOCK: usize = 32;
/// How far down an agent's queue is asked for beforehand: enough for some hundred tasks.
const SINK: usize = 3;

impl Scheduler {
    /// [`Scheduler::submit`] for each, in order; `told` is given what became of each.
    pub fn submit_many(
        &mut self,
        tasks: impl Iterator<Item = Task> + Clone,
        mut told: impl FnMut(Result<(), TaskError>),
    ) {
        let (mut ahead, mut now) = (tasks.clone(), tasks);
        loop {
            let mut agents = [NONE; BLOCK];
            let mut count = 0;
            let block = ahead.clone();
            for task in ahead.by_ref().take(BLOCK) {
                self.tasks.expect_name(task.id);
                if let Some(agent) = task.agent {
                    self.agents.expect_name(agent);
                }
                count += 1;
            }
            if count == 0 {
                return;
            }
            self.tasks.expect_new(count);
            for (task, agent) in block.zip(&mut agents) {
                *agent = task.agent.and_then(|agent| self.agents.find(agent)).unwrap_or(NONE);
                if *agent != NONE {
                    self.agents.expect(*agent);
                }
            }
            for agent in agents.into_iter().take(count).filter(|agent| *agent != NONE) {
                self.agents[agent].parked.expect_push();
            }
            for task in now.by_ref().take(count) {
                told(self.submit(task));
            }
        }
    }

    /// [`Scheduler::complete`] for each, in order; `told` is given what became of each.
    pub fn complete_many(&mut self, tasks: &[TaskId], mut told: impl FnMut(Result<(), TaskError>)) {
        for block in tasks.chunks(BLOCK) {
            self.expect_ends(block);
            for task in block {
                told(self.complete(*task).map(drop));
            }
        }
    }

    /// The first of a class was taken: the next decision may be about the one that is first now, the one after it about
    /// one of those below.
    #[inline]
    pub(crate) fn expect_next(&self, class: Slot) {
        let ready = &self.classes[class].ready;
        ready.seconds().for_each(|slot| self.tasks.expect(slot));
        if let Some(first) = ready.first() {
            let agent = self.tasks[first.slot()].agent;
            if agent != NONE {
                self.agents.expect(agent);
            }
        }
    }

    fn expect_ends(&self, block: &[TaskId]) {
        let mut slots = [NONE; BLOCK];
        block.iter().for_each(|task| self.tasks.expect_name(*task));
        for (task, slot) in block.iter().zip(&mut slots) {
            if let Some(found) = self.tasks.find(*task) {
                *slot = found;
            }
        }
        let known = || slots.into_iter().filter(|slot| *slot != NONE);
        let agents = || known().map(|slot| self.tasks[slot].agent).filter(|agent| *agent != NONE);
        for slot in known() {
            let entry = &self.tasks[slot];
            let beside: [Slot; 2] = [entry.before, entry.after];
            beside.into_iter().filter(|slot| *slot != NONE).for_each(|slot| self.tasks.expect(slot));
            if entry.agent != NONE {
                self.agents.expect(entry.agent);
            }
        }
        agents().for_each(|agent| self.agents[agent].parked.expect_pop());
        for first in agents().filter_map(|agent| self.agents[agent].parked.first()) {
            self.tasks.expect(first.slot()); // it is its agent's next
        }
        for depth in 0..SINK {
            agents().for_each(|agent| self.agents[agent].parked.expect_sink(depth, &self.tasks.places));
        }
    }
}
