//! Changes since the last snapshot, one record each, synced before a search sees them.
//!
//! Why two checksums a record: the head tells whether a record ends past the file's end (a crash cut it off) or is
//! whole; so a cut tail is dropped, and damage inside is an error and never taken for a tail.
//! Not here: doing what a record says (`writer`).
//!
//! Invariants
//! - JO1 a record whose `append` returned is read back after any crash.
//! - JO2 what a crash cut off is dropped whole; anything else that does not check is an error.
//! - JO3 after a failed write the log ends where it ended before, or takes no more.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Result, VectorError};
use crate::fields::{Fields, at, damaged, words};
use crate::memory::as_bytes;

const MAGIC: [u8; 8] = *b"SYMBILOG";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const HEAD_BYTES: usize = 32;
const PUT: u32 = 1;
const REMOVE: u32 = 2;
/// As `PUT`, its links chosen by finer codes than the index keeps.
const PUT_FINE: u32 = 3;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// These vectors (normalised as stored), in place of what had their ids.
    Put { ids: Vec<u64>, vectors: Vec<f32>, fine: bool },
    /// These ids are gone.
    Remove { ids: Vec<u64> },
}

/// The open log of an index.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
    records: u64,
    poisoned: bool,
}

fn header(generation: u64, dimension: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((dimension as u32).to_le_bytes());
    bytes.extend(generation.to_le_bytes());
    bytes.resize(HEADER_BYTES - 4, 0);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

impl Journal {
    /// A new, empty log, synced.
    pub(crate) fn create(path: &Path, generation: u64, dimension: usize) -> Result<Self> {
        let make = || {
            let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
            file.write_all(&header(generation, dimension))?;
            file.sync_all()?;
            Ok(file)
        };
        let file = make().map_err(at("create", path))?;
        Ok(Self { file, path: path.to_owned(), length: HEADER_BYTES as u64, records: 0, poisoned: false })
    }

    /// Opens a log for appending and gives each record to `apply`; what a crash cut off is cut off the file (JO2).
    pub(crate) fn open(
        path: &Path,
        generation: u64,
        dimension: usize,
        apply: &mut dyn FnMut(Record) -> Result<()>,
    ) -> Result<Self> {
        let (length, records) = replay(path, generation, dimension, apply)?;
        let cut = || {
            let mut file = OpenOptions::new().write(true).open(path)?;
            if file.metadata()?.len() != length {
                file.set_len(length)?;
                file.sync_all()?;
            }
            file.seek(SeekFrom::Start(length))?;
            Ok(file)
        };
        let file = cut().map_err(at("open", path))?;
        Ok(Self { file, path: path.to_owned(), length, records, poisoned: false })
    }

    /// Records, and bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.records, self.length)
    }

    /// Takes no more records.
    pub(crate) fn close(&mut self) {
        self.poisoned = true;
    }

    /// Appends vectors and syncs (JO1). `fine` is how links are chosen, so that a replay chooses the same.
    pub(crate) fn put(&mut self, ids: &[u64], vectors: &[f32], fine: bool) -> Result<()> {
        self.append(if fine { PUT_FINE } else { PUT }, ids, as_bytes(vectors))
    }

    /// Appends a removal and syncs (JO1).
    pub(crate) fn remove(&mut self, ids: &[u64]) -> Result<()> {
        self.append(REMOVE, ids, &[])
    }

    fn append(&mut self, kind: u32, ids: &[u64], vectors: &[u8]) -> Result<()> {
        if self.poisoned {
            return Err(VectorError::Poisoned);
        }
        let mut payload: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        payload.extend_from_slice(vectors);
        let mut record = Vec::with_capacity(HEAD_BYTES + payload.len());
        record.extend(kind.to_le_bytes());
        record.extend((ids.len() as u32).to_le_bytes());
        record.extend((payload.len() as u64).to_le_bytes());
        record.extend(self.records.to_le_bytes());
        record.extend(crc32fast::hash(&payload).to_le_bytes());
        record.extend(crc32fast::hash(&record).to_le_bytes());
        record.extend_from_slice(&payload);
        let written = self.file.write_all(&record).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // JO3: as it was, or closed.
            let back =
                self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            self.poisoned = back.is_err();
            return Err(at("write", &self.path)(error));
        }
        self.length += record.len() as u64;
        self.records += 1;
        Ok(())
    }
}

/// Reads records up to what a crash cut off; where they end, and how many there are.
pub(crate) fn replay(
    path: &Path,
    generation: u64,
    dimension: usize,
    apply: &mut dyn FnMut(Record) -> Result<()>,
) -> Result<(u64, u64)> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => damaged(path, "the log that belongs to the snapshot is missing"),
        _ => at("open", path)(error),
    })?;
    let mut found = vec![0; HEADER_BYTES];
    file.read_exact(&mut found).map_err(|_| damaged(path, "it ends within its header"))?;
    if found != header(generation, dimension) {
        return Err(damaged(path, "its header is not that of this index"));
    }
    let size = file.metadata().map_err(at("read", path))?.len();
    let (mut length, mut records) = (HEADER_BYTES as u64, 0);
    let mut reader = std::io::BufReader::with_capacity(1 << 20, file);
    loop {
        let left = size - length;
        let mut head = vec![0; HEAD_BYTES.min(left as usize)];
        reader.read_exact(&mut head).map_err(at("read", path))?;
        let mut fields = Fields::new(&head);
        let (kind, count, bytes) = (fields.u32(), fields.u32() as usize, fields.u64());
        let (number, payload_sum, sum) = (fields.u64(), fields.u32(), fields.u32());
        if !fields.complete() {
            return Ok((length, records)); // nothing more, or a head that was cut off
        }
        let whole = head.get(..HEAD_BYTES - 4).is_some_and(|body| crc32fast::hash(body) == sum);
        if !whole {
            // A file system may make a file longer before it writes what stands there: zeros to the end are a tail.
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).map_err(at("read", path))?;
            if head.iter().chain(&rest).all(|&byte| byte == 0) {
                return Ok((length, records));
            }
            return Err(damaged(path, format!("record {records}, at byte {length}")));
        }
        if bytes > left - HEAD_BYTES as u64 {
            return Ok((length, records)); // cut off
        }
        let put = kind == PUT || kind == PUT_FINE;
        let expected = count as u64 * (8 + if put { 4 * dimension as u64 } else { 0 });
        let mut payload = vec![0; bytes as usize];
        reader.read_exact(&mut payload).map_err(at("read", path))?;
        let sound = number == records && bytes == expected && crc32fast::hash(&payload) == payload_sum;
        let (ids, rest) = payload.split_at((8 * count).min(payload.len()));
        let ids = words(ids, u64::from_le_bytes);
        let record = match kind {
            PUT | PUT_FINE if sound => {
                Record::Put { ids, vectors: words(rest, f32::from_le_bytes), fine: kind == PUT_FINE }
            }
            REMOVE if sound => Record::Remove { ids },
            _ => return Err(damaged(path, format!("record {records}, at byte {length}"))),
        };
        apply(record)?;
        length += HEAD_BYTES as u64 + bytes;
        records += 1;
    }
}
