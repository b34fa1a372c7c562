//! `symbi-guest`: the static program that runs inside sandboxes.
//!
//! Why: what a sandbox really is must be said by something of ours that runs in it, and a worker must be confined by
//! something that cannot be talked out of it. One file, no library, so that it is a whole container image by itself.
//! Not here: trust. The host takes every line as hearsay and inspects the sandbox from outside as well.
//! Command line and lines: docs/formats/guest.md, docs/formats/scout.md.
//!
//! Invariants
//! - G1 everything on stdout is a line of JSON, at most `LINE_BYTES_MAX` bytes with its newline.
//! - G2 what was asked for and cannot be done is refused by name with exit code 2, before the program starts.
//! - G3 in `confine` the program starts after every restriction is in force, or not at all.
//! - G4 `scout` ends on any tree: bounded entries, depth, bytes; no link followed, nothing opened that can block.

mod cgroup;
mod command;
mod confine;
mod exec;
mod output;
mod probe;
mod scout;
mod system;

pub use command::main;
pub use output::LINE_BYTES_MAX;
