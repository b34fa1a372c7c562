//! What opening finds, and what it may do about it (A5).
//!
//! Up to `head` the chain is recomputed link by link: `head` is signed, so its link vouches for every body before it
//! (signatures of single records are `verify`'s). Beyond `head`, where a crash may have left anything, each line must
//! hold in full; the first that does not, and all after it, is cut.
//!
//! Where records were pruned, nothing is believed of it, and nothing goes, until `head`, the chain, the key and a record of the
//! pruning have confirmed it.
//!
//! A cut is noted in the file `cut` before it is made and the note is removed after the record of it is durable, so
//! that a crash between leaves the note and the next opening records it.

use std::path::Path;
use std::sync::Arc;

use symbi_crypto::{PublicKey, Sha256, SigningKey};
use symbi_types::{LogId, OpenMode, Storage, StorageFile};

use crate::chain::{self, Link, hex};
use crate::head::{self, HEAD, Point, Slot};
use crate::layout::{self, Lines, Segment};
use crate::record::View;
use crate::remainder::Remainder;
use crate::verify::event_type;
use crate::{LogError, Owner};

/// The note of a cut that is not recorded yet.
pub(crate) const CUT: &str = "cut";

/// So much of what is cut is read at once.
const CUT_BLOCK_BYTES: usize = 256 << 10;

/// What is there.
pub(crate) struct Found {
    pub(crate) log_id: LogId,
    pub(crate) point: Point,
    pub(crate) last_us: u64,
    /// The time of the first record of the last segment.
    pub(crate) segment_us: u64,
    /// `details` of the records that tell of cuts.
    pub(crate) cuts: Vec<String>,
    pub(crate) cut_bytes: u64,
    /// The slot of `head` to write first.
    pub(crate) next_slot: u64,
    /// Fingerprint of record 0's key.
    pub(crate) root: String,
    /// Complete segments that are not compressed yet.
    pub(crate) unsealed: Vec<u64>,
    /// Records below this were pruned, as the log itself says.
    pub(crate) pruned: u64,
}

/// Looks at a directory; `None` when there is no log in it, or one whose making was interrupted before it had a
/// record.
pub(crate) fn examine(
    storage: &dyn Storage,
    directory: &Path,
    key: &SigningKey,
    owner: Owner,
) -> Result<Option<Found>, LogError> {
    let names =
        storage.list(directory).map_err(LogError::io(format!("cannot list `{}`", directory.display())))?;
    let mut segments = layout::segments(storage, directory)?;
    if !names.iter().any(|name| name == HEAD) {
        return if segments.is_empty() { Ok(None) } else { Err(LogError::broken(0, "`head` is missing")) };
    }
    let file =
        storage.open(&directory.join(HEAD), OpenMode::Read).map_err(LogError::io("cannot open `head`"))?;
    let slots = head::read(&*file)?;
    // A slot that says our key but was not signed by it is a torn write (or damage): the other one counts.
    let torn = |slot: &&Slot| slot.key == key.key_id().to_string() && !slot.signed_by(&key.public());
    let mut known: Vec<&Slot> = slots.iter().flatten().filter(|slot| !torn(slot)).collect();
    known.sort_by_key(|slot| std::cmp::Reverse(slot.point.records));
    let mut outcome = None;
    let remainder = Remainder::read(storage, directory)?;
    let pruned = remainder.as_ref().map_or(0, |remainder| remainder.records);
    let is_empty = segments.is_empty();
    // A crash while pruning may have left some. They are passed over, and stay until the rest of the log confirms that they
    // are to go (`prune::finish`): that number is not signed.
    segments.retain(|segment| pruned <= segment.first);
    for slot in known {
        let mut scan = Scan::new(slot, owner, directory);
        match scan.begin(remainder.as_ref()).and_then(|()| scan.run(storage, directory, &segments)) {
            Err(Fault::Slot) => {} // of an older key, and torn
            Err(Fault::Fatal(error)) => return Err(error),
            Err(Fault::Line(reason)) => return Err(LogError::broken(scan.point.records, reason)),
            Ok(kept) => {
                outcome = Some((scan, kept, slot.point.records));
                break;
            }
        }
    }
    let Some((mut scan, mut kept, head_records)) = outcome else {
        return if is_empty && remainder.is_none() {
            Ok(None)
        } else {
            Err(LogError::broken(0, "`head` is damaged"))
        };
    };
    let best = Some(scan.head.point);
    let worse =
        slots.iter().position(|slot| slot.as_ref().filter(|slot| !torn(slot)).map(|slot| slot.point) != best);
    if scan.point.records < head_records {
        return Err(LogError::Truncated { seq: scan.point.records, head: head_records });
    }
    if scan.settled.point.records >= head_records && scan.settled.point != scan.point {
        // A group whose signature did not reach the disk: nothing vouches for what stands there of it.
        let segment = scan.settled.point.segment;
        kept = segments.iter().position(|found| found.first == segment).map_or(kept, |at| at + 1);
        (scan.point, scan.last_us) = (scan.settled.point, scan.settled.last_us);
    }
    let note = read_note(storage, directory, &names);
    if scan.point.records == 0 {
        // Nothing was ever durable here: begin again from an empty directory.
        for segment in &segments {
            storage
                .remove(&segment.path(directory))
                .map_err(LogError::io("cannot remove an empty segment"))?;
        }
        return Ok(None);
    }
    if scan.public != Some(key.public()) {
        let expected = scan.public.map(|public| public.key_id().to_string()).unwrap_or_default();
        return Err(LogError::WrongKey { expected, given: key.key_id().to_string() });
    }
    if remainder.is_some() && !scan.pruning_is_recorded {
        let reason = "records before it are missing, and none says that they were pruned";
        return Err(LogError::broken(pruned, reason));
    }
    let mut cuts: Vec<String> = note.into_iter().collect();
    let mut cut_bytes = 0;
    if let Some((bytes, details)) = cut(storage, directory, &segments, kept, &scan.point)? {
        cuts.push(details);
        cut_bytes = bytes;
    }
    let unsealed = segments
        .iter()
        .filter(|segment| !segment.sealed && segment.first < scan.point.segment)
        .map(|segment| segment.first)
        .collect();
    Ok(Some(Found {
        log_id: scan.log_id,
        point: scan.point,
        last_us: scan.last_us,
        segment_us: scan.segment_us,
        cuts,
        cut_bytes,
        next_slot: worse.unwrap_or(0) as u64,
        root: scan.root,
        unsealed,
        pruned,
    }))
}

struct Scan<'a> {
    head: &'a Slot,
    owner: Owner,
    directory: &'a Path,
    log_id: LogId,
    point: Point,
    /// Whose turn it is.
    public: Option<PublicKey>,
    /// Whose turn it was at the last record.
    signer: Option<PublicKey>,
    root: String,
    last_us: u64,
    segment_us: u64,
    /// The last point that a signature, or `head`, vouches for.
    settled: Settled,
    /// The first record that has no signature yet.
    group: u64,
    /// How many records are gone, and the link of the last of them.
    begun: Option<(u64, Link)>,
    /// Whether a record says so (RM1).
    pruning_is_recorded: bool,
}

#[derive(Clone, Copy)]
struct Settled {
    point: Point,
    last_us: u64,
}

impl<'a> Scan<'a> {
    fn new(head: &'a Slot, owner: Owner, directory: &'a Path) -> Self {
        Self {
            head,
            owner,
            directory,
            log_id: head.log_id,
            point: Point::START,
            public: None,
            signer: None,
            root: String::new(),
            last_us: 0,
            segment_us: 0,
            settled: Settled { point: Point::START, last_us: 0 },
            group: 0,
            begun: None,
            pruning_is_recorded: false,
        }
    }

    /// Where records were pruned it begins after them, with what is kept of them.
    fn begin(&mut self, remainder: Option<&Remainder>) -> Result<(), Fault> {
        let Some(remainder) = remainder else { return Ok(()) };
        if remainder.log_id != self.head.log_id {
            return Err(Fault::Slot);
        }
        // What is pruned lies before a checkpoint, and `head` names the record of the pruning before `pruned` is written.
        if self.head.point.records <= remainder.records {
            let reason =
                format!("`pruned` names {} records, `head` {}", remainder.records, self.head.point.records);
            return Err(Fault::Fatal(LogError::broken(self.head.point.records, reason)));
        }
        self.owned_by(&remainder.owner)?;
        self.begun = Some((remainder.records, remainder.chain));
        self.public = remainder.keys.last().copied();
        self.root = remainder.keys.first().map(|root| root.key_id().to_string()).unwrap_or_default();
        self.point = remainder.point();
        self.group = remainder.records;
        self.settled.point = self.point;
        Ok(())
    }

    fn owned_by(&self, owner: &str) -> Result<(), Fault> {
        if owner == self.owner.as_str() {
            return Ok(());
        }
        let path = self.directory.display().to_string();
        Err(Fault::Fatal(LogError::Owned { path, owner: self.owner.other() }))
    }

    /// Goes through the segments; answers how many of them hold what is kept.
    fn run(&mut self, storage: &dyn Storage, directory: &Path, segments: &[Segment]) -> Result<usize, Fault> {
        for (at, segment) in segments.iter().enumerate() {
            let seq = self.point.records;
            if segment.first != seq {
                return self.stop(at, format!("the next segment begins at record {}", segment.first));
            }
            let unreadable =
                |error: std::io::Error| Fault::Fatal(LogError::broken(seq, format!("its segment: {error}")));
            let mut lines = Lines::open(storage, directory, segment).map_err(unreadable)?;
            self.point.segment = segment.first;
            self.point.length = 0;
            loop {
                let seq = self.point.records;
                let unreadable = |error: std::io::Error| {
                    Fault::Fatal(LogError::broken(seq, format!("its segment: {error}")))
                };
                let Some(line) = lines.next_line().map_err(unreadable)? else { break };
                match self.line(line) {
                    Ok(()) => {}
                    Err(Fault::Line(reason)) => return self.stop(at + 1, reason),
                    Err(other) => return Err(other),
                }
            }
            if !lines.torn().is_empty() {
                if self.point.records < self.head.point.records {
                    return Ok(at + 1); // the caller sees that `head` names more
                }
                return self.stop(at + 1, "a part of a line".into());
            }
        }
        Ok(segments.len())
    }

    /// A line that does not hold: damage up to `head`, the place of the cut beyond it.
    fn stop(&self, kept: usize, reason: String) -> Result<usize, Fault> {
        if self.point.records < self.head.point.records {
            return Err(Fault::Line(reason));
        }
        Ok(kept)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let seq = self.point.records;
        let known = seq < self.head.point.records;
        let (body, link, signature) =
            chain::split(line).ok_or("the line does not end in a chain and a signature")?;
        if seq == 0 {
            self.first(line)?;
        }
        if chain::link(self.log_id, seq, &self.point.chain, body) != link {
            return Err("the chain does not match the body and the records before it".into());
        }
        self.signer = self.public;
        let tells = matches!(event_type(body), "key.rotated" | "log.pruned");
        let begins = self.point.length == 0;
        if !known || tells || begins || seq == 1 || seq + 1 >= self.head.point.records {
            self.closely(line, seq, known)?;
        }
        if begins {
            self.segment_us = self.last_us;
        }
        self.point.records += 1;
        self.point.chain = link;
        self.point.length += line.len() as u64;
        if signature.is_some() {
            self.group = self.point.records;
        }
        if self.point.records == self.head.point.records {
            self.meet_head()?;
        }
        if signature.is_some() || self.point.records <= self.head.point.records {
            self.settled = Settled { point: self.point, last_us: self.last_us };
        }
        Ok(())
    }

    fn first(&mut self, line: &[u8]) -> Result<(), Fault> {
        let view = View::parse(line).map_err(|error| error.to_string())?;
        let created = Created::of(&view).ok_or("record 0 is not a complete `log.created`")?;
        if created.log_id != self.head.log_id {
            return Err(Fault::Slot);
        }
        self.root = created.root.key_id().to_string();
        self.public = Some(created.root);
        Ok(())
    }

    /// The checks for which a line has to be parsed.
    fn closely(&mut self, line: &[u8], seq: u64, known: bool) -> Result<(), Fault> {
        let view = View::parse(line).map_err(|error| error.to_string())?;
        let public = self.public.ok_or("record 0 is missing")?;
        if view.seq != seq {
            return Err(format!("its number is {}", view.seq).into());
        }
        if !known {
            if view.key != public.key_id().to_string() {
                return Err("not signed with the key whose turn it is".into());
            }
            if let Some((message, signature)) = view.claim(self.group) {
                let held = public.verify(message.as_ref(), &signature);
                held.map_err(|error| error.to_string())?;
            }
        }
        if let Some(owner) = view.detail_text("owner").filter(|_| seq == 1) {
            self.owned_by(&owner)?;
        }
        if view.event_type == "key.rotated" {
            self.public = Some(rotated(&view, self.log_id, &public).ok_or("the rotation does not hold")?);
        }
        if let Some((records, chain)) = self.begun.filter(|_| view.event_type == "log.pruned") {
            let same = view.detail("records") == Some(&records.to_string())
                && view.detail_text("chain").is_some_and(|found| found == hex(&chain));
            self.pruning_is_recorded |= same;
        }
        self.last_us = view.timestamp_us;
        Ok(())
    }

    /// `head` must be signed, and name exactly this point.
    fn meet_head(&self) -> Result<(), Fault> {
        if !self.signer.is_some_and(|signer| self.head.signed_by(&signer)) {
            return Err(Fault::Slot);
        }
        if self.point != self.head.point {
            let seq = self.point.records.saturating_sub(1);
            return Err(Fault::Fatal(LogError::broken(seq, "`head` names another record")));
        }
        Ok(())
    }
}

enum Fault {
    /// The slot of `head` that was believed is not the log's.
    Slot,
    Line(String),
    Fatal(LogError),
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Line(reason.to_owned())
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Line(reason)
    }
}

/// The content of record 0.
pub(crate) struct Created {
    pub(crate) log_id: LogId,
    pub(crate) root: PublicKey,
}

impl Created {
    pub(crate) fn of(view: &View<'_>) -> Option<Self> {
        (view.event_type == "log.created" && view.detail("format")? == "1").then_some(())?;
        view.detail_text("policy")?;
        let log_id = LogId(chain::unhex(view.detail_text("log_id")?.as_bytes())?);
        let root = PublicKey(chain::unbase64(view.detail_text("root_key")?.as_bytes())?);
        (view.key == root.key_id().to_string()).then_some(Self { log_id, root })
    }
}

/// The new key of a `key.rotated`, when it signed the rotation.
pub(crate) fn rotated(view: &View<'_>, log_id: LogId, old: &PublicKey) -> Option<PublicKey> {
    let new = PublicKey(chain::unbase64(view.detail_text("new_key")?.as_bytes())?);
    let signature = chain::unbase64(view.detail_text("new_sig")?.as_bytes())?;
    new.verify(&chain::rotation_message(log_id, view.seq, old, &new), &signature).ok()?;
    Some(new)
}

fn read_note(storage: &dyn Storage, directory: &Path, names: &[String]) -> Option<String> {
    names.iter().any(|name| name == CUT).then_some(())?;
    let file = storage.open(&directory.join(CUT), OpenMode::Read).ok()?;
    let mut bytes = vec![0; 4096];
    let length = layout::read_full(&*file, 0, &mut bytes).ok()?;
    bytes.truncate(length);
    let text = String::from_utf8(bytes).ok()?;
    crate::check_details(&text).is_ok().then_some(text) // a torn note: the cut was not made yet
}

/// Cuts what stands beyond `point`. `kept` segments hold what is kept. Answers how many bytes, and what to record.
fn cut(
    storage: &dyn Storage,
    directory: &Path,
    segments: &[Segment],
    kept: usize,
    point: &Point,
) -> Result<Option<(u64, String)>, LogError> {
    let context = "cannot cut beyond `head`";
    let mut gone = Sha256::default();
    let mut block = vec![0; CUT_BLOCK_BYTES]; // a file can say that it has any size
    let mut bytes = 0;
    let mut last: Option<Arc<dyn StorageFile>> = None;
    for (at, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.first >= point.segment) {
        let mode = if segment.sealed { OpenMode::Read } else { OpenMode::Write };
        let file = storage.open(&segment.path(directory), mode).map_err(LogError::io(context))?;
        let size = file.size().map_err(LogError::io(context))?;
        let whole = at >= kept;
        let from = if whole || segment.sealed { 0 } else { point.length };
        if !segment.sealed || whole {
            let mut at = from;
            while at < size {
                let read = layout::read_full(&*file, at, &mut block).map_err(LogError::io(context))?;
                gone.update(block.get(..read).unwrap_or_default());
                at += read as u64;
                if read < block.len() {
                    break;
                }
            }
            bytes += size.saturating_sub(from);
        }
        if !whole && !segment.sealed {
            last = Some(file.into());
        }
    }
    let extra = segments.get(kept..).unwrap_or_default();
    if bytes == 0 && extra.is_empty() {
        return Ok(None);
    }
    let details = format!(
        r#"{{"segment":{},"offset":{},"bytes":{bytes},"sha256":"{}","segments_removed":{}}}"#,
        point.segment,
        point.length,
        hex(&gone.finish()),
        extra.len(),
    );
    let note = storage.open(&directory.join(CUT), OpenMode::Create).map_err(LogError::io(context))?;
    note.set_size(0).map_err(LogError::io(context))?;
    note.write_at(0, details.as_bytes()).map_err(LogError::io(context))?;
    note.sync_data().map_err(LogError::io(context))?;
    storage.sync_directory(directory).map_err(LogError::io(context))?;
    if let Some(file) = last {
        file.set_size(point.length).map_err(LogError::io(context))?;
        file.sync_data().map_err(LogError::io(context))?;
    }
    for segment in extra {
        storage.remove(&segment.path(directory)).map_err(LogError::io(context))?;
    }
    storage.sync_directory(directory).map_err(LogError::io(context))?;
    Ok(Some((bytes, details)))
}
