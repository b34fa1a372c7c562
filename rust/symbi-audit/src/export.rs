//! A copy for a stranger: the same records under the same names, no segment compressed.
//!
//! Why plain: a browser and a page of Python read it without a program for zstd. Nothing is left out and nothing
//! judged: a trail that does not hold is exported as it is, and whoever verifies the copy finds what is wrong with it.
//! Not here: archives, the verifiers that go with it (`symbi/audit`).
//!
//! Invariants
//! - EX1 what `head` and `checkpoint` of the copy name is in the copy, though the writer goes on meanwhile.

use std::io;
use std::path::Path;

use symbi_types::{OpenMode, Storage};

use crate::head::{self, HEAD};
use crate::keeper::CHECKPOINT;
use crate::layout::{self, Lines, Segment};
use crate::remainder::{PRUNED, Remainder};
use crate::tiles::LEAVES;
use crate::{LogError, keeper};

/// Tries to read `head` between two writes of its owner.
const HEAD_TRIES: usize = 5;
/// Written at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Copies the trail in `directory` into `target`, which is made. Answers how many bytes of records.
///
/// # Errors
/// [`LogError::Io`]; [`LogError::ChainBroken`] where a segment cannot be read at all.
pub fn export(storage: &dyn Storage, directory: &Path, target: &Path) -> Result<u64, LogError> {
    let failed = || LogError::io(format!("cannot write `{}`", target.display()));
    storage.create_directory(target).map_err(failed())?;
    // EX1: first what names records, then the records.
    for name in [PRUNED, CHECKPOINT, HEAD] {
        if let Some(bytes) = settled(storage, directory, name)? {
            write(storage, target, name, &bytes).map_err(failed())?;
        }
    }
    let begins_at = match Remainder::read(storage, directory) {
        Ok(remainder) => remainder.map_or(0, |remainder| remainder.records),
        Err(_) => 0, // damaged: it is copied as it is
    };
    if begins_at > 0 {
        hashes(storage, directory, target, begins_at).map_err(failed())?;
    }
    let mut bytes = 0;
    let segments = layout::segments(storage, directory)?;
    for segment in segments.into_iter().filter(|segment| begins_at <= segment.first) {
        bytes += copy(storage, directory, target, &segment)?;
    }
    storage.sync_directory(target).map_err(failed())?;
    Ok(bytes)
}

/// The hashes of the records that were pruned: without them no root could be shown.
fn hashes(storage: &dyn Storage, directory: &Path, target: &Path, records: u64) -> io::Result<()> {
    let source = storage.open(&directory.join(LEAVES), OpenMode::Read)?;
    let copy = storage.open(&target.join(LEAVES), OpenMode::Create)?;
    copy.set_size(0)?;
    let (mut offset, mut block) = (0, vec![0; BLOCK_BYTES]);
    while offset < records * 32 {
        let room = usize::try_from(records * 32 - offset).unwrap_or(usize::MAX).min(block.len());
        let part = block.get_mut(..room).unwrap_or_default();
        let count = layout::read_full(&*source, offset, part)?;
        if count == 0 {
            break; // damaged: it is copied as it is
        }
        copy.write_at(offset, block.get(..count).unwrap_or_default())?;
        offset += count as u64;
    }
    copy.sync_data()
}

/// A small file, not in the middle of being written.
fn settled(storage: &dyn Storage, directory: &Path, name: &str) -> Result<Option<Vec<u8>>, LogError> {
    let mut content = None;
    for _ in 0..HEAD_TRIES {
        let file = match storage.open(&directory.join(name), OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io(format!("cannot read `{name}`"))(error)),
        };
        let mut bytes = vec![0; BLOCK_BYTES + 1];
        let length = layout::read_full(&*file, 0, &mut bytes).map_err(LogError::io("cannot read"))?;
        bytes.truncate(length);
        content = Some(bytes);
        let whole = match name {
            HEAD => matches!(head::read(&*file)?, [Some(_), Some(_)]),
            PRUNED => Remainder::read(storage, directory).is_ok(),
            _ => keeper::stored(storage, directory).is_ok(),
        };
        if whole {
            break;
        }
        std::thread::yield_now();
    }
    Ok(content) // damaged: it is copied as it is
}

fn write(storage: &dyn Storage, target: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = storage.open(&target.join(name), OpenMode::Create)?;
    file.set_size(0)?;
    file.write_at(0, bytes)?;
    file.sync_data()
}

fn copy(storage: &dyn Storage, directory: &Path, target: &Path, segment: &Segment) -> Result<u64, LogError> {
    let unreadable = |error: io::Error| LogError::broken(segment.first, format!("its segment: {error}"));
    let failed = || LogError::io(format!("cannot write `{}`", target.display()));
    let mut lines = match Lines::open(storage, directory, segment) {
        // Sealed since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !segment.sealed => {
            Lines::open(storage, directory, &Segment { first: segment.first, sealed: true })
                .map_err(unreadable)?
        }
        other => other.map_err(unreadable)?,
    };
    let name = target.join(Segment::plain_name(segment.first));
    let file = storage.open(&name, OpenMode::Create).map_err(failed())?;
    file.set_size(0).map_err(failed())?;
    let (mut offset, mut block) = (0, Vec::with_capacity(BLOCK_BYTES + (1 << 18)));
    loop {
        let line = lines.next_line().map_err(unreadable)?;
        block.extend_from_slice(line.unwrap_or_default());
        let end = line.is_none();
        if end {
            block.extend_from_slice(lines.torn());
        }
        if end || block.len() >= BLOCK_BYTES {
            file.write_at(offset, &block).map_err(failed())?;
            offset += block.len() as u64;
            block.clear();
        }
        if end {
            break;
        }
    }
    file.sync_data().map_err(failed())?;
    Ok(offset)
}

/// Whole lines from record `from` on, at least one where there is one, then up to about `bytes_max`; and the number
/// that follows them.
///
/// # Errors
/// As reading.
pub fn lines(
    storage: &dyn Storage,
    directory: &Path,
    from: u64,
    bytes_max: usize,
) -> Result<(Vec<u8>, u64), LogError> {
    let (mut block, mut next) = (Vec::new(), from);
    keeper::each_line(storage, directory, from, u64::MAX, |seq, line| {
        block.extend_from_slice(line);
        next = seq + 1;
        block.len() < bytes_max
    })?;
    Ok((block, next))
}
