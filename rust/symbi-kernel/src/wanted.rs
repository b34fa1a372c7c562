//! Which record somebody waits for, without a lock.
//!
//! Why a file of its own: `tests/wanted.rs` compiles this very text with shuttle's atomics and walks it through every order.
//! Not here: the bell that is rung (`wake`).
//!
//! Invariants
//! - K11 whoever says that it wants a record and finds it not yet durable is told when it is.

use crate::atomics::{AtomicU64, Ordering};

const NOBODY: u64 = u64::MAX;

/// The lowest record that is wanted.
#[derive(Debug)]
pub(crate) struct Wanted(AtomicU64);

impl Wanted {
    pub(crate) fn nothing() -> Self {
        Self(AtomicU64::new(NOBODY))
    }

    /// So many records are durable. Whether somebody is to be told.
    pub(crate) fn progressed(&self, durable: u64) -> bool {
        let is_wanted = self.0.load(Ordering::SeqCst) < durable;
        if is_wanted {
            self.0.store(NOBODY, Ordering::SeqCst);
        }
        is_wanted
    }

    /// Asks to be told when record `seq` is durable. The caller reads the durable end again afterwards (K11).
    pub(crate) fn want(&self, seq: u64) {
        self.0.fetch_min(seq, Ordering::SeqCst);
    }
}
