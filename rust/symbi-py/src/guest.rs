//! The static guest program, carried inside the extension module.
//!
//! Why: one wheel, no download, no second package; what a sandbox runs is what was built with the runtime.
//! Not here: building it (`build.rs`), making an image of it or starting it (`symbi/sandbox`).

use std::sync::LazyLock;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest as _, Sha256};

/// The program, an ELF file.
static GUEST: &[u8] = include_bytes!(env!("SYMBI_GUEST"));
static DIGEST: LazyLock<String> = LazyLock::new(|| hex(&Sha256::digest(GUEST)));

/// The program's bytes: an executable ELF file without any dependency.
#[pyfunction]
fn guest_binary(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, GUEST)
}

/// SHA-256 of the program, 64 hex digits.
#[pyfunction]
fn guest_digest() -> &'static str {
    &DIGEST
}

/// Adds this module's functions to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(guest_binary, module)?)?;
    module.add_function(wrap_pyfunction!(guest_digest, module)?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
