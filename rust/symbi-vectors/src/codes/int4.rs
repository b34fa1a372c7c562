//! Half a byte a component: sixteen levels, symmetric about zero, under one scale a vector.
//!
//! Byte `64 b + i` of a code holds component `128 b + i` in its low half and `128 b + 64 + i` in its high half, so that
//! one mask and one shift give 64 neighbouring components each.

use super::int8;
use crate::kernels::{Kernels, int4_level};

/// Half way between the levels 7 and 8: where zero is.
const CENTRE: f32 = 7.5;
/// Scales tried, as shares of the one at which the largest component is the last level.
const TRIALS: [f32; 12] = [0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.86, 0.93, 1.0];

/// Fills `code` at the scale of the smallest angle; returns the product of the vector with its code's levels.
pub(super) fn encode(kernels: &Kernels, rotated: &[f32], code: &mut [u8]) -> f32 {
    code.fill(0);
    let largest = rotated.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    if largest <= 0.0 {
        return 0.0;
    }
    let (mut best, mut closest, mut kept) = (CENTRE / largest, f32::MIN, 0.0);
    for share in TRIALS {
        let inverse = CENTRE / (largest * share);
        let (product, squares) = (kernels.int4_fit)(rotated, inverse);
        let cosine = product / squares.sqrt();
        if cosine > closest {
            (best, closest, kept) = (inverse, cosine, product);
        }
    }
    for (components, bytes) in rotated.chunks(128).zip(code.chunks_exact_mut(64)) {
        let (low, high) = components.split_at(components.len().min(64));
        for (byte, &value) in bytes.iter_mut().zip(low) {
            *byte = int4_level(value, best) as u8;
        }
        for (byte, &value) in bytes.iter_mut().zip(high) {
            *byte |= (int4_level(value, best) as u8) << 4;
        }
    }
    kept
}

/// The query as signed bytes, padded with zeros to `padded`; returns factor and offset of the integer sum.
pub(super) fn prepare(kernels: &Kernels, rotated: &[f32], padded: usize, bytes: &mut Vec<i8>) -> (f32, f32) {
    let (step, sum) = int8::signed(kernels, rotated, padded, bytes);
    (step, -step * CENTRE * sum)
}

/// The product of the levels of two codes, from the sums of their half bytes; what pads a code is zero there.
pub(super) fn product((products, left, right): (i32, i32, i32), dimension: usize) -> f32 {
    // (2a - 15)(2b - 15) / 4, in integers until the last step.
    let four = 4 * products - 30 * (left + right) + 225 * dimension as i32;
    four as f32 / 4.0
}
