//! What can go wrong, and what to do about it.

use rusqlite::ErrorCode;
use thiserror::Error;

/// A refusal or a fault of the store. Nothing was changed by the call that returns one.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file claims more records than the log has (K1).
    #[error("the knowledge file has applied {applied} records, and the log has {durable}")]
    AheadOfLog {
        /// Records the file has applied.
        applied: u64,
        /// Records that are durable.
        durable: u64,
    },
    /// The file belongs to another log.
    #[error("the knowledge file belongs to the log `{found}`, not to `{wanted}`")]
    OtherLog {
        /// The log the file names.
        found: String,
        /// The log it was opened for.
        wanted: String,
    },
    /// A newer release wrote the file.
    #[error("the knowledge file has format {found}, and this release reads up to {known}")]
    Newer {
        /// The file's format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// The file does not hold what was written.
    #[error("the knowledge file is damaged: {detail}")]
    Corrupt {
        /// Where it was noticed.
        detail: String,
    },
    /// A record that is not on disk yet was to be applied (K1).
    #[error("record {seq} is not durable: the log has {durable} durable records")]
    NotDurable {
        /// The record.
        seq: u64,
        /// Records that are durable.
        durable: u64,
    },
    /// A passage labelled `secret` came with its text (K6).
    #[error("passage {index} is labelled `secret`, and its text may not be stored")]
    SecretText {
        /// The passage's place in the list.
        index: usize,
    },
    /// What belongs to a person came without that person's key (K8).
    #[error("it belongs to a person whose key is not here: it cannot be sealed, and is not stored otherwise")]
    Unsealable,
    /// A passage that cannot be stored as it is.
    #[error("passage {index} has {problem}")]
    Passage {
        /// The passage's place in the list.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too many passages at once.
    #[error("{given} passages at once, and at most {limit} are taken")]
    TooMany {
        /// How many came.
        given: usize,
        /// How many may.
        limit: usize,
    },
    /// A question longer than a search reads.
    #[error("the question has {bytes} bytes, and at most {limit} are searched for")]
    QueryTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Somebody else reads the file, and keeps what was removed from it (K9).
    #[error(
        "another process reads the knowledge file, so what was removed still stands beside it, in its WAL"
    )]
    InUse,
    /// The disk is full.
    #[error("the disk under the knowledge file is full")]
    Full,
    /// The file cannot be opened, read or written.
    #[error("the knowledge file cannot be used: {detail}")]
    Unusable {
        /// The system's reason.
        detail: String,
    },
}

impl StoreError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AheadOfLog { .. } => "store.ahead_of_log",
            Self::OtherLog { .. } => "store.other_log",
            Self::Newer { .. } => "store.newer",
            Self::Corrupt { .. } => "store.corrupt",
            Self::NotDurable { .. } => "store.not_durable",
            Self::SecretText { .. } => "store.secret_text",
            Self::Unsealable => "store.unsealable",
            Self::Passage { .. } => "store.passage",
            Self::TooMany { .. } => "store.too_many",
            Self::QueryTooLong { .. } => "store.query_too_long",
            Self::InUse => "store.in_use",
            Self::Full => "store.full",
            Self::Unusable { .. } => "store.unusable",
        }
    }

    /// What to do about it, where something can be done.
    #[must_use]
    pub const fn help(&self) -> Option<&'static str> {
        match self {
            Self::AheadOfLog { .. } => Some(
                "the log was cut or replaced by an older copy: restore it; to go on with it as it is, move the \
                 knowledge file away, and it is rebuilt from the log",
            ),
            Self::OtherLog { .. } => Some("move the knowledge file away: it is rebuilt from this log"),
            Self::Corrupt { .. } => Some(
                "move the knowledge file away and open again: documents and their access lists are rebuilt from \
                 the log; their passages, which the log names by digest only, must be added again",
            ),
            Self::Newer { .. } => Some("use the release that wrote the file, or a newer one"),
            Self::InUse => Some(
                "end the program that reads `state.db` (a copy for a backup, an SQL shell), then erase again: at the latest the \
                 next opening finishes what is recorded",
            ),
            Self::Full => Some("make room, then try again: nothing was changed"),
            _ => None,
        }
    }

    pub(crate) fn corrupt(detail: impl Into<String>) -> Self {
        Self::Corrupt { detail: detail.into() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { detail },
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(_) => Self::Unusable { detail },
            // No code of SQLite's: a column that does not hold what was written into it.
            None => Self::Corrupt { detail },
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Unusable { detail: error.kind().to_string() }
    }
}
