//! Urgency passed on through requests: who is waited for is as urgent as who waits.
//!
//! Why: an urgent run that waits for the answer of a lesser one would otherwise wait for everything that is more urgent
//! than that one. So from the request to its answer, or until nobody waits for it any more, the runs of the agent that was
//! asked are as urgent as the run that asked. The scheduler follows chains and bounds cycles.
//!
//! Invariants
//! - K72 what a request passed on is taken back with its answer, when it is forgotten, and at the end of either run.
//! - K73 at most `REQUESTS_MAX` requests of one run pass anything on; later ones are sent like any message.

use std::collections::{BTreeSet, HashMap};

use symbi_scheduler::TaskId;
use symbi_types::{AgentId, MessageId, RunId};

use crate::kernel::Kernel;
use crate::turns::Turns;

/// Requests of one run that pass its urgency on at once.
pub(crate) const REQUESTS_MAX: usize = 64;

/// Runs of one agent that inherit at once: the one it is at work on, and those it will do next. Any other inherits when it
/// is started.
const HEIRS_MAX: usize = 16;

/// A request without an answer.
struct Request {
    from: RunId,
    task: TaskId,
    to: AgentId,
}

/// All of them, and who waits for whom.
#[derive(Default)]
pub(crate) struct Requests {
    open: HashMap<MessageId, Request>,
    of_run: BTreeSet<(RunId, MessageId)>,
    of_agent: BTreeSet<(AgentId, MessageId)>,
}

const FIRST: MessageId = MessageId::MIN;
const LAST: MessageId = MessageId::MAX;

impl Requests {
    fn insert(&mut self, message: MessageId, request: Request) {
        self.of_run.insert((request.from, message));
        self.of_agent.insert((request.to, message));
        self.open.insert(message, request);
    }

    fn remove(&mut self, message: MessageId) -> Option<Request> {
        let request = self.open.remove(&message)?;
        self.of_run.remove(&(request.from, message));
        self.of_agent.remove(&(request.to, message));
        Some(request)
    }

    fn by(&self, run: RunId) -> impl Iterator<Item = MessageId> {
        self.of_run.range((run, FIRST)..=(run, LAST)).map(|(_, message)| *message)
    }

    /// The tasks that wait for an answer of the agent.
    fn waiting_for(&self, agent: AgentId) -> impl Iterator<Item = TaskId> {
        let messages = self.of_agent.range((agent, FIRST)..=(agent, LAST));
        messages.filter_map(|(_, message)| self.open.get(message)).map(|request| request.task)
    }
}

impl Turns {
    /// Passes the urgency of `from` on to what `to` does, and will do next.
    fn pass_on(&mut self, message: MessageId, from: RunId, to: AgentId) {
        let Some(task) = self.runs.get(&from).filter(|run| run.phase.is_begun()).map(|run| run.task.id)
        else {
            return;
        };
        if REQUESTS_MAX <= self.requests.by(from).count() {
            return; // K73
        }
        self.requests.insert(message, Request { from, task, to });
        for heir in self.heirs(to) {
            let _ = self.scheduler.inherit(heir, task); // it is set aside: it inherits when it is started
        }
    }

    /// A run of an agent that is waited for is as urgent as those who wait.
    pub(crate) fn inherit_all(&mut self, agent: AgentId, heir: TaskId) {
        let waiting: Vec<TaskId> = self.requests.waiting_for(agent).collect();
        for task in waiting {
            let _ = self.scheduler.inherit(heir, task); // as above
        }
    }

    /// K72.
    fn take_back(&mut self, message: MessageId) {
        let Some(request) = self.requests.remove(message) else { return };
        if self.requests.waiting_for(request.to).any(|task| task == request.task) {
            return; // it waits for another answer of the same agent
        }
        let heirs: Vec<TaskId> = self.runs_of(request.to).filter_map(|run| self.task_of(run)).collect();
        for heir in heirs {
            let _ = self.scheduler.disinherit(heir, request.task);
        }
    }

    /// K72: the run is over, and the scheduler forgot it with all that it passed on.
    pub(crate) fn forget_requests(&mut self, run: RunId) {
        let mine: Vec<MessageId> = self.requests.by(run).collect();
        for message in mine {
            self.requests.remove(message);
        }
    }

    fn heirs(&self, agent: AgentId) -> Vec<TaskId> {
        self.runs_of(agent).filter_map(|run| self.task_of(run)).take(HEIRS_MAX).collect()
    }

    fn task_of(&self, run: RunId) -> Option<TaskId> {
        self.runs.get(&run).map(|known| known.task.id)
    }
}

impl Kernel {
    /// A request was delivered.
    pub(crate) fn request_sent(&self, message: MessageId, from: Option<RunId>, to: AgentId) {
        let Some(from) = from else { return };
        let ((), moves) = self.turn(|turns, _| turns.pass_on(message, from, to));
        self.tell_later(moves);
    }

    /// It was answered by `by`, or nobody waits for it any more. Only who was asked answers.
    pub(crate) fn request_over(&self, message: MessageId, by: Option<AgentId>) {
        let asked = self.turns().requests.open.get(&message).map(|request| request.to);
        if asked.is_none_or(|asked| by.is_some_and(|by| by != asked)) {
            return;
        }
        let ((), moves) = self.turn(|turns, _| turns.take_back(message));
        self.tell_later(moves);
    }

    /// Requests whose urgency is passed on now.
    #[must_use]
    pub fn requests_open(&self) -> usize {
        self.turns().requests.open.len()
    }
}
