//! Python values to policy values.
//!
//! Invariants
//! - BV1 what cannot be one (a float, None, a nesting without end) is an error, never rounded, never dropped.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};
use symbi_policy::{EntityError, Uid, Value};

use super::input;

/// How deep a context may nest.
const DEPTH_MAX: usize = 64;

/// Names that nearly every context has: not copied.
const NAMES: [&str; 4] = ["labels", "bytes", "counters", "call"];

/// A context.
pub(super) fn pairs(record: &Bound<'_, PyDict>) -> PyResult<Vec<(Cow<'static, str>, Value)>> {
    record
        .iter()
        .map(|(name, value)| {
            let name = name.cast::<PyString>().map_err(|_| input("names in a context are texts"))?;
            let name = name.to_str()?;
            let known = NAMES.iter().find(|known| **known == name);
            let name = known.map_or_else(|| Cow::Owned(name.to_owned()), |known| Cow::Borrowed(*known));
            Ok((name, convert(&value, 1)?))
        })
        .collect()
}

fn members(record: &Bound<'_, PyDict>, depth: usize) -> PyResult<Vec<(String, Value)>> {
    record
        .iter()
        .map(|(name, value)| {
            let name = name.cast::<PyString>().map_err(|_| input("names in a context are texts"))?;
            Ok((name.to_str()?.to_owned(), convert(&value, depth + 1)?))
        })
        .collect()
}

fn convert(given: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > DEPTH_MAX {
        return Err(input(EntityError::TooDeep));
    }
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(Value::String(text.to_str()?.to_owned()));
    }
    if let Ok(flag) = given.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if given.is_instance_of::<PyInt>() {
        let wrong = || input(format!("`{given}` is not a policy value: integers have 64 bits"));
        return given.extract::<i64>().map(Value::Long).map_err(|_| wrong());
    }
    if let Ok(record) = given.cast::<PyDict>() {
        let escaped = if record.len() == 1 { escaped(record, depth)? } else { None };
        return escaped.map_or_else(|| members(record, depth).map(Value::Record), Ok);
    }
    if let Ok(list) = given.cast_exact::<PyList>() {
        return list.iter().map(|one| convert(&one, depth + 1)).collect::<PyResult<_>>().map(Value::Set);
    }
    let sequence = given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>();
    if sequence || given.is_instance_of::<PySet>() || given.is_instance_of::<PyFrozenSet>() {
        return given
            .try_iter()?
            .map(|one| convert(&one?, depth + 1))
            .collect::<PyResult<_>>()
            .map(Value::Set);
    }
    let kind = given.get_type().name()?;
    let text =
        format!("a `{kind}` is not a policy value: accepted are bool, int, str, list, tuple, set, dict");
    Err(input(text))
}

/// Of a dict with one name: `{"__entity": {"type", "id"}}` and `{"__extn": {"fn", "arg"}}`, as in Cedar's JSON.
fn escaped(record: &Bound<'_, PyDict>, depth: usize) -> PyResult<Option<Value>> {
    let inner = |name: &str| record.get_item(name);
    let part = |of: &Bound<'_, PyAny>, name: &str| -> PyResult<String> {
        of.cast::<PyDict>()
            .map_err(|_| input("an escape such as `__entity` holds a dict"))?
            .get_item(name)?
            .ok_or_else(|| input(format!("an escape without `{name}`")))?
            .extract()
    };
    debug_assert!(depth <= DEPTH_MAX + 1, "callers bound the depth");
    if let Some(reference) = inner("__entity")? {
        let uid = Uid::new(&part(&reference, "type")?, &part(&reference, "id")?).map_err(input)?;
        return Ok(Some(Value::Entity(uid)));
    }
    if let Some(call) = inner("__extn")? {
        return Value::extension(&part(&call, "fn")?, &part(&call, "arg")?).map_err(input).map(Some);
    }
    Ok(None)
}
