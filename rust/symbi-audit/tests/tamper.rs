//! Whatever is changed in a closed log is found, and named (A1, A3, A8).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Bench, directory, fill, flipped_bits_are_named, key, path};
use symbi_audit::{Event, VerifyError, VerifyOptions};
use symbi_testkit::Disk;

/// Records 0 and 1 are the log's own.
const EVENTS: usize = 198;

fn filled(count: usize) -> Bench {
    let bench = Bench::new();
    fill(&bench.open(), count);
    bench
}

fn segment() -> std::path::PathBuf {
    path("000000000000.jsonl")
}

/// The log with other bytes in place of its only segment.
fn with_segment(bench: &Bench, content: Vec<u8>) -> Bench {
    let disk = Disk::new();
    for name in bench.disk.names() {
        disk.overwrite(&name, bench.disk.content(&name).unwrap());
    }
    disk.overwrite(&segment(), content);
    Bench::on(disk)
}

fn verify_lines(bench: &Bench, lines: &[Vec<u8>]) -> Result<u64, VerifyError> {
    with_segment(bench, lines.concat()).verify().map(|verified| verified.records)
}

#[test]
fn a3_every_flipped_bit_of_a_200_event_log_is_found_and_named() {
    let bench = filled(EVENTS);
    let good = bench.disk.content(&segment()).unwrap();
    let mut record_of = Vec::with_capacity(good.len());
    let mut seq = 0u64;
    for byte in &good {
        record_of.push(seq);
        seq += u64::from(*byte == b'\n');
    }
    assert_eq!(seq, 200);
    // All 900,000 take half an hour: a short run takes every 601st, a long one each of the first twenty events and every
    // 31st of the rest; the test below is exhaustive on each kind.
    let victim = Disk::new();
    for name in bench.disk.names() {
        victim.overwrite(&name, bench.disk.content(&name).unwrap());
    }
    let long = std::env::var_os("SYMBI_LONG").is_some();
    let checked = Bench::on(victim);
    let mut flips = 0;
    let is_taken = |bit: &usize| {
        if long { bit.is_multiple_of(31) || record_of[bit / 8] < 22 } else { bit.is_multiple_of(601) }
    };
    for bit in (0..good.len() * 8).filter(is_taken) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        checked.disk.overwrite(&segment(), bad);
        let error = checked.verify().expect_err("a flipped bit must be found");
        let expected = record_of[bit / 8];
        // A newline that is gone joins two records: the first of them is named. One that appears splits its own.
        assert_eq!(error.seq, expected, "bit {bit}: {error}");
        flips += 1;
    }
    assert!(flips > 1_000);
}

#[test]
fn a3_every_flipped_bit_of_every_kind_of_record_is_found_and_named() {
    // Exhaustive on a log that holds each kind of record once; the 200-event log above is sampled in a short run.
    let bench = Bench::new();
    let log = bench.open();
    log.append(&Event::new("test.event", r#"{"a":[1,2.5,"é\n"],"b":{"c":null}}"#)).unwrap();
    log.rotate(&key(2)).unwrap();
    log.append(&Event { personal: Some(r#"{"p":"x"}"#), ..Event::new("test.event", "{}") }).unwrap();
    log.close().unwrap();
    let good = bench.disk.content(&segment()).unwrap();
    let checked = with_segment(&bench, good.clone());
    let seq = flipped_bits_are_named(&checked, &segment(), |_, _, _| true);
    assert_eq!(seq, 5);
}

#[test]
fn a3_every_flipped_bit_of_head_is_found() {
    let bench = filled(3);
    let good = bench.disk.content(&path("head")).unwrap();
    // Each bit of the two lines; of the zeros after them every 61st.
    let telling = |bit: &usize| bit / 8 % 4096 < 400 || bit.is_multiple_of(61);
    for bit in (0..good.len() * 8).filter(telling) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bench.disk.overwrite(&path("head"), bad);
        bench.verify().expect_err("a flipped bit must be found");
    }
}

#[test]
fn a3_every_flipped_bit_of_a_sealed_segment_is_found() {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 1_500;
    let log = bench.open();
    fill(&log, 8);
    let name = path("000000000000.jsonl.zst");
    let good = bench.disk.content(&name).expect("the first segment is sealed");
    bench.verify().unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bench.disk.overwrite(&name, bad);
        bench.verify().expect_err(&format!("bit {bit} of {}", good.len() * 8));
    }
    for length in 0..good.len() {
        bench.disk.overwrite(&name, good[..length].to_vec());
        bench.verify().expect_err("a cut segment must be found");
    }
    let twice = [good.clone(), good.clone()].concat();
    bench.disk.overwrite(&name, twice);
    bench.verify().expect_err("a second frame must be found");
}

#[test]
fn a4_a_deleted_record_is_named_wherever_it_was() {
    let bench = filled(18);
    let lines = bench.lines();
    for at in 0..lines.len() {
        let mut bad = lines.clone();
        bad.remove(at);
        assert_eq!(verify_lines(&bench, &bad).unwrap_err().seq, at as u64);
    }
}

#[test]
fn a4_duplicates_swaps_and_insertions_are_named() {
    let bench = filled(18);
    let lines = bench.lines();
    for at in 0..lines.len() {
        let mut twice = lines.clone();
        twice.insert(at, lines[at].clone());
        assert_eq!(verify_lines(&bench, &twice).unwrap_err().seq, at as u64 + 1, "twice");
        if at + 1 < lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            assert_eq!(verify_lines(&bench, &swapped).unwrap_err().seq, at as u64, "swapped");
        }
        let mut inserted = lines.clone();
        inserted.insert(at, b"{}\n".to_vec());
        assert_eq!(verify_lines(&bench, &inserted).unwrap_err().seq, at as u64, "inserted");
    }
}

#[test]
fn a4_a_log_cut_at_any_record_or_byte_is_found() {
    let bench = filled(8);
    let lines = bench.lines();
    let whole = lines.concat();
    for length in 0..whole.len() {
        let error = with_segment(&bench, whole[..length].to_vec()).verify().unwrap_err();
        let records = whole[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(error.seq, records, "cut at byte {length}: {error}");
    }
    let error = verify_lines(&bench, &lines[..5]).unwrap_err();
    assert!(error.truncated, "{error}");
}

#[test]
fn a4_records_of_another_log_and_of_another_key_are_refused() {
    let bench = filled(8);
    let mut other = Bench::new();
    other.options.entropy = Arc::new(symbi_testkit::SeededEntropy::new(99));
    fill(&other.open(), 8);
    let (lines, strange) = (bench.lines(), other.lines());
    for at in 1..lines.len() {
        let mut spliced = lines.clone();
        spliced[at] = strange[at].clone();
        assert_eq!(verify_lines(&bench, &spliced).unwrap_err().seq, at as u64, "one record");
        let grafted: Vec<_> = lines[..at].iter().chain(&strange[at..]).cloned().collect();
        assert_eq!(verify_lines(&bench, &grafted).unwrap_err().seq, at as u64, "all after");
    }
    let mut resigned = Bench::new();
    resigned.options.signing_key = key(9);
    fill(&resigned.open(), 8);
    for at in 0..lines.len() {
        let mut spliced = lines.clone();
        spliced[at] = resigned.lines()[at].clone();
        // Another record 0 stands for itself: it is the first record after it that does not fit.
        let named = if at == 0 { 1 } else { at as u64 };
        assert_eq!(verify_lines(&bench, &spliced).unwrap_err().seq, named, "signed by another");
    }
}

#[test]
fn a4_a_signature_of_another_record_of_the_same_key_is_refused() {
    let bench = filled(8);
    let lines = bench.lines();
    for at in 0..lines.len() {
        let mut bad = lines.clone();
        let from = &lines[(at + 1) % lines.len()];
        let signature = from[from.len() - 91..].to_vec();
        let end = bad[at].len();
        bad[at].splice(end - 91.., signature);
        assert_eq!(verify_lines(&bench, &bad).unwrap_err().seq, at as u64);
    }
}

#[test]
fn a3_verification_goes_on_after_the_first_bad_record_and_tells_one_flaw_from_many() {
    let bench = filled(48);
    let mut lines = bench.lines();
    for at in [10, 30] {
        let place = lines[at].windows(8).position(|bytes| bytes == b"\"number\"").unwrap();
        lines[at][place + 1] = b'N';
    }
    let error = verify_lines(&bench, &lines).unwrap_err();
    assert_eq!(error.seq, 10);
    assert_eq!(error.others.iter().map(|finding| finding.seq).collect::<Vec<_>>(), [30]);
    assert_eq!(error.good, 48);
}

#[test]
fn a8_verifying_and_reading_change_nothing() {
    let bench = filled(8);
    let before = bench.disk.trace().len();
    bench.verify().unwrap();
    bench.records();
    with_segment(&bench, b"garbage\n".to_vec()).verify().unwrap_err();
    assert_eq!(bench.disk.trace().len(), before);
}

#[test]
fn a5_opening_refuses_damage_up_to_head_and_changes_nothing() {
    let bench = filled(20);
    let good = bench.disk.content(&segment()).unwrap();
    let body_of_10 = bench.lines()[..10].concat().len() + 40;
    for (content, seq) in [
        (
            {
                let mut bad = good.clone();
                bad[body_of_10] ^= 1;
                bad
            },
            10,
        ),
        (good[..good.len() - 1].to_vec(), 21),
        (good[..bench.lines()[..5].concat().len()].to_vec(), 5),
        (Vec::new(), 0),
    ] {
        let damaged = with_segment(&bench, content.clone());
        let error = damaged.try_open().err().expect("damage must be refused");
        let named = match error {
            symbi_audit::LogError::ChainBroken { seq, .. } | symbi_audit::LogError::Truncated { seq, .. } => {
                seq
            }
            other => panic!("{other}"),
        };
        assert_eq!(named, seq);
        assert_eq!(damaged.disk.content(&segment()).unwrap(), content);
    }
    let headless = with_segment(&bench, good);
    symbi_types::Storage::remove(&headless.disk, Path::new(&path("head"))).unwrap();
    assert!(headless.try_open().is_err());
    assert!(headless.verify().is_err());
    let _ = directory();
}

/// The first record of each plain segment, in order, and one past the last.
fn segments(bench: &Bench) -> Vec<(u64, std::path::PathBuf)> {
    let named = |name: &std::path::PathBuf| {
        let digits = name.file_name()?.to_str()?.strip_suffix(".jsonl")?.to_owned();
        Some((digits.parse().ok()?, name.clone()))
    };
    bench.disk.names().iter().filter_map(named).collect()
}

#[test]
fn a3_random_bits_of_a_long_log_are_named_by_verifying_their_segment_alone() {
    // `SYMBI_LONG=1`: a million events, 600 bits, about 0.3 s each.
    let (events, flips) =
        if std::env::var_os("SYMBI_LONG").is_some() { (1_000_000, 600) } else { (4_000, 60) };
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = if events > 10_000 { 4 << 20 } else { 200_000 };
    bench.options.seal_segments = false;
    fill(&bench.open(), events);
    let storage: Arc<dyn symbi_types::Storage> = Arc::new(bench.disk.clone());
    let segments = segments(&bench);
    assert!(segments.len() > 8);
    let total = events as u64 + 2;
    let mut dice = 0x9e37_79b9_7f4a_7c15u64;
    let mut roll = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    for flip in 0..flips {
        let at = usize::try_from(roll(segments.len() as u64)).unwrap();
        let (first, name) = &segments[at];
        let end = segments.get(at + 1).map_or(total, |(next, _)| *next);
        let good = bench.disk.content(name).unwrap();
        if good.is_empty() {
            continue; // the one that the last record opened
        }
        let bit = usize::try_from(roll(good.len() as u64 * 8)).unwrap();
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bench.disk.overwrite(name, bad);
        let range = VerifyOptions {
            range: Some(*first..end),
            storage: Some(storage.clone()),
            ..VerifyOptions::default()
        };
        let error = symbi_audit::verify(directory(), &range).expect_err("a flipped bit must be found");
        let seq = first + good[..bit / 8].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(error.seq, seq, "flip {flip}, bit {bit} of segment {first}: {error}");
        bench.disk.overwrite(name, good);
    }
    bench.verify().expect("whole again");
}
