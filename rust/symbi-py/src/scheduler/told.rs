//! What the scheduler says: decisions, reasons, counts, on their way to Python.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};
use symbi_scheduler as core;
use symbi_types::ResourceVector;

use super::batch::bytes;

/// In a column of nodes: there is none, for it is a task that shall stand still.
const NO_NODE: u32 = u32::MAX;

/// What to do with one task now.
#[pyclass(frozen, eq, hash, module = "symbi._core")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Placement(pub(super) core::Decision);

#[pymethods]
impl Placement {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("kind", "id", "node")
    }

    /// `start`, `resume` or `suspend`.
    #[getter]
    const fn kind(&self) -> &'static str {
        match self.0 {
            core::Decision::Start { .. } => "start",
            core::Decision::Resume { .. } => "resume",
            core::Decision::Suspend { .. } => "suspend",
        }
    }

    #[getter]
    const fn id(&self) -> u64 {
        parts(self.0).0
    }

    /// Where it runs; None for a task that shall stand still.
    #[getter]
    const fn node(&self) -> Option<u32> {
        match self.0 {
            core::Decision::Start { node, .. } | core::Decision::Resume { node, .. } => Some(node.0),
            core::Decision::Suspend { .. } => None,
        }
    }

    /// For which more urgent task it shall stand still.
    #[getter]
    const fn urgent(&self) -> Option<u64> {
        match self.0 {
            core::Decision::Suspend { urgent, .. } => Some(urgent.0),
            core::Decision::Start { .. } | core::Decision::Resume { .. } => None,
        }
    }

    fn __repr__(&self) -> String {
        match self.0 {
            core::Decision::Start { task, node } => {
                format!("Placement(kind='start', id={task}, node={node})")
            }
            core::Decision::Resume { task, node } => {
                format!("Placement(kind='resume', id={task}, node={node})")
            }
            core::Decision::Suspend { task, urgent } => {
                format!("Placement(kind='suspend', id={task}, urgent={urgent})")
            }
        }
    }
}

/// Task, node, number of the kind, urgent task.
const fn parts(decision: core::Decision) -> (u64, u32, u8, u64) {
    match decision {
        core::Decision::Start { task, node } => (task.0, node.0, 0, 0),
        core::Decision::Resume { task, node } => (task.0, node.0, 1, 0),
        core::Decision::Suspend { task, urgent } => (task.0, NO_NODE, 2, urgent.0),
    }
}

pub(super) type Columns<'py> =
    (Bound<'py, PyByteArray>, Bound<'py, PyByteArray>, Bound<'py, PyByteArray>, Bound<'py, PyByteArray>);

/// `(id uint64, node uint32, kind uint8, urgent uint64)`
pub(super) fn columns_out<'py>(py: Python<'py>, decisions: &[core::Decision]) -> PyResult<Columns<'py>> {
    let all = || decisions.iter().map(|decision| parts(*decision));
    Ok((
        bytes(py, all().map(|(task, ..)| task.to_ne_bytes()))?,
        bytes(py, all().map(|(_, node, ..)| node.to_ne_bytes()))?,
        bytes(py, all().map(|(_, _, kind, _)| [kind]))?,
        bytes(py, all().map(|(.., urgent)| urgent.to_ne_bytes()))?,
    ))
}

/// Amounts by name, in the order of [`core::Resource::ALL`].
pub(super) fn amounts_out<'py>(py: Python<'py>, amounts: ResourceVector) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (resource, amount) in core::Resource::ALL.into_iter().zip(amounts.to_array()) {
        dict.set_item(resource.as_str(), amount)?;
    }
    Ok(dict)
}

fn lacks_out(lacking: &[core::Lack]) -> Vec<(&'static str, u64, u64)> {
    lacking.iter().map(|lack| (lack.resource.as_str(), lack.need, lack.have)).collect()
}

/// What stands in `why` beside the state: see `symbi.scheduler.Why`.
pub(super) fn why_out<'py>(py: Python<'py>, why: &core::Why) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let state = |name: &str| dict.set_item("state", name);
    match why {
        core::Why::Running { node } => {
            state("running")?;
            dict.set_item("node", node.0)?;
        }
        core::Why::Suspending { node, urgent } => {
            state("suspending")?;
            dict.set_item("node", node.0)?;
            dict.set_item("task", urgent.0)?;
        }
        core::Why::Suspended { node, urgent, held, lacking } => {
            state("suspended")?;
            dict.set_item(
                "reason",
                if *held {
                    "held"
                } else if lacking.is_empty() {
                    "next"
                } else {
                    "lacks"
                },
            )?;
            dict.set_item("node", node.0)?;
            dict.set_item("task", urgent.map(|task| task.0))?;
            dict.set_item("lacks", lacks_out(lacking))?;
        }
        core::Why::Waiting { position, reason } => {
            state("waiting")?;
            dict.set_item("position", position)?;
            reason_out(&dict, reason)?;
        }
    }
    Ok(dict)
}

fn reason_out(dict: &Bound<'_, PyDict>, reason: &core::Reason) -> PyResult<()> {
    let told = |name: &str| dict.set_item("reason", name);
    match reason {
        core::Reason::Next => told("next"),
        core::Reason::Turn => told("turn"),
        core::Reason::Held => told("held"),
        core::Reason::AgentBusy { running } => {
            told("agent_busy")?;
            dict.set_item("task", running.0)
        }
        core::Reason::AgentQueue { before } => {
            told("agent_queue")?;
            dict.set_item("task", before.0)
        }
        core::Reason::HeldBy { head } => {
            told("held_by")?;
            dict.set_item("task", head.0)
        }
        core::Reason::Lacks { node, lacking } => {
            told("lacks")?;
            dict.set_item("node", node.map(|node| node.0))?;
            dict.set_item("lacks", lacks_out(lacking))
        }
        core::Reason::Quota { tenant, lacking } => {
            told("quota")?;
            dict.set_item("tenant", tenant.0)?;
            dict.set_item("lacks", lacks_out(lacking))
        }
        core::Reason::Reserved { node } => {
            told("reserved")?;
            dict.set_item("node", node.0)
        }
    }
}

/// Counts and totals: see `symbi.scheduler.Stats`.
pub(super) fn stats_out<'py>(
    py: Python<'py>,
    counts: &core::Counts,
    totals: &core::Totals,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, by_tier) in [
        ("waiting", counts.waiting),
        ("running", counts.running),
        ("suspending", counts.suspending),
        ("suspended", counts.suspended),
    ] {
        let tiers = PyDict::new(py);
        for (tier, count) in core::Tier::ALL.into_iter().zip(by_tier) {
            tiers.set_item(tier.as_str(), count)?;
        }
        dict.set_item(name, tiers)?;
    }
    dict.set_item("deadlines_missed", counts.deadlines_missed)?;
    dict.set_item("preemptions", counts.preemptions)?;
    dict.set_item("capacity", amounts_out(py, totals.capacity)?)?;
    dict.set_item("allocated", amounts_out(py, totals.allocated)?)?;
    dict.set_item("reserved", amounts_out(py, totals.reserved)?)?;
    Ok(dict)
}
