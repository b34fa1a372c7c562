//! Segments: when they are closed, how they are packed, and what reading one record costs (A3).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::time::Duration;

use common::{Bench, directory, path};
use symbi_audit::{Event, Log};

const WAIT: Duration = Duration::from_secs(20);

fn segments(bench: &Bench) -> Vec<String> {
    let name = |path: &std::path::PathBuf| path.file_name()?.to_str().map(str::to_owned);
    bench.disk.names().iter().filter_map(name).filter(|name| name.contains(".jsonl")).collect()
}

fn append(log: &Log, text: &str) {
    let seq = log.append(&Event::new("test.event", &format!(r#"{{"text":"{text}"}}"#))).unwrap().seq;
    log.wait_durable(seq, WAIT).unwrap();
}

#[test]
fn a_segment_is_closed_when_it_is_old_enough_and_another_record_comes() {
    let mut bench = Bench::new();
    bench.options.segment_age_max = Duration::from_secs(3_600);
    bench.options.seal_segments = false;
    let log = bench.open();
    append(&log, "young");
    bench.clock.advance_us(3_599_000_000);
    append(&log, "still young");
    assert_eq!(segments(&bench).len(), 1);
    bench.clock.advance_us(2_000_000);
    append(&log, "the last of an old one");
    append(&log, "the first of another");
    assert_eq!(segments(&bench), ["000000000000.jsonl", "000000000005.jsonl"]);
    log.close().unwrap();
    bench.clock.advance_us(1_800_000_000);
    let log = bench.open();
    append(&log, "half an hour is remembered over an opening");
    assert_eq!(segments(&bench).len(), 2);
    log.close().unwrap();
    bench.clock.advance_us(1_800_000_000);
    bench.open().close().unwrap();
    assert_eq!(segments(&bench).len(), 3, "what is too old is closed with the next opening's record");
    bench.verify().unwrap();
}

/// A log of one sealed segment of several frames, and an open one.
fn framed() -> (Bench, u64) {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 1_500_000;
    let log = bench.open();
    let text: String = "0123456789abcdef".repeat(40);
    let mut events = 0;
    while segments(&bench).len() < 2 {
        append(&log, &text);
        events += 1;
    }
    log.close().unwrap();
    assert_eq!(segments(&bench)[0], "000000000000.jsonl.zst");
    (bench, events)
}

#[test]
fn a_record_of_a_sealed_segment_is_read_without_unpacking_all_of_it() {
    let (bench, events) = framed();
    let name = path("000000000000.jsonl.zst");
    let good = bench.disk.content(&name).unwrap();
    let late = events - 100;
    for seq in [0, 1, 2, 400, 401, 800, late, events] {
        assert_eq!(bench.reader().records(seq).next().unwrap().unwrap().seq, seq);
    }
    // A damaged first frame is none of the last one's business; whoever reads it is told.
    let mut bad = good.clone();
    bad[1_000] ^= 1;
    bench.disk.overwrite(&name, bad);
    assert_eq!(bench.reader().records(late).next().unwrap().unwrap().seq, late);
    assert!(bench.reader().records(0).next().unwrap().is_err());
    assert!(bench.verify().is_err());
    let (lines, next) = symbi_audit::lines(&bench.disk, directory(), late, 1).unwrap();
    assert_eq!((lines.iter().filter(|byte| **byte == b'\n').count(), next), (1, late + 1));
}

#[test]
fn a3_every_flipped_bit_of_an_index_is_found_by_whoever_uses_it() {
    let (bench, events) = framed();
    let name = path("000000000000.jsonl.zst");
    let good = bench.disk.content(&name).unwrap();
    let step = if std::env::var_os("SYMBI_LONG").is_some() { 1 } else { 11 };
    for bit in ((good.len() - 500) * 8..good.len() * 8).step_by(step) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bench.disk.overwrite(&name, bad);
        bench.verify().expect_err("a flipped bit must be found");
        if let Some(Ok(record)) = bench.reader().records(events - 100).next() {
            assert_eq!(record.seq, events - 100, "bit {bit}");
        }
    }
}
