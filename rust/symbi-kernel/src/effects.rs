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
use crate::exit::{self, PARTS_MAX, PAYLOAD_BYTES_MAX, Payload};
use crate::kernel::Kernel;
use crate::monitor::{Asked, Granted};
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
        self.tools().insert(spec.name.clone(), entity);
        Ok(())
    }

    /// Asks for a tool call. The permit's bytes are `{"arguments": {…}, "parts": […]}` (K34).
    ///
    /// # Errors
    /// Refused, or it cannot be.
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
        let parts_bytes: usize = call.parts.iter().map(|part| part.text.len()).sum();
        if call.arguments.len() + parts_bytes > PAYLOAD_BYTES_MAX || call.parts.len() > PARTS_MAX {
            return Err(invalid(format!(
                "a call has at most {PAYLOAD_BYTES_MAX} bytes in {PARTS_MAX} parts"
            )));
        }
        let known = self.tools().get(&call.tool).cloned();
        let absent = known.is_none();
        let resource = match known {
            Some(resource) => resource,
            None => Entity::bare(Uid::new("Tool", &call.tool).map_err(|error| invalid(error.to_string()))?),
        };
        let asked = self.ask(by, "tool.call", resource)?;
        let carried = asked.labels.clone();
        let opaque = if arguments.as_object().is_some_and(serde_json::Map::is_empty) {
            LabelSet::default()
        } else {
            exit::label_json(&arguments, &carried)
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
        let whole = permit_bytes(&arguments, &parts)?;
        let asked = Asked {
            labels: of_parts.union(&opaque),
            bytes: (call.arguments.len() + parts_bytes) as u64,
            call: call_entity,
            arguments: Some(&whole),
            ..asked
        };
        check_labels(&asked.labels)?;
        if absent {
            return Err(self.refuse_absent(&asked).into()); // K33
        }
        let granted = self.decide(&asked)?;
        let mut bytes = whole.clone();
        let mut labels = asked.labels.clone();
        if let Some(redact) = &granted.redact {
            if redact.iter().any(|label| opaque.contains(label.as_str())) {
                return Err(self.refuse_opaque(&asked, &granted).into());
            }
            exit::redact_parts(&mut parts, redact, &labelled);
            bytes = permit_bytes(&arguments, &parts)?;
            labels = parts.iter().fold(opaque, |all, part| all.union(&part.labels));
        }
        let timeout_ms = if call.timeout_ms == 0 { crate::monitor::PERMIT_MS } else { call.timeout_ms };
        Ok(self.permit(&asked, granted, labels, bytes, timeout_ms)?)
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
        let asked = Asked {
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
        Ok(self.permit(&asked, granted, LabelSet::default(), bytes, crate::monitor::PERMIT_MS)?)
    }

    /// An obligation to redact, on bytes that nobody can look into: refused (design: on opaque bytes it denies).
    pub(crate) fn refuse_opaque(&self, asked: &Asked<'_>, granted: &Granted) -> Refusal {
        self.release(granted.reservations());
        let text = "this may leave only in parts, so that what must be redacted can be";
        self.refuse(asked, RefusalCode::Denied, None, text)
    }
}

fn permit_bytes(arguments: &Json, parts: &[Part]) -> Result<Vec<u8>, AgentError> {
    serde_json::to_vec(&json!({ "arguments": arguments, "parts": parts }))
        .map_err(|error| AgentError::Invalid(error.to_string()))
}
