//! The reference monitor, driven through its public API alone, on real files and on a disk that fails on demand.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod agents;
mod breach;
mod collect;
mod counters;
mod denials;
mod faults;
mod knowledge;
mod labels;
mod leaks;
mod memory;
mod messages;
mod model;
mod operators;
mod permits;
mod policies;
mod stall;
mod supervise;
mod together;
mod turns;
mod world;
