//! Priorities, capacity, the lifecycle table: a pure state machine.
//!
//! Why: which task starts next, and which state an agent may be in, must be the same on every machine that
//! replays the same history. So nothing here reads a clock, waits, or does I/O; the caller asks, and is told.
//! Not here: policy (the kernel asks it before `submit`), tiers, ageing, several nodes, preemption; one node's
//! capacity and one queue stand behind the interface that they will deepen.

mod agents;
mod lifecycle;
mod queue;
mod ready;
mod slots;
mod task;

pub use lifecycle::{Cause, IllegalTransition, State, TRANSITIONS, UnknownName};
pub use queue::{AHEAD_MAX, PASSED_MAX, Scheduler, TASKS_MAX};
pub use task::{Lack, Priority, Reason, Resource, Task, TaskError, TaskId, Why};
