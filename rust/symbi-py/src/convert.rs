//! Values and errors of the kernel on their way across the border.
//!
//! Not here: the classes (`kernel`). Agents, runs and operations are their UUIDs as text; a principal is `host`,
//! `operator:<uid>` or an agent's id; parts and messages are plain tuples.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use symbi_kernel as core;
use symbi_types::{AgentId, LabelSet, Part, PartSource, ResourceVector, RunId};

use crate::errors::{Raise, enter};

impl From<core::Refusal> for Raise {
    fn from(refusal: core::Refusal) -> Self {
        let raise = Raise::new("PolicyDenied", refusal.message)
            .with("code", refusal.code.as_str())
            .with("decision_id", refusal.decision.to_string());
        let raise = match refusal.approval {
            Some(approval) => raise.with("approval", approval.to_string()),
            None => raise,
        };
        match refusal.seq {
            Some(seq) => raise.seq(seq),
            None => raise,
        }
    }
}

impl From<core::AgentError> for Raise {
    fn from(error: core::AgentError) -> Self {
        match error {
            core::AgentError::Refused(refusal) => refusal.into(),
            core::AgentError::Invalid(_) => Raise::new("InputError", error.to_string()),
            core::AgentError::Illegal(_) => Raise::new("LifecycleError", error.to_string()),
            core::AgentError::EffectUnknown(_) => Raise::new("EffectUnknownError", error.to_string()),
            core::AgentError::Absent(_) => Raise::new("InputError", error.to_string()),
        }
    }
}

impl From<core::MessageError> for Raise {
    fn from(error: core::MessageError) -> Self {
        match error {
            core::MessageError::Agent(error) => error.into(),
            core::MessageError::Bus(error) => {
                let class = match error.code() {
                    "bus.mailbox_full" => "MailboxFullError",
                    "bus.topic" | "bus.not_handed_out" => "InputError",
                    _ => "BusError",
                };
                let raise = Raise::new(class, error.to_string());
                match error {
                    core::BusError::MailboxFull { agent, .. } => raise.with("mailbox", agent.to_string()),
                    _ => raise,
                }
            }
        }
    }
}

impl From<core::KnowledgeError> for Raise {
    fn from(error: core::KnowledgeError) -> Self {
        match error {
            core::KnowledgeError::Agent(error) => error.into(),
            core::KnowledgeError::Store(error) => Raise::new("KnowledgeError", error.to_string()),
        }
    }
}

impl From<core::OperatorError> for Raise {
    fn from(error: core::OperatorError) -> Self {
        match error {
            core::OperatorError::Agent(error) => error.into(),
            core::OperatorError::Policies(diagnostics) => {
                Raise::new("PolicyError", symbi_policy::render(&diagnostics))
            }
            core::OperatorError::Trail(error) => error.into(),
            core::OperatorError::Flips(_) => Raise::new("PolicyError", error.to_string()),
            core::OperatorError::Kernel(error) => error.into(),
            core::OperatorError::Unfinished { pseudonym, source } => Raise::from(source).after(&format!(
                "the erasure of `{pseudonym}` is recorded, not finished, and goes on under that name"
            )),
        }
    }
}

impl From<core::PermitError> for Raise {
    fn from(error: core::PermitError) -> Self {
        Raise::new("PermitError", error.to_string())
    }
}

impl From<core::KernelError> for Raise {
    fn from(error: core::KernelError) -> Self {
        let text = error.to_string();
        match error {
            core::KernelError::Log(error) => error.into(),
            core::KernelError::Keys(_) | core::KernelError::Subjects(_) => Raise::new("CryptoError", text),
            core::KernelError::Store(error) => Raise::new(
                "KnowledgeError",
                match error.help() {
                    Some(help) => format!("{text}; it is `state.db` in the data directory: {help}"),
                    None => text,
                },
            ),
            core::KernelError::Builtin(_) => Raise::new("PolicyError", text),
            core::KernelError::Data { .. }
            | core::KernelError::Node(_)
            | core::KernelError::Supervision(_) => Raise::new("ConfigError", text),
            core::KernelError::Recovery(_) | core::KernelError::Wake(_) | core::KernelError::Thread(_) => {
                Raise::new("SymbiError", text)
            }
        }
    }
}

pub(crate) fn input(error: impl std::fmt::Display) -> PyErr {
    Raise::new("InputError", error.to_string()).into()
}

pub(crate) fn agent_id(text: &str) -> PyResult<AgentId> {
    text.parse().map_err(input)
}

pub(crate) fn principal(text: &str) -> PyResult<core::Principal> {
    if text == "host" {
        return Ok(core::Principal::Host);
    }
    match text.strip_prefix("operator:") {
        Some(uid) => uid.parse().map(core::Principal::Operator).map_err(input),
        None => agent_id(text).map(core::Principal::Agent),
    }
}

/// Labels as people say them. One that names a person may make a key, and wait for the disk.
pub(crate) fn labels_in(kernel: &core::Kernel, texts: &[String]) -> PyResult<LabelSet> {
    if texts.is_empty() {
        return Ok(LabelSet::default());
    }
    Python::attach(|py| enter(py, || kernel.labels(texts)))
}

pub(crate) fn texts(labels: &LabelSet) -> Vec<String> {
    labels.iter().map(ToString::to_string).collect()
}

/// `(text, [label, …], (chunk, start, end) | None)`
pub(crate) type PartTuple = (String, Vec<String>, Option<(i64, usize, usize)>);

/// `(part, document, title, chunk)`
pub(crate) type CitationTuple = (PartTuple, String, String, i64);

/// `(text | None, digest | None, labels, start, end)`
pub(crate) type PassageTuple = (Option<String>, Option<String>, Vec<String>, u64, u64);

pub(crate) fn part_in(kernel: &core::Kernel, part: PartTuple) -> PyResult<Part> {
    let (text, declared, source) = part;
    let source = source.map(|(chunk, start, end)| PartSource { chunk, start, end });
    Ok(Part { text, labels: labels_in(kernel, &declared)?, source })
}

pub(crate) fn part_out(part: Part) -> PartTuple {
    let source = part.source.map(|source| (source.chunk, source.start, source.end));
    (part.text, texts(&part.labels), source)
}

pub(crate) fn payload_in(kernel: &core::Kernel, payload: &Bound<'_, PyAny>) -> PyResult<core::Payload> {
    if let Ok(bytes) = payload.cast::<PyBytes>() {
        return Ok(core::Payload::Bytes(bytes.as_bytes().to_vec()));
    }
    let parts: Vec<PartTuple> = payload.extract()?;
    Ok(core::Payload::Parts(parts.into_iter().map(|part| part_in(kernel, part)).collect::<PyResult<_>>()?))
}

/// Settings of the scheduler by name; those that are not there have their default.
pub(crate) fn scheduling_in(given: &Bound<'_, PyDict>) -> PyResult<core::SchedulingOptions> {
    let mut options = core::SchedulingOptions::default();
    for (name, value) in given {
        match name.extract::<String>()?.as_str() {
            "strategy" => options.strategy = value.extract::<String>()?.parse().map_err(input)?,
            "headroom_percent" => options.headroom_percent = value.extract()?,
            "critical_priority" => options.critical_priority = value.extract()?,
            "ageing_ms" => options.ageing_ms = value.extract()?,
            "batch_turn" => options.batch_turn = value.extract()?,
            "quantum_ms" => options.quantum_ms = value.extract()?,
            "realtime_percent" => options.realtime_percent = value.extract()?,
            "preemption" => options.preemption = value.extract()?,
            "tasks_max" => options.tasks_max = value.extract()?,
            other => return Err(input(format!("`{other}` is not a setting of the scheduler"))),
        }
    }
    Ok(options)
}

/// `(what is signed, seconds until a segment is closed, seconds it is kept, 0 for ever)`.
pub(crate) fn keeping_in(
    (signing, segment_age_s, retention_s): (String, u64, u64),
) -> Result<core::KeepingOptions, PyErr> {
    Ok(core::KeepingOptions {
        signing: signing.parse().map_err(input)?,
        segment_age_max: Duration::from_secs(segment_age_s),
        retention: (retention_s > 0).then(|| Duration::from_secs(retention_s)),
    })
}

/// `(a second, at once)`, and `(hand-outs, patience, first pause, longest pause)` in microseconds.
pub(crate) fn messaging_in(
    rate: Option<(u64, u64)>,
    delivery: Option<(u32, u64, u64, u64)>,
) -> core::MessagingOptions {
    let mut options = core::MessagingOptions {
        rate: rate.map(|(rate_per_s, burst)| core::AdmissionLimits { rate_per_s, burst }),
        ..core::MessagingOptions::default()
    };
    if let Some((attempts_max, patience_us, backoff_us, backoff_us_max)) = delivery {
        options.deliveries = core::DeliveryOptions {
            attempts_max,
            patience_us,
            backoff_us,
            backoff_us_max,
            ..options.deliveries
        };
    }
    options
}

/// `(name, weight, amounts in the order of ResourceVector's fields, most that may wait)`
pub(crate) type TenantTuple = (String, u32, Option<[u64; ResourceVector::DIMENSIONS]>, Option<usize>);

pub(crate) fn tenant_in(given: TenantTuple) -> (String, core::Share) {
    let (name, weight, quota, waiting_max) = given;
    (name, core::Share { weight, quota: quota.map(ResourceVector::from_array), waiting_max })
}

/// `(start, suspend, resume)`
pub(crate) type MovesTuple = (Vec<String>, Vec<String>, Vec<String>);

pub(crate) fn moves_out(moves: &core::Moves) -> MovesTuple {
    let texts = |runs: &[RunId]| runs.iter().map(ToString::to_string).collect();
    (texts(&moves.start), texts(&moves.suspend), texts(&moves.resume))
}

pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> PyResult<T> {
    text.parse().map_err(input)
}

pub(crate) fn run_outcome(outcome: &str, kind: String, text: String) -> PyResult<core::RunOutcome> {
    match outcome {
        "done" => Ok(core::RunOutcome::Done),
        "cancelled" => Ok(core::RunOutcome::Cancelled),
        "failed" => Ok(core::RunOutcome::Failed { kind, text }),
        _ => Err(input(format!("`{outcome}` is not an outcome: `done`, `failed` or `cancelled`"))),
    }
}

/// `(name, text)` pairs: Cedar texts, and TOML texts that declare counters.
pub(crate) fn policies_in(
    sources: Vec<(String, String)>,
    counters: Vec<(String, String)>,
) -> PyResult<core::Policies> {
    let sources = sources.into_iter().map(|(name, text)| symbi_policy::Source { name, text }).collect();
    let mut policies = core::Policies { sources, counters: Vec::new() };
    for (name, text) in counters {
        let specs = symbi_policy::parse_counters(&name, &text)
            .map_err(|diagnostics| Raise::new("PolicyError", symbi_policy::render(&diagnostics)))?;
        policies.counters.extend(specs);
    }
    Ok(policies)
}

pub(crate) fn recipient_in(text: &str) -> core::Recipient {
    match text.parse() {
        Ok(id) => core::Recipient::Agent(id),
        Err(_) => core::Recipient::Named(text.to_owned()),
    }
}

pub(crate) fn citation_out(one: core::Citation) -> CitationTuple {
    (part_out(one.part), one.document.to_string(), one.title, one.chunk)
}
