//! Kernels in plain Rust: what the others are measured against, and what runs where nothing better does.
//!
//! Not here: tuning for one processor. The loops are written so that a compiler can vectorise them for the
//! baseline of its target (SSE2, NEON).
#![expect(clippy::indexing_slicing, reason = "every index is below a length that the loop has taken")]

use super::rows::{each_row, each_vector, fetch_vector};
use super::{Affine, Kernels, View};

pub(super) const KERNELS: Kernels = Kernels {
    name: "portable",
    dot,
    dot_ahead,
    squared,
    dot_many,
    squared_many,
    int8_many,
    int4_many,
    bits_many,
    int8_pair,
    int4_pair,
    hadamard,
    int4_fit,
    energy,
    bytes,
    planes,
};

const LANES: usize = 8;

/// Eight sums side by side, so that the compiler may keep them in one register.
#[inline(always)]
fn reduce(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    assert!(left.len() == right.len(), "KN3");
    let mut sums = [0.0_f32; LANES];
    let whole = left.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            sums[lane] += term(left[start + lane], right[start + lane]);
        }
    }
    let rest: f32 = (whole..left.len()).map(|at| term(left[at], right[at])).sum();
    sums.iter().sum::<f32>() + rest
}

pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    reduce(left, right, |a, b| a * b)
}

fn dot_ahead(left: &[f32], right: &[f32], next: &[f32]) -> f32 {
    fetch_vector(next);
    dot(left, right)
}

pub(super) fn squared(left: &[f32], right: &[f32]) -> f32 {
    reduce(left, right, |a, b| (a - b) * (a - b))
}

fn dot_many(query: &[f32], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    each_vector(rows, slots, out, |row| affine.c0 + affine.w1 * dot(query, row));
}

fn squared_many(query: &[f32], rows: &View<'_>, slots: &[u32], _: &Affine, out: &mut Vec<f32>) {
    each_vector(rows, slots, out, |row| squared(query, row));
}

fn int8_many(query: &[i8], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == query.len(), "KN3");
        let sum = row.iter().zip(query).map(|(&code, &query)| i32::from(code) * i32::from(query)).sum();
        affine.distance(sum, scale, squared_norm)
    });
}

fn int4_many(query: &[i8], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let bytes = query.len() / 2;
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == bytes, "KN3");
        let mut sum = 0;
        for (code, query) in row.chunks_exact(64).zip(query.chunks_exact(128)) {
            for at in 0..64 {
                sum += i32::from(code[at] & 15) * i32::from(query[at]);
                sum += i32::from(code[at] >> 4) * i32::from(query[at + 64]);
            }
        }
        affine.distance(sum, scale, squared_norm)
    });
}

#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
    u64::from_le_bytes(word)
}

/// Shared with the kernels that have a scalar `popcnt` and nothing wider.
#[inline(always)]
pub(super) fn bits_body(query: &[u64], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let words = query.len() / 4;
    let (p0, rest) = query.split_at(words);
    let (p1, rest) = rest.split_at(words);
    let (p2, p3) = rest.split_at(words);
    assert!(p3.len() == words, "KN3");
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == 8 * words, "KN3");
        let mut counts = [0_i32; 4];
        for at in 0..words {
            let code = word(row, at);
            counts[0] += (code & p0[at]).count_ones() as i32;
            counts[1] += (code & p1[at]).count_ones() as i32;
            counts[2] += (code & p2[at]).count_ones() as i32;
            counts[3] += (code & p3[at]).count_ones() as i32;
        }
        let sum = counts[0] + 2 * counts[1] + 4 * counts[2] - 8 * counts[3];
        affine.distance(sum, scale, squared_norm)
    });
}

fn bits_many(query: &[u64], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    bits_body(query, rows, slots, affine, out);
}

fn int8_pair(left: &[u8], right: &[u8]) -> i32 {
    assert!(left.len() == right.len(), "KN3");
    left.iter().zip(right).map(|(&a, &b)| (i32::from(a) - 128) * (i32::from(b) - 128)).sum()
}

fn int4_pair(left: &[u8], right: &[u8]) -> (i32, i32, i32) {
    assert!(left.len() == right.len(), "KN3");
    let mut sums = (0, 0, 0);
    for (&a, &b) in left.iter().zip(right) {
        for (a, b) in [(a & 15, b & 15), (a >> 4, b >> 4)] {
            let (a, b) = (i32::from(a), i32::from(b));
            sums = (sums.0 + a * b, sums.1 + a, sums.2 + b);
        }
    }
    sums
}

/// Also compiled for wider registers by the other kernels.
#[inline(always)]
pub(super) fn hadamard_body(values: &mut [f32], factors: &[f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
    hadamard_from(values, 1);
}

/// The steps from `half` on, a power of two: values `half` apart are added and subtracted, then twice as far.
#[inline(always)]
pub(super) fn hadamard_from(values: &mut [f32], mut half: usize) {
    let length = values.len();
    // Two steps at a time: half as many passes over the values.
    while half * 4 <= length {
        for block in values.chunks_exact_mut(4 * half) {
            let (a, rest) = block.split_at_mut(half);
            let (b, rest) = rest.split_at_mut(half);
            let (c, d) = rest.split_at_mut(half);
            for at in 0..half {
                let (ab, ab_) = (a[at] + b[at], a[at] - b[at]);
                let (cd, cd_) = (c[at] + d[at], c[at] - d[at]);
                (a[at], b[at]) = (ab + cd, ab_ + cd_);
                (c[at], d[at]) = (ab - cd, ab_ - cd_);
            }
        }
        half *= 4;
    }
    if half * 2 <= length {
        let (a, b) = values.split_at_mut(half);
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

fn hadamard(values: &mut [f32], factors: &[f32]) {
    assert!(values.len() == factors.len(), "KN3");
    hadamard_body(values, factors);
}

/// Adding and taking away 1.5 × 2^23 rounds a small float to an integer, and vectorises everywhere.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// The half byte for a component: clamp(round(x * inverse + 7.5), 0, 15), as a float.
#[inline(always)]
pub(crate) fn int4_level(value: f32, inverse: f32) -> f32 {
    let level = value * inverse + 7.5;
    let level = if level > 15.0 { 15.0 } else { level };
    let level = if level < 0.0 { 0.0 } else { level };
    (level + ROUNDER) - ROUNDER
}

#[inline(always)]
pub(super) fn int4_fit_body(values: &[f32], inverse: f32) -> (f32, f32) {
    let mut products = [0.0_f32; 16];
    let mut squares = [0.0_f32; 16];
    let chunks = values.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..16 {
            let level = int4_level(chunk[lane], inverse) - 7.5;
            products[lane] += chunk[lane] * level;
            squares[lane] += level * level;
        }
    }
    for (lane, &value) in rest.iter().enumerate() {
        let level = int4_level(value, inverse) - 7.5;
        products[lane] += value * level;
        squares[lane] += level * level;
    }
    (products.iter().sum(), squares.iter().sum())
}

fn int4_fit(values: &[f32], inverse: f32) -> (f32, f32) {
    int4_fit_body(values, inverse)
}

/// Sixteen sums side by side and then in order: the same bits whatever the width of the registers.
#[inline(always)]
pub(super) fn energy_body(values: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let chunks = values.chunks_exact(16);
    for (lane, value) in chunks.remainder().iter().enumerate() {
        sums[lane] = value * value;
    }
    for chunk in chunks {
        for lane in 0..16 {
            sums[lane] += chunk[lane] * chunk[lane];
        }
    }
    sums.iter().sum()
}

fn energy(values: &[f32]) -> f32 {
    energy_body(values)
}

#[inline(always)]
pub(super) fn bytes_body(values: &[f32], out: &mut [i8]) -> (f32, i32) {
    let mut largest = [0.0_f32; 16];
    for chunk in values.chunks(16) {
        for (kept, value) in largest.iter_mut().zip(chunk) {
            let size = value.abs();
            *kept = if size > *kept { size } else { *kept };
        }
    }
    let largest = largest.iter().fold(0.0, |largest: f32, &value| largest.max(value));
    let step = largest / 127.0;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let mut sum = 0;
    for (place, value) in out.iter_mut().zip(values) {
        let level = (value * inverse + ROUNDER).to_bits() as i8; // the integer stands in the lowest bits
        sum += i32::from(level);
        *place = level;
    }
    (step, sum)
}

fn bytes(values: &[f32], out: &mut [i8]) -> (f32, i32) {
    bytes_body(values, out)
}

/// The integer of a component for the planes, in the lowest bits: clamp(round(x * inverse), -8, 7).
#[inline(always)]
pub(super) fn plane_level(value: f32, inverse: f32) -> u32 {
    let level = value * inverse;
    let level = if level > 7.0 { 7.0 } else { level };
    let level = if level < -8.0 { -8.0 } else { level };
    (level + ROUNDER).to_bits()
}

pub(super) fn planes(values: &[f32], inverse: f32, out: &mut [u64]) -> i32 {
    let words = out.len() / 4;
    out.fill(0);
    let mut sum = 0;
    for (at, &value) in values.iter().enumerate() {
        let level = plane_level(value, inverse);
        sum += (level << 28) as i32 >> 28;
        for plane in 0..4 {
            out[plane * words + at / 64] |= u64::from(level >> plane & 1) << (at % 64);
        }
    }
    sum
}
