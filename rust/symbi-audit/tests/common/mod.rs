//! A log on a fake disk under a fake clock, for the tests of this crate.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test: each file uses its part, and a fault is a failure"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbi_audit::{Event, Log, LogError, LogOptions, Owner, Reader, Record, VerifyOptions};
use symbi_crypto::{Provider, SigningKey};
use symbi_testkit::{Disk, FakeClock, SeededEntropy};

pub const DIRECTORY: &str = "/trail";

pub struct Bench {
    pub disk: Disk,
    pub clock: Arc<FakeClock>,
    pub options: LogOptions,
}

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Provider::AwsLc, &[seed; 32])
}

pub fn directory() -> &'static Path {
    Path::new(DIRECTORY)
}

pub fn path(name: &str) -> PathBuf {
    directory().join(name)
}

/// Flips the bits of a segment that `takes` says, of the byte at a place and before the end of its line, one at a time;
/// each must be found, and named by the record that it is in. Answers how many records there are.
pub fn flipped_bits_are_named(
    bench: &Bench,
    segment: &Path,
    takes: impl Fn(usize, usize, usize) -> bool,
) -> u64 {
    let good = bench.disk.content(segment).unwrap();
    let mut seq = 0;
    for at in 0..good.len() {
        let left = good.iter().skip(at).position(|byte| *byte == b'\n').unwrap();
        for bit in (0..8).filter(|bit| takes(at, left, *bit)) {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            bench.disk.overwrite(segment, bad);
            let error = bench.verify().expect_err("a flipped bit must be found");
            assert_eq!(error.seq, seq, "byte {at} bit {bit}: {error}");
        }
        seq += u64::from(good[at] == b'\n');
    }
    bench.disk.overwrite(segment, good);
    seq
}

impl Bench {
    pub fn new() -> Self {
        Self::on(Disk::new())
    }

    pub fn on(disk: Disk) -> Self {
        let clock = Arc::new(FakeClock::ticking(7));
        let mut options = LogOptions::new(key(1), Owner::Application);
        options.clock = clock.clone();
        options.entropy = Arc::new(SeededEntropy::new(11));
        options.storage = Arc::new(disk.clone());
        options.signers = 2;
        Self { disk, clock, options }
    }

    pub fn open(&self) -> Log {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Log, LogError> {
        Log::open(directory(), &self.options).map(|(log, _)| log)
    }

    pub fn verify(&self) -> Result<symbi_audit::Verification, symbi_audit::VerifyError> {
        let storage: Arc<dyn symbi_types::Storage> = Arc::new(self.disk.clone());
        symbi_audit::verify(
            directory(),
            &VerifyOptions { storage: Some(storage), ..VerifyOptions::default() },
        )
    }

    pub fn reader(&self) -> Reader {
        Reader::with_storage(directory(), Arc::new(self.disk.clone())).unwrap()
    }

    pub fn records(&self) -> Vec<Record> {
        self.reader().records(0).map(Result::unwrap).collect()
    }

    /// The lines of the plain segments, in order.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        let names = self.disk.names();
        let plain = names.iter().filter(|name| name.extension().is_some_and(|end| end == "jsonl"));
        let whole: Vec<u8> = plain.flat_map(|name| self.disk.content(name).unwrap()).collect();
        whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }
}

/// Appends `count` events and closes.
pub fn fill(log: &Log, count: usize) {
    for at in 0..count {
        let details = format!(r#"{{"number":{at},"text":"é \" \\ 😀"}}"#);
        log.append(&Event::new("test.event", &details)).unwrap();
    }
    log.close().unwrap();
}
