//! The stream beside a writer: what is handed out, what is told as missed, and where it stops.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: a fault is a failure")]

mod common;

use common::{Bench, path};
use symbi_audit::{Event, Log, Query, Stream};

const WAIT: std::time::Duration = std::time::Duration::from_secs(30);

fn add(log: &Log, count: usize, kind: &str) {
    for _ in 0..count {
        log.append(&Event::new(kind, "{}")).unwrap();
    }
}

fn all(stream: &mut Stream) -> Vec<u64> {
    let mut found = Vec::new();
    loop {
        let batch = stream.take(3).unwrap();
        found.extend(batch.records.iter().map(|record| record.seq));
        if batch.next_seq == batch.durable {
            return found;
        }
    }
}

#[test]
fn sm1_over_segments_and_pauses_every_record_comes_once() {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 4 << 10;
    let log = bench.open();
    add(&log, 5, "note");
    let mut stream = Stream::new(bench.reader(), Query::default(), Some(0), None);
    let mut seen = Vec::new();
    for round in 0..6 {
        add(&log, 7 * round, "note");
        log.wait_durable(log.append(&Event::new("note", "{}")).unwrap().seq, WAIT).unwrap();
        seen.extend(stream.take(4).map(|batch| batch.records).unwrap().iter().map(|record| record.seq));
    }
    log.close().unwrap();
    seen.extend(all(&mut stream));
    assert_eq!(seen, (0..bench.records().len() as u64).collect::<Vec<_>>(), "SM1");
    let only = Query { event_type: Some("log.*".into()), ..Query::default() };
    assert_eq!(all(&mut Stream::new(bench.reader(), only, Some(0), None)), [0, 1]);
}

#[test]
fn sm1_who_is_too_far_behind_is_told_which_records_it_did_not_get() {
    let bench = Bench::new();
    let log = bench.open();
    add(&log, 48, "note");
    log.close().unwrap();
    let mut stream = Stream::new(bench.reader(), Query::default(), Some(4), Some(20));
    let batch = stream.take(100).unwrap();
    assert_eq!(batch.missed, Some(4..40));
    assert_eq!(
        batch.records.iter().map(|record| record.seq).collect::<Vec<_>>(),
        (40..50).collect::<Vec<_>>()
    );
    assert_eq!(stream.take(100).unwrap().missed, None);
}

#[test]
fn sm1_records_that_are_no_longer_kept_are_told_as_missed() {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 4 << 10;
    let log = bench.open();
    add(&log, 60, "note");
    log.close().unwrap();
    let names: Vec<_> = bench.disk.names().into_iter().collect();
    let first = names.iter().find(|name| name.to_string_lossy().contains("000000000000.jsonl")).unwrap();
    let storage: std::sync::Arc<dyn symbi_types::Storage> = std::sync::Arc::new(bench.disk.clone());
    storage.remove(first).unwrap();
    let mut stream = Stream::new(bench.reader(), Query::default(), Some(0), None);
    let batch = stream.take(1).unwrap();
    let missed = batch.missed.unwrap();
    assert_eq!((missed.start, missed.end), (0, batch.records[0].seq), "SM1");
}

#[test]
fn sm2_what_head_does_not_name_is_not_handed_out() {
    let bench = Bench::new();
    let log = bench.open();
    add(&log, 5, "note");
    log.close().unwrap();
    let head = bench.disk.content(&path("head")).unwrap();
    let log = bench.open();
    add(&log, 5, "note");
    log.close().unwrap();
    bench.disk.overwrite(&path("head"), head);
    let mut stream = Stream::new(bench.reader(), Query::default(), Some(0), None);
    assert_eq!(all(&mut stream), (0..7).collect::<Vec<u64>>(), "SM2");
    assert!(bench.records().len() > 7);
}

#[test]
fn sm3_a_call_for_a_rare_event_ends_before_the_log_does() {
    let bench = Bench::new();
    let log = bench.open();
    let many: Vec<_> = (0..10_500).map(|_| Event::new("note", "{}")).collect();
    for group in many.chunks(500) {
        log.append_many(group).unwrap();
    }
    log.close().unwrap();
    let rare = Query { event_type: Some("rare".into()), ..Query::default() };
    let mut stream = Stream::new(bench.reader(), rare, Some(0), None);
    let first = stream.take(1).unwrap();
    assert_eq!((first.next_seq, first.records.len()), (10_000, 0), "SM3");
    assert_eq!(stream.take(1).unwrap().next_seq, first.durable);
}
