//! What is pruned, what keeps it from being so, and what is left (A2, A3, A4); keys that others had.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::sync::Arc;

use common::{Bench, directory, key, path};
use symbi_audit::{Checkpoint, Event, Log, LogError, Signing, VerifyOptions};
use symbi_testkit::Disk;

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
