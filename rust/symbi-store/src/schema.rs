//! The tables, and how a connection is set.

use rusqlite::Connection;

/// The format written into the file (`user_version`).
pub(crate) const VERSION: i64 = 2;

/// Words are compared without accents, in lower case, and English ones by their stem. Used for passages and, on the
/// same terms, for questions (K5).
pub(crate) const TOKENIZER: &str = "porter unicode61 remove_diacritics 2";

/// `content.document` is null until a record of the log names the passages (K2). AUTOINCREMENT is K7.
const TABLES: &str = "
CREATE TABLE meta(one INTEGER PRIMARY KEY CHECK (one = 1), log TEXT NOT NULL, applied INTEGER NOT NULL) STRICT;
CREATE TABLE content(id INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL, claimed INTEGER NOT NULL) STRICT;
CREATE INDEX content_waiting ON content(digest) WHERE claimed = 0;
CREATE TABLE document(
  id INTEGER PRIMARY KEY AUTOINCREMENT, uuid BLOB NOT NULL UNIQUE, title TEXT NOT NULL, owner TEXT NOT NULL,
  labels TEXT NOT NULL, digest TEXT NOT NULL, added_us INTEGER NOT NULL, content INTEGER UNIQUE,
  title_labels TEXT NOT NULL DEFAULT '[]') STRICT;
CREATE TABLE chunk(
  id INTEGER PRIMARY KEY AUTOINCREMENT, content INTEGER NOT NULL, text TEXT, digest TEXT NOT NULL,
  labels TEXT NOT NULL, words INTEGER NOT NULL, source_start INTEGER NOT NULL, source_end INTEGER NOT NULL,
  blinded TEXT) STRICT;
CREATE INDEX chunk_content ON chunk(content);
CREATE INDEX chunk_blinded ON chunk(id) WHERE blinded IS NOT NULL;
CREATE TABLE access(reader TEXT NOT NULL, document INTEGER NOT NULL, PRIMARY KEY (reader, document))
  STRICT, WITHOUT ROWID;
CREATE INDEX access_document ON access(document);
CREATE VIRTUAL TABLE terms USING fts5(text, content='chunk', content_rowid='id', tokenize='{tokenizer}');
INSERT INTO terms(terms, rank) VALUES ('secure-delete', 1);
CREATE VIRTUAL TABLE instances USING fts5vocab(terms, instance);
";

/// Version 1 had nothing that belonged to a person: `blinded` is the words of a sealed text, `title_labels` the persons that a
/// title is sealed for.
const FROM_1: &str = "
ALTER TABLE document ADD COLUMN title_labels TEXT NOT NULL DEFAULT '[]';
ALTER TABLE chunk ADD COLUMN blinded TEXT;
CREATE INDEX chunk_blinded ON chunk(id) WHERE blinded IS NOT NULL;
";

/// The place where a question is cut into words by the same rules, in memory, on the searching connection.
const QUESTION: &str = "
CREATE VIRTUAL TABLE temp.question USING fts5(text, content='', tokenize='{tokenizer}');
CREATE VIRTUAL TABLE temp.question_terms USING fts5vocab('temp', 'question', 'row');
CREATE VIRTUAL TABLE temp.question_words USING fts5vocab('temp', 'question', 'instance');
";

/// A file of version 1 as one of this version.
pub(crate) fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(FROM_1)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    connection.execute_batch("COMMIT")
}

pub(crate) fn create(connection: &Connection, log: &str) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(&TABLES.replace("{tokenizer}", TOKENIZER))?;
    connection.execute("INSERT INTO meta(one, log, applied) VALUES (1, ?1, 0)", [log])?;
    connection.pragma_update(None, "user_version", VERSION)?;
    connection.execute_batch("COMMIT")
}

/// `synchronous = FULL` in WAL mode: a commit is on disk when it returns (K2). Removed text is overwritten.
pub(crate) fn set_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?; // texts of persons are cut into words there
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.execute_batch(&QUESTION.replace("{tokenizer}", TOKENIZER))
}

pub(crate) fn set_searcher(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.execute_batch(&QUESTION.replace("{tokenizer}", TOKENIZER))
}
