//! The index against reading everything, over logs and queries of all kinds, and when it is damaged, stale or missing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: a fault is a failure")]

mod common;

use std::sync::Arc;

use common::{Bench, directory, path};
use proptest::prelude::*;
use symbi_audit::{Event, Index, LogError, Query, Reader, Record};
use symbi_testkit::Disk;

const RULES: [&str; 3] = ["readers-read", "no-secret-leaves", "with \\u00e9scape"];
const TYPES: [&str; 4] = ["tool.called", "tool.refused", "operation.denied", "note"];

/// A log over several segments: agents, decisions, rules, resources, labels and subjects in all mixtures.
fn fill(bench: &Bench, picks: &[u8]) {
    let log = bench.open();
    for (number, pick) in picks.iter().enumerate() {
        let pick = usize::from(*pick);
        let agent = format!("agent-{}", pick % 5);
        let details = match pick % 4 {
            0 => format!("{{\"number\":{number}}}"),
            1 => format!(
                "{{\"rules\":[\"{}\"],\"resource\":\"Tool::\\\"t{}\\\"\"}}",
                RULES[pick % 3],
                pick % 7
            ),
            2 => format!("{{ \"action\" : \"tool.call\", \"resource\":\"r{}\" }}", pick % 3),
            _ => format!("{{\"decision_id\":\"id-{number}\",\"rules\":[\"a\",\"{}\"]}}", RULES[pick % 2]),
        };
        let label: symbi_types::LabelSet =
            ["personal", "secret"].iter().take(pick % 3).map(|label| label.parse().unwrap()).collect();
        let subjects = [format!("s{}", pick % 11)];
        let event = Event {
            agent_text: Some(&agent),
            decision: (pick % 2 == 0).then_some("deny"),
            labels: &label,
            subjects: if pick % 3 == 0 { &subjects } else { &[] },
            ..Event::new(TYPES[pick % 4], &details)
        };
        log.append(&event).unwrap();
    }
    log.close().unwrap();
}

fn bench(disk: Disk) -> Bench {
    let mut bench = Bench::on(disk);
    bench.options.segment_bytes_max = 16 << 10;
    bench
}

fn index(bench: &Bench) -> Index {
    Index::open(&bench.reader()).unwrap()
}

fn queries(records: &[Record], seed: usize) -> Vec<Query> {
    let at = |part: usize| records[(seed * 31 + part * 17) % records.len()].timestamp_us;
    let text = |text: &str| Some(text.to_owned());
    let any = &records[seed % records.len()];
    let mut all = vec![
        Query::default(),
        Query { agent_id: text("agent-1"), ..Query::default() },
        Query { agent_id: text("nobody"), ..Query::default() },
        Query { event_type: text("tool.*"), decision: text("deny"), ..Query::default() },
        Query { event_type: text("note"), ..Query::default() },
        Query { rule: text("readers-read"), ..Query::default() },
        Query { rule: text("with éscape"), ..Query::default() },
        Query { resource: text("Tool::\"t3\""), label: text("secret"), ..Query::default() },
        Query { action: text("tool.call"), ..Query::default() },
        Query { label: text("personal"), ..Query::default() },
        Query { subject: text("s3"), ..Query::default() },
        Query { event_id: Some(any.event_id.to_string()), ..Query::default() },
        Query { decision_id: text("id-7"), ..Query::default() },
        Query { since_us: Some(at(1)), ..Query::default() },
        Query { since_us: Some(at(2).min(at(3))), until_us: Some(at(2).max(at(3))), ..Query::default() },
        Query { agent_id: text("agent-2"), since_us: Some(at(4)), ..Query::default() },
        Query { after_seq: Some(any.seq), label: text("personal"), ..Query::default() },
    ];
    let newest: Vec<Query> = all.iter().map(|query| Query { newest_first: true, ..query.clone() }).collect();
    all.extend(newest);
    all
}

/// What a query has to answer, by its definition.
fn expected(records: &[Record], query: &Query) -> Vec<u64> {
    let mut found: Vec<u64> =
        records.iter().filter(|record| query.takes(record)).map(|one| one.seq).collect();
    if query.newest_first {
        found.reverse();
    }
    found
}

fn numbers(index: &Index, query: &Query) -> Vec<u64> {
    index.query(query).unwrap().records.iter().map(|record| record.seq).collect()
}

fn compare(bench: &Bench, index: &Index, seed: usize) {
    let records = bench.records();
    for query in queries(&records, seed) {
        let wanted = expected(&records, &query);
        assert_eq!(numbers(index, &query), wanted, "IX1 {query:?}");
        let scanned: Vec<u64> =
            bench.reader().query(&query).unwrap().iter().map(|record| record.seq).collect();
        assert_eq!(scanned, wanted, "read through: {query:?}");
        // In pages.
        let (mut page, mut paged) = (Query { limit: Some(3), ..query.clone() }, Vec::new());
        loop {
            let found = index.query(&page).unwrap();
            paged.extend(found.records.iter().map(|record| record.seq));
            if !found.more {
                break;
            }
            page.after_seq = paged.last().copied();
        }
        assert_eq!(paged, wanted, "in pages: {query:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("SYMBI_LONG").is_some() { 2_000 } else { 6 }))]

    #[test]
    fn ix1_what_is_found_by_the_index_is_what_reading_everything_finds(
        picks in prop::collection::vec(any::<u8>(), 1..160),
        more in prop::collection::vec(any::<u8>(), 0..60),
        segments in 0..6usize,
        threads in 1..3usize,
        seed in any::<u16>(),
    ) {
        let bench = bench(Disk::new());
        fill(&bench, &picks);
        let first = index(&bench);
        first.build(segments, threads).unwrap(); // a part of it, or none
        compare(&bench, &first, seed.into());
        fill(&bench, &more); // behind now
        compare(&bench, &first, seed.into());
        while first.build(2, threads).unwrap().left > 0 {}
        compare(&bench, &first, seed.into());
        let whole = first.build(9, 1).unwrap();
        prop_assert_eq!(whole.records as usize, bench.records().len());
        compare(&bench, &index(&bench), seed.into());
    }
}

#[test]
fn ix2_of_a_log_that_was_put_back_and_grew_differently_nothing_stale_is_answered() {
    let first = bench(Disk::new());
    fill(&first, &(0..120).collect::<Vec<u8>>());
    let old = first.disk.names().into_iter().map(|name| (name.clone(), first.disk.content(&name).unwrap()));
    let old: Vec<_> = old.collect();
    fill(&first, &(0..90).rev().collect::<Vec<u8>>());
    let known = index(&first);
    known.build(99, 1).unwrap();
    compare(&first, &known, 1);
    let units: Vec<_> = first
        .disk
        .names()
        .into_iter()
        .filter(|name| name.extension().is_some_and(|end| end == "unit"))
        .map(|name| (name.clone(), first.disk.content(&name).unwrap()))
        .collect();
    // Yesterday's copy, today's index.
    let put_back = bench(Disk::new());
    for (name, content) in old.into_iter().chain(units) {
        put_back.disk.overwrite(&name, content);
    }
    let mut differently = put_back;
    differently.options.entropy = Arc::new(symbi_testkit::SeededEntropy::new(77));
    fill(&differently, &(40..200).collect::<Vec<u8>>());
    let index = index(&differently);
    compare(&differently, &index, 2);
    assert!(index.query(&Query::default()).unwrap().passed_over > 0, "IX2");
    compare(&differently, &known_of(&differently), 3);
    index.build(99, 1).unwrap();
    compare(&differently, &index, 4);
    assert_eq!(index.query(&Query::default()).unwrap().passed_over, 0);
}

fn known_of(bench: &Bench) -> Index {
    Index::open(&Reader::with_storage(directory(), Arc::new(bench.disk.clone())).unwrap()).unwrap()
}

#[test]
fn ix3_damage_anywhere_in_a_unit_costs_no_answer() {
    let bench = bench(Disk::new());
    fill(&bench, &(0..60).collect::<Vec<u8>>());
    index(&bench).build(99, 1).unwrap();
    let unit = path("index/000000000000.unit");
    let good = bench.disk.content(&unit).unwrap();
    let records = bench.records();
    let query =
        Query { agent_id: Some("agent-1".into()), rule: Some("readers-read".into()), ..Query::default() };
    let prefix = Query { event_type: Some("tool.*".into()), newest_first: true, ..Query::default() };
    let step = if std::env::var_os("SYMBI_LONG").is_some() { 1 } else { 37 };
    for at in (0..good.len()).step_by(step) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        bench.disk.overwrite(&unit, bad);
        let index = index(&bench);
        for query in [&query, &prefix] {
            assert_eq!(numbers(&index, query), expected(&records, query), "IX3 byte {at}");
        }
    }
    for length in [0, 1, 200, 256, 300, good.len() - 1] {
        bench.disk.overwrite(&unit, good[..length].to_vec());
        assert_eq!(numbers(&index(&bench), &query), expected(&records, &query), "IX3 cut at {length}");
    }
    bench.disk.overwrite(&unit, b"not a unit at all".to_vec());
    let index = index(&bench);
    assert_eq!(index.query(&query).unwrap().passed_over, 1);
    index.build(99, 1).unwrap();
    assert_eq!(index.query(&query).unwrap().passed_over, 0, "made again");
    assert_eq!(bench.disk.content(&unit).unwrap(), good, "the same records give the same unit");
}

#[test]
fn ix5_a_unit_that_says_something_else_than_the_log_is_named_sums_and_all() {
    let bench = bench(Disk::new());
    fill(&bench, &(0..90).collect::<Vec<u8>>());
    let index = index(&bench);
    assert_eq!(index.check().unwrap().missing as usize, bench.records().len());
    index.build(99, 1).unwrap();
    let good = index.check().unwrap();
    assert!(good.wrong.is_empty() && good.missing == 0, "{good:?}");
    assert_eq!(good.records as usize, bench.records().len());
    fill(&bench, &[3; 20]);
    let behind = index.check().unwrap();
    assert!(behind.wrong.is_empty() && behind.missing >= 20, "what is only behind is right: {behind:?}");
    // A unit of other records, genuine in itself: as somebody would make it to leave records out.
    let other = self::bench(Disk::new());
    fill(&other, &(0..90).rev().collect::<Vec<u8>>());
    self::index(&other).build(99, 1).unwrap();
    let unit = path("index/000000000000.unit");
    let kept = bench.disk.content(&unit).unwrap();
    let mut forged = other.disk.content(&unit).unwrap();
    assert_ne!(kept, forged);
    for content in [std::mem::take(&mut forged), b"not a unit".to_vec(), kept[..kept.len() - 1].to_vec()] {
        bench.disk.overwrite(&unit, content);
        assert_eq!(self::index(&bench).check().unwrap().wrong, [0], "IX5");
    }
    for at in (0..kept.len()).step_by(97) {
        let mut bad = kept.clone();
        bad[at] ^= 1;
        bench.disk.overwrite(&unit, bad);
        assert_eq!(self::index(&bench).check().unwrap().wrong, [0], "IX5 byte {at}");
    }
    bench.disk.overwrite(&unit, kept);
    assert!(self::index(&bench).check().unwrap().wrong.is_empty());
}

#[test]
fn ix1_a_record_that_was_changed_in_the_log_is_never_answered() {
    let bench = bench(Disk::new());
    fill(&bench, &[1; 20]);
    index(&bench).build(99, 1).unwrap();
    let (name, query) =
        (path("000000000000.jsonl"), Query { agent_id: Some("agent-1".into()), ..Query::default() });
    let mut content = bench.disk.content(&name).unwrap();
    let at = content.windows(9).position(|window| window == b"Tool::\\\"t").unwrap() + 10;
    content[at] ^= 1;
    bench.disk.overwrite(&name, content);
    let broken = index(&bench).query(&query).unwrap_err();
    assert!(matches!(broken, LogError::ChainBroken { .. }), "IX1 {broken}");
}

#[test]
fn ix4_the_index_is_built_beside_a_writer_and_by_one_at_a_time() {
    let bench = bench(Disk::new());
    fill(&bench, &[7; 30]);
    let log = bench.open();
    let index = index(&bench);
    index.build(99, 2).unwrap();
    log.append(&Event::new("note", "{}")).unwrap();
    log.close().unwrap();
    compare(&bench, &index, 5);
    let storage: Arc<dyn symbi_types::Storage> = Arc::new(bench.disk.clone());
    let held = storage.lock(&path("index/lock")).unwrap();
    assert!(held.is_some() && index.build(99, 1).unwrap().busy, "IX4");
    compare(&bench, &index, 6);
}

#[test]
fn segments_that_were_sealed_as_one_frame_are_found_in_all_the_same() {
    let bench = bench(Disk::new());
    fill(&bench, &(0..60).collect::<Vec<u8>>());
    index(&bench).build(99, 1).unwrap();
    let sealed =
        bench.disk.names().into_iter().find(|name| name.extension().is_some_and(|end| end == "zst")).unwrap();
    let content = bench.disk.content(&sealed).unwrap();
    let plain = zstd::decode_all(&content[..]).unwrap();
    let mut one = zstd::encode_all(&plain[..], 3).unwrap();
    let digest = symbi_crypto::sha256(&[&one]);
    one.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0]);
    one.extend_from_slice(&digest);
    assert_ne!(one, content);
    bench.disk.overwrite(&sealed, one);
    compare(&bench, &index(&bench), 7);
    bench.verify().unwrap();
}

#[test]
fn removing_the_index_leaves_the_log_and_its_answers() {
    let bench = bench(Disk::new());
    fill(&bench, &(0..60).collect::<Vec<u8>>());
    let index = index(&bench);
    index.build(99, 1).unwrap();
    index.remove().unwrap();
    assert!(!bench.disk.names().iter().any(|name| name.extension().is_some_and(|end| end == "unit")));
    compare(&bench, &index, 8);
}
