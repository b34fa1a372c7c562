//! The log as its writer holds it: open, append, wait, rotate, close.
//!
//! Not here: the threads behind it (`pipeline`), what opening finds (`recover`).

mod keys;
mod numbering;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use numbering::{Clockwork, IdSource, Numbering, Shared, constant, unavailable};
use symbi_types::{BootId, LogId, OpenMode, Storage, StorageFile, StorageLock};

use crate::chain::{self, hex};
use crate::checkpoint::Checkpoint;
use crate::event::{self, Event};
use crate::head::{HEAD, Point, SLOT_BYTES, Slot};
use crate::keeper::{Goal, Keeper};
use crate::layout::{LOCK, RESERVE, Segment};
use crate::options::{LogOptions, LogStatus, LogTime, OpenReport, Receipt};
use crate::pipeline::{Closed, DISK_FULL, HeadWriter, Health, Pipeline, RESERVE_BYTES, Start, lock};
use crate::recover::{self, CUT, Found};
use crate::time::{Stamp, Timeline};
use crate::{LogError, Reader, check_event_type, prune};

/// How long opening waits for its own first records.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a checkpoint waits for what is buffered.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(30);
/// How far the thread that compresses steps back behind the others (setpriority(2), of one thread alone on Linux).
const SEAL_NICE: i32 = 10;

/// A log, open for writing. Threads share it by reference; it is closed when it is dropped.
pub struct Log {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
    lock: Mutex<Option<Box<dyn StorageLock>>>,
    keeper: Arc<Mutex<Keeper>>,
    /// Held by whoever holds, releases or prunes (RT3).
    retention: Mutex<()>,
    checkpoints: bool,
    seals: bool,
    storage: Arc<dyn Storage>,
    directory: PathBuf,
}

impl Log {
    /// Opens, or makes, the log in `directory`.
    ///
    /// # Errors
    /// [`LogError::Locked`], [`LogError::ChainBroken`], [`LogError::Truncated`], [`LogError::WrongKey`],
    /// [`LogError::Owned`], [`LogError::Io`]: nothing was changed. [`LogError::Unavailable`]: the first write failed.
    pub fn open(directory: &Path, options: &LogOptions) -> Result<(Self, OpenReport), LogError> {
        let storage = &options.storage;
        let shown = directory.display().to_string();
        storage.create_directory(directory).map_err(LogError::io(format!("cannot make `{shown}`")))?;
        let held = storage.lock(&directory.join(LOCK)).map_err(LogError::io("cannot open `lock`"))?;
        let held = held.ok_or(LogError::Locked { path: shown })?;
        let found = recover::examine(&**storage, directory, &options.signing_key, options.owner)?;
        if let Some(found) = &found {
            prune::finish(storage, directory, found.pruned)?;
        }
        let created = found.is_none();
        let mut found = match found {
            Some(found) => found,
            None => create(directory, options)?,
        };
        make_reserve(&**storage, directory)?;
        let file = open_segment(&**storage, directory, &mut found.point)?;
        let head = storage
            .open(&directory.join(HEAD), OpenMode::Write)
            .map_err(LogError::io("cannot open `head`"))?;
        let now = options.clock.now();
        let (timeline, jump) = Timeline::new(now, found.last_us);
        let age_us = match found.point.length {
            0 => 0,
            _ => timeline.log_us().saturating_sub(found.segment_us),
        };
        let (sealer, sealed) = mpsc::channel();
        if options.seal_segments {
            for first in &found.unsealed {
                let sent = sealer.send(Closed { first: *first, goal: None });
                debug_assert!(sent.is_ok(), "the receiver is here");
            }
        }
        let boot = BootId::random(&*options.entropy);
        let pipeline = Pipeline::new(Start {
            directory: directory.to_path_buf(),
            storage: storage.clone(),
            clock: options.clock.clone(),
            log_id: found.log_id,
            key: options.signing_key.clone(),
            point: found.point,
            file,
            head: HeadWriter { file: head, next_slot: found.next_slot, synced_ns: now.mono_ns, records: 0 },
            signers: options.signers.clamp(1, LogOptions::SIGNERS_MAX),
            signing: options.signing,
            owner: options.owner,
            segment_bytes_max: options.segment_bytes_max,
            segment_age_max_ns: u64::try_from(options.segment_age_max.as_nanos()).unwrap_or(u64::MAX),
            segment_age_ns: age_us.saturating_mul(1_000),
            sealer: Some(sealer),
        });
        let shared = Arc::new(Shared {
            pipeline,
            numbering: Mutex::new(Numbering {
                seq: found.point.records,
                chain: found.point.chain,
                key: options.signing_key.clone(),
                signing: options.signing,
                constant: constant(boot, &options.signing_key),
                ids: IdSource { block: Vec::new(), used: 0 },
                stamp: Stamp::default(),
                lines: Vec::new(),
                ends: Vec::new(),
                rest: Vec::new(),
            }),
            turnstile: Mutex::new(()),
            clockwork: Mutex::new(Clockwork { timeline, jump }),
            clock: options.clock.clone(),
            entropy: options.entropy.clone(),
            log_id: found.log_id,
            boot,
        });
        let log = Self {
            threads: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(held)),
            keeper: Arc::new(Mutex::new(Keeper::new(storage.clone(), directory, found.log_id))),
            retention: Mutex::new(()),
            checkpoints: options.checkpoints,
            seals: options.seal_segments,
            storage: storage.clone(),
            directory: directory.to_path_buf(),
            shared,
        };
        log.spawn(directory, options, sealed)?;
        log.first_records(created, &found, options)?;
        if !found.cuts.is_empty() {
            storage.remove(&directory.join(CUT)).map_err(LogError::io("cannot remove the note of a cut"))?;
        }
        let report = OpenReport {
            log_id: found.log_id,
            created,
            fingerprint: found.root,
            cut_bytes: found.cut_bytes,
            records: found.point.records,
            boot,
        };
        Ok((log, report))
    }

    fn spawn(
        &self,
        directory: &Path,
        options: &LogOptions,
        sealed: mpsc::Receiver<Closed>,
    ) -> Result<(), LogError> {
        let mut threads = lock(&self.threads);
        let mut start = |name: &str, work: Box<dyn FnOnce() + Send>| -> Result<(), LogError> {
            let thread = std::thread::Builder::new().name(format!("symbi-log-{name}")).spawn(work);
            threads.push(thread.map_err(LogError::io("cannot start a thread of the log"))?);
            Ok(())
        };
        for _ in 0..options.signers.clamp(1, LogOptions::SIGNERS_MAX) {
            let shared = self.shared.clone();
            start("sign", Box::new(move || shared.pipeline.sign_until_stopped()))?;
        }
        let shared = self.shared.clone();
        start("sync", Box::new(move || shared.pipeline.commit_until_stopped(|| shared.last_words())))?;
        let (storage, directory) = (options.storage.clone(), directory.to_path_buf());
        let (keeper, checkpoints) = (self.keeper.clone(), options.checkpoints);
        let seal_segments = options.seal_segments;
        let seal = move || {
            // Nobody waits for a compressed segment: writers come first. Where the system refuses, all are alike.
            let _ = rustix::process::setpriority_process(None, SEAL_NICE);
            for Closed { first, goal } in sealed {
                if let Some(goal) = goal.filter(|_| checkpoints) {
                    // Without one now the next one covers it too.
                    let _ = lock(&keeper).checkpoint(&goal);
                }
                if seal_segments {
                    // A segment that could not be compressed stays plain, and whole: the next opening tries again.
                    let _ = crate::seal::seal(&*storage, &directory, first);
                }
            }
        };
        start("seal", Box::new(seal))
    }

    /// `log.created` where the log is new, `log.opened` with a fresh nonce, what was cut; all durable before anyone
    /// else's first record.
    fn first_records(&self, created: bool, found: &Found, options: &LogOptions) -> Result<(), LogError> {
        let shared = &self.shared;
        if created {
            let mut details = format!(
                r#"{{"log_id":"{}","format":1,"root_key":"{}","policy":"#,
                shared.log_id,
                chain::base64(&options.signing_key.public().0)
            )
            .into_bytes();
            event::write_json_string(&options.policy_digest, &mut details);
            details.push(b'}');
            shared.append_own("log.created", &String::from_utf8_lossy(&details))?;
        }
        let mut nonce = [0u8; 16];
        shared.entropy.fill(&mut nonce);
        let opened = format!(r#"{{"nonce":"{}","owner":"{}"}}"#, hex(&nonce), options.owner.as_str());
        let mut last = shared.append_own("log.opened", &opened)?;
        for details in &found.cuts {
            last = shared.append_own("log.cut", details)?;
        }
        self.wait_durable(last.seq, OPEN_TIMEOUT)
    }

    /// Puts an event in the log's order. Returns before it is on disk; waits while the buffer is full.
    ///
    /// # Errors
    /// [`LogError::Event`] for one that cannot be recorded, [`LogError::Unavailable`].
    pub fn append(&self, event: &Event<'_>) -> Result<Receipt, LogError> {
        check(event)?;
        self.shared.append(event)
    }

    /// As [`Log::append`], for whoever must not wait: `None`, and nothing was taken, where `append` would have.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn try_append(&self, event: &Event<'_>) -> Result<Option<Receipt>, LogError> {
        check(event)?;
        self.shared.try_append(event)
    }

    /// Puts events in the log's order, one after the other, nothing between them but the log's own records. All are
    /// checked before the first is taken; a log that fails half-way has taken the first part.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_many(&self, events: &[Event<'_>]) -> Result<Range<u64>, LogError> {
        events.iter().try_for_each(check)?;
        self.shared.append_many(events)
    }

    /// How many records are on disk: record `seq` is durable exactly when `seq < durable()`.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.pipeline.durable()
    }

    /// Waits until record `seq` is on disk.
    ///
    /// # Errors
    /// [`LogError::Timeout`]; [`LogError::Unavailable`] when it will never be.
    pub fn wait_durable(&self, seq: u64, timeout: Duration) -> Result<(), LogError> {
        match self.shared.pipeline.wait_durable(seq, timeout) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LogError::Timeout { seq }),
            Err(health) => Err(unavailable(&health)),
        }
    }

    /// Has `progress` called, from the commit thread, after every sync and once when the log dies. It must be short
    /// and must not call back into the log except for `durable` and `status`.
    pub fn on_progress(&self, progress: Arc<dyn Fn() + Send + Sync>) {
        self.shared.pipeline.on_progress(progress);
    }

    /// Whether it takes records.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        self.shared.status()
    }

    /// How far it has come, for whoever is called by it: he must not be the last who holds it, for to close it is to wait for
    /// the very thread that calls him.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress(Arc::downgrade(&self.shared))
    }

    /// Records that are not on disk yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.shared.pipeline.buffered()
    }

    /// How many records the buffer takes before callers wait.
    #[must_use]
    pub fn buffer_max(&self) -> usize {
        self.shared.pipeline.records_max()
    }

    /// The log's time in microseconds since the Unix epoch: max(wall clock, last).
    #[must_use]
    pub fn now(&self) -> u64 {
        self.time().us
    }

    /// The log's time, and how far it was set forwards.
    #[must_use]
    pub fn time(&self) -> LogTime {
        let clockwork = self.shared.read_clock();
        LogTime { us: clockwork.timeline.log_us(), jumped_us: clockwork.timeline.jumped_us() }
    }

    /// The log's identity.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.shared.log_id
    }

    /// This opening.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.shared.boot
    }

    /// Signs the state of the log, with at least every record appended so far, and keeps it beside the log. Waits until
    /// they are on disk and reads them back; about a second for a million that no checkpoint covered.
    ///
    /// # Errors
    /// [`LogError`]: the log does not write, the tree could not be written, or what lies on disk is not what was
    /// written; then nothing was signed.
    pub fn checkpoint(&self) -> Result<Checkpoint, LogError> {
        let goal = self.goal();
        self.wait_durable(goal.records.saturating_sub(1), CHECKPOINT_TIMEOUT)?;
        lock(&self.keeper).checkpoint(&goal)
    }

    pub(crate) fn retention(&self) -> &Mutex<()> {
        &self.retention
    }

    /// Waits until `head` on the platter names record `seq`, which is durable.
    pub(crate) fn wait_named(&self, seq: u64, timeout: Duration) -> Result<(), LogError> {
        match self.shared.pipeline.wait_named(seq, timeout) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LogError::Timeout { seq }),
            Err(reason) => Err(LogError::Unavailable { reason }),
        }
    }

    /// Where it lies.
    pub(crate) fn place(&self) -> (&Arc<dyn Storage>, &Path) {
        (&self.storage, &self.directory)
    }

    pub(crate) fn reader(&self) -> Result<Reader, LogError> {
        Reader::with_storage(&self.directory, self.storage.clone())
    }

    /// Whether closed segments are packed.
    pub(crate) fn seals(&self) -> bool {
        self.seals
    }

    pub(crate) fn append_own(&self, event_type: &str, details: &str) -> Result<Receipt, LogError> {
        self.shared.append_own(event_type, details)
    }

    fn goal(&self) -> Goal {
        let numbering = lock(&self.shared.numbering);
        Goal { records: numbering.seq, chain: numbering.chain, key: numbering.key.clone() }
    }

    /// Brings everything to disk, names the end in `head` and lets the log go. A second call does nothing.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when what was appended did not all reach the disk.
    pub fn close(&self) -> Result<(), LogError> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let pipeline = &self.shared.pipeline;
        {
            let _order = lock(&self.shared.numbering);
            pipeline.refuse_more();
        }
        pipeline.drain();
        pipeline.stop();
        for thread in lock(&self.threads).drain(..) {
            // A thread of the log has no way to panic that its own health would not show.
            let _ = thread.join();
        }
        pipeline.seal_head();
        if self.checkpoints && pipeline.health() == Health::Closed {
            // All is on disk already; a checkpoint that could not be made is made by whoever asks for one.
            let _ = lock(&self.keeper).checkpoint(&self.goal());
        }
        lock(&self.lock).take();
        match pipeline.health() {
            Health::Dead(reason) if reason != DISK_FULL => Err(LogError::Unavailable { reason }),
            _ => Ok(()),
        }
    }
}

/// How far a log has come, without keeping it open.
#[derive(Clone)]
pub struct Progress(Weak<Shared>);

impl Progress {
    /// Whether it takes records, and how many of them are on disk; none where the log is gone.
    #[must_use]
    pub fn look(&self) -> Option<(LogStatus, u64)> {
        let shared = self.0.upgrade()?;
        Some((shared.status(), shared.pipeline.durable()))
    }
}

impl Shared {
    fn status(&self) -> LogStatus {
        match self.pipeline.health() {
            Health::Running => LogStatus::Healthy,
            Health::Draining(reason) | Health::Dead(reason) => LogStatus::Poisoned { reason },
            Health::Closed => LogStatus::Closed,
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Whoever wants to know whether it went well calls `close` himself.
        let _ = self.close();
    }
}

fn check(event: &Event<'_>) -> Result<(), LogError> {
    debug_assert!(crate::check_details(event.details).is_ok(), "details are JSON: {}", event.details);
    check_event_type(event.event_type)
}

/// A new log: `head` first, so that no segment ever stands without one.
fn create(directory: &Path, options: &LogOptions) -> Result<Found, LogError> {
    let log_id = LogId::random(&*options.entropy);
    let slot = Slot::encode(log_id, &Point::START, &options.signing_key);
    let write = || {
        let head = options.storage.open(&directory.join(HEAD), OpenMode::Create)?;
        head.set_size(0)?;
        head.write_at(0, &slot)?;
        head.write_at(SLOT_BYTES as u64, &slot)?;
        head.sync_data()?;
        options.storage.sync_directory(directory)
    };
    write().map_err(LogError::io("cannot write `head`"))?;
    Ok(Found {
        log_id,
        point: Point::START,
        last_us: 0,
        segment_us: 0,
        cuts: Vec::new(),
        cut_bytes: 0,
        next_slot: 0,
        root: options.signing_key.key_id().to_string(),
        unsealed: Vec::new(),
        pruned: 0,
    })
}

/// Real bytes, not a hole: what is deleted must free blocks. Made anew where a full disk had taken it.
fn make_reserve(storage: &dyn Storage, directory: &Path) -> Result<(), LogError> {
    let make = || {
        let file = storage.open(&directory.join(RESERVE), OpenMode::Create)?;
        if file.size()? == RESERVE_BYTES as u64 {
            return Ok(());
        }
        // Not zeros, which some file systems store as holes.
        let block: Vec<u8> = (0..=u8::MAX).cycle().take(RESERVE_BYTES).collect();
        file.write_at(0, &block)?;
        file.sync_data()
    };
    make().map_err(LogError::io("cannot write `reserve`"))
}

/// The segment that the next record goes to. After a sealed one (its empty successor was lost) a new one begins.
fn open_segment(
    storage: &dyn Storage,
    directory: &Path,
    point: &mut Point,
) -> Result<Arc<dyn StorageFile>, LogError> {
    let context = "cannot open the segment";
    let plain = directory.join(Segment::plain_name(point.segment));
    let there = point.records == 0 || storage.open(&plain, OpenMode::Read).is_ok();
    if !there {
        *point = Point { segment: point.records, length: 0, ..*point };
    }
    let path = directory.join(Segment::plain_name(point.segment));
    let file = storage.open(&path, OpenMode::Create).map_err(LogError::io(context))?;
    storage.sync_directory(directory).map_err(LogError::io(context))?;
    Ok(file.into())
}
