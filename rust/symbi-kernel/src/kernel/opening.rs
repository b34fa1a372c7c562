//! Opening a runtime's data: keys, trail, projections; what earlier openings left is resumed.
//!
//! Not here: what an open kernel does (`kernel` and the rest of the crate), what is read again (`recovery`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use symbi_audit::{Event, Log, LogOptions, LogStatus, Owner, Signing};
use symbi_bus::Bus;
use symbi_crypto::{KeyId, Provider, SigningKey};
use symbi_scheduler::{Node, NodeId, Scheduler};
use symbi_store::Store;
use symbi_types::{BootId, Clock, Entropy, LogId, ResourceVector};

use super::in_force::{ActivePolicies, Policies, compile};
use super::sealing::Sealing;
use super::{Kernel, lock};
use zeroize::Zeroizing;

use crate::admission::{Admission, AdmissionLimits};
use crate::agent_keys::record_certificate;
use crate::canary::Canary;
use crate::collect::Collector;
use crate::flight::Places;
use crate::json::Object;
use crate::keys::{KeyError, Keys};
use crate::message_key;
use crate::messaging::{Messaging, MessagingOptions};
use crate::pool::Pool;
use crate::recovery::Recovery;
use crate::snapshot::Snapshots;
use crate::subjects::{SubjectError, Subjects};
use crate::supervise::Handler;
use crate::tenants::Tenants;
use crate::turns::Turns;
use crate::wake::Wake;

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
    /// What the key files are encrypted with; none leaves them to the file system's modes.
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
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
    /// Breakers and retry budgets.
    pub supervision: symbi_supervisor::Options,
    /// Operations of each agent.
    pub admission: AdmissionLimits,
    /// How messages are delivered.
    pub messaging: MessagingOptions,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The log's file layer, where it is not the file system.
    pub storage: Option<Arc<dyn symbi_types::Storage>>,
    /// Records after which what was worked out of them is written down, for the next opening.
    pub snapshot_records: u64,
    /// Directories that hold a copy of each person's key: written when one is made, destroyed when one is erased.
    pub subject_key_backups: Vec<PathBuf>,
    /// What is signed of the trail, when its segments are closed, how long it is kept.
    pub keeping: KeepingOptions,
}

/// How the trail is kept.
#[derive(Clone, Copy, Debug)]
pub struct KeepingOptions {
    /// What is signed.
    pub signing: Signing,
    /// A segment is closed when its first record is this old.
    pub segment_age_max: Duration,
    /// Closed segments whose records are all older go; `None`: none do.
    pub retention: Option<Duration>,
}

impl Default for KeepingOptions {
    fn default() -> Self {
        Self {
            signing: Signing::default(),
            segment_age_max: LogOptions::SEGMENT_AGE_DEFAULT,
            retention: None,
        }
    }
}

/// Why a runtime did not open.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The data directory.
    #[error("data directory `{path}`: {source}; name one that can be made and written")]
    Data {
        /// Which.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The keys of persons.
    #[error(transparent)]
    Subjects(#[from] SubjectError),
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
    /// Breakers or retry budgets.
    #[error(transparent)]
    Supervision(#[from] symbi_supervisor::OptionsError),
    /// The wake-up descriptor.
    #[error("no wake-up descriptor: {0}")]
    Wake(std::io::Error),
    /// A thread of the kernel.
    #[error("no thread: {0}")]
    Thread(std::io::Error),
    /// A built-in policy set does not compile: our own fault.
    #[error("a built-in policy set does not compile: {0}")]
    Builtin(String),
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
    /// Records that were read again: those behind the last snapshot.
    pub replayed: u64,
}

/// Under which settings this opening decides: what a reader of the trail must know to judge what follows.
fn record_opening(
    log: &Log,
    policies: &ActivePolicies,
    options: &KernelOptions,
    message_key: KeyId,
) -> Result<(), KernelError> {
    let problem = if policies.broken() { "the configured policies do not compile" } else { "" };
    let details = Object::new()
        .string("version", env!("CARGO_PKG_VERSION"))
        .display("provider", options.provider)
        .flag("enforce", options.enforce)
        .display("message_key", message_key)
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
        options.supervision.check()?;
        let trail = options.trail.clone().unwrap_or_else(|| options.data.join("trail"));
        prepare(&options.data).map_err(|source| KernelError::Data { path: options.data.clone(), source })?;
        let storage = options.storage.clone().unwrap_or_else(|| Arc::new(symbi_types::SystemStorage));
        let has_trail = storage.list(&trail).is_ok_and(|names| !names.is_empty());
        let keys = Keys::open(
            &options.data.join("keys"),
            has_trail,
            options.entropy.as_ref(),
            options.passphrase.as_ref().map(|passphrase| passphrase.as_slice()),
        )?;
        let policies = compile(options.policies.as_ref())?;

        let signing_key = SigningKey::from_seed(options.provider, keys.signing_seed());
        let mut log_options = LogOptions::new(signing_key.clone(), Owner::Runtime);
        log_options.policy_digest.clone_from(&policies.digest);
        log_options.clock = Arc::clone(&options.clock);
        log_options.entropy = Arc::clone(&options.entropy);
        log_options.signers = options.signers;
        log_options.storage = Arc::clone(&storage);
        log_options.signing = options.keeping.signing;
        log_options.segment_age_max = options.keeping.segment_age_max;
        let (log, report) = Log::open(&trail, &log_options)?;
        let log = Arc::new(log);

        let mut recovery = Recovery::by(options.provider);
        let keys = Arc::new(keys);
        let subjects = Arc::new(Subjects::new(
            Subjects::of_data(&options.data),
            options.subject_key_backups.clone(),
            options.provider,
            Arc::clone(&keys),
            Arc::clone(&options.entropy),
        ));
        let vault: Arc<dyn symbi_store::Vault> = Arc::<Subjects>::clone(&subjects);
        let state = options.data.join("state.db");
        let store = Store::open_with(&state, report.log_id, log.durable(), Some(vault))?;
        if !report.created {
            let reader = symbi_audit::Reader::with_storage(&trail, Arc::clone(&storage))?;
            recovery.read(&reader, log.durable(), store.applied_seq()?, &subjects)?;
        }
        subjects.mark_erased(recovery.persons.erased());
        recovery.forget_earlier();
        recovery.project(&store)?;
        store.sweep()?;

        let wake = Arc::new(Wake::new().map_err(KernelError::Wake)?);
        let node = Node { id: NodeId(0), capacity: options.capacity };
        let mut scheduler = Scheduler::new(&[node], options.scheduling)?;
        let tenants = Tenants::new(&mut scheduler, &options.tenants)?;
        let bell = Arc::clone(&wake);
        let progress = log.progress();
        let snapshots =
            Arc::new(Snapshots::every(options.snapshot_records, recovery.next, options.keeping.retention));
        let clerk = Arc::clone(&snapshots);
        log.on_progress(Arc::new(move || {
            let Some((status, durable)) = progress.look() else { return };
            match status {
                LogStatus::Healthy => {
                    bell.progressed(durable);
                    clerk.progressed(durable);
                }
                LogStatus::Poisoned { .. } | LogStatus::Closed => bell.ring(),
            }
        }));

        let ready_mailboxes = Arc::new(Mutex::new(Vec::new()));
        let message_key = message_key::open(
            &options.data.join("keys"),
            (recovery.message_key, &signing_key),
            options.provider,
            options.entropy.as_ref(),
            options.passphrase.as_ref().map(|passphrase| passphrase.as_slice()),
        )?;
        let bus = Bus::with_authority(
            symbi_bus::BusOptions {
                mailbox_depth_max: options.mailbox_depth_max,
                mailbox_bytes_max: options.mailbox_bytes_max,
                workers: options.signers,
                ..symbi_bus::BusOptions::default()
            },
            Arc::clone(&options.entropy),
            options.provider,
            message_key, // the runtime's word for its agents
        )
        .map_err(|error| KeyError::unusable(&options.data.join("keys"), &error))?;
        let (bell, ready) = (Arc::clone(&wake), Arc::clone(&ready_mailboxes));
        bus.on_ready(Arc::new(move |agent| {
            if !crate::here::noted(agent) {
                lock(&ready).push(agent);
                bell.ring();
            }
        }));

        let book = Arc::clone(&log);
        bus.on_certified(Arc::new(move |certificate| record_certificate(&book, certificate))); // K202

        let digest_key = *keys.derive(b"", "digest");
        let sealing = Sealing::new(options.provider, &keys, options.entropy.as_ref());
        record_opening(&log, &policies, &options, bus.authority().key_id())?;
        let opened = Opened {
            created: report.created,
            log_id: report.log_id,
            fingerprint: report.fingerprint.clone(),
            boot: report.boot,
            records: report.records,
            cut_bytes: report.cut_bytes,
            unknown: recovery.unknown.len(),
            replayed: recovery.read,
        };
        let state = recovery.again();
        let kernel = Arc::new(Self {
            log,
            storage,
            snapshots,
            trail,
            key_directory: options.data.join("keys"),
            opened,
            log_options: Mutex::new(log_options),
            policies: RwLock::new(Arc::new(policies)),
            changing_policies: Mutex::default(),
            enforce: options.enforce,
            digest_key,
            sealing,
            subjects,
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
            handler: Mutex::new(Handler::new(options.supervision)),
            bus,
            messaging: Messaging::new(options.messaging, recovery.letters),
            store,
            unapplied: Mutex::default(),
            approvals: Mutex::new(recovery.approvals),
            persons: Mutex::new(recovery.persons),
            deciding_on_persons: Mutex::default(),
            notices: Mutex::default(),
            canary: Canary::default(),
            policy_problem: Mutex::default(),
            ready_mailboxes,
            late: Mutex::default(),
            is_late: AtomicBool::new(false),
            collector: Collector::default(),
            wake,
            erring_rules: AtomicU64::new(0),
            descriptions: Mutex::default(),
            closed: AtomicBool::new(false),
            clock: options.clock,
            entropy: Pool::new(options.entropy),
        });
        kernel.finish_erasures()?; // before anything is asked of it
        kernel.snapshots().start(&kernel, state)?;
        Ok(kernel)
    }
}
