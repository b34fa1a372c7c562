//! A call on its way: what it depends on, and what it is to the task that makes it.
//!
//! Why: a thing that fails again and again is left alone, and what an earlier attempt did is not done again. Both are looked
//! up before a decision and told of the outcome after it, here.
//! Not here: when a breaker opens (`symbi-supervisor`), which calls are equal (`journal`), deciding (`monitor`).
//!
//! Invariants
//! - K95 an open breaker refuses before anything is reserved; what it refuses is recorded like any denial.
//! - K96 a call that was recorded as done is answered with its recorded result, after policy has decided on it again; the
//!   counters that it reads do not count it twice.
//! - K97 a call whose effect is unknown is not repeated, unless its tool is declared idempotent: the attempt is dead then,
//!   whatever its code makes of it.

use std::sync::Arc;

use symbi_supervisor::{Class, Place, Supervision, Ticket, classify, leaves_doubt};
use symbi_types::{OperationId, RunId};

use crate::journal::{Fate, Slot};
use crate::kernel::Kernel;
use crate::permit::Outcome;

/// What a call depends on, and where it stands in the journal of its task.
#[derive(Debug)]
pub(crate) struct Expected {
    dependency: String,
    caller: String,
    journal: Option<(RunId, Slot)>,
    /// Twice is the same as once.
    repeatable: bool,
}

/// The same, once the call goes out.
#[derive(Debug)]
pub(crate) struct Watch {
    expected: Arc<Expected>,
    ticket: Option<Ticket>,
}

impl Watch {
    /// Its result is wanted, for a retry.
    pub(crate) fn is_journaled(&self) -> bool {
        self.expected.journal.is_some()
    }

    /// A failure of this kind stops its task until somebody says what became of the call (K97).
    pub(crate) fn leaves_doubt(&self, kind: &str) -> bool {
        self.is_journaled() && !self.expected.repeatable && leaves_doubt(kind)
    }
}

/// A call's place in the journal of its task, and what is known of it.
pub(crate) struct Remembered {
    task: RunId,
    slot: Slot,
    pub(crate) fate: Fate,
}

impl Expected {
    fn place(&self) -> Place<'_> {
        Place { dependency: &self.dependency, caller: &self.caller }
    }
}

impl Kernel {
    /// What the call of `tool` with these arguments is to its task (K96, K97).
    pub(crate) fn remember(
        &self,
        run: Option<RunId>,
        spelling: impl FnOnce() -> Vec<u8>,
    ) -> Option<Remembered> {
        let run = run?;
        {
            let mut handler = self.handler();
            let task = handler.task(run)?;
            task.spec.supervision.as_ref().filter(|asked: &&Supervision| asked.retries > 0)?;
        }
        let digest = self.digest_bytes(&spelling());
        let mut handler = self.handler();
        let task = handler.task(run)?;
        let (first, attempt) = (task.first, task.attempt);
        let (slot, fate) = task.journal.place(digest, attempt)?;
        Some(Remembered { task: first, slot, fate })
    }

    /// The call is not made: its place is free again.
    pub(crate) fn forget_call(&self, remembered: Option<&Remembered>) {
        let Some(remembered) = remembered else { return };
        if let Some(task) = self.handler().tasks.get_mut(&remembered.task) {
            task.journal.leave(remembered.slot);
        }
    }

    /// The attempt came to an effect that is unknown, and may not be repeated: it is dead (K97).
    pub(crate) fn doom(&self, remembered: &Remembered) {
        if let Some(task) = self.handler().tasks.get_mut(&remembered.task) {
            task.unknown = true;
        }
    }

    /// What the monitor asks a breaker about, and settles with it.
    pub(crate) fn expectation(
        dependency: String,
        caller: &str,
        remembered: Option<&Remembered>,
        repeatable: bool,
    ) -> Arc<Expected> {
        let journal = remembered.map(|remembered| (remembered.task, remembered.slot));
        Arc::new(Expected { dependency, caller: caller.to_owned(), journal, repeatable })
    }

    /// Whether the breaker lets nothing through now (K95).
    pub(crate) fn is_shut(&self, expected: &Expected) -> bool {
        let now_ns = self.moment().mono_ns;
        let mut handler = self.handler();
        let place = expected.place();
        let shut = handler.supervisor.breakers.wait_ns(place, now_ns).is_some();
        if shut {
            handler.supervisor.breakers.refused(place);
        }
        shut
    }

    /// The call goes out. None where another took the last probe meanwhile (K95).
    pub(crate) fn watch(&self, expected: &Arc<Expected>, operation: OperationId) -> Option<Watch> {
        let now_ns = self.moment().mono_ns;
        let mut handler = self.handler();
        let ticket = handler.supervisor.breakers.enter(expected.place(), now_ns).ok()?;
        if let Some((task, slot)) = expected.journal
            && let Some(task) = handler.tasks.get_mut(&task)
        {
            task.journal.begin(slot, operation);
        }
        Some(Watch { expected: Arc::clone(expected), ticket })
    }

    /// How the call ended: its breaker and its task's journal are told. `outcome` is none where its permit was dropped;
    /// `acted`: its bytes were taken.
    pub(crate) fn watched(
        &self,
        watch: Watch,
        operation: OperationId,
        outcome: Option<&Outcome>,
        acted: bool,
        result: Option<Vec<u8>>,
    ) {
        let now_ns = self.moment().mono_ns;
        let class = match outcome {
            Some(Outcome::Done) => None,
            Some(Outcome::Failed { kind, .. }) => Some(classify(kind)),
            None if acted => Some(Class::UnknownEffect),
            None => Some(Class::Cancelled),
        };
        let fate = match (outcome, class) {
            (Some(Outcome::Done), _) => Fate::Done(operation, result.map(Into::into)),
            (Some(Outcome::Failed { kind, .. }), _) if leaves_doubt(kind) => Fate::Unknown(operation),
            (None, Some(Class::UnknownEffect)) => Fate::Unknown(operation),
            (Some(_) | None, _) => Fate::Not,
        };
        let mut handler = self.handler();
        let place = watch.expected.place();
        let breakers = &mut handler.supervisor.breakers;
        match class {
            Some(Class::Cancelled | Class::Denied | Class::Internal) => {
                breakers.withdraw(place, watch.ticket)
            }
            _ => {
                let failed = class.is_some_and(Class::blames_dependency);
                breakers.leave(place, watch.ticket, failed, now_ns);
            }
        }
        let Some((task, slot)) = watch.expected.journal else { return };
        handler.keep(task, slot, operation, fate);
        let unused = outcome.is_none() && !acted;
        if let Some(task) = handler.tasks.get_mut(&task).filter(|_| unused) {
            task.journal.leave(slot); // it was asked for and not used: as if it had not been
        }
    }
}
