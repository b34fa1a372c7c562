//! Kernels for aarch64: the portable ones, whose loops the compiler vectorises for NEON, and bit counts by CNT.
//!
//! Why so little: NEON is the baseline of the target, so plain loops already use it. What is not, the count of bits,
//! is written out.
//! Not here: SDOT and SVE.
#![expect(unsafe_code, reason = "loads through pointers")]
#![expect(clippy::indexing_slicing, reason = "every index is below a length that was asserted")]

use std::arch::aarch64::{vaddlvq_u8, vandq_u8, vcntq_u8, vld1q_u8};

use super::rows::each_row;
use super::{Affine, Kernels, View, portable};

pub(super) const KERNELS: Kernels = Kernels { name: "neon", bits_many, ..portable::KERNELS };

fn bits_many(query: &[u64], rows: &View<'_>, slots: &[u32], affine: &Affine, out: &mut Vec<f32>) {
    let words = query.len() / 4;
    if words % 2 == 1 {
        return portable::bits_body(query, rows, slots, affine, out);
    }
    each_row(rows, slots, out, |row, (scale, squared_norm)| {
        assert!(row.len() == 8 * words, "KN3");
        let mut sum = 0_i32;
        for (plane, weight) in query.chunks_exact(words).zip([1, 2, 4, -8]) {
            let mut count = 0_i32;
            for at in (0..words).step_by(2) {
                // SAFETY: at + 2 words lie within the row, as was asserted, and within the plane.
                let common = unsafe {
                    vandq_u8(vld1q_u8(row.as_ptr().add(8 * at)), vld1q_u8(plane[at..].as_ptr().cast()))
                };
                // SAFETY: NEON is part of every aarch64 processor that this target allows.
                count += i32::from(unsafe { vaddlvq_u8(vcntq_u8(common)) });
            }
            sum += weight * count;
        }
        affine.distance(sum, scale, squared_norm)
    });
}
