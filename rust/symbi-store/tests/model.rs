//! The store against plain lists, over random histories with reopenings; and what a reader may not read against
//! a store that never held it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Place, added, document, passage, search};
use proptest::prelude::*;
use symbi_store::{Projection, Store};

const WORDS: [&str; 6] = ["alpha", "beta", "gamma", "delta", "omega", "sigma"];
const AGENTS: [&str; 4] = ["ann", "bob", "cy", "dee"];

#[derive(Clone, Debug)]
struct Text(Vec<usize>);

impl Text {
    fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|at| WORDS[*at]).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add { number: u8, owner: usize, readers: Vec<usize>, texts: Vec<Text> },
    Remove(u8),
    Orphan(Text),
    Reopen,
}

/// One known document: its owner and readers, and its passages.
type Known = (BTreeSet<&'static str>, Vec<Text>);

fn step() -> impl Strategy<Value = Step> {
    let text = proptest::collection::vec(0..WORDS.len(), 1..9).prop_map(Text);
    let texts = proptest::collection::vec(text.clone(), 0..4);
    let readers = proptest::collection::vec(0..AGENTS.len(), 0..3);
    prop_oneof![
        6 => (0..6u8, 0..AGENTS.len(), readers, texts)
            .prop_map(|(number, owner, readers, texts)| Step::Add { number, owner, readers, texts }),
        2 => (0..6u8).prop_map(Step::Remove),
        1 => text.prop_map(Step::Orphan),
        1 => Just(Step::Reopen),
    ]
}

fn put(place: &Place, store: &Store, seq: u64, number: u8, known: &Known, owner: &str) -> Projection {
    let readers: Vec<&str> = known.0.iter().copied().collect();
    let chunks: Vec<_> = known.1.iter().map(|text| passage(&text.words().join(" "), &[], 0)).collect();
    let content = place.add(store, seq, added(number, "title", owner, &readers, ""), &chunks);
    Projection::DocumentAdded(added(number, "title", owner, &readers, &content.digest))
}

/// What a search shows of its order, without the numbers that differ between files.
fn shown(store: &Store, reader: &str, question: &str) -> Vec<(u32, String)> {
    search(store, reader, question).into_iter().map(|hit| (hit.terms, hit.text)).collect()
}

fn compare(store: &Store, model: &BTreeMap<u64, (u8, &'static str, Known)>) {
    let chunks: usize = model.values().map(|(_, _, (_, texts))| texts.len()).sum();
    let counts = store.counts().unwrap();
    assert_eq!((counts.documents, counts.chunks), (model.len() as u64, chunks as u64));
    for reader in AGENTS {
        let may: Vec<_> = model.values().filter(|(_, _, (readers, _))| readers.contains(reader)).collect();
        let alone = Place::new();
        let without_the_rest = alone.open(100);
        for (seq, (number, owner, known)) in (0..).zip(&may) {
            put(&alone, &without_the_rest, seq, *number, known, owner);
        }
        for question in ["alpha", "beta omega", "sigma gamma delta alpha"] {
            let asked: BTreeSet<&str> = question.split(' ').collect();
            let terms = |text: &Text| {
                text.words().into_iter().filter(|word| asked.contains(word)).collect::<BTreeSet<_>>().len()
            };
            let mut wanted: Vec<(u32, String)> = may
                .iter()
                .flat_map(|(_, _, (_, texts))| texts)
                .map(|text| (terms(text) as u32, text.words().join(" ")))
                .filter(|(terms, _)| 0 < *terms)
                .collect();
            let found = shown(store, reader, question);
            assert_eq!(found, shown(&without_the_rest, reader, question), "K4: {reader} asks {question}");
            let mut sorted = found;
            sorted.sort();
            wanted.sort();
            assert_eq!(sorted, wanted);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn k4_the_store_shows_what_lists_show_and_nothing_of_what_a_reader_may_not_read(
        steps in proptest::collection::vec(step(), 1..14)
    ) {
        let place = Place::new();
        let mut store = place.open(100);
        let mut model: BTreeMap<u64, (u8, &'static str, Known)> = BTreeMap::new(); // by the record's number
        let mut log: Vec<(u64, Projection)> = Vec::new();
        for (seq, step) in (0u64..).zip(steps) {
            match step {
                Step::Add { number, owner, readers, texts } => {
                    let owner = AGENTS[owner];
                    let readers = readers.into_iter().map(|at| AGENTS[at]).chain([owner]).collect();
                    let known = (readers, texts);
                    log.push((seq, put(&place, &store, seq, number, &known, owner)));
                    model.retain(|_, (other, _, _)| *other != number);
                    model.insert(seq, (number, owner, known));
                }
                Step::Remove(number) => {
                    let removed = Projection::DocumentRemoved { document: document(number) };
                    store.apply(seq, &removed).unwrap();
                    log.push((seq, removed));
                    model.retain(|_, (other, _, _)| *other != number);
                }
                Step::Orphan(text) => {
                    store.put_content(&[passage(&text.words().join(" "), &[], 0)]).unwrap();
                }
                Step::Reopen => {
                    drop(store);
                    store = place.open(100);
                    store.apply_many(&log).unwrap(); // K3: a replay from the beginning
                    store.sweep().unwrap();
                    assert_eq!(store.counts().unwrap().waiting, 0, "K2");
                }
            }
        }
        compare(&store, &model);
    }
}

/// `cargo nextest run --cargo-profile ci -p symbi-store --run-ignored only --no-capture`
#[test]
#[ignore = "a measurement, run by hand"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn measure_search_among_ten_thousand_passages() {
    let mut state = 7u64;
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    // Zipf: word n is met about 1/n as often as the commonest, which is one word in twelve, as in a language.
    let mut word =
        move || format!("w{}", (below(1 << 20) as f64 / f64::from(1 << 20) * 5_000f64.ln()).exp() as u64);
    let place = Place::new();
    let store = place.open(1 << 20);
    let mut puts = Vec::new();
    let mut applies = Vec::new();
    for number in 0..200u8 {
        let chunks: Vec<_> = (0..50)
            .map(|_| passage(&(0..120).map(|_| word()).collect::<Vec<_>>().join(" "), &[], 0))
            .collect();
        let began = std::time::Instant::now();
        let content = store.put_content(&chunks).unwrap();
        puts.push(began.elapsed());
        let document = added(number, "title", "owner", &["reader"], &content.digest);
        let began = std::time::Instant::now();
        store.apply(u64::from(number), &Projection::DocumentAdded(document)).unwrap();
        applies.push(began.elapsed());
    }
    let mut first = Vec::new();
    let mut rare = Vec::new();
    let mut common = Vec::new();
    for round in 0..200u64 {
        let reader = if round % 2 == 0 { "reader" } else { "owner" };
        let timed = |text: &str, into: &mut Vec<std::time::Duration>| {
            let began = std::time::Instant::now();
            let hits =
                store.search(&symbi_store::SearchRequest { text, reader, labels_allowed: None, limit: 10 });
            into.push(began.elapsed());
            assert!(hits.unwrap().len() <= 10);
        };
        timed("w1 w2 w3 w50", if round < 2 { &mut first } else { &mut common });
        timed("w40 w77 w300 w1000 w2500", &mut rare);
    }
    for (name, mut took) in [
        ("put 50", puts),
        ("apply 50", applies),
        ("first", first),
        ("common words", common),
        ("rare words", rare),
    ] {
        took.sort();
        let p99 = took[took.len() * 99 / 100];
        println!("{name}: p50 {:?}, p99 {p99:?}, of {}", took[took.len() / 2], took.len());
    }
    println!("file: {} bytes", std::fs::metadata(place.path()).unwrap().len());
}
