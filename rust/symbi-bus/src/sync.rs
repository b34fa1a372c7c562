//! Where the locks and threads of this crate come from.
//!
//! Why: with the feature `interleavings` they are those of shuttle, which decides who runs next at each of them; so its tests
//! walk the true code through thousands of orders (`tests/interleavings.rs`). Nothing else turns that feature on.

#[cfg(not(feature = "interleavings"))]
pub(crate) use std::{
    sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

#[cfg(feature = "interleavings")]
pub(crate) use shuttle::{
    sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
