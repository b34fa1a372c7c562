//! A directory of its own for each test, and short words for what is stored.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;

use symbi_store::{
    ContentRef, DocumentAdded, Hit, NewChunk, Passage, Projection, SearchRequest, Store, StoreError,
};
use symbi_types::{DocumentId, Entropy, LabelSet, LogId};

pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("knowledge.db")
    }

    pub fn try_open(&self, durable: u64) -> Result<Store, StoreError> {
        Store::open(&self.path(), log(1), durable)
    }

    pub fn open(&self, durable: u64) -> Store {
        self.try_open(durable).unwrap()
    }

    /// What is on disk now, as a crash would leave it, in a directory of its own.
    pub fn image(&self) -> Self {
        let copy = Self::new();
        for (name, bytes) in self.files() {
            if !name.ends_with("-shm") {
                std::fs::write(copy.0.path().join(name), bytes).unwrap();
            }
        }
        copy
    }

    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(self.0.path()).unwrap().map(Result::unwrap);
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .collect()
    }

    /// The files that hold these bytes, in either case of letters.
    pub fn files_with(&self, needle: &[u8]) -> Vec<String> {
        let holds =
            |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle));
        self.files().into_iter().filter(|(_, bytes)| holds(bytes)).map(|(name, _)| name).collect()
    }

    /// Passages, then the record that names them.
    pub fn add(&self, store: &Store, seq: u64, document: DocumentAdded, chunks: &[NewChunk]) -> ContentRef {
        let content = store.put_content(chunks).unwrap();
        let document = DocumentAdded { content_digest: content.digest.clone(), ..document };
        store.apply(seq, &Projection::DocumentAdded(document)).unwrap();
        content
    }
}

struct Numbered(u8);

impl Entropy for Numbered {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

pub fn document(number: u8) -> DocumentId {
    DocumentId::random(&Numbered(number))
}

pub fn log(number: u8) -> LogId {
    LogId::random(&Numbered(number))
}

pub fn labels(labels: &[&str]) -> LabelSet {
    labels.iter().map(|label| label.parse().unwrap()).collect()
}

pub fn passage(text: &str, of: &[&str], start: u64) -> NewChunk {
    let source_end = start + text.len() as u64;
    NewChunk { passage: Passage::Text(text.into()), labels: labels(of), source_start: start, source_end }
}

pub fn withheld(digest: &str, of: &[&str], start: u64) -> NewChunk {
    NewChunk { passage: Passage::Withheld { digest: digest.into() }, ..passage("", of, start) }
}

pub fn added(number: u8, title: &str, owner: &str, readers: &[&str], digest: &str) -> DocumentAdded {
    DocumentAdded {
        document: document(number),
        title: title.into(),
        title_labels: LabelSet::default(),
        owner: owner.into(),
        readers: readers.iter().map(|reader| (*reader).into()).collect(),
        labels: LabelSet::default(),
        content_digest: digest.into(),
        added_us: 1_000_000 + u64::from(number),
    }
}

pub fn search(store: &Store, reader: &str, text: &str) -> Vec<Hit> {
    store.search(&SearchRequest { text, reader, labels_allowed: None, limit: 100 }).unwrap()
}
