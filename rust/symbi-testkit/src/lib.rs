//! A fake clock, seeded entropy, a disk that lies, virtual time, and what makes a failure small. Dev dependency only.
//!
//! Why: what the runtime promises is what holds when the clock jumps, the disk fills and the power goes; none of
//! these happen on demand on a real machine.
//! Not here: assertions about any crate. Cargo keeps this out of everything that ships: it is only ever a
//! dev-dependency.

#![expect(clippy::indexing_slicing, reason = "a test's tool: a wrong index is a failed test")]

mod clock;
mod disk;
mod entropy;
mod shrink;
mod timeline;

pub use clock::FakeClock;
pub use disk::{CrashState, Disk, Fault, Operation};
pub use entropy::SeededEntropy;
pub use shrink::shrink;
pub use timeline::Timeline;
