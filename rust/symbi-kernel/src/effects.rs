//! External operations: tool calls and sandbox starts. Each yields a permit.
//!
//! Invariants
//! - K33 a tool that was not registered cannot be called, whatever policy says.
//! - K34 the permit's bytes are what was decided on, with obligations applied; an obligation that cannot be applied
//!   refuses.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use symbi_policy::{Entity, Uid, vocabulary};
use symbi_types::{AgentId, LabelSet, Part, SecurityTier};

use crate::Principal;
use crate::agents::{AgentError, check_labels};
use crate::calls::Remembered;
use crate::exit::{self, PARTS_MAX, PAYLOAD_BYTES_MAX, Payload};
use crate::journal::{self, Fate};
use crate::json::Object;
use crate::kernel::Kernel;
use crate::monitor::{Asked, Granted};
use crate::obligations::redact_fields;
use crate::permit::Permit;
use crate::refusal::{Refusal, RefusalCode};

/// A tool that may be called, as its host registers it.
#[derive(Clone, Debug)]
pub struct ToolSpec {
    /// Its name, such as `outbox.send`.
    pub name: String,
    /// `read`, `write` or `external`.
    pub effects: String,
    /// `low`, `medium` or `high`.
    pub risk: String,
    /// Doing it twice is doing it once: a call of which nobody knows whether it happened may be repeated.
    pub idempotent: bool,
}

/// A registered tool.
#[derive(Clone)]
pub(crate) struct Tool {
    entity: Entity,
    idempotent: bool,
}

/// A call of a tool.
#[derive(Clone, Debug, Default)]
pub struct ToolCall {
    /// Its name.
    pub tool: String,
    /// The arguments, a JSON object.
    pub arguments: Vec<u8>,
    /// Text that keeps its labels piece by piece.
    pub parts: Vec<Part>,
    /// What policy may see of the arguments: names and texts the tool declared.
    pub attributes: Vec<(String, String)>,
    /// What it is expected to cost, by measure: `tokens`, `cost`, …
    pub amounts: Vec<(String, u64)>,
    /// How long the permit holds, in milliseconds; 0 for the default.
    pub timeout_ms: u64,
}

/// What a sandbox will be, as far as policy looks at it.
#[derive(Clone, Debug)]
pub struct SandboxAsk {
    /// Its tier.
    pub tier: SecurityTier,
    /// Whether it reaches a network.
    pub network: bool,
    /// Whether anything outside it can be written from inside.
    pub writable: bool,
    /// The whole specification; what the permit will carry.
    pub spec: Vec<u8>,
}

impl Kernel {
    /// Makes a tool callable.
    ///
    /// # Errors
    /// Its name or one of its words cannot be.
    pub fn register_tool(&self, spec: &ToolSpec) -> Result<(), AgentError> {
        let invalid = |text: String| AgentError::Invalid(text);
        if !["read", "write", "external"].contains(&spec.effects.as_str()) {
            return Err(invalid(format!(
                "a tool's effects are `read`, `write` or `external`, not `{}`",
                spec.effects
            )));
        }
        if !["low", "medium", "high"].contains(&spec.risk.as_str()) {
            return Err(invalid(format!("a tool's risk is `low`, `medium` or `high`, not `{}`", spec.risk)));
        }
        if spec.name.is_empty() || spec.name.len() > 256 || spec.name.chars().any(char::is_control) {
            return Err(invalid("a tool's name is 1 to 256 printable characters".to_owned()));
        }
        let server = spec.name.split_once('.').map_or("local", |(server, _)| server);
        let entity = vocabulary::tool(&spec.name, server, &spec.effects, &spec.risk)
            .map_err(|error| invalid(error.to_string()))?;
        let idempotent = spec.idempotent || spec.effects == "read"; // reading twice is reading
        self.tools().insert(spec.name.clone(), Tool { entity, idempotent });
        Ok(())
    }

    /// Asks for a tool call. The permit's bytes are `{"arguments": {…}, "parts": […]}` (K34).
    ///
    /// In an attempt that is not the first of its task, what was done before is answered with its recorded result:
    /// [`Permit::replayed`] (K96).
    ///
    /// # Errors
    /// Refused, or it cannot be; [`AgentError::EffectUnknown`] (K97).
    pub fn begin_tool_call(self: &Arc<Self>, by: Principal, call: ToolCall) -> Result<Permit, AgentError> {
        let invalid = |text: String| AgentError::Invalid(text);
        let arguments: Json = if call.arguments.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(&call.arguments)
                .map_err(|error| invalid(format!("the arguments are not JSON: {error}")))?
        };
        if !arguments.is_object() {
            return Err(invalid("the arguments are not a JSON object".to_owned()));
        }
        let parts_bytes = bytes_of(&call.parts);
        if call.arguments.len() + parts_bytes > PAYLOAD_BYTES_MAX || call.parts.len() > PARTS_MAX {
            return Err(invalid(format!(
                "a call has at most {PAYLOAD_BYTES_MAX} bytes in {PARTS_MAX} parts"
            )));
        }
        let known = self.tools().get(&call.tool).cloned();
        let resource = match &known {
            Some(tool) => tool.entity.clone(),
            None => Entity::bare(Uid::new("Tool", &call.tool).map_err(|error| invalid(error.to_string()))?),
        };
        let asked = self.ask(by, "tool.call", resource)?;
        let remembered = match &known {
            Some(_) => self.remember(asked.run, || journal::spelling(&call.tool, &arguments, &call.parts)),
            None => None,
        };
        let permit = self.permit_call(asked, call, &arguments, known.as_ref(), remembered.as_ref());
        if permit.is_err() {
            self.forget_call(remembered.as_ref());
        }
        permit
    }

    fn permit_call(
        self: &Arc<Self>,
        asked: Asked<'_>,
        call: ToolCall,
        arguments: &Json,
        known: Option<&Tool>,
        remembered: Option<&Remembered>,
    ) -> Result<Permit, AgentError> {
        let invalid = |text: String| AgentError::Invalid(text);
        let parts_bytes = bytes_of(&call.parts);
        let carried = asked.labels.clone();
        let opaque = if arguments.as_object().is_some_and(serde_json::Map::is_empty) {
            LabelSet::default()
        } else {
            exit::label_json(arguments, &carried)
        };
        let mut payload = Payload::Parts(call.parts);
        let (of_parts, labelled) = self.label_payload(&mut payload, &carried, asked.subject.uid().id());
        let Payload::Parts(mut parts) = payload else {
            return Err(invalid("the payload changed its kind".to_owned()));
        };
        let attributes = call.attributes.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        // Without declared attributes there is nothing to look at: `context has call` is false.
        let call_entity = if call.attributes.is_empty() {
            None
        } else {
            Some(vocabulary::call("call", attributes).map_err(|error| invalid(error.to_string()))?)
        };
        let whole = permit_bytes(arguments, &parts)?;
        let bytes_given = (call.arguments.len() + parts_bytes) as u64;
        let fate = remembered.map_or(&Fate::Not, |remembered| &remembered.fate);
        let idempotent = known.is_some_and(|tool| tool.idempotent);
        let replays = match fate {
            Fate::Not => false,
            Fate::Unknown(_) => !idempotent,
            Fate::Done(..) => true,
        };
        // What is not done again does not depend on anything; and what does not exist cannot fail.
        let depends = known.is_some() && !replays;
        let expected = depends
            .then(|| Self::expectation(call.tool.clone(), asked.subject.uid().id(), remembered, idempotent));
        let asked = Asked {
            expected,
            replays,
            labels: of_parts.union(&opaque),
            bytes: bytes_given,
            call: call_entity,
            attributes: call.attributes,
            amounts: call.amounts,
            arguments: Some(&whole),
            ..asked
        };
        check_labels(&asked.labels)?;
        if known.is_none() {
            return Err(self.refuse_absent(&asked).into()); // K33
        }
        let granted = self.decide(&asked)?;
        let mut bytes = whole.clone();
        let mut labels = asked.labels.clone();
        if let Some(redact) = &granted.redact {
            let mut given = arguments.clone();
            redact_fields(&mut given, &granted.terms.fields);
            let opaque =
                if granted.terms.fields.is_empty() { opaque } else { exit::label_json(&given, &carried) };
            if redact.iter().any(|label| opaque.contains(label.as_str())) {
                return Err(self.refuse_opaque(&asked, &granted).into());
            }
            exit::redact_parts(&mut parts, redact, &labelled);
            bytes = permit_bytes(&given, &parts)?;
            labels = parts.iter().fold(opaque, |all, part| all.union(&part.labels));
        }
        match (fate, remembered) {
            (Fate::Done(operation, Some(result)), _) => {
                return Ok(self.replay(&asked, &granted, *operation, Arc::clone(result))?);
            }
            (Fate::Unknown(operation) | Fate::Done(operation, None), Some(remembered)) if replays => {
                self.doom(remembered);
                let details = Object::new().display("unknown", operation);
                let text = "an effect of an earlier attempt is unknown; it is not repeated";
                self.refuse(&asked, RefusalCode::Denied, Some(details), text);
                return Err(AgentError::EffectUnknown(*operation)); // K97
            }
            (Fate::Not | Fate::Unknown(_) | Fate::Done(..), _) => {}
        }
        let timeout_ms = if call.timeout_ms == 0 { crate::monitor::PERMIT_MS } else { call.timeout_ms };
        Ok(self.permit(&asked, granted, labels, bytes, timeout_ms, |details| match fate {
            Fate::Unknown(operation) => details.flag("idempotent", true).display("repeats", operation),
            Fate::Not | Fate::Done(..) => details,
        })?)
    }

    /// Asks for a sandbox. The permit's bytes are the specification.
    ///
    /// # Errors
    /// Refused, or it cannot be.
    pub fn begin_sandbox(
        self: &Arc<Self>,
        by: Principal,
        agent: Option<AgentId>,
        ask: SandboxAsk,
    ) -> Result<Permit, AgentError> {
        let id = agent.map_or_else(|| "sandbox".to_owned(), |agent| agent.to_string());
        let resource = vocabulary::sandbox(&id, ask.tier, ask.network, ask.writable)
            .map_err(|error| AgentError::Invalid(error.to_string()))?;
        let asked = self.ask(by, "sandbox.start", resource)?;
        // Who fails to start is the agent that it is for.
        let name = agent.and_then(|agent| self.agents().get(agent).map(|known| known.spec.name.clone()));
        let caller = name.as_deref().unwrap_or(asked.subject.uid().id());
        let asked = Asked {
            expected: Some(Self::expectation(format!("sandbox:{}", ask.tier.as_str()), caller, None, true)),
            bytes: ask.spec.len() as u64,
            arguments: Some(&ask.spec),
            agent: asked.agent.or(agent),
            labels: agent
                .map_or_else(LabelSet::default, |agent| self.agent_labels(agent))
                .union(&asked.labels),
            ..asked
        };
        let granted = self.decide(&asked)?;
        let bytes = ask.spec.clone();
        let timeout_ms = crate::monitor::PERMIT_MS;
        Ok(self.permit(&asked, granted, LabelSet::default(), bytes, timeout_ms, |details| details)?)
    }

    /// An obligation to redact, on bytes that nobody can look into: refused (design: on opaque bytes it denies).
    pub(crate) fn refuse_opaque(&self, asked: &Asked<'_>, granted: &Granted) -> Refusal {
        self.undo(&granted.held());
        let text = "this may leave only in parts, so that what must be redacted can be";
        self.refuse(asked, RefusalCode::Denied, None, text)
    }
}

fn bytes_of(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.text.len()).sum()
}

fn permit_bytes(arguments: &Json, parts: &[Part]) -> Result<Vec<u8>, AgentError> {
    serde_json::to_vec(&json!({ "arguments": arguments, "parts": parts }))
        .map_err(|error| AgentError::Invalid(error.to_string()))
}
