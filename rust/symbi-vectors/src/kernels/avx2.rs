//! Kernels for AVX2 with FMA and POPCNT (Haswell, Zen and later).
//!
//! Not here: AVX-VNNI; the processors that have it and lack AVX-512 are laptops.
#![expect(unsafe_code, reason = "loads through pointers, and calls that need what `supported` has found")]
#![expect(clippy::indexing_slicing, reason = "every index is below a length that was asserted")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castsi256_ps,
    _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_movemask_ps, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_srai_epi32, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps, _mm256_xor_si256,
};

use super::rows::{as_bytes, each_row, each_vector, fetch_line_many, trailer};
use super::{Affine, Kernels, View, portable};

/// The caller of anything here has asked this first.
pub(super) fn supported() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("popcnt")
}

pub(super) const KERNELS: Kernels = table!("avx2");

widened!("avx2,fma");

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8], at: usize) -> __m256i {
    debug_assert!(at + 32 <= bytes.len(), "KN3");
    // SAFETY: the callers assert the length of the whole row or query before their loop; unaligned is allowed.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().add(at).cast()) }
}

/// Sixteen bytes as sixteen signed or unsigned shorts.
#[inline]
#[target_feature(enable = "avx2")]
fn widen<const SIGNED: bool>(bytes: &[u8], at: usize) -> __m256i {
    debug_assert!(at + 16 <= bytes.len(), "KN3");
    // SAFETY: as in `load`.
    let half = unsafe { _mm_loadu_si128(bytes.as_ptr().add(at).cast()) };
    if SIGNED { _mm256_cvtepi8_epi16(half) } else { _mm256_cvtepu8_epi16(half) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_ints(sums: __m256i) -> i32 {
    let mut lanes = [0_i32; 8];
    // SAFETY: the array is as long as the register.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sums) };
    lanes.iter().sum()
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_floats(sums: __m256) -> f32 {
    let mut lanes = [0_f32; 8];
    // SAFETY: the array is as long as the register.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums) };
    lanes.iter().sum()
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn dot(left: &[f32], right: &[f32]) -> f32 {
    dot_ahead(left, right, &[])
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn dot_ahead(left: &[f32], right: &[f32], next: &[f32]) -> f32 {
    assert!(left.len() == right.len(), "KN3");
    let mut sums = [_mm256_setzero_ps(); 4];
    let whole = left.len() / 32 * 32;
    let ahead = !next.is_empty();
    for start in (0..whole).step_by(32) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let at = start + 8 * lane;
            if ahead && lane % 2 == 0 {
                fetch_line_many(next.as_ptr().wrapping_add(at));
            }
            // SAFETY: at + 8 ≤ whole ≤ the length of both.
            let (a, b) =
                unsafe { (_mm256_loadu_ps(left.as_ptr().add(at)), _mm256_loadu_ps(right.as_ptr().add(at))) };
            *sum = _mm256_fmadd_ps(a, b, *sum);
        }
    }
    let all = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    sum_floats(all) + portable::dot(&left[whole..], &right[whole..])
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn squared(left: &[f32], right: &[f32]) -> f32 {
    assert!(left.len() == right.len(), "KN3");
    let mut sum = _mm256_setzero_ps();
    let whole = left.len() / 8 * 8;
    for at in (0..whole).step_by(8) {
        // SAFETY: at + 8 ≤ whole ≤ the length of both.
        let difference = unsafe {
            _mm256_sub_ps(_mm256_loadu_ps(left.as_ptr().add(at)), _mm256_loadu_ps(right.as_ptr().add(at)))
        };
        sum = _mm256_fmadd_ps(difference, difference, sum);
    }
    sum_floats(sum) + portable::squared(&left[whole..], &right[whole..])
}

#[target_feature(enable = "avx2")]
fn int8_many(query: &[i8], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let query = as_bytes(query);
    assert!(query.len().is_multiple_of(64), "KN3");
    each_row(rows, slots, out, |row| {
        let (scale, squared_norm) = trailer(row, query.len());
        let mut sum = _mm256_setzero_si256();
        // Widened to shorts: 255 × 127 twice would overflow the saturating byte product.
        for at in (0..query.len()).step_by(16) {
            let product = _mm256_madd_epi16(widen::<false>(row, at), widen::<true>(query, at));
            sum = _mm256_add_epi32(sum, product);
        }
        affine.distance(sum_ints(sum), scale, squared_norm)
    });
}

#[target_feature(enable = "avx2")]
fn int4_many(query: &[i8], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let query = as_bytes(query);
    assert!(query.len().is_multiple_of(128), "KN3");
    let bytes = query.len() / 2;
    let (nibble, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    each_row(rows, slots, out, |row| {
        let (scale, squared_norm) = trailer(row, bytes);
        let mut sum = _mm256_setzero_si256();
        for block in 0..bytes / 64 {
            for part in [0, 32] {
                let code = load(row, 64 * block + part);
                let low = _mm256_and_si256(code, nibble);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(code), nibble);
                // At most 15 × 128 × 2, far below what a short holds.
                let low = _mm256_maddubs_epi16(low, load(query, 128 * block + part));
                let high = _mm256_maddubs_epi16(high, load(query, 128 * block + 64 + part));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, ones));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(high, ones));
            }
        }
        affine.distance(sum_ints(sum), scale, squared_norm)
    });
}

#[target_feature(enable = "avx2,popcnt")]
fn bits_many(query: &[u64], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    portable::bits_body(query, rows, slots, affine, out);
}

#[target_feature(enable = "avx2")]
fn int8_pair(left: &[u8], right: &[u8]) -> i32 {
    assert!(left.len() == right.len() && left.len().is_multiple_of(64), "KN3");
    let sign = _mm256_set1_epi8(-128);
    let mut sum = _mm256_setzero_si256();
    for at in (0..left.len()).step_by(32) {
        let mut signed = [0_u8; 64];
        let (a, b) = (_mm256_xor_si256(load(left, at), sign), _mm256_xor_si256(load(right, at), sign));
        // SAFETY: the array holds both registers.
        unsafe {
            _mm256_storeu_si256(signed.as_mut_ptr().cast(), a);
            _mm256_storeu_si256(signed.as_mut_ptr().add(32).cast(), b);
        }
        for half in [0, 16] {
            let product = _mm256_madd_epi16(widen::<true>(&signed, half), widen::<true>(&signed, 32 + half));
            sum = _mm256_add_epi32(sum, product);
        }
    }
    sum_ints(sum)
}

#[target_feature(enable = "avx2")]
fn int4_pair(left: &[u8], right: &[u8]) -> (i32, i32, i32) {
    assert!(left.len() == right.len() && left.len().is_multiple_of(64), "KN3");
    let (nibble, bytes, shorts) = (_mm256_set1_epi8(15), _mm256_set1_epi8(1), _mm256_set1_epi16(1));
    let zero = _mm256_setzero_si256();
    let (mut products, mut lefts, mut rights) = (zero, zero, zero);
    for at in (0..left.len()).step_by(32) {
        let (a, b) = (load(left, at), load(right, at));
        let (a0, b0) = (_mm256_and_si256(a, nibble), _mm256_and_si256(b, nibble));
        let a1 = _mm256_and_si256(_mm256_srli_epi16::<4>(a), nibble);
        let b1 = _mm256_and_si256(_mm256_srli_epi16::<4>(b), nibble);
        for (a, b) in [(a0, b0), (a1, b1)] {
            let product = _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), shorts);
            products = _mm256_add_epi32(products, product);
            lefts = _mm256_add_epi32(lefts, _mm256_madd_epi16(_mm256_maddubs_epi16(a, bytes), shorts));
            rights = _mm256_add_epi32(rights, _mm256_madd_epi16(_mm256_maddubs_epi16(b, bytes), shorts));
        }
    }
    (sum_ints(products), sum_ints(lefts), sum_ints(rights))
}

#[target_feature(enable = "avx2")]
fn hadamard(values: &mut [f32], factor: f32) {
    portable::hadamard_body(values, factor);
}

#[target_feature(enable = "avx2")]
fn bytes(values: &[f32], out: &mut [i8]) -> (f32, i32) {
    portable::bytes_body(values, out)
}

#[target_feature(enable = "avx2")]
fn planes(values: &[f32], inverse: f32, out: &mut [u64]) -> i32 {
    let words = out.len() / 4;
    assert!(values.len() <= 64 * words, "KN3");
    out.fill(0);
    let mut sums = _mm256_setzero_si256();
    for (at, components) in values.chunks(8).enumerate() {
        let mut levels = [portable::plane_level(0.0, 0.0); 8];
        for (level, &value) in levels.iter_mut().zip(components) {
            *level = portable::plane_level(value, inverse);
        }
        // SAFETY: an array of eight words is what a register holds.
        let levels = unsafe { _mm256_loadu_si256(levels.as_ptr().cast()) };
        sums = _mm256_add_epi32(sums, _mm256_srai_epi32::<28>(_mm256_slli_epi32::<28>(levels)));
        let shifted = [
            _mm256_slli_epi32::<31>(levels),
            _mm256_slli_epi32::<30>(levels),
            _mm256_slli_epi32::<29>(levels),
            _mm256_slli_epi32::<28>(levels),
        ];
        for (plane, signs) in shifted.into_iter().enumerate() {
            let set = _mm256_movemask_ps(_mm256_castsi256_ps(signs)) as u64;
            out[plane * words + at / 8] |= set << (8 * (at % 8));
        }
    }
    sum_ints(sums)
}
