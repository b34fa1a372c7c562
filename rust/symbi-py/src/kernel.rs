//! `symbi-kernel` for Python: one class, `Kernel`, and the permit.
//!
//! Values cross as plain tuples and texts (`convert`).

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use symbi_kernel as core;
use symbi_types::{ResourceLimits, ResourceVector, SecurityTier, SystemClock, SystemEntropy};

use crate::convert::{
    CitationTuple, PartTuple, PassageTuple, agent_id, citation_out, input, labels_in, part_in, payload_in,
    policies_in, principal, received_out, recipient_in, run_ids, run_outcome, texts,
};
use crate::errors::{Raise, enter};

/// Adds this module's classes to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PAYLOAD_BYTES_MAX", core::PAYLOAD_BYTES_MAX)?;
    module.add_class::<Kernel>()?;
    module.add_class::<Permit>()
}

/// One opening of a runtime.
#[pyclass(frozen, module = "symbi._core")]
struct Kernel {
    core: Arc<core::Kernel>,
}

#[pymethods]
impl Kernel {
    #[staticmethod]
    #[pyo3(signature = (data, *, trail=None, sources=None, counters=Vec::new(), enforce=true, provider="aws-lc",
        signers=2, memory_mb=0, cpu_millicores=0, sandboxes=0, agents_max=10_000, mailbox_depth_max=1024,
        mailbox_bytes_max=1_048_576))]
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
        agents_max: usize,
        mailbox_depth_max: usize,
        mailbox_bytes_max: usize,
    ) -> PyResult<Self> {
        let policies = sources.map(|sources| policies_in(sources, counters)).transpose()?;
        let options = core::KernelOptions {
            data,
            trail,
            policies,
            enforce,
            provider: provider.parse().map_err(input)?,
            signers,
            capacity: ResourceVector { memory_mb, cpu_millicores, sandboxes, ..ResourceVector::default() },
            agents_max,
            mailbox_depth_max,
            mailbox_bytes_max,
            admission: core::AdmissionLimits::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            storage: None,
        };
        enter(py, || core::Kernel::open(options)).map(|core| Self { core })
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
        dict.set_item("trail", self.core.trail())?;
        Ok(dict)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || self.core.close())
    }

    fn fileno(&self) -> i32 {
        self.core.wake_descriptor()
    }

    fn durable(&self) -> u64 {
        self.core.durable()
    }

    fn want(&self, seq: u64) -> bool {
        self.core.want(seq)
    }

    fn drain(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.core.drain()).iter().map(ToString::to_string).collect()
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

    #[pyo3(signature = (by, *, name, kind, in_process, tier, capabilities, labels, memory_mb, cpu_millicores,
        disk_io_mbps, network_io_mbps, connections, execution_timeout_ms))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments: the fields of a specification")]
    fn create_agent(
        &self,
        py: Python<'_>,
        by: &str,
        name: String,
        kind: String,
        in_process: bool,
        tier: &str,
        capabilities: Vec<String>,
        labels: Vec<String>,
        memory_mb: Option<u64>,
        cpu_millicores: Option<u64>,
        disk_io_mbps: Option<u64>,
        network_io_mbps: Option<u64>,
        connections: Option<u64>,
        execution_timeout_ms: Option<u64>,
    ) -> PyResult<(String, u64)> {
        let spec = core::AgentSpec {
            name,
            kind,
            in_process,
            tier: tier.parse().map_err(input)?,
            capabilities,
            labels: labels_in(labels)?,
            limits: ResourceLimits {
                memory_mb,
                cpu_millicores,
                disk_io_mbps,
                network_io_mbps,
                connections,
                execution_timeout_ms,
            },
        };
        let by = principal(by)?;
        let (id, seq) = enter(py, || self.core.create_agent(by, Arc::new(spec)))?;
        Ok((id.to_string(), seq))
    }

    /// Another instance of what `agent` is: one decision and one record, without building the specification anew.
    fn clone_agent(&self, py: Python<'_>, by: &str, agent: &str) -> PyResult<(String, u64)> {
        let (by, agent) = (principal(by)?, agent_id(agent)?);
        let (id, seq) = enter(py, || self.core.clone_agent(by, agent))?;
        Ok((id.to_string(), seq))
    }

    fn begin_run(
        &self,
        py: Python<'_>,
        by: &str,
        agent: &str,
        input: &[u8],
        labels: Vec<String>,
        priority: u8,
    ) -> PyResult<(String, u64, Vec<String>)> {
        let labels = labels_in(labels)?;
        let (by, agent) = (principal(by)?, agent_id(agent)?);
        let begun = enter(py, || self.core.begin_run(by, agent, input, &labels, core::Priority(priority)))?;
        Ok((begun.run.to_string(), begun.seq, run_ids(&begun.started)))
    }

    #[pyo3(signature = (run, outcome, kind=String::new(), text=String::new()))]
    fn end_run(
        &self,
        py: Python<'_>,
        run: &str,
        outcome: &str,
        kind: String,
        text: String,
    ) -> PyResult<(Option<u64>, Vec<String>)> {
        let outcome = run_outcome(outcome, kind, text)?;
        let run = run.parse().map_err(input)?;
        let ended = enter(py, || self.core.end_run(run, &outcome))?;
        Ok((ended.seq, run_ids(&ended.started)))
    }

    fn stop_agent(&self, by: &str, agent: &str, force: bool) -> PyResult<(Vec<String>, Option<u64>, bool)> {
        let stopped = self.core.stop_agent(principal(by)?, agent_id(agent)?, force).map_err(Raise::from)?;
        Ok((run_ids(&stopped.runs), stopped.seq, stopped.terminated))
    }

    fn suspend_agent(&self, by: &str, agent: &str) -> PyResult<Option<u64>> {
        Ok(self.core.suspend_agent(principal(by)?, agent_id(agent)?).map_err(Raise::from)?)
    }

    fn resume_agent(&self, by: &str, agent: &str) -> PyResult<u64> {
        Ok(self.core.resume_agent(principal(by)?, agent_id(agent)?).map_err(Raise::from)?)
    }

    fn agent_state(&self, agent: &str) -> PyResult<Option<&'static str>> {
        Ok(self.core.agent_state(agent_id(agent)?).map(core::State::as_str))
    }

    fn agent_labels(&self, agent: &str) -> PyResult<Vec<String>> {
        Ok(texts(&self.core.agent_labels(agent_id(agent)?)))
    }

    fn list_agents<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let views = self.core.list_agents();
        views
            .into_iter()
            .map(|view| {
                let dict = PyDict::new(py);
                dict.set_item("id", view.id.to_string())?;
                dict.set_item("name", view.name)?;
                dict.set_item("kind", view.kind)?;
                dict.set_item("isolation", if view.in_process { "in_process" } else { "sandbox" })?;
                dict.set_item("tier", view.tier.as_str())?;
                dict.set_item("state", view.state.as_str())?;
                dict.set_item("labels", texts(&view.labels))?;
                dict.set_item("run", view.running.map(|run| run.to_string()))?;
                Ok(dict)
            })
            .collect()
    }

    fn count_agents(&self) -> usize {
        self.core.count_agents()
    }

    fn operations_in_flight(&self) -> usize {
        self.core.operations_in_flight()
    }

    #[pyo3(signature = (sender, recipient, payload, in_reply_to=None, expects_reply=false))]
    fn send(
        &self,
        py: Python<'_>,
        sender: &str,
        recipient: &str,
        payload: &Bound<'_, PyAny>,
        in_reply_to: Option<&str>,
        expects_reply: bool,
    ) -> PyResult<(String, u64)> {
        let (sender, recipient) = (agent_id(sender)?, recipient_in(recipient));
        let payload = payload_in(payload)?;
        let reply = in_reply_to.map(|text| text.parse().map_err(input)).transpose()?;
        let (id, seq) = enter(py, || self.core.send(sender, &recipient, payload, reply, expects_reply))?;
        Ok((id.to_string(), seq))
    }

    /// Sends all, in order, in one crossing. Stops at the first that is refused or fails, and raises it.
    fn send_many(
        &self,
        py: Python<'_>,
        sender: &str,
        messages: Vec<(String, Bound<'_, PyAny>)>,
    ) -> PyResult<(Vec<String>, Option<u64>)> {
        let sender = agent_id(sender)?;
        let messages = messages
            .iter()
            .map(|(recipient, payload)| Ok((recipient_in(recipient), payload_in(payload)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let sent = enter(py, || -> Result<Vec<_>, core::MessageError> {
            messages
                .into_iter()
                .map(|(recipient, payload)| self.core.send(sender, &recipient, payload, None, false))
                .collect()
        })?;
        let last = sent.last().map(|(_, seq)| *seq);
        Ok((sent.into_iter().map(|(id, _)| id.to_string()).collect(), last))
    }

    fn receive_many<'py>(
        &self,
        py: Python<'py>,
        agent: &str,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let agent = agent_id(agent)?;
        let received = enter(py, || self.core.receive_many(agent, limit))?;
        received.into_iter().map(|one| received_out(py, one)).collect()
    }

    fn take_reply<'py>(
        &self,
        py: Python<'py>,
        agent: &str,
        request: &str,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let (agent, request) = (agent_id(agent)?, request.parse().map_err(input)?);
        let reply = enter(py, || self.core.take_reply(agent, request))?;
        reply.map(|one| received_out(py, one)).transpose()
    }

    fn forget_reply(&self, agent: &str, request: &str) -> PyResult<()> {
        self.core.forget_reply(agent_id(agent)?, request.parse().map_err(input)?);
        Ok(())
    }

    fn register_tool(&self, name: String, effects: String, risk: String) -> PyResult<()> {
        let spec = core::ToolSpec { name, effects, risk };
        Ok(self.core.register_tool(&spec).map_err(Raise::from)?)
    }

    #[pyo3(signature = (by, tool, arguments, parts=Vec::new(), attributes=Vec::new(), timeout_ms=0))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments: the fields of a request")]
    fn begin_tool_call(
        &self,
        py: Python<'_>,
        by: &str,
        tool: String,
        arguments: &[u8],
        parts: Vec<PartTuple>,
        attributes: Vec<(String, String)>,
        timeout_ms: u64,
    ) -> PyResult<Permit> {
        let parts = parts.into_iter().map(part_in).collect::<PyResult<_>>()?;
        let call = core::ToolCall { tool, arguments: arguments.to_vec(), parts, attributes, timeout_ms };
        let by = principal(by)?;
        let permit = enter(py, || self.core.begin_tool_call(by, call))?;
        Ok(Permit { core: permit })
    }

    #[pyo3(signature = (by, spec, *, tier, network, writable, agent=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments: the fields of a request")]
    fn begin_sandbox(
        &self,
        py: Python<'_>,
        by: &str,
        spec: &[u8],
        tier: &str,
        network: bool,
        writable: bool,
        agent: Option<&str>,
    ) -> PyResult<Permit> {
        let tier: SecurityTier = tier.parse().map_err(input)?;
        let agent = agent.map(agent_id).transpose()?;
        let ask = core::SandboxAsk { tier, network, writable, spec: spec.to_vec() };
        let by = principal(by)?;
        let permit = enter(py, || self.core.begin_sandbox(by, agent, ask))?;
        Ok(Permit { core: permit })
    }

    /// `passages`: `(text | None, digest | None, labels, start, end)`. Answers the content's digest and the record.
    fn ingest(
        &self,
        py: Python<'_>,
        by: &str,
        title: &str,
        passages: Vec<PassageTuple>,
    ) -> PyResult<(String, u64)> {
        let by = agent_id(by)?;
        let passages = passages
            .into_iter()
            .map(|(text, digest, declared, start, end)| {
                Ok(core::Passage { text, digest, labels: labels_in(declared)?, start, end })
            })
            .collect::<PyResult<_>>()?;
        enter(py, || self.core.ingest(by, title, passages))
    }

    fn store_document(&self, by: &str, content: &str, readers: Vec<String>) -> PyResult<(String, u64)> {
        let (id, seq) = self.core.store_document(agent_id(by)?, content, &readers).map_err(Raise::from)?;
        Ok((id.to_string(), seq))
    }

    fn write_document(
        &self,
        py: Python<'_>,
        by: &str,
        title: &str,
        text: &str,
        readers: Vec<String>,
    ) -> PyResult<(String, u64)> {
        let by = agent_id(by)?;
        let (id, seq) = enter(py, || self.core.write_document(by, title, text, &readers))?;
        Ok((id.to_string(), seq))
    }

    fn search(
        &self,
        py: Python<'_>,
        by: &str,
        text: &str,
        limit: usize,
    ) -> PyResult<(Vec<CitationTuple>, u64)> {
        let by = agent_id(by)?;
        let (answer, seq) = enter(py, || self.core.search(by, text, limit))?;
        Ok((answer.into_iter().map(citation_out).collect(), seq))
    }

    fn answer(
        &self,
        py: Python<'_>,
        by: &str,
        question: &str,
        limit: usize,
    ) -> PyResult<(Vec<CitationTuple>, u64)> {
        let by = agent_id(by)?;
        let (answer, seq) = enter(py, || self.core.answer(by, question, limit))?;
        Ok((answer.into_iter().map(citation_out).collect(), seq))
    }

    fn knowledge_counts(&self, py: Python<'_>) -> PyResult<(u64, u64, u64)> {
        let counts = py
            .detach(|| self.core.knowledge_counts())
            .map_err(|error| Raise::from(core::KnowledgeError::from(error)))?;
        Ok((counts.documents, counts.chunks, counts.withheld))
    }

    fn note(&self, py: Python<'_>, by: &str, text: &str) -> PyResult<u64> {
        let by = agent_id(by)?;
        enter(py, || self.core.note(by, text))
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
        let plain = self
            .core
            .unseal(sealed)
            .ok_or_else(|| PyErr::from(Raise::new("CryptoError", "this was not sealed by this runtime")))?;
        Ok(PyBytes::new(py, &plain))
    }
}

/// The right to act once, on the bytes it carries. No constructor.
#[pyclass(frozen, module = "symbi._core")]
struct Permit {
    core: core::Permit,
}

#[pymethods]
impl Permit {
    #[getter]
    fn operation(&self) -> String {
        self.core.operation().to_string()
    }

    #[getter]
    fn intent_seq(&self) -> u64 {
        self.core.intent_seq()
    }

    #[getter]
    fn labels(&self) -> Vec<String> {
        texts(self.core.labels())
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.core.take().map_err(Raise::from)?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyo3(signature = (outcome, kind=String::new(), text=String::new()))]
    fn settle(&self, py: Python<'_>, outcome: &str, kind: String, text: String) -> PyResult<u64> {
        let outcome = match outcome {
            "done" => core::Outcome::Done,
            "failed" => core::Outcome::Failed { kind, text },
            _ => return Err(input(format!("`{outcome}` is not an outcome: `done` or `failed`"))),
        };
        enter(py, || self.core.settle(&outcome))
    }
}
