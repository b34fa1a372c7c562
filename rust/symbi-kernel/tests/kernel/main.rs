//! The reference monitor, driven through its public API alone, on real files and on a disk that fails on demand.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod agent_keys;
mod agents;
mod approvals;
mod breach;
mod breakers;
mod budgets;
mod buried;
mod collect;
mod columns;
mod counters;
mod dataflow;
mod dead_letters;
mod delivery;
mod denials;
mod durable_topics;
mod erasing;
mod faults;
mod keeping;
mod knowledge;
mod labels;
mod leaks;
mod memory;
mod messages;
mod model;
mod obligations;
mod operators;
mod permits;
mod policies;
mod processors;
mod recounted;
mod snapshots;
mod stall;
mod supervise;
mod timed;
mod together;
mod turns;
mod waiting;
mod world;
