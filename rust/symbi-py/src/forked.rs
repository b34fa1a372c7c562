//! What a forked child must never finalise.
//!
//! Why: the objects of a runtime own threads, descriptors and processes that are the parent's. Python frees what nobody
//! refers to, at the latest when the interpreter ends; what is given here is referred to for ever.
//! Not here: when (`symbi.runtime.forked`).

use pyo3::prelude::*;

/// Keeps an object until the process is gone.
#[pyfunction]
fn keep_forever(thing: Py<PyAny>) {
    Box::leak(Box::new(thing));
}

/// Adds this module's function to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(keep_forever, module)?)
}
