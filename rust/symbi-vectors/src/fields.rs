//! Little-endian numbers in bytes, read without trust.
//!
//! Not here: what they mean (`snapshot`, `journal`).

use std::fs::File;
use std::path::Path;

use crate::error::{Result, VectorError};

/// Reads numbers one after the other; past the end everything is zero, and `complete` says so.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    short: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, short: false }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                *taken
            }
            None => {
                (self.rest, self.short) = (&[], true);
                [0; N]
            }
        }
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub(crate) fn complete(&self) -> bool {
        !self.short
    }
}

/// Whole numbers of `N` bytes.
pub(crate) fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

/// Names the file and the act in an error of the system.
pub(crate) fn at<'a>(act: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> VectorError + 'a {
    move |source| VectorError::Io { act, path: path.to_owned(), source }
}

pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> VectorError {
    VectorError::Damaged { path: path.to_owned(), what: what.into() }
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at("sync", path))
}
