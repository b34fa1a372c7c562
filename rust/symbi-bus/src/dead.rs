//! A message that was given up: what is told of it.
//!
//! Not here: when (`deliveries`), what becomes of it (the kernel).

use symbi_types::{AgentId, MessageId};

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// It was handed out as often as may be, and never finished.
    Attempts,
    /// Its time was over.
    Expired,
    /// Its receiver is gone.
    Gone,
}

impl DeadReason {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Expired => "expired",
            Self::Gone => "recipient_gone",
        }
    }

    /// The reason of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Attempts, Self::Expired, Self::Gone].into_iter().find(|reason| reason.as_str() == word)
    }
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead<T> {
    /// Where it was to be read.
    pub mailbox: AgentId,
    /// The message.
    pub id: MessageId,
    /// Why.
    pub reason: DeadReason,
    /// How often it was handed out.
    pub attempts: u32,
    /// What was kept of it; none where it was never handed out.
    pub content: Option<T>,
}
