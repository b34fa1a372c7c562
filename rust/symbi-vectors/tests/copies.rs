//! Copies of one vector in an index: they are found, and so is everything else.
#![allow(clippy::unwrap_used, reason = "a test stops where what it needs is missing")]

mod common;

use common::{options, search, vector};
use symbi_vectors::{Index, Metric, Mode, Options, Quantization};

const DIMENSION: usize = 48;
const OTHERS: usize = 1500;

/// `copies` of `copied` among the others: before them, after them, or between.
fn index(metric: Metric, quantization: Quantization, copied: &[f32], copies: usize, before: usize) -> Index {
    let index =
        Index::new(Options { ef_construct: 200, ..options(DIMENSION, metric, quantization) }).unwrap();
    let mut rows: Vec<(u64, Vec<f32>)> = (0..OTHERS as u64).map(|id| (id, vector(DIMENSION, id))).collect();
    rows.splice(before..before, (0..copies as u64).map(|copy| (1_000_000 + copy, copied.to_vec())));
    let ids: Vec<u64> = rows.iter().map(|(id, _)| *id).collect();
    let vectors: Vec<f32> = rows.into_iter().flat_map(|(_, row)| row).collect();
    index.add(&ids, &vectors, Mode::Insert, 1, &mut |_, _| true).unwrap();
    index
}

fn ids(index: &Index, query: &[f32], k: usize, ef: usize) -> Vec<u64> {
    search(index, query, k, ef, None).into_iter().map(|(id, _)| id).collect()
}

/// PR2: what is no copy is found by itself, and so are the copies, however many there are and whenever they came.
#[test]
fn pr2_copies_of_a_vector_hide_nothing() {
    let plain = vector(DIMENSION, 77);
    let zero = vec![0.0; DIMENSION];
    for (metric, code, copied, copies, before) in [
        (Metric::Cosine, Quantization::Int4, &plain, 50, 0),
        (Metric::Cosine, Quantization::Int4, &plain, 50, OTHERS),
        (Metric::Cosine, Quantization::Binary, &plain, 300, OTHERS / 2),
        (Metric::L2, Quantization::None, &zero, 1500, 0),
        (Metric::L2, Quantization::Int8, &zero, 1500, 0),
        (Metric::L2, Quantization::Binary, &zero, 600, OTHERS / 2),
        (Metric::Dot, Quantization::Int4, &plain, 300, 0),
    ] {
        let named = format!("{copies} copies under {metric:?} {code:?} after {before}");
        let index = index(metric, code, copied, copies, before);
        let missed = (0..OTHERS as u64)
            .step_by(5)
            .filter(|&id| {
                let found = ids(&index, &vector(DIMENSION, id), 20, 128);
                metric != Metric::Dot && !found.contains(&id)
            })
            .count();
        assert!(missed <= OTHERS / 5 / 50, "{missed} of {} missed: {named}", OTHERS / 5);
        if metric != Metric::Dot {
            let found = ids(&index, copied, 40, 128);
            assert!(found.iter().all(|&id| id >= 1_000_000 || id == 77), "{named}: {found:?}");
            let all = ids(&index, copied, copies.min(200), 256);
            let copied = all.iter().filter(|&&id| id >= 1_000_000).count();
            assert!(copied + 1 >= copies.min(200), "{copied} copies found: {named}");
        }
    }
}
