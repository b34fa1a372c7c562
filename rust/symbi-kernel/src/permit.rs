//! A permit: the one thing that lets an external operation act.
//!
//! Why: what was decided on and what is done must be the same bytes. The kernel took the arguments once; the
//! permit carries them, after obligations were applied, to whoever acts.
//! Not here: acting. Only what takes a permit may.
//!
//! Invariants
//! - K15 a permit comes only from the monitor: it has no constructor outside this crate and cannot be cloned.
//! - K16 its bytes are given once, before its deadline, not before its intent is on disk, and not after its agent was
//!   stopped or held, its run ended or cancelled, the runtime closed, or the log failed: what cannot be recorded may not happen.
//! - K17 it is settled once. Dropped unsettled, it is recorded: `released` when its bytes were never taken (nothing
//!   can have happened), `unknown` otherwise.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use symbi_types::{AgentId, LabelSet, OperationId, RunId};

use crate::kernel::Kernel;

/// Why a permit did not give what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// Its bytes were taken already.
    #[error("this permit was used already")]
    Used,
    /// It was settled already.
    #[error("this permit was settled already")]
    Settled,
    /// Its deadline has passed.
    #[error("this permit's deadline has passed; ask again")]
    Late,
    /// Its intent is not on disk yet.
    #[error("this permit's intent is not on disk yet; wait for its record")]
    NotDurable,
    /// Its agent was stopped, or is held; or its run is over, or was cancelled.
    #[error("this permit's agent is stopped or suspended, or its run is over")]
    Revoked,
    /// The runtime is closed, or its log cannot write.
    #[error("the trail cannot be written; nothing may happen until the runtime is reopened")]
    Unavailable,
    /// Its bytes were never taken, so nothing can have been done.
    #[error("this permit was not used; what did not happen is not done")]
    NotTaken,
    /// It was done, and what came back may not be handed over.
    #[error("it was done; what came back carries more labels than the agent can take on, and is withheld")]
    TooManyLabels,
    /// The log failed; the outcome could not be recorded and the operation is `unknown` at the next open.
    #[error("the log cannot write; the operation is unknown until an operator resolves it")]
    Unrecorded,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Done,
    /// It was tried and did not succeed. `kind` is a class or code, `text` is sealed in the log.
    Failed {
        /// A class of error.
        kind: String,
        /// What it said.
        text: String,
    },
}

/// What is known of an operation besides how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Its result, for a retry of its task, and for a rule that wants it recorded.
    pub result: Option<Vec<u8>>,
    /// What it has cost, by measure: `tokens`, `cost`, …; whole numbers, money in its smallest unit. Time is taken by the
    /// monitor.
    pub used: Vec<(String, u64)>,
    /// What is handed to the agent, for the detectors; empty where it is handed nothing.
    pub returned: Vec<u8>,
    /// What it carries besides, by the word of the tool.
    pub labels: LabelSet,
}

enum State {
    Armed(Vec<u8>),
    Taken,
    Settled,
    /// It was done before, with this result: there is nothing to take and nothing to settle.
    Replayed(Arc<[u8]>),
}

/// See the module.
pub struct Permit {
    kernel: Arc<Kernel>,
    state: Mutex<State>,
    operation: OperationId,
    agent: Option<AgentId>,
    run: Option<RunId>,
    intent_seq: u64,
    deadline_ns: u64,
    labels: LabelSet,
    journaled: bool,
}

impl Permit {
    /// K15: the monitor alone calls this.
    pub(crate) fn new(
        kernel: Arc<Kernel>,
        (operation, agent, run): (OperationId, Option<AgentId>, Option<RunId>),
        intent_seq: u64,
        deadline_ns: u64,
        labels: LabelSet,
        bytes: Vec<u8>,
    ) -> Self {
        let state = Mutex::new(State::Armed(bytes));
        Self { kernel, state, operation, agent, run, intent_seq, deadline_ns, labels, journaled: false }
    }

    /// Its result is to be given with its outcome, for a retry.
    pub(crate) fn journaled(mut self) -> Self {
        self.journaled = true;
        self
    }

    /// For a call that was done in an earlier attempt of its task.
    pub(crate) fn replayed_from(
        kernel: Arc<Kernel>,
        of: (OperationId, Option<AgentId>, Option<RunId>),
        seq: u64,
        result: Arc<[u8]>,
    ) -> Self {
        let permit = Self::new(kernel, of, seq, 0, LabelSet::default(), Vec::new());
        *permit.state() = State::Replayed(result);
        permit
    }

    /// The result of this call in an earlier attempt: it is not made again. None: it is to be made.
    #[must_use]
    pub fn replayed(&self) -> Option<Arc<[u8]>> {
        match &*self.state() {
            State::Replayed(result) => Some(Arc::clone(result)),
            State::Armed(_) | State::Taken | State::Settled => None,
        }
    }

    /// Whether [`Permit::settle_with`] keeps a result for a retry.
    #[must_use]
    pub fn is_journaled(&self) -> bool {
        self.journaled
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel that gave it.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The operation this permit is for.
    #[must_use]
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// The record of the intent; it must be durable before the bytes are given.
    #[must_use]
    pub fn intent_seq(&self) -> u64 {
        self.intent_seq
    }

    /// What the bytes carry, after obligations.
    #[must_use]
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// The bytes to act on, once.
    ///
    /// # Errors
    /// K16: used, settled, late, not durable yet, revoked, or nothing may happen any more.
    pub fn take(&self) -> Result<Vec<u8>, PermitError> {
        // Looked at before the lock (K25). A stop that comes between this and the next line comes after the act.
        let barred = self.kernel.bars(self.agent, self.run);
        let mut state = self.state();
        match &mut *state {
            State::Taken => Err(PermitError::Used),
            State::Settled | State::Replayed(_) => Err(PermitError::Settled),
            State::Armed(_) if barred.is_some() => Err(barred.unwrap_or(PermitError::Unavailable)),
            State::Armed(_) if self.kernel.durable() <= self.intent_seq => Err(PermitError::NotDurable),
            State::Armed(_) if self.kernel.moment().mono_ns > self.deadline_ns => Err(PermitError::Late),
            // K77: of a cancellation and this, one is first.
            State::Armed(_) if !self.kernel.act(self.operation) => Err(PermitError::Revoked),
            State::Armed(bytes) => {
                let bytes = std::mem::take(bytes);
                *state = State::Taken;
                Ok(bytes)
            }
        }
    }

    /// Records the outcome and answers the record's number, to be waited for before the result leaves.
    ///
    /// # Errors
    /// [`PermitError::Settled`] twice; [`PermitError::NotTaken`] for something done without its bytes;
    /// [`PermitError::Unrecorded`] where the log cannot write; [`PermitError::TooManyLabels`].
    pub fn settle(&self, outcome: &Outcome) -> Result<u64, PermitError> {
        self.settle_as(outcome, Settlement::default())
    }

    /// As [`Permit::settle`], with the result, which a retry of the task is answered with. Without it what was done is
    /// lost for a retry, and there will be none.
    ///
    /// # Errors
    /// As [`Permit::settle`].
    pub fn settle_with(&self, outcome: &Outcome, result: Option<Vec<u8>>) -> Result<u64, PermitError> {
        self.settle_as(outcome, Settlement { result, ..Settlement::default() })
    }

    /// As [`Permit::settle_with`], with what it has cost: estimates that were reserved give way to it.
    ///
    /// # Errors
    /// As [`Permit::settle`].
    pub fn settle_as(&self, outcome: &Outcome, settlement: Settlement) -> Result<u64, PermitError> {
        let mut state = self.state();
        match &*state {
            State::Settled | State::Replayed(_) => Err(PermitError::Settled),
            State::Armed(_) if *outcome == Outcome::Done => Err(PermitError::NotTaken),
            State::Taken | State::Armed(_) => {
                let acted = matches!(&*state, State::Taken);
                *state = State::Settled;
                drop(state);
                let mut settlement = settlement;
                let readable = self.kernel.is_given(self.agent, &mut settlement); // K115
                let seq = self
                    .kernel
                    .settle(self.operation, acted, Some(outcome), settlement)
                    .ok_or(PermitError::Unrecorded)?;
                if readable { Ok(seq) } else { Err(PermitError::TooManyLabels) }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let acted = match &*self.state() {
            State::Settled | State::Replayed(_) => return,
            State::Taken => true,
            State::Armed(_) => false,
        };
        self.kernel.settle(self.operation, acted, None, Settlement::default()); // K17
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("operation", &self.operation).finish_non_exhaustive()
    }
}
