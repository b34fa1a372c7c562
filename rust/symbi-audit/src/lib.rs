//! The log: one append-only, chained, signed file of JSON lines, and everything that reads it.
//!
//! Why: whoever was not there must be able to prove afterwards what happened, with a page of code of their own
//! (`python/symbi/audit/verify_trail.py`). So a line is never re-encoded: what was signed is what is in the file.
//! Not here: what is worth recording (kernel), sealing of values, and where checkpoints are kept: without one that lies
//! elsewhere, a trail that was cut back to an older, genuine `head` verifies; `verify` says so by its level.
//!
//! Invariants
//! - A1 `seq` starts at 0 and grows by 1; the chain commits to the log's id, the number, the link before, the body.
//! - A2 nothing is reported durable before `sync_data` returned for it and for everything before it.
//! - A3 `head` is written only after the sync of what it names: it may be stale, it is never ahead.
//! - A4 after a failed write or sync nothing more is written or acknowledged; only reopening ends that.
//! - A5 opening refuses damage up to `head`, cuts only beyond it, and records the cut.
//! - A6 a log has one writer; readers need no lock and never see part of a record.
//! - A7 the log's time never goes back, and a clock that jumps is itself an event.
//! - A8 reading and verifying change nothing.

mod chain;
mod checkpoint;
mod error;
mod event;
mod export;
mod extra;
mod glance;
mod head;
mod index;
mod json;
mod keeper;
mod layout;
mod log;
mod note;
mod options;
mod pipeline;
mod proof;
mod prune;
mod query;
mod reader;
mod record;
mod recover;
mod remainder;
mod seal;
mod stream;
mod survey;
mod tiles;
mod time;
mod verify;
mod witness;

pub use checkpoint::{Checkpoint, origin};
pub use error::LogError;
pub use event::{EVENT_TYPE_BYTES_MAX, Event, RECORD_BYTES_MAX, check_event_type, write_json_string};
pub use export::{export, lines};
pub use index::{Checked, Found, Index, Indexed};
pub use json::{JSON_DEPTH_MAX, JsonError, check_details};
pub use keeper::checkpoint_at_rest;
pub use log::{Log, Progress};
pub use note::{NoteError, VerifierKey};
pub use options::{LogOptions, LogStatus, LogTime, OpenReport, Owner, Receipt, Signing};
pub use proof::{Proof, Proven, Prover};
pub use prune::{Hold, Pruned};
pub use query::Query;
pub use reader::{Reader, Records, Summary};
pub use record::{FormatError, Record};
pub use stream::{Batch, Stream, watch};
pub use survey::{Tally, Times, survey};
pub use symbi_crypto::merkle::{self, ProofError};
pub use symbi_crypto::{KeyId, KeyIdError};
pub use verify::{Finding, Level, Seen, Verification, VerifyError, VerifyOptions, verify, verify_with};
pub use witness::{Answer, Witness, request};
