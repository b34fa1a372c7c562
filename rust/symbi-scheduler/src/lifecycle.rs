//! The six states of an agent and the only ways between them.
//!
//! Why: "may this agent run now?" has one answer, in one table, which a reader can check against the
//! specification line by line.
//! Not here: who is in which state (the kernel's registry), what a transition does, its record in the log.
//!
//! Invariants
//! - L0 every agent begins `Initializing`; `Terminated` has no way out.
//! - L5 what the table does not hold is refused, and the state stays as it was.
//! - L6 a state and a cause lead to one state: the table has no two rows that begin alike.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A state of an agent's life (spec L0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Its definition is parsed and its configuration validated.
    Initializing,
    /// It waits for a task.
    Ready,
    /// It has a task.
    Running,
    /// Its task is stopped where it stood, and keeps its place.
    Suspended,
    /// It never became valid.
    Failed,
    /// It is over.
    Terminated,
}

/// Why an agent leaves a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cause {
    /// The configuration is valid and policy allows the agent.
    Validated,
    /// The configuration is not valid, policy refuses the agent, or it was stopped before it began.
    Invalid,
    /// A task was assigned.
    TaskAssigned,
    /// The task ended: with a result, an exception, a timeout or out of memory alike.
    TaskCompleted,
    /// Policy was violated.
    PolicyViolation,
    /// A resource ran out, or a more urgent task took it.
    ResourceConstraint,
    /// An operator holds the agent.
    OperatorHold,
    /// Policy cleared it, the resource is free again, or the operator let it go.
    Cleared,
    /// An operator, or the embedding program, ends it whatever it does.
    ManualStop,
    /// It failed more often than its supervision budget allows.
    SupervisionExhausted,
    /// It is asked to end when it has nothing to do.
    Shutdown,
    /// What is left of a failed agent is cleared away.
    Reaped,
}

/// Every transition there is (spec L1 to L4). A forced stop of a `Running` agent passes `Suspended`: two rows.
pub const TRANSITIONS: [(State, Cause, State); 14] = [
    (State::Initializing, Cause::Validated, State::Ready), // L1
    (State::Initializing, Cause::Invalid, State::Failed),  // L1
    (State::Ready, Cause::TaskAssigned, State::Running),   // L2
    (State::Running, Cause::TaskCompleted, State::Ready),  // L2
    (State::Running, Cause::PolicyViolation, State::Suspended), // L3
    (State::Running, Cause::ResourceConstraint, State::Suspended), // L3
    (State::Running, Cause::OperatorHold, State::Suspended), // L3
    (State::Running, Cause::ManualStop, State::Suspended), // L3, L4 forced
    (State::Running, Cause::SupervisionExhausted, State::Suspended), // L3, L4 forced
    (State::Suspended, Cause::Cleared, State::Running),    // L3
    (State::Suspended, Cause::ManualStop, State::Terminated), // L3
    (State::Suspended, Cause::SupervisionExhausted, State::Terminated), // L3
    (State::Ready, Cause::Shutdown, State::Terminated),    // L4
    (State::Failed, Cause::Reaped, State::Terminated),     // L4
];

/// A transition that the table does not hold. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an agent that is `{from}` cannot change by `{cause}`")]
pub struct IllegalTransition {
    /// The state the agent is, and stays, in.
    pub from: State,
    /// What was to move it.
    pub cause: Cause,
}

impl IllegalTransition {
    /// The stable code.
    pub const CODE: &'static str = "lifecycle.illegal_transition";
}

/// A text that names no state, cause, tier or strategy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no {what}")]
pub struct UnknownName {
    /// Of what it should have been a name.
    pub what: &'static str,
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl State {
    /// All of them, in the order an agent meets them.
    pub const ALL: [Self; 6] =
        [Self::Initializing, Self::Ready, Self::Running, Self::Suspended, Self::Failed, Self::Terminated];

    /// The state after `cause`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where the table has no such row (L5).
    pub fn after(self, cause: Cause) -> Result<Self, IllegalTransition> {
        TRANSITIONS
            .iter()
            .find(|(from, by, _)| *from == self && *by == cause)
            .map(|(_, _, to)| *to)
            .ok_or(IllegalTransition { from: self, cause })
    }

    /// The causes that lead from here to `Terminated`, in order; empty when it is there already.
    ///
    /// `None`: a graceful stop (`forced` false) of an agent that is `Running` waits until its task completes.
    #[must_use]
    pub const fn stop(self, forced: bool) -> Option<&'static [Cause]> {
        match self {
            Self::Initializing => Some(&[Cause::Invalid, Cause::Reaped]),
            Self::Ready => Some(&[Cause::Shutdown]),
            Self::Running if forced => Some(&[Cause::ManualStop, Cause::ManualStop]),
            Self::Running => None,
            Self::Suspended => Some(&[Cause::ManualStop]),
            Self::Failed => Some(&[Cause::Reaped]),
            Self::Terminated => Some(&[]),
        }
    }

    /// Whether no transition leads on (L0).
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Terminated)
    }

    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Terminated => "terminated",
        }
    }
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Validated,
        Self::Invalid,
        Self::TaskAssigned,
        Self::TaskCompleted,
        Self::PolicyViolation,
        Self::ResourceConstraint,
        Self::OperatorHold,
        Self::Cleared,
        Self::ManualStop,
        Self::SupervisionExhausted,
        Self::Shutdown,
        Self::Reaped,
    ];

    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validated => "validated",
            Self::Invalid => "invalid",
            Self::TaskAssigned => "task_assigned",
            Self::TaskCompleted => "task_completed",
            Self::PolicyViolation => "policy_violation",
            Self::ResourceConstraint => "resource_constraint",
            Self::OperatorHold => "operator_hold",
            Self::Cleared => "cleared",
            Self::ManualStop => "manual_stop",
            Self::SupervisionExhausted => "supervision_exhausted",
            Self::Shutdown => "shutdown",
            Self::Reaped => "reaped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(crate) fn unknown(what: &'static str, text: &str) -> UnknownName {
    UnknownName { what, text: text.chars().take(64).collect() }
}

impl FromStr for State {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| unknown("state of an agent", text))
    }
}

impl FromStr for Cause {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|cause| cause.as_str() == text)
            .ok_or_else(|| unknown("cause of a transition", text))
    }
}
