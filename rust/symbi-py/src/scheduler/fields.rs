//! A task's fields: their order on the border, their ranges, and how a value becomes part of a task.
//!
//! Why one place: a task may come as a tuple or as a row of columns, and means the same in both.
//! Not here: numpy's types and shapes (`symbi/tasks.py`), what the scheduler accepts (the core).
//!
//! Invariants
//! - BS1 a value out of its range is refused with its column and row, and nothing of its batch is taken.
//! - BS2 a share above nothing never becomes nothing: what is rounded is at least one unit.

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};
use symbi_scheduler as core;
use symbi_types::AgentId;

use crate::errors::Raise;

/// What a task needs at most of one resource, in its unit: far above any machine, far below an overflow of sums.
const AMOUNT_MAX: u64 = 1 << 40;
/// The longest time from now, in milliseconds: 34 years, so that in nanoseconds it fits with any start.
const MS_MAX: f64 = (1u64 << 40) as f64;
const NS_PER_MS: f64 = 1e6;
const MILLICORES: f64 = 1e3;

/// Fields in their order on the border. `(real)`: crosses as a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Agent,
    Tenant,
    Tier,
    Priority,
    DeadlineMs,
    DurationMs,
    MemoryMb,
    CpuCores,
    DiskIoMbps,
    NetworkIoMbps,
    Accelerators,
    Sandboxes,
    Preemptible,
}

impl Field {
    pub(super) const ALL: [Self; 14] = [
        Self::Id,
        Self::Agent,
        Self::Tenant,
        Self::Tier,
        Self::Priority,
        Self::DeadlineMs,
        Self::DurationMs,
        Self::MemoryMb,
        Self::CpuCores,
        Self::DiskIoMbps,
        Self::NetworkIoMbps,
        Self::Accelerators,
        Self::Sandboxes,
        Self::Preemptible,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Agent => "agent",
            Self::Tenant => "tenant",
            Self::Tier => "tier",
            Self::Priority => "priority",
            Self::DeadlineMs => "deadline_ms",
            Self::DurationMs => "duration_ms",
            Self::MemoryMb => "memory_mb",
            Self::CpuCores => "cpu_cores",
            Self::DiskIoMbps => "disk_io_mbps",
            Self::NetworkIoMbps => "network_io_mbps",
            Self::Accelerators => "accelerators",
            Self::Sandboxes => "sandboxes",
            Self::Preemptible => "preemptible",
        }
    }

    /// Whether it crosses as a float.
    pub(super) const fn is_real(self) -> bool {
        matches!(self, Self::DeadlineMs | Self::DurationMs | Self::CpuCores)
    }
}

/// Names of all fields, in order.
pub(super) fn names() -> Vec<&'static str> {
    Field::ALL.map(Field::name).to_vec()
}

/// One value on its way in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

/// A cell that cannot be right.
pub(super) fn wrong(field: Field, row: usize, text: impl std::fmt::Display) -> Raise {
    let name = field.name();
    Raise::new("ColumnError", format!("column `{name}`, row {row}: {text}"))
        .with("column", name)
        .number("row", row as u64)
}

/// What a task is that says nothing but its name: one core, interactive, of the default tenant.
pub(super) fn blank() -> core::Task {
    let need = symbi_types::ResourceVector { cpu_millicores: 1_000, ..Default::default() };
    core::Task::new(core::TaskId(0), need)
}

/// Puts a value into a task; the text says why it cannot be right (BS1).
pub(super) fn set(task: &mut core::Task, field: Field, value: Value) -> Result<(), String> {
    match (field, value) {
        (Field::Id, Value::Whole(id)) => task.id = core::TaskId(id),
        (Field::Agent, Value::Whole(number)) => task.agent = agent(number),
        (Field::Tenant, Value::Whole(number)) => {
            task.tenant = core::TenantId(bounded(number, u64::from(u32::MAX))? as u32);
        }
        (Field::Tier, Value::Whole(number)) => {
            task.tier = *core::Tier::ALL.get(number as usize).ok_or_else(|| no_tier(number))?;
        }
        (Field::Priority, Value::Whole(number)) => {
            task.priority = core::Priority(bounded(number, 255)? as u8)
        }
        (Field::DeadlineMs, Value::Real(ms)) => task.deadline_ns = time_ns(ms)?,
        (Field::DurationMs, Value::Real(ms)) => task.duration_ns = time_ns(ms)?,
        (Field::CpuCores, Value::Real(cores)) => task.need.cpu_millicores = millicores(cores)?,
        (Field::MemoryMb, Value::Whole(amount)) => task.need.memory_mb = bounded(amount, AMOUNT_MAX)?,
        (Field::DiskIoMbps, Value::Whole(amount)) => task.need.disk_io_mbps = bounded(amount, AMOUNT_MAX)?,
        (Field::NetworkIoMbps, Value::Whole(amount)) => {
            task.need.network_io_mbps = bounded(amount, AMOUNT_MAX)?
        }
        (Field::Accelerators, Value::Whole(amount)) => task.need.accelerators = bounded(amount, AMOUNT_MAX)?,
        (Field::Sandboxes, Value::Whole(amount)) => task.need.sandboxes = bounded(amount, AMOUNT_MAX)?,
        (Field::Preemptible, Value::Whole(flag)) => task.preemptible = bounded(flag, 1)? == 1,
        (_, Value::Whole(_)) => return Err("a number of milliseconds or cores is needed".to_owned()),
        (_, Value::Real(value)) => return Err(format!("{value} is no whole number")),
    }
    Ok(())
}

fn no_tier(given: impl std::fmt::Display) -> String {
    format!("{given} is no tier: `realtime` (0), `interactive` (1), `batch` (2) are")
}

/// The number of a tier's name.
fn tier_number(name: &str) -> Result<u64, String> {
    let tier: core::Tier = name.parse().map_err(|_| no_tier(format!("`{name}`")))?;
    Ok(u64::from(tier as u8))
}

fn bounded(value: u64, most: u64) -> Result<u64, String> {
    if most < value { Err(format!("{value} is above {most}")) } else { Ok(value) }
}

/// Milliseconds to nanoseconds; 0 means none.
fn time_ns(ms: f64) -> Result<Option<u64>, String> {
    Ok(Some(scaled(ms, MS_MAX, NS_PER_MS)?).filter(|ns| *ns != 0))
}

/// Cores to whole thousandths of a core.
pub(super) fn millicores(cores: f64) -> Result<u64, String> {
    scaled(cores, AMOUNT_MAX as f64 / MILLICORES, MILLICORES)
}

/// Rounds to the nearest unit, and what is above nothing to at least one (BS2).
fn scaled(value: f64, most: f64, unit: f64) -> Result<u64, String> {
    if value.is_nan() {
        return Err("nan is no number".to_owned());
    }
    if value < 0.0 {
        return Err(format!("{value} is below 0"));
    }
    if most < value {
        return Err(format!("{value} is above {most:.0}"));
    }
    let units = (value * unit).round() as u64;
    Ok(if 0.0 < value { units.max(1) } else { 0 })
}

/// Agents are numbers to those who schedule without a runtime; 0 means none. The number's 64 bits stand around the
/// version and variant bits of a UUID, so that two numbers are two agents.
pub(super) fn agent(number: u64) -> Option<AgentId> {
    if number == 0 {
        return None;
    }
    let (high, low) = (u128::from(number >> 62), u128::from(number & (u64::MAX >> 2)));
    let id = AgentId::from_bytes(((high << 80) | (0x4 << 76) | (0x2 << 62) | low).to_be_bytes());
    assert!(id.is_some(), "BS1: the version and the variant were set");
    id
}

/// The number that [`agent`] made an agent of.
pub(super) fn agent_number(agent: AgentId) -> u64 {
    let id = u128::from_be_bytes(*agent.as_bytes());
    let (high, low) = ((id >> 80) & 0x3, id & u128::from(u64::MAX >> 2));
    ((high << 62) | low) as u64
}

/// A task given as a tuple of all fields; `None` leaves a field as it is in [`blank`].
pub(super) fn task_in(tuple: &Bound<'_, PyAny>, row: usize) -> PyResult<core::Task> {
    let tuple = tuple.cast::<PyTuple>()?;
    let mut task = blank();
    for (at, field) in Field::ALL.into_iter().enumerate() {
        let given = tuple.get_borrowed_item(at)?;
        if given.is_none() && field != Field::Id {
            continue;
        }
        let value = value_in(&given, field).map_err(|text| wrong(field, row, text))?;
        set(&mut task, field, value).map_err(|text| wrong(field, row, text))?;
    }
    Ok(task)
}

fn value_in(given: &Bound<'_, PyAny>, field: Field) -> Result<Value, String> {
    if field.is_real() {
        let number = given.extract::<f64>().map_err(|_| format!("{} is no number", shown(given)))?;
        return Ok(Value::Real(number));
    }
    if field == Field::Tier
        && let Ok(name) = given.cast::<PyString>()
    {
        let name = name.to_str().map_err(|_| no_tier("this text"))?;
        return tier_number(name).map(Value::Whole);
    }
    whole(given).map(Value::Whole)
}

/// The name of one task.
pub(super) fn id_in(given: &Bound<'_, PyAny>) -> PyResult<u64> {
    whole(given).map_err(|text| wrong(Field::Id, 0, text).into())
}

/// A whole number from 0 to 2^64 - 1.
pub(super) fn whole(given: &Bound<'_, PyAny>) -> Result<u64, String> {
    given.extract::<u64>().map_err(|_| {
        if !given.is_instance_of::<PyInt>() {
            return format!("{} is no whole number", shown(given));
        }
        let below = given.lt(0).unwrap_or(false);
        let beyond = if below { "below 0".to_owned() } else { format!("above {}", u64::MAX) };
        format!("{} is {beyond}", shown(given))
    })
}

/// A foreign value in a message, cut.
fn shown(given: &Bound<'_, PyAny>) -> String {
    let text = given.repr().map_or_else(|_| "this".to_owned(), |text| text.to_string());
    text.chars().take(40).collect()
}
