//! Persons of a `Kernel`: erased, held, named; and those of a log that an application keeps for itself.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use symbi_kernel as core;

use crate::convert::principal;
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

/// What was opened, or the error that says why it was not.
pub(crate) fn plain(opened: core::OpenedSeal, foreign: &str) -> PyResult<Vec<u8>> {
    match opened {
        core::OpenedSeal::Plain(plain) => Ok(plain),
        core::OpenedSeal::Erased => {
            Err(Raise::new("ErasedError", "the person that it belongs to was erased").into())
        }
        core::OpenedSeal::Foreign => Err(Raise::new("CryptoError", foreign).into()),
    }
}

fn erasure_out<'py>(py: Python<'py>, erasure: &core::Erasure) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("subject", &erasure.pseudonym)?;
    dict.set_item("places", &erasure.places)?;
    let agents: Vec<(String, &str)> =
        erasure.agents.iter().map(|(agent, name)| (agent.to_string(), name.as_str())).collect();
    dict.set_item("agents", agents)?;
    dict.set_item("backups_unreached", &erasure.unreached)?;
    dict.set_item("held", erasure.held)?;
    dict.set_item("seq", erasure.seq)?;
    Ok(dict)
}

#[pymethods]
impl Kernel {
    /// Forgets a person: one row for each pseudonym that it had.
    fn erase_subject<'py>(
        &self,
        py: Python<'py>,
        by: &str,
        subject: &str,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let by = principal(by)?;
        let erased = enter(py, || self.core.erase_subject(by, subject))?;
        erased.iter().map(|one| erasure_out(py, one)).collect()
    }

    /// What that would do.
    fn try_erasure<'py>(&self, py: Python<'py>, subject: &str) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let tried = enter(py, || self.core.try_erasure(subject))?;
        tried.iter().map(|one| erasure_out(py, one)).collect()
    }

    /// Places a legal hold, or ends it where there is no reason.
    #[pyo3(signature = (by, subject, reason=None))]
    fn change_hold(&self, py: Python<'_>, by: &str, subject: &str, reason: Option<String>) -> PyResult<u64> {
        let by = principal(by)?;
        let change = reason.map_or(core::HoldChange::Remove, core::HoldChange::Add);
        enter(py, || self.core.change_hold(by, subject, &change))
    }

    /// `(pseudonym, reason sealed, by, at_us, seq)` of each.
    fn holds(&self) -> Vec<(String, String, String, u64, u64)> {
        let row = |hold: core::Hold| (hold.pseudonym, hold.reason_sealed, hold.by, hold.at_us, hold.seq);
        self.core.holds().into_iter().map(row).collect()
    }

    /// The pseudonym of a person; None where nothing is known.
    fn pseudonym_of(&self, py: Python<'_>, subject: &str) -> PyResult<Option<String>> {
        enter(py, || self.core.pseudonym_of(subject))
    }

    /// The name of a person that is known.
    fn subject_name(&self, py: Python<'_>, pseudonym: &str) -> Option<String> {
        py.detach(|| self.core.subject_name(pseudonym))
    }
}

/// Every place that may hold something of a person: `(name, path below the data directory, what an erasure does)`.
#[pyfunction]
fn places() -> Vec<(&'static str, &'static str, &'static str)> {
    core::PLACES.iter().map(|place| (place.name, place.path, place.erased_by)).collect()
}

/// The pseudonym of a person, by the keys of a data directory; None where nothing is known. Writes nothing.
#[pyfunction]
#[pyo3(signature = (data, subject, passphrase=None))]
fn pseudonym_in(
    py: Python<'_>,
    data: PathBuf,
    subject: &str,
    passphrase: Option<Vec<u8>>,
) -> PyResult<Option<String>> {
    enter(py, || {
        core::pseudonym_in(&data, subject, passphrase.as_deref())
            .map_err(|error| Raise::new("CryptoError", error.to_string()))
    })
}

impl From<core::OwnPersonsError> for Raise {
    fn from(error: core::OwnPersonsError) -> Self {
        let class = match &error {
            core::OwnPersonsError::Key(_) => "CryptoError",
            core::OwnPersonsError::Subject(core::SubjectError::Io { .. }) => "AuditError",
            core::OwnPersonsError::Subject(core::SubjectError::Foreign { .. }) => "CryptoError",
            core::OwnPersonsError::Subject(_) => "InputError",
        };
        Self::new(class, error.to_string())
    }
}

/// The persons of an application's log.
#[pyclass(frozen, module = "symbi._core")]
struct OwnPersons {
    core: core::OwnPersons,
}

#[pymethods]
impl OwnPersons {
    /// Opens, or makes, the directory of their keys.
    #[new]
    fn new(py: Python<'_>, directory: PathBuf, backups: Vec<PathBuf>, may_make: bool) -> PyResult<Self> {
        enter(py, || core::OwnPersons::open(&directory, backups, may_make)).map(|core| Self { core })
    }

    /// These never get a key again.
    fn mark_erased(&self, pseudonyms: Vec<String>) {
        self.core.mark_erased(pseudonyms);
    }

    /// `(pseudonym, sealed)`.
    fn seal(&self, py: Python<'_>, subject: &str, plain: &str) -> PyResult<(String, String)> {
        enter(py, || self.core.seal(subject, plain.as_bytes()))
    }

    /// What was sealed.
    fn unseal(&self, py: Python<'_>, sealed: &str) -> PyResult<Vec<u8>> {
        plain(py.detach(|| self.core.unseal(sealed)), "it was not sealed with the keys of this log")
    }

    /// The pseudonyms of a person.
    fn known(&self, py: Python<'_>, subject: &str) -> PyResult<Vec<String>> {
        enter(py, || self.core.known(subject))
    }

    /// Destroys a key; answers the backup directories that were not reached.
    fn destroy(&self, py: Python<'_>, pseudonym: &str) -> PyResult<Vec<PathBuf>> {
        enter(py, || self.core.destroy(pseudonym))
    }

    /// Whether a key file of this pseudonym lies about.
    fn lies_about(&self, py: Python<'_>, pseudonym: &str) -> bool {
        py.detach(|| self.core.lies_about(pseudonym))
    }
}

/// Adds this module's functions to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<OwnPersons>()?;
    module.add_function(wrap_pyfunction!(places, module)?)?;
    module.add_function(wrap_pyfunction!(pseudonym_in, module)?)
}
