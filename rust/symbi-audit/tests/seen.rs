//! Records that are shown while they are verified: all of them, in order, as they are; none from a trail that fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::sync::Arc;

use common::{Bench, directory, fill, path};
use symbi_audit::{Event, Query, Signing, Times, VerifyOptions, survey, verify_with};
use symbi_crypto::sha256;
use symbi_types::Storage;

fn options(bench: &Bench) -> VerifyOptions {
    let storage: Arc<dyn Storage> = Arc::new(bench.disk.clone());
    VerifyOptions { storage: Some(storage), ..VerifyOptions::default() }
}

#[test]
fn every_record_is_shown_once_in_order_with_its_details() {
    let bench = Bench::new();
    fill(&bench.open(), 700); // more than one group of signatures
    let mut seen = Vec::new();
    let verified = verify_with(directory(), &options(&bench), &mut |record| {
        seen.push((record.seq, record.event_type.to_owned(), record.details.to_owned()));
    });
    let read = bench.records().into_iter().map(|record| (record.seq, record.event_type, record.details));
    assert_eq!(seen, read.collect::<Vec<_>>());
    assert_eq!(verified.unwrap().records, seen.len() as u64);
}

/// Appends records that nobody signed, as whoever can write the directory may: the chain has no secret.
fn forge(bench: &Bench, count: u64) {
    let log_id = bench.verify().unwrap().log_id;
    let last = bench.records().pop().unwrap();
    let (body, _) = last.line.rsplit_once(",\"chain\":").unwrap();
    let (mut previous, segment) = (last.chain, path("000000000000.jsonl"));
    let mut content = bench.disk.content(&segment).unwrap();
    for seq in last.seq + 1..last.seq + 1 + count {
        let front = format!("{{\"v\":2,\"seq\":{seq},");
        let body = body.replacen(&format!("{{\"v\":1,\"seq\":{},", last.seq), &front, 1).replacen(
            "test.event",
            "test.forged",
            1,
        );
        previous =
            sha256(&[b"symbi/audit/chain/v1\0", &log_id.0, &seq.to_be_bytes(), &previous, body.as_bytes()]);
        let link: String = previous.iter().map(|byte| format!("{byte:02x}")).collect();
        content.extend_from_slice(format!("{body},\"chain\":\"{link}\",\"sig\":null}}\n").as_bytes());
    }
    bench.disk.overwrite(&segment, content);
}

#[test]
fn a2_records_that_nobody_signed_are_neither_shown_nor_counted() {
    for count in [3, 2_000] {
        let bench = Bench::new();
        let log = bench.open();
        for _ in 0..20 {
            log.append(&Event::new("test.event", "{}")).unwrap();
        }
        let checkpoint = log.checkpoint().unwrap();
        fill(&log, 10); // and closes it
        let genuine = bench.records().len() as u64;
        forge(&bench, count);
        for checkpoints in [Vec::new(), vec![checkpoint]] {
            let since_checkpoint = !checkpoints.is_empty();
            let given = VerifyOptions { checkpoints, since_checkpoint, ..options(&bench) };
            let mut numbers = Vec::new();
            let found = verify_with(directory(), &given, &mut |record| numbers.push(record.seq)).unwrap();
            assert_eq!((found.records, found.tail_bytes > 0), (genuine, true), "told, and not judged");
            assert_eq!(numbers, (0..genuine).collect::<Vec<_>>());
            let queries = ["test.forged", "test.event"]
                .map(|kind| Query { event_type: Some(kind.into()), ..Query::default() });
            let times = Times { since_us: 0, until_us: u64::MAX, parts: 1 };
            let (_, tallies) = survey(directory(), &given, &queries, &times).unwrap();
            assert_eq!((tallies[0].count, tallies[1].count), (0, 30));
        }
    }
}

#[test]
fn records_of_a_group_are_shown_in_order_once_it_is_signed() {
    let mut bench = Bench::new();
    bench.options.signing = Signing::Group;
    fill(&bench.open(), 700);
    let shown: Option<fn(&str) -> bool> = Some(|event_type| event_type == "test.event");
    for shown in [None, shown] {
        let given = VerifyOptions { shown, ..options(&bench) };
        let mut seen = Vec::new();
        verify_with(directory(), &given, &mut |record| {
            seen.push((record.seq, record.event_type.to_owned(), record.details.to_owned()));
        })
        .unwrap();
        let read = bench.records().into_iter().map(|record| (record.seq, record.event_type, record.details));
        let takes = |kind: &str| shown.is_none_or(|shown| shown(kind));
        assert_eq!(seen, read.filter(|(_, kind, _)| takes(kind)).collect::<Vec<_>>());
    }
}

#[test]
fn what_a_checkpoint_covers_is_shown_too() {
    let bench = Bench::new();
    let log = bench.open();
    for _ in 0..20 {
        log.append(&Event::new("test.event", "{}")).unwrap();
    }
    let checkpoint = log.checkpoint().unwrap();
    fill(&log, 10); // and closes it
    let given = VerifyOptions { checkpoints: vec![checkpoint], since_checkpoint: true, ..options(&bench) };
    let mut numbers = Vec::new();
    verify_with(directory(), &given, &mut |record| numbers.push(record.seq)).unwrap();
    assert_eq!(numbers, (0..bench.records().len() as u64).collect::<Vec<_>>());
}

#[test]
fn only_the_kinds_that_are_asked_for_are_shown_and_all_are_verified() {
    let bench = Bench::new();
    let log = bench.open();
    for at in 0..30 {
        log.append(&Event::new(if at % 3 == 0 { "test.one" } else { "test.other" }, "{}")).unwrap();
    }
    let checkpoint = log.checkpoint().unwrap();
    fill(&log, 10);
    let all = bench.records().len() as u64;
    for checkpoints in [Vec::new(), vec![checkpoint]] {
        let since_checkpoint = !checkpoints.is_empty();
        let shown: Option<fn(&str) -> bool> = Some(|event_type| event_type == "test.one");
        let given = VerifyOptions { checkpoints, since_checkpoint, shown, ..options(&bench) };
        let mut kinds = Vec::new();
        let verified =
            verify_with(directory(), &given, &mut |record| kinds.push(record.event_type.to_owned())).unwrap();
        assert_eq!((verified.records, kinds), (all, vec!["test.one".to_owned(); 10]));
    }
}
