//! Kernels for AVX-512 with VNNI and VPOPCNTDQ (Ice Lake, Zen 4 and later).
//!
//! Not here: BF16. Rescoring reads whole floats, and nothing else would use it (docs/adr/0150).
#![expect(unsafe_code, reason = "loads through pointers, and calls that need what `supported` has found")]
#![expect(clippy::indexing_slicing, reason = "every index is below a length that was asserted")]

use std::arch::x86_64::{
    __m128i, __m512, __m512i, __mmask8, __mmask16, _mm_add_epi32, _mm_add_epi64, _mm_add_ps,
    _mm_castps_si128, _mm_castsi128_ps, _mm_cvtepi32_ps, _mm_mul_ps, _mm_set1_ps, _mm_setr_ps,
    _mm_shuffle_ps, _mm_storeu_ps, _mm_storeu_si128, _mm256_add_epi32, _mm256_add_epi64,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm512_abs_ps, _mm512_add_epi32, _mm512_add_epi64,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_si256, _mm512_cvtepi32_epi8,
    _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_ps, _mm512_maskz_loadu_epi64, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_mul_ps,
    _mm512_permute_ps, _mm512_popcnt_epi64, _mm512_reduce_add_epi32, _mm512_reduce_add_epi64,
    _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_slli_epi64,
    _mm512_srai_epi32, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_epi64, _mm512_sub_ps,
    _mm512_test_epi32_mask, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::rows::{as_bytes, each_four, each_row, each_vector, fetch_line_many};
use super::{Affine, Kernels, View, portable};

/// The caller of anything here has asked this first.
pub(super) fn supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vpopcntdq")
        && is_x86_feature_detected!("fma")
}

pub(super) const KERNELS: Kernels = table!("avx512");

widened!("avx512f,avx512bw,avx512vl,fma");

/// The 64 bytes at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8], at: usize) -> __m512i {
    debug_assert!(at + 64 <= bytes.len(), "KN3");
    // SAFETY: the callers assert the length of the whole row or query before their loop; unaligned is allowed.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().add(at).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
fn dot(left: &[f32], right: &[f32]) -> f32 {
    dot_ahead(left, right, &[])
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
fn dot_ahead(left: &[f32], right: &[f32], next: &[f32]) -> f32 {
    assert!(left.len() == right.len(), "KN3");
    let mut sums = [_mm512_setzero_ps(); 4];
    let whole = left.len() / 64 * 64;
    let ahead = !next.is_empty();
    for start in (0..whole).step_by(64) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let at = start + 16 * lane;
            if ahead {
                fetch_line_many(next.as_ptr().wrapping_add(at));
            }
            // SAFETY: at + 16 ≤ whole ≤ the length of both.
            let (a, b) =
                unsafe { (_mm512_loadu_ps(left.as_ptr().add(at)), _mm512_loadu_ps(right.as_ptr().add(at))) };
            *sum = _mm512_fmadd_ps(a, b, *sum);
        }
    }
    for at in (whole..left.len()).step_by(16) {
        let mask = tail_mask(left.len() - at);
        // SAFETY: the mask leaves out what is past the end, and a masked lane is not read.
        let (a, b) = unsafe {
            (
                _mm512_maskz_loadu_ps(mask, left.as_ptr().add(at)),
                _mm512_maskz_loadu_ps(mask, right.as_ptr().add(at)),
            )
        };
        sums[0] = _mm512_fmadd_ps(a, b, sums[0]);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}

#[inline]
fn tail_mask(left: usize) -> __mmask16 {
    if left >= 16 { !0 } else { (1 << left) - 1 }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
fn squared(left: &[f32], right: &[f32]) -> f32 {
    assert!(left.len() == right.len(), "KN3");
    let mut sums = [_mm512_setzero_ps(); 2];
    for at in (0..left.len()).step_by(16) {
        let mask = tail_mask(left.len() - at);
        // SAFETY: the mask leaves out what is past the end, and a masked lane is not read.
        let difference = unsafe {
            _mm512_sub_ps(
                _mm512_maskz_loadu_ps(mask, left.as_ptr().add(at)),
                _mm512_maskz_loadu_ps(mask, right.as_ptr().add(at)),
            )
        };
        let sum = &mut sums[at / 16 % 2];
        *sum = _mm512_fmadd_ps(difference, difference, *sum);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn int8_many(query: &[i8], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let query = as_bytes(query);
    assert!(query.len().is_multiple_of(64), "KN3");
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == query.len(), "KN3");
        let mut sums = [_mm512_setzero_si512(); 2];
        for at in (0..query.len()).step_by(64) {
            let sum = &mut sums[at / 64 % 2];
            *sum = _mm512_dpbusd_epi32(*sum, load(row, at), load(query, at));
        }
        let sum = _mm512_reduce_add_epi32(sums[0]) + _mm512_reduce_add_epi32(sums[1]);
        affine.distance(sum, scale, squared_norm)
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn int4_many(query: &[i8], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    match query.len() {
        // With the length known the query stays in registers: the usual sizes of embeddings.
        384 => int4_fixed::<3>(query, rows, slots, affine, out),
        768 => int4_fixed::<6>(query, rows, slots, affine, out),
        1024 => int4_fixed::<8>(query, rows, slots, affine, out),
        1536 => int4_fixed::<12>(query, rows, slots, affine, out),
        _ => int4_any(query, rows, slots, affine, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn int4_fixed<const BLOCKS: usize>(
    query: &[i8],
    rows: &View<'_>,
    slots: &[u32],
    affine: &Affine,
    out: &mut Vec<f32>,
) {
    let query = as_bytes(query);
    assert!(query.len() == 128 * BLOCKS, "KN3");
    let mut low = [_mm512_setzero_si512(); BLOCKS];
    let mut high = [_mm512_setzero_si512(); BLOCKS];
    for block in 0..BLOCKS {
        (low[block], high[block]) = (load(query, 128 * block), load(query, 128 * block + 64));
    }
    let nibble = _mm512_set1_epi8(15);
    each_four(rows, slots, out, |rows, factors| {
        let mut sums = [_mm512_setzero_si512(); 4];
        for (sum, row) in sums.iter_mut().zip(rows) {
            assert!(row.len() == 64 * BLOCKS, "KN3");
            for (block, (&low, &high)) in low.iter().zip(&high).enumerate() {
                let code = load(row, 64 * block);
                let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(code), nibble);
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_and_si512(code, nibble), low);
                *sum = _mm512_dpbusd_epi32(*sum, upper, high);
            }
        }
        four_distances(affine, four_sums(sums), factors)
    });
}

/// The sums of the lanes of four registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn four_sums(sums: [__m512i; 4]) -> __m128i {
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (a, b) = (pair(sums[0], sums[1]), pair(sums[2], sums[3]));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

/// `Affine::distance` of four rows, with its roundings.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn four_distances(affine: &Affine, sums: __m128i, factors: [(f32, f32); 4]) -> [f32; 4] {
    let [a, b, c, d] = factors;
    let (scales, norms) = (_mm_setr_ps(a.0, b.0, c.0, d.0), _mm_setr_ps(a.1, b.1, c.1, d.1));
    let inner = _mm_add_ps(_mm_mul_ps(_mm_set1_ps(affine.w1), _mm_cvtepi32_ps(sums)), _mm_set1_ps(affine.w0));
    let norms = _mm_add_ps(_mm_set1_ps(affine.c0), _mm_mul_ps(_mm_set1_ps(affine.cn), norms));
    let mut four = [0.0; 4];
    // SAFETY: the array is as long as the register.
    unsafe { _mm_storeu_ps(four.as_mut_ptr(), _mm_add_ps(norms, _mm_mul_ps(scales, inner))) };
    four
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn int4_any(query: &[i8], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let query = as_bytes(query);
    assert!(query.len().is_multiple_of(128), "KN3");
    let bytes = query.len() / 2;
    let nibble = _mm512_set1_epi8(15);
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == bytes, "KN3");
        let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for at in (0..bytes).step_by(64) {
            let code = load(row, at);
            even = _mm512_dpbusd_epi32(even, _mm512_and_si512(code, nibble), load(query, 2 * at));
            let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(code), nibble);
            odd = _mm512_dpbusd_epi32(odd, upper, load(query, 2 * at + 64));
        }
        let sum = _mm512_reduce_add_epi32(even) + _mm512_reduce_add_epi32(odd);
        affine.distance(sum, scale, squared_norm)
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn bits_many(query: &[u64], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    match query.len() / 4 {
        // 512, 768, 1024 and 1536 dimensions.
        8 => bits_fixed::<1>(query, rows, slots, affine, out),
        12 => bits_fixed::<2>(query, rows, slots, affine, out),
        16 => bits_fixed::<2>(query, rows, slots, affine, out),
        24 => bits_fixed::<3>(query, rows, slots, affine, out),
        _ => bits_any(query, rows, slots, affine, out),
    }
}

#[inline]
fn word_mask(left: usize) -> __mmask8 {
    if left >= 8 { !0 } else { (1 << left) - 1 }
}

/// Up to eight words at `at`, zero past the end.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u64], at: usize) -> __m512i {
    // SAFETY: the mask leaves out what is past the end, and a masked lane is not read.
    unsafe { _mm512_maskz_loadu_epi64(word_mask(words.len() - at), words.as_ptr().add(at).cast()) }
}

/// Four counts as one: 1, 2, 4 and, for the sign, -8.
#[inline]
#[target_feature(enable = "avx512f")]
fn weigh(counts: [__m512i; 4]) -> __m512i {
    let low = _mm512_add_epi64(counts[0], _mm512_slli_epi64::<1>(counts[1]));
    let high = _mm512_sub_epi64(_mm512_slli_epi64::<2>(counts[2]), _mm512_slli_epi64::<3>(counts[3]));
    _mm512_add_epi64(low, high)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn bits_fixed<const BLOCKS: usize>(
    query: &[u64],
    rows: &View<'_>,
    slots: &[u32],
    affine: &Affine,
    out: &mut Vec<f32>,
) {
    let words = query.len() / 4;
    assert!(words > 8 * (BLOCKS - 1) && words <= 8 * BLOCKS, "KN3");
    let mut planes = [[_mm512_setzero_si512(); 4]; BLOCKS];
    for (block, held) in planes.iter_mut().enumerate() {
        for (held, values) in held.iter_mut().zip(query.chunks_exact(words)) {
            *held = load_words(values, 8 * block);
        }
    }
    let last = word_mask(words - 8 * (BLOCKS - 1));
    each_four(rows, slots, out, |rows, factors| {
        let mut sums = [_mm512_setzero_si512(); 4];
        for (sum, row) in sums.iter_mut().zip(rows) {
            assert!(row.len() == 8 * words, "KN3");
            let mut counts = [_mm512_setzero_si512(); 4];
            for (block, planes) in planes.iter().enumerate() {
                let mask = if block + 1 == BLOCKS { last } else { !0 };
                // SAFETY: the row holds all words, as was asserted; masked lanes are not read.
                let code = unsafe { _mm512_maskz_loadu_epi64(mask, row.as_ptr().add(64 * block).cast()) };
                for (count, &plane) in counts.iter_mut().zip(planes) {
                    *count = _mm512_add_epi64(*count, _mm512_popcnt_epi64(_mm512_and_si512(code, plane)));
                }
            }
            *sum = weigh(counts);
        }
        four_distances(affine, four_long_sums(sums), factors)
    });
}

/// The sums of the lanes, of 64 bits, of four registers; each fits 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn four_long_sums(sums: [__m512i; 4]) -> __m128i {
    let pair = |a, b| {
        let both = _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let half = _mm256_add_epi64(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both));
        _mm_castsi128_ps(_mm_add_epi64(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half)))
    };
    // The low halves of the four.
    _mm_castps_si128(_mm_shuffle_ps::<0b10_00_10_00>(pair(sums[0], sums[1]), pair(sums[2], sums[3])))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
fn bits_any(query: &[u64], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let words = query.len() / 4;
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == 8 * words, "KN3");
        let mut counts = [_mm512_setzero_si512(); 4];
        for at in (0..words).step_by(8) {
            let mask = word_mask(words - at);
            // SAFETY: the row holds all words, as was asserted; masked lanes are not read.
            let code = unsafe { _mm512_maskz_loadu_epi64(mask, row.as_ptr().add(8 * at).cast()) };
            for (count, plane) in counts.iter_mut().zip(query.chunks_exact(words)) {
                let common = _mm512_popcnt_epi64(_mm512_and_si512(code, load_words(plane, at)));
                *count = _mm512_add_epi64(*count, common);
            }
        }
        affine.distance(_mm512_reduce_add_epi64(weigh(counts)) as i32, scale, squared_norm)
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn int8_pair(left: &[u8], right: &[u8]) -> i32 {
    assert!(left.len() == right.len() && left.len().is_multiple_of(64), "KN3");
    let (sign, ones) = (_mm512_set1_epi8(-128), _mm512_set1_epi8(1));
    let (mut products, mut sums) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for at in (0..left.len()).step_by(64) {
        let (a, b) = (load(left, at), load(right, at));
        products = _mm512_dpbusd_epi32(products, a, _mm512_xor_si512(b, sign));
        sums = _mm512_dpbusd_epi32(sums, b, ones);
    }
    // a (b - 128) = (a - 128)(b - 128) + 128 (b - 128)
    _mm512_reduce_add_epi32(products) - 128 * (_mm512_reduce_add_epi32(sums) - 128 * left.len() as i32)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn int4_pair(left: &[u8], right: &[u8]) -> (i32, i32, i32) {
    assert!(left.len() == right.len() && left.len().is_multiple_of(64), "KN3");
    let (nibble, ones) = (_mm512_set1_epi8(15), _mm512_set1_epi8(1));
    let zero = _mm512_setzero_si512();
    let (mut low, mut high, mut lefts, mut rights) = (zero, zero, zero, zero);
    for at in (0..left.len()).step_by(64) {
        let (a, b) = (load(left, at), load(right, at));
        let (a0, b0) = (_mm512_and_si512(a, nibble), _mm512_and_si512(b, nibble));
        let a1 = _mm512_and_si512(_mm512_srli_epi16::<4>(a), nibble);
        let b1 = _mm512_and_si512(_mm512_srli_epi16::<4>(b), nibble);
        low = _mm512_dpbusd_epi32(low, a0, b0);
        high = _mm512_dpbusd_epi32(high, a1, b1);
        lefts = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(lefts, a0, ones), a1, ones);
        rights = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(rights, b0, ones), b1, ones);
    }
    (
        _mm512_reduce_add_epi32(low) + _mm512_reduce_add_epi32(high),
        _mm512_reduce_add_epi32(lefts),
        _mm512_reduce_add_epi32(rights),
    )
}

/// Adds and subtracts neighbours: `swapped` holds each lane's partner, `signs` is 1 for the first of a pair, -1 for
/// the second. Multiplying by these is exact, so the sums are those of the portable kernel.
#[inline]
#[target_feature(enable = "avx512f")]
fn butterfly(values: __m512, swapped: __m512, signs: __m512) -> __m512 {
    _mm512_fmadd_ps(values, signs, swapped)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn hadamard(values: &mut [f32], factors: &[f32]) {
    assert!(values.len() == factors.len(), "KN3");
    if values.len() < 16 {
        return portable::hadamard_body(values, factors);
    }
    let signs = |second: u16| _mm512_mask_blend_ps(second, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
    let (by1, by2, by4, by8) = (signs(0xAAAA), signs(0xCCCC), signs(0xF0F0), signs(0xFF00));
    for (sixteen, factors) in values.as_chunks_mut::<16>().0.iter_mut().zip(factors.as_chunks::<16>().0) {
        // SAFETY: an array of sixteen floats is what a register holds.
        let (held, factors) =
            unsafe { (_mm512_loadu_ps(sixteen.as_ptr()), _mm512_loadu_ps(factors.as_ptr())) };
        let mut held = _mm512_mul_ps(held, factors);
        held = butterfly(held, _mm512_permute_ps::<0b10_11_00_01>(held), by1);
        held = butterfly(held, _mm512_permute_ps::<0b01_00_11_10>(held), by2);
        held = butterfly(held, _mm512_shuffle_f32x4::<0b10_11_00_01>(held, held), by4);
        held = butterfly(held, _mm512_shuffle_f32x4::<0b01_00_11_10>(held, held), by8);
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(sixteen.as_mut_ptr(), held) };
    }
    portable::hadamard_from(values, 16);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn bytes(values: &[f32], out: &mut [i8]) -> (f32, i32) {
    assert!(values.len() <= out.len(), "KN3");
    let mut largest = _mm512_setzero_ps();
    for at in (0..values.len()).step_by(16) {
        largest = _mm512_max_ps(largest, _mm512_abs_ps(load_floats(values, at)));
    }
    let step = _mm512_reduce_max_ps(largest) / 127.0;
    let inverse = _mm512_set1_ps(if step > 0.0 { 1.0 / step } else { 0.0 });
    let mut sums = _mm512_setzero_si512();
    for at in (0..values.len()).step_by(16) {
        // Rounded after the product and after the sum, as the portable kernel does.
        let level = _mm512_mul_ps(load_floats(values, at), inverse);
        let level = _mm512_castps_si512(_mm512_add_ps(level, _mm512_set1_ps(portable::ROUNDER)));
        sums = _mm512_add_epi32(sums, _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(level)));
        let mut sixteen = [0_u8; 16];
        // SAFETY: the array is as long as the register.
        unsafe { _mm_storeu_si128(sixteen.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(level)) };
        for (place, byte) in out[at..values.len()].iter_mut().zip(sixteen) {
            *place = byte as i8;
        }
    }
    (step, _mm512_reduce_add_epi32(sums))
}

/// Up to sixteen floats at `at`, zero past the end.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats(values: &[f32], at: usize) -> __m512 {
    // SAFETY: the mask leaves out what is past the end, and a masked lane is not read.
    unsafe { _mm512_maskz_loadu_ps(tail_mask(values.len() - at), values.as_ptr().add(at)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn planes(values: &[f32], inverse: f32, out: &mut [u64]) -> i32 {
    let words = out.len() / 4;
    assert!(values.len() <= 64 * words, "KN3");
    out.fill(0);
    let mut sums = _mm512_setzero_si512();
    for (at, components) in values.chunks(16).enumerate() {
        let mut levels = [portable::plane_level(0.0, 0.0); 16];
        for (level, &value) in levels.iter_mut().zip(components) {
            *level = portable::plane_level(value, inverse);
        }
        // SAFETY: an array of sixteen words is what a register holds.
        let levels = unsafe { _mm512_loadu_si512(levels.as_ptr().cast()) };
        sums = _mm512_add_epi32(sums, _mm512_srai_epi32::<28>(_mm512_slli_epi32::<28>(levels)));
        for (plane, bit) in [1, 2, 4, 8].into_iter().enumerate() {
            let set = _mm512_test_epi32_mask(levels, _mm512_set1_epi32(bit));
            out[plane * words + at / 4] |= u64::from(set) << (16 * (at % 4));
        }
    }
    _mm512_reduce_add_epi32(sums)
}
