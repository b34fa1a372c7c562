//! Sealed segments: compressed, never written again.
//!
//! Written beside the plain one under another name, synced, renamed, and only then is the plain one removed, so that
//! a crash at any point leaves one that is whole. A segment that could not be sealed stays plain: nothing is lost but
//! room. The file is one zstd frame and one skippable frame that holds the SHA-256 of the first: a compressed stream has
//! bits that change nothing of its content, and a flipped one must be seen all the same. Plain `zstd -d` reads it.

use std::io::{self, Read};
use std::path::Path;

use symbi_crypto::sha256;
use symbi_types::{OpenMode, Storage};

use crate::layout::{self, Segment};

/// Level 3: a fifth of the size at about 300 MB/s; higher levels cost the signers their core.
const LEVEL: i32 = 3;
/// A skippable frame (RFC 8878, 3.1.2) of 32 bytes.
const TRAILER_HEAD: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0];
const TRAILER_BYTES: usize = TRAILER_HEAD.len() + 32;

/// Compresses one segment and removes its plain form.
pub(crate) fn seal(storage: &dyn Storage, directory: &Path, first: u64) -> io::Result<()> {
    let plain = directory.join(Segment::plain_name(first));
    let sealed = directory.join(Segment::sealed_name(first));
    let waiting = directory.join(format!("{}.tmp", Segment::sealed_name(first)));
    let source = storage.open(&plain, OpenMode::Read)?;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    let mut block = vec![0; 1 << 18];
    let mut offset = 0;
    loop {
        let count = layout::read_full(&*source, offset, &mut block)?;
        if count == 0 {
            break;
        }
        io::Write::write_all(&mut encoder, block.get(..count).unwrap_or_default())?;
        offset += count as u64;
    }
    let mut bytes = encoder.finish()?;
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
pub(crate) fn unsealed(mut source: impl Read) -> io::Result<impl Read + Send> {
    let refuse = |reason: &'static str| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes)?; // a fifth of a segment: its digest comes before its content
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
