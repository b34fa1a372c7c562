//! Retention: removing the oldest segments, so that what is left still verifies and says what is gone.
//!
//! Not here: what is kept of them (`remainder`); when a runtime may do so (`symbi-kernel`), which alone knows what it counts.
//!
//! Invariants
//! - RT1 only whole closed segments go, oldest first, all of whose records are older than was asked for, under a checkpoint
//!   that was signed before and in front of the record from which the caller still reads.
//! - RT2 the record of a pruning is on disk before the first file goes; a crash between leaves too much, never too little.
//! - RT3 while a hold is in force nothing goes: to hold and to prune exclude each other, and what a crash left to be removed
//!   waits for the release.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use symbi_types::Storage;

use crate::chain::{self, Link, hex};
use crate::keeper::each_line;
use crate::layout::{self, Segment};
use crate::pipeline::lock;
use crate::reader::Reader;
use crate::record::View;
use crate::remainder::{Remainder, is_kept};
use crate::{Log, LogError, time};

/// How long the record of a pruning may take to the disk.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a pruning removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The first record that was there before.
    pub from: u64,
    /// The first that is there now.
    pub to: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// The record of it.
    pub seq: u64,
}

/// A legal hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The record that put it in force.
    pub seq: u64,
    /// When, microseconds since the Unix epoch.
    pub since_us: u64,
    /// Why, as it was given.
    pub reason: String,
    /// Who said so.
    pub by: String,
}

impl Reader {
    /// The hold that is in force; `None` where there is none. Only the log says so: the last of `log.held` and
    /// `log.released` counts. A pass over the trail, about a second for a million records.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub fn hold(&self) -> Result<Option<Hold>, LogError> {
        let concerns = |line: &[u8]| {
            let place = memchr::memmem::find(line, b"\"event_type\":\"log.");
            let rest = place.and_then(|at| line.get(at + 14..)).unwrap_or_default();
            rest.starts_with(b"log.held\"") || rest.starts_with(b"log.released\"")
        };
        let mut hold = None;
        // Not what a crash while pruning left before that: it may have gaps.
        for record in self.records_that(self.begins_at()?, concerns) {
            let record = record?;
            hold = match record.event_type.as_str() {
                "log.held" => {
                    let line = format!("{}\n", record.line);
                    let view = View::parse(line.as_bytes());
                    let text = |name: &str| {
                        let view = view.as_ref().ok();
                        view.and_then(|view| view.detail_text(name)).unwrap_or_default().into_owned()
                    };
                    Some(Hold {
                        seq: record.seq,
                        since_us: record.timestamp_us,
                        reason: text("reason"),
                        by: text("by"),
                    })
                }
                "log.released" => None,
                _ => hold,
            };
        }
        Ok(hold)
    }
}

impl Log {
    /// Puts a hold in force, or releases it: nothing is pruned meanwhile. Answers the number of the record.
    ///
    /// # Errors
    /// [`LogError::Event`]: it is in force already, or none is. [`LogError::Unavailable`].
    pub fn hold(&self, on: bool, reason: &str, by: &str) -> Result<u64, LogError> {
        let _retention = lock(self.retention()); // RT3: what was being pruned is gone before a hold is in force
        let held = self.reader()?.hold()?;
        match held {
            Some(hold) if on => {
                let reason = format!("record {} put a hold in force already: {}", hold.seq, hold.reason);
                return Err(LogError::Event { reason });
            }
            None if !on => return Err(LogError::Event { reason: "no hold is in force".into() }),
            _ => {}
        }
        let mut details = b"{\"reason\":".to_vec();
        crate::write_json_string(reason, &mut details);
        details.extend_from_slice(b",\"by\":");
        crate::write_json_string(by, &mut details);
        details.push(b'}');
        let kind = if on { "log.held" } else { "log.released" };
        let receipt = self.append_own(kind, &String::from_utf8_lossy(&details))?;
        self.wait_durable(receipt.seq, TIMEOUT)?;
        Ok(receipt.seq)
    }

    /// Whether [`Log::prune`] would find something to remove; a hold is not looked for.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub fn can_prune(&self, before_us: u64, keep_from: u64) -> Result<bool, LogError> {
        let reader = self.reader()?;
        let (storage, directory) = self.place();
        let from = reader.begins_at()?;
        let segments = layout::segments(&**storage, directory)?;
        Ok(self.bound(&reader, &segments, from, before_us, keep_from)?.is_some())
    }

    /// Removes closed segments whose records are all from before `before_us` and in front of record `keep_from` (RT1). `None`
    /// where there are none. Reads what it removes, and what no checkpoint covered yet.
    ///
    /// # Errors
    /// [`LogError::Held`] while a hold is in force; [`LogError::Unavailable`], [`LogError::ChainBroken`], [`LogError::Io`]:
    /// nothing was removed, or, after the record of it, not everything: the next opening goes on.
    pub fn prune(&self, before_us: u64, keep_from: u64, by: &str) -> Result<Option<Pruned>, LogError> {
        let _retention = lock(self.retention());
        let reader = self.reader()?;
        if let Some(hold) = reader.hold()? {
            return Err(LogError::Held { seq: hold.seq, reason: hold.reason }); // RT3
        }
        let (storage, directory) = self.place();
        let before = Remainder::read(&**storage, directory)?;
        let from = before.as_ref().map_or(0, |remainder| remainder.records);
        let segments = layout::segments(&**storage, directory)?;
        let Some(to) = self.bound(&reader, &segments, from, before_us, keep_from)? else { return Ok(None) };
        let checkpoint = self.checkpoint()?;
        if checkpoint.size() < to {
            return Ok(None);
        }
        let remainder = gather(&**storage, directory, before, self.log_id(), to)?;
        // Before a record says so and anything goes: what stays must be readable (RM3).
        let kept = remainder.encode().map_err(|reason| LogError::broken(0, format!("`pruned`: {reason}")))?;
        let mut details = format!(
            r#"{{"records":{to},"from":{from},"chain":"{}","before":"{}","by":"#,
            hex(&remainder.chain),
            time::text(before_us)
        )
        .into_bytes();
        crate::write_json_string(by, &mut details);
        details.push(b'}');
        let receipt = self.append_own("log.pruned", &String::from_utf8_lossy(&details))?;
        self.wait_durable(receipt.seq, TIMEOUT)?; // RT2
        self.wait_named(receipt.seq, TIMEOUT)?;
        let failed = || LogError::io("cannot prune");
        Remainder::store(&**storage, directory, &kept).map_err(failed())?;
        let bytes = remove_before(&**storage, directory, to).map_err(failed())?;
        Ok(Some(Pruned { from, to, bytes, seq: receipt.seq }))
    }

    /// The first record that stays: where a segment begins, all before which may go.
    fn bound(
        &self,
        reader: &Reader,
        segments: &[Segment],
        from: u64,
        before_us: u64,
        keep_from: u64,
    ) -> Result<Option<u64>, LogError> {
        let mut found = None;
        for pair in segments.windows(2) {
            let [old, next] = pair else { break };
            // One that is not packed yet is in the hands of the thread that packs it.
            let waits = self.seals() && !old.sealed;
            if waits || keep_from < next.first || self.durable() <= next.first {
                break;
            }
            let Some(record) = reader.records(next.first).next().transpose()? else { break };
            if before_us < record.timestamp_us {
                break; // time never goes back: all before the next segment is at most as old as its first
            }
            found = Some(next.first).filter(|to| from < *to);
        }
        Ok(found)
    }
}

/// What stays of the records before `to`, and the link of the last of them.
fn gather(
    storage: &dyn Storage,
    directory: &Path,
    before: Option<Remainder>,
    log_id: symbi_types::LogId,
    to: u64,
) -> Result<Remainder, LogError> {
    let from = before.as_ref().map_or(0, |remainder| remainder.records);
    let mut lines = before.map(|remainder| remainder.lines).unwrap_or_default();
    lines.retain(|(seq, line)| is_kept(*seq, line)); // an earlier version kept more
    let (mut last, mut seen): (Link, u64) = ([0; 32], from);
    each_line(storage, directory, from, to, |seq, line| {
        let Some((_, link, _)) = chain::split(line) else { return false };
        (last, seen) = (link, seq + 1);
        if is_kept(seq, line) {
            lines.push((seq, line.to_vec()));
        }
        true
    })?;
    if seen < to {
        return Err(LogError::broken(seen, "the line does not end in a chain and a signature"));
    }
    Ok(Remainder::new(log_id, to, last, lines))
}

/// Goes on with a pruning that a crash cut short, of which the log has said that it was up to `to`; not while a hold is in force
/// (RT3).
pub(crate) fn finish(storage: &Arc<dyn Storage>, directory: &Path, to: u64) -> Result<(), LogError> {
    let segments = layout::segments(&**storage, directory)?;
    let any = segments.iter().any(|segment| segment.first < to);
    if any && Reader::with_storage(directory, storage.clone())?.hold()?.is_none() {
        remove_before(&**storage, directory, to).map_err(LogError::io("cannot prune"))?;
    }
    Ok(())
}

/// Removes the files of records before `to`, both forms; answers their bytes. Oldest first: a crash leaves a part that the next
/// opening removes.
fn remove_before(storage: &dyn Storage, directory: &Path, to: u64) -> std::io::Result<u64> {
    let mut bytes = 0;
    let mut any = false;
    for name in storage.list(directory)? {
        let Some(segment) = Segment::of_name(&name).filter(|segment| segment.first < to) else { continue };
        let path = segment.path(directory);
        bytes += storage.open(&path, symbi_types::OpenMode::Read)?.size()?;
        storage.remove(&path)?;
        any = true;
    }
    if any {
        storage.sync_directory(directory)?;
    }
    Ok(bytes)
}
