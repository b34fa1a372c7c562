//! Single lines of the log, by where the index says they stand.
//!
//! A sealed segment is unpacked frame by frame; one without a table of frames, of an earlier version, as a whole.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use symbi_types::{OpenMode, Storage, StorageFile};

use crate::chain::{Link, SUFFIX_BYTES, unhex};
use crate::layout::{Segment, Stream, read_full};
use crate::seal::{self, Frame};

/// Frames that are kept unpacked: rows come in order, so the last ones are asked for again.
const FRAMES_MAX: usize = 4;
/// A segment without a table that unpacks to more is read through line by line: a file of 50 KB can say that it holds
/// gigabytes. Segments of earlier versions have 64 MiB.
const WHOLE_BYTES_MAX: u64 = 256 << 20;
/// Where in a suffix the hex of the link stands.
const LINK_AT: usize = 10;

enum Content {
    Plain(Box<dyn StorageFile>),
    Framed { file: Box<dyn StorageFile>, frames: Vec<Frame>, kept: VecDeque<(usize, Arc<Vec<u8>>)> },
    Whole(Vec<u8>),
}

/// A segment, open for reading at any place.
pub(crate) struct Fetch {
    segment: u64,
    content: Content,
    decoder: zstd::bulk::Decompressor<'static>,
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the segment ends before")
}

impl Fetch {
    pub(crate) fn open(storage: &dyn Storage, directory: &Path, segment: u64) -> io::Result<Self> {
        let open = |sealed| {
            let path = Segment { first: segment, sealed }.path(directory);
            storage.open(&path, OpenMode::Read)
        };
        // Sealed between the two: then it is the other.
        let content = match open(false) {
            Ok(file) => Content::Plain(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = open(true)?;
                match seal::frames(&*file)? {
                    Some(frames) => Content::Framed { file, frames, kept: VecDeque::new() },
                    None => Content::Whole(whole(file, WHOLE_BYTES_MAX)?),
                }
            }
            Err(error) => return Err(error),
        };
        Ok(Self { segment, content, decoder: zstd::bulk::Decompressor::new()? })
    }

    pub(crate) fn is_of(&self, segment: u64) -> bool {
        self.segment == segment
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(to.saturating_sub(from)).map_err(io::Error::other)?;
        if length > crate::RECORD_BYTES_MAX + SUFFIX_BYTES + 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than a record"));
        }
        match &mut self.content {
            Content::Plain(file) => {
                let mut bytes = vec![0; length];
                if read_full(&**file, from, &mut bytes)? < length {
                    return Err(cut());
                }
                Ok(bytes)
            }
            Content::Whole(bytes) => {
                let from = usize::try_from(from).map_err(io::Error::other)?;
                bytes.get(from..from + length).map(<[u8]>::to_vec).ok_or_else(cut)
            }
            Content::Framed { file, frames, kept } => {
                let mut bytes = Vec::with_capacity(length);
                let mut number = frames.partition_point(|frame| frame.plain_at <= from).saturating_sub(1);
                while bytes.len() < length {
                    let frame = frames.get(number).ok_or_else(cut)?;
                    let plain = match kept.iter().find(|(of, _)| *of == number) {
                        Some((_, plain)) => Arc::clone(plain),
                        None => {
                            let plain = Arc::new(seal::unpack(&**file, frame, &mut self.decoder)?);
                            kept.push_back((number, Arc::clone(&plain)));
                            if kept.len() > FRAMES_MAX {
                                kept.pop_front();
                            }
                            plain
                        }
                    };
                    let at = usize::try_from(from + bytes.len() as u64 - frame.plain_at)
                        .map_err(io::Error::other)?;
                    let rest = plain.get(at..).filter(|rest| !rest.is_empty()).ok_or_else(cut)?;
                    bytes.extend_from_slice(
                        rest.get(..rest.len().min(length - bytes.len())).unwrap_or_default(),
                    );
                    number += 1;
                }
                Ok(bytes)
            }
        }
    }

    /// A line with its newline, and the link of the line before it in the segment, where there is one.
    pub(crate) fn line(&mut self, from: u64, to: u64) -> io::Result<(Vec<u8>, Option<Link>)> {
        let Some(before) = from.checked_sub(SUFFIX_BYTES as u64) else {
            return Ok((self.read(from, to)?, None));
        };
        let mut bytes = self.read(before, to)?;
        let line = bytes.split_off(SUFFIX_BYTES.min(bytes.len()));
        Ok((line, Some(link_of(&bytes)?)))
    }

    /// The link of the segment's last line. The segment is closed.
    pub(crate) fn link_last(&mut self) -> io::Result<Link> {
        let end = match &self.content {
            Content::Plain(file) => file.size()?,
            Content::Whole(bytes) => bytes.len() as u64,
            Content::Framed { frames, .. } => {
                frames.last().map_or(0, |frame| frame.plain_at + frame.plain_length as u64)
            }
        };
        self.link_before(end)
    }

    /// The link of the line that ends at `end`.
    pub(crate) fn link_before(&mut self, end: u64) -> io::Result<Link> {
        link_of(&self.read(end.saturating_sub(SUFFIX_BYTES as u64), end)?)
    }
}

fn link_of(suffix: &[u8]) -> io::Result<Link> {
    suffix.get(LINK_AT..LINK_AT + 64).and_then(unhex).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "what stands before it is not the end of a record")
    })
}

fn whole(file: Box<dyn StorageFile>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut unpacked = seal::unsealed(Stream::of(file))?.take(bytes_max + 1);
    unpacked.read_to_end(&mut plain)?;
    match plain.len() as u64 > bytes_max {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "too large to be unpacked as a whole")),
        false => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_testkit::Disk;

    #[test]
    fn what_a_segment_unpacks_to_is_bounded_before_it_is_in_memory() {
        let disk = Disk::new();
        let mut packed = zstd::encode_all(&[0; 1 << 20][..], 3).unwrap();
        let digest = symbi_crypto::sha256(&[&packed]);
        packed.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0]);
        packed.extend_from_slice(&digest);
        disk.overwrite(Path::new("/segment"), packed);
        let open = || disk.open(Path::new("/segment"), OpenMode::Read).unwrap();
        assert_eq!(whole(open(), 1 << 20).unwrap().len(), 1 << 20);
        assert!(whole(open(), (1 << 20) - 1).is_err());
    }
}
