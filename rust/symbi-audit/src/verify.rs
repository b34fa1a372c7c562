//! Verification: everything, by anyone, changing nothing (A8).
//!
//! Two threads: one reads, parses and recomputes the chain, the other checks signatures in groups; when the second
//! falls behind, the first helps. Goes on after a bad record (from the link that the line claims), so that one flaw
//! is told from many; the first is the one that counts.
//!
//! What it says, and no more: *consistent* (the trail agrees with itself; whoever holds a key could have made it),
//! *authentic* (the key is the one whose fingerprint was given), *complete* up to N (its first N records are those of
//! a checkpoint that was kept elsewhere: nothing of them was cut off, changed or signed anew).
//!
//! A checkpoint that is given vouches for what it covers: on demand those records are only hashed into its root, at
//! about a million a second, and signatures are checked after it.

mod compromise;
mod conclude;
mod desk;
mod seals;
mod walk;

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use desk::Desk;
use symbi_crypto::KeyId;
use symbi_types::{LogId, OpenMode, Storage, SystemStorage};
use walk::Walk;

use crate::checkpoint::Checkpoint;
use crate::head::{self, HEAD, Slot};
use crate::note::VerifierKey;

/// Signatures handed over at once.
const GROUP: usize = 512;
/// Findings kept; a trail that is damaged all over needs no more.
const FINDINGS_MAX: usize = 32;
/// Tries to read `head` between two writes of its owner.
const HEAD_TRIES: usize = 5;

/// What to verify against.
#[derive(Clone, Default)]
pub struct VerifyOptions {
    /// The fingerprint that was kept elsewhere: of record 0's key, or of the key that signed last.
    pub key: Option<KeyId>,
    /// Checkpoints that were kept elsewhere. All must hold.
    pub checkpoints: Vec<Checkpoint>,
    /// Witnesses, each of which must have signed the largest of these checkpoints.
    pub witnesses: Vec<VerifierKey>,
    /// Whether records under the largest of these checkpoints are taken from its root, without their signatures. Not in a
    /// range, where no root is judged.
    pub since_checkpoint: bool,
    /// Only records from here and before there; neither `head` nor checkpoints are judged then.
    pub range: Option<Range<u64>>,
    /// Which kinds of event are shown to whoever looks on; all where there is none. Of those that are not, and that a
    /// checkpoint vouches for, only what verifying needs is read.
    pub shown: Option<fn(&str) -> bool>,
    /// The file layer; the real one by default.
    pub storage: Option<Arc<dyn Storage>>,
}

/// A record on the way, once its chain holds and it or its group has a signature, or where a checkpoint is to vouch for
/// it: one that nobody signed is not shown. What is made of records is worth something only when the whole verification
/// succeeds: signatures and the checkpoint's root may not have been checked yet.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The line, newline included.
    pub line: &'a [u8],
    /// Its number.
    pub seq: u64,
    /// The log's time, microseconds since the Unix epoch.
    pub timestamp_us: u64,
    /// What kind of event.
    pub event_type: &'a str,
    /// What was decided, as JSON text or `null`.
    pub decision: &'a str,
    /// Under which policies, as JSON text or `null`.
    pub policy: &'a str,
    /// A JSON array of texts.
    pub labels: &'a str,
    /// A JSON object.
    pub details: &'a str,
}

/// What is shown every record.
type Visit<'a> = &'a mut dyn FnMut(&Seen<'_>);

/// How far the word of a verification goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Whole and unchanged since it was signed, by whomever.
    Consistent,
    /// And signed with the key whose fingerprint was given.
    Authentic,
    /// And nothing is missing or other than it was, up to a checkpoint that was kept elsewhere.
    Complete,
}

impl Level {
    /// As it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consistent => "consistent",
            Self::Authentic => "authentic",
            Self::Complete => "complete",
        }
    }
}

/// A trail that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The first record that was looked at: 0 but for a range.
    pub first: u64,
    /// How many of the first were pruned: their hashes are under the checkpoint, their content is gone.
    pub pruned: u64,
    /// Records that a key signed after others had it, as the log says: they hold, and prove nothing.
    pub distrusted: Vec<Range<u64>>,
    /// How many records, or where the range ends.
    pub records: u64,
    /// How many of them a checkpoint that was given vouches for; 0 without one.
    pub complete_to: u64,
    /// How many of them the checkpoint beside the log covers; `None` without one.
    pub checkpoint: Option<u64>,
    /// When the first and the last of the witnesses that were asked for signed, seconds since the Unix epoch.
    pub witnessed_s: Option<(u64, u64)>,
    /// The link of the last, in hex.
    pub head: String,
    /// How far the word goes.
    pub level: Level,
    /// The log's identity.
    pub log_id: LogId,
    /// Fingerprints of its keys, in the order of their use.
    pub keys: Vec<KeyId>,
    /// The time of the last record, microseconds since the Unix epoch.
    pub last_us: u64,
    /// Bytes after the last record: a line that is being written, or what a crash left. Nothing is said of them.
    pub tail_bytes: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub seq: u64,
    /// What.
    pub reason: String,
}

/// A trail that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {reason}")]
pub struct VerifyError {
    /// The first record that fails.
    pub seq: u64,
    /// What is wrong with it.
    pub reason: String,
    /// Whether records that `head` names are missing at the end.
    pub truncated: bool,
    /// What else is wrong, in order, at most 32.
    pub others: Vec<Finding>,
    /// Records whose chain and signature held.
    pub good: u64,
}

/// Verifies the trail in `directory`.
///
/// # Errors
/// [`VerifyError`] naming the first record that fails. One that cannot be read fails at record 0.
pub fn verify(directory: &Path, options: &VerifyOptions) -> Result<Verification, VerifyError> {
    let covered = vouched_to(options);
    if covered > 0 {
        // Where it does not hold, the long way names the record.
        if let Ok(verified) = walk_through(directory, options, covered, None) {
            return Ok(verified);
        }
    }
    walk_through(directory, options, 0, None)
}

/// Like [`verify`], and shows every record to `visit`, in order, on the calling thread.
///
/// # Errors
/// As [`verify`]; what `visit` was shown then counts for nothing. Where a checkpoint's root does not hold, which record is
/// the first that fails is for [`verify`] to say.
pub fn verify_with(
    directory: &Path,
    options: &VerifyOptions,
    visit: &mut dyn FnMut(&Seen<'_>),
) -> Result<Verification, VerifyError> {
    walk_through(directory, options, vouched_to(options), Some(visit))
}

/// How many records are taken from the root of a checkpoint: none in a range, where no root is judged.
fn vouched_to(options: &VerifyOptions) -> u64 {
    if !options.since_checkpoint || options.range.is_some() {
        return 0;
    }
    options.checkpoints.iter().map(Checkpoint::size).max().unwrap_or(0)
}

fn walk_through(
    directory: &Path,
    options: &VerifyOptions,
    vouched_to: u64,
    visit: Option<Visit<'_>>,
) -> Result<Verification, VerifyError> {
    let storage = options.storage.clone().unwrap_or_else(|| Arc::new(SystemStorage));
    let slots = read_head(&*storage, directory);
    let desk = Desk::default();
    let mut walk = Walk::new(&desk, options, vouched_to, visit);
    match &slots {
        Ok(slots) => walk.expect(slots),
        Err(reason) => walk.finding(0, reason.clone()),
    }
    walk.seals.read(&*storage, directory, options);
    walk.begin(&*storage, directory);
    std::thread::scope(|scope| {
        // A short trail is verified sooner than a thread is started.
        let helper = (walk.head_records > GROUP as u64).then(|| scope.spawn(|| desk.check_until_closed()));
        walk.segments(&*storage, directory);
        walk.flush();
        desk.close();
        desk.check_until_closed();
        // Its panic, if it had one, would leave groups unchecked: they count as not verified.
        if helper.is_some_and(|helper| helper.join().is_err()) {
            walk.finding(0, "the checking thread ended early");
        }
    });
    walk.conclude(options)
}

/// What kind of event a line is about, of which nothing is known but that a root, or the chain, is to vouch for it: before
/// that field stand numbers and ids, so that the first of this name is the record's own.
pub(crate) fn event_type(body: &[u8]) -> &str {
    const FIELD: &[u8] = b"\"event_type\":\"";
    static FINDER: LazyLock<memchr::memmem::Finder<'static>> =
        LazyLock::new(|| memchr::memmem::Finder::new(FIELD)); // it looks at the text once, not for each record
    let value = FINDER.find(body).and_then(|at| body.get(at + FIELD.len()..));
    let end = value.and_then(|value| memchr::memchr(b'"', value));
    value.zip(end).and_then(|(value, end)| std::str::from_utf8(value.get(..end)?).ok()).unwrap_or_default()
}

/// Both slots; a live writer may be in the middle of one, so a damaged slot is read again.
fn read_head(storage: &dyn Storage, directory: &Path) -> Result<Vec<Slot>, String> {
    let mut reason = String::new();
    for _ in 0..HEAD_TRIES {
        let slots = storage
            .open(&directory.join(HEAD), OpenMode::Read)
            .map_err(|error| format!("`head` cannot be opened: {error}"))
            .and_then(|file| head::read(&*file).map_err(|error| error.to_string()));
        match slots {
            Ok([Some(first), Some(second)]) => return Ok(vec![first, second]),
            Ok(_) => reason = "`head` is damaged".into(),
            Err(error) => reason = error,
        }
        std::thread::yield_now();
    }
    Err(reason)
}
