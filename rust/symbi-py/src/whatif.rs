//! Recorded operations under other policies, for `symbi policy whatif` and `learn`.
//!
//! Not here: reading and deciding (`symbi-kernel`), which policies are meant (`symbi.policy`).

use std::path::PathBuf;

use pyo3::prelude::*;
use symbi_audit::Checkpoint;
use symbi_kernel::{FlipCause, Replay, ReplayError, Undecidable};

use crate::errors::{Raise, enter};
use crate::explain::{Named, compile};

/// `(records, head, level, complete_to)`
type Verified = (u64, String, &'static str, u64);
/// `(seq, timestamp_us, principal, action, resource, was, now, cause, rule)`
type Flipped = (u64, u64, String, String, String, String, String, &'static str, Option<String>);
/// `(reason, count)`
type Counts = Vec<(&'static str, u64)>;

impl From<ReplayError> for Raise {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Verify(error) => error.into(),
            ReplayError::Policies(found) => Self::new("PolicyError", symbi_policy::render(&found)),
        }
    }
}

fn verified(found: &symbi_audit::Verification) -> Verified {
    (found.records, found.head.clone(), found.level.as_str(), found.complete_to)
}

fn counts(found: std::collections::BTreeMap<Undecidable, u64>) -> Counts {
    found.into_iter().map(|(why, count)| (why.as_str(), count)).collect()
}

/// What is to be read, of a trail.
fn replay(
    data: PathBuf,
    trail: PathBuf,
    (since_us, until_us): (Option<u64>, Option<u64>),
    key: Option<&str>,
    checkpoint: Option<&str>,
    threads: usize,
    passphrase: Option<Vec<u8>>,
) -> PyResult<Replay> {
    let wrong = |text: String| PyErr::from(Raise::new("InputError", text));
    let key =
        key.map(str::parse).transpose().map_err(|error: symbi_audit::KeyIdError| wrong(error.to_string()))?;
    let checkpoint: Option<Checkpoint> = checkpoint
        .map(str::parse)
        .transpose()
        .map_err(|error: symbi_audit::NoteError| wrong(error.to_string()))?;
    Ok(Replay { data, passphrase, trail, since_us, until_us, key, checkpoint, threads })
}

/// Decides a trail's operations again under a set: how far the trail holds, how many were decided, those that fall
/// differently, how many those are, and what could not be decided.
#[pyfunction]
#[pyo3(signature = (data, trail, sources, counters, between=(None, None), key=None, checkpoint=None, threads=0, passphrase=None))]
#[expect(clippy::too_many_arguments, reason = "the options of one command")]
fn policy_what_if(
    py: Python<'_>,
    data: PathBuf,
    trail: PathBuf,
    sources: Option<Named>,
    counters: Named,
    between: (Option<u64>, Option<u64>),
    key: Option<&str>,
    checkpoint: Option<&str>,
    threads: usize,
    passphrase: Option<Vec<u8>>,
) -> PyResult<(Verified, u64, Vec<Flipped>, u64, Counts)> {
    let replay = replay(data, trail, between, key, checkpoint, threads, passphrase)?;
    let found = enter(py, || {
        let engine = compile(sources, counters)?;
        symbi_kernel::what_if(&replay, &engine).map_err(Raise::from)
    })?;
    let flips = found.flips.into_iter().map(|flip| {
        let (cause, rule) = match flip.cause {
            FlipCause::Rule(rule) => ("rule", Some(rule)),
            FlipCause::NoPermit => ("no_permit", None),
            FlipCause::Failed(reason) => (reason, None),
        };
        let time = flip.timestamp_us;
        (flip.seq, time, flip.principal, flip.action, flip.resource, flip.was, flip.now, cause, rule)
    });
    let verified = verified(&found.verification);
    Ok((verified, found.decided, flips.collect(), found.flipped, counts(found.undecidable)))
}

/// Proposes policies from a trail: how far it holds, Cedar, rules, operations covered, and what could not be read.
#[pyfunction]
#[pyo3(signature = (data, trail, between=(None, None), key=None, checkpoint=None, threads=0, passphrase=None))]
#[expect(clippy::too_many_arguments, reason = "the options of one command")]
fn policy_learn(
    py: Python<'_>,
    data: PathBuf,
    trail: PathBuf,
    between: (Option<u64>, Option<u64>),
    key: Option<&str>,
    checkpoint: Option<&str>,
    threads: usize,
    passphrase: Option<Vec<u8>>,
) -> PyResult<(Verified, String, usize, u64, Counts)> {
    let replay = replay(data, trail, between, key, checkpoint, threads, passphrase)?;
    let found = enter(py, || symbi_kernel::learn(&replay).map_err(Raise::from))?;
    let proposal = found.proposal;
    Ok((
        verified(&found.verification),
        proposal.text,
        proposal.rules,
        proposal.requests,
        counts(found.undecidable),
    ))
}

/// Adds this module's functions to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(policy_what_if, module)?)?;
    module.add_function(wrap_pyfunction!(policy_learn, module)?)
}
