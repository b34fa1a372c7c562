//! What can go wrong with a log.

use std::io;

/// An error of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process, or another handle in this one, has it open.
    #[error("the log in `{path}` is open for writing elsewhere")]
    Locked {
        /// The trail's directory.
        path: String,
    },
    /// Damage up to `head`. Nothing was changed.
    #[error("record {seq}: {reason}")]
    ChainBroken {
        /// The first record that fails.
        seq: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Records that `head`, a checkpoint or a witness names are not there. Nothing was changed.
    #[error("the log ends after {seq} records, of {head} that there have been")]
    Truncated {
        /// The first record that is missing.
        seq: u64,
        /// How many there should be.
        head: u64,
    },
    /// The key that was given is not the one whose turn it is.
    #[error("the log is signed with key `{expected}`, not with `{given}`")]
    WrongKey {
        /// Whose turn it is.
        expected: String,
        /// What was given.
        given: String,
    },
    /// The log belongs to a runtime and an application wants to write it, or the other way round.
    #[error("the log in `{path}` belongs to the {owner}: only it may write there")]
    Owned {
        /// The trail's directory.
        path: String,
        /// Whose it is.
        owner: &'static str,
    },
    /// The log does not write any more: disk full, failed write or sync, closed (A4).
    #[error("the log cannot write: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// It took longer than was allowed.
    #[error("record {seq} was not on disk in time")]
    Timeout {
        /// The record.
        seq: u64,
    },
    /// An event that cannot be recorded. Nothing was changed.
    #[error("{reason}")]
    Event {
        /// What is wrong with it.
        reason: String,
    },
    /// A legal hold is in force: nothing is pruned or erased. Nothing was changed.
    #[error("a legal hold is in force since record {seq}: {reason}")]
    Held {
        /// The record that put it in force.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// The operating system, while opening or reading.
    #[error("{context}: {source}")]
    Io {
        /// What was tried.
        context: String,
        /// What it said.
        source: io::Error,
    },
}

impl LogError {
    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }

    pub(crate) fn broken(seq: u64, reason: impl Into<String>) -> Self {
        Self::ChainBroken { seq, reason: reason.into() }
    }
}
