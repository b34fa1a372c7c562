//! Numbers and sizes that stand in files are not believed: memory is not asked for on their word, no sum of them panics.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: a fault is a failure")]

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Bench, directory, fill, path};
use symbi_audit::{Index, Log, Query, Reader};
use symbi_crypto::sha256;
use symbi_testkit::Disk;
use symbi_types::{OpenMode, Storage, StorageFile, StorageLock};

/// More than anything here reads at once.
const AT_ONCE_MAX: usize = 1 << 20;
const EXCESS_BYTES: usize = 8 << 20;

/// A disk that notes how much was read at once at most: so large a buffer was asked for.
#[derive(Clone)]
struct Counted {
    disk: Disk,
    largest: Arc<AtomicUsize>,
}

struct CountedFile {
    file: Box<dyn StorageFile>,
    largest: Arc<AtomicUsize>,
}

impl StorageFile for CountedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest.fetch_max(buffer.len(), Ordering::Relaxed);
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Storage for Counted {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Box::new(CountedFile { file, largest: Arc::clone(&self.largest) }))
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

fn counted(bench: &Bench) -> (Arc<dyn Storage>, Arc<AtomicUsize>) {
    let largest = Arc::default();
    (Arc::new(Counted { disk: bench.disk.clone(), largest: Arc::clone(&largest) }), largest)
}

#[test]
fn a5_what_is_cut_is_hashed_in_pieces_however_long_the_file_says_it_is() {
    let mut bench = Bench::new();
    fill(&bench.open(), 3);
    let segment = path("000000000000.jsonl");
    let mut content = bench.disk.content(&segment).unwrap();
    let length = content.len();
    content.resize(length + EXCESS_BYTES, 0);
    bench.disk.overwrite(&segment, content);
    let (storage, largest) = counted(&bench);
    bench.options.storage = storage;
    let (log, report) = Log::open(directory(), &bench.options).unwrap();
    log.close().unwrap();
    assert_eq!(report.cut_bytes, EXCESS_BYTES as u64);
    assert!(largest.load(Ordering::Relaxed) <= AT_ONCE_MAX, "{largest:?} bytes were asked for at once");
    let told = bench.records().pop().unwrap();
    let digest: String = sha256(&[&vec![0; EXCESS_BYTES]]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(told.event_type, "log.cut");
    assert!(told.details.contains(&format!("\"sha256\":\"{digest}\"")), "{}", told.details);
    bench.verify().unwrap();
}

fn indexed() -> Bench {
    let mut bench = Bench::new();
    bench.options.segment_bytes_max = 16 << 10;
    fill(&bench.open(), 120);
    Index::open(&bench.reader()).unwrap().build(99, 1).unwrap();
    bench
}

/// Puts a number into a unit's header and makes its digest right again.
fn forge(unit: &mut [u8], at: usize, number: u64) {
    unit[at..at + 8].copy_from_slice(&number.to_le_bytes());
    let lengths: Vec<usize> = unit[168..192]
        .chunks_exact(4)
        .map(|length| u32::from_le_bytes(length.try_into().unwrap()) as usize)
        .collect();
    let sums = lengths.iter().sum::<usize>().div_ceil(4096) * 8;
    let digest = sha256(&[&unit[..224], &unit[256..256 + sums]]);
    unit[224..256].copy_from_slice(&digest);
}

#[test]
fn ix3_a_unit_with_forged_numbers_costs_time_and_no_answer() {
    let bench = indexed();
    let query = Query { event_type: Some("test.event".into()), ..Query::default() };
    let wanted: Vec<u64> = bench.reader().query(&query).unwrap().iter().map(|record| record.seq).collect();
    assert_eq!(wanted.len(), 120);
    let name = path("index/000000000000.unit");
    let good = bench.disk.content(&name).unwrap();
    // After magic and log id: first, rows and complete, segment, start, end, and the two times.
    for at in [32, 48, 56, 64, 72, 80] {
        for number in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 40] {
            let mut unit = good.clone();
            forge(&mut unit, at, number);
            bench.disk.overwrite(&name, unit);
            for query in [&query, &Query { since_us: Some(1), until_us: Some(1 << 60), ..query.clone() }] {
                let index = Index::open(&bench.reader()).unwrap();
                if let Ok(found) = index.query(query) {
                    let found: Vec<u64> = found.records.iter().map(|record| record.seq).collect();
                    assert!(found == wanted || at >= 72, "{at} {number}"); // times of a unit: `check` is for them (IX5)
                }
                index.check().unwrap();
            }
        }
    }
    let mut both = good;
    forge(&mut both, 64, u64::MAX);
    forge(&mut both, 56, u64::MAX - 1);
    bench.disk.overwrite(&name, both);
    let found = Index::open(&bench.reader()).unwrap().query(&query).unwrap();
    assert_eq!(found.records.iter().map(|record| record.seq).collect::<Vec<_>>(), wanted);
    assert_eq!(found.passed_over, 1);
}

#[test]
fn ix5_a_unit_is_held_against_the_log_without_believing_its_size() {
    let bench = indexed();
    let name = path("index/000000000000.unit");
    let mut unit = bench.disk.content(&name).unwrap();
    unit.resize(unit.len() + EXCESS_BYTES, 0);
    bench.disk.overwrite(&name, unit);
    let (storage, largest) = counted(&bench);
    let reader = Reader::with_storage(directory(), storage).unwrap();
    let checked = Index::open(&reader).unwrap().check().unwrap();
    assert_eq!(checked.wrong, [0]);
    assert!(largest.load(Ordering::Relaxed) <= AT_ONCE_MAX, "{largest:?} bytes were asked for at once");
}
