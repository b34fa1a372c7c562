//! Policy: compile, index, decide, oblige, explain.
//!
//! Why: every effect of symbi asks one question here first. The answer must be right, quick enough that nobody
//! wants to switch it off, and explainable months later. The language is Cedar; the evaluator is Cedar's own
//! (`cedar-policy-core`). Ours is what stands around it: an index, so that a decision costs its candidates and not
//! the whole set; failing closed; obligations; counters; reasons.
//! Not here: files, clocks, locks, the values of counters, who the principal really is (all `symbi-kernel`).
//!
//! Invariants
//! - D1 nothing is allowed without a `permit` that was evaluated to true.
//! - D2 a `forbid` that applies, or that cannot be evaluated, denies.
//! - D3 a `permit` that cannot be evaluated is not applied, and is reported.
//! - D4 the index finds every policy whose scope matches: deciding over its candidates is deciding over all.
//! - D5 the same set and request give the same decision, in whatever order sources and policies came.
//! - D6 a set compiles whole or not at all; a compiled one never changes.
//! - D7 what operators may do is decided first, and no policy of a user changes it.
//! - D8 before our rule for errors (D2), the candidates answer as Cedar's own authorizer does over the whole set: decision,
//!   determining and erring policies.
//! - D9 where a set asks for persons at a change of policy, that holds for operators too; nothing else of the set does.
//!
//! Decisions: docs/adr/0020 to 0024.

mod address;
mod annotation;
pub mod builtin;
mod cache;
mod change;
mod compile;
mod counter;
mod decided;
mod decision;
mod declaration;
mod diagnostic;
mod direct;
mod engine;
mod entity;
mod evaluate;
mod explain;
mod expression;
mod fit;
mod index;
mod learn;
mod nesting;
mod obligation;
mod path;
mod plain;
mod request;
mod schema;
mod store;
mod valid;
mod value;
pub mod vocabulary;

pub use address::{ADDRESS_BYTES_MAX, Address, AddressError, Host, Reach, reach};
pub use cache::Snapshot;
pub use change::Change;
pub use compile::{Link, POLICIES_MAX, SOURCE_BYTES_MAX, Source};
pub use counter::{COUNTERS_MAX, CounterSpec, Kind, NAME_CHARS_MAX, Per, WINDOW_S_MAX, is_measured};
pub use decided::Decided;
pub use decision::{Consequence, Decision, Effect, Failure, Reason, Rule, RuleEffect};
pub use declaration::parse_counters;
pub use diagnostic::{Diagnostic, Severity, render};
pub use engine::Engine;
pub use entity::{Entity, EntityError, ID_BYTES_MAX, Uid};
pub use explain::{Explanation, FAILING_MAX, Failing};
pub use learn::{Learner, Proposal};
pub use obligation::{Approval, Budget, Obligation};
pub use path::{PATH_BYTES_MAX, PathError, canonical_path};
pub use plain::PlainDecision;
pub use request::{RecordedRequest, Request};
pub use schema::Schema;
pub use store::Store;
pub use value::{Prepared, Value};
