//! The verdict on a failed attempt.
//!
//! ```text
//! failed ─▶ class ─▶ worth a retry? ─▶ within the budgets? ─▶ retry
//!                         │ no               │ no
//!                         ▼                  ▼
//!                    dead: kept, and counted against its agent ─▶ restart the worker ─▶ past the window's bound: end it
//! ```
//!
//! Invariants
//! - SV19 a task is tried at most `retries` times again, and never for a class that is final.
//! - SV20 a task whose effects cannot be replayed is not tried again.
//! - SV21 an agent is ended only by failed tasks that count against it, more than `restarts` within its window.

use std::collections::HashMap;

use symbi_types::AgentId;

use crate::breakers::Breakers;
use crate::budget::{Budgets, Lack, Size};
use crate::circuit::{CircuitOptions, REMEMBERED};
use crate::class::Class;
use crate::counts::Counts;
use crate::dead::DeadTasks;
use crate::policy::Supervision;
use crate::window::FailureWindow;

/// The settings of a runtime's supervisor.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of the breakers.
    pub circuit: CircuitOptions,
    /// Retries of one name.
    pub agent: Size,
    /// Retries of the whole runtime.
    pub runtime: Size,
}

impl Default for Options {
    /// Ten retries at once for a name, one more each six seconds; two hundred for the runtime, twenty more a second.
    /// A circuit opens after five failures of at most ten calls, for five seconds, at most a minute.
    fn default() -> Self {
        const SECOND_NS: u64 = 1_000_000_000;
        Self {
            circuit: CircuitOptions {
                failures: 5,
                memory_ns: 60 * SECOND_NS,
                open_ns: 5 * SECOND_NS,
                open_max_ns: 60 * SECOND_NS,
                probes: 1,
            },
            agent: Size { capacity: 10, refill_ns: 6 * SECOND_NS },
            runtime: Size { capacity: 200, refill_ns: SECOND_NS / 20 },
        }
    }
}

/// Settings that cannot be together. The text names them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

impl Options {
    /// Whether they can be: a circuit stays open for some time and at most for its longest; the runtime has retries for at
    /// least one name; what refills takes time.
    ///
    /// # Errors
    /// The first setting that cannot be, and why.
    pub fn check(&self) -> Result<(), OptionsError> {
        let Self { circuit, agent, runtime } = self;
        let refused = |text: &str| Err(OptionsError(text.to_owned()));
        if circuit.failures == 0 || REMEMBERED < circuit.failures {
            return Err(OptionsError(format!(
                "a breaker opens after 1 to {REMEMBERED} failures, not {}",
                circuit.failures
            )));
        }
        if circuit.probes == 0 || circuit.open_ns == 0 || circuit.memory_ns == 0 {
            return refused("a breaker needs at least one probe, and some time to stay open and to remember");
        }
        if circuit.open_max_ns < circuit.open_ns {
            return refused("a breaker's longest time open is shorter than its first");
        }
        if agent.refill_ns == 0 || runtime.refill_ns == 0 {
            return refused("a retry comes back after some time, not at once");
        }
        if runtime.capacity < agent.capacity {
            return refused("the runtime has fewer retries than one agent's name may spend");
        }
        Ok(())
    }
}

/// What became of the effects of the attempts so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Effects {
    /// There were none, or the results of all are kept: a retry replays them.
    #[default]
    Replayable,
    /// The result of one was not kept.
    Lost,
}

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// Whose.
    pub agent: AgentId,
    /// Its name, which has the budget.
    pub name: &'a str,
    /// It has a worker that can be started anew.
    pub has_worker: bool,
    /// What it asked for; none: nothing follows from a failure.
    pub supervision: Option<&'a Supervision>,
    /// What the failure is.
    pub class: Class,
    /// Its code.
    pub code: &'a str,
    /// Which attempt it was; the first is 1.
    pub attempt: u32,
    /// What became of its effects.
    pub effects: Effects,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the agent is not supervised, or the task was stopped from outside.
    None,
    /// Another attempt, after so many milliseconds.
    Retry {
        /// The delay.
        after_ms: u64,
    },
    /// The task is dead, and its agent's worker is to be started anew.
    Restart,
    /// The task is dead, and its agent is ended.
    Escalate,
    /// The task is dead.
    Dead,
}

impl Verdict {
    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Retry { .. } => "retry",
            Self::Restart => "restart",
            Self::Escalate => "escalate",
            Self::Dead => "dead",
        }
    }

    /// Whether the task will not be tried again and is to be kept.
    #[must_use]
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Restart | Self::Escalate | Self::Dead)
    }
}

/// Why a task is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is.
    Tried,
    /// No supervision was asked for, or it was stopped.
    NotAsked,
    /// Failures of this kind are not.
    Kind,
    /// It was tried often enough.
    Attempts,
    /// Its agent's retry budget is spent.
    AgentBudget,
    /// The runtime's is.
    RuntimeBudget,
    /// The result of an effect was not kept, so it would happen twice.
    Effects,
}

impl Reason {
    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tried => "tried",
            Self::NotAsked => "not_asked",
            Self::Kind => "kind",
            Self::Attempts => "attempts",
            Self::AgentBudget => "agent_budget",
            Self::RuntimeBudget => "runtime_budget",
            Self::Effects => "effects",
        }
    }
}

/// A verdict and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What follows.
    pub verdict: Verdict,
    /// Why there is no retry.
    pub reason: Reason,
}

/// The error handler's whole state.
#[derive(Debug)]
pub struct Supervisor {
    /// What fails is left alone for a while.
    pub breakers: Breakers,
    /// Tasks that failed for good.
    pub dead: DeadTasks,
    budgets: Budgets,
    counts: Counts,
    windows: HashMap<AgentId, FailureWindow>,
}

impl Supervisor {
    /// Nothing has failed.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            breakers: Breakers::new(options.circuit),
            dead: DeadTasks::default(),
            budgets: Budgets::new(options.agent, options.runtime),
            counts: Counts::default(),
            windows: HashMap::new(),
        }
    }

    /// Judges a failed attempt. `random`: any number, for the jitter.
    pub fn judge(&mut self, failed: &Failed<'_>, now_ns: u64, random: u64) -> Judgement {
        self.counts.add(failed.class, failed.code);
        let Some(supervision) = failed.supervision.filter(|_| failed.class != Class::Cancelled) else {
            return Judgement { verdict: Verdict::None, reason: Reason::NotAsked };
        };
        let reason = self.why_not(supervision, failed, now_ns);
        if reason == Reason::Tried {
            let after_ms = supervision.delay_ms(failed.attempt, random);
            return Judgement { verdict: Verdict::Retry { after_ms }, reason };
        }
        let Some(restarts) = supervision.restarts.filter(|_| failed.class.blames_agent()) else {
            return Judgement { verdict: Verdict::Dead, reason };
        };
        let window = self.windows.entry(failed.agent).or_default();
        let failures = window.add(now_ns, supervision.window_ms.saturating_mul(1_000_000));
        let verdict = match (failures > restarts as usize, failed.has_worker) {
            (true, _) => Verdict::Escalate, // SV21
            (false, true) => Verdict::Restart,
            (false, false) => Verdict::Dead,
        };
        Judgement { verdict, reason }
    }

    /// Takes from the budgets, last of all, where nothing else speaks against a retry (SV19, SV20).
    fn why_not(&mut self, supervision: &Supervision, failed: &Failed<'_>, now_ns: u64) -> Reason {
        if !supervision.retries(failed.class, failed.code) {
            return Reason::Kind;
        }
        if failed.attempt > supervision.retries {
            return Reason::Attempts;
        }
        if failed.effects == Effects::Lost {
            return Reason::Effects;
        }
        match self.budgets.take(failed.name, now_ns) {
            Ok(()) => Reason::Tried,
            Err(Lack::Agent) => Reason::AgentBudget,
            Err(Lack::Runtime) => Reason::RuntimeBudget,
        }
    }

    /// A task of `name` is done.
    pub fn done(&mut self, name: &str) {
        self.budgets.done(name);
    }

    /// The agent is gone; what it failed is counted still.
    pub fn forget(&mut self, agent: AgentId) {
        self.windows.remove(&agent);
    }

    /// Failures by class and code.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Retries left at once: of `name`, and of the runtime.
    #[must_use]
    pub fn retries_left(&self, name: &str, now_ns: u64) -> (u64, u64) {
        self.budgets.left(name, now_ns)
    }
}
