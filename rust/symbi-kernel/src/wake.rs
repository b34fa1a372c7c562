//! One eventfd that tells the embedding event loop that something it waits for is ready.
//!
//! Why: a wake-up across threads costs tens of microseconds, so it is written only for what is waited for: when
//! the durable end of the log passes the lowest number wanted, when the log fails, when a mailbox that was empty
//! is not any more.
//!
//! Invariants
//! - K11 whoever says that it wants a record and finds it not yet durable is woken when it is.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::wanted::Wanted;

/// The bell.
#[derive(Debug)]
pub(crate) struct Wake {
    event: OwnedFd,
    wanted: Wanted,
}

impl Wake {
    pub(crate) fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, wanted: Wanted::nothing() })
    }

    /// For `loop.add_reader`.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Rings.
    pub(crate) fn ring(&self) {
        // A full counter means that the bell rings already; nothing else can fail on our own descriptor.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Called after each sync with the number of durable records.
    pub(crate) fn progressed(&self, durable: u64) {
        if self.wanted.progressed(durable) {
            self.ring();
        }
    }

    /// Asks to be woken when record `seq` is durable. The caller reads the durable end again afterwards (K11).
    pub(crate) fn want(&self, seq: u64) {
        self.wanted.want(seq);
    }

    /// Takes what has rung.
    pub(crate) fn drain(&self) {
        let mut counter = [0u8; 8];
        let _ = rustix::io::read(&self.event, &mut counter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn rung(wake: &Wake) -> bool {
        rustix::io::read(&wake.event, &mut [0u8; 8]).is_ok()
    }

    #[test]
    fn k11_the_bell_rings_once_for_what_is_wanted_and_not_for_anything_else() {
        let wake = Wake::new().unwrap();
        wake.progressed(100);
        assert!(!rung(&wake), "K11: nobody wants anything");
        wake.want(105);
        wake.want(103);
        wake.progressed(103);
        assert!(!rung(&wake), "K11: 103 is durable when there are 104");
        wake.progressed(104);
        assert!(rung(&wake) && !rung(&wake), "K11");
    }

    #[test]
    fn k11_whoever_asks_again_after_each_ring_misses_nothing() {
        let (wake, durable) = (Arc::new(Wake::new().unwrap()), Arc::new(AtomicU64::new(0)));
        let log = {
            let (wake, durable) = (Arc::clone(&wake), Arc::clone(&durable));
            std::thread::spawn(move || {
                for count in 1..=50_000 {
                    durable.store(count, Ordering::SeqCst);
                    wake.progressed(count);
                }
            })
        };
        for seq in (0..50_000).step_by(7) {
            loop {
                wake.want(seq);
                if durable.load(Ordering::SeqCst) > seq {
                    break;
                }
                loop {
                    let over = log.is_finished(); // read first: what is rung before the end is seen below
                    if rung(&wake) {
                        break;
                    }
                    assert!(!over, "K11: {seq} was never told");
                    std::thread::yield_now();
                }
            }
        }
        log.join().unwrap();
    }
}
