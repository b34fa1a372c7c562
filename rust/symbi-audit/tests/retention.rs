//! What is pruned, what keeps it from being so, and what is left (A2, A3, A4); keys that others had.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{Bench, directory, key, path};
use symbi_audit::{Checkpoint, Event, Log, LogError, Signing, VerifyOptions};
use symbi_testkit::Disk;
use symbi_types::{OpenMode, Storage, StorageFile, StorageLock};

const DAY_US: u64 = 86_400_000_000;

fn append(log: &Log, count: usize) {
    for at in 0..count {
        let details = format!(r#"{{"number":{at},"text":"content that goes"}}"#);
        log.append(&Event::new("test.event", &details)).unwrap();
    }
    log.checkpoint().unwrap();
}

/// Ten days of some records each, a rotation on the second, in segments of a day or less.
fn decade(signing: Signing) -> Bench {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 3_000;
    bench.options.seal_segments = false;
    bench.options.signing = signing;
    for day in 0..10u8 {
        let log = bench.open();
        append(&log, 6);
        if day == 1 {
            log.rotate(&key(2)).unwrap();
            bench.options.signing_key = key(2);
        }
        log.close().unwrap();
        bench.clock.advance_us(DAY_US);
    }
    bench
}

fn copy(bench: &Bench) -> Bench {
    let disk = Disk::new();
    for name in bench.disk.names() {
        disk.overwrite(&name, bench.disk.content(&name).unwrap());
    }
    let mut copy = Bench::on(disk);
    copy.options.signing_key = key(2);
    copy
}

fn options(bench: &Bench, checkpoints: &[&Checkpoint]) -> VerifyOptions {
    VerifyOptions {
        storage: Some(Arc::new(bench.disk.clone())),
        checkpoints: checkpoints.iter().map(|one| (*one).clone()).collect(),
        ..VerifyOptions::default()
    }
}

#[test]
fn rt1_what_is_pruned_is_gone_and_what_is_left_verifies_and_says_so() {
    for signing in [Signing::Event, Signing::Group] {
        let bench = decade(signing);
        let before = bench.reader().checkpoint().unwrap().unwrap();
        let records = bench.verify().unwrap().records;
        let log = bench.open();
        let since = bench.records()[20].timestamp_us;
        let pruned = log.prune(since, u64::MAX, "somebody").unwrap().unwrap();
        assert!(pruned.from == 0 && 10 < pruned.to && pruned.to <= 20, "{pruned:?}");
        assert_eq!(log.prune(since, u64::MAX, "somebody").unwrap(), None, "once is enough");
        log.close().unwrap();
        let found = bench.verify().unwrap();
        assert_eq!((found.first, found.pruned), (pruned.to, pruned.to));
        assert_eq!(found.keys.len(), 2, "keys are kept");
        assert!(found.records > records);
        // A checkpoint from before, of all that was, still holds; and the fingerprint is that of record 0's key.
        let whole = VerifyOptions { key: Some(key(1).key_id()), ..options(&bench, &[&before]) };
        assert_eq!(symbi_audit::verify(directory(), &whole).unwrap().complete_to, before.size());
        let since = VerifyOptions { since_checkpoint: true, ..options(&bench, &[&before]) };
        symbi_audit::verify(directory(), &since).unwrap();
        let gone = bench.disk.names().iter().all(|name| !name.ends_with("000000000000.jsonl"));
        assert!(gone, "{:?}", bench.disk.names());
        assert_eq!(bench.reader().records(0).next().unwrap().unwrap().seq, pruned.to);
        assert_eq!(bench.reader().summary().unwrap().owner, "application");
        assert_eq!(bench.reader().begins_at().unwrap(), pruned.to);
        let last = bench.reader().prover(None).unwrap().prove(found.records - 1, None).unwrap();
        last.check(None).unwrap();
        // And it goes on: opened, written, pruned again.
        let log = bench.open();
        append(&log, 3);
        let again = log.prune(log.now(), u64::MAX, "somebody").unwrap().unwrap();
        assert_eq!(again.from, pruned.to);
        log.close().unwrap();
        assert_eq!(bench.verify().unwrap().pruned, again.to);
    }
}

#[test]
fn rm3_what_others_append_is_never_kept_whatever_it_says() {
    for signing in [Signing::Event, Signing::Group] {
        let bench = decade(signing);
        let log = bench.open();
        let mut end = 0;
        for kind in ["key.rotated", "log.key_compromised"] {
            let details = format!(r#"{{"event_type":"{kind}","text":"content that goes"}}"#);
            let event = Event::new("test.event", &details);
            end = log.append_many(&[event, event, event]).unwrap().end;
        }
        for _ in 0..4 {
            append(&log, 6); // and waits: a segment ends where a group does
        }
        let pruned = log.prune(log.now(), u64::MAX, "x").unwrap().unwrap();
        assert!(end <= pruned.to, "{pruned:?}");
        log.close().unwrap();
        let kept = String::from_utf8(bench.disk.content(&path("pruned")).unwrap()).unwrap();
        assert_eq!((kept.lines().count(), kept.matches("content that goes").count()), (4, 0), "{signing:?}");
        bench.verify().unwrap();
        append(&bench.open(), 1);
        bench.verify().unwrap();
    }
}

/// Of each segment, its bytes.
fn segments(bench: &Bench) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = bench.disk.names().into_iter().filter(|name| name.to_string_lossy().contains(".jsonl"));
    names.map(|name| (name.clone(), bench.disk.content(&name).unwrap())).collect()
}

/// A decade of which the first days were pruned, and the segments from before.
fn pruned_decade() -> (Bench, u64, BTreeMap<PathBuf, Vec<u8>>) {
    let bench = decade(Signing::Event);
    let before = segments(&bench);
    let log = bench.open();
    let pruned = log.prune(bench.records()[20].timestamp_us, u64::MAX, "x").unwrap().unwrap();
    log.close().unwrap();
    (bench, pruned.to, before)
}

#[test]
fn a5_rt2_opening_removes_nothing_on_the_word_of_a_number_that_the_log_does_not_confirm() {
    let (bench, to, _) = pruned_decade();
    let remainder = String::from_utf8(bench.disk.content(&path("pruned")).unwrap()).unwrap();
    let (first, rest) = remainder.split_once('\n').unwrap();
    let chain = first.split("\"chain\":\"").nth(1).unwrap().split('"').next().unwrap();
    let records = bench.records();
    let second = segments(&bench).into_keys().nth(1).unwrap();
    let next: u64 = second.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let last = records.iter().find(|record| record.seq + 1 == next).unwrap();
    let link: String = last.chain.iter().map(|byte| format!("{byte:02x}")).collect();
    let end = records.len() as u64 + to;
    let head = records.last().unwrap().chain.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // Another number; one with its link, of which no record says that it was pruned; and those at and past the end.
    for (number, chain_said) in
        [(next, chain), (next, link.as_str()), (end, head.as_str()), (end + 1, chain), (9_046_656, chain)]
    {
        let victim = copy(&bench);
        let forged = first.replace(&format!("\"records\":{to}"), &format!("\"records\":{number}"));
        let forged = forged.replace(chain, chain_said);
        victim.disk.overwrite(&path("pruned"), format!("{forged}\n{rest}").into_bytes());
        let there = segments(&victim);
        assert!(matches!(victim.try_open(), Err(LogError::ChainBroken { .. })), "{number}");
        assert_eq!(segments(&victim), there, "{number}");
    }
}

#[test]
fn a5_what_a_crash_left_of_a_pruning_goes_once_everything_else_holds() {
    let (bench, to, before) = pruned_decade();
    let (leftover, bytes) = before.into_iter().next().unwrap();
    let mut crashed = copy(&bench);
    crashed.disk.overwrite(&leftover, bytes.clone());
    crashed.options.signing_key = key(3);
    assert!(matches!(crashed.try_open(), Err(LogError::WrongKey { .. })));
    assert!(segments(&crashed).contains_key(&leftover), "whoever has another key removes nothing");
    crashed.options.signing_key = key(2);
    crashed.open().close().unwrap();
    assert!(!segments(&crashed).contains_key(&leftover));
    assert_eq!(crashed.verify().unwrap().pruned, to);
    // While a hold is in force nothing goes, not even that (RT3).
    let log = crashed.open();
    log.hold(true, "case", "counsel").unwrap();
    log.close().unwrap();
    crashed.disk.overwrite(&leftover, bytes);
    crashed.open().close().unwrap();
    assert!(segments(&crashed).contains_key(&leftover));
    crashed.verify().unwrap();
    let log = crashed.open();
    log.hold(false, "over", "counsel").unwrap();
    log.close().unwrap();
    crashed.open().close().unwrap();
    assert!(!segments(&crashed).contains_key(&leftover));
    crashed.verify().unwrap();
}

/// A disk that asks for a hold just before anything is removed, and goes on when there is an answer or none comes.
struct Interrupted {
    disk: Disk,
    armed: AtomicBool,
    asks: mpsc::SyncSender<()>,
    answered: Mutex<mpsc::Receiver<()>>,
}

impl Storage for Interrupted {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        self.disk.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.ends_with("pruned") && self.armed.swap(false, Ordering::SeqCst) {
            self.asks.send(()).unwrap();
            let _ = self.answered.lock().unwrap().recv_timeout(Duration::from_millis(400));
        }
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.disk.lock(path)
    }
}

#[test]
fn rt3_a_hold_that_comes_while_something_is_pruned_waits_for_its_end() {
    let mut bench = decade(Signing::Event);
    let ((asks, asked), (answers, answered)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    let disk = bench.disk.clone();
    let storage =
        Arc::new(Interrupted { disk, armed: AtomicBool::new(false), asks, answered: Mutex::new(answered) });
    bench.options.storage = storage.clone();
    let log = bench.open();
    storage.armed.store(true, Ordering::SeqCst);
    let (pruned, hold, there) = std::thread::scope(|scope| {
        let (log, bench) = (&log, &bench);
        let holder = scope.spawn(move || {
            asked.recv_timeout(Duration::from_secs(60)).unwrap();
            let seq = log.hold(true, "case", "counsel").unwrap();
            let there: Vec<_> = segments(bench).into_keys().collect();
            let _ = answers.send(());
            (seq, there)
        });
        let pruned = log.prune(log.now(), u64::MAX, "x").unwrap().unwrap();
        let (seq, there) = holder.join().unwrap();
        (pruned, seq, there)
    });
    assert!(pruned.seq < hold, "the pruning was first");
    assert_eq!(there, segments(&bench).into_keys().collect::<Vec<_>>(), "nothing goes once it is in force");
    assert!(matches!(log.prune(log.now(), u64::MAX, "x"), Err(LogError::Held { .. })));
    log.close().unwrap();
    bench.verify().unwrap();
}

#[test]
fn rt1_nothing_young_and_nothing_that_is_still_read_is_pruned() {
    let bench = decade(Signing::Event);
    let log = bench.open();
    let records = bench.records();
    assert_eq!(log.prune(records[0].timestamp_us, u64::MAX, "x").unwrap(), None, "nothing is so old");
    let now = log.now();
    assert_eq!(log.prune(now, 3, "x").unwrap(), None, "the reader stands in the first segment");
    let pruned = log.prune(now, 30, "x").unwrap().unwrap();
    assert!(pruned.to <= 30);
    log.close().unwrap();
    bench.verify().unwrap();
}

#[test]
fn rt3_a_hold_refuses_pruning_until_it_is_released_and_both_are_records() {
    let bench = decade(Signing::Event);
    let log = bench.open();
    let now = log.now();
    assert!(matches!(log.hold(false, "why", "me"), Err(LogError::Event { .. })), "none is in force");
    let seq = log.hold(true, "case \"7\"", "counsel").unwrap();
    let held = bench.reader().hold().unwrap().unwrap();
    assert_eq!((held.seq, held.reason.as_str(), held.by.as_str()), (seq, "case \"7\"", "counsel"));
    assert!(matches!(log.prune(now, u64::MAX, "x"), Err(LogError::Held { .. })));
    assert!(log.hold(true, "again", "me").is_err());
    // An event that only mentions one holds nothing, nor releases it.
    log.append(&Event::new("test.event", r#"{"event_type":"log.released"}"#)).unwrap();
    assert!(matches!(log.prune(now, u64::MAX, "x"), Err(LogError::Held { .. })));
    log.hold(false, "over", "counsel").unwrap();
    assert!(log.prune(now, u64::MAX, "x").unwrap().is_some());
    log.close().unwrap();
    bench.verify().unwrap();
}

#[test]
fn a4_rm1_a_beginning_that_somebody_removed_is_no_pruning() {
    let bench = decade(Signing::Event);
    let log = bench.open();
    let pruned = log.prune(bench.records()[20].timestamp_us, u64::MAX, "x").unwrap().unwrap();
    log.close().unwrap();
    let segments: Vec<_> =
        bench.disk.names().into_iter().filter(|name| name.to_string_lossy().contains(".jsonl")).collect();
    // One more, with a remainder that says so: the log itself does not.
    let further = copy(&bench);
    symbi_types::Storage::remove(&further.disk, &segments[0]).unwrap();
    let next: u64 = segments[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let last = bench.records().into_iter().find(|record| record.seq + 1 == next).unwrap();
    let remainder = String::from_utf8(bench.disk.content(&path("pruned")).unwrap()).unwrap();
    let link: String = last.chain.iter().map(|byte| format!("{byte:02x}")).collect();
    let (first, rest) = remainder.split_once('\n').unwrap();
    let chain = first.split("\"chain\":\"").nth(1).unwrap().split('"').next().unwrap();
    let forged = first.replace(&format!("\"records\":{}", pruned.to), &format!("\"records\":{next}"));
    let forged = forged.replace(chain, &link);
    further.disk.overwrite(&path("pruned"), format!("{forged}\n{rest}").into_bytes());
    let error = further.verify().unwrap_err();
    assert!(error.reason.contains("none says that they were pruned"), "{error}");
    // Without the remainder, the checkpoint or the hashes nothing vouches for the beginning.
    for name in ["pruned", "checkpoint", "tiles-0"] {
        let without = copy(&bench);
        symbi_types::Storage::remove(&without.disk, &path(name)).unwrap();
        assert!(without.verify().is_err(), "{name}");
    }
}

#[test]
fn a3_every_flipped_bit_of_what_is_kept_is_found() {
    let bench = decade(Signing::Event);
    let log = bench.open();
    let pruned = log.prune(bench.records()[20].timestamp_us, u64::MAX, "x").unwrap().unwrap();
    log.close().unwrap();
    let step = if std::env::var_os("SYMBI_LONG").is_some() { 1 } else { 13 };
    for (name, bytes) in [("pruned", usize::MAX), ("tiles-0", usize::try_from(pruned.to).unwrap() * 32)] {
        let good = bench.disk.content(&path(name)).unwrap();
        let victim = copy(&bench);
        for bit in (0..good.len().min(bytes) * 8).step_by(step) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            victim.disk.overwrite(&path(name), bad);
            assert!(victim.verify().is_err(), "bit {bit} of `{name}`");
            // Whether or not opening finds it, which looks at less: nothing goes.
            let mut opened = copy(&victim);
            opened.options.seal_segments = false;
            drop(opened.try_open());
            let (there, left) = (segments(&victim), segments(&opened));
            assert!(there.keys().all(|segment| left.contains_key(segment)), "bit {bit} of `{name}`");
        }
    }
}

#[test]
fn a2_rt2_rm2_a_crash_while_pruning_leaves_too_much_and_never_too_little() {
    let bench = decade(Signing::Event);
    let log = bench.open();
    let from = bench.records()[0].seq;
    bench.disk.mark(0);
    log.prune(bench.records()[20].timestamp_us, u64::MAX, "x").unwrap().unwrap();
    bench.disk.mark(1);
    log.close().unwrap();
    let mut seen = [0, 0];
    let step = if std::env::var_os("SYMBI_LONG").is_some() { 11 } else { 4_001 };
    bench.disk.crash_states(step, 2, 3, |state| {
        let crashed = Bench::on(state.disk.clone());
        let mut options = crashed.options.clone();
        (options.segment_bytes_max, options.seal_segments) = (3_000, false);
        let has_stub = state.disk.content(&path("pruned")).is_some();
        for seed in [1, 2] {
            options.signing_key = key(seed);
            let Ok((log, _)) = Log::open(directory(), &options) else { continue };
            log.close().unwrap();
            let found = crashed.verify().unwrap_or_else(|error| panic!("{}: {error}", state.story));
            assert_eq!(found.pruned > 0, has_stub, "{}", state.story);
            seen[usize::from(has_stub)] += 1;
            return;
        }
        panic!("{}: does not open", state.story);
    });
    assert!(seen[0] > 10 && seen[1] > 0 && from == 0, "{seen:?}");
}

#[test]
fn what_a_key_signed_after_others_had_it_is_told_by_every_verification() {
    let mut bench = Bench::new();
    let log = bench.open();
    append(&log, 8);
    assert!(log.mark_compromised(key(1).key_id(), 4, "laptop", "me").is_err(), "it signs still");
    let rotated = log.rotate(&key(2)).unwrap().seq;
    append(&log, 2);
    assert!(log.mark_compromised(key(9).key_id(), 4, "laptop", "me").is_err(), "none of this log's");
    assert!(log.mark_compromised(key(1).key_id(), 99, "laptop", "me").is_err(), "no such record");
    let seq = log.mark_compromised(key(1).key_id(), 4, "the \"laptop\"", "me").unwrap();
    log.close().unwrap();
    let found = bench.verify().unwrap();
    assert_eq!((found.distrusted.len(), found.distrusted[0].clone()), (1, 4..rotated + 1));
    let said = &bench.records()[usize::try_from(seq).unwrap()];
    assert_eq!(said.key, key(2).key_id().to_string(), "the new key says so");
    bench.options.signing_key = key(2);
    bench.open().close().unwrap();
}
