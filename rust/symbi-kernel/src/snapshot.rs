//! Snapshots: what recovery has worked out, written into the log, so that the next opening reads only what follows.
//!
//! Why: a trail of millions of records would cost seconds at each opening. The state is not taken from memory, where other
//! threads are at work on it, but worked out beside them from the records on disk, by the very code that an opening
//! runs: a snapshot says what an opening would have found, by construction.
//! Not here: what is worked out (`recovery`).
//!
//! Invariants
//! - K112 what is read from a snapshot on is what is read from the first record on (`recovery`).
//! - K113 a snapshot counts when its last record is there; one that is not whole is passed over for the trail itself.
//! - K114 snapshots take at most half of what is written, however much there is to count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value as Json;
use symbi_audit::{Event, Reader};
use symbi_crypto::Provider;

use crate::kernel::{Kernel, KernelError, lock};
use crate::recovery::Recovery;

/// Records after which there is a snapshot, unless the caller says otherwise.
pub const SNAPSHOT_RECORDS: u64 = 10_000;
/// How far the thread steps back behind those that work (setpriority(2), of this thread alone on Linux).
const NICE: i32 = 10;
/// Bytes of rows in one record.
const PART_BYTES: usize = 96 * 1024;
/// Bytes that the smallest record takes; so many bytes of a snapshot wait for one record more (K114).
const RECORD_BYTES: u64 = 350;
/// The type of the records that hold the rows, and of the one that closes them.
const PART: &str = "state.part";
const WHOLE: &str = "state.snapshot";

/// The thread that makes them, and when it is told to.
#[derive(Default)]
pub(crate) struct Snapshots {
    every: u64,
    /// How old what is pruned after one must be.
    retention: Option<Duration>,
    due: AtomicU64,
    bell: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The last snapshot that is whole (K113).
pub(crate) fn last(reader: &Reader, provider: Provider) -> Result<Option<Recovery>, KernelError> {
    let Some(whole) = reader.newest(WHOLE)? else { return Ok(None) };
    let Ok(header) = serde_json::from_str::<Json>(&whole.details) else { return Ok(None) };
    let number = |key: &str| header.get(key).and_then(Json::as_u64);
    let (Some(first), Some(parts)) = (number("first"), number("parts")) else { return Ok(None) };
    let mut rows = Vec::new();
    let mut found = 0;
    for record in reader.records_that(first, is_part) {
        let record = record?;
        if record.seq >= whole.seq {
            break;
        }
        if record.event_type != PART {
            continue;
        }
        let Ok(details) = serde_json::from_str::<Json>(&record.details) else { return Ok(None) };
        if details.get("id") != header.get("id") {
            continue; // of one that was not finished
        }
        let Some(some) = details.get("rows").and_then(Json::as_array) else { return Ok(None) };
        rows.extend(some.iter().cloned());
        found += 1;
    }
    Ok((found == parts).then(|| Recovery::load(provider, &header, &rows)).flatten())
}

/// The first record that an opening would read, and behind which no document stands of those that came before; `None` where
/// there is no snapshot yet.
pub(crate) fn reads_from(reader: &Reader) -> Result<Option<(u64, u64)>, KernelError> {
    let Some(whole) = reader.newest(WHOLE)? else { return Ok(None) };
    let header = serde_json::from_str::<Json>(&whole.details).unwrap_or_default();
    let number = |key: &str| header.get(key).and_then(Json::as_u64);
    let from = number("first").zip(number("next")).map(|(first, next)| first.min(next));
    Ok(from.zip(number("documents_end")))
}

/// Records until the next one.
fn pause(every: u64, bytes: u64) -> u64 {
    every.max(bytes / RECORD_BYTES)
}

fn is_part(line: &[u8]) -> bool {
    const TYPE: &[u8] = b"\"event_type\":\"state.";
    memchr::memmem::find(line, TYPE).is_some()
}

/// Rows in texts that each fit a record.
fn parts(rows: &[Json]) -> Vec<String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    for row in rows {
        let row = row.to_string();
        if !text.is_empty() && text.len() + row.len() > PART_BYTES {
            parts.push(std::mem::take(&mut text));
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&row);
    }
    if !text.is_empty() {
        parts.push(text);
    }
    parts
}

impl Snapshots {
    /// One every so many records, from the record `next` on.
    pub(crate) fn every(every: u64, next: u64, retention: Option<Duration>) -> Self {
        let every = every.max(1);
        Self { every, retention, due: AtomicU64::new(next.saturating_add(every)), ..Self::default() }
    }

    /// The disk has come so far. Short, for the log calls it.
    pub(crate) fn progressed(&self, durable: u64) {
        if durable < self.due.load(Ordering::Relaxed) {
            return;
        }
        if let Some(bell) = &*lock(&self.bell) {
            let _ = bell.try_send(()); // full: it was told already
        }
    }

    /// Starts the thread, with what the opening has worked out.
    pub(crate) fn start(&self, kernel: &Arc<Kernel>, state: Recovery) -> Result<(), KernelError> {
        let (bell, told) = sync_channel(1);
        *lock(&self.bell) = Some(bell);
        let weak = Arc::downgrade(kernel);
        let thread = std::thread::Builder::new()
            .name("symbi-snapshot".to_owned())
            .spawn(move || work(&weak, &told, state))
            .map_err(KernelError::Thread)?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Ends the thread. What it is at work on is written or left out; both are sound (K113).
    pub(crate) fn stop(&self) {
        drop(lock(&self.bell).take());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // It has no way to panic that would matter: the next opening reads the trail.
            let _ = thread.join();
        }
    }
}

fn work(kernel: &Weak<Kernel>, told: &Receiver<()>, mut state: Recovery) {
    // Operations come first: on a busy machine it reads when they leave room. Where the system refuses, all are alike.
    let _ = rustix::process::setpriority_process(None, NICE);
    while told.recv().is_ok() {
        let Some(kernel) = kernel.upgrade() else { return };
        if kernel.snapshot(&mut state).is_none() {
            return; // the trail cannot be read or written: there is nothing to be saved for
        }
        if let Some(age) = kernel.snapshots().retention {
            kernel.prune_by_age(age); // what stands before it is read by no opening any more
        }
    }
}

impl Kernel {
    /// Reads on to the durable end, and writes what it comes to.
    ///
    /// What is appended meanwhile stands behind the end that was read, so it is read again at the opening.
    fn snapshot(&self, state: &mut Recovery) -> Option<()> {
        let snapshots = self.snapshots();
        if self.durable() < snapshots.due.load(Ordering::Relaxed) {
            return Some(());
        }
        let reader = self.reader().ok()?;
        self.read_again(&reader, state).ok()?;
        state.take_documents(); // the store's own business
        let parts = parts(&state.rows());
        let id = symbi_types::OperationId::random(self.entropy()).to_string();
        let mut first = None;
        for rows in &parts {
            let details = format!("{{\"id\":\"{id}\",\"rows\":[{rows}]}}");
            let seq = self.log().append(&Event::new(PART, &details)).ok()?.seq;
            first.get_or_insert(seq);
        }
        let mut header = state.header();
        let members = header.as_object_mut()?;
        members.insert("id".to_owned(), Json::from(id));
        members.insert("parts".to_owned(), Json::from(parts.len()));
        members.insert("first".to_owned(), Json::from(first.unwrap_or(state.next)));
        let seq = self.log().append(&Event::new(WHOLE, &header.to_string())).ok()?.seq;
        let bytes: usize = parts.iter().map(String::len).sum();
        let pause = pause(snapshots.every, bytes as u64);
        snapshots.due.store(seq.saturating_add(pause), Ordering::Relaxed);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k114_a_large_snapshot_waits_until_as_much_was_written_by_others() {
        assert_eq!(pause(100, 10_000), 100);
        let bytes = 40 << 20;
        assert!(pause(100, bytes) * RECORD_BYTES >= bytes - RECORD_BYTES, "K114");
    }

    #[test]
    fn k113_rows_are_cut_into_records_and_none_is_lost() {
        let rows: Vec<Json> =
            (0..10_000).map(|at| serde_json::json!({"c": ["name", at, "x".repeat(40)]})).collect();
        let parts = parts(&rows);
        assert!(parts.len() > 1 && parts.iter().all(|part| part.len() <= PART_BYTES));
        let again: Vec<Json> = parts
            .iter()
            .flat_map(|part| serde_json::from_str::<Vec<Json>>(&format!("[{part}]")).unwrap())
            .collect();
        assert_eq!(again, rows);
        assert!(super::parts(&[]).is_empty());
    }
}
