//! The error handler: what a failure is, whether it is tried again, and when trying ends.
//!
//! Why: "again?" has one answer for all agents, in one place, which can be replayed: too few retries waste work, too
//! many are a storm. So nothing here reads a clock, waits, or does I/O: time and chance are given, verdicts are answered.
//! Not here: running anything again, the journal of effects, the log (the kernel does these).
//!
//! Read `supervisor` first: [`Supervisor::judge`] is the whole of it. Invariants are numbered SV1 and up across the crate.

mod breakers;
mod budget;
mod circuit;
mod class;
mod counts;
mod dead;
mod policy;
mod supervisor;
mod window;

pub use breakers::{Breakers, CALLERS_MAX, DEPENDENCIES_MAX, DependencyView, Place};
pub use budget::{Budgets, Lack, NAMES_MAX, Size};
pub use circuit::{Circuit, CircuitOptions, CircuitState, Ticket};
pub use class::{Class, RULES, classify, leaves_doubt};
pub use counts::{Counts, KINDS_MAX, OTHER_KINDS};
pub use dead::{DEAD_BYTES_MAX, DEAD_MAX, DeadTask, DeadTasks};
pub use policy::{
    BACKOFF_MS_MAX, Jitter, RESTARTS_MAX, RETRIES_MAX, Supervision, SupervisionError, WORDS_MAX,
};
pub use supervisor::{Effects, Failed, Judgement, Options, OptionsError, Reason, Supervisor, Verdict};
pub use window::{FAILURES_MAX, FailureWindow};
