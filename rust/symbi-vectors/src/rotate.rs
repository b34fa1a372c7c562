//! A rotation that spreads every vector evenly over its components.
//!
//! Why: few bits a component are enough only when components are alike, and those of an embedding are not. Random
//! signs and a Walsh-Hadamard transform do it in n log n; where the dimension is no power of two, the transform runs
//! over two blocks that overlap, twice.
//! Not here: codes (`codes`).
//!
//! Invariants
//! - RO1 inner products do not change, but for rounding.
//! - RO2 the same seed and dimension give the same rotation, on every machine.
//!
//! Source: Ailon & Chazelle 2009 (fast Johnson-Lindenstrauss transform).

use crate::kernels::Kernels;
use crate::seeds::mix;

const ROUNDS: u64 = 2;

/// A fixed random rotation.
#[derive(Debug)]
pub(crate) struct Rotation {
    block: usize,
    signs: Vec<Vec<f32>>,
}

impl Rotation {
    pub(crate) fn new(dimension: usize, seed: u64) -> Self {
        let sign = |round: u64, at: usize| {
            if mix(seed ^ mix(round << 32 | at as u64)) & 1 == 0 { 1.0 } else { -1.0 }
        };
        let signs = (0..ROUNDS).map(|round| (0..dimension).map(|at| sign(round, at)).collect()).collect();
        Self { block: 1 << dimension.ilog2(), signs }
    }

    /// Rotates in place (RO1).
    pub(crate) fn apply(&self, kernels: &Kernels, vector: &mut [f32]) {
        let block = self.block;
        let factor = 1.0 / (block as f32).sqrt();
        for signs in &self.signs {
            for (value, sign) in vector.iter_mut().zip(signs) {
                *value *= sign;
            }
            if let Some(first) = vector.get_mut(..block) {
                (kernels.hadamard)(first, factor);
            }
            let rest = vector.len() - block;
            if let Some(last) = vector.get_mut(rest..).filter(|_| rest > 0) {
                (kernels.hadamard)(last, factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::best;

    /// RO1, RO2: lengths and angles stay; a second rotation of the same seed is the same.
    #[test]
    fn ro1_ro2_inner_products_stay() {
        for dimension in [1, 2, 3, 96, 384, 1000, 1536] {
            let vector = |salt: u64| -> Vec<f32> {
                (0..dimension).map(|at| (mix(salt ^ at as u64) % 2001) as f32 / 1000.0 - 1.0).collect()
            };
            let (a, b) = (vector(1), vector(2));
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let turn = |vector: &[f32], seed| {
                let mut turned = vector.to_vec();
                Rotation::new(dimension, seed).apply(best(), &mut turned);
                turned
            };
            let (ra, rb) = (turn(&a, 7), turn(&b, 7));
            let scale = dot(&a, &a).max(1.0);
            assert!((dot(&a, &b) - dot(&ra, &rb)).abs() < 1e-4 * scale, "{dimension}");
            assert!((dot(&a, &a) - dot(&ra, &ra)).abs() < 1e-4 * scale, "{dimension}");
            assert_eq!(ra, turn(&a, 7));
            assert!(dimension < 3 || ra != turn(&a, 8));
        }
    }

    #[test]
    fn a_single_component_is_spread_over_all() {
        let mut vector = vec![0.0; 1536];
        vector[17] = 1.0;
        Rotation::new(1536, 3).apply(best(), &mut vector);
        let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest < 0.3, "{largest}");
    }
}
