//! External operations of a `Kernel`: asked for, and the permit to act.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use symbi_kernel as core;
use symbi_types::SecurityTier;

use crate::convert::{PartTuple, agent_id, input, labels_in, part_in, principal, texts};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

#[pymethods]
impl Kernel {
    #[pyo3(signature = (name, effects, risk, idempotent=false))]
    fn register_tool(&self, name: String, effects: String, risk: String, idempotent: bool) -> PyResult<()> {
        let spec = core::ToolSpec { name, effects, risk, idempotent };
        Ok(self.core.register_tool(&spec).map_err(Raise::from)?)
    }

    #[pyo3(signature = (by, tool, arguments, parts=Vec::new(), attributes=Vec::new(), timeout_ms=0, amounts=Vec::new()))]
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
        amounts: Vec<(String, u64)>,
    ) -> PyResult<Permit> {
        let parts = parts.into_iter().map(|part| part_in(&self.core, part)).collect::<PyResult<_>>()?;
        let call =
            core::ToolCall { tool, arguments: arguments.to_vec(), parts, attributes, amounts, timeout_ms };
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

    fn operations_in_flight(&self) -> usize {
        self.core.operations_in_flight()
    }
}

/// The right to act once, on the bytes it carries. No constructor.
#[pyclass(frozen, module = "symbi._core")]
pub(crate) struct Permit {
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

    /// The result of this call in an earlier attempt of its task; None: it is to be made.
    #[getter]
    fn replayed<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.core.replayed().map(|result| PyBytes::new(py, &result))
    }

    /// Whether `settle` keeps a result, for a retry of the task.
    #[getter]
    fn journaled(&self) -> bool {
        self.core.is_journaled()
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.core.take().map_err(Raise::from)?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyo3(signature = (outcome, kind=String::new(), text=String::new(), result=None, *, used=Vec::new(), returned=Vec::new(),
        labels=Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments: the fields of an outcome")]
    fn settle(
        &self,
        py: Python<'_>,
        outcome: &str,
        kind: String,
        text: String,
        result: Option<Vec<u8>>,
        used: Vec<(String, u64)>,
        returned: Vec<u8>,
        labels: Vec<String>,
    ) -> PyResult<u64> {
        let outcome = match outcome {
            "done" => core::Outcome::Done,
            "failed" => core::Outcome::Failed { kind, text },
            _ => return Err(input(format!("`{outcome}` is not an outcome: `done` or `failed`"))),
        };
        let settlement =
            core::Settlement { result, used, returned, labels: labels_in(self.core.kernel(), &labels)? };
        enter(py, || self.core.settle_as(&outcome, settlement))
    }
}
