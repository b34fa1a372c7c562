//! Rows of bytes in memory of our own or in a private map of a file.
//!
//! Why not `Vec`: a table of gigabytes must grow without being copied while searches wait (`mremap` moves pages, not
//! bytes), and an index must open without being read. A map is private: what is changed stays in memory, the file
//! is never written through it.
//! Not here: what a row means; whether the file's bytes are what was written (`sums`).
//!
//! Invariants
//! - ME1 a row once given out keeps its content when the table grows.
//! - ME2 a row is either behind `base_rows` in our own memory or before it in the file's map, never in both.
#![expect(unsafe_code, reason = "memory maps, and atomics over mapped words")]

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU32;

use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};

use crate::kernels::View;

/// Past this size huge pages are asked for: fewer misses in the table of pages at random reads.
const HUGE_BYTES: usize = 4 << 20;

const PAGE_BYTES: usize = 4096;

/// What one advice has read: of a larger range Linux takes the beginning and forgets the rest.
const READ_BYTES: usize = 128 << 10;

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A readable, writable, private range of memory. Owned alone.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is memory owned alone, like a boxed slice; its methods follow the rules of `&` and `&mut`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Owns nothing.
    fn empty() -> Self {
        Self { start: NonNull::dangling(), bytes: 0 }
    }

    /// Maps `bytes` of a file from `offset`, which is a multiple of the page size.
    pub(crate) fn of_file(file: BorrowedFd<'_>, offset: u64, bytes: usize) -> std::io::Result<Self> {
        if bytes == 0 {
            return Ok(Self::empty());
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private range at an address of the kernel's choice overlaps nothing.
        let start =
            unsafe { rustix::mm::mmap(null_mut(), bytes, protection, MapFlags::PRIVATE, file, offset) }?;
        let start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let mapping = Self { start, bytes };
        // SAFETY: advice on our own range; it changes no content.
        let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), bytes, Advice::Random) };
        Ok(mapping)
    }

    /// Grows our own memory to at least `bytes`, all new bytes zero (ME1).
    fn grow(&mut self, bytes: usize) -> std::io::Result<()> {
        // Whole huge pages: the kernel then chooses a place where they are aligned, and moves them whole.
        let bytes = bytes.next_multiple_of(if bytes >= HUGE_BYTES { HUGE_PAGE_BYTES } else { PAGE_BYTES });
        if bytes <= self.bytes {
            return Ok(());
        }
        let start = if self.bytes == 0 {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: a new private range at an address of the kernel's choice overlaps nothing.
            unsafe { rustix::mm::mmap_anonymous(null_mut(), bytes, protection, flags) }?
        } else {
            // SAFETY: the old range is ours alone and `&mut self` proves that nobody holds a reference into it.
            unsafe {
                rustix::mm::mremap(self.start.as_ptr().cast(), self.bytes, bytes, MremapFlags::MAYMOVE)
            }?
        };
        self.start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        self.bytes = bytes;
        if bytes >= HUGE_BYTES {
            // SAFETY: advice on our own range; it changes no content.
            let _ = unsafe { rustix::mm::madvise(start, bytes, Advice::LinuxHugepage) };
        }
        Ok(())
    }

    /// Has the system read these bytes of the file, where it has not, without waiting for it. Random reading is what a map is
    /// advised of, so each page that is touched would otherwise be a read of its own.
    pub(crate) fn will_read(&self, bytes: Range<usize>) {
        let end = bytes.end.min(self.bytes);
        for start in (bytes.start / PAGE_BYTES * PAGE_BYTES..end).step_by(READ_BYTES) {
            let length = READ_BYTES.min(end - start);
            // SAFETY: the range lies within our own; the advice changes no content.
            let _ = unsafe {
                rustix::mm::madvise(self.start.as_ptr().add(start).cast(), length, Advice::WillNeed)
            };
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the range is mapped readable for as long as we live, and `&self` allows no writer of plain bytes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the range is mapped writable for as long as we live, and `&mut self` makes us its only user.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the range is ours alone, and no reference into it outlives us.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}

/// A growing table of rows of equal length.
#[derive(Debug)]
pub(crate) struct Rows {
    stride: usize,
    base: Mapping,
    base_rows: usize,
    tail: Mapping,
    rows: usize,
}

#[expect(clippy::indexing_slicing, reason = "a row that is not there must end in a panic, never in a read")]
impl Rows {
    /// An empty table; `stride` is a multiple of four.
    pub(crate) fn new(stride: usize) -> Self {
        assert!(stride.is_multiple_of(4) && stride > 0, "ME2");
        Self { stride, base: Mapping::empty(), base_rows: 0, tail: Mapping::empty(), rows: 0 }
    }

    /// A table that begins with the `rows` rows of a file's map.
    pub(crate) fn over(base: Mapping, rows: usize, stride: usize) -> Self {
        assert!(base.bytes >= rows * stride && stride.is_multiple_of(4) && stride > 0, "ME2");
        Self { stride, base, base_rows: rows, tail: Mapping::empty(), rows }
    }

    /// Bytes of all rows in our own memory, and of those in a file's map.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        ((self.rows - self.base_rows) * self.stride, self.base_rows * self.stride)
    }

    /// Makes room for `rows` rows in all; new rows are zero. Half as much again is reserved, and not touched.
    pub(crate) fn grow(&mut self, rows: usize) -> std::io::Result<()> {
        if rows > self.rows {
            let needed = (rows - self.base_rows) * self.stride;
            if needed > self.tail.bytes {
                self.tail.grow(needed + needed / 2)?;
            }
            self.rows = rows;
        }
        Ok(())
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(self.base.as_slice(), self.base_rows, self.tail.as_slice(), self.stride)
    }

    /// What is mapped from a file, and our own memory: `base_rows` of a view divides them.
    #[inline]
    pub(crate) fn halves(&self) -> [&[u8]; 2] {
        [self.base.as_slice(), self.tail.as_slice()]
    }

    /// The bytes of the first `rows` rows, in order, in at most two pieces: room may have been made for more.
    pub(crate) fn pieces(&self, rows: usize) -> [&[u8]; 2] {
        assert!(rows <= self.rows, "ME2");
        let base = rows.min(self.base_rows);
        [&self.base.as_slice()[..base * self.stride], &self.tail.as_slice()[..(rows - base) * self.stride]]
    }

    /// See `Mapping::will_read`, of the file's map.
    pub(crate) fn will_read(&self, bytes: Range<usize>) {
        self.base.will_read(bytes);
    }

    /// The bytes of the rows in a file's map.
    pub(crate) fn mapped(&self) -> &[u8] {
        &self.base.as_slice()[..self.base_rows * self.stride]
    }

    pub(crate) fn row_mut(&mut self, slot: u32) -> &mut [u8] {
        let (slot, stride, base_rows) = (slot as usize, self.stride, self.base_rows);
        assert!(slot < self.rows, "ME2");
        if slot < base_rows {
            &mut self.base.as_mut_slice()[slot * stride..(slot + 1) * stride]
        } else {
            let at = slot - base_rows;
            &mut self.tail.as_mut_slice()[at * stride..(at + 1) * stride]
        }
    }

    /// A row as words that several threads may read and write. A table is used either so or as bytes.
    #[inline(always)]
    pub(crate) fn words(&self, slot: u32) -> &[AtomicU32] {
        let slot = slot as usize;
        assert!(slot < self.rows, "ME2");
        let (mapping, at) =
            if slot < self.base_rows { (&self.base, slot) } else { (&self.tail, slot - self.base_rows) };
        debug_assert!((at + 1) * self.stride <= mapping.bytes, "ME2");
        // SAFETY: the row lies within the mapping (`rows` never exceeds what was mapped) and is aligned to four, as
        // mappings are pages and strides multiples of four; atomics allow that others write at the same time, and
        // plain references to these bytes are made only where the writer's lock keeps every writer away.
        unsafe {
            let start = mapping.start.as_ptr().add(at * self.stride);
            std::slice::from_raw_parts(start.cast::<AtomicU32>(), self.stride / 4)
        }
    }
}

/// Floats as the bytes of this (little-endian) machine, which is how they stand in rows and files.
pub(crate) fn as_bytes(values: &[f32]) -> &[u8] {
    const { assert!(cfg!(target_endian = "little"), "rows and files are little-endian") };
    // SAFETY: a float is four bytes without padding, and a byte has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::AsFd;

    /// ME1, ME2: rows keep their content while the table grows over a file's map.
    #[test]
    fn me1_me2_rows_survive_growth() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 2 * PAGE_BYTES]).unwrap();
        let base = Mapping::of_file(file.as_fd(), PAGE_BYTES as u64, PAGE_BYTES).unwrap();
        let mut rows = Rows::over(base, 4, 1000);
        rows.row_mut(1)[0] = 9;
        for count in [5, 6, 1000, 100_000] {
            rows.grow(count).unwrap();
            let last = count as u32 - 1;
            assert!(rows.view().row(last).iter().all(|&byte| byte == 0));
            rows.row_mut(last)[0] = count as u8;
            assert_eq!((rows.view().row(1)[0], rows.view().row(3)[0], rows.view().row(4)[0]), (9, 7, 5));
        }
        assert_eq!(rows.view().row(5)[0], 6);
        assert_eq!(rows.bytes(), (99_996_000, 4000));
        let [base, tail] = rows.pieces(100_000);
        assert_eq!((base.len(), tail.len(), base[1000], tail[0]), (4000, 99_996_000, 9, 5));
        assert_eq!(rows.pieces(5).map(<[u8]>::len), [4000, 1000]);
        assert_eq!(rows.pieces(3).map(<[u8]>::len), [3000, 0]);
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut content).unwrap();
        assert!(content.iter().all(|&byte| byte == 7), "the file is never written through the map");
    }

    /// ME2: there is no row past the end.
    #[test]
    #[should_panic(expected = "ME2")]
    fn me2_no_row_past_the_end() {
        let mut rows = Rows::new(8);
        rows.grow(3).unwrap();
        rows.words(3);
    }
}
