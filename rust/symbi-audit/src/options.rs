//! How a log is opened, and what its writer is told.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use symbi_crypto::{Provider, SigningKey};
use symbi_types::{
    BootId, Clock, Entropy, EventId, LogId, Storage, SystemClock, SystemEntropy, SystemStorage,
};

use crate::LogError;

/// Who writes a log. A runtime's is the kernel's alone: an application that appended to it could forge its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The kernel of a runtime.
    Runtime,
    /// A program that keeps a log of its own.
    Application,
}

impl Owner {
    /// As `log.opened` names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Application => "application",
        }
    }

    pub(crate) fn other(self) -> &'static str {
        match self {
            Self::Runtime => Self::Application.as_str(),
            Self::Application => Self::Runtime.as_str(),
        }
    }
}

/// What is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// Each record.
    #[default]
    Event,
    /// The last record of each group that goes to the disk together; the chain binds the others to it. A record that is
    /// to be shown alone is proven by its path to the root of a checkpoint. The log's own records each have a signature.
    Group,
}

impl Signing {
    /// Records that a signer takes at once: enough to forget the locks and, of a group, its signature; few enough to share
    /// among signers.
    pub(crate) const fn records_max(self) -> usize {
        match self {
            Self::Event => 16,
            Self::Group => 64,
        }
    }

    /// As it is written in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Group => "group",
        }
    }
}

impl FromStr for Signing {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "event" => Ok(Self::Event),
            "group" => Ok(Self::Group),
            _ => {
                Err(LogError::Event { reason: format!("`{text}` is not what is signed: `event` or `group`") })
            }
        }
    }
}

/// How a log is opened.
#[derive(Clone)]
pub struct LogOptions {
    /// Signs every record. On an existing log: the key whose turn it is.
    pub signing_key: SigningKey,
    /// The digest of the policies in force, for record 0. May be empty.
    pub policy_digest: String,
    /// Who writes it.
    pub owner: Owner,
    /// What is signed, from this opening on: a log may hold both.
    pub signing: Signing,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for ids and nonces.
    pub entropy: Arc<dyn Entropy>,
    /// Files.
    pub storage: Arc<dyn Storage>,
    /// Threads that sign, 1 to 16.
    pub signers: usize,
    /// A segment is closed when it has reached this size.
    pub segment_bytes_max: u64,
    /// And when its first record is this old, once another is written: an idle log does nothing.
    pub segment_age_max: Duration,
    /// Whether closed segments are compressed.
    pub seal_segments: bool,
    /// Whether a checkpoint is made when a segment is closed and when the log is.
    pub checkpoints: bool,
}

impl LogOptions {
    /// 64 MiB: a segment is compressed in a fifth of a second, and a trail of a year has hundreds, not millions.
    pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
    /// A day: what was written yesterday can be copied, and never changes again.
    pub const SEGMENT_AGE_DEFAULT: Duration = Duration::from_secs(86_400);
    /// Most signers: beyond it the ordered writer is the bottleneck.
    pub const SIGNERS_MAX: usize = 16;

    /// As [`LogOptions::new`], with the key of a seed, for callers that know no other cryptography.
    ///
    /// # Errors
    /// [`LogError::Event`] where `provider` is neither `aws-lc` nor `ring`.
    pub fn of_seed(provider: &str, seed: &[u8; 32], owner: Owner) -> Result<Self, LogError> {
        let provider: Provider = provider
            .parse()
            .map_err(|error: symbi_crypto::ProviderError| LogError::Event { reason: error.to_string() })?;
        Ok(Self::new(SigningKey::from_seed(provider, seed), owner))
    }

    /// The real clock, entropy and files; two signers, or one on a single core.
    #[must_use]
    pub fn new(signing_key: SigningKey, owner: Owner) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            signing_key,
            policy_digest: String::new(),
            owner,
            signing: Signing::Event,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            storage: Arc::new(SystemStorage),
            signers: cores.clamp(1, 4),
            segment_bytes_max: Self::SEGMENT_BYTES_DEFAULT,
            segment_age_max: Self::SEGMENT_AGE_DEFAULT,
            seal_segments: true,
            checkpoints: true,
        }
    }
}

/// What opening found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// The log's identity.
    pub log_id: LogId,
    /// Whether it was made just now: then `fingerprint` and `log_id` should be shown once, to be kept elsewhere.
    pub created: bool,
    /// Fingerprint of the key of record 0: what `verify --key` takes.
    pub fingerprint: String,
    /// Bytes beyond `head` that a crash had left and that were cut.
    pub cut_bytes: u64,
    /// Records that were there.
    pub records: u64,
    /// This opening.
    pub boot: BootId,
}

/// Whether the log takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogStatus {
    /// It does.
    Healthy,
    /// It does not, until it is opened again.
    Poisoned {
        /// Why.
        reason: String,
    },
    /// It was closed.
    Closed,
}

/// Where an event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its number.
    pub seq: u64,
    /// Its id.
    pub event_id: EventId,
    /// The log's time, microseconds since the Unix epoch.
    pub timestamp_us: u64,
    /// Its link of the chain.
    pub chain: [u8; 32],
}

/// The log's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTime {
    /// max(wall clock, last), microseconds since the Unix epoch.
    pub us: u64,
    /// By how much it was set forwards in jumps beyond the bound since the log was opened: `us - jumped_us` moves only
    /// as time does, so a window on it is not expired by a jump.
    pub jumped_us: u64,
}
