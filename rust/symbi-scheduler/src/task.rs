//! What is scheduled, and the words for why it is not running yet.

use std::fmt;

use symbi_types::{AgentId, ResourceVector};
use thiserror::Error;

/// A task's name, chosen by the caller, unique among the tasks that wait or run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How urgent a task is: 255 before 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(pub u8);

impl Priority {
    /// What a task has that asks for none.
    pub const NORMAL: Self = Self(128);
}

/// One piece of work for one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// Who does it. An agent does one task at a time (spec L2: only a `Ready` agent is given one).
    pub agent: AgentId,
    /// How urgent it is.
    pub priority: Priority,
    /// What it holds from its start to its end.
    pub need: ResourceVector,
}

/// A resource that the scheduler counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Memory, in MiB.
    MemoryMb,
    /// Processor share, in thousandths of a core.
    CpuMillicores,
    /// Sandboxes at once.
    Sandboxes,
}

impl Resource {
    /// The name in messages and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemoryMb => "memory_mb",
            Self::CpuMillicores => "cpu_millicores",
            Self::Sandboxes => "sandboxes",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A resource of which less is there than is needed, in the resource's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Which.
    pub resource: Resource,
    /// How much the task asks for.
    pub need: u64,
    /// How much is there.
    pub have: u64,
}

/// What `need` asks for beyond `have`.
pub(crate) fn lacks(need: &ResourceVector, have: &ResourceVector) -> impl Iterator<Item = Lack> + use<> {
    [
        Lack { resource: Resource::MemoryMb, need: need.memory_mb, have: have.memory_mb },
        Lack { resource: Resource::CpuMillicores, need: need.cpu_millicores, have: have.cpu_millicores },
        Lack { resource: Resource::Sandboxes, need: need.sandboxes, have: have.sandboxes },
    ]
    .into_iter()
    .filter(|lack| lack.have < lack.need)
}

/// Why a task waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It would start if it were asked for now.
    Next,
    /// It would fit, and others stand before it.
    Turn,
    /// Its agent is at work on another task.
    AgentBusy {
        /// That task.
        running: TaskId,
    },
    /// Its agent has a task that goes first.
    AgentQueue {
        /// That task.
        before: TaskId,
    },
    /// What it needs is not free now; at least one.
    Lacks(Vec<Lack>),
    /// An older or more urgent task waits for resources and was passed as often as is allowed.
    HeldBy {
        /// That task.
        head: TaskId,
    },
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was handed out and is not complete.
    Running,
    /// It waits.
    Waiting {
        /// Waiting tasks that stand before it: more urgent, or as urgent and older.
        position: usize,
        /// What it waits for.
        reason: Reason,
    },
}

/// A request that changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TaskError {
    /// More than the whole node has: it could never start.
    #[error("task `{task}` needs {} `{}`, and the node has {}", lack.need, lack.resource, lack.have)]
    NeverFits {
        /// The task.
        task: TaskId,
        /// The first resource that is too small, with the node's capacity as `have`.
        lack: Lack,
    },
    /// A task of that name waits or runs.
    #[error("task `{task}` is already scheduled")]
    Duplicate {
        /// The task.
        task: TaskId,
    },
    /// Too many tasks.
    #[error("{limit} tasks are scheduled already")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// No task of that name waits or runs: it never was, or it is over.
    #[error("task `{task}` is not scheduled")]
    Unknown {
        /// The task.
        task: TaskId,
    },
    /// It waits, and was to be completed.
    #[error("task `{task}` is not running")]
    NotRunning {
        /// The task.
        task: TaskId,
    },
    /// It runs, and was to be cancelled; its agent must be stopped, and the task completed.
    #[error("task `{task}` is running")]
    Running {
        /// The task.
        task: TaskId,
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
            Self::Unknown { .. } => "scheduler.unknown_task",
            Self::NotRunning { .. } => "scheduler.not_running",
            Self::Running { .. } => "scheduler.running",
        }
    }
}
