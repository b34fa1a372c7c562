//! Every set of kernels against the portable one.

use super::{Affine, FACTORS_BYTES, View, available, portable};

fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) ^ (state >> 12)
    }
}

fn floats(count: usize, seed: u64) -> Vec<f32> {
    let mut next = noise(seed);
    (0..count).map(|_| (next() % 20_001) as f32 / 10_000.0 - 1.0).collect()
}

/// Rows of codes and their factors.
fn rows_of(count: usize, stride: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut next = noise(seed);
    let codes = (0..count * stride).map(|_| next() as u8).collect();
    let factors = (0..count).flat_map(|row| [0.01 + row as f32, 1.25]).flat_map(f32::to_le_bytes).collect();
    (codes, factors)
}

/// The first four rows as a file's, the others as in memory.
fn seen<'a>((codes, factors): &'a (Vec<u8>, Vec<u8>), stride: usize) -> View<'a> {
    let (base, tail) = factors.split_at(4 * FACTORS_BYTES);
    View::new(&codes[..4 * stride], 4, &codes[4 * stride..], stride).with_factors([base, tail])
}

const AFFINE: Affine = Affine { c0: 1.0, cn: 0.5, w1: 0.25, w0: -3.0 };
const SLOTS: [u32; 9] = [0, 8, 3, 3, 1, 7, 2, 6, 5];

/// KN1: sums of integers are the same bits, so the distances are.
#[test]
fn kn1_codes_give_the_same_bits_everywhere() {
    for kernels in available() {
        for blocks in [1, 2, 3, 6, 8, 12, 13, 512] {
            let rows = rows_of(9, 128 * blocks, 1);
            let view = seen(&rows, 128 * blocks);
            let query: Vec<i8> = rows.0.iter().rev().take(128 * blocks).map(|&byte| byte as i8).collect();
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            (kernels.int8_many)(&query, &view, &SLOTS, &AFFINE, &mut ours);
            (portable::KERNELS.int8_many)(&query, &view, &SLOTS, &AFFINE, &mut theirs);
            assert_eq!(ours, theirs, "{} int8 {blocks}", kernels.name);

            let rows = rows_of(9, 64 * blocks, 2);
            let view = seen(&rows, 64 * blocks);
            (kernels.int4_many)(&query, &view, &SLOTS, &AFFINE, &mut ours);
            (portable::KERNELS.int4_many)(&query, &view, &SLOTS, &AFFINE, &mut theirs);
            assert_eq!(ours, theirs, "{} int4 {blocks}", kernels.name);
            for (a, b) in [(0, 1), (2, 2), (7, 5)] {
                let (a, b) = (view.row(a), view.row(b));
                assert_eq!(
                    (kernels.int4_pair)(a, b),
                    (portable::KERNELS.int4_pair)(a, b),
                    "{}",
                    kernels.name
                );
                assert_eq!(
                    (kernels.int8_pair)(a, b),
                    (portable::KERNELS.int8_pair)(a, b),
                    "{}",
                    kernels.name
                );
            }
        }
        for words in 1..40 {
            let rows = rows_of(9, 8 * words, 3);
            let view = seen(&rows, 8 * words);
            let mut next = noise(4);
            let query: Vec<u64> = (0..4 * words).map(|_| next() << 32 ^ next()).collect();
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            (kernels.bits_many)(&query, &view, &SLOTS, &AFFINE, &mut ours);
            (portable::KERNELS.bits_many)(&query, &view, &SLOTS, &AFFINE, &mut theirs);
            assert_eq!(ours, theirs, "{} bits {words}", kernels.name);
        }
    }
}

/// KN1: a query becomes the same integers, by the same sums of floats.
#[test]
fn kn1_queries_become_the_same_integers_everywhere() {
    for kernels in available() {
        for length in [1, 3, 15, 16, 17, 63, 64, 65, 100, 384, 1000, 1536] {
            let mut values = floats(length, 11);
            values[length / 2] = -1.75;
            let plain = portable::KERNELS;
            assert_eq!((kernels.energy)(&values).to_bits(), (plain.energy)(&values).to_bits());
            let (mut ours, mut theirs) = (vec![5_i8; length + 9], vec![5_i8; length + 9]);
            let made = (kernels.bytes)(&values, &mut ours);
            assert_eq!(made, (plain.bytes)(&values, &mut theirs), "{} bytes {length}", kernels.name);
            assert_eq!(ours, theirs, "{} bytes {length}", kernels.name);
            assert_eq!(
                (made.1, ours[length / 2]),
                (theirs[..length].iter().map(|&byte| i32::from(byte)).sum(), -127)
            );
            assert_eq!(ours[length..], [5; 9], "what is behind the query is left alone");
            let words = length.div_ceil(64);
            let (mut ours, mut theirs) = (vec![7_u64; 4 * words], vec![9_u64; 4 * words]);
            for inverse in [0.0, 3.0, 40.0] {
                let sum = (kernels.planes)(&values, inverse, &mut ours);
                assert_eq!(sum, (plain.planes)(&values, inverse, &mut theirs), "{}", kernels.name);
                assert_eq!(ours, theirs, "{} planes {length}", kernels.name);
                let level = |at: usize| (values[at] * inverse).clamp(-8.0, 7.0).round_ties_even() as i32;
                assert_eq!(sum, (0..length).map(level).sum());
            }
        }
    }
}

/// KN1: the extremes do not overflow, at the largest dimension.
#[test]
fn kn1_the_largest_values_do_not_overflow() {
    for kernels in available() {
        for (code, sign) in [(255_u8, 1_i64), (255, -1), (0, 1)] {
            let row = vec![code; 65_536];
            let factors = [1.0_f32, 0.0].map(f32::to_le_bytes).concat();
            let view = View::new(&[], 0, &row, row.len()).with_factors([&[], &factors]);
            let query = vec![(127 * sign) as i8; 65_536];
            let mut out = Vec::new();
            let plain = Affine { w1: 1.0, ..Affine::default() };
            (kernels.int8_many)(&query, &view, &[0], &plain, &mut out);
            assert_eq!(out[0], (65_536 * i64::from(code) * 127 * sign) as f32, "{}", kernels.name);
            let expected = 65_536 * (i64::from(code) - 128).pow(2);
            assert_eq!(i64::from((kernels.int8_pair)(&row, &row)), expected, "{}", kernels.name);
        }
    }
}

/// KN2: floats are summed in another order, within the bound.
#[test]
fn kn2_floats_are_within_the_bound() {
    for kernels in available() {
        for length in [1, 7, 15, 16, 17, 31, 64, 100, 384, 1536, 4099] {
            let (a, b) = (floats(length, 5), floats(length, 6));
            let products: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a * b).abs()).sum();
            let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let dot = f64::from((kernels.dot)(&a, &b));
            assert!((dot - exact).abs() <= 1e-5 * products, "{} dot {length}", kernels.name);
            assert_eq!((kernels.dot_ahead)(&a, &b, &a), (kernels.dot)(&a, &b), "{}", kernels.name);
            let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
            let squared = f64::from((kernels.squared)(&a, &b));
            assert!((squared - exact).abs() <= 1e-5 * exact, "{} squared {length}", kernels.name);

            let bytes: Vec<u8> =
                [&a, &b].into_iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
            let view = View::new(&[], 0, &bytes, 4 * length);
            let mut out = Vec::new();
            let affine = Affine { c0: 1.0, w1: -1.0, ..Affine::default() };
            (kernels.dot_many)(&a, &view, &[1, 0], &affine, &mut out);
            assert_eq!(out[0], 1.0 - (kernels.dot)(&a, &b), "{}", kernels.name);
            (kernels.squared_many)(&a, &view, &[1, 0], &affine, &mut out);
            assert_eq!(out, [(kernels.squared)(&a, &b), 0.0], "{}", kernels.name);
            let (fit, plain) = ((kernels.int4_fit)(&a, 6.0), (portable::KERNELS.int4_fit)(&a, 6.0));
            assert!((fit.0 - plain.0).abs() <= 1e-4 * plain.0.abs().max(1.0), "{}", kernels.name);
            assert!((fit.1 - plain.1).abs() <= 1e-4 * plain.1.abs().max(1.0), "{}", kernels.name);
        }
        for length in [1, 2, 4, 8, 32, 1024, 2048] {
            let mut values = floats(length, 7);
            let mut plain = values.clone();
            let factors = floats(length, 8);
            (kernels.hadamard)(&mut values, &factors);
            (portable::KERNELS.hadamard)(&mut plain, &factors);
            assert_eq!(values, plain, "{} hadamard {length}", kernels.name);
        }
    }
}

/// KN3: a row that is not there is not read.
#[test]
#[should_panic(expected = "out of range")]
fn kn3_no_row_outside() {
    let rows = vec![0_u8; 3 * 64];
    let mut out = Vec::new();
    let affine = Affine::default();
    (super::best().int8_many)(&[0; 64], &View::new(&[], 0, &rows, 64), &[3], &affine, &mut out);
}
