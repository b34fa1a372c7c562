//! `symbi-audit` for Python: an application's own log, and reading any.
//!
//! Not here: the runtime's log, which is the kernel's; keys on disk and the classes a user sees (`symbi/audit`).

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyList, PyString, PyTuple};
use symbi_audit::{
    Event, KeyIdError, Log, LogError, LogOptions, LogStatus, Owner, Reader, Receipt, Record, Records,
    VerifyError, check_details, check_event_type,
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
            LogError::Owned { .. } | LogError::Io { .. } | LogError::Held { .. } => {
                Self::new("AuditError", message)
            }
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

/// `(event_type, agent_id, details, subjects, personal)`.
type Row = (String, Option<String>, String, Vec<String>, Option<String>);
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
            record.signature.map(Vec::from).unwrap_or_default(),
            record.line,
        ),
    )
}

/// An event of many: its texts stay where Python has them.
struct Given {
    event_type: PyBackedStr,
    agent_id: Option<PyBackedStr>,
    details: PyBackedStr,
    subjects: Vec<String>,
    personal: Option<PyBackedStr>,
}

impl Given {
    /// A tuple of three texts as it is; anything else as `row` makes it, which refuses what cannot be recorded.
    fn of(event: &Bound<'_, PyAny>, row: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Some(given) = Self::of_texts(event) {
            return Ok(given);
        }
        let (event_type, agent_id, details, subjects, personal) = row.call1((event,))?.extract()?;
        Ok(Self { event_type, agent_id, details, subjects, personal })
    }

    fn of_texts(event: &Bound<'_, PyAny>) -> Option<Self> {
        // Exact: what inherits from `str` may have another text.
        let text =
            |one: Bound<'_, PyAny>| PyBackedStr::try_from(one.cast_into_exact::<PyString>().ok()?).ok();
        let event = event.cast_exact::<PyTuple>().ok()?;
        let has_subject = match event.len() {
            3 => false,
            4 => !event.get_item(3).ok()?.is_none(),
            _ => true,
        };
        if has_subject {
            return None;
        }
        let agent_id = event.get_item(1).ok()?;
        Some(Self {
            event_type: text(event.get_item(0).ok()?)?,
            agent_id: if agent_id.is_none() { None } else { Some(text(agent_id)?) },
            details: text(event.get_item(2).ok()?)?,
            subjects: Vec::new(),
            personal: None,
        })
    }

    fn check(&self) -> Result<(), Raise> {
        let personal = self.personal.as_deref();
        check(&self.event_type, self.agent_id.as_deref(), &self.details, &self.subjects, personal)
    }

    fn event(&self) -> Event<'_> {
        Event {
            agent_text: self.agent_id.as_deref(),
            subjects: &self.subjects,
            personal: self.personal.as_deref(),
            ..Event::new(&self.event_type, &self.details)
        }
    }
}

/// What an application hands in is checked here, before anything is taken.
fn check(
    event_type: &str,
    agent_id: Option<&str>,
    details: &str,
    subjects: &[String],
    personal: Option<&str>,
) -> Result<(), Raise> {
    check_event_type(event_type)?;
    for (name, text) in [("details", Some(details)), ("personal", personal)] {
        let checked = text.map_or(Ok(()), check_details);
        checked.map_err(|error| Raise::new("InputError", format!("`{name}`: {error}")))?;
    }
    let subjects = subjects.iter().map(|text| ("subject", text.as_str()));
    for (name, text) in agent_id.map(|text| ("agent_id", text)).into_iter().chain(subjects) {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            let reason = format!("`{name}` has {} bytes: 1 to {NAME_BYTES_MAX} are allowed", text.len());
            return Err(Raise::new("InputError", reason));
        }
    }
    Ok(())
}

/// The longest agent id or pseudonym: names are for finding, values belong in `details`.
const NAME_BYTES_MAX: usize = 256;

fn event<'a>((event_type, agent_id, details, subjects, personal): &'a Row) -> Event<'a> {
    let (agent_text, personal) = (agent_id.as_deref(), personal.as_deref());
    Event { agent_text, subjects, personal, ..Event::new(event_type, details) }
}

/// An application's log, open for writing.
#[pyclass(frozen, module = "symbi._core")]
struct AuditWriter {
    log: Log,
    provider: String,
}

impl AuditWriter {
    fn written(&self, receipt: &Receipt) -> Written {
        let signature = self.log.signature(receipt).map(Vec::from).unwrap_or_default();
        (receipt.seq, receipt.event_id.to_string(), receipt.timestamp_us, hex(&receipt.chain), signature)
    }
}

/// `(log_id, created, fingerprint, cut_bytes, records, boot)`
type OpenedTuple = (String, bool, String, u64, u64, String);

#[pymethods]
impl AuditWriter {
    /// Opens, or makes, the log. Answers it and what opening found.
    #[staticmethod]
    #[pyo3(signature = (directory, seed, provider, signers=None, signing="event"))]
    fn open(
        py: Python<'_>,
        directory: &str,
        seed: [u8; 32],
        provider: &str,
        signers: Option<usize>,
        signing: &str,
    ) -> PyResult<(Self, OpenedTuple)> {
        enter(py, || -> Result<_, LogError> {
            let mut options = LogOptions::of_seed(provider, &seed, Owner::Application)?;
            options.signers = signers.unwrap_or(options.signers);
            options.signing = signing.parse()?;
            let (log, report) = Log::open(Path::new(directory), &options)?;
            let told = (
                report.log_id.to_string(),
                report.created,
                report.fingerprint,
                report.cut_bytes,
                report.records,
                report.boot.to_string(),
            );
            Ok((Self { log, provider: provider.to_owned() }, told))
        })
    }

    /// Appends one event and waits until it is on disk.
    fn append(&self, py: Python<'_>, row: Row, timeout_s: f64) -> PyResult<Written> {
        enter(py, || -> Result<_, Raise> {
            check(&row.0, row.1.as_deref(), &row.2, &row.3, row.4.as_deref())?;
            let receipt = self.log.append(&event(&row))?;
            self.log.wait_durable(receipt.seq, seconds(timeout_s)?)?;
            Ok(self.written(&receipt))
        })
    }

    /// Appends events; `row` makes a row of one that is not a tuple of texts. Answers `[first, end)`.
    fn append_many(
        &self,
        py: Python<'_>,
        events: &Bound<'_, PyList>,
        row: &Bound<'_, PyAny>,
    ) -> PyResult<(u64, u64)> {
        let given = events.iter().map(|event| Given::of(&event, row)).collect::<PyResult<Vec<_>>>()?;
        enter(py, || -> Result<_, Raise> {
            given.iter().try_for_each(Given::check)?;
            let events: Vec<Event<'_>> = given.iter().map(Given::event).collect();
            let range = self.log.append_many(&events)?;
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

    /// From the next record on the key of this seed signs. Answers the record and the key's fingerprint.
    fn rotate(&self, py: Python<'_>, seed: [u8; 32], timeout_s: f64) -> PyResult<(u64, String)> {
        enter(py, || -> Result<_, Raise> {
            let options = LogOptions::of_seed(&self.provider, &seed, Owner::Application)?;
            let receipt = self.log.rotate(&options.signing_key)?;
            self.log.wait_durable(receipt.seq, seconds(timeout_s)?)?;
            Ok((receipt.seq, options.signing_key.key_id().to_string()))
        })
    }

    /// Records that others had a key from a record on.
    fn mark_compromised(
        &self,
        py: Python<'_>,
        key: &str,
        from_seq: u64,
        reason: &str,
        by: &str,
    ) -> PyResult<u64> {
        enter(py, || -> Result<_, Raise> {
            let key = key.parse().map_err(|error: KeyIdError| Raise::new("InputError", error.to_string()))?;
            Ok(self.log.mark_compromised(key, from_seq, reason, by)?)
        })
    }

    /// Puts a legal hold in force, or releases it.
    fn hold(&self, py: Python<'_>, on: bool, reason: &str, by: &str) -> PyResult<u64> {
        enter(py, || self.log.hold(on, reason, by))
    }

    /// Removes what is older than this: `(from, to, bytes, seq)`, or none.
    fn prune(&self, py: Python<'_>, before_us: u64, by: &str) -> PyResult<Option<(u64, u64, u64, u64)>> {
        enter(py, || {
            let pruned = self.log.prune(before_us, u64::MAX, by)?;
            Ok::<_, LogError>(pruned.map(|done| (done.from, done.to, done.bytes, done.seq)))
        })
    }

    /// The fingerprint of the key that signs now.
    fn key(&self) -> String {
        self.log.key_id().to_string()
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

/// The legal hold that is in force on a trail: `(seq, since_us, reason, by)`.
#[pyfunction]
fn audit_hold(py: Python<'_>, directory: &str) -> PyResult<Option<(u64, u64, String, String)>> {
    enter(py, || -> Result<_, LogError> {
        let hold = Reader::open(Path::new(directory))?.hold()?;
        Ok(hold.map(|hold| (hold.seq, hold.since_us, hold.reason, hold.by)))
    })
}

/// The first record that is there: 0 unless older ones were pruned.
#[pyfunction]
fn audit_begins_at(py: Python<'_>, directory: &str) -> PyResult<u64> {
    enter(py, || Reader::open(Path::new(directory))?.begins_at())
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
    module.add_function(wrap_pyfunction!(audit_hold, module)?)?;
    module.add_function(wrap_pyfunction!(audit_begins_at, module)?)?;
    module.add_function(wrap_pyfunction!(audit_last, module)?)
}
