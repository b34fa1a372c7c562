//! The error handler of a `Kernel`: verdicts, dead tasks, breakers, failures by kind.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use symbi_kernel as core;

use crate::convert::{input, parsed, run_outcome};
use crate::errors::enter;
use crate::kernel::Kernel;

/// `(retries, backoff_ms, backoff_max_ms, jitter, retry_on, never_retry, restarts | None, window_ms)`
pub(crate) type SupervisionTuple = (u32, u64, u64, String, Vec<String>, Vec<String>, Option<u32>, u64);

/// `(class | None, verdict, reason, attempt, after_ms)`
type JudgedTuple = (Option<&'static str>, &'static str, &'static str, u32, u64);

pub(crate) fn supervision_in(given: SupervisionTuple) -> PyResult<core::Supervision> {
    let (retries, backoff_ms, backoff_max_ms, jitter, retry_on, never_retry, restarts, window_ms) = given;
    let jitter = match jitter.as_str() {
        "full" => core::Jitter::Full,
        "none" => core::Jitter::None,
        _ => return Err(input(format!("`jitter` is `full` or `none`, not `{jitter}`"))),
    };
    Ok(core::Supervision {
        retries,
        backoff_ms,
        backoff_max_ms,
        jitter,
        retry_on,
        never_retry,
        restarts,
        window_ms,
    })
}

/// Settings of breakers and retry budgets by name, times in milliseconds; those that are not there have their default.
pub(crate) fn supervisor_in(given: &Bound<'_, PyDict>) -> PyResult<core::SupervisorOptions> {
    let mut options = core::SupervisorOptions::default();
    for (name, value) in given {
        let ns = || PyResult::Ok(value.extract::<u64>()?.saturating_mul(1_000_000));
        match name.extract::<String>()?.as_str() {
            "breaker_failures" => options.circuit.failures = value.extract()?,
            "breaker_memory_ms" => options.circuit.memory_ns = ns()?,
            "breaker_open_ms" => options.circuit.open_ns = ns()?,
            "breaker_open_max_ms" => options.circuit.open_max_ns = ns()?,
            "breaker_probes" => options.circuit.probes = value.extract()?,
            "agent_retries" => options.agent.capacity = value.extract()?,
            "agent_refill_ms" => options.agent.refill_ns = ns()?,
            "runtime_retries" => options.runtime.capacity = value.extract()?,
            "runtime_refill_ms" => options.runtime.refill_ns = ns()?,
            other => return Err(input(format!("`{other}` is not a setting of the error handler"))),
        }
    }
    Ok(options)
}

#[pymethods]
impl Kernel {
    /// What follows if `run` ends like this; None where its agent is not supervised.
    #[pyo3(signature = (run, outcome, kind=String::new(), text=String::new()))]
    fn judge(&self, run: &str, outcome: &str, kind: String, text: String) -> PyResult<Option<JudgedTuple>> {
        let outcome = run_outcome(outcome, kind, text)?;
        let judged = self.core.judge(parsed(run)?, &outcome);
        Ok(judged.map(|judged| {
            let class = judged.class.map(core::ErrorClass::as_str);
            (class, judged.verdict.as_str(), judged.reason.as_str(), judged.attempt, judged.after_ms())
        }))
    }

    /// The task of `run`, which waits for its next attempt, is not tried again.
    fn give_up(&self, py: Python<'_>, run: &str) -> PyResult<Option<u64>> {
        let run = parsed(run)?;
        enter(py, || self.core.give_up(run))
    }

    /// Tasks that failed for good, oldest first, and how many are not kept any more.
    fn dead_tasks<'py>(&self, py: Python<'py>) -> PyResult<(Vec<Bound<'py, PyDict>>, u64)> {
        let (dead, dropped) = self.core.dead_tasks();
        let rows = dead
            .into_iter()
            .map(|one| {
                let dict = PyDict::new(py);
                dict.set_item("task", one.task.to_string())?;
                dict.set_item("run", one.run.to_string())?;
                dict.set_item("agent", one.agent.to_string())?;
                dict.set_item("name", one.name)?;
                dict.set_item("attempts", one.attempts)?;
                dict.set_item("error_class", one.class.as_str())?;
                dict.set_item("code", one.code)?;
                dict.set_item("reason", one.reason)?;
                dict.set_item("at_us", one.at_us)?;
                dict.set_item("input_sealed", one.input_sealed)?;
                dict.set_item("text_sealed", one.text_sealed)?;
                Ok(dict)
            })
            .collect::<PyResult<_>>()?;
        Ok((rows, dropped))
    }

    /// `(dependency, state, callers, refused, wait_ms)` of what has failed lately, by name.
    fn breakers(&self) -> Vec<(String, &'static str, usize, u64, u64)> {
        let rows = self.core.breakers().into_iter();
        rows.map(|one| {
            (one.dependency, one.state.as_str(), one.callers, one.refused, one.wait_ns / 1_000_000)
        })
        .collect()
    }

    /// `(class, code, number)` of failed runs since the opening.
    fn failures(&self) -> Vec<(&'static str, String, u64)> {
        let rows = self.core.failures().into_iter();
        rows.map(|(class, code, count)| (class.as_str(), code, count)).collect()
    }

    /// Retries left at once: to agents of this name, and to the runtime.
    fn retries_left(&self, name: &str) -> (u64, u64) {
        self.core.retries_left(name)
    }
}
