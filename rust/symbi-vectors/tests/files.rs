//! Files of an index: what was acknowledged is there, what is damaged is an error, one writer.
#![allow(clippy::unwrap_used, reason = "a test stops where what it needs is missing")]

use std::collections::BTreeMap;
use std::fs::{read, read_dir, write};
use std::path::{Path, PathBuf};

use symbi_vectors::{Access, Index, Metric, Mode, Options, Quantization, VectorError};

const DIMENSION: usize = 24;
const SAVES: usize = 200;
const CODES: [Quantization; 4] =
    [Quantization::None, Quantization::Int8, Quantization::Int4, Quantization::Binary];

fn mix(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn vector(salt: u64) -> Vec<f32> {
    (0..DIMENSION as u64).map(|at| (mix(salt << 10 ^ at) % 2001) as f32 / 1000.0 - 1.0).collect()
}

fn index_of(count: u64, quantization: Quantization) -> Index {
    index_under(Metric::L2, count, quantization)
}

fn index_under(metric: Metric, count: u64, quantization: Quantization) -> Index {
    let options = Options { dimension: DIMENSION, metric, m: 6, ef_construct: 40, quantization, seed: 1 };
    let index = Index::new(options).unwrap();
    put(&index, 0..count, 0);
    index
}

fn put(index: &Index, ids: std::ops::Range<u64>, salt: u64) {
    let ids: Vec<u64> = ids.collect();
    let vectors: Vec<f32> = ids.iter().flat_map(|id| vector(id ^ salt << 32)).collect();
    index.add(&ids, &vectors, Mode::Upsert, 1, &mut |_, _| true).unwrap();
}

type Answers = Vec<Vec<(u64, u32)>>;

/// What an index says to a few questions, to the bit.
fn answers(index: &Index) -> Result<Answers, VectorError> {
    let (mut ids, mut far) = ([0; 8], [0.0; 8]);
    (0..6)
        .map(|salt| {
            let width = index.search(&vector(7_000 + salt), 8, Some(40), None, 1, &mut ids, &mut far)?;
            Ok(ids.iter().copied().zip(far.iter().map(|far| far.to_bits())).take(width).collect())
        })
        .collect()
}

fn log_of(directory: &Path) -> PathBuf {
    let mut logs: Vec<PathBuf> = read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-"))
        .collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs.remove(0)
}

/// FS1, SN2, WR2: also where slots were replaced and removed, by the log and by the next snapshot.
#[test]
fn fs1_what_was_saved_and_added_since_is_there() {
    for (code, metric) in CODES.into_iter().flat_map(|code| [(code, Metric::L2), (code, Metric::Cosine)]) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let index = index_under(metric, 700, code);
        let before = answers(&index).unwrap();
        index.save(&path).unwrap();
        assert_eq!(answers(&index).unwrap(), before, "a save changes no answer");
        assert!(index.stats().vector_bytes == 0 && index.stats().mapped_bytes > 0);
        drop(index);

        let opened = Index::open(&path, Access::Write).unwrap();
        assert_eq!((opened.len(), answers(&opened).unwrap()), (700, before));
        put(&opened, 650..800, 1); // many: links by finer codes than one bit
        opened.remove(&[3, 4, 5, 100_000]).unwrap();
        put(&opened, 100..110, 1); // few: links by the vectors
        put(&opened, 200..400, 1);
        let changed = answers(&opened).unwrap();
        assert_eq!(opened.stats().log.unwrap().0, 4);
        drop(opened);

        let reader = Index::open(&path, Access::Read).unwrap();
        assert_eq!(reader.len(), 797);
        assert!(matches!(reader.remove(&[9]), Err(VectorError::ReadOnly)));
        let again = Index::open(&path, Access::Write).unwrap();
        let found = answers(&again).unwrap();
        assert_eq!(found, changed, "{code:?} {metric:?}: a replay stores and links as the change did");
        assert_eq!(answers(&reader).unwrap(), found);
        again.save(&path).unwrap();
        assert_eq!(again.stats().log.unwrap().0, 0);
        put(&again, 900..901, 2);
        assert_eq!(again.len(), 798);
        drop(again);
        assert_eq!(Index::open(&path, Access::Write).unwrap().len(), 798);
    }
}

/// FS2: a second writer is refused, in this process too; a reader is not.
#[test]
fn fs2_one_writer_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let index = index_of(10, Quantization::None);
    index.save(directory.path()).unwrap();
    assert!(matches!(Index::open(directory.path(), Access::Write), Err(VectorError::Locked { .. })));
    let other = index_of(5, Quantization::None);
    assert!(matches!(other.save(directory.path()), Err(VectorError::Locked { .. })));
    assert_eq!(Index::open(directory.path(), Access::Read).unwrap().len(), 10);
    drop(index);
    other.save(directory.path()).unwrap();
    assert_eq!(other.len(), 5);
}

/// JO1, JO2: cut off at any byte, the log gives every whole record before the cut, and takes new ones.
#[test]
fn jo1_jo2_a_log_cut_at_any_byte_keeps_what_was_whole() {
    let directory = tempfile::tempdir().unwrap();
    let index = index_of(20, Quantization::None);
    index.save(directory.path()).unwrap();
    let log = log_of(directory.path());
    let mut ends = BTreeMap::from([(read(&log).unwrap().len(), 20)]);
    for step in 0..3 {
        put(&index, 100 + 2 * step..102 + 2 * step, 0);
        ends.insert(read(&log).unwrap().len(), index.len());
    }
    index.remove(&[1, 2, 3]).unwrap();
    ends.insert(read(&log).unwrap().len(), index.len());
    drop(index);
    let whole = read(&log).unwrap();
    for cut in 0..=whole.len() {
        write(&log, &whole[..cut]).unwrap();
        let opened = Index::open(directory.path(), Access::Write);
        match ends.range(..=cut).next_back() {
            None => assert!(matches!(opened, Err(VectorError::Damaged { .. })), "{cut}"),
            Some((_, &count)) => {
                let opened = opened.unwrap();
                assert_eq!(opened.len(), count, "{cut}");
                if cut % 50 == 0 {
                    put(&opened, 500..501, 0);
                    drop(opened);
                    assert_eq!(
                        Index::open(directory.path(), Access::Write).unwrap().len(),
                        count + 1,
                        "{cut}"
                    );
                }
            }
        }
    }
    let mut zeros = whole.clone();
    zeros.resize(whole.len() + 5000, 0);
    write(&log, &zeros).unwrap();
    assert_eq!(Index::open(directory.path(), Access::Write).unwrap().len(), 23, "zeros are a tail");
    zeros.push(1);
    write(&log, &zeros).unwrap();
    assert!(Index::open(directory.path(), Access::Write).is_err());
}

/// SN1, SU1, JO2: a file changed anywhere gives an error or the same answers, never others and never a crash.
#[test]
fn sn1_su1_no_mutation_gives_another_answer() {
    let rounds = if std::env::var_os("SYMBI_LONG").is_some() { 100_000 } else { 1_000 };
    for (place, code) in CODES.into_iter().enumerate() {
        mutate(code, place as u64 * rounds / 4..(place as u64 + 1) * rounds / 4);
    }
}

#[expect(clippy::indexing_slicing, clippy::panic, reason = "a test stops where what it needs is missing")]
fn mutate(code: Quantization, rounds: std::ops::Range<u64>) {
    let directory = tempfile::tempdir().unwrap();
    let index = index_of(300, code);
    index.save(directory.path()).unwrap();
    put(&index, 290..310, 3);
    index.remove(&[7, 8]).unwrap();
    let expected = answers(&index).unwrap();
    drop(index);
    let (snapshot, log) = (directory.path().join("snapshot"), log_of(directory.path()));
    let good = [read(&snapshot).unwrap(), read(&log).unwrap()];
    let (mut refused, mut same) = (0, 0);
    for round in rounds.clone() {
        let random = |salt: u64| mix(round * 8 + salt) as usize;
        let which = random(0) % 2;
        let path = [&snapshot, &log][which];
        let mut bytes = good[which].clone();
        match random(1) % 4 {
            // Half of all flips where a file is dense: headers, heads, the first sections.
            0 => {
                let at = random(2) % bytes.len().min(9000);
                bytes[at] ^= 1 << (random(3) % 8);
            }
            1 => {
                let at = random(2) % bytes.len();
                bytes[at] ^= 1 << (random(3) % 8);
            }
            2 => {
                // A cut at a record's end is what a crash leaves, so it is not one of these: cut the snapshot.
                if which == 1 {
                    let at = random(2) % bytes.len();
                    let length = (random(3) % 200).min(bytes.len() - at);
                    bytes[at..at + length].reverse();
                } else {
                    bytes.truncate(random(2) % bytes.len());
                }
            }
            _ => {
                let (from, to) = (random(2) % bytes.len(), random(3) % bytes.len());
                let length = (random(4) % 500).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + length, to);
            }
        }
        write(path, &bytes).unwrap();
        let found = Index::open(directory.path(), Access::Read).and_then(|index| answers(&index));
        write(path, &good[which]).unwrap();
        match found {
            Err(VectorError::Damaged { .. } | VectorError::Foreign { .. }) => refused += 1,
            Err(error) => panic!("{code:?} {round}: {error}"),
            Ok(found) => {
                assert_eq!(found, expected, "{code:?} round {round}: another answer");
                same += 1;
            }
        }
    }
    assert!(refused > (rounds.end - rounds.start) / 3 && same > 0, "{code:?} {refused} {same}");
}

/// SU1: without codes the vectors themselves are walked on; a damaged one, in a block that nothing else is read from, is an
/// error for the query that would have found it, and not another answer.
#[test]
fn su1_a_damaged_vector_is_never_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let count = 5_000; // eight blocks of vectors
    index_of(count, Quantization::None).save(directory.path()).unwrap();
    let snapshot = directory.path().join("snapshot");
    let good = read(&snapshot).unwrap();
    let vectors_at = u64::from_le_bytes(good[200..208].try_into().unwrap()) as usize;
    for slot in (0..count).step_by(617) {
        let mut bytes = good.clone();
        let at = vectors_at + slot as usize * 4 * DIMENSION;
        bytes[at..at + 4].copy_from_slice(&1e6_f32.to_le_bytes()); // now far from everything
        write(&snapshot, &bytes).unwrap();
        let index = Index::open(directory.path(), Access::Read).unwrap();
        let found = index.search(&vector(slot), 1, Some(10), None, 1, &mut [0; 1], &mut [0.0; 1]);
        assert!(matches!(found, Err(VectorError::Damaged { .. })), "{slot}: {found:?}");
    }
}

#[test]
fn foreign_files_are_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Index::open(directory.path(), Access::Write), Err(VectorError::Foreign { .. })));
    for content in [&b""[..], b"SQLite format 3\0 and so on", &[0; 5000]] {
        write(directory.path().join("snapshot"), content).unwrap();
        assert!(matches!(Index::open(directory.path(), Access::Read), Err(VectorError::Foreign { .. })));
        let saved = index_of(3, Quantization::None).save(directory.path());
        assert!(matches!(saved, Err(VectorError::Foreign { .. })), "what is not ours is not overwritten");
    }
}

/// FS1: a reader that opens while a writer saves finds a whole pair, the old one or the new.
#[test]
fn fs1_a_reader_opens_while_a_writer_saves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let index = index_of(20, Quantization::None);
    index.save(path).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..SAVES {
                index.save(path).unwrap();
            }
            is_over.store(true, std::sync::atomic::Ordering::Release);
        });
        while !is_over.load(std::sync::atomic::Ordering::Acquire) {
            assert_eq!(Index::open(path, Access::Read).unwrap().len(), 20);
        }
    });
}
