//! Randomness for ids, asked for in blocks: a run needs three ids, and a system call each costs as much as making them.
//!
//! Not here: keys, salts and nonces, which ask the system each time.
//!
//! Invariants
//! - K124 no byte is handed out twice.

use std::sync::{Arc, Mutex};

use symbi_types::Entropy;

use crate::kernel::lock;

/// Bytes that are asked for at once: 256 ids.
const BLOCK_BYTES: usize = 4_096;
/// Longest request that is served from a block.
const SHORT_BYTES: usize = 32;

/// See the module.
pub(crate) struct Pool {
    source: Arc<dyn Entropy>,
    /// What is left of the block, taken from its end.
    left: Mutex<Vec<u8>>,
}

impl Pool {
    pub(crate) fn new(source: Arc<dyn Entropy>) -> Self {
        Self { source, left: Mutex::default() }
    }
}

impl Entropy for Pool {
    fn fill(&self, buffer: &mut [u8]) {
        if SHORT_BYTES < buffer.len() {
            return self.source.fill(buffer);
        }
        let mut left = lock(&self.left);
        if left.len() < buffer.len() {
            left.resize(BLOCK_BYTES, 0);
            self.source.fill(&mut left);
        }
        let rest = left.len() - buffer.len();
        for (to, from) in buffer.iter_mut().zip(left.drain(rest..)) {
            *to = from; // K124
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use symbi_types::{RunId, SystemEntropy};

    #[test]
    fn k124_ids_from_a_pool_are_all_different_across_blocks_and_threads() {
        let pool = Arc::new(Pool::new(Arc::new(SystemEntropy)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || {
                    (0..2_000).map(|_| RunId::random(pool.as_ref())).collect::<Vec<RunId>>()
                })
            })
            .collect();
        let ids: Vec<RunId> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "K124");
    }

    #[test]
    fn k124_requests_of_every_length_get_what_the_source_gave_once() {
        /// Counts upwards, so that a byte that comes twice is seen.
        struct Counting(Mutex<u8>);
        impl Entropy for Counting {
            fn fill(&self, buffer: &mut [u8]) {
                let mut next = self.0.lock().unwrap();
                for byte in buffer {
                    *byte = *next;
                    *next = next.wrapping_add(1);
                }
            }
        }
        let pool = Pool::new(Arc::new(Counting(Mutex::new(0))));
        let mut counts = [0usize; 256];
        let mut total = 0;
        for length in (0..=SHORT_BYTES).cycle().take(2_000) {
            let mut buffer = vec![0; length];
            pool.fill(&mut buffer);
            buffer.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
            total += length;
        }
        let blocks = total.div_ceil(BLOCK_BYTES) + 1;
        assert!(counts.iter().all(|count| *count <= blocks * (BLOCK_BYTES / 256)), "K124");
        let mut long = vec![0; SHORT_BYTES + 1];
        pool.fill(&mut long);
        assert!(long.iter().any(|byte| *byte != 0));
    }
}
