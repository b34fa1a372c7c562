//! Files that somebody made: their checksums are right, and what they say is not. An error, never a panic.
#![allow(clippy::unwrap_used, reason = "a test stops where what it needs is missing")]

use std::fs::{read, write};
use std::path::Path;

use symbi_vectors::{Access, Index, Metric, Mode, Options, Quantization, VectorError};

const PAGE: usize = 4096;
/// Where the header's numbers begin, after its magic, and where they end (docs/formats/vector-index.md).
const NUMBERS: std::ops::Range<usize> = 8..236;
const SECTIONS_AT: usize = 88;
const SUMS_SUM_AT: usize = SECTIONS_AT + 16 * 9;
/// Numbers at which arithmetic goes over.
const EXTREMES: [u64; 8] =
    [u64::MAX, u64::MAX - 4095, i64::MAX as u64, 1 << 63, 1 << 61, 1 << 48, 1 << 32, 0];

fn saved(directory: &Path, quantization: Quantization) {
    let options = Options { dimension: 8, metric: Metric::L2, m: 4, ef_construct: 16, quantization, seed: 1 };
    let index = Index::new(options).unwrap();
    let ids: Vec<u64> = (0..60).collect();
    let vectors: Vec<f32> = (0..8 * 60).map(|at| (at * at % 97) as f32).collect();
    index.add(&ids, &vectors, Mode::Insert, 1, &mut |_, _| true).unwrap();
    index.save(directory).unwrap();
}

fn search(index: &Index) -> Result<(), VectorError> {
    let (mut ids, mut distances) = ([0; 9], [0.0; 9]);
    index.search(&[5.0; 8], 9, None, None, 1, &mut ids, &mut distances).map(|_| ())
}

/// SN1: each number of the header at extremes, under a checksum that is right.
#[test]
fn sn1_a_forged_header_is_an_error() {
    for quantization in [Quantization::None, Quantization::Binary] {
        let directory = tempfile::tempdir().unwrap();
        saved(directory.path(), quantization);
        let path = directory.path().join("snapshot");
        let honest = read(&path).unwrap();
        for at in NUMBERS.step_by(4) {
            for extreme in EXTREMES {
                let mut forged = honest.clone();
                forged[at..at + 8].copy_from_slice(&extreme.to_le_bytes());
                let sum = crc32fast::hash(&forged[..PAGE - 4]);
                forged[PAGE - 4..PAGE].copy_from_slice(&sum.to_le_bytes());
                write(&path, &forged).unwrap();
                let Ok(index) = Index::open(directory.path(), Access::Write) else { continue };
                // Some numbers (a seed, how many nodes were drawn) may be others: then it is another index, that works.
                search(&index).unwrap();
                index.add(&[1_000], &[1.0; 8], Mode::Insert, 1, &mut |_, _| true).unwrap();
                drop(index);
                saved(directory.path(), quantization);
            }
        }
    }
}

/// SN1: links whose checksums are right, and which lead to a slot that holds nothing.
#[test]
fn sn1_a_link_to_what_was_removed_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    saved(directory.path(), Quantization::None);
    let index = Index::open(directory.path(), Access::Write).unwrap();
    index.remove(&[7]).unwrap();
    index.save(directory.path()).unwrap();
    drop(index);
    let path = directory.path().join("snapshot");
    let mut forged = read(&path).unwrap();
    let number = |at: usize| u64::from_le_bytes(forged[at..at + 8].try_into().unwrap()) as usize;
    // Offset and bytes of the links and of the checksums; one block a section, for all sections are small.
    let section = |place: usize| (number(SECTIONS_AT + 16 * place), number(SECTIONS_AT + 16 * place + 8));
    let ((links, length), (sums, sums_length)) = (section(4), section(8));
    let before: usize = (0..4).map(|place| section(place).1.div_ceil(1 << 16)).sum();
    forged[links..links + 4].copy_from_slice(&7_u32.to_le_bytes());
    let sum = crc32fast::hash(&forged[links..links + length]);
    forged[sums + 4 * before..sums + 4 * before + 4].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32fast::hash(&forged[sums..sums + sums_length]);
    forged[SUMS_SUM_AT..SUMS_SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32fast::hash(&forged[..PAGE - 4]);
    forged[PAGE - 4..PAGE].copy_from_slice(&sum.to_le_bytes());
    write(&path, &forged).unwrap();
    let error = search(&Index::open(directory.path(), Access::Read).unwrap()).unwrap_err();
    assert!(error.to_string().contains("a link to nowhere"), "{error}");
}
