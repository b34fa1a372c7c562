//! What an index is made with, and the bounds of it.

use crate::error::{Result, VectorError};

/// Largest dimension: integer sums of 8-bit codes stay within 32 bits up to here.
pub const DIMENSION_MAX: usize = 65_536;
/// Slots an index can number: a slot and a mark share 32 bits.
pub const SLOTS_MAX: usize = 1 << 30;
/// Largest `m`; a node of the lowest layer has up to twice as many links.
pub const M_MAX: usize = 128;
/// Largest `ef` and `ef_construct`.
pub const EF_MAX: usize = 65_536;
/// Most results of one query.
pub const K_MAX: usize = 16_384;
/// Most threads of one call.
pub const THREADS_MAX: usize = 1024;

/// From here on `auto` keeps one bit a dimension; below, four. Measured: docs/vectors.md.
pub const AUTO_BINARY_DIMENSION: usize = 1024;
/// Below this a code saves too little, and loses too much, to be worth it: `auto` keeps floats.
pub const AUTO_CODE_DIMENSION: usize = 64;

/// How far two vectors are from each other; smaller is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// 1 - cosine of the angle. Vectors are normalised when they are added.
    Cosine,
    /// Squared Euclidean distance.
    L2,
    /// Minus the inner product.
    Dot,
}

impl Metric {
    /// Its public name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::L2 => "l2",
            Self::Dot => "dot",
        }
    }
}

impl std::str::FromStr for Metric {
    type Err = VectorError;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Cosine, Self::L2, Self::Dot]
            .into_iter()
            .find(|metric| metric.as_str() == text)
            .ok_or_else(|| range("metric", text, "`cosine`, `l2` or `dot`"))
    }
}

/// What a search walks on; hits are measured again in full precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// The vectors themselves.
    None,
    /// A byte a dimension.
    Int8,
    /// Half a byte a dimension.
    Int4,
    /// One bit a dimension, compared with a query of four.
    Binary,
}

impl Quantization {
    /// Its public name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Binary => "binary",
        }
    }

    /// The code for a name; `auto` chooses by dimension.
    ///
    /// # Errors
    /// [`VectorError::Range`] for any other name.
    pub fn choose(text: &str, dimension: usize) -> Result<Self> {
        if text == "auto" {
            return Ok(match dimension {
                AUTO_BINARY_DIMENSION.. => Self::Binary,
                AUTO_CODE_DIMENSION.. => Self::Int4,
                _ => Self::None,
            });
        }
        [Self::None, Self::Int8, Self::Int4, Self::Binary]
            .into_iter()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| range("quantization", text, "`auto`, `none`, `int8`, `int4` or `binary`"))
    }
}

/// Settings of an index; they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Components of a vector, 1 to [`DIMENSION_MAX`].
    pub dimension: usize,
    /// What is near.
    pub metric: Metric,
    /// Links a new node makes, 2 to [`M_MAX`].
    pub m: usize,
    /// Candidates that a new node's links are chosen from, `m` to [`EF_MAX`].
    pub ef_construct: usize,
    /// What searches walk on.
    pub quantization: Quantization,
    /// Seeds the layers of nodes and the rotation.
    pub seed: u64,
}

impl Options {
    /// Settings that hold.
    ///
    /// # Errors
    /// [`VectorError::Range`] names the one that does not.
    pub fn checked(self) -> Result<Self> {
        if !(1..=DIMENSION_MAX).contains(&self.dimension) {
            return Err(range("dimension", self.dimension, "1 to 65,536"));
        }
        if !(2..=M_MAX).contains(&self.m) {
            return Err(range("m", self.m, "2 to 128"));
        }
        if self.ef_construct < self.m || self.ef_construct > EF_MAX {
            return Err(range("ef_construct", self.ef_construct, "`m` to 65,536"));
        }
        Ok(self)
    }
}

pub(crate) fn range(name: &'static str, given: impl ToString, accepted: &'static str) -> VectorError {
    VectorError::Range { name, given: given.to_string(), accepted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_chooses_by_dimension() {
        for (dimension, code) in [(1, "none"), (63, "none"), (64, "int4"), (384, "int4"), (1536, "binary")] {
            assert_eq!(Quantization::choose("auto", dimension).unwrap().as_str(), code);
        }
        assert!(Quantization::choose("pq", 384).is_err());
        assert!("hamming".parse::<Metric>().is_err());
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let good = Options {
            dimension: 3,
            metric: Metric::L2,
            m: 16,
            ef_construct: 200,
            quantization: Quantization::None,
            seed: 0,
        };
        assert!(good.checked().is_ok());
        for (bad, name) in [
            (Options { dimension: 0, ..good }, "dimension"),
            (Options { dimension: 65_537, ..good }, "dimension"),
            (Options { m: 1, ..good }, "`m`"),
            (Options { ef_construct: 15, ..good }, "ef_construct"),
        ] {
            assert!(bad.checked().unwrap_err().to_string().contains(name));
        }
    }
}
