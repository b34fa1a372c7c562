//! Persons' passages: sealed in the file, found by words that are keyed, and erased.
//!
//! Why: what belongs to a person must become unreadable with that person's key, and a file that a backup has taken must not
//! hold it in the clear either. So a passage that carries a person's label is stored sealed, and its words are indexed as
//! numbers under a key that is not in the file.
//! Not here: the keys (the kernel has them).
//!
//! Invariants
//! - K8 a passage or a title that carries a person's label is never stored in the clear; without a vault it is refused.
//! - K9 after [`Store::erase_subject`] neither the file nor its WAL holds anything of that person, sealed or not.

use std::fmt;
use std::sync::Arc;

use rusqlite::{Connection, params};
use symbi_types::{Label, LabelSet};

use crate::content::{fold_wal, labels_of};
use crate::projection::forget_terms;
use crate::{Store, StoreError};

/// The keys of persons, as far as the store needs them.
pub trait Vault: Send + Sync {
    /// Seals for all persons that the labels name; none where one of their keys is gone.
    fn seal(&self, labels: &LabelSet, plain: &[u8]) -> Option<String>;
    /// Opens it; none where a key is gone, or it is damaged.
    fn open(&self, sealed: &str) -> Option<Vec<u8>>;
    /// A digest under the keys of all persons that the labels name; none where one is gone.
    fn digest(&self, labels: &LabelSet, bytes: &[u8]) -> Option<[u8; 32]>;
    /// A number that stands for a word, the same for the same word.
    fn blind(&self, word: &str) -> u64;
}

/// A vault, or none: then nothing that belongs to a person can be stored or read.
#[derive(Clone, Default)]
pub(crate) struct Sealed(pub(crate) Option<Arc<dyn Vault>>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Sealed {
    pub(crate) fn seal(&self, labels: &LabelSet, text: &str) -> Result<String, StoreError> {
        let sealed = self.0.as_ref().and_then(|vault| vault.seal(labels, text.as_bytes()));
        sealed.ok_or(StoreError::Unsealable)
    }

    /// The text; none where it cannot be opened: the person was erased.
    pub(crate) fn open(&self, sealed: &str) -> Option<String> {
        String::from_utf8(self.0.as_ref()?.open(sealed)?).ok()
    }

    pub(crate) fn digest(&self, labels: &LabelSet, text: &str) -> Result<[u8; 32], StoreError> {
        let digest = self.0.as_ref().and_then(|vault| vault.digest(labels, text.as_bytes()));
        digest.ok_or(StoreError::Unsealable)
    }

    /// Words as they stand in the index: digits, which no stemmer changes.
    pub(crate) fn blind(&self, word: &str) -> Option<String> {
        Some(format!("{:020}", self.0.as_ref()?.blind(word)))
    }
}

/// What a store held of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Passages.
    pub passages: u64,
    /// Documents of which nothing is left.
    pub documents: u64,
    /// Titles of documents of which something is left.
    pub titles: u64,
}

/// What stands in the place of a title that belonged to a person.
const ERASED_TITLE: &str = "[erased]";

impl Store {
    /// What there is of a person.
    ///
    /// # Errors
    /// The file's own.
    pub fn count_subject(&self, label: &Label) -> Result<Forgotten, StoreError> {
        let mut writer = self.write();
        let transaction = writer.transaction()?;
        forget(&transaction, label) // rolled back
    }

    /// Removes all that carries this person's label, and writes over where it stood (K9). A passage of several persons goes.
    ///
    /// # Errors
    /// [`StoreError::InUse`]: it is removed, and stands in the WAL as long as somebody else reads an older state; to be called
    /// again. The file's own.
    ///
    /// Cost: reads the labels of all passages; where something was removed, the file is written anew.
    pub fn erase_subject(&self, label: &Label) -> Result<Forgotten, StoreError> {
        let mut searcher = self.search_connection(); // no search goes on while the file is written anew
        let mut writer = self.write();
        let transaction = writer.transaction()?;
        let forgotten = forget(&transaction, label)?;
        transaction.commit()?;
        searcher.forget();
        if forgotten != Forgotten::default() {
            writer.execute("INSERT INTO terms(terms) VALUES('optimize')", [])?;
            fold_wal(&writer)?;
            writer.execute_batch("VACUUM")?;
        }
        writer.execute_batch("PRAGMA shrink_memory")?;
        if fold_wal(&writer)? { Ok(forgotten) } else { Err(StoreError::InUse) } // K9
    }
}

fn forget(connection: &Connection, label: &Label) -> Result<Forgotten, StoreError> {
    let like = format!("%\"{label}\"%");
    connection.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS going(id INTEGER PRIMARY KEY); DELETE FROM temp.going",
    )?;
    let passages = connection.execute(
        "INSERT INTO temp.going SELECT c.id FROM chunk c LEFT JOIN document d ON d.content = c.content \
         WHERE c.labels LIKE ?1 OR d.labels LIKE ?1",
        [&like],
    )?;
    forget_terms(connection, "id IN (SELECT id FROM temp.going)", [])?;
    connection.execute("DELETE FROM chunk WHERE id IN (SELECT id FROM temp.going)", [])?;
    connection.execute("DELETE FROM temp.going", [])?;
    connection
        .execute("DELETE FROM content WHERE claimed = 0 AND id NOT IN (SELECT content FROM chunk)", [])?;
    let empty = "SELECT id FROM document WHERE labels LIKE ?1 OR (title_labels LIKE ?1 AND \
         (content IS NULL OR content NOT IN (SELECT content FROM chunk)))";
    connection.execute(&format!("DELETE FROM access WHERE document IN ({empty})"), [&like])?;
    connection.execute(
        &format!("DELETE FROM content WHERE id IN (SELECT content FROM document WHERE id IN ({empty}))"),
        [&like],
    )?;
    let documents = connection.execute(&format!("DELETE FROM document WHERE id IN ({empty})"), [&like])?;
    let titles = connection.execute(
        "UPDATE document SET title = ?2, title_labels = '[]' WHERE title_labels LIKE ?1",
        params![like, ERASED_TITLE],
    )?;
    let [passages, documents, titles] = [passages, documents, titles].map(|count| count as u64);
    Ok(Forgotten { passages, documents, titles })
}

/// A title as it is stored, with its labels (K8).
pub(crate) fn store_title(
    sealed: &Sealed,
    title: &str,
    labels: &LabelSet,
) -> Result<(String, LabelSet), StoreError> {
    let persons = labels.subjects();
    if persons.is_empty() {
        return Ok((title.to_owned(), persons));
    }
    Ok((sealed.seal(&persons, title)?, persons))
}

/// A title as it is read.
pub(crate) fn read_title(sealed: &Sealed, stored: String, labels: &str) -> Result<String, StoreError> {
    if labels == "[]" || !labels_of(labels)?.has_subjects() {
        return Ok(stored);
    }
    Ok(sealed.open(&stored).unwrap_or_else(|| ERASED_TITLE.to_owned()))
}
