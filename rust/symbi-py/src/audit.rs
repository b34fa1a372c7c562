//! `symbi-audit` for Python: an application's own log, and reading any.
//!
//! Not here: the runtime's log, which is the kernel's; keys on disk and the classes a user sees (`symbi/audit`).

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use pyo3::prelude::*;
use symbi_audit::{
    Event, Log, LogError, LogOptions, LogStatus, Owner, Query, Reader, Receipt, Record, Records, VerifyError,
    check_details, check_event_type,
};

use crate::errors::{Raise, enter};

impl From<LogError> for Raise {
    fn from(error: LogError) -> Self {
        let message = error.to_string();
        match error {
            LogError::Locked { .. } => Self::new("LogLockedError", message),
            LogError::ChainBroken { seq, .. } => Self::new("ChainBrokenError", message).seq(seq),
            LogError::Truncated { seq, .. } => Self::new("TruncatedError", message).seq(seq),
            LogError::WrongKey { .. } => Self::new("CryptoError", message),
            LogError::Owned { .. } | LogError::Io { .. } => Self::new("AuditError", message),
            LogError::Unavailable { .. } => Self::new("LogUnavailableError", message),
            LogError::Timeout { .. } => Self::new("SymbiTimeoutError", message),
            LogError::Event { .. } => Self::new("InputError", message),
        }
    }
}

impl From<VerifyError> for Raise {
    fn from(error: VerifyError) -> Self {
        let class = if error.truncated { "TruncatedError" } else { "ChainBrokenError" };
        Self::new(class, error.to_string()).seq(error.seq)
    }
}

/// `(event_type, agent_id, details, subjects)`.
type Row = (String, Option<String>, String, Vec<String>);
/// `(seq, event_id, timestamp_us, chain, signature)`.
type Written = (u64, String, u64, String, Vec<u8>);
/// The fields of a record in the order of its line; details and personal as JSON text, chain as hex.
pub(crate) type Fields = (
    (u64, String, u64, u64, String, String, String),
    (Option<String>, Option<String>, Option<String>, Option<String>, Option<String>),
    (Vec<String>, Vec<String>, String, Option<String>, String, Vec<u8>, String),
);

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn fields(record: Record) -> Fields {
    (
        (
            record.seq,
            record.event_id.to_string(),
            record.timestamp_us,
            record.mono,
            record.boot.to_string(),
            record.key,
            record.event_type,
        ),
        (record.agent_id, record.run, record.op, record.decision, record.policy),
        (
            record.labels,
            record.subjects,
            record.details,
            record.personal,
            hex(&record.chain),
            record.signature.to_vec(),
            record.line,
        ),
    )
}

/// What an application hands in is checked here, before anything is taken.
fn check((event_type, agent_id, details, subjects): &Row) -> Result<(), Raise> {
    check_event_type(event_type)?;
    check_details(details).map_err(|error| Raise::new("InputError", format!("`details`: {error}")))?;
    for (name, text) in
        agent_id.iter().map(|text| ("agent_id", text)).chain(subjects.iter().map(|text| ("subject", text)))
    {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            let reason = format!("`{name}` has {} bytes: 1 to {NAME_BYTES_MAX} are allowed", text.len());
            return Err(Raise::new("InputError", reason));
        }
    }
    Ok(())
}

/// The longest agent id or pseudonym: names are for finding, values belong in `details`.
const NAME_BYTES_MAX: usize = 256;

fn event<'a>((event_type, agent_id, details, subjects): &'a Row) -> Event<'a> {
    Event { agent_text: agent_id.as_deref(), subjects, ..Event::new(event_type, details) }
}

/// An application's log, open for writing.
#[pyclass(frozen, module = "symbi._core")]
struct AuditWriter {
    log: Log,
}

impl AuditWriter {
    fn written(&self, receipt: &Receipt) -> Written {
        let signature = self.log.signature(receipt).to_vec();
        (receipt.seq, receipt.event_id.to_string(), receipt.timestamp_us, hex(&receipt.chain), signature)
    }
}

/// `(log_id, created, fingerprint, cut_bytes, records, boot)`
type OpenedTuple = (String, bool, String, u64, u64, String);

#[pymethods]
impl AuditWriter {
    /// Opens, or makes, the log. Answers it and what opening found.
    #[staticmethod]
    #[pyo3(signature = (directory, seed, provider, signers=None))]
    fn open(
        py: Python<'_>,
        directory: &str,
        seed: [u8; 32],
        provider: &str,
        signers: Option<usize>,
    ) -> PyResult<(Self, OpenedTuple)> {
        enter(py, || -> Result<_, LogError> {
            let mut options = LogOptions::of_seed(provider, &seed, Owner::Application)?;
            options.signers = signers.unwrap_or(options.signers);
            let (log, report) = Log::open(Path::new(directory), &options)?;
            let told = (
                report.log_id.to_string(),
                report.created,
                report.fingerprint,
                report.cut_bytes,
                report.records,
                report.boot.to_string(),
            );
            Ok((Self { log }, told))
        })
    }

    /// Appends one event and waits until it is on disk.
    fn append(&self, py: Python<'_>, row: Row, timeout_s: f64) -> PyResult<Written> {
        enter(py, || -> Result<_, Raise> {
            check(&row)?;
            let receipt = self.log.append(&event(&row))?;
            self.log.wait_durable(receipt.seq, seconds(timeout_s)?)?;
            Ok(self.written(&receipt))
        })
    }

    /// Appends events and, where `timeout_s` is given, waits until the last is on disk. Answers `[first, end)`.
    #[pyo3(signature = (rows, timeout_s=None))]
    fn append_many(&self, py: Python<'_>, rows: Vec<Row>, timeout_s: Option<f64>) -> PyResult<(u64, u64)> {
        enter(py, || -> Result<_, Raise> {
            rows.iter().try_for_each(check)?;
            let events: Vec<Event<'_>> = rows.iter().map(event).collect();
            let range = self.log.append_many(&events)?;
            if let Some(timeout_s) = timeout_s.filter(|_| range.end > range.start) {
                self.log.wait_durable(range.end - 1, seconds(timeout_s)?)?;
            }
            Ok((range.start, range.end))
        })
    }

    /// Waits until record `seq` is on disk.
    fn wait_durable(&self, py: Python<'_>, seq: u64, timeout_s: f64) -> PyResult<()> {
        enter(py, || -> Result<_, Raise> { Ok(self.log.wait_durable(seq, seconds(timeout_s)?)?) })
    }

    /// Signs the state of the log; answers the text of the checkpoint.
    fn checkpoint(&self, py: Python<'_>) -> PyResult<String> {
        enter(py, || self.log.checkpoint().map(|checkpoint| checkpoint.to_string()))
    }

    /// How many records are on disk.
    fn durable(&self) -> u64 {
        self.log.durable()
    }

    /// `healthy`, `closed`, or why it does not write any more.
    fn status(&self) -> String {
        match self.log.status() {
            LogStatus::Healthy => "healthy".into(),
            LogStatus::Closed => "closed".into(),
            LogStatus::Poisoned { reason } => reason,
        }
    }

    /// Brings everything to disk and lets the log go.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || self.log.close())
    }
}

fn seconds(timeout_s: f64) -> Result<Duration, Raise> {
    Duration::try_from_secs_f64(timeout_s)
        .map_err(|_| Raise::new("InputError", format!("`{timeout_s}` is not a number of seconds")))
}

/// Records one after the other, as they come.
#[pyclass(frozen, module = "symbi._core")]
struct AuditTail {
    records: Mutex<Records>,
}

#[pymethods]
impl AuditTail {
    #[new]
    fn new(py: Python<'_>, directory: &str, from_seq: u64) -> PyResult<Self> {
        let records = enter(py, || Ok::<_, LogError>(Reader::open(Path::new(directory))?.records(from_seq)))?;
        Ok(Self { records: Mutex::new(records) })
    }

    /// At most `limit` records that are there now.
    fn take(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Fields>> {
        enter(py, || -> Result<_, LogError> {
            let mut records = self.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut found = Vec::new();
            while found.len() < limit {
                let Some(record) = records.next().transpose()? else { break };
                found.push(fields(record));
            }
            Ok(found)
        })
    }
}

/// `(log_id, fingerprint, owner)` of a trail, from its first records.
#[pyfunction]
fn audit_summary(py: Python<'_>, directory: &str) -> PyResult<(String, String, String)> {
    enter(py, || -> Result<_, LogError> {
        let summary = Reader::open(Path::new(directory))?.summary()?;
        Ok((summary.log_id.to_string(), summary.fingerprint, summary.owner))
    })
}

/// The records that are asked for.
#[pyfunction]
#[pyo3(signature = (directory, *, agent_id=None, event_type=None, since_us=None, until_us=None, op=None, run=None,
                    decision=None, subject=None, event_id=None, limit=None))]
#[expect(clippy::too_many_arguments, reason = "one per filter, all by keyword")]
fn audit_query(
    py: Python<'_>,
    directory: &str,
    agent_id: Option<String>,
    event_type: Option<String>,
    since_us: Option<u64>,
    until_us: Option<u64>,
    op: Option<String>,
    run: Option<String>,
    decision: Option<String>,
    subject: Option<String>,
    event_id: Option<String>,
    limit: Option<usize>,
) -> PyResult<Vec<Fields>> {
    let query =
        Query { agent_id, event_type, since_us, until_us, op, run, decision, subject, event_id, limit };
    enter(py, || -> Result<_, LogError> {
        let found = Reader::open(Path::new(directory))?.query(&query)?;
        Ok(found.into_iter().map(fields).collect())
    })
}

/// The last records of a trail, oldest first.
#[pyfunction]
fn audit_last(py: Python<'_>, directory: &str, count: usize) -> PyResult<Vec<Fields>> {
    enter(py, || -> Result<_, LogError> {
        let found = Reader::open(Path::new(directory))?.last(count)?;
        Ok(found.into_iter().map(fields).collect())
    })
}

/// Adds this module's classes to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AuditWriter>()?;
    module.add_class::<AuditTail>()?;
    module.add_function(wrap_pyfunction!(audit_summary, module)?)?;
    module.add_function(wrap_pyfunction!(audit_query, module)?)?;
    module.add_function(wrap_pyfunction!(audit_last, module)?)
}
