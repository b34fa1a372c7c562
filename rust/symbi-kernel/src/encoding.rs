//! A payload as it is sealed: the bytes, or the parts as JSON; the kind of content stands in the header.
//!
//! What is kept for a second hand-out has the kind in its first byte.

use symbi_bus::ContentType;
use symbi_types::Part;

use crate::agents::AgentError;
use crate::exit::{PARTS_MAX, PAYLOAD_BYTES_MAX, Payload};

pub(crate) const fn content_type(payload: &Payload) -> ContentType {
    match payload {
        Payload::Bytes(_) => ContentType::Bytes,
        Payload::Parts(_) => ContentType::Parts,
    }
}

/// Refuses what no message carries.
pub(crate) fn check_size(payload: &Payload) -> Result<(), AgentError> {
    let text = match payload {
        _ if PAYLOAD_BYTES_MAX < payload.len() => {
            format!("a payload has at most {PAYLOAD_BYTES_MAX} bytes, and this has {}", payload.len())
        }
        Payload::Parts(parts) if PARTS_MAX < parts.len() => {
            format!("a payload has at most {PARTS_MAX} parts, and this has {}", parts.len())
        }
        _ => return Ok(()),
    };
    Err(AgentError::Invalid(text))
}

pub(crate) fn encode(payload: Payload) -> Result<Vec<u8>, AgentError> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        Payload::Parts(parts) => {
            serde_json::to_vec(&parts).map_err(|error| AgentError::Invalid(error.to_string()))
        }
    }
}

pub(crate) fn decode(kind: ContentType, bytes: &[u8]) -> Option<Payload> {
    match kind {
        ContentType::Parts => serde_json::from_slice::<Vec<Part>>(bytes).ok().map(Payload::Parts),
        ContentType::Bytes | ContentType::Text | ContentType::Json => Some(Payload::Bytes(bytes.to_vec())),
    }
}

/// As it is kept.
pub(crate) fn keep(kind: ContentType, bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(1 + bytes.len());
    kept.push(u8::from(kind == ContentType::Parts));
    kept.extend_from_slice(bytes);
    kept
}

pub(crate) fn unkeep(kept: &[u8]) -> Option<Payload> {
    let (kind, bytes) = kept.split_first()?;
    decode(if *kind == 1 { ContentType::Parts } else { ContentType::Bytes }, bytes)
}
