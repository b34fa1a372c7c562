//! How runs end: taken out, recorded, and what follows.
//!
//! Not here: whether a task is tried again (`supervise`), whose turn comes then (`turns`).
//!
//! Invariants
//! - K28 every run that was recorded as started is recorded as finished, unless the process died.

use std::collections::BTreeMap;

use symbi_audit::Event;
use symbi_scheduler::{Cause, State};
use symbi_supervisor::Verdict;
use symbi_types::{AgentId, LabelSet, RunId};

use crate::agents::AgentError;
use crate::json::Object;
use crate::kernel::Kernel;
use crate::monitor::counting::{CPU_MS, TIME_MS};
use crate::moves::Moves;
use crate::registry::Registry;
use crate::supervise::Aftermath;
use crate::turns::Run;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// With a result.
    Done,
    /// Its own code failed, or a limit ended it. `kind` is a class or code, `text` is sealed in the log.
    Failed {
        /// A class of error or the name of a limit.
        kind: String,
        /// What it said.
        text: String,
    },
    /// It was stopped from outside.
    Cancelled,
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The record of its outcome; wait for it before the result leaves. None where the log cannot write.
    pub seq: Option<u64>,
    /// What follows from it.
    pub aftermath: Aftermath,
    /// What the host does now.
    pub moves: Moves,
}

impl Kernel {
    /// Records how a run ended and gives back what it held (K27, K28).
    ///
    /// # Errors
    /// No such run.
    pub fn end_run(&self, run: RunId, outcome: &RunOutcome) -> Result<Ended, AgentError> {
        let over = self.take_out(run, outcome)?;
        let seq = self.log().append(&over.event()).ok().map(|receipt| receipt.seq);
        let ((), moves) = self.turn(|_, _| ());
        Ok(Ended { seq, aftermath: over.judged, moves })
    }

    /// As [`Kernel::end_run`] of each, in their order and in one call. A run that there is not is passed over. Answers the
    /// record to wait for, none where the log cannot write, and what the host does now.
    pub fn end_runs(&self, ended: &[(RunId, RunOutcome)]) -> (Option<u64>, Moves) {
        let over: Vec<Over> =
            ended.iter().filter_map(|(run, outcome)| self.take_out(*run, outcome).ok()).collect();
        let events: Vec<Event<'_>> = over.iter().map(Over::event).collect();
        let seq = self.log().append_many(&events).ok().and_then(|taken| taken.end.checked_sub(1));
        let ((), moves) = self.turn(|_, _| ());
        (seq, moves)
    }

    /// Takes a run out of the scheduler and writes what its record will say.
    fn take_out(&self, run: RunId, outcome: &RunOutcome) -> Result<Over, AgentError> {
        let agent = self.turns().runs.get(&run).ok_or(AgentError::Absent("run"))?.agent;
        let gives_up = self.judge(run, outcome).is_some_and(|judged| judged.verdict == Verdict::Escalate);
        let (ended, transitions) = {
            let mut turns = self.turns();
            let ended = turns.remove(run).ok_or(AgentError::Absent("run"))?; // of two that end it at once, one goes on
            let transitions = match ended.phase.is_begun() {
                true => rest(&mut self.agents(), &ended, gives_up),
                false => Vec::new(),
            };
            (ended, transitions)
        };
        let judged = self.settle_attempt(run, agent, outcome);
        let persons = self.agent_labels(agent).subjects();
        let details = match outcome {
            RunOutcome::Done if judged.class.is_some() => {
                self.describe_error(&LabelSet::default(), "unknown_effect", "").string("outcome", "failed") // K97
            }
            RunOutcome::Done => Object::new().string("outcome", "done"),
            RunOutcome::Cancelled => Object::new().string("outcome", "cancelled"),
            RunOutcome::Failed { kind, text } => {
                self.describe_error(&persons, kind, text).string("outcome", "failed")
            }
        };
        let now_ns = self.moment().mono_ns;
        let took_ns = now_ns.saturating_sub(ended.started_ns);
        let details = match &ended.timed {
            Some(timed) => {
                let mut used = BTreeMap::from([(TIME_MS.to_owned(), ended.worked_ns(now_ns) / 1_000_000)]);
                if timed.allowance.counts_cpu {
                    let cpu_ms = if ended.phase.is_begun() { ended.cpu_ms } else { Some(0) };
                    used.extend(cpu_ms.map(|cpu_ms| (CPU_MS.to_owned(), cpu_ms))); // K240
                }
                self.adjust(&mut timed.reservations.clone(), &used); // K176
                let used = used.iter().fold(Object::new(), |all, (name, amount)| all.number(name, *amount));
                details.raw("used", &used.finish()) // K103
            }
            None => details,
        };
        let details = judged
            .describe(details)
            .number("took_us", if ended.phase.is_begun() { took_ns / 1_000 } else { 0 })
            .strings("transitions", transitions)
            .finish();
        Ok(Over { agent: ended.agent, run, judged, persons, details })
    }
}

/// A run that is over, and not recorded yet.
struct Over {
    agent: AgentId,
    run: RunId,
    judged: Aftermath,
    /// Whose data its agent has read.
    persons: LabelSet,
    details: String,
}

impl Over {
    fn event(&self) -> Event<'_> {
        Event {
            agent_id: Some(self.agent),
            run: Some(self.run),
            labels: &self.persons,
            ..Event::new("run.finished", &self.details)
        }
    }
}

/// The agent's task is over: Running → Ready. One that stood still for others passes Running; one that is held stays
/// Suspended, without a task. One that failed more often than its supervision allows (`gives_up`) goes Running →
/// Suspended → Terminated, and its host clears away what is left of it with [`Kernel::stop_agent`].
fn rest(agents: &mut Registry, ended: &Run, gives_up: bool) -> Vec<&'static str> {
    let mut transitions = vec!["ready>running"];
    let Some(known) = agents.get_mut(ended.agent) else { return transitions };
    known.running = None;
    known.cancelled = false;
    known.forget_entity();
    if gives_up {
        while let Ok((before, _)) = known.step(Cause::SupervisionExhausted) {
            let running = before == State::Running;
            transitions.push(if running { "running>suspended" } else { "suspended>terminated" });
        }
        return transitions;
    }
    if known.state == State::Suspended && known.holds.is_empty() && known.step(Cause::Cleared).is_ok() {
        transitions.push("suspended>running");
    }
    if known.step(Cause::TaskCompleted).is_ok() {
        transitions.push("running>ready");
    }
    transitions
}
