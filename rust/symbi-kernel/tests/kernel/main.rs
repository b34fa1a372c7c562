//! The reference monitor, driven through its public API alone, on real files and on a disk that fails on demand.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod agents;
mod approvals;
mod breach;
mod budgets;
mod collect;
mod counters;
mod dataflow;
mod delivery;
mod denials;
mod faults;
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
mod snapshots;
mod stall;
mod supervise;
mod together;
mod turns;
mod world;
