//! Signatures that are checked ahead: while a message's reader is being woken, a thread that stands by checks it.
//!
//! Why: one strict check takes as long as all else that is done for a message together, and a message that is alone cannot be
//! divided. Its reader needs some ten microseconds to be woken, on a core that does nothing else; this is done on another.
//! Not here: what a check is (`open`), many messages (`crew`).
//!
//! Invariants
//! - AH1 what is found ahead is what the reader would find: the same check of bytes that nobody changes any more (E3), and
//!   believed only under the very key that the reader would use.
//! - AH2 nobody waits for a check that has not begun: whoever comes first makes it, and the other has its result.
//! - AH3 at most [`WAITING_MAX`] messages of at most [`BYTES_MAX`] wait; one that finds no room is checked by its reader.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};

use crate::SecureMessage;
use crate::authority::Signer;
use crate::open::holds_alone;
use crate::sync::{Condvar, Mutex, MutexGuard, thread};

/// Messages that wait to be checked. More would be read before their turn comes.
const WAITING_MAX: usize = 16;
/// Bytes of one: what waits is outside the bounds of mailboxes, and stays below a mebibyte.
const BYTES_MAX: usize = 64 << 10;

struct Line {
    waiting: VecDeque<(SecureMessage, Arc<Signer>)>,
    has_thread: bool,
    is_idle: bool,
    is_closed: bool,
}

struct Shared {
    line: Mutex<Line>,
    given: Condvar,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_by(&self) {
        let mut line = self.line();
        while !line.is_closed {
            let Some((message, signer)) = line.waiting.pop_front() else {
                line.is_idle = true;
                line = self.given.wait(line).unwrap_or_else(PoisonError::into_inner);
                line.is_idle = false;
                continue;
            };
            drop(line);
            let _ = holds_alone(signer.key(), &message); // kept with the message
            drop(message);
            line = self.line();
        }
    }
}

/// The thread, which is started with the first message and ends with this.
pub(crate) struct Ahead {
    shared: Arc<Shared>,
    is_on: bool,
    /// After a fork there is no thread, and nobody who could be told.
    process: u32,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ahead({})", self.is_on)
    }
}

impl Ahead {
    /// With one worker there is nobody who could be ahead of anybody.
    pub(crate) fn new(workers: usize) -> Self {
        let line = Line {
            waiting: VecDeque::with_capacity(WAITING_MAX),
            has_thread: false,
            is_idle: false,
            is_closed: false,
        };
        let shared = Arc::new(Shared { line: Mutex::new(line), given: Condvar::new() });
        Self { shared, is_on: 1 < workers, process: std::process::id() }
    }

    /// Whether a message may be given at all.
    pub(crate) fn takes(&self, message: &SecureMessage) -> bool {
        self.is_on && message.size() <= BYTES_MAX && message.inclusion().is_none()
    }

    /// Has a message checked that lies in its mailbox, where there is room (AH3).
    pub(crate) fn give(&self, message: SecureMessage, signer: &Arc<Signer>) {
        let mut line = self.shared.line();
        if WAITING_MAX <= line.waiting.len() {
            return;
        }
        if !line.has_thread {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("symbi-bus-ahead".to_owned());
            if thread.spawn(move || shared.stand_by()).is_err() {
                return; // AH2: its reader checks it
            }
            line.has_thread = true;
        }
        line.waiting.push_back((message, Arc::clone(signer)));
        let sleeps = line.is_idle;
        drop(line);
        if sleeps {
            self.shared.given.notify_one();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            self.shared.line().is_closed = true;
            self.shared.given.notify_all();
        }
    }
}
