//! Decisions as Python sees them.
//!
//! Invariants
//! - BP2 a decision has no truth value, because `if engine.evaluate_policy(…)` would let a denial pass.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyTuple};
use symbi_policy::{Decision, Effect, Obligation};

use crate::errors::Raise;

pub(super) fn present(py: Python<'_>, decision: Decision) -> PyResult<Py<PyAny>> {
    match decision.effect {
        Effect::Allow => Ok(Py::new(py, Allow { decision })?.into_any()),
        Effect::Deny => Ok(Py::new(py, Deny { decision })?.into_any()),
        Effect::AllowWithConditions(_) => Ok(Py::new(py, AllowWithConditions { decision })?.into_any()),
    }
}

fn determining<'py>(py: Python<'py>, decision: &Decision) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, decision.determining.iter().map(|rule| rule.id.as_str()))
}

fn failures<'py>(py: Python<'py>, decision: &Decision) -> PyResult<Bound<'py, PyTuple>> {
    let rules = decision.errors.iter().map(|failure| format!("{}: {}", failure.rule.id, failure.message));
    PyTuple::new(py, rules.chain(decision.detail.clone()).collect::<Vec<_>>())
}

fn no_truth() -> PyErr {
    // BP2
    PyTypeError::new_err("a decision has no truth value: ask `.allowed`, or call `.require()`")
}

fn refusal(message: String) -> PyErr {
    Raise::new("PolicyDenied", message).with("code", "denied").into()
}

/// What every decision says, whatever it is.
macro_rules! told {
    ($($class:ident),+) => {$(
        #[pymethods]
        impl $class {
            #[getter]
            fn determining<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
                determining(py, &self.decision)
            }

            #[getter]
            fn errors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
                failures(py, &self.decision)
            }

            fn __bool__(&self) -> PyResult<bool> {
                Err(no_truth())
            }
        }
    )+};
}

told!(Allow, Deny, AllowWithConditions);

/// Go on.
#[pyclass(frozen, eq, module = "symbi.policy")]
#[derive(PartialEq)]
pub(super) struct Allow {
    decision: Decision,
}

#[pymethods]
impl Allow {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: () = ();

    #[getter]
    #[expect(clippy::unused_self, reason = "a property of the object in Python")]
    fn allowed(&self) -> bool {
        true
    }

    #[expect(clippy::unused_self, reason = "a method of the object in Python")]
    fn require(&self) {}

    fn __repr__(&self) -> String {
        format!("Allow(determining={:?})", ids(&self.decision))
    }
}

/// Do not.
#[pyclass(frozen, eq, module = "symbi.policy")]
#[derive(PartialEq)]
pub(super) struct Deny {
    decision: Decision,
}

#[pymethods]
impl Deny {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("reason",);

    #[getter]
    #[expect(clippy::unused_self, reason = "a property of the object in Python")]
    fn allowed(&self) -> bool {
        false
    }

    #[getter]
    fn reason(&self) -> &'static str {
        self.decision.reason.map_or("", symbi_policy::Reason::as_str)
    }

    #[getter]
    fn message(&self) -> Option<&str> {
        self.decision.message()
    }

    fn require(&self) -> PyResult<()> {
        Err(refusal(self.decision.message().unwrap_or("denied").to_owned()))
    }

    fn __repr__(&self) -> String {
        format!("Deny(reason={:?}, determining={:?})", self.reason(), ids(&self.decision))
    }
}

/// Go on once the conditions are met.
#[pyclass(frozen, eq, module = "symbi.policy")]
#[derive(PartialEq)]
pub(super) struct AllowWithConditions {
    decision: Decision,
}

#[pymethods]
impl AllowWithConditions {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("conditions",);

    #[getter]
    #[expect(clippy::unused_self, reason = "a property of the object in Python")]
    fn allowed(&self) -> bool {
        false
    }

    #[getter]
    fn conditions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let obligations = self.decision.obligations().iter().map(|obligation| match obligation {
            Obligation::Redact { labels, fields } => {
                let labels = labels.iter().map(ToString::to_string).collect();
                let fields = fields.iter().cloned().collect();
                Ok(Py::new(py, Redact { labels, fields })?.into_any())
            }
            other => {
                let parameters = other.parameters();
                let parameters = parameters.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
                Ok(Py::new(py, Condition { name: other.name(), parameters })?.into_any())
            }
        });
        PyTuple::new(py, obligations.collect::<PyResult<Vec<_>>>()?)
    }

    fn require(&self) -> PyResult<()> {
        let unmet: Vec<&str> = self.decision.obligations().iter().map(Obligation::name).collect();
        Err(refusal(format!("allowed only under conditions that are not met: {}", unmet.join(", "))))
    }

    fn __repr__(&self) -> String {
        let unmet: Vec<&str> = self.decision.obligations().iter().map(Obligation::name).collect();
        format!("AllowWithConditions(conditions={unmet:?}, determining={:?})", ids(&self.decision))
    }
}

fn ids(decision: &Decision) -> Vec<&str> {
    decision.determining.iter().map(|rule| rule.id.as_str()).collect()
}

/// Blank out the parts that carry one of the labels.
#[pyclass(frozen, eq, hash, module = "symbi.policy")]
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Redact {
    labels: Vec<String>,
    fields: Vec<String>,
}

#[pymethods]
impl Redact {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("labels",);

    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        PyFrozenSet::new(py, &self.labels)
    }

    #[getter]
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        PyFrozenSet::new(py, &self.fields)
    }

    fn __repr__(&self) -> String {
        format!("Redact(labels={:?})", self.labels)
    }
}

/// Another condition: its word after `@obligation`, and what it asks for.
#[pyclass(frozen, eq, hash, module = "symbi.policy")]
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Condition {
    name: &'static str,
    parameters: Vec<(String, String)>,
}

#[pymethods]
impl Condition {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("name", "parameters");

    #[getter]
    fn name(&self) -> &'static str {
        self.name
    }

    #[getter]
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, text) in &self.parameters {
            dict.set_item(name, text)?;
        }
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        format!("Condition({:?}, {:?})", self.name, self.parameters)
    }
}
