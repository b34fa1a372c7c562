//! Codes against exact distances.

use super::*;
use crate::kernels::{available, best};
use crate::memory::as_bytes;
use crate::seeds::mix;

fn options(dimension: usize, metric: Metric, quantization: Quantization) -> Options {
    Options { dimension, metric, m: 16, ef_construct: 200, quantization, seed: 5 }
}

fn vector(dimension: usize, salt: u64, metric: Metric) -> Vec<f32> {
    let mut values: Vec<f32> =
        (0..dimension).map(|at| (mix(salt << 20 ^ at as u64) % 2001) as f32 / 1000.0 - 1.0).collect();
    if metric == Metric::Cosine {
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter_mut().for_each(|value| *value /= norm);
    }
    values
}

fn asked(values: &[f32]) -> Query {
    let mut query = Query::default();
    query.exact.fill(values.iter().copied());
    query
}

fn table_of(codec: &Codec, vectors: impl IntoIterator<Item = Vec<f32>>) -> Table {
    let (mut table, mut row) = (Table::new(codec), vec![0; codec.row_bytes()]);
    for (slot, vector) in vectors.into_iter().enumerate() {
        table.grow(slot + 1).unwrap();
        codec.encode(&vector, &mut Aligned::default(), &mut row);
        table.put(slot as u32, &row);
    }
    table
}

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::Dot];
const CODES: [(Quantization, f32); 3] =
    [(Quantization::Int8, 0.02), (Quantization::Int4, 0.16), (Quantization::Binary, 1.2)];

/// CO1, CO2: estimates are near the exact distance, within what the bits allow, and the same for all kernels.
#[test]
fn co1_co2_estimates_are_near() {
    for dimension in [64, 65, 200, 384, 1000, 1536] {
        for metric in METRICS {
            for (code, bound) in CODES {
                let centre = match (code, dimension) {
                    (Quantization::Binary, 200 | 1536) => {
                        vector(dimension, 77, Metric::Cosine).iter().map(|value| 0.3 * value).collect()
                    }
                    _ => Vec::new(),
                };
                let codec = Codec::centred(&options(dimension, metric, code), best(), centre.clone());
                let table = table_of(&codec, (0..32).map(|salt| vector(dimension, salt, metric)));
                let view = table.view();
                let mut query = asked(&vector(dimension, 99, metric));
                codec.prepare(&mut query);
                let slots: Vec<u32> = (0..32).collect();
                let (mut out, mut again) = (Vec::new(), Vec::new());
                codec.estimate(&query, &view, &slots, &mut out);
                let size = query.exact.iter().map(|value| value * value).sum::<f32>();
                let noise = size * if metric == Metric::L2 { 2.0 } else { 1.0 } / (dimension as f32).sqrt();
                for (salt, estimate) in out.iter().enumerate() {
                    let exact = codec.exact(&query.exact, &vector(dimension, salt as u64, metric));
                    // Four standard deviations of the code's error.
                    assert!(
                        (estimate - exact).abs() < 4.0 * bound * noise,
                        "{code:?} {metric:?} {dimension}: {estimate} {exact}"
                    );
                }
                for kernels in available() {
                    let other = Codec {
                        kernels: Box::leak(Box::new(kernels)),
                        ..Codec::centred(&options(dimension, metric, code), best(), centre.clone())
                    };
                    other.estimate(&query, &view, &slots, &mut again);
                    assert_eq!(out, again, "{}", kernels.name);
                }
                if code != Quantization::Binary {
                    let pair = codec.between(&view, 3, 9);
                    let exact = codec.exact(&vector(dimension, 3, metric), &vector(dimension, 9, metric));
                    assert!((pair - exact).abs() < 6.0 * bound * noise, "{code:?} {metric:?} {dimension}");
                }
            }
        }
    }
}

/// CO2: a vector is at its own code, whatever its size; the zero vector has a code that is finite.
#[test]
fn co2_a_vector_is_where_its_code_is() {
    for (code, _) in CODES {
        let codec = Codec::new(&options(384, Metric::L2, code), best());
        for size in [1e-6_f32, 1.0, 1e6] {
            let values: Vec<f32> = vector(384, 4, Metric::L2).iter().map(|value| value * size).collect();
            let table = table_of(&codec, [values.clone()]);
            let mut query = asked(&values);
            codec.prepare(&mut query);
            let mut out = Vec::new();
            codec.estimate(&query, &table.view(), &[0], &mut out);
            let norm = values.iter().map(|value| value * value).sum::<f32>();
            assert!(out[0].abs() < 0.06 * norm, "{code:?} {size}: {} of {norm}", out[0]);
        }
        let table = table_of(&codec, [vec![0.0; 384]]);
        let mut query = asked(&[0.0; 384]);
        codec.prepare(&mut query);
        let mut out = Vec::new();
        codec.estimate(&query, &table.view(), &[0], &mut out);
        assert_eq!(out, [0.0]);
    }
}

/// `none` walks on the vectors themselves.
#[test]
fn without_a_code_the_estimate_is_exact() {
    for metric in METRICS {
        let codec = Codec::new(&options(33, metric, Quantization::None), best());
        let (a, b) = (vector(33, 1, metric), vector(33, 2, metric));
        let mut query = asked(&a);
        codec.prepare(&mut query);
        let mut out = Vec::new();
        codec.estimate(&query, &View::new(&[], 0, as_bytes(&b), 132), &[0], &mut out);
        assert_eq!(out, [codec.exact(&a, &b)]);
    }
}
