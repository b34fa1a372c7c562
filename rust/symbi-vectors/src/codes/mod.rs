//! Vectors as few bits, and distances from them.
//!
//! Why: a search waits for memory; at 1536 dimensions a vector of floats is 96 cache lines and its code 4. A row is the
//! code, then two floats: a scale and the squared norm. An inner product is estimated as `scale * (integers)`, with
//! the scale chosen so that the estimate is not biased (|x|² over the product of x with its own code).
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

use crate::kernels::{Affine, Kernels, View, fetch_vector};
use crate::options::{Metric, Options, Quantization};
use crate::rotate::Rotation;

/// Codes this long start at a cache line: a row then touches no line more than it must.
const ALIGNED_BYTES: usize = 192;
const TRAILER_BYTES: usize = 8;

/// A query, made ready for one codec. Reused between searches, so that none allocates.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// As it is compared in full precision: normalised under cosine.
    pub exact: Vec<f32>,
    rotated: Vec<f32>,
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
        Self { kernels, metric, code, dimension, rotation, code_bytes }
    }

    /// Bytes of a row; zero where the vectors themselves are walked on.
    pub(crate) fn stride(&self) -> usize {
        match (self.code, self.code_bytes + TRAILER_BYTES) {
            (Quantization::None, _) => 0,
            (_, bytes) if bytes > ALIGNED_BYTES && self.dimension >= 512 => bytes.next_multiple_of(64),
            (_, bytes) => bytes,
        }
    }

    /// Writes the row of `vector` (as stored: normalised under cosine). `rotated` is scratch.
    pub(crate) fn encode(&self, vector: &[f32], rotated: &mut Vec<f32>, row: &mut [u8]) {
        let Some(rotation) = &self.rotation else { return };
        rotated.clear();
        rotated.extend_from_slice(vector);
        rotation.apply(self.kernels, rotated);
        let squared_norm = (self.kernels.dot)(rotated, rotated);
        let (code, rest) = row.split_at_mut(self.code_bytes);
        let product = match self.code {
            Quantization::Int8 => int8::encode(rotated, code),
            Quantization::Int4 => int4::encode(self.kernels, rotated, code),
            Quantization::Binary | Quantization::None => binary::encode(rotated, code),
        };
        let scale = if product > 0.0 { squared_norm / product } else { 0.0 };
        for (place, float) in rest.chunks_exact_mut(4).zip([scale, squared_norm]) {
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
        query.rotated.clear();
        query.rotated.extend_from_slice(&query.exact);
        rotation.apply(self.kernels, &mut query.rotated);
        let padded = 8 * self.code_bytes;
        let (w1, w0) = match self.code {
            Quantization::Int8 => int8::prepare(self.kernels, &query.rotated, padded / 8, &mut query.bytes),
            Quantization::Int4 => int4::prepare(self.kernels, &query.rotated, padded / 4, &mut query.bytes),
            Quantization::Binary | Quantization::None => {
                binary::prepare(self.kernels, &query.rotated, padded / 64, &mut query.planes)
            }
        };
        query.affine = match self.metric {
            Metric::Cosine => Affine { c0: 1.0, cn: 0.0, w1: -w1, w0: -w0 },
            Metric::Dot => Affine { c0: 0.0, cn: 0.0, w1: -w1, w0: -w0 },
            Metric::L2 => {
                let squared_norm = (self.kernels.dot)(&query.exact, &query.exact);
                Affine { c0: squared_norm, cn: 1.0, w1: -2.0 * w1, w0: -2.0 * w0 }
            }
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
    pub(crate) fn between(&self, left: &[u8], right: &[u8]) -> f32 {
        let (a, left_floats) = left.split_at(self.code_bytes);
        let (b, right_floats) = right.split_at(self.code_bytes);
        let (left_scale, left_norm) = floats(left_floats);
        let (right_scale, right_norm) = floats(right_floats);
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

#[inline(always)]
fn floats(bytes: &[u8]) -> (f32, f32) {
    match bytes {
        [a, b, c, d, e, f, g, h, ..] => {
            (f32::from_le_bytes([*a, *b, *c, *d]), f32::from_le_bytes([*e, *f, *g, *h]))
        }
        _ => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests;
