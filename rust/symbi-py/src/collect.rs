//! Collection in a `Kernel`, and what there is in it.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::kernel::Kernel;

#[pymethods]
impl Kernel {
    /// Nanoseconds until there is something to collect, 0 where it is due; None where there is nothing.
    fn collect_in_ns(&self) -> Option<u64> {
        self.core.collect_due_ns().map(|due| due.saturating_sub(self.core.monotonic_ns()))
    }

    /// About so many units of work, about a microsecond each. Answers what was done, and whether there is more.
    fn collect<'py>(&self, py: Python<'py>, units: usize) -> PyResult<Bound<'py, PyDict>> {
        let done = py.detach(|| self.core.collect(units));
        let dict = PyDict::new(py);
        dict.set_item("units", done.units)?;
        dict.set_item("agents", done.agents)?;
        dict.set_item("messages", done.messages)?;
        dict.set_item("requests", done.requests)?;
        dict.set_item("sessions", done.sessions)?;
        dict.set_item("denials", done.denials)?;
        dict.set_item("more", done.more)?;
        Ok(dict)
    }

    /// How many of each kind there are.
    fn live<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let live = py.detach(|| self.core.live());
        let dict = PyDict::new(py);
        dict.set_item("agents", live.agents)?;
        dict.set_item("runs", live.runs)?;
        dict.set_item("permits", live.permits)?;
        dict.set_item("mailboxes", live.mailboxes)?;
        dict.set_item("messages", live.messages)?;
        dict.set_item("requests", live.requests)?;
        dict.set_item("sessions", live.sessions)?;
        dict.set_item("buckets", live.buckets)?;
        dict.set_item("shares", live.shares)?;
        dict.set_item("denials", live.denials)?;
        dict.set_item("listed", live.listed)?;
        Ok(dict)
    }
}
