//! Memory of messages that is used again.
//!
//! Why: a message of the native path allocates nothing once the bus is warm (spec F8, F14).
//! Not here: how much may be under way at once; the mailboxes bound that.
//!
//! Invariants
//! - PL1 what is handed out belongs to one holder until that holder drops it.
//! - PL2 what lies idle is bounded, in pieces and in bytes.
//! - PL3 a buffer that held a payload is wiped before it lies idle.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::envelope::Envelope;

/// Pieces of each kind that lie idle.
const IDLE_MAX: usize = 2_048;
/// Bytes of each kind that lie idle.
const IDLE_BYTES_MAX: usize = 4 << 20;
/// A larger buffer is given back to the system: such payloads are rare, and its allocation does not show beside them.
const PIECE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
struct Idle<T> {
    pieces: Vec<T>,
    bytes: usize,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), bytes: 0 }
    }
}

impl<T> Idle<T> {
    fn take(&mut self, bytes_of: impl Fn(&T) -> usize) -> Option<T> {
        let piece = self.pieces.pop()?;
        self.bytes -= bytes_of(&piece);
        Some(piece)
    }

    /// PL2.
    fn give(&mut self, piece: T, bytes: usize) {
        if self.pieces.len() < IDLE_MAX && bytes <= PIECE_BYTES_MAX && self.bytes + bytes <= IDLE_BYTES_MAX {
            self.bytes += bytes;
            self.pieces.push(piece);
        }
    }
}

/// The idle memory of one bus.
#[derive(Default)]
pub(crate) struct Pool {
    envelopes: Mutex<Idle<Arc<Envelope>>>,
    buffers: Mutex<Idle<Vec<u8>>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool") // what lies in it is nobody's
    }
}

impl Pool {
    /// An envelope that nobody else has.
    pub(crate) fn envelope(&self) -> Arc<Envelope> {
        let idle = lock(&self.envelopes).take(|envelope| envelope.bytes.capacity());
        idle.unwrap_or_else(|| Arc::new(Envelope::blank()))
    }

    /// Takes an envelope back from its last holder.
    pub(crate) fn put(&self, envelope: Arc<Envelope>) {
        let bytes = envelope.bytes.capacity();
        lock(&self.envelopes).give(envelope, bytes);
    }

    /// An empty buffer.
    pub(crate) fn buffer(self: &Arc<Self>) -> Buffer {
        let bytes = lock(&self.buffers).take(Vec::capacity).unwrap_or_default();
        Buffer { bytes, pool: Some(Arc::clone(self)) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A payload in memory that is wiped and used again when it is dropped.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Option<Arc<Pool>>,
}

impl Buffer {
    pub(crate) const fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.fill(0); // PL3; `zeroize` goes byte by byte, which was a tenth of a message's whole cost
        std::hint::black_box(bytes.as_slice()); // the zeros must be there
        if let Some(pool) = self.pool.take() {
            bytes.clear();
            let capacity = bytes.capacity();
            lock(&pool.buffers).give(bytes, capacity);
        }
    }
}

impl From<Vec<u8>> for Buffer {
    /// Memory of no pool, wiped all the same.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, pool: None }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = self.pool.as_ref().map_or_else(Self::default, Pool::buffer);
        copy.bytes.extend_from_slice(&self.bytes);
        copy
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Buffer {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Buffer {
    fn eq(&self, other: &T) -> bool {
        self.bytes == other.as_ref()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes.len()) // a payload is nobody's to print
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(pool: &Arc<Pool>, size: usize) -> Buffer {
        let mut buffer = pool.buffer();
        buffer.vec().resize(size, 7);
        buffer
    }

    #[test]
    fn pl1_memory_in_use_is_one_holders_and_idle_memory_is_used_again() {
        let pool = Arc::new(Pool::default());
        let (first, second) = (buffer(&pool, 100), buffer(&pool, 100));
        let place = first.as_ptr();
        assert_ne!(place, second.as_ptr());
        drop(first);
        let third = buffer(&pool, 50);
        assert_eq!((third.as_ptr(), third.len()), (place, 50));
        let copy = second.clone();
        assert_ne!(copy.as_ptr(), second.as_ptr());
        assert_eq!(copy, second);
    }

    /// Holders that drop at the same moment may both see the other; then it is freed, and never given back twice.
    #[test]
    fn pl1_messages_dropped_on_several_threads_at_once_are_given_back_at_most_once() {
        use crate::SecureMessage;
        let pool = Arc::new(Pool::default());
        for _ in 0..2_000 {
            let message = SecureMessage::new(pool.envelope(), Arc::clone(&pool), None);
            let barrier = std::sync::Barrier::new(3);
            std::thread::scope(|scope| {
                for copy in [message.clone(), message.clone(), message] {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        drop(copy);
                    });
                }
            });
            let idle = lock(&pool.envelopes);
            assert!(idle.pieces.len() <= 1);
            assert!(idle.pieces.iter().all(|envelope| Arc::strong_count(envelope) == 1));
        }
    }

    #[test]
    fn pl2_idle_memory_is_bounded_in_pieces_and_in_bytes() {
        let pool = Arc::new(Pool::default());
        drop((0..IDLE_MAX + 10).map(|_| buffer(&pool, 8)).collect::<Vec<_>>());
        assert_eq!(lock(&pool.buffers).pieces.len(), IDLE_MAX);
        let pool = Arc::new(Pool::default());
        drop((0..100).map(|_| buffer(&pool, PIECE_BYTES_MAX)).collect::<Vec<_>>());
        assert_eq!(lock(&pool.buffers).bytes, IDLE_BYTES_MAX);
        let pool = Arc::new(Pool::default());
        drop(buffer(&pool, PIECE_BYTES_MAX + 1));
        assert_eq!(lock(&pool.buffers).pieces.len(), 0);
    }

    #[test]
    fn pl3_idle_memory_says_nothing() {
        let pool = Arc::new(Pool::default());
        drop(buffer(&pool, 100));
        let mut idle = lock(&pool.buffers).pieces.pop().unwrap();
        assert!(idle.is_empty());
        idle.spare_capacity_mut()[..100].fill(std::mem::MaybeUninit::new(1)); // 100 bytes are there
        assert_eq!(format!("{:?} {pool:?}", buffer(&pool, 3)), "Buffer(3 bytes) Pool");
    }
}
