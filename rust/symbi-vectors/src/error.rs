//! What can go wrong, for callers to tell apart.

use std::path::PathBuf;

/// An error of an index or of its files.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// A setting or an argument outside its range.
    #[error("`{name}` must be {accepted}, and is `{given}`")]
    Range {
        /// The argument.
        name: &'static str,
        /// What it was.
        given: String,
        /// What it may be.
        accepted: &'static str,
    },
    /// Vectors of another length than the index.
    #[error("vectors of this index have {expected} dimensions, and {given} were given")]
    Dimension {
        /// Dimensions that were given.
        given: usize,
        /// Dimensions of the index.
        expected: usize,
    },
    /// As many ids as vectors are needed.
    #[error("{ids} ids were given for {vectors} vectors")]
    Count {
        /// Ids.
        ids: usize,
        /// Vectors.
        vectors: usize,
    },
    /// NaN or infinity in a vector, or one so long that distances would not be finite.
    #[error(
        "vector {row} holds a component that is not finite, or is longer than the metric can measure (about 4e18)"
    )]
    NotFinite {
        /// Row, 0-based.
        row: usize,
    },
    /// A vector without direction under cosine.
    #[error("vector {row} is zero, and has no direction for the metric `cosine`")]
    Zero {
        /// Row, 0-based.
        row: usize,
    },
    /// The id is there already, or stands twice in one call.
    #[error("id `{id}` {why}")]
    Duplicate {
        /// The id.
        id: u64,
        /// How.
        why: &'static str,
    },
    /// The largest 64-bit number stands for "nothing here" in results.
    #[error("id `{}` is reserved: it stands for `no vector` in results", u64::MAX)]
    ReservedId,
    /// More vectors than an index can number.
    #[error("an index holds at most {} vectors", crate::options::SLOTS_MAX)]
    Full,
    /// The system gave no memory. Nothing was changed.
    #[error("no memory for {bytes} more bytes: {source}")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be read or written.
    #[error("{act} `{}`: {source}", path.display())]
    Io {
        /// What was attempted.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not what was written.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, and how it is known.
        what: String,
    },
    /// No index of ours.
    #[error("`{}` is no vector index: {what}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// Somebody else writes there.
    #[error("`{}` is open for writing already: close that index, or open this one read-only", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Opened without the right to change it.
    #[error("the index was opened read-only: open it for writing to change it")]
    ReadOnly,
    /// A log could not be brought back to its last good state after a failed write, or a save failed when its snapshot
    /// may count already.
    #[error("the log of this index could not be written to its end: open the index again")]
    Poisoned,
    /// The caller's progress callback called a method that changes the index it is called by.
    #[error("an index cannot be changed from the `progress` of its own change: do it afterwards")]
    Within,
    /// The process was forked after the index was opened; both would write to one log.
    #[error(
        "the index was opened before this process was forked: open it anew here, once the other has closed it"
    )]
    Forked,
    /// An `add` failed after some of its pieces.
    #[error("{source}; the first {done} of {total} vectors are in, and stay")]
    Partly {
        /// Vectors that are in.
        done: usize,
        /// Vectors that were given.
        total: usize,
        /// What happened then.
        source: Box<VectorError>,
    },
    /// Whoever searched did not want to go on.
    #[error("the search was stopped before all of its queries were answered")]
    Interrupted,
    /// The caller's progress callback asked to stop. What was added stays.
    #[error("stopped after {done} of {total} vectors, which stay")]
    Stopped {
        /// Vectors that are in.
        done: usize,
        /// Vectors that were given.
        total: usize,
    },
}

/// Shorthand.
pub(crate) type Result<T> = std::result::Result<T, VectorError>;
