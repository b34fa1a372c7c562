//! The tables, and how a connection is set.

use rusqlite::Connection;

/// The format written into the file (`user_version`).
pub(crate) const VERSION: i64 = 1;

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
  labels TEXT NOT NULL, digest TEXT NOT NULL, added_us INTEGER NOT NULL, content INTEGER UNIQUE) STRICT;
CREATE TABLE chunk(
  id INTEGER PRIMARY KEY AUTOINCREMENT, content INTEGER NOT NULL, text TEXT, digest TEXT NOT NULL,
  labels TEXT NOT NULL, words INTEGER NOT NULL, source_start INTEGER NOT NULL, source_end INTEGER NOT NULL) STRICT;
CREATE INDEX chunk_content ON chunk(content);
CREATE TABLE access(reader TEXT NOT NULL, document INTEGER NOT NULL, PRIMARY KEY (reader, document))
  STRICT, WITHOUT ROWID;
CREATE INDEX access_document ON access(document);
CREATE VIRTUAL TABLE terms USING fts5(text, content='chunk', content_rowid='id', tokenize='{tokenizer}');
INSERT INTO terms(terms, rank) VALUES ('secure-delete', 1);
CREATE VIRTUAL TABLE instances USING fts5vocab(terms, instance);
";

/// The place where a question is cut into words by the same rules, in memory, on the searching connection.
const QUESTION: &str = "
CREATE VIRTUAL TABLE temp.question USING fts5(text, content='', tokenize='{tokenizer}');
CREATE VIRTUAL TABLE temp.question_terms USING fts5vocab('temp', 'question', 'row');
";

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
    connection.pragma_update(None, "trusted_schema", "OFF")
}

pub(crate) fn set_searcher(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.execute_batch(&QUESTION.replace("{tokenizer}", TOKENIZER))
}
