//! Group commit: from a line in memory to a line that survives a power cut.
//!
//! ```text
//!  append ── seq, chain (one short lock) ──▶ queue ──▶ signers ──▶ ordered write ──▶ sync ──▶ durable, head, progress
//!                                             bounded   threads     by whoever        a thread of its own
//!                                                                   completes it
//! ```
//! Why so: the signature is the bottleneck (9 µs of 10), so it runs beside everything else; a sync takes 0.2 ms
//! whatever it covers, so it covers all that was written meanwhile. Measured in docs/adr/0011-group-commit.md.
//!
//! Invariants
//! - P1 chunks are written in the order in which their records got their numbers.
//! - P2 `durable` moves only in the commit thread, after `sync_data` of every file up to the point it names (A2).
//! - P3 at most [`RECORDS_PER_SIGNER`] records a signer and [`BUFFER_BYTES_MAX`] bytes are not yet durable; callers
//!   wait. So an internal operation's record is on disk within about 2 ms, and a full disk's reserve covers the rest.
//! - P4 once dead nothing is written: not the queue, not `head` (A4).
//! - P5 an application's group is taken as it is signed: it waits while [`PORTION_PER_SIGNER`] records a signer are not
//!   written. So a record that comes beside a load has those before it, and what a sync covers, not a full buffer.

mod chunk;
mod commit;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use symbi_crypto::SigningKey;
use symbi_types::{Clock, LogId, Storage, StorageFile};

use crate::RECORD_BYTES_MAX;
use crate::chain::{SHORT_SUFFIX_BYTES, SUFFIX_BYTES};
use crate::head::{Point, SLOT_BYTES, Slot};
use crate::keeper::Goal;
use crate::options::{Owner, Signing};

use chunk::Chunk;
pub(crate) use chunk::End;

/// Records in the buffer for each signer: 200 × 9 µs is the 2 ms within which a record reaches the disk.
pub(crate) const RECORDS_PER_SIGNER: usize = 200;
/// Records of a group that are taken ahead of each signer: four chunks, so that none is ever without work (docs/adr/0252).
pub(crate) const PORTION_PER_SIGNER: usize = 64;
/// So many times as many where they share signatures: the bound in bytes is met first.
const GROUPED: usize = 4;
/// Bytes in the buffer. Less than the reserve, so that what was accepted can still be written on a full disk.
pub(crate) const BUFFER_BYTES_MAX: usize = 768 * 1024;
/// What is given back to a full disk.
pub(crate) const RESERVE_BYTES: usize = 1 << 20;
const _: () = assert!(BUFFER_BYTES_MAX + RECORD_BYTES_MAX <= RESERVE_BYTES);
/// `head` itself is synced this often; between, a power cut may leave an older one, which is allowed to be stale.
const HEAD_SYNC_NS: u64 = 1_000_000_000;

pub(crate) const DISK_FULL: &str = "the disk is full";

/// Whether the log takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Running,
    /// Takes no more, but brings to disk what it has.
    Draining(String),
    /// Nothing is written any more (P4).
    Dead(String),
    Closed,
}

struct Queue {
    chunks: VecDeque<Chunk>,
    next_number: u64,
    records: usize,
    /// Of these, those that are not in the file yet.
    unwritten: usize,
    bytes: usize,
    idle_signers: usize,
    waiting: usize,
    health: Health,
    stopping: bool,
}

/// The end of the log on its way out.
struct Writer {
    file: Arc<dyn StorageFile>,
    point: Point,
    next_number: u64,
    ready: BTreeMap<u64, Chunk>,
    reserve_used: bool,
    /// When the segment is old enough to be closed, by the clock that is never set.
    due_ns: u64,
}

/// What the commit thread is asked to make durable.
struct Target {
    point: Point,
    key: SigningKey,
    /// Segments that were closed since the last sync, with the first number of each.
    closed: Vec<(u64, Arc<dyn StorageFile>)>,
    file: Arc<dyn StorageFile>,
    stopping: bool,
}

/// A segment that is complete and on disk.
pub(crate) struct Closed {
    pub(crate) first: u64,
    /// The state of the log that a checkpoint may name now.
    pub(crate) goal: Option<Goal>,
}

/// The file `head`, written slot by slot.
pub(crate) struct HeadWriter {
    pub(crate) file: Box<dyn StorageFile>,
    /// The slot to write next: the one with fewer records, or the damaged one.
    pub(crate) next_slot: u64,
    pub(crate) synced_ns: u64,
    /// How many records the slot names that was written last; 0 before the first.
    pub(crate) records: u64,
}

impl HeadWriter {
    fn write(&mut self, log_id: LogId, point: &Point, key: &SigningKey) -> io::Result<()> {
        self.file.write_at(self.next_slot * SLOT_BYTES as u64, &Slot::encode(log_id, point, key))?;
        self.next_slot ^= 1;
        self.records = point.records;
        Ok(())
    }
}

pub(crate) type Progress = Arc<dyn Fn() + Send + Sync>;

/// What all threads of one open log share.
pub(crate) struct Pipeline {
    directory: PathBuf,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    log_id: LogId,
    records_max: usize,
    /// Records not yet written up to which a group is taken (P5).
    portion_max: usize,
    chunk_records: usize,
    segment_bytes_max: u64,
    segment_age_max_ns: u64,
    queue: Mutex<Queue>,
    /// Signers wait here for chunks.
    work: Condvar,
    /// Appenders, closers and waiters wait here for `durable` to move.
    moved: Condvar,
    writer: Mutex<Writer>,
    target: Mutex<Target>,
    commit: Condvar,
    head: Mutex<HeadWriter>,
    /// Whoever waits for `head` to name a record waits here.
    named: Condvar,
    durable: AtomicU64,
    progress: Mutex<Vec<Progress>>,
    sealer: Mutex<Option<Sender<Closed>>>,
}

/// What [`Pipeline::new`] starts from.
pub(crate) struct Start {
    pub(crate) directory: PathBuf,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log_id: LogId,
    pub(crate) key: SigningKey,
    pub(crate) point: Point,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) head: HeadWriter,
    pub(crate) signers: usize,
    pub(crate) signing: Signing,
    pub(crate) owner: Owner,
    pub(crate) segment_bytes_max: u64,
    pub(crate) segment_age_max_ns: u64,
    /// How old the segment is that is gone on with.
    pub(crate) segment_age_ns: u64,
    pub(crate) sealer: Option<Sender<Closed>>,
}

/// A lock whose holder panicked is still consistent here: every critical section is a few assignments.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipeline {
    pub(crate) fn new(start: Start) -> Self {
        let queue = Queue {
            chunks: VecDeque::new(),
            next_number: 0,
            records: 0,
            unwritten: 0,
            bytes: 0,
            idle_signers: 0,
            waiting: 0,
            health: Health::Running,
            stopping: false,
        };
        let writer = Writer {
            file: start.file.clone(),
            point: start.point,
            next_number: 0,
            ready: BTreeMap::new(),
            reserve_used: false,
            due_ns: start
                .clock
                .now()
                .mono_ns
                .saturating_add(start.segment_age_max_ns.saturating_sub(start.segment_age_ns)),
        };
        let target = Target {
            point: start.point,
            key: start.key,
            closed: Vec::new(),
            file: start.file,
            stopping: false,
        };
        let grouped = match start.signing {
            Signing::Event => 1,
            Signing::Group => GROUPED,
        };
        let records_max = RECORDS_PER_SIGNER * grouped * start.signers;
        Self {
            directory: start.directory,
            storage: start.storage,
            clock: start.clock,
            log_id: start.log_id,
            records_max,
            portion_max: match start.owner {
                Owner::Application => PORTION_PER_SIGNER * grouped * start.signers,
                Owner::Runtime => records_max, // the kernel gives each agent its share
            },
            chunk_records: start.signing.records_max(),
            segment_bytes_max: start.segment_bytes_max,
            segment_age_max_ns: start.segment_age_max_ns,
            queue: Mutex::new(queue),
            work: Condvar::new(),
            moved: Condvar::new(),
            writer: Mutex::new(writer),
            target: Mutex::new(target),
            commit: Condvar::new(),
            head: Mutex::new(start.head),
            named: Condvar::new(),
            durable: AtomicU64::new(start.point.records),
            progress: Mutex::new(Vec::new()),
            sealer: Mutex::new(start.sealer),
        }
    }

    // --- in ---------------------------------------------------------------------------------------------------

    /// Whether one more record fits now.
    pub(crate) fn has_room(&self, bytes: usize) -> Result<bool, Health> {
        let queue = lock(&self.queue);
        if queue.health != Health::Running {
            return Err(queue.health.clone());
        }
        let fits = queue.records < self.records_max && queue.bytes + bytes <= BUFFER_BYTES_MAX;
        Ok(fits || queue.records == 0)
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_waited_for(&self) -> bool {
        0 < lock(&self.queue).waiting
    }

    /// Waits until one more record fits (P3), answers how many do. Only the holder of the numbering lock adds, so the room
    /// stays.
    pub(crate) fn wait_for_room(&self, bytes: usize) -> Result<usize, Health> {
        self.wait_until_fits(bytes, usize::MAX)
    }

    /// As [`Pipeline::wait_for_room`], for one of many (P5).
    pub(crate) fn wait_for_portion(&self, bytes: usize) -> Result<usize, Health> {
        self.wait_until_fits(bytes, self.portion_max)
    }

    fn wait_until_fits(&self, bytes: usize, unwritten_max: usize) -> Result<usize, Health> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.health != Health::Running {
                return Err(queue.health.clone());
            }
            let room = self.records_max.saturating_sub(queue.records);
            let room = room.min(unwritten_max.saturating_sub(queue.unwritten));
            let fits = 0 < room && queue.bytes + bytes <= BUFFER_BYTES_MAX;
            if fits || queue.records == 0 {
                return Ok(room.max(1));
            }
            queue.waiting += 1;
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
    }

    /// So many more records are in the file. A group that waits goes on at half its portion: a wake-up for several chunks,
    /// and the signers have the other half meanwhile (P5).
    fn count_written(&self, queue: &mut Queue, records: usize) {
        let (half, before) = (self.portion_max / 2, queue.unwritten);
        queue.unwritten = before.saturating_sub(records);
        if 0 < queue.waiting && queue.unwritten <= half && half < before {
            self.moved.notify_all();
        }
    }

    /// Takes lines that have their numbers. Called under the numbering lock, so that the order is theirs (P1). What
    /// has a number is taken unless the log is dead, or there would be a gap.
    pub(crate) fn push(&self, key: &SigningKey, first: u64, lines: &[u8], ends: &[End]) -> bool {
        let mut queue = lock(&self.queue);
        if matches!(queue.health, Health::Dead(_)) {
            return false;
        }
        queue.records += ends.len();
        queue.unwritten += ends.len();
        queue.bytes += lines.len();
        let mut start = 0;
        let mut fresh = 0;
        for (seq, end) in (first..).zip(ends) {
            let line = lines.get(start..end.at).unwrap_or_default();
            start = end.at;
            let number = queue.next_number;
            let fits = |chunk: &&mut Chunk| {
                chunk.ends.len() < self.chunk_records && chunk.key.key_id() == key.key_id()
            };
            match queue.chunks.back_mut().filter(fits) {
                Some(chunk) => {
                    chunk.bytes.extend_from_slice(line);
                    chunk.ends.push(End { at: chunk.bytes.len(), ..*end });
                }
                None => {
                    let mut bytes = Vec::with_capacity(line.len() * 4);
                    bytes.extend_from_slice(line);
                    let mut ends = Vec::with_capacity(self.chunk_records);
                    ends.push(End { at: line.len(), ..*end });
                    queue.chunks.push_back(Chunk { number, first: seq, key: key.clone(), bytes, ends });
                    queue.next_number += 1;
                    queue.bytes += SUFFIX_BYTES - SHORT_SUFFIX_BYTES; // of the signature that it may get
                    fresh += 1;
                }
            }
        }
        let wake = fresh.min(queue.idle_signers);
        drop(queue);
        for _ in 0..wake {
            self.work.notify_one();
        }
        true
    }

    // --- signers ----------------------------------------------------------------------------------------------

    /// The life of a signer thread.
    pub(crate) fn sign_until_stopped(&self) {
        while let Some(mut chunk) = self.next_chunk() {
            chunk.sign();
            self.write_in_order(chunk);
        }
    }

    fn next_chunk(&self) -> Option<Chunk> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(chunk) = queue.chunks.pop_front() {
                return Some(chunk);
            }
            if queue.stopping {
                return None;
            }
            queue.idle_signers += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle_signers -= 1;
        }
    }

    // --- ends -------------------------------------------------------------------------------------------------

    /// From here on nothing is written (P4).
    fn die(&self, reason: &str) {
        let mut queue = lock(&self.queue);
        // One that is being closed dies too, or whoever closes it would wait for ever for what is never written.
        if matches!(queue.health, Health::Dead(_)) {
            return;
        }
        queue.health = Health::Dead(reason.to_owned());
        queue.chunks.clear();
        drop(queue);
        self.moved.notify_all();
        drop(lock(&self.head)); // whoever looked before is waiting now
        self.named.notify_all();
        self.announce();
    }

    /// Takes no more records. Called under the numbering lock, so that none has its number but not its place.
    pub(crate) fn refuse_more(&self) {
        let mut queue = lock(&self.queue);
        if queue.health == Health::Running {
            queue.health = Health::Closed;
        }
    }

    /// Waits until all records are durable, or the log is dead. One that drains has its last words still to say when
    /// its queue is empty: it ends by dying, and threads that stop before would leave the words unwritten.
    pub(crate) fn drain(&self) {
        let mut queue = lock(&self.queue);
        let goes_on = |queue: &Queue| match queue.health {
            Health::Dead(_) => false,
            Health::Draining(_) => true,
            Health::Running | Health::Closed => queue.records > 0,
        };
        while goes_on(&queue) {
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells the threads to end; they are joined by whoever made them.
    pub(crate) fn stop(&self) {
        lock(&self.queue).stopping = true;
        self.work.notify_all();
        lock(&self.target).stopping = true;
        self.commit.notify_all();
    }

    /// After the threads have ended: both slots of `head` name the end, on the platter.
    pub(crate) fn seal_head(&self) {
        if matches!(lock(&self.queue).health, Health::Dead(_)) {
            return;
        }
        let target = lock(&self.target);
        let mut head = lock(&self.head);
        let written = (0..2).try_for_each(|_| head.write(self.log_id, &target.point, &target.key));
        if let Err(error) = written.and_then(|()| head.file.sync_data()) {
            drop(head);
            drop(target);
            self.die(&format!("`head` could not be written: {error}"));
        }
    }

    // --- looking ----------------------------------------------------------------------------------------------

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn buffered(&self) -> usize {
        lock(&self.queue).records
    }

    pub(crate) fn records_max(&self) -> usize {
        self.records_max
    }

    pub(crate) fn health(&self) -> Health {
        lock(&self.queue).health.clone()
    }

    /// Waits until record `seq` is durable. `Ok(false)` when the time is up.
    pub(crate) fn wait_durable(&self, seq: u64, timeout: std::time::Duration) -> Result<bool, Health> {
        let pending = |queue: &mut Queue| self.durable() <= seq && !matches!(queue.health, Health::Dead(_));
        let queue = lock(&self.queue);
        let (queue, _) =
            self.moved.wait_timeout_while(queue, timeout, pending).unwrap_or_else(PoisonError::into_inner);
        match &queue.health {
            _ if self.durable() > seq => Ok(true),
            Health::Dead(_) => Err(queue.health.clone()),
            _ => Ok(false),
        }
    }

    /// Waits until `head` names record `seq`, which is durable, and syncs it. `Ok(false)` when the time is up.
    pub(crate) fn wait_named(&self, seq: u64, timeout: std::time::Duration) -> Result<bool, String> {
        let dead = || match self.health() {
            Health::Dead(reason) => Some(reason),
            _ => None,
        };
        let pending = |head: &mut HeadWriter| head.records <= seq && dead().is_none();
        let head = lock(&self.head);
        let (head, _) =
            self.named.wait_timeout_while(head, timeout, pending).unwrap_or_else(PoisonError::into_inner);
        if head.records <= seq {
            return dead().map_or(Ok(false), Err);
        }
        head.file.sync_data().map(|()| true).map_err(|error| format!("`head` could not be synced: {error}"))
    }

    pub(crate) fn on_progress(&self, progress: Progress) {
        lock(&self.progress).push(progress);
    }

    fn announce(&self) {
        let all = lock(&self.progress).clone();
        for progress in all {
            progress();
        }
    }
}

#[cfg(test)]
mod tests;
