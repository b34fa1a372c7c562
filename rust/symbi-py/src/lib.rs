//! `symbi._core`: the binding.
//!
//! Why: Python is the interface, Rust the truth. This crate converts in, calls the core, converts out.
//! Not here: any rule of the business. A branch about policy, order or trust belongs in a core crate.
//!
//! Invariants
//! - B1 whatever may take longer than a few microseconds runs in `errors::enter`, without the GIL.
//! - B2 a core error becomes the Python class that `errors` names, with its stable code.

mod agents;
mod approvals;
mod audit;
mod breach;
mod collect;
mod convert;
mod erasure;
mod errors;
mod explain;
mod forked;
mod guest;
mod kernel;
mod keys;
mod knowledge;
mod letters;
mod mail;
mod messages;
mod permits;
mod policy;
mod proofs;
mod runs;
mod scheduler;
mod supervise;
mod trail;
mod vectors;
mod whatif;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods as _, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("profile", if cfg!(debug_assertions) { "ci" } else { "release" })?;
        super::audit::register(module)?;
        super::proofs::register(module)?;
        super::trail::register(module)?;
        super::guest::register(module)?;
        super::policy::register(module)?;
        super::explain::register(module)?;
        super::forked::register(module)?;
        super::kernel::register(module)?;
        super::erasure::register(module)?;
        super::scheduler::register(module)?;
        super::whatif::register(module)?;
        super::vectors::register(module)
    }
}
