//! Lines to the file, in their order, by whichever signer completes the next chunk (P1); segments that are full or old are
//! closed, and a full disk is given its reserve.

use std::io;
use std::sync::Arc;

use symbi_types::{OpenMode, StorageFile};

use super::chunk::{Chunk, End};
use super::{DISK_FULL, Health, Pipeline, Writer, lock};
use crate::layout::{RESERVE, Segment};

/// Linux: no space left, quota exceeded.
const FULL: [i32; 2] = [28, 122];

impl Pipeline {
    /// Writes this chunk and those that waited for it, as far as the order goes (P1).
    pub(super) fn write_in_order(&self, chunk: Chunk) {
        let mut writer = lock(&self.writer);
        writer.ready.insert(chunk.number, chunk);
        loop {
            let number = writer.next_number;
            let Some(chunk) = writer.ready.remove(&number) else { return };
            writer.next_number += 1;
            if matches!(lock(&self.queue).health, Health::Dead(_)) {
                continue; // P4
            }
            if let Err(error) = self.write_chunk(&mut writer, &chunk) {
                self.die(&format!("a write failed: {error}"));
                return;
            }
            self.count_written(&mut lock(&self.queue), chunk.ends.len());
        }
    }

    fn write_chunk(&self, writer: &mut Writer, chunk: &Chunk) -> io::Result<()> {
        let mut from = 0;
        let mut start = 0;
        let mut point = writer.point;
        let is_old = writer.due_ns <= self.clock.now().mono_ns;
        for (at, &End { at: end, link, is_signed }) in chunk.ends.iter().enumerate() {
            point.records += 1;
            point.chain = link;
            point.length += (end - start) as u64;
            start = end;
            // A segment ends with a signature, so that it can be judged without the next.
            let is_last = at + 1 == chunk.ends.len();
            let roll = point.length >= self.segment_bytes_max && (is_signed || is_last) || is_old && is_last;
            if roll || is_last {
                let lines = chunk.bytes.get(from..end).unwrap_or_default();
                let offset = writer.point.length;
                self.unless_full(
                    writer,
                    |writer| {
                        // A write that failed half-way leaves bytes that are not ours to build on.
                        if writer.file.size()? > offset {
                            writer.file.set_size(offset)?;
                        }
                        writer.file.write_at(offset, lines)
                    },
                    |writer| writer.file.write_at(offset, lines),
                )?;
                from = end;
                writer.point = point;
                let reached = point; // `head` names a record's end, not the empty segment after it
                let closed = if roll { Some(self.roll(writer)?) } else { None };
                point = writer.point;
                let mut target = lock(&self.target);
                target.closed.extend(closed);
                target.point = reached;
                target.key = chunk.key.clone();
                target.file = writer.file.clone();
                drop(target);
                self.commit.notify_one();
            }
        }
        Ok(())
    }

    /// Begins the next segment; answers the one that is now complete.
    fn roll(&self, writer: &mut Writer) -> io::Result<(u64, Arc<dyn StorageFile>)> {
        let path = self.directory.join(Segment::plain_name(writer.point.records));
        let open = |_: &mut Writer| self.storage.open(&path, OpenMode::Create);
        let file: Arc<dyn StorageFile> = self.unless_full(writer, open, open)?.into();
        let closed = (writer.point.segment, std::mem::replace(&mut writer.file, file));
        writer.point.segment = writer.point.records;
        writer.point.length = 0;
        writer.due_ns = self.clock.now().mono_ns.saturating_add(self.segment_age_max_ns);
        Ok(closed)
    }

    /// Tries `first`; on a full disk gives the reserve back, tries `again` and drains: what was accepted is still
    /// written and acknowledged, nothing more is accepted. (Not so after a failed sync: there nothing is known.)
    fn unless_full<T>(
        &self,
        writer: &mut Writer,
        again: impl FnOnce(&mut Writer) -> io::Result<T>,
        first: impl FnOnce(&mut Writer) -> io::Result<T>,
    ) -> io::Result<T> {
        match first(writer) {
            Err(error)
                if error.raw_os_error().is_some_and(|code| FULL.contains(&code)) && !writer.reserve_used =>
            {
                writer.reserve_used = true;
                self.storage.remove(&self.directory.join(RESERVE))?;
                let value = again(writer)?;
                let mut queue = lock(&self.queue);
                if queue.health == Health::Running {
                    queue.health = Health::Draining(DISK_FULL.into());
                }
                drop(queue);
                self.moved.notify_all();
                Ok(value)
            }
            other => other,
        }
    }
}
