//! Operations of a `Kernel` that wait for persons, notices, and labels that come off.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use symbi_kernel as core;

use crate::convert::{agent_id, input, labels_in, principal, texts};
use crate::errors::enter;
use crate::kernel::Kernel;

#[pymethods]
impl Kernel {
    fn approvals<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        py.detach(|| self.core.approvals()).iter().map(|one| show(py, one)).collect()
    }

    fn approval<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let id = id.parse().map_err(input)?;
        py.detach(|| self.core.approval(id)).map(|one| show(py, &one)).transpose()
    }

    /// What is to be done, in the clear; None where nothing of this id waits.
    fn approval_arguments<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let id = id.parse().map_err(input)?;
        Ok(self.core.approval_arguments(id).map(|bytes| PyBytes::new(py, &bytes)))
    }

    /// `word`: `approve`, `deny`, or `modify` with other arguments. Answers the record, which is on disk.
    #[pyo3(signature = (by, name, id, word, arguments=None))]
    fn say(
        &self,
        py: Python<'_>,
        by: &str,
        name: &str,
        id: &str,
        word: &str,
        arguments: Option<Vec<u8>>,
    ) -> PyResult<u64> {
        let word = match (word, arguments) {
            ("approve", None) => core::Word::Approve,
            ("deny", None) => core::Word::Deny,
            ("modify", Some(arguments)) => core::Word::Modify(arguments),
            (other, _) => return Err(input(format!("`{other}` is not a person's word here"))),
        };
        let (by, id) = (principal(by)?, id.parse().map_err(input)?);
        enter(py, || self.core.say(by, name, id, &word))
    }

    /// `([{channels, operation, seq, action, principal, resource, rules}, …], dropped)`
    fn take_notices<'py>(&self, py: Python<'py>) -> PyResult<(Vec<Bound<'py, PyDict>>, u64)> {
        let (notices, dropped) = self.core.take_notices();
        let rows = notices.iter().map(|notice| {
            let dict = PyDict::new(py);
            dict.set_item("channels", &notice.channels)?;
            dict.set_item("operation", notice.operation.to_string())?;
            dict.set_item("seq", notice.seq)?;
            dict.set_item("action", notice.action)?;
            dict.set_item("principal", &notice.principal)?;
            dict.set_item("resource", &notice.resource)?;
            dict.set_item("rules", &notice.rules)?;
            Ok(dict)
        });
        Ok((rows.collect::<PyResult<_>>()?, dropped))
    }

    fn declassify(&self, py: Python<'_>, by: &str, agent: &str, labels: Vec<String>) -> PyResult<u64> {
        let (by, agent, labels) = (principal(by)?, agent_id(agent)?, labels_in(&self.core, &labels)?);
        enter(py, || self.core.declassify(by, agent, &labels))
    }

    /// An operator's token is made or taken away.
    fn change_operator(&self, py: Python<'_>, by: &str, name: &str, added: bool) -> PyResult<u64> {
        let by = principal(by)?;
        enter(py, || self.core.change_operator(by, name, added))
    }
}

fn show<'py>(py: Python<'py>, one: &core::Waiting) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("operation", one.id.to_string())?;
    dict.set_item("seq", one.seq)?;
    dict.set_item("state", one.state.as_str())?;
    dict.set_item("action", &one.action)?;
    dict.set_item("agent", one.agent.map(|agent| agent.to_string()))?;
    dict.set_item("run", one.run.map(|run| run.to_string()))?;
    dict.set_item("principal", &one.principal)?;
    dict.set_item("subject", &one.subject)?;
    dict.set_item("resource", &one.resource)?;
    dict.set_item("rules", &one.rules)?;
    dict.set_item("labels", texts(&one.labels))?;
    dict.set_item("at_us", one.asked_us)?;
    dict.set_item("expires_us", one.expires_us)?;
    dict.set_item("count", one.count)?;
    dict.set_item("approvers", one.approvers.iter().cloned().collect::<Vec<_>>())?;
    let votes = one.votes.iter().map(|vote| (vote.operator.clone(), vote.name.clone(), vote.at_us));
    dict.set_item("votes", votes.collect::<Vec<_>>())?;
    dict.set_item("modified", one.modified)?;
    Ok(dict)
}
