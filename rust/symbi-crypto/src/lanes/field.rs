//! Eight numbers modulo 2^255 - 19, five limbs of 51 bits each, a lane for each number.
//!
//! Limbs are kept below 2^52, which is what the multiplier takes: each operation ends with one pass of carries.
#![expect(
    clippy::indexing_slicing,
    reason = "every index is a constant of a loop over five limbs, or eight lanes"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "an iterator over registers hands them over through memory, see `carried`"
)]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_mask_mov_epi64, _mm512_set_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64,
    _mm512_srli_epi64, _mm512_sub_epi64,
};

const MASK: i64 = (1 << 51) - 1;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Field(pub(super) [__m512i; 5]);

/// Eight values, one for each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn lanes(values: [i64; 8]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = values;
    _mm512_set_epi64(h, g, f, e, d, c, b, a)
}

/// What the lanes hold.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn values(vector: __m512i) -> [u64; 8] {
    // SAFETY: both are 64 bytes of plain integers, of which every pattern is a value.
    #[expect(unsafe_code, reason = "reading the lanes of a register")]
    unsafe {
        std::mem::transmute::<__m512i, [u64; 8]>(vector)
    }
}

impl Field {
    /// One number in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn splat(limbs: [i64; 5]) -> Self {
        let [a, b, c, d, e] = limbs;
        Self([
            _mm512_set1_epi64(a),
            _mm512_set1_epi64(b),
            _mm512_set1_epi64(c),
            _mm512_set1_epi64(d),
            _mm512_set1_epi64(e),
        ])
    }

    /// Another number in each lane, limbs below 2^52.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn of(numbers: &[[u64; 5]; 8]) -> Self {
        let mut limbs = [_mm512_setzero_si512(); 5];
        for (at, limb) in limbs.iter_mut().enumerate() {
            *limb = lanes(numbers.map(|number| number[at].cast_signed()));
        }
        Self(limbs)
    }

    /// One pass of carries: limbs below 2^62 become less than 2^51 + 2^16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn carried(limbs: [__m512i; 5]) -> Self {
        // Loops over numbers, here and below: what a closure or an iterator hands over goes through memory.
        let mask = _mm512_set1_epi64(MASK);
        let (mut low, mut carry) = (limbs, limbs);
        for at in 0..5 {
            carry[at] = _mm512_srli_epi64::<51>(limbs[at]);
            low[at] = _mm512_and_si512(limbs[at], mask);
        }
        Self([
            _mm512_add_epi64(low[0], times_19(carry[4])),
            _mm512_add_epi64(low[1], carry[0]),
            _mm512_add_epi64(low[2], carry[1]),
            _mm512_add_epi64(low[3], carry[2]),
            _mm512_add_epi64(low[4], carry[3]),
        ])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn add(&self, other: &Self) -> Self {
        let mut sum = self.0;
        for at in 0..5 {
            sum[at] = _mm512_add_epi64(self.0[at], other.0[at]);
        }
        Self::carried(sum)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn sub(&self, other: &Self) -> Self {
        // 4p, so that no limb goes below zero.
        let above = Self::splat([(1 << 53) - 76, (1 << 53) - 4, (1 << 53) - 4, (1 << 53) - 4, (1 << 53) - 4]);
        let mut difference = self.0;
        for at in 0..5 {
            difference[at] = _mm512_sub_epi64(_mm512_add_epi64(self.0[at], above.0[at]), other.0[at]);
        }
        Self::carried(difference)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn neg(&self) -> Self {
        Self([_mm512_setzero_si512(); 5]).sub(self)
    }

    /// `other` in the lanes of the mask.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn blend(&self, mask: u8, other: &Self) -> Self {
        let mut limbs = self.0;
        for at in 0..5 {
            limbs[at] = _mm512_mask_mov_epi64(self.0[at], mask, other.0[at]);
        }
        Self(limbs)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn mul(&self, other: &Self) -> Self {
        let mut low = [_mm512_setzero_si512(); 9];
        let mut high = [_mm512_setzero_si512(); 9];
        for i in 0..5 {
            for j in 0..5 {
                low[i + j] = _mm512_madd52lo_epu64(low[i + j], self.0[i], other.0[j]);
                high[i + j] = _mm512_madd52hi_epu64(high[i + j], self.0[i], other.0[j]);
            }
        }
        folded(&low, &high)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn square(&self) -> Self {
        let mut low = [_mm512_setzero_si512(); 9];
        let mut high = [_mm512_setzero_si512(); 9];
        for i in 0..5 {
            for j in i + 1..5 {
                low[i + j] = _mm512_madd52lo_epu64(low[i + j], self.0[i], self.0[j]);
                high[i + j] = _mm512_madd52hi_epu64(high[i + j], self.0[i], self.0[j]);
            }
        }
        // Each product of two different limbs stands there twice.
        for at in 1..8 {
            low[at] = _mm512_slli_epi64::<1>(low[at]);
            high[at] = _mm512_slli_epi64::<1>(high[at]);
        }
        for i in 0..5 {
            low[2 * i] = _mm512_madd52lo_epu64(low[2 * i], self.0[i], self.0[i]);
            high[2 * i] = _mm512_madd52hi_epu64(high[2 * i], self.0[i], self.0[i]);
        }
        folded(&low, &high)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn squares(&self, times: u32) -> Self {
        let mut power = *self;
        for _ in 0..times {
            power = power.square();
        }
        power
    }

    /// The inverse, of zero zero: the power p - 2.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn invert(&self) -> Self {
        let two = self.square();
        let nine = two.squares(2).mul(self);
        let eleven = nine.mul(&two);
        let ones_5 = eleven.square().mul(&nine); // 2^5 - 1, and so on
        let ones_10 = ones_5.squares(5).mul(&ones_5);
        let ones_20 = ones_10.squares(10).mul(&ones_10);
        let ones_40 = ones_20.squares(20).mul(&ones_20);
        let ones_50 = ones_40.squares(10).mul(&ones_10);
        let ones_100 = ones_50.squares(50).mul(&ones_50);
        let ones_200 = ones_100.squares(100).mul(&ones_100);
        let ones_250 = ones_200.squares(50).mul(&ones_50);
        ones_250.squares(5).mul(&eleven)
    }

    /// Each number in its one spelling, 32 bytes little-endian.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn bytes(&self) -> [[u8; 32]; 8] {
        let limbs = self.0.map(|limb| values(limb));
        let mut all = [[0u8; 32]; 8];
        for (lane, bytes) in all.iter_mut().enumerate() {
            *bytes = spelled(limbs.map(|limb| limb[lane]));
        }
        all
    }

    /// The limbs of each number.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn numbers(&self) -> [[u64; 5]; 8] {
        let limbs = self.0.map(|limb| values(limb));
        let mut all = [[0u64; 5]; 8];
        for (lane, number) in all.iter_mut().enumerate() {
            *number = limbs.map(|limb| limb[lane]);
        }
        all
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn times_19(value: __m512i) -> __m512i {
    let sixteen = _mm512_slli_epi64::<4>(value);
    let two = _mm512_slli_epi64::<1>(value);
    _mm512_add_epi64(_mm512_add_epi64(sixteen, two), value)
}

/// Sums of half products by their place, as one number. The upper halves have weight 2^52, which is twice the next limb's;
/// what lies beyond 2^255 comes back times 19. With limbs below 2^52 nothing here reaches 2^61.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn folded(low: &[__m512i; 9], high: &[__m512i; 9]) -> Field {
    let mut sums = [_mm512_setzero_si512(); 10];
    sums[0] = low[0];
    for at in 1..9 {
        sums[at] = _mm512_add_epi64(low[at], _mm512_slli_epi64::<1>(high[at - 1]));
    }
    sums[9] = _mm512_slli_epi64::<1>(high[8]);
    let mut limbs = [_mm512_setzero_si512(); 5];
    for at in 0..5 {
        limbs[at] = _mm512_add_epi64(sums[at], times_19(sums[at + 5]));
    }
    Field::carried(limbs)
}

/// A number's bytes, reduced all the way.
fn spelled(mut limbs: [u64; 5]) -> [u8; 32] {
    const LOW: u64 = (1 << 51) - 1;
    let carry = |limbs: &mut [u64; 5]| {
        for at in 0..4 {
            limbs[at + 1] += limbs[at] >> 51;
            limbs[at] &= LOW;
        }
    };
    carry(&mut limbs);
    limbs[0] += 19 * (limbs[4] >> 51);
    limbs[4] &= LOW;
    // Below 2^255 + 2^20 now. Whether it is p or more is what adding 19 carries out of the top.
    let mut over = (limbs[0] + 19) >> 51;
    for limb in &limbs[1..] {
        over = (limb + over) >> 51;
    }
    limbs[0] += 19 * over;
    carry(&mut limbs);
    limbs[4] &= LOW;
    let words = [
        limbs[0] | limbs[1] << 51,
        limbs[1] >> 13 | limbs[2] << 38,
        limbs[2] >> 26 | limbs[3] << 25,
        limbs[3] >> 39 | limbs[4] << 12,
    ];
    let mut bytes = [0u8; 32];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as sums, to be compared: a plain reference in 128 bits.
    fn product(a: [u64; 5], b: [u64; 5]) -> [u64; 5] {
        let mut sums = [0u128; 5];
        for i in 0..5 {
            for j in 0..5 {
                let factor = if i + j < 5 { 1 } else { 19 };
                sums[(i + j) % 5] += u128::from(a[i]) * u128::from(b[j]) * factor;
            }
        }
        let mut carry = 0u128;
        for _ in 0..3 {
            for sum in &mut sums {
                *sum += carry;
                carry = *sum >> 51;
                *sum &= (1 << 51) - 1;
            }
            carry *= 19;
        }
        sums.map(|sum| u64::try_from(sum).unwrap())
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn compare(a: &[[u64; 5]; 8], b: &[[u64; 5]; 8]) {
        let (x, y) = (Field::of(a), Field::of(b));
        let all =
            (x.mul(&y).bytes(), x.add(&y).sub(&y).bytes(), x.square().bytes(), x.bytes(), x.neg().bytes());
        let inverse = x.mul(&x.invert()).bytes();
        for lane in 0..8 {
            assert_eq!(all.0[lane], spelled(product(a[lane], b[lane])), "{a:x?} {b:x?}");
            assert_eq!(all.1[lane], all.3[lane], "{a:x?} {b:x?}");
            assert_eq!(all.2[lane], spelled(product(a[lane], a[lane])));
            assert_eq!(all.3[lane], spelled(product(a[lane], [1, 0, 0, 0, 0])));
            let mut one = [0u8; 32];
            one[0] = u8::from(all.3[lane] != [0; 32]);
            assert_eq!(inverse[lane], one);
        }
        assert_eq!(x.neg().add(&x).bytes(), [[0; 32]; 8]);
        assert_eq!(all.4, Field::splat([0; 5]).sub(&x).bytes());
    }

    #[test]
    fn numbers_are_multiplied_added_and_spelled_as_a_plain_reference_does() {
        if !super::super::point::is_supported() {
            return;
        }
        const TOP: u64 = (1 << 52) - 1; // the largest that a limb may be
        const LOW: u64 = (1 << 51) - 1;
        let edges: Vec<[u64; 5]> = vec![
            [0; 5],
            [1, 0, 0, 0, 0],
            [LOW - 18, LOW, LOW, LOW, LOW], // p
            [LOW - 19, LOW, LOW, LOW, LOW],
            [LOW - 17, LOW, LOW, LOW, LOW],
            [LOW; 5],
            [TOP; 5],
            [TOP, 0, TOP, 0, TOP],
            [0, 0, 0, 0, TOP],
            [TOP, 0, 0, 0, 0],
        ];
        let mut dice = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            std::array::from_fn(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                dice >> 12
            })
        };
        for round in 0..2_000 {
            let pick = |at: usize, other: [u64; 5]| edges.get(at).copied().unwrap_or(other);
            let a: [[u64; 5]; 8] = std::array::from_fn(|lane| pick((round + lane * 3) % 40, random()));
            let b: [[u64; 5]; 8] = std::array::from_fn(|lane| pick((round / 3 + lane) % 40, random()));
            // SAFETY: the processor has what they need, as was just asked.
            #[expect(unsafe_code, reason = "a call of what needs AVX-512")]
            unsafe {
                compare(&a, &b);
            }
        }
    }
}
