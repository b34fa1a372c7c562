//! The kernel: one opening of a runtime, composed.
//!
//! Why: log, policy, agents, bus, knowledge and scheduler are separate engines that know nothing of each other.
//! Here they are put behind the monitor, and this is the only crate that sees them all.
//! How it opens is in `opening`, which policies it goes by in `in_force`, what it keeps unreadable in `sealing`.
//! Not here: what each operation does (`agents`, `messages`, `knowledge`, `operators`), or how it is decided
//! (`monitor`).
//!
//! Invariants
//! - K25 locks of data are taken one at a time, except that the agents may be locked within the turns; none is held over a
//!   call into the log, except that changes of policy wait for one another, receivers for the record of what they
//!   are handed (K150), who needs an agent's key for the record of its certificate (K202), and who erases or holds a person
//!   for whoever does so already (ER7).
//! - K26 after `close` nothing can be asked for, and everything that was recorded is on disk.

mod erasing;
mod in_force;
mod opening;
mod sealing;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use symbi_audit::{Log, LogOptions, LogStatus, Reader};
use symbi_bus::Bus;
use symbi_scheduler::State;
use symbi_store::Store;
use symbi_types::{AgentId, Clock, Entropy, Moment, OperationId, RunId, Storage};

use crate::Principal;
use crate::admission::Admission;
use crate::approvals::Approvals;
use crate::brakes::LateBrakes;
use crate::canary::Canary;
use crate::collect::Collector;
use crate::counters::Counters;
use crate::denials::Denials;
use crate::described::Descriptions;
use crate::effects::Tool;
use crate::erasure::Persons;
use crate::flight::{InFlight, Place, Places};
use crate::knowledge::Unapplied;
use crate::messaging::Messaging;
use crate::obligations::Notices;
use crate::permit::PermitError;
use crate::pool::Pool;
use crate::recovery::{Recovery, Unknown};
use crate::registry::Registry;
use crate::share::Shares;
use crate::snapshot::Snapshots;
use crate::subjects::Subjects;
use crate::supervise::Handler;
use crate::turns::Turns;
use crate::wake::Wake;

pub(crate) use erasing::{Counted, Found};
pub use in_force::Policies;
pub(crate) use in_force::{ActivePolicies, compile_given};
pub use opening::{KeepingOptions, KernelError, KernelOptions, Opened};
use sealing::Sealing;
pub(crate) use sealing::{seal_key, unseal};

/// See the module.
pub struct Kernel {
    log: Arc<Log>,
    trail: PathBuf,
    pub(crate) key_directory: PathBuf,
    opened: Opened,
    /// As it was opened, but for the key, which is the one whose turn it is.
    pub(crate) log_options: Mutex<LogOptions>,
    policies: RwLock<Arc<ActivePolicies>>,
    /// Held from the record of a change to the change, so that the records stand in the order of the changes.
    pub(crate) changing_policies: Mutex<()>,
    enforce: bool,
    clock: Arc<dyn Clock>,
    entropy: Pool,
    digest_key: [u8; 32],
    sealing: Sealing,
    /// Persons and their keys; shared with the store.
    subjects: Arc<Subjects>,
    /// How far earlier openings saw the wall clock set forwards: counters do not move on that (K38).
    earlier_jumps_us: u64,
    admission: Mutex<Admission>,
    counters: Mutex<Counters>,
    denials: Mutex<Denials>,
    pub(crate) pending: Mutex<InFlight>,
    places: Places,
    pub(crate) shares: Mutex<Shares>,
    pub(crate) unknown: Mutex<HashMap<OperationId, Unknown>>,
    agents: Mutex<Registry>,
    agents_max: usize,
    turns: Mutex<Turns>,
    tools: Mutex<HashMap<String, Tool>>,
    handler: Mutex<Handler>,
    bus: Bus,
    pub(crate) messaging: Messaging,
    store: Store,
    pub(crate) unapplied: Mutex<Unapplied>,
    pub(crate) approvals: Mutex<Approvals>,
    /// Who was erased, and whom a legal hold protects.
    pub(crate) persons: Mutex<Persons>,
    /// Held over a whole erasure, and over a change of a hold: of two about one person one is first (ER7).
    pub(crate) deciding_on_persons: Mutex<()>,
    pub(crate) notices: Mutex<Notices>,
    pub(crate) canary: Canary,
    /// Why policies that were to be put in force are not.
    pub(crate) policy_problem: Mutex<Option<String>>,
    pub(crate) ready_mailboxes: Arc<Mutex<Vec<AgentId>>>,
    pub(crate) late: Mutex<LateBrakes>,
    pub(crate) is_late: AtomicBool,
    pub(crate) collector: Collector,
    storage: Arc<dyn Storage>,
    snapshots: Arc<Snapshots>,
    wake: Arc<Wake>,
    /// Rules that could not be evaluated, over all decisions.
    erring_rules: AtomicU64,
    /// Entities that the log has described (K110).
    pub(crate) descriptions: Mutex<Descriptions>,
    closed: AtomicBool,
}

/// A lock that survives a panic of its holder: the data are counts and maps that are valid after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    /// What the opening found.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The trail's directory.
    #[must_use]
    pub fn trail(&self) -> &Path {
        &self.trail
    }

    /// Writes what is still counted, waits until everything is on disk, closes the log. Twice is once (K26).
    ///
    /// # Errors
    /// The log could not be closed in order.
    pub fn close(&self) -> Result<(), symbi_audit::LogError> {
        if self.closed.swap(true, Ordering::SeqCst) {
            self.record_late_brakes(&lock(&self.log_options).clone()); // the disk may have room by now
            return Ok(());
        }
        self.snapshots.stop();
        self.close_all_traffic();
        self.flush_denials(true);
        self.catch_up();
        let closed = self.log.close();
        self.record_late_brakes(&lock(&self.log_options).clone());
        self.wake.ring();
        closed
    }

    /// Signs the state of the trail, with every record so far, and keeps it beside the trail.
    ///
    /// # Errors
    /// The log does not write, or what lies on disk is not what was written: then nothing was signed.
    pub fn checkpoint(&self) -> Result<symbi_audit::Checkpoint, symbi_audit::LogError> {
        self.flush_denials(true);
        self.log.checkpoint()
    }

    /// Number of records that are on disk: record `seq` is durable if and only if `seq < durable()`.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.log.durable()
    }

    /// Records that are not on disk yet; past a bound, whoever adds one waits.
    #[must_use]
    pub fn records_waiting(&self) -> usize {
        self.log.buffered()
    }

    /// Asks to be woken when `seq` is durable; true when it is already.
    #[must_use]
    pub fn want(&self, seq: u64) -> bool {
        self.wake.want(seq);
        self.log.durable() > seq
    }

    /// Waits, for callers without an event loop.
    ///
    /// # Errors
    /// The log failed, or it took longer than `timeout`.
    pub fn wait_durable(&self, seq: u64, timeout: Duration) -> Result<(), symbi_audit::LogError> {
        self.log.wait_durable(seq, timeout)
    }

    /// The descriptor that becomes readable when something is ready.
    #[must_use]
    pub fn wake_descriptor(&self) -> i32 {
        self.wake.descriptor()
    }

    /// Takes what has rung, applies the projections that became durable, and answers the agents whose mailbox
    /// is not empty any more.
    pub fn drain(&self) -> Vec<AgentId> {
        self.wake.drain();
        self.catch_up();
        self.apply_durable();
        std::mem::take(&mut *lock(&self.ready_mailboxes))
    }

    /// Why the log cannot write; none while it can.
    #[must_use]
    pub fn log_problem(&self) -> Option<String> {
        match self.log.status() {
            LogStatus::Healthy => None,
            LogStatus::Poisoned { reason } => Some(reason),
            LogStatus::Closed => Some("it is closed".to_owned()),
        }
    }

    /// The time that counters move on: the log's, less every jump of the wall clock.
    pub(crate) fn window_us(&self) -> u64 {
        let time = self.log.time();
        time.us.saturating_sub(time.jumped_us).saturating_sub(self.earlier_jumps_us)
    }

    /// Why nothing may be done now for `agent` in `run`, whatever was permitted before. One that stands still for others
    /// alone did nothing wrong: what it was permitted goes on.
    pub(crate) fn bars(&self, agent: Option<AgentId>, run: Option<RunId>) -> Option<PermitError> {
        if !self.log_is_healthy() {
            return Some(PermitError::Unavailable);
        }
        let agents = self.agents();
        let Some(known) = agents.get(agent?) else { return Some(PermitError::Revoked) };
        let over = run.is_some_and(|run| known.cancelled || known.running != Some(run));
        let alive = match known.state {
            State::Initializing | State::Ready | State::Running => true,
            State::Suspended => known.holds.is_empty(),
            State::Failed | State::Terminated => false,
        };
        (over || !alive).then_some(PermitError::Revoked)
    }

    // What the other files of this crate work with.

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    pub(crate) fn provider(&self) -> symbi_crypto::Provider {
        self.sealing.provider()
    }

    /// The trail, for reading.
    pub(crate) fn reader(&self) -> Result<Reader, symbi_audit::LogError> {
        Reader::with_storage(&self.trail, Arc::clone(&self.storage))
    }

    /// Recovery reads on, to what is on disk now.
    pub(crate) fn read_again(&self, reader: &Reader, state: &mut Recovery) -> Result<(), KernelError> {
        state.read_on(reader, self.durable(), &self.subjects)
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn log_is_healthy(&self) -> bool {
        !self.closed.load(Ordering::SeqCst) && matches!(self.log.status(), LogStatus::Healthy)
    }

    pub(crate) fn enforce(&self) -> bool {
        self.enforce
    }

    pub(crate) fn moment(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &self.entropy
    }

    /// Randomness for secrets: asked of the system each time.
    pub(crate) fn secrets(&self) -> Arc<dyn Entropy> {
        Arc::clone(&lock(&self.log_options).entropy)
    }

    pub(crate) fn admission(&self) -> MutexGuard<'_, Admission> {
        lock(&self.admission)
    }

    pub(crate) fn counters(&self) -> MutexGuard<'_, Counters> {
        lock(&self.counters)
    }

    pub(crate) fn denials(&self) -> MutexGuard<'_, Denials> {
        lock(&self.denials)
    }

    pub(crate) fn agents(&self) -> MutexGuard<'_, Registry> {
        lock(&self.agents)
    }

    pub(crate) fn agents_max(&self) -> usize {
        self.agents_max
    }

    /// Before the agents, where both are needed (K25).
    pub(crate) fn turns(&self) -> MutexGuard<'_, Turns> {
        lock(&self.turns)
    }

    pub(crate) fn ring(&self) {
        self.wake.ring();
    }

    pub(crate) fn tools(&self) -> MutexGuard<'_, HashMap<String, Tool>> {
        lock(&self.tools)
    }

    pub(crate) fn handler(&self) -> MutexGuard<'_, Handler> {
        lock(&self.handler)
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Persons and their keys.
    pub(crate) fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn release(&self, reservations: &[crate::counters::Reservation]) {
        if !reservations.is_empty() {
            let mut counters = self.counters();
            reservations.iter().for_each(|reservation| counters.release(reservation));
        }
    }

    /// The bytes of an operation are given now; false where they may not be any more.
    pub(crate) fn act(&self, operation: OperationId) -> bool {
        let now_ns = self.moment().mono_ns;
        lock(&self.pending).act(operation, now_ns)
    }

    /// A place for one more external operation of the agent; none where it has as many as it may.
    pub(crate) fn place(&self, principal: Principal) -> Option<Place> {
        self.places.take(principal)
    }

    /// External operations under way.
    #[must_use]
    pub fn operations_in_flight(&self) -> usize {
        lock(&self.pending).len()
    }
}
