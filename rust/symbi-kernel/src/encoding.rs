//! A payload as it is sealed: the bytes, or the parts as JSON; the kind of content stands in the header.
//!
//! What is kept for a second hand-out has the kind in its first byte.

use symbi_bus::ContentType;

use crate::agents::AgentError;
use crate::exit::{PARTS_MAX, PAYLOAD_BYTES_MAX, Payload};
use crate::mail::{Body, body};

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

/// As it is kept.
pub(crate) fn keep(kind: ContentType, bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(1 + bytes.len());
    kept.push(u8::from(kind == ContentType::Parts));
    kept.extend_from_slice(bytes);
    kept
}

pub(crate) fn unkeep(mut kept: Vec<u8>) -> Option<Body> {
    let kind = if *kept.first()? == 1 { ContentType::Parts } else { ContentType::Bytes };
    kept.remove(0);
    body(kind, kept.into())
}
