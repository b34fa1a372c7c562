//! Agents of a `Kernel`: made, cloned, listed.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use symbi_kernel as core;
use symbi_types::ResourceLimits;

use crate::convert::{agent_id, input, labels_in, parsed, principal, texts};
use crate::errors::enter;
use crate::kernel::Kernel;
use crate::supervise::{SupervisionTuple, supervision_in};

#[pymethods]
impl Kernel {
    #[pyo3(signature = (by, *, name, kind, in_process, tier, capabilities, labels, memory_mb, cpu_millicores,
        disk_io_mbps, network_io_mbps, connections, execution_timeout_ms, tenant="default",
        supervision=None, assessed=None, count=1))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments: the fields of a specification")]
    /// `count` agents of one specification: each decided on and recorded, all of them or none; and the record to wait for.
    fn create_agents(
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
        tenant: &str,
        supervision: Option<SupervisionTuple>,
        assessed: Option<&str>,
        count: usize,
    ) -> PyResult<(Vec<String>, u64)> {
        let spec = core::AgentSpec {
            name,
            kind,
            in_process,
            tier: tier.parse().map_err(input)?,
            assessed: assessed.map(parsed).transpose()?,
            capabilities,
            labels: labels_in(&self.core, &labels)?,
            tenant: tenant.to_owned(),
            limits: ResourceLimits {
                memory_mb,
                cpu_millicores,
                disk_io_mbps,
                network_io_mbps,
                connections,
                execution_timeout_ms,
            },
            supervision: supervision.map(supervision_in).transpose()?,
        };
        let by = principal(by)?;
        let (ids, seq) = enter(py, || self.core.create_agents(by, Arc::new(spec), count))?;
        Ok((ids.iter().map(ToString::to_string).collect(), seq))
    }

    /// Another instance of what `agent` is: one decision and one record, without building the specification anew.
    fn clone_agent(&self, py: Python<'_>, by: &str, agent: &str) -> PyResult<(String, u64)> {
        let (by, agent) = (principal(by)?, agent_id(agent)?);
        let (id, seq) = enter(py, || self.core.clone_agent(by, agent))?;
        Ok((id.to_string(), seq))
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
                dict.set_item("held", view.held.map(core::Cause::as_str))?;
                dict.set_item("tenant", view.tenant)?;
                dict.set_item("run", view.running.map(|run| run.to_string()))?;
                Ok(dict)
            })
            .collect()
    }

    fn count_agents(&self) -> usize {
        self.core.count_agents()
    }

    fn note(&self, py: Python<'_>, by: &str, text: &str) -> PyResult<u64> {
        let by = agent_id(by)?;
        enter(py, || self.core.note(by, text))
    }
}
