//! The words every other crate speaks: ids, labels, limits, time, randomness.
//!
//! Why: a bare `u64` or `String` that crosses a crate border is a mistake waiting for two arguments of the
//! same type. Here each quantity has a type, a range and a text form, once.
//! Not here: any behaviour. No I/O except the system's clock, entropy and storage, which are the only places of the
//! cores that may ask the operating system for time, randomness or a file of the log.

mod clock;
mod entropy;
mod id;
mod label;
mod limits;
mod part;
mod storage;
mod tier;

pub use clock::{Clock, Moment, SystemClock};
pub use entropy::{Entropy, SystemEntropy};
pub use id::{
    AgentId, BootId, DecisionId, DocumentId, EventId, IdError, LogId, MessageId, OperationId, RunId,
};
pub use label::{Label, LabelError, LabelSet};
pub use limits::{LimitError, ResourceLimits, ResourceVector};
pub use part::{Part, PartSource};
pub use storage::{OpenMode, Storage, StorageFile, StorageLock, SystemStorage};
pub use tier::{SecurityTier, TierError};
