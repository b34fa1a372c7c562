//! Runs of a `Kernel`'s agents: begun, ended, held still, let go on, stopped.
//!
//! Every call that may change who runs answers with `(start, suspend, resume)`: three lists of run ids.

use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyDict, PyList};
use symbi_kernel as core;

use crate::convert::{MovesTuple, agent_id, input, labels_in, moves_out, parsed, principal, run_outcome};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

/// How long a run may be at work and how much it may have of processors, in milliseconds, where budgets bound that; and
/// whether its processor time is counted.
type AllowanceTuple = (Option<u64>, Option<u64>, bool);

fn allowance_out(allowance: &core::Allowance) -> AllowanceTuple {
    (allowance.time_ms, allowance.cpu_ms, allowance.counts_cpu)
}

#[pymethods]
impl Kernel {
    #[pyo3(signature = (by, agent, input, labels, priority, *, tier="interactive", deadline_ms=None,
        duration_ms=None, retry_of=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments: what is asked of one run")]
    fn begin_run(
        &self,
        py: Python<'_>,
        by: &str,
        agent: &str,
        input: &[u8],
        labels: Vec<String>,
        priority: u8,
        tier: &str,
        deadline_ms: Option<u64>,
        duration_ms: Option<u64>,
        retry_of: Option<&str>,
    ) -> PyResult<(String, u64, MovesTuple, Option<AllowanceTuple>)> {
        let labels = labels_in(&self.core, &labels)?;
        let (by, agent, tier) = (principal(by)?, agent_id(agent)?, parsed(tier)?);
        let retry_of = retry_of.map(parsed).transpose()?;
        let urgency = core::Urgency { tier, priority: core::Priority(priority), deadline_ms, duration_ms };
        let begun = enter(py, || self.core.begin_attempt(by, agent, input, &labels, urgency, retry_of))?;
        let allowance = begun.allowance.as_ref().map(allowance_out);
        Ok((begun.run.to_string(), begun.seq, moves_out(&begun.moves), allowance))
    }

    /// As `begin_run` of each `(agent, input)`, in one call: run ids, or in their place the error that refused one; what
    /// the host does now; and the allowances of the runs that have one.
    #[pyo3(signature = (by, asks, labels, priority, *, tier="interactive", deadline_ms=None, duration_ms=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments: what is asked of the runs")]
    fn begin_runs<'py>(
        &self,
        py: Python<'py>,
        by: &str,
        asks: Vec<(PyBackedStr, PyBackedBytes)>,
        labels: Vec<String>,
        priority: u8,
        tier: &str,
        deadline_ms: Option<u64>,
        duration_ms: Option<u64>,
    ) -> PyResult<(Bound<'py, PyList>, MovesTuple, Bound<'py, PyDict>)> {
        let (by, tier, labels) = (principal(by)?, parsed(tier)?, labels_in(&self.core, &labels)?);
        let parsed: Vec<_> =
            asks.iter().map(|(agent, input)| Ok((agent_id(agent)?, &input[..]))).collect::<PyResult<_>>()?;
        let urgency = core::Urgency { tier, priority: core::Priority(priority), deadline_ms, duration_ms };
        let begun = py.detach(|| self.core.begin_runs(by, &parsed, &labels, urgency));
        let runs = PyList::empty(py);
        for run in begun.runs {
            match run {
                Ok(run) => runs.append(run.to_string())?,
                Err(error) => runs.append(PyErr::from(Raise::from(error)).into_value(py))?,
            }
        }
        let allowances = PyDict::new(py);
        for (run, allowance) in &begun.allowances {
            allowances.set_item(run.to_string(), allowance_out(allowance))?;
        }
        Ok((runs, moves_out(&begun.moves), allowances))
    }

    /// Records how runs ended, each `(run, outcome, kind, text)`: the record to wait for, none where the log cannot write, and
    /// what the host does now. A run that there is not is passed over.
    fn end_runs(
        &self,
        py: Python<'_>,
        ended: Vec<(PyBackedStr, PyBackedStr, String, String)>,
    ) -> PyResult<(Option<u64>, MovesTuple)> {
        let ended: Vec<_> = ended
            .into_iter()
            .map(|(run, outcome, kind, text)| Ok((parsed(&run)?, run_outcome(&outcome, kind, text)?)))
            .collect::<PyResult<_>>()?;
        let (seq, moves) = py.detach(|| self.core.end_runs(&ended));
        Ok((seq, moves_out(&moves)))
    }

    fn run_used_cpu(&self, run: &str, cpu_ms: u64) -> PyResult<()> {
        self.core.run_used_cpu(parsed(run)?, cpu_ms);
        Ok(())
    }

    /// The host says that the run stands still.
    fn run_suspended(&self, py: Python<'_>, run: &str) -> PyResult<MovesTuple> {
        let run = parsed(run)?;
        enter(py, || self.core.run_suspended(run)).map(|moves| moves_out(&moves))
    }

    /// The host says that the run goes on.
    fn run_resumed(&self, py: Python<'_>, run: &str) -> PyResult<()> {
        let run = parsed(run)?;
        enter(py, || self.core.run_resumed(run))
    }

    /// From here on no new effect of that run starts.
    fn cancel_run(&self, by: &str, run: &str) -> PyResult<(Option<u64>, MovesTuple)> {
        let moved = self.core.cancel_run(principal(by)?, parsed(run)?).map_err(Raise::from)?;
        Ok((moved.seq, moves_out(&moved.moves)))
    }

    fn stop_agent(
        &self,
        by: &str,
        agent: &str,
        force: bool,
    ) -> PyResult<(Vec<String>, Option<u64>, bool, MovesTuple)> {
        let stopped = self.core.stop_agent(principal(by)?, agent_id(agent)?, force).map_err(Raise::from)?;
        let runs = stopped.runs.iter().map(ToString::to_string).collect();
        Ok((runs, stopped.seq, stopped.terminated, moves_out(&stopped.moves)))
    }

    #[pyo3(signature = (by, agent, cause="operator_hold"))]
    fn suspend_agent(&self, by: &str, agent: &str, cause: &str) -> PyResult<(Option<u64>, MovesTuple)> {
        let (by, agent, cause) = (principal(by)?, agent_id(agent)?, cause.parse().map_err(input)?);
        let moved = self.core.suspend_agent(by, agent, cause).map_err(Raise::from)?;
        Ok((moved.seq, moves_out(&moved.moves)))
    }

    fn resume_agent(&self, py: Python<'_>, by: &str, agent: &str) -> PyResult<(Option<u64>, MovesTuple)> {
        let (by, agent) = (principal(by)?, agent_id(agent)?);
        let moved = enter(py, || self.core.resume_agent(by, agent))?;
        Ok((moved.seq, moves_out(&moved.moves)))
    }

    /// When time alone changes what runs: nanoseconds on the monotonic clock, or None.
    fn wake_at_ns(&self) -> Option<u64> {
        self.core.wake_at_ns()
    }

    /// What is to be done now, because time has passed or the kernel itself decided something.
    fn tick(&self, py: Python<'_>) -> MovesTuple {
        moves_out(&py.detach(|| self.core.tick()))
    }

    /// Whether `tick` or `take_condemned` has something to say.
    fn has_untold(&self) -> bool {
        self.core.has_untold()
    }

    /// Agents that policy ends: the host stops them. Each is named once, and is suspended already.
    fn take_condemned(&self) -> Vec<String> {
        self.core.take_condemned().iter().map(ToString::to_string).collect()
    }

    /// `{"waiting": {tier: n}, "running": …, "suspending": …, "suspended": …, "deadlines_missed": n, "preemptions": n}`
    fn count_runs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.core.count_runs();
        let dict = PyDict::new(py);
        let states = [
            ("waiting", counts.waiting),
            ("running", counts.running),
            ("suspending", counts.suspending),
            ("suspended", counts.suspended),
        ];
        for (state, of_tier) in states {
            let tiers = PyDict::new(py);
            for (tier, count) in core::Tier::ALL.into_iter().zip(of_tier) {
                tiers.set_item(tier.as_str(), count)?;
            }
            dict.set_item(state, tiers)?;
        }
        dict.set_item("deadlines_missed", counts.deadlines_missed)?;
        dict.set_item("preemptions", counts.preemptions)?;
        Ok(dict)
    }

    /// Where a run or an agent stands, and what it waits for. Cost: proportional to the number of waiting runs.
    fn why<'py>(&self, py: Python<'py>, run_or_agent: &str) -> PyResult<Bound<'py, PyDict>> {
        let why = match self.core.why_run(parsed(run_or_agent)?) {
            Some(why) => why,
            None => self.core.why_agent(agent_id(run_or_agent)?).map_err(Raise::from)?,
        };
        let dict = PyDict::new(py);
        dict.set_item("state", why.state)?;
        dict.set_item("reason", why.reason)?;
        dict.set_item("text", why.text)?;
        dict.set_item("run", why.run.map(|run| run.to_string()))?;
        if let Some(position) = why.position {
            dict.set_item("position", position)?;
        }
        if let Some(before) = why.before {
            dict.set_item("before", before.to_string())?;
        }
        if !why.lacks.is_empty() {
            dict.set_item("lacks", why.lacks)?; // [(resource, need, have), …]
        }
        Ok(dict)
    }
}
