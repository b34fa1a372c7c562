//! Recorded operations, decided again under other policies.
//!
//! Why: before a policy is put in force one wants to know what it would have done to last month. The trail holds what
//! each decision saw, so the question has an exact answer; and as an answer from a changed trail is worth nothing, the
//! trail is verified on the way.
//! Not here: effects (nothing is done again), counters that were not kept then (`undecidable`), writing.
//!
//! One thread reads and recomputes the chain, one checks signatures, the others decide, in groups.
//!
//! Invariants
//! - WI1 an answer is given only when the whole trail verifies.
//! - WI2 what cannot be decided is counted with its reason, never guessed.
//! - WI3 only what policy decided is decided again: limits of rate, suspensions and broken sets are not.

mod record;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use serde_json::Value as Json;
use symbi_audit::{Checkpoint, Seen, Verification, VerifyError, VerifyOptions, verify_with};
use symbi_policy::{Decision, Diagnostic, Engine, Learner, Proposal};

use crate::kernel::lock;
use crate::sealed::Opener;

pub use record::Undecidable;
use record::{Group, Reading, Word};

/// Records handed over at once.
const GROUP: usize = 512;
/// Groups that may wait.
const GROUPS_MAX: usize = 8;
/// Flips told one by one; more are counted.
pub const FLIPS_MAX: usize = 10_000;

/// What is to be read.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The data directory: its keys open what is sealed.
    pub data: PathBuf,
    /// What those keys are encrypted with, if they are.
    pub passphrase: Option<Vec<u8>>,
    /// The trail.
    pub trail: PathBuf,
    /// At this time or later, microseconds since the Unix epoch.
    pub since_us: Option<u64>,
    /// Before this time.
    pub until_us: Option<u64>,
    /// Verify against this fingerprint.
    pub key: Option<symbi_audit::KeyId>,
    /// A checkpoint that was kept elsewhere: what it covers is taken from its root, without single signatures.
    pub checkpoint: Option<Checkpoint>,
    /// Threads that decide; 0 takes one a core.
    pub threads: usize,
}

impl Replay {
    fn opener(&self) -> Option<Opener> {
        Opener::new(&self.data, self.passphrase.as_deref())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The trail does not hold (WI1).
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Something compiled in does not compile.
    #[error("{}", symbi_policy::render(.0))]
    Policies(Vec<Diagnostic>),
}

/// What brought a flip about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// This rule decides now.
    Rule(String),
    /// No rule permits it any more.
    NoPermit,
    /// The other set cannot decide it: an unknown action, a rule that errs.
    Failed(&'static str),
}

/// A decision that would fall differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The record.
    pub seq: u64,
    /// Its time, microseconds since the Unix epoch.
    pub timestamp_us: u64,
    /// Who asked, as policy sees it.
    pub principal: String,
    /// For what.
    pub action: String,
    /// On what.
    pub resource: String,
    /// `allow`, `deny`, or what was owed, such as `redact` or `approval+redact`.
    pub was: String,
    /// The same, now.
    pub now: String,
    /// Why.
    pub cause: Cause,
}

/// The answer.
#[derive(Debug)]
pub struct Replayed {
    /// How far the trail can be trusted.
    pub verification: Verification,
    /// Decisions that were made again.
    pub decided: u64,
    /// Those that would fall differently, in order, at most [`FLIPS_MAX`].
    pub flips: Vec<Flip>,
    /// How many there are in all.
    pub flipped: u64,
    /// Decisions that could not be made again, by reason.
    pub undecidable: BTreeMap<Undecidable, u64>,
}

/// What was learnt.
#[derive(Debug)]
pub struct Learned {
    /// How far the trail can be trusted.
    pub verification: Verification,
    /// The rules.
    pub proposal: Proposal,
    /// Operations that could not be read, by reason: the proposal does not cover them.
    pub undecidable: BTreeMap<Undecidable, u64>,
}

/// What one thread found.
#[derive(Default)]
struct Found {
    decided: u64,
    flips: Vec<Flip>,
    flipped: u64,
    undecidable: BTreeMap<Undecidable, u64>,
}

impl Found {
    fn merge(&mut self, other: Self) {
        self.decided += other.decided;
        self.flipped += other.flipped;
        self.flips.extend(other.flips);
        for (why, count) in other.undecidable {
            *self.undecidable.entry(why).or_default() += count;
        }
    }
}

/// What entities are, by the number of the record that says it.
type Entities = RwLock<HashMap<u64, Result<Arc<Json>, Undecidable>>>;

/// Decides the recorded operations of a trail under `engine`.
///
/// # Errors
/// The trail does not verify (WI1).
pub fn what_if(replay: &Replay, engine: &Engine) -> Result<Replayed, ReplayError> {
    let (verification, found) = read(replay, |reading, group| decide(reading, engine, group))?;
    let mut all = Found::default();
    found.into_iter().for_each(|one| all.merge(one));
    all.flips.sort_by_key(|flip| flip.seq);
    all.flips.truncate(FLIPS_MAX);
    let Found { decided, flips, flipped, undecidable } = all;
    Ok(Replayed { verification, decided, flips, flipped, undecidable })
}

/// Proposes the least policies that allow what was allowed, or let through without being enforced.
///
/// # Errors
/// The trail does not verify (WI1).
pub fn learn(replay: &Replay) -> Result<Learned, ReplayError> {
    let learners = Mutex::new(Vec::new());
    let (verification, found) = read(replay, |reading, group| {
        let mut found = Found::default();
        // One learner a thread at a time: it is taken, filled, and put back.
        let taken = lock(&learners).pop();
        let mut learner = match taken {
            Some(learner) => learner,
            None => Learner::new().map_err(ReplayError::Policies)?,
        };
        for row in group.rows() {
            if row.word == Word::Deny {
                continue;
            }
            match reading.request(group, row, None) {
                Ok(Some((mut asked, _))) => learner.add(&asked.request()),
                Ok(None) => {}
                Err(why) => *found.undecidable.entry(why).or_default() += 1,
            }
        }
        lock(&learners).push(learner);
        Ok(found)
    })?;
    let mut all = Found::default();
    found.into_iter().for_each(|one| all.merge(one));
    let mut whole = Learner::new().map_err(ReplayError::Policies)?;
    lock(&learners).drain(..).for_each(|learner| whole.merge(learner));
    Ok(Learned { verification, proposal: whole.propose(), undecidable: all.undecidable })
}

/// `deny`, `allow`, or what was owed, in one spelling.
fn answer(denied: bool, mut owed: Vec<String>) -> String {
    if denied {
        return "deny".to_owned();
    }
    owed.sort();
    owed.dedup();
    if owed.is_empty() { "allow".to_owned() } else { owed.join("+") }
}

fn told(decision: &Decision) -> String {
    let owed = decision.obligations().iter().map(|one| one.name().to_owned()).collect();
    answer(decision.is_denied(), owed)
}

fn decide(reading: &mut Reading<'_>, engine: &Engine, group: &Group) -> Result<Found, ReplayError> {
    let mut found = Found::default();
    for row in group.rows() {
        let (mut asked, owed) = match reading.request(group, row, Some(engine)) {
            Ok(Some(read)) => read,
            Ok(None) => {
                found.decided += 1;
                continue; // as it was, and as it was decided before
            }
            Err(why) => {
                *found.undecidable.entry(why).or_default() += 1;
                continue;
            }
        };
        found.decided += 1;
        let decision = engine.evaluate(&asked.request());
        if row.word == Word::Allow && owed.is_empty() && decision.is_allowed() {
            reading.fell_the_same();
            continue; // as it was: nearly always
        }
        let (was, now) =
            (answer(row.word == Word::Deny || row.word == Word::Unenforced, owed), told(&decision));
        if was == now {
            continue;
        }
        found.flipped += 1;
        if found.flips.len() >= FLIPS_MAX {
            continue;
        }
        let cause = match (decision.rule(), decision.reason) {
            (Some(rule), _) => Cause::Rule(rule.id.clone()),
            (None, Some(symbi_policy::Reason::NoPermit) | None) => Cause::NoPermit,
            (None, Some(reason)) => Cause::Failed(reason.as_str()),
        };
        found.flips.push(Flip {
            seq: row.seq,
            timestamp_us: row.timestamp_us,
            principal: asked.principal.uid().to_string(),
            action: asked.action.clone(),
            resource: asked.resource.uid().to_string(),
            was,
            now,
            cause,
        });
    }
    Ok(found)
}

/// Verifies the trail and hands what policy decided to `work`, in groups, on several threads.
fn read(
    replay: &Replay,
    work: impl Fn(&mut Reading<'_>, &Group) -> Result<Found, ReplayError> + Sync,
) -> Result<(Verification, Vec<Found>), ReplayError> {
    let entities = Entities::default();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = if replay.threads == 0 { cores } else { replay.threads };
    let options = VerifyOptions {
        key: replay.key,
        checkpoints: replay.checkpoint.iter().cloned().collect(),
        since_checkpoint: replay.checkpoint.is_some(),
        shown: Some(record::is_read),
        ..VerifyOptions::default()
    };
    let (give, take) = sync_channel::<Group>(GROUPS_MAX);
    let take = Arc::new(Mutex::new(take));
    let (verified, found) = thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| take_groups(&take, &entities, replay, &work))).collect();
        let verified = hand_out(replay, &options, &entities, give);
        // A thread that panicked has lost its part: then there is no answer at all.
        let found: Option<Result<Vec<Found>, ReplayError>> =
            running.into_iter().map(|thread| thread.join().ok()).collect();
        (verified, found)
    });
    let found = found.unwrap_or_else(|| {
        let text = "a thread that decides ended early".to_owned();
        Err(VerifyError { seq: 0, reason: text, truncated: false, others: Vec::new(), good: 0 }.into())
    });
    Ok((verified?, found?))
}

fn hand_out(
    replay: &Replay,
    options: &VerifyOptions,
    entities: &Entities,
    give: SyncSender<Group>,
) -> Result<Verification, VerifyError> {
    let mut group = Group::default();
    let mut opener = replay.opener();
    let mut visit = |seen: &Seen<'_>| {
        if seen.event_type == "entity.described" {
            let entity = record::described(seen.details, opener.as_mut()).map(Arc::new);
            entities.write().unwrap_or_else(PoisonError::into_inner).insert(seen.seq, entity);
            return;
        }
        let before = replay.since_us.is_some_and(|since| seen.timestamp_us < since);
        let after = replay.until_us.is_some_and(|until| seen.timestamp_us >= until);
        if before || after || !group.take(seen) {
            return;
        }
        if group.rows().len() >= GROUP {
            let _ = give.send(std::mem::take(&mut group)); // nobody takes: then it shows at their end
        }
    };
    let verified = verify_with(&replay.trail, options, &mut visit);
    let _ = give.send(group);
    verified
}

fn take_groups(
    take: &Mutex<Receiver<Group>>,
    entities: &Entities,
    replay: &Replay,
    work: &(impl Fn(&mut Reading<'_>, &Group) -> Result<Found, ReplayError> + Sync),
) -> Result<Found, ReplayError> {
    let mut reading = Reading::new(entities, replay.opener());
    let mut all = Found::default();
    loop {
        let Ok(group) = lock(take).recv() else { return Ok(all) };
        all.merge(work(&mut reading, &group)?);
    }
}
