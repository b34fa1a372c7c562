//! Eight points of edwards25519, and the multiples of the base point that signing needs.
#![expect(
    clippy::indexing_slicing,
    reason = "every index is below a length that its loop has taken, and no secret"
)]

use std::arch::x86_64::{
    __m512i, _mm512_abs_epi64, _mm512_cmpeq_epi64_mask, _mm512_cmplt_epi64_mask, _mm512_permutexvar_epi64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_sub_epi64,
};
use std::sync::LazyLock;

use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroizing;

use super::LANES;
use super::field::{Field, lanes};

const ONE: [i64; 5] = [1, 0, 0, 0, 0];
/// Twice the curve's d, limbs of 51 bits.
const TWO_D: [i64; 5] = [
    1_859_910_466_990_425,
    932_731_440_258_426,
    1_072_319_116_312_658,
    1_815_898_335_770_999,
    633_789_495_995_903,
];
/// The base point (RFC 8032, 5.1), limbs of 51 bits.
const BASE_X: [i64; 5] = [
    1_738_742_601_995_546,
    1_146_398_526_822_698,
    2_070_867_633_025_821,
    562_264_141_797_630,
    587_772_402_128_613,
];
const BASE_Y: [i64; 5] = [
    1_801_439_850_948_184,
    1_351_079_888_211_148,
    450_359_962_737_049,
    900_719_925_474_099,
    1_801_439_850_948_198,
];
/// Digits of a scalar, from -8 to 8.
const DIGITS: usize = 64;

/// Points as (X : Y : Z : T), x = X / Z, y = Y / Z, XY = ZT.
#[derive(Clone, Copy)]
struct Points {
    x: Field,
    y: Field,
    z: Field,
    t: Field,
}

/// Points as they are added: y + x, y - x, 2dxy.
#[derive(Clone, Copy)]
struct Addends {
    sum: Field,
    difference: Field,
    product: Field,
}

impl Addends {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn of(x: &Field, y: &Field) -> Self {
        Self { sum: y.add(x), difference: y.sub(x), product: x.mul(y).mul(&Field::splat(TWO_D)) }
    }
}

impl Points {
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn neutral() -> Self {
        let (zero, one) = (Field::splat([0; 5]), Field::splat(ONE));
        Self { x: zero, y: one, z: one, t: zero }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn plus(&self, other: &Addends) -> Self {
        let a = self.y.sub(&self.x).mul(&other.difference);
        let b = self.y.add(&self.x).mul(&other.sum);
        let c = self.t.mul(&other.product);
        let d = self.z.add(&self.z);
        let (e, f, g, h) = (b.sub(&a), d.sub(&c), d.add(&c), b.add(&a));
        Self { x: e.mul(&f), y: g.mul(&h), z: f.mul(&g), t: e.mul(&h) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn doubled(&self) -> Self {
        let (a, b, z) = (self.x.square(), self.y.square(), self.z.square());
        let h = a.add(&b);
        let e = h.sub(&self.x.add(&self.y).square());
        let g = a.sub(&b);
        let f = z.add(&z).add(&g);
        Self { x: e.mul(&f), y: g.mul(&h), z: f.mul(&g), t: e.mul(&h) }
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn affine(&self) -> (Field, Field) {
        let inverse = self.z.invert();
        (self.x.mul(&inverse), self.y.mul(&inverse))
    }
}

/// The multiples 1 to 8 of a point, in the lanes of each limb: a register is a table.
type Row = [__m512i; 15];

/// The multiples 1 to 8 of 256^i times the base point, for i from 0 to 31.
pub(super) struct Table {
    rows: [Row; DIGITS / 2],
}

/// Whether this processor has the lanes.
pub(super) fn is_supported() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512ifma")
}

/// The table, made once; none where the processor cannot use it.
pub(super) fn table() -> Option<&'static Table> {
    static TABLE: LazyLock<Option<Box<Table>>> = LazyLock::new(|| {
        // SAFETY: what it needs was found just before.
        #[expect(unsafe_code, reason = "a call of what needs AVX-512")]
        is_supported().then(|| unsafe { Table::new() })
    });
    TABLE.as_deref()
}

impl Table {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn new() -> Box<Self> {
        let mut rows = [[_mm512_setzero_si512(); 15]; DIGITS / 2];
        let (mut x, mut y) = (Field::splat(BASE_X), Field::splat(BASE_Y));
        for row in &mut rows {
            *row = multiples(&x, &y);
            let mut next = Points { x, y, z: Field::splat(ONE), t: x.mul(&y) };
            for _ in 0..8 {
                next = next.doubled();
            }
            (x, y) = next.affine();
        }
        Box::new(Self { rows })
    }

    /// Each scalar times the base point, as the 32 bytes of RFC 8032. Scalars are below 2^253.
    pub(super) fn times_base(&self, scalars: &[Scalar]) -> Vec<[u8; 32]> {
        // SAFETY: there is a table, so what it needs was found.
        #[expect(unsafe_code, reason = "a call of what needs AVX-512")]
        unsafe {
            self.multiply(scalars)
        }
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn multiply(&self, scalars: &[Scalar]) -> Vec<[u8; 32]> {
        let all: Vec<Points> = scalars.chunks(LANES).map(|some| self.multiply_eight(some)).collect();
        let mut spelled = spell(&all);
        spelled.truncate(scalars.len());
        spelled
    }

    /// Up to eight scalars. The digits at odd places first, then sixteen times that, then those at even places: so half as
    /// many rows are enough.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn multiply_eight(&self, scalars: &[Scalar]) -> Points {
        let mut digits = Zeroizing::new([[0i64; LANES]; DIGITS]);
        for (lane, scalar) in scalars.iter().enumerate() {
            spread(scalar, lane, &mut digits);
        }
        let mut sum = Points::neutral();
        for at in 0..DIGITS / 2 {
            sum = sum.plus(&select(&self.rows[at], lanes(digits[2 * at + 1])));
        }
        for _ in 0..4 {
            sum = sum.doubled();
        }
        for at in 0..DIGITS / 2 {
            sum = sum.plus(&select(&self.rows[at], lanes(digits[2 * at])));
        }
        sum
    }
}

/// The multiples 1 to 8 of one point.
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiples(x: &Field, y: &Field) -> Row {
    let addend = Addends::of(x, y);
    let mut multiple = Points::neutral();
    let (mut xs, mut ys, mut zs) = ([[0; 5]; 8], [[0; 5]; 8], [[0; 5]; 8]);
    for lane in 0..8 {
        multiple = multiple.plus(&addend);
        xs[lane] = multiple.x.numbers()[0];
        ys[lane] = multiple.y.numbers()[0];
        zs[lane] = multiple.z.numbers()[0];
    }
    let inverse = Field::of(&zs).invert();
    let all = Addends::of(&Field::of(&xs).mul(&inverse), &Field::of(&ys).mul(&inverse));
    let mut row = [_mm512_setzero_si512(); 15];
    for (place, limb) in row.iter_mut().zip([all.sum.0, all.difference.0, all.product.0].concat()) {
        *place = limb;
    }
    row
}

/// Of each lane's digit, from -8 to 8, that multiple (C6).
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn select(row: &Row, digits: __m512i) -> Addends {
    let is_negative = _mm512_cmplt_epi64_mask(digits, _mm512_setzero_si512());
    let size = _mm512_abs_epi64(digits);
    let is_zero = _mm512_cmpeq_epi64_mask(size, _mm512_setzero_si512());
    let lane = _mm512_sub_epi64(size, _mm512_set1_epi64(1)); // of a zero some lane, not used
    let mut found = *row;
    for at in 0..15 {
        found[at] = _mm512_permutexvar_epi64(lane, row[at]);
    }
    let [a0, a1, a2, a3, a4, b0, b1, b2, b3, b4, c0, c1, c2, c3, c4] = found;
    let (zero, one) = (Field::splat([0; 5]), Field::splat(ONE));
    let sum = Field([a0, a1, a2, a3, a4]).blend(is_zero, &one);
    let difference = Field([b0, b1, b2, b3, b4]).blend(is_zero, &one);
    let product = Field([c0, c1, c2, c3, c4]).blend(is_zero, &zero);
    Addends {
        sum: sum.blend(is_negative, &difference),
        difference: difference.blend(is_negative, &sum),
        product: product.blend(is_negative, &product.neg()),
    }
}

/// The digits of a scalar to the base 16, from -8 to 8, lowest first, into its lane.
fn spread(scalar: &Scalar, lane: usize, digits: &mut [[i64; LANES]; DIGITS]) {
    let mut carry = 0;
    for (at, byte) in scalar.as_bytes().iter().enumerate() {
        for (at, nibble) in [(2 * at, byte & 15), (2 * at + 1, byte >> 4)] {
            let digit = i64::from(nibble) + carry;
            // The highest is at most 1 and 1 more, and stays.
            carry = (digit + 8) >> 4;
            digits[at][lane] = digit - (carry << 4);
        }
    }
}

/// Points in their one spelling; all share one inversion.
#[target_feature(enable = "avx512f,avx512ifma")]
fn spell(all: &[Points]) -> Vec<[u8; 32]> {
    let mut before = Vec::with_capacity(all.len());
    let mut product = Field::splat(ONE);
    for points in all {
        before.push(product);
        product = product.mul(&points.z);
    }
    let mut inverse = product.invert();
    let mut spelled = vec![[0u8; 32]; all.len() * LANES];
    for ((points, before), places) in all.iter().zip(&before).zip(spelled.chunks_exact_mut(LANES)).rev() {
        let own = inverse.mul(before);
        inverse = inverse.mul(&points.z);
        let (x, y) = (points.x.mul(&own).bytes(), points.y.mul(&own).bytes());
        for ((place, x), y) in places.iter_mut().zip(x).zip(y) {
            *place = y;
            place[31] |= (x[0] & 1) << 7;
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::edwards::EdwardsPoint;

    #[test]
    fn c6_multiples_of_the_base_point_are_those_of_another_implementation_in_every_lane() {
        let Some(table) = table() else { return };
        let mut scalars: Vec<Scalar> = (0..40u64).map(Scalar::from).collect();
        scalars.extend((0..40u64).map(|number| -Scalar::from(number)));
        for fill in [0x88, 0x77, 0x80, 0x08, 0x0f, 0xf0] {
            scalars.push(Scalar::from_bytes_mod_order([fill; 32]));
        }
        for bit in 0..252 {
            let mut bytes = [0u8; 32];
            bytes[bit / 8] = 1 << (bit % 8);
            scalars.push(Scalar::from_bytes_mod_order(bytes));
            bytes[bit / 8] = !bytes[bit / 8];
            scalars.push(Scalar::from_bytes_mod_order(bytes));
        }
        for count in [1, 7, 8, 9, scalars.len()] {
            let wanted: Vec<[u8; 32]> =
                scalars[..count].iter().map(|scalar| EdwardsPoint::mul_base(scalar).compress().0).collect();
            assert_eq!(table.times_base(&scalars[..count]), wanted);
        }
    }
}
