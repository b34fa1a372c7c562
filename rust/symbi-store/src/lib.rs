//! SQLite: the knowledge projection and its keyword search.
//!
//! Why: the log is the truth, and nobody searches a log. This file holds what the log's records mean, in a form
//! that answers questions, and the passages that the log names by digest.
//! Not here: policy (the kernel asks it before a search), embeddings, the log. One file, two connections: one writes
//! behind a lock, the other searches and never waits for a disk.
//!
//! Invariants
//! - K1 the projection is never ahead of the log: a record is applied after it is durable, and a file that is ahead
//!   does not open.
//! - K2 passages are on disk before the record that names them; what no record names is swept.
//! - K3 applying a record again changes nothing.
//! - K4 what a reader may not read has no influence on what it sees: not on which hits, not on their order.
//! - K5 the text of a question is data: it is cut into words, and no syntax is read in it.
//! - K6 a passage labelled `secret` has no text here.
//! - K7 a chunk's number is never used again, so that a citation never points at another text.
//! - K8 what carries a person's label is sealed under that person's key, K9 and can be erased with it (`vault`).
//!
//! Decision: docs/adr/0061-knowledge-in-one-sqlite-file.md.

mod content;
mod error;
mod projection;
mod rank;
mod read;
mod schema;
mod search;
mod store;
mod vault;

pub use content::{CHUNK_BYTES_MAX, CHUNKS_MAX, ContentRef, NewChunk, Passage};
pub use error::StoreError;
pub use projection::{Applied, DocumentAdded, Projection};
pub use read::{Chunk, Counts, Document};
pub use search::{HITS_MAX, Hit, QUERY_BYTES_MAX, SearchRequest};
pub use store::Store;
pub use vault::{Forgotten, Vault};

/// Among the readers of a document: every agent. No agent is called so.
pub const EVERYBODY: &str = "*";
