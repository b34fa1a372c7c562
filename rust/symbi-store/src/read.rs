//! Documents and passages by name, and whether a quotation stands where it claims to.

use rusqlite::{OptionalExtension as _, Row};
use symbi_types::{DocumentId, LabelSet, Part};

use crate::content::{hex, labels_of, text_digest};
use crate::store::natural;
use crate::vault::{Sealed, read_title};
use crate::{EVERYBODY, Store, StoreError};

/// A document, without its passages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Which.
    pub id: DocumentId,
    /// Its name for people.
    pub title: String,
    /// The agent, by name, that it belongs to.
    pub owner: String,
    /// Every agent, by name, that may read it, the owner among them; sorted.
    pub readers: Vec<String>,
    /// What each of its passages carries besides its own labels.
    pub labels: LabelSet,
    /// The digest of its passages.
    pub content_digest: String,
    /// When it was added, in microseconds since the Unix epoch.
    pub added_us: u64,
    /// Its passages, the withheld ones included. 0 where they are lost.
    pub chunks: u64,
    /// Those without text.
    pub withheld: u64,
}

/// A passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number.
    pub id: i64,
    /// The document it belongs to.
    pub document: DocumentId,
    /// Its text; `None` where only location and digest were stored (K6), or the person it belongs to was erased.
    pub text: Option<String>,
    /// The digest of the text, or the one the caller gave for a withheld passage.
    pub digest: String,
    /// Its own labels and its document's.
    pub labels: LabelSet,
    /// First byte in the source.
    pub source_start: u64,
    /// One past the last byte in the source.
    pub source_end: u64,
}

/// How much is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents.
    pub documents: u64,
    /// Passages of documents, the withheld ones included.
    pub chunks: u64,
    /// Those without text.
    pub withheld: u64,
    /// Lists of passages that no record names yet.
    pub waiting: u64,
}

const DOCUMENTS: &str = "SELECT d.uuid, d.title, d.owner, d.labels, d.digest, d.added_us, d.id, \
    count(c.id), count(c.id) - count(c.text), d.title_labels FROM document d LEFT JOIN chunk c ON c.content = d.content";
pub(crate) const CHUNKS: &str = "SELECT c.id, d.uuid, c.text, c.digest, c.labels, d.labels, c.source_start, \
    c.source_end, d.title, c.blinded IS NOT NULL, d.title_labels FROM chunk c JOIN document d ON d.content = c.content";

impl Document {
    /// Whether this agent is among its readers.
    #[must_use]
    pub fn is_read_by(&self, name: &str) -> bool {
        self.readers.iter().any(|reader| reader == name || reader == EVERYBODY)
    }
}

impl Store {
    /// One document.
    ///
    /// # Errors
    /// The file's own.
    pub fn document(&self, id: DocumentId) -> Result<Option<Document>, StoreError> {
        let documents = self.select_documents(" WHERE d.uuid = ?1", &[id.as_bytes()])?;
        Ok(documents.into_iter().next())
    }

    /// Every document, in the order in which they were added.
    ///
    /// # Errors
    /// The file's own.
    pub fn documents(&self) -> Result<Vec<Document>, StoreError> {
        self.select_documents("", &[])
    }

    fn select_documents(&self, filter: &str, values: &[&[u8; 16]]) -> Result<Vec<Document>, StoreError> {
        let searcher = self.search_connection();
        let connection = searcher.connection();
        let mut statement = connection.prepare_cached(&format!("{DOCUMENTS}{filter} GROUP BY d.id"))?;
        let mut readers =
            connection.prepare_cached("SELECT reader FROM access WHERE document = ?1 ORDER BY reader")?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        let mut documents = Vec::new();
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(6)?;
            let names = readers.query_map([id], |row| row.get(0))?;
            documents.push(Document {
                id: document_id(row, 0)?,
                title: read_title(&self.sealed, row.get(1)?, &row.get::<_, String>(9)?)?,
                owner: row.get(2)?,
                readers: names.collect::<Result<_, _>>()?,
                labels: labels_of(&row.get::<_, String>(3)?)?,
                content_digest: row.get(4)?,
                added_us: natural(row.get(5)?)?,
                chunks: natural(row.get(7)?)?,
                withheld: natural(row.get(8)?)?,
            });
        }
        Ok(documents)
    }

    /// One passage of a document, whoever asks: for the kernel's own questions. `None` also where no record names it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the text is not the one that was stored; the file's own.
    pub fn chunk(&self, id: i64) -> Result<Option<Chunk>, StoreError> {
        let searcher = self.search_connection();
        let mut statement = searcher.connection().prepare_cached(&format!("{CHUNKS} WHERE c.id = ?1"))?;
        let mut rows = statement.query([id])?;
        rows.next()?.map(|row| chunk_of(row, &self.sealed)).transpose()
    }

    /// The passages of a document, in order, whoever asks.
    ///
    /// # Errors
    /// As [`Store::chunk`].
    pub fn chunks(&self, document: DocumentId) -> Result<Vec<Chunk>, StoreError> {
        let searcher = self.search_connection();
        let all = format!("{CHUNKS} WHERE d.uuid = ?1 ORDER BY c.id");
        let mut statement = searcher.connection().prepare_cached(&all)?;
        let mut rows = statement.query([document.as_bytes()])?;
        let mut chunks = Vec::new();
        while let Some(row) = rows.next()? {
            chunks.push(chunk_of(row, &self.sealed)?);
        }
        Ok(chunks)
    }

    /// The labels of the passage that `part` quotes, if its text stands there, byte for byte, and `reader` may read
    /// that passage; otherwise `None`, whatever the reason.
    ///
    /// # Errors
    /// As [`Store::chunk`].
    pub fn check_part(&self, reader: &str, part: &Part) -> Result<Option<LabelSet>, StoreError> {
        let Some(source) = &part.source else {
            return Ok(None);
        };
        let Some(chunk) = self.chunk(source.chunk)? else {
            return Ok(None);
        };
        let quoted = chunk.text.as_deref().and_then(|text| text.get(source.start..source.end));
        if quoted != Some(part.text.as_str()) || !self.may_read(reader, chunk.document)? {
            return Ok(None);
        }
        Ok(Some(chunk.labels))
    }

    /// Whether the access list of a document names `reader`.
    ///
    /// # Errors
    /// The file's own.
    pub fn may_read(&self, reader: &str, document: DocumentId) -> Result<bool, StoreError> {
        let searcher = self.search_connection();
        let mut statement = searcher.connection().prepare_cached(
            "SELECT 1 FROM access a JOIN document d ON d.id = a.document WHERE a.reader = ?1 AND d.uuid = ?2",
        )?;
        let found = statement.query_row((reader, document.as_bytes()), |_| Ok(())).optional()?;
        Ok(found.is_some())
    }

    /// How much is here.
    ///
    /// # Errors
    /// The file's own.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        let searcher = self.search_connection();
        let count = |sql: &str| -> Result<u64, StoreError> {
            natural(searcher.connection().query_row(sql, [], |row| row.get(0))?)
        };
        let named = "FROM chunk WHERE content IN (SELECT content FROM document)";
        Ok(Counts {
            documents: count("SELECT count(*) FROM document")?,
            chunks: count(&format!("SELECT count(*) {named}"))?,
            withheld: count(&format!("SELECT count(*) {named} AND text IS NULL"))?,
            waiting: count("SELECT count(*) FROM content WHERE claimed = 0")?,
        })
    }
}

pub(crate) fn document_id(row: &Row<'_>, column: usize) -> Result<DocumentId, StoreError> {
    let bytes: [u8; 16] = row.get(column)?;
    DocumentId::from_bytes(bytes).ok_or_else(|| StoreError::corrupt("a document's id does not read"))
}

/// Reads a row of [`CHUNKS`], and holds its text against its digest.
pub(crate) fn chunk_of(row: &Row<'_>, sealed: &Sealed) -> Result<Chunk, StoreError> {
    let own = labels_of(&row.get::<_, String>(4)?)?;
    let stored: Option<String> = row.get(2)?;
    let is_sealed: bool = row.get(9)?;
    let text = match stored {
        Some(stored) if is_sealed => sealed.open(&stored),
        plain => plain,
    };
    let chunk = Chunk {
        id: row.get(0)?,
        document: document_id(row, 1)?,
        text,
        digest: row.get(3)?,
        labels: own.union(&labels_of(&row.get::<_, String>(5)?)?),
        source_start: natural(row.get(6)?)?,
        source_end: natural(row.get(7)?)?,
    };
    let holds = match &chunk.text {
        None => true,
        Some(text) if is_sealed => hex(&sealed.digest(&own, text)?) == chunk.digest,
        Some(text) => text_digest(text) == chunk.digest,
    };
    if holds {
        Ok(chunk)
    } else {
        Err(StoreError::corrupt(format!("passage {} is not what was stored", chunk.id)))
    }
}
