//! Arithmetic on rows, chosen once for the processor that runs it.
//!
//! Why: a search is a few thousand inner products; how fast they are is how fast the index is. One call covers all
//! neighbours of a node, so that the query stays in registers and the next rows are fetched while one is computed.
//! Not here: what the integers mean (`codes`), which rows to compare (`search`).
//!
//! Invariants
//! - KN1 on integers, and on a query's way to integers, every kernel gives the portable one's result, bit for bit.
//! - KN2 on floats a kernel differs from the portable one by at most 1e-5 of the sum of absolute products.
//! - KN3 a kernel reads nothing outside the row and the query that it was given.

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod offered;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod rows;

use std::sync::OnceLock;

pub(crate) use portable::int4_level;
pub(crate) use rows::{FACTORS_BYTES, View, fetch_line, fetch_vector};

/// How an integer sum becomes a distance: `c0 + cn * squared_norm + scale * (w1 * sum + w0)`, the row's factors
/// being `scale` and `squared_norm`. Products and sums are rounded one by one, so that kernels agree (KN1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Affine {
    pub c0: f32,
    pub cn: f32,
    pub w1: f32,
    pub w0: f32,
}

impl Affine {
    #[inline(always)]
    pub(crate) fn distance(&self, sum: i32, scale: f32, squared_norm: f32) -> f32 {
        self.c0 + self.cn * squared_norm + scale * (self.w1 * sum as f32 + self.w0)
    }
}

/// Distances of many rows from a query: integers of the query, rows, which rows, affine map, results.
type Many<Q> = fn(&[Q], &View<'_>, &[u32], &Affine, &mut Vec<f32>);

/// `(sum of a * b, sum of a, sum of b)`
type Sums = (i32, i32, i32);

/// One processor's kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    /// What `stats()` shows: `avx512`, `avx2`, `neon`, `portable`.
    pub name: &'static str,
    /// Inner product of two vectors of equal length.
    pub dot: fn(&[f32], &[f32]) -> f32,
    /// As `dot`, asking on the way for the lines of a third vector, which comes next; it may be empty.
    pub dot_ahead: fn(&[f32], &[f32], &[f32]) -> f32,
    /// Squared Euclidean distance of two vectors of equal length.
    pub squared: fn(&[f32], &[f32]) -> f32,
    /// `c0 + w1 * dot(query, row)` for rows of floats.
    pub dot_many: Many<f32>,
    /// Squared Euclidean distances for rows of floats; the affine map is not used.
    pub squared_many: Many<f32>,
    /// Rows of bytes with an offset of 128; the query is as long as the row, a multiple of 64.
    pub int8_many: Many<i8>,
    /// Rows of half bytes: byte `64 b + i` holds dimension `128 b + i` low and `128 b + 64 + i` high.
    pub int4_many: Many<i8>,
    /// Rows of bits; the query is four planes of a four-bit two's complement integer, one after the other.
    pub bits_many: Many<u64>,
    /// Sum of `(a - 128) * (b - 128)`.
    pub int8_pair: fn(&[u8], &[u8]) -> i32,
    /// `(sum of a * b, sum of a, sum of b)` over half bytes.
    pub int4_pair: fn(&[u8], &[u8]) -> Sums,
    /// Multiplies each by its factor, then the Walsh-Hadamard transform in place; both have the same length, a power of two.
    pub hadamard: fn(&mut [f32], &[f32]),
    /// `(sum of x * y, sum of y * y)` for y = clamp(round(x * inverse + 7.5), 0, 15) - 7.5
    pub int4_fit: fn(&[f32], f32) -> (f32, f32),
    /// Sum of squares, the same bits everywhere (KN1).
    pub energy: fn(&[f32]) -> f32,
    /// Fills the bytes with round(x / step), the largest magnitude being 127; gives `(step, sum of the bytes)`.
    pub bytes: fn(&[f32], &mut [i8]) -> (f32, i32),
    /// Fills four planes, one after the other, with clamp(round(x * inverse), -8, 7) in two's complement; gives the
    /// sum of these integers. A plane has a bit for each component, in words, zero past the last.
    pub planes: fn(&[f32], f32, &mut [u64]) -> i32,
}

/// The fastest kernels that this processor can run.
pub(crate) fn best() -> &'static Kernels {
    static BEST: OnceLock<Kernels> = OnceLock::new();
    BEST.get_or_init(|| available().first().copied().unwrap_or(portable::KERNELS))
}

/// Every set that this processor can run, fastest first; the portable one is the last.
pub(crate) fn available() -> Vec<Kernels> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::supported() {
            found.push(avx512::KERNELS);
        }
        if avx2::supported() {
            found.push(avx2::KERNELS);
        }
    }
    #[cfg(target_arch = "aarch64")]
    found.push(neon::KERNELS);
    found.push(portable::KERNELS);
    found
}

#[cfg(test)]
mod tests;
