//! The words for why a task is not running, or how it is.

use std::fmt;

use symbi_types::ResourceVector;

use crate::task::{NodeId, TaskId, TenantId};

/// A resource that the scheduler counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Memory, in MiB.
    MemoryMb,
    /// Processor share, in thousandths of a core.
    CpuMillicores,
    /// Disk bandwidth, in MiB/s.
    DiskIoMbps,
    /// Network bandwidth, in MiB/s.
    NetworkIoMbps,
    /// Accelerator slots.
    Accelerators,
    /// Sandboxes at once.
    Sandboxes,
}

impl Resource {
    /// All of them, in the order of the fields of [`ResourceVector`].
    pub const ALL: [Self; ResourceVector::DIMENSIONS] = [
        Self::MemoryMb,
        Self::CpuMillicores,
        Self::DiskIoMbps,
        Self::NetworkIoMbps,
        Self::Accelerators,
        Self::Sandboxes,
    ];

    /// The name in messages and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemoryMb => "memory_mb",
            Self::CpuMillicores => "cpu_millicores",
            Self::DiskIoMbps => "disk_io_mbps",
            Self::NetworkIoMbps => "network_io_mbps",
            Self::Accelerators => "accelerators",
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

/// What `need` asks for beyond `have`, in the order of [`Resource::ALL`].
pub(crate) fn lacks(need: &ResourceVector, have: &ResourceVector) -> impl Iterator<Item = Lack> + use<> {
    let amounts = need.to_array().into_iter().zip(have.to_array());
    Resource::ALL
        .into_iter()
        .zip(amounts)
        .map(|(resource, (need, have))| Lack { resource, need, have })
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
    /// What it needs is not free on any node now.
    Lacks {
        /// The node that comes nearest; none: no node that takes tasks is large enough for it.
        node: Option<NodeId>,
        /// What is lacking there, or beyond the largest node; at least one.
        lacking: Vec<Lack>,
    },
    /// An older or more urgent task waits for what is free.
    HeldBy {
        /// That task.
        head: TaskId,
    },
    /// Its tenant holds as much as it may.
    Quota {
        /// The tenant.
        tenant: TenantId,
        /// What is lacking of its quota; empty: an older task of the tenant goes first.
        lacking: Vec<Lack>,
    },
    /// Room is being made for it: it starts when what was asked to stand still does.
    Reserved {
        /// Where.
        node: NodeId,
    },
    /// It stood still on a node that was lost, and is held: it waits again when it is released.
    Held,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was handed out and is not complete.
    Running {
        /// Where.
        node: NodeId,
    },
    /// It was asked to stand still for a more urgent one.
    Suspending {
        /// Where.
        node: NodeId,
        /// For whom.
        urgent: TaskId,
    },
    /// It stands still, and keeps its place.
    Suspended {
        /// Where.
        node: NodeId,
        /// For whom it was suspended, if it was for another task.
        urgent: Option<TaskId>,
        /// Whether it was held, and so waits for its release.
        held: bool,
        /// What it lacks to go on; empty: it is its turn, or not before the release.
        lacking: Vec<Lack>,
    },
    /// It waits for its start.
    Waiting {
        /// Waiting tasks that stand before it.
        position: usize,
        /// What it waits for.
        reason: Reason,
    },
}
