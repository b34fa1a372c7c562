//! What a refused request says: it changed nothing, and this is what to do.

use symbi_types::ResourceVector;
use thiserror::Error;

use crate::task::{NodeId, TaskId, TenantId};
use crate::why::Lack;

/// A request about a task that changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TaskError {
    /// More than any node has: it could never start.
    #[error("task `{task}` needs {} `{}`, and the node that comes nearest has {}", lack.need, lack.resource, lack.have)]
    NeverFits {
        /// The task.
        task: TaskId,
        /// The first resource that is too small on the node that comes nearest.
        lack: Lack,
        /// What that node has in all for such a task: one that needs no more would fit.
        largest: ResourceVector,
    },
    /// A task of that name is not over.
    #[error("task `{task}` is already scheduled")]
    Duplicate {
        /// The task.
        task: TaskId,
    },
    /// Too many tasks.
    #[error("{limit} tasks are scheduled already: submit again when some are complete")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// A realtime task without a deadline, or without an estimate of its duration.
    #[error("task `{task}` is realtime, and needs `{missing}`")]
    Incomplete {
        /// The task.
        task: TaskId,
        /// `deadline_ns` or `duration_ns`.
        missing: &'static str,
    },
    /// Its deadline, or that of another that was admitted before, could not be kept.
    #[error(
        "task `{task}` cannot be done by its deadline: the earliest that can be promised is at {earliest_ns} ns"
    )]
    Deadline {
        /// The task.
        task: TaskId,
        /// The earliest deadline that would be admitted now; `u64::MAX`: none.
        earliest_ns: u64,
    },
    /// Its tenant has as many waiting tasks as it may.
    #[error(
        "tenant `{tenant}` has {limit} waiting tasks, as many as it may: submit again when some have started"
    )]
    TenantFull {
        /// The tenant.
        tenant: TenantId,
        /// The limit.
        limit: usize,
    },
    /// More than its tenant may hold in all.
    #[error("task `{task}` needs {} `{}`, and the quota of tenant `{tenant}` is {}", lack.need, lack.resource, lack.have)]
    OverQuota {
        /// The task.
        task: TaskId,
        /// The tenant.
        tenant: TenantId,
        /// The first resource that is too small, with the quota as `have`.
        lack: Lack,
    },
    /// Too many tenants.
    #[error("{limit} tenants are known already, which is the limit")]
    Tenants {
        /// The limit.
        limit: usize,
    },
    /// No task of that name: it never was, or it is over.
    #[error("task `{task}` is not scheduled")]
    Unknown {
        /// The task.
        task: TaskId,
    },
    /// It waits for its start, and was to be completed, suspended or held.
    #[error("task `{task}` is not running")]
    NotRunning {
        /// The task.
        task: TaskId,
    },
    /// It was handed out, and was to be cancelled: its agent must be stopped, and the task completed.
    #[error("task `{task}` is running")]
    Running {
        /// The task.
        task: TaskId,
    },
    /// It was not asked to stand still.
    #[error("task `{task}` was not asked to stand still: use `hold`")]
    NotSuspending {
        /// The task.
        task: TaskId,
    },
    /// It is not held, and was to be released.
    #[error("task `{task}` is not held")]
    NotHeld {
        /// The task.
        task: TaskId,
    },
    /// The node that it was to move to has no room for it.
    #[error("node `{node}` has no room for task `{task}`")]
    NoRoom {
        /// The task.
        task: TaskId,
        /// The node.
        node: NodeId,
    },
    /// No node of that name.
    #[error("there is no node `{node}`")]
    UnknownNode {
        /// The name.
        node: NodeId,
    },
}

impl TaskError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NeverFits { .. } => "scheduler.never_fits",
            Self::Duplicate { .. } => "scheduler.duplicate",
            Self::Full { .. } => "scheduler.full",
            Self::Incomplete { .. } => "scheduler.incomplete",
            Self::Deadline { .. } => "scheduler.deadline",
            Self::TenantFull { .. } => "scheduler.tenant_full",
            Self::OverQuota { .. } => "scheduler.over_quota",
            Self::Tenants { .. } => "scheduler.tenants",
            Self::Unknown { .. } => "scheduler.unknown_task",
            Self::NotRunning { .. } => "scheduler.not_running",
            Self::Running { .. } => "scheduler.running",
            Self::NotSuspending { .. } => "scheduler.not_suspending",
            Self::NotHeld { .. } => "scheduler.not_held",
            Self::NoRoom { .. } => "scheduler.no_room",
            Self::UnknownNode { .. } => "scheduler.unknown_node",
        }
    }
}
