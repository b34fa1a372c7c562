//! Breaches of limits, reported to a `Kernel`.

use pyo3::prelude::*;
use symbi_kernel as core;

use crate::convert::{MovesTuple, agent_id, input, moves_out, parsed};
use crate::errors::enter;
use crate::kernel::Kernel;

#[pymethods]
impl Kernel {
    /// Judged, recorded, and the agent held where policy says so. Answers the verdict, its record, and what to do.
    #[pyo3(signature = (agent, run, limit, used, bound, hard, text=String::new()))]
    #[expect(clippy::too_many_arguments, reason = "the fields of a breach")]
    fn report_breach(
        &self,
        py: Python<'_>,
        agent: &str,
        run: Option<&str>,
        limit: &str,
        used: u64,
        bound: u64,
        hard: bool,
        text: String,
    ) -> PyResult<(&'static str, Option<u64>, MovesTuple)> {
        let known = core::LIMITS.into_iter().find(|name| *name == limit);
        let limit = known.ok_or_else(|| input(format!("`{limit}` is not a limit that can be breached")))?;
        let run = run.map(parsed).transpose()?;
        let breach = core::Breach { agent: agent_id(agent)?, run, limit, used, bound, hard, text };
        let judged = enter(py, || self.core.report_breach(&breach))?;
        Ok((judged.verdict.as_str(), judged.seq, moves_out(&judged.moves)))
    }
}
