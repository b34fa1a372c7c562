//! Sealed segments: compressed, never written again.
//!
//! Written beside the plain one under another name, synced, renamed, and only then is the plain one removed, so that
//! a crash at any point leaves one that is whole. A segment that could not be sealed stays plain: nothing is lost but
//! room. The file is zstd frames of 64 KiB of lines each, a skippable frame that says where each stands, and one that holds
//! the SHA-256 of all before it: a compressed stream has bits that change nothing of its content, and a flipped one must be
//! seen all the same. Plain `zstd -d` reads it. With frames of their own one record is read without unpacking the rest;
//! segments of earlier versions are one frame without a table, and are unpacked whole.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use symbi_crypto::sha256;
use symbi_types::{OpenMode, Storage, StorageFile};

use crate::layout::{self, Segment};

/// Level 3: a fifth of the size at about 300 MB/s; higher levels cost the signers their core.
const LEVEL: i32 = 3;
/// A skippable frame (RFC 8878, 3.1.2) of 32 bytes.
const TRAILER_HEAD: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0];
const TRAILER_BYTES: usize = TRAILER_HEAD.len() + 32;
/// Plain bytes of one frame: a sixtieth larger on disk than one frame for all, and one record costs 60 µs.
const FRAME_BYTES: usize = 64 << 10;
/// A frame of so much, however little it could be compressed.
const FRAME_PACKED_BYTES_MAX: usize = FRAME_BYTES + (FRAME_BYTES >> 4);
/// The largest sealed segment: its digest is taken before it is unpacked, so it has to fit into memory. A larger one is
/// not sealed.
const SEALED_BYTES_MAX: usize = 512 << 20;
/// The table of zstd's seekable format: a skippable frame of two lengths for each frame, how many, no flags, a mark.
const TABLE_HEAD: [u8; 4] = [0x5e, 0x2a, 0x4d, 0x18];
const TABLE_MARK: [u8; 5] = [0, 0xb1, 0xea, 0x92, 0x8f];
const TABLE_END_BYTES: usize = 4 + TABLE_MARK.len();

/// Compresses one segment and removes its plain form.
pub(crate) fn seal(storage: &dyn Storage, directory: &Path, first: u64) -> io::Result<()> {
    let plain = directory.join(Segment::plain_name(first));
    let sealed = directory.join(Segment::sealed_name(first));
    let waiting = directory.join(format!("{}.tmp", Segment::sealed_name(first)));
    let source = storage.open(&plain, OpenMode::Read)?;
    let mut encoder = zstd::bulk::Compressor::new(LEVEL)?;
    encoder.include_checksum(true)?;
    let (mut bytes, mut table, mut frames) = (Vec::new(), Vec::new(), 0u32);
    let mut block = vec![0; FRAME_BYTES];
    let mut offset = 0;
    loop {
        let count = layout::read_full(&*source, offset, &mut block)?;
        if count == 0 {
            break;
        }
        let frame = encoder.compress(block.get(..count).unwrap_or_default())?;
        for length in [frame.len(), count] {
            table.extend_from_slice(&u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
        }
        bytes.extend_from_slice(&frame);
        frames += 1;
        offset += count as u64;
    }
    table.extend_from_slice(&frames.to_le_bytes());
    table.extend_from_slice(&TABLE_MARK);
    bytes.extend_from_slice(&TABLE_HEAD);
    bytes.extend_from_slice(&u32::try_from(table.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend_from_slice(&table);
    if bytes.len() + TRAILER_BYTES > SEALED_BYTES_MAX {
        return Err(io::Error::other("the segment is too large to be sealed"));
    }
    let digest = sha256(&[&bytes]);
    bytes.extend_from_slice(&TRAILER_HEAD);
    bytes.extend_from_slice(&digest);
    let written = storage.open(&waiting, OpenMode::Create).and_then(|target| {
        target.set_size(0)?;
        target.write_at(0, &bytes)?;
        target.sync_data()
    });
    if let Err(error) = written {
        return storage.remove(&waiting).and(Err(error));
    }
    storage.rename(&waiting, &sealed)?;
    storage.sync_directory(directory)?;
    storage.remove(&plain)?;
    storage.sync_directory(directory)
}

/// The content of a sealed segment. Anything but its exact form is an error.
pub(crate) fn unsealed(source: impl Read) -> io::Result<impl Read + Send> {
    let refuse = |reason: &'static str| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut bytes = Vec::new();
    // A fifth of a segment: its digest comes before its content.
    source.take(SEALED_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > SEALED_BYTES_MAX {
        return Err(refuse("too large for a sealed segment"));
    }
    let frame =
        bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(|| refuse("too short for a sealed segment"))?;
    let trailer = bytes.split_off(frame);
    let digest =
        trailer.strip_prefix(&TRAILER_HEAD).ok_or_else(|| refuse("a sealed segment without its digest"))?;
    if digest != sha256(&[&bytes]) {
        return Err(refuse("the sealed segment is not the one that was sealed"));
    }
    zstd::stream::read::Decoder::with_buffer(io::Cursor::new(bytes))
}

/// Where a frame of a sealed segment stands, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// In the file.
    pub(crate) at: u64,
    pub(crate) length: usize,
    /// Of its first plain byte in the segment.
    pub(crate) plain_at: u64,
    pub(crate) plain_length: usize,
}

/// The frames of a sealed segment, in order; `None` where it has no table. Neither table nor frames are held against the
/// digest: what is read through them is a record, and is checked by its chain.
pub(crate) fn frames(file: &dyn StorageFile) -> io::Result<Option<Vec<Frame>>> {
    let size = file.size()?;
    let mut end = [0; TABLE_END_BYTES];
    if size > SEALED_BYTES_MAX as u64 {
        return Ok(None);
    }
    let Some(end_at) = size.checked_sub((TRAILER_BYTES + TABLE_END_BYTES) as u64) else { return Ok(None) };
    layout::read_full(file, end_at, &mut end)?;
    let (count, mark) = end.split_at(4);
    if mark != TABLE_MARK {
        return Ok(None);
    }
    let count = u32::from_le_bytes(count.try_into().unwrap_or_default()) as usize;
    let Some(table_at) = end_at.checked_sub(count as u64 * 8) else { return Ok(None) };
    let mut table = vec![0; count * 8];
    layout::read_full(file, table_at, &mut table)?;
    let (mut at, mut plain_at) = (0, 0);
    let mut found = Vec::with_capacity(count);
    for entry in table.chunks_exact(8) {
        let (length, plain_length) = entry.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        let (length, plain_length) = (number(length), number(plain_length));
        if plain_length as usize > FRAME_BYTES || length as usize > FRAME_PACKED_BYTES_MAX {
            return Ok(None); // nobody writes such a one: memory is not asked for on its word
        }
        found.push(Frame { at, length: length as usize, plain_at, plain_length: plain_length as usize });
        at += u64::from(length);
        plain_at += u64::from(plain_length);
    }
    Ok((at <= table_at).then_some(found))
}

/// The plain bytes of one frame. `decoder` is used again: its making costs as much as a frame.
pub(crate) fn unpack(
    file: &dyn StorageFile,
    frame: &Frame,
    decoder: &mut zstd::bulk::Decompressor<'static>,
) -> io::Result<Vec<u8>> {
    let mut packed = vec![0; frame.length];
    layout::read_full(file, frame.at, &mut packed)?;
    let plain = decoder.decompress(&packed, frame.plain_length)?;
    match plain.len() == frame.plain_length {
        true => Ok(plain),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is not of its size")),
    }
}

/// The content of a sealed segment from a line on that stands at or before record `seq`, and that line's number. A handful of
/// frames are unpacked to find it. `None` where the file has no table: then it is read whole.
pub(crate) fn unsealed_from(file: Arc<dyn StorageFile>, seq: u64) -> io::Result<Option<(Frames, u64)>> {
    let Some(frames) = frames(&*file)? else { return Ok(None) };
    let mut decoder = zstd::bulk::Decompressor::new()?;
    let (mut low, mut high, mut best) = (0, frames.len(), None);
    while low < high {
        let middle = usize::midpoint(low, high);
        let Some(frame) = frames.get(middle) else { break };
        let plain = unpack(&*file, frame, &mut decoder)?;
        match first_line(&plain, middle == 0) {
            Some((offset, record)) if record <= seq => {
                best = Some((middle, plain, offset, record));
                low = middle + 1;
            }
            // Behind it; or a long line fills the frame, and one before it will do.
            _ => high = middle,
        }
    }
    let Some((at, plain, offset, record)) = best else { return Ok(None) };
    let mut content = io::Cursor::new(plain);
    content.set_position(offset as u64);
    Ok(Some((Frames { file, frames, next: at + 1, decoder, content }, record)))
}

/// Where the first line begins in these bytes, and its number.
fn first_line(plain: &[u8], is_first: bool) -> Option<(usize, u64)> {
    let offset = if is_first { 0 } else { memchr::memchr(b'\n', plain)? + 1 };
    let rest = plain.get(offset..)?.strip_prefix(b"{\"v\":")?;
    let (_, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b",\"seq\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    Some((offset, std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()?))
}

/// Frames of a sealed segment, one after the other.
pub(crate) struct Frames {
    file: Arc<dyn StorageFile>,
    frames: Vec<Frame>,
    next: usize,
    decoder: zstd::bulk::Decompressor<'static>,
    content: io::Cursor<Vec<u8>>,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.content.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(frame) = self.frames.get(self.next) else { return Ok(0) };
            self.content = io::Cursor::new(unpack(&*self.file, frame, &mut self.decoder)?);
            self.next += 1;
        }
    }
}
