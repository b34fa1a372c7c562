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

mod desk;
mod seals;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use desk::{Claim, Desk};
use seals::Seals;
use symbi_crypto::{KeyId, PublicKey};
use symbi_types::{LogId, OpenMode, Storage, SystemStorage};

use crate::chain::{self, Link, hex};
use crate::checkpoint::Checkpoint;
use crate::head::{self, HEAD, Point, Slot};
use crate::layout::{self, Lines};
use crate::note::VerifierKey;
use crate::pipeline::lock;
use crate::record::View;
use crate::recover::{Created, rotated};

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
    /// Whether records under the largest of these checkpoints are taken from its root, without their signatures.
    pub since_checkpoint: bool,
    /// Only records from here and before there; neither `head` nor checkpoints are judged then.
    pub range: Option<Range<u64>>,
    /// The file layer; the real one by default.
    pub storage: Option<Arc<dyn Storage>>,
}

/// A record on the way, once its chain holds, or where a checkpoint is to vouch for it. What is made of records is worth
/// something only when the whole verification succeeds: signatures and the checkpoint's root may not have been checked yet.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
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
    let covered = options.checkpoints.iter().map(Checkpoint::size).max().unwrap_or(0);
    if options.since_checkpoint && covered > 0 {
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
    let covered = options.checkpoints.iter().map(Checkpoint::size).max().unwrap_or(0);
    walk_through(directory, options, if options.since_checkpoint { covered } else { 0 }, Some(visit))
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

/// The reading side.
struct Walk<'a, 'v> {
    desk: &'a Desk,
    visit: Option<Visit<'v>>,
    group: Vec<Claim>,
    slots: Vec<Slot>,
    /// Points that `head` names, met on the way.
    met: BTreeMap<u64, (Point, PublicKey)>,
    head_records: u64,
    log_id: Option<LogId>,
    keys: Vec<PublicKey>,
    key_id: String,
    signer: Option<PublicKey>,
    point: Point,
    last_us: u64,
    tail_bytes: u64,
    good: u64,
    findings: Vec<Finding>,
    truncated: bool,
    seals: Seals,
    /// Records below this are taken from a root, or lie before the range.
    skipped_to: u64,
    range: Option<Range<u64>>,
}

impl<'a, 'v> Walk<'a, 'v> {
    fn new(desk: &'a Desk, options: &VerifyOptions, vouched_to: u64, visit: Option<Visit<'v>>) -> Self {
        let first = options.range.as_ref().map_or(0, |range| range.start);
        Self {
            seals: Seals::default(),
            skipped_to: first.max(vouched_to),
            range: options.range.clone(),
            desk,
            visit,
            group: Vec::with_capacity(GROUP),
            slots: Vec::new(),
            met: BTreeMap::new(),
            head_records: 0,
            log_id: None,
            keys: Vec::new(),
            key_id: String::new(),
            signer: None,
            point: Point::START,
            last_us: 0,
            tail_bytes: 0,
            good: 0,
            findings: Vec::new(),
            truncated: false,
        }
    }

    fn expect(&mut self, slots: &[Slot]) {
        self.slots = slots.to_vec();
        self.head_records = slots.iter().map(|slot| slot.point.records).max().unwrap_or(0);
    }

    fn finding(&mut self, seq: u64, reason: impl Into<String>) {
        if self.findings.len() <= FINDINGS_MAX {
            self.findings.push(Finding { seq, reason: reason.into() });
        }
    }

    fn segments(&mut self, storage: &dyn Storage, directory: &Path) {
        let mut after = None;
        // The list is read again at its end: a live writer may have begun another segment meanwhile.
        loop {
            let segments = match layout::segments(storage, directory) {
                Ok(segments) => segments,
                Err(error) => return self.finding(self.point.records, error.to_string()),
            };
            let next = segments.into_iter().find(|segment| after.is_none_or(|after| segment.first > after));
            let Some(segment) = next else { return };
            after = Some(segment.first);
            if segment.first != self.point.records {
                self.finding(
                    self.point.records,
                    format!("the next segment begins at record {}", segment.first),
                );
                self.point.records = segment.first;
            }
            self.point.segment = segment.first;
            self.point.length = 0;
            if self.findings.len() > FINDINGS_MAX || self.is_past() {
                return;
            }
            if let Err(error) = self.segment(storage, directory, &segment) {
                self.finding(self.point.records, format!("its segment: {error}"));
            }
        }
    }

    fn segment(
        &mut self,
        storage: &dyn Storage,
        directory: &Path,
        segment: &layout::Segment,
    ) -> std::io::Result<()> {
        let mut lines = match Lines::open(storage, directory, segment) {
            // Sealed since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !segment.sealed => {
                let sealed = layout::Segment { first: segment.first, sealed: true };
                Lines::open(storage, directory, &sealed)?
            }
            other => other?,
        };
        while let Some(line) = lines.next_line()? {
            if self.findings.len() > FINDINGS_MAX || self.is_past() {
                return Ok(());
            }
            let held = if self.point.records < self.skipped_to { self.pass(line) } else { self.line(line) };
            if let Err(reason) = held {
                self.finding(self.point.records, reason);
                self.resume(line);
            }
        }
        if !lines.torn().is_empty() {
            self.tail_bytes = lines.torn().len() as u64;
            let following = layout::segments(storage, directory).unwrap_or_default();
            let last = following.iter().all(|other| other.first <= segment.first);
            if !last || self.point.records < self.head_records || lines.sealed {
                self.finding(self.point.records, "its line has no end");
            }
        }
        Ok(())
    }

    fn is_past(&self) -> bool {
        self.range.as_ref().is_some_and(|range| self.point.records >= range.end)
    }

    /// A record that a checkpoint vouches for, or that stands before the range: what the next ones need is taken
    /// from it.
    fn pass(&mut self, line: &[u8]) -> Result<(), String> {
        let seq = self.point.records;
        let (body, link, _) = chain::split(line).ok_or("the line does not end in a chain and a signature")?;
        let rotates = memchr::memmem::find(body, b"\"event_type\":\"key.rotated\"").is_some();
        self.signer = self.keys.last().copied();
        if seq == 0 || rotates || seq + 1 == self.skipped_to {
            let view = View::parse(line).map_err(|error| error.to_string())?;
            if seq == 0 {
                let created = Created::of(&view).ok_or("record 0 is not a complete `log.created`")?;
                self.log_id = Some(created.log_id);
                self.turn(created.root);
                self.signer = Some(created.root);
            } else if view.event_type == "key.rotated" {
                let (log_id, key) = self.log_id.zip(self.signer).ok_or("record 0 is missing")?;
                // Keys must come from the root by signatures, though nothing else here is checked.
                if chain::link(log_id, seq, &self.point.chain, body) != link {
                    return Err("the chain does not match the body and the records before it".into());
                }
                let message = chain::event_message(&link);
                key.verify(&message, &view.signature).map_err(|_| "the signature does not verify")?;
                let new = rotated(&view, log_id, &key).ok_or("the new key did not sign the rotation")?;
                self.turn(new);
            }
            self.last_us = view.timestamp_us;
        }
        if let Some(visit) = &mut self.visit {
            let view = View::parse(line).map_err(|error| error.to_string())?;
            if view.seq != seq {
                return Err(format!("record {} stands in its place", view.seq));
            }
            visit(&view.seen());
        }
        self.seals.add(body, &link);
        self.reach(seq + 1, link, line.len());
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let view = View::parse(line).map_err(|error| error.to_string())?;
        let seq = self.point.records;
        if view.seq > seq {
            return Err(format!("it is missing: the next record is {}", view.seq));
        }
        if view.seq < seq {
            return Err(format!("record {} stands in its place", view.seq));
        }
        if (view.event_type == "log.created") != (seq == 0) {
            return Err("`log.created` is record 0, and only that".into());
        }
        if seq == 0 {
            let created = Created::of(&view).ok_or("record 0 is not a complete `log.created`")?;
            self.log_id = Some(created.log_id);
            self.turn(created.root);
        }
        let log_id = self.log_id.ok_or("record 0 is missing, so nothing says which log this is")?;
        let key = *self.keys.last().ok_or("record 0 is missing, so nothing says who signs")?;
        if view.key != self.key_id {
            return Err("not signed with the key whose turn it is".into());
        }
        if view.timestamp_us < self.last_us {
            return Err("its time is before the last record's".into());
        }
        if chain::link(log_id, seq, &self.point.chain, view.body) != view.chain {
            return Err("the chain does not match the body and the records before it".into());
        }
        self.signer = Some(key);
        self.claim(Claim { seq, key, message: chain::event_message(&view.chain), signature: view.signature });
        if view.event_type == "key.rotated" {
            let new = rotated(&view, log_id, &key).ok_or("the new key did not sign the rotation")?;
            self.turn(new);
        }
        self.last_us = view.timestamp_us;
        self.good += 1;
        self.seals.add(view.body, &view.chain);
        self.reach(seq + 1, view.chain, line.len());
        if let Some(visit) = &mut self.visit {
            visit(&view.seen());
        }
        Ok(())
    }

    fn turn(&mut self, key: PublicKey) {
        self.key_id = key.key_id().to_string();
        self.keys.push(key);
    }

    fn reach(&mut self, records: u64, chain: Link, bytes: usize) {
        self.point.records = records;
        self.point.chain = chain;
        self.point.length += bytes as u64;
        if let Some(signer) =
            self.signer.filter(|_| self.slots.iter().any(|slot| slot.point.records == records))
        {
            self.met.insert(records, (self.point, signer));
        }
        self.seals.meet(records, &self.signer, &self.keys);
    }

    /// After a bad line: go on from what it claims, so that one flaw is not taken for many.
    fn resume(&mut self, line: &[u8]) {
        let claimed = View::parse(line).ok();
        let number = claimed.as_ref().map_or(self.point.records, |view| view.seq);
        if number < self.point.records {
            self.point.length += line.len() as u64;
            return; // one too many: the next line may be the right one
        }
        if let Some(view) = &claimed {
            self.last_us = self.last_us.max(view.timestamp_us);
            if view.event_type == "key.rotated" {
                let new = view.detail_text("new_key").and_then(|text| chain::unbase64(text.as_bytes()));
                if let Some(new) = new.filter(|_| view.key == self.key_id) {
                    self.turn(PublicKey(new));
                }
            }
        }
        let link = claimed.map(|view| view.chain).or_else(|| chain::split(line).map(|(_, link, _)| link));
        let records = number.saturating_add(1);
        self.point = Point {
            records,
            chain: link.unwrap_or(self.point.chain),
            length: self.point.length + line.len() as u64,
            ..self.point
        };
    }

    fn claim(&mut self, claim: Claim) {
        self.group.push(claim);
        if self.group.len() >= GROUP {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.group.is_empty() {
            self.desk.put(std::mem::replace(&mut self.group, Vec::with_capacity(GROUP)));
        }
    }

    fn check_head(&mut self) {
        if self.point.records < self.head_records {
            self.truncated = true;
            let reason = format!("the log ends here, `head` names {} records", self.head_records);
            return self.finding(self.point.records, reason);
        }
        for slot in std::mem::take(&mut self.slots) {
            let start = self.keys.first().map(|root| (Point::START, *root));
            let met =
                if slot.point.records == 0 { start } else { self.met.get(&slot.point.records).copied() };
            let last = slot.point.records.saturating_sub(1);
            match met {
                Some((point, _)) if Some(slot.log_id) != self.log_id || point != slot.point => {
                    self.finding(last, "`head` names another record");
                }
                Some((_, signer)) if !slot.signed_by(&signer) => {
                    self.finding(last, "the signature of `head` does not verify");
                }
                Some(_) => {}
                None => self.finding(last, "`head` names a record that does not hold"),
            }
        }
    }

    fn conclude(mut self, options: &VerifyOptions) -> Result<Verification, VerifyError> {
        let bad = std::mem::take(&mut lock(&self.desk.state).bad);
        self.good = self.good.saturating_sub(bad.len() as u64);
        for seq in bad {
            self.finding(seq, "the signature does not verify");
        }
        if self.findings.is_empty() && self.point.records == 0 {
            self.finding(0, "there are no records");
        }
        if let Some(range) = self.range.as_ref().filter(|range| self.point.records < range.end) {
            let (end, wanted) = (self.point.records, range.end);
            self.truncated = true;
            self.finding(end, format!("the log ends here, the range at {wanted}"));
        }
        // `head` and checkpoints are judged only on a trail that holds: on another they would say the same again.
        if self.findings.is_empty() && self.range.is_none() {
            self.check_head();
        }
        let mut witnessed_s = None;
        if self.findings.is_empty() && self.range.is_none() {
            match self.seals.judge(self.log_id, self.point.records, &options.witnesses) {
                Ok(times) => witnessed_s = times,
                Err(fault) => {
                    self.truncated = fault.truncated;
                    self.finding(fault.seq, fault.reason);
                }
            }
        }
        let known = [self.keys.first(), self.signer.as_ref()];
        if let Some(key) =
            options.key.filter(|key| known.iter().flatten().all(|known| known.key_id() != *key))
        {
            let own = self.keys.first().map(|root| root.key_id().to_string()).unwrap_or_default();
            self.finding(0, format!("the trail's key is `{own}`, not `{key}`"));
        }
        self.findings.sort_by_key(|finding| finding.seq);
        let mut findings = self.findings.into_iter();
        if let Some(first) = findings.next() {
            return Err(VerifyError {
                seq: first.seq,
                reason: first.reason,
                truncated: self.truncated,
                others: findings.take(FINDINGS_MAX).collect(),
                good: self.good,
            });
        }
        let complete = !options.checkpoints.is_empty() && self.range.is_none();
        Ok(Verification {
            first: self.range.as_ref().map_or(0, |range| range.start),
            complete_to: if complete { self.seals.given_to() } else { 0 },
            checkpoint: self.seals.stored(),
            witnessed_s,
            records: self.point.records,
            head: hex(&self.point.chain),
            level: match options.key {
                _ if complete => Level::Complete,
                Some(_) => Level::Authentic,
                None => Level::Consistent,
            },
            log_id: self.log_id.unwrap_or(LogId([0; 16])),
            keys: self.keys.iter().map(PublicKey::key_id).collect(),
            last_us: self.last_us,
            tail_bytes: self.tail_bytes,
        })
    }
}
