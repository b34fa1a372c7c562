//! What a call fills, told to the caller itself.
//!
//! Why: the loop that sends is, in one process, the loop that receives. To wake it through its descriptor costs a write, a
//! poll and a read, several times what the message costs; the caller is awake, and can tell whoever waits on its loop.
//! Not here: mailboxes that are filled from elsewhere: the bell rings for those (`wake`).
//!
//! Invariants
//! - K190 a mailbox that is filled is told once: to the caller that asked to hear of it, or by the bell. Where the call fails
//!   the bell rings.

use std::cell::RefCell;

use symbi_types::AgentId;

use crate::kernel::{Kernel, lock};

thread_local! {
    /// The mailboxes that a call of this thread has filled, while somebody wants to hear of them.
    static FILLED: RefCell<Option<Vec<AgentId>>> = const { RefCell::new(None) };
}

/// While it lives, what this thread fills is noted; a call that panics leaves nothing behind.
struct Noting;

impl Noting {
    fn begin() -> Self {
        let _ = FILLED.try_with(|filled| filled.replace(Some(Vec::new())));
        Self
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        let _ = FILLED.try_with(RefCell::take);
    }
}

/// Notes a mailbox, where the caller wants to hear of it; false where the bell must ring.
pub(crate) fn noted(mailbox: AgentId) -> bool {
    let note = |filled: &RefCell<Option<Vec<AgentId>>>| {
        filled.borrow_mut().as_mut().map(|filled| filled.push(mailbox)).is_some()
    };
    FILLED.try_with(note).unwrap_or(false)
}

impl Kernel {
    /// Does `act`, and answers besides which mailboxes it filled that were empty, and which requests' askers have an answer.
    /// The caller tells those who wait; nobody else does (K190).
    ///
    /// # Errors
    /// Those of `act`; what it had filled by then the bell tells.
    pub fn here<T, E>(&self, act: impl FnOnce() -> Result<T, E>) -> Result<(T, Vec<AgentId>), E> {
        let noting = Noting::begin();
        let outcome = act();
        let filled = FILLED.try_with(|filled| filled.borrow_mut().as_mut().map(std::mem::take));
        drop(noting);
        let filled = filled.ok().flatten().unwrap_or_default();
        match outcome {
            Ok(done) => Ok((done, filled)),
            Err(error) => {
                if !filled.is_empty() {
                    lock(&self.ready_mailboxes).extend(filled);
                    self.ring();
                }
                Err(error)
            }
        }
    }
}
