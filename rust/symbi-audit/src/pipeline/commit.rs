//! The commit thread: makes what was written durable, and says so (P2).

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use symbi_crypto::SigningKey;
use symbi_types::StorageFile;

use super::{Closed, DISK_FULL, HEAD_SYNC_NS, Health, Pipeline, lock};
use crate::head::Point;
use crate::keeper::Goal;

impl Pipeline {
    /// The life of the commit thread. `last_words` writes the record that says that the disk is full.
    pub(crate) fn commit_until_stopped(&self, last_words: impl Fn() -> bool) {
        self.commit_all(last_words);
        lock(&self.sealer).take(); // the sealer ends when it has done what it was sent
    }

    fn commit_all(&self, last_words: impl Fn() -> bool) {
        let mut spoken = false;
        while let Some((point, key, closed, file)) = self.next_target() {
            let synced =
                closed.iter().try_for_each(|(_, file)| file.sync_data()).and_then(|()| file.sync_data());
            let synced = if closed.is_empty() {
                synced
            } else {
                synced.and_then(|()| self.storage.sync_directory(&self.directory))
            };
            if let Err(error) = synced {
                self.die(&format!("a sync failed: {error}"));
                return;
            }
            let draining = self.advance(&point);
            self.announce();
            if let Err(error) = self.write_head(&point, &key) {
                self.die(&format!("`head` could not be written: {error}"));
                return;
            }
            if let Some(sealer) = &*lock(&self.sealer) {
                for (first, _) in closed {
                    let goal = Goal { records: point.records, chain: point.chain, key: key.clone() };
                    // A sealer that is gone leaves the segment plain; the next opening seals it.
                    let _ = sealer.send(Closed { first, goal: Some(goal) });
                }
            }
            if draining && std::mem::replace(&mut spoken, true) {
                self.die(DISK_FULL);
                return;
            }
            if draining && !last_words() {
                self.die(DISK_FULL);
                return;
            }
        }
    }

    /// The next point beyond what is durable; `None` when stopping.
    #[expect(clippy::type_complexity, reason = "the parts of a target, taken apart at its one caller")]
    fn next_target(
        &self,
    ) -> Option<(Point, SigningKey, Vec<(u64, Arc<dyn StorageFile>)>, Arc<dyn StorageFile>)> {
        let mut target = lock(&self.target);
        loop {
            if target.point.records > self.durable.load(Ordering::Acquire) {
                let closed = std::mem::take(&mut target.closed);
                return Some((target.point, target.key.clone(), closed, target.file.clone()));
            }
            if target.stopping {
                return None;
            }
            target = self.commit.wait(target).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Everything up to `point` is durable (P2). Answers whether a drain has run dry.
    fn advance(&self, point: &Point) -> bool {
        let mut queue = lock(&self.queue);
        let before = self.durable.swap(point.records, Ordering::AcqRel);
        assert!(before <= point.records, "A2: what is durable only grows");
        let count = usize::try_from(point.records - before).unwrap_or(usize::MAX);
        let average = queue.bytes / queue.records.max(1);
        queue.records = queue.records.saturating_sub(count);
        // Bytes by average: exact sizes would have to travel along, for a bound that is about magnitude.
        queue.bytes = if queue.records == 0 { 0 } else { queue.bytes.saturating_sub(average * count) };
        let dry = queue.records == 0 && matches!(queue.health, Health::Draining(_));
        drop(queue);
        self.moved.notify_all();
        dry
    }

    fn write_head(&self, point: &Point, key: &SigningKey) -> io::Result<()> {
        let mut head = lock(&self.head);
        head.write(self.log_id, point, key)?;
        self.named.notify_all();
        let now_ns = self.clock.now().mono_ns;
        if now_ns.saturating_sub(head.synced_ns) >= HEAD_SYNC_NS {
            head.file.sync_data()?;
            head.synced_ns = now_ns;
        }
        Ok(())
    }
}
