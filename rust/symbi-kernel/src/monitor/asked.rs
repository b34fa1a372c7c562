//! An operation as it is asked for: all that a decision may look at.
//!
//! Not here: who fills it in (each operation does), deciding (`monitor`).

use std::sync::Arc;

use symbi_policy::{Approval, Entity, Request, Value};
use symbi_types::{AgentId, LabelSet, RunId};

use crate::Principal;
use crate::action::Action;
use crate::calls::Expected;

/// An operation that is asked for, with everything a decision may look at.
pub(crate) struct Asked<'a> {
    pub(crate) principal: Principal,
    pub(crate) action: &'static Action,
    /// The principal as policies see it.
    pub(crate) subject: Entity,
    pub(crate) resource: Entity,
    /// The principal is an agent that may ask for nothing now.
    pub(crate) barred: Option<Barred>,
    pub(crate) labels: LabelSet,
    pub(crate) bytes: u64,
    /// What policies may look at besides, where the action has more than all others.
    pub(crate) circumstances: Vec<(&'static str, Value)>,
    /// Declared attributes of a tool call.
    pub(crate) call: Option<Entity>,
    /// The same, for counters of different values.
    pub(crate) attributes: Vec<(String, String)>,
    /// What it is expected to cost, by measure.
    pub(crate) amounts: Vec<(String, u64)>,
    /// What can be read of others of its kind and not of it (K240).
    pub(crate) unread: Option<&'static str>,
    /// Its arguments, where it has some: their keyed digest is recorded.
    pub(crate) arguments: Option<&'a [u8]>,
    /// What persons have agreed to already, of the whole that it is a part of.
    pub(crate) agreed: Option<Approval>,
    /// The agent that the record is filed under.
    pub(crate) agent: Option<AgentId>,
    pub(crate) run: Option<RunId>,
    /// What it depends on, where a breaker stands before it.
    pub(crate) expected: Option<Arc<Expected>>,
    /// It only reads what was done before: counters show it the state without it (K96).
    pub(crate) replays: bool,
}

/// Why an agent may ask for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// It is suspended (K43).
    Suspended,
    /// Its run was cancelled (K77).
    Cancelled,
}

/// The request as the engine takes it.
pub(crate) fn request<'a>(asked: &'a Asked<'_>, counters: &[(String, u64)]) -> Request<'a> {
    let long = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
    let counts = counters.iter().map(|(name, count)| (name.clone(), long(*count))).collect();
    let request = Request::new(&asked.subject, asked.action.name, &asked.resource)
        .with("labels", Value::labels(&asked.labels))
        .with("bytes", long(asked.bytes))
        .with("counters", Value::Record(counts));
    let request =
        asked.circumstances.iter().fold(request, |request, (name, value)| request.with(*name, value.clone()));
    match &asked.call {
        Some(call) => request.with("call", Value::Entity(call.uid().clone())).entity(call),
        None => request,
    }
}
