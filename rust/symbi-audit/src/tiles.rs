//! The tree's nodes on disk: a projection that makes a proof a matter of microseconds.
//!
//! Every eighth height has a file: `tiles-0` the leaves' hashes, `tiles-1` the roots of 256 of them, and so on, 32 bytes
//! each, in order, nothing else. So tile N of C2SP `tlog-tiles` is bytes N × 8192 and on of its file; heights between
//! are hashed from at most 128 entries.
//!
//! Invariants
//! - TI1 tiles are written only by whoever holds the log's lock, and never trusted: they count as far as they give
//!   the root of a checkpoint that the log's key signed, and are made again from the log where they do not.
//! - TI2 they are on disk before the checkpoint that needs them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbi_types::{OpenMode, Storage, StorageFile};

use crate::layout;
use crate::merkle::{self, Frontier, Hash, Nodes};

/// Heights in one file.
const HEIGHT: u32 = 8;
/// Entries of one tile.
const WIDTH: usize = 1 << HEIGHT;
/// Files: 2^56 records.
const FILES_MAX: usize = 7;
/// Written at once.
const WRITE_BYTES: usize = 1 << 18;

/// The file of the leaves' hashes.
pub(crate) const LEAVES: &str = "tiles-0";

fn path(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("tiles-{number}"))
}

/// Tiles, for reading.
pub(crate) struct Tiles {
    files: Vec<Arc<dyn StorageFile>>,
}

impl Tiles {
    pub(crate) fn open(storage: &dyn Storage, directory: &Path) -> io::Result<Self> {
        let mut files: Vec<Arc<dyn StorageFile>> = Vec::new();
        for number in 0..FILES_MAX {
            match storage.open(&path(directory, number), OpenMode::Read) {
                Ok(file) => files.push(file.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { files })
    }

    /// Hashes of `count` records from `first` on.
    pub(crate) fn leaves(&self, first: u64, count: usize) -> io::Result<Vec<Hash>> {
        self.entries(0, first, count)
    }

    fn entries(&self, number: usize, first: u64, count: usize) -> io::Result<Vec<Hash>> {
        let missing = || io::Error::new(io::ErrorKind::UnexpectedEof, "the tiles end before");
        let file = self.files.get(number).ok_or_else(missing)?;
        let mut bytes = vec![0; count * 32];
        let read = layout::read_full(&**file, first.saturating_mul(32), &mut bytes)?;
        if read < bytes.len() {
            return Err(missing());
        }
        Ok(bytes.chunks_exact(32).filter_map(|entry| entry.first_chunk::<32>().copied()).collect())
    }
}

impl Nodes for Tiles {
    type Error = io::Error;

    fn node(&self, height: u32, index: u64) -> io::Result<Hash> {
        let (number, rest) = (height / HEIGHT, height % HEIGHT);
        let count = 1usize << rest;
        let entries = self.entries(number as usize, index << rest, count)?;
        merkle::fold(entries).ok_or_else(|| io::Error::other("a node is not of its size"))
    }
}

/// One file while it grows.
struct Level {
    file: Box<dyn StorageFile>,
    /// Entries, the unwritten among them.
    count: u64,
    /// Entries of the tile that is not full.
    open: Vec<Hash>,
    unwritten: Vec<u8>,
}

/// Tiles, for adding to.
pub(crate) struct TileWriter {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    levels: Vec<Level>,
    pub(crate) frontier: Frontier,
}

impl TileWriter {
    /// Goes on after the first `size` leaves where what lies there has their root; otherwise begins again.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        directory: &Path,
        size: u64,
        root: &Hash,
    ) -> io::Result<Self> {
        let mut writer = Self {
            storage: storage.clone(),
            directory: directory.to_path_buf(),
            levels: Vec::new(),
            frontier: Frontier::default(),
        };
        if size > 0 {
            let tiles = Tiles::open(&**storage, directory)?;
            // TI1: whatever does not give the root that was signed is made again.
            if merkle::root(&tiles, size).is_ok_and(|found| found == *root) {
                writer.resume(&tiles, size)?;
            }
        }
        Ok(writer)
    }

    fn resume(&mut self, tiles: &Tiles, size: u64) -> io::Result<()> {
        for number in 0..FILES_MAX {
            let count = size >> (HEIGHT as usize * number);
            if count == 0 {
                break;
            }
            let open = usize::try_from(count % WIDTH as u64).unwrap_or(0);
            let entries = tiles.entries(number, count - open as u64, open)?;
            self.add_level()?;
            if let Some(level) = self.levels.last_mut() {
                level.count = count;
                level.open = entries;
            }
        }
        self.frontier = Frontier::resume(tiles, size)?;
        Ok(())
    }

    fn add_level(&mut self) -> io::Result<()> {
        let file = self.storage.open(&path(&self.directory, self.levels.len()), OpenMode::Create)?;
        self.levels.push(Level { file, count: 0, open: Vec::with_capacity(WIDTH), unwritten: Vec::new() });
        Ok(())
    }

    /// Adds a leaf.
    pub(crate) fn push(&mut self, leaf: Hash) -> io::Result<()> {
        self.frontier.push(leaf);
        let mut entry = leaf;
        for number in 0..FILES_MAX {
            if self.levels.len() == number {
                self.add_level()?;
            }
            let Some(level) = self.levels.get_mut(number) else { break };
            level.unwritten.extend_from_slice(&entry);
            level.open.push(entry);
            level.count += 1;
            if level.unwritten.len() >= WRITE_BYTES {
                level.write()?;
            }
            if level.open.len() < WIDTH {
                break;
            }
            let full = std::mem::replace(&mut level.open, Vec::with_capacity(WIDTH));
            entry = merkle::fold(full).ok_or_else(|| io::Error::other("a tile is not of its size"))?;
        }
        Ok(())
    }

    /// Brings everything to disk (TI2).
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        for level in &mut self.levels {
            level.write()?;
            level.file.sync_data()?;
        }
        self.storage.sync_directory(&self.directory)
    }
}

impl Level {
    fn write(&mut self) -> io::Result<()> {
        let start = self.count * 32 - self.unwritten.len() as u64;
        self.file.write_at(start, &self.unwritten)?;
        self.unwritten.clear();
        Ok(())
    }
}
