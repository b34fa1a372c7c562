//! Nearest neighbours among vectors: an HNSW graph over quantised codes, exact at the end.
//!
//! Why our own: the crates that exist have no removal, lose recall under change, or trust what they read from a file.
//! Not here: ids' meaning, texts, embedding, who may see what (callers pass a [`Filter`]). No clock; randomness comes
//! from a seed.
//!
//! ```
//! use symbi_vectors::{Index, Metric, Mode, Options, Quantization};
//!
//! let index = Index::new(Options {
//!     dimension: 3, metric: Metric::L2, m: 16, ef_construct: 200, quantization: Quantization::None, seed: 0,
//! })?;
//! index.add(&[7, 9], &[0.0, 0.0, 1.0, 2.0, 0.0, 0.0], Mode::Insert, 1, &mut |_, _| true)?;
//! let (mut ids, mut distances) = ([0; 1], [0.0; 1]);
//! index.search(&[2.0, 1.0, 0.0], 1, None, None, 1, &mut ids, &mut distances)?;
//! assert_eq!((ids, distances), ([9], [1.0]));
//! # Ok::<(), symbi_vectors::VectorError>(())
//! ```

mod aligned;
mod batch;
mod candidates;
mod centre;
mod codes;
mod error;
mod fields;
mod files;
mod filter;
mod graph;
mod index;
mod journal;
mod kernels;
mod link;
mod lists;
mod memory;
mod options;
mod prune;
mod query;
mod rescore;
mod rotate;
mod scan;
mod search;
mod seeds;
mod sharing;
mod snapshot;
mod store;
mod sums;
mod sync;
mod visited;
mod writer;

pub use error::VectorError;
pub use files::Access;
pub use filter::Filter;
pub use index::{EF_DEFAULT, Index, Mode, Stats};
pub use options::{
    AUTO_BINARY_DIMENSION, AUTO_CODE_DIMENSION, DIMENSION_MAX, EF_MAX, K_MAX, M_MAX, Metric, Options,
    Quantization, SLOTS_MAX, THREADS_MAX,
};
