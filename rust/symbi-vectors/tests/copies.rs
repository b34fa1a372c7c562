//! Copies of one vector in an index: they are found, and so is everything else.
#![allow(clippy::unwrap_used, reason = "a test stops where what it needs is missing")]

use symbi_vectors::{Index, Metric, Mode, Options, Quantization};

const DIMENSION: usize = 48;
const OTHERS: usize = 1500;

fn mix(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Twelve directions and a little noise, as embeddings are.
fn vector(salt: u64) -> Vec<f32> {
    let uniform = |seed: u64| (mix(seed) % 20_001) as f32 / 10_000.0 - 1.0;
    let latent: Vec<f32> = (0..12).map(|at| uniform(salt << 8 ^ at)).collect();
    (0..DIMENSION as u64)
        .map(|row| {
            let along: f32 =
                latent.iter().zip(0..).map(|(value, at)| value * uniform(row * 64 + at ^ 1 << 60)).sum();
            along + 0.05 * uniform(salt << 20 ^ row ^ 1 << 61)
        })
        .collect()
}

/// `copies` of `copied` among the others: before them, after them, or between.
fn index(metric: Metric, quantization: Quantization, copied: &[f32], copies: usize, before: usize) -> Index {
    let options = Options { dimension: DIMENSION, metric, m: 16, ef_construct: 200, quantization, seed: 3 };
    let index = Index::new(options).unwrap();
    let mut rows: Vec<(u64, Vec<f32>)> = (0..OTHERS as u64).map(|id| (id, vector(id))).collect();
    rows.splice(before..before, (0..copies as u64).map(|copy| (1_000_000 + copy, copied.to_vec())));
    let ids: Vec<u64> = rows.iter().map(|(id, _)| *id).collect();
    let vectors: Vec<f32> = rows.into_iter().flat_map(|(_, row)| row).collect();
    index.add(&ids, &vectors, Mode::Insert, 1, &mut |_, _| true).unwrap();
    index
}

fn search(index: &Index, query: &[f32], k: usize, ef: usize) -> Vec<u64> {
    let (mut ids, mut distances) = (vec![0; k], vec![0.0; k]);
    let width = index.search(query, k, Some(ef), None, 1, &mut ids, &mut distances).unwrap();
    ids.truncate(width);
    ids
}

/// PR2: what is no copy is found by itself, and so are the copies, however many there are and whenever they came.
#[test]
fn pr2_copies_of_a_vector_hide_nothing() {
    let plain = vector(77);
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
                let found = search(&index, &vector(id), 20, 128);
                metric != Metric::Dot && !found.contains(&id)
            })
            .count();
        assert!(missed <= OTHERS / 5 / 50, "{missed} of {} missed: {named}", OTHERS / 5);
        if metric != Metric::Dot {
            let found = search(&index, copied, 40, 128);
            assert!(found.iter().all(|&id| id >= 1_000_000 || id == 77), "{named}: {found:?}");
            let all = search(&index, copied, copies.min(200), 256);
            let copied = all.iter().filter(|&&id| id >= 1_000_000).count();
            assert!(copied + 1 >= copies.min(200), "{copied} copies found: {named}");
        }
    }
}
