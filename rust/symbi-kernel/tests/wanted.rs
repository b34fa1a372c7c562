//! K11 under every order: the very text of `src/wanted.rs`, with atomics that shuttle orders.
//! `SYMBI_LONG=1` for a hundred times as many orders.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test: a fault is a failure"
)]

mod atomics {
    pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};
}
#[path = "../src/wanted.rs"]
mod wanted;

use std::sync::Arc;

use atomics::{AtomicU64, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;
use wanted::Wanted;

/// An eventfd: what rang before somebody reads is not lost.
#[derive(Default)]
struct Bell(Mutex<bool>, Condvar);

impl Bell {
    fn ring(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.0.lock().unwrap();
        while !*rung {
            rung = self.1.wait(rung).unwrap();
        }
        *rung = false;
    }
}

#[test]
fn k11_whoever_asks_again_after_each_ring_misses_nothing_in_any_order() {
    let orders = if std::env::var_os("SYMBI_LONG").is_some() { 100_000 } else { 1_000 };
    let model = || {
        let (wanted, durable, bell) =
            (Arc::new(Wanted::nothing()), Arc::new(AtomicU64::new(0)), Arc::new(Bell::default()));
        // Two threads of the log: progress is told by whichever has synced, perhaps at once.
        let logs = [2u64, 3].map(|count| {
            let (wanted, durable, bell) = (Arc::clone(&wanted), Arc::clone(&durable), Arc::clone(&bell));
            thread::spawn(move || {
                durable.fetch_max(count, Ordering::SeqCst);
                if wanted.progressed(durable.load(Ordering::SeqCst)) {
                    bell.ring();
                }
            })
        });
        // The loop: it waits for record 0, then for record 2, and asks again after each ring. One that is missed hangs here.
        for seq in [0, 2] {
            loop {
                wanted.want(seq);
                if seq < durable.load(Ordering::SeqCst) {
                    break;
                }
                bell.wait();
            }
        }
        logs.into_iter().for_each(|log| log.join().unwrap());
    };
    shuttle::check_random(model, orders);
    shuttle::check_pct(model, orders, 3);
}
