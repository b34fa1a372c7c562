//! What belongs to a person: sealed in the file, found all the same, and gone when it is erased.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use common::{Place, added, log, passage};
use symbi_store::{DocumentAdded, Forgotten, Projection, SearchRequest, Store, Vault};
use symbi_types::{Label, LabelSet};

const ANN: &str = "subject.000102030405060708090a0b0c0d0e0f";
const BOB: &str = "subject.100102030405060708090a0b0c0d0e0f";

/// Turns letters, and forgets persons: what a store needs of a vault, without cryptography.
#[derive(Default)]
struct Turning(Mutex<HashSet<String>>);

impl Turning {
    fn has(&self, labels: &LabelSet) -> bool {
        let gone = self.0.lock().unwrap();
        !labels.iter().any(|label| gone.contains(label.as_str()))
    }
}

impl Vault for Turning {
    fn seal(&self, labels: &LabelSet, plain: &[u8]) -> Option<String> {
        let turned: String = plain.iter().map(|byte| format!("{:02x}", byte ^ 0x5a)).collect();
        let whose: Vec<&str> =
            labels.iter().filter(|label| label.subject().is_some()).map(Label::as_str).collect();
        self.has(labels).then(|| format!("{}:{turned}", whose.join(",")))
    }
    fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let (whose, turned) = sealed.split_once(':')?;
        let whose: LabelSet = whose.split(',').map(|one| one.parse().unwrap()).collect();
        let byte = |at: usize| u8::from_str_radix(&turned[at..at + 2], 16).unwrap() ^ 0x5a;
        self.has(&whose).then(|| (0..turned.len()).step_by(2).map(byte).collect())
    }
    fn digest(&self, labels: &LabelSet, bytes: &[u8]) -> Option<[u8; 32]> {
        self.has(labels).then(|| symbi_crypto::hmac_sha256(&[7; 32], &[bytes]))
    }
    fn blind(&self, word: &str) -> u64 {
        let digest = symbi_crypto::hmac_sha256(&[8; 32], &[word.as_bytes()]);
        u64::from_be_bytes(*digest.first_chunk().unwrap())
    }
}

fn open(place: &Place, durable: u64) -> (Store, Arc<Turning>) {
    let vault = Arc::new(Turning::default());
    (Store::open_with(&place.path(), log(1), durable, Some(vault.clone())).unwrap(), vault)
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn of(number: u8, title: &str, persons: &[&str]) -> DocumentAdded {
    let title_labels = persons.iter().map(|one| label(one)).collect();
    DocumentAdded { title_labels, ..added(number, title, "owner", &[], "") }
}

fn titles(store: &Store, text: &str) -> Vec<(String, String)> {
    let request = SearchRequest { text, reader: "owner", labels_allowed: None, limit: 9 };
    store.search(&request).unwrap().into_iter().map(|hit| (hit.title, hit.text)).collect()
}

#[test]
fn k8_a_persons_words_are_found_and_stand_nowhere_in_the_file() {
    let place = Place::new();
    let (store, _) = open(&place, 10);
    place.add(&store, 0, of(1, "Chart of Roe", &[ANN]), &[passage("the zebrafinch sleeps badly", &[ANN], 0)]);
    place.add(&store, 1, added(2, "House", "owner", &[], ""), &[passage("zebrafinches sleep", &[], 0)]);
    let found = titles(&store, "sleeping zebrafinch");
    assert_eq!(found.len(), 2, "sealed and plain ones are ranked together");
    assert!(found.contains(&("Chart of Roe".into(), "the zebrafinch sleeps badly".into())));
    for plain in ["the zebrafinch", "badly", "badli", "Chart of Roe"] {
        assert_eq!(place.files_with(plain.as_bytes()), Vec::<String>::new(), "K8: {plain}");
    }
    drop(store);
    let (store, _) = open(&place, 10);
    assert_eq!(titles(&store, "badly").len(), 1, "after an opening too");
}

#[test]
fn k8_without_the_persons_key_nothing_is_stored() {
    let place = Place::new();
    let refused = place.open(10).put_content(&[passage("hers", &[ANN], 0)]).unwrap_err();
    assert_eq!(refused.code(), "store.unsealable");
    let (store, vault) = open(&place, 10);
    vault.0.lock().unwrap().insert(ANN.into());
    assert_eq!(store.put_content(&[passage("hers", &[ANN], 0)]).unwrap_err().code(), "store.unsealable");
}

#[test]
fn k9_an_erased_persons_passages_titles_and_words_are_gone_and_the_rest_stays() {
    let place = Place::new();
    let (store, vault) = open(&place, 10);
    place.add(
        &store,
        0,
        of(1, "Roe and Doe", &[ANN, BOB]),
        &[
            passage("roe sleeps", &[ANN], 0),
            passage("doe sings", &[BOB], 20),
            passage("both eat", &[ANN, BOB], 40),
        ],
    );
    place.add(&store, 1, of(2, "Roe", &[ANN]), &[passage("roe again", &[ANN], 0)]);
    let sealed = vault.seal(&[label(ANN)].into_iter().collect(), b"roe sleeps").unwrap();
    let words = format!("{:020}", vault.blind("roe"));
    assert!(
        !place.files_with(sealed.as_bytes()).is_empty() && !place.files_with(words.as_bytes()).is_empty()
    );
    let counted = store.count_subject(&label(ANN)).unwrap();
    assert_eq!(counted, Forgotten { passages: 3, documents: 1, titles: 1 });
    vault.0.lock().unwrap().insert(ANN.into());
    assert_eq!(store.erase_subject(&label(ANN)).unwrap(), counted);
    assert_eq!(titles(&store, "roe eat"), []);
    assert_eq!(titles(&store, "sings"), [("[erased]".into(), "doe sings".into())]);
    for trace in [sealed, words] {
        assert_eq!(place.files_with(trace.as_bytes()), Vec::<String>::new(), "K9: {trace}");
    }
    assert_eq!(store.erase_subject(&label(ANN)).unwrap(), Forgotten::default(), "again is nothing");
}

#[test]
fn k9_while_somebody_else_reads_an_older_state_an_erasure_is_not_done() {
    let place = Place::new();
    let (store, vault) = open(&place, 10);
    place.add(&store, 0, of(1, "Roe", &[ANN]), &[passage("roe sleeps", &[ANN], 0)]);
    let sealed = vault.seal(&[label(ANN)].into_iter().collect(), b"roe sleeps").unwrap();
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM chunk").unwrap();
    vault.0.lock().unwrap().insert(ANN.into());
    let refused = store.erase_subject(&label(ANN)).unwrap_err();
    assert_eq!(refused.code(), "store.in_use");
    assert!(refused.help().unwrap().contains("erase again"));
    assert!(!place.files_with(sealed.as_bytes()).is_empty());
    drop(other);
    store.erase_subject(&label(ANN)).unwrap();
    assert_eq!(place.files_with(sealed.as_bytes()), Vec::<String>::new(), "K9");
}

#[test]
fn k9_what_is_replayed_after_an_erasure_brings_nothing_back() {
    let place = Place::new();
    let (store, vault) = open(&place, 10);
    vault.0.lock().unwrap().insert(ANN.into());
    store.apply(0, &Projection::DocumentAdded(of(1, "Roe", &[ANN]))).unwrap();
    assert_eq!(store.documents().unwrap(), []);
    assert_eq!(place.files_with(b"Roe"), Vec::<String>::new());
}

#[test]
fn a_file_of_version_1_is_read_on() {
    let place = Place::new();
    drop(place.open(0));
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    raw.execute_batch(
        "DROP INDEX chunk_blinded; ALTER TABLE chunk DROP COLUMN blinded; \
         ALTER TABLE document DROP COLUMN title_labels; PRAGMA user_version = 1",
    )
    .unwrap();
    drop(raw);
    let (store, _) = open(&place, 10);
    place.add(&store, 0, of(1, "Roe", &[ANN]), &[passage("roe sleeps", &[ANN], 0)]);
    assert_eq!(titles(&store, "sleep"), [("Roe".into(), "roe sleeps".into())]);
}
