//! What a forked child must never finalise.
//!
//! Why: the objects of a runtime own threads, descriptors and processes that are the parent's. Python frees what nobody
//! refers to, at the latest when the interpreter ends; what is given here is referred to for ever.
//! A child that kept a kernel of its parent's must not seal with it: both would count the same nonces under the same keys. So
//! a kernel knows of which process it is.
//! Not here: when (`symbi.runtime.forked`).

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::errors::Raise;

/// How often this process was forked off, counted along its line of parents.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// This process is a child that was forked off just now.
#[pyfunction]
fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Which process this is, as far as forks tell.
pub(crate) fn process() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Whether what was made in `process` may be used in this one. Cost: one load.
pub(crate) fn check(made_in: u32) -> Result<(), Raise> {
    if made_in == process() {
        return Ok(());
    }
    let text = "this runtime was opened before a fork: open one in this process, on its own data";
    Err(Raise::new("RuntimeClosedError", text))
}

/// Keeps an object until the process is gone.
#[pyfunction]
fn keep_forever(thing: Py<PyAny>) {
    Box::leak(Box::new(thing));
}

/// Adds this module's function to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(forked, module)?)?;
    module.add_function(wrap_pyfunction!(keep_forever, module)?)
}
