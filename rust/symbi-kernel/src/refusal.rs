//! What the monitor answers when it does not let something happen.

use symbi_types::DecisionId;

/// The few words an agent may learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// Policy does not allow it, or it does not exist: the two look alike.
    Denied,
    /// It would be allowed once a person has approved.
    NeedsApproval,
    /// The principal's own budget is spent.
    OverBudget,
    /// Too many requests, or too many at once.
    RateLimited,
    /// The monitor cannot decide or record.
    Unavailable,
    /// The agent itself is suspended: the same request may pass when it goes on.
    Suspended,
    /// The run that asks was cancelled.
    Cancelled,
}

impl RefusalCode {
    /// The stable code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NeedsApproval => "needs_approval",
            Self::OverBudget => "over_budget",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Suspended => "suspended",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A refusal, as its principal may see it. What operators may know besides stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Which of the few words.
    pub code: RefusalCode,
    /// Random; what `symbi explain` takes.
    pub decision: DecisionId,
    /// The rule's constant public message, or a general one.
    pub message: String,
    /// The record to wait for before this leaves the runtime; none where the log cannot write.
    pub seq: Option<u64>,
    /// The operation that waits for a person, where it does, or did.
    pub approval: Option<symbi_types::OperationId>,
}
