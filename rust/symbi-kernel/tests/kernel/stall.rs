//! A disk whose syncs stand still while it is told to: it neither fails nor answers.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use symbi_testkit::Disk;
use symbi_types::{OpenMode, Storage, StorageFile, StorageLock};

#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    moved: Condvar,
}

/// Clones share the gate.
#[derive(Clone, Default)]
pub struct StallingDisk {
    pub disk: Disk,
    gate: Arc<Gate>,
}

impl StallingDisk {
    pub fn stall(&self) -> Stalled {
        self.set(true);
        Stalled(self.clone())
    }

    fn set(&self, shut: bool) {
        *self.gate.shut.lock().unwrap() = shut;
        self.gate.moved.notify_all();
    }
}

/// The disk stands still until this is dropped: of a test that fails meanwhile too, or its kernel would wait for ever for its
/// last records.
#[must_use = "the disk stands still as long as this is kept"]
pub struct Stalled(StallingDisk);

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

struct File(Box<dyn StorageFile>, Arc<Gate>);

impl StorageFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }

    fn sync_data(&self) -> io::Result<()> {
        let shut = self.1.shut.lock().unwrap();
        drop(self.1.moved.wait_while(shut, |shut| *shut).unwrap());
        self.0.sync_data()
    }
}

impl Storage for StallingDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(File(self.disk.open(path, mode)?, Arc::clone(&self.gate))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.disk.lock(path)
    }
}
