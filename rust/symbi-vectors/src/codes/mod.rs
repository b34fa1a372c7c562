//! Vectors as few bits, and distances from them.
//!
//! Why: a search waits for memory; at 1536 dimensions a vector of floats is 96 cache lines and its code 3. Beside each code
//! stand two floats, its factors: a scale and the squared norm. An inner product is estimated as `scale * (integers)`, with
//! the scale chosen so that the estimate is not biased (|x|² over the product of x with its own code). Factors have a table
//! of their own (`table`): it stays in a near cache, and a code is whole lines.
//! Not here: the exact distance of the few best (`rescore`).
//!
//! Invariants
//! - CO1 an estimate depends on the row and the query alone: the same on every machine, thread and run.
//! - CO2 the estimate of a row for its own vector is the exact distance, but for the query's rounding.
//!
//! Source: Gao & Long 2024 (RaBitQ) for the one-bit code and the unbiased scale.

mod binary;
mod int4;
mod int8;
mod table;

use crate::aligned::Aligned;
use crate::kernels::{Affine, FACTORS_BYTES, Kernels, View, fetch_vector};
use crate::options::{Metric, Options, Quantization};
use crate::rotate::Rotation;

pub(crate) use table::Table;

/// A query, made ready for one codec. Reused between searches, so that none allocates.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// As it is compared in full precision: normalised under cosine.
    pub exact: Aligned,
    rotated: Aligned,
    bytes: Vec<i8>,
    planes: Vec<u64>,
    affine: Affine,
}

/// Encodes vectors and compares codes, for one index.
#[derive(Debug)]
pub(crate) struct Codec {
    pub kernels: &'static Kernels,
    pub metric: Metric,
    code: Quantization,
    dimension: usize,
    rotation: Option<Rotation>,
    code_bytes: usize,
    /// What codes are measured from, rotated; empty: zero.
    centre: Vec<f32>,
    centre_energy: f32,
}

impl Codec {
    pub(crate) fn new(options: &Options, kernels: &'static Kernels) -> Self {
        let dimension = options.dimension;
        let code_bytes = match options.quantization {
            Quantization::None => 0,
            Quantization::Int8 => dimension.next_multiple_of(64),
            Quantization::Int4 => dimension.next_multiple_of(128) / 2,
            Quantization::Binary => dimension.next_multiple_of(64) / 8,
        };
        let rotation =
            (options.quantization != Quantization::None).then(|| Rotation::new(dimension, options.seed));
        let (metric, code) = (options.metric, options.quantization);
        let (centre, centre_energy) = (Vec::new(), 0.0);
        Self { kernels, metric, code, dimension, rotation, code_bytes, centre, centre_energy }
    }

    /// The same with another centre, which is rotated, or empty for zero.
    pub(crate) fn centred(options: &Options, kernels: &'static Kernels, centre: Vec<f32>) -> Self {
        let centre_energy = (kernels.energy)(&centre);
        Self { centre, centre_energy, ..Self::new(options, kernels) }
    }

    /// What codes are measured from, rotated; empty: zero.
    pub(crate) fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// A vector as codes see it.
    pub(crate) fn rotated(&self, vector: Vec<f32>) -> Vec<f32> {
        let Some(rotation) = &self.rotation else { return vector };
        let mut turned = Aligned::default();
        rotation.apply(self.kernels, &vector, &mut turned);
        turned.to_vec()
    }

    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Bytes of a code; zero where the vectors themselves are walked on.
    pub(crate) fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    /// Bytes of a code and its factors.
    pub(crate) fn row_bytes(&self) -> usize {
        if self.code_bytes == 0 { 0 } else { self.code_bytes + FACTORS_BYTES }
    }

    /// Writes the code of `vector` (as stored: normalised under cosine), then its factors. `rotated` is scratch.
    pub(crate) fn encode(&self, vector: &[f32], rotated: &mut Aligned, row: &mut [u8]) {
        let Some(rotation) = &self.rotation else { return };
        rotation.apply(self.kernels, vector, rotated);
        let mut beside = 0.0; // the product of what the code stands for with the centre
        if !self.centre.is_empty() {
            beside = (self.kernels.dot)(rotated, &self.centre) - self.centre_energy;
            rotated.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value -= centre);
        }
        let squared_norm = (self.kernels.dot)(rotated, rotated);
        let (code, rest) = row.split_at_mut(self.code_bytes);
        let product = match self.code {
            Quantization::Int8 => int8::encode(rotated, code),
            Quantization::Int4 => int4::encode(self.kernels, rotated, code),
            Quantization::Binary | Quantization::None => binary::encode(rotated, code),
        };
        let scale = if product > 0.0 { squared_norm / product } else { 0.0 };
        let second = if self.metric == Metric::L2 { squared_norm } else { beside };
        for (place, float) in rest.chunks_exact_mut(4).zip([scale, second]) {
            place.copy_from_slice(&float.to_le_bytes());
        }
    }

    /// Makes `query.exact` ready to be compared with rows.
    pub(crate) fn prepare(&self, query: &mut Query) {
        let Some(rotation) = &self.rotation else {
            let c0 = if self.metric == Metric::Cosine { 1.0 } else { 0.0 };
            query.affine = Affine { c0, w1: -1.0, ..Affine::default() };
            return;
        };
        rotation.apply(self.kernels, &query.exact, &mut query.rotated);
        let energy = (self.kernels.energy)(&query.rotated);
        let (mut apart, mut along) = (energy, 0.0); // squared distance from the centre, product with it
        if !self.centre.is_empty() {
            query.rotated.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value -= centre);
            apart = (self.kernels.energy)(&query.rotated);
            along = 0.5 * (energy + self.centre_energy - apart);
        }
        let padded = 8 * self.code_bytes;
        let (w1, w0) = match self.code {
            Quantization::Int8 => int8::prepare(self.kernels, &query.rotated, padded / 8, &mut query.bytes),
            Quantization::Int4 => int4::prepare(self.kernels, &query.rotated, padded / 4, &mut query.bytes),
            Quantization::Binary | Quantization::None => {
                binary::prepare(self.kernels, &query.rotated, apart, padded / 64, &mut query.planes)
            }
        };
        query.affine = match self.metric {
            Metric::Cosine => Affine { c0: 1.0 - along, cn: -1.0, w1: -w1, w0: -w0 },
            Metric::Dot => Affine { c0: -along, cn: -1.0, w1: -w1, w0: -w0 },
            Metric::L2 => Affine { c0: apart, cn: 1.0, w1: -2.0 * w1, w0: -2.0 * w0 },
        };
    }

    /// Estimated distances of the rows `slots` of `rows` (of the vectors themselves for `none`), in order.
    #[inline]
    pub(crate) fn estimate(&self, query: &Query, rows: &View<'_>, slots: &[u32], out: &mut Vec<f32>) {
        let kernels = self.kernels;
        match (self.code, self.metric) {
            (Quantization::Binary, _) => (kernels.bits_many)(&query.planes, rows, slots, &query.affine, out),
            (Quantization::Int4, _) => (kernels.int4_many)(&query.bytes, rows, slots, &query.affine, out),
            (Quantization::Int8, _) => (kernels.int8_many)(&query.bytes, rows, slots, &query.affine, out),
            (Quantization::None, Metric::L2) => {
                (kernels.squared_many)(&query.exact, rows, slots, &query.affine, out);
            }
            (Quantization::None, _) => (kernels.dot_many)(&query.exact, rows, slots, &query.affine, out),
        }
    }

    /// Estimated distance of two rows. One-bit codes are too coarse for it and must not come here.
    #[inline]
    pub(crate) fn between(&self, rows: &View<'_>, left: u32, right: u32) -> f32 {
        let (a, b) = (rows.row(left), rows.row(right));
        let ((left_scale, left_norm), (right_scale, right_norm)) = (rows.factors(left), rows.factors(right));
        let product = match self.code {
            Quantization::Int8 => (self.kernels.int8_pair)(a, b) as f32,
            _ => int4::product((self.kernels.int4_pair)(a, b), self.dimension),
        };
        let inner = left_scale * right_scale * product;
        match self.metric {
            Metric::Cosine => 1.0 - inner,
            Metric::Dot => -inner,
            Metric::L2 => left_norm + right_norm - 2.0 * inner,
        }
    }

    /// Exact distance of two vectors as they are stored.
    #[inline]
    pub(crate) fn exact(&self, left: &[f32], right: &[f32]) -> f32 {
        self.exact_ahead(left, right, &[])
    }

    /// As `exact`, asking for the lines of `next` meanwhile.
    #[inline]
    pub(crate) fn exact_ahead(&self, left: &[f32], right: &[f32], next: &[f32]) -> f32 {
        match self.metric {
            Metric::Cosine => 1.0 - (self.kernels.dot_ahead)(left, right, next),
            Metric::Dot => -(self.kernels.dot_ahead)(left, right, next),
            Metric::L2 => {
                fetch_vector(next);
                (self.kernels.squared)(left, right)
            }
        }
    }
}

#[cfg(test)]
mod tests;
