//! `symbi-scheduler` for Python: a scheduler of one's own, without a runtime.
//!
//! Not here: the order, the placement, the admission (the core); what waits, and where time comes from: the caller
//! says what time it is with every call.
//!
//! Invariants
//! - BS4 a batch is worked off without the GIL, and who waits for the lock does not hold it.
//! - BS5 each row stands alone: what can be done is done, the others are named by code and row.

mod batch;
mod fields;
mod told;

use std::sync::{Mutex, TryLockError};

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyList, PyTuple};
use symbi_scheduler as core;
use symbi_types::ResourceVector;

use self::batch::{TaskBatch, bytes, numbers_in, rows_in};
use self::fields::{agent, id_in, millicores, names, task_in};
use self::told::{Columns, Placement, amounts_out, columns_out, stats_out, why_out};
use crate::convert::input;
use crate::errors::{Raise, enter};

impl From<core::TaskError> for Raise {
    fn from(error: core::TaskError) -> Self {
        let class = if matches!(error, core::TaskError::Full { .. }) {
            "SchedulerFullError"
        } else {
            "TaskRefusedError"
        };
        Raise::new(class, error.to_string()).with("code", error.code())
    }
}

/// What became of a batch: how many rows were done, the rows that were not, by code, and the first refusal's words.
struct Outcome {
    done: usize,
    refused: Vec<(&'static str, Vec<u64>)>,
    first: Option<(u64, String)>,
}

impl Outcome {
    /// `work` tells what became of each row, in order.
    fn of(work: impl FnOnce(&mut dyn FnMut(Result<(), core::TaskError>))) -> Self {
        let (mut outcome, mut row) = (Self { done: 0, refused: Vec::new(), first: None }, 0);
        work(&mut |result| {
            match result {
                Ok(()) => outcome.done += 1,
                Err(error) => outcome.refuse(row, &error),
            }
            row += 1;
        });
        outcome
    }

    fn refuse(&mut self, row: u64, error: &core::TaskError) {
        if self.first.is_none() {
            self.first = Some((row, error.to_string()));
        }
        match self.refused.iter_mut().find(|(code, _)| *code == error.code()) {
            Some((_, rows)) => rows.push(row),
            None => self.refused.push((error.code(), vec![row])),
        }
    }
}

/// `(done, [(code, rows)], (row, words) | None)`
type OutcomeTuple<'py> = (usize, Vec<(&'static str, Bound<'py, PyByteArray>)>, Option<(u64, String)>);

fn outcome_out(py: Python<'_>, outcome: Outcome) -> PyResult<OutcomeTuple<'_>> {
    let column = |(code, rows): (&'static str, Vec<u64>)| {
        Ok((code, bytes(py, rows.iter().map(|row| row.to_ne_bytes()))?))
    };
    let refused = outcome.refused.into_iter().map(column).collect::<PyResult<_>>()?;
    Ok((outcome.done, refused, outcome.first))
}

/// What is done to tasks by name.
#[derive(Clone, Copy)]
enum Verb {
    Complete,
    Suspended,
    Hold,
    Release,
    Cancel,
}

impl Verb {
    fn parse(name: &str) -> PyResult<Self> {
        Ok(match name {
            "complete" => Self::Complete,
            "suspended" => Self::Suspended,
            "hold" => Self::Hold,
            "release" => Self::Release,
            "cancel" => Self::Cancel,
            _ => return Err(input(format!("`{name}` is done to no task"))),
        })
    }

    fn act_many(self, scheduler: &mut core::Scheduler, ids: &[u64]) -> Outcome {
        let tasks: Vec<core::TaskId> = ids.iter().copied().map(core::TaskId).collect();
        Outcome::of(|told| match self {
            Self::Complete => scheduler.complete_many(&tasks, told),
            _ => ids.iter().for_each(|id| told(self.act(scheduler, *id))),
        })
    }

    fn act(self, scheduler: &mut core::Scheduler, id: u64) -> Result<(), core::TaskError> {
        let task = core::TaskId(id);
        match self {
            Self::Complete => scheduler.complete(task).map(drop),
            Self::Suspended => scheduler.suspended(task).map(drop),
            Self::Hold => scheduler.hold(task).map(drop),
            Self::Release => scheduler.release(task).map(drop),
            Self::Cancel => scheduler.cancel(task).map(drop),
        }
    }
}

/// The native half of `symbi.Scheduler`. `now_ns` of every method: the caller's clock; a time before the last one
/// counts as the last.
#[pyclass(frozen, module = "symbi._core")]
struct Scheduler {
    core: Mutex<core::Scheduler>,
}

/// An assertion of the core failed while the lock was held: what is inside may be half done, so it is not used again.
fn broken() -> Raise {
    let text = "this scheduler broke one of its own invariants, and answers nothing more: make a new one";
    Raise::new("SchedulerError", text)
}

impl From<core::OptionsError> for Raise {
    fn from(error: core::OptionsError) -> Self {
        Raise::new("SchedulerError", error.to_string()).with("code", error.code())
    }
}

/// `(id, [amount, …])`: amounts in the order of `ResourceVector`'s fields.
type NodeTuple = (u32, [u64; ResourceVector::DIMENSIONS]);

fn node_in((id, capacity): NodeTuple) -> core::Node {
    core::Node { id: core::NodeId(id), capacity: ResourceVector::from_array(capacity) }
}

/// A deadline is given as a time from now, and kept as a time of the clock.
fn at(mut task: core::Task, now_ns: u64) -> core::Task {
    task.deadline_ns = task.deadline_ns.map(|from_now| now_ns.saturating_add(from_now));
    task
}

impl Scheduler {
    /// A short act, with the GIL if nobody else is inside (BS4).
    fn quick<T, E>(
        &self,
        py: Python<'_>,
        now_ns: u64,
        act: impl FnOnce(&mut core::Scheduler) -> Result<T, E> + Send,
    ) -> PyResult<T>
    where
        T: Send,
        E: Into<Raise> + Send,
    {
        let mut scheduler = match self.core.try_lock() {
            Ok(scheduler) => scheduler,
            Err(TryLockError::WouldBlock) => return self.long(py, now_ns, act),
            Err(TryLockError::Poisoned(_)) => return Err(broken().into()),
        };
        scheduler.advance(now_ns);
        act(&mut scheduler).map_err(|error| error.into().into())
    }

    /// Work that takes its time, without the GIL (BS4).
    fn long<T, E>(
        &self,
        py: Python<'_>,
        now_ns: u64,
        act: impl FnOnce(&mut core::Scheduler) -> Result<T, E> + Send,
    ) -> PyResult<T>
    where
        T: Send,
        E: Into<Raise> + Send,
    {
        enter(py, || {
            let mut scheduler = self.core.lock().map_err(|_| broken())?;
            scheduler.advance(now_ns);
            act(&mut scheduler).map_err(Into::into)
        })
    }

    fn submit_all(&self, py: Python<'_>, tasks: &[core::Task], now_ns: u64) -> PyResult<Outcome> {
        self.long(py, now_ns, |scheduler| {
            let tasks = tasks.iter().map(|task| at(*task, now_ns));
            Ok::<_, Raise>(Outcome::of(|told| scheduler.submit_many(tasks, told)))
        })
    }

    fn decide(&self, py: Python<'_>, limit: usize, now_ns: u64) -> PyResult<Vec<core::Decision>> {
        self.long(py, now_ns, |scheduler| {
            let mut decisions = Vec::new();
            scheduler.next_many(limit, &mut decisions);
            Ok::<_, Raise>(decisions)
        })
    }
}

#[pymethods]
impl Scheduler {
    #[new]
    #[pyo3(signature = (nodes, *, strategy, headroom_percent, critical_priority, ageing_ms, batch_turn, quantum_ms,
        realtime_percent, preemption, tasks_max))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one constructor")]
    fn new(
        nodes: Vec<NodeTuple>,
        strategy: &str,
        headroom_percent: u8,
        critical_priority: u8,
        ageing_ms: u32,
        batch_turn: u32,
        quantum_ms: u32,
        realtime_percent: u8,
        preemption: bool,
        tasks_max: usize,
    ) -> PyResult<Self> {
        let options = core::Options {
            strategy: strategy.parse().map_err(input)?,
            headroom_percent,
            critical_priority,
            ageing_ms,
            batch_turn,
            quantum_ms,
            realtime_percent,
            preemption,
            tasks_max,
        };
        let nodes: Vec<core::Node> = nodes.into_iter().map(node_in).collect();
        let scheduler = core::Scheduler::new(&nodes, options).map_err(Raise::from)?;
        Ok(Self { core: Mutex::new(scheduler) })
    }

    fn submit(&self, py: Python<'_>, task: &Bound<'_, PyAny>, now_ns: u64) -> PyResult<()> {
        let task = task_in(task, 0)?;
        self.quick(py, now_ns, |scheduler| scheduler.submit(at(task, now_ns)))
    }

    fn submit_rows<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyList>,
        now_ns: u64,
    ) -> PyResult<OutcomeTuple<'py>> {
        let tasks = rows_in(rows)?;
        outcome_out(py, self.submit_all(py, &tasks, now_ns)?)
    }

    fn submit_batch<'py>(
        &self,
        py: Python<'py>,
        batch: &Bound<'py, TaskBatch>,
        now_ns: u64,
    ) -> PyResult<OutcomeTuple<'py>> {
        outcome_out(py, self.submit_all(py, &batch.get().tasks, now_ns)?)
    }

    fn next(&self, py: Python<'_>, now_ns: u64) -> PyResult<Option<Placement>> {
        self.quick(py, now_ns, |scheduler| Ok::<_, Raise>(scheduler.next().map(Placement)))
    }

    fn next_rows(&self, py: Python<'_>, limit: usize, now_ns: u64) -> PyResult<Vec<Placement>> {
        Ok(self.decide(py, limit, now_ns)?.into_iter().map(Placement).collect())
    }

    fn next_columns<'py>(&self, py: Python<'py>, limit: usize, now_ns: u64) -> PyResult<Columns<'py>> {
        columns_out(py, &self.decide(py, limit, now_ns)?)
    }

    /// `verb`: `complete`, `suspended`, `hold`, `release`, `cancel`.
    fn act(&self, py: Python<'_>, verb: &str, id: &Bound<'_, PyAny>, now_ns: u64) -> PyResult<()> {
        let (verb, id) = (Verb::parse(verb)?, id_in(id)?);
        self.quick(py, now_ns, |scheduler| verb.act(scheduler, id))
    }

    fn act_many<'py>(
        &self,
        py: Python<'py>,
        verb: &str,
        ids: &Bound<'py, PyAny>,
        now_ns: u64,
    ) -> PyResult<OutcomeTuple<'py>> {
        let (verb, ids) = (Verb::parse(verb)?, numbers_in(ids)?);
        let outcome = self.long(py, now_ns, |scheduler| Ok::<_, Raise>(verb.act_many(scheduler, &ids)))?;
        outcome_out(py, outcome)
    }

    fn cancel_agent(&self, py: Python<'_>, number: u64, now_ns: u64) -> PyResult<Vec<u64>> {
        let Some(agent) = agent(number) else { return Ok(Vec::new()) };
        self.long(py, now_ns, |scheduler| Ok::<_, Raise>(ids(scheduler.cancel_agent(agent))))
    }

    fn inherit(&self, py: Python<'_>, id: u64, source: u64, now_ns: u64) -> PyResult<()> {
        self.quick(py, now_ns, |scheduler| scheduler.inherit(core::TaskId(id), core::TaskId(source)))
    }

    fn disinherit(&self, py: Python<'_>, id: u64, source: u64, now_ns: u64) -> PyResult<()> {
        self.quick(py, now_ns, |scheduler| scheduler.disinherit(core::TaskId(id), core::TaskId(source)))
    }

    #[pyo3(signature = (tenant, weight, quota, waiting_max, now_ns))]
    fn set_tenant(
        &self,
        py: Python<'_>,
        tenant: u32,
        weight: u32,
        quota: Option<[u64; ResourceVector::DIMENSIONS]>,
        waiting_max: Option<usize>,
        now_ns: u64,
    ) -> PyResult<()> {
        let share = core::Share { weight, quota: quota.map(ResourceVector::from_array), waiting_max };
        self.quick(py, now_ns, |scheduler| scheduler.set_tenant(core::TenantId(tenant), share))
    }

    fn add_node(&self, py: Python<'_>, node: NodeTuple, now_ns: u64) -> PyResult<()> {
        self.quick(py, now_ns, |scheduler| scheduler.add_node(node_in(node)))
    }

    fn drain_node(&self, py: Python<'_>, node: u32, now_ns: u64) -> PyResult<()> {
        self.quick(py, now_ns, |scheduler| scheduler.drain_node(core::NodeId(node)))
    }

    fn lose_node(&self, py: Python<'_>, node: u32, now_ns: u64) -> PyResult<Vec<u64>> {
        self.long(py, now_ns, |scheduler| scheduler.lose_node(core::NodeId(node)).map(ids))
    }

    /// `[(id, from, to)]`
    fn rebalance(&self, py: Python<'_>, limit: usize, now_ns: u64) -> PyResult<Vec<(u64, u32, u32)>> {
        self.long(py, now_ns, |scheduler| {
            let moves = scheduler.rebalance(limit);
            Ok::<_, Raise>(moves.into_iter().map(|one| (one.task.0, one.from.0, one.to.0)).collect())
        })
    }

    fn moved(&self, py: Python<'_>, id: u64, node: u32, now_ns: u64) -> PyResult<()> {
        self.quick(py, now_ns, |scheduler| scheduler.moved(core::TaskId(id), core::NodeId(node)))
    }

    fn why<'py>(&self, py: Python<'py>, id: u64, now_ns: u64) -> PyResult<Option<Bound<'py, PyDict>>> {
        let why = self.long(py, now_ns, |scheduler| Ok::<_, Raise>(scheduler.why(core::TaskId(id))))?;
        why.map(|why| why_out(py, &why)).transpose()
    }

    fn wake_at_ns(&self, py: Python<'_>, now_ns: u64) -> PyResult<Option<u64>> {
        self.quick(py, now_ns, |scheduler| Ok::<_, Raise>(scheduler.wake_at()))
    }

    fn free<'py>(&self, py: Python<'py>, node: u32, now_ns: u64) -> PyResult<Option<Bound<'py, PyDict>>> {
        let free = self.quick(py, now_ns, |scheduler| Ok::<_, Raise>(scheduler.free(core::NodeId(node))))?;
        free.map(|free| amounts_out(py, free)).transpose()
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.quick(py, 0, |scheduler| {
            let counts = scheduler.counts();
            let states = [counts.waiting, counts.running, counts.suspending, counts.suspended];
            Ok::<_, Raise>(states.iter().flatten().sum())
        })
    }

    fn stats<'py>(&self, py: Python<'py>, now_ns: u64) -> PyResult<Bound<'py, PyDict>> {
        let (counts, totals) =
            self.quick(py, now_ns, |scheduler| Ok::<_, Raise>((scheduler.counts(), scheduler.totals())))?;
        stats_out(py, &counts, &totals)
    }
}

fn ids(tasks: Vec<core::TaskId>) -> Vec<u64> {
    tasks.into_iter().map(|task| task.0).collect()
}

/// Thousandths of a core, as a task's cores are counted.
#[pyfunction]
fn task_millicores(cores: f64) -> PyResult<u64> {
    millicores(cores).map_err(|text| input(format!("`cpu_cores`: {text}")))
}

/// Adds this module's classes to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("TASK_FIELDS", PyTuple::new(module.py(), names())?)?;
    module.add_class::<Scheduler>()?;
    module.add_class::<TaskBatch>()?;
    module.add_class::<Placement>()?;
    module.add_function(wrap_pyfunction!(task_millicores, module)?)
}
