//! One file of the index: at most 65,536 records that follow each other in one segment.
//!
//! ```text
//! header, 256 bytes │ first 8 bytes of SHA-256 of each block of the body │ body, in blocks of 4 KiB
//! body: offsets (u32 a record) │ times (u64, every 64th) │ singles (u64: term 48, row 16; sorted)
//!       │ lists (term u64, offset u32, rows u32; sorted) │ rows of the lists │ types (length u8, text)
//! ```
//! Little-endian. A term of one record stands in `singles`, one of several in `lists`, whose rows are `u16`s or, where they are
//! more than 4,096, a bitmap. Every block is held against its sum before a byte of it is used (IX3).
//! Not here: whether the unit is of this log and its records what the log holds (`index.rs`).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use symbi_crypto::sha256;
use symbi_types::{LogId, StorageFile};

use super::rows::{ROWS_MAX, Rows};
use super::terms::Term;
use crate::chain::Link;
use crate::layout::read_full;

const MAGIC: &[u8; 16] = b"symbi/index/v1\0\0";
const HEADER_BYTES: usize = 256;
/// Where the header's own digest begins.
const DIGEST_AT: usize = 224;
const BLOCK_BYTES: usize = 4096;
const SUM_BYTES: usize = 8;
/// Every so many rows a time.
pub(crate) const TIME_ROWS: usize = 64;
/// How far a hash of 100,000 lies from where it is expected, hardly ever more.
const NEAR: usize = 384;
/// More rows are a bitmap.
const LIST_ROWS_MAX: usize = 4096;
/// A bitmap of all rows.
const BITMAP_BYTES: usize = ROWS_MAX / 8;
/// Bodies are smaller: 65,536 records of the most terms that are indexed.
const BODY_BYTES_MAX: usize = 1 << 30;

/// The largest number of a record or byte: what JSON holds.
const NUMBER_MAX: u64 = 1 << 53;

/// What a unit says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) log_id: LogId,
    /// The number of its first record.
    pub(crate) first: u64,
    pub(crate) rows: u32,
    /// Nothing can be added: it is full, or its segment is closed.
    pub(crate) complete: bool,
    /// The segment, by the number of its first record.
    pub(crate) segment: u64,
    /// The plain bytes of the segment that it covers.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) first_us: u64,
    pub(crate) last_us: u64,
    /// The link of the record before, and that of its last.
    pub(crate) link_before: Link,
    pub(crate) link_last: Link,
}

impl Header {
    /// The record behind its last.
    pub(crate) fn end_seq(&self) -> u64 {
        self.first + u64::from(self.rows)
    }
}

/// Parts of the body, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Offsets,
    Times,
    Singles,
    Lists,
    Rows,
    Types,
}

const PARTS: usize = 6;

/// Lengths of the parts; each begins where the one before ends.
type Lengths = [u32; PARTS];

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// What goes into a unit.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) offsets: Vec<u32>,
    pub(crate) times_us: Vec<u64>,
    /// Term and row, in any order.
    pub(crate) terms: Vec<(Term, u16)>,
    pub(crate) types: Vec<String>,
}

impl Draft {
    /// The file.
    pub(crate) fn encode(mut self, header: &Header) -> io::Result<Vec<u8>> {
        self.terms.sort_unstable();
        self.terms.dedup();
        let (mut singles, mut lists, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for group in self.terms.chunk_by(|(left, _), (right, _)| left == right) {
            match group {
                [(term, row)] => singles.extend_from_slice(&(term << 16 | u64::from(*row)).to_le_bytes()),
                [(term, _), ..] => {
                    lists.extend_from_slice(&term.to_le_bytes());
                    lists.extend_from_slice(&length(rows.len())?.to_le_bytes());
                    lists.extend_from_slice(&length(group.len())?.to_le_bytes());
                    if group.len() > LIST_ROWS_MAX {
                        let all: Rows = group.iter().map(|(_, row)| *row).collect();
                        rows.extend_from_slice(&all.to_bytes());
                    } else {
                        group.iter().for_each(|(_, row)| rows.extend_from_slice(&row.to_le_bytes()));
                    }
                }
                [] => {}
            }
        }
        let offsets: Vec<u8> = self.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        let times: Vec<u8> =
            self.times_us.iter().step_by(TIME_ROWS).flat_map(|time_us| time_us.to_le_bytes()).collect();
        let mut types = Vec::new();
        for kind in &self.types {
            types.push(u8::try_from(kind.len()).map_err(io::Error::other)?);
            types.extend_from_slice(kind.as_bytes());
        }
        let parts = [offsets, times, singles, lists, rows, types];
        let mut lengths: Lengths = [0; PARTS];
        for (to, part) in lengths.iter_mut().zip(&parts) {
            *to = length(part.len())?;
        }
        let body = parts.concat();
        length(body.len())?;
        let sums: Vec<u8> = body.chunks(BLOCK_BYTES).flat_map(sum).collect();
        let mut file = head(header, &lengths);
        let digest = sha256(&[&file, &sums]);
        file.extend_from_slice(&digest);
        file.extend_from_slice(&sums);
        file.extend_from_slice(&body);
        Ok(file)
    }
}

fn length(value: usize) -> io::Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|_| value <= BODY_BYTES_MAX)
        .ok_or_else(|| invalid("too large for a unit"))
}

fn sum(block: &[u8]) -> [u8; SUM_BYTES] {
    sha256(&[block]).first_chunk().copied().unwrap_or_default()
}

fn head(header: &Header, lengths: &Lengths) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&header.log_id.0);
    out.extend_from_slice(&header.first.to_le_bytes());
    out.extend_from_slice(&header.rows.to_le_bytes());
    out.extend_from_slice(&u32::from(header.complete).to_le_bytes());
    for number in [header.segment, header.start, header.end, header.first_us, header.last_us] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&header.link_before);
    out.extend_from_slice(&header.link_last);
    lengths.iter().for_each(|length| out.extend_from_slice(&length.to_le_bytes()));
    out.resize(DIGEST_AT, 0);
    out
}

/// Reads numbers one after the other.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

fn parse(bytes: &[u8]) -> Option<(Header, Lengths)> {
    let mut rest = Bytes(bytes.strip_prefix(MAGIC)?);
    let log_id = LogId(rest.take()?);
    let (first, rows, complete) = (rest.u64()?, rest.u32()?, rest.u32()? == 1);
    let [segment, start, end, first_us, last_us] =
        [rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?];
    let (link_before, link_last) = (rest.take()?, rest.take()?);
    let mut lengths: Lengths = [0; PARTS];
    for to in &mut lengths {
        *to = rest.u32()?;
    }
    let header = Header {
        log_id,
        first,
        rows,
        complete,
        segment,
        start,
        end,
        first_us,
        last_us,
        link_before,
        link_last,
    };
    let whole: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    // No sum of what a log's numbers can be passes the end of u64.
    let possible = [first, segment, start, end].into_iter().all(|number| number <= NUMBER_MAX);
    let sound =
        possible && rows > 0 && rows as usize <= ROWS_MAX && whole <= BODY_BYTES_MAX as u64 && start <= end;
    sound.then_some((header, lengths))
}

/// A unit, open.
pub(crate) struct Unit {
    file: Box<dyn StorageFile>,
    pub(crate) header: Header,
    lengths: Lengths,
    sums: Vec<u8>,
    blocks: Mutex<HashMap<usize, Arc<[u8]>>>,
}

impl Unit {
    /// Opens a file of the index. Anything that is not whole is an error (IX3).
    pub(crate) fn open(file: Box<dyn StorageFile>) -> io::Result<Self> {
        let mut head = [0; HEADER_BYTES];
        read_full(&*file, 0, &mut head)?;
        let (said, digest) = head.split_at(DIGEST_AT);
        let (header, lengths) = parse(said).ok_or_else(|| invalid("no unit of the index"))?;
        let body: usize = lengths.iter().map(|length| *length as usize).sum();
        let mut sums = vec![0; body.div_ceil(BLOCK_BYTES) * SUM_BYTES];
        let read = read_full(&*file, HEADER_BYTES as u64, &mut sums)?;
        if read < sums.len() || digest != sha256(&[said, &sums]) {
            return Err(invalid("a unit's header is damaged"));
        }
        Ok(Self { file, header, lengths, sums, blocks: Mutex::default() })
    }

    fn block(&self, number: usize) -> io::Result<Arc<[u8]>> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = blocks.get(&number) {
            return Ok(Arc::clone(block));
        }
        let mut block = vec![0; BLOCK_BYTES];
        let at = HEADER_BYTES + self.sums.len() + number * BLOCK_BYTES;
        let read = read_full(&*self.file, at as u64, &mut block)?;
        block.truncate(read.min(self.body_bytes().saturating_sub(number * BLOCK_BYTES)));
        let wanted = self.sums.chunks_exact(SUM_BYTES).nth(number);
        if wanted != Some(&sum(&block)) {
            return Err(invalid("a block of a unit is damaged"));
        }
        let block: Arc<[u8]> = block.into();
        blocks.insert(number, Arc::clone(&block));
        Ok(block)
    }

    fn body_bytes(&self) -> usize {
        self.lengths.iter().map(|length| *length as usize).sum()
    }

    /// `count` bytes of a part, from `at` on.
    fn bytes(&self, part: Part, at: usize, count: usize) -> io::Result<Vec<u8>> {
        let before: usize = self.lengths.iter().take(part as usize).map(|length| *length as usize).sum();
        if at + count > self.part_bytes(part) {
            return Err(invalid("a unit points beyond itself"));
        }
        let mut out = Vec::with_capacity(count);
        let mut at = before + at;
        while out.len() < count {
            let block = self.block(at / BLOCK_BYTES)?;
            let rest = block.get(at % BLOCK_BYTES..).filter(|rest| !rest.is_empty());
            let rest = rest.ok_or_else(|| invalid("a unit ends before"))?;
            let taken = rest.get(..rest.len().min(count - out.len())).unwrap_or_default();
            out.extend_from_slice(taken);
            at += taken.len();
        }
        Ok(out)
    }

    fn part_bytes(&self, part: Part) -> usize {
        self.lengths.get(part as usize).map_or(0, |length| *length as usize)
    }

    fn number(&self, part: Part, index: usize) -> io::Result<u64> {
        self.bytes(part, index * 8, 8)?
            .first_chunk()
            .copied()
            .map(u64::from_le_bytes)
            .ok_or_else(|| invalid("short"))
    }

    /// The first entry, `stride` words each, whose number is not below `wanted`. `near` is where it is expected: numbers
    /// that are hashes lie evenly, so that a block or two are read instead of one for each halving.
    fn lower_bound(&self, part: Part, stride: usize, wanted: u64, near: Option<usize>) -> io::Result<usize> {
        let count = self.part_bytes(part) / 8 / stride;
        let (mut low, mut high) = (0, count);
        if let Some(near) = near {
            let (from, to) = (near.saturating_sub(NEAR), near.saturating_add(NEAR).min(count));
            if from < to && (from == 0 || self.number(part, from * stride)? < wanted) {
                low = from;
            } else {
                high = from;
            }
            if low == from && (to == count || self.number(part, to * stride)? >= wanted) {
                high = to;
            } else if low == from {
                low = to;
            }
        }
        while low < high {
            let middle = low.midpoint(high);
            if self.number(part, middle * stride)? < wanted { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Where a term is expected among the evenly lying ones of a part.
    fn near(&self, part: Part, stride: usize, term: Term) -> Option<usize> {
        let count = (self.part_bytes(part) / 8 / stride) as u128;
        usize::try_from((u128::from(term) * count) >> 48).ok()
    }

    /// The rows of a term.
    pub(crate) fn rows_of(&self, term: Term) -> io::Result<Rows> {
        let single = self.lower_bound(Part::Singles, 1, term << 16, self.near(Part::Singles, 1, term))?;
        if single * 8 < self.part_bytes(Part::Singles) {
            let found = self.number(Part::Singles, single)?;
            if found >> 16 == term {
                return Ok([(found & 0xffff) as u16].into_iter().collect());
            }
        }
        let list = self.lower_bound(Part::Lists, 2, term, self.near(Part::Lists, 2, term))?;
        if list * 16 >= self.part_bytes(Part::Lists) || self.number(Part::Lists, list * 2)? != term {
            return Ok(Rows::none());
        }
        let place = self.number(Part::Lists, list * 2 + 1)?;
        let (at, count) = ((place & 0xffff_ffff) as usize, (place >> 32) as usize);
        if count > LIST_ROWS_MAX {
            return Rows::of_bytes(&self.bytes(Part::Rows, at, BITMAP_BYTES)?)
                .ok_or_else(|| invalid("no bitmap"));
        }
        let rows = self.bytes(Part::Rows, at, count * 2)?;
        Ok(rows
            .chunks_exact(2)
            .filter_map(|row| row.first_chunk().copied().map(u16::from_le_bytes))
            .collect())
    }

    /// The types that its records have.
    pub(crate) fn types(&self) -> io::Result<Vec<String>> {
        let bytes = self.bytes(Part::Types, 0, self.part_bytes(Part::Types))?;
        let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
        while let Some((length, after)) = rest.split_first() {
            let (text, after) =
                after.split_at_checked(usize::from(*length)).ok_or_else(|| invalid("a type is cut"))?;
            found.push(String::from_utf8_lossy(text).into_owned());
            rest = after;
        }
        Ok(found)
    }

    /// Rows outside of which no record is in `since_us..until_us`.
    pub(crate) fn rows_between(
        &self,
        since_us: Option<u64>,
        until_us: Option<u64>,
    ) -> io::Result<(usize, usize)> {
        let rows = self.header.rows as usize;
        let from = match since_us.filter(|since_us| *since_us > self.header.first_us) {
            Some(since_us) => self.lower_bound(Part::Times, 1, since_us, None)?.saturating_sub(1) * TIME_ROWS,
            None => 0,
        };
        let to = match until_us.filter(|until_us| *until_us <= self.header.last_us) {
            Some(until_us) => self.lower_bound(Part::Times, 1, until_us, None)? * TIME_ROWS,
            None => rows,
        };
        Ok((from, to.min(rows)))
    }

    /// The plain bytes of a row's line in its segment: from, to.
    pub(crate) fn place(&self, row: usize) -> io::Result<(u64, u64)> {
        let offset = |row: usize| -> io::Result<u64> {
            if row >= self.header.rows as usize {
                return Ok(self.header.end);
            }
            let bytes = self.bytes(Part::Offsets, row * 4, 4)?;
            let offset =
                bytes.first_chunk().copied().map(u32::from_le_bytes).ok_or_else(|| invalid("short"))?;
            Ok(self.header.start + u64::from(offset))
        };
        Ok((offset(row)?, offset(row + 1)?))
    }
}
