//! What is scheduled, where, and what is decided: the words that every part of the scheduler shares.
//!
//! Why: a task, a node and a decision mean the same to the tiers, to placement and to the caller.
//! Not here: what a refused request says (`error`), why a task waits (`why`), settings (`options`).

use std::fmt;

use symbi_types::{AgentId, ResourceVector};

/// A task's name, chosen by the caller, unique among the tasks that are not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A node's name, chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Whose account a task is on. [`TenantId::DEFAULT`] is everybody's who was given none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u32);

impl TenantId {
    /// The account of tasks that name none.
    pub const DEFAULT: Self = Self(0);
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The three ways of waiting, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tier {
    /// By deadline, the earliest first; admitted only if all admitted ones can keep theirs.
    Realtime,
    /// By priority, with ageing.
    #[default]
    Interactive,
    /// By fair share between tenants.
    Batch,
}

impl Tier {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Realtime, Self::Interactive, Self::Batch];

    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Tier {
    type Err = crate::UnknownName;
    fn from_str(text: &str) -> Result<Self, crate::UnknownName> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == text).ok_or_else(|| crate::unknown("tier", text))
    }
}

/// How urgent a task is within its tier: 255 before 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(pub u8);

impl Priority {
    /// What a task has that asks for none.
    pub const NORMAL: Self = Self(128);
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// One piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// Who does it. An agent does one task at a time (spec L2: only a `Ready` agent is given one).
    pub agent: Option<AgentId>,
    /// On whose account.
    pub tenant: TenantId,
    /// How it waits.
    pub tier: Tier,
    /// How urgent it is within its tier.
    pub priority: Priority,
    /// When it must be over, on the clock of [`crate::Scheduler::advance`]. A realtime task has one; others ignore it.
    pub deadline_ns: Option<u64>,
    /// An upper estimate of how long it runs. A realtime task has one; for others it buys better places.
    pub duration_ns: Option<u64>,
    /// What it holds from its start to its end.
    pub need: ResourceVector,
    /// Whether it may be suspended for a more urgent one.
    pub preemptible: bool,
}

impl Task {
    /// A task of no agent, of the default tenant, interactive, of normal priority, which may be suspended.
    #[must_use]
    pub const fn new(id: TaskId, need: ResourceVector) -> Self {
        Self {
            id,
            agent: None,
            tenant: TenantId::DEFAULT,
            tier: Tier::Interactive,
            priority: Priority::NORMAL,
            deadline_ns: None,
            duration_ns: None,
            need,
            preemptible: true,
        }
    }
}

/// A machine, or a share of one, that tasks run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// What it has.
    pub capacity: ResourceVector,
}

/// What the caller is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Start a waiting task; it holds what it needs from now on.
    Start {
        /// Which.
        task: TaskId,
        /// Where.
        node: NodeId,
    },
    /// Let a suspended task go on, on the node where it stood still.
    Resume {
        /// Which.
        task: TaskId,
        /// Where.
        node: NodeId,
    },
    /// Bring a running task to a standstill, and say so with [`crate::Scheduler::suspended`].
    Suspend {
        /// Which.
        task: TaskId,
        /// On behalf of this more urgent one, which waits for what is given back.
        urgent: TaskId,
    },
}

/// A running task that would better run elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// Which.
    pub task: TaskId,
    /// Where it runs.
    pub from: NodeId,
    /// Where there is more room.
    pub to: NodeId,
}

/// How many tasks are in which state, by [`Tier`] as index, and what is counted besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They wait for their start.
    pub waiting: [usize; 3],
    /// They were handed out, and run.
    pub running: [usize; 3],
    /// They were asked to stand still, and run on until they do.
    pub suspending: [usize; 3],
    /// They stand still.
    pub suspended: [usize; 3],
    /// Realtime tasks that were completed after their deadline, so far.
    pub deadlines_missed: u64,
    /// Suspensions asked for, so far.
    pub preemptions: u64,
}

/// What all nodes that are not lost have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What they have.
    pub capacity: ResourceVector,
    /// What tasks hold.
    pub allocated: ResourceVector,
    /// What is kept for urgent tasks whose victims do not stand still yet.
    pub reserved: ResourceVector,
}
