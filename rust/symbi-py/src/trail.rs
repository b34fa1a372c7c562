//! Queries, the stream and surveys of `symbi-audit` for Python.
//!
//! Not here: what a cursor is, how reports are made (`symbi/audit`).

use std::os::fd::IntoRawFd as _;
use std::path::Path;
use std::sync::Mutex;

use pyo3::prelude::*;
use symbi_audit::{Index, LogError, Query, Reader, Stream, Tally, Times, VerifyOptions, survey, watch};

use crate::audit::{Fields, fields};
use crate::errors::{Raise, enter};
use crate::proofs::{VerifiedTuple, checkpoint, key_id, verified};

/// What is asked for: a mapping that has every key.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Asked {
    agent_id: Option<String>,
    event_type: Option<String>,
    since_us: Option<u64>,
    until_us: Option<u64>,
    op: Option<String>,
    run: Option<String>,
    decision: Option<String>,
    action: Option<String>,
    rule: Option<String>,
    resource: Option<String>,
    decision_id: Option<String>,
    label: Option<String>,
    subject: Option<String>,
    event_id: Option<String>,
    limit: Option<usize>,
    newest_first: bool,
    after_seq: Option<u64>,
}

impl From<Asked> for Query {
    fn from(asked: Asked) -> Self {
        Self {
            agent_id: asked.agent_id,
            event_type: asked.event_type,
            since_us: asked.since_us,
            until_us: asked.until_us,
            op: asked.op,
            run: asked.run,
            decision: asked.decision,
            action: asked.action,
            rule: asked.rule,
            resource: asked.resource,
            decision_id: asked.decision_id,
            label: asked.label,
            subject: asked.subject,
            event_id: asked.event_id,
            limit: asked.limit,
            newest_first: asked.newest_first,
            after_seq: asked.after_seq,
        }
    }
}

/// A trail's index.
#[pyclass(frozen, module = "symbi._core")]
struct AuditIndex {
    index: Index,
}

#[pymethods]
impl AuditIndex {
    #[new]
    fn new(py: Python<'_>, directory: &str) -> PyResult<Self> {
        let index = enter(py, || Index::open(&Reader::open(Path::new(directory))?))?;
        Ok(Self { index })
    }

    /// The records that are asked for, whether there are more, and how many units were passed over.
    fn query(&self, py: Python<'_>, asked: Asked) -> PyResult<(Vec<Fields>, bool, usize)> {
        let query = Query::from(asked);
        enter(py, || -> Result<_, LogError> {
            let found = self.index.query(&query)?;
            Ok((found.records.into_iter().map(fields).collect(), found.more, found.passed_over))
        })
    }

    /// Whether so much is missing from it that it should be built first.
    fn is_behind(&self, py: Python<'_>) -> PyResult<bool> {
        enter(py, || self.index.is_behind())
    }

    /// Takes in some segments; answers records in it, segments of the log, segments left, whether somebody else builds.
    fn build(
        &self,
        py: Python<'_>,
        segments_max: usize,
        threads: usize,
    ) -> PyResult<(u64, usize, usize, bool)> {
        enter(py, || -> Result<_, LogError> {
            let done = self.index.build(segments_max, threads)?;
            Ok((done.records, done.segments, done.left, done.busy))
        })
    }

    /// Holds it against the log: records that are in it rightly, first records of what is wrong, records that are not in
    /// it, whether somebody builds.
    fn check(&self, py: Python<'_>) -> PyResult<(u64, Vec<u64>, u64, bool)> {
        enter(py, || -> Result<_, LogError> {
            let found = self.index.check()?;
            Ok((found.records, found.wrong, found.missing, found.busy))
        })
    }

    /// Removes it, so that it is built from the beginning.
    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || self.index.remove())
    }
}

/// The records that are asked for, by reading everything.
#[pyfunction]
fn audit_scan(py: Python<'_>, directory: &str, asked: Asked) -> PyResult<Vec<Fields>> {
    let query = Query::from(asked);
    enter(py, || -> Result<_, LogError> {
        let found = Reader::open(Path::new(directory))?.query(&query)?;
        Ok(found.into_iter().map(fields).collect())
    })
}

/// Durable records as they come.
#[pyclass(frozen, module = "symbi._core")]
struct AuditStream {
    stream: Mutex<Stream>,
}

/// `(missed, records, next_seq, durable)`
type BatchTuple = (Option<(u64, u64)>, Vec<Fields>, u64, u64);

#[pymethods]
impl AuditStream {
    #[new]
    #[pyo3(signature = (directory, asked, from_seq=None, behind_max=None))]
    fn new(
        py: Python<'_>,
        directory: &str,
        asked: Asked,
        from_seq: Option<u64>,
        behind_max: Option<u64>,
    ) -> PyResult<Self> {
        let query = Query::from(asked);
        let stream = enter(py, || -> Result<_, LogError> {
            Ok(Stream::new(Reader::open(Path::new(directory))?, query, from_seq, behind_max))
        })?;
        Ok(Self { stream: Mutex::new(stream) })
    }

    /// At most `limit` records that are durable by now.
    fn take(&self, py: Python<'_>, limit: usize) -> PyResult<BatchTuple> {
        enter(py, || -> Result<_, LogError> {
            let mut stream = self.stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let batch = stream.take(limit)?;
            let missed = batch.missed.map(|missed| (missed.start, missed.end));
            Ok((missed, batch.records.into_iter().map(fields).collect(), batch.next_seq, batch.durable))
        })
    }
}

/// A descriptor that becomes readable when a trail's directory changes. The caller closes it.
#[pyfunction]
fn audit_watch(py: Python<'_>, directory: &str) -> PyResult<i32> {
    enter(py, || watch(Path::new(directory))).map(|fd| fd.into_raw_fd())
}

/// `(count, some of them, counts over time)`
type TallyTuple = (u64, Vec<u64>, Vec<u64>);

/// Verifies a trail and counts the answers to each query, over the time in so many parts.
#[pyfunction]
fn audit_survey(
    py: Python<'_>,
    directory: &str,
    key: Option<&str>,
    checkpoints: Vec<String>,
    asked: Vec<Asked>,
    times: (u64, u64, usize),
) -> PyResult<(VerifiedTuple, Vec<TallyTuple>)> {
    let queries: Vec<Query> = asked.into_iter().map(Query::from).collect();
    enter(py, || -> Result<_, Raise> {
        let options = VerifyOptions {
            key: key_id(key)?,
            checkpoints: checkpoints.iter().map(|text| checkpoint(text)).collect::<Result<_, _>>()?,
            ..VerifyOptions::default()
        };
        let (since_us, until_us, parts) = times;
        Reader::open(Path::new(directory))?;
        let times = Times { since_us, until_us, parts };
        let (found, tallies) = survey(Path::new(directory), &options, &queries, &times)?;
        let told = |tally: Tally| (tally.count, tally.named, tally.over_time);
        Ok((verified(found), tallies.into_iter().map(told).collect()))
    })
}

/// Adds this module's classes to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AuditIndex>()?;
    module.add_class::<AuditStream>()?;
    module.add_function(wrap_pyfunction!(audit_scan, module)?)?;
    module.add_function(wrap_pyfunction!(audit_watch, module)?)?;
    module.add_function(wrap_pyfunction!(audit_survey, module)?)
}
