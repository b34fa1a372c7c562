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

use crate::aligned::Aligned;
use crate::kernels::Kernels;
use crate::seeds::mix;

const ROUNDS: usize = 2;

/// A fixed random rotation.
#[derive(Debug)]
pub(crate) struct Rotation {
    block: usize,
    /// Of the first round: vectors are copied with them.
    signs: Vec<f32>,
    /// What the first and the last block of each round are multiplied by: what keeps lengths, and the signs of the round.
    factors: [[Vec<f32>; 2]; ROUNDS],
}

impl Rotation {
    pub(crate) fn new(dimension: usize, seed: u64) -> Self {
        let sign = |round: usize, at: usize| {
            if mix(seed ^ mix((round as u64) << 32 | at as u64)) & 1 == 0 { 1.0 } else { -1.0 }
        };
        let block = 1 << dimension.ilog2();
        let length = 1.0 / (block as f32).sqrt();
        // The first round's signs are in the vector already, and those that both blocks share count once.
        let signed = |round: usize, at: usize| if round == 0 { length } else { length * sign(round, at) };
        let factors = std::array::from_fn(|round| {
            let shared = std::iter::repeat_n(length, 2 * block - dimension);
            let first = (0..block).map(|at| signed(round, at)).collect();
            [first, shared.chain((block..dimension).map(|at| signed(round, at))).collect()]
        });
        Self { block, signs: (0..dimension).map(|at| sign(0, at)).collect(), factors }
    }

    /// Writes `vector`, rotated, into `turned` (RO1).
    pub(crate) fn apply(&self, kernels: &Kernels, vector: &[f32], turned: &mut Aligned) {
        turned.fill(vector.iter().zip(&self.signs).map(|(value, sign)| value * sign));
        let rest = turned.len() - self.block;
        for [first, last] in &self.factors {
            if let Some(values) = turned.get_mut(..self.block) {
                (kernels.hadamard)(values, first);
            }
            if let Some(values) = turned.get_mut(rest..).filter(|_| rest > 0) {
                (kernels.hadamard)(values, last);
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
                let mut turned = Aligned::default();
                Rotation::new(dimension, seed).apply(best(), vector, &mut turned);
                turned.to_vec()
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
        let (mut vector, mut turned) = (vec![0.0; 1536], Aligned::default());
        vector[17] = 1.0;
        Rotation::new(1536, 3).apply(best(), &vector, &mut turned);
        let largest = turned.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest < 0.3, "{largest}");
    }
}
