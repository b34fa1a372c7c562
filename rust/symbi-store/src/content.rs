//! Passages: on disk before the log names them, by digest.
//!
//! The digest of a list of passages is SHA-256 over `"symbi/content/v1\0"`, their number, and of each: a byte that
//! says text (1), withheld (0) or a person's text (2), the text or its digest (of a person's text: keyed), the labels as JSON, first and last byte in the source; texts
//! are preceded by their length, numbers are 8 bytes, big-endian.

use rusqlite::{Connection, OptionalExtension as _, params};
use symbi_types::{Label, LabelSet};

use crate::vault::Sealed;
use crate::{Store, StoreError};

/// Bytes of one passage: a page of text. A longer one is cut by whoever makes passages.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Passages of one document: with the bound above, more than a document of 1 GiB.
pub const CHUNKS_MAX: usize = 65_536;

/// What is kept of a passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Its text.
    Text(String),
    /// Not its text: a digest, made by the caller (keyed, where the text could be guessed), 1 to 128 characters.
    Withheld {
        /// That digest.
        digest: String,
    },
}

/// A passage to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChunk {
    /// What is kept of it; no text where the labels hold `secret` (K6).
    pub passage: Passage,
    /// What it carries.
    pub labels: LabelSet,
    /// First byte in the source.
    pub source_start: u64,
    /// One past the last byte in the source.
    pub source_end: u64,
}

/// Passages that are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRef {
    /// What a record names them by: 64 lower-case hex digits.
    pub digest: String,
    /// The numbers of the passages, in order.
    pub chunks: Vec<i64>,
}

impl Store {
    /// Puts passages on disk, seen by nobody until a record names them (K2). The same passages again, while no
    /// record names them, are the same content.
    ///
    /// # Errors
    /// [`StoreError::SecretText`], [`StoreError::Passage`], [`StoreError::TooMany`]; the file's own.
    ///
    /// Cost: one sync of the disk.
    pub fn put_content(&self, chunks: &[NewChunk]) -> Result<ContentRef, StoreError> {
        check(chunks)?;
        let labels: Vec<String> = chunks.iter().map(|chunk| labels_text(&chunk.labels)).collect();
        let digest = digest(chunks, &labels, &self.sealed)?;
        let mut writer = self.write();
        let transaction = writer.transaction()?;
        let waiting = "SELECT id FROM content WHERE digest = ?1 AND claimed = 0 ORDER BY id LIMIT 1";
        let known: Option<i64> = transaction.query_row(waiting, [&digest], |row| row.get(0)).optional()?;
        let chunks = match known {
            Some(content) => numbers(&transaction, content)?,
            None => insert(&transaction, &digest, chunks, &labels, &self.sealed)?,
        };
        transaction.commit()?;
        Ok(ContentRef { digest, chunks })
    }

    /// The passages of a content that no record names yet, in order; none where there is no such content.
    ///
    /// # Errors
    /// The file's own.
    pub fn passages(&self, digest: &str) -> Result<Vec<Passage>, StoreError> {
        let reader = self.write();
        let mut statement = reader.prepare_cached(
            "SELECT text, digest FROM chunk WHERE content = (SELECT id FROM content WHERE digest = ?1 \
             AND claimed = 0 ORDER BY id LIMIT 1) ORDER BY id",
        )?;
        let passages = statement.query_map([digest], |row| {
            let text: Option<String> = row.get(0)?;
            Ok(match text {
                Some(text) => Passage::Text(text),
                None => Passage::Withheld { digest: row.get(1)? },
            })
        })?;
        Ok(passages.collect::<Result<_, _>>()?)
    }

    /// Removes passages that were there when the file was opened and that no record names (K2). To be called once
    /// after the replay. Returns how many lists of passages went.
    ///
    /// # Errors
    /// The file's own.
    pub fn sweep(&self) -> Result<usize, StoreError> {
        let mut writer = self.write();
        let transaction = writer.transaction()?;
        let orphans = "SELECT id FROM content WHERE claimed = 0 AND id <= ?1";
        transaction
            .execute(&format!("DELETE FROM chunk WHERE content IN ({orphans})"), [self.opened_with])?;
        let swept =
            transaction.execute("DELETE FROM content WHERE claimed = 0 AND id <= ?1", [self.opened_with])?;
        transaction.commit()?;
        if 0 < swept {
            fold_wal(&writer)?;
        }
        Ok(swept)
    }
}

/// What was removed must not stay readable in the WAL. False: somebody reads an older state, and it stays until the next
/// time.
pub(crate) fn fold_wal(connection: &Connection) -> Result<bool, StoreError> {
    Ok(connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0).map(|busy: i64| busy == 0))?)
}

fn check(chunks: &[NewChunk]) -> Result<(), StoreError> {
    if CHUNKS_MAX < chunks.len() {
        return Err(StoreError::TooMany { given: chunks.len(), limit: CHUNKS_MAX });
    }
    for (index, chunk) in chunks.iter().enumerate() {
        let problem = match &chunk.passage {
            Passage::Text(_) if chunk.labels.contains(Label::SECRET) => {
                return Err(StoreError::SecretText { index }); // K6
            }
            Passage::Text(text) if CHUNK_BYTES_MAX < text.len() => Some("more than 65536 bytes"),
            Passage::Withheld { digest } if digest.is_empty() || 128 < digest.len() => {
                Some("a digest that has not 1 to 128 characters")
            }
            _ if chunk.source_end < chunk.source_start => Some("an end before its start"),
            _ if i64::MAX.unsigned_abs() < chunk.source_end => Some("an end past 2^63"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(StoreError::Passage { index, problem });
        }
    }
    Ok(())
}

fn digest(chunks: &[NewChunk], labels: &[String], sealed: &Sealed) -> Result<String, StoreError> {
    let mut bytes = Vec::with_capacity(chunks.len() * 512);
    let number = |bytes: &mut Vec<u8>, value: u64| bytes.extend_from_slice(&value.to_be_bytes());
    number(&mut bytes, chunks.len() as u64);
    for (chunk, labels) in chunks.iter().zip(labels) {
        let keyed;
        let (kind, text) = match &chunk.passage {
            Passage::Text(text) if chunk.labels.has_subjects() => {
                keyed = hex(&sealed.digest(&chunk.labels, text)?);
                (2, &keyed)
            }
            Passage::Text(text) => (1, text),
            Passage::Withheld { digest } => (0, digest),
        };
        bytes.push(kind);
        for text in [text, labels] {
            number(&mut bytes, text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
        }
        number(&mut bytes, chunk.source_start);
        number(&mut bytes, chunk.source_end);
    }
    Ok(hex(&symbi_crypto::sha256(&[b"symbi/content/v1\0", &bytes])))
}

fn insert(
    connection: &Connection,
    digest: &str,
    chunks: &[NewChunk],
    labels: &[String],
    sealed: &Sealed,
) -> Result<Vec<i64>, StoreError> {
    connection.execute("INSERT INTO content(digest, claimed) VALUES (?1, 0)", [digest])?;
    let content = connection.last_insert_rowid();
    let mut statement = connection.prepare_cached(
        "INSERT INTO chunk(content, text, digest, labels, words, source_start, source_end, blinded) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut ids = Vec::with_capacity(chunks.len());
    for (chunk, labels) in chunks.iter().zip(labels) {
        let (kept, blinded);
        let (text, digest) = match &chunk.passage {
            Passage::Text(text) if chunk.labels.has_subjects() => {
                kept = sealed.seal(&chunk.labels, text)?; // K8
                blinded = Some(blind(connection, text, sealed)?);
                (Some((&kept, words(text))), hex(&sealed.digest(&chunk.labels, text)?))
            }
            Passage::Text(text) => {
                blinded = None;
                (Some((text, words(text))), text_digest(text))
            }
            Passage::Withheld { digest } => {
                blinded = None;
                (None, digest.clone())
            }
        };
        let (text, words) = text.unzip();
        let words = words.unwrap_or(0);
        let start = chunk.source_start.cast_signed();
        let end = chunk.source_end.cast_signed();
        statement.execute(params![content, text, digest, labels, words, start, end, blinded])?;
        ids.push(connection.last_insert_rowid());
    }
    Ok(ids)
}

/// The words of a text, cut by the rules of the index, each as the number that stands for it (K8).
fn blind(connection: &Connection, text: &str, sealed: &Sealed) -> Result<String, StoreError> {
    connection.execute("INSERT INTO temp.question(question) VALUES ('delete-all')", [])?;
    connection.execute("INSERT INTO temp.question(rowid, text) VALUES (1, ?1)", [text])?;
    let words = {
        let mut statement =
            connection.prepare_cached("SELECT term FROM temp.question_words ORDER BY offset")?;
        let words = statement.query_map([], |row| row.get::<_, String>(0))?;
        words.collect::<Result<Vec<_>, _>>()?
    };
    connection.execute("INSERT INTO temp.question(question) VALUES ('delete-all')", [])?;
    let blinded: Option<Vec<String>> = words.iter().map(|word| sealed.blind(word)).collect();
    Ok(blinded.ok_or(StoreError::Unsealable)?.join(" "))
}

fn numbers(connection: &Connection, content: i64) -> Result<Vec<i64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM chunk WHERE content = ?1 ORDER BY id")?;
    let ids = statement.query_map([content], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// The length by which the ranking compares passages: runs of letters and digits.
fn words(text: &str) -> i64 {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    i64::try_from(words.count()).unwrap_or(i64::MAX)
}

/// What a stored text is compared with when it is read.
pub(crate) fn text_digest(text: &str) -> String {
    hex(&symbi_crypto::sha256(&[b"symbi/chunk/v1\0", text.as_bytes()]))
}

pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // writing into a string cannot fail
    }
    text
}

/// Labels as they stand in the file: a JSON array. Their alphabet needs no escapes.
pub(crate) fn labels_text(labels: &LabelSet) -> String {
    let quoted: Vec<String> = labels.iter().map(|label| format!("\"{label}\"")).collect();
    format!("[{}]", quoted.join(","))
}

pub(crate) fn labels_of(text: &str) -> Result<LabelSet, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::corrupt("labels do not read"))
}
