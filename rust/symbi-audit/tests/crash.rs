//! Power cuts and failing disks (A2, A4, A5, A6).
//!
//! Every state in which a power cut could leave the disk is opened again: what was promised is there, byte for byte,
//! nothing is invented, and the log goes on. `SYMBI_LONG=1` takes every second byte prefix instead of a few.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Bench, directory, fill, key, path};
use symbi_audit::{Event, Log, LogError, LogStatus, Signing};
use symbi_testkit::{CrashState, Disk, Fault};

const WAIT: Duration = Duration::from_secs(20);

fn long() -> bool {
    std::env::var_os("SYMBI_LONG").is_some()
}

/// Has every promise noted in the disk's trace.
fn note_promises(log: &Log, disk: &Disk) {
    let (progress, disk) = (log.progress(), disk.clone());
    log.on_progress(Arc::new(move || {
        if let Some((_, durable)) = progress.look() {
            disk.mark(durable);
        }
    }));
}

/// A log that was opened, written, rotated, closed, reopened and written again, with several segments.
fn history(signing: Signing) -> Bench {
    let mut bench = Bench::new();
    bench.options.signing = signing;
    bench.options.segment_bytes_max = 6_000;
    for round in 0..2u8 {
        let log = bench.open();
        bench.disk.mark(log.durable());
        note_promises(&log, &bench.disk);
        for at in 0..12 {
            let details = format!(r#"{{"round":{round},"at":{at},"text":"{}"}}"#, "x".repeat(at * 40));
            let seq = log.append(&Event::new("test.event", &details)).unwrap().seq;
            if at % 3 == 0 {
                log.wait_durable(seq, WAIT).unwrap();
            }
        }
        let group: Vec<String> = (0..5).map(|at| format!(r#"{{"group":{at}}}"#)).collect();
        let events: Vec<Event<'_>> = group.iter().map(|details| Event::new("test.event", details)).collect();
        log.append_many(&events).unwrap();
        log.close().unwrap();
    }
    bench
}

/// Opens what a crash left and checks it against the whole history.
fn survives(state: CrashState, whole: &[Vec<u8>]) {
    let mut bench = Bench::on(state.disk.clone());
    bench.options.segment_bytes_max = 6_000;
    bench.options.entropy = Arc::new(symbi_testkit::SeededEntropy::new(77));
    let (log, report) = match Log::open(directory(), &bench.options) {
        Ok(opened) => opened,
        Err(error) => panic!("{}: does not open: {error}", state.story),
    };
    assert!(report.records >= state.mark, "{}: {} of {} promised", state.story, report.records, state.mark);
    log.append(&Event::new("test.after", "{}")).unwrap();
    log.close().unwrap();
    let kept = usize::try_from(report.records).unwrap();
    let lines: Vec<Vec<u8>> =
        bench.records().iter().map(|record| format!("{}\n", record.line).into_bytes()).collect();
    assert!(lines[..kept] == whole[..kept], "{}: what is kept is not what was written", state.story);
    let told = bench.records()[kept..].iter().any(|record| record.event_type == "log.cut");
    assert!(told || report.cut_bytes == 0, "{}: a cut that no record tells of", state.story);
    if let Err(error) = bench.verify() {
        panic!("{}: does not verify: {error}", state.story);
    }
}

#[test]
fn a2_every_state_that_a_power_cut_can_leave_opens_with_all_that_was_promised() {
    // A long run: each second byte, 120,000 states of 4 ms. Each byte would be twice as many.
    let (step, lossy) = if long() { (2, 50) } else { (1_301, 3) };
    let mut states = 0;
    for signing in [Signing::Event, Signing::Group] {
        let bench = history(signing);
        let whole: Vec<Vec<u8>> =
            bench.records().iter().map(|record| format!("{}\n", record.line).into_bytes()).collect();
        states += bench.disk.crash_states(step, lossy, 5, |state| survives(state, &whole));
    }
    println!("{states} states");
    assert!(states > if long() { 100_000 } else { 400 }, "{states} states");
}

#[test]
fn a5_bytes_beyond_head_are_cut_and_the_cut_is_a_record() {
    let bench = Bench::new();
    fill(&bench.open(), 3);
    let segment = path("000000000000.jsonl");
    let mut content = bench.disk.content(&segment).unwrap();
    content.extend_from_slice(b"{\"v\":1,\"seq\":5,");
    bench.disk.overwrite(&segment, content);
    assert_eq!(bench.verify().unwrap().tail_bytes, 15, "a torn line at the end is told, not judged");
    let (log, report) = Log::open(directory(), &bench.options).unwrap();
    assert_eq!(report.cut_bytes, 15);
    log.close().unwrap();
    let last = bench.records().pop().unwrap();
    assert_eq!(last.event_type, "log.cut");
    assert!(last.details.contains("\"bytes\":15"), "{}", last.details);
    assert_eq!(bench.verify().unwrap().records, 7);
}

#[test]
fn a5_a_cut_that_a_crash_interrupted_is_still_recorded() {
    let bench = Bench::new();
    fill(&bench.open(), 3);
    let segment = path("000000000000.jsonl");
    let mut content = bench.disk.content(&segment).unwrap();
    content.extend_from_slice(b"torn");
    bench.disk.overwrite(&segment, content);
    let from = bench.disk.trace().len();
    bench.open().close().unwrap();
    // The states of the second opening alone: wherever it stops, a third one finds the cut, made or noted.
    let mut seen = 0;
    bench.disk.crash_states(97, 2, 3, |state| {
        let later = state.disk.content(&path("cut")).is_some_and(|note| note.ends_with(b"}"));
        if !later {
            return;
        }
        let again = Bench::on(state.disk.clone());
        again.open().close().unwrap();
        assert!(again.records().iter().any(|record| record.event_type == "log.cut"), "{}", state.story);
        again.verify().unwrap();
        seen += 1;
    });
    assert!(from > 0 && seen > 0);
}

#[test]
fn a6_whichever_call_fails_nothing_is_promised_that_is_not_kept() {
    let calls = {
        let bench = Bench::new();
        let log = bench.open();
        let opened = bench.disk.calls();
        for _ in 0..4 {
            let seq = log.append(&Event::new("test.event", "{}")).unwrap().seq;
            log.wait_durable(seq, WAIT).unwrap();
        }
        log.close().unwrap();
        (opened, bench.disk.calls())
    };
    for fault in [Fault::Error, Fault::NoSpace, Fault::Gone] {
        for nth in 1..=calls.1 {
            let mut bench = Bench::new();
            bench.options.signing = if nth % 2 == 0 { Signing::Group } else { Signing::Event };
            bench.disk.fail(nth, fault);
            let mut promised = 0;
            if let Ok(log) = bench.try_open() {
                promised = log.durable();
                for _ in 0..4 {
                    let Ok(receipt) = log.append(&Event::new("test.event", "{}")) else { break };
                    if log.wait_durable(receipt.seq, WAIT).is_err() {
                        break;
                    }
                    promised = receipt.seq + 1;
                }
                let healthy = log.status() == LogStatus::Healthy;
                let closed = log.close();
                assert!(!healthy || closed.is_ok() || nth > calls.0, "{fault:?} at call {nth}");
            }
            bench.disk.heal();
            // What is on the disk, and what a power cut would leave of it, holds what was promised.
            let log = bench.try_open().unwrap_or_else(|error| panic!("{fault:?} at call {nth}: {error}"));
            log.close().unwrap();
            let verified = bench.verify().unwrap_or_else(|error| panic!("{fault:?} at call {nth}: {error}"));
            assert!(verified.records >= promised, "{fault:?} at call {nth}");
        }
    }
}

#[test]
fn a4_p4_after_a_failed_sync_nothing_more_is_taken_or_promised_until_it_is_reopened() {
    let bench = Bench::new();
    let log = bench.open();
    let announced = Arc::new(AtomicU64::new(0));
    let seen = announced.clone();
    log.on_progress(Arc::new(move || {
        seen.fetch_add(1, Ordering::SeqCst);
    }));
    let durable = log.durable();
    bench.disk.fail(1, Fault::Gone);
    let seq = log.append(&Event::new("test.event", "{}")).unwrap().seq;
    assert!(matches!(log.wait_durable(seq, WAIT), Err(LogError::Unavailable { .. })));
    assert!(matches!(log.status(), LogStatus::Poisoned { .. }));
    bench.disk.heal();
    assert!(matches!(log.append(&Event::new("test.event", "{}")), Err(LogError::Unavailable { .. })));
    assert_eq!(log.durable(), durable);
    assert!(log.close().is_err());
    assert!(announced.load(Ordering::SeqCst) >= 1, "whoever waits is woken");
    fill(&bench.open(), 1);
    bench.verify().unwrap();
}

#[test]
fn a4_p3_callers_that_wait_for_room_are_let_go_when_the_log_dies() {
    let bench = Bench::new();
    let log = bench.open();
    bench.disk.fail(1, Fault::Gone);
    let refused = (0..10_000).find_map(|_| log.append(&Event::new("test.event", "{}")).err());
    assert!(matches!(refused, Some(LogError::Unavailable { .. })));
}

#[test]
fn a6_a_full_disk_lets_what_was_taken_reach_it_and_says_so_in_the_log() {
    let bench = Bench::new();
    let log = bench.open();
    bench.disk.set_capacity_bytes(bench.disk.used_bytes() + 10_000);
    let mut taken = 0;
    let reason = loop {
        match log.append(&Event::new("test.event", r#"{"text":"some bytes to fill the disk with"}"#)) {
            Ok(receipt) => taken = receipt.seq + 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(reason.contains("the disk is full"), "{reason}");
    log.wait_durable(taken - 1, WAIT).unwrap();
    log.close().unwrap();
    assert!(matches!(log.status(), LogStatus::Poisoned { .. }));
    let last = bench.records().pop().unwrap();
    assert_eq!((last.event_type.as_str(), last.seq), ("log.full", taken));
    assert_eq!(bench.verify().unwrap().records, taken + 1);

    assert!(bench.try_open().is_err(), "no room for the reserve yet");
    bench.disk.heal();
    fill(&bench.open(), 2);
    assert_eq!(bench.verify().unwrap().records, taken + 1 + 3);
}

#[test]
fn a6_a_log_that_is_closed_while_it_drains_says_its_last_words_all_the_same() {
    let bench = Bench::new();
    let log = bench.open();
    let closing = Arc::new(AtomicBool::new(false));
    let seen = closing.clone();
    let progress = log.progress();
    bench.disk.set_capacity_bytes(bench.disk.used_bytes() + 10_000);
    log.on_progress(Arc::new(move || {
        // Between the last record and the last words, as long as a slow disk may take.
        let full = matches!(progress.look(), Some((LogStatus::Poisoned { .. }, _)));
        while full && !seen.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        (0..1_000).for_each(|_| std::thread::yield_now());
    }));
    while log.append(&Event::new("test.event", r#"{"text":"some bytes to fill the disk with"}"#)).is_ok() {}
    closing.store(true, Ordering::SeqCst);
    log.close().unwrap();
    assert_eq!(bench.records().pop().unwrap().event_type, "log.full");
}

#[test]
fn a_crash_while_sealing_leaves_one_whole_form_and_the_next_opening_finishes_it() {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 3_000;
    bench.options.seal_segments = false;
    fill(&bench.open(), 20);
    let plain = bench.disk.names().iter().filter(|name| name.to_string_lossy().ends_with(".jsonl")).count();
    assert!(plain >= 3);
    // Half a sealed form beside the plain one: the plain one counts.
    bench.disk.overwrite(&path("000000000000.jsonl.zst"), b"half".to_vec());
    bench.disk.overwrite(&path("000000000000.jsonl.zst.tmp"), b"half".to_vec());
    bench.verify().unwrap();
    bench.options.seal_segments = true;
    fill(&bench.open(), 1);
    let names = bench.disk.names();
    assert_eq!(
        names.iter().filter(|name| name.to_string_lossy().ends_with(".jsonl")).count(),
        1,
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{names:?}");
    assert_eq!(bench.verify().unwrap().records, 24);
    let _ = key(1);
}
