//! Records that are shown while they are verified: all of them, in order, as they are; none from a trail that fails.

mod common;

use std::sync::Arc;

use common::{Bench, directory, fill};
use symbi_audit::{Event, VerifyOptions, verify_with};
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
