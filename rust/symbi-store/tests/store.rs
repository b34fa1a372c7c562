//! What the store promises, one sentence a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{Place, added, document, labels, log, passage, search, withheld};
use symbi_store::{Applied, Counts, Passage, Projection, SearchRequest, Store, StoreError};
use symbi_types::{Part, PartSource};

#[test]
fn a_passage_is_found_by_its_words_with_its_place_in_the_source() {
    let place = Place::new();
    let store = place.open(10);
    let content = store.put_content(&[passage("Ward rounds begin at eight.", &["phi"], 40)]).unwrap();
    let mut document = added(1, "rota.txt", "librarian", &["analyst"], &content.digest);
    document.labels = labels(&["clinic"]);
    assert_eq!(store.apply(3, &Projection::DocumentAdded(document.clone())).unwrap(), Applied::Now);
    let hits = search(&store, "analyst", "When do the WARD ROUND begins?");
    let [hit] = &hits[..] else { panic!("{hits:?}") };
    assert_eq!((hit.rank, hit.terms, hit.title.as_str()), (1, 3, "rota.txt"), "ward, round(s), begin(s)");
    assert_eq!(
        (hit.text.as_str(), hit.source_start, hit.source_end),
        ("Ward rounds begin at eight.", 40, 67)
    );
    assert_eq!(hit.labels, labels(&["clinic", "phi"]));
    assert_eq!((hit.chunk, hit.document), (content.chunks[0], document.document));
    let known = store.document(document.document).unwrap().unwrap();
    assert_eq!(known.readers, ["analyst", "librarian"]);
    assert_eq!((known.chunks, known.withheld, known.added_us), (1, 0, 1_000_001));
    assert_eq!(store.documents().unwrap(), [known]);
    assert_eq!(store.applied_seq().unwrap(), 4);
}

#[test]
fn k4_only_the_owner_and_the_named_readers_find_a_document() {
    let place = Place::new();
    let store = place.open(10);
    place.add(&store, 0, added(1, "a", "owner", &["reader"], ""), &[passage("alpha beta", &[], 0)]);
    for (reader, found) in
        [("owner", 1), ("reader", 1), ("Reader", 0), ("other", 0), ("", 0), ("%", 0), ("*", 0)]
    {
        assert_eq!(search(&store, reader, "alpha").len(), found, "{reader}");
        assert_eq!(store.may_read(reader, document(1)).unwrap(), found == 1);
    }
}

#[test]
fn k4_labels_that_are_not_allowed_hide_a_passage() {
    let place = Place::new();
    let store = place.open(10);
    let mut of = added(1, "a", "owner", &[], "");
    of.labels = labels(&["clinic"]);
    place.add(&store, 0, of, &[passage("alpha", &["phi"], 0), passage("alpha", &[], 5)]);
    let count = |allowed: Option<&[&str]>| {
        let allowed = allowed.map(labels);
        let request =
            SearchRequest { text: "alpha", reader: "owner", labels_allowed: allowed.as_ref(), limit: 9 };
        store.search(&request).unwrap().len()
    };
    assert_eq!(count(None), 2);
    assert_eq!(count(Some(&["clinic", "phi", "x"])), 2);
    assert_eq!(count(Some(&["clinic"])), 1);
    assert_eq!(count(Some(&["phi"])), 0, "the document's own label counts");
    assert_eq!(count(Some(&[])), 0);
}

#[test]
fn k5_a_question_is_words_whatever_syntax_it_holds() {
    let place = Place::new();
    let store = place.open(10);
    place.add(&store, 0, added(1, "a", "owner", &[], ""), &[passage("alpha NEAR beta", &[], 0)]);
    let hostile = [
        "alpha\" OR \"beta",
        "alpha*",
        "text:alpha",
        "^alpha",
        "alpha NEAR(beta, 1)",
        "(alpha",
        "alpha AND NOT zeta",
        "'; DROP TABLE chunk; --alpha",
        "{text} : alpha",
        "\0alpha",
        "alpha\0",
        "-alpha + beta",
        "\u{202e}alpha",
        "delete-all alpha",
        "alpha \\ % _",
        "ÀLPHA",
        "alpha = 'delete'",
        "\"alpha",
    ];
    for text in hostile {
        assert_eq!(search(&store, "owner", text).len(), 1, "{text}");
    }
    for text in ["", " ", "\"\"", "*", "()", "\0", "zeta OR gamma", "alph*", "💥", &"(".repeat(1_024)] {
        assert_eq!(search(&store, "owner", text).len(), 0, "{text}");
    }
    let long = "a ".repeat(513);
    let request = SearchRequest { text: &long, reader: "owner", labels_allowed: None, limit: 1 };
    assert_eq!(store.search(&request).unwrap_err().code(), "store.query_too_long");
    assert_eq!(store.counts().unwrap().chunks, 1, "nothing was dropped");
}

#[test]
fn k6_a_secret_is_kept_as_location_and_digest_and_its_text_is_refused() {
    let place = Place::new();
    let store = place.open(10);
    let refused = store.put_content(&[passage("x", &[], 0), passage("hunter2", &["secret"], 1)]).unwrap_err();
    assert_eq!((refused.code(), refused.to_string().contains("hunter2")), ("store.secret_text", false));
    let chunks = [passage("the rest", &[], 0), withheld("abc123", &["secret"], 8)];
    let content = place.add(&store, 0, added(1, "a", "owner", &[], ""), &chunks);
    let secret = store.chunk(content.chunks[1]).unwrap().unwrap();
    assert_eq!((secret.text, secret.digest.as_str(), secret.source_start), (None, "abc123", 8));
    assert_eq!(search(&store, "owner", "hunter2 abc123 rest").len(), 1);
    let counts = Counts { documents: 1, chunks: 2, withheld: 1, waiting: 0 };
    assert_eq!(store.counts().unwrap(), counts);
    assert_eq!(store.chunks(document(1)).unwrap().len(), 2);
}

#[test]
fn an_extractive_part_is_believed_only_where_it_stands_and_may_be_read() {
    let place = Place::new();
    let store = place.open(10);
    let content =
        place.add(&store, 0, added(1, "a", "owner", &[], ""), &[passage("Größe: 178 cm", &["phi"], 0)]);
    let chunk = content.chunks[0];
    let check = |reader: &str, text: &str, chunk: i64, start: usize, end: usize| {
        let part =
            Part { text: text.into(), labels: labels(&[]), source: Some(PartSource { chunk, start, end }) };
        store.check_part(reader, &part).unwrap()
    };
    assert_eq!(check("owner", "Größe", chunk, 0, 7), Some(labels(&["phi"])));
    assert_eq!(check("owner", "Größe", chunk, 0, 6), None);
    assert_eq!(check("owner", "Gr\u{f6}", chunk, 0, 3), None, "a range within a letter");
    assert_eq!(check("owner", "178 cm", chunk, 9, 15), Some(labels(&["phi"])));
    assert_eq!(check("owner", "179 cm", chunk, 9, 15), None);
    assert_eq!(check("owner", "", chunk, 9, 99), None);
    assert_eq!(check("owner", "x", chunk, 9, 3), None);
    assert_eq!(check("owner", "178 cm", chunk + 1, 9, 15), None);
    assert_eq!(check("other", "178 cm", chunk, 9, 15), None);
    let plain = Part { text: "178 cm".into(), labels: labels(&[]), source: None };
    assert_eq!(store.check_part("owner", &plain).unwrap(), None);
}

#[test]
fn k1_a_file_that_is_ahead_of_the_log_does_not_open() {
    let place = Place::new();
    let store = place.open(10);
    place.add(&store, 6, added(1, "a", "owner", &[], ""), &[passage("alpha", &[], 0)]);
    drop(store);
    let refused = place.try_open(6).unwrap_err();
    assert!(matches!(refused, StoreError::AheadOfLog { applied: 7, durable: 6 }), "{refused}");
    assert!(refused.help().unwrap().contains("rebuilt from the log"));
    assert_eq!(place.open(7).applied_seq().unwrap(), 7);
}

#[test]
fn k1_a_record_is_not_applied_before_it_is_durable() {
    let place = Place::new();
    let store = place.open(2);
    let content = store.put_content(&[passage("alpha", &[], 0)]).unwrap();
    let projection = Projection::DocumentAdded(added(1, "a", "owner", &[], &content.digest));
    let refused = store.apply_many(&[(1, projection.clone()), (2, projection.clone())]).unwrap_err();
    assert!(matches!(refused, StoreError::NotDurable { seq: 2, durable: 2 }));
    assert_eq!(store.counts().unwrap().documents, 0, "all or none");
    store.advance_durable(3);
    store.advance_durable(1);
    assert_eq!(store.apply(2, &projection).unwrap(), Applied::Now);
}

#[test]
fn k2_what_a_crash_left_between_passages_and_record_is_swept_after_the_replay() {
    let place = Place::new();
    let store = place.open(10);
    let [lost, named] =
        ["xylophone", "named"].map(|text| store.put_content(&[passage(text, &[], 0)]).unwrap());
    let crashed = place.image(); // as the disk is when the process dies here
    let record = Projection::DocumentAdded(added(1, "a", "owner", &[], &named.digest));
    let store = crashed.open(10);
    assert_eq!(search(&store, "owner", "named").len(), 0, "seen by nobody yet");
    assert_eq!(store.chunk(named.chunks[0]).unwrap(), None);
    assert_eq!(store.apply(4, &record).unwrap(), Applied::Now);
    let fresh = store.put_content(&[passage("fresh", &[], 0)]).unwrap();
    assert_eq!(store.sweep().unwrap(), 1, "only the lost one: it is older than the opening");
    assert_eq!(search(&store, "owner", "named").len(), 1);
    assert_eq!(store.counts().unwrap().waiting, 1);
    assert!(!fresh.chunks.contains(&lost.chunks[0]), "K7");
    let record = Projection::DocumentAdded(added(2, "b", "owner", &[], &fresh.digest));
    assert_eq!(store.apply(5, &record).unwrap(), Applied::Now);
    assert_eq!(search(&store, "owner", "fresh").len(), 1);
    drop(store);
    assert_eq!(crashed.files_with(b"xyloph"), Vec::<String>::new(), "swept is gone from the disk");
}

#[test]
fn k3_replaying_records_changes_nothing() {
    let place = Place::new();
    let store = place.open(10);
    let content = store.put_content(&[passage("alpha", &[], 0)]).unwrap();
    let add = Projection::DocumentAdded(added(1, "a", "owner", &[], &content.digest));
    let remove = Projection::DocumentRemoved { document: document(1) };
    let records = [(2, add.clone()), (5, remove)];
    assert_eq!(store.apply_many(&records[..1]).unwrap(), [Applied::Now]);
    assert_eq!(store.apply_many(&records).unwrap(), [Applied::Before, Applied::Now]);
    assert_eq!(store.apply_many(&records).unwrap(), [Applied::Before, Applied::Before]);
    assert_eq!(store.counts().unwrap(), Counts::default());
    assert_eq!(store.applied_seq().unwrap(), 6);
}

#[test]
fn a_file_rebuilt_from_the_log_knows_its_documents_and_says_that_passages_are_missing() {
    let place = Place::new();
    let store = place.open(10);
    let digest = "0".repeat(64);
    let record = Projection::DocumentAdded(added(1, "a", "owner", &["reader"], &digest));
    assert_eq!(store.apply(0, &record).unwrap(), Applied::WithoutContent);
    assert_eq!(search(&store, "owner", "a").len(), 0);
    let known = store.document(document(1)).unwrap().unwrap();
    assert_eq!((known.chunks, known.content_digest), (0, digest));
}

#[test]
fn a_removed_document_leaves_no_word_in_the_file() {
    let place = Place::new();
    let store = place.open(10);
    place.add(&store, 0, added(1, "a", "owner", &[], ""), &[passage("xylophone quartet", &[], 0)]);
    place.add(&store, 1, added(2, "b", "owner", &[], ""), &[passage("violin quartet", &[], 0)]);
    assert_eq!(store.apply(2, &Projection::DocumentRemoved { document: document(1) }).unwrap(), Applied::Now);
    assert_eq!(search(&store, "owner", "xylophone quartet").len(), 1);
    drop(store);
    assert_eq!(place.files_with(b"xyloph"), Vec::<String>::new());
}

#[test]
fn a_document_added_again_replaces_the_one_before() {
    let place = Place::new();
    let store = place.open(10);
    place.add(&store, 0, added(1, "a", "owner", &["reader"], ""), &[passage("alpha", &[], 0)]);
    let chunk = search(&store, "reader", "alpha")[0].chunk;
    place.add(&store, 1, added(1, "a2", "owner", &[], ""), &[passage("alpha two", &[], 0)]);
    assert_eq!(search(&store, "reader", "alpha").len(), 0);
    let hits = search(&store, "owner", "alpha");
    assert_eq!((hits.len(), hits[0].title.as_str()), (1, "a2"));
    assert!(chunk < hits[0].chunk && store.chunk(chunk).unwrap().is_none(), "K7");
}

#[test]
fn the_same_passages_in_two_documents_keep_their_own_access_lists() {
    let place = Place::new();
    let store = place.open(10);
    let text = [passage("alpha", &[], 0)];
    let first = store.put_content(&text).unwrap();
    assert_eq!(store.put_content(&text).unwrap(), first, "no record names it yet: a retry is no copy");
    place.add(&store, 0, added(1, "a", "one", &[], ""), &text);
    let second = place.add(&store, 1, added(2, "b", "two", &[], ""), &text);
    assert_eq!((&second.digest, second.chunks == first.chunks), (&first.digest, false));
    assert_eq!(store.apply(2, &Projection::DocumentRemoved { document: document(1) }).unwrap(), Applied::Now);
    assert_eq!((search(&store, "one", "alpha").len(), search(&store, "two", "alpha").len()), (0, 1));
}

#[test]
fn passages_past_their_bounds_are_refused_by_their_place_in_the_list() {
    let store = Place::new().open(1);
    let text = |bytes: usize| passage(&"a".repeat(bytes), &[], 0);
    assert!(store.put_content(&[text(64 * 1024)]).is_ok());
    let refused = store.put_content(&[text(1), text(64 * 1024 + 1)]).unwrap_err();
    assert_eq!(refused.to_string(), "passage 1 has more than 65536 bytes");
    let mut backwards = text(1);
    (backwards.source_start, backwards.source_end) = (2, 1);
    assert_eq!(
        store.put_content(&[backwards]).unwrap_err().to_string(),
        "passage 0 has an end before its start"
    );
    let nameless = symbi_store::NewChunk { passage: Passage::Withheld { digest: String::new() }, ..text(1) };
    assert_eq!(store.put_content(&[nameless]).unwrap_err().code(), "store.passage");
    let many = vec![text(0); 65_537];
    assert_eq!(store.put_content(&many).unwrap_err().code(), "store.too_many");
}

#[test]
fn the_file_is_its_owners_alone() {
    let place = Place::new();
    std::fs::write(place.path(), b"").unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = place.open(10);
    place.add(&store, 0, added(1, "a", "owner", &[], ""), &[passage("alpha", &[], 0)]);
    for entry in std::fs::read_dir(place.path().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn a_link_a_directory_and_a_device_are_no_knowledge_files() {
    let place = Place::new();
    std::os::unix::fs::symlink("/dev/null", place.path()).unwrap();
    assert_eq!(place.try_open(0).unwrap_err().code(), "store.unusable");
    assert_eq!(Store::open("/".as_ref(), log(1), 0).unwrap_err().code(), "store.unusable");
    assert_eq!(Store::open("/dev/null".as_ref(), log(1), 0).unwrap_err().code(), "store.unusable");
    let nowhere = place.path().join("no/such/file");
    assert_eq!(Store::open(&nowhere, log(1), 0).unwrap_err().code(), "store.unusable");
}

#[test]
fn a_file_of_another_log_or_of_a_newer_release_says_so() {
    let place = Place::new();
    drop(place.open(0));
    let refused = Store::open(&place.path(), log(2), 0).unwrap_err();
    assert_eq!(refused.code(), "store.other_log");
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    raw.pragma_update(None, "user_version", 3).unwrap();
    drop(raw);
    let refused = place.try_open(0).unwrap_err();
    assert_eq!(refused.to_string(), "the knowledge file has format 3, and this release reads up to 2");
}

#[test]
fn damage_is_named_with_what_to_do() {
    let place = Place::new();
    std::fs::write(place.path(), vec![7u8; 8_192]).unwrap();
    let refused = place.try_open(0).unwrap_err();
    assert_eq!(refused.code(), "store.corrupt");
    assert!(refused.help().unwrap().contains("rebuilt from the log"));
}

#[test]
fn a_text_that_changed_on_disk_is_not_handed_out() {
    let place = Place::new();
    let store = place.open(10);
    let content = place.add(&store, 0, added(1, "a", "owner", &[], ""), &[passage("dose 10 mg", &[], 0)]);
    drop(store);
    let mut bytes = std::fs::read(place.path()).unwrap();
    let at = bytes.windows(10).position(|window| window == b"dose 10 mg").unwrap();
    bytes[at + 5] = b'9';
    std::fs::write(place.path(), bytes).unwrap();
    let store = place.open(10);
    assert_eq!(store.chunk(content.chunks[0]).unwrap_err().code(), "store.corrupt");
    let request = SearchRequest { text: "dose", reader: "owner", labels_allowed: None, limit: 1 };
    assert_eq!(store.search(&request).unwrap_err().code(), "store.corrupt");
}

#[test]
fn a_record_reads_back_from_its_json() {
    let projection = Projection::DocumentAdded(added(1, "a", "owner", &["r"], &"0".repeat(64)));
    let text = serde_json::to_string(&projection).unwrap();
    assert!(text.starts_with(r#"{"kind":"document_added","document":""#), "{text}");
    assert_eq!(serde_json::from_str::<Projection>(&text).unwrap(), projection);
    let removed = Projection::DocumentRemoved { document: document(1) };
    let text = serde_json::to_string(&removed).unwrap();
    assert_eq!(serde_json::from_str::<Projection>(&text).unwrap(), removed);
}
