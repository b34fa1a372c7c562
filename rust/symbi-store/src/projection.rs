//! Records of the log that change what is known, and their effect.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use symbi_types::{DocumentId, LabelSet};

use crate::content::{fold_wal, labels_text};
use crate::vault::{Sealed, store_title};
use crate::{Store, StoreError};

/// A change to the knowledge, as a record's details hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Projection {
    /// A document is there, under this access list. One of the same id is replaced.
    DocumentAdded(DocumentAdded),
    /// A document and its passages are gone. One that is not there is gone already.
    DocumentRemoved {
        /// Which.
        #[serde(with = "text")]
        document: DocumentId,
    },
}

/// A document and who may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentAdded {
    /// Which.
    #[serde(with = "text")]
    pub document: DocumentId,
    /// Its name for people.
    pub title: String,
    /// The agent, by name, that it belongs to; always a reader.
    pub owner: String,
    /// The other agents, by name, that may read it.
    pub readers: Vec<String>,
    /// What each of its passages carries besides its own labels.
    pub labels: LabelSet,
    /// The persons that its name may tell of.
    #[serde(default, skip_serializing_if = "LabelSet::is_empty")]
    pub title_labels: LabelSet,
    /// The passages, as [`crate::ContentRef`] names them.
    pub content_digest: String,
    /// When, in microseconds since the Unix epoch, on the log's time.
    pub added_us: u64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It took effect.
    Now,
    /// It had taken effect before (K3).
    Before,
    /// It took effect, and the passages it names are not here: the file was rebuilt, or lost them. The document is
    /// known and found by nobody until it is added again.
    WithoutContent,
}

impl Store {
    /// Applies one durable record. See [`Store::apply_many`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, seq: u64, projection: &Projection) -> Result<Applied, StoreError> {
        let applied = self.apply_many(&[(seq, projection.clone())])?;
        Ok(applied.first().copied().unwrap_or(Applied::Before))
    }

    /// Applies durable records, in ascending order of `seq`, in one transaction: all or none. Records that do not
    /// concern the knowledge are left out; those below [`Store::applied_seq`] change nothing (K3).
    ///
    /// # Errors
    /// [`StoreError::NotDurable`] (K1), and the file's own.
    ///
    /// Cost: one sync of the disk.
    pub fn apply_many(&self, records: &[(u64, Projection)]) -> Result<Vec<Applied>, StoreError> {
        let durable = self.durable();
        if let Some((seq, _)) = records.iter().find(|(seq, _)| durable <= *seq) {
            return Err(StoreError::NotDurable { seq: *seq, durable });
        }
        let mut writer = self.write();
        let transaction = writer.transaction()?;
        let mut next: i64 = transaction.query_row("SELECT applied FROM meta", [], |row| row.get(0))?;
        let mut answers = Vec::with_capacity(records.len());
        let mut removed = false;
        for (seq, projection) in records {
            let seq = seq.cast_signed();
            if seq < next {
                answers.push(Applied::Before);
                continue;
            }
            answers.push(match projection {
                Projection::DocumentAdded(added) => add(&transaction, added, &self.sealed)?,
                Projection::DocumentRemoved { document } => {
                    removed = true;
                    remove(&transaction, document)?;
                    Applied::Now
                }
            });
            next = seq + 1;
        }
        transaction.execute("UPDATE meta SET applied = ?1", [next])?;
        transaction.commit()?;
        if removed {
            fold_wal(&writer)?;
        }
        Ok(answers)
    }
}

fn add(connection: &Connection, added: &DocumentAdded, sealed: &Sealed) -> Result<Applied, StoreError> {
    remove(connection, &added.document)?;
    let (title, title_labels) = match store_title(sealed, &added.title, &added.title_labels) {
        Ok(title) => title,
        // Replayed after one of them was erased: nothing of it comes back.
        Err(StoreError::Unsealable) => return Ok(Applied::WithoutContent),
        Err(error) => return Err(error),
    };
    let waiting = "SELECT id FROM content WHERE digest = ?1 AND claimed = 0 ORDER BY id LIMIT 1";
    let content: Option<i64> =
        connection.query_row(waiting, [&added.content_digest], |row| row.get(0)).optional()?;
    connection.execute(
        "INSERT INTO document(uuid, title, owner, labels, digest, added_us, content, title_labels) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            added.document.as_bytes(),
            title,
            added.owner,
            labels_text(&added.labels),
            added.content_digest,
            added.added_us.cast_signed(),
            content,
            labels_text(&title_labels)
        ],
    )?;
    let document = connection.last_insert_rowid();
    let mut grant =
        connection.prepare_cached("INSERT OR IGNORE INTO access(reader, document) VALUES (?1, ?2)")?;
    for reader in added.readers.iter().chain([&added.owner]) {
        grant.execute(params![reader, document])?;
    }
    let Some(content) = content else {
        return Ok(Applied::WithoutContent);
    };
    connection.execute("UPDATE content SET claimed = 1 WHERE id = ?1", [content])?;
    connection.execute(
        "INSERT INTO terms(rowid, text) \
         SELECT id, coalesce(blinded, text) FROM chunk WHERE content = ?1 AND text IS NOT NULL",
        [content],
    )?;
    Ok(Applied::Now)
}

fn remove(connection: &Connection, document: &DocumentId) -> Result<(), StoreError> {
    let find = "SELECT id, content FROM document WHERE uuid = ?1";
    let found: Option<(i64, Option<i64>)> =
        connection.query_row(find, [document.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((id, content)) = found else {
        return Ok(());
    };
    if let Some(content) = content {
        forget_terms(connection, "content = ?1", [content])?;
        connection.execute("DELETE FROM chunk WHERE content = ?1", [content])?;
        connection.execute("DELETE FROM content WHERE id = ?1", [content])?;
    }
    connection.execute("DELETE FROM access WHERE document = ?1", [id])?;
    connection.execute("DELETE FROM document WHERE id = ?1", [id])?;
    Ok(())
}

/// Takes the words of passages out of the index; the condition is over the table of passages.
pub(crate) fn forget_terms(
    connection: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> Result<usize, StoreError> {
    // What no record names was never indexed.
    let which = format!(
        "SELECT 'delete', id, coalesce(blinded, text) FROM chunk WHERE {condition} AND text IS NOT NULL \
         AND content IN (SELECT id FROM content WHERE claimed = 1)"
    );
    Ok(connection.execute(&format!("INSERT INTO terms(terms, rowid, text) {which}"), values)?)
}

/// An id as its text, in JSON.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
