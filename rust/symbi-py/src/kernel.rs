//! `symbi-kernel` for Python: one class, `Kernel`, and the permit.
//!
//! Here: opening, closing, waking, policies, operators. What it does for agents, runs, messages, knowledge and external
//! operations stands in the files of these names. Values cross as plain tuples and texts (`convert`).

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use symbi_kernel as core;
use symbi_types::{ResourceVector, SystemClock, SystemEntropy};

use crate::convert::{
    TenantTuple, input, keeping_in, messaging_in, policies_in, principal, scheduling_in, tenant_in,
};
use crate::errors::{Raise, enter};
use crate::permits::Permit;
use crate::supervise::supervisor_in;

/// Adds this module's classes to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PAYLOAD_BYTES_MAX", core::PAYLOAD_BYTES_MAX)?;
    module.add_class::<Kernel>()?;
    module.add_class::<crate::messages::DurableSend>()?;
    module.add_class::<crate::mail::Mail>()?;
    module.add_class::<crate::mail::SentIds>()?;
    module.add_class::<crate::letters::DurablePublish>()?;
    module.add_class::<Permit>()
}

/// One opening of a runtime.
#[pyclass(frozen, module = "symbi._core")]
pub(crate) struct Kernel {
    pub(crate) core: Arc<core::Kernel>,
    process: u32,
}

impl Kernel {
    /// Before anything is sealed: a forked child has the keys and counters of its parent.
    pub(crate) fn is_of_this_process(&self) -> PyResult<()> {
        Ok(crate::forked::check(self.process)?)
    }
}

#[pymethods]
impl Kernel {
    #[staticmethod]
    #[pyo3(signature = (data, *, trail=None, sources=None, counters=Vec::new(), enforce=true, provider="aws-lc",
        signers=2, memory_mb=0, cpu_millicores=0, sandboxes=0, disk_io_mbps=1_048_576,
        network_io_mbps=1_048_576, accelerators=0, scheduling=None, supervision=None, tenants=Vec::new(), agents_max=10_000, mailbox_depth_max=1024,
        mailbox_bytes_max=1_048_576, snapshot_records=core::SNAPSHOT_RECORDS, passphrase=None, message_rate=None, delivery=None, subject_key_backups=Vec::new(), keeping=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one constructor")]
    fn open(
        py: Python<'_>,
        data: PathBuf,
        trail: Option<PathBuf>,
        sources: Option<Vec<(String, String)>>,
        counters: Vec<(String, String)>,
        enforce: bool,
        provider: &str,
        signers: usize,
        memory_mb: u64,
        cpu_millicores: u64,
        sandboxes: u64,
        disk_io_mbps: u64,
        network_io_mbps: u64,
        accelerators: u64,
        scheduling: Option<&Bound<'_, PyDict>>,
        supervision: Option<&Bound<'_, PyDict>>,
        tenants: Vec<TenantTuple>,
        agents_max: usize,
        mailbox_depth_max: usize,
        mailbox_bytes_max: usize,
        snapshot_records: u64,
        passphrase: Option<Vec<u8>>,
        message_rate: Option<(u64, u64)>,
        delivery: Option<(u32, u64, u64, u64)>,
        subject_key_backups: Vec<PathBuf>,
        keeping: Option<(String, u64, u64)>,
    ) -> PyResult<Self> {
        let policies = sources.map(|sources| policies_in(sources, counters)).transpose()?;
        let options = core::KernelOptions {
            data,
            trail,
            policies,
            enforce,
            passphrase: passphrase.map(Into::into),
            provider: provider.parse().map_err(input)?,
            signers,
            capacity: ResourceVector {
                memory_mb,
                cpu_millicores,
                disk_io_mbps,
                network_io_mbps,
                accelerators,
                sandboxes,
            },
            scheduling: scheduling.map(scheduling_in).transpose()?.unwrap_or_default(),
            supervision: supervision.map(supervisor_in).transpose()?.unwrap_or_default(),
            tenants: tenants.into_iter().map(tenant_in).collect(),
            agents_max,
            mailbox_depth_max,
            mailbox_bytes_max,
            admission: core::AdmissionLimits::default(),
            messaging: messaging_in(message_rate, delivery),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            storage: None,
            snapshot_records,
            subject_key_backups,
            keeping: keeping.map(keeping_in).transpose()?.unwrap_or_default(),
        };
        enter(py, || core::Kernel::open(options)).map(|core| Self { core, process: crate::forked::process() })
    }

    /// From the next record on the key of this seed signs the trail. Answers the record and the key's fingerprint.
    fn rotate_trail_key(&self, py: Python<'_>, by: &str, seed: [u8; 32]) -> PyResult<(u64, String)> {
        let by = principal(by)?;
        enter(py, || {
            self.core
                .rotate_trail_key(by, &seed)
                .map(|(seq, key)| (seq, key.to_string()))
                .map_err(Raise::from)
        })
    }

    /// Records that others had a key of the trail from a record on.
    fn mark_key_compromised(
        &self,
        py: Python<'_>,
        by: &str,
        key: &str,
        from_seq: u64,
        reason: &str,
    ) -> PyResult<u64> {
        let (by, key) = (principal(by)?, key.parse().map_err(input)?);
        enter(py, || self.core.mark_key_compromised(by, key, from_seq, reason).map_err(Raise::from))
    }

    /// Puts a legal hold on the trail in force, or releases it.
    fn hold_trail(&self, py: Python<'_>, by: &str, on: bool, reason: &str) -> PyResult<u64> {
        let by = principal(by)?;
        enter(py, || self.core.hold_trail(by, on, reason).map_err(Raise::from))
    }

    /// Removes what is older than this and not read any more: `(from, to, bytes, seq)`, or none.
    fn prune_trail(
        &self,
        py: Python<'_>,
        by: &str,
        before_us: u64,
    ) -> PyResult<Option<(u64, u64, u64, u64)>> {
        let by = principal(by)?;
        enter(py, || {
            let pruned = self.core.prune_trail(by, before_us).map_err(Raise::from)?;
            Ok::<_, Raise>(pruned.map(|done| (done.from, done.to, done.bytes, done.seq)))
        })
    }

    #[getter]
    fn opened<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let opened = self.core.opened();
        let dict = PyDict::new(py);
        dict.set_item("created", opened.created)?;
        dict.set_item("log_id", opened.log_id.to_string())?;
        dict.set_item("fingerprint", &opened.fingerprint)?;
        dict.set_item("boot", opened.boot.to_string())?;
        dict.set_item("records", opened.records)?;
        dict.set_item("cut_bytes", opened.cut_bytes)?;
        dict.set_item("unknown", opened.unknown)?;
        dict.set_item("replayed", opened.replayed)?;
        dict.set_item("trail", self.core.trail())?;
        Ok(dict)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || self.core.close())
    }

    fn fileno(&self) -> i32 {
        self.core.wake_descriptor()
    }

    /// Signs the state of the trail; answers the text of the checkpoint.
    fn checkpoint(&self, py: Python<'_>) -> PyResult<String> {
        enter(py, || self.core.checkpoint().map(|checkpoint| checkpoint.to_string()))
    }

    fn durable(&self) -> u64 {
        self.core.durable()
    }

    fn want(&self, seq: u64) -> bool {
        self.core.want(seq)
    }

    /// What has rung: mailboxes with something in them, and those that have room again.
    fn drain(&self, py: Python<'_>) -> (Vec<String>, Vec<String>) {
        let (ready, roomy) = py.detach(|| (self.core.drain(), self.core.drain_rooms()));
        let texts = |ids: &[symbi_types::AgentId]| ids.iter().map(ToString::to_string).collect();
        (texts(&ready), texts(&roomy))
    }

    /// None while the log can write, otherwise why it cannot.
    fn log_problem(&self) -> Option<String> {
        self.core.log_problem()
    }

    fn policy_digest(&self) -> String {
        self.core.policy_digest()
    }

    /// How often a rule could not be evaluated since the opening.
    fn erring_rules(&self) -> u64 {
        self.core.erring_rules()
    }

    fn policy_problems(&self) -> String {
        symbi_policy::render(&self.core.policy_diagnostics())
    }

    fn load_policies(
        &self,
        py: Python<'_>,
        by: &str,
        sources: Vec<(String, String)>,
        counters: Vec<(String, String)>,
    ) -> PyResult<u64> {
        let (by, policies) = (principal(by)?, policies_in(sources, counters)?);
        enter(py, || self.core.load_policies(by, &policies))
    }

    /// As `load_policies`, with the canary: `(record, sampled, [flip, …])`.
    #[pyo3(signature = (by, sources, counters, flips_max=None))]
    fn change_policies<'py>(
        &self,
        py: Python<'py>,
        by: &str,
        sources: Vec<(String, String)>,
        counters: Vec<(String, String)>,
        flips_max: Option<usize>,
    ) -> PyResult<(u64, usize, Vec<Bound<'py, PyDict>>)> {
        let (by, policies) = (principal(by)?, policies_in(sources, counters)?);
        let changed = enter(py, || self.core.change_policies(by, &policies, flips_max))?;
        let flips = changed.flips.iter().map(|flip| {
            let dict = PyDict::new(py);
            dict.set_item("principal", &flip.principal)?;
            dict.set_item("action", &flip.action)?;
            dict.set_item("resource", &flip.resource)?;
            dict.set_item("before", flip.before)?;
            dict.set_item("after", flip.after)?;
            dict.set_item("rule", flip.rule.as_deref())?;
            Ok(dict)
        });
        Ok((changed.seq, changed.sampled, flips.collect::<PyResult<_>>()?))
    }

    /// Policies that were to be put in force are not.
    fn refuse_policies(&self, py: Python<'_>, problem: &str) -> Option<u64> {
        py.detach(|| self.core.refuse_policies(problem))
    }

    fn policy_problem(&self) -> Option<String> {
        self.core.policy_problem()
    }

    fn unknown_operations<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let unknown = self.core.unknown_operations();
        unknown
            .into_iter()
            .map(|one| {
                let dict = PyDict::new(py);
                dict.set_item("operation", one.operation.to_string())?;
                dict.set_item("seq", one.seq)?;
                dict.set_item("action", one.action)?;
                dict.set_item("agent", one.agent.map(|agent| agent.to_string()))?;
                dict.set_item("principal", one.principal)?;
                dict.set_item("resource", one.resource)?;
                dict.set_item("at_us", one.at_us)?;
                Ok(dict)
            })
            .collect()
    }

    fn resolve(&self, by: &str, operation: &str, done: bool) -> PyResult<u64> {
        let resolution = if done { core::Resolution::Done } else { core::Resolution::Failed };
        let operation = operation.parse().map_err(input)?;
        Ok(self.core.resolve(principal(by)?, operation, resolution).map_err(Raise::from)?)
    }

    /// What was sealed in a record of this runtime, for its operator.
    fn unseal<'py>(&self, py: Python<'py>, sealed: &str) -> PyResult<Bound<'py, PyBytes>> {
        let plain =
            crate::erasure::plain(self.core.open_sealed(sealed), "this was not sealed by this runtime")?;
        Ok(PyBytes::new(py, &plain))
    }
}
