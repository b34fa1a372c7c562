//! `symbi-policy` for Python: an engine of one's own, and its decisions.
//!
//! Why: the kernel has its engine inside; this one is for people who decide without a runtime, and for their tests.
//! Not here: the meaning of anything. Entities by name, contexts and answers are converted; the core decides.
//!
//! Invariants
//! - BP1 a set that does not compile changes nothing: the engine keeps the last good one.
//! - BP3 a batch is decided under one set, whatever is registered meanwhile.

mod answers;
mod batch;
mod values;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use symbi_policy::{
    Address, CounterSpec, Decision, Engine, Entity, Link, Request, Schema, Severity, Source, Store, Uid,
    Value, builtin, parse_counters, render,
};

use self::answers::{Allow, AllowWithConditions, Condition, Deny, Redact, present};
use self::values::pairs;
use crate::errors::{Raise, enter};

/// Texts such as `Agent::"triage"` that an engine remembers; then it starts anew.
const NAMES_MAX: usize = 65_536;
fn input(error: impl std::fmt::Display) -> PyErr {
    Raise::new("InputError", error.to_string()).into()
}

/// What an engine decides with; replaced whole.
struct Snapshot {
    set: symbi_policy::Snapshot,
    names: Mutex<HashMap<String, Entity>>,
}

/// What an engine was given.
#[derive(Clone, Default)]
struct Registered {
    sources: Vec<Source>,
    links: Vec<(String, Link)>,
    counter: u64,
}

/// The native half of `symbi.PolicyEngine`.
#[pyclass(frozen, module = "symbi._core")]
struct PolicyEngine {
    schema: Schema,
    counters: Vec<CounterSpec>,
    registered: Mutex<Registered>,
    current: RwLock<Arc<Snapshot>>,
}

impl PolicyEngine {
    fn registered(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn compile(&self, registered: &Registered) -> Result<Engine, Raise> {
        let links: Vec<Link> = registered.links.iter().map(|(_, link)| link.clone()).collect();
        Engine::compile_linked(self.schema.clone(), &registered.sources, &self.counters, &links)
            .map_err(|findings| Raise::new("PolicyError", render(&findings)))
    }

    fn swap(&self, engine: Engine, store: Store) {
        let fresh = Arc::new(Snapshot::new(engine, store, self.schema != Schema::Unchecked));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

#[pymethods]
impl PolicyEngine {
    #[new]
    fn new(py: Python<'_>, schema: Option<&str>, counters: Option<&str>) -> PyResult<Self> {
        let schema = match schema {
            None => Schema::Unchecked,
            Some("symbi") => Schema::Symbi,
            Some(text) => Schema::Text { name: "schema".to_owned(), text: text.to_owned() },
        };
        let counters = counters.map_or(Ok(Vec::new()), |text| parse_counters("counters", text));
        let refused = |findings: Vec<symbi_policy::Diagnostic>| Raise::new("PolicyError", render(&findings));
        let counters = counters.map_err(refused)?;
        let engine = enter(py, || Engine::compile(schema.clone(), &[], &counters).map_err(refused))?;
        let checked = schema != Schema::Unchecked;
        // Not simply empty: it holds the schema's actions, whose groups a condition may name.
        let store = engine.store_from_json("[]").map_err(input)?;
        let first = Snapshot::new(engine, store, checked);
        Ok(Self { schema, counters, registered: Mutex::default(), current: RwLock::new(Arc::new(first)) })
    }

    /// Replaces the entities; `json` is Cedar's form.
    fn set_entities(&self, py: Python<'_>, json: &str) -> PyResult<()> {
        enter(py, || {
            let registered = self.registered(); // held, so that a registration does not slip in between
            let store = self.current().set.engine().store_from_json(json);
            let store = store.map_err(|error| Raise::new("InputError", error.to_string()))?;
            self.swap(self.compile(&registered)?, store);
            Ok::<_, Raise>(())
        })
    }

    /// BP1. `links`: template, id, principal, resource.
    fn register_policy(
        &self,
        py: Python<'_>,
        text: String,
        name: Option<String>,
        links: Vec<(String, String, Option<String>, Option<String>)>,
    ) -> PyResult<String> {
        let uid = |text: Option<String>| text.map(|text| Uid::parse(&text)).transpose().map_err(input);
        let links = links
            .into_iter()
            .map(|(template, id, principal, resource)| {
                Ok(Link { template, id, principal: uid(principal)?, resource: uid(resource)? })
            })
            .collect::<PyResult<Vec<Link>>>()?;
        enter(py, || {
            let mut registered = self.registered();
            let mut next = registered.clone();
            next.counter += 1;
            let name = name.unwrap_or_else(|| format!("policy{}", next.counter));
            if next.sources.iter().any(|source| source.name == name) {
                return Err(Raise::new("InputError", format!("a policy is registered as `{name}` already")));
            }
            next.sources.push(Source { name: name.clone(), text });
            next.links.extend(links.into_iter().map(|link| (name.clone(), link)));
            self.swap(self.compile(&next)?, self.current().set.store().clone());
            *registered = next;
            Ok(name)
        })
    }

    /// BP1.
    fn unregister(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        enter(py, || {
            let mut registered = self.registered();
            let mut next = registered.clone();
            next.sources.retain(|source| source.name != name);
            if next.sources.len() == registered.sources.len() {
                return Err(Raise::new("InputError", format!("no policy is registered as `{name}`")));
            }
            next.links.retain(|(source, _)| source != name);
            self.swap(self.compile(&next)?, self.current().set.store().clone());
            *registered = next;
            Ok(())
        })
    }

    fn evaluate(
        &self,
        py: Python<'_>,
        principal: &Bound<'_, PyAny>,
        action: &str,
        resource: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let snapshot = self.current();
        let mut asked = snapshot.ask(principal, action, resource, context)?;
        // Microseconds: giving the GIL back and taking it again would cost more.
        present(py, snapshot.decide(&mut asked))
    }

    /// BP3.
    fn evaluate_many<'py>(
        &self,
        py: Python<'py>,
        requests: &Bound<'py, PyList>,
        threads: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        batch::evaluate_many(py, &self.current(), requests, threads)
    }

    /// Rule, source, line, clause, values, change: see `symbi.policy.Explanation`.
    fn explain<'py>(
        &self,
        py: Python<'py>,
        principal: &Bound<'py, PyAny>,
        action: &str,
        resource: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.current();
        let mut asked = snapshot.ask(principal, action, resource, context)?;
        let context = asked.context.clone();
        let decision = snapshot.decide(&mut asked);
        asked.context = context;
        let request = asked.request();
        let told = snapshot.set.engine().explain_in(&request, &decision, snapshot.set.store());
        let explained = PyDict::new(py);
        explained.set_item("decision", told.decision)?;
        explained.set_item("summary", decision.detail.unwrap_or(told.summary))?;
        explained.set_item("rule", told.rule)?;
        explained.set_item("source", told.source)?;
        explained.set_item("line", told.line)?;
        explained.set_item("clause", told.clause)?;
        explained.set_item("values", PyTuple::new(py, told.values)?)?;
        explained.set_item("change_that_would_allow", told.change_that_would_allow)?;
        crate::explain::more(&explained, told.determining, told.failing, told.single_change)?;
        Ok(explained)
    }

    #[getter]
    fn digest(&self) -> String {
        self.current().set.engine().digest().to_owned()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.current().set.engine().warnings().iter().map(ToString::to_string).collect()
    }
}

/// A request that Python gave, owned.
struct Asked {
    principal: Entity,
    action: Arc<str>,
    resource: Entity,
    context: Vec<(Cow<'static, str>, Value)>,
}

impl Asked {
    /// Takes the context out: a decision needs it once.
    fn request(&mut self) -> Request<'_> {
        let context = std::mem::take(&mut self.context);
        let Self { principal, action, resource, .. } = self;
        Request { principal, action, resource, context, entities: Vec::new() }
    }
}

impl Snapshot {
    fn new(engine: Engine, store: Store, checked: bool) -> Self {
        Self { set: symbi_policy::Snapshot::new(engine, store, checked), names: Mutex::default() }
    }

    fn ask(
        &self,
        principal: &Bound<'_, PyAny>,
        action: &str,
        resource: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Asked> {
        Ok(Asked {
            principal: self.entity(principal)?,
            action: action.into(),
            resource: self.entity(resource)?,
            context: context.map_or(Ok(Vec::new()), pairs)?,
        })
    }

    /// `'Agent::"triage"'` or `("Agent", "triage")`.
    fn entity(&self, given: &Bound<'_, PyAny>) -> PyResult<Entity> {
        let Ok(text) = given.cast::<PyString>() else {
            let (kind, id) = given.extract::<(Bound<'_, PyString>, Bound<'_, PyString>)>().map_err(|_| {
                input("an entity is a text such as `Agent::\"triage\"`, or a pair of type and id")
            })?;
            return Ok(self.set.store().get(&Uid::new(kind.to_str()?, id.to_str()?).map_err(input)?));
        };
        let text = text.to_str()?;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(text) {
            return Ok(known.clone());
        }
        let fresh = self.set.store().get(&Uid::parse(text).map_err(input)?);
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        names.insert(text.to_owned(), fresh.clone());
        Ok(fresh)
    }

    fn decide(&self, asked: &mut Asked) -> Decision {
        self.set.evaluate(&asked.request())
    }
}

type Finding = (bool, String, usize, usize, &'static str, String, Option<String>);

/// Checks policies and counters together, as a runtime would load them, without making an engine.
/// Each source: kind (`cedar` or `counters`), name, text.
#[pyfunction]
fn check_policies(py: Python<'_>, sources: Vec<(String, String, String)>) -> PyResult<Vec<Finding>> {
    enter(py, || {
        let mut findings = Vec::new();
        let (mut policies, mut counters) = (Vec::new(), Vec::new());
        for (kind, name, text) in sources {
            if kind == "counters" {
                match parse_counters(&name, &text) {
                    Ok(specs) => counters.extend(specs),
                    Err(found) => findings.extend(found),
                }
            } else {
                policies.push(Source { name, text });
            }
        }
        match Engine::compile(Schema::Symbi, &policies, &counters) {
            Ok(engine) => findings.extend(engine.warnings().to_vec()),
            Err(found) => findings.extend(found),
        }
        Ok::<_, Raise>(
            findings
                .into_iter()
                .map(|one| {
                    let error = one.severity == Severity::Error;
                    (error, one.source, one.line, one.column, one.code, one.message, one.help)
                })
                .collect(),
        )
    })
}

/// The text of a built-in: `schema`, `operator`, `demo`, or a starter policy.
#[pyfunction]
fn builtin_policy(name: &str) -> PyResult<&'static str> {
    let others = [("schema", builtin::SCHEMA), ("operator", builtin::OPERATOR), ("demo", builtin::DEMO)];
    let mut all = others.into_iter().chain(builtin::STARTERS);
    all.find(|(known, _)| *known == name).map(|(_, text)| text).ok_or_else(|| {
        let names: Vec<&str> = others.iter().chain(&builtin::STARTERS).map(|(name, _)| *name).collect();
        input(format!("`{name}` is not built in: {} are", names.join(", ")))
    })
}

/// A path in its one spelling.
#[pyfunction]
fn canonical_path(text: &str) -> PyResult<String> {
    symbi_policy::canonical_path(text).map_err(input)
}

/// An address in its one spelling: `host:port`, how far it reaches, and `text` with it in place.
#[pyfunction]
fn canonical_address(text: &str) -> PyResult<(String, &'static str, String)> {
    let address = Address::parse(text).map_err(input)?;
    Ok((address.to_string(), address.reach().as_str(), address.in_place_of(text)))
}

/// Names of the starter policies.
#[pyfunction]
fn starter_policies() -> Vec<&'static str> {
    builtin::STARTERS.iter().map(|(name, _)| *name).collect()
}

/// Adds this module's classes to `symbi._core`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PolicyEngine>()?;
    module.add_class::<Allow>()?;
    module.add_class::<Deny>()?;
    module.add_class::<AllowWithConditions>()?;
    module.add_class::<Redact>()?;
    module.add_class::<Condition>()?;
    module.add_function(wrap_pyfunction!(check_policies, module)?)?;
    module.add_function(wrap_pyfunction!(starter_policies, module)?)?;
    module.add_function(wrap_pyfunction!(canonical_path, module)?)?;
    module.add_function(wrap_pyfunction!(canonical_address, module)?)?;
    module.add_function(wrap_pyfunction!(builtin_policy, module)?)
}
