//! A byte a component, offset by 128, under one scale a vector.

/// The largest magnitude of a code or of a query's component.
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
pub(super) fn prepare(rotated: &[f32], padded: usize, bytes: &mut Vec<i8>) -> (f32, f32) {
    let (step, sum) = signed(rotated, padded, bytes);
    (step, -step * OFFSET * sum)
}

/// A query as signed bytes: the step between two levels, and the sum of all.
pub(super) fn signed(rotated: &[f32], padded: usize, bytes: &mut Vec<i8>) -> (f32, f32) {
    let step = largest(rotated) / LEVEL_MAX;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    bytes.clear();
    bytes.extend(rotated.iter().map(|value| {
        // Rounds as adding and taking away a large number does, in a loop that vectorises.
        let level = (value * inverse + 12_582_912.0) - 12_582_912.0;
        level as i32 as i8
    }));
    let sum: i32 = bytes.iter().map(|&byte| i32::from(byte)).sum();
    bytes.resize(padded, 0);
    (step, sum as f32)
}
