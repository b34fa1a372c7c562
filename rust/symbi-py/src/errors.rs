//! Core errors to Python classes, in one place.
//!
//! The classes are written in `symbi/errors.py`; this names one for every error a core crate can raise.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An error on its way to Python: class name in `symbi.errors`, text, and keyword arguments of the class.
#[derive(Debug)]
pub(crate) struct Raise {
    class: &'static str,
    message: String,
    numbers: Vec<(&'static str, u64)>,
    texts: Vec<(&'static str, String)>,
}

impl Raise {
    /// `class` is a name in `symbi.errors`.
    pub(crate) fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), numbers: Vec::new(), texts: Vec::new() }
    }

    /// Sets the `seq` argument of the class.
    pub(crate) fn seq(self, seq: u64) -> Self {
        self.number("seq", seq)
    }

    /// Adds a keyword argument of the class that is a number.
    pub(crate) fn number(mut self, name: &'static str, number: u64) -> Self {
        self.numbers.push((name, number));
        self
    }

    /// Adds a keyword argument of the class.
    pub(crate) fn with(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.texts.push((name, text.into()));
        self
    }

    /// Says first what was being done.
    pub(crate) fn after(mut self, words: &str) -> Self {
        self.message = format!("{words}: {}", self.message);
        self
    }

    fn build(&self, py: Python<'_>) -> PyResult<PyErr> {
        let class = py.import("symbi.errors")?.getattr(self.class)?;
        let arguments = PyDict::new(py);
        for (name, number) in &self.numbers {
            arguments.set_item(name, number)?;
        }
        for (name, text) in &self.texts {
            arguments.set_item(name, text)?;
        }
        Ok(PyErr::from_value(class.call((&self.message,), Some(&arguments))?))
    }
}

impl From<Raise> for PyErr {
    fn from(raise: Raise) -> Self {
        Python::attach(|py| {
            raise.build(py).unwrap_or_else(|error| {
                PyRuntimeError::new_err(format!(
                    "{} (and its class could not be made: {error})",
                    raise.message
                ))
            })
        })
    }
}

/// The only way from Python into long-running core code (B1).
pub(crate) fn enter<T, E>(py: Python<'_>, work: impl FnOnce() -> Result<T, E> + Send) -> PyResult<T>
where
    T: Send,
    E: Into<Raise> + Send,
{
    py.detach(work).map_err(|error| error.into().into())
}
