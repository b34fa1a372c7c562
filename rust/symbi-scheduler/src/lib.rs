//! Tiers, priorities, resources, preemption, the lifecycle table: a pure state machine.
//!
//! Why: which task starts next, where, and which state an agent may be in, must be the same on every machine that
//! replays the same history. So nothing here reads a clock, waits, or does I/O; the caller asks, and is told.
//! Not here: policy (the kernel asks it before `submit`), how a task is brought to a standstill (the runtime's).

mod admission;
mod agents;
mod batch;
mod classes;
mod cluster;
mod column;
mod ending;
mod entry;
mod error;
mod explain;
mod fetch;
mod front;
mod hash;
mod heap;
mod index;
mod levels;
mod lifecycle;
mod nodes;
mod options;
mod placement;
mod preemption;
mod queues;
mod rank;
mod resources;
mod scheduler;
mod submission;
mod suspension;
mod task;
mod tenants;
mod urgency;
mod verify;
mod why;

pub use error::TaskError;
pub(crate) use lifecycle::unknown;
pub use lifecycle::{Cause, IllegalTransition, State, TRANSITIONS, UnknownName};
pub use options::{Options, OptionsError, Share, Strategy};
pub use scheduler::{AHEAD_MAX, PASSED_MAX, Scheduler};
pub use task::{Counts, Decision, Move, Node, NodeId, Priority, Task, TaskId, TenantId, Tier, Totals};
pub use why::{Lack, Reason, Resource, Why};
