//! Checkpoints and proofs: made by the log, checked by anybody, refused when anything about them is other (A4, A5).

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
use symbi_audit::{
    Checkpoint, Event, Level, LogError, Proof, Verification, VerifierKey, VerifyError, VerifyOptions, merkle,
};
use symbi_testkit::Disk;

fn append(bench: &Bench, count: usize) -> Checkpoint {
    let log = bench.open();
    for at in 0..count {
        log.append(&Event::new("test.event", &format!(r#"{{"number":{at}}}"#))).unwrap();
    }
    let checkpoint = log.checkpoint().unwrap();
    log.close().unwrap();
    checkpoint
}

fn options(bench: &Bench) -> VerifyOptions {
    VerifyOptions { storage: Some(Arc::new(bench.disk.clone())), ..VerifyOptions::default() }
}

fn against(bench: &Bench, checkpoints: &[&Checkpoint]) -> Result<Verification, VerifyError> {
    let checkpoints = checkpoints.iter().map(|one| (*one).clone()).collect();
    symbi_audit::verify(directory(), &VerifyOptions { checkpoints, ..options(bench) })
}

fn copy(bench: &Bench) -> Bench {
    let disk = Disk::new();
    for name in bench.disk.names() {
        disk.overwrite(&name, bench.disk.content(&name).unwrap());
    }
    Bench::on(disk)
}

#[test]
fn a5_pr1_pr2_every_record_of_a_log_is_proven_and_checked_with_nothing_but_the_fingerprint() {
    let bench = Bench::new();
    append(&bench, 300);
    let prover = bench.reader().prover(None).unwrap();
    let records = bench.records();
    assert_eq!(prover.checkpoint().size(), records.len() as u64, "closing the log makes one over all");
    for record in &records {
        let proof = prover.prove(record.seq, None).unwrap();
        let given: Proof = proof.to_string().parse().unwrap();
        assert_eq!(given, proof);
        let proven = given.check(Some(key(1).key_id())).unwrap();
        assert!(proven.authentic && proven.record.line == record.line);
        assert!(given.check(Some(key(2).key_id())).is_err());
    }
    let LogError::Event { reason } = prover.prove(records.len() as u64, None).unwrap_err() else { panic!() };
    assert!(reason.contains("not under the checkpoint"), "{reason}");
}

#[test]
fn a5_any_changed_bit_of_a_proof_is_refused() {
    let bench = Bench::new();
    append(&bench, 20);
    let good = bench.reader().prover(None).unwrap().prove(7, None).unwrap().to_string();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone().into_bytes();
        bad[bit / 8] ^= 1 << (bit % 8);
        let read = String::from_utf8(bad).ok().and_then(|text| text.parse::<Proof>().ok());
        let held = read.is_some_and(|proof| proof.check(Some(key(1).key_id())).is_ok());
        assert!(!held, "bit {bit}");
    }
}

#[test]
fn ti1_tiles_are_a_projection_that_is_never_trusted_over_the_log() {
    let bench = Bench::new();
    append(&bench, 700);
    let whole = bench.reader().prover(None).unwrap().prove(5, None).unwrap();
    let good = bench.disk.content(&path("tiles-0")).unwrap();
    assert_eq!(good.len(), 702 * 32);
    assert_eq!(bench.disk.content(&path("tiles-1")).unwrap().len(), 2 * 32);
    for changed in [Vec::new(), good[..100].to_vec(), vec![0; good.len()]] {
        bench.disk.overwrite(&path("tiles-0"), changed);
        let proof = bench.reader().prover(None).unwrap().prove(5, None).unwrap();
        assert_eq!(proof, whole, "made from the log where the tiles are not those that were signed");
    }
    append(&bench, 10);
    assert_eq!(bench.disk.content(&path("tiles-0")).unwrap()[..good.len()], good, "they are made again");
    bench.verify().unwrap();
}

#[test]
fn ke2_checkpoints_of_every_size_agree_with_the_tree_over_the_log() {
    let bench = Bench::new();
    let log = bench.open();
    let mut made = Vec::new();
    for at in 0..40 {
        log.append(&Event::new("test.event", "{}")).unwrap();
        if at % 3 != 1 {
            made.push(log.checkpoint().unwrap());
        }
    }
    log.close().unwrap();
    let all: Vec<&Checkpoint> = made.iter().collect();
    let found = against(&bench, &all).unwrap();
    assert_eq!((found.level, found.complete_to, found.records), (Level::Complete, 42, 42));
    let prover = bench.reader().prover(None).unwrap();
    for old in &made {
        let hashes = prover.consistency(old).unwrap();
        let new = prover.checkpoint();
        merkle::check_consistency(old.size(), new.size(), old.root(), new.root(), &hashes).unwrap();
        let proof = bench.reader().prover(Some(old.clone())).unwrap().prove(1, None).unwrap();
        assert_eq!(proof.checkpoint.size(), old.size(), "and against an older one");
        proof.check(None).unwrap();
    }
}

#[test]
fn a4_a_trail_that_was_cut_back_to_an_older_genuine_state_is_found_by_a_checkpoint() {
    let bench = Bench::new();
    let first = append(&bench, 5);
    let older = copy(&bench);
    let second = append(&bench, 5);
    older.verify().expect("by itself it holds: that is why checkpoints are kept elsewhere");
    assert_eq!(against(&older, &[&first]).unwrap().level, Level::Complete);
    let error = against(&older, &[&second]).unwrap_err();
    assert!(error.truncated && error.seq == 7, "{error}");
    assert_eq!(against(&bench, &[&first, &second]).unwrap().complete_to, 13);
}

#[test]
fn a4_a_fork_that_its_own_key_signed_is_found_by_a_checkpoint() {
    let bench = Bench::new();
    let kept = append(&bench, 5);
    let mut fork = copy(&bench);
    let before = append(&bench, 1);
    fork.options.entropy = Arc::new(symbi_testkit::SeededEntropy::new(99));
    let other = append(&fork, 1);
    assert_eq!((before.size(), before.log_id()), (other.size(), other.log_id()));
    fork.verify().unwrap();
    assert_eq!(against(&fork, &[&kept, &other]).unwrap().complete_to, 9);
    let error = against(&fork, &[&kept, &before]).unwrap_err();
    assert_eq!((error.seq, error.truncated), (7, false), "{error}");
}

#[test]
fn a_checkpoint_of_another_log_or_key_is_refused() {
    let bench = Bench::new();
    let good = append(&bench, 5);
    let forged = Checkpoint::sign(good.log_id(), good.size(), *good.root(), &key(9));
    assert!(against(&bench, &[&forged]).unwrap_err().reason.contains("not signed by the key"));
    let foreign = Checkpoint::sign(symbi_types::LogId([1; 16]), good.size(), *good.root(), &key(1));
    assert!(against(&bench, &[&foreign]).unwrap_err().reason.contains("another log"));
    let lie = Checkpoint::sign(good.log_id(), good.size(), [0; 32], &key(1));
    assert!(against(&bench, &[&lie]).unwrap_err().reason.contains("made over"));
    assert!(bench.reader().prover(Some(forged)).is_err());
    assert!(bench.reader().prover(Some(lie)).is_err());
}

#[test]
fn the_checkpoint_beside_the_log_is_verified_with_it() {
    let bench = Bench::new();
    append(&bench, 5);
    let good = bench.disk.content(&path("checkpoint")).unwrap();
    for bit in (0..good.len() * 8).step_by(7) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bench.disk.overwrite(&path("checkpoint"), bad);
        assert!(bench.verify().is_err(), "bit {bit}");
    }
    bench.disk.overwrite(&path("checkpoint"), good);
    assert_eq!(bench.verify().unwrap().checkpoint, Some(7));
}

#[test]
fn since_a_checkpoint_signatures_before_it_are_not_needed_and_nothing_is_missed() {
    let bench = Bench::new();
    let kept = append(&bench, 50);
    let log = bench.open();
    log.rotate(&key(2)).unwrap();
    log.append(&Event::new("test.event", "{}")).unwrap();
    log.close().unwrap();
    let quick = |bench: &Bench| {
        let checkpoints = vec![kept.clone()];
        symbi_audit::verify(
            directory(),
            &VerifyOptions { checkpoints, since_checkpoint: true, ..options(bench) },
        )
    };
    let found = quick(&bench).unwrap();
    assert_eq!((found.level, found.complete_to, found.records), (Level::Complete, 52, 55));
    let segment = path("000000000000.jsonl");
    let good = bench.disk.content(&segment).unwrap();
    let changed = copy(&bench);
    for bit in (0..good.len() * 8).step_by(997) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        changed.disk.overwrite(&segment, bad);
        let seq = good[..bit / 8].iter().filter(|byte| **byte == b'\n').count() as u64;
        match quick(&changed) {
            // A signature that a checkpoint makes superfluous; only there a flipped bit may stay.
            Ok(_) => assert!(seq < kept.size(), "bit {bit}"),
            Err(error) => assert_eq!(error.seq, seq, "bit {bit}: {error}"),
        }
    }
}

#[test]
fn a_range_is_verified_by_itself_and_says_so() {
    let bench = Bench::new();
    append(&bench, 50);
    let log = bench.open();
    log.rotate(&key(2)).unwrap();
    for _ in 0..10 {
        log.append(&Event::new("test.event", "{}")).unwrap();
    }
    log.close().unwrap();
    let range = |bench: &Bench, from, to| {
        symbi_audit::verify(directory(), &VerifyOptions { range: Some(from..to), ..options(bench) })
    };
    for (from, to) in [(0, 64), (10, 20), (52, 55), (54, 64), (63, 64)] {
        let found = range(&bench, from, to).unwrap();
        assert_eq!((found.first, found.records, found.level), (from, to, Level::Consistent));
    }
    assert!(range(&bench, 60, 65).unwrap_err().truncated);
    let segment = path("000000000000.jsonl");
    let good = String::from_utf8(bench.disk.content(&segment).unwrap()).unwrap();
    let bad = good.replacen(r#"{"number":30}"#, r#"{"number":31}"#, 1);
    bench.disk.overwrite(&segment, bad.into_bytes());
    range(&bench, 0, 32).unwrap();
    range(&bench, 33, 64).unwrap();
    assert_eq!(range(&bench, 20, 40).unwrap_err().seq, 32);
}

#[test]
fn a3_no_checkpoint_vouches_within_a_range_where_none_is_judged() {
    let bench = Bench::new();
    let checkpoint = append(&bench, 50);
    let segment = path("000000000000.jsonl");
    let good = String::from_utf8(bench.disk.content(&segment).unwrap()).unwrap();
    let bad = good.replacen(r#"{"number":7}"#, r#"{"number":9}"#, 1);
    bench.disk.overwrite(&segment, bad.into_bytes());
    let given = |range: std::ops::Range<u64>| VerifyOptions {
        range: Some(range),
        checkpoints: vec![checkpoint.clone()],
        since_checkpoint: true,
        ..options(&bench)
    };
    assert_eq!(symbi_audit::verify(directory(), &given(5..12)).unwrap_err().seq, 9);
    let mut seen = Vec::new();
    let shown = symbi_audit::verify_with(directory(), &given(5..12), &mut |record| seen.push(record.seq));
    assert_eq!((shown.unwrap_err().seq, seen.first()), (9, Some(&5)), "{seen:?}");
    seen.clear();
    symbi_audit::verify_with(directory(), &given(12..20), &mut |record| seen.push(record.seq)).unwrap();
    assert_eq!(seen, (12..20).collect::<Vec<_>>(), "what stands around a range is not shown");
}

#[test]
fn cp2_a_checkpoint_after_a_rotation_is_signed_by_the_key_whose_turn_it_is() {
    let bench = Bench::new();
    let log = bench.open();
    let before = log.checkpoint().unwrap();
    log.rotate(&key(2)).unwrap();
    let after = log.checkpoint().unwrap();
    log.append(&Event::new("test.event", "{}")).unwrap();
    log.close().unwrap();
    assert!(before.check(&key(1).public()).is_ok() && after.check(&key(2).public()).is_ok());
    assert_eq!(against(&bench, &[&before, &after]).unwrap().complete_to, 3);
    let proof = bench.reader().prover(None).unwrap().prove(1, None).unwrap();
    assert!(proof.check(Some(key(2).key_id())).unwrap().authentic);
}

#[test]
fn ti2_segments_that_were_closed_have_a_checkpoint_and_proofs_reach_into_sealed_ones() {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 4_000;
    append(&bench, 60);
    assert!(bench.disk.names().iter().any(|name| name.to_string_lossy().ends_with(".zst")));
    let prover = bench.reader().prover(None).unwrap();
    for seq in [0, 1, 30, 61] {
        prover.prove(seq, None).unwrap().check(Some(key(1).key_id())).unwrap();
    }
    let last = bench.reader().checkpoint().unwrap().unwrap();
    assert_eq!(against(&bench, &[&last]).unwrap().complete_to, 62);
}

#[test]
fn witnesses_that_are_asked_for_must_have_signed() {
    let bench = Bench::new();
    let mut kept = append(&bench, 5);
    let witness = VerifierKey::witness("w.example/1", key(7).public()).unwrap();
    let asked = |kept: &Checkpoint| {
        let (checkpoints, witnesses) = (vec![kept.clone()], vec![witness.clone()]);
        symbi_audit::verify(directory(), &VerifyOptions { checkpoints, witnesses, ..options(&bench) })
    };
    assert!(asked(&kept).unwrap_err().reason.contains("did not sign"));
    kept.cosign("w.example/1", &key(7), 1_000);
    assert_eq!(asked(&kept).unwrap().witnessed_s, Some((1_000, 1_000)));
    bench.reader().keep_cosignatures(&kept).unwrap();
    let beside = bench.reader().checkpoint().unwrap().unwrap();
    assert_eq!(beside.check_witness(&witness), Ok(1_000), "it is kept beside the log too");
}

#[test]
fn ke1_a_checkpoint_is_not_signed_over_what_the_log_did_not_write() {
    let bench = Bench::new();
    let log = bench.open();
    for _ in 0..5 {
        log.append(&Event::new("test.event", r#"{"a":1}"#)).unwrap();
    }
    log.wait_durable(6, std::time::Duration::from_secs(20)).unwrap();
    let segment = path("000000000000.jsonl");
    let mut content = bench.disk.content(&segment).unwrap();
    let at = content.windows(7).position(|part| part == br#"{"a":1}"#).unwrap();
    content[at + 5] ^= 1;
    bench.disk.overwrite(&segment, content);
    assert!(matches!(log.checkpoint(), Err(LogError::ChainBroken { seq: 2, .. })));
    log.close().unwrap();
    assert!(bench.reader().checkpoint().unwrap().is_none(), "nor at the end");
}

#[test]
fn ex1_a_copy_made_beside_the_writer_holds_by_itself() {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 4_000;
    append(&bench, 40);
    let log = Arc::new(bench.open());
    let writer = {
        let log = log.clone();
        std::thread::spawn(move || {
            for _ in 0..200 {
                log.append(&Event::new("test.event", "{}")).unwrap();
            }
        })
    };
    for round in 0..5 {
        let target = std::path::PathBuf::from(format!("/copy-{round}"));
        symbi_audit::export(&bench.disk, directory(), &target).unwrap();
        let found = symbi_audit::verify(&target, &options(&bench)).unwrap();
        assert!(found.records >= 42 && found.checkpoint.is_some());
    }
    writer.join().unwrap();
    log.close().unwrap();
    let (lines, next) = symbi_audit::lines(&bench.disk, directory(), 10, usize::MAX).unwrap();
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count() as u64, next - 10);
}

#[test]
fn a4_a_forged_rotation_before_a_range_gives_nobody_a_key() {
    let bench = Bench::new();
    let log = bench.open();
    log.rotate(&key(2)).unwrap();
    for _ in 0..5 {
        log.append(&Event::new("test.event", "{}")).unwrap();
    }
    log.close().unwrap();
    let segment = path("000000000000.jsonl");
    let good = String::from_utf8(bench.disk.content(&segment).unwrap()).unwrap();
    // The body of the rotation says another key, which signed for itself; link and signature are the genuine ones.
    let line = good.lines().nth(2).unwrap();
    let part = |name: &str| {
        let from = line.find(&format!("\"{name}\":\"")).unwrap() + name.len() + 4;
        line[from..].split('"').next().unwrap().to_owned()
    };
    let other = key(9);
    let id = bench.reader().summary().unwrap().log_id;
    let message: Vec<u8> = [
        b"symbi/audit/rotation/v1\0".as_slice(),
        &id.0,
        &2u64.to_be_bytes(),
        &key(1).public().0,
        &other.public().0,
    ]
    .concat();
    let forged = line
        .replace(&part("new_key"), &base64_of(&other.public().0))
        .replace(&part("new_sig"), &base64_of(&other.sign(&message)));
    bench.disk.overwrite(&segment, good.replace(line, &forged).into_bytes());
    let range = VerifyOptions { range: Some(3..8), key: Some(key(1).key_id()), ..options(&bench) };
    assert_eq!(symbi_audit::verify(directory(), &range).unwrap_err().seq, 2);
    assert!(matches!(bench.reader().verifier_keys(), Err(LogError::ChainBroken { seq: 2, .. })));
}

fn base64_of(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let mut word = 0u32;
        for at in 0..3 {
            word = word << 8 | u32::from(group.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at) & 63) as usize] as char;
            out.push(if at <= group.len() { letter } else { '=' });
        }
    }
    out
}
