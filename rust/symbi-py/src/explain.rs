//! Recorded decisions, decided again for a person: what `symbi explain` asks.
//!
//! Why apart from `policy`: that is an engine of one's own, by name; here everything comes from a record, as it was
//! decided, with the attributes that it had then.
//! Not here: finding the record, or the policies that were in force.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use serde_json::Value as Json;
use symbi_policy::{
    Engine, Explanation, RecordedRequest, Rule, RuleEffect, Schema, Source, builtin, parse_counters, render,
};

use crate::convert::{agent_id, recipient_in};
use crate::errors::{Raise, enter};
use crate::kernel::Kernel;

pub(crate) type Named = Vec<(String, String)>;
type Listed = (String, String, usize, &'static str, Option<String>);

/// What a runtime would compile of these texts; of none, the built-in `secure-default`.
pub(crate) fn compile(sources: Option<Named>, counters: Named) -> Result<Engine, Raise> {
    let invalid = |found: Vec<symbi_policy::Diagnostic>| Raise::new("PolicyError", render(&found));
    let mut specs = Vec::new();
    for (name, text) in counters {
        specs.extend(parse_counters(&name, &text).map_err(invalid)?);
    }
    let sources = sources.map_or_else(builtin::secure_default, |named| {
        named.into_iter().map(|(name, text)| Source { name, text }).collect()
    });
    Engine::compile(Schema::Symbi, &sources, &specs).map_err(invalid)
}

fn listed(rule: &Rule) -> Listed {
    let effect = match rule.effect {
        RuleEffect::Permit => "permit",
        RuleEffect::Forbid => "forbid",
    };
    (rule.id.clone(), rule.source.to_string(), rule.line, effect, rule.message.clone())
}

/// Effect, whether no budget is spent, rules, counters.
type Rehearsal = (&'static str, bool, Vec<String>, Vec<(String, u64)>);

#[pymethods]
impl Kernel {
    /// What the policies in force would say to such a message now; nothing happens and nothing is recorded.
    fn rehearse_message(
        &self,
        py: Python<'_>,
        sender: &str,
        recipient: &str,
        bytes: u64,
    ) -> PyResult<Rehearsal> {
        let (sender, recipient) = (agent_id(sender)?, recipient_in(recipient));
        let found = enter(py, || self.core.rehearse_message(sender, &recipient, bytes))?;
        Ok((found.effect.as_str(), found.paid, found.rules, found.counters))
    }
}

/// Digest and rules of a set: id, source, line, effect, message.
#[pyfunction]
#[pyo3(signature = (sources, counters=Vec::new()))]
fn policy_set(py: Python<'_>, sources: Option<Named>, counters: Named) -> PyResult<(String, Vec<Listed>)> {
    enter(py, || {
        let engine = compile(sources, counters)?;
        Ok::<_, Raise>((engine.digest().to_owned(), engine.rules().map(|rule| listed(rule)).collect()))
    })
}

/// Decides a recorded request under a set, and says why: the fields of `symbi.policy.Explanation`.
#[pyfunction]
#[pyo3(signature = (request, sources, counters=Vec::new()))]
fn explain_recorded<'py>(
    py: Python<'py>,
    request: &str,
    sources: Option<Named>,
    counters: Named,
) -> PyResult<Bound<'py, PyDict>> {
    let told = enter(py, || {
        let recorded = recorded(request)?;
        Ok::<_, Raise>(tell(&compile(sources, counters)?, &recorded))
    })?;
    present(py, told)
}

/// Decides requests under a set, and says of each what does not fit the schema, if anything, and why it falls as it does.
#[pyfunction]
fn explain_many<'py>(
    py: Python<'py>,
    requests: Vec<String>,
    sources: Option<Named>,
    counters: Named,
) -> PyResult<Vec<(Option<String>, Bound<'py, PyDict>)>> {
    let told = enter(py, || {
        let engine = compile(sources, counters)?;
        requests
            .iter()
            .map(|request| {
                let recorded = recorded(request)?;
                let misfit = misfit(&engine, &recorded);
                Ok((misfit, tell(&engine, &recorded)))
            })
            .collect::<Result<Vec<_>, Raise>>()
    })?;
    told.into_iter().map(|(misfit, told)| Ok((misfit, present(py, told)?))).collect()
}

fn recorded(request: &str) -> Result<RecordedRequest, Raise> {
    let invalid = |text: String| Raise::new("InputError", format!("not a request: {text}"));
    let json = serde_json::from_str(request).map_err(|error| invalid(error.to_string()))?;
    RecordedRequest::from_json(&json).map_err(|error| invalid(error.to_string()))
}

fn tell(engine: &Engine, recorded: &RecordedRequest) -> Explanation {
    let decision = engine.evaluate(&recorded.as_request());
    let mut told = engine.explain(&recorded.as_request(), &decision);
    if let Some(detail) = decision.detail {
        told.summary = detail;
    }
    told
}

/// What of a request, its entities included, does not fit the schema.
fn misfit(engine: &Engine, recorded: &RecordedRequest) -> Option<String> {
    if let Err(error) = engine.check_request(&recorded.as_request()) {
        return Some(error.to_string());
    }
    let entities = [&recorded.principal, &recorded.resource].into_iter().chain(&recorded.entities);
    let json: Vec<Json> = entities
        .map(|entity| {
            let mut json = entity.to_json();
            let part = |json: &mut Json, name: &str, none: Json| json.get_mut(name).map_or(none, Json::take);
            let attrs = part(&mut json, "attrs", serde_json::json!({}));
            let tags = part(&mut json, "tags", serde_json::json!({}));
            let parents = part(&mut json, "ancestors", serde_json::json!([]));
            serde_json::json!({"uid": json, "attrs": attrs, "tags": tags, "parents": parents})
        })
        .collect();
    engine.store_from_json(&Json::Array(json).to_string()).err().map(|error| error.to_string())
}

fn present(py: Python<'_>, told: Explanation) -> PyResult<Bound<'_, PyDict>> {
    let explained = PyDict::new(py);
    explained.set_item("decision", told.decision)?;
    explained.set_item("summary", told.summary)?;
    explained.set_item("rule", told.rule)?;
    explained.set_item("source", told.source)?;
    explained.set_item("line", told.line)?;
    explained.set_item("clause", told.clause)?;
    explained.set_item("values", PyTuple::new(py, told.values)?)?;
    explained.set_item("change_that_would_allow", told.change_that_would_allow)?;
    more(&explained, told.determining, told.failing, told.single_change)?;
    Ok(explained)
}

/// The fields that are more than one text.
pub(crate) fn more(
    explained: &Bound<'_, PyDict>,
    determining: Vec<String>,
    failing: Vec<symbi_policy::Failing>,
    change: Option<symbi_policy::Change>,
) -> PyResult<()> {
    let py = explained.py();
    explained.set_item("determining", PyTuple::new(py, determining)?)?;
    let failing: Vec<_> =
        failing.into_iter().map(|one| (one.rule, one.source, one.line, one.clause, one.values)).collect();
    explained.set_item("failing", PyTuple::new(py, failing)?)?;
    // Values of any kind: as JSON text, which Python reads.
    let change = change.map(|one| (one.kind, one.what, one.from.to_string(), one.to.to_string()));
    explained.set_item("single_change", change)
}

/// What stands in a sealed field of a trail, by the keys of its data directory.
#[pyfunction]
#[pyo3(signature = (data, sealed, passphrase=None))]
fn open_sealed<'py>(
    py: Python<'py>,
    data: PathBuf,
    sealed: &str,
    passphrase: Option<Vec<u8>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let opened = enter(py, || {
        symbi_kernel::open_sealed(&data, sealed, passphrase.as_deref())
            .map_err(|error| Raise::new("CryptoError", error.to_string()))
    })?;
    Ok(PyBytes::new(py, &crate::erasure::plain(opened, "these keys did not seal it")?))
}

/// The secret in a key file: PKCS#8, encrypted or not, or 32 raw bytes.
#[pyfunction]
#[pyo3(signature = (path, passphrase=None))]
fn read_key(py: Python<'_>, path: PathBuf, passphrase: Option<Vec<u8>>) -> PyResult<Bound<'_, PyBytes>> {
    let key = enter(py, || {
        symbi_kernel::read_key(&path, passphrase.as_deref())
            .map_err(|error| Raise::new("CryptoError", error.to_string()))
    })?;
    Ok(PyBytes::new(py, key.as_slice()))
}

/// Writes a key file: PKCS#8, encrypted where there is a passphrase.
#[pyfunction]
#[pyo3(signature = (path, key, passphrase=None))]
fn write_key(py: Python<'_>, path: PathBuf, key: [u8; 32], passphrase: Option<Vec<u8>>) -> PyResult<()> {
    enter(py, || {
        symbi_kernel::write_key(&path, &key, passphrase.as_deref())
            .map_err(|error| Raise::new("CryptoError", error.to_string()))
    })
}

/// Adds this module's functions to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(policy_set, module)?)?;
    module.add_function(wrap_pyfunction!(explain_recorded, module)?)?;
    module.add_function(wrap_pyfunction!(explain_many, module)?)?;
    module.add_function(wrap_pyfunction!(open_sealed, module)?)?;
    module.add_function(wrap_pyfunction!(read_key, module)?)?;
    module.add_function(wrap_pyfunction!(write_key, module)?)?;
    Ok(())
}
