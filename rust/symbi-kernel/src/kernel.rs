//! The kernel: one opening of a runtime, composed.
//!
//! Why: log, policy, agents, bus, knowledge and scheduler are separate engines that know nothing of each other.
//! Here they are put behind the monitor, and this is the only crate that sees them all.
//! Not here: what each operation does (`agents`, `messages`, `knowledge`, `operators`), or how it is decided
//! (`monitor`).
//!
//! Invariants
//! - K25 locks of data are taken one at a time, except that the agents may be locked within the turns; none is held over a
//!   call into the log, except that changes of policy wait for one another.
//! - K26 after `close` nothing can be asked for, and everything that was recorded is on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use symbi_audit::{Event, Log, LogOptions, LogStatus, Owner};
use symbi_bus::Bus;
use symbi_crypto::{NonceCounter, Provider, SealingKey, SigningKey, hmac_sha256};
use symbi_policy::{CounterSpec, Diagnostic, Engine, Schema, Source};
use symbi_scheduler::{Node, NodeId, Scheduler, State};
use symbi_store::Store;
use symbi_types::{AgentId, BootId, Clock, Entropy, LogId, Moment, OperationId, ResourceVector, RunId};

use crate::Principal;
use crate::admission::{Admission, AdmissionLimits};
use crate::brakes::LateBrakes;
use crate::collect::Collector;
use crate::denials::Denials;
use crate::effects::Tool;
use crate::flight::{InFlight, Place, Places};
use crate::json::Object;
use crate::keys::{KeyError, Keys};
use crate::knowledge::Unapplied;
use crate::permit::PermitError;
use crate::recovery::{Recovery, Unknown};
use crate::registry::Registry;
use crate::share::Shares;
use crate::supervise::Handler;
use crate::tenants::Tenants;
use crate::turns::Turns;
use crate::wake::Wake;
use crate::window::Counters;

/// How a runtime is opened.
pub struct KernelOptions {
    /// The data directory; made 0700.
    pub data: PathBuf,
    /// The trail's directory, where it is not `<data>/trail`.
    pub trail: Option<PathBuf>,
    /// The policies in force; none means the built-in `secure-default`.
    pub policies: Option<Policies>,
    /// False only in development: decisions are made and recorded, and a denial does not stop anything.
    pub enforce: bool,
    /// Which cryptographic library.
    pub provider: Provider,
    /// Signing threads of the log.
    pub signers: usize,
    /// What the node has for agents.
    pub capacity: ResourceVector,
    /// How runs wait for it, and make room for one another.
    pub scheduling: symbi_scheduler::Options,
    /// What tenants may have; one that is not named has the default share.
    pub tenants: Vec<(String, symbi_scheduler::Share)>,
    /// Most agents at once.
    pub agents_max: usize,
    /// Messages and bytes that a mailbox holds.
    pub mailbox_depth_max: usize,
    /// See `mailbox_depth_max`.
    pub mailbox_bytes_max: usize,
    /// Operations of each agent.
    pub admission: AdmissionLimits,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The log's file layer, where it is not the file system.
    pub storage: Option<Arc<dyn symbi_types::Storage>>,
}

/// Policy texts and the counters they read.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Cedar texts.
    pub sources: Vec<Source>,
    /// Counters.
    pub counters: Vec<CounterSpec>,
}

/// Why a runtime did not open.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The data directory.
    #[error("data directory `{path}`: {source}")]
    Data {
        /// Which.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The log.
    #[error(transparent)]
    Log(#[from] symbi_audit::LogError),
    /// The trail could not be read again.
    #[error("the trail could not be read: {0}")]
    Recovery(String),
    /// The knowledge base.
    #[error(transparent)]
    Store(#[from] symbi_store::StoreError),
    /// The node that agents run on.
    #[error(transparent)]
    Node(#[from] symbi_scheduler::OptionsError),
    /// The wake-up descriptor.
    #[error("no wake-up descriptor: {0}")]
    Wake(std::io::Error),
    /// A built-in policy set does not compile: our own fault.
    #[error("a built-in policy set does not compile: {0}")]
    Builtin(String),
}

/// What is in force. The built-in operator set is the first layer of every engine.
pub(crate) struct ActivePolicies {
    pub(crate) engine: Engine,
    pub(crate) digest: String,
    /// Why the configured set is not in force. Then the engine holds the operator set alone: all else is refused.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl ActivePolicies {
    pub(crate) fn broken(&self) -> bool {
        !self.diagnostics.is_empty()
    }
}

/// What the opening found.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Whether the trail was made now.
    pub created: bool,
    /// The log's identity; keep it elsewhere, with the fingerprint.
    pub log_id: LogId,
    /// The signing key's fingerprint.
    pub fingerprint: String,
    /// This opening.
    pub boot: BootId,
    /// Records found.
    pub records: u64,
    /// Bytes cut from an unfinished tail.
    pub cut_bytes: u64,
    /// Operations of earlier openings whose outcome is unknown.
    pub unknown: usize,
}

/// See the module.
pub struct Kernel {
    log: Arc<Log>,
    trail: PathBuf,
    opened: Opened,
    log_options: LogOptions,
    policies: RwLock<Arc<ActivePolicies>>,
    /// Held from the record of a change to the change, so that the records stand in the order of the changes.
    pub(crate) changing_policies: Mutex<()>,
    enforce: bool,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    digest_key: [u8; 32],
    sealing: Sealing,
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
    store: Store,
    pub(crate) unapplied: Mutex<Unapplied>,
    pub(crate) ready_mailboxes: Arc<Mutex<Vec<AgentId>>>,
    pub(crate) late: Mutex<LateBrakes>,
    pub(crate) is_late: AtomicBool,
    pub(crate) collector: Collector,
    wake: Arc<Wake>,
    /// Rules that could not be evaluated, over all decisions.
    erring_rules: AtomicU64,
    closed: AtomicBool,
}

/// Sealing of what the log keeps unreadable: one key an opening, counted nonces, never random ones.
struct Sealing {
    keys: Keys,
    provider: Provider,
    key: SealingKey,
    salt: [u8; 16],
    nonces: Mutex<NonceCounter>,
}

fn seal_key(provider: Provider, keys: &Keys, salt: &[u8]) -> SealingKey {
    SealingKey::new(provider, *keys.derive(salt, "seal"))
}

/// Opens what a kernel with these keys has sealed; none where it did not.
pub(crate) fn unseal(provider: Provider, keys: &Keys, sealed: &str) -> Option<Vec<u8>> {
    let whole = base64::engine::general_purpose::STANDARD.decode(sealed).ok()?;
    let (salt, rest) = whole.split_first_chunk::<16>()?;
    let (nonce, cipher) = rest.split_first_chunk::<12>()?;
    let mut plain = cipher.to_vec();
    seal_key(provider, keys, salt).open(*nonce, salt, &mut plain).ok()?;
    Some(plain)
}

/// A lock that survives a panic of its holder: the data are counts and maps that are valid after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compiles policies as they were given, or says what is wrong with them.
pub(crate) fn compile_given(policies: &Policies) -> Result<ActivePolicies, Vec<Diagnostic>> {
    let engine = Engine::compile(Schema::Symbi, &policies.sources, &policies.counters)?;
    Ok(ActivePolicies { digest: engine.digest().to_owned(), engine, diagnostics: Vec::new() })
}

/// Compiles what is to be in force. A broken set compiles to one that refuses everything, and says why.
fn compile(policies: Option<&Policies>) -> Result<ActivePolicies, KernelError> {
    let builtin = |diagnostics: Vec<Diagnostic>| KernelError::Builtin(symbi_policy::render(&diagnostics));
    let compiled =
        match policies {
            None => Ok(Engine::compile(Schema::Symbi, &symbi_policy::builtin::secure_default(), &[])
                .map_err(builtin)?),
            Some(given) => Engine::compile(Schema::Symbi, &given.sources, &given.counters),
        };
    let (engine, diagnostics) = match compiled {
        Ok(engine) => (engine, Vec::new()),
        Err(diagnostics) => (Engine::compile(Schema::Symbi, &[], &[]).map_err(builtin)?, diagnostics),
    };
    Ok(ActivePolicies { digest: engine.digest().to_owned(), engine, diagnostics })
}

/// Under which settings this opening decides: what a reader of the trail must know to judge what follows.
fn record_opening(log: &Log, policies: &ActivePolicies, options: &KernelOptions) -> Result<(), KernelError> {
    let problem = if policies.broken() { "the configured policies do not compile" } else { "" };
    let details = Object::new()
        .string("version", env!("CARGO_PKG_VERSION"))
        .display("provider", options.provider)
        .flag("enforce", options.enforce)
        .string("problem", problem)
        .number("agents_max", options.agents_max as u64)
        .finish();
    let event = Event { policy: Some(&policies.digest), ..Event::new("runtime.opened", &details) };
    log.append(&event)?;
    Ok(())
}

/// Makes the data directory 0700 and hides it from git.
fn prepare(data: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    let mode = std::fs::metadata(data)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700))?;
    }
    let ignore = data.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(ignore, "*\n")?;
    }
    Ok(())
}

impl Kernel {
    /// Opens the runtime's data: keys, trail, projections; resumes what earlier openings left.
    ///
    /// # Errors
    /// [`KernelError`] says what could not be opened. Nothing is repaired silently.
    pub fn open(options: KernelOptions) -> Result<Arc<Self>, KernelError> {
        let trail = options.trail.clone().unwrap_or_else(|| options.data.join("trail"));
        prepare(&options.data).map_err(|source| KernelError::Data { path: options.data.clone(), source })?;
        let storage = options.storage.clone().unwrap_or_else(|| Arc::new(symbi_types::SystemStorage));
        let has_trail = storage.list(&trail).is_ok_and(|names| !names.is_empty());
        let keys = Keys::open(&options.data.join("keys"), has_trail, options.entropy.as_ref())?;
        let policies = compile(options.policies.as_ref())?;

        let signing_key = SigningKey::from_seed(options.provider, keys.signing_seed());
        let mut log_options = LogOptions::new(signing_key, Owner::Runtime);
        log_options.policy_digest.clone_from(&policies.digest);
        log_options.clock = Arc::clone(&options.clock);
        log_options.entropy = Arc::clone(&options.entropy);
        log_options.signers = options.signers;
        log_options.storage = Arc::clone(&storage);
        let (log, report) = Log::open(&trail, &log_options)?;
        let log = Arc::new(log);

        let mut recovery = Recovery::by(options.provider);
        if !report.created {
            let counters = options.policies.as_ref().map_or(&[][..], |policies| &policies.counters);
            let reader = symbi_audit::Reader::with_storage(&trail, storage)?;
            recovery.read(&reader, log.durable(), counters, &keys)?;
        }
        let store = Store::open(&options.data.join("state.db"), report.log_id, log.durable())?;
        recovery.project(&store)?;
        store.sweep()?;

        let wake = Arc::new(Wake::new().map_err(KernelError::Wake)?);
        let node = Node { id: NodeId(0), capacity: options.capacity };
        let mut scheduler = Scheduler::new(&[node], options.scheduling)?;
        let tenants = Tenants::new(&mut scheduler, &options.tenants)?;
        let bell = Arc::clone(&wake);
        let progress = Arc::downgrade(&log);
        log.on_progress(Arc::new(move || {
            let Some(log) = progress.upgrade() else { return };
            match log.status() {
                LogStatus::Healthy => bell.progressed(log.durable()),
                LogStatus::Poisoned { .. } | LogStatus::Closed => bell.ring(),
            }
        }));

        let ready_mailboxes = Arc::new(Mutex::new(Vec::new()));
        let bus = Bus::new(
            symbi_bus::BusOptions {
                mailbox_depth_max: options.mailbox_depth_max,
                mailbox_bytes_max: options.mailbox_bytes_max,
                ..symbi_bus::BusOptions::default()
            },
            Arc::clone(&options.entropy),
            options.provider,
        );
        let (bell, ready) = (Arc::clone(&wake), Arc::clone(&ready_mailboxes));
        bus.on_ready(Arc::new(move |agent| {
            lock(&ready).push(agent);
            bell.ring();
        }));

        let mut salt = [0u8; 16];
        options.entropy.fill(&mut salt);
        let digest_key = *keys.derive(b"", "digest");
        let sealing = Sealing {
            provider: options.provider,
            key: seal_key(options.provider, &keys, &salt),
            salt,
            nonces: Mutex::new(NonceCounter::default()),
            keys,
        };
        record_opening(&log, &policies, &options)?;
        let opened = Opened {
            created: report.created,
            log_id: report.log_id,
            fingerprint: report.fingerprint.clone(),
            boot: report.boot,
            records: report.records,
            cut_bytes: report.cut_bytes,
            unknown: recovery.unknown.len(),
        };
        Ok(Arc::new(Self {
            log,
            trail,
            opened,
            log_options,
            policies: RwLock::new(Arc::new(policies)),
            changing_policies: Mutex::default(),
            enforce: options.enforce,
            digest_key,
            sealing,
            earlier_jumps_us: recovery.jumped_us,
            admission: Mutex::new(Admission::new(options.admission)),
            counters: Mutex::new(recovery.counters),
            denials: Mutex::default(),
            pending: Mutex::default(),
            places: Places::default(),
            shares: Mutex::default(),
            unknown: Mutex::new(recovery.unknown),
            agents: Mutex::default(),
            agents_max: options.agents_max,
            turns: Mutex::new(Turns::new(scheduler, tenants)),
            tools: Mutex::default(),
            handler: Mutex::new(Handler::new(symbi_supervisor::Options::default())),
            bus,
            store,
            unapplied: Mutex::default(),
            ready_mailboxes,
            late: Mutex::default(),
            is_late: AtomicBool::new(false),
            collector: Collector::default(),
            wake,
            erring_rules: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            clock: options.clock,
            entropy: options.entropy,
        }))
    }

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
            self.record_late_brakes(&self.log_options); // the disk may have room by now
            return Ok(());
        }
        self.flush_denials(true);
        self.catch_up();
        let closed = self.log.close();
        self.record_late_brakes(&self.log_options);
        self.wake.ring();
        closed
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

    /// The digest of the policies in force.
    #[must_use]
    pub fn policy_digest(&self) -> String {
        self.policies().digest.clone()
    }

    /// How often a rule could not be evaluated since the opening: not applied if it permits, obeyed if it forbids.
    #[must_use]
    pub fn erring_rules(&self) -> u64 {
        self.erring_rules.load(Ordering::Relaxed)
    }

    pub(crate) fn note_erring_rules(&self, count: usize) {
        self.erring_rules.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Why the configured policies are not in force; empty where they are.
    #[must_use]
    pub fn policy_diagnostics(&self) -> Vec<Diagnostic> {
        self.policies().diagnostics.clone()
    }

    /// Puts compiled policies in force.
    pub(crate) fn activate(&self, active: ActivePolicies, counters: &[CounterSpec]) {
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(active);
        self.counters().retain(|name| counters.iter().any(|known| known.name == name));
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

    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn log_is_healthy(&self) -> bool {
        !self.closed.load(Ordering::SeqCst) && matches!(self.log.status(), LogStatus::Healthy)
    }

    pub(crate) fn policies(&self) -> Arc<ActivePolicies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn enforce(&self) -> bool {
        self.enforce
    }

    pub(crate) fn moment(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
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

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Keyed digest of arguments, in hex: equal arguments are recognisable here and guessable nowhere.
    pub(crate) fn digest(&self, arguments: &[u8]) -> String {
        self.digest_bytes(arguments).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same, as bytes.
    pub(crate) fn digest_bytes(&self, arguments: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.digest_key, &[arguments])
    }

    /// Seals a text for the log: base64 of salt (16) ‖ nonce (12) ‖ ciphertext and tag.
    pub(crate) fn seal(&self, plain: &[u8]) -> String {
        let Ok(nonce) = lock(&self.sealing.nonces).next_nonce() else { return String::new() };
        let mut sealed = plain.to_vec();
        if self.sealing.key.seal(nonce, &self.sealing.salt, &mut sealed).is_err() {
            return String::new();
        }
        let mut whole = Vec::with_capacity(28 + sealed.len());
        whole.extend_from_slice(&self.sealing.salt);
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&sealed);
        base64::engine::general_purpose::STANDARD.encode(whole)
    }

    /// Opens what this runtime sealed in a record, now or earlier; none where it did not.
    #[must_use]
    pub fn unseal(&self, sealed: &str) -> Option<Vec<u8>> {
        unseal(self.sealing.provider, &self.sealing.keys, sealed)
    }

    pub(crate) fn release(&self, reservations: &[crate::window::Reservation]) {
        if !reservations.is_empty() {
            let mut counters = self.counters();
            reservations.iter().for_each(|reservation| counters.release(reservation));
        }
    }

    /// The bytes of an operation are given now; false where they may not be any more.
    pub(crate) fn act(&self, operation: OperationId) -> bool {
        lock(&self.pending).act(operation)
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
