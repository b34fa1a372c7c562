//! K39, K40, K41, K45: what is stored, who finds it, and when.

use symbi_kernel::{Kernel, KnowledgeError, Passage, RefusalCode};
use symbi_types::AgentId;

use crate::world::*;

const SECRET: &str = "AKIAIOSFODNN7ABCDEFG";

fn store(kernel: &Kernel, writer: AgentId, title: &str, text: &str, readers: &[&str]) -> u64 {
    let readers: Vec<String> = readers.iter().map(|one| (*one).to_owned()).collect();
    let (_, seq) = kernel.write_document(writer, title, text, &readers).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    seq
}

fn found(kernel: &Kernel, by: AgentId, text: &str) -> usize {
    kernel.search(by, text, 10).unwrap().0.len()
}

/// Whether any file below holds the text.
pub fn stands_in_files(directory: &std::path::Path, text: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if let Some(found) = stands_in_files(&path, text) {
                return Some(found);
            }
        } else if std::fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes()) {
            return Some(path);
        }
    }
    None
}

#[test]
fn k39_a_secret_is_never_stored_as_text_whoever_stores_it_and_wherever() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let writer = agent(&kernel, "writer");
    store(&kernel, writer, "notes", &format!("the key is {SECRET} indeed"), &[]);
    store(&kernel, writer, &format!("title {SECRET}"), "ordinary words", &[]);
    let as_digest = Passage { text: None, digest: Some(SECRET.to_owned()), ..passage("") };
    assert!(kernel.ingest(writer, "t", vec![as_digest]).is_err(), "K39: a digest is a digest");
    assert_eq!(found(&kernel, writer, "indeed"), 0, "K39");
    let (answer, _) = kernel.search(writer, "ordinary", 1).unwrap();
    assert!(
        !answer[0].title.contains(SECRET) && answer[0].title.contains("[redacted:"),
        "K39: {}",
        answer[0].title
    );
    assert_eq!(kernel.knowledge_counts().unwrap().withheld, 1);
    kernel.close().unwrap();
    drop(kernel);
    assert_eq!(stands_in_files(&world.data(), SECRET), None, "K39");
}

#[test]
fn k40_a_document_is_found_only_after_its_record_is_on_disk() {
    let mut world = World::open_to_all().on_disk();
    let kernel = world.kernel();
    let writer = agent(&kernel, "writer");
    let (content, _) = kernel.ingest(writer, "t", vec![passage("penguins walk")]).unwrap();
    settle_disk(&kernel, writer);
    assert_eq!(found(&kernel, writer, "penguins"), 0, "K40: no document names it");
    settle_disk(&kernel, writer);
    world.disk().fail(1, symbi_testkit::Fault::Gone);
    let _ = kernel.store_document(writer, &content, &[]);
    kernel.drain();
    assert_eq!(kernel.knowledge_counts().unwrap().documents, 0, "K40");
    let _ = kernel.close();
    drop(kernel);
    world.disk().heal();
    let kernel = world.kernel();
    assert_eq!(kernel.knowledge_counts().unwrap().documents, 0, "K40: what was not recorded did not happen");
    assert_eq!(kernel.knowledge_counts().unwrap().waiting, 0, "and its passages are swept");
}

#[test]
fn k40_a_crash_between_the_record_and_the_projection_is_repaired_at_the_next_open() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let writer = agent(&kernel, "writer");
    let (_, seq) = kernel.write_document(writer, "birds", "penguins walk", &[]).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    let (after, image) = world.crashed(); // nobody has drained
    let reader = agent(&after, "writer");
    assert_eq!(found(&after, reader, "penguins"), 1, "K40");
    after.close().unwrap();
    drop(after);
    let again = world.try_kernel_at(image.path()).unwrap();
    assert_eq!(again.knowledge_counts().unwrap().documents, 1, "K40: and once");
}

#[test]
fn k40_a_state_file_that_is_ahead_of_the_log_is_refused() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let writer = agent(&kernel, "writer");
    let early = tempfile::tempdir().unwrap();
    settle_disk(&kernel, writer);
    copy(&world.data(), early.path());
    store(&kernel, writer, "birds", "penguins walk", &[]);
    kernel.drain();
    kernel.close().unwrap();
    drop(kernel);
    std::fs::copy(world.data().join("state.db"), early.path().join("state.db")).unwrap();
    for left in ["state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(early.path().join(left));
    }
    assert!(world.try_kernel_at(early.path()).is_err(), "K40");
}

#[test]
fn k45_only_readers_find_it_and_to_others_it_is_not_there() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (writer, reader, other) =
        (agent(&kernel, "writer"), agent(&kernel, "reader"), agent(&kernel, "other"));
    store(&kernel, writer, "birds", "penguins walk", &["reader"]);
    assert_eq!((found(&kernel, reader, "penguins"), found(&kernel, writer, "penguins")), (1, 1));
    assert_eq!(found(&kernel, other, "penguins"), 0, "K45");
    assert!(kernel.answer(other, "where do penguins walk", 3).unwrap().0.is_empty(), "K45");
}

#[test]
fn k45_what_is_for_everybody_everybody_finds_once_and_nobody_is_called_so() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (writer, reader) = (agent(&kernel, "writer"), agent(&kernel, "reader"));
    store(&kernel, writer, "birds", "penguins walk", &["*"]);
    store(&kernel, writer, "more birds", "penguins swim", &["*", "reader"]);
    let later = agent(&kernel, "later");
    for one in [writer, reader, later] {
        assert_eq!(found(&kernel, one, "penguins"), 2);
    }
    let (cited, _) = kernel.search(later, "penguins", 10).unwrap();
    let quoted: Vec<_> = cited.iter().map(|one| one.part.clone()).collect();
    let sent = kernel.send(
        later,
        &symbi_kernel::Recipient::Agent(reader),
        symbi_kernel::Payload::Parts(quoted),
        None,
        false,
    );
    assert!(sent.is_ok(), "who reads it can quote it");
    let called = kernel.create_agent(symbi_kernel::Principal::Host, std::sync::Arc::new(spec("*")));
    assert!(called.unwrap_err().to_string().contains("stands for all"));
}

#[test]
fn k45_policy_decides_about_each_document_whatever_its_access_list_says() {
    let rule = format!(
        "{OPEN}\n@message(\"no phi for the courier\") forbid(principal == Agent::\"courier\", action == Action::\"data.read\", resource is Document) when {{ resource.labels.contains(\"phi\") }};"
    );
    let mut world = World::with(Some(policies(&rule, &[])));
    let kernel = world.kernel();
    let (writer, courier) = (agent(&kernel, "writer"), agent(&kernel, "courier"));
    let mut marked = passage("penguins are ill");
    marked.labels = labels(&["phi"]);
    for (title, passage) in [("ill", marked), ("well", passage("penguins are well"))] {
        let (content, _) = kernel.ingest(writer, title, vec![passage]).unwrap();
        let (_, seq) = kernel.store_document(writer, &content, &["courier".to_owned()]).unwrap();
        kernel.wait_durable(seq, SOON).unwrap();
    }
    let (answer, seq) = kernel.search(courier, "penguins", 10).unwrap();
    assert_eq!(answer.iter().map(|one| one.title.as_str()).collect::<Vec<_>>(), ["well"], "K45");
    assert!(kernel.agent_labels(courier).is_empty(), "K41: what was not shown was not read");
    kernel.wait_durable(seq, SOON).unwrap();
    kernel.close().unwrap();
    let reads: Vec<String> = world
        .records()
        .iter()
        .map(details)
        .filter(|details| details["action"] == "data.read")
        .map(|details| details["resource"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(reads.len(), 2, "K45: one read and one refused, both recorded");
}

#[test]
fn k111_who_owns_and_who_reads_a_document_stands_in_no_refusal_in_the_clear() {
    for action in ["data.read", "data.write"] {
        let rule = format!(
            "{OPEN} forbid(principal == Agent::\"courier\", action == Action::\"{action}\", resource is Document);"
        );
        let mut world = World::with(Some(policies(&rule, &[])));
        let kernel = world.kernel();
        let (writer, courier) = (agent(&kernel, "writer-quill"), agent(&kernel, "courier"));
        store(&kernel, writer, "t", "penguins are well", &["courier", "jane-doe-of-ward-7"]);
        let read = kernel.search(courier, "penguins", 10).unwrap().0;
        let wrote = kernel.write_document(courier, "t", "of mine", &["jane-doe-of-ward-7".to_owned()]);
        assert_eq!((read.is_empty(), wrote.is_err()), (action == "data.read", action == "data.write"));
        settle_disk(&kernel, courier);
        let denied = world.of_type("operation.denied");
        assert_eq!(denied.len(), 1);
        assert!(details(&denied[0])["request_sealed"].is_string(), "K111");
        for name in ["jane-doe-of-ward-7", "writer-quill"] {
            assert!(!denied[0].line.contains(name), "K111: {name}");
        }
    }
}

#[test]
fn k41_whoever_is_shown_a_passage_has_read_it() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (writer, reader) = (agent(&kernel, "writer"), agent(&kernel, "reader"));
    store(&kernel, writer, "a", "penguins write to jane@clinic.example daily", &["reader"]);
    assert!(kernel.agent_labels(reader).is_empty());
    let (answer, _) = kernel.answer(reader, "do penguins write daily", 1).unwrap();
    assert_eq!(answer.len(), 1);
    assert!(kernel.agent_labels(reader).contains("personal"), "K41");
}

#[test]
fn k20_numbers_from_outside_overflow_nothing() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    store(&kernel, one, "a", "penguins walk. They swim.", &[]);
    for limit in [0, 1, usize::MAX] {
        let _ = kernel.search(one, "penguins", limit);
        let _ = kernel.answer(one, "penguins", limit);
    }
    let wide = |start, end| Passage { start, end, ..passage("x") };
    let _ = kernel.ingest(one, "t", vec![wide(0, u64::MAX), wide(0, u64::MAX), wide(9, 1)]);
    for text in ["", "\"", "* AND (", "\u{0}", &"x".repeat(5_000), "né 漢字 😀"] {
        let _ = kernel.search(one, text, 3);
        let _ = kernel.answer(one, text, 3);
    }
    assert!(kernel.search(one, &"x".repeat(5_000), 1).is_err());
}

#[test]
fn k20_nothing_is_stored_by_an_agent_that_may_not_write() {
    let text = "permit(principal is Host, action, resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    match kernel.ingest(one, "t", vec![passage("penguins")]) {
        Err(KnowledgeError::Agent(error)) => assert_eq!(refusal::<()>(Err(error)).code, RefusalCode::Denied),
        other => panic!("{other:?}"),
    }
    assert_eq!(kernel.knowledge_counts().unwrap().waiting, 0, "K20");
}

#[test]
fn k40_files_of_equal_content_are_documents_of_their_own() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    let (first, _) = kernel.ingest(one, "one", vec![passage("penguins walk")]).unwrap();
    let (_, seq) = kernel.store_document(one, &first, &[]).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    kernel.drain();
    let (second, _) = kernel.ingest(one, "two", vec![passage("penguins walk")]).unwrap();
    let (_, seq) = kernel.store_document(one, &second, &[]).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    assert_eq!(found(&kernel, one, "penguins"), 2);
}

#[test]
fn k41_what_was_refused_and_is_written_again_carries_what_it_is_said_to_carry_then() {
    let rules = format!(
        "{OPEN}\nforbid(principal, action == Action::\"data.write\", resource is Document) unless {{ context.labels.contains(\"phi\") }};"
    );
    let mut world = World::with(Some(policies(&rules, &[])));
    let kernel = world.kernel();
    let writer = agent(&kernel, "writer");
    let everyone = ["*".to_owned()];
    let write = |names: &[&str]| {
        kernel.write_labelled(writer, "notes", "blood pressure of today", &everyone, &labels(names))
    };
    assert!(write(&[]).is_err(), "not without the label");
    let (_, seq) = write(&["phi"]).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    let reader = agent(&kernel, "reader");
    let (answer, _) = kernel.search(reader, "pressure", 1).unwrap();
    assert!(answer[0].part.labels.contains("phi"), "K41");
    assert!(kernel.agent_labels(reader).contains("phi"), "K41");
}
