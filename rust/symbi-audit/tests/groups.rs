//! One signature for a group of records: as safe as one each, for whoever has the log (A1, A2, A3, A4, A10).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::sync::Arc;

use common::{Bench, directory, flipped_bits_are_named, key, path};
use symbi_audit::{Event, Log, Proof, Signing, VerifyOptions};
use symbi_testkit::Disk;

fn grouped() -> Bench {
    let mut bench = Bench::new();
    bench.options.signing = Signing::Group;
    bench.options.signers = 1;
    bench
}

fn append(log: &Log, count: usize) {
    let details: Vec<String> = (0..count).map(|at| format!(r#"{{"number":{at},"text":"é 😀"}}"#)).collect();
    let events: Vec<Event<'_>> = details.iter().map(|details| Event::new("test.event", details)).collect();
    log.append_many(&events).unwrap();
}

fn filled(count: usize) -> Bench {
    let bench = grouped();
    let log = bench.open();
    append(&log, count);
    log.close().unwrap();
    bench
}

fn segment() -> std::path::PathBuf {
    path("000000000000.jsonl")
}

fn copy(bench: &Bench) -> Bench {
    let disk = Disk::new();
    for name in bench.disk.names() {
        disk.overwrite(&name, bench.disk.content(&name).unwrap());
    }
    let mut copy = Bench::on(disk);
    copy.options.signing = Signing::Group;
    copy
}

#[test]
fn a1_records_of_a_group_share_one_signature_and_the_logs_own_have_theirs() {
    let bench = filled(100);
    let records = bench.records();
    assert_eq!(records.len(), 102);
    for record in &records {
        let own = record.event_type.starts_with("log.");
        assert_eq!(record.is_grouped, !own, "{}", record.line);
        assert!(record.line.starts_with(if own { "{\"v\":1," } else { "{\"v\":2," }), "{}", record.line);
        assert!(!own || record.signature.is_some());
    }
    let signed = records.iter().filter(|record| record.signature.is_some()).count();
    assert!((4..20).contains(&signed), "{signed} signatures for 102 records");
    assert!(records.last().unwrap().signature.is_some(), "the last of a group has it");
    assert_eq!(bench.verify().unwrap().records, 102);
}

#[test]
fn a_log_may_change_what_is_signed_and_its_key_from_one_opening_to_the_next() {
    let mut bench = filled(10);
    bench.options.signing = Signing::Event;
    let log = bench.open();
    append(&log, 10);
    log.close().unwrap();
    bench.options.signing = Signing::Group;
    let log = bench.open();
    append(&log, 10);
    log.rotate(&key(2)).unwrap();
    append(&log, 10);
    log.close().unwrap();
    let found = bench.verify().unwrap();
    assert_eq!((found.records, found.keys.len()), (45, 2));
    bench.options.signing_key = key(2);
    bench.open().close().unwrap();
}

#[test]
fn a3_every_flipped_bit_of_a_log_in_groups_is_found_and_named() {
    // A short run takes the suffixes whole and every fifth bit of the rest.
    let bench = filled(4);
    let long = std::env::var_os("SYMBI_LONG").is_some();
    let is_taken = |at: usize, left: usize, bit: usize| long || left < 20 || (at * 8 + bit).is_multiple_of(5);
    let seq = flipped_bits_are_named(&copy(&bench), &segment(), is_taken);
    assert_eq!(seq, 6);
}

#[test]
fn a4_a_signature_that_is_taken_off_put_on_or_moved_is_found() {
    let mut bench = filled(3);
    for round in 0..3 {
        bench.options.entropy = Arc::new(symbi_testkit::SeededEntropy::new(40 + round));
        let log = bench.open();
        append(&log, 3);
        log.close().unwrap();
    }
    let records = bench.records();
    let (short, long) = (88, 174);
    let lines = bench.lines();
    for (at, record) in records.iter().enumerate().filter(|(_, record)| record.is_grouped) {
        let mut bad = lines.clone();
        let link: String = record.chain.iter().map(|byte| format!("{byte:02x}")).collect();
        let suffix = if record.signature.is_some() {
            format!(",\"chain\":\"{link}\",\"sig\":null}}\n")
        } else {
            let other = &lines[records.iter().rposition(|other| other.signature.is_some()).unwrap()];
            format!(",\"chain\":\"{link}{}", std::str::from_utf8(&other[other.len() - 100..]).unwrap())
        };
        let body = lines[at].len() - if record.signature.is_some() { long } else { short };
        bad[at] = [&lines[at][..body], suffix.as_bytes()].concat();
        let victim = copy(&bench);
        victim.disk.overwrite(&segment(), bad.concat());
        let error = victim.verify().expect_err("another signature must be found");
        // Where the last of all is taken, the group is named that has none now.
        assert!(error.seq >= at as u64 || at + 1 == lines.len(), "{at}: {error}");
    }
}

#[test]
fn a5_a_group_whose_signature_did_not_reach_the_disk_is_told_not_judged_and_cut_when_opened() {
    let bench = filled(6);
    let mut content = bench.disk.content(&segment()).unwrap();
    let more = {
        let more = copy(&bench);
        let log = more.open();
        append(&log, 3);
        log.close().unwrap();
        more.lines()
    };
    for line in &more[8..11] {
        content.extend_from_slice(line);
    }
    let torn = copy(&bench);
    torn.disk.overwrite(&segment(), content.clone());
    let found = torn.verify().unwrap();
    let vouched: usize =
        more[8..11].iter().rposition(|line| !line.ends_with(b"null}\n")).map_or(0, |at| at + 1);
    assert_eq!(found.records, 8 + vouched as u64);
    let left: usize = more[8 + vouched..11].iter().map(Vec::len).sum();
    assert_eq!(found.tail_bytes, left as u64);
    assert!(left > 0, "the test cuts a group in two");
    let (log, report) = Log::open(directory(), &torn.options).unwrap();
    assert_eq!((report.records, report.cut_bytes), (found.records, left as u64));
    append(&log, 2);
    log.close().unwrap();
    torn.verify().unwrap();
}

#[test]
fn a5_every_record_of_a_group_is_proven_alone_and_no_changed_bit_of_a_proof_holds() {
    let bench = filled(70);
    let prover = bench.reader().prover(None).unwrap();
    let fingerprint = key(1).key_id();
    for seq in 0..72 {
        let text = prover.prove(seq, None).unwrap().to_string();
        let proof: Proof = text.parse().unwrap();
        let proven = proof.check(Some(fingerprint)).unwrap();
        assert_eq!(proven.record.seq, seq);
        assert_eq!(proven.record.signature.is_none(), proven.record.is_grouped);
    }
    let good = prover.prove(40, None).unwrap().to_string();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone().into_bytes();
        bad[bit / 8] ^= 1 << (bit % 8);
        let held = String::from_utf8(bad).ok().and_then(|text| text.parse::<Proof>().ok());
        assert!(held.is_none_or(|proof| proof.check(Some(fingerprint)).is_err()), "bit {bit}");
    }
}

#[test]
fn a_range_that_begins_or_ends_within_a_group_is_verified_with_its_signature() {
    let bench = filled(100);
    let storage: Arc<dyn symbi_types::Storage> = Arc::new(bench.disk.clone());
    for range in [0..102, 5..9, 30..31, 64..70, 101..102] {
        let options = VerifyOptions {
            range: Some(range.clone()),
            storage: Some(storage.clone()),
            ..VerifyOptions::default()
        };
        let found = symbi_audit::verify(directory(), &options).unwrap();
        assert_eq!((found.first, found.records), (range.start, range.end));
    }
}
