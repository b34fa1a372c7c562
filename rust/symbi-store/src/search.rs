//! Keyword search for one reader.
//!
//! The order of things: cut the question into words (K5), find what the reader may read (K4), gather the occurrences
//! of each word there and nowhere else, rank, fetch the best. All in one read transaction, so that it sees one state.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use rusqlite::Connection;
use symbi_types::{DocumentId, LabelSet};

use crate::content::{labels_of, labels_text};
use crate::rank::{Ranking, Readable};
use crate::read::{CHUNKS, Chunk, chunk_of};
use crate::vault::{Sealed, read_title};
use crate::{EVERYBODY, Store, StoreError};

/// Bytes of a question: a long paragraph. Bounds the words looked up; past it a search is refused, never cut.
pub const QUERY_BYTES_MAX: usize = 1_024;
/// Hits of one search.
pub const HITS_MAX: usize = 100;
/// Readers whose readable passages are remembered between searches: 4 bytes a passage each.
const READERS_MAX: usize = 16;

/// A question of one reader.
#[derive(Clone, Debug)]
pub struct SearchRequest<'a> {
    /// The question. Data, whatever stands in it (K5).
    pub text: &'a str,
    /// Who asks: the agent's name, as access lists have it.
    pub reader: &'a str,
    /// Passages with any other label are as if they were not there; `None` lets every label pass.
    pub labels_allowed: Option<&'a LabelSet>,
    /// Hits wanted, at most [`HITS_MAX`].
    pub limit: usize,
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// 1 for the best. The score behind it is nobody's input.
    pub rank: u32,
    /// How many different words of the question the passage holds.
    pub terms: u32,
    /// Its number.
    pub chunk: i64,
    /// The document it belongs to.
    pub document: DocumentId,
    /// The document's title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Its own labels and its document's.
    pub labels: LabelSet,
    /// First byte in the source.
    pub source_start: u64,
    /// One past the last byte in the source.
    pub source_end: u64,
}

/// The connection that reads, and what it remembers.
#[derive(Debug)]
pub(crate) struct Searcher {
    connection: Connection,
    remembered: HashMap<(String, Option<String>), Arc<Readable>>,
    remembered_at: i64,
}

impl Store {
    pub(crate) fn search_connection(&self) -> MutexGuard<'_, Searcher> {
        self.searcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The passages that answer best, best first, of those that `reader` may read.
    ///
    /// # Errors
    /// [`StoreError::QueryTooLong`]; [`StoreError::Corrupt`] where a text is not the one that was stored; the file's
    /// own.
    ///
    /// Cost: in the order of the occurrences of the question's words; the first search after a change also reads the
    /// reader's list of passages.
    pub fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Hit>, StoreError> {
        if QUERY_BYTES_MAX < request.text.len() {
            return Err(StoreError::QueryTooLong { bytes: request.text.len(), limit: QUERY_BYTES_MAX });
        }
        let mut searcher = self.search_connection();
        let terms = searcher.terms(request.text)?;
        searcher.connection.execute_batch("BEGIN DEFERRED")?;
        let hits = searcher.search_within(request, &terms, &self.sealed);
        searcher.connection.execute_batch("ROLLBACK")?;
        hits
    }
}

impl Searcher {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, remembered: HashMap::new(), remembered_at: -1 }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What readers may read is looked up anew.
    pub(crate) fn forget(&mut self) {
        self.remembered.clear();
    }

    /// The different words of a question, cut by the same rules as the passages were (K5).
    fn terms(&self, text: &str) -> Result<Vec<String>, StoreError> {
        self.connection.execute("INSERT INTO temp.question(question) VALUES ('delete-all')", [])?;
        self.connection.execute("INSERT INTO temp.question(rowid, text) VALUES (1, ?1)", [text])?;
        let mut statement = self.connection.prepare_cached("SELECT term FROM temp.question_terms")?;
        let terms = statement.query_map([], |row| row.get(0))?;
        Ok(terms.collect::<Result<_, _>>()?)
    }

    fn search_within(
        &mut self,
        request: &SearchRequest<'_>,
        terms: &[String],
        sealed: &Sealed,
    ) -> Result<Vec<Hit>, StoreError> {
        let readable = self.readable(request.reader, request.labels_allowed)?;
        if readable.is_empty() {
            return Ok(Vec::new());
        }
        let mut ranking = Ranking::new(&readable);
        let has_sealed = self.connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM chunk WHERE blinded IS NOT NULL)",
            [],
            |row| row.get::<_, bool>(0),
        )?;
        for term in terms {
            let mut found = self.occurrences(term, &readable)?;
            if let (true, Some(blinded)) = (has_sealed, sealed.blind(term)) {
                found.extend(self.occurrences(&blinded, &readable)?); // in other passages, all of them
            }
            ranking.add_term(&found);
        }
        self.fetch(&ranking.best(request.limit.min(HITS_MAX)), sealed)
    }

    /// What a reader may read, as of the records applied now.
    fn readable(&mut self, reader: &str, allowed: Option<&LabelSet>) -> Result<Arc<Readable>, StoreError> {
        let applied: i64 = self.connection.query_row("SELECT applied FROM meta", [], |row| row.get(0))?;
        if applied != self.remembered_at || READERS_MAX <= self.remembered.len() {
            self.remembered.clear();
            self.remembered_at = applied;
        }
        let key = (reader.to_owned(), allowed.map(labels_text));
        if let Some(known) = self.remembered.get(&key) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(self.read_readable(reader, allowed)?);
        self.remembered.insert(key, Arc::clone(&found));
        Ok(found)
    }

    fn read_readable(&self, reader: &str, allowed: Option<&LabelSet>) -> Result<Readable, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT c.id, c.words, c.labels, d.labels FROM document d JOIN chunk c ON c.content = d.content \
             WHERE d.id IN (SELECT document FROM access WHERE reader IN (?1, ?2)) AND c.text IS NOT NULL ORDER BY c.id",
        )?;
        let mut rows = statement.query([reader, EVERYBODY])?;
        let mut readable = Readable::default();
        let mut verdicts: HashMap<String, bool> = HashMap::new(); // few label sets, many passages
        let mut passes = |labels: &str| -> Result<bool, StoreError> {
            let Some(allowed) = allowed else {
                return Ok(true);
            };
            if let Some(verdict) = verdicts.get(labels) {
                return Ok(*verdict);
            }
            let verdict = allowed.covers(&labels_of(labels)?);
            verdicts.insert(labels.to_owned(), verdict);
            Ok(verdict)
        };
        while let Some(row) = rows.next()? {
            let texts = [row.get_ref(2)?, row.get_ref(3)?].map(|labels| labels.as_str().unwrap_or_default());
            let [own, document] = texts;
            if !(passes(own)? && passes(document)?) {
                continue;
            }
            readable.insert(row.get(0)?, row.get(1)?);
        }
        Ok(readable)
    }

    /// The readable passages that a word occurs in, and how often. SQLite gives them in the order of their numbers.
    fn occurrences(&self, term: &str, readable: &Readable) -> Result<Vec<(i64, u32)>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT doc FROM instances WHERE term = ?1")?;
        let mut rows = statement.query([term])?;
        let mut found: Vec<(i64, u32)> = Vec::new();
        while let Some(row) = rows.next()? {
            let chunk: i64 = row.get(0)?;
            match found.last_mut() {
                Some((last, times)) if *last == chunk => *times += 1,
                _ if readable.holds(chunk) => found.push((chunk, 1)), // K4
                _ => {}
            }
        }
        Ok(found)
    }

    fn fetch(&self, best: &[(i64, u32)], sealed: &Sealed) -> Result<Vec<Hit>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("{CHUNKS} WHERE c.id = ?1"))?;
        let mut hits = Vec::with_capacity(best.len());
        for (rank, (chunk, terms)) in (1u32..).zip(best) {
            let mut rows = statement.query([chunk])?;
            let gone = || StoreError::corrupt(format!("passage {chunk} is indexed and not there"));
            let row = rows.next()?.ok_or_else(gone)?;
            let Chunk { id, document, text, labels, source_start, source_end, .. } = chunk_of(row, sealed)?;
            let title = read_title(sealed, row.get(8)?, &row.get::<_, String>(10)?)?;
            // A person who is being erased at this moment: what was found is not there any more.
            let Some(text) = text else { continue };
            let terms = *terms;
            hits.push(Hit {
                rank,
                terms,
                chunk: id,
                document,
                title,
                text,
                labels,
                source_start,
                source_end,
            });
        }
        Ok(hits)
    }
}
