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

mod commit;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use symbi_crypto::SigningKey;
use symbi_types::{Clock, LogId, OpenMode, Storage, StorageFile};

use crate::RECORD_BYTES_MAX;
use crate::chain::{self, Link, SUFFIX_BYTES};
use crate::head::{Point, SLOT_BYTES, Slot};
use crate::keeper::Goal;
use crate::layout::{RESERVE, Segment};

/// Records in the buffer for each signer: 200 × 9 µs is the 2 ms within which a record reaches the disk.
pub(crate) const RECORDS_PER_SIGNER: usize = 200;
/// Bytes in the buffer. Less than the reserve, so that what was accepted can still be written on a full disk.
pub(crate) const BUFFER_BYTES_MAX: usize = 768 * 1024;
/// What is given back to a full disk.
pub(crate) const RESERVE_BYTES: usize = 1 << 20;
const _: () = assert!(BUFFER_BYTES_MAX + RECORD_BYTES_MAX <= RESERVE_BYTES);
/// Records that a signer takes at once: enough to forget the locks, few enough to share among signers.
const CHUNK_RECORDS: usize = 16;
/// `head` itself is synced this often; between, a power cut may leave an older one, which is allowed to be stale.
const HEAD_SYNC_NS: u64 = 1_000_000_000;
/// Linux: no space left, quota exceeded.
const FULL: [i32; 2] = [28, 122];

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

/// Records that a signer handles together: whole lines, of which the suffix is still empty.
pub(crate) struct Chunk {
    number: u64,
    key: SigningKey,
    bytes: Vec<u8>,
    ends: Vec<(usize, Link)>,
}

struct Queue {
    chunks: VecDeque<Chunk>,
    next_number: u64,
    records: usize,
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
}

impl HeadWriter {
    fn write(&mut self, log_id: LogId, point: &Point, key: &SigningKey) -> io::Result<()> {
        self.file.write_at(self.next_slot * SLOT_BYTES as u64, &Slot::encode(log_id, point, key))?;
        self.next_slot ^= 1;
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
    segment_bytes_max: u64,
    queue: Mutex<Queue>,
    /// Signers wait here for chunks.
    work: Condvar,
    /// Appenders, closers and waiters wait here for `durable` to move.
    moved: Condvar,
    writer: Mutex<Writer>,
    target: Mutex<Target>,
    commit: Condvar,
    head: Mutex<HeadWriter>,
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
    pub(crate) segment_bytes_max: u64,
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
        };
        let target = Target {
            point: start.point,
            key: start.key,
            closed: Vec::new(),
            file: start.file,
            stopping: false,
        };
        Self {
            directory: start.directory,
            storage: start.storage,
            clock: start.clock,
            log_id: start.log_id,
            records_max: RECORDS_PER_SIGNER * start.signers,
            segment_bytes_max: start.segment_bytes_max,
            queue: Mutex::new(queue),
            work: Condvar::new(),
            moved: Condvar::new(),
            writer: Mutex::new(writer),
            target: Mutex::new(target),
            commit: Condvar::new(),
            head: Mutex::new(start.head),
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

    /// Waits until one more record fits (P3). Only the holder of the numbering lock adds, so the room stays.
    pub(crate) fn wait_for_room(&self, bytes: usize) -> Result<usize, Health> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.health != Health::Running {
                return Err(queue.health.clone());
            }
            let fits = queue.records < self.records_max && queue.bytes + bytes <= BUFFER_BYTES_MAX;
            if fits || queue.records == 0 {
                return Ok(self.records_max.saturating_sub(queue.records).max(1));
            }
            queue.waiting += 1;
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
    }

    /// Takes lines that have their numbers. Called under the numbering lock, so that the order is theirs (P1). What
    /// has a number is taken unless the log is dead, or there would be a gap.
    pub(crate) fn push(&self, key: &SigningKey, lines: &[u8], ends: &[(usize, Link)]) -> bool {
        let mut queue = lock(&self.queue);
        if matches!(queue.health, Health::Dead(_)) {
            return false;
        }
        queue.records += ends.len();
        queue.bytes += lines.len();
        let mut start = 0;
        let mut fresh = 0;
        for &(end, link) in ends {
            let line = lines.get(start..end).unwrap_or_default();
            start = end;
            let number = queue.next_number;
            let fits =
                |chunk: &&mut Chunk| chunk.ends.len() < CHUNK_RECORDS && chunk.key.key_id() == key.key_id();
            match queue.chunks.back_mut().filter(fits) {
                Some(chunk) => {
                    chunk.bytes.extend_from_slice(line);
                    chunk.ends.push((chunk.bytes.len(), link));
                }
                None => {
                    let mut bytes = Vec::with_capacity(line.len() * 4);
                    bytes.extend_from_slice(line);
                    let mut ends = Vec::with_capacity(CHUNK_RECORDS);
                    ends.push((line.len(), link));
                    queue.chunks.push_back(Chunk { number, key: key.clone(), bytes, ends });
                    queue.next_number += 1;
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
            let mut start = 0;
            for &(end, link) in &chunk.ends {
                let signature = chunk.key.sign(&chain::event_message(&link));
                if let Some(place) = chunk.bytes.get_mut(start..end).and_then(|line| {
                    let from = line.len().checked_sub(SUFFIX_BYTES)?;
                    line.get_mut(from..)
                }) {
                    chain::write_suffix(place, &link, &signature);
                }
                start = end;
            }
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

    /// Writes this chunk and those that waited for it, as far as the order goes (P1).
    fn write_in_order(&self, chunk: Chunk) {
        let mut writer = lock(&self.writer);
        writer.ready.insert(chunk.number, chunk);
        loop {
            let number = writer.next_number;
            let Some(chunk) = writer.ready.remove(&number) else { return };
            writer.next_number += 1;
            if matches!(lock(&self.queue).health, Health::Dead(_)) {
                continue; // P4
            }
            if let Err(error) = self.write_chunk(&mut writer, &chunk) {
                self.die(&format!("a write failed: {error}"));
                return;
            }
        }
    }

    fn write_chunk(&self, writer: &mut Writer, chunk: &Chunk) -> io::Result<()> {
        let mut from = 0;
        let mut start = 0;
        let mut point = writer.point;
        for (at, &(end, link)) in chunk.ends.iter().enumerate() {
            point.records += 1;
            point.chain = link;
            point.length += (end - start) as u64;
            start = end;
            let roll = point.length >= self.segment_bytes_max;
            if roll || at + 1 == chunk.ends.len() {
                let lines = chunk.bytes.get(from..end).unwrap_or_default();
                let offset = writer.point.length;
                self.unless_full(
                    writer,
                    |writer| {
                        // A write that failed half-way leaves bytes that are not ours to build on.
                        if writer.file.size()? > offset {
                            writer.file.set_size(offset)?;
                        }
                        writer.file.write_at(offset, lines)
                    },
                    |writer| writer.file.write_at(offset, lines),
                )?;
                from = end;
                writer.point = point;
                let reached = point; // `head` names a record's end, not the empty segment after it
                let closed = if roll { Some(self.roll(writer)?) } else { None };
                point = writer.point;
                let mut target = lock(&self.target);
                target.closed.extend(closed);
                target.point = reached;
                target.key = chunk.key.clone();
                target.file = writer.file.clone();
                drop(target);
                self.commit.notify_one();
            }
        }
        Ok(())
    }

    /// Begins the next segment; answers the one that is now complete.
    fn roll(&self, writer: &mut Writer) -> io::Result<(u64, Arc<dyn StorageFile>)> {
        let path = self.directory.join(Segment::plain_name(writer.point.records));
        let open = |_: &mut Writer| self.storage.open(&path, OpenMode::Create);
        let file: Arc<dyn StorageFile> = self.unless_full(writer, open, open)?.into();
        let closed = (writer.point.segment, std::mem::replace(&mut writer.file, file));
        writer.point.segment = writer.point.records;
        writer.point.length = 0;
        Ok(closed)
    }

    /// Tries `first`; on a full disk gives the reserve back, tries `again` and drains: what was accepted is still
    /// written and acknowledged, nothing more is accepted. (Not so after a failed sync: there nothing is known.)
    fn unless_full<T>(
        &self,
        writer: &mut Writer,
        again: impl FnOnce(&mut Writer) -> io::Result<T>,
        first: impl FnOnce(&mut Writer) -> io::Result<T>,
    ) -> io::Result<T> {
        match first(writer) {
            Err(error)
                if error.raw_os_error().is_some_and(|code| FULL.contains(&code)) && !writer.reserve_used =>
            {
                writer.reserve_used = true;
                self.storage.remove(&self.directory.join(RESERVE))?;
                let value = again(writer)?;
                let mut queue = lock(&self.queue);
                if queue.health == Health::Running {
                    queue.health = Health::Draining(DISK_FULL.into());
                }
                drop(queue);
                self.moved.notify_all();
                Ok(value)
            }
            other => other,
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
