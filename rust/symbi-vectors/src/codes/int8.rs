//! A byte a component, offset by 128, under one scale a vector.

use crate::kernels::Kernels;

/// The largest magnitude of a code's component.
const LEVEL_MAX: f32 = 127.0;
const OFFSET: f32 = 128.0;

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()))
}

/// Fills `code`; returns the product of the vector with its code's integers.
pub(super) fn encode(rotated: &[f32], code: &mut [u8]) -> f32 {
    let largest = largest(rotated);
    let inverse = if largest > 0.0 { LEVEL_MAX / largest } else { 0.0 };
    code.fill(OFFSET as u8);
    let mut product = 0.0;
    for (&value, place) in rotated.iter().zip(code) {
        let level = (value * inverse).round();
        product += value * level;
        *place = (level + OFFSET) as u8;
    }
    product
}

/// The query as signed bytes, padded with zeros to `padded`; returns factor and offset of the integer sum.
pub(super) fn prepare(kernels: &Kernels, rotated: &[f32], padded: usize, bytes: &mut Vec<i8>) -> (f32, f32) {
    let (step, sum) = signed(kernels, rotated, padded, bytes);
    (step, -step * OFFSET * sum)
}

/// A query as signed bytes: the step between two levels, and the sum of all.
pub(super) fn signed(kernels: &Kernels, rotated: &[f32], padded: usize, bytes: &mut Vec<i8>) -> (f32, f32) {
    bytes.clear();
    bytes.resize(padded, 0);
    let (step, sum) = (kernels.bytes)(rotated, bytes);
    (step, sum as f32)
}
