//! Tasks in columns, and answers in columns: whole buffers, never a Python object for each task.
//!
//! Why a batch of its own: it is read, checked and copied once, before it is submitted. What Python does to its
//! arrays afterwards changes nothing here, and no buffer is read while the GIL is given away.
//!
//! Invariants
//! - BS3 a batch never changes.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyList};
use symbi_scheduler as core;

use super::fields::{Field, Value, blank, set, task_in, whole, wrong};
use crate::errors::{Raise, enter};

/// Checked tasks, in order. The native half of `symbi.TaskBatch`.
#[pyclass(frozen, module = "symbi._core")]
pub(super) struct TaskBatch {
    pub(super) tasks: Vec<core::Task>,
}

enum Column {
    Whole(Field, Vec<u64>),
    Real(Field, Vec<f64>),
}

#[pymethods]
impl TaskBatch {
    /// `columns`: one buffer a field, in the order of `TASK_FIELDS`: `uint64`, or `float64` for times and cores; `None`
    /// leaves the field as it is in a task that says nothing.
    #[new]
    fn new(py: Python<'_>, rows: usize, columns: Vec<Option<Bound<'_, PyAny>>>) -> PyResult<Self> {
        let given = Field::ALL.into_iter().zip(columns).filter_map(|(field, column)| Some((field, column?)));
        let columns = given.map(|(field, column)| read(&column, field)).collect::<PyResult<Vec<_>>>()?;
        enter(py, || {
            let mut tasks = vec![blank(); rows];
            for column in columns {
                fill(&mut tasks, column)?;
            }
            Ok::<_, Raise>(Self { tasks })
        })
    }

    /// The batch of these task tuples.
    #[staticmethod]
    fn of_rows(rows: &Bound<'_, PyList>) -> PyResult<Self> {
        Ok(Self { tasks: rows_in(rows)? })
    }

    fn __len__(&self) -> usize {
        self.tasks.len()
    }

    /// A field of every task, as the constructor takes it.
    fn column<'py>(&self, py: Python<'py>, field: usize) -> PyResult<Bound<'py, PyByteArray>> {
        let field = *Field::ALL.get(field).ok_or_else(|| Raise::new("InputError", "no such field"))?;
        bytes(py, self.tasks.iter().map(|task| cell(task, field)))
    }

    /// The tasks of these rows, in this order.
    fn take(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> PyResult<Self> {
        let rows = numbers_in(rows)?;
        enter(py, || {
            let one = |(at, row): (usize, &u64)| {
                let task = usize::try_from(*row).ok().and_then(|row| self.tasks.get(row));
                task.copied().ok_or_else(|| {
                    let text = format!(
                        "row {row}, the {at}th that was asked for, is not there: there are {}",
                        self.tasks.len()
                    );
                    Raise::new("InputError", text)
                })
            };
            let tasks = rows.iter().enumerate().map(one).collect::<Result<Vec<_>, Raise>>()?;
            Ok::<_, Raise>(Self { tasks })
        })
    }
}

fn read(column: &Bound<'_, PyAny>, field: Field) -> PyResult<Column> {
    let py = column.py();
    Ok(if field.is_real() {
        Column::Real(field, PyBuffer::<f64>::get(column)?.to_vec(py)?)
    } else {
        Column::Whole(field, PyBuffer::<u64>::get(column)?.to_vec(py)?)
    })
}

fn fill(tasks: &mut [core::Task], column: Column) -> Result<(), Raise> {
    match column {
        Column::Whole(field, values) => put(tasks, field, values.into_iter().map(Value::Whole)),
        Column::Real(field, values) => put(tasks, field, values.into_iter().map(Value::Real)),
    }
}

fn put(
    tasks: &mut [core::Task],
    field: Field,
    values: impl ExactSizeIterator<Item = Value>,
) -> Result<(), Raise> {
    if values.len() != tasks.len() {
        let text =
            format!("column `{}` has {} rows, and there are {}", field.name(), values.len(), tasks.len());
        return Err(Raise::new("ColumnError", text).with("column", field.name()));
    }
    for (row, (task, value)) in tasks.iter_mut().zip(values).enumerate() {
        set(task, field, value).map_err(|text| wrong(field, row, text))?;
    }
    Ok(())
}

/// The cell's 8 bytes, as the constructor would take them.
fn cell(task: &core::Task, field: Field) -> [u8; 8] {
    let need = &task.need;
    let ms = |time: Option<u64>| time.unwrap_or(0) as f64 / 1e6;
    match field {
        Field::DeadlineMs => return ms(task.deadline_ns).to_ne_bytes(),
        Field::DurationMs => return ms(task.duration_ns).to_ne_bytes(),
        Field::CpuCores => return (need.cpu_millicores as f64 / 1e3).to_ne_bytes(),
        Field::Id => task.id.0,
        Field::Agent => task.agent.map_or(0, super::fields::agent_number),
        Field::Tenant => u64::from(task.tenant.0),
        Field::Tier => u64::from(task.tier as u8),
        Field::Priority => u64::from(task.priority.0),
        Field::MemoryMb => need.memory_mb,
        Field::DiskIoMbps => need.disk_io_mbps,
        Field::NetworkIoMbps => need.network_io_mbps,
        Field::Accelerators => need.accelerators,
        Field::Sandboxes => need.sandboxes,
        Field::Preemptible => u64::from(task.preemptible),
    }
    .to_ne_bytes()
}

/// A list of task tuples.
pub(super) fn rows_in(rows: &Bound<'_, PyList>) -> PyResult<Vec<core::Task>> {
    rows.iter().enumerate().map(|(row, tuple)| task_in(&tuple, row)).collect()
}

/// Names of tasks, or numbers of rows: a `uint64` buffer, or a list of whole numbers.
pub(super) fn numbers_in(given: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    let Ok(list) = given.cast::<PyList>() else {
        return PyBuffer::<u64>::get(given)?.to_vec(given.py());
    };
    let one =
        |(row, id): (usize, Bound<'_, PyAny>)| whole(&id).map_err(|text| wrong(Field::Id, row, text).into());
    list.iter().enumerate().map(one).collect()
}

/// A column on its way out: `N` bytes an item, in the machine's order.
pub(super) fn bytes<const N: usize>(
    py: Python<'_>,
    items: impl ExactSizeIterator<Item = [u8; N]>,
) -> PyResult<Bound<'_, PyByteArray>> {
    PyByteArray::new_with(py, items.len() * N, |buffer| {
        for (place, item) in buffer.chunks_exact_mut(N).zip(items) {
            place.copy_from_slice(&item);
        }
        Ok(())
    })
}
