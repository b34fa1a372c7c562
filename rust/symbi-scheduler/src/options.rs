//! How the scheduler is set: strategy, ageing, shares. Each setting is in range or refused.

use symbi_types::ResourceVector;
use thiserror::Error;

use crate::task::NodeId;

/// On which of the nodes that have room a task is placed (spec R3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The first: the quickest answer.
    #[default]
    FirstFit,
    /// The one that has the least left afterwards: the highest use.
    BestFit,
    /// The first that keeps its headroom, which only critical tasks may use.
    Priority,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FirstFit, Self::BestFit, Self::Priority];

    /// The name in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstFit => "first_fit",
            Self::BestFit => "best_fit",
            Self::Priority => "priority",
        }
    }
}

impl std::str::FromStr for Strategy {
    type Err = crate::UnknownName;
    fn from_str(text: &str) -> Result<Self, crate::UnknownName> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.as_str() == text);
        found.ok_or_else(|| crate::unknown("strategy", text))
    }
}

/// The scheduler's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where tasks are placed.
    pub strategy: Strategy,
    /// With [`Strategy::Priority`]: the share of every node that is kept for critical tasks, 0 to 90.
    pub headroom_percent: u8,
    /// A task of this priority or above is critical; so is every realtime one.
    pub critical_priority: u8,
    /// An interactive task gains one level of priority for so much waiting, 1 to 86,400,000.
    pub ageing_ms: u32,
    /// One start in so many is a batch task's while one waits, 2 to 1,000,000.
    pub batch_turn: u32,
    /// A task runs at least so long before it is suspended for another, each time, 0 to 86,400,000.
    pub quantum_ms: u32,
    /// The share of all processors that realtime tasks may be promised, 0 to 100.
    pub realtime_percent: u8,
    /// Whether running tasks are suspended for more urgent ones.
    pub preemption: bool,
    /// Tasks that may wait and run in all, 1 to 2^24.
    pub tasks_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: Strategy::FirstFit,
            headroom_percent: 10,
            critical_priority: 224,
            ageing_ms: 1_000,
            batch_turn: 16,
            quantum_ms: 20,
            realtime_percent: 50,
            preemption: true,
            tasks_max: 1 << 20,
        }
    }
}

impl Options {
    /// # Errors
    /// [`OptionsError::Range`] names the setting and the accepted range.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let range = |name, accepted, given: u64, low, high| match given < low || high < given {
            true => Err(OptionsError::Range { name, accepted, given }),
            false => Ok(()),
        };
        range("headroom_percent", "0 to 90", self.headroom_percent.into(), 0, 90)?;
        range("ageing_ms", "1 to 86400000", self.ageing_ms.into(), 1, 86_400_000)?;
        range("batch_turn", "2 to 1000000", self.batch_turn.into(), 2, 1_000_000)?;
        range("quantum_ms", "0 to 86400000", self.quantum_ms.into(), 0, 86_400_000)?;
        range("realtime_percent", "0 to 100", self.realtime_percent.into(), 0, 100)?;
        range("tasks_max", "1 to 16777216", self.tasks_max as u64, 1, 1 << 24)
    }
}

/// What a tenant may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its part of the batch tier, against the weights of the others, 1 to 1,000,000.
    pub weight: u32,
    /// What all its tasks together may hold at once; none: no limit.
    pub quota: Option<ResourceVector>,
    /// How many of its tasks may wait at once; none: no limit but the scheduler's.
    pub waiting_max: Option<usize>,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1, quota: None, waiting_max: None }
    }
}

/// A setting or a set of nodes that cannot be. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// Out of range.
    #[error("`{name}` must be {accepted}, and is `{given}`")]
    Range {
        /// The setting.
        name: &'static str,
        /// The accepted range.
        accepted: &'static str,
        /// What was given.
        given: u64,
    },
    /// Two nodes of one name.
    #[error("node `{node}` is there already")]
    DuplicateNode {
        /// The name.
        node: NodeId,
    },
    /// Too many nodes.
    #[error("{limit} nodes are there already, which is the limit")]
    Nodes {
        /// The limit.
        limit: usize,
    },
    /// Too many tenants.
    #[error("{limit} tenants are known already, which is the limit")]
    Tenants {
        /// The limit.
        limit: usize,
    },
    /// No node of that name.
    #[error("there is no node `{node}`")]
    UnknownNode {
        /// The name.
        node: NodeId,
    },
    /// All nodes together have more of a resource than can be counted.
    #[error("node `{node}` has more of a resource than can be counted: at most 2^46 of each")]
    TooLarge {
        /// The node.
        node: NodeId,
    },
}

impl OptionsError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Range { .. } => "scheduler.option",
            Self::DuplicateNode { .. } => "scheduler.duplicate_node",
            Self::Nodes { .. } => "scheduler.nodes",
            Self::Tenants { .. } => "scheduler.tenants",
            Self::UnknownNode { .. } => "scheduler.unknown_node",
            Self::TooLarge { .. } => "scheduler.node_too_large",
        }
    }
}
