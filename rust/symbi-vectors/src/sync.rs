//! Where the locks and threads of this crate come from.
//!
//! Why: with the feature `interleavings` they are those of shuttle, which decides who runs next at each of them; so its tests
//! walk the true code through many orders (`tests/interleavings.rs`). Nothing else turns that feature on. The lists of the
//! graph, which are read without a lock, have a model of their own (`lists`, loom).

#[cfg(not(feature = "interleavings"))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread::scope,
};

#[cfg(feature = "interleavings")]
pub(crate) use shuttle::{
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread::scope,
};
