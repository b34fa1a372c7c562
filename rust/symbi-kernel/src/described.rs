//! What was decided on, in the trail: entities once, then by the number of their record.
//!
//! Why: `symbi policy whatif` decides last month's operations under tomorrow's policies, and for that it needs what the
//! policies saw then: an agent's capabilities and labels, a tool's risk. Written into every record they would be a third
//! of the trail. So an entity that is used again and again has a record of its own, `entity.described`, and operations
//! name its number; one that is used once stands in the record of its operation.
//! Not here: refusals, which hold their whole request, and reading (`whatif`).
//!
//! Invariants
//! - K110 whatever a policy may look at is in the record of an operation, or in an earlier record that it names.
//! - K111 the declared attributes of a call stand there sealed, for they are taken from its arguments; and so do owners and
//!   readers of a document.

use std::collections::HashMap;

use serde_json::Value as Json;
use symbi_audit::Event;
use symbi_crypto::sha256;
use symbi_policy::Entity;

use crate::Principal;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::monitor::Asked;

/// What tells agents of one name apart: it stands with the operation, so that clones share one description.
pub(crate) const INSTANCE: &str = "instance";
/// Whether what policies see of this thing names persons.
pub(crate) fn names_persons(entity: &Entity) -> bool {
    SEALED.contains(&entity.uid().type_name().as_str())
}

/// Types of entities that take part in many operations.
const OFTEN: [&str; 3] = ["Agent", "Tool", "Document"];
/// Types whose attributes name who owns and who reads: those may be persons.
const SEALED: [&str; 1] = ["Document"];
/// Descriptions remembered, 32 bytes each. Past it some are written again.
const REMEMBERED_MAX: usize = 65_536;

/// Numbers of the records that describe entities, by digest of what they say.
pub(crate) type Descriptions = HashMap<[u8; 16], u64>;

impl Kernel {
    /// K110, K111: what the record of an operation says of its request besides principal, action, resource and labels.
    pub(crate) fn name_request(&self, asked: &Asked<'_>, details: Object) -> Object {
        let details = self.name_entity("subject_at", "subject_is", &asked.subject, details);
        let details = self.name_entity("resource_at", "resource_is", &asked.resource, details);
        let instance = |entity: &Entity| entity.text_attribute(INSTANCE).map(str::to_owned);
        let details = match asked.principal {
            Principal::Agent(_) => details, // it stands there as the principal
            _ => instance(&asked.subject)
                .into_iter()
                .fold(details, |to, id| to.string("subject_instance", &id)),
        };
        let details =
            instance(&asked.resource).into_iter().fold(details, |to, id| to.string("resource_instance", &id));
        let details = if asked.circumstances.is_empty() {
            details
        } else {
            let context = asked
                .circumstances
                .iter()
                .fold(Object::new(), |object, (name, value)| object.raw(name, &value.to_json().to_string()));
            details.raw("context", &context.finish())
        };
        match &asked.call {
            Some(call) => details
                .string("call_sealed", &self.seal_for(&asked.labels, call.to_json().to_string().as_bytes())),
            None => details,
        }
    }

    fn name_entity(&self, number: &str, whole: &str, entity: &Entity, details: Object) -> Object {
        if entity.is_bare() {
            return details;
        }
        if let Some(seq) = entity.recorded() {
            return details.number(number, seq);
        }
        let mut json = entity.to_json();
        if let Some(attributes) = json.get_mut("attrs").and_then(Json::as_object_mut) {
            attributes.remove(INSTANCE);
        }
        let text = json.to_string();
        let kind = entity.uid().type_name();
        if !OFTEN.contains(&kind.as_str()) {
            return details.raw(whole, &text);
        }
        // Where the log cannot write, the operation's own record fails, too.
        let Some(seq) = self.describe_entity(&text, names_persons(entity)) else { return details };
        entity.note_record(seq);
        details.number(number, seq)
    }

    /// The number of the record that says this; none where the log cannot write.
    fn describe_entity(&self, text: &str, sealed: bool) -> Option<u64> {
        let mut digest = [0; 16]; // of 32: nobody gains by two equal ones, and they are kept by the thousand
        for (to, from) in digest.iter_mut().zip(sha256(&[b"symbi/entity/v1\0", text.as_bytes()])) {
            *to = from;
        }
        if let Some(seq) = lock(&self.descriptions).get(&digest) {
            return Some(*seq);
        }
        let details = Object::new();
        let details = if sealed {
            details.string("sealed", &self.seal(text.as_bytes()))
        } else {
            details.raw("entity", text)
        };
        let details = details.finish();
        let seq = self.log().append(&Event::new("entity.described", &details)).ok()?.seq;
        let mut descriptions = lock(&self.descriptions);
        if descriptions.len() >= REMEMBERED_MAX {
            descriptions.clear();
        }
        descriptions.insert(digest, seq);
        Some(seq)
    }
}
