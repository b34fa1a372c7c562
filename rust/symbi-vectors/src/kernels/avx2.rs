//! Kernels for AVX2 with FMA and POPCNT (Haswell, Zen and later).
//!
//! Not here: AVX-VNNI; the processors that have it and lack AVX-512 are laptops.
#![expect(unsafe_code, reason = "loads through pointers, and calls that need what `supported` has found")]
#![expect(clippy::indexing_slicing, reason = "every index is below a length that was asserted")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_epi32, _mm_add_ps, _mm_add_ss, _mm_cvtsi128_si32, _mm_cvtss_f32,
    _mm_loadu_si128, _mm_movehl_ps, _mm_shuffle_epi32, _mm_shuffle_ps, _mm_unpackhi_epi64, _mm256_add_epi8,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_add_epi64, _mm256_add_ps, _mm256_and_si256, _mm256_andnot_ps,
    _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
    _mm256_cvtepu8_epi16, _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_ps, _mm256_min_ps,
    _mm256_movemask_epi8, _mm256_mul_ps, _mm256_packus_epi16, _mm256_packus_epi32, _mm256_permute_ps,
    _mm256_permute2f128_ps, _mm256_permutevar8x32_epi32, _mm256_sad_epu8, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi8, _mm256_setr_epi32,
    _mm256_setr_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16,
    _mm256_slli_epi64, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi32,
    _mm256_sub_ps, _mm256_xor_si256,
};

use super::rows::{as_bytes, each_row, each_vector, fetch_line_many};
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

// Sums of lanes are shuffles: an iterator over an array would be a call, compiled without these features.

#[inline]
#[target_feature(enable = "avx2")]
fn sum_ints(sums: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b01>(two)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_floats(sums: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<0b01>(two, two)))
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
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == query.len(), "KN3");
        let mut sum = _mm256_setzero_si256();
        // Widened to shorts: 255 × 127 twice would overflow the saturating byte product.
        for at in (0..query.len()).step_by(16) {
            let product = _mm256_madd_epi16(widen::<false>(row, at), widen::<true>(query, at));
            sum = _mm256_add_epi32(sum, product);
        }
        affine.distance(sum_ints(sum), scale, squared_norm)
    });
}

/// Half bytes of 32 bytes of a code, low and high.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(code: __m256i) -> (__m256i, __m256i) {
    let nibble = _mm256_set1_epi8(15);
    (_mm256_and_si256(code, nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(code), nibble))
}

#[target_feature(enable = "avx2")]
fn int4_many(query: &[i8], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let query = as_bytes(query);
    assert!(query.len().is_multiple_of(128), "KN3");
    let bytes = query.len() / 2;
    let ones = _mm256_set1_epi16(1);
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == bytes, "KN3");
        let mut sum = _mm256_setzero_si256();
        let mut start = 0;
        while start < bytes {
            // A product of two pairs is at most 2 × 15 × 127, so a short holds the eight of two blocks.
            let mut shorts = _mm256_setzero_si256();
            let end = bytes.min(start + 128);
            for at in (start..end).step_by(64) {
                for part in [0, 32] {
                    let (low, high) = halves(load(row, at + part));
                    shorts = _mm256_add_epi16(shorts, _mm256_maddubs_epi16(low, load(query, 2 * at + part)));
                    let high = _mm256_maddubs_epi16(high, load(query, 2 * at + 64 + part));
                    shorts = _mm256_add_epi16(shorts, high);
                }
            }
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(shorts, ones));
            start = end;
        }
        affine.distance(sum_ints(sum), scale, squared_norm)
    });
}

#[target_feature(enable = "avx2,popcnt")]
fn bits_many(query: &[u64], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    match query.len() / 4 {
        // With the length known the loops are unrolled: 512, 768, 1024 and 1536 dimensions.
        8 => bits_blocks::<2>(query, rows, slots, affine, out),
        12 => bits_blocks::<3>(query, rows, slots, affine, out),
        16 => bits_blocks::<4>(query, rows, slots, affine, out),
        24 => bits_blocks::<6>(query, rows, slots, affine, out),
        _ => bits_any(query, rows, slots, affine, out),
    }
}

/// Blocks of 256 bits whose counts of the planes of weights 1, 2 and 4 a byte holds: 8 bits × 7 × 4 = 224.
const BLOCKS_A_BYTE: usize = 4;

/// As many bits are set in both `code` and each plane, weighed: half bytes are looked up in tables of sixteen (Muła,
/// Kurz & Lemire 2018), whose entries are the counts times the plane's weight.
#[target_feature(enable = "avx2,popcnt")]
fn bits_blocks<const BLOCKS: usize>(
    query: &[u64],
    rows: &View<'_>,
    slots: &[u32],
    affine: &Affine,
    out: &mut Vec<f32>,
) {
    let words = 4 * BLOCKS;
    assert!(query.len() == 4 * words, "KN3");
    let zero = _mm256_setzero_si256();
    let mut planes = [[(zero, zero); 4]; BLOCKS];
    for (block, held) in planes.iter_mut().enumerate() {
        for (plane, held) in held.iter_mut().enumerate() {
            *held = halves(load_words(query, plane * words + 4 * block));
        }
    }
    let ones = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let twos = _mm256_add_epi8(ones, ones);
    let tables = [ones, twos, _mm256_add_epi8(twos, twos), ones];
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == 8 * words, "KN3");
        let (mut weighed, mut signs) = (zero, zero);
        for first in (0..BLOCKS).step_by(BLOCKS_A_BYTE) {
            let mut bytes = zero;
            let end = BLOCKS.min(first + BLOCKS_A_BYTE);
            for (block, planes) in planes[first..end].iter().enumerate() {
                let (low, high) = halves(load(row, 32 * (first + block)));
                for (plane, &(plane_low, plane_high)) in planes.iter().enumerate() {
                    let counts = _mm256_add_epi8(
                        _mm256_shuffle_epi8(tables[plane], _mm256_and_si256(low, plane_low)),
                        _mm256_shuffle_epi8(tables[plane], _mm256_and_si256(high, plane_high)),
                    );
                    let sum = if plane == 3 { &mut signs } else { &mut bytes };
                    *sum = _mm256_add_epi8(*sum, counts);
                }
            }
            weighed = _mm256_add_epi64(weighed, _mm256_sad_epu8(bytes, zero));
        }
        let signs = _mm256_slli_epi64::<3>(_mm256_sad_epu8(signs, zero));
        affine.distance(sum_ints(_mm256_sub_epi32(weighed, signs)), scale, squared_norm)
    });
}

#[target_feature(enable = "avx2,popcnt")]
fn bits_any(query: &[u64], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let words = query.len() / 4;
    let (p0, rest) = query.split_at(words);
    let (p1, rest) = rest.split_at(words);
    let (p2, p3) = rest.split_at(words);
    assert!(p3.len() == words, "KN3");
    // Written here, not shared with the portable kernel: what is in a closure is compiled for the features of the
    // function around it, and without POPCNT a count is a dozen instructions.
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == 8 * words, "KN3");
        let mut counts = [0_u32; 4];
        for at in 0..words {
            let code = portable::word(row, at);
            for (count, plane) in counts.iter_mut().zip([p0, p1, p2, p3]) {
                *count += (code & plane[at]).count_ones();
            }
        }
        let sum = (counts[0] + 2 * counts[1] + 4 * counts[2]) as i32 - 8 * counts[3] as i32;
        affine.distance(sum, scale, squared_norm)
    });
}

/// Four words of a query's planes.
#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[u64], at: usize) -> __m256i {
    debug_assert!(at + 4 <= words.len(), "KN3");
    // SAFETY: the caller asserts the length of the whole query before its loop; unaligned is allowed.
    unsafe { _mm256_loadu_si256(words.as_ptr().add(at).cast()) }
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

/// Adds and subtracts neighbours: `swapped` holds each lane's partner, `signs` is 1 for the first of a pair, -1 for the
/// second. Multiplying by these is exact, so the sums are those of the portable kernel.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn butterfly(values: __m256, swapped: __m256, signs: __m256) -> __m256 {
    _mm256_fmadd_ps(values, signs, swapped)
}

#[target_feature(enable = "avx2,fma")]
fn hadamard(values: &mut [f32], factors: &[f32]) {
    assert!(values.len() == factors.len(), "KN3");
    if values.len() < 8 {
        return portable::hadamard_body(values, factors);
    }
    let by1 = _mm256_setr_ps(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0);
    let by2 = _mm256_setr_ps(1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0);
    let by4 = _mm256_setr_ps(1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0);
    for (eight, factors) in values.as_chunks_mut::<8>().0.iter_mut().zip(factors.as_chunks::<8>().0) {
        // SAFETY: an array of eight floats is what a register holds.
        let (held, factors) = unsafe { (_mm256_loadu_ps(eight.as_ptr()), _mm256_loadu_ps(factors.as_ptr())) };
        let mut held = _mm256_mul_ps(held, factors);
        held = butterfly(held, _mm256_permute_ps::<0b10_11_00_01>(held), by1);
        held = butterfly(held, _mm256_permute_ps::<0b01_00_11_10>(held), by2);
        held = butterfly(held, _mm256_permute2f128_ps::<1>(held, held), by4);
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), held) };
    }
    portable::hadamard_from(values, 8);
}

/// Thirty-two integers, in four registers, as bytes in their order: the lowest of each.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow(four: [__m256i; 4]) -> __m256i {
    // One by one: what `map` calls would be compiled without these features.
    let low = _mm256_set1_epi32(255);
    let first = _mm256_packus_epi32(_mm256_and_si256(four[0], low), _mm256_and_si256(four[1], low));
    let second = _mm256_packus_epi32(_mm256_and_si256(four[2], low), _mm256_and_si256(four[3], low));
    let bytes = _mm256_packus_epi16(first, second);
    // Packing works in each half of a register: quarters stand as 0, 2, 4, 6, 1, 3, 5, 7.
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// The eight floats of a part of thirty-two.
#[inline]
#[target_feature(enable = "avx2")]
fn part(values: &[f32; 32], part: usize) -> __m256 {
    debug_assert!(part < 4, "KN3");
    // SAFETY: eight floats from one of the places 0, 8, 16 and 24 of an array of thirty-two.
    unsafe { _mm256_loadu_ps(values.as_ptr().add(8 * part)) }
}

/// Calls `work` on every thirty-two of `values`, the last filled up with zeros.
#[inline(always)]
fn each_thirty_two(values: &[f32], mut work: impl FnMut(usize, &[f32; 32])) {
    let (whole, rest) = values.as_chunks::<32>();
    for (at, chunk) in whole.iter().enumerate() {
        work(at, chunk);
    }
    if !rest.is_empty() {
        let mut last = [0.0; 32];
        last[..rest.len()].copy_from_slice(rest);
        work(whole.len(), &last);
    }
}

#[target_feature(enable = "avx2")]
fn bytes(values: &[f32], out: &mut [i8]) -> (f32, i32) {
    assert!(values.len() <= out.len(), "KN3");
    let sign = _mm256_set1_ps(-0.0);
    let mut largest = [_mm256_setzero_ps(); 4];
    each_thirty_two(values, |_, chunk| {
        for (lane, kept) in largest.iter_mut().enumerate() {
            *kept = _mm256_max_ps(*kept, _mm256_andnot_ps(sign, part(chunk, lane)));
        }
    });
    let largest = _mm256_max_ps(_mm256_max_ps(largest[0], largest[1]), _mm256_max_ps(largest[2], largest[3]));
    let mut lanes = [0_f32; 8];
    // SAFETY: the array is as long as the register.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), largest) };
    let mut most = 0.0;
    for lane in lanes {
        most = if lane > most { lane } else { most };
    }
    let step = most / 127.0;
    let inverse = _mm256_set1_ps(if step > 0.0 { 1.0 / step } else { 0.0 });
    let rounder = _mm256_set1_ps(portable::ROUNDER);
    let (mut sums, zero) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    let offset = _mm256_set1_epi8(-128);
    let count = values.len();
    each_thirty_two(values, |at, chunk| {
        let mut levels = [zero; 4];
        for (lane, level) in levels.iter_mut().enumerate() {
            // Rounded after the product and after the sum, as the portable kernel does.
            let rounded = _mm256_add_ps(_mm256_mul_ps(part(chunk, lane), inverse), rounder);
            *level = _mm256_castps_si256(rounded);
        }
        let bytes = narrow(levels);
        // 128 more for each, as sums of bytes are of those without a sign.
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_xor_si256(bytes, offset), zero));
        let mut held = [0_i8; 32];
        // SAFETY: the array is as long as the register.
        unsafe { _mm256_storeu_si256(held.as_mut_ptr().cast(), bytes) };
        let end = count.min(32 * at + 32);
        out[32 * at..end].copy_from_slice(&held[..end - 32 * at]);
    });
    (step, sum_ints(sums) - 128 * count.next_multiple_of(32) as i32)
}

#[target_feature(enable = "avx2,popcnt")]
fn planes(values: &[f32], inverse: f32, out: &mut [u64]) -> i32 {
    let words = out.len() / 4;
    assert!(values.len() <= 64 * words, "KN3");
    out.fill(0);
    let (inverse, rounder) = (_mm256_set1_ps(inverse), _mm256_set1_ps(portable::ROUNDER));
    let (least, most) = (_mm256_set1_ps(-8.0), _mm256_set1_ps(7.0));
    let (zero, half) = (_mm256_setzero_si256(), _mm256_set1_epi8(15));
    let (mut sums, mut negative) = (zero, 0);
    each_thirty_two(values, |at, chunk| {
        let mut levels = [zero; 4];
        for (lane, level) in levels.iter_mut().enumerate() {
            let scaled = _mm256_mul_ps(part(chunk, lane), inverse);
            let clamped = _mm256_max_ps(_mm256_min_ps(scaled, most), least);
            *level = _mm256_castps_si256(_mm256_add_ps(clamped, rounder));
        }
        let levels = _mm256_and_si256(narrow(levels), half);
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(levels, zero));
        // A half byte leaves its byte's top bit alone until it is shifted there, and the byte above it too.
        let set = [
            _mm256_movemask_epi8(_mm256_slli_epi16::<7>(levels)),
            _mm256_movemask_epi8(_mm256_slli_epi16::<6>(levels)),
            _mm256_movemask_epi8(_mm256_slli_epi16::<5>(levels)),
            _mm256_movemask_epi8(_mm256_slli_epi16::<4>(levels)),
        ];
        for (plane, set) in set.into_iter().enumerate() {
            out[plane * words + at / 2] |= u64::from(set as u32) << (32 * (at % 2));
        }
        negative += (set[3] as u32).count_ones() as i32;
    });
    sum_ints(sums) - 16 * negative
}
