//! The files of a trail's directory, and lines out of them.
//!
//! `<first seq, 12 digits>.jsonl` is a segment, `.jsonl.zst` a sealed one; beside them `head`, `lock`, `reserve`.
//! Where a segment stands in both forms (a crash while sealing) the plain one counts.

use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbi_types::{OpenMode, Storage, StorageFile};

use crate::{LogError, RECORD_BYTES_MAX};

/// Held by the writer.
pub(crate) const LOCK: &str = "lock";
/// Real bytes, given back to a full disk so that the log can close in order.
pub(crate) const RESERVE: &str = "reserve";
/// How much is read at once.
const BLOCK_BYTES: usize = 1 << 18;

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) sealed: bool,
}

impl Segment {
    pub(crate) fn plain_name(first: u64) -> String {
        format!("{first:012}.jsonl")
    }

    pub(crate) fn sealed_name(first: u64) -> String {
        format!("{first:012}.jsonl.zst")
    }

    pub(crate) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(if self.sealed { Self::sealed_name(self.first) } else { Self::plain_name(self.first) })
    }

    /// Reads a file's name; `None` for any that is not a segment's.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (digits, ending) = name.split_at_checked(12)?;
        let sealed = match ending {
            ".jsonl" => false,
            ".jsonl.zst" => true,
            _ => return None,
        };
        digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        Some(Self { first: digits.parse().ok()?, sealed })
    }
}

/// The segments in order, each once.
pub(crate) fn segments(storage: &dyn Storage, directory: &Path) -> Result<Vec<Segment>, LogError> {
    let context = || format!("cannot list `{}`", directory.display());
    let names = storage.list(directory).map_err(LogError::io(context()))?;
    let mut found: Vec<Segment> = names.iter().filter_map(|name| Segment::of_name(name)).collect();
    found.sort_by_key(|segment| (segment.first, segment.sealed));
    found.dedup_by_key(|segment| segment.first); // keeps the first of equals: the plain one
    Ok(found)
}

/// Fills `buffer` as far as the file goes; answers how far.
pub(crate) fn read_full(file: &dyn StorageFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset + filled as u64, rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// A file as a stream. Goes on where it stood when the file has grown.
pub(crate) struct Stream {
    file: Arc<dyn StorageFile>,
    offset: u64,
}

impl Stream {
    pub(crate) fn of(file: impl Into<Arc<dyn StorageFile>>) -> Self {
        Self { file: file.into(), offset: 0 }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The lines of one segment.
pub(crate) struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    /// The bytes of whole lines given out so far.
    pub(crate) offset: u64,
    line: Vec<u8>,
    pub(crate) sealed: bool,
}

impl Lines {
    pub(crate) fn open(storage: &dyn Storage, directory: &Path, segment: &Segment) -> io::Result<Self> {
        Self::open_at(storage, directory, segment, 0)
    }

    /// From byte `offset` on, where a line begins. A sealed segment is read from its beginning alone.
    pub(crate) fn open_at(
        storage: &dyn Storage,
        directory: &Path,
        segment: &Segment,
        offset: u64,
    ) -> io::Result<Self> {
        let file: Arc<dyn StorageFile> = storage.open(&segment.path(directory), OpenMode::Read)?.into();
        let stream = Stream { file, offset: if segment.sealed { 0 } else { offset } };
        let reader: Box<dyn Read + Send> =
            if segment.sealed { Box::new(crate::seal::unsealed(stream)?) } else { Box::new(stream) };
        let reader = BufReader::with_capacity(BLOCK_BYTES, reader);
        let offset = if segment.sealed { 0 } else { offset };
        Ok(Self { reader, offset, line: Vec::with_capacity(1024), sealed: segment.sealed })
    }

    /// From a record on that stands at or before `seq`, which is answered: of a sealed segment only the frames from there on
    /// are unpacked.
    pub(crate) fn open_near(
        storage: &dyn Storage,
        directory: &Path,
        segment: &Segment,
        seq: u64,
    ) -> io::Result<(Self, u64)> {
        if segment.sealed && segment.first < seq {
            let file: Arc<dyn StorageFile> = storage.open(&segment.path(directory), OpenMode::Read)?.into();
            if let Some((frames, first)) = crate::seal::unsealed_from(file, seq)? {
                let reader: Box<dyn Read + Send> = Box::new(frames);
                let reader = BufReader::with_capacity(BLOCK_BYTES, reader);
                return Ok((Self { reader, offset: 0, line: Vec::with_capacity(1024), sealed: true }, first));
            }
        }
        Ok((Self::open(storage, directory, segment)?, segment.first))
    }

    /// The next whole line, newline included; `None` at the end, where a part of a line may stand. On a file that
    /// grows, a later call goes on.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
        }
        loop {
            // One byte past the limit: a longer line is handed over cut, fails to parse, and does not fill the memory.
            let room = (RECORD_BYTES_MAX + 1).saturating_sub(self.line.len()) as u64;
            let count = (&mut self.reader).take(room).read_until(b'\n', &mut self.line)?;
            if self.line.ends_with(b"\n") || self.line.len() > RECORD_BYTES_MAX {
                self.offset += self.line.len() as u64;
                if !self.line.ends_with(b"\n") {
                    self.line.push(b'\n'); // marks it as handed over; it is too long to be a record anyway
                }
                return Ok(Some(&self.line));
            }
            if count == 0 {
                return Ok(None);
            }
        }
    }

    /// What stands after the last whole line.
    pub(crate) fn torn(&self) -> &[u8] {
        if self.line.ends_with(b"\n") { &[] } else { &self.line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(Segment::of_name("000000000012.jsonl"), Some(Segment { first: 12, sealed: false }));
        assert_eq!(Segment::of_name("000000000012.jsonl.zst"), Some(Segment { first: 12, sealed: true }));
        for name in
            ["12.jsonl", "000000000012.jsonl.tmp", "00000000001x.jsonl", "head", "0000000000123.jsonl", "é"]
        {
            assert_eq!(Segment::of_name(name), None, "{name}");
        }
    }
}
