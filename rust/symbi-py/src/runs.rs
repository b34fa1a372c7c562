//! Runs of a `Kernel`'s agents: begun, ended, suspended, resumed, stopped.

use pyo3::prelude::*;
use symbi_kernel as core;

use crate::convert::{agent_id, input, labels_in, principal, run_ids, run_outcome};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

#[pymethods]
impl Kernel {
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
}
