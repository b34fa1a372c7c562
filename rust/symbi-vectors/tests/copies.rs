//! Copies of one vector in an index: they are found, and so is everything else.
#![allow(clippy::unwrap_used, reason = "a test stops where what it needs is missing")]

mod common;

use common::{distance, options, search, vector};
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

/// How many of every fifth of the others are not found where they are: what is nearest to one is at least as near as a list says.
fn missed(index: &Index, metric: Metric, rows: &[Vec<f32>]) -> usize {
    let asked = rows.iter().take(OTHERS).step_by(5);
    asked
        .filter(|query| {
            let nearest = rows.iter().map(|row| distance(metric, row, query)).fold(f32::INFINITY, f32::min);
            search(index, query, 20, 128, None).first().is_none_or(|hit| hit.1 > nearest + 1e-3)
        })
        .count()
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
        let mut rows: Vec<Vec<f32>> = (0..OTHERS as u64).map(|id| vector(DIMENSION, id)).collect();
        rows.push(copied.clone());
        let missed = missed(&index, metric, &rows);
        assert!(missed <= OTHERS / 5 / 50, "{missed} of {} missed: {named}", OTHERS / 5);
        if metric != Metric::Dot {
            let all = ids(&index, copied, copies.min(200), 256);
            let copied = all.iter().filter(|&&id| id >= 1_000_000).count();
            assert!(copied + 1 >= copies.min(200), "{copied} copies found: {named}");
        }
    }
}

/// PR2 where copies go and come back, in places that others had: all that are there are found.
#[test]
fn pr2_copies_that_are_replaced_are_found() {
    for (metric, code) in [(Metric::L2, Quantization::None), (Metric::Cosine, Quantization::Int4)] {
        let copied = vector(DIMENSION, 77);
        let copies = 500_u64;
        let index = index(metric, code, &copied, copies as usize, OTHERS / 2);
        let add = |numbers: std::ops::Range<u64>| {
            let numbers: Vec<u64> = numbers.map(|copy| 1_000_000 + copy).collect();
            let rows = vec![copied.clone(); numbers.len()];
            common::add(&index, &numbers, &rows, Mode::Upsert, 1).unwrap();
        };
        let found = |count: usize| {
            let all = ids(&index, &copied, count, 2 * count);
            all.iter().filter(|&&id| id >= 1_000_000).count()
        };
        index.remove(&(1_000_000..1_000_300).collect::<Vec<u64>>()).unwrap();
        assert!(found(200) >= 199, "what stays: {}", found(200));
        add(600..850);
        assert!(found(450) >= 449, "what comes: {}", found(450));
        add(300..500);
        add(600..850);
        assert!(found(450) >= 449, "what is replaced: {}", found(450));
    }
}
