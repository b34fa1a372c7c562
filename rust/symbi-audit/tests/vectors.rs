//! The test vectors of docs/formats/audit-log.md: `tests/data/trail-v1` is what this program writes, byte for byte.
//!
//! A change that breaks this test changes the format: it needs a new version, not new vectors.
//! `SYMBI_WRITE_VECTORS=1` writes them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a fault is a failure"
)]

mod common;

use std::path::PathBuf;

use common::{Bench, directory, key, path};
use symbi_audit::{Event, VerifyOptions, verify};
use symbi_types::{AgentId, LabelSet, OperationId, RunId};

const FILES: [&str; 2] = ["000000000000.jsonl", "head"];

fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/trail-v1")
}

/// One of everything that the format has.
fn history() -> Bench {
    let mut bench = Bench::new();
    // A clock that stands still between the events: the log's threads read it too, as often as they like.
    bench.clock = std::sync::Arc::new(symbi_testkit::FakeClock::new());
    bench.options.clock = bench.clock.clone();
    bench.options.policy_digest = "0".repeat(64);
    let log = bench.open();
    let labels: LabelSet = ["personal", "phi"].iter().map(|label| label.parse().unwrap()).collect();
    let subjects = ["p-7f3a".to_owned()];
    let entropy = symbi_testkit::SeededEntropy::new(3);
    let event = Event {
        agent_id: Some(AgentId::random(&entropy)),
        run: Some(RunId::random(&entropy)),
        op: Some(OperationId::random(&entropy)),
        decision: Some("redact"),
        policy: Some("1a2b"),
        labels: &labels,
        subjects: &subjects,
        personal: Some(r#"{"p-7f3a":"c2VhbGVk"}"#),
        ..Event::new("tool.called", r#"{"bytes":18230,"ratio":0.25,"text":"\"é\" \\ 😀\n"}"#)
    };
    bench.clock.advance_us(1_234);
    log.append(&event).unwrap();
    bench.clock.advance_us(998_766);
    log.append(&Event { agent_text: Some("an application's own \"name\""), ..Event::new("note", "{}") })
        .unwrap();
    log.rotate(&key(2)).unwrap();
    log.append(&Event::new("note", r#"{"signed":"by the second key"}"#)).unwrap();
    log.close().unwrap();
    bench.clock.advance_us(60_000_000);
    bench.options.signing_key = key(2);
    let log = bench.open();
    bench.clock.set_wall_us(symbi_testkit::FakeClock::START_US + 86_400_000_000);
    log.append(&Event::new("note", "{}")).unwrap();
    log.close().unwrap();
    bench
}

#[test]
fn the_vectors_are_what_the_log_writes() {
    let bench = history();
    for name in FILES {
        let made = bench.disk.content(&path(name)).unwrap();
        let kept = place().join(name);
        if std::env::var_os("SYMBI_WRITE_VECTORS").is_some() {
            std::fs::create_dir_all(place()).unwrap();
            std::fs::write(&kept, &made).unwrap();
        }
        assert!(std::fs::read(&kept).unwrap() == made, "{name}");
    }
    let _ = directory();
}

#[test]
fn the_vectors_verify_with_the_fingerprints_of_their_page() {
    let options = VerifyOptions { key: Some(key(1).key_id()), ..VerifyOptions::default() };
    let found = verify(&place(), &options).unwrap();
    assert_eq!(found.records, 9);
    assert_eq!(found.keys, [key(1).key_id(), key(2).key_id()]);
}

#[test]
fn a_sealed_trail_of_the_form_before_frames_is_read_verified_and_gone_on_with() {
    // What the log wrote before segments were packed in frames: kept as a file, for it is not written any more.
    let kept = place().with_file_name("trail-v1-sealed");
    let found =
        verify(&kept, &VerifyOptions { key: Some(key(1).key_id()), ..VerifyOptions::default() }).unwrap();
    assert_eq!(found.records, 22);
    let bench = Bench::new();
    for entry in std::fs::read_dir(&kept).unwrap() {
        let name = entry.unwrap().path();
        bench
            .disk
            .overwrite(&path(name.file_name().unwrap().to_str().unwrap()), std::fs::read(&name).unwrap());
    }
    assert_eq!(bench.records().len(), 22);
    assert_eq!(bench.reader().records(9).next().unwrap().unwrap().seq, 9);
    common::fill(&bench.open(), 3);
    assert_eq!(bench.verify().unwrap().records, 26);
}
