//! Points, an index over them, and what a plain list would answer.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test takes what it needs, and stops where that is missing"
)]

use std::collections::BTreeMap;

use symbi_vectors::{Filter, Index, Metric, Mode, Options, Quantization, VectorError};

pub const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::Dot];
pub const CODES: [Quantization; 4] =
    [Quantization::None, Quantization::Int8, Quantization::Int4, Quantization::Binary];

pub fn options(dimension: usize, metric: Metric, quantization: Quantization) -> Options {
    Options { dimension, metric, m: 16, ef_construct: 100, quantization, seed: 3 }
}

pub fn mix(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Points near a surface of few dimensions, as embeddings are: uniform noise would make all indexes look alike.
pub fn vector(dimension: usize, salt: u64) -> Vec<f32> {
    const LATENT: usize = 10;
    let uniform = |seed: u64| (mix(seed) % 20_001) as f32 / 10_000.0 - 1.0;
    let latent: Vec<f32> = (0..LATENT as u64).map(|at| uniform(salt << 8 ^ at)).collect();
    (0..dimension)
        .map(|row| {
            let sum: f32 = latent
                .iter()
                .enumerate()
                .map(|(at, value)| value * uniform((row * 64 + at) as u64 ^ 1 << 60))
                .sum();
            sum + 0.05 * uniform(salt << 20 ^ row as u64 ^ 1 << 61)
        })
        .collect()
}

pub fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    match metric {
        Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Metric::Dot => -dot(a, b),
        Metric::L2 => a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum(),
    }
}

/// What a list would answer.
pub fn nearest(metric: Metric, model: &BTreeMap<u64, Vec<f32>>, query: &[f32], k: usize) -> Vec<u64> {
    let mut all: Vec<(f32, u64)> =
        model.iter().map(|(&id, vector)| (distance(metric, vector, query), id)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.truncate(k);
    all.into_iter().map(|(_, id)| id).collect()
}

pub fn add(
    index: &Index,
    ids: &[u64],
    vectors: &[Vec<f32>],
    mode: Mode,
    threads: usize,
) -> Result<usize, VectorError> {
    index.add(ids, &vectors.concat(), mode, threads, &mut |_, _| true)
}

pub fn search(index: &Index, query: &[f32], k: usize, ef: usize, filter: Option<&Filter>) -> Vec<(u64, f32)> {
    let (mut ids, mut distances) = (vec![0; k], vec![0.0; k]);
    let width = index.search(query, k, Some(ef), filter, 1, &mut ids, &mut distances).unwrap();
    ids.into_iter().zip(distances).take(width).collect()
}
