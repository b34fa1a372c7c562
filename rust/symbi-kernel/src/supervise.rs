//! The error handler behind the monitor: attempts of a task, their verdicts, dead tasks.
//!
//! Why: whether something is tried again is decided where it is recorded, and nowhere else. The host runs what it is told.
//! Not here: the rules (`symbi-supervisor`), what an attempt had done (`journal`), its calls (`calls`), running anything.
//!
//! Invariants
//! - K93 an attempt follows only a verdict to retry, once, for the same agent and the same input.
//! - K94 a task ends with its last attempt: done, stopped, or dead and kept; nothing of it stays in memory otherwise.
//! - K98 inputs and results that are kept for all tasks together take at most `KEPT_BYTES_MAX`.

use std::collections::HashMap;
use std::sync::Arc;

use symbi_audit::Event;
use symbi_supervisor::{
    Class, DeadTask, DependencyView, Effects, Failed, Judgement, Options, Reason, Supervisor, Verdict,
    classify,
};
use symbi_types::{AgentId, LabelSet, OperationId, RunId};

use crate::agents::AgentError;
use crate::ends::RunOutcome;
use crate::journal::{Fate, Journal, Slot};
use crate::json::Object;
use crate::kernel::Kernel;
use crate::registry::AgentSpec;

/// Longest input that is kept, sealed, for the inspection of a dead task.
const INPUT_BYTES_MAX: usize = 65_536;
/// Sealed inputs and results of all tasks together, in bytes. Past it, inputs of dead tasks are not kept, and a task with
/// effects is not tried again.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Tasks that are followed at once. Further ones run, and are not tried again.
const TASKS_MAX: usize = 100_000;

/// What follows from the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aftermath {
    /// What the failure is; none where there was none.
    pub class: Option<Class>,
    /// What the host does now.
    pub verdict: Verdict,
    /// Why it is not tried again.
    pub reason: Reason,
    /// Which attempt it was; the first is 1.
    pub attempt: u32,
}

impl Aftermath {
    const fn done(attempt: u32) -> Self {
        Self { class: None, verdict: Verdict::None, reason: Reason::NotAsked, attempt }
    }

    /// Milliseconds until the next attempt; 0 where there is none.
    #[must_use]
    pub const fn after_ms(&self) -> u64 {
        match self.verdict {
            Verdict::Retry { after_ms } => after_ms,
            Verdict::None | Verdict::Restart | Verdict::Escalate | Verdict::Dead => 0,
        }
    }

    /// Its part of a run's outcome record.
    pub(crate) fn describe(&self, details: Object) -> Object {
        let Some(class) = self.class else { return details };
        let details = details.string("class", class.as_str()).string("verdict", self.verdict.as_str());
        match self.verdict {
            Verdict::None => details,
            Verdict::Retry { after_ms } => {
                details.number("attempt", u64::from(self.attempt)).number("retry_after_ms", after_ms)
            }
            Verdict::Restart | Verdict::Escalate | Verdict::Dead => {
                details.number("attempt", u64::from(self.attempt)).string("reason", self.reason.as_str())
            }
        }
    }
}

/// A task of a supervised agent: all its attempts.
pub(crate) struct Task {
    pub(crate) first: RunId,
    /// The attempt that runs, or the last that did.
    run: RunId,
    runs: Vec<RunId>,
    agent: AgentId,
    pub(crate) spec: Arc<AgentSpec>,
    pub(crate) attempt: u32,
    input: [u8; 32],
    input_sealed: String,
    pub(crate) journal: Journal,
    /// It came to a call whose effect is unknown (K97).
    pub(crate) unknown: bool,
    /// Of the attempt `run`, once it has one.
    judged: Option<Aftermath>,
    /// It waits for its next attempt.
    waits: bool,
    /// What its last failure was.
    class: Class,
    code: String,
    text_sealed: String,
}

/// The error handler's state.
pub(crate) struct Handler {
    pub(crate) supervisor: Supervisor,
    pub(crate) tasks: HashMap<RunId, Task>,
    /// Every attempt, to the first of its task.
    firsts: HashMap<RunId, RunId>,
    /// Bytes of inputs and results (K98).
    kept: usize,
}

impl Handler {
    pub(crate) fn new(options: Options) -> Self {
        let supervisor = Supervisor::new(options);
        Self { supervisor, tasks: HashMap::new(), firsts: HashMap::new(), kept: 0 }
    }

    pub(crate) fn task(&mut self, run: RunId) -> Option<&mut Task> {
        self.tasks.get_mut(self.firsts.get(&run)?)
    }

    /// A call of the task has ended: its journal keeps the result, if there is room for it (K98).
    pub(crate) fn keep(&mut self, task: RunId, slot: Slot, operation: OperationId, fate: Fate) {
        let room = KEPT_BYTES_MAX - self.kept;
        if let Some(task) = self.tasks.get_mut(&task) {
            self.kept += task.journal.settle(slot, operation, fate, room);
        }
    }

    /// Results that tasks of these agents keep of their calls.
    pub(crate) fn count_results(&self, agents: &[AgentId]) -> usize {
        let of = self.tasks.values().filter(|task| agents.contains(&task.agent));
        of.map(|task| task.journal.count_results()).sum()
    }

    /// They go; how many there were.
    pub(crate) fn lose_results(&mut self, agents: &[AgentId]) -> usize {
        let mut gone = 0;
        for task in self.tasks.values_mut().filter(|task| agents.contains(&task.agent)) {
            self.kept -= task.journal.bytes();
            gone += task.journal.lose_results();
        }
        gone
    }

    /// Somebody knows by now what became of a call: its task, which may be tried again, goes by that. The result of one that
    /// is done stays unknown, and is empty.
    pub(crate) fn resolved(&mut self, agent: Option<AgentId>, operation: OperationId, done: bool) {
        let of_agent = self.tasks.iter().filter(|(_, task)| Some(task.agent) == agent);
        let found =
            of_agent.filter_map(|(first, task)| Some((*first, task.journal.doubt(operation)?))).next();
        let Some((task, slot)) = found else { return };
        let fate = if done { Fate::Done(operation, Some(Arc::from(&[][..]))) } else { Fate::Not };
        self.keep(task, slot, operation, fate);
    }

    /// K94.
    fn end(&mut self, run: RunId) -> Option<Task> {
        let first = self.firsts.get(&run).copied()?;
        let task = self.tasks.remove(&first)?;
        self.kept -= task.input_sealed.len() + task.journal.bytes();
        for run in &task.runs {
            self.firsts.remove(run);
        }
        Some(task)
    }

    fn bury(&mut self, task: Task, reason: &'static str, at_us: u64) {
        self.supervisor.dead.add(DeadTask {
            task: task.first,
            run: task.run,
            agent: task.agent,
            name: task.spec.name.clone(),
            attempts: task.attempt,
            class: task.class,
            code: task.code,
            reason,
            at_us,
            input_sealed: task.input_sealed,
            text_sealed: task.text_sealed,
        });
    }
}

fn code_of(outcome: &RunOutcome) -> &str {
    match outcome {
        RunOutcome::Done => "unknown_effect", // asked for only where that is so
        RunOutcome::Cancelled => "cancelled",
        RunOutcome::Failed { kind, .. } => kind,
    }
}

impl Kernel {
    /// Notes the attempt `run` (K93); called before anything is decided.
    pub(crate) fn attempt_begins(
        &self,
        run: RunId,
        agent: AgentId,
        spec: &Arc<AgentSpec>,
        (input, labels): (&[u8], &LabelSet),
        retry_of: Option<RunId>,
    ) -> Result<Option<u32>, AgentError> {
        if spec.supervision.is_none() {
            return match retry_of {
                Some(_) => {
                    Err(AgentError::Invalid("the agent is not supervised: nothing is tried again".into()))
                }
                None => Ok(None),
            };
        }
        let digest = self.digest_bytes(input);
        let Some(previous) = retry_of else {
            let kept = input.len() <= INPUT_BYTES_MAX;
            let input_sealed = if kept { self.seal_for(labels, input) } else { String::new() };
            let mut task = Task {
                first: run,
                run,
                runs: vec![run],
                agent,
                spec: Arc::clone(spec),
                attempt: 1,
                input: digest,
                input_sealed,
                journal: Journal::default(),
                unknown: false,
                judged: None,
                waits: false,
                class: Class::Other,
                code: String::new(),
                text_sealed: String::new(),
            };
            let mut handler = self.handler();
            if handler.tasks.len() < TASKS_MAX {
                if task.input_sealed.len() > KEPT_BYTES_MAX - handler.kept {
                    task.input_sealed = String::new(); // K98
                }
                handler.kept += task.input_sealed.len();
                handler.firsts.insert(run, run);
                handler.tasks.insert(run, task);
            }
            return Ok(Some(1));
        };
        let mut handler = self.handler();
        let task = handler.task(previous).ok_or(AgentError::Absent("task to try again"))?;
        if !task.waits || task.run != previous || task.agent != agent || task.input != digest {
            let text = "a retry follows a verdict to retry, once, for the same agent and the same input";
            return Err(AgentError::Invalid(text.to_owned()));
        }
        task.attempt += 1;
        (task.waits, task.judged) = (false, None);
        task.run = run;
        task.runs.push(run);
        let (attempt, first) = (task.attempt, task.first);
        handler.firsts.insert(run, first);
        Ok(Some(attempt))
    }

    /// The attempt was refused before it began. A first one leaves nothing; a task of more waits again, and its host may
    /// give it up.
    pub(crate) fn attempt_refused(&self, run: RunId) {
        let mut handler = self.handler();
        let Some(task) = handler.task(run).filter(|task| task.run == run) else { return };
        task.runs.pop();
        let Some(previous) = task.runs.last().copied() else {
            task.runs.push(run);
            handler.end(run);
            return;
        };
        (task.run, task.waits) = (previous, true);
        task.attempt -= 1;
        handler.firsts.remove(&run);
    }

    /// What follows if `run` ends like this. Asked once before [`Kernel::end_run`], which records it; none where its agent
    /// is not supervised.
    #[must_use]
    pub fn judge(&self, run: RunId, outcome: &RunOutcome) -> Option<Aftermath> {
        let now_ns = self.moment().mono_ns;
        let random = self.random();
        let mut handler = self.handler();
        let Handler { supervisor, tasks, firsts, .. } = &mut *handler;
        let task = tasks.get_mut(firsts.get(&run)?).filter(|task| task.run == run)?;
        if task.judged.is_some() {
            return task.judged;
        }
        let done = *outcome == RunOutcome::Done && !task.unknown;
        let judged = if done {
            supervisor.done(&task.spec.name);
            Aftermath::done(task.attempt)
        } else {
            let stopped = *outcome == RunOutcome::Cancelled;
            let class = match (stopped, task.unknown) {
                (true, _) => Class::Cancelled,
                (false, true) => Class::UnknownEffect, // K97
                (false, false) => classify(code_of(outcome)),
            };
            let effects = if task.journal.lost() { Effects::Lost } else { Effects::Replayable };
            let failed = Failed {
                agent: task.agent,
                name: &task.spec.name,
                has_worker: !task.spec.in_process && task.spec.kind != "program",
                supervision: task.spec.supervision.as_ref(),
                class,
                code: code_of(outcome),
                attempt: task.attempt,
                effects,
            };
            let Judgement { verdict, reason } = supervisor.judge(&failed, now_ns, random);
            Aftermath { class: Some(class), verdict, reason, attempt: task.attempt }
        };
        task.judged = Some(judged);
        task.waits = matches!(judged.verdict, Verdict::Retry { .. });
        task.class = judged.class.unwrap_or(Class::Other);
        task.code = code_of(outcome).to_owned();
        Some(judged)
    }

    /// The verdict that the outcome record of `run` carries; a task that is not tried again ends here (K94).
    pub(crate) fn settle_attempt(&self, run: RunId, agent: AgentId, outcome: &RunOutcome) -> Aftermath {
        let Some(judged) = self.judge(run, outcome) else {
            return self.count_failure(agent, outcome);
        };
        let text_sealed = match outcome {
            RunOutcome::Failed { text, .. } if judged.verdict.is_dead() => {
                self.seal_for(&self.agent_labels(agent), text.as_bytes())
            }
            RunOutcome::Failed { .. } | RunOutcome::Done | RunOutcome::Cancelled => String::new(),
        };
        let at_us = self.moment().wall_us;
        let mut handler = self.handler();
        if let Verdict::Retry { .. } = judged.verdict {
            return judged;
        }
        if let Some(mut task) = handler.end(run)
            && judged.verdict.is_dead()
        {
            task.text_sealed = text_sealed;
            handler.bury(task, judged.reason.as_str(), at_us);
        }
        judged
    }

    /// A failure of an agent that is not supervised: counted, and nothing follows.
    fn count_failure(&self, agent: AgentId, outcome: &RunOutcome) -> Aftermath {
        if *outcome == RunOutcome::Done {
            return Aftermath::done(1);
        }
        let code = code_of(outcome);
        let stopped = *outcome == RunOutcome::Cancelled;
        let class = if stopped { Class::Cancelled } else { classify(code) };
        let failed = Failed {
            agent,
            name: "",
            has_worker: false,
            supervision: None,
            class,
            code,
            attempt: 1,
            effects: Effects::default(),
        };
        let Judgement { verdict, reason } = self.handler().supervisor.judge(&failed, 0, 0);
        Aftermath { class: Some(class), verdict, reason, attempt: 1 }
    }

    /// A task that was to be tried again is not: its caller went away, or its next attempt was refused. It is kept like
    /// any other that is dead; answers the record.
    ///
    /// # Errors
    /// `run` is not the last attempt of a task that waits for its next one.
    pub fn give_up(&self, run: RunId) -> Result<Option<u64>, AgentError> {
        let at_us = self.moment().wall_us;
        let (agent, details) = {
            let mut handler = self.handler();
            let task = handler.task(run).ok_or(AgentError::Absent("task to try again"))?;
            if !task.waits || task.run != run {
                return Err(AgentError::Absent("task to try again"));
            }
            let (agent, attempt, first) = (task.agent, task.attempt, task.first);
            if let Some(task) = handler.end(run) {
                handler.bury(task, "given_up", at_us);
            }
            let details = Object::new().display("task", first).number("attempt", u64::from(attempt));
            (agent, details.string("verdict", "dead").string("reason", "given_up").finish())
        };
        let event = Event { agent_id: Some(agent), run: Some(run), ..Event::new("run.given_up", &details) };
        Ok(self.log().append(&event).ok().map(|receipt| receipt.seq))
    }

    /// Last attempts of tasks of `agent` that wait for their next one.
    pub(crate) fn runs_given_up_with(&self, agent: AgentId) -> Vec<RunId> {
        let mut handler = self.handler();
        handler.supervisor.forget(agent);
        let waits = |task: &&Task| task.agent == agent && task.waits;
        handler.tasks.values().filter(waits).map(|task| task.run).collect()
    }

    // What it says about itself

    /// Failures of runs since the opening: class, code, number.
    #[must_use]
    pub fn failures(&self) -> Vec<(Class, String, u64)> {
        let handler = self.handler();
        let kinds = handler.supervisor.counts().kinds();
        kinds.map(|(class, code, count)| (class, code.to_owned(), count)).collect()
    }

    /// Dependencies that have failed lately, by name.
    #[must_use]
    pub fn breakers(&self) -> Vec<DependencyView> {
        let now_ns = self.moment().mono_ns;
        let mut handler = self.handler();
        handler.supervisor.breakers.sweep(now_ns);
        handler.supervisor.breakers.view(now_ns)
    }

    /// Tasks that failed for good, oldest first, and how many are not kept any more.
    #[must_use]
    pub fn dead_tasks(&self) -> (Vec<DeadTask>, u64) {
        let handler = self.handler();
        (handler.supervisor.dead.kept().cloned().collect(), handler.supervisor.dead.dropped())
    }

    /// Retries left at once: to agents of this name, and to the runtime.
    #[must_use]
    pub fn retries_left(&self, name: &str) -> (u64, u64) {
        let now_ns = self.moment().mono_ns;
        self.handler().supervisor.retries_left(name, now_ns)
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.entropy().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
