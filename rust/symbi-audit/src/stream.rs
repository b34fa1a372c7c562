//! Records as they become durable, for a reader that may be slower than the writer.
//!
//! The reader pulls and the files are the queue: nothing waits for it, nothing is kept for it, and what it has not read it
//! can read later. Handed out is only what `head` names, which survives a power cut.
//! Not here: waking up (`watch`), and who may read.
//!
//! Invariants
//! - SM1 the numbers of what was handed out, passed over by the query, and told as missed are each record once, in order.
//! - SM2 a record is handed out only when `head` names it.
//! - SM3 one call looks at no more than [`LOOKED_AT_MAX`] records, so that a reader of a rare event can stop.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;

use symbi_types::OpenMode;

use crate::head::{self, HEAD};
use crate::reader::{Reader, Records};
use crate::{LogError, Query, Record, layout};

/// Records looked at in one call: about 30 ms.
const LOOKED_AT_MAX: usize = 10_000;

/// What one call gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Records that it did not look at: pruned, or further behind than was allowed. They come before `records`.
    pub missed: Option<Range<u64>>,
    /// Records, in order.
    pub records: Vec<Record>,
    /// The record to go on with.
    pub next_seq: u64,
    /// How many records are durable.
    pub durable: u64,
}

/// See the module.
pub struct Stream {
    reader: Reader,
    query: Query,
    behind_max: Option<u64>,
    records: Option<Records>,
    next_seq: u64,
}

impl Stream {
    /// From record `from_seq` on, or from the durable end. With `behind_max`, whoever is further behind than that misses the
    /// half of it and is told so.
    #[must_use]
    pub fn new(reader: Reader, query: Query, from_seq: Option<u64>, behind_max: Option<u64>) -> Self {
        let next_seq = from_seq.unwrap_or_else(|| durable(&reader));
        Self { reader, query, behind_max, records: None, next_seq }
    }

    /// At most `limit` records that are durable by now.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub fn take(&mut self, limit: usize) -> Result<Batch, LogError> {
        let (storage, directory) = self.reader.parts();
        let first = layout::segments(&**storage, directory)?.first().map_or(0, |segment| segment.first);
        let mut batch = Batch { durable: durable(&self.reader), ..Batch::default() };
        let mut wanted = self.next_seq.max(first);
        if let Some(behind_max) = self.behind_max.filter(|max| batch.durable.saturating_sub(wanted) > *max) {
            wanted = batch.durable - behind_max / 2;
        }
        if wanted > self.next_seq {
            batch.missed = Some(self.next_seq..wanted);
            self.records = None;
            self.next_seq = wanted;
        }
        let records = self.records.get_or_insert_with(|| self.reader.records(wanted));
        let mut looked_at = 0;
        while self.next_seq < batch.durable && batch.records.len() < limit && looked_at < LOOKED_AT_MAX {
            let Some(record) = records.next().transpose()? else { break }; // SM2: what `head` names is there
            (self.next_seq, looked_at) = (record.seq + 1, looked_at + 1);
            if self.query.takes(&record) {
                batch.records.push(record);
            }
        }
        batch.next_seq = self.next_seq;
        Ok(batch)
    }
}

/// How many records survive a power cut, as `head` says.
fn durable(reader: &Reader) -> u64 {
    let (storage, directory) = reader.parts();
    let slots = storage.open(&directory.join(HEAD), OpenMode::Read).ok();
    let slots = slots.and_then(|file| head::read(&*file).ok());
    slots.into_iter().flatten().flatten().map(|slot| slot.point.records).max().unwrap_or(0)
}

/// A descriptor that becomes readable when a trail's directory changes. What is read from it says nothing; it is read to
/// make it quiet again.
///
/// # Errors
/// [`LogError::Io`] where the system has no such descriptor for it.
pub fn watch(directory: &Path) -> Result<OwnedFd, LogError> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let watched = || -> rustix::io::Result<OwnedFd> {
        let fd = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        add_watch(&fd, directory, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        Ok(fd)
    };
    watched().map_err(|error| LogError::io("cannot watch the trail")(error.into()))
}
